/**
 * DEBUG and DDBG text -> Directives. Pure: nothing is read, nothing is touched.
 *
 *     DEBUG=verbose,stayalive[=DURATION|always],fstree=URL[,fstree=URL...],record
 *
 * DEBUG is everybody's variable: we take our own words out of it and leave the rest. DDBG is ours alone: the same
 * grammar, strict.
 */
import leven from 'leven';
import { EntryError } from './errors.ts';
import { maskUrls } from './secrets.ts';

/** One archive to lay over the root. */
export interface FstreeSource {
  /** URL (http, https, file) or path, without our fragment. May hold secrets: mask it before it is shown. */
  readonly location: string;
  /** What the archive's SHA-256 must be, 64 lower-case hex digits. Default: not checked. */
  readonly sha256: string | undefined;
  /** Leading path components to drop from every name. Default: found from well-known top folders. */
  readonly strip: number | undefined;
  /** Takes setuid, setgid and sticky bits from the archive. Default: they are dropped. */
  readonly setuid?: 'keep' | undefined;
  /** Takes owners from the archive, by number. Default: a replaced file keeps its own, what is new is ours. */
  readonly owner?: 'archive' | undefined;
}

/** When a container that could end is held instead. */
export interface StayAlive {
  /** `fault`: only after an outcome nobody asked for. `always`: after success too. */
  readonly on: 'fault' | 'always';
  /** Milliseconds until it ends by itself. Default: undefined, it waits for somebody to let it go. */
  readonly limitMs: number | undefined;
}

/** What was asked for, and what the command is to find in the two variables afterwards. */
export interface Directives {
  readonly verbose: boolean;
  readonly stayAlive: StayAlive | undefined;
  /** Applied in this order. */
  readonly fstree: readonly FstreeSource[];
  /** The last of what the command writes is kept. */
  readonly record: boolean;
  /** The variable that was read. */
  readonly setting: 'DEBUG' | 'DDBG';
  /** DEBUG as the command gets it; undefined: it gets none. DDBG it never gets. */
  readonly debugForCommand: string | undefined;
  /** Sentences about words that are nearly ours. */
  readonly hints: readonly string[];
}

/** The two variables, as `process.env` has them. */
export interface DebugVariables {
  readonly DEBUG?: string | undefined;
  readonly DDBG?: string | undefined;
}

export const WORDS = ['verbose', 'stayalive', 'fstree', 'record'] as const;
/** A word of ours. */
type Word = (typeof WORDS)[number];

const WAY_OUT =
  'the words are verbose, stayalive[=90s|30m|2h|always], fstree=URL[#sha256=HEX&strip=N&setuid=keep&owner=archive] and record';

/** A line each for more near misses than this would be noise; DEBUG may be 100 kB of somebody else's words. */
const MOST_HINTS = 3;

/** True when any directive of ours was given. */
export function isOn(directives: Pick<Directives, 'verbose' | 'stayAlive' | 'fstree' | 'record'>): boolean {
  const { verbose, stayAlive, fstree, record } = directives;
  return verbose || stayAlive !== undefined || fstree.length > 0 || record;
}

/**
 * Reads the directives out of DDBG when that is set (even empty: that switches us off), else out of DEBUG.
 *
 * @throws EntryError `DDBG_BAD_DIRECTIVE` for a word of ours with a wrong value, and for any word that is not ours in DDBG.
 */
export function parseDebug(variables: DebugVariables): Directives {
  const strict = variables.DDBG !== undefined;
  const setting: Directives['setting'] = strict ? 'DDBG' : 'DEBUG';
  const text = variables.DDBG ?? variables.DEBUG ?? '';

  let verbose = false;
  let record = false;
  let stayAlive: StayAlive | undefined;
  const fstree: FstreeSource[] = [];
  const foreign: string[] = [];
  const hints: string[] = [];

  for (const { name, value, text: word } of splitWords(text)) {
    if (name === 'verbose' || name === 'record') {
      if (value !== undefined) throw bad(setting, word, `${name} takes no value`);
      if (name === 'verbose') verbose = true;
      else record = true;
    } else if (name === 'stayalive') {
      stayAlive = parseStayAlive(setting, word, value);
    } else if (name === 'fstree') {
      fstree.push(parseFstree(value ?? '', setting));
      hints.push(...swallowedWords(setting, value ?? ''));
    } else {
      const nearest = nearestWord(word);
      if (strict && word.trim() !== '') {
        const suggestion = nearest === undefined ? WAY_OUT : `did you mean '${nearest}'? ${WAY_OUT}`;
        throw bad(setting, word, 'that is no word of ours', suggestion);
      }
      foreign.push(word);
      if (nearest !== undefined) hints.push(didYouMean(setting, word, nearest));
    }
  }

  const parsed = { verbose, stayAlive, fstree, record, setting, hints: hints.slice(0, MOST_HINTS) };
  // Nothing of ours in DEBUG, or DDBG spoke instead: not a byte of DEBUG changes, white space included.
  if (strict || !isOn(parsed)) return { ...parsed, debugForCommand: variables.DEBUG };
  return { ...parsed, debugForCommand: foreign.length > 0 ? foreign.join(',') : undefined };
}

/**
 * Reads one archive's location with its options in the fragment: `https://host/a.tar.gz#sha256=HEX&strip=N`.
 *
 * @param setting the name of the setting the text came from, for the error message
 * @throws EntryError `DDBG_BAD_DIRECTIVE`
 */
export function parseFstree(text: string, setting = 'DEBUG'): FstreeSource {
  const word = `fstree=${text}`;
  const hash = text.indexOf('#');
  const location = hash < 0 ? text : text.slice(0, hash);
  if (location === '') throw bad(setting, word, 'fstree needs the URL or path of an archive');
  if (location.includes('\0')) throw bad(setting, word, 'a path cannot hold a NUL');

  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(location)?.[1]?.toLowerCase();
  if (scheme !== undefined && !['http', 'https', 'file'].includes(scheme)) {
    throw bad(setting, word, `the scheme must be http, https or file, not ${scheme}`);
  }
  // `https:/u:p@h` and white space are URLs to a lenient reader; only one form is read, so that only one must be masked.
  if (scheme !== undefined && (!/^[a-z]+:\/\/\S*$/i.test(location) || !URL.canParse(location))) {
    throw bad(setting, word, 'that is no valid URL (scheme://..., special characters as %XX)');
  }

  let sha256: string | undefined;
  let strip: number | undefined;
  let setuid: FstreeSource['setuid'];
  let owner: FstreeSource['owner'];
  for (const option of hash < 0 ? [] : text.slice(hash + 1).split('&')) {
    const [name, value = ''] = splitAtFirst(option, '=');
    if (name === 'sha256') {
      if (!/^[0-9a-f]{64}$/i.test(value)) throw bad(setting, word, '#sha256= takes 64 hex digits');
      sha256 = value.toLowerCase();
    } else if (name === 'strip') {
      if (!/^\d{1,2}$/.test(value)) throw bad(setting, word, '#strip= takes a number from 0 to 99');
      strip = Number(value);
    } else if (name === 'setuid') {
      if (value !== 'keep') throw bad(setting, word, '#setuid= takes only keep');
      setuid = value;
    } else if (name === 'owner') {
      if (value !== 'archive') throw bad(setting, word, '#owner= takes only archive');
      owner = value;
    } else {
      throw bad(setting, word, `'${option}' is no option; they are ${FSTREE_OPTIONS}, joined by &`);
    }
  }
  return {
    ...{ location, sha256, strip },
    ...(setuid === undefined ? {} : { setuid }),
    ...(owner === undefined ? {} : { owner }),
  };
}

/** What `fstree=` takes, from what `parseFstree` made of it. With the URL's secrets: mask it before it is shown. */
export function formatFstree({ location, sha256, strip, setuid, owner }: FstreeSource): string {
  const options = [
    ...(sha256 === undefined ? [] : [`sha256=${sha256}`]),
    ...(strip === undefined ? [] : [`strip=${strip}`]),
    ...(setuid === undefined ? [] : [`setuid=${setuid}`]),
    ...(owner === undefined ? [] : [`owner=${owner}`]),
  ];
  return options.length === 0 ? location : `${location}#${options.join('&')}`;
}

const FSTREE_OPTIONS = '#sha256=HEX, #strip=N, #setuid=keep and #owner=archive';

const UNIT_MS = { s: 1_000, m: 60_000, h: 3_600_000 } as const;

/** Node's timers hold 2^31-1 ms: 24 days and a bit. */
const LONGEST_MS = 24 * 24 * UNIT_MS.h;

/** `90s`, `30m`, `2h` as milliseconds; undefined for anything else, for zero, and for more than 24 days. */
export function parseDuration(text: string): number | undefined {
  const [, count, unit] = /^(\d{1,7})([smh])$/.exec(text) ?? [];
  if (count === undefined || unit === undefined) return undefined;
  const ms = Number(count) * UNIT_MS[unit as keyof typeof UNIT_MS];
  return ms > 0 && ms <= LONGEST_MS ? ms : undefined;
}

function parseStayAlive(setting: string, word: string, value: string | undefined): StayAlive {
  if (value === undefined) return { on: 'fault', limitMs: undefined };
  if (value === 'always') return { on: 'always', limitMs: undefined };
  const limitMs = parseDuration(value);
  if (limitMs === undefined) {
    throw bad(setting, word, 'stayalive takes a duration such as 90s, 30m or 2h (at most 576h), or always');
  }
  return { on: 'fault', limitMs };
}

interface SplitWord {
  readonly name: string;
  readonly value: string | undefined;
  readonly text: string;
}

/** Splits at commas, but a comma ends an `fstree=` URL only where a word of ours, or the end, follows. */
function splitWords(text: string): SplitWord[] {
  if (text === '') return [];
  const words: SplitWord[] = [];
  let url: string[] | undefined;
  const endUrl = (): void => {
    if (url === undefined) return;
    while (url.length > 1 && url.at(-1)?.trim() === '') url.pop(); // a comma before the end ends it
    const value = url.join(',').trim();
    words.push({ name: 'fstree', value, text: `fstree=${value}` });
    url = undefined;
  };
  for (const piece of text.split(',')) {
    const [name, value] = splitAtFirst(piece.trim(), '=');
    const isOurs = (WORDS as readonly string[]).includes(name);
    if (isOurs) endUrl();
    if (url !== undefined) url.push(piece);
    else if (name === 'fstree' && value !== undefined) url = [value];
    else words.push({ name, value, text: isOurs ? piece.trim() : piece });
  }
  endUrl();
  return words;
}

/** A misspelt word behind an fstree URL becomes part of the URL, and then the download fails for no visible reason. */
function swallowedWords(setting: string, url: string): string[] {
  return url
    .split(',')
    .slice(1)
    .flatMap((piece) => {
      const nearest = nearestWord(piece);
      return nearest === undefined
        ? []
        : [`${didYouMean(setting, piece, nearest)} It is read as part of the URL.`];
    });
}

function didYouMean(setting: string, word: string, nearest: Word): string {
  return `${setting} has '${maskUrls(word.trim())}': did you mean '${nearest}'?`;
}

/** The word of ours that this one misspells, if any. */
function nearestWord(text: string): Word | undefined {
  // `verbose stayalive`, `'verbose'`: a comma was meant, or a quote too many.
  const parts = text
    .trim()
    .split(/[\s;'"]+/)
    .filter((part) => part !== '');
  if (parts.length > 1 || parts[0] !== text.trim()) {
    return WORDS.find((word) => parts.some((part) => splitAtFirst(part, '=')[0] === word));
  }
  const name = splitAtFirst(text.trim(), '=')[0].toLowerCase();
  // `tree` is two letters from `fstree` and somebody's own namespace; with a value behind it, it is a misspelt fstree.
  const tolerance = name.length >= 7 || text.includes('=') ? 2 : 1;
  if (!/^[a-z_-]{1,12}$/.test(name)) return undefined; // `verbose:*` is a namespace, not a slip
  // `recorder` and `records` are somebody's own.
  return WORDS.find((word) =>
    word === 'record' ? name.length <= 6 && leven(name, word) <= 1 : leven(name, word) <= tolerance,
  );
}

function splitAtFirst(text: string, mark: string): [string, string | undefined] {
  const at = text.indexOf(mark);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + mark.length)];
}

function bad(setting: string, word: string, rule: string, hint: string = WAY_OUT): EntryError {
  // What is no URL may have its password anywhere before the last @.
  const masked = maskUrls(word.replace(/^(fstree=[a-z]+:\/*)[\s\S]*@/i, '$1***@')); // before it is cut: half a URL no longer shows where its password ends
  const shown = masked.length > 200 ? `${masked.slice(0, 200)}...` : masked;
  return new EntryError('DDBG_BAD_DIRECTIVE', `cannot read ${setting}: '${shown.trim()}': ${rule}`, { hint });
}
