/**
 * Our lines on stderr, one fact a line.
 *
 * Written with writeSync on the file descriptor, never through `process.stderr`: touching that makes libuv put an
 * inherited pipe into non-blocking mode, for the command as well, which shares it (measured: a command's large write
 * then fails with EAGAIN).
 */
import { fstatSync, writeSync } from 'node:fs';
import { maskUrls } from './secrets.ts';

/** Facts beside the sentence, for `DDBG_LOG=json`; the sentence alone must be enough for a person. */
export type Facts = Readonly<
  Record<string, string | number | boolean | readonly string[] | null | undefined>
>;

export interface Log {
  /** A line that whoever switched us on wants to see. */
  say(message: string, facts?: Facts): void;
  /** One of our steps, or a fact about the command: shown under `verbose` only. */
  detail(message: string, facts?: Facts): void;
  /** Something went wrong or is not as it should be. */
  warn(message: string, facts?: Facts): void;
  /** A line that the next one replaces. Shown on a terminal only; '' takes it away. */
  transient(text: string): void;
  /** True where `transient` shows anything. */
  readonly terminal: boolean;
}

export interface LogOptions {
  verbose?: boolean;
  /** One JSON object a line: `time` (ISO 8601), `level`, `message`, and the facts. Default false. */
  json?: boolean;
  /** Where whole lines go. Default: file descriptor 2, blocking. */
  write?: (text: string) => void;
  /** `\r\n` for a terminal that is raw. Default `\n`. */
  lineEnd?: string;
  /** Whether that is a terminal. Default: asks file descriptor 2 unless `write` is given. */
  terminal?: boolean;
}

export function createLog(options: LogOptions = {}): Log {
  const write = options.write ?? ((text) => void writeWhole(2, text)); // that nobody listens must never hurt the command
  const json = options.json ?? false;
  const lineEnd = options.lineEnd ?? '\n';
  const terminal = !json && (options.terminal ?? (options.write === undefined && isTerminal(2)));
  let shown = false;

  const clear = (): void => {
    if (shown) write('\r\u001b[K');
    shown = false;
  };
  const line = (level: 'info' | 'detail' | 'warn', message: string, facts: Facts = {}): void => {
    clear();
    if (json) {
      const masked = Object.fromEntries(Object.entries(facts).map(([name, fact]) => [name, maskFact(fact)]));
      const time = new Date().toISOString();
      write(`${JSON.stringify({ time, level, message: maskUrls(message), ...masked })}${lineEnd}`);
    } else {
      write(`ddbg-entry: ${printable(maskUrls(message))}${lineEnd}`);
    }
  };

  return {
    terminal,
    say: (message, facts) => line('info', message, facts),
    detail: (message, facts) => {
      if (options.verbose) line('detail', message, facts);
    },
    warn: (message, facts) => line('warn', message, facts),
    transient: (text) => {
      if (!terminal) return;
      clear();
      if (text === '') return;
      write(`ddbg-entry: ${printable(maskUrls(text))}`);
      shown = true;
    },
  };
}

function maskFact(fact: Facts[string]): Facts[string] {
  if (typeof fact === 'string') return maskUrls(fact);
  return Array.isArray(fact) ? fact.map(maskUrls) : fact;
}

/** Text from an archive, an environment or a server can hold anything: it must not start a second line or move a cursor. */
export function printable(text: string): string {
  return text.replace(
    /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g,
    (character) =>
      ({ '\n': '\\n', '\r': '\\r', '\t': '\\t' })[character] ??
      `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** Loads node:tty, and with it node:net (2 ms of a start), only where the answer may be yes. */
export function isTerminal(descriptor: number): boolean {
  try {
    if (!fstatSync(descriptor).isCharacterDevice()) return false;
  } catch {
    return false; // closed
  }
  return process.getBuiltinModule('node:tty').isatty(descriptor);
}

const sleeper = new Int32Array(new SharedArrayBuffer(4));

/**
 * Writes all of it, as to a blocking descriptor: somebody else may have made the pipe that we share non-blocking.
 *
 * @returns false where nobody reads any more (EPIPE, EBADF)
 */
export function writeWhole(descriptor: number, text: string): boolean {
  let rest = Buffer.from(text);
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(descriptor, rest));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return false;
      Atomics.wait(sleeper, 0, 0, 5);
    }
  }
  return true;
}
