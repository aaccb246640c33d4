/**
 * Holding the container after the end of its command, until somebody lets it go.
 */
import { countDown } from './container/countdown.ts';
import { isTerminal } from './log.ts';
import type { SignalName } from './outcome.ts';
import type { Signals } from './signals.ts';
import { STOPS } from './signals.ts';

export type ParkEnd =
  /** Somebody let it go: docker stop, or a kill from inside. */
  | { readonly kind: 'stopped'; readonly signal: SignalName }
  /** USR1: the command is to be run again. */
  | { readonly kind: 'again' }
  /** `stayalive=30m` is over. */
  | { readonly kind: 'time-limit' };

/**
 * Waits for TERM, INT, HUP or QUIT, for USR1, or for the limit (milliseconds in which nobody is attached; undefined:
 * none). WINCH too where there is no terminal to be resized: it is the STOPSIGNAL of Apache's images. Other signals are
 * dropped.
 *
 * @param say gets a line when somebody comes and the limit waits, and when it goes on
 */
export function park(
  signals: Signals,
  limitMs: number | undefined,
  say: (line: string) => void,
): Promise<ParkEnd> {
  const hasTerminal = [0, 1, 2].some(isTerminal);
  const { promise, resolve } = withResolvers<ParkEnd>();
  const over = (): void => resolve({ kind: 'time-limit' });
  const stop = limitMs === undefined ? waitForEver() : countDown(limitMs, say, over);
  signals.handTo((signal) => {
    if (signal === 'SIGUSR1') resolve({ kind: 'again' });
    else if (STOPS.includes(signal) || (signal === 'SIGWINCH' && !hasTerminal))
      resolve({ kind: 'stopped', signal });
  });
  return promise.finally(stop);
}

/** Listeners for signals do not keep Node alive, a timer does: this one just fires and is set again. */
function waitForEver(): () => void {
  const timer = setInterval(() => {}, 2 ** 31 - 1);
  return () => clearInterval(timer);
}

/** Promise.withResolvers, which Node 20 lacks. */
function withResolvers<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => {};
  const promise = new Promise<T>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}
