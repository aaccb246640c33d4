import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { createServer as createTcpServer } from 'node:net';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, it, onTestFinished } from 'vitest';
import { createLog } from '../../src/log.ts';
import { showProgress } from '../../src/overlay/progress.ts';
import { tarOf } from './archives.ts';
import { makeStand, serve, sha256 } from './stand.ts';

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
    const stand = makeStand();
    let asked = 0;
    const url = await serve((_request, response) => {
      asked += 1;
      response.writeHead(status).end(status === 204 ? undefined : archive);
    });
    const error = await stand.refused(url, 'DDBG_FETCH');
    expect(error.message).toContain(String(status));
    expect(error.hint).toBeDefined();
    expect(asked).toBe(1);
  },
);

it('tries again after a 500, from the first byte, and says so', async () => {
  const stand = makeStand();
  let asked = 0;
  const url = await serve((_request, response) => {
    asked += 1;
    if (asked === 1) response.writeHead(500).end('oops');
    else if (asked === 2) {
      response.writeHead(200, { 'content-length': archive.length });
      response.write(archive.subarray(0, 20), () => response.destroy()); // in the middle of the body
    } else response.end(archive);
  });
  await stand.apply([{ location: url, sha256: sha256(archive) }]);
  expect(asked).toBe(3);
  expect(stand.lines.filter((line) => line.includes('trying again'))).toHaveLength(2);
});

it('gives up after the retries', async () => {
  const stand = makeStand();
  let asked = 0;
  const url = await serve((_request, response) => {
    asked += 1;
    response.writeHead(503).end();
  });
  const error = await stand.refused(url, 'DDBG_FETCH', { limits: { retries: 1 } });
  expect(error.message).toMatch(/503 Service Unavailable \(2 tries\)/);
  expect(asked).toBe(2);
});

it('says that a host is dead, and that a port is closed', async () => {
  const stand = makeStand();
  const dead = await stand.refused('http://no-such-host.invalid/p.tgz', 'DDBG_FETCH', { limits: quick });
  expect(dead.message).toMatch(/no-such-host\.invalid.*(ENOTFOUND|EAI_AGAIN)/);
  const server = createTcpServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  const closed = await stand.refused(`http://127.0.0.1:${port}/p.tgz`, 'DDBG_FETCH', { limits: quick });
  expect(closed.message).toContain('ECONNREFUSED');
});

it.each(['headers', 'body', 'connection'])('notices a server that stalls: no %s', async (where) => {
  const stand = makeStand();
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
    const server = createTcpServer((socket) =>
      socket
        .resume()
        .on('error', () => {})
        .on('close', hungUp),
    );
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void server.close());
    url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`; // accepts, and never answers the TLS hello
  } else {
    url = await serve((_request, response) => {
      if (where === 'body') response.writeHead(200).write(archive.subarray(0, 10));
    });
  }
  const error = await stand.refused(url, 'DDBG_FETCH', { limits: { stallMs: 50, retries: 1 } });
  expect(error.message).toContain('no byte for 50 ms (--stall-timeout) (2 tries)');
  if (where === 'connection') await closed; // nothing of ours hangs there any more, and keeps node alive
});

it('ends a drip that never stalls, at the limit for the whole', async () => {
  const stand = makeStand();
  const url = await serve((_request, response) => {
    const timer = setInterval(() => response.write('x'), 5);
    response.on('close', () => clearInterval(timer));
  });
  const error = await stand.refused(url, 'DDBG_FETCH', { limits: { stallMs: 10_000, totalMs: 200 } });
  expect(error.message).toContain('--fetch-timeout');
});

it('takes Infinity for no limit, not for Node’s 1 ms', async () => {
  const stand = makeStand();
  const url = await serve((_request, response) => void setTimeout(() => response.end(archive), 50));
  // 50 ms: longer than the 1 ms that must not be meant
  const limits = { stallMs: Number.POSITIVE_INFINITY, totalMs: Number.POSITIVE_INFINITY };
  await stand.apply(url, { limits });
});

it('follows redirects, relative ones too, and names a loop', async () => {
  const stand = makeStand();
  const url = await serve((request, response) => {
    const to: Record<string, string> = { '/a': '/b', '/b': 'c?x=1', '/loop': '/loop2', '/loop2': '/loop' };
    const next = to[request.url ?? ''];
    if (next === undefined) response.end(archive);
    else response.writeHead(302, { location: next }).end('<html>moved</html>');
  });
  await stand.apply(`${url}/a`);
  const error = await stand.refused(`${url}/loop`, 'DDBG_FETCH');
  expect(error.message).toMatch(/redirect loop, back to http.*\/loop/);
});

it('ends an endless chain of redirects, and refuses one to a file', async () => {
  const stand = makeStand();
  let asked = 0;
  const url = await serve((request, response) => {
    asked += 1;
    const location = request.url === '/file' ? 'file:///etc/passwd' : `/${asked}`;
    response.writeHead(307, { location }).end();
  });
  expect((await stand.refused(url, 'DDBG_FETCH')).message).toContain('more than 10 redirects');
  expect(asked).toBe(11);
  expect((await stand.refused(`${url}/file`, 'DDBG_FETCH')).message).toContain('redirect to file:');
});

it('never goes from https to http', async ({ skip }) => {
  const stand = makeStand();
  const directory = join(stand.workDir, '..');
  const made = spawnSync('openssl', [
    ...['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '1', '-subj', '/CN=localhost'],
    ...['-keyout', join(directory, 'key.pem'), '-out', join(directory, 'cert.pem')],
  ]);
  if (made.status !== 0) return skip('SKIPPED: no openssl here');
  const { readFileSync } = await import('node:fs');
  const tls = {
    key: readFileSync(join(directory, 'key.pem')),
    cert: readFileSync(join(directory, 'cert.pem')),
  };
  const plain = await serve((_request, response) => response.end(archive));
  const server = createTlsServer(tls, (_request, response) =>
    response.writeHead(302, { location: `${plain}/p.tgz` }).end(),
  );
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  const unknown = await stand.refused(url, 'DDBG_FETCH');
  expect(unknown.hint).toContain('NODE_EXTRA_CA_CERTS');
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
  onTestFinished(() => void delete process.env.NODE_TLS_REJECT_UNAUTHORIZED);
  expect((await stand.refused(url, 'DDBG_FETCH')).message).toContain('from https to http');
});

it('sends credentials of the URL to their origin only, and shows them nowhere', async () => {
  const stand = makeStand();
  const seen: (string | undefined)[] = [];
  const other = await serve((request, response) => {
    seen.push(request.headers.authorization);
    response.end(archive);
  });
  const url = await serve((request, response) => {
    seen.push(request.headers.authorization);
    if (request.url === '/first') response.writeHead(302, { location: '/second' }).end();
    else response.writeHead(302, { location: `${other}/p.tgz?token=hidden` }).end();
  });
  const location = url.replace('http://', 'http://us%40er:pass%3Aword@');
  const report = await stand.apply(`${location}/first`);
  const basic = `Basic ${Buffer.from('us@er:pass:word').toString('base64')}`;
  expect(seen).toEqual([basic, basic, undefined]);
  expect(stand.lines.join('') + JSON.stringify(report)).not.toMatch(/word|us%40er|hidden/);
  expect(report.sources[0]?.shownLocation).toContain('***@');
});

it('keeps the bytes as they are, whatever Content-Encoding says', async () => {
  const stand = makeStand();
  const url = await serve((request, response) => {
    expect(request.headers['accept-encoding']).toBe('identity');
    response.writeHead(200, { 'content-encoding': 'gzip' }).end(archive);
  });
  await stand.apply([{ location: url, sha256: sha256(archive) }]);
});

it('refuses a body that is longer or shorter than announced', async () => {
  const stand = makeStand();
  for (const announced of [archive.length + 5, archive.length - 5]) {
    const server = createTcpServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', () => {
        socket.write(`HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: ${announced}\r\n\r\n`);
        socket.end(archive);
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void server.close());
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    if (announced > archive.length) await stand.refused(url, 'DDBG_FETCH', { limits: quick });
    else await stand.refused(url, 'DDBG_ARCHIVE', { limits: quick });
  }
});

it('stops at the limit for the archive, announced or not', async () => {
  const stand = makeStand();
  const endless = await serve((request, response) => {
    if (request.url === '/announced') response.writeHead(200, { 'content-length': 1e12 }).write('x');
    else {
      const more = (): void =>
        void (response.write(Buffer.alloc(65_536)) ? setImmediate(more) : response.once('drain', more));
      more();
    }
  });
  for (const path of ['/', '/announced']) {
    const error = await stand.refused(endless + path, 'DDBG_FETCH', { limits: { archiveBytes: 1e6 } });
    expect(error.message).toContain('archiveBytes');
  }
});

it('is stopped at once: before, during the body, and while it waits for a retry', async () => {
  const stand = makeStand();
  const stop = new AbortController();
  stop.abort();
  await stand.refused('http://127.0.0.1:1/', 'DDBG_ABORTED', { signal: stop.signal });

  const during = new AbortController();
  const slow = await serve((_request, response) => {
    response.writeHead(200).write(archive.subarray(0, 10), () => during.abort());
  });
  await stand.refused(slow, 'DDBG_ABORTED', { signal: during.signal });

  const waiting = new AbortController();
  const failing = await serve((_request, response) => response.writeHead(500).end());
  const log = createLog({
    write: (text) => void (text.includes('trying again') && waiting.abort()),
    terminal: false,
  });
  await stand.refused(failing, 'DDBG_ABORTED', { signal: waiting.signal, log });
});

it.each([
  ['an HTML page', '<!DOCTYPE html><html><body>Sign in</body></html>'],
  ['JSON', '{"message":"Not Found"}'],
  ['an XML document', '<?xml version="1.0"?><Error/>'],
  ['an empty file', ''],
  ['an xz file', Buffer.from('fd377a585a000000', 'hex')],
  ['a zstd file', Buffer.from('28b52ffd00000000', 'hex')],
  ['a bzip2 file', 'BZh91AY&SY'],
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
  const directory = join(stand.workDir, '..', 'directory');
  mkdirSync(directory);
  const fifo = join(stand.workDir, '..', 'fifo');
  expect(spawnSync('mkfifo', [fifo]).status).toBe(0);
  expect((await stand.refused(directory, 'DDBG_FETCH').catch(String)).toString()).toContain('is a directory');
  expect((await stand.refused(`file://${fifo}`, 'DDBG_FETCH')).message).toContain('is a FIFO');
  expect((await stand.refused('/dev/zero', 'DDBG_FETCH')).message).toContain('is a device');
  expect((await stand.refused('/no/such.tgz', 'DDBG_FETCH')).hint).toContain('inside the container');
  expect((await stand.refused('file://elsewhere/p.tgz', 'DDBG_FETCH')).message).toContain('host');
});

it('shows nothing for a fast download, lines in a log, a bar on a terminal', () => {
  let time = 0;
  const written: string[] = [];
  const plain = createLog({ write: (text) => void written.push(text), terminal: false });
  const lines = showProgress(plain, 1000, () => time);
  for (time = 0; time < 4900; time += 10) lines.update(100);
  expect(written).toEqual([]);
  for (; time < 15_100; time += 10) lines.update(500);
  lines.done();
  expect(written).toHaveLength(3);
  expect(written[2]).toBe('ddbg-entry: fetched 50 % of 1.0 kB, 33 B/s so far\n');

  written.length = 0;
  time = 0;
  const terminal = createLog({ write: (text) => void written.push(text), terminal: true });
  const bar = showProgress(terminal, 1000, () => time);
  for (; time < 1300; time += 10) bar.update(500);
  bar.done();
  const bars = written.filter((text) => text.includes('####'));
  expect(bars.length).toBe(10); // ten in a second, after the first 300 ms
  expect(bars[0]).toContain('[############............] 50 % of 1.0 kB');
});

it('keeps its own file to itself and takes it away', async () => {
  const stand = makeStand();
  writeFileSync(join(stand.workDir, 'mine'), '');
  await stand.apply(stand.file('p.tgz', archive));
  const { readdirSync } = await import('node:fs');
  expect(readdirSync(stand.workDir).sort()).toEqual(['backup', 'mine']);
});
