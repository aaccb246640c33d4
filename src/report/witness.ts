/**
 * What is seen of the command while it lives, for its end leaves nothing to look at: when the OOM killer struck and who
 * was gone with it, when a fork was refused, who the command was, how much it used.
 *
 * `sample()` is called many times a second: a few reads of open descriptors. What costs more is done when one of them
 * has changed, near the memory limit, and once a second; all of that together is kept below a share of the time.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { attempt, linkOf, namesIn } from '../attempt.ts';
import { steadyMs } from '../clock.ts';
import type { Counters } from '../container/counters.ts';
import { field } from '../container/counters.ts';
import type { ResourceLimit } from '../container/limits.ts';
import { limitOf, openCgroup, readResourceLimits } from '../container/limits.ts';
import type { ProcessEntry, Relation } from '../container/processes.ts';
import { listProcesses, parseProcess, readProcess, relationsOf } from '../container/processes.ts';
import { groupsOf, hasEnded, readStatus, signalsIn, userOf } from '../container/status.ts';

/** Somebody who was there, and was not when the OOM killer had struck. */
export interface Vanished {
  readonly pid: number;
  readonly name: string;
  readonly relation: Relation;
  /** As last seen. */
  readonly residentBytes: number;
}

/** A counter of the cgroup that rose while the command ran. */
export interface Rise {
  /** By how much, in all. */
  readonly times: number;
  /** From the last rise to the end, in milliseconds; as exact as the sampling. */
  readonly msBeforeEnd: number;
  /** By how much within the last moments, in which it may be the cause of the end. */
  readonly timesLately: number;
}

/** The command as it was last seen. */
export interface SeenCommand {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
  /** CapEff: a bit each. */
  readonly capabilities: bigint;
  /** Signal numbers it ignores, and blocks. */
  readonly ignores: readonly number[];
  readonly blocks: readonly number[];
  /** Undefined where we may not look. */
  readonly cwd: string | undefined;
  readonly limits: readonly ResourceLimit[];
}

/** All that a witness can tell. */
export interface Witnessed {
  readonly oomKill: Rise | undefined;
  /** Who was gone after the last kill by the OOM killer; those that ended by themselves just then among them. */
  readonly vanished: readonly Vanished[];
  readonly pidsLimit: Rise | undefined;
  /** Threads of the command and of all below it, and of whoever came from outside, when a fork was last refused. */
  readonly threadsThen: { readonly command: number; readonly outside: number } | undefined;
  readonly command: SeenCommand | undefined;
  /** Of the command alone. */
  readonly mostResidentBytes: number | undefined;
  readonly cpuMs: number | undefined;
  readonly descriptors:
    | { readonly most: number; readonly last: number; readonly lastMsBeforeEnd: number }
    | undefined;
  /** Once a second, the last 60: bytes in the cgroup, and processors in use (1: one whole). */
  readonly series: { readonly memoryBytes: readonly number[]; readonly cpus: readonly number[] };
}

export interface Witness {
  /** To be called every 20 to 200 ms while the command runs. Never throws. True: it should be called again soon. */
  sample(): boolean;
  /** What was seen, the end being now. Takes a last sample. */
  testimony(): Witnessed;
  /** Gives the descriptors back. */
  close(): void;
}

export interface WitnessOptions {
  /** Of the command. */
  readonly pid: number;
  /** The text of /proc/self/cgroup. */
  readonly cgroup: string;
  /** From before the start: what rose since then is the run's. Default: what is read now. */
  readonly before?: Counters | undefined;
  /** The init and ourselves: neither belongs to the command. Default: our parent and we. */
  readonly ours?: readonly number[];
}

/** What happened so long before the end may be its cause. */
const LATELY_MS = 2_000;
const SECOND_MS = 1_000;
/** The dear part may take as much of one processor, once its first milliseconds are used up. */
const DEAR_SHARE = 0.001;
const DEAR_START_MS = 20;
/** Near the memory limit who is there is looked at more often: who is taken may have lived for moments only. */
const NEAR_LIMIT = 0.75;
const NEAR_LIMIT_PAUSE_MS = 100;
/** A killed process can take so long to give its memory back. */
const DYING_MS = 500;
const RING = 60;

export function openWitness({
  pid,
  cgroup,
  before,
  ours = [process.ppid, process.pid],
}: WitnessOptions): Witness {
  const files = openCgroup(cgroup);
  const isV2 = files.version === 2;
  const events = openProbe(files.pathOf('memory', isV2 ? 'memory.events' : 'memory.oom_control'));
  const forks = openProbe(files.pathOf('pids', 'pids.events'));
  const usage = openProbe(files.pathOf('memory', isV2 ? 'memory.current' : 'memory.usage_in_bytes'));
  const children = openProbe(`/proc/${pid}/task/${pid}/children`);
  const stat = openProbe(`/proc/${pid}/stat`);
  const limitBytes = limitOf(files.read('memory', isV2 ? 'memory.max' : 'memory.limit_in_bytes'));
  const descriptorsOf = attempt(() => openSync(`/proc/${pid}/fd`, 'r'));

  const startedAt = steadyMs();
  const oomKills = makeTally(() => field(events.text(), 'oom_kill'), before?.memory.oomKills);
  const refusals = makeTally(() => field(forks.text(), 'max'), before?.pids.limitHits);
  const known = new Map<number, Known>();
  const memorySeries: number[] = [];
  const cpuSeries: number[] = [];
  let samples = 0;
  let dearMs = 0;
  let secondAt = Number.NEGATIVE_INFINITY;
  let listedAt = Number.NEGATIVE_INFINITY;
  let command: SeenCommand | undefined;
  let mostResidentBytes: number | undefined;
  let cpuAt = startedAt;
  const countsItself = descriptorsOf !== undefined && (sizeOf(descriptorsOf) ?? 0) > 0;
  let most: number | undefined;
  let last = 0;
  let countedAt = startedAt;
  let vanished: readonly Vanished[] = [];
  let threadsThen: Witnessed['threadsThen'];
  let totalCpuMs: number | undefined;

  const mayBeDear = (now: number): boolean => dearMs < DEAR_START_MS + DEAR_SHARE * (now - startedAt);
  const dearly = (work: () => void): void => {
    const before = steadyMs();
    work();
    dearMs += steadyMs() - before;
  };

  /** Who is there, with what each is to us; who was below the command once stays so when its parent goes. */
  const look = (now: number): void => {
    listedAt = now;
    const entries = listProcesses();
    const relations = relationsOf(entries, pid, ours);
    for (const entry of entries) {
      if (entry.state === 'Z' || entry.state === 'X') continue;
      note(entry, relations.get(entry.pid) ?? 'orphan', now);
    }
    for (const [id, { seenAt }] of known) if (now - seenAt > 10 * LATELY_MS) known.delete(id);
  };
  const note = (entry: ProcessEntry, relation: Relation, now: number): void => {
    const before = known.get(entry.pid);
    const same = before?.entry.startTicks === entry.startTicks ? before : undefined;
    known.set(entry.pid, {
      entry,
      relation: relation === 'orphan' && same !== undefined ? same.relation : relation,
      residentBytes: Math.max(entry.residentBytes, same?.residentBytes ?? 0),
      seenAt: now,
    });
    if (entry.pid !== pid) return;
    mostResidentBytes = Math.max(mostResidentBytes ?? 0, entry.residentBytes);
  };
  /** The command's own children change more often than anybody looks at all processes. */
  const meet = (now: number): void => {
    const ids = children.text().split(' ').filter(Boolean).map(Number);
    for (const id of ids.filter((one) => !known.has(one)).slice(0, 4)) {
      const entry = readProcess(id);
      if (entry !== undefined) note(entry, 'below', now);
    }
  };
  const whoVanished = (now: number): readonly Vanished[] => {
    const alive = (id: number, { startTicks }: ProcessEntry): boolean => {
      const entry = readProcess(id);
      return entry !== undefined && entry.startTicks === startTicks && !['Z', 'X'].includes(entry.state);
    };
    return [...known].flatMap(([id, { entry, relation, residentBytes, seenAt }]) =>
      relation === 'ours' || now - seenAt > LATELY_MS || alive(id, entry)
        ? []
        : [{ pid: id, name: entry.name, relation, residentBytes }],
    );
  };
  const watchDescriptors = (now: number): void => {
    const count = countsItself ? sizeOf(descriptorsOf) : undefined;
    if (count !== undefined && count > 0) noteDescriptors(count, now); // 0: it has ended
  };
  const noteDescriptors = (count: number, now: number): void => {
    most = Math.max(most ?? 0, count);
    last = count;
    countedAt = now;
  };
  const onceASecond = (now: number): void => {
    secondAt = now;
    command = readCommand(pid) ?? command;
    if (!countsItself) noteDescriptors(namesIn(`/proc/${pid}/fd`).length, now);
    look(now);
    usage.changed();
    const bytes = Number(usage.text());
    push(memorySeries, Number.isFinite(bytes) ? bytes : 0);
    const total = [...known.values()]
      .filter(({ relation, seenAt }) => relation !== 'ours' && seenAt === now)
      .reduce((sum, { entry }) => sum + entry.cpuMs, 0);
    if (totalCpuMs !== undefined && now > cpuAt)
      push(cpuSeries, Math.max(0, total - totalCpuMs) / (now - cpuAt));
    totalCpuMs = total;
    cpuAt = now;
  };

  const sample = (): boolean => {
    const now = steadyMs();
    samples++;
    const isFirst = samples === 1; // what was read when it was opened is news as well
    if ((events.changed() || isFirst) && oomKills.note(now)) vanished = [];
    const isRecent = oomKills.at !== undefined && now - oomKills.at < DYING_MS;
    if (isRecent) {
      const gone = whoVanished(now);
      if (gone.length >= vanished.length) vanished = gone;
    }
    if ((forks.changed() || isFirst) && refusals.note(now)) {
      dearly(() => look(now));
      threadsThen = threadsOf(known, now);
    }
    if (children.changed() || isFirst) dearly(() => meet(now));
    const isNear =
      limitBytes !== undefined && usage.changed() && Number(usage.text()) > NEAR_LIMIT * limitBytes;
    if (isNear && !isRecent && now - listedAt > NEAR_LIMIT_PAUSE_MS && mayBeDear(now))
      dearly(() => look(now));
    watchDescriptors(now);
    stat.changed();
    const isYoung = samples < 12; // it may be a shell still, or as another user yet
    if (now - secondAt >= SECOND_MS && mayBeDear(now)) dearly(() => onceASecond(now));
    else if (isYoung) command = readCommand(pid) ?? command;
    return isNear || isRecent;
  };

  return {
    sample,
    testimony: () => {
      const now = steadyMs();
      if ((events.changed() || samples === 0) && oomKills.note(now)) vanished = [];
      if (vanished.length === 0 && oomKills.at !== undefined && now - oomKills.at < DYING_MS)
        vanished = whoVanished(now);
      if (forks.changed() || samples === 0) refusals.note(now);
      return {
        oomKill: oomKills.rise(now),
        vanished,
        pidsLimit: refusals.rise(now),
        threadsThen,
        command,
        mostResidentBytes,
        cpuMs: parseProcess(pid, stat.text())?.cpuMs,
        descriptors: most === undefined ? undefined : { most, last, lastMsBeforeEnd: now - countedAt },
        series: { memoryBytes: memorySeries, cpus: cpuSeries },
      };
    },
    close: () => {
      for (const probe of [events, forks, usage, children, stat]) probe.close();
      if (descriptorsOf !== undefined) closeSync(descriptorsOf);
    },
  };
}

interface Known {
  readonly entry: ProcessEntry;
  readonly relation: Relation;
  readonly residentBytes: number;
  readonly seenAt: number;
}

function threadsOf(known: ReadonlyMap<number, Known>, now: number): { command: number; outside: number } {
  const of = (...relations: readonly Relation[]): number =>
    [...known.values()]
      .filter(({ relation, seenAt }) => seenAt === now && relations.includes(relation))
      .reduce((sum, { entry }) => sum + entry.threads, 0);
  return { command: of('command', 'below', 'orphan'), outside: of('outside') };
}

/** A counter that only rises, with the moments at which it did. */
function makeTally(read: () => number | undefined, before: number | undefined) {
  const start = before ?? read();
  let value = start;
  const rises: { at: number; by: number }[] = [];
  return {
    get at(): number | undefined {
      return rises.at(-1)?.at;
    },
    /** Whether it has risen. */
    note(now: number): boolean {
      const next = read();
      if (next === undefined || value === undefined || next <= value) return false;
      rises.push({ at: now, by: next - value });
      if (rises.length > RING) rises.shift();
      value = next;
      return true;
    },
    rise(now: number): Rise | undefined {
      const lastRise = rises.at(-1);
      if (lastRise === undefined || value === undefined || start === undefined) return undefined;
      const lately = rises.filter(({ at }) => now - at <= LATELY_MS);
      return {
        times: value - start,
        msBeforeEnd: now - lastRise.at,
        timesLately: lately.reduce((sum, { by }) => sum + by, 0),
      };
    },
  };
}

/** A small file of the kernel's, held open: reading it again is one system call and makes no string. */
interface Probe {
  /** Reads it again: whether it differs from the last time. False where it cannot be read. */
  changed(): boolean;
  /** As last read. */
  text(): string;
  close(): void;
}

function openProbe(path: string | undefined): Probe {
  const descriptor = path === undefined ? undefined : attempt(() => openSync(path, 'r'));
  let buffer = Buffer.alloc(1_024);
  let other = Buffer.alloc(1_024);
  let length = 0;
  const changed = (): boolean => {
    if (descriptor === undefined) return false;
    try {
      const read = readSync(descriptor, other, 0, other.length, 0);
      if (read === length && buffer.compare(other, 0, read, 0, read) === 0) return false;
      [buffer, other] = [other, buffer];
      length = read;
      return true;
    } catch {
      return false; // the process has ended
    }
  };
  changed();
  return {
    changed,
    text: () => buffer.toString('latin1', 0, length).trimEnd(),
    close: () => {
      if (descriptor !== undefined) closeSync(descriptor);
    },
  };
}

/** From Linux 6.2 on the size of /proc/PID/fd is their number; before that it is 0, and they are listed once a second. */
function sizeOf(descriptor: number): number | undefined {
  return attempt(() => fstatSync(descriptor).size);
}

/** The command's user, signals and limits; undefined where it is gone, or a zombie. */
export function readCommand(pid: number): SeenCommand | undefined {
  const status = readStatus(pid);
  if (status === undefined || hasEnded(status)) return undefined;
  return {
    ...userOf(status),
    groups: groupsOf(status),
    capabilities: BigInt(`0x${status.get('CapEff') || 0}`),
    ignores: signalsIn(status, 'SigIgn'),
    blocks: signalsIn(status, 'SigBlk'),
    cwd: linkOf(`/proc/${pid}/cwd`),
    limits: readResourceLimits(pid),
  };
}

function push(ring: number[], value: number): void {
  ring.push(value);
  if (ring.length > RING) ring.shift();
}
