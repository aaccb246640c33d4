/** An archive that is a file here: copied into our own directory, because the original may change while we read it twice. */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { errnoOf, reasonOf } from '../errors.ts';
import type { Store } from './store.ts';
import { refusal, type Subject, stopIfAsked } from './subject.ts';

const CHUNK_BYTES = 1024 * 1024;

export async function copyLocal(
  location: string,
  store: Store,
  subject: Subject,
  signal: AbortSignal | undefined,
): Promise<void> {
  const path = pathOf(location, subject);
  // O_NONBLOCK: to open a FIFO without a writer would otherwise wait for ever.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((error: unknown) => {
    throw unreadable(error, subject);
  });
  try {
    await refuseOddFile(file, path, subject);
    const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
    for (;;) {
      stopIfAsked(signal, subject);
      const { bytesRead } = await file.read(buffer, 0, CHUNK_BYTES, null).catch((error: unknown) => {
        throw unreadable(error, subject);
      });
      if (bytesRead === 0) return;
      store.write(buffer.subarray(0, bytesRead));
    }
  } finally {
    await file.close();
  }
}

function pathOf(location: string, subject: Subject): string {
  if (!/^file:/i.test(location)) return location;
  try {
    return fileURLToPath(location);
  } catch (error) {
    const hint = 'A file URL has three slashes: file:///path/to/patch.tgz.';
    throw refusal('DDBG_FETCH', 'read', subject, reasonOf(error), hint, error);
  }
}

async function refuseOddFile(file: FileHandle, path: string, subject: Subject): Promise<void> {
  const stat = await file.stat();
  if (stat.isFile()) return;
  const kind = stat.isDirectory()
    ? 'a directory'
    : stat.isFIFO()
      ? 'a FIFO'
      : stat.isSocket()
        ? 'a socket'
        : 'a device';
  const hint = stat.isDirectory()
    ? `Pack it: tar -C ${path} -czf patch.tgz .`
    : 'Name a tar, tar.gz or zip file.';
  throw refusal('DDBG_FETCH', 'read', subject, `${path} is ${kind}, not a file`, hint);
}

function unreadable(error: unknown, subject: Subject): Error {
  const hint =
    errnoOf(error) === 'ENOENT'
      ? `The path is one inside the container, seen from ${process.cwd()}; mount the file with -v.`
      : undefined;
  return refusal('DDBG_FETCH', 'read', subject, reasonOf(error), hint, error);
}
