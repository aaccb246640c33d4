/**
 * node:fs for the names of octets.ts: the same functions under the same names, so that a name which is no UTF-8 is
 * one file here as everywhere. Everything that touches a target goes through it.
 */
import * as fs from 'node:fs';
import { dirname } from 'node:path';
import { errnoOf } from '../errors.ts';
import { decodeName, encodeName, nativePath } from './octets.ts';
import { nativeTime, secondsOf, type Times } from './times.ts';

export {
  closeSync,
  constants,
  fchmodSync,
  ftruncateSync,
  readSync,
} from 'node:fs';

/** Undefined where nothing is; a symlink is looked at itself. */
export function lookAt(path: string): fs.Stats | undefined {
  return fs.lstatSync(nativePath(path), { throwIfNoEntry: false });
}

export function lstatSync(path: string): fs.Stats {
  return fs.lstatSync(nativePath(path));
}

/** Undefined where it leads nowhere. */
export function statSync(path: string): fs.Stats | undefined {
  return fs.statSync(nativePath(path), { throwIfNoEntry: false });
}

export function readlinkSync(path: string): string {
  return decodeName(fs.readlinkSync(nativePath(path), { encoding: 'buffer' }));
}

export function readdirSync(path: string): string[] {
  return fs.readdirSync(nativePath(path), { encoding: 'buffer' }).map(decodeName);
}

export function openSync(path: string, flags: number, mode?: number): number {
  return fs.openSync(nativePath(path), flags, mode);
}

export function linkSync(from: string, to: string): void {
  fs.linkSync(nativePath(from), nativePath(to));
}

export function symlinkSync(target: string, path: string): void {
  fs.symlinkSync(target.isWellFormed() ? target : encodeName(target), nativePath(path));
}

export function renameSync(from: string, to: string): void {
  fs.renameSync(nativePath(from), nativePath(to));
}

export function unlinkSync(path: string): void {
  fs.unlinkSync(nativePath(path));
}

export function mkdirSync(path: string, mode: number): void {
  fs.mkdirSync(nativePath(path), { mode });
}

/** With the folders above it, each 0700. */
export function makeFolders(path: string): void {
  fs.mkdirSync(nativePath(path), { recursive: true, mode: 0o700 });
}

export function rmdirSync(path: string): void {
  fs.rmdirSync(nativePath(path));
}

/** Whatever it is, and nothing where it is not there. */
export function removeTree(path: string): void {
  fs.rmSync(nativePath(path), { recursive: true, force: true });
}

export function chmodSync(path: string, mode: number): void {
  fs.chmodSync(nativePath(path), mode);
}

export function lchownSync(path: string, uid: number, gid: number): void {
  fs.lchownSync(nativePath(path), uid, gid);
}

export function accessSync(path: string, mode: number): void {
  fs.accessSync(nativePath(path), mode);
}

/** What the file system of a path has left, for us. */
export interface Room {
  readonly bytes: number;
  readonly inodes: number;
  readonly blockBytes: number;
}

/** 0 in all means no limit of its own: a tmpfs without a size, or a file system that makes inodes as it goes (btrfs). */
export function roomAt(path: string): Room {
  const { bfree, bavail, bsize, blocks, files, ffree } = fs.statfsSync(nativePath(path));
  const free = (process.geteuid?.() === 0 ? bfree : bavail) * bsize;
  return {
    bytes: blocks === 0 ? Number.POSITIVE_INFINITY : free,
    inodes: files === 0 ? Number.POSITIVE_INFINITY : ffree,
    blockBytes: bsize,
  };
}

/** write(2) may take less than it was given. */
export function writeAll(fd: number, chunk: Uint8Array): void {
  for (let offset = 0; offset < chunk.length; ) {
    offset += fs.writeSync(fd, chunk, offset, chunk.length - offset);
  }
}

/** Of the thing itself, a symlink included. */
export function setTimes(path: string, { atime, mtime }: Times): void {
  fs.lutimesSync(nativePath(path), nativeTime(atime), nativeTime(mtime));
}

/** Of what is open. */
export function setTimesOf(fd: number, { atime, mtime }: Times): void {
  fs.futimesSync(fd, nativeTime(atime), nativeTime(mtime));
}

/** Not by `stat.mtime`: a Date ends at milliseconds. */
export function timesOf(path: string): Times {
  const { atimeNs, mtimeNs } = fs.lstatSync(nativePath(path), { bigint: true });
  return { atime: secondsOf(Number(atimeNs / 1000n)), mtime: secondsOf(Number(mtimeNs / 1000n)) };
}

/** Where a copy grows. A name of ours: no archive may bring it. */
export const PART = '.ddbg-overlay.part';

/**
 * A file or symlink once more at another place, with its mode, times and, for root, owner. Complete or not there:
 * under the last name only when all is done. Extended attributes are not copied.
 */
export function copySync(from: string, to: string): void {
  const part = `${dirname(to)}/${PART}`;
  removeTree(part);
  const stat = lstatSync(from);
  const times = timesOf(from);
  if (stat.isSymbolicLink()) symlinkSync(readlinkSync(from), part);
  else fs.copyFileSync(nativePath(from), nativePath(part), fs.constants.COPYFILE_EXCL);
  if (process.geteuid?.() === 0) lchownSync(part, stat.uid, stat.gid); // before the mode: chown takes setuid away
  if (!stat.isSymbolicLink()) chmodSync(part, stat.mode & 0o7777);
  setTimes(part, times);
  renameSync(part, to);
}

/** A rename, across file systems too. */
export function moveSync(from: string, to: string): void {
  try {
    renameSync(from, to);
  } catch (error) {
    if (errnoOf(error) !== 'EXDEV') throw error;
    copySync(from, to);
    unlinkSync(from);
  }
}

/** A second name for a file or symlink; where two names cannot be one file, a copy of it. */
export function linkOrCopy(from: string, to: string): void {
  try {
    linkSync(from, to);
  } catch (error) {
    if (!['EXDEV', 'EPERM', 'EMLINK', 'ENOTSUP', 'EOPNOTSUPP'].includes(errnoOf(error) ?? '')) throw error;
    copySync(from, to);
  }
}
