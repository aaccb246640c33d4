/**
 * ~/.netrc as curl reads it (lib/netrc.c): words between blanks, which may be quoted; the first `machine` of that name,
 * or a `default` before it, that has a password.
 */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { errnoOf, reasonOf } from '../errors.ts';
import type { Log } from '../log.ts';

export interface Login {
  readonly login: string;
  readonly password: string;
}

/** It is a page of text; nobody shall fill our memory with it. */
const MOST_BYTES = 256 * 1024;

/** What `$NETRC`, else `$HOME/.netrc`, has for a host. A file that is not there or not to be trusted has nothing. */
export function findLogin(
  host: string,
  environment: Readonly<Record<string, string | undefined>>,
  log: Log,
): Login | undefined {
  const { NETRC, HOME } = environment;
  const path = NETRC || (HOME ? `${HOME}/.netrc` : undefined);
  const text = path === undefined ? undefined : readOwn(path, log);
  const found = text === undefined ? undefined : parseNetrc(text, host);
  if (found !== undefined) log.detail(`the credentials for ${host} are those of ${path}`);
  return found;
}

function readOwn(path: string, log: Log): string | undefined {
  const ignore = (why: string): undefined => log.detail(`${path} is not used: ${why}`) as undefined;
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK); // a FIFO would wait for its writer
  } catch (error) {
    return errnoOf(error) === 'ENOENT' ? undefined : ignore(reasonOf(error));
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) return ignore('it is no file');
    // Root is not somebody else: a mounted secret belongs to root, whoever the container runs as.
    if (stat.uid !== process.geteuid?.() && stat.uid !== 0) return ignore(`it belongs to uid ${stat.uid}`);
    if (stat.size > MOST_BYTES) return ignore(`it has ${stat.size} bytes`);
    const content = Buffer.alloc(stat.size);
    return content.toString('utf8', 0, readSync(fd, content, 0, content.length, 0));
  } catch (error) {
    return ignore(reasonOf(error));
  } finally {
    closeSync(fd);
  }
}

export function parseNetrc(text: string, host: string): Login | undefined {
  const words = wordsOf(text);
  let isOurs = false;
  let login = '';
  for (let at = 0; at < words.length; at += 1) {
    const next = words[at + 1] ?? '';
    switch (words[at]?.toLowerCase()) {
      case 'machine':
        isOurs = next.toLowerCase() === host.toLowerCase();
        login = '';
        at += 1;
        break;
      case 'default':
        isOurs = true;
        login = '';
        break;
      case 'login':
        login = next;
        at += 1;
        break;
      case 'password':
        if (isOurs) return { login: login || loginBehind(words, at + 2), password: next };
        at += 1;
        break;
      case 'account':
        at += 1;
        break;
    }
  }
  return undefined;
}

/** `password x login y`: the order is free within an entry. */
function loginBehind(words: readonly string[], from: number): string {
  for (let at = from; at < words.length; at += 2) {
    const word = words[at]?.toLowerCase();
    if (word === 'login') return words[at + 1] ?? '';
    if (word !== 'account') break;
  }
  return '';
}

/** A line that starts with # is a comment; a macro goes on to the next empty line. */
function wordsOf(text: string): string[] {
  const words: string[] = [];
  let inMacro = false;
  for (const line of text.split(/\r?\n/)) {
    if (inMacro) {
      inMacro = line !== '';
      continue;
    }
    if (/^\s*#/.test(line)) continue;
    const found = [...line.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g)].map(([, quoted, plain]) =>
      quoted === undefined ? (plain ?? '') : unquoted(quoted),
    );
    const macro = found.findIndex((word, at) => word.toLowerCase() === 'macdef' && !isValue(found, at));
    inMacro = macro >= 0;
    words.push(...(inMacro ? found.slice(0, macro) : found));
  }
  return words;
}

/** A password may be the word macdef. */
function isValue(words: readonly string[], at: number): boolean {
  return /^(machine|login|password|account)$/i.test(words[at - 1] ?? '');
}

function unquoted(quoted: string): string {
  const named: Record<string, string> = { n: '\n', r: '\r', t: '\t' };
  return quoted.replace(/\\(.)/g, (_whole, character: string) => named[character] ?? character);
}
