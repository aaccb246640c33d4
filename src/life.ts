/**
 * The life of a container as its files tell it: state.json (now), runs.json (all runs so far), request.json (what
 * somebody inside asks for). One life is one entry, from its start to its end; a rerun belongs to it, a restart does not.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { attempt } from './attempt.ts';
import { readStat } from './container/stat.ts';
import { reasonOf } from './errors.ts';
import type { State } from './state.ts';

export type Phase = 'overlay' | 'running' | 'parked' | 'ended';

/** How a run ended, as far as one line tells it. */
export interface EndRecord {
  readonly kind: string;
  readonly status: number;
  /** "was killed by signal SIGSEGV (11)" */
  readonly summary: string;
  /** False: success, or a stop that was asked for. */
  readonly isFault: boolean;
}

/** The content of state.json. Secrets are masked in it. */
export interface StateRecord {
  readonly schema: typeof STATE_SCHEMA;
  readonly phase: Phase;
  /** ISO 8601. */
  readonly phaseSince: string;
  /** 1 for the first run of the command in this life. */
  readonly run: number;
  readonly pids: {
    /** Whom `ddbg` signals, and whoever is inside kills: the native init, or node where it is alone. */
    readonly entry: number;
    readonly command: number | null;
  };
  /** With the pid, the entry for ever: in clock ticks since the machine started. */
  readonly entryStartTicks: number | null;
  readonly argv: readonly string[];
  readonly cwd: string;
  readonly uid: number | null;
  /** Of this run, ISO 8601. */
  readonly startedAt: string;
  readonly plan: {
    readonly verbose: boolean;
    readonly stayAlive: { readonly on: 'fault' | 'always'; readonly limitMs?: number | undefined } | null;
    readonly fstree: readonly unknown[];
    readonly record?: boolean;
    readonly root: string;
  };
  /** Whether the archives of DEBUG have been laid: a rerun does not lay them again over what somebody has changed. */
  readonly isLaid: boolean;
  /** The first stop that was passed on to this run. */
  readonly stop: { readonly signal: string; readonly at: string } | null;
  /** Of this run, once it has ended. */
  readonly end: EndRecord | null;
}

export const STATE_SCHEMA = 2;

/** One run in runs.json. */
export interface RunRecord extends EndRecord {
  readonly run: number;
  readonly startedAt: string;
  readonly durationMs: number;
  readonly stop: string | null;
  readonly argv: readonly string[];
  /** What has caused a fault, one line, where the facts decide it. */
  readonly cause: string | null;
  /** The file of its report in the state directory, as long as that is kept. */
  readonly report: string | null;
}

/** The content of runs.json. */
export interface RunsRecord {
  readonly schema: 1;
  /** First to last; the newest MOST_RUNS. */
  readonly runs: readonly RunRecord[];
}

/** A hundred lines of history, and ten reports, of a few kB each: a loop of reruns must not fill the disk. */
export const MOST_RUNS = 100;
export const MOST_REPORTS = 10;

/** What somebody inside asks for; the entry takes it when it gets USR1. */
export type Request =
  | {
      readonly schema: 1;
      readonly action: 'rerun';
      /** Over what the command had; values may be secrets. */
      readonly environment: Readonly<Record<string, string>>;
      /** Instead of the whole command line. */
      readonly argv?: readonly string[] | undefined;
      /** What `fstree=` takes, laid before the start. */
      readonly fstree: readonly string[];
      readonly verbose: boolean;
      /** Hold the container after success too. */
      readonly stay: boolean;
      /** The process that asks: it is to have its answer before the container ends under it. */
      readonly by: number;
    }
  | { readonly schema: 1; readonly action: 'release'; readonly status: number; readonly by: number };

/** What a run begins with. */
export interface Life {
  readonly run: number;
  readonly isLaid: boolean;
  readonly request: Request | undefined;
  /** Of the run before, where nothing is run any more: a release. */
  readonly end: EndRecord | null;
}

export const FIRST_RUN: Life = { run: 1, isLaid: false, request: undefined, end: null };

/**
 * Reads what an earlier run of this life has left, and takes the request, if there is one. What an earlier life has left
 * is taken away.
 *
 * @param entry the pid of the init, or of node alone
 */
export function beginRun(state: State, entry: number): Life {
  const before = readState(state.directory);
  const request = takeRequest(state);
  if (before === undefined || !isOf(before, entry)) {
    forget(state);
    return FIRST_RUN;
  }
  const { run, isLaid, end } = before;
  if (request?.action === 'release') return { run, isLaid, request, end };
  state.remove('fault.json'); // it is in fault-N.json
  return { run: run + 1, isLaid, request, end: null };
}

/** Undefined where there is none, or none that can be read. */
export function readState(directory: string): StateRecord | undefined {
  const record = readJson(join(directory, 'state.json')) as Partial<StateRecord> | undefined;
  return record?.schema === STATE_SCHEMA ? (record as StateRecord) : undefined;
}

/** Whether that entry still lives: the same process, not another one under its pid. */
export function isOf(record: StateRecord, entry: number): boolean {
  return record.pids.entry === entry && readStat(entry)?.startTicks === record.entryStartTicks;
}

/** First to last; empty where there are none yet. */
export function readRuns(directory: string): readonly RunRecord[] {
  const record = readJson(join(directory, 'runs.json')) as Partial<RunsRecord> | undefined;
  return record?.schema === 1 && Array.isArray(record.runs) ? record.runs : [];
}

/** Adds a run to runs.json, keeps its fault.json as fault-N.json, and lets go of what is beyond the limits. */
export function endRun(state: State, run: Omit<RunRecord, 'report'>): void {
  let report: string | null = null;
  const fault = join(state.directory, 'fault.json');
  if (run.isFault && existsSync(fault)) {
    report = reportName(run.run);
    state.write(report, readFileSync(fault));
  }
  const runs = [...readRuns(state.directory), { ...run, report }].slice(-MOST_RUNS);
  const kept = runs.flatMap((each) => each.report ?? []).slice(-MOST_REPORTS);
  for (const name of reportsIn(state.directory)) if (!kept.includes(name)) state.remove(name);
  const record: RunsRecord = {
    schema: 1,
    runs: runs.map((each) => ({
      ...each,
      report: each.report !== null && kept.includes(each.report) ? each.report : null,
    })),
  };
  state.write('runs.json', `${JSON.stringify(record, undefined, 2)}\n`);
}

export function reportName(run: number): string {
  return `fault-${run}.json`;
}

function reportsIn(directory: string): readonly string[] {
  return readdirSync(directory).filter((name) => /^fault-\d+\.json$/.test(name));
}

function forget(state: State): void {
  const files = ['fault.json', 'runs.json', 'standing.json', 'environ', 'environ.sh', LOCK];
  const marks = readdirSync(state.directory).filter((name) => WAITING.test(name));
  for (const name of [...files, ...marks, ...reportsIn(state.directory)]) state.remove(name);
}

export const REQUEST = 'request.json';
/** Of whoever is asking: its pid. */
export const LOCK = 'request.lock';

/** `ddbg wait` leaves one with its pid, so that it can have its answer before the container ends under it. */
export const WAITING = /^waiting-(\d+)$/;

/** Whoever can write it could do as the entry does anyway: the directory is its user's alone. */
function takeRequest(state: State): Request | undefined {
  const request = readJson(join(state.directory, REQUEST)) as Request | undefined;
  state.remove(REQUEST);
  return request?.schema === 1 ? request : undefined;
}

function readJson(file: string): unknown {
  return attempt(() => JSON.parse(readFileSync(file, 'utf8')));
}

/** For the log: why a file of ours could not be written. */
export function cannotWrite(name: string, error: unknown): string {
  return `cannot write ${name}: ${reasonOf(error)}`;
}
