/**
 * The watch over one run, for its report: counters from before the start, a witness while the command lives.
 */
import { attempt, textOf } from '../attempt.ts';
import { steadyMs } from '../clock.ts';
import type { Counters } from '../container/counters.ts';
import { readCounters } from '../container/counters.ts';
import type { SignalName } from '../outcome.ts';
import type { Witness, Witnessed } from './witness.ts';
import { openWitness } from './witness.ts';

/** What a watch hands to the gathering of facts. */
export interface Watched {
  readonly cgroup: string;
  readonly before: Counters | undefined;
  readonly witnessed: Witnessed | undefined;
  readonly stop: { readonly signal: SignalName; readonly msAgo: number } | undefined;
  readonly ours: readonly number[];
  /** From the start to the end, or until now. */
  readonly ranMs: number;
  /** The end, or now: milliseconds since 1970. */
  readonly endedAtMs: number;
}

export interface Watch {
  /** The command is there. */
  start(pid: number): void;
  /**
   * To be called while it lives, as often as it may cost: a few ten microseconds each time. True: the memory is nearly used
   * up, or somebody was just killed for it, so look again soon.
   */
  readonly sample: () => boolean;
  /** A stop was passed on. */
  stopped(signal: SignalName): void;
  /** The command is not there any more. */
  end(): void;
  /** What was seen so far, or up to the end. */
  look(): Watched;
}

/** @param ours the init and ourselves */
export function openWatch(ours: readonly number[]): Watch {
  const cgroup = textOf('/proc/self/cgroup') ?? '';
  const before = attempt(() => readCounters(cgroup)); // without /proc or cgroups there is less to say
  let witness: Witness | undefined;
  let startedAt: number | undefined;
  let stop: { signal: SignalName; at: number } | undefined;
  let ended: Watched | undefined;
  const lookNow = (): Watched => ({
    cgroup,
    before,
    witnessed: attempt(() => witness?.testimony()),
    stop: stop && { signal: stop.signal, msAgo: steadyMs() - stop.at },
    ours,
    ranMs: startedAt === undefined ? 0 : steadyMs() - startedAt,
    endedAtMs: Date.now(),
  });
  return {
    start: (pid) => {
      witness = attempt(() => openWitness({ pid, cgroup, ours, before }));
      startedAt = steadyMs();
    },
    sample: () => witness?.sample() ?? false,
    stopped: (signal) => {
      stop ??= { signal, at: steadyMs() };
    },
    end: () => {
      ended = lookNow();
      witness?.close();
      witness = undefined;
    },
    look: () => ended ?? lookNow(),
  };
}
