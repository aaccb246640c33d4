/**
 * How the command ended, as a value, and the one map from it to an exit status. Pure.
 */
import { constants } from 'node:os';

/** Linux's, as Node names them. Spelt out: a consumer of our types need not have Node's. */
// biome-ignore format: a table
export type SignalName =
  | 'SIGHUP' | 'SIGINT' | 'SIGQUIT' | 'SIGILL' | 'SIGTRAP' | 'SIGABRT' | 'SIGIOT' | 'SIGBUS' | 'SIGFPE' | 'SIGKILL'
  | 'SIGUSR1' | 'SIGSEGV' | 'SIGUSR2' | 'SIGPIPE' | 'SIGALRM' | 'SIGTERM' | 'SIGCHLD' | 'SIGSTKFLT' | 'SIGCONT'
  | 'SIGSTOP' | 'SIGTSTP' | 'SIGTTIN' | 'SIGTTOU' | 'SIGURG' | 'SIGXCPU' | 'SIGXFSZ' | 'SIGVTALRM' | 'SIGPROF'
  | 'SIGWINCH' | 'SIGIO' | 'SIGPOLL' | 'SIGPWR' | 'SIGSYS' | 'SIGRTMIN' | `SIGRTMIN+${number}`;

export type Outcome =
  /** It ran and exited by itself. */
  | { readonly kind: 'exited'; readonly status: number }
  /** It ran and died of a signal. */
  | { readonly kind: 'killed'; readonly signal: SignalName }
  /** It could not be started: 127 where it (or its interpreter) is not there, 126 where it cannot be executed. */
  | { readonly kind: 'not-started'; readonly status: 126 | 127; readonly reason: string }
  /** A stop was asked for before it was started. */
  | { readonly kind: 'stopped-early'; readonly signal: SignalName }
  /** We failed before it could be started: the overlay, a bad directive. */
  | { readonly kind: 'setup-failed'; readonly reason: string };

/** What ddbg-entry itself ends with when it fails: the same as env(1), timeout(1) and docker run use for themselves. */
export const OWN_FAILURE = 125;

/** The exit status of an outcome: N, 128+S, 127, 126 or 125. */
export function statusOf(outcome: Outcome): number {
  switch (outcome.kind) {
    case 'exited':
    case 'not-started':
      return outcome.status;
    case 'killed':
    case 'stopped-early':
      return 128 + signalNumber(outcome.signal);
    case 'setup-failed':
      return OWN_FAILURE;
  }
}

/** Where glibc and kill(1) count the real-time signals from; Node has no names for those. */
const FIRST_REALTIME = 34;

/** The signal's number on this machine. */
export function signalNumber(signal: SignalName): number {
  const [, distance] = /^SIGRTMIN(\+\d+)?$/.exec(signal) ?? [signal];
  if (signal.startsWith('SIGRTMIN')) return FIRST_REALTIME + Number(distance ?? 0);
  return (constants.signals as Readonly<Record<string, number>>)[signal] ?? Number.NaN;
}

/** The first name of that number: ABRT and not IOT. Those from 32 on are counted from RTMIN, as `kill -l` does. */
export function signalName(number: number): SignalName {
  const name = Object.entries(constants.signals).find(([, value]) => value === number)?.[0];
  if (name !== undefined) return name as SignalName;
  return number === FIRST_REALTIME ? 'SIGRTMIN' : `SIGRTMIN+${number - FIRST_REALTIME}`;
}
