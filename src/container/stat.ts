/**
 * What /proc/PID/stat says of a process, or /proc/PID/task/TID/stat of a thread, proc(5).
 */
import { textOf } from '../attempt.ts';

export interface ProcessStat {
  /** Of 15 bytes at the most, which may be any. */
  readonly name: string;
  /** One letter: R, S, D, T, Z (it has ended, and its parent has not looked) ... */
  readonly state: string;
  /** 0: nobody in this PID namespace, as of PID 1 and of what `docker exec` starts. */
  readonly parent: number;
  /** Its process group. */
  readonly group: number;
  /** The group in the foreground of its terminal; -1: it has none. */
  readonly foreground: number;
  readonly isKernelThread: boolean;
  /** Clock ticks on a processor so far. */
  readonly ticks: number;
  readonly threads: number;
  /** When it started, in clock ticks since the machine did: with the pid, one process for ever. */
  readonly startTicks: number;
  /** Of memory. */
  readonly residentPages: number;
  /** Where its stack begins, and its environment: elsewhere after each exec. '0' for who may not look into it. */
  readonly stackStart: string | undefined;
  readonly environmentStart: string | undefined;
}

/** A clock tick: the kernel counts in these for programs (USER_HZ), on every architecture that Node runs on. */
export const TICK_MS = 10;

/** PF_KTHREAD, of the kernel's sched.h. */
const KERNEL_THREAD = 0x00200000;

/** Undefined where the text is none, as of a process that has ended meanwhile. Pure. */
export function parseStat(text: string): ProcessStat | undefined {
  const open = text.indexOf('(');
  const close = text.lastIndexOf(')'); // the name may hold anything
  const fields = text.slice(close + 2).split(' ');
  if (open < 0 || close < open || fields.length < 20) return undefined;
  const number = (at: number): number => Number(fields[at]);
  return {
    name: text.slice(open + 1, close),
    state: fields[0] ?? '?',
    parent: number(1),
    group: number(2),
    foreground: number(5),
    isKernelThread: (number(6) & KERNEL_THREAD) !== 0,
    ticks: number(11) + number(12),
    threads: number(17),
    startTicks: number(19),
    residentPages: number(21),
    stackStart: fields[25],
    environmentStart: fields[47],
  };
}

/**
 * Undefined where there is no such process, or no /proc.
 *
 * @param proc default: /proc
 */
export function readStat(pid: number | 'self', proc = '/proc'): ProcessStat | undefined {
  return parseStat(textOf(`${proc}/${pid}/stat`) ?? '');
}

/** 0 where it cannot be told. */
export function parentOf(pid: number): number {
  return readStat(pid)?.parent ?? 0;
}
