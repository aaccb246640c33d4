/**
 * The limits that the command runs under: cgroup v1 or v2, and rlimits as the kernel lists them.
 */
import { textOf } from '../attempt.ts';

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

/** A cgroup whose files can be read, by the controller they belong to. */
export interface Cgroup {
  readonly version: 1 | 2;
  /** @param controller of v1; v2 has all of them in one place */
  read(controller: string, file: string): string | undefined;
  /** The path of a file that can be read, or undefined. */
  pathOf(controller: string, file: string): string | undefined;
}

/**
 * @param cgroup the text of /proc/self/cgroup
 * @param read how files are read; default: from the disk
 */
export function openCgroup(cgroup: string, read: ReadFile = readTrimmed): Cgroup {
  const isUnified = read('/sys/fs/cgroup/cgroup.controllers') !== undefined;
  // In a container our own cgroup is usually mounted as the root; the path in /proc is then the host's.
  const placesOf = (controller: string): readonly string[] => {
    const mount = isUnified ? '/sys/fs/cgroup' : `/sys/fs/cgroup/${controller}`;
    const line = isUnified ? '0::(.*)' : `\\d+:(?:[^:\\n]*,)?${controller}(?:,[^:\\n]*)?:(.*)`;
    const own = new RegExp(`^${line}$`, 'm').exec(cgroup)?.[1] ?? '';
    return [`${mount}${own}`, mount];
  };
  const pathOf = (controller: string, file: string): string | undefined =>
    placesOf(controller)
      .map((place) => `${place}/${file}`)
      .find((path) => read(path) !== undefined);
  return {
    version: isUnified ? 2 : 1,
    pathOf,
    read: (controller, file) => {
      for (const place of placesOf(controller)) {
        const text = read(`${place}/${file}`);
        if (text !== undefined) return text;
      }
      return undefined;
    },
  };
}

/**
 * @param cgroup the text of /proc/self/cgroup
 * @param read how files are read; default: from the disk
 */
export function readCgroupLimits(cgroup: string, read: ReadFile = readTrimmed): CgroupLimits {
  const { version, read: get } = openCgroup(cgroup, read);
  if (version === 2) {
    const [quota, period] = (get('cpu', 'cpu.max') ?? '').split(' ');
    return {
      version,
      memoryBytes: limitOf(get('memory', 'memory.max')),
      cpus: ratio(quota, period),
      pids: limitOf(get('pids', 'pids.max')),
    };
  }
  const memory = get('memory', 'memory.limit_in_bytes');
  return {
    version: memory === undefined ? undefined : version,
    memoryBytes: limitOf(memory),
    cpus: ratio(get('cpu', 'cpu.cfs_quota_us'), get('cpu', 'cpu.cfs_period_us')),
    pids: limitOf(get('pids', 'pids.max')),
  };
}

/** cgroup v1 says "no limit" as the largest multiple of a page below 2^63, v2 as `max`. */
const NO_LIMIT_V1 = 2 ** 62;

/** `max`, and what v1 has in its place, are none. */
export function limitOf(text: string | undefined): number | undefined {
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
  return textOf(path)?.trim();
}
