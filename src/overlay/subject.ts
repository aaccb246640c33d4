/** Whose overlay it is, for every sentence about it, and the one question each loop asks: shall we go on? */
import { EntryError, type ErrorCode } from '../errors.ts';
import { maskUrls } from '../secrets.ts';

/** The setting as it may be shown: `fstree=https://***@host/patch.tgz`. */
export type Subject = string;

export function subjectOf(location: string): Subject {
  return `fstree=${maskUrls(location)}`;
}

export function refusal(
  code: ErrorCode,
  doing: string,
  subject: Subject,
  why: string,
  hint?: string,
  cause?: unknown,
): EntryError {
  return new EntryError(code, `cannot ${doing} ${subject}: ${why}`, {
    ...(hint === undefined ? {} : { hint }),
    ...(cause === undefined ? {} : { cause }),
  });
}

export function stopped(subject: Subject): EntryError {
  return refusal('DDBG_ABORTED', 'finish', subject, 'a stop was asked for');
}

export function stopIfAsked(signal: AbortSignal | undefined, subject: Subject): void {
  if (signal?.aborted) throw stopped(subject);
}
