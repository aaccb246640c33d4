/**
 * Takes overlays back, the last one first, as the record tells it: what was replaced or removed comes back from the
 * backup, what was new goes. One transaction, like the overlay itself.
 */
import { randomBytes } from 'node:crypto';
import type { Stats } from 'node:fs';
import { dirname } from 'node:path';
import { EntryError, errnoOf, reasonOf } from '../errors.ts';
import type { Log } from '../log.ts';
import { commit, openDirectory, withLosses } from './commit.ts';
import * as disk from './disk.ts';
import { readMounts } from './mounts.ts';
import { type OverlayRecord, readRecord, stageRecord } from './record.ts';
import type { OverlayReport, ReportEntry } from './report.ts';
import { digestOf } from './spool.ts';
import { type DirectoryFacts, exists, factsOf, type Step } from './steps.ts';
import type { Times } from './times.ts';
import { openTransaction, type Transaction } from './transaction.ts';
import { countText } from './units.ts';

export interface RevertOptions {
  readonly root: string;
  /** Where the record and the backups are. */
  readonly workDir: string;
  readonly log: Log;
  /** How many runs, from the last one back. Default: all of this root. */
  readonly runs?: number | undefined;
  /** Takes back what somebody has changed since, too. Default: false, and nothing is touched then. */
  readonly force?: boolean | undefined;
}

/** What was taken back. */
export interface RevertReport {
  readonly root: string;
  /** Runs taken back; 0: there was nothing. */
  readonly runs: number;
  /** Paths from the root that are as they were before. */
  readonly restored: readonly string[];
  /** Paths that were new and are gone. */
  readonly removed: readonly string[];
  /** Directories that were new and hold something that came later: they stay. */
  readonly left: readonly string[];
}

const SUBJECT = 'the overlay';

/** Rejects with an EntryError, DDBG_WRITE, DDBG_STATE or DDBG_ROOT; the root is then as it was. */
export function revertOverlays(options: RevertOptions): RevertReport {
  const { log, force = false } = options;
  const root = openDirectory(options.root, 'root');
  const workDir = openDirectory(options.workDir, 'work directory');
  const transaction = openTransaction(root, workDir, log);
  try {
    const record = readRecord(workDir); // after what a killed run has left is put right
    const runs = lastOf(
      record.runs.filter((run) => run.root === root),
      options.runs,
    );
    if (runs.length === 0) return nothing(root, transaction, log);
    const plan = planRevert(runs, root, transaction, force);
    commit(plan.steps, transaction, SUBJECT, root);
    const staged = stageRecord(without(record, runs), workDir, transaction);
    const lost = transaction.finish({
      backup: undefined,
      publish: [staged],
      remove: runs.map(({ backup }) => backup),
    });
    giveTimes(plan.times);
    if (lost.length > 0) log.warn(`the overlay is taken back, and something is left: ${lost[0]}`);
    const { restored, removed, left } = plan;
    const counts = `${countText(restored.length, 'path')} restored, ${removed.length} removed`;
    log.say(`took back ${countText(runs.length, 'overlay')} of ${root}: ${counts}`, {
      restored: restored.length,
      removed: removed.length,
    });
    for (const path of left) log.warn(`${path} stays: it holds something that came later`);
    return { root, runs: runs.length, restored, removed, left };
  } catch (error) {
    const known =
      error instanceof EntryError
        ? error
        : new EntryError('DDBG_WRITE', `cannot take back ${SUBJECT}: ${reasonOf(error)}`, { cause: error });
    throw withLosses(known, transaction.rollBack(), transaction.directory);
  }
}

/** The transaction gives folders the times they had just now; here those get theirs that had others before the overlay. */
function giveTimes(all: RevertPlan['times']): void {
  for (const [path, times] of all) disk.setTimes(path, times);
}

function lastOf(runs: readonly OverlayReport[], count = runs.length): readonly OverlayReport[] {
  return count > 0 ? runs.slice(-count) : [];
}

function nothing(root: string, transaction: Transaction, log: Log): RevertReport {
  transaction.rollBack();
  log.say(`nothing to take back of ${root}`, { restored: 0, removed: 0 });
  return { root, runs: 0, restored: [], removed: [], left: [] };
}

function without(record: OverlayRecord, runs: readonly OverlayReport[]): OverlayRecord {
  return { ...record, runs: record.runs.filter((run) => !runs.includes(run)) };
}

interface RevertPlan {
  readonly steps: readonly Step[];
  /** At the very end. */
  readonly times: readonly (readonly [path: string, times: Times])[];
  readonly restored: readonly string[];
  readonly removed: readonly string[];
  readonly left: readonly string[];
}

/**
 * Several runs and archives may have touched one path: what counts is what the last one left there, and what was there
 * before the first.
 */
interface Change {
  readonly path: string;
  readonly to: string;
  /** Before the first. */
  readonly was: 'nothing' | 'folder' | 'other';
  readonly first: ReportEntry;
  /** Where what was there is kept. */
  readonly original: string;
  readonly last: ReportEntry;
  /** What is there now. */
  readonly stat: Stats | undefined;
}

function planRevert(
  runs: readonly OverlayReport[],
  root: string,
  transaction: Transaction,
  force: boolean,
): RevertPlan {
  const changes = changesOf(runs, root);
  refuseLost(changes);
  const changed = changes.filter((change) => !isAsLeft(change));
  if (!force && changed.length > 0) throw hasChanged(changed.map(({ path }) => path));
  return makeSteps(changes, root, transaction, force);
}

function changesOf(runs: readonly OverlayReport[], root: string): readonly Change[] {
  const look = createLook(root);
  const changes = new Map<string, Change>();
  for (const { backup, sources } of runs) {
    for (const [index, { entries }] of sources.entries()) {
      for (const entry of entries) {
        if (entry.action === 'same') continue;
        const { path } = entry;
        const to = at(root, path);
        const known = changes.get(path);
        const was = entry.action === 'new' ? 'nothing' : entry.facts !== undefined ? 'folder' : 'other';
        const original = `${backup}/${index + 1}${path}`;
        changes.set(path, {
          ...(known ?? { path, to, was, first: entry, original, stat: look(to) }),
          last: entry,
        });
      }
    }
  }
  return [...changes.values()];
}

/** What is at a path, through folders alone: a symlink among them leads to where nothing of ours is. */
function createLook(root: string): (path: string) => Stats | undefined {
  const folders = new Map<string, boolean>([[root, true]]);
  const isFolder = (path: string): boolean => {
    const known = folders.get(path) ?? (isFolder(dirname(path)) && disk.lookAt(path)?.isDirectory() === true);
    folders.set(path, known);
    return known;
  };
  return (path) => (isFolder(dirname(path)) ? disk.lookAt(path) : undefined);
}

function refuseLost(changes: readonly Change[]): void {
  const lost = changes.filter(({ was, original }) => was === 'other' && disk.lookAt(original) === undefined);
  if (lost.length === 0) return;
  const names = lost.map(({ path }) => path).join(', ');
  throw new EntryError('DDBG_WRITE', `cannot take back ${SUBJECT}: the originals are gone of ${names}`, {
    hint: 'Start a new container.',
  });
}

function hasChanged(paths: readonly string[]): EntryError {
  return new EntryError(
    'DDBG_WRITE',
    `cannot take back ${SUBJECT}: changed since: ${[...new Set(paths)].join(', ')}`,
    { hint: 'Take it back all the same with force (ddbg revert --force), if those changes may be lost.' },
  );
}

function isAsLeft({ to, last, stat }: Change): boolean {
  if (last.action === 'removed') return stat === undefined;
  if (stat === undefined) return false;
  if (last.kind === 'directory') return stat.isDirectory();
  if (last.kind === 'symlink') return stat.isSymbolicLink() && disk.readlinkSync(to) === last.linkTarget;
  return stat.isFile() && stat.size === last.size && digestOf(to) === last.sha256;
}

/**
 * What was replaced comes back before what was new goes: a link must not lead nowhere for a moment. Only where a
 * folder is in the way of something else, or the other way round, that goes first.
 */
function makeSteps(
  changes: readonly Change[],
  root: string,
  transaction: Transaction,
  force: boolean,
): RevertPlan {
  const { directory } = transaction;
  const places = createPlaces(transaction);
  const keep = (path: string): string => `${directory}/old${path}`;
  const inTheWay = new Set(
    changes.filter(({ was, stat }) => was !== 'nothing' && stat && stat.isDirectory() !== (was === 'folder')),
  );
  const { going, left } = whatGoes(changes, inTheWay, directory, force);
  const isFirst = ({ to }: Change): boolean =>
    [...inTheWay].some((other) => `${to}/`.startsWith(`${other.to}/`));
  const stepsOf = (list: readonly Going[]): readonly Step[] => list.flatMap(({ step }) => step ?? []);
  const restored = changes.filter(({ was }) => was !== 'nothing');
  refuseWithoutFolder(restored, root);
  const folders = restored.flatMap(({ to, stat, first: { facts } }) => (facts ? [{ to, stat, facts }] : []));
  const remade = folders
    .filter(({ stat }) => stat?.isDirectory() !== true)
    .toSorted((one, other) => depth(one.to) - depth(other.to));
  const kept = folders.filter(({ stat }) => stat?.isDirectory() === true);
  const filling = restored
    .filter(({ was }) => was === 'other')
    .flatMap((change, index) =>
      bringBack(change, inTheWay.has(change), places(change.to, index), keep(change.path)),
    );
  return {
    steps: withOpenFolders([
      ...stepsOf(going.filter(({ change }) => isFirst(change))),
      ...remade.map(({ to, facts }): Step => ({ do: 'make-folder', to, facts })),
      ...filling,
      ...stepsOf(going.filter(({ change }) => !isFirst(change))),
      ...kept.map(({ to, facts }): Step => ({ do: 'set-folder', to, facts, before: factsOf(to) })),
    ]),
    times: [
      ...folders.map(({ to, facts }) => [to, facts.times] as const),
      ...[...inTheWay].flatMap(({ was, to, original }) =>
        was === 'other' ? [[to, disk.timesOf(original)] as const] : [],
      ),
    ],
    restored: restored.map(({ path }) => path),
    removed: going.filter(({ change }) => change.was === 'nothing').map(({ change }) => change.path),
    left,
  };
}

/** Where an original waits for its rename: of our own, or, for another file system, above its target. */
function createPlaces({ directory, note }: Transaction): (target: string, index: number) => string {
  const mounts = readMounts();
  const near = mounts.pointOf(directory);
  const mark = randomBytes(6).toString('hex'); // unguessable, so that nobody waits there for us
  disk.makeFolders(`${directory}/new`);
  return (target, index) => {
    if (mounts.pointOf(target) === near) return `${directory}/new/${index}`;
    let folder = dirname(target);
    while (!exists(folder)) folder = dirname(folder);
    const beside = `${folder}/.ddbg-overlay.${mark}-${index}`;
    note({ temporary: [beside], times: [[folder, disk.timesOf(folder)]] });
    return beside;
  };
}

interface Going {
  readonly change: Change;
  /** Undefined: it goes with its folder. */
  readonly step: Step | undefined;
}

/** Files, then the folders that hold nothing else, the deepest first. */
function whatGoes(
  changes: readonly Change[],
  inTheWay: ReadonlySet<Change>,
  directory: string,
  force: boolean,
): { going: readonly Going[]; left: readonly string[] } {
  const candidates = changes.filter(
    (change) => change.stat && (change.was === 'nothing' || inTheWay.has(change)),
  );
  const going: Going[] = candidates
    .filter(({ stat }) => stat?.isDirectory() !== true)
    .map((change) => ({
      change,
      step: { do: 'remove', to: change.to, old: `${directory}/old${change.path}` },
    }));
  const names = new Set(going.map(({ change }) => change.to));
  const left: string[] = [];
  const folders = candidates.filter(({ stat }) => stat?.isDirectory() === true);
  for (const change of folders.toSorted((one, other) => depth(other.to) - depth(one.to))) {
    const { path, to } = change;
    const isEmptied = disk.readdirSync(to).every((name) => names.has(`${to}/${name}`));
    if (!isEmptied && !inTheWay.has(change)) {
      left.push(path);
      continue;
    }
    names.add(to);
    if (isEmptied) {
      const spare = `${directory}/spare/${going.length}`;
      going.push({ change, step: { do: 'remove-folder', to, facts: factsOf(to), spare } });
      continue;
    }
    if (!force) throw hasChanged([path]);
    for (const [index, one] of going.entries())
      if (one.change.to.startsWith(`${to}/`)) going[index] = { change: one.change, step: undefined };
    going.push({ change, step: { do: 'remove', to, old: `${directory}/old${path}` } });
  }
  return { going, left };
}

function bringBack(
  { to, first, original, stat }: Change,
  isGone: boolean,
  from: string,
  old: string,
): readonly Step[] {
  const isThere = stat !== undefined && !isGone;
  if (isThere && first.inPlace) return [{ do: 'write', from: original, to, old }];
  if (linkUnlessRefused(original, from))
    return [isThere ? { do: 'replace', from, to, old } : { do: 'add', from, to }];
  return [...(isThere ? [{ do: 'remove', to, old } as const] : []), { do: 'add', from: original, to }];
}

/** False: nobody but its owner may give a file a second name (fs.protected_hardlinks), and a copy would not be his. */
function linkUnlessRefused(original: string, from: string): boolean {
  try {
    disk.linkSync(original, from);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'EPERM') return false;
  }
  disk.linkOrCopy(original, from);
  return true;
}

/** What comes back needs its folder, and not one that a symlink leads to. */
function refuseWithoutFolder(restored: readonly Change[], root: string): void {
  const look = createLook(root);
  const remade = new Set(restored.filter(({ was }) => was === 'folder').map(({ to }) => to));
  const lost = restored
    .map(({ to }) => dirname(to))
    .find((folder) => folder !== root && !remade.has(folder) && look(folder)?.isDirectory() !== true);
  if (lost === undefined) return;
  const why = `${shownBelow(root, lost)} is no directory any more`;
  throw new EntryError('DDBG_WRITE', `cannot take back ${SUBJECT}: ${why}`, { hint: 'Make it again first.' });
}

/** Whoever owns a folder may change it all the same, its mode set back afterwards. Root need not. */
function withOpenFolders(steps: readonly Step[]): readonly Step[] {
  const uid = process.geteuid?.();
  const parents = new Set(steps.filter((step) => step.do !== 'set-folder').map(({ to }) => dirname(to)));
  const opened = new Map<string, DirectoryFacts>();
  const opening: Step[] = [];
  const closing: Step[] = [];
  const going = new Set(steps.flatMap((step) => (step.do === 'remove-folder' ? [step.to] : [])));
  const set = new Set(steps.flatMap((step) => (step.do === 'set-folder' ? [step.to] : [])));
  for (const to of uid === 0 ? [] : parents) {
    const stat = disk.lookAt(to);
    if (stat?.isDirectory() !== true || stat.uid !== uid || (stat.mode & 0o300) === 0o300) continue;
    const closed = factsOf(to);
    const open = { ...closed, mode: closed.mode | 0o300 };
    opened.set(to, open);
    opening.push({ do: 'set-folder', to, facts: open, before: closed });
    if (!going.has(to) && !set.has(to)) closing.push({ do: 'set-folder', to, facts: closed, before: open });
  }
  const within = steps.map((step): Step => {
    const open = opened.get(step.to);
    if (open === undefined) return step;
    if (step.do === 'remove-folder') return { ...step, facts: open };
    return step.do === 'set-folder' ? { ...step, before: open } : step;
  });
  return [...opening, ...within, ...closing];
}

function at(root: string, path: string): string {
  return root === '/' ? path : `${root}${path}`;
}

function shownBelow(root: string, path: string): string {
  return root === '/' ? path : path.slice(root.length);
}

function depth(path: string): number {
  return path.split('/').length;
}
