/**
 * What a process that runs is waiting for, as far as /proc tells.
 */
import { linkOf, namesIn, textOf } from '../attempt.ts';
import { readStat, TICK_MS } from '../container/stat.ts';

export interface Waiting {
  /** R, S, D, T ... of proc(5). */
  readonly state: string;
  /** The kernel function it sleeps in; undefined: not told. */
  readonly wchan: string | undefined;
  /** The name where we know it, else the number; undefined: it is running, or not told. */
  readonly syscall: string | undefined;
  /** What the descriptor is that the call waits for: `pipe:[123]`, `/dev/pts/0`. */
  readonly target: string | undefined;
  readonly threads: number;
  /** In milliseconds of a processor; twice read tells whether it works or sleeps. */
  readonly cpuMs: number;
}

type Names = Readonly<Record<number, string>>;

/** Those that programs sleep in; the first argument of the second list is a descriptor. */
// biome-ignore format: tables
const ANY: Readonly<Record<string, Names>> = {
  x64: { 7: 'poll', 23: 'select', 34: 'pause', 35: 'nanosleep', 61: 'wait4', 130: 'rt_sigsuspend', 202: 'futex', 230: 'clock_nanosleep', 247: 'waitid', 270: 'pselect6', 271: 'ppoll', 128: 'rt_sigtimedwait' },
  arm64: { 73: 'ppoll', 72: 'pselect6', 95: 'waitid', 98: 'futex', 101: 'nanosleep', 115: 'clock_nanosleep', 133: 'rt_sigsuspend', 137: 'rt_sigtimedwait', 260: 'wait4' },
};
// biome-ignore format: tables
const ON_DESCRIPTOR: Readonly<Record<string, Names>> = {
  x64: { 0: 'read', 1: 'write', 17: 'pread64', 20: 'writev', 42: 'connect', 43: 'accept', 44: 'sendto', 45: 'recvfrom', 46: 'sendmsg', 47: 'recvmsg', 72: 'fcntl', 73: 'flock', 74: 'fsync', 232: 'epoll_wait', 281: 'epoll_pwait', 288: 'accept4' },
  arm64: { 63: 'read', 64: 'write', 66: 'writev', 22: 'epoll_pwait', 25: 'fcntl', 32: 'flock', 82: 'fsync', 202: 'accept', 203: 'connect', 206: 'sendto', 207: 'recvfrom', 211: 'sendmsg', 212: 'recvmsg', 242: 'accept4' },
};

/** Undefined where there is no such process. */
export function readWaiting(pid: number): Waiting | undefined {
  const stat = readStat(pid);
  if (stat === undefined) return undefined;
  const [number, first] = (textOf(`/proc/${pid}/syscall`) ?? '').trim().split(' ');
  const onDescriptor = ON_DESCRIPTOR[process.arch]?.[Number(number)];
  const name = onDescriptor ?? ANY[process.arch]?.[Number(number)];
  const isCall = number !== undefined && /^\d+$/.test(number);
  const wchan = textOf(`/proc/${pid}/wchan`)?.trim();
  return {
    state: stat.state,
    wchan: wchan === undefined || wchan === '' || wchan === '0' ? undefined : wchan,
    syscall: isCall ? (name ?? `system call ${number}`) : undefined,
    target: onDescriptor === undefined ? undefined : linkOf(`/proc/${pid}/fd/${Number(first)}`),
    threads: namesIn(`/proc/${pid}/task`).length,
    cpuMs: stat.ticks * TICK_MS,
  };
}
