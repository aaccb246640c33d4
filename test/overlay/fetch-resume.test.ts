/** A body that breaks off: what is gone on with, and what must never be joined. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { expect, it } from 'vitest';
import { download, refused, serve, serveRaw, sha256 } from './download.ts';

const whole = Buffer.from(Array.from({ length: 50_000 }, (_, at) => (at * 7 + (at >> 8)) & 255));
const other = Buffer.from(whole.map((byte) => byte ^ 255));
const HALF = 20_000;

/** Sends the first part of an answer, then hangs up. */
function breakOff(response: ServerResponse, headers: Record<string, string | number>, from = whole): void {
  response.writeHead(200, { 'content-length': from.length, ...headers });
  response.write(from.subarray(0, HALF), () => response.destroy());
}

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

/** The first request breaks off; `second` answers the next one, the whole file those behind it. */
async function serveBroken(headers: Record<string, string | number>, second: Answer, size = 1) {
  const asked: { range?: string | undefined; ifRange?: string | string[] | undefined }[] = [];
  const url = await serve((request, response) => {
    asked.push({ range: request.headers.range, ifRange: request.headers['if-range'] });
    if (asked.length <= size) breakOff(response, headers);
    else if (asked.length === size + 1) second(request, response);
    else response.end(whole);
  });
  return { url, asked };
}

function sendRest(
  response: ServerResponse,
  headers: Record<string, string>,
  rest = whole.subarray(HALF),
): void {
  const range = `bytes ${HALF}-${whole.length - 1}/${whole.length}`;
  response.writeHead(206, { 'content-range': range, 'content-length': rest.length, ...headers }).end(rest);
}

const strong = { etag: '"v1"' };

it('asks for the rest of the same file, and has the digest of the whole', async () => {
  const { url, asked } = await serveBroken(strong, (_request, response) => sendRest(response, strong));
  const { content, sha256: digest, lines } = await download(url);
  expect(content.equals(whole)).toBe(true);
  expect(digest).toBe(sha256(whole));
  expect(asked).toEqual([
    { range: undefined, ifRange: undefined },
    { range: `bytes=${HALF}-`, ifRange: '"v1"' },
  ]);
  expect(lines.join('')).toContain('the connection broke off after 20.0 kB of 50.0 kB; trying again');
  expect(lines.join('')).toContain('going on behind the first 20.0 kB');
});

it('goes on more than once, after a stall and after an answer that is none as well', async () => {
  let asked = 0;
  const ranges: (string | undefined)[] = [];
  const url = await serve((request, response) => {
    asked += 1;
    ranges.push(request.headers.range);
    const range = (from: number) => ({ ...strong, 'content-range': `bytes ${from}-49999/50000` });
    if (asked === 1)
      response.writeHead(200, { ...strong, 'content-length': 50_000 }).write(whole.subarray(0, 10_000));
    else if (asked === 2) response.writeHead(503).end();
    else if (asked === 3) {
      response.writeHead(206, range(10_000)); // chunked
      response.write(whole.subarray(10_000, 30_000), () => response.destroy());
    } else response.writeHead(206, range(30_000)).end(whole.subarray(30_000));
  });
  const { content } = await download(url, { limits: { stallMs: 150 } });
  expect(content.equals(whole)).toBe(true);
  expect(ranges).toEqual([undefined, 'bytes=10000-', 'bytes=10000-', 'bytes=30000-']);
});

it('goes on where the first answer had no length, and a chunk never came', async () => {
  let asked = 0;
  const url = await serve((_request, response) => {
    asked += 1;
    if (asked > 1) return sendRest(response, strong);
    response.writeHead(200, strong).write(whole.subarray(0, HALF), () => response.destroy());
  });
  expect((await download(url)).sha256).toBe(sha256(whole));
  expect(asked).toBe(2);
});

it.each<[string, Record<string, string>, Answer, number]>([
  ['the file has changed: 200', strong, (_q, r) => r.writeHead(200, { etag: '"v2"' }).end(whole), 2],
  ['the server does not know Range: 200', strong, (_q, r) => r.end(whole), 2],
  ['416', strong, (_q, r) => r.writeHead(416, { 'content-range': 'bytes */10' }).end(), 3],
  ['another ETag', strong, (_q, r) => sendRest(r, { etag: '"v2"' }, other.subarray(HALF)), 3],
  ['the ETag has become weak', strong, (_q, r) => sendRest(r, { etag: 'W/"v1"' }, other.subarray(HALF)), 3],
  ['no ETag any more', strong, (_q, r) => sendRest(r, {}, other.subarray(HALF)), 3],
  [
    'another total',
    strong,
    (_q, r) =>
      sendRest(r, { ...strong, 'content-range': `bytes ${HALF}-50000/50001` }, other.subarray(HALF - 1)),
    3,
  ],
  [
    'no total',
    strong,
    (_q, r) => sendRest(r, { ...strong, 'content-range': `bytes ${HALF}-49999/*` }, other.subarray(HALF)),
    3,
  ],
  [
    'another start',
    strong,
    (_q, r) => sendRest(r, { ...strong, 'content-range': 'bytes 0-49999/50000' }, other.subarray(HALF)),
    3,
  ],
  [
    'not up to the end',
    strong,
    (_q, r) => sendRest(r, { ...strong, 'content-range': `bytes ${HALF}-29999/50000` }, other.subarray(HALF)),
    3,
  ],
  ['no Content-Range', strong, (_q, r) => r.writeHead(206, strong).end(other.subarray(HALF)), 3],
])('starts over at the first byte: %s', async (_name, headers, second, requests) => {
  const { url, asked } = await serveBroken(headers, second);
  const { content, sha256: digest, lines } = await download(url);
  expect(content.equals(whole)).toBe(true);
  expect(digest).toBe(sha256(whole));
  expect(asked).toHaveLength(requests);
  expect(asked[1]?.range).toBe(`bytes=${HALF}-`);
  expect(asked[2]?.range).toBeUndefined();
  expect(lines.join('')).toContain('starting over at the first byte');
});

it.each<[string, Record<string, string>]>([
  ['a weak ETag', { etag: 'W/"v1"' }],
  ['no ETag', {}],
  ['an ETag that is none', { etag: 'v1' }],
  ['only a date', { 'last-modified': 'Mon, 01 Jan 2024 00:00:00 GMT' }],
])('never asks for the rest with %s', async (_name, headers) => {
  const { url, asked } = await serveBroken(headers, (_request, response) => response.end(other));
  const { content } = await download(url);
  expect(content.equals(other)).toBe(true);
  expect(asked.map(({ range }) => range)).toEqual([undefined, undefined]);
});

it('never takes a 206 that nobody asked for', async () => {
  let asked = 0;
  const url = await serve((_request, response) => {
    asked += 1;
    response.writeHead(206, { ...strong, 'content-range': 'bytes 0-49999/50000' }).end(whole);
  });
  expect((await refused(url, 'DDBG_FETCH')).message).toContain('206');
  expect(asked).toBe(1);
});

it('goes through the redirects again, and on at the same place however it is signed', async () => {
  const asked: string[] = [];
  const url = await serve((request, response) => {
    asked.push(`${request.url} ${request.headers.range ?? ''}`);
    if (request.url === '/p') response.writeHead(302, { location: `/blob?signed=${asked.length}` }).end();
    else if (asked.length === 2) breakOff(response, strong);
    else sendRest(response, strong);
  });
  expect((await download(`${url}/p`)).sha256).toBe(sha256(whole));
  expect(asked).toEqual(['/p ', '/blob?signed=1 ', '/p ', `/blob?signed=3 bytes=${HALF}-`]);
});

it('takes the same ETag of another place for another file', async () => {
  let asked = 0;
  const url = await serve((request, response) => {
    asked += 1;
    if (request.url === '/p') response.writeHead(302, { location: `/mirror${asked}` }).end();
    else if (asked === 2) breakOff(response, strong, other);
    else {
      expect(request.headers.range).toBeUndefined();
      response.writeHead(200, strong).end(whole);
    }
  });
  expect((await download(`${url}/p`)).sha256).toBe(sha256(whole));
});

it('counts each failed try, whatever it has brought', async () => {
  let asked = 0;
  const url = await serve((request, response) => {
    asked += 1;
    const from = Number(/\d+/.exec(request.headers.range ?? '')?.[0] ?? 0);
    const range = from === 0 ? {} : { 'content-range': `bytes ${from}-49999/50000` };
    response.writeHead(from === 0 ? 200 : 206, { ...strong, ...range, 'content-length': 50_000 - from });
    response.write(whole.subarray(from, from + 1000), () => response.destroy());
  });
  const error = await refused(url, 'DDBG_FETCH', { limits: { retries: 2 } });
  expect(error.message).toContain('broke off after 3.0 kB of 50.0 kB (3 tries)');
  expect(asked).toBe(3);
});

it('takes a body that is reset for a passing failure as well', async () => {
  const url = await serveRaw((socket, _head, request) => {
    const length = `HTTP/1.1 200 OK\r\nContent-Length: ${whole.length}\r\n\r\n`;
    if (request > 1) socket.end(Buffer.concat([Buffer.from(length), whole]));
    else
      socket.write(Buffer.concat([Buffer.from(length), whole.subarray(0, HALF)]), () =>
        socket.resetAndDestroy(),
      );
  });
  expect((await download(url)).sha256).toBe(sha256(whole));
});

it('waits as long as Retry-After says, in seconds or up to a date', async () => {
  const times: number[] = [];
  const url = await serve((_request, response) => {
    times.push(Date.now());
    const date = new Date(Date.now() + 2500).toUTCString(); // without its milliseconds: 1.5 to 2.5 s
    if (times.length === 1) response.writeHead(429, { 'retry-after': '1' }).end();
    else if (times.length === 2) response.writeHead(503, { 'retry-after': date }).end();
    else response.end(whole);
  });
  const { lines } = await download(url);
  const [first = 0, second = 0, third = 0] = times;
  expect(second - first).toBeGreaterThanOrEqual(990);
  expect(third - second).toBeGreaterThanOrEqual(1400);
  expect(lines.join('')).toContain('429 Too Many Requests; trying again in 1 s');
});

it.each(['3600', new Date(Date.now() + 3_600_000).toUTCString()])(
  'fails at once where it is to wait longer than there is time: %s',
  async (header) => {
    const url = await serve((_request, response) => response.writeHead(503, { 'retry-after': header }).end());
    const started = Date.now();
    const error = await refused(url, 'DDBG_FETCH', { limits: { totalMs: 60_000 } });
    expect(Date.now() - started).toBeLessThan(5000);
    expect(error.message).toMatch(
      /503 Service Unavailable and wants us to wait 60 min, longer than --fetch-timeout/,
    );
  },
);

it('does not take nonsense in Retry-After for a date', async () => {
  let asked = 0;
  const url = await serve((_request, response) => {
    asked += 1;
    if (asked === 1) response.writeHead(503, { 'retry-after': '-5' }).end();
    else if (asked === 2) response.writeHead(503, { 'retry-after': 'soon' }).end();
    else response.end(whole);
  });
  await download(url);
  expect(asked).toBe(3);
});
