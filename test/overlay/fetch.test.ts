/** A download from a plain server, and what becomes of it: a digest, an archive, a word about what it is instead. */
import { spawnSync } from 'node:child_process';
import { readdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, it } from 'vitest';
import { tarOf } from './archives.ts';
import { download, listen, refused, serve } from './download.ts';
import { makeStand, sha256 } from './stand.ts';

const archive = gzipSync(tarOf({ name: 'etc/app.conf', content: 'new conf\n' }));
const quick = { retries: 0 };

it('fetches, checks the digest, and says both', async () => {
  const stand = makeStand();
  const url = await serve((_request, response) => response.end(archive));
  const report = await stand.apply([{ location: `${url}/p.tgz`, sha256: sha256(archive) }]);
  expect(stand.read('etc/app.conf')).toBe('new conf\n');
  expect(report.sources[0]).toMatchObject({
    sha256: sha256(archive),
    bytes: archive.length,
    format: 'tar.gz',
  });
  expect(stand.lines.join('')).toContain(`fetched ${url}/p.tgz: tar.gz`);
});

it('refuses another digest, naming both', async () => {
  const stand = makeStand();
  const url = await serve((_request, response) => response.end(archive));
  const wanted = 'ab'.repeat(32);
  const error = await stand.refused([{ location: url, sha256: wanted }], 'DDBG_DIGEST');
  expect(error.message).toContain(sha256(archive));
  expect(error.message).toContain(wanted);
});

it.each([404, 403, 410, 204, 206, 418])(
  'never takes the body of a %i for an archive, nor asks twice',
  async (status) => {
    let asked = 0;
    const url = await serve((_request, response) => {
      asked += 1;
      response.writeHead(status).end(status === 204 ? undefined : archive);
    });
    const error = await refused(url, 'DDBG_FETCH');
    expect(error.message).toContain(String(status));
    expect(error.hint).toBeDefined();
    expect(asked).toBe(1);
  },
);

it('tries again after a 500, from the first byte, and says so', async () => {
  let asked = 0;
  const url = await serve((_request, response) => {
    asked += 1;
    if (asked === 1) response.writeHead(500).end('oops');
    else if (asked === 2) {
      response.writeHead(200, { 'content-length': archive.length });
      response.write(archive.subarray(0, 20), () => response.destroy()); // in the middle of the body
    } else response.end(archive);
  });
  const { sha256: digest, lines } = await download(url);
  expect(digest).toBe(sha256(archive));
  expect(asked).toBe(3);
  expect(lines.filter((line) => line.includes('trying again'))).toHaveLength(2);
});

it('gives up after the retries', async () => {
  let asked = 0;
  const url = await serve((_request, response) => {
    asked += 1;
    response.writeHead(503).end();
  });
  const error = await refused(url, 'DDBG_FETCH', { limits: { retries: 1 } });
  expect(error.message).toMatch(/503 Service Unavailable \(2 tries\)/);
  expect(asked).toBe(2);
});

it('says that a host is dead, and that a port is closed', async () => {
  const dead = await refused('http://no-such-host.invalid/p.tgz', 'DDBG_FETCH', { limits: quick });
  expect(dead.message).toMatch(/no-such-host\.invalid.*(ENOTFOUND|EAI_AGAIN)/);
  const server = createServer();
  const port = await listen(server);
  await new Promise((resolve) => server.close(resolve));
  const closed = await refused(`http://127.0.0.1:${port}/p.tgz`, 'DDBG_FETCH', { limits: quick });
  expect(closed.message).toContain('ECONNREFUSED');
});

it.each(['headers', 'body', 'connection'])('notices a server that stalls: no %s', async (where) => {
  let url: string;
  let connections = 0;
  let allClosed = (): void => {};
  const hungUp = (): void => {
    connections += 1;
    if (connections === 2) allClosed();
  };
  const closed = new Promise<void>((resolve) => {
    allClosed = resolve;
  });
  if (where === 'connection') {
    const server = createServer((socket) => socket.resume().on('close', hungUp));
    url = `https://127.0.0.1:${await listen(server)}`; // accepts, and never answers the TLS hello
  } else {
    url = await serve((_request, response) => {
      if (where === 'body') response.writeHead(200).write(archive.subarray(0, 10));
    });
  }
  const error = await refused(url, 'DDBG_FETCH', { limits: { stallMs: 50, retries: 1 } });
  expect(error.message).toContain('no byte for 50 ms (--stall-timeout) (2 tries)');
  if (where === 'connection') await closed; // nothing of ours hangs there any more, and keeps node alive
});

it('counts a stall from the last byte, however long the whole takes', async () => {
  const url = await serve((_request, response) => {
    let left = 8;
    const timer = setInterval(() => {
      response.write('x');
      left -= 1;
      if (left > 0) return;
      clearInterval(timer);
      response.end();
    }, 100);
  });
  expect((await download(url, { limits: { ...quick, stallMs: 500 } })).bytes).toBe(8); // after 800 ms
});

it('takes Infinity for no limit, not for Node’s 1 ms', async () => {
  const url = await serve((_request, response) => void setTimeout(() => response.end(archive), 50));
  // 50 ms: longer than the 1 ms that must not be meant
  const limits = { stallMs: Number.POSITIVE_INFINITY, totalMs: Number.POSITIVE_INFINITY };
  await download(url, { limits });
});

it('follows redirects, relative ones too, and names a loop', async () => {
  const url = await serve((request, response) => {
    const to: Record<string, string> = { '/a': '/b', '/b': 'c?x=1', '/loop': '/loop2', '/loop2': '/loop' };
    const next = to[request.url ?? ''];
    if (next === undefined) response.end(archive);
    else response.writeHead(302, { location: next }).end('<html>moved</html>');
  });
  expect((await download(`${url}/a`)).sha256).toBe(sha256(archive));
  const error = await refused(`${url}/loop`, 'DDBG_FETCH');
  expect(error.message).toMatch(/redirect loop, back to http.*\/loop/);
});

it('is stopped at once: before, during the body, and while it waits for a retry', async () => {
  const stop = new AbortController();
  stop.abort();
  await refused('http://127.0.0.1:1/', 'DDBG_ABORTED', { signal: stop.signal });

  const during = new AbortController();
  const slow = await serve((_request, response) => {
    response.writeHead(200).write(archive.subarray(0, 10), () => during.abort());
  });
  await refused(slow, 'DDBG_ABORTED', { signal: during.signal });

  const waiting = new AbortController();
  const failing = await serve((_request, response) => response.writeHead(500).end());
  const heard = (line: string): void => void (line.includes('trying again') && waiting.abort());
  await refused(failing, 'DDBG_ABORTED', { signal: waiting.signal, heard });
});

it.each([
  ['an HTML page', '<!DOCTYPE html><html><body>Sign in</body></html>'],
  ['JSON', '{"message":"Not Found"}'],
  ['an XML document', '<?xml version="1.0"?><Error/>'],
  ['an empty file', ''],
  ['plain text', 'hello\n'],
  ['a Git LFS pointer', 'version https://git-lfs.github.com/spec/v1\n'],
  ['nothing known', Buffer.from([0, 1, 2, 3])],
])('names what it is instead: %s', async (looksLike, content) => {
  const stand = makeStand();
  const url = await serve((_request, response) => response.end(content));
  const error = await stand.refused(`${url}/patch.tgz`, 'DDBG_ARCHIVE');
  expect(error.message).toContain(`looks like ${looksLike}`);
});

it('takes file URLs and paths, and refuses what is no file', async () => {
  const stand = makeStand();
  const path = stand.file('p with space.tgz', archive);
  await stand.apply(path);
  await stand.apply(`file://${path.replaceAll(' ', '%20')}`);
  const fifo = join(stand.workDir, '..', 'fifo');
  expect(spawnSync('mkfifo', [fifo]).status).toBe(0);
  expect((await stand.refused(`file://${fifo}`, 'DDBG_FETCH')).message).toContain('is a FIFO');
  expect((await stand.refused('/dev/zero', 'DDBG_FETCH')).message).toContain('is a device');
  expect((await stand.refused('/no/such.tgz', 'DDBG_FETCH')).hint).toContain('inside the container');
  expect((await stand.refused('file://elsewhere/p.tgz', 'DDBG_FETCH')).message).toContain('host');
});

it('keeps its own file to itself and takes it away', async () => {
  const stand = makeStand();
  writeFileSync(join(stand.workDir, 'mine'), '');
  await stand.apply(stand.file('p.tgz', archive));
  const left = readdirSync(stand.workDir);
  expect(left).toContain('mine');
  expect(left.filter((name) => name.startsWith('download'))).toEqual([]);
});
