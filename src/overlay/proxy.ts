/**
 * Which proxy the way to a URL goes through, from the variables that curl, wget, pip and apt know:
 *
 *     http_proxy, https_proxy, all_proxy   [http://|https://][user:password@]host[:port]
 *     no_proxy                             host, .suffix, host:port, address, address/bits, *
 *
 * Lower case before upper case, an empty one is none, and loopback is a host like any other: as curl has it. A port that
 * is not named is 80 or 443; curl alone takes 1080.
 */
import { takeUserinfo } from './credentials.ts';
import { refusal, type Subject } from './subject.ts';

export interface HttpProxy {
  /** Without its credentials. */
  readonly url: URL;
  /** Proxy-Authorization, or nothing. */
  readonly headers: Readonly<Record<string, string>>;
  readonly secrets: readonly string[];
  /** The variable that names it. */
  readonly variable: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** @throws EntryError DDBG_FETCH for a proxy that cannot be used; never with the variable's value, which has passwords */
export function findProxy(url: URL, environment: Environment, subject: Subject): HttpProxy | undefined {
  const scheme = url.protocol.slice(0, -1);
  const found = read(environment, `${scheme}_proxy`) ?? read(environment, 'all_proxy');
  if (found === undefined || bypasses(url, read(environment, 'no_proxy')?.value ?? '')) return undefined;
  const { variable, value } = found;
  const refuse = (why: string): Error =>
    refusal(
      'DDBG_FETCH',
      'fetch',
      subject,
      `${variable} ${why}`,
      `${variable} has the form http://host:port, with user:password@ percent-encoded; no_proxy=${url.hostname} goes without.`,
    );
  const [, given] = /^([a-z][a-z0-9+.-]*):\/\//i.exec(value) ?? [];
  if (given !== undefined && !/^https?$/i.test(given)) {
    throw refuse(`names a ${given.toLowerCase()} proxy, only http and https ones can be used`);
  }
  const location = given === undefined ? `http://${value}` : value;
  if (!URL.canParse(location)) throw refuse('is no address');
  const taken = takeUserinfo(location, 'proxy-authorization');
  // `http://user:1/2@proxy`: a slash ends the host, and a piece of the password would be shown as one.
  if (location.includes('@') && taken.userinfo.secrets.length === 0) throw refuse('is no address');
  return { url: taken.url, ...taken.userinfo, variable };
}

function read(environment: Environment, name: string): { variable: string; value: string } | undefined {
  for (const variable of [name, name.toUpperCase()]) {
    // In a CGI program HTTP_PROXY is a header of the request (https://httpoxy.org). We are none, but may be started by
    // one: curl never reads it, Python and Go do unless REQUEST_METHOD is there.
    if (variable === 'HTTP_PROXY' && environment.REQUEST_METHOD !== undefined) continue;
    const value = environment[variable]?.trim();
    if (value) return { variable, value };
  }
  return undefined;
}

/** Whether no_proxy takes the URL out. A name covers the names below it, with or without the leading dot. */
export function bypasses(url: URL, noProxy: string): boolean {
  const host = url.hostname.replace(/^\[|\]$|\.$/g, '').toLowerCase();
  const port = url.port || (url.protocol === 'https:' ? '443' : '80');
  return noProxy
    .toLowerCase()
    .split(/[\s,]+/)
    .some((item) => item !== '' && covers(item, host, port));
}

function covers(item: string, host: string, port: string): boolean {
  if (item === '*') return true;
  const { name, onlyPort } = splitPort(item);
  if (onlyPort !== undefined && onlyPort !== port) return false;
  const { BlockList, isIP } = process.getBuiltinModule('node:net');
  if (isIP(host) === 0) {
    const suffix = name.replace(/^\*?\./, '').replace(/\.$/, '');
    return suffix !== '' && (host === suffix || host.endsWith(`.${suffix}`));
  }
  const [address = '', bits] = name.split('/');
  const family = isIP(address);
  if (
    family === 0 ||
    (bits !== undefined && !(/^\d{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128)))
  )
    return false;
  const list = new BlockList();
  list.addSubnet(address, Number(bits ?? (family === 4 ? 32 : 128)), family === 4 ? 'ipv4' : 'ipv6');
  return list.check(host, isIP(host) === 4 ? 'ipv4' : 'ipv6');
}

/** `host:80`, `[::1]:80`, `[fd00::]/8`; `::1` has no port. */
function splitPort(item: string): { name: string; onlyPort: string | undefined } {
  const [, address, bits = '', behind] = /^\[([^\]]*)\](\/\d+)?(?::(\d+))?$/.exec(item) ?? [];
  if (address !== undefined) return { name: address + bits, onlyPort: behind };
  const [, name = item, onlyPort] = /^([^:]*):(\d+)$/.exec(item) ?? [];
  return { name, onlyPort };
}
