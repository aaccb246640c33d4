/**
 * Outcome -> Fault: the one place that says what counts as a fault, and what it usually means. Pure.
 */
import { signalsByName } from 'human-signals';
import type { Outcome, SignalName } from './outcome.ts';
import { signalNumber, statusOf } from './outcome.ts';

/** An outcome nobody asked for. */
export interface Fault {
  readonly outcome: Outcome;
  /** The exit status that the container ends with, now or when it is let go. */
  readonly status: number;
  /** "exited with status 7", "was killed by signal SIGSEGV (11)". */
  readonly summary: string;
  /** What that usually means; undefined where experience says nothing. */
  readonly meaning: string | undefined;
}

/**
 * The fault in an outcome, or undefined: success, and whatever follows a stop that was asked for, is none.
 *
 * @param stop the stop that was asked for, before the start or while the command ran
 * @param status what the outcome makes of the container; 0 is no fault, --exit-map may have made it so
 */
export function judgeOutcome(
  outcome: Outcome,
  stop: SignalName | undefined,
  status = statusOf(outcome),
): Fault | undefined {
  if (status === 0 || stop !== undefined) return undefined;
  return { outcome, status, summary: summarise(outcome), meaning: meaningOf(outcome) };
}

/** The outcome in words that follow "the command". */
export function summarise(outcome: Outcome): string {
  switch (outcome.kind) {
    case 'exited':
      return `exited with status ${outcome.status}`;
    case 'killed':
      return `was killed by signal ${outcome.signal} (${signalNumber(outcome.signal)})`;
    case 'not-started':
      return `could not be started: ${outcome.reason}`;
    case 'stopped-early':
      return `was not started: a stop (${outcome.signal}) came first`;
    case 'setup-failed':
      return `was not started: ${outcome.reason}`;
  }
}

const SIGNAL_MEANINGS: Readonly<Partial<Record<SignalName, string>>> = {
  SIGKILL: "most often the kernel's OOM killer (the memory limit), else docker kill or somebody's kill -9",
  SIGSEGV: 'it used memory that is not its own: a bug in native code, or a library that does not fit',
  SIGBUS: 'a mapped file was cut short under it, the shared memory (/dev/shm) is full, or misaligned access',
  SIGABRT:
    'it gave up itself: a failed assertion, an uncaught C++ exception, heap corruption, a fatal error of its runtime',
  SIGILL: 'an instruction that this processor lacks (built for a newer one), or a deliberate trap',
  SIGFPE: 'an integer division by zero or overflow',
  SIGTRAP: 'a breakpoint or a deliberate trap of its runtime',
  SIGSYS: 'a system call that the seccomp profile forbids',
  SIGTERM:
    'somebody inside the container, or its own supervisor, told it to stop; no stop came through the entrypoint',
  SIGPIPE: 'it wrote to a pipe whose reader is gone',
  SIGXCPU: 'the CPU time limit (ulimit -t)',
  SIGXFSZ: 'the file size limit (ulimit -f)',
};

const STATUS_MEANINGS: Readonly<Record<number, string>> = {
  1: 'its own general error: the reason is in its last lines of output',
  2: 'wrong usage, or a shell that could not read its script',
  125: 'a wrapper (env, timeout, docker) failed itself',
  126: 'something it calls is there but cannot be executed',
  127: 'a command that it calls was not found',
  255: 'exit -1, or an ssh or a script that gave up',
};

function meaningOf(outcome: Outcome): string | undefined {
  if (outcome.kind === 'killed') return meaningOfSignal(outcome.signal);
  if (outcome.kind !== 'exited') return undefined; // the reason says it
  const signal = Object.values(signalsByName).find(({ number }) => number + 128 === outcome.status);
  if (signal !== undefined && outcome.status <= 128 + 31) {
    const meaning = meaningOfSignal(signal.name as SignalName);
    return `128+${signal.number}: what it ran died of ${signal.name}${meaning === undefined ? '' : `: ${meaning}`}`;
  }
  return STATUS_MEANINGS[outcome.status];
}

function meaningOfSignal(signal: SignalName): string | undefined {
  return SIGNAL_MEANINGS[signal] ?? signalsByName[signal as keyof typeof signalsByName]?.description;
}
