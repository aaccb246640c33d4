/**
 * What a commit is made of. Each step can be taken back, by us at once or after a KILL by the next run: `undo` looks
 * at the disk alone to see how far the step had come, and may itself be cut off and done again.
 *
 * The original of a replaced file first gets a second name below `old`, then the new one is renamed over the first: at
 * no moment is a name missing that programs need (libc), a running program keeps its inode, and undo brings back the
 * same inode.
 */
import { dirname } from 'node:path';
import { errnoOf } from '../errors.ts';
import * as disk from './disk.ts';
import type { Times } from './times.ts';

/** All that makes a directory, for making it again. */
export interface DirectoryFacts {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly times: Times;
}

/** All paths absolute. `old` is where the original of `to` is kept. */
export type Step =
  /** Puts what is staged at `from` where nothing is. */
  | { readonly do: 'add'; readonly from: string; readonly to: string }
  /** ... over the file or symlink that is there. */
  | { readonly do: 'replace'; readonly from: string; readonly to: string; readonly old: string }
  /** A mounted file: rename(2) answers EBUSY, so its content changes in place, and mode and owner stay. */
  | { readonly do: 'write'; readonly from: string; readonly to: string; readonly old: string }
  | { readonly do: 'remove'; readonly to: string; readonly old: string }
  /** An empty one. Another empty one is made first, at `spare`: a full disk has no inode to bring it back with. */
  | {
      readonly do: 'remove-folder';
      readonly to: string;
      readonly facts: DirectoryFacts;
      readonly spare: string;
    }
  | { readonly do: 'make-folder'; readonly to: string; readonly facts: DirectoryFacts }
  /** Gives a directory other attributes. */
  | {
      readonly do: 'set-folder';
      readonly to: string;
      readonly facts: DirectoryFacts;
      readonly before: DirectoryFacts;
    };

export function perform(step: Step): void {
  switch (step.do) {
    case 'add':
      if (exists(step.to)) throw new Error('something is there now that was not at the check');
      disk.renameSync(step.from, step.to);
      return;
    case 'replace':
      keepSecondName(step.to, step.old);
      disk.renameSync(step.from, step.to);
      return;
    case 'write':
      disk.makeFolders(dirname(step.old));
      disk.copySync(step.to, step.old);
      overwrite(step.to, step.from);
      setTimesIfOurs(step.to, disk.timesOf(step.from));
      return;
    case 'remove':
      disk.makeFolders(dirname(step.old));
      disk.moveSync(step.to, step.old);
      return;
    case 'remove-folder':
      disk.makeFolders(step.spare);
      disk.rmdirSync(step.to);
      return;
    case 'make-folder':
      makeFolder(step.to, step.facts);
      return;
    case 'set-folder':
      setFolder(step.to, step.facts);
      return;
  }
}

export function undo(step: Step): void {
  switch (step.do) {
    case 'add':
      if (!exists(step.from) && exists(step.to)) disk.renameSync(step.to, step.from);
      return;
    case 'replace':
      // Without `old` it has not begun, or is undone. With `from` it has not come to the rename.
      if (exists(step.old)) putBack(step.old, step.to, exists(step.from));
      return;
    case 'write':
      if (!exists(step.old)) return;
      overwrite(step.to, step.old);
      setTimesIfOurs(step.to, disk.timesOf(step.old));
      disk.unlinkSync(step.old);
      return;
    case 'remove':
      if (exists(step.old)) putBack(step.old, step.to, exists(step.to));
      return;
    case 'remove-folder':
      if (!exists(step.to)) bringFolder(step.to, step.facts, step.spare);
      return;
    case 'make-folder':
      if (exists(step.to)) disk.rmdirSync(step.to);
      return;
    case 'set-folder':
      if (exists(step.to)) setFolder(step.to, step.before);
  }
}

/** @param isOriginal whether what is at the path, if anything, is still the original itself */
function putBack(old: string, path: string, isOriginal: boolean): void {
  if (isOriginal && exists(path)) disk.unlinkSync(old);
  else disk.moveSync(old, path);
}

function keepSecondName(path: string, old: string): void {
  disk.makeFolders(dirname(old));
  try {
    disk.linkSync(path, old);
  } catch (error) {
    const code = errnoOf(error);
    // A directory that was not there at the check: link(2) says EPERM for it, too.
    if (disk.lstatSync(path).isDirectory()) throw error;
    if (code === 'EXDEV') {
      disk.copySync(path, old);
      return;
    }
    // EPERM: fs.protected_hardlinks, for a file of somebody else, or a file system without links. The name is missing
    // for some microseconds then, but it is still the same file that an undo brings back.
    disk.renameSync(path, old);
  }
}

function makeFolder(path: string, facts: DirectoryFacts): void {
  disk.mkdirSync(path, 0o700);
  setFolder(path, facts);
}

function bringFolder(path: string, facts: DirectoryFacts, spare: string): void {
  try {
    setFolder(spare, facts); // first, so that it is never there without
    disk.renameSync(spare, path);
  } catch (error) {
    if (errnoOf(error) !== 'EXDEV') throw error;
    makeFolder(path, facts);
  }
}

function setFolder(path: string, { mode, uid, gid, times }: DirectoryFacts): void {
  if (process.geteuid?.() === 0) disk.lchownSync(path, uid, gid);
  disk.chmodSync(path, mode);
  disk.setTimes(path, times);
}

export function factsOf(directory: string): DirectoryFacts {
  const { mode, uid, gid } = disk.lstatSync(directory);
  return { mode: mode & 0o7777, uid, gid, times: disk.timesOf(directory) };
}

export function exists(path: string): boolean {
  try {
    return disk.lookAt(path) !== undefined;
  } catch (error) {
    if (errnoOf(error) === 'ENOTDIR') return false; // below a file
    throw error;
  }
}

/** Where we may write we may not always set times: that is the owner's, and root's unless CAP_FOWNER was taken away. */
function setTimesIfOurs(path: string, times: Times): void {
  try {
    disk.setTimes(path, times);
  } catch (error) {
    if (errnoOf(error) !== 'EPERM' || disk.lstatSync(path).uid === process.geteuid?.()) throw error;
  }
}

/** One that is gone needs none, and on a read-only one nothing has changed. */
export function restoreTimes(path: string, times: Times): void {
  try {
    setTimesIfOurs(path, times);
  } catch (error) {
    if (!['ENOENT', 'ENOTDIR', 'EROFS'].includes(errnoOf(error) ?? '')) throw error;
  }
}

const CHUNK_BYTES = 1024 * 1024;

function overwrite(path: string, from: string): void {
  const source = disk.openSync(from, disk.constants.O_RDONLY | disk.constants.O_NOFOLLOW);
  try {
    const fd = disk.openSync(path, disk.constants.O_WRONLY | disk.constants.O_NOFOLLOW);
    try {
      const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
      let size = 0;
      for (let length = -1; length !== 0; size += length) {
        length = disk.readSync(source, buffer, 0, CHUNK_BYTES, null);
        disk.writeAll(fd, buffer.subarray(0, length));
      }
      disk.ftruncateSync(fd, size);
    } finally {
      disk.closeSync(fd);
    }
  } finally {
    disk.closeSync(source);
  }
}
