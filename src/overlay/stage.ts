/**
 * Makes ready beside the root all that an archive brings, so that the commit is renames and nothing else. A chain of
 * folders that are not there is built whole and put in place by one rename. What ends on another file system than the
 * spool lies under a temporary name beside its target.
 */
import { randomBytes } from 'node:crypto';
import { basename, dirname } from 'node:path';
import { EntryError, errnoOf, reasonOf } from '../errors.ts';
import type { Arranged } from './arrange.ts';
import { directoryMode, fileMode, ourselves, ownerOf, setAttributes, type Taking } from './attributes.ts';
import type { Checked, Placement } from './check.ts';
import * as disk from './disk.ts';
import type { Mounts } from './mounts.ts';
import { digestOf, ROOM, type Spool } from './spool.ts';
import { type DirectoryFacts, factsOf, type Step } from './steps.ts';
import { refusal, type Subject } from './subject.ts';
import type { Transaction } from './transaction.ts';

export interface StageContext {
  readonly subject: Subject;
  readonly taking: Taking;
  readonly spool: Spool;
  readonly transaction: Transaction;
  readonly mounts: Mounts;
  /** Where originals are to be kept. */
  readonly old: string;
}

export interface Staged {
  /** In the order of the commit. */
  readonly steps: readonly Step[];
  /** By target. */
  readonly files: ReadonlyMap<string, StagedFile>;
}

export interface StagedFile {
  readonly mode: number;
  /** Of the file that is there now; undefined where there is none, or none that we may read. */
  readonly sha256Before: string | undefined;
}

export function stage(checked: Checked, context: StageContext): Staged {
  const places = createPlaces(checked, context);
  const files = new Map<string, StagedFile>();
  for (const { target, shown } of checked.newDirectories) {
    // Ours alone until the end: an archive may say 0555, and nothing could be put into it.
    attempt(context.subject, shown, () => disk.makeFolders(places.of(target)));
  }
  for (const placement of checked.placements) {
    const { kind } = placement.arranged.entry;
    if (kind === 'symlink') stageSymlink(placement, places.free(placement.target), context);
    const sha256Before = digestBefore(placement);
    const mode = kind === 'file' ? stageFile(placement, places, context) : 0o777;
    files.set(placement.target, { mode, sha256Before });
  }
  stageHardLinks(checked, places, files, context);
  for (const { target, shown, described } of checked.newDirectories.toReversed()) {
    const { taking } = context;
    const owner = ownerOf(described?.entry ?? NOBODY, taking);
    attempt(context.subject, shown, () =>
      setAttributes(
        places.of(target),
        directoryMode(described?.entry, taking),
        owner,
        described?.entry.mtimeMs,
      ),
    );
  }
  return { steps: stepsOf(checked, places, context), files };
}

/** A folder that the archive has no entry for. */
const NOBODY = { uid: undefined, gid: undefined };

interface Places {
  /** Where a target is until the commit. */
  of(target: string): string;
  /** Brings a file of the spool there. */
  fill(target: string, file: string): void;
  /** Where a link is to be made: nothing is there then, for the archive may have had a file of that name before. */
  free(target: string): string;
}

function createPlaces(checked: Checked, { transaction, mounts, spool }: StageContext): Places {
  const near = mounts.pointOf(transaction.directory);
  const newDirectories = new Set(checked.newDirectories.map(({ target }) => target));
  const inPlace = new Set(
    checked.placements.filter((placement) => placement.inPlace).map(({ target }) => target),
  );
  const mark = randomBytes(6).toString('hex'); // unguessable, so that nobody waits there for us
  const places = new Map<string, string>();
  let count = 0;
  const isNear = (target: string): boolean => inPlace.has(target) || mounts.pointOf(dirname(target)) === near;
  const homes = findHomes(checked, newDirectories, spool);
  const find = (target: string): string => {
    const parent = dirname(target);
    if (newDirectories.has(parent)) return `${places.get(parent)}/${basename(target)}`;
    count += 1;
    const home = homes.get(target);
    if (isNear(target)) return home ?? `${transaction.directory}/new/${mark}-${count}`;
    const beside = `${parent === '/' ? '' : parent}/.ddbg-overlay.${mark}-${count}`;
    transaction.note({ temporary: [beside], times: [[parent, disk.timesOf(parent)]] });
    return beside;
  };
  const of = (target: string): string => {
    const place = places.get(target) ?? find(target);
    places.set(target, place);
    return place;
  };
  return {
    of,
    fill(target, file) {
      if (!isNear(target)) disk.copySync(file, of(target));
      else if (!newDirectories.has(dirname(target)))
        places.set(target, file); // it need not move twice
      else if (file !== of(target)) disk.renameSync(file, of(target));
    },
    free(target) {
      const place = of(target);
      if (newDirectories.has(dirname(target))) disk.removeTree(place);
      return place;
    },
  };
}

/** For a chain of new folders, by the first of them: the folder of the spool that has it already, as the archive had it. */
function findHomes(
  checked: Checked,
  newDirectories: ReadonlySet<string>,
  spool: Spool,
): ReadonlyMap<string, string> {
  const homes = new Map<string, string>();
  const seen = new Set<string>();
  for (const { arranged, target } of checked.placements) {
    const parent = dirname(target);
    if (arranged.entry.kind !== 'file' || !newDirectories.has(parent) || seen.has(parent)) continue;
    seen.add(parent);
    let at = target;
    let place = spool.contentOf(arranged.entry).file ?? '';
    while (newDirectories.has(at) || at === target) {
      if (basename(at) !== basename(place)) break;
      if (at !== target && !newDirectories.has(dirname(at)) && !homes.has(at)) homes.set(at, place);
      at = dirname(at);
      place = dirname(place);
    }
  }
  return homes;
}

/** Returns its mode. */
function stageFile(placement: Placement, places: Places, { subject, spool, taking }: StageContext): number {
  const { arranged, shown, target, before, stat, inPlace } = placement;
  const { entry } = arranged;
  // Else it becomes a copy of a file that the root has elsewhere, or here with another mode: with all that is that one's.
  const isOurs = spool.contentOf(entry).file !== undefined;
  const file = spool.fileOf(entry);
  return attempt(subject, shown, () => {
    const replaced = before === 'file' ? stat : undefined;
    places.fill(target, file);
    if (inPlace) return (replaced?.mode ?? 0) & 0o7777;
    const mode = fileMode(entry, taking, replaced);
    const owner = ownerOf(entry, taking, replaced);
    if (!isOurs) {
      setAttributes(places.of(target), mode, owner ?? ourselves(), entry.mtimeMs ?? Date.now());
      return mode;
    }
    // The spool has given it the archive's mode and mtime already.
    if (owner !== undefined) setAttributes(places.of(target), mode, owner, undefined);
    else if (entry.mode === undefined) disk.chmodSync(places.of(target), mode);
    return mode;
  });
}

function stageSymlink(
  { arranged, shown }: Placement,
  place: string,
  { subject, taking }: StageContext,
): void {
  const { entry } = arranged;
  attempt(subject, shown, () => {
    disk.symlinkSync(entry.linkTarget ?? '', place);
    setAttributes(place, undefined, ownerOf(entry, taking), entry.mtimeMs);
  });
}

/** Names on two file systems cannot be one file: equal content is the most there is. */
function stageHardLinks(
  checked: Checked,
  places: Places,
  files: Map<string, StagedFile>,
  { subject }: StageContext,
): void {
  const placeOf = new Map<Arranged, string>();
  for (const { arranged, target } of checked.same) placeOf.set(arranged, target);
  for (const { arranged, target } of checked.placements) placeOf.set(arranged, places.of(target));
  for (const { arranged, shown, target } of checked.placements) {
    const from = arranged.sameAs && placeOf.get(arranged.sameAs);
    if (from === undefined) continue;
    attempt(subject, shown, () => {
      disk.linkOrCopy(from, places.free(target));
      const { mode } = disk.lstatSync(from);
      files.set(target, { mode: mode & 0o7777, sha256Before: files.get(target)?.sha256Before });
    });
  }
}

const ORDER: readonly Step['do'][] = ['add', 'replace', 'write', 'remove', 'remove-folder'];

/** What is new first, links after what they may lead to, mounted files after them, deletions last. */
function stepsOf(checked: Checked, places: Places, { old, transaction }: StageContext): readonly Step[] {
  const newDirectories = new Set(checked.newDirectories.map(({ target }) => target));
  const arrivesWithItsFolder = (target: string): boolean => newDirectories.has(dirname(target));
  const steps: { step: Step; rank: number }[] = [];
  const add = (step: Step, isLink = false): void => {
    steps.push({ step, rank: 2 * ORDER.indexOf(step.do) + (isLink ? 1 : 0) });
  };
  for (const { target } of checked.newDirectories) {
    if (arrivesWithItsFolder(target)) continue;
    const from = places.of(target);
    const facts = factsOf(from);
    const before = openForMove(from, facts);
    add({ do: 'add', from, to: target });
    if (before !== undefined) steps.push({ step: { do: 'set-folder', to: target, facts, before }, rank: 0 });
  }
  for (const { target, shown, arranged, inPlace, before } of checked.placements) {
    if (arrivesWithItsFolder(target)) continue;
    const change = { from: places.of(target), to: target };
    const isLink = arranged.entry.kind === 'symlink';
    if (before === 'nothing') add({ do: 'add', ...change }, isLink);
    else add({ do: inPlace ? 'write' : 'replace', ...change, old: `${old}${shown}` }, isLink);
  }
  steps.sort((one, other) => one.rank - other.rank);
  const deletions = checked.deletions.map(
    ({ target, shown, isFolder }, index): Step =>
      isFolder
        ? {
            do: 'remove-folder',
            to: target,
            facts: factsOf(target),
            spare: `${transaction.directory}/spare/${basename(old)}-${index}`,
          }
        : { do: 'remove', to: target, old: `${old}${shown}` },
  );
  return [...steps.map(({ step }) => step), ...deletions];
}

/** To move a folder into another one is to write to it, for the kernel. Undefined: we may. */
function openForMove(place: string, facts: DirectoryFacts): DirectoryFacts | undefined {
  if (process.geteuid?.() === 0 || (facts.mode & 0o200) !== 0) return undefined;
  const open = { ...facts, mode: facts.mode | 0o200 };
  disk.chmodSync(place, open.mode);
  return open;
}

/** Of the file that is there now; undefined where there is none, or none that we may read. */
function digestBefore({ before, target }: Placement): string | undefined {
  try {
    return before === 'file' ? digestOf(target) : undefined;
  } catch {
    return undefined;
  }
}

export function attempt<T>(subject: Subject, shown: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    if (error instanceof EntryError) throw error;
    const why = `${shown}: ${reasonOf(error)}; nothing is changed`;
    throw refusal('DDBG_WRITE', 'write', subject, why, hintFor(errnoOf(error)), error);
  }
}

function hintFor(code: string | undefined): string | undefined {
  if (code === 'ENOSPC') return ROOM;
  if (code !== 'EPERM' || process.geteuid?.() !== 0) return undefined;
  return 'What is replaced keeps its owner and mode: run the container with --cap-add CHOWN --cap-add FOWNER.';
}
