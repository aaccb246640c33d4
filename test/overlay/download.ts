/** A download alone: fetchHttp into a store, with a log to read, against servers on the loopback. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, createServer as createTcpServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished } from 'vitest';
import type { EntryError } from '../../src/errors.ts';
import { createLog } from '../../src/log.ts';
import { fetchHttp } from '../../src/overlay/fetch.ts';
import { type GivenLimits, withDefaults } from '../../src/overlay/limits.ts';
import { openStore, type Stored } from '../../src/overlay/store.ts';
import { subjectOf } from '../../src/overlay/subject.ts';

export interface DownloadOptions {
  environment?: Record<string, string>;
  limits?: GivenLimits;
  digestGiven?: boolean;
  signal?: AbortSignal;
  /** Where the file goes. Default: a directory of its own. */
  directory?: string;
  /** Hears every line. */
  heard?: (line: string) => void;
}

export interface Download extends Stored {
  readonly content: Buffer;
  readonly lines: string[];
}

export function makeDirectory(): string {
  const directory = mkdtempSync(join(realpathSync(tmpdir()), 'fetch-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** Rejects with what fetchHttp rejects with, and `lines` on it. */
export async function download(location: string, options: DownloadOptions = {}): Promise<Download> {
  const lines: string[] = [];
  const log = createLog({
    verbose: true,
    write: (line) => {
      lines.push(line);
      options.heard?.(line);
    },
    terminal: false,
  });
  const limits = withDefaults(options.limits);
  const subject = subjectOf(location);
  const store = openStore(
    join(options.directory ?? makeDirectory(), 'download'),
    limits.archiveBytes,
    subject,
  );
  const { environment = {}, digestGiven = true, signal } = options;
  try {
    await fetchHttp(location, store, { subject, limits, log, environment, digestGiven, signal });
  } catch (error) {
    store.close();
    throw Object.assign(error as Error, { lines });
  }
  const stored = store.finish();
  return { ...stored, content: readFileSync(stored.path), lines };
}

/** Downloads, and expects this code. `said` is all that anybody could read of it: error, hint, causes, lines. */
export async function refused(
  location: string,
  code: EntryError['code'],
  options: DownloadOptions = {},
): Promise<EntryError & { lines: string[]; said: string }> {
  const error = await download(location, options).then(
    () => expect.fail('it was fetched'),
    (reason: unknown) => reason as EntryError & { lines: string[] },
  );
  expect(error, String(error)).toMatchObject({ name: 'EntryError', code });
  expect(error.message).toMatch(/^cannot \w+ fstree=/);
  const { inspect } = await import('node:util');
  return Object.assign(error, {
    said: `${inspect(error, { depth: 9 })}${error.hint}${error.lines.join('')}`,
  });
}

export async function listen(server: Server): Promise<number> {
  const sockets = new Set<Socket>();
  for (const event of ['connection', 'secureConnection']) {
    server.on(event, (socket: Socket) => {
      sockets.add(socket);
      socket.on('error', () => {}).on('close', () => sockets.delete(socket));
    });
  }
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

export async function serve(listener: RequestListener): Promise<string> {
  return `http://127.0.0.1:${await listen(createServer(listener))}`;
}

/** A server that says what the test says, byte by byte: `answer` is called with the head of each request. */
export async function serveRaw(
  answer: (socket: Socket, head: string, request: number) => void,
): Promise<string> {
  let requests = 0;
  const server = createTcpServer((socket) => {
    let head = '';
    socket.on('data', (chunk) => {
      const before = head;
      head += chunk.toString('latin1');
      if (before.includes('\r\n\r\n') || !head.includes('\r\n\r\n')) return;
      requests += 1;
      answer(socket, head, requests);
    });
  });
  return `http://127.0.0.1:${await listen(server)}`;
}

export interface Authority {
  /** The certificate of the authority, and one of it for 127.0.0.1 and localhost. */
  readonly ca: string;
  readonly key: Buffer;
  readonly cert: Buffer;
}

/** A private certificate authority. */
export function makeAuthority(directory: string): Authority {
  const openssl = (...args: string[]): void => {
    const made = spawnSync('openssl', args, { cwd: directory, encoding: 'utf8' });
    expect(made.status, made.stderr).toBe(0);
  };
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  openssl(
    'req',
    '-x509',
    ...newKey,
    '-days',
    '2',
    '-subj',
    '/CN=our ca',
    '-keyout',
    'ca.key',
    '-out',
    'ca.pem',
  );
  const names = 'subjectAltName=IP:127.0.0.1,DNS:localhost';
  openssl(
    ...['req', '-x509', ...newKey, '-days', '2', '-subj', '/CN=localhost', '-addext', names],
    ...['-addext', 'basicConstraints=critical,CA:FALSE', '-CA', 'ca.pem', '-CAkey', 'ca.key'],
    ...['-keyout', 'key.pem', '-out', 'cert.pem'],
  );
  const read = (name: string): Buffer => readFileSync(join(directory, name));
  return { ca: join(directory, 'ca.pem'), key: read('key.pem'), cert: read('cert.pem') };
}

export async function serveTls({ key, cert }: Authority, listener: RequestListener): Promise<string> {
  return `https://127.0.0.1:${await listen(createTlsServer({ key, cert }, listener))}`;
}

/** Also in stand.ts, which a test of the download alone does without. */
export function sha256(content: Uint8Array): string {
  return createHash('sha256').update(content).digest('hex');
}
