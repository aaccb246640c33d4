/**
 * One change of a root, all or nothing, whatever ends us in the middle. All of it lies in one folder at the top of the
 * root, or in our own directory where that cannot be written:
 *
 *     .ddbg-overlay/owner     who is at work: it is the lock
 *                   journal   what is about to be done, one JSON value a line, each written before it is done
 *                   new/      what is to be put in place
 *                   old/      the originals of what was
 *
 * At the end the folder is gone. Found again by the next run, its owner dead: all that the journal says is taken back,
 * or, where it says done, brought to its end. The kernel keeps what was written before a KILL; nothing is forced to
 * the disk, so a machine that loses its power loses this promise too.
 */
import { randomBytes } from 'node:crypto';
import { appendFileSync, linkSync, readFileSync, readlinkSync, type Stats, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { readStat } from '../container/stat.ts';
import { EntryError, errnoOf, reasonOf } from '../errors.ts';
import type { Log } from '../log.ts';
import * as disk from './disk.ts';
import { readMounts } from './mounts.ts';
import { exists, type Step, setTimesIfOurs, undo } from './steps.ts';
import type { Times } from './times.ts';
import { countText } from './units.ts';

const FOLDER = '.ddbg-overlay';

/** A name that no archive may bring. */
export function isOurName(component: string): boolean {
  return component.startsWith(FOLDER);
}

export interface Transaction {
  /** Ours alone, mode 0700. */
  readonly directory: string;
  /** Announces what is done next. */
  note(line: Line): void;
  /** Makes sure, while all can still be taken back, that there is room for the originals at `backup`. */
  prepareBackup(backup: string): void;
  /** From here on nothing is taken back. Returns what could not be brought to its end. */
  finish(done: Done): readonly string[];
  /** The root as it was. Returns what could not be put back. */
  rollBack(): readonly string[];
}

/** A line of the journal. */
export type Line =
  /** Directories whose times must survive, before something in them changes. */
  | { readonly times: readonly (readonly [directory: string, times: Times])[] }
  /** What lies outside the folder for a while, beside its target. */
  | { readonly temporary: readonly string[] }
  | { readonly steps: readonly Step[] }
  | { readonly done: Done };

/** What is left to do when all steps are done. */
export interface Done {
  /** Where the originals go, prepared; undefined: they are not kept. */
  readonly backup: string | undefined;
  /** Files that are renamed: the record. */
  readonly publish: readonly { readonly from: string; readonly to: string }[];
  /** Trees that are not needed any more. */
  readonly remove: readonly string[];
}

/**
 * @param root where the folder is made if it can be
 * @param workDir where else
 * @throws EntryError `DDBG_WRITE` where another run is at work, or neither place can be written
 */
export function openTransaction(root: string, workDir: string, log: Log): Transaction {
  const refusals: string[] = [];
  for (const place of [root, workDir]) {
    try {
      return acquire(place === '/' ? `/${FOLDER}` : `${place}/${FOLDER}`, workDir, root, log);
    } catch (error) {
      if (error instanceof EntryError) throw error;
      refusals.push(`${place}: ${reasonOf(error)}`);
    }
  }
  throw new EntryError('DDBG_WRITE', `cannot prepare an overlay of ${root}: ${refusals.join('; ')}`, {
    hint: 'Run the container with --user 0, or give our own files a place with --state-dir=DIR.',
  });
}

/** Puts right what a killed run has left, and does nothing else. */
export function recover(root: string, workDir: string, log: Log): void {
  openTransaction(root, workDir, log).rollBack();
}

/** A folder in our hands, and what its journal says. */
interface Held {
  readonly directory: string;
  readonly workDir: string;
  readonly lines: readonly Line[];
}

function createTransaction(directory: string, workDir: string, lines: Line[]): Transaction {
  const journal = join(directory, 'journal');
  const held = { directory, workDir, lines };
  return {
    directory,
    note(line) {
      appendFileSync(journal, asText(line), { mode: 0o600 });
      lines.push(line);
    },
    prepareBackup(backup) {
      const old = join(directory, 'old');
      if (!exists(old)) return;
      disk.makeFolders(dirname(backup));
      const mounts = readMounts();
      if (mounts.pointOf(directory) === mounts.pointOf(workDir)) return; // one rename is all
      this.note({ temporary: [backup] });
      copyTree(old, backup);
    },
    finish(done) {
      this.note({ done });
      return bringToEnd(held, done);
    },
    rollBack: () => takeBack(held),
  };
}

function asText(line: Line): string {
  return `${JSON.stringify(line)}\n`;
}

function takeBack(held: Held): readonly string[] {
  const lost: string[] = [];
  const steps = held.lines.flatMap((line) => ('steps' in line ? line.steps : []));
  for (const step of steps.toReversed()) {
    attempt(step.to, lost, () => undo(step));
  }
  // With something lost the journal stays: the originals in the folder are all there is of them.
  release(held, lost.length > 0, lost, temporariesOf(held));
  return lost;
}

function bringToEnd(held: Held, done: Done): readonly string[] {
  const { directory } = held;
  const lost: string[] = [];
  const { backup } = done;
  if (backup !== undefined) attempt(backup, lost, () => keepOriginals(join(directory, 'old'), backup));
  for (const { from, to } of done.publish)
    attempt(to, lost, () => {
      if (exists(from)) disk.renameSync(from, to);
    });
  for (const path of done.remove) attempt(path, lost, () => disk.removeTree(path));
  release(
    held,
    false,
    lost,
    temporariesOf(held).filter((path) => path !== backup),
  );
  return lost;
}

function temporariesOf({ lines }: Held): readonly string[] {
  return lines.flatMap((line) => ('temporary' in line ? line.temporary : []));
}

/** What is on another file system was copied there while it was prepared. */
function keepOriginals(old: string, backup: string): void {
  if (!exists(old) || exists(backup)) return;
  try {
    disk.renameSync(old, backup);
  } catch (error) {
    if (errnoOf(error) !== 'EXDEV') throw error; // two places, though the mounts do not say so
    copyTree(old, backup);
  }
}

/** The folders are ours; only what lies in them is an original. */
function copyTree(from: string, to: string): void {
  disk.makeFolders(to);
  for (const name of disk.readdirSync(from)) {
    if (disk.lstatSync(`${from}/${name}`).isDirectory()) copyTree(`${from}/${name}`, `${to}/${name}`);
    else disk.copySync(`${from}/${name}`, `${to}/${name}`);
  }
}

/**
 * The times come back while the journal still knows them. Then the folder leaves the root, in one moment, for a half
 * removed one must never be read again; its journal outlives it until the root has its time back, too.
 */
function release(
  { directory, workDir, lines }: Held,
  keep: boolean,
  lost: string[],
  temporaries: readonly string[],
): void {
  for (const path of temporaries) {
    attempt(path, lost, () => {
      disk.removeTree(path);
      disk.removeTree(`${dirname(path)}/${disk.PART}`);
    });
  }
  // In reverse: of two notes of one directory the first is right.
  const times = lines.flatMap((line) => ('times' in line ? line.times : [])).toReversed();
  const restore = ([path, noted]: (typeof times)[number]): void =>
    attempt(`the times of ${path}`, lost, () => restoreTimes(path, noted));
  times.forEach(restore);
  if (keep) attempt(directory, lost, () => disk.unlinkSync(join(directory, 'owner')));
  else takeAway(directory, workDir, () => times.slice(-1).forEach(restore), lost);
}

function takeAway(directory: string, workDir: string, restoreRoot: () => void, lost: string[]): void {
  const dying = [workDir, dirname(directory)]
    .map((parent) => join(parent, `${FOLDER}-old-${randomBytes(6).toString('hex')}`))
    .find((path) => {
      attempt(directory, [], () => disk.renameSync(directory, path)); // EXDEV: our own directory is elsewhere
      return !exists(directory);
    });
  restoreRoot();
  if (dying === undefined) lost.push(`${directory}: it cannot be taken away`);
  else attempt(dying, lost, () => disk.removeTree(dying));
  restoreRoot(); // it may have lain there
}

/** One that is gone needs none, and on a read-only one nothing has changed. */
function restoreTimes(path: string, times: Times): void {
  try {
    setTimesIfOurs(path, times);
  } catch (error) {
    if (!['ENOENT', 'ENOTDIR', 'EROFS'].includes(errnoOf(error) ?? '')) throw error;
  }
}

function attempt(shown: string, lost: string[], action: () => void): void {
  try {
    action();
  } catch (error) {
    lost.push(`${shown}: ${reasonOf(error)}`);
  }
}

/**
 * The folder is made ready elsewhere, with its owner and the times of the root in it, and comes to its place by a
 * rename, which fails where one is: so it is never there without them. What a dead run has left is put right first.
 */
function acquire(directory: string, workDir: string, root: string, log: Log): Transaction {
  sweep(dirname(directory), workDir);
  for (let tries = 0; tries < 5; tries += 1) {
    const lines = prepareAndPlace(directory, workDir, root);
    if (lines !== undefined) return createTransaction(directory, workDir, lines);
    refuseOthers(directory);
    if (!claim(directory, root)) continue;
    putRight({ directory, workDir, lines: readJournal(join(directory, 'journal')) }, log);
  }
  throw busy(directory, 'it is taken again and again');
}

/** Undefined: there is one already. */
function prepareAndPlace(directory: string, workDir: string, root: string): Line[] | undefined {
  const lines: Line[] = [{ times: [[root, disk.timesOf(root)]] }];
  const place = dirname(directory);
  const prepared: string[] = [];
  try {
    for (const parent of new Set([workDir, place])) {
      const path = join(parent, nameOfNew());
      prepared.push(path);
      prepare(path, lines);
      if (renameUnlessElsewhere(path, directory)) return lines;
      // It waits: should a KILL come now, its journal says what times the root has had.
    }
  } catch (error) {
    if (!['ENOTEMPTY', 'EEXIST', 'ENOTDIR'].includes(errnoOf(error) ?? '')) throw error;
    return undefined;
  } finally {
    for (const path of prepared.toReversed()) {
      attempt(path, [], () => disk.removeTree(path));
      if (dirname(path) === root) attempt(root, [], () => restore(lines));
    }
  }
  throw new Error('it cannot be renamed into its place');
}

function restore(lines: readonly Line[]): void {
  for (const line of lines)
    if ('times' in line) for (const [path, times] of line.times) restoreTimes(path, times);
}

function prepare(path: string, lines: readonly Line[]): void {
  disk.mkdirSync(path, 0o700);
  disk.chmodSync(path, 0o700); // below a folder with setgid it has that bit too
  writeFileSync(join(path, 'owner'), JSON.stringify(identify()), { mode: 0o600, flag: 'wx' });
  writeFileSync(join(path, 'journal'), lines.map(asText).join(''), { mode: 0o600, flag: 'wx' });
}

/** False: it lies on another file system. */
function renameUnlessElsewhere(from: string, to: string): boolean {
  try {
    disk.renameSync(from, to);
    return true;
  } catch (error) {
    if (errnoOf(error) !== 'EXDEV') throw error;
    return false;
  }
}

/** Whose it is, from the first moment on: its owner's file is not there yet. */
function nameOfNew(): string {
  return `${FOLDER}-new-${process.pid}-${readStat('self')?.startTicks ?? 0}-${randomBytes(6).toString('hex')}`;
}

/** What was on its way in or out when its run was killed. It knows what times the root had before. */
function sweep(place: string, workDir: string): void {
  const places = [...new Set([place, workDir])]; // the notes go last
  const left = places.flatMap((parent) => leftIn(parent));
  if (left.length === 0) return;
  const times = new Map(places.map((parent) => [parent, disk.timesOf(parent)]));
  for (const path of left.toReversed()) {
    const [first] = readJournal(join(path, 'journal'));
    if (first !== undefined && 'times' in first)
      for (const [root, noted] of first.times) times.set(root, noted);
  }
  for (const parent of places) {
    for (const path of left) if (dirname(path) === parent) attempt(path, [], () => disk.removeTree(path));
    for (const [path, noted] of times) attempt(path, [], () => restoreTimes(path, noted));
  }
}

const LEAVING = /^\.ddbg-overlay-(?:old|new-(?<pid>\d+)-(?<start>\d+))-[0-9a-f]{12}$/;

function leftIn(parent: string): readonly string[] {
  const names = disk.readdirSync(parent).filter((name) => {
    const found = LEAVING.exec(name);
    const path = join(parent, name);
    return found !== null && isOurs(disk.lookAt(path)) && !isBeingPrepared(path, found.groups);
  });
  return names.map((name) => join(parent, name));
}

function isBeingPrepared(path: string, { pid, start }: Readonly<Record<string, string>> = {}): boolean {
  if (pid === undefined) return false; // on its way out
  const owner = readOwner(join(path, 'owner'));
  return owner === undefined ? readStat(Number(pid))?.startTicks === Number(start) : isAlive(owner);
}

/** A journal is an order to rename files: nobody else's is ever read. */
function refuseOthers(directory: string): void {
  const stat = disk.lookAt(directory);
  if (stat === undefined) return;
  const { uid, mode } = stat;
  if (isOurs(stat)) return;
  throw busy(directory, `it belongs to uid ${uid}, mode ${(mode & 0o7777).toString(8)}, and not to us alone`);
}

function isOurs(stat: Stats | undefined): boolean {
  return stat?.isDirectory() === true && stat.uid === process.geteuid?.() && (stat.mode & 0o077) === 0;
}

/** False: try once more. The owner's file appears whole, by link(2): whoever makes it has the lock. */
function claim(directory: string, root: string): boolean {
  const file = join(directory, 'owner');
  const own = `${file}.${randomBytes(6).toString('hex')}`;
  try {
    writeFileSync(own, JSON.stringify(identify()), { mode: 0o600, flag: 'wx' });
    linkSync(own, file);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false; // the folder went away
    if (errnoOf(error) !== 'EEXIST') throw error;
  } finally {
    disk.removeTree(own);
  }
  refuseIfAlive(file, directory, root);
  evict(file, directory, root);
  return false;
}

interface Owner {
  readonly pid: number;
  readonly startTicks: number | undefined;
  readonly boot: string;
  /** The pid namespace: a restarted container has a new one. */
  readonly namespace: string;
}

function identify(): Owner {
  return {
    pid: process.pid,
    startTicks: readStat('self')?.startTicks,
    boot: textOr('', () => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()),
    namespace: textOr('', () => readlinkSync('/proc/self/ns/pid')),
  };
}

function textOr(otherwise: string, read: () => string): string {
  try {
    return read();
  } catch {
    return otherwise;
  }
}

function refuseIfAlive(file: string, directory: string, root: string): void {
  const owner = readOwner(file);
  if (owner === undefined) return;
  if (isAlive(owner)) throw busy(directory, `process ${owner.pid} is laying another overlay over it`);
  const here = identify();
  // The root of a container ends with its pids; any other directory may be in the hands of another container.
  if (root !== '/' && owner.boot === here.boot && owner.namespace !== here.namespace)
    throw busy(
      directory,
      `a process of another container (${owner.namespace}) is at work, or was killed there`,
    );
}

function isAlive({ pid, startTicks, boot, namespace }: Owner): boolean {
  const here = identify();
  return boot === here.boot && namespace === here.namespace && readStat(pid)?.startTicks === startTicks;
}

function readOwner(file: string): Owner | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Owner;
  } catch {
    return undefined;
  }
}

/** Takes a dead owner's file away. Whoever came first may have put a living one there: that goes back. */
function evict(file: string, directory: string, root: string): void {
  const aside = `${file}.${randomBytes(6).toString('hex')}`;
  try {
    disk.renameSync(file, aside);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return;
    throw error;
  }
  try {
    refuseIfAlive(aside, directory, root);
  } catch (error) {
    disk.renameSync(aside, file);
    throw error;
  }
  disk.unlinkSync(aside);
}

function busy(directory: string, why: string): EntryError {
  return new EntryError('DDBG_WRITE', `cannot lay an overlay over ${dirname(directory)}: ${why}`, {
    hint: `Wait for it to end. If you are sure that nobody is at work there, remove ${directory}.`,
  });
}

/** A last line that is cut off announced something that was not begun. */
function readJournal(path: string): Line[] {
  const text = textOr('', () => readFileSync(path, 'utf8'));
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Line);
}

function putRight(held: Held, log: Log): void {
  const { directory, lines } = held;
  const done = lines.flatMap((line) => ('done' in line ? [line.done] : []))[0];
  const steps = lines.flatMap((line) => ('steps' in line ? line.steps : [])).length;
  const lost = done === undefined ? takeBack(held) : bringToEnd(held, done);
  if (lost.length > 0) {
    throw new EntryError(
      'DDBG_WRITE',
      `cannot put right what a killed overlay has left in ${dirname(directory)}: ${lost.join('; ')}`,
      { hint: `The originals are below ${directory}/old; start a new container.` },
    );
  }
  if (steps > 0) {
    const what = done === undefined ? 'rolled back' : 'complete, only its record was missing';
    log.say(`an overlay was cut off in the middle: ${what} (${countText(steps, 'step')})`, { steps });
  }
}
