/**
 * An archive over http or https, with Node's own client: undici costs 54 ms to import and as much again until its parser
 * is warm (measured), node:http 3. Its bytes are raw, as the digest wants them: nothing is unpacked that the server calls
 * Content-Encoding.
 *
 * A download is a few tries. A try follows the redirects from the start, and where the last one broke off it asks for the
 * rest. `retries` counts failed tries, whatever they have brought; nothing gives one back.
 */
import { accessSync, constants } from 'node:fs';
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { EntryError, errnoOf, reasonOf } from '../errors.ts';
import type { Log } from '../log.ts';
import { maskUrls } from '../secrets.ts';
import { findCredentials, maskSecrets, takeUserinfo } from './credentials.ts';
import type { OverlayLimits } from './limits.ts';
import { showProgress } from './progress.ts';
import { findProxy, type HttpProxy } from './proxy.ts';
import { type Begun, beginning, continues, lengthOf, rangeHeaders, totalOfRange } from './resume.ts';
import type { Store } from './store.ts';
import { refusal, type Subject, stopped } from './subject.ts';
import { bytesText, durationText } from './units.ts';
import { openWires, TunnelRefused, type Wires } from './wires.ts';

export interface FetchContext {
  readonly subject: Subject;
  readonly limits: OverlayLimits;
  readonly log: Log;
  readonly signal?: AbortSignal | undefined;
  /** Where proxies, credentials and the home directory are looked up. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Whether somebody has said what the bytes must be. */
  readonly digestGiven: boolean;
}

/** Where a request goes, and what it may show there. */
interface Hop {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
}

interface Job extends FetchContext {
  readonly store: Store;
  readonly start: Hop;
  readonly stop: AbortSignal;
  readonly endsAt: number;
  /** What no sentence may hold, whoever wrote it. */
  readonly secrets: string[];
  /** Set while what the store holds may be gone on with. */
  begun: Begun | undefined;
  /** That of the last request. */
  proxy: HttpProxy | undefined;
}

/** A failure that may be gone in a moment. */
class Passing extends Error {
  /** How long the server asks us to stay away. */
  readonly waitMs: number;

  constructor(message: string, waitMs = 0) {
    super(message);
    this.waitMs = waitMs;
  }
}

const PASSING_CODES = new Set([
  'EAI_AGAIN',
  'ECONNREFUSED',
  'ECONNRESET', // also Node's own "socket hang up"
  'EPIPE',
  'ETIMEDOUT',
  'HPE_INVALID_EOF_STATE', // the end in the middle of a header
]);
const PASSING_STATUS = new Set([408, 429, 500, 502, 503, 504]);
const REDIRECT_STATUS = new Set([301, 302, 303, 307, 308]);
const FIRST_RETRY_AFTER_MS = 500;

/** Fills the store with what the URL serves. Rejects with DDBG_FETCH, DDBG_BAD_DIRECTIVE, DDBG_ABORTED or the store's own error. */
export async function fetchHttp(location: string, store: Store, context: FetchContext): Promise<void> {
  const total = new AbortController();
  const job = openJob(location, store, total.signal, context);
  warnOfPlainHttp(location, job);
  const totalTimer = setTimeout(() => total.abort(tookTooLong(job)), timerMs(job.limits.totalMs));
  const ask = (): void => total.abort(stopped(job.subject));
  if (job.signal?.aborted) ask();
  job.signal?.addEventListener('abort', ask, { once: true });
  try {
    for (let retry = 0; ; retry += 1) {
      const failure = await tryOnce(job);
      if (failure === undefined) return;
      await waitForRetry(failure, retry, job);
    }
  } finally {
    clearTimeout(totalTimer);
    job.signal?.removeEventListener('abort', ask);
  }
}

function openJob(location: string, store: Store, stop: AbortSignal, context: FetchContext): Job {
  const { subject, environment, log } = context;
  if (!URL.canParse(location)) throw refusal('DDBG_FETCH', 'fetch', subject, 'that is no address');
  const { url, userinfo } = takeUserinfo(location);
  const { headers, secrets } = findCredentials(url, userinfo, environment, subject, log);
  return {
    ...context,
    store,
    stop,
    start: { url, headers },
    endsAt: Date.now() + context.limits.totalMs,
    secrets: [...secrets],
    begun: undefined,
    proxy: undefined,
  };
}

/** Not for loopback: nobody stands in between there. */
function warnOfPlainHttp(location: string, { start, digestGiven, log, subject }: Job): void {
  const { protocol, hostname } = start.url;
  if (protocol !== 'http:' || digestGiven || /^(127(\.\d+){3}|\[::1\]|localhost)$/.test(hostname)) return;
  const why = 'over plain http and without a digest, so that anybody on the way can change it';
  log.warn(`${maskUrls(location)} is fetched ${why}; #sha256=HEX behind it holds it to what you meant`, {
    subject,
  });
}

/** Node takes a delay of more than 24 days, Infinity included, for 1 ms. */
function timerMs(limitMs: number): number {
  return Math.min(limitMs, 2 ** 31 - 1);
}

async function waitForRetry(failure: Passing, retry: number, job: Job): Promise<void> {
  const { limits, log, subject, stop, endsAt } = job;
  if (retry >= limits.retries) throw gaveUp(failure, retry, job);
  if (Date.now() + failure.waitMs >= endsAt) throw mustWaitTooLong(failure, job);
  const waitMs = Math.max(failure.waitMs, FIRST_RETRY_AFTER_MS * 2 ** retry);
  log.say(`${failure.message}; trying again in ${durationText(waitMs)} (${retry + 1} of ${limits.retries})`, {
    subject,
  });
  await sleep(timerMs(waitMs), undefined, { signal: stop }).catch(() => {
    throw stop.reason;
  });
}

/** Undefined when the store is complete, the failure when it is worth another try; throws everything else. */
async function tryOnce(job: Job): Promise<Passing | undefined> {
  const { stop, limits } = job;
  const stallText = `no byte for ${durationText(limits.stallMs)} (--stall-timeout)`;
  const stall = setTimeout(() => wires.cut(new Passing(stallText)), timerMs(limits.stallMs));
  const wires = openWires(() => void stall.refresh());
  const cut = (): void => wires.cut(stop.reason);
  if (stop.aborted) cut();
  stop.addEventListener('abort', cut, { once: true });
  try {
    await receive(await follow(wires, job), wires, stall, job);
    return undefined;
  } catch (error) {
    return passing(wires.cutBecause ?? error, job);
  } finally {
    clearTimeout(stall);
    stop.removeEventListener('abort', cut);
    wires.cut(new Error('not needed any more'));
  }
}

function passing(failure: unknown, job: Job): Passing {
  if (failure instanceof EntryError) throw failure;
  if (failure instanceof Passing) return failure;
  const why = maskSecrets(reasonOf(failure), job.secrets) + through(job);
  if (PASSING_CODES.has(errnoOf(failure) ?? '')) return new Passing(why);
  throw unreachable(failure, why, job);
}

/**
 * The response behind all redirects, its status checked: the body of a 404 is never an archive. A retry goes through the
 * redirects again: they lead to signed addresses, which expire.
 */
async function follow(wires: Wires, job: Job): Promise<{ url: URL; response: IncomingMessage }> {
  const { store } = job;
  let hop = job.start;
  const seen = new Set([hop.url.href]);
  for (;;) {
    const range = rangeHeaders(job.begun, hop.url, store.bytes);
    const response = await request(wires, hop, range, job);
    const { statusCode = 0, headers } = response;
    if (REDIRECT_STATUS.has(statusCode)) {
      hop = nextHop(response, hop, seen, job);
    } else if (statusCode === 200) {
      return { url: hop.url, response };
    } else if ('range' in range && (statusCode === 206 || statusCode === 416)) {
      if (statusCode === 206 && job.begun && continues(headers, job.begun, store.bytes)) {
        return { url: hop.url, response };
      }
      job.begun = undefined; // and ask once more, for all of it
    } else {
      throw wrongStatus('server', response, job);
    }
  }
}

async function request(
  wires: Wires,
  { url, headers }: Hop,
  range: Record<string, string>,
  job: Job,
): Promise<IncomingMessage> {
  const proxy = findProxy(url, job.environment, job.subject);
  job.proxy = proxy;
  if (proxy !== undefined) {
    job.secrets.push(...proxy.secrets);
    job.log.detail(`through the proxy ${proxy.url.host} (${proxy.variable})`);
  }
  const ours = { 'accept-encoding': 'identity', 'user-agent': 'ddbg-entry', ...headers, ...range };
  return wires.get(url, ours, proxy).catch((error: unknown) => {
    throw error instanceof TunnelRefused ? wrongStatus('proxy', error.answer, job) : error;
  });
}

function nextHop({ headers, statusCode }: IncomingMessage, from: Hop, seen: Set<string>, job: Job): Hop {
  const refuse = (why: string): Error =>
    refusal('DDBG_FETCH', 'fetch', job.subject, why, 'Give the address of the file itself.');
  const { location } = headers;
  if (location === undefined) throw refuse(`a redirect (${statusCode}) that does not say where to`);
  if (!URL.canParse(location, from.url.href)) throw refuse('a redirect to what is no address');
  const target = new URL(location, from.url.href);
  const shown = maskSecrets(maskUrls(target.href), job.secrets);
  if (target.protocol !== 'http:' && target.protocol !== 'https:') {
    throw refuse(`a redirect to ${maskSecrets(target.protocol, job.secrets)}, which a server has no say in`);
  }
  if (from.url.protocol === 'https:' && target.protocol === 'http:') {
    throw refuse(`a redirect from https to http: ${shown}`);
  }
  const { url, userinfo } = takeUserinfo(target.href);
  if (seen.has(url.href)) throw refuse(`a redirect loop, back to ${shown}`);
  if (seen.size > job.limits.redirects) throw refuse(`more than ${job.limits.redirects} redirects`);
  seen.add(url.href);
  job.secrets.push(...userinfo.secrets);
  // Credentials are for the origin they were given for. A server may send us on with some of its own.
  const kept = url.origin === from.url.origin ? from.headers : {};
  return { url, headers: { ...kept, ...userinfo.headers } };
}

async function receive(
  { url, response }: { url: URL; response: IncomingMessage },
  wires: Wires,
  stall: NodeJS.Timeout,
  job: Job,
): Promise<void> {
  const { store } = job;
  const expected = startStore(url, response, job);
  if (expected !== undefined) store.reserve(expected - store.bytes);
  const progress = showProgress(job.log, { doing: 'fetched', totalBytes: expected, startAt: store.bytes });
  try {
    for await (const chunk of response) {
      stall.refresh();
      store.write(chunk as Buffer);
      progress.update(store.bytes);
    }
    refuseCutBody(response, wires);
  } catch (error) {
    if (error instanceof EntryError) throw error;
    const of = expected === undefined ? '' : ` of ${bytesText(expected)}`;
    throw new Passing(`the connection broke off after ${bytesText(store.bytes)}${of}${through(job)}`);
  } finally {
    progress.done();
  }
  if (expected !== undefined && store.bytes !== expected) {
    job.begun = undefined;
    throw new Passing(`${bytesText(store.bytes)} came, the server had announced ${bytesText(expected)}`);
  }
}

/**
 * Node takes any end of the connection for the end of a body that has no other, an error and our own cut as well. A
 * reset that comes together with the last bytes stays unseen: libuv reports a plain end.
 */
function refuseCutBody({ headers }: IncomingMessage, wires: Wires): void {
  const hasEnd = headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined;
  const broken = wires.cutBecause ?? (hasEnd ? undefined : wires.failure);
  if (broken !== undefined) throw broken;
}

/** Empty for a 200, as it was for a 206. Returns how many bytes it will have in the end, if the server says. */
function startStore(url: URL, { statusCode, headers }: IncomingMessage, job: Job): number | undefined {
  const { store, log, subject } = job;
  if (statusCode === 206) {
    log.say(`going on behind the first ${bytesText(store.bytes)}`, { subject, bytes: store.bytes });
    return totalOfRange(headers);
  }
  if (store.bytes > 0) {
    log.say('starting over at the first byte: nothing says that it is still the same file', { subject });
    store.restart();
  }
  job.begun = beginning(url, headers);
  return lengthOf(headers);
}

function wrongStatus(who: 'server' | 'proxy', { statusCode = 0, headers }: IncomingMessage, job: Job): Error {
  const { STATUS_CODES } = process.getBuiltinModule('node:http');
  const meaning = STATUS_CODES[statusCode]; // not the server's own words
  const why = `the ${who} answered ${statusCode}${meaning ? ` ${meaning}` : ''}${through(job)}`;
  if (PASSING_STATUS.has(statusCode)) return new Passing(why, retryAfterMs(headers));
  return refusal('DDBG_FETCH', 'fetch', job.subject, why, hintFor(statusCode, who, job));
}

function hintFor(status: number, who: 'server' | 'proxy', { proxy, start }: Job): string {
  const isGiven = Object.keys(start.headers).length > 0;
  if (status === 407 && proxy !== undefined) {
    return `Put credentials into ${proxy.variable} (http://user:password@host:port, percent-encoded).`;
  }
  if (who === 'proxy') return `Ask whoever runs the proxy, or go without: no_proxy=${start.url.hostname}.`;
  if (status === 401 || status === 403) {
    return isGiven
      ? 'The credentials that were sent are refused: check them, and that they are for this address.'
      : 'Put credentials into the address (user and password before the host), DDBG_FSTREE_TOKEN, DDBG_FSTREE_HEADER or ~/.netrc, or use an address that needs none.';
  }
  return 'Check the address: open it from inside the container, for instance with curl -fI.';
}

/** Seconds or a date: RFC 9110, 10.2.3. */
function retryAfterMs(headers: IncomingHttpHeaders): number {
  const value = headers['retry-after'] ?? '';
  if (/^\d+$/.test(value)) return Number(value) * 1000;
  const date = / GMT$/.test(value) ? Date.parse(value) : Number.NaN;
  return Number.isNaN(date) ? 0 : Math.max(0, date - Date.now());
}

/** For the end of a sentence: who else may be at fault. */
function through({ proxy }: Job): string {
  return proxy === undefined ? '' : ` (through the proxy ${proxy.url.host} of ${proxy.variable})`;
}

function gaveUp(failure: Passing, retries: number, job: Job): Error {
  const tries = retries === 0 ? '' : ` (${retries + 1} tries)`;
  const hint = 'Check that the container reaches that host and port, or use a file: archive from a volume.';
  return refusal('DDBG_FETCH', 'fetch', job.subject, failure.message + tries, hint);
}

function mustWaitTooLong(failure: Passing, job: Job): Error {
  const wanted = `and wants us to wait ${durationText(failure.waitMs)}`;
  const why = `${failure.message} ${wanted}, longer than --fetch-timeout leaves of ${durationText(job.limits.totalMs)}`;
  return refusal('DDBG_FETCH', 'fetch', job.subject, why, 'Try again later, or use another copy.');
}

function unreachable(failure: unknown, why: string, job: Job): Error {
  // Node's own error would carry what the server sent (rawPacket), which may be what we had sent.
  const cause = Object.assign(new Error(why), { code: errnoOf(failure) });
  return refusal('DDBG_FETCH', 'fetch', job.subject, why, hintForFailure(failure, job), cause);
}

function hintForFailure(failure: unknown, { environment }: Job): string {
  const code = errnoOf(failure) ?? '';
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID')
    return 'Use the name in the address that the certificate is for.';
  if (/certificate|self.signed|CERT_/i.test(`${code} ${reasonOf(failure)}`))
    return certificateHint(environment);
  if (code.startsWith('HPE_')) return 'Check the port: what answers there speaks no HTTP that can be read.';
  if (code === 'EPROTO' || code.startsWith('ERR_SSL_'))
    return 'Check the port: what answers there speaks no TLS that can be read.';
  return 'Check the host name and that the container has a network.';
}

function certificateHint({ NODE_EXTRA_CA_CERTS: path }: FetchContext['environment']): string {
  const wayOut =
    'Set NODE_EXTRA_CA_CERTS=/path/to/ca.pem on the container for a certificate authority of your own.';
  if (!path) return wayOut;
  try {
    accessSync(path, constants.R_OK);
    return `${wayOut} It is ${path} now, which does not have the one that is needed.`;
  } catch (error) {
    return `NODE_EXTRA_CA_CERTS is ${path}, which cannot be read: ${reasonOf(error)}.`;
  }
}

function tookTooLong({ subject, limits }: Job): Error {
  const why = `not complete after ${durationText(limits.totalMs)} (--fetch-timeout)`;
  return refusal('DDBG_FETCH', 'fetch', subject, why, 'Use a nearer copy, or a file: archive from a volume.');
}
