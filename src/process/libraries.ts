/**
 * Which shared libraries a program needs and does not find, as its loader would look for them: ld.so(8), musl's
 * ldso/dynlink.c. Where anything is out of the ordinary nothing is said.
 */
import { closeSync, existsSync, openSync, readFileSync, readSync, realpathSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { textOf } from '../attempt.ts';
import { readLoader } from './resolve.ts';

export interface MissingLibrary {
  readonly name: string;
  /** The file that needs it. */
  readonly neededBy: string;
}

const MOST_FILES = 150;
const MOST_BYTES = 1024 * 1024;

/**
 * @param file the program's path
 * @returns those that are missing; empty where all are there, or where it cannot be told
 */
export function missingLibraries(
  file: string,
  environment: Readonly<Record<string, string | undefined>>,
): readonly MissingLibrary[] {
  try {
    const path = realpathSync(file);
    const [program, loader] = [readDynamic(path), readLoader(path)];
    if (program === undefined || loader === undefined) return [];
    const places = placesOf(loader, environment.LD_LIBRARY_PATH);
    return places === undefined ? [] : search(path, program, places);
  } catch {
    return []; // damaged, or not to be read
  }
}

/**
 * Whether a program of this machine's would find a library, from its name alone.
 *
 * @param loader the loader of any program here, as the command's own. Undefined: it cannot be told
 */
export function hasLibrary(
  name: string,
  loader: string,
  environment: Readonly<Record<string, string | undefined>>,
): boolean | undefined {
  const places = placesOf(loader, environment.LD_LIBRARY_PATH);
  return places === undefined
    ? undefined
    : places.builtIn.test(name) || locate(name, places.first, places) !== undefined;
}

interface Places {
  /** Searched before and after what the file itself names. */
  readonly first: readonly string[];
  readonly last: readonly string[];
  /** The names in ld.so.cache. */
  readonly cache: ReadonlyMap<string, string>;
  /** What the loader brings along itself. */
  readonly builtIn: RegExp;
}

function search(file: string, program: Dynamic, places: Places): readonly MissingLibrary[] {
  const missing: MissingLibrary[] = [];
  const found = new Set<string>();
  const waiting: { path: string; dynamic: Dynamic; inherited: readonly string[] }[] = [
    { path: file, dynamic: program, inherited: [] },
  ];
  for (let at = 0; at < waiting.length && at < MOST_FILES; at++) {
    const { path, dynamic, inherited } = waiting[at] ?? { path: '', dynamic: program, inherited: [] };
    // An old RPATH holds for the libraries of libraries too, a RUNPATH for its own file alone.
    const rpath = dynamic.runpath.length > 0 ? [] : [...dynamic.rpath, ...inherited];
    for (const name of dynamic.needed) {
      if (found.has(name) || places.builtIn.test(name)) continue;
      const folders = [...rpath, ...places.first, ...dynamic.runpath];
      if (folders.some((folder) => folder.includes('$'))) return []; // $LIB, $PLATFORM: only the loader knows
      const hit = locate(name, folders, places);
      found.add(name);
      if (hit === undefined) missing.push({ name, neededBy: path });
      else {
        const next = readDynamic(hit);
        if (next !== undefined) waiting.push({ path: hit, dynamic: next, inherited: rpath });
      }
    }
  }
  return missing;
}

function locate(name: string, folders: readonly string[], places: Places): string | undefined {
  if (name.includes('/')) return existsSync(name) ? name : undefined;
  const cached = places.cache.get(name);
  if (cached !== undefined && existsSync(cached)) return cached;
  const variants = ['', 'glibc-hwcaps/x86-64-v4', 'glibc-hwcaps/x86-64-v3', 'glibc-hwcaps/x86-64-v2'];
  return [...folders, ...places.last]
    .flatMap((folder) => variants.map((variant) => join(folder, variant, name)))
    .find((path) => existsSync(path));
}

const MULTIARCH: Readonly<Record<string, string>> = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' };

function placesOf(loader: string, given: string | undefined): Places | undefined {
  const first = (given ?? '').split(/[:;]/).filter(Boolean);
  if (/\/ld-musl-\w+\.so\.1$/.test(loader)) {
    const list = textOf(`/etc/${/ld-musl-\w+/.exec(loader)?.[0]}.path`)
      ?.split(/[:\n]/)
      .filter(Boolean);
    const last = list ?? ['/lib', '/usr/local/lib', '/usr/lib'];
    return {
      first,
      last,
      cache: new Map(),
      builtIn: /^(libc\.musl-.*|ld-musl-.*|lib(c|m|dl|rt|pthread|crypt|util|xnet|resolv)\.so(\.\d+)?)$/,
    };
  }
  if (!/\/ld-linux[\w-]*\.so\.\d$/.test(loader)) return undefined;
  const triplet = MULTIARCH[process.arch];
  const roots = ['/lib', '/usr/lib', '/lib64', '/usr/lib64'];
  const multi = triplet === undefined ? [] : [`/lib/${triplet}`, `/usr/lib/${triplet}`];
  return {
    first,
    last: [...multi, ...roots],
    cache: readCache(),
    builtIn: /^(ld-linux[\w-]*\.so\.\d|linux-vdso\.so\.1)$/,
  };
}

/** ld.so.cache in the format of glibc 2.2 and later: 24 bytes an entry, name and path as offsets of strings. */
function readCache(): ReadonlyMap<string, string> {
  const names = new Map<string, string>();
  let cache: Buffer;
  try {
    if (statSync('/etc/ld.so.cache').size > 16 * MOST_BYTES) return names;
    cache = readFileSync('/etc/ld.so.cache');
  } catch {
    return names;
  }
  const start = cache.indexOf('glibc-ld.so.cache1.1');
  if (start < 0) return names;
  const count = cache.readUInt32LE(start + 20);
  const text = (offset: number): string => {
    const from = start + offset;
    return cache.toString('utf8', from, cache.indexOf(0, from));
  };
  for (let at = start + 48, left = count; left > 0 && at + 24 <= cache.length; at += 24, left--) {
    const name = text(cache.readUInt32LE(at + 4));
    if (!names.has(name)) names.set(name, text(cache.readUInt32LE(at + 8)));
  }
  return names;
}

interface Dynamic {
  readonly needed: readonly string[];
  readonly rpath: readonly string[];
  readonly runpath: readonly string[];
}

const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const DT_NEEDED = 1;
const DT_STRTAB = 5;
const DT_RPATH = 15;
const DT_RUNPATH = 29;

interface Segment {
  readonly type: number;
  readonly offset: number;
  readonly address: number;
  readonly size: number;
}

/** elf(5), 64 bits and little-endian only; undefined for anything else. */
function readDynamic(path: string): Dynamic | undefined {
  const file = openSync(path, 'r');
  try {
    const read = (position: number, length: number): Buffer => {
      const bytes = Buffer.alloc(Math.min(length, MOST_BYTES));
      return bytes.subarray(0, readSync(file, bytes, 0, bytes.length, position));
    };
    const head = read(0, 64);
    if (head.length < 64 || head.toString('latin1', 0, 6) !== '\u007fELF\u0002\u0001') return undefined;
    const segments = segmentsOf(
      read(Number(head.readBigUInt64LE(32)), head.readUInt16LE(54) * head.readUInt16LE(56)),
      head.readUInt16LE(54),
    );
    const dynamic = segments.find(({ type }) => type === PT_DYNAMIC);
    if (dynamic === undefined) return undefined;
    const entries = entriesOf(read(dynamic.offset, dynamic.size));
    const tableAt = offsetOf(entries.find(({ tag }) => tag === DT_STRTAB)?.value, segments);
    if (tableAt === undefined) return undefined;
    const table = read(tableAt, MOST_BYTES);
    const texts = (wanted: number): string[] =>
      entries.flatMap(({ tag, value }) =>
        tag === wanted ? [table.toString('utf8', value, table.indexOf(0, value))] : [],
      );
    const paths = (wanted: number): string[] =>
      texts(wanted).flatMap((text) =>
        text.split(':').map((folder) => folder.replace(/\$\{?ORIGIN\}?/g, dirname(realpathSync(path)))),
      );
    return {
      needed: texts(DT_NEEDED),
      rpath: paths(DT_RPATH),
      runpath: paths(DT_RUNPATH),
    };
  } finally {
    closeSync(file);
  }
}

function segmentsOf(table: Buffer, entrySize: number): readonly Segment[] {
  const segments: Segment[] = [];
  for (let at = 0; entrySize >= 56 && at + entrySize <= table.length; at += entrySize) {
    segments.push({
      type: table.readUInt32LE(at),
      offset: Number(table.readBigUInt64LE(at + 8)),
      address: Number(table.readBigUInt64LE(at + 16)),
      size: Number(table.readBigUInt64LE(at + 32)),
    });
  }
  return segments;
}

function entriesOf(table: Buffer): readonly { readonly tag: number; readonly value: number }[] {
  const entries: { tag: number; value: number }[] = [];
  for (let at = 0; at + 16 <= table.length; at += 16) {
    const tag = Number(table.readBigUInt64LE(at));
    if (tag === 0) break;
    entries.push({ tag, value: Number(table.readBigUInt64LE(at + 8)) });
  }
  return entries;
}

function offsetOf(address: number | undefined, segments: readonly Segment[]): number | undefined {
  if (address === undefined) return undefined;
  const segment = segments.find(
    ({ type, address: start, size }) => type === PT_LOAD && start <= address && address < start + size,
  );
  return segment === undefined ? undefined : address - segment.address + segment.offset;
}
