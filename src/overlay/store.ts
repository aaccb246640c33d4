/**
 * The archive on its way to our own file: counted against the limit, digested, written. Everything later reads that
 * file, so that what was verified is what is unpacked.
 */
import { createHash } from 'node:crypto';
import { closeSync, constants, ftruncateSync, openSync, writeSync } from 'node:fs';
import { errnoOf, reasonOf } from '../errors.ts';
import { roomAt } from './disk.ts';
import { moveLimit } from './limits.ts';
import { refusal, type Subject } from './subject.ts';
import { bytesText } from './units.ts';

export interface Stored {
  readonly path: string;
  readonly bytes: number;
  /** lower-case hex */
  readonly sha256: string;
}

export interface Store {
  /** How many are in it; the digest is of just those. */
  readonly bytes: number;
  /** Throws DDBG_WRITE when the file system has no room for so many more, DDBG_FETCH when the limit has none. */
  reserve(bytes: number): void;
  write(chunk: Uint8Array): void;
  /** Forget what came so far: it starts again at the first byte. */
  restart(): void;
  finish(): Stored;
  close(): void;
}

const HINT = 'Give our own files a place with more room (--state-dir).';

export function openStore(path: string, limitBytes: number, subject: Subject): Store {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  const fd = attempt(subject, path, () => openSync(path, flags, 0o600));
  let hash = createHash('sha256');
  let bytes = 0;
  let open = true;
  const close = (): void => {
    if (open) closeSync(fd);
    open = false;
  };
  return {
    get bytes() {
      return bytes;
    },
    reserve(more) {
      if (bytes + more > limitBytes) throw tooLarge(subject, limitBytes);
      const free = freeBytes(path);
      if (more <= free) return;
      const why = `it needs ${bytesText(more)}, the file system of ${path} has ${bytesText(free)} left`;
      throw refusal('DDBG_WRITE', 'store', subject, why, HINT);
    },
    write(chunk) {
      if (bytes + chunk.length > limitBytes) throw tooLarge(subject, limitBytes);
      try {
        writeFully(fd, chunk, bytes);
      } catch (error) {
        throw cannotWrite(error, path, bytes, subject);
      }
      hash.update(chunk);
      bytes += chunk.length;
    },
    restart() {
      attempt(subject, path, () => ftruncateSync(fd, 0));
      hash = createHash('sha256');
      bytes = 0;
    },
    finish() {
      close();
      return { path, bytes, sha256: hash.digest('hex') };
    },
    close,
  };
}

function tooLarge(subject: Subject, limitBytes: number): Error {
  return refusal(
    'DDBG_FETCH',
    'fetch',
    subject,
    `it is larger than the limit archive-bytes, ${bytesText(limitBytes)}`,
    `Make the archive smaller: it needs only the files that differ. ${moveLimit('archive-bytes')}`,
  );
}

/** write(2) may take less than it was given. */
export function writeFully(fd: number, chunk: Uint8Array, position: number): void {
  let offset = 0;
  while (offset < chunk.length) {
    offset += writeSync(fd, chunk, offset, chunk.length - offset, position + offset);
  }
}

function freeBytes(path: string): number {
  try {
    return roomAt(path).bytes;
  } catch {
    return Number.POSITIVE_INFINITY; // some FUSE file systems have no answer: then the write says it
  }
}

function cannotWrite(error: unknown, path: string, written: number, subject: Subject): Error {
  const code = errnoOf(error);
  const why =
    code === 'ENOSPC' || code === 'EDQUOT'
      ? `${path}: ${code}, there was room for ${bytesText(written)} and the archive is larger`
      : `${path}: ${reasonOf(error)}`;
  return refusal('DDBG_WRITE', 'store', subject, why, HINT, error);
}

function attempt<T>(subject: Subject, path: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw refusal('DDBG_WRITE', 'store', subject, `${path}: ${reasonOf(error)}`, HINT, error);
  }
}
