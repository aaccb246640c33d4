/**
 * What the cgroup of a process uses of what it may.
 */
import { field, readCounters } from '../container/counters.ts';
import type { Cgroup, ReadFile } from '../container/limits.ts';
import { openCgroup, readCgroupLimits } from '../container/limits.ts';

export interface CgroupUse {
  readonly version: 1 | 2 | undefined;
  /** Bytes. */
  readonly memoryBytes: number | undefined;
  readonly memoryLimitBytes: number | undefined;
  /** How often the kernel has killed in it for want of memory, since it was made. */
  readonly oomKills: number | undefined;
  readonly pids: number | undefined;
  readonly pidsLimit: number | undefined;
  /** Processors, e.g. 0.5. */
  readonly cpuLimit: number | undefined;
  /** How often, and for how long in all, it had used up its share of a period and had to wait. */
  readonly throttledTimes: number | undefined;
  readonly throttledMs: number | undefined;
  /** `docker pause`, or on the way there. */
  readonly isFrozen: boolean;
}

/**
 * @param cgroup the text of /proc/PID/cgroup
 * @param read how files are read, trimmed
 */
export function readCgroupUse(cgroup: string, read: ReadFile): CgroupUse {
  const { version, memoryBytes, cpus, pids } = readCgroupLimits(cgroup, read);
  const counters = readCounters(cgroup, read);
  return {
    version,
    memoryBytes: counters.memory.currentBytes,
    memoryLimitBytes: memoryBytes,
    oomKills: counters.memory.oomKills,
    pids: counters.pids.current,
    pidsLimit: pids,
    cpuLimit: cpus,
    throttledTimes: counters.cpu.throttledPeriods,
    throttledMs: counters.cpu.throttledMs,
    isFrozen: isFrozen(openCgroup(cgroup, read)),
  };
}

function isFrozen({ version, read }: Cgroup): boolean {
  if (version === 1) return /^(?:FROZEN|FREEZING)$/.test(read('freezer', 'freezer.state') ?? '');
  return read('freezer', 'cgroup.freeze') === '1' || field(read('freezer', 'cgroup.events'), 'frozen') === 1;
}
