/**
 * Parts of a look in words. Pure.
 */
import { printable } from '../log.ts';
import type { Descriptor, Holder } from './descriptors.ts';
import { showSocket } from './sockets.ts';

/** A name that may hold anything, on one line: bytes that are no UTF-8 as `\xNN`. */
export function plain(text: string): string {
  return printable(text).replace(/[\ud800-\udbff][\udc00-\udfff]|[\ud800-\udfff]/g, (found) =>
    found.length === 2 ? found : `\\x${(found.charCodeAt(0) & 0xff).toString(16)}`,
  );
}

export function showHolder({ pid, name }: Holder): string {
  return `pid ${pid} (${plain(name)})`;
}

/** The first few, and how many more. */
export function few(items: readonly string[], most: number, separator = ', '): string {
  const more = items.length - most;
  return [...items.slice(0, most), ...(more > 0 ? [`${more} more`] : [])].join(separator);
}

/** What a descriptor is, for the middle of a sentence about the process `pid`. */
export function describeDescriptor(descriptor: Descriptor, pid: number): string {
  const { kind, target, socket, watched, detail, isDeleted } = descriptor;
  const shown = plain(target);
  switch (kind) {
    case 'terminal':
      return `a terminal (${shown})`;
    case 'pipe':
      return `${target.startsWith('/') ? `a named pipe (${shown})` : 'a pipe'}, ${otherEnd(descriptor, pid)}`;
    case 'socket': {
      if (socket === undefined) return `a socket that no table of /proc lists (${shown})`;
      const peers = socket.remote === '' ? '' : hasPeer(descriptor);
      return `a socket, ${plain(showSocket(socket))}${peers}`;
    }
    case 'epoll':
      return `an epoll of ${watched.length} ${watched.length === 1 ? 'descriptor' : 'descriptors'}`;
    case 'eventfd':
    case 'timerfd':
    case 'signalfd':
    case 'inotify':
      return `${/^[aei]/.test(kind) ? 'an' : 'a'} ${kind} (${detail})`;
    default:
      return `${shown}${isDeleted ? ' (deleted)' : ''}`;
  }
}

/** Who writes what it reads, or reads what it writes. */
function otherEnd({ canRead, canWrite, others }: Descriptor, pid: number): string {
  const verb = canRead && canWrite ? 'shared with' : canRead ? 'written by' : 'read by';
  const strangers = others.filter((other) => other.pid !== pid);
  if (strangers.length > 0) return `${verb} ${few(strangers.map(showHolder), 3)}`;
  return others.length > 0
    ? `${verb} nobody but itself, as far as can be seen`
    : `${verb} nobody that can be seen from here`;
}

function hasPeer({ others }: Descriptor): string {
  return others.length === 0 ? '' : `, which is ${few(others.map(showHolder), 2)}`;
}

/** `12 kB`, `3.4 MB`, `120 MB`: powers of 1024, as the kernel counts. */
export function showBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let at = 0;
  while (value >= 1024 && at < units.length - 1) {
    value /= 1024;
    at += 1;
  }
  return `${value < 10 && at > 0 ? value.toFixed(1) : Math.round(value)} ${units[at]}`;
}
