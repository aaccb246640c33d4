/**
 * What an entrypoint written in Node may hang into the run. The shell original had the same four.
 */
import { reasonOf } from './errors.ts';
import type { Fault } from './fault.ts';
import type { Log } from './log.ts';
import type { Outcome, SignalName } from './outcome.ts';

/**
 * Each may return a promise, which is waited for, but not for longer than `timeoutMs`. A hook that throws or takes too
 * long is said in a line and changes nothing else. Hooks run only when a directive is given; off, there is nobody to
 * run them.
 */
export interface EntryHooks {
  /**
   * A stop (TERM, INT, QUIT or HUP) has arrived and is about to be passed on to the command. Not for Ctrl-C on a
   * terminal: that has reached the command already.
   */
  readonly beforeStop?: (signal: SignalName) => void | Promise<void>;
  /** The command has ended after a stop. */
  readonly afterStop?: (outcome: Outcome) => void | Promise<void>;
  /** The command (or the overlay before it) has ended in a way nobody asked for. */
  readonly onFault?: (fault: Fault) => void | Promise<void>;
  /** The container is about to be held; `fault` is undefined for `stayalive=always` after a success. */
  readonly beforePark?: (fault: Fault | undefined) => void | Promise<void>;
  /** Milliseconds that each hook may take. Default 5,000: half of what `docker stop` waits before it kills. */
  readonly timeoutMs?: number;
}

const DEFAULT_TIMEOUT_MS = 5_000;

type HookName = Exclude<keyof EntryHooks, 'timeoutMs'>;

/** Calls one hook, if it is there. Never rejects. */
export async function callHook<Name extends HookName>(
  hooks: EntryHooks,
  name: Name,
  argument: Parameters<NonNullable<EntryHooks[Name]>>[0],
  log: Log,
): Promise<void> {
  const hook = hooks[name] as ((argument: unknown) => void | Promise<void>) | undefined;
  if (hook === undefined) return;
  const timeoutMs = hooks.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  let timer: NodeJS.Timeout | undefined;
  const tooLate = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`it took longer than ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    log.detail(`hook ${name}`);
    await Promise.race([(async () => hook.call(hooks, argument))(), tooLate]);
  } catch (error) {
    log.warn(`hook ${name} failed: ${reasonOf(error)}`);
  } finally {
    clearTimeout(timer);
  }
}
