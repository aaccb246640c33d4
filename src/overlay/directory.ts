/**
 * Reads a directory as if it were an archive of itself: sorted by the bytes of the names, links as they are, and never
 * through a symlink below its top. It may be in use: what changes while it is read is refused, not guessed.
 */
import * as fs from 'node:fs';
import { EntryError, reasonOf } from '../errors.ts';
import type { ArchiveEntry, EntryKind, ReadArchive, Reading, Sink, Visit } from './archive.ts';
import { CHUNK_BYTES } from './decompress.ts';
import { moveLimit } from './limits.ts';
import { decodeName, nativePath } from './octets.ts';
import { refusal, stopIfAsked } from './subject.ts';
import { createTurns } from './turns.ts';
import { bytesText } from './units.ts';

const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK, O_DIRECTORY } = fs.constants;

interface Walk {
  readonly root: string;
  readonly visit: Visit;
  readonly reading: Reading;
  readonly turn: () => Promise<void> | undefined;
  /** The first name of each file that has several. */
  readonly names: Map<string, string>;
  entries: number;
  bytes: number;
}

export const readDirectory: ReadArchive = async (path, visit, reading) => {
  const walk: Walk = {
    root: path,
    visit,
    reading,
    turn: createTurns(),
    names: new Map(),
    entries: 0,
    bytes: 0,
  };
  await walkFolder('', 0, walk);
};

/** `folder` is '' or ends with a slash. */
async function walkFolder(folder: string, depth: number, walk: Walk): Promise<void> {
  const { reading } = walk;
  const before = statFolder(folder, walk);
  for (const name of listFolder(folder, before, walk)) {
    stopIfAsked(reading.signal, reading.subject);
    await walk.turn();
    if (depth >= reading.limits.depth)
      refuse(
        `${folder}${name} is more than ${reading.limits.depth} folders deep, the limit depth`,
        walk,
        moveLimit('depth'),
      );
    await walkEntry(`${folder}${name}`, depth, walk);
  }
  if (!isSame(before, statFolder(folder, walk))) refuseChanged(shown(folder), walk);
}

/** The top may be a symlink itself: that is how it was named to us. */
function statFolder(folder: string, walk: Walk): fs.BigIntStats {
  const stat = folder === '' ? fs.statSync : fs.lstatSync;
  return attempt(shown(folder), walk, () => stat(pathOf(folder, walk), { bigint: true }));
}

/** Its names in the order of their bytes; that of strings differs above U+FFFF. */
function listFolder(folder: string, before: fs.BigIntStats, walk: Walk): string[] {
  return attempt(shown(folder), walk, () => {
    const path = pathOf(folder, walk);
    const fd = fs.openSync(path, O_RDONLY | O_DIRECTORY | (folder === '' ? 0 : O_NOFOLLOW));
    try {
      if (!isSame(fs.fstatSync(fd, { bigint: true }), before)) refuseChanged(shown(folder), walk);
    } finally {
      fs.closeSync(fd);
    }
    return fs.readdirSync(path, { encoding: 'buffer' }).sort(Buffer.compare).map(decodeName);
  });
}

async function walkEntry(name: string, depth: number, walk: Walk): Promise<void> {
  const { limits } = walk.reading;
  const stat = attempt(name, walk, () => fs.lstatSync(pathOf(name, walk), { bigint: true }));
  const kind = kindOf(stat, name, walk);
  if (walk.entries >= limits.entries)
    refuse(`it holds more than ${limits.entries} entries, the limit entries`, walk, moveLimit('entries'));
  const first = firstName(stat, kind, name, walk);
  const entry = describe(stat, first === undefined ? kind : 'hardlink', name, first, walk);
  walk.entries += 1;
  if (entry.kind === 'file') {
    await readContent(entry, stat, walk);
    return;
  }
  walk.visit(entry);
  if (kind !== 'directory') return;
  await walkFolder(`${name}/`, depth + 1, walk);
}

function describe(
  stat: fs.BigIntStats,
  kind: EntryKind,
  name: string,
  first: string | undefined,
  walk: Walk,
): ArchiveEntry {
  return {
    index: walk.entries,
    name,
    kind,
    size: kind === 'file' ? Number(stat.size) : 0,
    mode: Number(stat.mode) & 0o7777,
    mtimeMs: Number(stat.mtimeNs / 1_000n) / 1_000,
    uid: Number(stat.uid),
    gid: Number(stat.gid),
    linkTarget: kind === 'symlink' ? readLink(name, walk) : first,
  };
}

function kindOf(stat: fs.BigIntStats, name: string, walk: Walk): EntryKind {
  if (stat.isFile()) return 'file';
  if (stat.isDirectory()) return 'directory';
  if (stat.isSymbolicLink()) return 'symlink';
  const found = stat.isFIFO() ? 'a FIFO' : stat.isSocket() ? 'a socket' : 'a device';
  const why = `it holds ${found}, ${name}`;
  throw refusal('DDBG_UNSAFE', 'apply', walk.reading.subject, why, 'Take it out of the directory.');
}

/** Of a file that was met before under another name. */
function firstName(stat: fs.BigIntStats, kind: EntryKind, name: string, walk: Walk): string | undefined {
  if (stat.nlink < 2n || kind !== 'file') return undefined;
  const key = `${stat.dev}:${stat.ino}`;
  const first = walk.names.get(key);
  if (first === undefined) walk.names.set(key, name);
  return first;
}

function readLink(name: string, walk: Walk): string {
  return decodeName(attempt(name, walk, () => fs.readlinkSync(pathOf(name, walk), 'buffer')));
}

async function readContent(entry: ArchiveEntry, stat: fs.BigIntStats, walk: Walk): Promise<void> {
  const { limits } = walk.reading;
  if (entry.size > limits.fileBytes)
    refuse(
      `${entry.name} is larger than the limit file-bytes, ${bytesText(limits.fileBytes)}`,
      walk,
      moveLimit('file-bytes'),
    );
  walk.bytes += entry.size;
  if (walk.bytes > limits.unpackedBytes)
    refuse(
      `it holds more than ${bytesText(limits.unpackedBytes)}, the limit unpacked-bytes`,
      walk,
      moveLimit('unpacked-bytes'),
    );
  // O_NONBLOCK: it may be a FIFO by now, and to open one without a writer would wait for ever.
  const fd = attempt(entry.name, walk, () =>
    fs.openSync(pathOf(entry.name, walk), O_RDONLY | O_NOFOLLOW | O_NONBLOCK),
  );
  try {
    if (!isSame(fs.fstatSync(fd, { bigint: true }), stat)) refuseChanged(entry.name, walk);
    const sink = walk.visit(entry);
    if (sink !== undefined) await copy(fd, entry, sink, walk);
    if (!isSame(fs.fstatSync(fd, { bigint: true }), stat)) refuseChanged(entry.name, walk);
    sink?.end();
  } finally {
    fs.closeSync(fd);
  }
}

async function copy(fd: number, entry: ArchiveEntry, sink: Sink, walk: Walk): Promise<void> {
  const { reading } = walk;
  for (let left = entry.size; ; ) {
    const piece = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, left + 1)); // one more: does it end there?
    const length = attempt(entry.name, walk, () => fs.readSync(fd, piece, 0, piece.length, null));
    if (length > left || (length === 0 && left > 0)) refuseChanged(entry.name, walk);
    if (length === 0) return;
    sink.write(piece.subarray(0, length));
    left -= length;
    await walk.turn();
    stopIfAsked(reading.signal, reading.subject);
  }
}

/** One file, and nobody wrote to it. */
function isSame(one: fs.BigIntStats, other: fs.BigIntStats): boolean {
  const keys = ['dev', 'ino', 'mode', 'size', 'mtimeNs'] as const;
  return keys.every((key) => one[key] === other[key]);
}

/** Without a slash at its end, which would follow a symlink. */
function pathOf(name: string, walk: Walk): string | Buffer {
  return nativePath(name === '' ? walk.root : `${walk.root}/${name.replace(/\/$/, '')}`);
}

function shown(folder: string): string {
  return folder === '' ? 'the directory' : folder;
}

function attempt<T>(name: string, walk: Walk, action: () => T): T {
  try {
    return action();
  } catch (error) {
    if (error instanceof EntryError) throw error;
    const why = `${name} cannot be read (${reasonOf(error)})`;
    throw refusal('DDBG_ARCHIVE', 'read', walk.reading.subject, why, undefined, error);
  }
}

function refuseChanged(name: string, walk: Walk): never {
  return refuse(`${name} changed while it was read`, walk, 'Try again when nobody writes to it.');
}

function refuse(why: string, walk: Walk, hint = 'Keep only what is to be laid over the root.'): never {
  throw refusal('DDBG_ARCHIVE', 'read', walk.reading.subject, why, hint);
}
