/**
 * Everything that can be known of a run once it is over, or while it goes on, gathered into one value. The one file of the
 * report that looks at the machine: bounded reads, no network, and it never throws.
 */
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync, statSync } from 'node:fs';
import { arch, release } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { attempt, textOf } from '../attempt.ts';
import type { Counters } from '../container/counters.ts';
import { readCounters, risen } from '../container/counters.ts';
import { hasOwnPidNamespace } from '../container/identity.ts';
import type { ResourceLimit } from '../container/limits.ts';
import { readResourceLimits } from '../container/limits.ts';
import type { Listener, NameResolution } from '../container/network.ts';
import { readListeners, readNameResolution } from '../container/network.ts';
import type { Relation } from '../container/processes.ts';
import { isComingIn, listProcesses, relationsOf } from '../container/processes.ts';
import type { MountSpace } from '../container/space.ts';
import { mountOf, readMountSpaces } from '../container/space.ts';
import { readStat } from '../container/stat.ts';
import type { Outcome, SignalName } from '../outcome.ts';
import { readRecord } from '../overlay/record.ts';
import type { CommandLine } from '../plan.ts';
import type { MissingLibrary } from '../process/libraries.ts';
import { hasLibrary, missingLibraries } from '../process/libraries.ts';
import type { OutputLine } from '../process/recorded.ts';
import { readRecorded, STREAMS } from '../process/recorded.ts';
import type { Obstacle } from '../process/resolve.ts';
import { readLoader, resolveCommand, which } from '../process/resolve.ts';
import type { Waiting } from './waiting.ts';
import { readWaiting } from './waiting.ts';
import type { SeenCommand, Witnessed } from './witness.ts';
import { readCommand } from './witness.ts';
import type { LastWords, Word } from './words.ts';
import { readLastWords } from './words.ts';

/** What the gathering is told. */
export interface Gathering {
  readonly command: CommandLine;
  /** Undefined: it runs. */
  readonly outcome: Outcome | undefined;
  /** Of the command itself, as `Run` has it. Undefined: it runs, or nobody can tell. */
  readonly coreDumped: boolean | undefined;
  /** The stop that was passed on. */
  readonly stop: { readonly signal: SignalName; readonly msAgo: number } | undefined;
  /** Of the command; undefined: it was never started. */
  readonly pid: number | undefined;
  readonly durationMs: number;
  /** The end, or now: milliseconds since 1970. */
  readonly endedAtMs: number;
  /** From before the start. */
  readonly before: Counters | undefined;
  /** The text of /proc/self/cgroup. */
  readonly cgroup: string;
  readonly witnessed: Witnessed | undefined;
  readonly stateDirectory: string | undefined;
  /** The init and ourselves. */
  readonly ours: readonly number[];
  /** Of this package. */
  readonly version: string;
}

export interface Facts {
  readonly outcome: Outcome | undefined;
  readonly stop: Gathering['stop'];
  readonly pid: number | undefined;
  readonly durationMs: number;
  readonly argv: readonly string[];
  readonly counters: { readonly after: Counters | undefined; readonly risen: Risen };
  readonly witnessed: Witnessed | undefined;
  /** The command as it is, or as it was last seen. */
  readonly seen: SeenCommand | undefined;
  readonly user: User;
  readonly mounts: readonly MountSpace[];
  readonly listeners: readonly Listener[];
  readonly names: NameResolution;
  /** What stands in the way of starting the command, as it is now; undefined: nothing that can be seen. */
  readonly obstacle: Blocked | undefined;
  /** The program that the command's first line asks env(1) for, when it is not in PATH. */
  readonly missingForEnv: string | undefined;
  /** What the command's file needs and would not find. */
  readonly libraries: readonly MissingLibrary[];
  readonly words: LastWords | undefined;
  /** What the words name, as the disk has it. */
  readonly named: {
    readonly paths: readonly PathFacts[];
    /** Undefined as `blocked`: it can be executed, or nothing can be told. */
    readonly programs: readonly { readonly name: string; readonly blocked: Blocked | undefined }[];
    readonly libraries: readonly { readonly name: string; readonly isThere: boolean | undefined }[];
  };
  /** The last lines of output; undefined: it was not recorded. */
  readonly output: readonly OutputLine[] | undefined;
  readonly running: readonly RunningProcess[];
  /** Of a command that runs. */
  readonly waiting: Waiting | undefined;
  readonly overlay: OverlaySummary | undefined;
  readonly core: CoreFile | undefined;
  readonly limits: readonly ResourceLimit[];
  readonly versions: Versions;
}

/** Differences over the run; each undefined where a reading is missing. */
export interface Risen {
  readonly oomKills: number | undefined;
  readonly memoryLimitHits: number | undefined;
  readonly pidsLimitHits: number | undefined;
  readonly periods: number | undefined;
  readonly throttledPeriods: number | undefined;
  readonly throttledMs: number | undefined;
  readonly cpuMs: number | undefined;
}

export interface User {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
  readonly capabilities: bigint;
  readonly cwd: string | undefined;
}

export interface Blocked {
  readonly why: Obstacle;
  readonly reason: string;
}

/** A path of the last words, for the command's user. */
export interface PathFacts {
  /** As the words have it. */
  readonly said: string;
  readonly path: string;
  /** The point of the file system that holds it, or would. */
  readonly mount: string | undefined;
  /** What its mode, or that of a directory above it, forbids this user; undefined: nothing. */
  readonly forbidden: Forbidden | undefined;
}

export interface Forbidden {
  /** The file or directory whose mode says so. */
  readonly path: string;
  readonly what: 'search' | 'write' | 'read' | 'read or write';
  /** Permission bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

export interface RunningProcess {
  readonly pid: number;
  readonly name: string;
  readonly relation: Relation;
  readonly state: string;
  readonly argv: readonly string[];
  readonly residentBytes: number;
}

export interface OverlaySummary {
  readonly sources: readonly string[];
  readonly files: number;
  readonly removed: number;
}

export interface CoreFile {
  readonly path: string;
  readonly sizeBytes: number;
  /** The line to type. */
  readonly open: string;
}

export interface Versions {
  readonly ddbgEntry: string;
  readonly node: string;
  readonly kernel: string;
  readonly architecture: string;
  /** PRETTY_NAME of /etc/os-release. */
  readonly distribution: string | undefined;
}

const MOST_RUNNING = 30;
const MOST_OUTPUT = 200;

/** Never throws; what cannot be read is left out. */
export function gatherFacts(given: Gathering): Facts {
  const { command, outcome, pid, witnessed } = given;
  const { environment } = command;
  const seen =
    (outcome === undefined && pid !== undefined ? readCommand(pid) : undefined) ?? witnessed?.command;
  const user = userOf(seen);
  const after = attempt(() => readCounters(given.cgroup), undefined);
  const mounts = attempt(readMountSpaces, []);
  const resolution = attempt(() => resolveCommand(command.argv[0] ?? '', environment), undefined);
  const output = attempt(() => readOutput(given), undefined);
  const words =
    output === undefined ? undefined : attempt(() => readLastWords(wordsOf(output, given)), undefined);
  const isShort = outcome?.kind === 'exited' && outcome.status === 127;
  return {
    outcome,
    stop: given.stop,
    pid,
    durationMs: given.durationMs,
    argv: command.argv,
    counters: { after, risen: riseOf(given.before, after) },
    witnessed,
    seen,
    user,
    mounts,
    listeners: attempt(readListeners, []),
    names: attempt(readNameResolution, { nameservers: [], hosts: [] }),
    obstacle: resolution?.ok === false ? { why: resolution.why, reason: resolution.reason } : undefined,
    missingForEnv: resolution?.ok ? missingForEnv(resolution.interpreter, environment) : undefined,
    libraries:
      isShort && resolution?.ok
        ? missingLibraries(resolution.interpreter?.[0] ?? resolution.path, environment)
        : [],
    words,
    named: attempt(() => factsOfNamed(words, user, mounts, environment), {
      paths: [],
      programs: [],
      libraries: [],
    }),
    output,
    running: attempt(() => runningProcesses(pid, given.ours), []),
    waiting:
      outcome === undefined && pid !== undefined ? attempt(() => readWaiting(pid), undefined) : undefined,
    overlay: attempt(() => overlayOf(given.stateDirectory), undefined),
    core: attempt(() => findCore(given, user), undefined),
    limits: seen?.limits ?? attempt(() => readResourceLimits(process.ppid), []),
    versions: attempt(() => readVersions(given.version), {
      ddbgEntry: given.version,
      node: process.version,
      kernel: release(),
      architecture: arch(),
      distribution: undefined,
    }),
  };
}

/** Of a command that nobody saw, ours: it has it from us. */
function userOf(command: SeenCommand | undefined): User {
  const seen = command ?? readCommand(process.pid);
  return {
    uid: seen?.uid ?? process.getuid?.() ?? 0,
    gid: seen?.gid ?? process.getgid?.() ?? 0,
    groups: seen?.groups ?? [],
    capabilities: seen?.capabilities ?? 0n,
    cwd: seen?.cwd ?? attempt(() => process.cwd(), undefined),
  };
}

/** Of this run. Undefined: nothing was recorded, as without the word, or without room: the recorder makes its files first. */
function readOutput({ stateDirectory, durationMs, endedAtMs }: Gathering): readonly OutputLine[] | undefined {
  if (stateDirectory === undefined) return undefined;
  const directory = join(stateDirectory, 'output');
  if (!STREAMS.some((stream) => existsSync(join(directory, stream)))) return undefined;
  const startedAt = endedAtMs - durationMs - 100;
  const isBehind = ({ stream }: OutputLine): number => (stream === 'stderr' ? SAME_MOMENT_MS : 0);
  return readRecorded(directory, MOST_OUTPUT)
    .filter(({ atMs }) => atMs >= startedAt)
    .sort((one, other) => one.atMs + isBehind(one) - (other.atMs + isBehind(other)));
}

/** The recorder reads two pipes: which of two lines came first is not known so closely, and an error is rarely followed by anything. */
const SAME_MOMENT_MS = 20;

function riseOf(before: Counters | undefined, after: Counters | undefined): Risen {
  return {
    oomKills: risen(before?.memory.oomKills, after?.memory.oomKills),
    memoryLimitHits: risen(before?.memory.limitHits, after?.memory.limitHits),
    pidsLimitHits: risen(before?.pids.limitHits, after?.pids.limitHits),
    periods: risen(before?.cpu.periods, after?.cpu.periods),
    throttledPeriods: risen(before?.cpu.throttledPeriods, after?.cpu.throttledPeriods),
    throttledMs: risen(before?.cpu.throttledMs, after?.cpu.throttledMs),
    cpuMs: risen(before?.cpu.usageMs, after?.cpu.usageMs),
  };
}

function wordsOf(output: readonly OutputLine[], { outcome, endedAtMs }: Gathering): readonly Word[] {
  return output.map(({ text, atMs, stream }) => ({
    text,
    stream,
    msBeforeEnd: outcome === undefined ? undefined : endedAtMs - atMs,
  }));
}

/** `#!/usr/bin/env NAME`, `#!/usr/bin/env -S NAME -u`: env is there, and NAME may not be. */
function missingForEnv(
  interpreter: readonly string[] | undefined,
  environment: CommandLine['environment'],
): string | undefined {
  const [program = '', argument = ''] = interpreter ?? [];
  if (!/(^|\/)env$/.test(program)) return undefined;
  const name = argument.replace(/^-S\s*/, '').split(/\s+/)[0] ?? '';
  if (name === '' || /^-|=|["'$]/.test(name)) return undefined;
  return which(name, environment.PATH) === undefined ? name : undefined;
}

function factsOfNamed(
  words: LastWords | undefined,
  user: User,
  mounts: readonly MountSpace[],
  environment: CommandLine['environment'],
): Facts['named'] {
  const claims = [...(words?.statements ?? []), ...(words?.overruled ?? [])].map(({ claim }) => claim);
  const anyLoader = attempt(() => readLoader(process.execPath));
  return {
    paths: claims.flatMap((claim) =>
      'path' in claim && claim.path !== undefined ? [factsOfPath(claim.path, user, mounts)] : [],
    ),
    programs: claims.flatMap((claim) => {
      if (claim.kind !== 'not-found') return [];
      const resolution = resolveCommand(resolveName(claim.name, user), environment);
      return [
        {
          name: claim.name,
          blocked: resolution.ok ? undefined : { why: resolution.why, reason: resolution.reason },
        },
      ];
    }),
    libraries: claims.flatMap((claim) => {
      if (claim.kind !== 'library-missing') return [];
      const isThere = anyLoader === undefined ? undefined : hasLibrary(claim.name, anyLoader, environment);
      return [{ name: claim.name, isThere }];
    }),
  };
}

function resolveName(name: string, { cwd }: User): string {
  return name.includes('/') && cwd !== undefined ? resolve(cwd, name) : name;
}

function factsOfPath(said: string, user: User, mounts: readonly MountSpace[]): PathFacts {
  const path = resolve(user.cwd ?? '/', said);
  return { said, path, mount: mountOf(path, mounts)?.point, forbidden: findForbidden(path, user) };
}

const CAP_DAC_OVERRIDE = 1n << 1n;
const CAP_DAC_READ_SEARCH = 1n << 2n;

/** The first thing on the way to a path that its mode forbids: to go through, then to make it, to read it, to write it. */
function findForbidden(path: string, user: User): Forbidden | undefined {
  if ((user.capabilities & CAP_DAC_OVERRIDE) !== 0n) return undefined;
  const maySearch = (user.capabilities & CAP_DAC_READ_SEARCH) !== 0n;
  const parts = path.split('/').filter(Boolean);
  for (let depth = 0; depth < parts.length; depth++) {
    const folder = `/${parts.slice(0, depth).join('/')}`;
    const stats = statOf(folder);
    if (stats === undefined) return undefined;
    if (!maySearch && !allows(stats, user, 1)) return forbiddenBy(folder, stats, 'search');
  }
  const stats = statOf(path);
  if (stats === undefined) {
    const folder = dirname(path);
    const parent = statOf(folder);
    return parent === undefined || allows(parent, user, 2) ? undefined : forbiddenBy(folder, parent, 'write');
  }
  const mayRead = maySearch || allows(stats, user, 4);
  const mayWrite = allows(stats, user, 2);
  if (mayRead && mayWrite) return undefined;
  return forbiddenBy(path, stats, mayRead ? 'write' : mayWrite ? 'read' : 'read or write');
}

interface Owned {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

function statOf(path: string): Owned | undefined {
  return statSync(path, { throwIfNoEntry: false });
}

function forbiddenBy(path: string, { mode, uid, gid }: Owned, what: Forbidden['what']): Forbidden {
  return { path, what, mode: mode & 0o7777, uid, gid };
}

/** path_resolution(7): the owner's bits for the owner, the group's for the group, else the others'. */
function allows({ mode, uid, gid }: Owned, user: User, bit: 1 | 2 | 4): boolean {
  const shift = user.uid === uid ? 6 : user.gid === gid || user.groups.includes(gid) ? 3 : 0;
  return ((mode >> shift) & bit) !== 0;
}

function runningProcesses(command: number | undefined, ours: readonly number[]): readonly RunningProcess[] {
  const entries = listProcesses();
  const relations = relationsOf(entries, command, ours);
  const isAlone = hasOwnPidNamespace(); // else they are the machine's
  return entries
    .map((entry) => ({ entry, relation: relations.get(entry.pid) ?? 'orphan' }))
    .filter(({ entry, relation }) => relation !== 'ours' && entry.pid !== 2 && entry.parent !== 2) // kernel threads
    .filter(({ entry }) => !isComingIn(entry))
    .filter(({ entry, relation }) => isAlone || relation === 'below' || isOfGroup(entry.pid, command))
    .slice(0, MOST_RUNNING)
    .map(({ entry: { pid, name, state, residentBytes }, relation }) => ({
      pid,
      name,
      relation,
      state,
      argv: commandLineOf(pid),
      residentBytes,
    }));
}

/** Left behind by the command: in its process group, or in ours, where it has none of its own. */
function isOfGroup(pid: number, command: number | undefined): boolean {
  const group = readStat(pid)?.group;
  return group !== undefined && (group === command || group === readStat('self')?.group);
}

function commandLineOf(pid: number): readonly string[] {
  return (textOf(`/proc/${pid}/cmdline`) ?? '').split('\0').slice(0, -1);
}

function overlayOf(stateDirectory: string | undefined): OverlaySummary | undefined {
  if (stateDirectory === undefined) return undefined;
  const sources = readRecord(stateDirectory).runs.flatMap((run) => run.sources);
  if (sources.length === 0) return undefined;
  const sum = (of: (source: (typeof sources)[number]) => number): number =>
    sources.reduce((total, source) => total + of(source), 0);
  return {
    sources: [...new Set(sources.map(({ shownLocation }) => shownLocation))],
    files: sum(({ files }) => files),
    removed: sum(({ removed }) => removed),
  };
}

/** The kernel dumps before it tells the parent: a core that is older than the run is another's. */
function findCore(
  { outcome, coreDumped, durationMs, endedAtMs, pid, command }: Gathering,
  user: User,
): CoreFile | undefined {
  if (outcome === undefined || pid === undefined) return undefined;
  if (outcome.kind === 'killed' && coreDumped === false) return undefined; // a shell that exits may pass on a child's end, and its core
  const pattern = readFileSync('/proc/sys/kernel/core_pattern', 'utf8').trim();
  if (pattern.startsWith('|') || pattern === '') return undefined; // a program on the host has it
  const folder = resolve(user.cwd ?? '/', pattern.includes('/') ? dirname(pattern) : '.');
  const base = pattern.split('/').at(-1) ?? '';
  const name = new RegExp(
    `^${base
      .replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
      .replace(/%%/g, '%')
      .replace(/%[a-zA-Z]/g, '.*')}(\\.\\d+)?$`,
  );
  const startedAt = endedAtMs - durationMs - 1_000;
  for (const file of readdirSync(folder)
    .filter((one) => name.test(one))
    .slice(0, 50)) {
    const path = join(folder, file);
    const stats = statSync(path, { throwIfNoEntry: false });
    if (stats === undefined || !stats.isFile() || stats.mtimeMs < startedAt || !isCore(path)) continue;
    const program = which(command.argv[0] ?? '', command.environment.PATH) ?? command.argv[0] ?? '';
    return { path, sizeBytes: stats.size, open: `gdb ${program} ${path}` };
  }
  return undefined;
}

/** elf(5): ET_CORE. */
function isCore(path: string): boolean {
  const file = openSync(path, 'r');
  try {
    const bytes = Buffer.alloc(18);
    readSync(file, bytes, 0, 18, 0);
    return bytes.toString('latin1', 0, 4) === '\u007fELF' && bytes.readUInt16LE(16) === 4;
  } finally {
    closeSync(file);
  }
}

function readVersions(ddbgEntry: string): Versions {
  const osRelease = textOf('/etc/os-release') ?? '';
  return {
    ddbgEntry,
    node: process.version,
    kernel: release(),
    architecture: arch(),
    distribution: /^PRETTY_NAME="?([^"\n]*)"?$/m.exec(osRelease)?.[1],
  };
}
