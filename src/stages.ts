/**
 * The stages of entry.ts, each wired to what it needs: log, state directory, hooks, signals.
 */
import { join } from 'node:path';
import { namesIn } from './attempt.ts';
import { findCarrier } from './carrier.ts';
import type { StateChange } from './chronicle.ts';
import {
  environmentBytes,
  keepEnvironment,
  keepRecord,
  keepStanding,
  makeReport,
  recordEnd,
  recordFault,
  shown,
  workingDirectory,
} from './chronicle.ts';
import { steadyMs } from './clock.ts';
import { identifyContainer, readClues } from './container/identity.ts';
import { readCgroupLimits, readResourceLimits } from './container/limits.ts';
import { readStat } from './container/stat.ts';
import { EntryError, reasonOf } from './errors.ts';
import type { Fault } from './fault.ts';
import { summarise } from './fault.ts';
import type { EntryHooks } from './hooks.ts';
import { callHook } from './hooks.ts';
import type { Host } from './host.ts';
import { SIGNAL_PLACE } from './host.ts';
import type { Life, Request } from './life.ts';
import { beginRun, FIRST_RUN, WAITING } from './life.ts';
import type { Log } from './log.ts';
import { createLog, isTerminal } from './log.ts';
import type { SignalName } from './outcome.ts';
import { statusOf } from './outcome.ts';
import { applyOverlay, recoverOverlay, wasCutOff } from './overlay/apply.ts';
import { formatFstree, parseFstree } from './parse.ts';
import type { Amendments, CommandLine, Plan } from './plan.ts';
import { amendPlan } from './plan.ts';
import { drainRecording, recordCommand, typedStop } from './process/record.ts';
import { resolveCommand, SHELLS, which } from './process/resolve.ts';
import type { Run } from './process/supervise.ts';
import { neverStarted, stopThatPassed, superviseCommand } from './process/supervise.ts';
import { bashTraceScript, planTrace } from './process/trace.ts';
import { parkBanner, showCommand, showDuration, stayAliveHint } from './report/banner.ts';
import type { FaultReport } from './report/fault-report.ts';
import { describeSurroundings } from './report/surroundings.ts';
import type { Watch } from './report/watch.ts';
import { openWatch } from './report/watch.ts';
import { maskUrls } from './secrets.ts';
import type { Signals } from './signals.ts';
import { STOPS } from './signals.ts';
import type { State } from './state.ts';
import { openState, writePublicFile } from './state.ts';

/** What a run is given. */
export interface Context {
  readonly host: Host;
  readonly plan: Plan;
  readonly log: Log;
  readonly signals: Signals;
  readonly hooks: EntryHooks;
}

/** What a watched run works with. */
export interface Desk extends Context {
  readonly isReachedByStops: boolean;
  /** Undefined where it is not needed, or could not be had. */
  readonly state: State | undefined;
  readonly life: Life;
  /** Changes state.json for whoever looks from inside. Its loss is no reason to disturb the command. */
  record(change: StateChange): void;
  /** For the report on a fault; undefined: nobody stays to read it. */
  readonly watch: Watch | undefined;
  /** Undone, last first, when the run is over. */
  readonly undo: (() => void)[];
  close(): void;
}

/**
 * Opens what the stages share. The state directory only for stayalive and record: verbose leaves nothing behind. For a rerun the
 * plan is what somebody has made of it.
 */
export function openDesk(context: Context): Desk {
  const { host } = context;
  const undo: (() => void)[] = [];
  let { plan, log } = context;
  let state: State | undefined;
  let life = FIRST_RUN;
  try {
    if (plan.stayAlive !== undefined || plan.record) state = openState(plan.stateDir, host.pid);
    if (state !== undefined) life = beginRun(state, host.pid);
    if (life.run > 1) plan = amendPlan(plan, amendmentsOf(life.request), life.isLaid);
  } catch (error) {
    sayFailure(log, error); // the container can be held all the same
  }
  if (plan.verbose) log = createLog({ json: plan.jsonLog, verbose: true });
  const degraded = host.degraded();
  if (degraded !== undefined && life.run === 1) log.say(degraded.sentence);
  return {
    ...context,
    plan,
    log,
    isReachedByStops: degraded?.losesStops !== true,
    state,
    life,
    record: keepRecord({ state, plan, life, host, log }),
    watch: plan.stayAlive === undefined ? undefined : openWatch([host.pid, process.pid]),
    undo,
    close: () => {
      for (const step of undo.reverse()) step();
    },
  };
}

/**
 * Lays the archives over the root, in order; without any, puts right what a KILL has left of an earlier one. Undefined:
 * all is well, go on; else how the run ended without a command.
 */
export async function layOverlays(desk: Desk): Promise<Run | undefined> {
  const { plan, log, signals, state } = desk;
  const place = { root: plan.root, stateDirectory: plan.stateDir, log };
  if (plan.fstree.length === 0 && !wasCutOff(plan.root, plan.stateDir ?? state?.directory)) return undefined;
  const abort = new AbortController();
  let stop: SignalName | undefined;
  signals.handTo((signal) => {
    if (!STOPS.includes(signal)) return;
    stop ??= signal;
    abort.abort();
  });
  desk.record({ phase: 'overlay' });
  try {
    const { limits, given: environment } = plan;
    if (plan.fstree.length === 0) await recoverOverlay(place);
    else {
      const { signal } = abort;
      await applyOverlay(plan.fstree, { ...place, limits, environment, signal });
      desk.record({ isLaid: true });
    }
  } catch (error) {
    if (stop === undefined) {
      sayFailure(log, error);
      return neverStarted({ kind: 'setup-failed', reason: reasonOf(error) }, undefined);
    }
  } finally {
    signals.handTo(undefined);
  }
  return stop === undefined ? undefined : neverStarted({ kind: 'stopped-early', signal: stop }, stop);
}

/** Starts the command and stays with it to its end. */
export async function runCommand(desk: Desk): Promise<Run> {
  const { plan, log, signals, hooks, state, host, watch } = desk;
  const traced = plan.verbose ? explain(desk) : plan.command;
  if (plan.verbose) log.detail(`starting: ${shown(traced)}`); // not afterwards: it would land in the middle of the command's first line
  const command = plan.record ? recordOutput(desk, traced) : traced; // outermost: what a traced shell says is recorded too
  const isRaw = command.recording !== undefined && isTerminal(2); // the recorder makes it so, and undoes it at the end
  const live = isRaw ? createLog({ json: plan.jsonLog, verbose: plan.verbose, lineEnd: '\r\n' }) : log;
  const isKept = plan.stayAlive !== undefined; // for whoever comes in while the container is held
  let endSampling = (): void => {};
  let commandPid: number | undefined;
  let isStopped = false;
  const run = await host.run(command, signals, {
    onStart: (pid) => {
      desk.record({ phase: 'running', commandPid: pid });
      commandPid = pid;
      if (isKept && state !== undefined) endSampling = keepStanding(state, pid, traced, live, watch?.sample); // the command need not wait for it
      watch?.start(pid);
    },
    onSignal: (signal, isStop) => {
      live.detail(`passing on ${signal}${isStop ? ', a stop' : ''}`, { signal });
      if (isStop && !isStopped) desk.record({ stop: { signal, at: new Date().toISOString() } });
      if (isStop && !isStopped) noteStop(desk, signal, commandPid);
      isStopped ||= isStop;
      return isStop ? callHook(hooks, 'beforeStop', signal, live) : undefined;
    },
    onTerminalSignal: (signal) =>
      live.detail(`${signal} comes from the terminal, which has sent it to the command too`),
  });
  endSampling();
  watch?.end();
  return command.recording === undefined ? run : endRecording(desk, run, command.recording);
}

/** A stop that has not ended the command by then is looked into: before `docker stop` takes the container away. */
const STOP_LOOK_MS = 4_000;

function noteStop(desk: Desk, signal: SignalName, pid: number | undefined): void {
  const { watch, undo, log } = desk;
  if (watch === undefined) return;
  watch.stopped(signal);
  const timer = setTimeout(async () => {
    try {
      const watched = watch.look();
      const ended = { outcome: undefined, status: undefined, coreDumped: undefined };
      const running = { ...ended, pid, durationMs: watched.ranMs };
      const { verdict } = await makeReport(desk, running, watched, { summary: 'runs', meaning: undefined });
      if (verdict.cause === 'stop-ignored') log.say(`it still runs: ${verdict.sentence}; ${verdict.hint}`);
    } catch (error) {
      log.detail(`cannot look at what the stop does: ${reasonOf(error)}`);
    }
  }, STOP_LOOK_MS);
  timer.unref();
  undo.push(() => clearTimeout(timer));
}

/** record: puts the recorder in front, where the command can be started at all: why it cannot is better said without. */
function recordOutput({ state, log }: Desk, command: CommandLine): CommandLine {
  if (!resolveCommand(command.argv[0] ?? '', command.environment).ok) return command;
  try {
    if (state === undefined) throw new EntryError('DDBG_RECORD', NO_PLACE);
    return recordCommand(command, join(state.directory, RECORDING));
  } catch (error) {
    sayFailure(log, error);
    return command;
  }
}

/** In the state directory. */
const RECORDING = 'output';
const NO_PLACE = 'cannot record: there is no state directory; the command runs unrecorded';

/**
 * Waits until all that the command has written is passed on, as long as whoever reads it takes: nothing of ours is said,
 * and no container ends, before that. A stop ends the wait.
 */
async function endRecording({ signals, log }: Desk, run: Run, directory: string): Promise<Run> {
  let stop: SignalName | undefined;
  const stopped = new Promise<void>((resolve) => {
    signals.handTo((signal) => {
      if (!STOPS.includes(signal)) return;
      stop ??= signal;
      resolve();
    });
  });
  const failed = (error: unknown): void => log.warn(`cannot wait for the recorder: ${reasonOf(error)}`);
  await Promise.race([drainRecording(directory).catch(failed), stopped]);
  signals.handTo(undefined);
  return { ...run, stop: run.stop ?? stop ?? stopThatPassed(run.outcome, typedStop(directory), false) };
}

/** verbose: says what the command will see, and turns its shell's trace on. */
function explain({ plan, log, undo, host }: Desk): CommandLine {
  const { command } = plan;
  const resolution = resolveCommand(command.argv[0] ?? '', command.environment);
  const clues = readClues();
  const lines = describeSurroundings({
    command,
    resolution,
    cwd: workingDirectory(),
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    groups: process.getgroups?.() ?? [],
    umask: process.umask(),
    cgroup: readCgroupLimits(clues.cgroup),
    limits: readResourceLimits(host.pid),
  });
  for (const line of lines) log.detail(line);

  const trace = planTrace(command.argv, resolution, command.environment);
  if (trace === undefined) return command;
  try {
    const file = writePublicFile('ddbg-trace', bashTraceScript(command.environment.BASH_ENV));
    undo.push(file.remove);
    log.detail(`tracing ${trace.shell}: every command it runs follows on stderr, with the values it uses`);
    const environment = { ...command.environment, ...trace.environment, BASH_ENV: file.path };
    return { argv: trace.argv, environment };
  } catch (error) {
    sayFailure(log, error);
    return command;
  }
}

/**
 * Says how it ended, tells the hooks, and leaves the record.
 *
 * @returns the report on the fault; undefined: there is none, or nobody stays to read it
 */
export async function sayEnd(
  desk: Desk,
  run: Run,
  fault: Fault | undefined,
): Promise<FaultReport | undefined> {
  const { plan, log, hooks, watch } = desk;
  const watched = watch?.look();
  const ran = run.pid === undefined ? '' : ` after ${showDuration(run.durationMs)}`;
  const mapped = run.status === statusOf(run.outcome) ? '' : `, which --exit-map makes ${run.status}`;
  log.detail(`the command ${summarise(run.outcome)}${ran}${mapped}`, { status: run.status });
  const report =
    fault === undefined || watched === undefined ? undefined : await recordFault(desk, run, fault, watched);
  recordEnd(desk, desk.record, run, fault, report);
  if (run.stop !== undefined && run.pid !== undefined) await callHook(hooks, 'afterStop', run.outcome, log);
  if (fault === undefined) return undefined;
  if (plan.stayAlive !== undefined) return report; // it is held, and the hooks are called there
  await callHook(hooks, 'onFault', fault, log);
  const foreign = plan.setting === 'DEBUG' ? plan.command.environment.DEBUG : undefined;
  const words = [
    ...(foreign === undefined ? [] : [foreign]),
    ...(plan.verbose ? ['verbose'] : []),
    ...plan.fstree.map((source) => `fstree=${maskUrls(formatFstree(source))}`),
    ...(plan.record ? ['record'] : []),
  ];
  log.say(stayAliveHint(fault, shown(plan.command), plan.setting, words));
  return undefined;
}

/** Whether the container stays: on a fault, or after anything but a stop where `always` was asked for. */
export function isHeld({ plan }: Desk, run: Run, fault: Fault | undefined): boolean {
  if (plan.stayAlive === undefined || run.stop !== undefined) return false;
  return fault !== undefined || plan.stayAlive.on === 'always';
}

/**
 * Holds the container until somebody lets it go, or the time limit is over. Resolves with true where the command is to be
 * run again.
 */
export async function holdContainer(
  desk: Desk,
  run: Run,
  fault: Fault | undefined,
  report: FaultReport | undefined,
): Promise<boolean> {
  const { plan, log, signals, hooks, state, host } = desk;
  const limitMs = plan.stayAlive?.limitMs;
  const parked = host.park(signals, limitMs, log.say); // listens first: a stop that comes now must not wait for a hook
  if (fault !== undefined) await Promise.race([parked, callHook(hooks, 'onFault', fault, log)]);
  await Promise.race([parked, callHook(hooks, 'beforePark', fault, log)]);
  desk.record({ phase: 'parked' });
  if (run.pid === undefined && state !== undefined)
    keepEnvironment(state, environmentBytes(plan.command), log); // what it would have had
  const carrier = findCarrier();
  const withBusybox = carrier === undefined ? undefined : `${carrier.busybox} sh`;
  const isInPath = (name: string): boolean => which(name, plan.command.environment.PATH) !== undefined;
  const installed = carrier?.tool ?? (isInPath('ddbg') && isInPath('node') ? 'ddbg' : undefined);
  const tool = state === undefined ? undefined : installed; // it works on the state
  const banner = parkBanner({
    fault,
    cause: causeLine(report),
    command: report === undefined ? shown(plan.command) : showCommand(report.argv, (text) => text),
    commandPid: run.pid,
    durationMs: run.durationMs,
    container: identifyContainer(readClues()),
    ownPid: host.pid,
    shell: SHELLS.find(isInPath) ?? (tool === undefined ? withBusybox : undefined),
    hasOwnShell: withBusybox !== undefined,
    tool,
    stateDirectory: state?.directory,
    limitMs,
    now: new Date(),
    isReachedByStops: desk.isReachedByStops,
  });
  const facts = { status: run.status, run: desk.life.run, cause: report?.verdict.cause };
  const lines = plan.jsonLog ? banner.filter((line) => !line.startsWith('---')) : banner;
  lines.forEach((line, at) => {
    log.say(line, at === 0 && plan.jsonLog ? facts : {});
  });
  const lineOf = (signal: string | undefined): string => asLine(plan, endOfPark(run, signal), run.status);
  host.handOver({
    status: run.status,
    limitMs,
    lines: { released: lineOf(SIGNAL_PLACE), expired: lineOf(undefined) },
  });
  const end = await parked;
  if (end.kind === 'again') return true;
  desk.record({ phase: 'ended' });
  log.say(endOfPark(run, end.kind === 'stopped' ? end.signal : undefined), { status: run.status });
  return false;
}

/** What `ddbg release` has asked for; undefined: nothing. */
export function readRelease({ life, log }: Desk): number | undefined {
  if (life.request?.action !== 'release') return undefined;
  const { status } = life.request;
  log.say(`let go by ddbg release, ending with status ${status}`, { status });
  return status;
}

/** Longer than anybody takes to say one line. */
const LONGEST_GOODBYE_MS = 1_000;

/**
 * The end of the container ends whoever is in it with 137: a script that has just asked for a rerun or the release, or that
 * waits for the end, is to have its answer, and its status, first.
 */
export async function finish({ life, record, state }: Desk, status: number): Promise<number> {
  record({ phase: 'ended' });
  const asked = life.request === undefined ? [] : [life.request.by];
  const there = [...asked, ...(state === undefined ? [] : whoWaits(state))];
  const { setTimeout: delay } = process.getBuiltinModule('node:timers/promises');
  const endAt = steadyMs() + LONGEST_GOODBYE_MS;
  while (there.some((pid) => readStat(pid) !== undefined) && steadyMs() < endAt) await delay(5);
  return status;
}

function whoWaits({ directory }: State): readonly number[] {
  return namesIn(directory)
    .flatMap((name) => WAITING.exec(name)?.[1] ?? [])
    .map(Number);
}

/** Why, where the facts or its own words tell; undefined: they do not. */
function causeLine(report: FaultReport | undefined): string | undefined {
  if (report === undefined || ['undecided', 'setup-failed'].includes(report.verdict.cause)) return undefined;
  const { sentence, evidence } = report.verdict;
  return `why: ${sentence}${evidence.length === 0 ? '' : ` (${evidence.slice(0, 2).join('; ')})`}`;
}

/** Says why a park is over. */
function endOfPark(run: Run, signal: string | undefined): string {
  const why = signal === undefined ? 'the time limit is over' : `let go by ${signal}`;
  return `${why}, ending with status ${run.status}`;
}

/** What the log would write, for somebody else to write it. */
function asLine(plan: Plan, message: string, status: number): string {
  let line = '';
  createLog({
    json: plan.jsonLog,
    write: (text) => {
      line += text;
    },
  }).say(message, { status });
  return line;
}

/** Off, where Node cannot replace itself by the command: as its parent, and otherwise out of the way. */
export async function runAsChild({ plan, log, signals }: Context): Promise<Run> {
  const run = await superviseCommand(plan.command, signals);
  const { outcome } = run;
  if (outcome.kind === 'not-started') log.warn(`cannot start ${shown(plan.command)}: ${outcome.reason}`);
  return run;
}

/** An error of ours in a line, the way out in the next. */
export function sayFailure(log: Log, error: unknown): void {
  log.warn(reasonOf(error), error instanceof EntryError ? { code: error.code } : {});
  if (error instanceof EntryError && error.hint !== undefined) log.warn(`  ${error.hint}`);
}

function amendmentsOf(request: Request | undefined): Amendments | undefined {
  if (request?.action !== 'rerun') return undefined;
  return { ...request, fstree: request.fstree.map((text) => parseFstree(text, 'ddbg rerun')) };
}
