/** Credentials: which, for whom, and that nobody ever reads them. */
import { chownSync, mkdirSync, writeFileSync } from 'node:fs';
import type { IncomingHttpHeaders } from 'node:http';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { maskSecrets } from '../../src/overlay/credentials.ts';
import { parseNetrc } from '../../src/overlay/netrc.ts';
import { download, makeAuthority, makeDirectory, refused, serve, serveRaw, serveTls } from './download.ts';

const archive = Buffer.from('an archive');

const basic = (pair: string): string => `Basic ${Buffer.from(pair).toString('base64')}`;

async function seenBy(environment: Record<string, string>, userinfo = '') {
  let headers: IncomingHttpHeaders = {};
  const url = await serve((request, response) => {
    headers = request.headers;
    response.end(archive);
  });
  const { lines } = await download(url.replace('http://', `http://${userinfo}`), { environment });
  return { headers, lines: lines.join('') };
}

function homeWith(netrc: string): string {
  const home = makeDirectory();
  writeFileSync(join(home, '.netrc'), netrc, { mode: 0o600 });
  return home;
}

it('takes the URL first, then the token, then the header, then netrc', async () => {
  const HOME = homeWith('machine 127.0.0.1 login net password rc-word');
  const all = { HOME, DDBG_FSTREE_TOKEN: 'the-token', DDBG_FSTREE_HEADER: 'Authorization: Own the-header' };
  const { DDBG_FSTREE_TOKEN: _token, ...withoutToken } = all;
  expect((await seenBy(all, 'user:word@')).headers.authorization).toBe(basic('user:word'));
  expect((await seenBy(all)).headers.authorization).toBe('Bearer the-token');
  expect((await seenBy(withoutToken)).headers.authorization).toBe('Own the-header');
  const last = await seenBy({ HOME });
  expect(last.headers.authorization).toBe(basic('net:rc-word'));
  expect(last.lines).toContain(`the credentials for 127.0.0.1 are those of ${HOME}/.netrc`);
  expect(last.lines).not.toContain('rc-word');
  expect((await seenBy({})).headers.authorization).toBeUndefined();
});

it('sends a header of another name beside them, and no netrc then', async () => {
  const HOME = homeWith('default login net password rc-word');
  const header = { HOME, DDBG_FSTREE_HEADER: 'PRIVATE-TOKEN:  glpat x-1 ' };
  const alone = (await seenBy(header)).headers;
  expect(alone).toMatchObject({ 'private-token': 'glpat x-1' });
  expect(alone.authorization).toBeUndefined();
  const beside = (await seenBy({ ...header, DDBG_FSTREE_TOKEN: 'tok\n' })).headers;
  expect(beside).toMatchObject({ 'private-token': 'glpat x-1', authorization: 'Bearer tok' });
});

it.each<[string, string]>([
  ['DDBG_FSTREE_HEADER', 'no colon planted'],
  ['DDBG_FSTREE_HEADER', ': planted'],
  ['DDBG_FSTREE_HEADER', 'X-Empty:  '],
  ['DDBG_FSTREE_HEADER', 'X Y: planted'],
  ['DDBG_FSTREE_HEADER', 'X: planted\r\nY: planted'],
  ['DDBG_FSTREE_HEADER', 'X: planted\n'],
  ['DDBG_FSTREE_HEADER', 'X: plantedЖ'],
  ['DDBG_FSTREE_HEADER', 'Host: planted'],
  ['DDBG_FSTREE_HEADER', 'content-length: planted'],
  ['DDBG_FSTREE_HEADER', 'Transfer-Encoding: planted'],
  ['DDBG_FSTREE_HEADER', 'CONNECTION: planted'],
  ['DDBG_FSTREE_HEADER', 'Proxy-Authorization: planted'],
  ['DDBG_FSTREE_HEADER', 'Range: planted'],
  ['DDBG_FSTREE_TOKEN', 'planted\r\nX: y'],
  ['DDBG_FSTREE_TOKEN', 'two planted'],
  ['DDBG_FSTREE_TOKEN', 'plantedЖ'],
])('refuses %s=%j, naming it and nothing of it', async (variable, value) => {
  let asked = 0;
  const url = await serve((_request, response) => {
    asked += 1;
    response.end();
  });
  const error = await refused(url, 'DDBG_BAD_DIRECTIVE', { environment: { [variable]: value } });
  expect(error.message).toContain(variable);
  if (/[\r\n]/.test(value)) expect(error.message).toContain('line break');
  expect(error.hint).toBeDefined();
  expect(error.said).not.toMatch(/planted/i);
  expect(asked).toBe(0);
});

it('sends nothing of it to another origin, nor again on the way back', async () => {
  const seen: [string, IncomingHttpHeaders][] = [];
  let first = '';
  const other = await serve((request, response) => {
    seen.push(['other', request.headers]);
    response.writeHead(302, { location: `${first}/end` }).end();
  });
  first = await serve((request, response) => {
    seen.push(['first', request.headers]);
    if (request.url === '/end') response.end(archive);
    else response.writeHead(302, { location: request.url === '/' ? '/next' : other }).end();
  });
  const environment = { DDBG_FSTREE_TOKEN: 'the-token', DDBG_FSTREE_HEADER: 'X-Key: the-key' };
  await download(first, { environment });
  const short = seen.map(([who, headers]) => [who, headers.authorization, headers['x-key']]);
  expect(short).toEqual([
    ['first', 'Bearer the-token', 'the-key'],
    ['first', 'Bearer the-token', 'the-key'],
    ['other', undefined, undefined],
    ['first', undefined, undefined],
  ]);
});

it('never goes from https to http', async () => {
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
  try {
    let asked = 0;
    const plain = await serve((_request, response) => {
      asked += 1;
      response.end(archive);
    });
    const location = `${plain}/p?token=planted-token`;
    const secure = await serveTls(makeAuthority(makeDirectory()), (_request, response) =>
      response.writeHead(302, { location }).end(),
    );
    const error = await refused(secure, 'DDBG_FETCH', { environment: { DDBG_FSTREE_TOKEN: 'the-token' } });
    expect(error.message).toContain(`a redirect from https to http: ${plain}/p?token=***`);
    expect(error.said).not.toContain('planted');
    expect(asked).toBe(0);
  } finally {
    delete process.env.NODE_TLS_REJECT_UNAUTHORIZED;
  }
});

it('takes another scheme on the same host for another origin', async () => {
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
  try {
    let seen: IncomingHttpHeaders = {};
    const secure = await serveTls(makeAuthority(makeDirectory()), (request, response) => {
      seen = request.headers;
      response.end(archive);
    });
    const plain = await serve((_request, response) => response.writeHead(301, { location: secure }).end());
    const environment = { DDBG_FSTREE_TOKEN: 'the-token' };
    await download(plain.replace('http://', 'http://user:word@'), { environment });
    expect(seen.authorization).toBeUndefined();
  } finally {
    delete process.env.NODE_TLS_REJECT_UNAUTHORIZED;
  }
});

it('takes credentials out of a redirect for that redirect only, and shows them nowhere', async () => {
  const seen: (string | undefined)[] = [];
  const other = await serve((request, response) => {
    seen.push(request.headers.authorization);
    response.writeHead(302, { location: '/planted-loop' }).end();
  });
  const location = other.replace('http://', 'http://server:planted-word@');
  const first = await serve((_request, response) => response.writeHead(302, { location }).end());
  const error = await refused(first, 'DDBG_FETCH', { environment: { DDBG_FSTREE_TOKEN: 'the-token' } });
  expect(seen[0]).toBe(basic('server:planted-word'));
  expect(error.said).not.toMatch(/planted-word|the-token/);
});

/** Everything that a server can make us repeat. */
const echoes: [string, (secret: string) => string][] = [
  ['a redirect loop', (secret) => `HTTP/1.1 302 ${secret}\r\nLocation: /${secret}?q=${secret}\r\n\r\n`],
  ['a redirect to a file', (secret) => `HTTP/1.1 302 Found\r\nLocation: file:///${secret}\r\n\r\n`],
  ['a redirect to a scheme', (secret) => `HTTP/1.1 302 Found\r\nLocation: ${secret}://x\r\n\r\n`],
  [
    'a redirect to no address',
    (secret) => `HTTP/1.1 302 Found\r\nLocation: http://${secret}:${secret}@[\r\n\r\n`,
  ],
  [
    'a redirect to a dead host',
    (secret) => `HTTP/1.1 302 Found\r\nLocation: http://${secret}.invalid/\r\n\r\n`,
  ],
  ['a status line', (secret) => `HTTP/1.1 404 ${secret}\r\n\r\n${secret}`],
  ['garbage', (secret) => `${secret} ${secret}\r\n${secret}\r\n\r\n`],
  ['a broken header', (secret) => `HTTP/1.1 200 OK\r\n${secret} ${secret}\r\n\r\n`],
  ['a retry', (secret) => `HTTP/1.1 503 ${secret}\r\nRetry-After: ${secret}\r\n\r\n`],
];

it.each(echoes)('never repeats a secret that the server sends back: %s', async (_name, answer) => {
  const secrets = ['planted-token', 'planted-header', 'planted-word', 'planted-rc', 'planted-proxy'];
  const HOME = homeWith('machine 127.0.0.1 login planted-login password planted-rc');
  for (const [which, secret] of secrets.entries()) {
    const url = await serveRaw((socket) => socket.end(answer(secret)));
    const environment: Record<string, string> = [
      { DDBG_FSTREE_TOKEN: secret },
      { DDBG_FSTREE_HEADER: `X-Key: ${secret}` },
      {},
      { HOME },
      { http_proxy: url.replace('http://', `http://user:${secret}@`) },
    ][which] as Record<string, string>;
    const location = which === 2 ? url.replace('http://', `http://user:${secret}@`) : `${url}/p`;
    const error = await refused(location, 'DDBG_FETCH', { environment, limits: { retries: 1 } });
    expect(error.said.replaceAll('-', '')).not.toMatch(/planted/i);
    for (const header of ['user:', 'planted-login:']) {
      expect(error.said).not.toContain(Buffer.from(header + secret).toString('base64'));
    }
  }
});

it('masks a secret in any case and encoding, the longest first', () => {
  expect(maskSecrets('a S3CRET/x s3cret%2Fx b', ['s3cret/x'])).toBe('a *** *** b');
  expect(maskSecrets('long-secret-more', ['long-secret', 'long-secret-more'])).toBe('***');
  expect(maskSecrets('a.c abc', ['a.c', 'a+b('])).toBe('a.c abc'); // too short to be looked for; no pattern
  expect(maskSecrets('x a.cd abcd', ['a.cd'])).toBe('x *** abcd');
});

const user = (login: string, password: string) => ({ login, password });

it.each<[string, string, ReturnType<typeof parseNetrc>]>([
  ['one line', 'machine h login a password b', user('a', 'b')],
  ['many lines', 'machine h\n\tlogin a\r\n  password b\n', user('a', 'b')],
  ['the first of that name', 'machine h password b login a machine h login c password d', user('a', 'b')],
  ['another name', 'machine x login a password b', undefined],
  ['not a part of a name', 'machine a.h login a password b', undefined],
  ['upper case', 'MACHINE H LOGIN a PASSWORD b', user('a', 'b')],
  ['default', 'machine x login a password b\ndefault login c password d', user('c', 'd')],
  ['default before it', 'default login c password d machine h login a password b', user('c', 'd')],
  ['no password', 'machine h login a\nmachine h login c password d', user('c', 'd')],
  ['no login', 'machine h password b', user('', 'b')],
  ['account', 'machine h login a account machine password b', user('a', 'b')],
  ['account behind', 'machine h password b account x login a', user('a', 'b')],
  ['quoted', 'machine "h" login "a b" password "c\\"d\\\\e\\tf"', user('a b', 'c"d\\e\tf')],
  ['a hash inside', 'machine h login a#b password #c', user('a#b', '#c')],
  ['comments', '# machine h login x password y\nmachine h login a password b', user('a', 'b')],
  ['keywords as values', 'machine h login password password login', user('password', 'login')],
  ['macro', 'macdef init\nmachine h login x password y\n\nmachine h login a password b', user('a', 'b')],
  ['macro in the entry', 'machine h login a password b\nmacdef x\ncd /\n', user('a', 'b')],
  ['macro to the end', 'macdef init\nmachine h login x password y', undefined],
  ['a password macdef', 'machine h login a password macdef', user('a', 'macdef')],
  ['empty', '', undefined],
  ['cut off', 'machine', undefined],
])('reads netrc as curl does: %s', (_name, text, expected) => {
  expect(parseNetrc(text, 'h')).toEqual(expected);
});

it('uses $NETRC before the home, and neither where it is odd', async () => {
  const HOME = homeWith('default login home password home-word');
  const directory = makeDirectory();
  const NETRC = join(directory, 'rc');
  writeFileSync(NETRC, 'default login own password own-word');
  expect((await seenBy({ HOME, NETRC })).headers.authorization).toBe(basic('own:own-word'));
  expect((await seenBy({ HOME, NETRC: '' })).headers.authorization).toBe(basic('home:home-word'));
  mkdirSync(join(directory, 'folder'));
  const odd = await seenBy({ HOME, NETRC: join(directory, 'folder') });
  expect(odd.headers.authorization).toBeUndefined();
  expect(odd.lines).toContain('is not used: it is no file');
  const none = await seenBy({ HOME: join(directory, 'nowhere') });
  expect(none.lines).not.toContain('netrc');
});

it.skipIf(process.geteuid?.() !== 0)('never uses a netrc of somebody else', async () => {
  const HOME = homeWith('default login home password home-word');
  chownSync(join(HOME, '.netrc'), 1000, 1000);
  const { headers, lines } = await seenBy({ HOME });
  expect(headers.authorization).toBeUndefined();
  expect(lines).toContain('is not used: it belongs to uid 1000');
});
