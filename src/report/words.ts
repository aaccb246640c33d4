/**
 * What a command's last words say, where they say it in the ways of shells, libc, Node, Python, Java, Go, Rust and Ruby.
 * Words are only a claim: whether the facts agree is asked in verdict.ts. Pure.
 */

/** A line of output. */
export interface Word {
  readonly text: string;
  /** From the line to the command's end; undefined: not known. */
  readonly msBeforeEnd: number | undefined;
  /** By which it came; undefined: not known. */
  readonly stream?: string | undefined;
}

export type Claim =
  /** `address`: as the line has it. */
  | { readonly kind: 'port-in-use'; readonly port: number | undefined }
  | { readonly kind: 'disk-full' | 'read-only' | 'permission'; readonly path: string | undefined }
  | { readonly kind: 'name-not-resolved'; readonly name: string | undefined }
  | { readonly kind: 'library-missing'; readonly name: string }
  | { readonly kind: 'not-found'; readonly name: string }
  | { readonly kind: 'descriptors' | 'fork-refused' | 'timeout' | 'heap-limit' };

export interface Statement {
  readonly claim: Claim;
  /** The line that says it. */
  readonly line: string;
}

/** An exception that ended the program, as its runtime prints it. */
export interface UncaughtException {
  readonly runtime: 'Node' | 'Python' | 'Java' | 'Go' | 'Rust' | 'Ruby' | '.NET' | 'C++';
  /** `TypeError: x is not a function`. */
  readonly line: string;
  /** `/app/server.js:12`; undefined where it is not told. */
  readonly place: string | undefined;
}

export interface LastWords {
  /** The last line that tells something; undefined: none was said near the end. */
  readonly line: string | undefined;
  /** From that line to the command's end; undefined: not known. */
  readonly msBeforeEnd: number | undefined;
  /** The latest first. */
  readonly statements: readonly Statement[];
  /** What was claimed before a later line that tells of another trouble: survived, as it seems. */
  readonly overruled: readonly Statement[];
  readonly exception: UncaughtException | undefined;
}

/** What was said longer before the end is not why it ended. */
const NEAR_END_MS = 5_000;
const MOST_LINES = 200;
/** Only these, of the lines that tell something, are taken for a reason: what stands before them was survived. */
const TELLING_LINES = 3;

export function readLastWords(output: readonly Word[]): LastWords {
  const words = output
    .filter(({ msBeforeEnd }) => msBeforeEnd === undefined || msBeforeEnd <= NEAR_END_MS)
    .slice(-MOST_LINES)
    .map((word) => ({ ...word, text: word.text.replace(/\u001b\[[\d;?]*[A-Za-z]/g, '').trimEnd() }))
    .filter(({ text }) => text !== '' && !isTrace(text));
  const lines = words.map(({ text }) => text);
  const telling = orderInDoubt(words.filter(({ text }) => !isBesideThePoint(text)));
  const exception = readException(lines);
  return {
    line: exception?.line ?? telling.at(-1)?.text,
    msBeforeEnd: telling.at(-1)?.msBeforeEnd,
    ...readStatements(
      telling.slice(-TELLING_LINES).map(({ text }) => text),
      lines.join('\n'),
    ),
    exception,
  };
}

/** Two pipes are read: which of two lines came first is not known so closely. */
const SAME_MOMENT_MS = 20;

/** In doubt a claim was followed by the other trouble of that moment, and decides nothing. */
function orderInDoubt(words: readonly Word[]): readonly Word[] {
  const [one, other] = words.slice(-2);
  if (one === undefined || other === undefined || one.stream === other.stream) return words;
  const apartMs = Math.abs((one.msBeforeEnd ?? 0) - (other.msBeforeEnd ?? 0));
  const isInDoubt = apartMs <= SAME_MOMENT_MS && readClaim(other.text, '') !== undefined;
  const isOtherTrouble = isTrouble(one.text) && readClaim(one.text, '') === undefined;
  return isInDoubt && isOtherTrouble ? [...words.slice(0, -2), other, one] : words;
}

/** What a shell with -x writes: our own trace (process/trace.ts) and everybody's. */
function isTrace(line: string): boolean {
  return /^\++ |^\++\S+:\d+> /.test(line);
}

function readStatements(
  lines: readonly string[],
  around: string,
): Pick<LastWords, 'statements' | 'overruled'> {
  const statements: Statement[] = [];
  const overruled: Statement[] = [];
  let isOverruled = false;
  for (const line of lines.toReversed()) {
    const claim = isSurvived(line) ? undefined : readClaim(line, around);
    if (claim !== undefined) (isOverruled ? overruled : statements).push({ claim, line: line.trim() });
    else if (isTrouble(line)) isOverruled = true;
  }
  return { statements, overruled };
}

/** A line that tells of a failure of its own, and does not merely pass one on. */
function isTrouble(line: string): boolean {
  return TROUBLE.test(line.replace(/\b(0|no|without) (errors?|failures?)\b/gi, '')) && !PASSES_ON.test(line);
}

const TROUBLE =
  /\b(fail(s|ed|ures?)?|errors?|fatal|critical|panic|exception|cannot|can['’]t|could ?n[o'’]t|could not|unable|invalid|bad|wrong|malformed|corrupt(ed)?|expired|refused|rejected|denied|missing|unexpected|illegal|unsupported|unknown|unauthori[sz]ed|forbidden|not (found|allowed|supported|valid|configured|set))\b/i;
const PASSES_ON =
  /^npm (ERR!|error)|\*\*\* .*\bError \d+$|\b(exit(ed)?|return(ed|s)?|status|code)\b.*\b(code|status|non-zero)\b|ELIFECYCLE|Command failed|configuration file \S+ test failed$/i;

/** Frames of a stack, the properties of an error object, the source line with its caret, the runtime's own trailer. */
function isBesideThePoint(line: string): boolean {
  return (
    /^\s+(at |\.\.\. \d+ (more|lines)|File "|from )/.test(line) ||
    /^\s+(errno|code|syscall|address|port|path|dest|hostname|fatalException|\[?cause\]?|stdio|spawnargs|[a-z]\w*): .*,?$/i.test(
      line,
    ) ||
    /^\s*[\^~]+\s*$/.test(line) ||
    /^[{}\]]?[,;]?\s*$/.test(line) ||
    /^Node\.js v\d|^Emitted '\w+' event (on|at)/.test(line) ||
    /^(node:\S+|\/\S+|file:\S+):\d+$/.test(line) ||
    /^goroutine \d+ \[|^exit status \d+$|^note: run with `RUST_BACKTRACE/.test(line) ||
    /^\s+(throw |return |raise )/.test(line) ||
    /^\d+\+\d+ records (in|out)$|^\d+ bytes .*copied/.test(line) || // dd's farewell
    /^\s*\d+: 0x[0-9a-f]+ |^-+ (Native|JS) stack trace -+$|^<--- .* --->$/.test(line)
  );
}

/** A line that says that it goes on. bash tries a fork again eight times, and gives up then. */
function isSurvived(line: string): boolean {
  if (/\bfork: retry: /.test(line)) return false;
  return /\brespawn|\brestarting\b|\bwarn(ing)?\b|\bretry|\btrying (again|another|next|\d)|\bignor(ed|ing)\b|\bfall(s|ing)? ?back|\bskipp(ed|ing)\b|\binstead\b/i.test(
    line,
  );
}

const PORT = /EADDRINUSE|address already in use|address in use|port \d+ (is|was) already (in use|allocated)/i;
const DISK = /ENOSPC|no space left on device/i;
const READ_ONLY = /EROFS|read-only file system/i;
const PERMISSION = /EACCES|permission denied/i;
const DESCRIPTORS = /EMFILE|too many open files(?! in system)/i;
const FORK =
  /fork\b.*(resource temporarily unavailable|interrupted system call)|(cannot|can't|unable to) fork|spawn \S+ EAGAIN|unable to create (new )?native thread|can't start new thread|pthread_create failed|resource temporarily unavailable.*(thread|process)|failed to create new OS thread/i;
const TIMEOUT = /ETIMEDOUT|time[ds]? ?out\b|deadline ?exceeded/i;
const HEAP =
  /JavaScript heap out of memory|java\.lang\.OutOfMemoryError: (Java heap space|GC overhead)|Terminating due to java\.lang\.OutOfMemoryError/;

function readClaim(line: string, around: string): Claim | undefined {
  if (PORT.test(line)) return { kind: 'port-in-use', port: readPort(line) ?? readPort(around) };
  if (DISK.test(line) && !/watch/i.test(line)) return { kind: 'disk-full', path: readPath(line, DISK) };
  if (READ_ONLY.test(line)) return { kind: 'read-only', path: readPath(line, READ_ONLY) };
  if (PERMISSION.test(line)) return { kind: 'permission', path: readPath(line, PERMISSION) };
  if (DESCRIPTORS.test(line)) return { kind: 'descriptors' };
  if (FORK.test(line)) return { kind: 'fork-refused' };
  if (HEAP.test(line)) return { kind: 'heap-limit' };
  return (
    readLibrary(line) ??
    readNotFound(line) ??
    readName(line) ??
    (TIMEOUT.test(line) ? { kind: 'timeout' } : undefined)
  );
}

function readPort(text: string): number | undefined {
  const found =
    /(?:EADDRINUSE|in use)\D{0,3}(?:[\w.*:[\]]*?:)?:?(\d{2,5})\b/i.exec(text) ??
    /\bport["']?[\s:=]+(\d{2,5})\b/i.exec(text) ??
    /[\s\d*\]a-z]:(\d{2,5})\b(?=.*in use)/i.exec(text);
  const port = Number(found?.[1]);
  return port > 0 && port < 65_536 ? port : undefined;
}

/** The path that a message of the system is about: quoted, or in front of it, or behind it. */
function readPath(line: string, phrase: RegExp): string | undefined {
  const at = line.search(phrase);
  const [before, after] = [line.slice(0, at), line.slice(at)];
  const quoted = /['"‘“`]([^'"’”`]+)['"’”`]/;
  const behind = quoted.exec(after)?.[1] ?? /:\s(\/[^\s:'"]+)\s*$/.exec(after)?.[1];
  if (behind !== undefined) return behind;
  const inQuotes = [...before.matchAll(new RegExp(quoted, 'g'))].at(-1)?.[1];
  if (inQuotes !== undefined) return inQuotes;
  const last = /([^\s:'"()]+)['"]?\s?[:(]\s?$/.exec(before)?.[1];
  if (last !== undefined && !/[./]/.test(last)) return undefined; // `Error: EACCES: ...`, `sh: 1: Permission denied`
  return last ?? [...before.matchAll(/\/[^\s:'"()]+/g)].at(-1)?.[0];
}

function readLibrary(line: string): Claim | undefined {
  const name =
    /([\w.+-]+\.so[\w.]*): cannot open shared object file/.exec(line)?.[1] ??
    /Error loading shared library ([\w.+-]+\.so[\w.]*):/.exec(line)?.[1];
  return name === undefined ? undefined : { kind: 'library-missing', name };
}

function readNotFound(line: string): Claim | undefined {
  const name =
    /(?:^|: )([^\s:]+): (?:command )?not found$/.exec(line)?.[1] ??
    /^(?:\/usr\/bin\/)?env: [‘'"]?([^\s:’'"]+?)(?:\\r)?[’'"]?: No such file or directory$/.exec(line)?.[1] ??
    /exec: "([^"]+)": executable file not found/.exec(line)?.[1] ??
    /(?:^|: )([^\s:]+): [^:]*: bad interpreter/.exec(line)?.[1] ??
    /(?:^|: )([^\s:]+): cannot execute: required file not found$/.exec(line)?.[1] ??
    /(?:^|: )(\/[^\s:]+|\.\.?\/[^\s:]+): (?:No such file or directory|cannot execute binary file.*|Exec format error)$/.exec(
      line,
    )?.[1] ??
    /spawn (\S+) ENOENT/.exec(line)?.[1];
  return name === undefined ? undefined : { kind: 'not-found', name };
}

function readName(line: string): Claim | undefined {
  const NAME = '[\'"‘“`]?([A-Za-z0-9][\\w.-]*\\w)';
  const named = [
    `(?:ENOTFOUND|EAI_AGAIN) ${NAME}`,
    `could not resolve host(?:name)?:? ${NAME}`,
    `lookup ${NAME}(?: on \\S+)?: (?:no such host|server misbehaving|Temporary failure|.*i/o timeout)`,
    `UnknownHostException: ${NAME}`,
    `could not translate host name ${NAME}`,
    `bad address ${NAME}`,
    `unable to resolve host address ${NAME}`,
    `^(?:[\\w./-]+: )?${NAME}: (?:Name or service not known|Temporary failure in name resolution|Name does not resolve)`,
  ];
  for (const pattern of named) {
    const name = new RegExp(pattern, 'i').exec(line)?.[1];
    if (name !== undefined && !/error$/i.test(name)) return { kind: 'name-not-resolved', name };
  }
  const isSaid =
    /Name or service not known|Temporary failure in name resolution|nodename nor servname|Name does not resolve/.test(
      line,
    );
  return isSaid ? { kind: 'name-not-resolved', name: undefined } : undefined;
}

/** So many lines may follow the trace: the words of a shell or a package manager that passes the failure on. */
const LINES_AFTER = 4;

/** The exception that nobody caught, when it is what the output ends with. */
function readException(lines: readonly string[]): UncaughtException | undefined {
  for (const read of [readNode, readPython, readJava, readGo, readRust, readRuby, readDotNet, readCpp]) {
    const exception = read(lines);
    if (exception !== undefined) return exception;
  }
  return undefined;
}

function lastIndex(lines: readonly string[], pattern: RegExp): number {
  return lines.findLastIndex((line) => pattern.test(line));
}

function isAtEnd(lines: readonly string[], at: number): boolean {
  return at >= 0 && lines.length - 1 - at <= LINES_AFTER;
}

/** Only what nobody caught is followed by the runtime's version (Node 17 and later). */
function readNode(lines: readonly string[]): UncaughtException | undefined {
  const trailer = lastIndex(lines, /^Node\.js v\d+\./);
  if (!isAtEnd(lines, trailer)) return undefined;
  const start = lines.slice(0, trailer).findLastIndex((line) => /^(\S+):\d+$/.test(line));
  const block = lines.slice(Math.max(start, 0), trailer);
  const line =
    block.find(
      (one) =>
        /^(Uncaught )?[A-Za-z_$][\w$.]*(Error|Exception)?( \[\w+\])?(: .*)?$/.test(one) &&
        /Error|Exception|^Uncaught/.test(one),
    ) ??
    block.find((one, at) => at > 0 && /^(Error|Uncaught|Thrown)/.test(one)) ??
    block.find((one, at) => at > 2 && !isBesideThePoint(one));
  if (line === undefined) return undefined;
  const frame = block
    .map((one) => /^\s+at (?:.*\()?((?:file:\/\/)?\/[^()]*:\d+):\d+\)?$/.exec(one)?.[1])
    .find(Boolean);
  const header = /^(?!node:)(\S+:\d+)$/.exec(block[0] ?? '')?.[1];
  return { runtime: 'Node', line: line.trim(), place: header ?? frame };
}

function readPython(lines: readonly string[]): UncaughtException | undefined {
  const start = lastIndex(lines, /^Traceback \(most recent call last\):$/);
  if (start < 0) return undefined;
  if (/\b(ERROR|CRITICAL|WARNING)\b/.test(lines[start - 1] ?? '')) return undefined; // a logger wrote it
  const length = lines.slice(start + 1).findIndex((line) => /^\S/.test(line));
  const line = lines[start + 1 + length];
  if (
    length < 0 ||
    line === undefined ||
    !/^[\w.]+(: .*)?$/.test(line) ||
    !isAtEnd(lines, start + 1 + length)
  )
    return undefined;
  const frames = [
    ...lines
      .slice(start, start + 1 + length)
      .join('\n')
      .matchAll(/^ {2}File "([^"]+)", line (\d+)/gm),
  ];
  const [, file, number] = frames.at(-1) ?? [];
  return { runtime: 'Python', line, place: file === undefined ? undefined : `${file}:${number}` };
}

function readJava(lines: readonly string[]): UncaughtException | undefined {
  const start = lastIndex(lines, /^Exception in thread "main" /);
  if (start < 0) return undefined;
  const rest = lines.slice(start + 1);
  const trace = rest.findIndex((line) => !/^\s+(at |\.\.\. )|^Caused by: /.test(line));
  if (!isAtEnd(lines, trace < 0 ? lines.length - 1 : start + trace)) return undefined;
  const line = (lines[start] ?? '').replace(/^Exception in thread "main" /, '');
  const place = /^\s+at .*\(([^()]+:\d+)\)$/.exec(rest.find((one) => /\([^()]+:\d+\)$/.test(one)) ?? '')?.[1];
  return { runtime: 'Java', line, place };
}

function readGo(lines: readonly string[]): UncaughtException | undefined {
  const start = lastIndex(lines, /^(panic|fatal error): /);
  const goroutine = lines.findIndex((line, at) => at > start && /^goroutine \d+ /.test(line));
  if (start < 0 || goroutine < 0) return undefined;
  const place = /^\t(\S+\.go:\d+)/.exec(
    lines.slice(goroutine).find((line) => /^\t\S+\.go:\d+/.test(line)) ?? '',
  )?.[1];
  return { runtime: 'Go', line: lines[start] ?? '', place };
}

function readRust(lines: readonly string[]): UncaughtException | undefined {
  const start = lastIndex(lines, /^thread '[^']*'(?: \(\d+\))? panicked at /);
  if (!isAtEnd(lines, start)) return undefined;
  const place = /panicked at (?:'.*', )?(\S+?:\d+):\d+:?$/.exec(lines[start] ?? '')?.[1];
  return { runtime: 'Rust', line: lines[start + 1] ?? lines[start] ?? '', place };
}

function readRuby(lines: readonly string[]): UncaughtException | undefined {
  const pattern = /^(\S+\.rb:\d+):in [`'].*': (.*) \(([A-Z][\w:]*)\)$/;
  const start = lastIndex(lines, pattern);
  const [, place, message, name] = pattern.exec(lines[start] ?? '') ?? [];
  if (name === undefined || lines.slice(start + 1).some((line) => !/^\s+from /.test(line))) return undefined;
  return { runtime: 'Ruby', line: `${name}: ${message}`, place };
}

function readDotNet(lines: readonly string[]): UncaughtException | undefined {
  const start = lastIndex(lines, /^Unhandled exception\. /);
  if (start < 0) return undefined;
  const place = /in (\S+):line (\d+)/.exec(lines.slice(start).join('\n'));
  return {
    runtime: '.NET',
    line: (lines[start] ?? '').replace(/^Unhandled exception\. /, ''),
    place: place === null ? undefined : `${place[1]}:${place[2]}`,
  };
}

function readCpp(lines: readonly string[]): UncaughtException | undefined {
  const start = lastIndex(lines, /^terminate called after throwing an instance of '/);
  if (!isAtEnd(lines, start)) return undefined;
  const name = /'(.*)'/.exec(lines[start] ?? '')?.[1] ?? '';
  const what = /^\s+what\(\):\s+(.*)$/.exec(lines[start + 1] ?? '')?.[1];
  return { runtime: 'C++', line: what === undefined ? name : `${name}: ${what}`, place: undefined };
}
