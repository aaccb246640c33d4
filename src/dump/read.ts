/**
 * Reads /proc so that nothing that may not be read, or is gone meanwhile, ends the look: it is noted once, with its reason.
 */
import { closeSync, openSync, readdirSync, readlinkSync, readSync } from 'node:fs';
import { errnoOf } from '../errors.ts';
import { decodeName } from '../overlay/octets.ts';

export interface Reader {
  /**
   * A small file whole, up to 64 kB; undefined where it cannot be read.
   *
   * @param what what a person calls it, for the note; undefined: a failure means nothing
   */
  bytes(file: string, what?: string): Buffer | undefined;
  /** The same as text: bytes that are no UTF-8 as src/overlay/octets.ts has them. */
  text(file: string, what?: string): string | undefined;
  /** A file of any size. */
  whole(file: string, what?: string): string | undefined;
  link(file: string, what?: string): string | undefined;
  list(directory: string, what?: string): readonly string[] | undefined;
  note(what: string, error: unknown): void;
  /** What could not be read, and the code of the reason: EACCES, EPERM, ETIMEDOUT... What is gone is not noted. */
  readonly refused: ReadonlyMap<string, string>;
}

/** node:fs would take a new buffer of 64 kB for each file in /proc, whose sizes are all 0. */
const buffer = Buffer.allocUnsafeSlow(64 * 1024);

const GONE = ['ENOENT', 'ESRCH', 'ENOTDIR'];

export function createReader(): Reader {
  const refused = new Map<string, string>();
  const note = (what: string | undefined, error: unknown): undefined => {
    const code = errnoOf(error) ?? String(error);
    if (what !== undefined && !GONE.includes(code) && !refused.has(what)) refused.set(what, code);
  };
  const attempt = <T>(what: string | undefined, read: () => T): T | undefined => {
    try {
      return read();
    } catch (error) {
      return note(what, error);
    }
  };
  const bytes: Reader['bytes'] = (file, what) => attempt(what, () => Buffer.from(readSmall(file)));
  return {
    bytes,
    text: (file, what) => attempt(what, () => decodeName(readSmall(file))),
    whole: (file, what) => attempt(what, () => decodeName(readWhole(file))),
    link: (file, what) => attempt(what, () => decodeName(readlinkSync(file, { encoding: 'buffer' }))),
    list: (directory, what) => attempt(what, () => readdirSync(directory)),
    note,
    refused,
  };
}

/** The shared buffer: to be used before the next call. */
function readSmall(file: string): Buffer {
  const descriptor = openSync(file, 'r');
  try {
    let length = 0;
    for (;;) {
      const size = readSync(descriptor, buffer, length, buffer.length - length, null);
      length += size;
      if (size === 0 || length === buffer.length) return buffer.subarray(0, length);
    }
  } finally {
    closeSync(descriptor);
  }
}

function readWhole(file: string): Buffer {
  const descriptor = openSync(file, 'r');
  try {
    const pieces: Buffer[] = [];
    for (;;) {
      const size = readSync(descriptor, buffer, 0, buffer.length, null);
      if (size === 0) return Buffer.concat(pieces);
      pieces.push(Buffer.from(buffer.subarray(0, size)));
    }
  } finally {
    closeSync(descriptor);
  }
}

/**
 * A file that the kernel reads under the process's memory lock (cmdline, environ, maps): while another thread holds
 * that, in uninterruptible sleep, reading it hangs, as `ps` then does.
 *
 * @returns undefined where it cannot be read, or not within `ms`; the thread that waits does not keep node alive
 * beyond process.exit()
 */
export async function readWithin(
  reader: Reader,
  file: string,
  what: string,
  ms = 500,
): Promise<string | undefined> {
  const { readFile } = process.getBuiltinModule('node:fs').promises;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<'late'>((resolve) => {
    timer = setTimeout(resolve, ms, 'late');
  });
  try {
    const read = readFile(file);
    read.catch(() => {}); // it may fail after we have gone on
    const content = await Promise.race([read, late]);
    if (content !== 'late') return decodeName(content);
    reader.note(what, Object.assign(new Error(), { code: 'ETIMEDOUT' }));
  } catch (error) {
    reader.note(what, error);
  } finally {
    clearTimeout(timer);
  }
  return undefined;
}
