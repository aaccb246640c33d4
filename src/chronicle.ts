/**
 * What a run leaves in the state directory for whoever comes in: its record, the environment and place of the command, the
 * report of a fault, the history. None of it may disturb the command or keep the container from being held.
 */
import { environEntries } from './container/environ.ts';
import { readStat } from './container/stat.ts';
import { reasonOf } from './errors.ts';
import type { Fault } from './fault.ts';
import { summarise } from './fault.ts';
import type { Host } from './host.ts';
import type { Life, StateRecord } from './life.ts';
import { cannotWrite, endRun, STATE_SCHEMA } from './life.ts';
import type { Log } from './log.ts';
import type { CommandLine, Plan } from './plan.ts';
import { startSampler } from './process/sampler.ts';
import type { Run } from './process/supervise.ts';
import { showCommand } from './report/banner.ts';
import type { FaultReport } from './report/fault-report.ts';
import type { Watched } from './report/watch.ts';
import { makeMask, maskArguments, maskUrls } from './secrets.ts';
import type { State } from './state.ts';
import { environmentAsShell } from './state.ts';
import { ownVersion } from './version.ts';

/** The part of the desk (stages.ts) that is written down. */
export interface Subject {
  readonly plan: Plan;
  readonly log: Log;
  readonly host: Pick<Host, 'pid'>;
  readonly state: State | undefined;
  readonly life: Life;
}

/** What changes in state.json. */
export type StateChange = Partial<Pick<StateRecord, 'phase' | 'isLaid' | 'stop' | 'end'>> & {
  readonly commandPid?: number | undefined;
};

/** state.json, from now on: returns the way to change it. */
export function keepRecord({ state, plan, life, host, log }: Subject): (change: StateChange) => void {
  const entry = host.pid;
  const now = new Date().toISOString();
  let record: StateRecord = {
    schema: STATE_SCHEMA,
    phase: 'running',
    phaseSince: now,
    run: life.run,
    pids: { entry, command: null },
    entryStartTicks: readStat(entry)?.startTicks ?? null,
    argv: shownArgv(plan.command),
    cwd: workingDirectory(),
    uid: process.getuid?.() ?? null,
    startedAt: now,
    plan: {
      verbose: plan.verbose,
      stayAlive: plan.stayAlive ?? null,
      fstree: plan.fstree.map((source) => ({ ...source, location: maskUrls(source.location) })),
      record: plan.record,
      root: plan.root ?? '/',
    },
    isLaid: life.isLaid || plan.fstree.length === 0,
    stop: null,
    end: life.end,
  };
  return ({ commandPid, ...change }) => {
    const { phase = record.phase } = change;
    const phaseSince = phase === record.phase ? record.phaseSince : new Date().toISOString();
    const pids = { entry, command: commandPid ?? record.pids.command };
    record = { ...record, ...change, phaseSince, pids };
    writeRecord(state, log, 'state.json', record);
  };
}

/** The run in the history, and its end in state.json. */
export function recordEnd(
  { state, plan, log, life }: Subject,
  record: (change: StateChange) => void,
  run: Run,
  fault: Fault | undefined,
  report: FaultReport | undefined,
): void {
  const end = {
    kind: run.outcome.kind,
    status: run.status,
    summary: summarise(run.outcome),
    isFault: fault !== undefined,
  };
  record({ end }); // the phase is told by whoever knows what comes now
  if (state === undefined) return;
  try {
    endRun(state, {
      run: life.run,
      ...end,
      startedAt: new Date(Date.now() - run.durationMs).toISOString(),
      durationMs: Math.round(run.durationMs),
      stop: run.stop ?? null,
      argv: shownArgv(plan.command),
      cause: report === undefined || report.verdict.cause === 'undecided' ? null : report.verdict.sentence,
    });
  } catch (error) {
    log.detail(cannotWrite('runs.json', error));
  }
}

/** fault.json, and the line that Kubernetes shows. Whatever goes wrong with them, the container is held. */
export async function recordFault(
  subject: Subject,
  run: Run,
  fault: Fault,
  watched: Watched,
): Promise<FaultReport | undefined> {
  try {
    const report = await makeReport(subject, run, watched, fault);
    writeRecord(subject.state, subject.log, 'fault.json', report);
    const { faultSummary, tellKubernetes } = await import('./report/reporting.ts');
    tellKubernetes(faultSummary(report));
    return report;
  } catch (error) {
    subject.log.detail(`cannot report the fault: ${reasonOf(error)}`);
    return undefined;
  }
}

function writeRecord(state: State | undefined, log: Log, name: string, record: unknown): void {
  try {
    state?.write(name, `${JSON.stringify(record, undefined, 2)}\n`);
  } catch (error) {
    log.detail(cannotWrite(name, error));
  }
}
export function environmentBytes({ environment }: CommandLine): Buffer {
  return Buffer.from(
    Object.entries(environment)
      .map(([name, value]) => `${name}=${value}\0`)
      .join(''),
  );
}

export function keepEnvironment(state: State, bytes: Buffer, log: Log): void {
  try {
    state.write('environ', bytes);
    const variables = environEntries(bytes.toString('latin1')); // byte for byte: a value need not be UTF-8
    state.write('environ.sh', Buffer.from(environmentAsShell(variables), 'latin1'));
  } catch (error) {
    log.warn(`cannot keep the environment for whoever execs in: ${reasonOf(error)}`);
  }
}

/** The environment and the place of the command, for whoever comes in: first as it was started, then as it goes on. */
export function keepStanding(
  state: State,
  pid: number,
  command: CommandLine,
  log: Log,
  onLook: (() => boolean) | undefined,
): () => void {
  keepEnvironment(state, environmentBytes(command), log);
  return startSampler(pid, {
    onEnvironment: (bytes) => keepEnvironment(state, bytes, log),
    onStanding: (standing) => writeRecord(state, log, 'standing.json', { schema: 1, ...standing }),
    onLook,
  });
}

interface Reported extends Pick<Run, 'pid' | 'coreDumped' | 'durationMs'> {
  /** Both undefined: it runs. */
  readonly outcome: Run['outcome'] | undefined;
  readonly status: number | undefined;
}

/** Reads the machine for some milliseconds. */
export async function makeReport(
  { plan, state, life }: Subject,
  { outcome, status, pid, coreDumped, durationMs }: Reported,
  watched: Watched,
  { summary, meaning }: Pick<Fault, 'summary' | 'meaning'>,
): Promise<FaultReport> {
  const { report } = await import('./report/reporting.ts');
  const { command } = plan;
  return report(
    {
      ...watched,
      command,
      outcome,
      coreDumped,
      pid,
      durationMs,
      stateDirectory: state?.directory,
      version: ownVersion(),
    },
    { at: new Date(), number: life.run, status, summary, meaning },
  );
}

export function shown(command: CommandLine): string {
  return showCommand(command.argv, makeMask(command.environment));
}

function shownArgv(command: CommandLine): readonly string[] {
  return maskArguments(command.argv, makeMask(command.environment));
}

/** The directory may be gone while we are in it. */
export function workingDirectory(): string {
  try {
    return process.cwd();
  } catch (error) {
    return `(${reasonOf(error)})`;
  }
}
