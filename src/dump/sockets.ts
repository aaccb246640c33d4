/**
 * The tables of sockets in /proc/PID/net, by inode. Pure.
 */
import { bytesOfAddress, formatIpv6 } from '../container/address.ts';

export interface Socket {
  readonly kind: 'tcp' | 'udp' | 'unix' | 'netlink' | 'raw';
  /** `established`, `listening`, ...; for unix `connected`, `unconnected` or `listening`. */
  readonly state: string;
  /** `10.0.0.1:80`, `[::1]:80`, a path, `@name` for an abstract one; '' where it has none. */
  readonly local: string;
  /** '' where it has none. */
  readonly remote: string;
  /** Bytes that came and were not read; of a listening one: connections that were not accepted. */
  readonly received: number;
  /** Bytes that were sent and not acknowledged. */
  readonly unsent: number;
  readonly inode: number;
}

/** include/net/tcp_states.h */
const TCP_STATES: readonly (string | undefined)[] = [
  undefined,
  'established',
  'connecting', // SYN_SENT
  'being connected to', // SYN_RECV
  'closing (FIN_WAIT1)',
  'closing (FIN_WAIT2)',
  'closed (TIME_WAIT)',
  'closed',
  'closed by the other end, not by us (CLOSE_WAIT)',
  'closing (LAST_ACK)',
  'listening',
  'closing (CLOSING)',
];

/** /proc/PID/net/tcp, tcp6, udp, udp6, raw, raw6. */
export function parseInet(text: string, kind: 'tcp' | 'udp' | 'raw', isLittleEndian = true): Socket[] {
  return text.split('\n').flatMap((line): Socket[] => {
    const [slot, local, remote, state, queues, , , , , inode] = line.trim().split(/\s+/);
    if (inode === undefined || slot === 'sl' || local === undefined || remote === undefined) return [];
    const [unsent = '', received = ''] = (queues ?? '').split(':');
    const number = Number.parseInt(state ?? '', 16);
    const isOpen = /:0000$/.test(remote);
    return [
      {
        kind,
        state: kind === 'tcp' ? (TCP_STATES[number] ?? `state ${number}`) : isOpen ? 'open' : 'connected',
        local: formatAddress(local, isLittleEndian),
        remote: isOpen ? '' : formatAddress(remote, isLittleEndian),
        received: Number.parseInt(received, 16),
        unsent: Number.parseInt(unsent, 16),
        inode: Number(inode),
      },
    ];
  });
}

/** `0100007F:1F90`: an address as /proc has it, and the port. */
export function formatAddress(text: string, isLittleEndian = true): string {
  const [hex = '', port = ''] = text.split(':');
  const bytes = bytesOfAddress(hex, isLittleEndian);
  const shown = bytes.length === 4 ? bytes.join('.') : `[${formatIpv6(bytes)}]`;
  return `${shown}:${Number.parseInt(port, 16)}`;
}

const UNIX_LISTENS = 0x10000; // __SO_ACCEPTCON

/** /proc/PID/net/unix. A path may hold newlines, and then looks like more lines. */
export function parseUnix(text: string): Socket[] {
  return text
    .replace(/\n$/, '')
    .split(/\n(?=[0-9a-f]{8,16}: )/)
    .flatMap((line): Socket[] => {
      const fields = /^[0-9a-f]+: [0-9A-F]+ \S+ ([0-9A-F]+) \S+ ([0-9A-F]+) +(\d+)(?: ([\s\S]*))?$/.exec(
        line,
      );
      if (fields === null) return [];
      const [, flags = '', state = '', inode, path = ''] = fields;
      const listens = (Number.parseInt(flags, 16) & UNIX_LISTENS) !== 0;
      return [
        {
          kind: 'unix',
          state: listens ? 'listening' : Number.parseInt(state, 16) === 3 ? 'connected' : 'unconnected',
          local: path,
          remote: '',
          received: 0,
          unsent: 0,
          inode: Number(inode),
        },
      ];
    });
}

/** /proc/PID/net/netlink. */
export function parseNetlink(text: string): Socket[] {
  return text.split('\n').flatMap((line): Socket[] => {
    const fields = line.trim().split(/\s+/);
    const inode = Number(fields.at(-1));
    if (fields.length < 10 || !Number.isInteger(inode)) return [];
    const shared = { state: 'open', local: '', remote: '', received: 0, unsent: 0 };
    return [{ kind: 'netlink', ...shared, inode }];
  });
}

/** A socket in words, for the middle of a sentence: `listening 0.0.0.0:8080`, `established 10.0.0.1:40112 to 10.0.0.3:5432`. */
export function showSocket(socket: Socket): string {
  const { kind, state, local, remote, received, unsent } = socket;
  const family = kind === 'tcp' ? '' : `${kind} `;
  const place = [local, remote === '' ? '' : `to ${remote}`].filter(Boolean).join(' ');
  const waiting =
    state === 'listening'
      ? [received > 0 ? `${received} not accepted yet` : '']
      : [received > 0 ? `${received} bytes not read` : '', unsent > 0 ? `${unsent} bytes not taken` : ''];
  const queues = waiting.filter(Boolean).join(', ');
  return [`${family}${state}`, place, queues && `(${queues})`].filter(Boolean).join(' ');
}
