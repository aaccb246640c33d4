/**
 * The command's life under our eyes: from its start to its outcome, with every signal passed on.
 *
 *     waiting --start--> running --end--> ended
 *        |                  |                ^
 *        '--stop--> ended   '--stop--> stopping --end--'
 */
import { setImmediate, setTimeout } from 'node:timers/promises';
import { steadyMs } from '../clock.ts';
import { readStat } from '../container/stat.ts';
import type { Outcome, SignalName } from '../outcome.ts';
import { signalNumber, statusOf } from '../outcome.ts';
import type { CommandLine } from '../plan.ts';
import type { Signals } from '../signals.ts';
import { STOPS } from '../signals.ts';
import { resolveCommand } from './resolve.ts';
import type { RunningCommand } from './spawn.ts';
import { spawnCommand } from './spawn.ts';

export type RunState = 'waiting' | 'running' | 'stopping' | 'ended';
export type RunEvent = 'start' | 'stop' | 'end';

/** The one place where the state changes. A stop while stopping, or anything after the end, changes nothing. */
export function transition(state: RunState, event: RunEvent): RunState {
  switch (`${state} ${event}` as const) {
    case 'waiting start':
      return 'running';
    case 'running stop':
      return 'stopping';
    case 'waiting stop':
    case 'waiting end':
    case 'running end':
    case 'stopping end':
      return 'ended';
    default:
      return state;
  }
}

/** How a run went. */
export interface Run {
  readonly outcome: Outcome;
  /** The exit status that this makes of the container: statusOf(outcome), unless --exit-map says otherwise. */
  readonly status: number;
  /** The stop that was asked for, if any: TERM, INT or QUIT passed on; HUP, or a terminal's Ctrl-C, when the end came soon. */
  readonly stop: SignalName | undefined;
  readonly pid: number | undefined;
  /** Whether the kernel has dumped core; undefined where that cannot be told: Node keeps it to itself. */
  readonly coreDumped: boolean | undefined;
  /** From start to end; 0 when it was never started. */
  readonly durationMs: number;
}

/** A run that came to its end without a command. */
export function neverStarted(outcome: Outcome, stop: SignalName | undefined): Run {
  return { outcome, status: statusOf(outcome), stop, pid: undefined, coreDumped: false, durationMs: 0 };
}

export interface Watchers {
  /** It has been started. */
  readonly onStart?: (pid: number) => void;
  /** A signal is about to be passed on. What it returns is waited for before the first stop is passed on. */
  readonly onSignal?: (signal: SignalName, isStop: boolean) => void | Promise<void>;
  /** A signal is taken for the terminal's, which the command has got as well: it is not passed on. */
  readonly onTerminalSignal?: (signal: SignalName) => void;
}

/** Runs the command to its end. Never rejects for anything that the command does. */
export async function superviseCommand(
  command: CommandLine,
  signals: Signals,
  watchers: Watchers = {},
): Promise<Run> {
  let state: RunState = 'waiting';
  let stop: SignalName | undefined;
  let passing: PassingStop | undefined;
  let running: RunningCommand | undefined;

  const pass = async (signal: SignalName): Promise<void> => {
    const isStop = STOPS.includes(signal);
    if (running === undefined) {
      if (isStop) stop ??= signal; // nothing else has anybody to go to
      return;
    }
    if (running.pid !== undefined && isFromSharedTerminal(signal, running.pid)) {
      if (isStop) passing = { signal, at: steadyMs() };
      watchers.onTerminalSignal?.(signal);
      // Ctrl-Z stops the whole job, as without us; `fg` continues it. Not without a terminal: a command that ignores
      // the signal (every one in an orphaned process group does) would go on with nobody to pass it a stop.
      if (signal === 'SIGTSTP') process.kill(process.pid, 'SIGSTOP');
      return;
    }
    const isFirstStop = isStop && state !== 'stopping';
    if (signal === 'SIGHUP') passing = { signal, at: steadyMs() };
    else if (isStop) stop ??= signal;
    if (isStop) state = transition(state, 'stop');
    const told = watchers.onSignal?.(signal, isStop);
    if (isFirstStop) await told;
    running.send(signal);
  };

  signals.handTo((signal) => void pass(signal));
  // Hear what the kernel has already noted, before there is a command that it did not reach. Twice: the first may still
  // belong to the turn of the event loop that we were called in.
  await setImmediate();
  await setImmediate();
  if (stop !== undefined) {
    // It was asked for before there was anything to stop.
    return neverStarted({ kind: 'stopped-early', signal: stop }, stop);
  }

  const resolution = resolveCommand(command.argv[0] ?? '', command.environment);
  if (!resolution.ok) {
    const { status, reason } = resolution;
    return neverStarted({ kind: 'not-started', status, reason }, stop);
  }

  const started = steadyMs();
  running = spawnCommand(command);
  const { pid } = running;
  if (pid !== undefined) {
    state = transition(state, 'start');
    watchers.onStart?.(pid);
  }
  const outcome = await running.ended;
  if (statusOf(outcome) !== 0 && foregroundGroup() !== undefined) await setTimeout(LATE_SIGNAL_MS);
  stop ??= stopThatPassed(outcome, passing, foregroundGroup() !== undefined);
  signals.handTo(undefined); // a stop from here on is meant for whoever comes next: the park
  state = transition(state, 'end');
  return {
    outcome,
    status: statusOf(outcome),
    stop,
    pid,
    coreDumped: outcome.kind === 'killed' ? undefined : false,
    durationMs: pid === undefined ? 0 : steadyMs() - started,
  };
}

/** One that may not have been meant as a stop: HUP is "read your configuration again" to many, Ctrl-C gives up a query. */
export interface PassingStop {
  readonly signal: SignalName;
  /** Milliseconds, see clock.ts. */
  readonly at: number;
}

/** As long as `docker stop` gives a command to end. */
const PASSING_STOP_LASTS_MS = 10_000;

/** A Ctrl-C that ended the command can reach us after its end, when another of Node's threads has taken it (measured). */
const LATE_SIGNAL_MS = 50;

/** Our process group when it is in the foreground of a terminal, so that what is typed there is sent to us. */
function foregroundGroup(): number | undefined {
  const ours = readStat('self');
  return ours !== undefined && ours.foreground === ours.group ? ours.group : undefined;
}

/** Whether Ctrl-C could be typed anywhere for this process. */
export function hasTerminal(pid: number): boolean {
  return (readStat(pid)?.foreground ?? -1) !== -1;
}

/**
 * HUP, or Ctrl-C and Ctrl-\ on a terminal: a stop when the command ends of it, or soon after it, and not for ever.
 *
 * @param onTerminal whether the command could be reached from a keyboard, so that a death by INT is a Ctrl-C's
 */
export function stopThatPassed(
  outcome: Outcome,
  seen: PassingStop | undefined,
  onTerminal: boolean,
): SignalName | undefined {
  if (seen !== undefined && steadyMs() - seen.at < PASSING_STOP_LASTS_MS) return seen.signal;
  if (!onTerminal) return undefined;
  return (['SIGINT', 'SIGQUIT'] as const).find((signal) => statusOf(outcome) === 128 + signalNumber(signal));
}

/** What a terminal sends to every process of its foreground group by itself. */
const TERMINAL_SIGNALS: readonly SignalName[] = ['SIGINT', 'SIGQUIT', 'SIGTSTP', 'SIGWINCH'];

/**
 * True where the command gets this signal from the terminal itself, because it shares our process group and that
 * group has the terminal: passing it on would make one Ctrl-C two. Node cannot tell who sent a signal, nor give the
 * command a group of its own with the terminal; so an INT sent by `kill` alone to us is not passed on there either.
 */
function isFromSharedTerminal(signal: SignalName, pid: number): boolean {
  if (!TERMINAL_SIGNALS.includes(signal)) return false;
  const shared = foregroundGroup();
  return shared !== undefined && readStat(pid)?.group === shared;
}
