/**
 * The threads of a process: state, processor time, and what the kernel says they wait in.
 */
import { parseStat } from '../container/stat.ts';
import type { Reader } from './read.ts';

export interface Thread {
  readonly tid: number;
  readonly name: string;
  /** The kernel's letter, proc(5): R, S, D, T, t, Z, X, I. */
  readonly state: string;
  /** Clock ticks on a processor so far. */
  readonly ticks: number;
  /** The kernel's function that it sleeps in; undefined: it does not sleep, or it may not be known. */
  readonly wchan: string | undefined;
  /** Undefined: it may not be known. */
  readonly system: SystemLine | undefined;
}

/** /proc/PID/syscall. */
export type SystemLine =
  | { readonly kind: 'running' }
  /** It sleeps outside of any system call, as after a page fault. */
  | { readonly kind: 'elsewhere'; readonly stackPointer: bigint }
  | {
      readonly kind: 'call';
      readonly number: number;
      /** Six words. */
      readonly words: readonly bigint[];
      readonly stackPointer: bigint;
    };

/** Pure. */
export function parseSystemLine(text: string): SystemLine | undefined {
  const [first, ...rest] = text.trim().split(' ');
  if (first === 'running') return { kind: 'running' };
  if (first === '-1') return { kind: 'elsewhere', stackPointer: BigInt(rest[0] ?? 0) };
  if (first === undefined || !/^\d+$/.test(first) || rest.length < 8) return undefined;
  const words = rest.map((word) => BigInt(word));
  return {
    kind: 'call',
    number: Number(first),
    words: words.slice(0, 6),
    stackPointer: words[6] ?? 0n,
  };
}

/** In the order of their ids; undefined where the process is gone. */
export function readThreads(reader: Reader, pid: number): readonly Thread[] {
  const tids = reader.list(`/proc/${pid}/task`, 'threads') ?? [];
  return tids
    .map(Number)
    .sort((one, other) => one - other)
    .flatMap((tid) => {
      const folder = `/proc/${pid}/task/${tid}`;
      const stat = parseStat(reader.text(`${folder}/stat`) ?? '');
      if (stat === undefined) return [];
      const { name, state, ticks } = stat;
      const wchan = reader.text(`${folder}/wchan`, 'what threads sleep in (wchan)');
      const line = state === 'Z' ? undefined : reader.text(`${folder}/syscall`, 'system calls');
      return [
        {
          tid,
          name,
          state,
          ticks,
          wchan: wchan === undefined || wchan === '' || wchan === '0' ? undefined : wchan,
          system: line === undefined ? undefined : parseSystemLine(line),
        },
      ];
    });
}

/** The later state and ticks of each thread, by its id. */
export function readProgress(reader: Reader, pid: number, tids: readonly number[]) {
  return new Map(
    tids.flatMap((tid) => {
      const stat = parseStat(reader.text(`/proc/${pid}/task/${tid}/stat`) ?? '');
      return stat === undefined ? [] : [[tid, { state: stat.state, ticks: stat.ticks }] as const];
    }),
  );
}

/** The functions of the kernel that a thread is in, the innermost first; only root of the machine may know. */
export function readKernelStack(reader: Reader, pid: number, tid: number): readonly string[] | undefined {
  const text = reader.text(`/proc/${pid}/task/${tid}/stack`, 'kernel stacks');
  if (text === undefined) return undefined;
  return text.split('\n').flatMap((line) => /^\[<[^>]*>\] ([^+\s]+)/.exec(line)?.[1] ?? []);
}

export const STATES: Readonly<Record<string, string>> = {
  R: 'running',
  S: 'sleeping',
  D: 'in uninterruptible sleep',
  T: 'stopped',
  t: 'stopped by a tracer',
  Z: 'a zombie',
  X: 'dead',
  I: 'idle',
};
