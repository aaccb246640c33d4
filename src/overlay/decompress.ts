/**
 * A file on the disk as the bytes packed in it, piece by piece, and what all decompressors share. After the end of the
 * data zeros may follow (tapes and dd leave them), and nothing else.
 */
import { closeSync, createReadStream, openSync, readSync } from 'node:fs';
import type { Transform } from 'node:stream';
import { createBrotliDecompress, createGunzip } from 'node:zlib';
import { EntryError, errnoOf, reasonOf } from '../errors.ts';
import type { Reading } from './archive.ts';
import { refusal, stopIfAsked } from './subject.ts';
import { createTurns } from './turns.ts';

/** Rejects with DDBG_ARCHIVE or DDBG_ABORTED. No piece is touched again once it is out. */
export type Unpack = (path: string, reading: Reading) => AsyncIterable<Buffer>;

export const CHUNK_BYTES = 512 * 1024; // with 256 kB gunzip takes a quarter longer, with 1 MB it gains nothing (measured)

export const JOINED = 'Give the archives one by one, each with its own fstree=.';

export const plain: Unpack = (path) => createReadStream(path, { highWaterMark: CHUNK_BYTES });

export const gunzip: Unpack = (path, reading) =>
  throughZlib(path, createGunzip({ chunkSize: CHUNK_BYTES }), 'gzip', reading);

/** brotli has no checksum: what is damaged is found where it no longer decodes, or where the tar in it does not add up. */
export const unbrotli: Unpack = (path, reading) =>
  throughZlib(path, createBrotliDecompress({ chunkSize: CHUNK_BYTES }), 'brotli', reading);

async function* throughZlib(
  path: string,
  stream: Transform & { readonly bytesWritten: number },
  format: string,
  reading: Reading,
): AsyncGenerator<Buffer> {
  const source = createReadStream(path, { highWaterMark: CHUNK_BYTES });
  source.on('error', (error) => stream.destroy(error));
  try {
    // Not pipeline(): zlib ends by itself where something follows its data, and pipeline calls that a premature close.
    for await (const chunk of source.pipe(stream)) yield chunk as Buffer;
  } catch (error) {
    throw damaged(format, reading, error);
  } finally {
    source.destroy();
    stream.destroy();
  }
  // gunzip stops at the first zero after its data and does not look on; brotli wherever its data ends.
  for await (const chunk of createReadStream(path, { start: stream.bytesWritten })) {
    stopIfAsked(reading.signal, reading.subject);
    if (!isZero(chunk as Buffer)) throw somethingFollows(format, reading);
  }
}

const ZEROS = Buffer.alloc(CHUNK_BYTES);

/** Compared at once: a look at each byte takes 20 s for the 4 GB that may be padding. */
export function isZero(bytes: Buffer): boolean {
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
    const piece = bytes.subarray(at, at + CHUNK_BYTES);
    if (!piece.equals(ZEROS.subarray(0, piece.length))) return false;
  }
  return true;
}

export function damaged(format: string, reading: Reading, error: unknown): EntryError {
  if (error instanceof EntryError) return error;
  if (errnoOf(error) === 'Z_BUF_ERROR') return truncated(format, reading, error);
  const why = `its ${format} data is damaged (${reasonOf(error)})`;
  return refusal('DDBG_ARCHIVE', 'read', reading.subject, why, againHint(format), error);
}

export function truncated(format: string, reading: Reading, cause?: unknown): EntryError {
  const why = `it is truncated: the ${format} data ends too early`;
  return refusal('DDBG_ARCHIVE', 'read', reading.subject, why, againHint(format), cause);
}

export function somethingFollows(format: string, reading: Reading): EntryError {
  const why = `something follows the end of the ${format} data`;
  return refusal('DDBG_ARCHIVE', 'read', reading.subject, why, JOINED);
}

function againHint(format: string): string {
  return `Fetch it again, or make it again; ${format} -t says whether a file is whole.`;
}

/** A file from its first byte to its last, for decompressors on this thread. */
export interface Bytes {
  /** What is at hand, 1 to `most` bytes; none at the end of the file. */
  some(most: number): Buffer;
  /** So many, fewer only where the file ends. */
  upTo(count: number): Buffer;
  /** Exactly so many; throws where the file ends before. */
  take(count: number): Buffer;
  /** Puts back what was taken too much. */
  putBack(rest: Buffer): void;
  /** Zeros are padding: whether anything else follows. */
  skipZeros(): boolean;
}

/** A decompressor that works on this thread, in turns: a piece may be empty, to say that time has passed. */
export function unpackInTurns(
  format: string,
  decompress: (bytes: Bytes, reading: Reading) => Iterable<Buffer> | Promise<Iterable<Buffer>>,
): Unpack {
  return async function* (path, reading) {
    const fd = openSync(path, 'r');
    const turn = createTurns();
    try {
      for (const piece of await decompress(bytesOf(fd, format, reading), reading)) {
        yield piece;
        await turn();
        stopIfAsked(reading.signal, reading.subject);
      }
    } catch (error) {
      throw damaged(format, reading, error);
    } finally {
      closeSync(fd);
    }
  };
}

export function bytesOf(fd: number, format: string, reading: Reading): Bytes {
  let chunk: Buffer = Buffer.alloc(0);
  let at = 0;
  const some = (most: number): Buffer => {
    if (at === chunk.length) {
      stopIfAsked(reading.signal, reading.subject);
      const next = Buffer.allocUnsafe(CHUNK_BYTES);
      chunk = next.subarray(0, readSync(fd, next, 0, CHUNK_BYTES, null));
      at = 0;
    }
    const piece = chunk.subarray(at, at + most);
    at += piece.length;
    return piece;
  };
  const upTo = (count: number): Buffer => {
    const first = some(count);
    if (first.length === count || first.length === 0) return first;
    return Buffer.concat([first, upTo(count - first.length)]);
  };
  return {
    some,
    upTo,
    take(count) {
      const piece = upTo(count);
      if (piece.length < count) throw truncated(format, reading);
      return piece;
    },
    putBack(rest) {
      chunk = Buffer.concat([rest, chunk.subarray(at)]);
      at = 0;
    },
    skipZeros() {
      for (;;) {
        const piece = some(CHUNK_BYTES);
        if (piece.length === 0) return false;
        if (isZero(piece)) continue;
        at -= piece.length - piece.findIndex((byte) => byte !== 0);
        return true;
      }
    },
  };
}
