/** What mode and owner a file gets, and whether what is there is already all that the archive brings. */
import type { Stats } from 'node:fs';
import type { ArchiveEntry } from './archive.ts';
import * as disk from './disk.ts';
import { secondsOf } from './times.ts';

const DEFAULT_FILE_MODE = 0o644;
const DEFAULT_DIRECTORY_MODE = 0o755;
const SPECIAL_BITS = 0o7000;
const STICKY = 0o1000;

/** The options of a source that say what is taken over. */
export interface Taking {
  readonly setuid?: 'keep' | undefined;
  readonly owner?: 'archive' | undefined;
}

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** A zip without modes must not take the x bit from a script that it mends. */
export function fileMode({ mode }: ArchiveEntry, { setuid }: Taking, replaced?: Stats): number {
  return (mode ?? replaced?.mode ?? DEFAULT_FILE_MODE) & (setuid === 'keep' ? 0o7777 : 0o777);
}

/** A sticky directory is a safer one; setgid hands files to a group. */
export function directoryMode(entry: ArchiveEntry | undefined, { setuid }: Taking): number {
  return (entry?.mode ?? DEFAULT_DIRECTORY_MODE) & (setuid === 'keep' ? 0o7777 : 0o777 | STICKY);
}

export function losesBits({ kind, mode = 0 }: ArchiveEntry, { setuid }: Taking): boolean {
  const lost = kind === 'file' ? SPECIAL_BITS : kind === 'directory' ? SPECIAL_BITS & ~STICKY : 0;
  return setuid !== 'keep' && (mode & lost) !== 0;
}

/**
 * A service that runs as its own user must still be able to read a file that was its own. What is new is ours.
 * Undefined: as it is made.
 */
export function ownerOf(
  { uid, gid }: Pick<ArchiveEntry, 'uid' | 'gid'>,
  { owner }: Taking,
  replaced?: Stats,
): Owner | undefined {
  if (owner === undefined && replaced === undefined) return undefined;
  if (process.geteuid?.() !== 0) return undefined; // nobody else can give files away
  if (owner === 'archive') return { uid: uid ?? 0, gid: gid ?? 0 };
  if (replaced === undefined || (replaced.uid === 0 && replaced.gid === process.getegid?.()))
    return undefined;
  return { uid: replaced.uid, gid: replaced.gid };
}

/** Undefined: nobody but root can give files away, and what he makes is his already. */
export function ourselves(): Owner | undefined {
  return process.geteuid?.() === 0 ? { uid: 0, gid: process.getegid?.() ?? 0 } : undefined;
}

/** Whether a file needs neither mode nor owner. */
export function hasAttributes(entry: ArchiveEntry, taking: Taking, stat: Stats): boolean {
  return hasOwner(entry, taking, stat) && fileMode(entry, taking, stat) === (stat.mode & 0o7777);
}

export function hasOwner(entry: ArchiveEntry, taking: Taking, stat: Stats): boolean {
  const owner = taking.owner === 'archive' ? ownerOf(entry, taking, stat) : undefined;
  return owner === undefined || (owner.uid === stat.uid && owner.gid === stat.gid);
}

/** Owner before mode: chown takes setuid away. */
export function setAttributes(
  path: string,
  mode: number | undefined,
  owner: Owner | undefined,
  mtimeMs: number | undefined,
): void {
  if (owner !== undefined) disk.lchownSync(path, owner.uid, owner.gid);
  if (mode !== undefined) disk.chmodSync(path, mode);
  if (mtimeMs === undefined) return;
  const seconds = secondsOf(mtimeMs * 1000);
  disk.setTimes(path, { atime: seconds, mtime: seconds });
}
