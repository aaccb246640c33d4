/**
 * When half a file may be gone on with. Two halves of different files must never be joined, and a file without a digest
 * has nothing but this to hold them together: a strong ETag, the same one twice, at the same place.
 */
import type { IncomingHttpHeaders } from 'node:http';

/** What the answer that a download began with said of the whole file. */
export interface Begun {
  readonly etag: string;
  /** Without the query: a redirect may sign it anew each time. */
  readonly place: string;
  readonly totalBytes: number | undefined;
}

/** Of a 200; undefined where nothing says that a second answer is of the same bytes. */
export function beginning(url: URL, headers: IncomingHttpHeaders): Begun | undefined {
  const { etag } = headers;
  // A weak one, W/"...", is for files that mean the same: RFC 9110, 8.8.1.
  if (etag === undefined || !/^"[^"]+"$/.test(etag)) return undefined;
  return { etag, place: placeOf(url), totalBytes: lengthOf(headers) };
}

/** None where it is to start at the first byte. An ETag tells the versions of one place apart, not two places. */
export function rangeHeaders(begun: Begun | undefined, url: URL, bytes: number): Record<string, string> {
  if (begun === undefined || bytes === 0 || placeOf(url) !== begun.place) return {};
  return { range: `bytes=${bytes}-`, 'if-range': begun.etag };
}

/** Whether a 206 is the rest of what we have, all of it. */
export function continues(headers: IncomingHttpHeaders, begun: Begun, bytes: number): boolean {
  const [, from, to, total] =
    /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15})$/i.exec(headers['content-range'] ?? '') ?? [];
  return (
    headers.etag === begun.etag &&
    Number(from) === bytes &&
    Number(to) === Number(total) - 1 &&
    (begun.totalBytes === undefined || begun.totalBytes === Number(total))
  );
}

export function totalOfRange(headers: IncomingHttpHeaders): number {
  return Number(/\d+$/.exec(headers['content-range'] ?? '')?.[0]);
}

export function lengthOf(headers: IncomingHttpHeaders): number | undefined {
  const length = headers['content-length'];
  return length !== undefined && /^\d{1,15}$/.test(length) ? Number(length) : undefined;
}

function placeOf(url: URL): string {
  return url.origin + url.pathname;
}
