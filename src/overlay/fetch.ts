/**
 * An archive over http or https, with undici. `request`, because its bytes are raw: `fetch` unpacks what the server
 * calls Content-Encoding, and the digest is of something else then.
 *
 * Redirects, retries and the clocks are ours: undici's own redirects end with the last 302 as the result and go from
 * https to http, its retries join two halves of different files, its timers are coarse and miss a slow drip.
 */
import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { buildConnector, Client, type Dispatcher, request } from 'undici';
import { EntryError, errnoOf, reasonOf } from '../errors.ts';
import type { Log } from '../log.ts';
import { maskUrls } from '../secrets.ts';
import type { OverlayLimits } from './limits.ts';
import { showProgress } from './progress.ts';
import { type Store, tooLarge } from './store.ts';
import { refusal, type Subject, stopped } from './subject.ts';
import { bytesText, durationText } from './units.ts';

export interface FetchContext {
  readonly subject: Subject;
  readonly limits: OverlayLimits;
  readonly log: Log;
  readonly signal?: AbortSignal | undefined;
}

/** A failure that may be gone in a moment. */
class Passing extends Error {}

const PASSING_CODES = new Set([
  'EAI_AGAIN',
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'UND_ERR_SOCKET', // "other side closed": in the middle of the body, too
]);
const PASSING_STATUS = new Set([408, 429, 500, 502, 503, 504]);
const REDIRECT_STATUS = new Set([301, 302, 303, 307, 308]);
const FIRST_RETRY_AFTER_MS = 500;

/** Fills the store with what the URL serves. Rejects with DDBG_FETCH, DDBG_ABORTED or the store's own error. */
export async function fetchHttp(location: string, store: Store, context: FetchContext): Promise<void> {
  const { limits, log, subject, signal } = context;
  const total = new AbortController();
  const totalTimer = setTimeout(() => total.abort(tookTooLong(context)), timerMs(limits.totalMs));
  const ask = (): void => total.abort(stopped(subject));
  if (signal?.aborted) ask();
  signal?.addEventListener('abort', ask, { once: true });
  const connections = openConnections();
  try {
    for (let retry = 0; ; retry += 1) {
      const failure = await tryOnce(location, store, connections, total.signal, context);
      if (failure === undefined) return;
      if (retry >= limits.retries) throw gaveUp(failure, retry, context);
      const waitMs = FIRST_RETRY_AFTER_MS * 2 ** retry;
      log.say(
        `${reasonOf(failure)}; trying again in ${durationText(waitMs)} (${retry + 1} of ${limits.retries})`,
        { subject },
      );
      await sleep(waitMs, undefined, { signal: total.signal }).catch(() => {
        throw total.signal.reason;
      });
      store.restart();
    }
  } finally {
    clearTimeout(totalTimer);
    signal?.removeEventListener('abort', ask);
    connections.close();
  }
}

/** Node takes a delay of more than 24 days, Infinity included, for 1 ms. */
function timerMs(limitMs: number): number {
  return Math.min(limitMs, 2 ** 31 - 1);
}

interface Connections {
  request(url: URL, headers: Record<string, string>, signal: AbortSignal): Promise<Dispatcher.ResponseData>;
  close(): void;
}

/**
 * undici does not hear an abort before the connection stands, nor does destroy() end one that is being made (a server
 * that accepts and leaves the TLS hello unanswered: measured). So we ask the signal ourselves, and keep the sockets.
 */
function openConnections(): Connections {
  const connect = buildConnector({ timeout: 0 });
  const sockets = new Set<Socket>();
  const clients = new Set<Client>();
  const open = (origin: string): Client => {
    const client = new Client(origin, {
      // Its own clocks are off: ours count from the last byte, whatever it is that does not come.
      headersTimeout: 0,
      bodyTimeout: 0,
      connect: (options, callback) => {
        sockets.add(connect(options, callback) as unknown as Socket); // the types say void
      },
    });
    clients.add(client);
    return client;
  };
  return {
    request(url, headers, signal) {
      return new Promise((resolve, reject) => {
        const stop = (): void => reject(signal.reason);
        if (signal.aborted) return stop();
        signal.addEventListener('abort', stop, { once: true });
        request(url, { dispatcher: open(url.origin), headers, signal })
          .finally(() => signal.removeEventListener('abort', stop))
          .then(resolve, reject);
      });
    },
    close() {
      for (const socket of sockets) socket.destroy(new Error('not needed any more'));
      for (const client of clients) client.destroy().catch(() => {});
    },
  };
}

/** Undefined when the store is complete, the failure when it is worth another try; throws everything else. */
async function tryOnce(
  location: string,
  store: Store,
  connections: Connections,
  stop: AbortSignal,
  context: FetchContext,
): Promise<Error | undefined> {
  const stall = new AbortController();
  const stallText = `no byte for ${durationText(context.limits.stallMs)} (--stall-timeout)`;
  const stallTimer = setTimeout(() => stall.abort(new Passing(stallText)), timerMs(context.limits.stallMs));
  try {
    const either = AbortSignal.any([stop, stall.signal]);
    const response = await follow(location, connections, either, stallTimer, context);
    await receive(response, store, stallTimer, context);
    return undefined;
  } catch (error) {
    if (stop.aborted) throw stop.reason;
    const failure = stall.signal.aborted ? stall.signal.reason : error;
    if (failure instanceof EntryError) throw failure;
    if (failure instanceof Passing || PASSING_CODES.has(errnoOf(failure) ?? '')) return failure as Error;
    throw unreachable(failure, context);
  } finally {
    clearTimeout(stallTimer);
  }
}

/** The response behind all redirects, its status checked: the body of a 404 is never an archive. */
async function follow(
  location: string,
  connections: Connections,
  signal: AbortSignal,
  stallTimer: NodeJS.Timeout,
  context: FetchContext,
): Promise<Dispatcher.ResponseData> {
  let { url, authorization } = takeCredentials(location, context);
  const seen = new Set([url.href]);
  for (;;) {
    const headers = { 'accept-encoding': 'identity', 'user-agent': 'ddbg-entry', ...authorization };
    const response = await connections.request(url, headers, signal);
    stallTimer.refresh();
    if (!REDIRECT_STATUS.has(response.statusCode)) {
      if (response.statusCode === 200) return response;
      drop(response);
      throw wrongStatus(response.statusCode, context);
    }
    drop(response);
    const next = redirectTarget(response, url, seen, context);
    // Credentials are for the origin they were given for. A server may send us on with some of its own.
    authorization =
      next.url.origin === url.origin ? { ...authorization, ...next.authorization } : next.authorization;
    url = next.url;
  }
}

function redirectTarget(
  response: Dispatcher.ResponseData,
  from: URL,
  seen: Set<string>,
  context: FetchContext,
): ReturnType<typeof takeCredentials> {
  const refuse = (why: string): Error =>
    refusal('DDBG_FETCH', 'fetch', context.subject, why, 'Give the address of the file itself.');
  const header = response.headers.location;
  if (typeof header !== 'string')
    throw refuse(`a redirect (${response.statusCode}) that does not say where to`);
  if (!URL.canParse(header, from.href)) throw refuse(`a redirect to ${header}, which is no address`);
  const target = new URL(header, from.href);
  if (target.protocol !== 'http:' && target.protocol !== 'https:') {
    throw refuse(`a redirect to ${target.protocol}, which a server has no say in`);
  }
  if (from.protocol === 'https:' && target.protocol === 'http:') {
    throw refuse(`a redirect from https to http (${maskUrls(target.href)})`);
  }
  const taken = takeCredentials(target.href, context);
  if (seen.has(taken.url.href)) throw refuse(`a redirect loop, back to ${maskUrls(target.href)}`);
  if (seen.size > context.limits.redirects) throw refuse(`more than ${context.limits.redirects} redirects`);
  seen.add(taken.url.href);
  return taken;
}

/** undici does not look at `user:password@`. */
function takeCredentials(
  location: string,
  context: FetchContext,
): { url: URL; authorization: Readonly<Record<string, string>> } {
  if (!URL.canParse(location)) throw refusal('DDBG_FETCH', 'fetch', context.subject, 'that is no address');
  const url = new URL(location);
  const { username, password } = url;
  url.username = '';
  url.password = '';
  url.hash = '';
  if (username === '' && password === '') return { url, authorization: {} };
  const pair = `${decoded(username)}:${decoded(password)}`;
  return { url, authorization: { authorization: `Basic ${Buffer.from(pair).toString('base64')}` } };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

async function receive(
  response: Dispatcher.ResponseData,
  store: Store,
  stallTimer: NodeJS.Timeout,
  context: FetchContext,
): Promise<void> {
  const expected = lengthOf(response);
  if (expected !== undefined && expected > context.limits.archiveBytes) {
    drop(response);
    throw tooLarge(context.subject, context.limits.archiveBytes);
  }
  const progress = showProgress(context.log, expected);
  try {
    for await (const chunk of response.body) {
      stallTimer.refresh();
      store.write(chunk as Buffer);
      progress.update(store.bytes);
    }
  } finally {
    progress.done();
  }
  if (expected !== undefined && store.bytes !== expected) {
    const why = `${bytesText(store.bytes)} came, the server had announced ${bytesText(expected)}`;
    throw refusal(
      'DDBG_FETCH',
      'fetch',
      context.subject,
      why,
      'Try again; if it stays so, ask whoever runs the server.',
    );
  }
}

function lengthOf(response: Dispatcher.ResponseData): number | undefined {
  const header = response.headers['content-length'];
  return typeof header === 'string' && /^\d+$/.test(header) ? Number(header) : undefined;
}

/** A body that nobody reads keeps its connection open. */
function drop(response: Dispatcher.ResponseData): void {
  response.body.on('error', () => {});
  response.body.destroy();
}

function wrongStatus(status: number, context: FetchContext): Error {
  const why = `the server answered ${status}${STATUS_CODES[status] ? ` ${STATUS_CODES[status]}` : ''}`;
  if (PASSING_STATUS.has(status)) return new Passing(why);
  const hint =
    status === 401 || status === 403
      ? 'Put credentials into the address (https://user:password@host/...) or use one that needs none.'
      : 'Check the address: open it from inside the container, for instance with curl -fI.';
  return refusal('DDBG_FETCH', 'fetch', context.subject, why, hint);
}

function gaveUp(failure: Error, retries: number, context: FetchContext): Error {
  const tries = retries === 0 ? '' : ` (${retries + 1} tries)`;
  const hint = 'Check that the container reaches that host and port, or use a file: archive from a volume.';
  return refusal('DDBG_FETCH', 'fetch', context.subject, `${reasonOf(failure)}${tries}`, hint, failure);
}

function unreachable(failure: unknown, context: FetchContext): Error {
  const certificate = /certificate|self.signed|CERT_/i.test(`${errnoOf(failure)} ${reasonOf(failure)}`);
  const hint = certificate
    ? 'Set NODE_EXTRA_CA_CERTS=/path/to/ca.pem on the container for a certificate authority of your own.'
    : 'Check the host name and that the container has a network.';
  return refusal('DDBG_FETCH', 'fetch', context.subject, reasonOf(failure), hint, failure);
}

function tookTooLong(context: FetchContext): Error {
  const why = `not complete after ${durationText(context.limits.totalMs)} (--fetch-timeout)`;
  return refusal(
    'DDBG_FETCH',
    'fetch',
    context.subject,
    why,
    'Use a nearer copy, or a file: archive from a volume.',
  );
}
