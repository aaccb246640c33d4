/**
 * The processes that /proc lists, and how they hang together.
 */
import { readFileSync } from 'node:fs';
import { attempt, namesIn, textOf } from '../attempt.ts';
import type { ProcessStat } from './stat.ts';
import { parseStat, TICK_MS } from './stat.ts';

export interface ProcessEntry
  extends Pick<ProcessStat, 'parent' | 'name' | 'state' | 'threads' | 'startTicks'> {
  readonly pid: number;
  readonly residentBytes: number;
  readonly cpuMs: number;
}

let pageBytes: number | undefined;

/** AT_PAGESZ of getauxval(3): 4096 nearly everywhere, and 16 or 64 KiB on some arm64. */
function bytesOfPage(): number {
  if (pageBytes !== undefined) return pageBytes;
  pageBytes = 4_096;
  const auxiliary = attempt(() => readFileSync('/proc/self/auxv'), Buffer.alloc(0));
  for (let at = 0; at + 16 <= auxiliary.length; at += 16) {
    if (auxiliary.readBigUInt64LE(at) === 6n) pageBytes = Number(auxiliary.readBigUInt64LE(at + 8));
  }
  return pageBytes;
}

/** Undefined where there is no such process, or no /proc. */
export function readProcess(pid: number): ProcessEntry | undefined {
  return parseProcess(pid, textOf(`/proc/${pid}/stat`) ?? '');
}

/** The text of /proc/PID/stat. */
export function parseProcess(pid: number, text: string): ProcessEntry | undefined {
  const stat = parseStat(text);
  if (stat === undefined) return undefined;
  const { parent, name, state, threads, startTicks, residentPages, ticks } = stat;
  const residentBytes = residentPages * bytesOfPage();
  return { pid, parent, name, state, threads, startTicks, residentBytes, cpuMs: ticks * TICK_MS };
}

/** @param most how many at the most: on a big machine this must stay short */
export function listProcesses(most = 500): readonly ProcessEntry[] {
  return namesIn('/proc')
    .map(Number)
    .filter((pid) => pid > 0)
    .slice(0, most)
    .flatMap((pid) => readProcess(pid) ?? []);
}

/** A `docker exec` that has not become its program yet: `runc:[2:INIT]`. Pure. */
export function isComingIn({ name }: Pick<ProcessEntry, 'name'>): boolean {
  return /^runc:\[\d/.test(name);
}

/** What a process is to us. */
export type Relation =
  /** The init, ourselves, and who passes recorded output on. */
  | 'ours'
  | 'command'
  /** The command's child, or a child's child. */
  | 'below'
  /** Came from outside: `docker exec`, `kubectl exec`. */
  | 'outside'
  /** Its parent has gone, and nobody saw whose it was. */
  | 'orphan';

/** What each of them is to us. Pure. */
export function relationsOf(
  entries: readonly ProcessEntry[],
  command: number | undefined,
  ours: readonly number[],
): ReadonlyMap<number, Relation> {
  const parents = new Map(entries.map(({ pid, parent }) => [pid, parent]));
  return new Map(
    entries.map(({ pid, name }) => {
      const relation = relationOf(pid, parents, command, ours);
      return [pid, relation === 'orphan' && name === RECORDER ? 'ours' : relation];
    }),
  );
}

/** init/record.c: its pumps are orphans on purpose. */
const RECORDER = 'ddbg-record';

function relationOf(
  pid: number,
  parents: ReadonlyMap<number, number>,
  command: number | undefined,
  ours: readonly number[],
): Relation {
  if (ours.includes(pid)) return 'ours';
  if (pid === command) return 'command';
  for (let at = pid, steps = 0; steps < 100; steps++) {
    const parent = parents.get(at);
    if (parent === undefined || ours.includes(parent) || parent === 1) return 'orphan';
    if (parent === command) return 'below';
    if (parent === 0) return 'outside';
    at = parent;
  }
  return 'orphan';
}
