/**
 * The archive on its way to our own file: counted against the limit, digested, written. Everything later reads that
 * file, so that what was verified is what is unpacked.
 */
import { createHash } from 'node:crypto';
import { closeSync, constants, ftruncateSync, openSync, writeSync } from 'node:fs';
import { reasonOf } from '../errors.ts';
import { refusal, type Subject } from './subject.ts';
import { bytesText } from './units.ts';

export interface Stored {
  readonly path: string;
  readonly bytes: number;
  /** lower-case hex */
  readonly sha256: string;
}

export interface Store {
  readonly bytes: number;
  write(chunk: Uint8Array): void;
  /** Forget what came so far: a retry starts at the first byte. */
  restart(): void;
  finish(): Stored;
  close(): void;
}

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
    write(chunk) {
      bytes += chunk.length;
      if (bytes > limitBytes) throw tooLarge(subject, limitBytes);
      hash.update(chunk);
      attempt(subject, path, () => writeFully(fd, chunk, bytes - chunk.length));
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

export function tooLarge(subject: Subject, limitBytes: number): Error {
  return refusal(
    'DDBG_FETCH',
    'fetch',
    subject,
    `it is larger than the limit archiveBytes, ${bytesText(limitBytes)}`,
    'Make the archive smaller: it needs only the files that differ.',
  );
}

/** write(2) may take less than it was given. */
export function writeFully(fd: number, chunk: Uint8Array, position: number): void {
  let offset = 0;
  while (offset < chunk.length) {
    offset += writeSync(fd, chunk, offset, chunk.length - offset, position + offset);
  }
}

function attempt<T>(subject: Subject, path: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    const hint = 'Give our own files a place with more room (--state-dir).';
    throw refusal('DDBG_WRITE', 'store', subject, `${path}: ${reasonOf(error)}`, hint, error);
  }
}
