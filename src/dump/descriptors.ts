/**
 * What a process has open: targets, sockets by address, pipes by who has the other end.
 */
import { lstatSync, statSync } from 'node:fs';
import { attempt } from '../attempt.ts';
import { parseStat } from '../container/stat.ts';
import { fieldsOf } from '../container/status.ts';
import type { Reader } from './read.ts';
import type { Socket } from './sockets.ts';
import { parseInet, parseNetlink, parseUnix } from './sockets.ts';

export type Kind =
  | 'file'
  | 'device'
  | 'terminal'
  | 'pipe'
  | 'socket'
  | 'epoll'
  | 'eventfd'
  | 'timerfd'
  | 'signalfd'
  | 'inotify'
  | 'memory'
  | 'anonymous';

export interface Holder {
  readonly pid: number;
  readonly name: string;
}

export interface Descriptor {
  readonly fd: number;
  readonly kind: Kind;
  /** As /proc has it: a path, `pipe:[123]`, `anon_inode:[eventpoll]`. Without the mark ` (deleted)`. */
  readonly target: string;
  readonly isDeleted: boolean;
  readonly canRead: boolean;
  readonly canWrite: boolean;
  /** Undefined: it is none, or no table in /proc has it. */
  readonly socket: Socket | undefined;
  /** Of a pipe: who has its other end; of a socket to this machine: who has the peer. Itself included. */
  readonly others: readonly Holder[];
  /** Of an epoll: the descriptors it watches. */
  readonly watched: readonly number[];
  /** Of eventfd, timerfd, signalfd, inotify: what fdinfo says, in short. */
  readonly detail: string;
}

const KINDS: readonly (readonly [RegExp, Kind])[] = [
  [/^pipe:\[/, 'pipe'],
  [/^socket:\[/, 'socket'],
  [/^anon_inode:\[eventpoll\]/, 'epoll'],
  [/^anon_inode:\[eventfd\]/, 'eventfd'],
  [/^anon_inode:\[timerfd\]/, 'timerfd'],
  [/^anon_inode:\[signalfd\]/, 'signalfd'],
  [/^anon_inode:\[?inotify\]?/, 'inotify'],
  [/^anon_inode:/, 'anonymous'],
  [/^\/memfd:/, 'memory'],
  [/^\/dev\/(?:pts\/|tty|console)/, 'terminal'],
  [/^\/dev\/(?!shm\/|mqueue\/)/, 'device'],
];

/** Without those who hold the other ends: `findEnds` finds them. Undefined: they may not be read. */
export function readDescriptors(
  reader: Reader,
  pid: number,
  sockets: ReadonlyMap<number, Socket>,
): readonly Descriptor[] | undefined {
  const names = reader.list(`/proc/${pid}/fd`, 'open files');
  if (names === undefined) return undefined;
  const descriptors = names
    .map(Number)
    .sort((one, other) => one - other)
    .flatMap((fd) => {
      const target = reader.link(`/proc/${pid}/fd/${fd}`, 'targets of open files');
      return target === undefined ? [] : [readDescriptor(reader, pid, fd, target, sockets)];
    });
  return descriptors.length === 0 && reader.refused.has('targets of open files') ? undefined : descriptors;
}

function readDescriptor(
  reader: Reader,
  pid: number,
  fd: number,
  target: string,
  sockets: ReadonlyMap<number, Socket>,
): Descriptor {
  const kind = KINDS.find(([pattern]) => pattern.test(target))?.[1] ?? 'file';
  const mode = modeOf(`/proc/${pid}/fd/${fd}`);
  const isDeleted = kind === 'file' && target.endsWith(DELETED) && isUnlinked(`/proc/${pid}/fd/${fd}`);
  const info = INFORMED.has(kind) ? (reader.text(`/proc/${pid}/fdinfo/${fd}`, 'fdinfo') ?? '') : '';
  return {
    fd,
    kind,
    target: isDeleted || kind === 'memory' ? target.replace(/ \(deleted\)$/, '') : target,
    isDeleted,
    canRead: (mode & 0o400) !== 0,
    canWrite: (mode & 0o200) !== 0,
    socket: kind === 'socket' ? sockets.get(inodeOf(target)) : undefined,
    others: [],
    watched: kind === 'epoll' ? watchedBy(info) : [],
    detail: describeInfo(kind, info),
  };
}

/** In the order of their numbers: the kernel's is a tree's. */
function watchedBy(info: string): readonly number[] {
  const watched = [...info.matchAll(/^tfd:\s+(\d+)/gm)].map(([, fd]) => Number(fd));
  return watched.sort((one, other) => one - other);
}

const DELETED = ' (deleted)';
const INFORMED: ReadonlySet<Kind> = new Set(['epoll', 'eventfd', 'timerfd', 'signalfd', 'inotify']);

/** Of the link itself: the kernel shows there how the file was opened. */
function modeOf(link: string): number {
  return attempt(() => lstatSync(link).mode, 0);
}

/** A file may really be called so. */
function isUnlinked(link: string): boolean {
  return attempt(() => statSync(link).nlink === 0, true);
}

function describeInfo(kind: Kind, info: string): string {
  const fields = fieldsOf(info);
  switch (kind) {
    case 'eventfd':
      return `count ${Number.parseInt(fields.get('eventfd-count') ?? '0', 16)}`;
    case 'timerfd': {
      const [seconds = '0', rest = '0'] =
        /\d+, \d+/.exec(fields.get('it_value') ?? '')?.[0].split(', ') ?? [];
      const left = Number(seconds) + Number(rest) / 1e9;
      return left === 0 ? 'not armed' : `fires in ${Number(left.toFixed(3))} s`;
    }
    case 'inotify':
      return `${info.match(/^inotify wd:/gm)?.length ?? 0} watches`;
    case 'signalfd':
      return `mask ${fields.get('sigmask') ?? '?'}`;
    default:
      return '';
  }
}

export function inodeOf(target: string): number {
  return Number(/:\[(\d+)\]$/.exec(target)?.[1] ?? Number.NaN);
}

/** All tables of the network namespace that the process is in, by inode. */
export function readSockets(reader: Reader, pid: number): ReadonlyMap<number, Socket> {
  const read = (name: string) => reader.whole(`/proc/${pid}/net/${name}`, 'sockets') ?? '';
  const isLittleEndian = process.arch !== 's390x';
  const inet = (['tcp', 'udp', 'raw'] as const).flatMap((kind) =>
    [kind, `${kind}6`].flatMap((name) => parseInet(read(name), kind, isLittleEndian)),
  );
  const all = [...inet, ...parseUnix(read('unix')), ...parseNetlink(read('netlink'))];
  return new Map(all.map((socket) => [socket.inode, socket]));
}

// ---- the other ends -----------------------------------------------------------------------------------------------

/** Those of the other side, on this machine, by inode. */
export function findPeers(sockets: ReadonlyMap<number, Socket>): ReadonlyMap<number, number> {
  const all = [...sockets.values()].filter(({ kind, remote }) => kind === 'tcp' && remote !== '');
  // an IPv4 connection may be an IPv6 socket at one end
  const key = (one: string, other: string) => `${one}|${other}`.replaceAll(/\[::ffff:([\d.]+)\]/g, '$1');
  const byEnds = new Map(all.map(({ local, remote, inode }) => [key(local, remote), inode]));
  return new Map(
    all.flatMap(({ local, remote, inode }) => {
      const peer = byEnds.get(key(remote, local));
      return peer === undefined || peer === 0 ? [] : [[inode, peer] as const];
    }),
  );
}

export interface Ends {
  /** By target, as `pipe:[123]`: each with its process and how it is open. */
  readonly holders: ReadonlyMap<string, readonly (Holder & { readonly mode: number })[]>;
  /** Processes whose open files could not be read. */
  readonly unread: readonly number[];
  /** Not all processes were looked at, there are too many. */
  readonly isCut: boolean;
}

const LONGEST_SEARCH_MS = 300;

/** Who has one of these targets open, in all processes that can be seen. */
export function findEnds(reader: Reader, wanted: ReadonlySet<string>, pids: readonly number[]): Ends {
  const holders = new Map<string, (Holder & { mode: number })[]>();
  const unread: number[] = [];
  const deadline = performance.now() + LONGEST_SEARCH_MS;
  let isCut = false;
  for (const pid of wanted.size === 0 ? [] : pids) {
    if (performance.now() > deadline) {
      isCut = true;
      break;
    }
    const folder = `/proc/${pid}/fd`;
    const names = reader.list(folder);
    if (names === undefined) unread.push(pid);
    for (const fd of names ?? []) {
      const target = reader.link(`${folder}/${fd}`);
      if (target === undefined || !wanted.has(target)) continue;
      const name = parseStat(reader.text(`/proc/${pid}/stat`) ?? '')?.name ?? '?';
      const known = holders.get(target) ?? [];
      known.push({ pid, name, mode: modeOf(`${folder}/${fd}`) });
      holders.set(target, known);
    }
  }
  return { holders, unread, isCut };
}
