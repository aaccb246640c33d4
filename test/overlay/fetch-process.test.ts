/** A download in a process of its own: what it trusts, and that nothing of it keeps the process alive. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { build } from 'esbuild';
import { beforeAll, expect, it } from 'vitest';
import { listen, makeAuthority, makeDirectory, serve, serveRaw, serveTls } from './download.ts';

const here = import.meta.dirname;
let bundle: string;

beforeAll(async () => {
  const directory = mkdtempSync(join(tmpdir(), 'fetch-bundle-'));
  bundle = join(directory, 'fetch.mjs');
  const src = join(here, '../../src/overlay');
  const exports = ['fetch', 'store', 'limits'].map((name) => `export * from '${src}/${name}.ts';`);
  await build({
    stdin: { contents: exports.join('\n'), resolveDir: src },
    ...{ outfile: bundle, bundle: true, platform: 'node', format: 'esm', logLevel: 'error' },
  });
  return () => rmSync(directory, { recursive: true });
});

interface Outcome {
  bytes?: number;
  code?: string;
  message?: string;
  hint?: string;
  left: string[];
}

function start(url: string, environment: Record<string, string> = {}, limits: object = {}, stop?: 'stop') {
  const argv = [join(here, 'fixtures/fetch.mjs'), bundle, url, join(makeDirectory(), 'download')];
  const child = spawn(process.execPath, [...argv, JSON.stringify(limits), ...(stop ? [stop] : [])], {
    env: { PATH: process.env.PATH, ...environment },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const outcome = text(child.stdout).then((line) => JSON.parse(line) as Outcome);
  const warnings = text(child.stderr);
  const exited = new Promise<number | null>((resolve) => child.on('exit', resolve));
  const afterOutcome = (async () => {
    await new Promise((resolve) => child.stdout.once('data', resolve));
    const printed = Date.now();
    expect(await exited).toBe(0);
    return Date.now() - printed;
  })();
  return { child, outcome, warnings, afterOutcome };
}

it('trusts an authority of NODE_EXTRA_CA_CERTS, and says how where it does not', async () => {
  const directory = makeDirectory();
  const authority = makeAuthority(directory);
  const url = await serveTls(authority, (_request, response) => response.end('an archive'));
  const trusting = start(url, { NODE_EXTRA_CA_CERTS: authority.ca });
  expect(await trusting.outcome).toMatchObject({ bytes: 10 });
  expect(await trusting.warnings).toBe('');

  const plain = await start(url).outcome;
  expect(plain).toMatchObject({ code: 'DDBG_FETCH' });
  expect(plain.hint).toMatch(/^Set NODE_EXTRA_CA_CERTS=\/path\/to\/ca\.pem on the container/);

  const missing = join(directory, 'no-such.pem');
  const unreadable = await start(url, { NODE_EXTRA_CA_CERTS: missing }).outcome;
  expect(unreadable.hint).toContain(`NODE_EXTRA_CA_CERTS is ${missing}, which cannot be read: ENOENT`);

  const another = makeAuthority(makeDirectory());
  const wrong = await start(url, { NODE_EXTRA_CA_CERTS: another.ca }).outcome;
  expect(wrong.hint).toContain(`It is ${another.ca} now, which does not have the one that is needed`);
});

it('holds the certificate to the name in the address', async () => {
  const authority = makeAuthority(makeDirectory());
  const url = await serveTls(authority, (_request, response) => response.end('an archive'));
  const { port } = new URL(url);
  const environment = { NODE_EXTRA_CA_CERTS: authority.ca };
  expect(await start(`https://localhost:${port}`, environment).outcome).toMatchObject({ bytes: 10 });
  const other = await start(`https://127.0.0.2:${port}`, environment, { retries: 0 }).outcome;
  expect(other.message).toMatch(/ECONNREFUSED|altnames/); // listens on 127.0.0.1 only
  const proxy = await serveRaw((socket) => {
    socket.write('HTTP/1.1 200 Go\r\n\r\n');
    const onward = connect(Number(port), '127.0.0.1'); // to our own server, whatever was asked for
    socket.pipe(onward).pipe(socket);
    onward.on('error', () => socket.destroy());
  });
  const misled = await start('https://elsewhere.example/', { ...environment, https_proxy: proxy }).outcome;
  expect(misled.message).toContain('altnames');
  expect(misled.hint).toContain('Use the name in the address that the certificate is for');
});

it('says so where a port speaks no TLS', async () => {
  const url = await serve((_request, response) => response.end());
  const outcome = await start(url.replace('http:', 'https:')).outcome;
  expect(outcome.hint).toContain('speaks no TLS');
});

/** Servers that leave something open, each in another phase. */
const phases: [string, () => Promise<string>, 'stop' | undefined][] = [
  [
    'after success on a connection that the server keeps',
    () => serve((_q, r) => r.end('an archive')),
    undefined,
  ],
  [
    'a body that stalls',
    () => serveRaw((socket) => void socket.write('HTTP/1.1 200 OK\r\n\r\nx')),
    undefined,
  ],
  ['a header that stalls', () => serveRaw((socket) => void socket.write('HTTP/1.1 200')), undefined],
  ['a redirect whose body never ends', () => redirectWithBody(), undefined],
  ['a 404 whose body never ends', () => serveRaw((s) => void s.write('HTTP/1.1 404 No\r\n\r\nx')), undefined],
  ['a TLS handshake that is never answered', () => silentTls(), undefined],
  ['a stop in the TLS handshake', () => silentTls(), 'stop'],
  ['a stop in the body', () => serveRaw((socket) => void socket.write('HTTP/1.1 200 OK\r\n\r\nx')), 'stop'],
];

let reached = (): void => {};

async function silentTls(): Promise<string> {
  return `https://127.0.0.1:${await listen(createServer((socket) => socket.once('data', () => reached())))}`;
}

async function redirectWithBody(): Promise<string> {
  const target = await serve((_request, response) => response.end('an archive'));
  return serveRaw((socket) => void socket.write(`HTTP/1.1 302 Found\r\nLocation: ${target}\r\n\r\nx`));
}

it.each(phases)('ends by itself, at once: %s', async (_name, open, stop) => {
  const url = await open();
  const waits = new Promise<void>((resolve) => {
    reached = resolve;
  });
  const limits = stop ? { retries: 0 } : { retries: 0, stallMs: 300 };
  const { child, outcome, afterOutcome } = start(url, {}, limits, stop);
  const started = Date.now();
  if (stop) {
    if (url.startsWith('https:')) await waits;
    child.stdin.end('stop\n');
  }
  const { left, code } = await outcome;
  if (stop) expect(code).toBe('DDBG_ABORTED');
  expect(left.filter((kind) => /TCP|Timeout|GetAddr|TLS/.test(kind))).toEqual([]);
  expect(await afterOutcome).toBeLessThan(1000);
  expect(Date.now() - started).toBeLessThan(10_000);
});
