/**
 * What ddbg-record has kept of a command's output, as lines. init/record.c says how the files are laid out.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { attempt } from '../attempt.ts';

/** A terminal is one stream: nobody could tell there what came by which. */
export const STREAMS = ['stdout', 'stderr', 'terminal'] as const;
export type Stream = (typeof STREAMS)[number];

export interface OutputLine {
  /** When its first byte came, milliseconds since 1970 with fractions. Never less than that of the stream's line before. */
  readonly atMs: number;
  /** Where stdout and stderr were one file, both are `stdout`. */
  readonly stream: Stream;
  /** Without its line end. What is no UTF-8 is U+FFFD. */
  readonly text: string;
}

/** Bytes of a line that is longer than anybody reads: it comes in pieces of that length, none of them half a character. */
const LONGEST_LINE = 16 * 1024;

/** As init/record.c has them. */
const HEAD_BYTES = 4096;
const STAMP_BYTES = 16;
const MAGIC = 'ddbgrec1';

/**
 * The last of what the command wrote, its streams merged by time. A line that has lost its front is left out.
 *
 * @param directory the recording's: `output` in the state directory
 * @param last so many lines at the most, the last ones; what it costs grows with them. Default: all, a megabyte a stream
 * @returns nothing where nothing is recorded
 */
export function readRecorded(directory: string, last = Number.POSITIVE_INFINITY): readonly OutputLine[] {
  const lines = STREAMS.flatMap((stream) => linesOf(join(directory, stream), stream, last));
  const merged = lines.sort((one, other) => one.atMs - other.atMs); // stable: the order of a stream is kept
  return last === Number.POSITIVE_INFINITY ? merged : merged.slice(Math.max(0, merged.length - last));
}

/** The INT or QUIT that was typed last, and when, by CLOCK_MONOTONIC. */
export function typedOf(directory: string): { signal: number; atNs: bigint } | undefined {
  return withFile(join(directory, 'terminal'), (read) => {
    const head = readHead(read);
    if (head === undefined || head.typed === 0) return undefined;
    return { signal: head.typed, atNs: head.typedAtNs };
  });
}

type Read = (position: number, length: number) => Buffer;

interface Head {
  readonly kept: number;
  readonly room: number;
  readonly stamps: number;
  /** Bytes that came, in all. */
  readonly position: number;
  /** Stamps in all. */
  readonly stamped: number;
  readonly typed: number;
  readonly typedAtNs: bigint;
}

/** Undefined where there is no such file. */
function withFile<T>(file: string, use: (read: Read) => T): T | undefined {
  const descriptor = attempt(() => openSync(file, 'r'));
  if (descriptor === undefined) return undefined;
  try {
    return use((position, length) => {
      const bytes = Buffer.alloc(length);
      return bytes.subarray(0, readSync(descriptor, bytes, 0, length, position));
    });
  } finally {
    closeSync(descriptor);
  }
}

function readHead(read: Read): Head | undefined {
  const bytes = read(0, 64);
  if (bytes.length < 64 || bytes.toString('latin1', 0, 8) !== MAGIC) return undefined;
  const number = (at: number): number => Number(bytes.readBigUInt64LE(at));
  return {
    kept: number(8),
    room: number(16),
    stamps: number(24),
    position: number(32),
    stamped: number(40),
    typed: number(48),
    typedAtNs: bytes.readBigUInt64LE(56),
  };
}

function linesOf(file: string, stream: Stream, last: number): OutputLine[] {
  const found = withFile(file, (read) => {
    const head = readHead(read);
    if (head === undefined) return undefined;
    const kept = readKept(read, head);
    const timeOf = readTimes(read, head);
    return cut(kept.bytes, kept.isWhole, last).map(
      ({ at, text }): OutputLine => ({ atMs: timeOf(kept.position + at), stream, text }),
    );
  });
  return found ?? [];
}

interface Kept {
  readonly bytes: Buffer;
  /** Of the first byte. */
  readonly position: number;
  /** The stream's beginning is there. */
  readonly isWhole: boolean;
}

/** The recorder may be at it: what it has written over meanwhile is left out. */
function readKept(read: Read, head: Head): Kept {
  const bytesAt = HEAD_BYTES + STAMP_BYTES * head.stamps;
  const length = Math.min(head.position, head.kept);
  const from = (head.position - length) % head.room;
  const front = Math.min(length, head.room - from);
  const bytes = Buffer.concat([read(bytesAt + from, front), read(bytesAt, length - front)]);
  const written = (readHead(read)?.position ?? head.position) - head.position;
  const lost = Math.min(written, length);
  const position = head.position - length + lost;
  return { bytes: bytes.subarray(lost), position, isWhole: position === 0 };
}

/** Says when the byte of that position came. */
function readTimes(read: Read, head: Head): (position: number) => number {
  const count = Math.min(head.stamped, head.stamps);
  const bytes = read(HEAD_BYTES, STAMP_BYTES * Math.min(head.stamps, head.stamped));
  const at = (rank: number): number => ((head.stamped - count + rank) % head.stamps) * STAMP_BYTES;
  const positionOf = (rank: number): number => Number(bytes.readBigUInt64LE(at(rank)));
  return (position) => {
    let low = 0; // the last stamp at or before the position; the first one where all are behind it
    let high = count - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (positionOf(middle) <= position) low = middle;
      else high = middle - 1;
    }
    return count === 0 ? 0 : Number(bytes.readBigUInt64LE(at(low) + 8)) / 1e6;
  };
}

const NEWLINE = 0x0a;

/** Lines with where they begin. The first is left out where its front is missing. */
function cut(bytes: Buffer, isWhole: boolean, last: number): { at: number; text: string }[] {
  const lines: { at: number; text: string }[] = [];
  let at = startOf(bytes, isWhole, last);
  while (at < bytes.length) {
    const newline = bytes.indexOf(NEWLINE, at);
    const end = newline < 0 ? bytes.length : newline;
    const next = end - at > LONGEST_LINE ? characterStart(bytes, at + LONGEST_LINE) : end;
    lines.push({ at, text: bytes.toString('utf8', at, next).replace(/\r+$/, '') });
    at = next === end ? end + 1 : next;
  }
  return lines;
}

function startOf(bytes: Buffer, isWhole: boolean, last: number): number {
  let at = last === Number.POSITIVE_INFINITY ? 0 : bytes.length;
  for (let count = 0; at > 0 && count < last; count += 1) {
    at = at < 2 ? 0 : bytes.lastIndexOf(NEWLINE, at - 2) + 1;
  }
  if (at > 0 || isWhole) return at;
  const second = bytes.indexOf(NEWLINE) + 1;
  return second === bytes.length ? 0 : second; // one endless line: its end is better than nothing
}

/** At or before it, where a character of UTF-8 begins; somewhere, where it is none. */
function characterStart(bytes: Buffer, at: number): number {
  for (let back = 0; back < 4; back += 1) {
    if (((bytes[at - back] ?? 0) & 0xc0) !== 0x80) return at - back;
  }
  return at;
}
