/**
 * What the cgroup of a process uses of what it may.
 */
import type { ReadFile } from '../container/limits.ts';
import { readCgroupLimits } from '../container/limits.ts';

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
  const limits = { version, memoryLimitBytes: memoryBytes, cpuLimit: cpus, pidsLimit: pids };
  return version === 2 ? { ...limits, ...readV2(cgroup, read) } : { ...limits, ...readV1(cgroup, read) };
}

type Use = Omit<CgroupUse, 'version' | 'memoryLimitBytes' | 'cpuLimit' | 'pidsLimit'>;

function readV2(cgroup: string, read: ReadFile): Use {
  const path = /^0::(.*)$/m.exec(cgroup)?.[1] ?? '';
  // in a container the own cgroup is mounted as the root, and the path is then the host's
  const get = (file: string) => read(`/sys/fs/cgroup${path}/${file}`) ?? read(`/sys/fs/cgroup/${file}`);
  return {
    memoryBytes: toNumber(get('memory.current')),
    oomKills: field(get('memory.events'), 'oom_kill'),
    pids: toNumber(get('pids.current')),
    throttledTimes: field(get('cpu.stat'), 'nr_throttled'),
    throttledMs: scaled(field(get('cpu.stat'), 'throttled_usec'), 1e3),
    isFrozen: get('cgroup.freeze') === '1' || field(get('cgroup.events'), 'frozen') === 1,
  };
}

function readV1(cgroup: string, read: ReadFile): Use {
  const get = (controller: string, file: string) => {
    const path =
      new RegExp(`^\\d+:(?:[^:\\n]*,)?${controller}(?:,[^:\\n]*)?:(.*)$`, 'm').exec(cgroup)?.[1] ?? '';
    const place = `/sys/fs/cgroup/${controller}`;
    return read(`${place}${path}/${file}`) ?? read(`${place}/${file}`);
  };
  return {
    memoryBytes: toNumber(get('memory', 'memory.usage_in_bytes')),
    oomKills: field(get('memory', 'memory.oom_control'), 'oom_kill'),
    pids: toNumber(get('pids', 'pids.current')),
    throttledTimes: field(get('cpu', 'cpu.stat'), 'nr_throttled'),
    throttledMs: scaled(field(get('cpu', 'cpu.stat'), 'throttled_time'), 1e6),
    isFrozen: /^(?:FROZEN|FREEZING)$/.test(get('freezer', 'freezer.state') ?? ''),
  };
}

function field(text: string | undefined, name: string): number | undefined {
  return toNumber(new RegExp(`^${name} (\\d+)$`, 'm').exec(text ?? '')?.[1]);
}

function toNumber(text: string | undefined): number | undefined {
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
}

function scaled(value: number | undefined, by: number): number | undefined {
  return value === undefined ? undefined : Math.round(value / by);
}
