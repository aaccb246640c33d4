/** Everything about the disk that can be known before the first change. The result says exactly what will be done where. */
import type { Stats } from 'node:fs';
import { dirname } from 'node:path';
import { errnoOf, reasonOf } from '../errors.ts';
import type { ArchiveEntry } from './archive.ts';
import { type Arranged, type Arrangement, type Removal, unsafe } from './arrange.ts';
import { hasAttributes, hasOwner, type Taking } from './attributes.ts';
import * as disk from './disk.ts';
import { isKernelType, type Mounts } from './mounts.ts';
import { nameBytes } from './octets.ts';
import { ROOM } from './spool.ts';
import { refusal, type Subject } from './subject.ts';
import { createTargets, kindText, type Targets } from './targets.ts';
import { bytesText, countText, modeText } from './units.ts';

export interface Placement {
  readonly arranged: Arranged;
  /** An absolute path whose folders are no symlinks. */
  readonly target: string;
  /** As seen from inside the root. */
  readonly shown: string;
  readonly before: 'nothing' | 'file' | 'symlink';
  /** Of that. */
  readonly stat: Stats | undefined;
  /** A file that is a mount point: written in place, for rename(2) answers EBUSY. */
  readonly inPlace: boolean;
}

export interface NewDirectory {
  readonly target: string;
  readonly shown: string;
  readonly described: Arranged | undefined;
}

/** What a whiteout takes away: files and symlinks one by one, a folder when it is empty. */
export interface Deletion {
  readonly target: string;
  readonly shown: string;
  readonly isFolder: boolean;
}

export interface Checked {
  readonly placements: readonly Placement[];
  /** Parents first. */
  readonly newDirectories: readonly NewDirectory[];
  /** There already, just as the archive has it: left alone. */
  readonly same: readonly Placement[];
  /** What is in a folder before the folder. */
  readonly deletions: readonly Deletion[];
  /** Mount points of volumes that are written to: what is written there outlives the container. */
  readonly volumes: readonly string[];
}

export interface CheckContext {
  readonly subject: Subject;
  /** No symlink in it. */
  readonly root: string;
  /** Neither has a symlink in it: what belongs to us is no target. */
  readonly ours: readonly string[];
  readonly mounts: Mounts;
  /** Where the content of the archive is now. */
  readonly spoolDirectory: string;
  readonly taking: Taking;
  /** Whether this file, of the same size, holds what the entry does. */
  hasContent(entry: ArchiveEntry, file: string, stat: Stats): boolean;
}

const PATH_BYTES = 4096 - 64; // PATH_MAX, and room for the temporary name

export function check({ arranged, removals }: Arrangement, context: CheckContext): Checked {
  const targets = createTargets(context.root, context.subject);
  const placements = new Map<string, Placement>();
  const same = new Map<Arranged, Placement>();
  const described = new Map<string, Arranged>();
  refuseOwners(context);
  for (const one of arranged) {
    if (one.entry.kind === 'directory') described.set(placeDirectory(one, targets, context), one);
    else place(one, targets, placements, same, context);
  }
  const newDirectories = [...targets.newDirectories].map((target) => ({
    target,
    shown: targets.shown(target),
    described: described.get(target),
  }));
  const left = [...same.values()];
  const kept = new Set([...placements.keys(), ...left.map(({ target }) => target)]);
  const deletions = removals.flatMap((one) => deletionsOf(one, kept, targets, context));
  const checked = {
    placements: [...placements.values()],
    newDirectories,
    same: left,
    deletions: unique(deletions),
  };
  refuseUnwritable(checked, targets, context);
  refuseLackOfSpace(checked, targets, context);
  return { ...checked, volumes: volumesOf(checked, targets, context) };
}

function refuseOwners({ taking, subject }: CheckContext): void {
  if (taking.owner !== 'archive' || process.geteuid?.() === 0) return;
  const why = `#owner=archive: uid ${process.geteuid?.()} may not give files to others`;
  throw refusal('DDBG_WRITE', 'apply', subject, why, 'Run the container with --user 0, or leave it out.');
}

function unique(deletions: readonly Deletion[]): Deletion[] {
  return [...new Map(deletions.map((deletion) => [deletion.target, deletion])).values()];
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
  same: Map<Arranged, Placement>,
  context: CheckContext,
): void {
  const refuse = (why: string): Error => unsafe(one.entry, why, context.subject, REMEDY);
  const parent = targets.directory(one.components.slice(0, -1), refuse);
  const target = below(parent, one.components.at(-1) as string);
  refusePlace(one, target, targets, context);
  refuseSecond(placements.get(target), refuse);
  if (targets.newDirectories.has(target)) throw refuse('the archive makes it a directory and something else');
  const stat = targets.onDisk(target);
  const placement = {
    arranged: one,
    target,
    shown: targets.shown(target),
    before: whatIsThere(one, stat, target, targets, refuse),
    stat,
    inPlace: stat?.isFile() === true && context.mounts.isMountPoint(target),
  };
  if (placement.inPlace && one.entry.kind === 'symlink')
    throw refuse('a symlink cannot replace a mounted file');
  if (isSame(placement, stat, same, targets, context)) {
    same.set(one, placement);
    if (!targets.leadsToDirectory(target)) targets.occupy(target);
    return;
  }
  if (targets.isOccupied(target))
    refuseSecond(
      [...same.values()].find((other) => other.target === target),
      refuse,
    );
  targets.occupy(target);
  placements.set(target, placement);
}

/** Through a symlink two names can end at one place; which of the two counts would be a guess. */
function refuseSecond(first: Placement | undefined, refuse: (why: string) => Error): void {
  if (first === undefined) return;
  throw refuse(`it ends at ${first.shown}, as ${JSON.stringify(first.arranged.entry.name)} does`);
}

function below(directory: string, name: string): string {
  return directory === '/' ? `/${name}` : `${directory}/${name}`;
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

function isSame(
  { arranged: { entry, sameAs }, target, inPlace }: Placement,
  stat: Stats | undefined,
  same: ReadonlyMap<Arranged, Placement>,
  targets: Targets,
  context: CheckContext,
): boolean {
  if (stat === undefined) return false;
  if (entry.kind === 'symlink') {
    const isLink = stat.isSymbolicLink() && disk.readlinkSync(target) === entry.linkTarget;
    return isLink && (hasOwner(entry, context.taking, stat) || targets.leadsToDirectory(target));
  }
  if (!stat.isFile()) return false;
  if (sameAs !== undefined) {
    const file = same.get(sameAs);
    const other = file && targets.onDisk(file.target);
    return other?.ino === stat.ino && other.dev === stat.dev;
  }
  if (stat.size !== entry.size || !(inPlace || hasAttributes(entry, context.taking, stat))) return false;
  return context.hasContent(entry, target, stat);
}

function isSameDirectoryLink(
  one: Arranged,
  stat: Stats | undefined,
  target: string,
  targets: Targets,
): boolean {
  if (one.entry.kind !== 'symlink' || stat?.isSymbolicLink() !== true) return false;
  return disk.readlinkSync(target) === one.entry.linkTarget && targets.leadsToDirectory(target);
}

const REMEDY = 'Leave it out of the archive, or change what is there in the image.';

function refusePlace(
  { entry }: Pick<Arranged, 'entry'>,
  target: string,
  targets: Targets,
  context: CheckContext,
): void {
  const { mounts, subject, ours } = context;
  const type = mounts.typeOf(target);
  if (isKernelType(type)) {
    throw unsafe(entry, `${targets.shown(target)} is on ${type}, an interface of the kernel`, subject);
  }
  const isInside = (directory: string): boolean => `${target}/`.startsWith(`${directory}/`);
  if (ours.some(isInside)) throw unsafe(entry, `${targets.shown(target)} is in our own directory`, subject);
  if (nameBytes(target) > PATH_BYTES) throw unsafe(entry, 'its path is too long for the kernel', subject);
}

/** What goes when a whiteout is followed: all that the archive does not itself bring. */
function deletionsOf(
  removal: Removal,
  kept: ReadonlySet<string>,
  targets: Targets,
  context: CheckContext,
): readonly Deletion[] {
  const { entry, components, what } = removal;
  const refuse = (why: string): Error => unsafe(entry, why, context.subject);
  if (what === 'opaque') {
    const directory = targets.existing(components, refuse);
    return directory === undefined ? [] : deletionsIn(directory, entry, kept, targets, context);
  }
  const parent = targets.existing(components.slice(0, -1), refuse);
  if (parent === undefined) return [];
  return deletionsAt(below(parent, components.at(-1) as string), entry, kept, targets, context);
}

function deletionsIn(
  directory: string,
  entry: Removal['entry'],
  kept: ReadonlySet<string>,
  targets: Targets,
  context: CheckContext,
): readonly Deletion[] {
  if (targets.newDirectories.has(directory)) return [];
  const names = disk.readdirSync(directory).sort();
  return names.flatMap((name) => deletionsAt(below(directory, name), entry, kept, targets, context));
}

function deletionsAt(
  target: string,
  entry: Removal['entry'],
  kept: ReadonlySet<string>,
  targets: Targets,
  context: CheckContext,
): readonly Deletion[] {
  const stat = targets.onDisk(target);
  if (stat === undefined || kept.has(target)) return [];
  const shown = targets.shown(target);
  refusePlace({ entry }, target, targets, context);
  if (context.mounts.isMountPoint(target))
    throw unsafe(entry, `${shown} is a mount point and cannot be deleted`, context.subject);
  if (!stat.isDirectory()) {
    if (!stat.isFile() && !stat.isSymbolicLink())
      throw unsafe(entry, `${kindText(stat)} (${shown}) cannot be deleted`, context.subject);
    if (targets.isFollowed(target))
      throw unsafe(
        entry,
        `the symlink ${shown} cannot be deleted, other names lead through it`,
        context.subject,
      );
    return [{ target, shown, isFolder: false }];
  }
  const inside = deletionsIn(target, entry, kept, targets, context);
  return targets.isUsed(target) ? inside : [...inside, { target, shown, isFolder: true }];
}

/** A place where we need a right, and the targets that need it. */
interface Lack {
  readonly error: unknown;
  readonly wanted: string[];
}

/**
 * EROFS, EACCES and ETXTBSY foreseen, by asking for the right on each directory that gets or loses a name, and by
 * opening each file that is written in place. All of it in one error: whoever mends a Dockerfile wants the whole list.
 */
function refuseUnwritable(checked: Omit<Checked, 'volumes'>, targets: Targets, context: CheckContext): void {
  const answers = new Map<string, unknown>();
  const lacks = new Map<string, Lack>();
  const ask = (place: string, wanted: string, question: (place: string) => void): void => {
    if (!answers.has(place))
      answers.set(
        place,
        errorOf(() => question(place)),
      );
    const error = answers.get(place);
    if (error === undefined) return;
    const lack = lacks.get(place) ?? { error, wanted: [] };
    lack.wanted.push(wanted);
    lacks.set(place, lack);
  };
  for (const { target, inPlace, shown } of checked.placements) {
    if (inPlace) ask(target, shown, openForWriting);
    else if (!targets.newDirectories.has(dirname(target))) ask(dirname(target), shown, askForNames);
    if (!inPlace) ask(target, shown, () => refuseSticky(target, targets));
  }
  for (const { target, shown } of checked.newDirectories) {
    if (!targets.newDirectories.has(dirname(target))) ask(dirname(target), shown, askForNames);
  }
  for (const { target, shown } of checked.deletions) {
    ask(dirname(target), shown, askForNames);
    ask(target, shown, () => refuseSticky(target, targets));
  }
  if (lacks.size > 0) throw unwritable(lacks, targets, context);
}

function errorOf(action: () => void): unknown {
  try {
    action();
    return undefined;
  } catch (error) {
    return error;
  }
}

function askForNames(directory: string): void {
  disk.accessSync(directory, disk.constants.W_OK | disk.constants.X_OK);
}

/** access(2) does not know of a program that is running. */
function openForWriting(file: string): void {
  disk.closeSync(disk.openSync(file, disk.constants.O_WRONLY | disk.constants.O_NOFOLLOW));
}

/** In /tmp and its like a name is its owner's. */
function refuseSticky(target: string, targets: Targets): void {
  const stat = targets.onDisk(target);
  const parent = targets.onDisk(dirname(target));
  if (stat === undefined || parent === undefined || (parent.mode & 0o1000) === 0) return;
  if ([0, stat.uid, parent.uid].includes(process.geteuid?.() ?? 0)) return;
  throw Object.assign(new Error(`it belongs to uid ${stat.uid}, in a directory with the sticky bit`), {
    code: 'EACCES',
  });
}

const SHOWN_PLACES_HINT = 'Run the container with --user 0, or make these places writable in the image.';
/** Of a root that is held to modes like anybody else. */
const CAPABILITY_HINT =
  'Run the container with --cap-add DAC_OVERRIDE, or make these places writable in the image.';

function unwritable(lacks: ReadonlyMap<string, Lack>, targets: Targets, context: CheckContext): Error {
  const places = [...lacks].map(([place, { error, wanted }]) => {
    const list = [...new Set(wanted)].join(', ');
    return `${list} (${whyNot(error, place, targets)})`;
  });
  const count = new Set([...lacks.values()].flatMap(({ wanted }) => wanted)).size;
  const errors = [...lacks.values()].map(({ error }) => errnoOf(error));
  const hint = errors.includes('EROFS')
    ? 'Run without --read-only, or put a tmpfs or a volume there.'
    : errors.includes('ETXTBSY')
      ? 'It runs just now: mount a directory in place of the single file, or end the program first.'
      : process.geteuid?.() === 0
        ? CAPABILITY_HINT
        : SHOWN_PLACES_HINT;
  const why = `uid ${process.geteuid?.() ?? -1} may not write ${countText(count, 'of its targets', 'of its targets')}: ${places.join('; ')}`;
  return refusal('DDBG_WRITE', 'apply', context.subject, why, hint, [...lacks.values()][0]?.error);
}

function whyNot(error: unknown, place: string, targets: Targets): string {
  const shown = targets.shown(place);
  const stat = targets.onDisk(place);
  switch (errnoOf(error)) {
    case 'EROFS':
      return `${shown} is on a read-only file system`;
    case 'ETXTBSY':
      return `${shown} is a mounted file and a running program`;
    case 'EACCES':
      if (!(error as Error).message.startsWith('EACCES')) return (error as Error).message;
      return stat === undefined
        ? `no right to ${shown}`
        : `${shown} belongs to uid ${stat.uid}, mode ${modeText(stat.mode)}`;
    default:
      return reasonOf(error);
  }
}

/**
 * What the spool does not know of: files that end on another file system are copied there, and an overlayfs copies an
 * original up, whole, when it gets a second name.
 */
function refuseLackOfSpace(checked: Omit<Checked, 'volumes'>, targets: Targets, context: CheckContext): void {
  const { mounts, spoolDirectory } = context;
  const needed = new Map<string, { place: string; bytes: number; inodes: number }>();
  const add = (target: string, bytes: number): void => {
    const place = existingAbove(target, targets);
    const mount = mounts.pointOf(place);
    const sum = needed.get(mount) ?? { place, bytes: 0, inodes: 0 };
    needed.set(mount, { place: sum.place, bytes: sum.bytes + bytes, inodes: sum.inodes + 1 });
  };
  const isElsewhere = (target: string): boolean =>
    mounts.pointOf(existingAbove(target, targets)) !== mounts.pointOf(spoolDirectory);
  for (const { target, arranged, inPlace, before } of checked.placements) {
    if (!inPlace && isElsewhere(target)) add(target, arranged.entry.size);
    if (before === 'file' && mounts.typeOf(target) === 'overlay')
      add(target, targets.onDisk(target)?.size ?? 0);
  }
  for (const { target } of checked.newDirectories) add(target, 0);
  for (const { place, bytes, inodes } of needed.values())
    refuseIfFull(place, bytes, inodes, targets, context);
}

function existingAbove(target: string, targets: Targets): string {
  let place = dirname(target);
  while (targets.newDirectories.has(place)) place = dirname(place);
  return place;
}

function refuseIfFull(
  place: string,
  bytes: number,
  inodes: number,
  targets: Targets,
  context: CheckContext,
): void {
  const room = disk.roomAt(place);
  const where = `the file system of ${targets.shown(place)}`;
  const refuse = (why: string): Error => refusal('DDBG_WRITE', 'apply', context.subject, why, ROOM);
  if (bytes > room.bytes)
    throw refuse(`it needs ${bytesText(bytes)}, ${where} has ${bytesText(room.bytes)} left`);
  if (inodes > room.inodes) throw refuse(`it needs ${inodes} inodes, ${where} has ${room.inodes} left`);
}

/** What the engine itself mounts into each container; it writes them anew at each start. */
const ENGINE_FILES = ['/etc/hosts', '/etc/hostname', '/etc/resolv.conf'];
/** Gone with the container. */
const PASSING_TYPES = ['tmpfs', 'ramfs', 'devtmpfs'];

function volumesOf(
  checked: Omit<Checked, 'volumes'>,
  targets: Targets,
  { mounts, root }: CheckContext,
): readonly string[] {
  const written = [...checked.placements, ...checked.newDirectories, ...checked.deletions];
  const points = written.map(({ target }) =>
    mounts.isMountPoint(target) ? target : mounts.pointOf(existingAbove(target, targets)),
  );
  const own = mounts.pointOf(root);
  return [...new Set(points)].filter(
    (point) =>
      point !== own &&
      !PASSING_TYPES.includes(mounts.typeOf(point) ?? '') &&
      !ENGINE_FILES.includes(targets.shown(point)),
  );
}
