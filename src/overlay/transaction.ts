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
import { appendFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { EntryError, errnoOf, reasonOf } from '../errors.ts';
import type { Log } from '../log.ts';
import * as disk from './disk.ts';
import { type Done, FOLDER, formatLine, type Line, readJournal, timesIn } from './journal.ts';
import { busy, claim, prepareAndPlace, refuseOthers, sweep } from './lock.ts';
import { readMounts } from './mounts.ts';
import { exists, restoreTimes, undo } from './steps.ts';
import { countText } from './units.ts';

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
      appendFileSync(journal, formatLine(line), { mode: 0o600 });
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
  const times = timesIn(lines).toReversed();
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

function attempt(shown: string, lost: string[], action: () => void): void {
  try {
    action();
  } catch (error) {
    lost.push(`${shown}: ${reasonOf(error)}`);
  }
}

/** What a dead run has left is put right first. */
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
