/**
 * Which signals we take and pass on, with the reason beside each that we don't, and the listeners for them.
 *
 * Opened before anything that takes time (a download, a start): the kernel drops every signal for PID 1 that has no
 * listener, so a `docker stop` that arrives earlier would wait for its ten seconds.
 */
import { signals as terminating } from 'signal-exit/signals';
import type { SignalName } from './outcome.ts';
import { signalNumber } from './outcome.ts';

/** A stop: `docker stop`, Ctrl-C, a terminal that went away. What follows one is no fault. */
export const STOPS: readonly SignalName[] = ['SIGTERM', 'SIGINT', 'SIGQUIT', 'SIGHUP'];

/** What signal-exit does not list, and a command may wait for. */
const BESIDE: readonly SignalName[] = [
  'SIGUSR1', // Node keeps it for its inspector until there is a listener; then it is the listener's
  'SIGWINCH', // these four end nobody by default
  'SIGCONT',
  'SIGTSTP',
  'SIGURG',
];

const NOT_TAKEN: readonly SignalName[] = [
  'SIGXFSZ', // ours, when we write too large a file; the command gets its own from the kernel
];
// Never listed above, and why: KILL and STOP cannot be caught. CHLD is ours. SEGV, BUS, FPE and ILL leave us unable to
// run a listener when they are our own fault. PIPE would be our own write to a closed stderr, and would then kill the
// command. PROF is V8's own clock under `node --cpu-prof`, and would end the command (measured). TTIN and TTOU are the terminal's answer to our own reads and writes. Node knows no real-time signals.

/** Every signal that is passed on, each number once (IOT is ABRT, POLL is IO). */
export const FORWARDED: readonly SignalName[] = uniqueByNumber(
  [...(terminating as SignalName[]), ...BESIDE].filter((name) => !NOT_TAKEN.includes(name)),
);

function uniqueByNumber(names: readonly SignalName[]): readonly SignalName[] {
  const numbers = names.map(signalNumber);
  return names.filter(
    (_, at) => !Number.isNaN(numbers[at]) && numbers.indexOf(numbers[at] ?? Number.NaN) === at,
  );
}

/** The open listeners. Exactly one stage at a time hears them; what arrives between two stages waits for the next. */
export interface Signals {
  /** Hands every signal, those that waited first, to `hear`, until the next stage takes over. Undefined: they wait. */
  handTo(hear: ((signal: SignalName) => void) | undefined): void;
  /** Takes the listeners away; the signals' default actions are back. */
  close(): void;
}

export function listen(): Signals {
  const waiting: SignalName[] = [];
  let hear: ((signal: SignalName) => void) | undefined;
  const onSignal = (signal: SignalName): void => {
    if (hear === undefined) waiting.push(signal);
    else hear(signal);
  };
  for (const name of FORWARDED) process.on(name, onSignal);
  return {
    handTo(next) {
      hear = next;
      if (next !== undefined) for (const signal of waiting.splice(0)) next(signal);
    },
    close() {
      for (const name of FORWARDED) process.removeListener(name, onSignal);
    },
  };
}
