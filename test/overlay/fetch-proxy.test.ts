/** Proxies: which one, what it gets to see, and what it says. */
import { connect, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { expect, it, onTestFinished } from 'vitest';
import { bypasses, findProxy } from '../../src/overlay/proxy.ts';
import {
  download,
  listen,
  makeAuthority,
  makeDirectory,
  refused,
  serve,
  serveRaw,
  serveTls,
} from './download.ts';

const archive = Buffer.from('an archive');

interface TestProxy {
  /** `127.0.0.1:PORT` */
  readonly host: string;
  /** The heads of all requests that it got. */
  readonly heads: string[];
}

/** A proxy that opens tunnels, and fetches what it is asked for by its whole address. */
async function startProxy(): Promise<TestProxy> {
  const heads: string[] = [];
  const url = await serveRaw((socket, head) => {
    heads.push(head);
    pass(socket, head);
  });
  return { host: url.slice('http://'.length), heads };
}

function pass(socket: Socket, head: string): void {
  const [, method, target = ''] = /^(\S+) (\S+)/.exec(head) ?? [];
  const { hostname, port, pathname } = new URL(method === 'CONNECT' ? `http://${target}` : target);
  const onward = connect(Number(port || 80), hostname, () => {
    if (method === 'CONNECT') socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
    else onward.write(head.replace(target, pathname).replace(/^proxy-[^\r]*\r\n/gim, ''));
    socket.pipe(onward).pipe(socket);
  });
  onward.on('error', () => socket.destroy());
  socket.on('close', () => onward.destroy());
}

/** For servers of a private authority, in this process. */
function trustAll(): void {
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
  onTestFinished(() => void delete process.env.NODE_TLS_REJECT_UNAUTHORIZED);
}

it('asks an http proxy by the whole address, with its own credentials, which go no further', async () => {
  const proxy = await startProxy();
  const seen: unknown[] = [];
  const url = await serve((request, response) => {
    seen.push(
      request.url,
      request.headers['proxy-authorization'],
      request.headers.authorization,
      request.headers.host,
    );
    response.end(archive);
  });
  const environment = {
    http_proxy: `http://us%40er:pass%3Aword@${proxy.host}`,
    DDBG_FSTREE_TOKEN: 'for-the-target',
  };
  const { content, lines } = await download(`${url}/p?x=1`, { environment });
  expect(content.equals(archive)).toBe(true);
  expect(seen).toEqual(['/p', undefined, 'Bearer for-the-target', url.slice('http://'.length)]);
  const basic = Buffer.from('us@er:pass:word').toString('base64');
  expect(proxy.heads[0]).toMatch(new RegExp(`^GET ${url}/p\\?x=1 HTTP/1.1\r\n`));
  expect(proxy.heads[0]).toContain(`proxy-authorization: Basic ${basic}\r\n`);
  expect(lines.join('')).toContain(`through the proxy ${proxy.host} (http_proxy)`);
  expect(lines.join('')).not.toMatch(/pass|us%40er|for-the-target/);
});

it('tunnels to https, and shows the proxy nothing that is for the target', async () => {
  trustAll();
  const proxy = await startProxy();
  const authority = makeAuthority(makeDirectory());
  let headers: unknown;
  const url = await serveTls(authority, (request, response) => {
    headers = request.headers;
    response.end(archive);
  });
  const environment = { HTTPS_PROXY: `user:word@${proxy.host}`, DDBG_FSTREE_TOKEN: 'for-the-target' };
  const { content } = await download(`${url}/p`, { environment });
  expect(content.equals(archive)).toBe(true);
  expect(proxy.heads).toHaveLength(1);
  expect(proxy.heads[0]).toMatch(new RegExp(`^CONNECT ${url.slice('https://'.length)} HTTP/1.1\r\n`));
  expect(proxy.heads[0]).toMatch(/proxy-authorization: Basic/);
  expect(proxy.heads[0]).not.toMatch(/\r\nauthorization|for-the-target/i);
  expect(headers).toMatchObject({ authorization: 'Bearer for-the-target' });
  expect(headers).not.toHaveProperty('proxy-authorization');
});

it('speaks TLS with an https proxy, and TLS in TLS behind it', async () => {
  trustAll();
  const authority = makeAuthority(makeDirectory());
  const heads: string[] = [];
  const server = createTlsServer({ key: authority.key, cert: authority.cert }, (socket) => {
    socket.once('data', (chunk) => {
      heads.push(chunk.toString());
      pass(socket, chunk.toString());
    });
  });
  const all_proxy = `https://127.0.0.1:${await listen(server)}`;
  const plain = await serve((_request, response) => response.end(archive));
  const secure = await serveTls(authority, (_request, response) => response.end(archive));
  for (const url of [plain, secure]) {
    const { content } = await download(url, { environment: { all_proxy } });
    expect(content.equals(archive)).toBe(true);
  }
  expect(heads.map((head) => head.split(' ')[0])).toEqual(['GET', 'CONNECT']);
});

it('decides at each redirect anew: Proxy-Authorization is never sent past the proxy', async () => {
  const proxy = await startProxy();
  let headers: Record<string, unknown> = {};
  const direct = await serve((request, response) => {
    headers = request.headers;
    response.end(archive);
  });
  const first = await serve((_request, response) => response.writeHead(302, { location: direct }).end());
  const no_proxy = direct.slice('http://'.length); // host:port
  const environment = { http_proxy: `http://user:word@${proxy.host}`, no_proxy };
  await download(first, { environment });
  expect(proxy.heads).toHaveLength(1);
  expect(headers).not.toHaveProperty('proxy-authorization');
});

it.each(['http', 'https'])('says what a 407 wants, and never what it was given: %s', async (scheme) => {
  const proxy = await serveRaw((socket) =>
    socket.end('HTTP/1.1 407 s3cret-word wrong\r\nProxy-Authenticate: Basic realm="s3cret-word"\r\n\r\n'),
  );
  const environment = { all_proxy: proxy.replace('http://', 'http://planted-user:s3cret-word@') };
  const error = await refused(`${scheme}://127.0.0.1:9/p`, 'DDBG_FETCH', { environment });
  expect(error.message).toContain('407 Proxy Authentication Required');
  expect(error.message).toContain('of all_proxy');
  expect(error.hint).toContain('Put credentials into all_proxy');
  expect(error.said).not.toMatch(/s3cret|planted|cGxhbnRl/);
});

it('tries again when the proxy cannot reach the target just now, and names it', async () => {
  let asked = 0;
  const proxy = await serveRaw((socket) => {
    asked += 1;
    socket.end('HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n');
  });
  const environment = { https_proxy: proxy };
  const error = await refused('https://127.0.0.1:9/', 'DDBG_FETCH', { environment, limits: { retries: 1 } });
  expect(error.message).toContain('the proxy answered 503 Service Unavailable (through the proxy 127.0.0.1');
  expect(asked).toBe(2);
  const forbidden = await serveRaw((socket) => socket.end('HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n'));
  const other = await refused('https://127.0.0.1:9/', 'DDBG_FETCH', {
    environment: { https_proxy: forbidden },
  });
  expect(other.hint).toContain('no_proxy=127.0.0.1');
});

it('ends with the clocks and with a stop where the proxy never answers', async () => {
  const stop = new AbortController();
  const silent = await serveRaw(() => stop.abort());
  const environment = { https_proxy: silent };
  await refused('https://127.0.0.1:9/', 'DDBG_ABORTED', { environment, signal: stop.signal });
  const limits = { stallMs: 50, retries: 0 };
  expect((await refused('https://127.0.0.1:9/', 'DDBG_FETCH', { environment, limits })).message).toContain(
    '50 ms',
  );
});

const find = (url: string, environment: Record<string, string>): string | undefined => {
  const found = findProxy(new URL(url), environment, 'fstree=x');
  return found === undefined ? undefined : `${found.variable} ${found.url.href}`;
};

it.each<[string, Record<string, string>, string | undefined]>([
  ['http://h/', { http_proxy: 'http://a:1', HTTP_PROXY: 'http://b:1' }, 'http_proxy http://a:1/'],
  ['http://h/', { HTTP_PROXY: 'http://b:1' }, 'HTTP_PROXY http://b:1/'],
  ['http://h/', { HTTP_PROXY: 'http://b:1', REQUEST_METHOD: 'GET' }, undefined], // httpoxy
  ['http://h/', { http_proxy: 'http://a:1', REQUEST_METHOD: 'GET' }, 'http_proxy http://a:1/'],
  ['https://h/', { HTTPS_PROXY: 'http://b:1', REQUEST_METHOD: 'GET' }, 'HTTPS_PROXY http://b:1/'],
  ['https://h/', { http_proxy: 'http://a:1' }, undefined],
  ['https://h/', { http_proxy: 'http://a:1', ALL_PROXY: 'http://c:1' }, 'ALL_PROXY http://c:1/'],
  ['http://h/', { http_proxy: '', HTTP_PROXY: '', all_proxy: 'c:3128' }, 'all_proxy http://c:3128/'],
  ['http://h/', { http_proxy: ' proxy:3128 ' }, 'http_proxy http://proxy:3128/'],
  ['http://h/', { http_proxy: 'proxy' }, 'http_proxy http://proxy/'],
  ['http://h/', { http_proxy: 'user:word@proxy:3128' }, 'http_proxy http://proxy:3128/'],
  ['http://h/', { http_proxy: 'HTTPS://[::1]:3128/path' }, 'http_proxy https://[::1]:3128/path'],
  ['http://127.0.0.1/', { http_proxy: 'a:1' }, 'http_proxy http://a:1/'], // as curl: loopback is nothing special
  ['http://localhost/', { http_proxy: 'a:1', NO_PROXY: 'localhost' }, undefined],
  ['http://h/', { http_proxy: 'a:1', no_proxy: 'other', NO_PROXY: 'h' }, 'http_proxy http://a:1/'],
])('finds the proxy for %s in %j', (url, environment, expected) => {
  expect(find(url, environment)).toBe(expected);
});

it.each([
  ['socks5://user:hunter2@proxy:1080', /all_proxy names a socks5 proxy/],
  ['socks5h://proxy', /names a socks5h proxy/],
  ['ftp://proxy', /names a ftp proxy/],
  ['http://user:hunter2@', /all_proxy is no address/],
  ['http://user:hun#ter2@proxy:1', /all_proxy is no address/],
  ['http://user:12/hunter2@proxy:1', /all_proxy is no address/],
  ['user:hun/ter2@proxy:1', /all_proxy is no address/],
  ['http://proxy:hunter2', /all_proxy is no address/],
])('refuses %s, naming the variable only', (all_proxy, message) => {
  try {
    find('http://h/', { all_proxy });
    expect.fail('it was taken');
  } catch (error) {
    expect(error).toMatchObject({ code: 'DDBG_FETCH', message: expect.stringMatching(message) as string });
    expect(`${error} ${(error as { hint: string }).hint}`).not.toMatch(/hun|ter2|:12\b/);
  }
});

it.each<[string, string, boolean]>([
  ['example.com', 'http://example.com/', true],
  ['example.com', 'http://www.example.com/', true],
  ['.example.com', 'http://www.example.com/', true],
  ['.example.com', 'http://example.com/', true],
  ['*.example.com', 'http://a.example.com/', true],
  ['example.com', 'http://notexample.com/', false],
  ['example.com', 'http://example.com.org/', false],
  ['EXAMPLE.com.', 'http://Example.COM./', true],
  ['a, example.com', 'http://example.com/', true],
  ['a example.com b', 'http://example.com/', true],
  ['*', 'http://anything/', true],
  ['x,*', 'http://10.0.0.1/', true],
  ['', 'http://example.com/', false],
  ['.', 'http://example.com/', false],
  ['example.com:8080', 'http://example.com:8080/', true],
  ['example.com:8080', 'http://example.com/', false],
  ['example.com:443', 'https://example.com/', true],
  ['10.0.0.1', 'http://10.0.0.1/', true],
  ['10.0.0.1:81', 'http://10.0.0.1:81/', true],
  ['0.0.1', 'http://10.0.0.1/', false],
  ['10.0.0.0/8', 'http://10.9.9.9:3000/', true],
  ['10.0.0.0/8', 'http://11.0.0.1/', false],
  ['0.0.0.0/0', 'http://11.0.0.1/', true],
  ['10.0.0.0/33', 'http://10.0.0.1/', false],
  ['10.0.0.0/x', 'http://10.0.0.1/', false],
  ['10.0.0.0/8', 'http://ten.example/', false],
  ['::1', 'http://[::1]/', true],
  ['[::1]', 'http://[::1]:8080/', true],
  ['[::1]:80', 'http://[::1]/', true],
  ['[::1]:80', 'http://[::1]:81/', false],
  ['0:0:0:0:0:0:0:1', 'http://[::1]/', true],
  ['fd00::/8', 'http://[fd12::1]/', true],
  ['[fd00::]/8', 'http://[fd12::1]/', true],
  ['fd00::/8', 'http://[fe80::1]/', false],
  ['fd00::/129', 'http://[fd00::1]/', false],
])('no_proxy=%s and %s: %s', (noProxy, url, expected) => {
  expect(bypasses(new URL(url), noProxy)).toBe(expected);
});
