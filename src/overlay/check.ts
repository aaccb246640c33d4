/** Everything about the disk that can be known before the first write. The result says exactly what will be done where. */
import { accessSync, constants, readlinkSync, type Stats, statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import { errnoOf, reasonOf } from '../errors.ts';
import { type Arranged, unsafe } from './arrange.ts';
import { isKernelType, type Mounts } from './mounts.ts';
import { refusal, type Subject } from './subject.ts';
import { createTargets, kindText, type Targets } from './targets.ts';
import { bytesText, modeText } from './units.ts';

export interface Placement {
  readonly arranged: Arranged;
  /** An absolute path whose folders are no symlinks. */
  readonly target: string;
  /** As seen from inside the root. */
  readonly shown: string;
  readonly before: 'nothing' | 'file' | 'symlink';
  /** A file that is a mount point: written in place, for rename(2) answers EBUSY. */
  readonly inPlace: boolean;
}

export interface NewDirectory {
  readonly target: string;
  readonly shown: string;
  readonly mode: number;
  readonly mtimeMs: number | undefined;
}

export interface Checked {
  readonly placements: readonly Placement[];
  /** Parents first. */
  readonly newDirectories: readonly NewDirectory[];
  /** Symlinks to directories that are there already, as the archive has them: left alone. */
  readonly same: readonly Placement[];
}

export interface CheckContext {
  readonly subject: Subject;
  /** No symlink in it. */
  readonly root: string;
  /** No symlink in it: what belongs to us is no target. */
  readonly workDir: string;
  readonly mounts: Mounts;
}

const DEFAULT_DIRECTORY_MODE = 0o755;
const PATH_BYTES = 4096 - 64; // PATH_MAX, and room for the temporary name

export function check(arranged: readonly Arranged[], context: CheckContext): Checked {
  const targets = createTargets(context.root, context.subject);
  const placements = new Map<string, Placement>();
  const same: Placement[] = [];
  const described = new Map<string, Arranged>();
  for (const one of arranged) {
    if (one.entry.kind === 'directory') described.set(placeDirectory(one, targets, context), one);
    else place(one, targets, placements, same, context);
  }
  const newDirectories = [...targets.newDirectories].map((target) =>
    newDirectory(target, described.get(target), targets),
  );
  const checked = { placements: [...placements.values()], newDirectories, same };
  refuseUnwritable(checked, targets, context);
  refuseLackOfSpace(checked, targets, context);
  return checked;
}

function newDirectory(target: string, described: Arranged | undefined, targets: Targets): NewDirectory {
  const { mode = DEFAULT_DIRECTORY_MODE, mtimeMs = undefined } = described?.entry ?? {};
  return { target, shown: targets.shown(target), mode, mtimeMs };
}

function placeDirectory(one: Arranged, targets: Targets, context: CheckContext): string {
  const target = targets.directory(one.components, (why) => unsafe(one.entry, why, context.subject));
  refusePlace(one, target, targets, context);
  return target;
}

function place(
  one: Arranged,
  targets: Targets,
  placements: Map<string, Placement>,
  same: Placement[],
  context: CheckContext,
): void {
  const refuse = (why: string): Error => unsafe(one.entry, why, context.subject, REMEDY);
  const parent = targets.directory(one.components.slice(0, -1), refuse);
  const name = one.components.at(-1) as string;
  const target = parent === '/' ? `/${name}` : `${parent}/${name}`;
  refusePlace(one, target, targets, context);
  const other = placements.get(target);
  if (other !== undefined)
    throw refuse(`it ends at ${targets.shown(target)}, as ${JSON.stringify(other.arranged.entry.name)} does`);
  if (targets.newDirectories.has(target)) throw refuse('the archive makes it a directory and something else');
  const stat = targets.onDisk(target);
  const placement = {
    arranged: one,
    target,
    shown: targets.shown(target),
    before: whatIsThere(one, stat, target, targets, refuse),
    inPlace: stat?.isFile() === true && context.mounts.isMountPoint(target),
  };
  if (placement.inPlace && one.entry.kind === 'symlink')
    throw refuse('a symlink cannot replace a mounted file');
  if (isSameDirectoryLink(one, stat, target, targets)) {
    same.push(placement);
    return;
  }
  targets.occupy(target);
  placements.set(target, placement);
}

/** What a file or symlink would replace; throws for what it must not. */
function whatIsThere(
  one: Arranged,
  stat: Stats | undefined,
  target: string,
  targets: Targets,
  refuse: (why: string) => Error,
): Placement['before'] {
  if (stat === undefined) return 'nothing';
  const what = one.entry.kind === 'symlink' ? 'a symlink' : 'a file';
  if (stat.isFile()) return 'file';
  if (!stat.isSymbolicLink())
    throw refuse(`${what} cannot replace ${kindText(stat)} (${targets.shown(target)})`);
  if (targets.leadsToDirectory(target) && !isSameDirectoryLink(one, stat, target, targets)) {
    throw refuse(`${what} cannot replace the symlink to a directory ${targets.shown(target)}`);
  }
  return 'symlink';
}

function isSameDirectoryLink(
  one: Arranged,
  stat: Stats | undefined,
  target: string,
  targets: Targets,
): boolean {
  if (one.entry.kind !== 'symlink' || stat?.isSymbolicLink() !== true) return false;
  return readlinkSync(target) === one.entry.linkTarget && targets.leadsToDirectory(target);
}

const REMEDY = 'Leave it out of the archive, or change what is there in the image.';

function refusePlace(one: Arranged, target: string, targets: Targets, context: CheckContext): void {
  const { mounts, subject, workDir } = context;
  const type = mounts.typeOf(target);
  if (isKernelType(type)) {
    throw unsafe(one.entry, `${targets.shown(target)} is on ${type}, an interface of the kernel`, subject);
  }
  if (
    one.entry.kind === 'directory'
      ? target === workDir || target.startsWith(`${workDir}/`)
      : `${target}/`.startsWith(`${workDir}/`)
  ) {
    throw unsafe(one.entry, `${targets.shown(target)} is in our own directory`, subject);
  }
  if (Buffer.byteLength(target) > PATH_BYTES)
    throw unsafe(one.entry, 'its path is too long for the kernel', subject);
}

/** EROFS and EACCES foreseen, by asking for the right on each directory that gets a new name, and on each file in place. */
function refuseUnwritable(checked: Checked, targets: Targets, context: CheckContext): void {
  const asked = new Set<string>();
  const ask = (path: string, wanted: string, mode: number): void => {
    if (asked.has(path)) return;
    asked.add(path);
    try {
      accessSync(path, mode);
    } catch (error) {
      throw unwritable(error, path, wanted, targets, context);
    }
  };
  for (const { target, inPlace, shown } of checked.placements) {
    if (inPlace) ask(target, shown, constants.W_OK);
    else if (!targets.newDirectories.has(dirname(target)))
      ask(dirname(target), shown, constants.W_OK | constants.X_OK);
  }
  for (const { target, shown } of checked.newDirectories) {
    if (!targets.newDirectories.has(dirname(target)))
      ask(dirname(target), shown, constants.W_OK | constants.X_OK);
  }
}

function unwritable(
  error: unknown,
  path: string,
  wanted: string,
  targets: Targets,
  context: CheckContext,
): Error {
  const place = targets.shown(path);
  if (errnoOf(error) === 'EROFS') {
    const hint = 'Run without --read-only, or put a tmpfs or a volume there.';
    return refusal(
      'DDBG_WRITE',
      'apply',
      context.subject,
      `${wanted}: ${place} is on a read-only file system`,
      hint,
      error,
    );
  }
  const uid = process.geteuid?.() ?? -1;
  const stat = targets.onDisk(path);
  const owner = stat === undefined ? '' : `, which belongs to uid ${stat.uid}, mode ${modeText(stat.mode)}`;
  const why =
    errnoOf(error) === 'EACCES'
      ? `${wanted}: uid ${uid} may not write to ${place}${owner}`
      : `${wanted}: ${reasonOf(error)}`;
  const hint = 'Run the container with --user 0, or make that place writable in the image.';
  return refusal('DDBG_WRITE', 'apply', context.subject, why, hint, error);
}

/** Originals stay until the end, so each file needs its full size. */
function refuseLackOfSpace(checked: Checked, targets: Targets, context: CheckContext): void {
  const needed = new Map<number, { place: string; bytes: number; inodes: number }>();
  const add = (target: string, bytes: number): void => {
    let place = dirname(target);
    while (targets.newDirectories.has(place)) place = dirname(place);
    const device = targets.onDisk(place)?.dev ?? 0;
    const sum = needed.get(device) ?? { place, bytes: 0, inodes: 0 };
    needed.set(device, { place: sum.place, bytes: sum.bytes + bytes, inodes: sum.inodes + 1 });
  };
  for (const { target, arranged, inPlace } of checked.placements) {
    if (!inPlace) add(target, arranged.entry.kind === 'file' ? arranged.entry.size : 0);
  }
  for (const { target } of checked.newDirectories) add(target, 0);
  for (const { place, bytes, inodes } of needed.values())
    refuseIfFull(place, bytes, inodes, targets, context);
}

function refuseIfFull(
  place: string,
  bytes: number,
  inodes: number,
  targets: Targets,
  context: CheckContext,
): void {
  const { bfree, bavail, bsize, blocks, files, ffree } = statfsSync(place);
  const free = (process.geteuid?.() === 0 ? bfree : bavail) * bsize;
  const hint = 'Make room there, or make the archive smaller: it needs only the files that differ.';
  const where = `the file system of ${targets.shown(place)}`;
  // 0 in all: a tmpfs without a limit, or a file system that makes inodes as it goes (btrfs).
  if (blocks > 0 && bytes > free) {
    const why = `it needs ${bytesText(bytes)}, ${where} has ${bytesText(free)} left`;
    throw refusal('DDBG_WRITE', 'apply', context.subject, why, hint);
  }
  if (files > 0 && inodes > ffree) {
    throw refusal(
      'DDBG_WRITE',
      'apply',
      context.subject,
      `it needs ${inodes} inodes, ${where} has ${ffree} left`,
      hint,
    );
  }
}
