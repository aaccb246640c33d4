/**
 * The network as /proc and /etc tell of it, without a packet sent: who listens, where names are asked for, what routes.
 */
import { linkOf, namesIn, textOf } from '../attempt.ts';
import { bytesOfAddress, formatIpv6, isMapped } from './address.ts';

export interface Listener {
  readonly address: string;
  readonly port: number;
  /** Undefined where we may not see whose it is. */
  readonly pid: number | undefined;
  /** Of that process. */
  readonly name: string | undefined;
}

export interface Nameserver {
  readonly address: string;
  /** Whether there is a route to it; undefined where that cannot be told. */
  readonly hasRoute: boolean | undefined;
}

export interface NameResolution {
  /** Of /etc/resolv.conf. Empty: none is named, or there is no such file. */
  readonly nameservers: readonly Nameserver[];
  /** All names of /etc/hosts, in lower case. */
  readonly hosts: readonly string[];
}

const LISTENING = '0A';
/** So many descriptors are looked at, to find whose a listener is. */
const MOST_DESCRIPTORS = 4_000;

/** TCP listeners of our network namespace. */
export function readListeners(): readonly Listener[] {
  const found = ['tcp', 'tcp6'].flatMap((name) => parseListeners(textOf(`/proc/net/${name}`) ?? ''));
  const owners =
    found.length === 0 ? new Map<string, number>() : ownersOf(new Set(found.map(({ inode }) => inode)));
  return found.map(({ address, port, inode }) => {
    const pid = owners.get(inode);
    const name = pid === undefined ? undefined : textOf(`/proc/${pid}/comm`)?.trim() || undefined;
    return { address, port, pid, name };
  });
}

/** The text of /proc/net/tcp or tcp6. Pure. */
export function parseListeners(
  text: string,
): readonly { readonly address: string; readonly port: number; readonly inode: string }[] {
  return text
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const [, local = '', , state, , , , , , inode] = line.trim().split(/\s+/);
      const [address = '', port = ''] = local.split(':');
      if (state !== LISTENING || inode === undefined) return [];
      return [{ address: readAddress(address), port: Number.parseInt(port, 16), inode }];
    });
}

function readAddress(hex: string): string {
  const bytes = bytesOfAddress(hex);
  if (bytes.length === 4) return bytes.join('.');
  return isMapped(bytes) ? bytes.slice(12).join('.') : formatIpv6(bytes);
}

function ownersOf(inodes: ReadonlySet<string>): Map<string, number> {
  const owners = new Map<string, number>();
  let left = MOST_DESCRIPTORS;
  for (const name of namesIn('/proc').filter((entry) => /^\d+$/.test(entry))) {
    for (const descriptor of namesIn(`/proc/${name}/fd`)) {
      if (left-- <= 0 || owners.size === inodes.size) return owners;
      const inode = /^socket:\[(\d+)\]$/.exec(linkOf(`/proc/${name}/fd/${descriptor}`) ?? '')?.[1];
      if (inode !== undefined && inodes.has(inode) && !owners.has(inode)) owners.set(inode, Number(name));
    }
  }
  return owners;
}

export function readNameResolution(): NameResolution {
  const routes = parseRoutes(textOf('/proc/net/route') ?? '');
  const nameservers = (textOf('/etc/resolv.conf') ?? '')
    .split('\n')
    .flatMap((line) => /^\s*nameserver\s+(\S+)/.exec(line)?.[1] ?? [])
    .map((address) => ({ address, hasRoute: hasRoute(address, routes) }));
  return { nameservers, hosts: parseHosts(textOf('/etc/hosts') ?? '') };
}

interface Route {
  readonly destination: number;
  readonly mask: number;
}

/** The text of /proc/net/route: addresses as little-endian numbers in hex. Pure. */
function parseRoutes(text: string): readonly Route[] {
  return text
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const fields = line.split('\t');
      const [destination, mask] = [fields[1], fields[7]];
      if (destination === undefined || mask === undefined) return [];
      return [{ destination: Number.parseInt(destination, 16), mask: Number.parseInt(mask, 16) }];
    });
}

function hasRoute(address: string, routes: readonly Route[]): boolean | undefined {
  if (address === '127.0.0.1' || address.startsWith('127.') || address === '::1') return true;
  const parts = address.split('.').map(Number);
  if (parts.length !== 4) return undefined; // IPv6 has other tables, and link-local zones
  const [a = 0, b = 0, c = 0, d = 0] = parts;
  const number = a + b * 2 ** 8 + c * 2 ** 16 + d * 2 ** 24;
  return routes.some(({ destination, mask }) => (number & mask) >>> 0 === destination >>> 0);
}

function parseHosts(text: string): readonly string[] {
  return text.split('\n').flatMap((line) =>
    (line.split('#')[0] ?? '')
      .trim()
      .split(/\s+/)
      .slice(1)
      .map((name) => name.toLowerCase()),
  );
}
