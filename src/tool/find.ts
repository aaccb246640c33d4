/**
 * Which entry is meant, and where it keeps its state.
 */
import type { Stats } from 'node:fs';
import { lstatSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { attempt, namesIn } from '../attempt.ts';
import { parseEnviron } from '../container/environ.ts';
import { readStat } from '../container/stat.ts';
import { readStatus, realUidOf } from '../container/status.ts';
import type { User } from '../container/user.ts';
import { asUser } from '../container/user.ts';
import { reasonOf } from '../errors.ts';
import type { Phase, RunRecord, StateRecord } from '../life.ts';
import { isOf, readRuns, readState } from '../life.ts';
import { usualPlaces } from '../state.ts';
import { STATUS, ToolError } from './answer.ts';

export interface Found {
  readonly directory: string;
  /** Whose it is, and who alone may write there. */
  readonly owner: User;
  readonly record: StateRecord;
  /** What is true now: the entry may be gone, or hold the container without node, which could not write it any more. */
  readonly phase: Phase;
  readonly isEntryAlive: boolean;
}

/**
 * @param directory where to look, instead of the usual places
 * @throws ToolError
 */
export function findState(directory?: string): Found {
  const found = lookForState(directory);
  if (found !== undefined) return found;
  throw new ToolError(
    STATUS.nothing,
    directory === undefined
      ? 'no ddbg-entry keeps its state here'
      : `no ddbg-entry keeps its state in ${directory}`,
    'it does so with stayalive: docker run -e DEBUG=stayalive IMAGE (--state-dir=DIR, if the image has one of its own)',
  );
}

/** Undefined: there is none. @throws ToolError where it is another user's */
export function lookForState(directory?: string): Found | undefined {
  let refusal: ToolError | undefined;
  const found: Found[] = [];
  for (const place of directory === undefined ? places() : [directory]) {
    try {
      const here = lookAt(place);
      if (here?.isEntryAlive) return here;
      if (here !== undefined) found.push(here);
    } catch (error) {
      if (!(error instanceof ToolError)) throw error;
      refusal ??= error;
    }
  }
  if (found[0] === undefined && refusal !== undefined) throw refusal;
  return found[0];
}

/** Those of whoever asks, of the container's first process, and for root those of everybody. */
function places(): readonly string[] {
  const own = process.getuid?.() ?? 0;
  const first = uidOf(1);
  const uids = [own, ...(first === undefined ? [] : [first]), ...(own === 0 ? uidsWithPlaces() : [])];
  return [...new Set([...namedPlaces(), ...uids.flatMap(usualPlaces)])];
}

/** --state-dir in the ENTRYPOINT: of PID 1, or of a process below it where something else is in front. */
function namedPlaces(): readonly string[] {
  const ofFirst = stateFlagOf(1);
  if (ofFirst !== undefined) return [ofFirst];
  return processes().flatMap((pid) => stateFlagOf(pid) ?? []);
}

function stateFlagOf(pid: number): string | undefined {
  const words = textOf(`/proc/${pid}/cmdline`).split('\0');
  const end = words.indexOf('--');
  return words
    .slice(0, end < 0 ? undefined : end)
    .find((word) => word.startsWith('--state-dir=/'))
    ?.slice('--state-dir='.length);
}

function processes(): readonly number[] {
  return namesIn('/proc').flatMap((name) => (/^\d+$/.test(name) ? [Number(name)] : []));
}

function uidsWithPlaces(): readonly number[] {
  const names = [...namesIn('/tmp'), ...namesIn('/dev/shm')];
  return names.flatMap((name) => /^ddbg-(\d+)$/.exec(name)?.[1] ?? []).map(Number);
}

function lookAt(directory: string): Found | undefined {
  const stats = statsOf(directory);
  if (stats === undefined || !stats.isDirectory()) return undefined;
  const own = process.getuid?.() ?? 0;
  if (own !== 0 && stats.uid !== own) {
    throw new ToolError(
      STATUS.refused,
      `the state in ${directory} is that of uid ${stats.uid}, and this is uid ${own}`,
      `docker exec --user ${stats.uid} ...${stats.uid === 0 ? '' : ', or as root: docker exec --user 0 ...'}`,
    );
  }
  const owner = { uid: stats.uid, gid: stats.gid };
  // Whoever can write there could make root believe anything.
  if ((stats.mode & 0o077) !== 0) return undefined;
  const record = asUser(owner, () => readState(directory));
  if (record === undefined) return undefined;
  const entry = record.pids.entry;
  const isEntryAlive = isOf(record, entry) && isOfUser(entry, stats.uid);
  if (!isEntryAlive && readStat(entry) !== undefined) return undefined; // of a life before this one, in the same place
  return { directory, owner, record, isEntryAlive, phase: phaseNow(record, isEntryAlive) };
}

function statsOf(directory: string): Stats | undefined {
  try {
    return lstatSync(directory, { throwIfNoEntry: false });
  } catch (error) {
    throw new ToolError(
      STATUS.refused,
      `cannot look into ${directory}: ${reasonOf(error)}`,
      'as root: docker exec --user 0 ...',
    );
  }
}

/** A planted directory could name another user's process. */
function isOfUser(pid: number, uid: number): boolean {
  return uidOf(pid) === uid;
}

function uidOf(pid: number): number | undefined {
  const status = readStatus(pid);
  return status && realUidOf(status);
}

function phaseNow(record: StateRecord, isEntryAlive: boolean): Phase {
  const { phase, pids } = record;
  if (!isEntryAlive) return 'ended';
  if (phase !== 'running' || pids.command === null) return phase;
  const command = readStat(pids.command);
  // Node is gone and the init holds the container: nobody was left to write it down.
  const isGone = command === undefined || command.parent !== pids.entry;
  return isGone && !hasNode(pids.entry) ? 'parked' : 'running';
}

/** The native init with node below it, or node alone: as long as node is there, it keeps the record. */
function hasNode(entry: number): boolean {
  if (!textOf(`/proc/${entry}/comm`).startsWith('ddbg-')) return true; // node is the entry
  return processes().some(
    (pid) => readStat(pid)?.parent === entry && /\0--init-link=\d+\0/.test(textOf(`/proc/${pid}/cmdline`)),
  );
}

function textOf(file: string): string {
  return attempt(() => readFileSync(file, 'latin1'), '');
}

/** One of its files. Undefined where it is not there. */
export function readStateFile(
  { directory, owner }: Pick<Found, 'directory' | 'owner'>,
  name: string,
): Buffer | undefined {
  return attempt(() => asUser(owner, () => readFileSync(join(directory, name))));
}

/** The runs so far, first to last. */
export function runsOf({ directory, owner }: Found): readonly RunRecord[] {
  return asUser(owner, () => readRuns(directory));
}

/** What the command had last, to find its secrets by; empty where that is not known. */
export function environmentOf(found: Found): Readonly<Record<string, string>> {
  return parseEnviron(readStateFile(found, 'environ')?.toString() ?? '');
}
