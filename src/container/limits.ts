/**
 * The limits that the command runs under: cgroup v1 or v2, and rlimits as the kernel lists them.
 */
import { readFileSync } from 'node:fs';

export interface CgroupLimits {
  readonly version: 1 | 2 | undefined;
  /** Bytes; undefined: no limit. */
  readonly memoryBytes: number | undefined;
  /** Processors, e.g. 0.5; undefined: no limit. */
  readonly cpus: number | undefined;
  /** Processes and threads; undefined: no limit. */
  readonly pids: number | undefined;
}

/** Reads a file below /sys/fs/cgroup, or undefined. */
export type ReadFile = (path: string) => string | undefined;

/**
 * @param cgroup the text of /proc/self/cgroup
 * @param read how files are read; default: from the disk
 */
export function readCgroupLimits(cgroup: string, read: ReadFile = readTrimmed): CgroupLimits {
  const unified = /^0::(.*)$/m.exec(cgroup)?.[1];
  if (read('/sys/fs/cgroup/cgroup.controllers') !== undefined) {
    const get = (file: string) => readOwn(read, '', unified, file);
    const [quota, period] = (get('cpu.max') ?? '').split(' ');
    return {
      version: 2,
      memoryBytes: limit(get('memory.max')),
      cpus: ratio(quota, period),
      pids: limit(get('pids.max')),
    };
  }
  const get = (controller: string, file: string) => {
    const path = new RegExp(`^\\d+:(?:[^:\\n]*,)?${controller}(?:,[^:\\n]*)?:(.*)$`, 'm').exec(cgroup)?.[1];
    return readOwn(read, `/${controller}`, path, file);
  };
  const memory = get('memory', 'memory.limit_in_bytes');
  return {
    version: memory === undefined ? undefined : 1,
    memoryBytes: limit(memory),
    cpus: ratio(get('cpu', 'cpu.cfs_quota_us'), get('cpu', 'cpu.cfs_period_us')),
    pids: limit(get('pids', 'pids.max')),
  };
}

/** In a container our own cgroup is usually mounted as the root; the path in /proc is then the host's. */
function readOwn(
  read: ReadFile,
  controller: string,
  path: string | undefined,
  file: string,
): string | undefined {
  return (
    read(`/sys/fs/cgroup${controller}${path ?? ''}/${file}`) ?? read(`/sys/fs/cgroup${controller}/${file}`)
  );
}

/** cgroup v1 says "no limit" as the largest multiple of a page below 2^63, v2 as `max`. */
const NO_LIMIT_V1 = 2 ** 62;

function limit(text: string | undefined): number | undefined {
  const value = Number(text);
  return text !== undefined && Number.isFinite(value) && value >= 0 && value < NO_LIMIT_V1
    ? value
    : undefined;
}

function ratio(quota: string | undefined, period: string | undefined): number | undefined {
  const value = Number(quota) / Number(period);
  return Number.isFinite(value) && value > 0 ? value : undefined;
}

export interface ResourceLimit {
  readonly name: string;
  readonly soft: string;
  readonly hard: string;
}

/** /proc/PID/limits, proc(5), of the process that the command has them from. Node has raised its own soft limit of open files. */
export function readResourceLimits(pid: number): readonly ResourceLimit[] {
  return (readTrimmed(`/proc/${pid}/limits`) ?? '')
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const [, name, soft, hard] = /^(.+?)\s{2,}(\S+)\s+(\S+)/.exec(line) ?? [];
      return name === undefined || soft === undefined || hard === undefined ? [] : [{ name, soft, hard }];
    });
}

function readTrimmed(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return undefined;
  }
}
