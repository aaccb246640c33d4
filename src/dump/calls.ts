/**
 * The system call that a thread is in, with its arguments as far as they are cheap to read.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { decodeName } from '../overlay/octets.ts';
import type { Reader } from './read.ts';
import { syscallName } from './syscalls.ts';
import type { SystemLine } from './threads.ts';

export interface Call {
  readonly name: string;
  /** What its arguments say beside the descriptors: `1000 ms`, `'/tmp/fifo'`, `wait`. */
  readonly detail: string;
  /** The descriptors it is about. */
  readonly descriptors: readonly number[];
  readonly waitsFor: 'descriptors' | 'futex' | 'time' | 'child' | 'signal' | 'lock' | 'path' | 'other';
  /** It ends by itself after some time. */
  readonly isTimed: boolean;
  /** Of a futex: the thread that holds the lock, as glibc's mutexes and the kernel's say it; or the one that is joined. */
  readonly owner: number | undefined;
  readonly isJoin: boolean;
  /** Of a wait for a child: its pid; undefined: any of them. */
  readonly child: number | undefined;
}

/** The memory of the process, read as it runs. */
export interface Memory {
  read(address: bigint, size: number): Buffer | undefined;
  close(): void;
}

export const NO_MEMORY: Memory = { read: () => undefined, close: () => {} };

export function openMemory(reader: Reader, pid: number): Memory {
  let file: number;
  try {
    file = openSync(`/proc/${pid}/mem`, 'r');
  } catch (error) {
    reader.note('arguments of system calls', error);
    return NO_MEMORY;
  }
  return {
    read: (address, size) => {
      const content = Buffer.alloc(size);
      try {
        if (address === 0n) return undefined;
        return content.subarray(0, readSync(file, content, 0, size, address));
      } catch {
        return undefined; // no address of its
      }
    },
    close: () => closeSync(file),
  };
}

/** What a call is read with. */
export interface Desk {
  readonly memory: Memory;
  /** Of ELF: what the program is built for, as Node names it; the numbers of another architecture have no names here. */
  readonly architecture: string;
  readonly tids: ReadonlySet<number>;
}

type Words = readonly bigint[];

const isNamed = (names: string) => {
  const set = new Set(names.split(/\s+/));
  return (name: string): boolean => set.has(name);
};

const takesDescriptor = isNamed(
  `read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 recvfrom sendto recvmsg sendmsg recvmmsg
   sendmmsg accept accept4 connect shutdown fsync fdatasync flock fcntl ioctl getdents getdents64 close lseek ftruncate
   fallocate fstat syncfs sync_file_range io_uring_enter epoll_wait epoll_pwait epoll_pwait2 epoll_ctl mq_timedsend
   mq_timedreceive fchmod fchown vmsplice readahead`,
);
/** Where the second one stands. */
const SECOND_DESCRIPTOR: Readonly<Record<string, readonly number[]>> = {
  sendfile: [0, 1],
  tee: [0, 1],
  splice: [0, 2],
  copy_file_range: [0, 2],
};
/** Which argument is a path. */
const PATHS: Readonly<Record<string, number>> = {
  ...{ open: 0, creat: 0, stat: 0, lstat: 0, access: 0, execve: 0, mkdir: 0, rmdir: 0, unlink: 0, rename: 0 },
  ...{ readlink: 0, chmod: 0, chown: 0, chdir: 0, truncate: 0, statfs: 0, umount2: 0, mount: 1, mknod: 0 },
  ...{ openat: 1, openat2: 1, newfstatat: 1, statx: 1, faccessat: 1, faccessat2: 1, mkdirat: 1, unlinkat: 1 },
  ...{ renameat: 1, renameat2: 1, readlinkat: 1, fchmodat: 1, fchownat: 1, execveat: 1, utimensat: 1 },
};

const LOCKING_COMMANDS = [7, 38]; // F_SETLKW, F_OFD_SETLKW

export function readCall(line: SystemLine | undefined, desk: Desk): Call | undefined {
  if (line?.kind !== 'call') return undefined;
  const { words } = line;
  const name = syscallName(line.number, desk.architecture);
  return { ...PLAIN, name, ...readArguments(name, words, desk) };
}

const PLAIN = {
  detail: '',
  descriptors: [],
  waitsFor: 'other',
  isTimed: false,
  owner: undefined,
  isJoin: false,
  child: undefined,
} as const;

function readArguments(name: string, words: Words, desk: Desk): Partial<Call> {
  const second = SECOND_DESCRIPTOR[name];
  if (second !== undefined) {
    return { descriptors: second.map((at) => int(words[at])), waitsFor: 'descriptors' };
  }
  if (takesDescriptor(name)) return readDescriptor(name, words, desk);
  if (PATHS[name] !== undefined) {
    const path = readText(desk.memory, words[PATHS[name]] ?? 0n);
    return { detail: path === undefined ? '' : `'${path}'`, waitsFor: 'path' };
  }
  switch (name) {
    case 'poll':
    case 'ppoll':
      return readPoll(name, words, desk);
    case 'select':
    case 'pselect6':
      return readSelect(words, desk);
    case 'futex':
      return readFutex(words, desk);
    case 'futex_wait':
      return { waitsFor: 'futex', detail: 'wait', isTimed: words[4] !== 0n };
    case 'nanosleep':
      return { waitsFor: 'time', isTimed: true, detail: showTime(desk.memory, words[0]) };
    case 'clock_nanosleep': {
      const isAbsolute = (int(words[1]) & 1) !== 0;
      const detail = isAbsolute ? 'until a point in time' : showTime(desk.memory, words[2]);
      return { waitsFor: 'time', isTimed: true, detail };
    }
    case 'wait4':
      return { waitsFor: 'child', ...oneChild(int(words[0])) };
    case 'waitid':
      return { waitsFor: 'child', ...(int(words[0]) === 1 ? oneChild(int(words[1])) : {}) };
    case 'pause':
    case 'rt_sigsuspend':
      return { waitsFor: 'signal' };
    case 'rt_sigtimedwait':
      return { waitsFor: 'signal', isTimed: words[2] !== 0n };
    default:
      return {};
  }
}

function readDescriptor(name: string, words: Words, { memory }: Desk): Partial<Call> {
  const descriptors = [int(words[0])];
  const isLock = name === 'flock' || (name === 'fcntl' && LOCKING_COMMANDS.includes(int(words[1])));
  if (isLock) return { descriptors, waitsFor: 'lock', detail: 'a lock' };
  const call = { descriptors, waitsFor: 'descriptors' } as const;
  if (name === 'epoll_pwait2')
    return { ...call, ...timed(words[3] === 0n ? -1n : undefined, memory, words[3]) };
  if (name.startsWith('epoll_') && name !== 'epoll_ctl') {
    return { ...call, ...timed(BigInt(int(words[3])), memory) };
  }
  if (name === 'connect') {
    const address = memory.read(words[1] ?? 0n, Math.min(Number(words[2] ?? 0n), 110));
    const isUnix = address !== undefined && address.length > 2 && address.readUInt16LE(0) === 1;
    if (isUnix) return { ...call, detail: `'${showUnixPath(address.subarray(2))}'` };
  }
  return call;
}

function showUnixPath(bytes: Buffer): string {
  if (bytes[0] === 0) return `@${decodeName(bytes.subarray(1))}`;
  const end = bytes.indexOf(0);
  return decodeName(end < 0 ? bytes : bytes.subarray(0, end));
}

/** @param ms -1: no limit; undefined: what stands at the address */
function timed(ms: bigint | undefined, memory: Memory, address?: bigint): Partial<Call> {
  if (ms === undefined) return { isTimed: true, detail: showTime(memory, address) };
  if (ms < 0n) return {};
  return { isTimed: true, detail: ms < 10_000n ? `${ms} ms` : `${Number(ms) / 1000} s` };
}

const MOST_POLLED = 1024;

function readPoll(name: string, words: Words, { memory }: Desk): Partial<Call> {
  const count = Math.min(Number(words[1] ?? 0n), MOST_POLLED);
  const table = memory.read(words[0] ?? 0n, count * 8);
  const descriptors = Array.from({ length: Math.floor((table?.length ?? 0) / 8) }, (_, at) =>
    (table as Buffer).readInt32LE(at * 8),
  ).filter((fd) => fd >= 0);
  const limit =
    name === 'poll'
      ? timed(BigInt(int(words[2])), memory)
      : timed(words[2] === 0n ? -1n : undefined, memory, words[2]);
  return { descriptors, waitsFor: count === 0 ? 'time' : 'descriptors', ...limit };
}

function readSelect(words: Words, { memory }: Desk): Partial<Call> {
  const count = Math.min(int(words[0]), MOST_POLLED);
  const sets = [1, 2, 3].map((at) => memory.read(words[at] ?? 0n, Math.ceil(count / 8)));
  const isIn = (fd: number) => sets.some((set) => ((set?.[fd >> 3] ?? 0) & (1 << (fd & 7))) !== 0);
  const descriptors = Array.from({ length: count }, (_, fd) => fd).filter(isIn);
  return {
    descriptors,
    waitsFor: count === 0 ? 'time' : 'descriptors',
    isTimed: words[4] !== 0n,
  };
}

/** linux/futex.h */
const FUTEX_OPERATIONS = ['wait', 'wake', 'fd', 'requeue', 'requeue', 'wake', 'lock', 'unlock', 'lock'];
const WAITING = [0, 9, 11];
const LOCKING = [6, 13]; // LOCK_PI, LOCK_PI2: the kernel keeps the owner in the word
const OWNER_BITS = 0x3fffffff;
/** glibc's pthread_mutex_t: the word that is waited for is 2 while somebody waits, and 8 bytes on is the owner. */
const CONTENDED = 2;
const OWNER_AT = 8n;

function readFutex(words: Words, { memory, tids }: Desk): Partial<Call> {
  const [address = 0n] = words;
  const operation = int(words[1]) & 0x7f;
  const isLock = LOCKING.includes(operation);
  if (!isLock && !WAITING.includes(operation)) return { detail: FUTEX_OPERATIONS[operation] ?? '' };
  const call = { waitsFor: 'futex', detail: isLock ? 'lock' : 'wait', isTimed: words[3] !== 0n } as const;
  const word = memory.read(address, 4)?.readInt32LE();
  if (word === undefined) return call;
  if (isLock) return { ...call, owner: word & OWNER_BITS };
  const expected = int(words[2]);
  if (expected === word && tids.has(word)) return { ...call, owner: word, isJoin: true, detail: 'join' };
  const owner = memory.read(address + OWNER_AT, 4)?.readInt32LE() ?? 0;
  if (word === CONTENDED && expected === CONTENDED && tids.has(owner)) {
    return { ...call, owner, detail: 'a mutex' };
  }
  return call;
}

function oneChild(pid: number): Partial<Call> {
  return pid > 0 ? { child: pid } : {};
}

function showTime(memory: Memory, address: bigint | undefined): string {
  const time = memory.read(address ?? 0n, 16);
  if (time === undefined || time.length < 16) return '';
  const seconds = Number(time.readBigInt64LE(0)) + Number(time.readBigInt64LE(8)) / 1e9;
  return `${Number(seconds.toFixed(3))} s`;
}

const LONGEST_PATH = 256;

/** Up to the NUL; a string at the end of its page is read in pieces. */
function readText(memory: Memory, address: bigint): string | undefined {
  const toPageEnd = 4096 - Number(address % 4096n);
  const head = memory.read(address, Math.min(LONGEST_PATH, toPageEnd));
  if (head === undefined) return undefined;
  const isCut = !head.includes(0) && head.length < LONGEST_PATH;
  const tail = isCut ? memory.read(address + BigInt(head.length), LONGEST_PATH - head.length) : undefined;
  const all = Buffer.concat([head, tail ?? Buffer.alloc(0)]);
  const end = all.indexOf(0);
  return end < 0 ? `${decodeName(all)}...` : decodeName(all.subarray(0, end));
}

function int(word: bigint | undefined): number {
  return Number(BigInt.asIntN(32, word ?? 0n));
}
