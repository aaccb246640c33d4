/** Servers that are broken or mean harm, and what stays behind of a download: nothing. */

import { createServer, type Socket } from 'node:net';
import { gunzipSync, gzipSync } from 'node:zlib';
import { expect, it } from 'vitest';
import { download, listen, refused, serve, serveRaw, sha256 } from './download.ts';

const archive = Buffer.from('an archive '.repeat(100));
const quick = { retries: 0 };

it('ends a slow drip of the body, and one of the header, at the limit for the whole', async () => {
  const drip = (start: string) =>
    serveRaw((socket) => {
      socket.write(start);
      const timer = setInterval(() => socket.write('x'), 5);
      socket.on('close', () => clearInterval(timer));
    });
  const limits = { stallMs: 10_000, totalMs: 200 };
  const chunked = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n';
  for (const start of ['HTTP/1.1 200 OK\r\n\r\n', chunked, 'HTTP/1.1 200 OK\r\nX-Long: ']) {
    const error = await refused(await drip(start), 'DDBG_FETCH', { limits });
    expect(error.message).toContain('not complete after 200 ms (--fetch-timeout)');
  }
});

it.each(['endless', 'announced', 'announced by a 206'])('stops at archiveBytes: %s', async (how) => {
  let asked = 0;
  const url = await serve((_request, response) => {
    asked += 1;
    if (how === 'announced') response.writeHead(200, { 'content-length': 1e12 }).write('x');
    else if (how === 'announced by a 206' && asked === 1) {
      response.writeHead(200, { etag: '"a"' }).write('x', () => response.destroy());
    } else if (how === 'announced by a 206') {
      response.writeHead(206, { etag: '"a"', 'content-range': 'bytes 1-1999999999/2000000000' }).write('x');
    } else {
      const more = (): void =>
        void (response.write(Buffer.alloc(65_536)) ? setImmediate(more) : response.once('drain', more));
      more();
    }
  });
  const error = await refused(url, 'DDBG_FETCH', { limits: { archiveBytes: 1e6 } });
  expect(error.message).toContain('larger than the limit archive-bytes, 1.0 MB');
});

it('refuses a body that is shorter than announced, and takes no byte behind one that is longer', async () => {
  for (const announced of [archive.length + 5, archive.length - 5]) {
    const url = await serveRaw((socket) => {
      socket.write(`HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: ${announced}\r\n\r\n`);
      socket.end(archive);
    });
    if (announced < archive.length) {
      expect((await download(url, { limits: quick })).sha256).toBe(sha256(archive.subarray(0, -5)));
    } else {
      const error = await refused(url, 'DDBG_FETCH', { limits: quick });
      expect(error.message).toContain('broke off after 1.1 kB of 1.1 kB');
    }
  }
});

it.each([
  ['two lengths', 'Content-Length: 5\r\nContent-Length: 6\r\n'],
  ['a length and chunks', 'Content-Length: 5\r\nTransfer-Encoding: chunked\r\n'],
  ['a negative length', 'Content-Length: -5\r\n'],
])('refuses an answer that can be read in two ways: %s', async (_name, headers) => {
  const url = await serveRaw((socket) =>
    socket.end(`HTTP/1.1 200 OK\r\n${headers}\r\n5\r\nhello\r\n0\r\n\r\n`),
  );
  const error = await refused(url, 'DDBG_FETCH');
  expect(error.message).toContain('Parse Error');
  expect(error.hint).toContain('Check the port');
});

it('takes chunks that break off, or are none, for a broken body', async () => {
  for (const body of ['5\r\nhello\r\n', '5\r\nhello\r\nnonsense\r\n']) {
    const url = await serveRaw((socket) =>
      socket.end(`HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${body}`),
    );
    const error = await refused(url, 'DDBG_FETCH', { limits: { retries: 1 } });
    expect(error.message).toContain('the connection broke off after 5 B (2 tries)');
  }
});

it('keeps the raw bytes, whatever Content-Encoding says: the digest is of what was sent', async () => {
  const packed = gzipSync(archive);
  const url = await serve((request, response) => {
    expect(request.headers['accept-encoding']).toBe('identity');
    response.writeHead(200, { 'content-encoding': 'gzip' }).end(packed);
  });
  const { content, sha256: digest } = await download(url);
  expect(content.equals(packed)).toBe(true);
  expect(digest).toBe(sha256(packed));
  expect(digest).not.toBe(sha256(gunzipSync(packed)));
});

it('ends a chain of 1,000 redirects after ten, on one connection at a time', async () => {
  let asked = 0;
  let open = 0;
  let mostOpen = 0;
  const server = createServer((socket: Socket) => {
    open += 1;
    mostOpen = Math.max(mostOpen, open);
    socket.on('close', () => {
      open -= 1;
    });
    socket.on('data', () => {
      asked += 1;
      socket.write(`HTTP/1.1 302 Found\r\nLocation: /${asked}\r\nContent-Length: 1000000\r\n\r\nx`);
    });
  });
  const url = `http://127.0.0.1:${await listen(server)}`;
  const error = await refused(url, 'DDBG_FETCH', { limits: { redirects: 10 } });
  expect(error.message).toContain('more than 10 redirects');
  expect(asked).toBe(11);
  expect(mostOpen).toBeLessThanOrEqual(3); // a close takes its time to arrive
});

it.each(['file:///etc/passwd', 'ftp://127.0.0.1/x', 'data:,x', 'javascript:1'])(
  'refuses a redirect to %s',
  async (location) => {
    const url = await serve((_request, response) => response.writeHead(307, { location }).end());
    const error = await refused(url, 'DDBG_FETCH');
    expect(error.message).toContain(
      `a redirect to ${new URL(location).protocol}, which a server has no say in`,
    );
  },
);

it('refuses a redirect without a target', async () => {
  const url = await serve((_request, response) => response.writeHead(302).end());
  expect((await refused(url, 'DDBG_FETCH')).message).toContain('does not say where to');
});

it.each([
  ['100,000 headers', `HTTP/1.1 200 OK\r\n${'X: y\r\n'.repeat(100_000)}\r\n`, 'Header overflow'],
  ['a header without an end', `HTTP/1.1 200 OK\r\nX: ${'y'.repeat(1e6)}`, 'Header overflow'],
  ['garbage', 'SSH-2.0-OpenSSH_9.2p1\r\n', 'Expected HTTP/'],
  ['HTML without a head', '<!DOCTYPE html><html></html>', 'Expected HTTP/'],
])('refuses %s at once', async (_name, answer, message) => {
  let asked = 0;
  const url = await serveRaw((socket) => {
    asked += 1;
    socket.write(answer);
  });
  const error = await refused(url, 'DDBG_FETCH');
  expect(error.message).toContain(message);
  expect(error.hint).toContain('Check the port');
  expect(asked).toBe(1);
});

it('tries again after a header that breaks off, and does not wait for one that never ends', async () => {
  const half = 'HTTP/1.1 200 OK\r\nContent-Len';
  let asked = 0;
  const broken = await serveRaw((socket, _head, request) => {
    asked = request;
    socket.end(half);
  });
  await refused(broken, 'DDBG_FETCH', { limits: { retries: 1 } });
  expect(asked).toBe(2);
  const open = await serveRaw((socket) => void socket.write(half));
  const error = await refused(open, 'DDBG_FETCH', { limits: { ...quick, stallMs: 50 } });
  expect(error.message).toContain('no byte for 50 ms (--stall-timeout)');
});

it('does not wait for a server that accepts and says nothing, nor for one that only ever says "in a moment"', async () => {
  const silent = await serveRaw(() => {});
  const limits = { ...quick, stallMs: 50 };
  expect((await refused(silent, 'DDBG_FETCH', { limits })).message).toContain('no byte for 50 ms');
  const patient = await serveRaw((socket) => {
    const timer = setInterval(() => socket.write('HTTP/1.1 102 Processing\r\n\r\n'), 5);
    socket.on('close', () => clearInterval(timer));
  });
  expect((await refused(patient, 'DDBG_FETCH', { limits })).message).toContain('no byte for 50 ms');
});

it('takes a file from an HTTP/1.0 server, whose end is the end of the connection', async () => {
  const url = await serveRaw((socket) =>
    socket.end(Buffer.concat([Buffer.from('HTTP/1.0 200 OK\r\n\r\n'), archive])),
  );
  expect((await download(url)).sha256).toBe(sha256(archive));
});

it('takes a reset for no end, though the connection is all that ends the body', async () => {
  const url = await serveRaw((socket, _head, request) => {
    if (request > 1) socket.end(Buffer.concat([Buffer.from('HTTP/1.1 200 OK\r\n\r\n'), archive]));
    else {
      socket.write(Buffer.concat([Buffer.from('HTTP/1.1 200 OK\r\n\r\n'), archive.subarray(0, 20)]));
      // Apart from the bytes: libuv takes a reset that it sees together with the last of them for a plain end.
      setTimeout(() => socket.resetAndDestroy(), 100);
    }
  });
  expect((await download(url)).sha256).toBe(sha256(archive));
});

it.each([204, 206, 304, 100, 101])('never takes a %i for an archive', async (status) => {
  const url = await serveRaw((socket) =>
    socket.end(`HTTP/1.1 ${status} Fine\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nx`),
  );
  await refused(url, 'DDBG_FETCH', { limits: quick });
});

it('takes an empty file as one', async () => {
  const url = await serve((_request, response) => response.writeHead(200, { 'content-length': 0 }).end());
  expect((await download(url)).bytes).toBe(0);
});

it.each([
  ['http://127.0.0.1.example.invalid/p?token=planted', true],
  ['http://example.invalid/p', true],
  ['http://user:planted@localhost.invalid/', true],
  ['http://localhost:9/p', false],
  ['http://127.1.2.3:9/p', false],
  ['http://[::1]:9/p', false],
  ['https://example.invalid/p', false],
])('warns of plain http without a digest, not on loopback: %s %s', async (url, warns) => {
  const { lines } = await refused(url, 'DDBG_FETCH', { limits: quick, digestGiven: false });
  const warned = lines.filter((line) => line.includes('#sha256='));
  expect(warned).toHaveLength(warns ? 1 : 0);
  expect(lines.join('')).not.toContain('planted');
  const held = await refused(url, 'DDBG_FETCH', { limits: quick, digestGiven: true });
  expect(held.lines.join('')).not.toContain('#sha256=');
});
