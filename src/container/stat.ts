/**
 * What /proc/PID/stat says of a process, proc(5).
 */
import { readFileSync } from 'node:fs';

export interface ProcessStat {
  readonly parent: number;
  /** Its process group. */
  readonly group: number;
  /** The group in the foreground of its terminal; -1: it has none. */
  readonly foreground: number;
  /** When it started, in clock ticks since the machine did: with the pid, one process for ever. */
  readonly startTicks: number;
}

/** Undefined where there is no such process, or no /proc. */
export function readStat(pid: number | 'self'): ProcessStat | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' '); // the name before it may hold anything
    return {
      parent: Number(fields[1]),
      group: Number(fields[2]),
      foreground: Number(fields[5]),
      startTicks: Number(fields[19]),
    };
  } catch {
    return undefined;
  }
}

/** 0 where it cannot be told. */
export function parentOf(pid: number): number {
  return readStat(pid)?.parent ?? 0;
}
