/**
 * The one error of this package. A code for programs, a sentence for people ("cannot X: why"), a hint that says the
 * way out. It names the setting, the rule and the value; URLs in it are already without secrets.
 */
import { maskUrls } from './secrets.ts';

export type ErrorCode =
  | 'DDBG_BAD_DIRECTIVE' // DEBUG or DDBG cannot be read
  | 'DDBG_BAD_USAGE' // a flag of ours is wrong, or there is no command
  | 'DDBG_FETCH' // the archive could not be had
  | 'DDBG_DIGEST' // the archive is not the one that was asked for
  | 'DDBG_ARCHIVE' // the archive cannot be read, or not exactly
  | 'DDBG_UNSAFE' // the archive holds something we refuse to write
  | 'DDBG_ROOT' // the root is not ours to change
  | 'DDBG_WRITE' // the file system refused
  | 'DDBG_STATE' // no directory for our own files
  | 'DDBG_RECORD' // the output cannot be recorded
  | 'DDBG_INSTALL' // the native init could not be put into place
  | 'DDBG_ABORTED'; // a stop was asked for meanwhile

export class EntryError extends Error {
  override readonly name = 'EntryError';
  readonly code: ErrorCode;
  /** What to do about it, one sentence; undefined where the message says it all. */
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(maskUrls(message), options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint === undefined ? undefined : maskUrls(options.hint);
  }
}

/** The short reason in anything that was thrown, for the end of a sentence: system errors by code and meaning. */
export function reasonOf(thrown: unknown): string {
  if (!(thrown instanceof Error)) return String(thrown);
  if (thrown instanceof AggregateError && thrown.message === '' && thrown.errors.length > 0) {
    // Node's connect to a name with several addresses: the message is empty, the reasons are inside.
    return [...new Set(thrown.errors.map(reasonOf))].join('; ');
  }
  return maskUrls(thrown.message || (thrown as NodeJS.ErrnoException).code || thrown.name);
}

export function errnoOf(thrown: unknown): string | undefined {
  const code = (thrown as NodeJS.ErrnoException | undefined)?.code;
  return typeof code === 'string' ? code : undefined;
}
