/**
 * The memory of a process: how much of it is resident, and what it has mapped. Pure.
 *
 * Without smaps: to walk the pages of a large process takes seconds and holds its memory lock meanwhile.
 */
import type { Fields } from '../container/status.ts';

export interface MemoryUse {
  /** Bytes; undefined: not said, as for a kernel thread. */
  readonly resident: number | undefined;
  readonly peakResident: number | undefined;
  readonly anonymous: number | undefined;
  readonly ofFiles: number | undefined;
  readonly shared: number | undefined;
  readonly swapped: number | undefined;
  /** Address space, not memory. */
  readonly virtual: number | undefined;
}

/** @param fields of /proc/PID/status */
export function memoryUse(fields: Fields): MemoryUse {
  const bytes = (name: string) => {
    const text = fields.get(name);
    return text === undefined ? undefined : Number.parseInt(text, 10) * 1024;
  };
  return {
    resident: bytes('VmRSS'),
    peakResident: bytes('VmHWM'),
    anonymous: bytes('RssAnon'),
    ofFiles: bytes('RssFile'),
    shared: bytes('RssShmem'),
    swapped: bytes('VmSwap'),
    virtual: bytes('VmSize'),
  };
}

/** Address space, in bytes. */
export interface Mapped {
  readonly mappings: number;
  readonly heap: number;
  /** Of all threads whose stack pointer is known. */
  readonly stacks: number;
  readonly anonymous: number;
  /** The biggest first. */
  readonly files: readonly { readonly path: string; readonly bytes: number }[];
}

/**
 * @param maps /proc/PID/maps
 * @param stackPointers of its threads
 */
export function summariseMaps(maps: string, stackPointers: readonly bigint[]): Mapped {
  const sorted = [...stackPointers].sort((one, other) => (one < other ? -1 : 1));
  const files = new Map<string, number>();
  let mappings = 0;
  let heap = 0;
  let stacks = 0;
  let anonymous = 0;
  for (const line of maps.split('\n')) {
    const parts = /^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \d+ *(.*)$/.exec(line);
    if (parts === null) continue;
    const [start, end] = [BigInt(`0x${parts[1]}`), BigInt(`0x${parts[2]}`)];
    const bytes = Number(end - start);
    const path = parts[3] ?? '';
    mappings += 1;
    if (path.startsWith('/')) files.set(path, (files.get(path) ?? 0) + bytes);
    else if (path === '[heap]') heap += bytes;
    else if (path === '[stack]' || holdsOne(sorted, start, end)) stacks += bytes;
    else if (path === '' || path.startsWith('[anon')) anonymous += bytes;
  }
  const biggest = [...files]
    .map(([path, bytes]) => ({ path, bytes }))
    .sort((one, other) => other.bytes - one.bytes);
  return { mappings, heap, stacks, anonymous, files: biggest };
}

function holdsOne(sorted: readonly bigint[], start: bigint, end: bigint): boolean {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle] as bigint) < start) low = middle + 1;
    else high = middle;
  }
  const next = sorted[low];
  return next !== undefined && next < end;
}
