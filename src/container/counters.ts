/**
 * What the kernel has counted in the cgroup, v1 and v2: taken before and after a run, only the difference says anything.
 */
import type { ReadFile } from './limits.ts';
import { limitOf, openCgroup } from './limits.ts';

/** Each undefined where it cannot be read. */
export interface Counters {
  readonly version: 1 | 2;
  readonly memory: {
    /** Processes that the OOM killer took. */
    readonly oomKills: number | undefined;
    /** How often memory was asked for that the limit forbids; most of it was found by giving pages back. */
    readonly limitHits: number | undefined;
    readonly currentBytes: number | undefined;
    /** Page cache included. */
    readonly peakBytes: number | undefined;
    /** Undefined: none, as well. */
    readonly limitBytes: number | undefined;
  };
  readonly pids: {
    /** Processes and threads. */
    readonly current: number | undefined;
    readonly limit: number | undefined;
    /** Forks that the limit forbade. */
    readonly limitHits: number | undefined;
  };
  readonly cpu: {
    readonly periods: number | undefined;
    readonly throttledPeriods: number | undefined;
    readonly throttledMs: number | undefined;
    readonly usageMs: number | undefined;
  };
}

/**
 * @param cgroup the text of /proc/self/cgroup
 * @param read how files are read; default: from the disk
 */
export function readCounters(cgroup: string, read?: ReadFile): Counters {
  const { version, read: get } = openCgroup(cgroup, read);
  const pids = {
    current: count(get('pids', 'pids.current')),
    limit: limitOf(get('pids', 'pids.max')),
    limitHits: field(get('pids', 'pids.events'), 'max'),
  };
  const stat = get('cpu', 'cpu.stat');
  const periods = { periods: field(stat, 'nr_periods'), throttledPeriods: field(stat, 'nr_throttled') };
  if (version === 2) {
    const events = get('memory', 'memory.events');
    return {
      version,
      memory: {
        oomKills: field(events, 'oom_kill'),
        limitHits: field(events, 'max'),
        currentBytes: count(get('memory', 'memory.current')),
        peakBytes: count(get('memory', 'memory.peak')),
        limitBytes: limitOf(get('memory', 'memory.max')),
      },
      pids,
      cpu: {
        ...periods,
        throttledMs: scaled(field(stat, 'throttled_usec'), 1e3),
        usageMs: scaled(field(stat, 'usage_usec'), 1e3),
      },
    };
  }
  return {
    version,
    memory: {
      oomKills: field(get('memory', 'memory.oom_control'), 'oom_kill'),
      limitHits: count(get('memory', 'memory.failcnt')),
      currentBytes: count(get('memory', 'memory.usage_in_bytes')),
      peakBytes: count(get('memory', 'memory.max_usage_in_bytes')),
      limitBytes: limitOf(get('memory', 'memory.limit_in_bytes')),
    },
    pids,
    cpu: {
      ...periods,
      throttledMs: scaled(field(stat, 'throttled_time'), 1e6),
      usageMs: scaled(count(get('cpuacct', 'cpuacct.usage')), 1e6),
    },
  };
}

/** What rose between two readings; undefined where one of them is missing, never below zero. */
export function risen(before: number | undefined, after: number | undefined): number | undefined {
  return before === undefined || after === undefined ? undefined : Math.max(0, after - before);
}

/** The number behind a name, in the files that have one a line. */
export function field(text: string | undefined, name: string): number | undefined {
  return count(new RegExp(`^${name} (\\d+)$`, 'm').exec(text ?? '')?.[1]);
}

function count(text: string | undefined): number | undefined {
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
}

function scaled(value: number | undefined, by: number): number | undefined {
  return value === undefined ? undefined : Math.round(value / by);
}
