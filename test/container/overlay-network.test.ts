/**
 * The overlay and what it fetches from, in real containers: a proxy, a token, a server that is slow, dead, or gone
 * after a KILL; terminals, and disks without room.
 */
import { randomBytes } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { beforeAll, describe, expect, it } from 'vitest';
import { tarOf } from '../overlay/archives.ts';
import { type Container, describeWithEngine, docker, start } from './docker.ts';
import { changes, mountFiles, ownLines, runEntry, startEntry, tarGz, waitForPark, zip } from './kit.ts';

const TOKEN = 'sesame-0123456789';

/**
 * Serves /t/srv on 127.0.0.1:8000, and is a proxy on port 8001, to itself whatever the host is. One line a request.
 *
 *     /private/  wants the token        /hold/     the first time half of it, and silence
 *     /drip/     takes seven seconds    /chunked/  does not say how long it is
 *     /flaky/    503 the first time
 *
 * USR2: nothing listens any more, as if it were gone; the container stays, for those who have joined its network.
 */
const SERVER = `
import { readFileSync } from 'node:fs';
import { createServer, request as ask } from 'node:http';

const asked = new Set();
const origin = createServer((request, response) => {
  const { pathname } = new URL(request.url, 'http://127.0.0.1');
  const [, way, rest] = /^[/](private|hold|drip|chunked|flaky)[/](.*)$/.exec(pathname) ?? ['', '', pathname.slice(1)];
  const isFirst = !asked.has(pathname);
  asked.add(pathname);
  const end = (status, what, body) => {
    console.log(request.method, request.url, what);
    response.writeHead(status, { 'content-length': Buffer.byteLength(body) }).end(body);
  };
  let body;
  try {
    body = readFileSync('/t/srv/' + decodeURIComponent(rest));
  } catch {
    return end(404, '404', 'not found');
  }
  if (way === 'private' && request.headers.authorization !== 'Bearer ${TOKEN}') return end(401, '401', 'who are you');
  if (way === 'flaky' && isFirst) return end(503, '503', 'in a moment');
  if (way === 'hold' && isFirst) {
    response.writeHead(200, { 'content-length': body.length }).write(body.subarray(0, body.length / 2));
    return console.log(request.method, request.url, 'holds');
  }
  if (way === 'drip') {
    response.writeHead(200, { 'content-length': body.length });
    const piece = Math.ceil(body.length / 14);
    const drop = (at) => {
      response.write(body.subarray(at, at + piece));
      if (at + piece < body.length) setTimeout(drop, 500, at + piece);
      else response.end();
    };
    return drop(0);
  }
  if (way === 'chunked') return response.writeHead(200).end(body);
  end(200, '200 ' + (request.headers.authorization ?? ''), body);
});
const proxy = createServer((request, response) => {
  console.log('PROXY', request.method, request.url, request.headers['proxy-authorization'] ?? '');
  const { pathname, search } = new URL(request.url);
  const onward = { port: 8000, path: pathname + search, method: request.method, headers: request.headers };
  ask(onward, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  }).end();
});
process.on('SIGUSR2', () => {
  for (const server of [origin, proxy]) {
    server.close();
    server.closeAllConnections();
  }
  console.log('closed');
});
setInterval(() => {}, 1e9);
origin.listen(8000, '127.0.0.1', () => proxy.listen(8001, '127.0.0.1', () => console.log('ready')));
`;

const HELLO = '#!/bin/sh\necho "hello $*"\nexit 7\n';
const helloTar = tarOf({ name: 'usr/bin/hello', content: HELLO, mode: 0o755 });
/** Random bytes: they are as large on the way as on the disk. */
const NOISE_TAR_GZ = tarGz({ 'opt/first': 'x\n', 'opt/noise': randomBytes(3_000_000) });
const FILES: Readonly<Record<string, Buffer>> = {
  'hello.tar': helloTar,
  'hello.tar.gz': gzipSync(helloTar),
  'hello.zip': zip({ 'bin/hello': HELLO }),
  'noise.tar.gz': NOISE_TAR_GZ,
  'odd name+ü.tar.gz': gzipSync(helloTar),
};

describeWithEngine('the overlay and the network', (images) => {
  const image = images.native;
  const url = 'http://127.0.0.1:8000';
  let server: Container;
  let network: string;
  beforeAll(async () => {
    const served = Object.entries(FILES).map(([name, bytes]) => [`srv/${name}`, bytes]);
    const flags = mountFiles({ 'server.mjs': SERVER, ...Object.fromEntries(served) });
    server = await start(images.node20, { flags, command: ['node', '/t/server.mjs'] });
    network = `container:${server.id}`;
    await server.waitForLog(/^ready$/m);
  });

  describe.each([
    ['node20', images.node20],
    ['native', images.native],
    ['node24', images.node24],
  ])('%s', (_, image) => {
    it('DDBG_FSTREE_TOKEN: the server gets it; no line, no file of ours and no command has it', async () => {
      const location = `${url}/private/hello.tar`;
      const container = await startEntry(
        image,
        ['sh', '-c', 'env; tr "\\0" "\\n" </proc/self/environ; exit 7'],
        {
          DEBUG: `verbose,stayalive,fstree=${location}`,
          env: { DDBG_FSTREE_TOKEN: TOKEN, OTHER: 'there' },
          network,
        },
      );
      await waitForPark(container);
      await server.waitForLog(new RegExp(`^GET /private/hello.tar 200 Bearer ${TOKEN}$`, 'm'));
      const { stdout, stderr } = await container.logs();
      expect(stdout).toMatch(/^OTHER=there$/m);
      expect(stdout + stderr).not.toMatch(/sesame|DDBG_FSTREE/);
      const inFiles = await container.exec(['grep', '-rl', 'sesame', '/run', '/tmp', '/etc', '/opt']);
      expect(inFiles).toMatchObject({ status: 1, stdout: '' });
    });
  });

  const fetched = (fstree: string, env: Record<string, string> = {}, DEBUG = `fstree=${fstree}`) =>
    runEntry(image, ['hello'], { DEBUG, env, network });

  it('http_proxy: through it, by a name that only it knows, with its credentials, which nobody sees', async () => {
    const location = 'http://patches.test/hello.tar.gz';
    const http_proxy = 'http://me:proxy-secret@127.0.0.1:8001';
    const ended = await fetched(location, { http_proxy }, `verbose,fstree=${location}`);
    expect(ended).toMatchObject({ status: 7, stdout: 'hello \n' });
    expect(ended.stderr).toContain('through the proxy 127.0.0.1:8001 (http_proxy)');
    expect(ended.stderr).not.toContain('proxy-secret');
    const credentials = Buffer.from('me:proxy-secret').toString('base64');
    await server.waitForLog(new RegExp(`^PROXY GET ${location} Basic ${credentials}$`, 'm'));
  });

  it('no_proxy: past it', async () => {
    const env = { http_proxy: 'http://127.0.0.1:8001', no_proxy: 'example.org,127.0.0.1' };
    expect((await fetched(`${url}/hello.tar.gz?past`, env)).status).toBe(7);
    expect((await fetched(`${url}/hello.tar.gz?through`, { ...env, no_proxy: 'example.org' })).status).toBe(
      7,
    );
    const { stdout } = await server.logs();
    expect(stdout).toContain('PROXY GET http://127.0.0.1:8000/hello.tar.gz?through');
    expect(stdout).not.toMatch(/PROXY .*\?past/);
  });

  it('without a token, and with a wrong one: 401, what to set, and the token in no line', async () => {
    const none = await fetched(`${url}/private/hello.tar.gz`);
    expect(none).toMatchObject({ status: 125, stdout: '' });
    expect(none.stderr).toMatch(/the server answered 401 Unauthorized\n.*DDBG_FSTREE_TOKEN/);
    const wrong = await fetched(`${url}/private/hello.tar.gz`, { DDBG_FSTREE_TOKEN: 'a-wrong-one' });
    expect(wrong).toMatchObject({ status: 125, stdout: '' });
    expect(wrong.stderr).not.toContain('a-wrong-one');
  });

  it('503 once: tried again; nobody listens: three more tries, said each time, and 125 in good time', async () => {
    const flaky = await fetched(`${url}/flaky/hello.tar.gz`);
    expect(flaky.status).toBe(7);
    expect(flaky.stderr).toMatch(/the server answered 503.*; trying again in 500 ms \(1 of 3\)/);
    const started = Date.now();
    const dead = await fetched('http://127.0.0.1:9/hello.tar.gz');
    expect(dead).toMatchObject({ status: 125, stdout: '' });
    const tries = ownLines(dead.stderr).filter((line) => /ECONNREFUSED.*trying again in/.test(line));
    expect(tries.map((line) => line.slice(-8))).toEqual(['(1 of 3)', '(2 of 3)', '(3 of 3)']);
    expect(dead.stderr).toMatch(/cannot fetch .*127\.0\.0\.1:9.*ECONNREFUSED.*\(4 tries\)\n.*file: archive/);
    expect(Date.now() - started).toBeLessThan(15_000);
  });

  it('an address with blanks, umlauts, a query with = and a comma, and an option behind it', async () => {
    const ended = await fetched(`${url}/odd%20name+%C3%BC.tar.gz?sig=a=b,c&v=1#strip=0`);
    expect(ended).toMatchObject({ status: 7, stdout: 'hello \n' });
    await server.waitForLog(/^GET \/odd%20name\+%C3%BC\.tar\.gz\?sig=a=b,c&v=1 200 $/m);
  });

  it('a second ddbg-entry while the first one is at it: 125, and who is there; the first one is not disturbed', async () => {
    const first = await startEntry(image, ['hello'], { DEBUG: `fstree=${url}/hold/hello.tar`, network });
    await server.waitForLog(/^GET \/hold\/hello\.tar holds$/m);
    const second = await first.exec(['ddbg-entry', '--', 'hello'], {
      env: { DEBUG: `fstree=${url}/hello.tar.gz` },
    });
    expect(second).toMatchObject({ status: 125, stdout: '' });
    expect(second.stderr).toMatch(/process \d+ is laying another overlay over it/);
    await first.stop({ timeoutS: 30 });
    expect(await first.wait()).toBe(143);
    expect((await changes(first)).filter((line) => !isOurs(line))).toEqual([]);
  });

  it('on a terminal a bar, which goes away; elsewhere nothing for five seconds, then a line', async () => {
    const options = { DEBUG: `fstree=${url}/drip/noise.tar.gz`, network };
    const [onTerminal, elsewhere] = await Promise.all([
      startEntry(image, ['true'], { ...options, flags: ['--tty'] }),
      startEntry(image, ['true'], options),
    ]);
    expect([await onTerminal.wait(), await elsewhere.wait()]).toEqual([0, 0]);
    const shown = (await onTerminal.logs()).stdout;
    const bars =
      shown.match(/ddbg-entry: \[#*\.*\] \d+ % of 3\.0 MB, [^\r\n]*\/s[^\r\n]*left\r\u001b\[K/g) ?? [];
    expect(bars.length).toBeGreaterThanOrEqual(10);
    expect(shown).not.toMatch(/left\r?\n/);
    const lines = ownLines((await elsewhere.logs()).stderr).filter((line) => line.includes(' % '));
    expect(lines).toEqual([expect.stringMatching(/^fetched \d\d % of 3\.0 MB, \S+ .B\/s, \d+ s left$/)]);
    expect((await elsewhere.logs()).stderr).not.toContain('\r');
  });

  describe('a disk without room', () => {
    it.each([
      ['the target', '/opt:size=1m', 'noise.tar.gz', /the file system of \/opt has 1\.\d MB left/],
      [
        'our own files',
        '/run:size=1m',
        'noise.tar.gz',
        /it needs 3\.0 MB, the file system of \/run\/ddbg\S* has 9\d\d\.\d kB left/,
      ],
      [
        'our own files, and nobody says how much',
        '/run:size=1m',
        'chunked/noise.tar.gz',
        /ENOSPC, there was room for (1\.0 MB|9\d\d\.\d kB)/,
      ],
    ])('%s: 125, and nothing is left behind', async (_, tmpfs, name, reason) => {
      const container = await startEntry(images.node24, ['true'], {
        DEBUG: `stayalive,fstree=${url}/${name}`,
        flags: ['--tmpfs', tmpfs],
        network,
      });
      const { status, text } = await waitForPark(container);
      expect(status).toBe(125);
      expect(text).toMatch(reason);
      const left = await container.exec([
        'find',
        '/opt',
        '/run/ddbg',
        '-name',
        '*noise*',
        '-o',
        '-name',
        '*download*',
        '-o',
        '-name',
        'first',
      ]);
      expect(left.stdout).toBe('');
      expect((await changes(container)).filter((line) => /ddbg-overlay|\/opt\//.test(line))).toEqual([]);
    });
  });

  it('KILL during the download, then docker start: the archive comes; with the server gone: the old tree, and 125', async () => {
    const startAgain = async (container: Container) => {
      const { status } = await docker(['start', '--attach', container.id]);
      return { status, ...(await container.logs()) };
    };
    const killed: Container[] = [];
    for (const name of ['hello.tar.gz', 'hello.zip']) {
      const DEBUG = `fstree=${url}/hello.tar,fstree=${url}/hold/${name}`;
      const container = await startEntry(images.native, ['hello', 'again'], { DEBUG, network });
      await server.waitForLog(new RegExp(`^GET /hold/${name} holds$`, 'm'));
      await container.kill('KILL');
      expect(await container.wait()).toBe(137);
      const left = (await changes(container)).filter((line) => !isOurs(line));
      expect(left).toContain('A /.ddbg-overlay/journal');
      expect(left.filter((line) => !/^A \/(\.ddbg-overlay(\/|$)|run\/ddbg\/download-)/.test(line))).toEqual(
        [],
      );
      killed.push(container);
    }
    const [first, second] = killed as [Container, Container];
    expect(await startAgain(first)).toMatchObject({ status: 7, stdout: 'hello again\n' });
    expect((await changes(first)).filter((line) => /ddbg-overlay|download-/.test(line))).toEqual([]);

    await server.kill('USR2');
    await server.waitForLog(/^closed$/m);
    const gone = await startAgain(second);
    expect(gone).toMatchObject({ status: 125, stdout: '' });
    expect(gone.stderr).toMatch(/cannot fetch .*ECONNREFUSED/);
    expect((await changes(second)).filter((line) => !isOurs(line))).toEqual([]);
  });
});

/** What `docker diff` shows of our state directory, and of the folder above it. */
function isOurs(change: string): boolean {
  return change === 'C /run' || /^A \/run\/ddbg(\/overlay\.json)?$/.test(change);
}
