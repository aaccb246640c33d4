/**
 * Exactly one overlay of a root at a time: how a transaction's folder comes to its place, and into whose hands. It is
 * made ready elsewhere, with its owner and the times of the root in it, and placed by a rename, which fails where one
 * is: so it is never there without them.
 */
import { randomBytes } from 'node:crypto';
import { linkSync, readFileSync, type Stats, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { attempt, linkOf, textOf } from '../attempt.ts';
import { readStat } from '../container/stat.ts';
import { EntryError, errnoOf } from '../errors.ts';
import * as disk from './disk.ts';
import { FOLDER, formatLine, type Line, readJournal, timesIn } from './journal.ts';
import { restoreTimes } from './steps.ts';

/** Undefined: there is one already. */
export function prepareAndPlace(directory: string, workDir: string, root: string): Line[] | undefined {
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
      quietly(() => disk.removeTree(path));
      if (dirname(path) === root) quietly(() => restore(lines));
    }
  }
  throw new Error('it cannot be renamed into its place');
}

function restore(lines: readonly Line[]): void {
  for (const [path, times] of timesIn(lines)) restoreTimes(path, times);
}

function prepare(path: string, lines: readonly Line[]): void {
  disk.mkdirSync(path, 0o700);
  disk.chmodSync(path, 0o700); // below a folder with setgid it has that bit too
  writeFileSync(join(path, 'owner'), JSON.stringify(identify()), { mode: 0o600, flag: 'wx' });
  writeFileSync(join(path, 'journal'), lines.map(formatLine).join(''), { mode: 0o600, flag: 'wx' });
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
export function sweep(place: string, workDir: string): void {
  const places = [...new Set([place, workDir])]; // the notes go last
  const left = places.flatMap((parent) => leftIn(parent));
  if (left.length === 0) return;
  const times = new Map(places.map((parent) => [parent, disk.timesOf(parent)]));
  for (const path of left.toReversed()) {
    const first = readJournal(join(path, 'journal')).slice(0, 1);
    for (const [root, noted] of timesIn(first)) times.set(root, noted);
  }
  for (const parent of places) {
    for (const path of left) if (dirname(path) === parent) quietly(() => disk.removeTree(path));
    for (const [path, noted] of times) quietly(() => restoreTimes(path, noted));
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
export function refuseOthers(directory: string): void {
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
export function claim(directory: string, root: string): boolean {
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
    boot: textOf('/proc/sys/kernel/random/boot_id')?.trim() ?? '',
    namespace: linkOf('/proc/self/ns/pid') ?? '',
  };
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
  return attempt(() => JSON.parse(readFileSync(file, 'utf8')) as Owner);
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

export function busy(directory: string, why: string): EntryError {
  return new EntryError('DDBG_WRITE', `cannot lay an overlay over ${dirname(directory)}: ${why}`, {
    hint: `Wait for it to end. If you are sure that nobody is at work there, remove ${directory}.`,
  });
}

function quietly(action: () => void): void {
  try {
    action();
  } catch {}
}
