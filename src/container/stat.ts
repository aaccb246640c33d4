/**
 * What /proc/PID/stat says of a process, proc(5).
 */
import { readFileSync } from 'node:fs';

export interface ProcessStat {
  /** One letter: R, S, D, T, Z (it has ended, and its parent has not looked) ... */
  readonly state: string;
  readonly parent: number;
  /** Its process group. */
  readonly group: number;
  /** The group in the foreground of its terminal; -1: it has none. */
  readonly foreground: number;
  /** When it started, in clock ticks since the machine did: with the pid, one process for ever. */
  readonly startTicks: number;
  readonly isKernelThread: boolean;
}

/** PF_KTHREAD, of the kernel's sched.h. */
const KERNEL_THREAD = 0x00200000;

/**
 * Undefined where there is no such process, or no /proc.
 *
 * @param proc default: /proc
 */
export function readStat(pid: number | 'self', proc = '/proc'): ProcessStat | undefined {
  try {
    const stat = readFileSync(`${proc}/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' '); // the name before it may hold anything
    return {
      state: fields[0] ?? '',
      parent: Number(fields[1]),
      group: Number(fields[2]),
      foreground: Number(fields[5]),
      startTicks: Number(fields[19]),
      isKernelThread: (Number(fields[6]) & KERNEL_THREAD) !== 0,
    };
  } catch {
    return undefined;
  }
}

/** 0 where it cannot be told. */
export function parentOf(pid: number): number {
  return readStat(pid)?.parent ?? 0;
}
