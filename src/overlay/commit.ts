/**
 * The moment of change: synchronous, so that nothing of ours runs in between, and with a way back for every step. The
 * original of each replaced file first gets a second name beside it, then the new one is renamed over the first: at no
 * moment is a name missing that programs need (libc), a running program keeps its inode, and an undo brings back the
 * same inode.
 */
import * as fs from 'node:fs';
import { dirname } from 'node:path';
import { errnoOf, reasonOf } from '../errors.ts';
import type { Step } from './stage.ts';
import { temporaryMark } from './stage.ts';
import { writeFully } from './store.ts';
import { refusal, type Subject } from './subject.ts';
import { timesOf } from './times.ts';

export interface Committed {
  /** The root as it was before. The reasons of what could not be put back; empty: all is. */
  undo(): readonly string[];
  /** Gives up the way back: moves the originals below `directory`. The reasons of what could not be moved. */
  keep(directory: string): readonly string[];
}

export interface CommitContext {
  readonly subject: Subject;
  readonly workDir: string;
}

interface Undo {
  readonly shown: string;
  readonly run: () => void;
}

interface Original {
  readonly shown: string;
  readonly kept: string;
}

export function commit(steps: readonly Step[], context: CommitContext): Committed {
  const undos: Undo[] = [];
  const originals: Original[] = [];
  const names = temporaryNames();
  const committed = {
    undo: () => undoAll(undos),
    keep: (directory: string) => keepAll(originals, directory),
  };
  for (const step of steps) {
    try {
      if (step.kind === 'in-place') writeInPlace(step, undos, originals, `${context.workDir}/${names()}`);
      else rename(step, undos, originals, names);
    } catch (error) {
      throw failed(step, error, committed.undo(), context);
    }
  }
  return committed;
}

function temporaryNames(): () => string {
  const mark = `${temporaryMark()}-old`;
  let count = 0;
  return () => `${mark}-${count++}`;
}

function failed(step: Step, error: unknown, lost: readonly string[], context: CommitContext): Error {
  const state = lost.length === 0 ? 'nothing is changed' : `and could not be put back: ${lost.join('; ')}`;
  const hint =
    lost.length === 0
      ? undefined
      : `The originals lie beside their places as .ddbg-*, or in ${context.workDir}.`;
  return refusal(
    'DDBG_WRITE',
    'replace',
    context.subject,
    `${step.shown}: ${reasonOf(error)}; ${state}`,
    hint,
    error,
  );
}

function rename(step: Step, undos: Undo[], originals: Original[], names: () => string): void {
  const { from, to, shown, kind } = step;
  const kept =
    kind === 'directory' ? undefined : keepBeside(to, `${dirname(to) === '/' ? '' : dirname(to)}/${names()}`);
  if (kept !== undefined) {
    undos.push({ shown, run: () => putBack(kept, to) });
    originals.push({ shown, kept });
  }
  fs.renameSync(from, to);
  if (kept === undefined) undos.push({ shown, run: () => fs.renameSync(to, from) });
}

/** A second name for what is there; undefined when nothing is. A symlink is linked itself, not what it leads to. */
function keepBeside(path: string, kept: string): string | undefined {
  try {
    fs.linkSync(path, kept);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    // A directory that was not there at the check: link(2) says EPERM for it, too.
    if (fs.lstatSync(path).isDirectory()) throw error;
    // EPERM: fs.protected_hardlinks, for a file of somebody else, or a file system without links. The name is missing
    // for some microseconds then, but it is still the same file that an undo brings back.
    fs.renameSync(path, kept);
  }
  return kept;
}

/** rename(2) between two names of one inode does nothing and leaves both: so it is when the replacing failed. */
function putBack(kept: string, path: string): void {
  fs.renameSync(kept, path);
  fs.rmSync(kept, { force: true });
}

/** A bind-mounted file: its inode is somebody else's too, so mode and owner stay, and the content changes in place. */
function writeInPlace(step: Step, undos: Undo[], originals: Original[], kept: string): void {
  const { atime, mtime } = timesOf(step.to);
  undos.push({ shown: step.shown, run: () => fs.rmSync(kept, { force: true }) });
  fs.copyFileSync(step.to, kept, fs.constants.COPYFILE_EXCL);
  originals.push({ shown: step.shown, kept });
  undos.push({
    shown: step.shown,
    run: () => {
      overwrite(step.to, kept);
      fs.utimesSync(step.to, atime, mtime);
    },
  });
  overwrite(step.to, step.from);
  fs.rmSync(step.from, { force: true });
}

function overwrite(path: string, from: string): void {
  const content = fs.readFileSync(from);
  const fd = fs.openSync(path, fs.constants.O_WRONLY | fs.constants.O_NOFOLLOW);
  try {
    writeFully(fd, content, 0);
    fs.ftruncateSync(fd, content.length);
  } finally {
    fs.closeSync(fd);
  }
}

function undoAll(undos: Undo[]): readonly string[] {
  const lost: string[] = [];
  for (let undo = undos.pop(); undo !== undefined; undo = undos.pop()) {
    try {
      undo.run();
    } catch (error) {
      lost.push(`${undo.shown}: ${reasonOf(error)}`);
    }
  }
  return lost;
}

function keepAll(originals: readonly Original[], directory: string): readonly string[] {
  const lost: string[] = [];
  for (const { shown, kept } of originals) {
    try {
      moveTo(kept, `${directory}${shown}`);
    } catch (error) {
      lost.push(`${shown}: ${reasonOf(error)}`);
      // Whoever finds it must not take it for part of the system.
      fs.rmSync(kept, { force: true });
    }
  }
  return lost;
}

function moveTo(from: string, to: string): void {
  fs.mkdirSync(dirname(to), { recursive: true, mode: 0o700 });
  try {
    fs.renameSync(from, to);
  } catch (error) {
    if (errnoOf(error) !== 'EXDEV') throw error;
    copyTo(from, to);
    fs.rmSync(from);
  }
}

function copyTo(from: string, to: string): void {
  const stat = fs.lstatSync(from);
  const { atime, mtime } = timesOf(from);
  if (stat.isSymbolicLink()) {
    fs.symlinkSync(fs.readlinkSync(from), to);
    fs.lutimesSync(to, atime, mtime);
    return;
  }
  fs.copyFileSync(from, to);
  if (process.geteuid?.() === 0) fs.chownSync(to, stat.uid, stat.gid); // before chmod: chown drops setuid
  fs.chmodSync(to, stat.mode & 0o7777);
  fs.utimesSync(to, atime, mtime);
}
