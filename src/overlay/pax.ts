/**
 * A tar header and its extensions as we read them: pure, and byte for byte. node-tar's reading is held against it in
 * tar.ts. node-tar reads PAX records line by line and without a word skips what it cannot read, so that a newline in a
 * value starts a record of its own (`path=` in an xattr); names it turns into text, bytes that are none into U+FFFD.
 */
import { decodeName } from './octets.ts';

/** What goes before the header itself. Numbers as in the entry: bytes, milliseconds since 1970, ids. */
export interface Extensions {
  readonly path?: string;
  readonly linkpath?: string;
  readonly size?: number;
  readonly mtimeMs?: number;
  readonly uid?: number;
  readonly gid?: number;
  /** Names of extended attributes, ACLs and labels, which nobody writes. */
  readonly dropped?: readonly string[];
}

export type Verdict<T> = { readonly value: T } | { readonly refused: string; readonly hint?: string };

type Found = { -readonly [key in keyof Extensions]: Extensions[key] };

/** Records that change what or where we write; in a global header they would apply to every later entry. */
const WEIGHTY = new Set(['path', 'linkpath', 'size', 'mtime', 'mode', 'type', 'uid', 'gid']);
const SPARSE = /^(GNU\.sparse\.|SCHILY\.realsize|SUN\.holesdata)/;

/** How star, bsdtar and GNU tar call what is no content, mode or owner. */
const ATTRIBUTES: readonly (readonly [key: RegExp, name: string])[] = [
  [/^(?:SCHILY|LIBARCHIVE)\.xattr\.(.+)$/s, '$1'],
  [/^SCHILY\.acl\.(access|default)$/, 'system.posix_acl_$1'],
  [/^SCHILY\.acl\.ace$/, 'system.nfs4_acl'],
  [/^RHT\.security\.selinux$/, 'security.selinux'],
  [/^SCHILY\.fflags$/, 'file flags'],
];

export function readPax(body: Buffer, isGlobal: boolean): Verdict<Extensions> {
  const found: Found = {};
  const dropped = new Set<string>();
  let position = 0;
  while (position < body.length) {
    const record = recordAt(body, position);
    if (record === undefined) return { refused: 'an extended header whose records do not add up' };
    position = record.end;
    const { key, value } = record;
    if (SPARSE.test(key)) return { refused: `a sparse file (${key})`, hint: NO_SPARSE };
    if (value.includes(0x0a))
      return { refused: `an extended header with a newline in ${key}`, hint: NO_NEWLINE };
    for (const name of attributeOf(key)) dropped.add(name);
    if (!WEIGHTY.has(key)) continue;
    if (isGlobal) return { refused: `a global extended header that sets ${key}` };
    const refused = take(key, value, found);
    if (refused !== undefined) return { refused };
  }
  return { value: dropped.size === 0 ? found : { ...found, dropped: [...dropped] } };
}

/** Why it cannot be taken; undefined: it is in `found`. */
function take(key: string, value: Buffer, found: Found): string | undefined {
  if (value.length === 0) return `an empty ${key} in an extended header`;
  if (value.includes(0)) return `a NUL byte in ${key}`;
  if (key === 'path' || key === 'linkpath') {
    found[key] = decodeName(value);
    return undefined;
  }
  const text = value.toString('latin1');
  const unreadable = `${key}=${text} in an extended header`;
  if (key === 'mtime') {
    const milliseconds = millisecondsOf(text);
    if (milliseconds === undefined) return unreadable;
    found.mtimeMs = milliseconds;
    return undefined;
  }
  if (key !== 'size' && key !== 'uid' && key !== 'gid') return unreadable;
  found[key] = Number(text);
  return /^\d{1,15}$/.test(text) ? undefined : unreadable;
}

/** Seconds with a fraction, to the microsecond below, as a kernel rounds. */
function millisecondsOf(text: string): number | undefined {
  const [, sign, seconds = '', fraction = ''] = /^(-?)(\d{1,12})(?:\.(\d*))?$/.exec(text) ?? [];
  if (sign === undefined) return undefined;
  const microseconds = Number(fraction.slice(0, 6).padEnd(6, '0'));
  if (sign === '') return Number(seconds) * 1000 + microseconds / 1000;
  const up = /[1-9]/.test(fraction.slice(6)) ? 1 : 0;
  return -(Number(seconds) * 1000 + (microseconds + up) / 1000);
}

function attributeOf(key: string): readonly string[] {
  if (!/^(SCHILY|LIBARCHIVE|RHT)\./.test(key)) return [];
  const name = decodeName(Buffer.from(key, 'latin1'));
  return ATTRIBUTES.filter(([pattern]) => pattern.test(name)).map(([pattern, as]) =>
    name.replace(pattern, as),
  );
}

/** `LENGTH KEY=VALUE\n`, LENGTH counting all of it. */
function recordAt(body: Buffer, start: number): { key: string; value: Buffer; end: number } | undefined {
  const space = body.indexOf(0x20, start);
  if (space < 0 || space - start > 8) return undefined;
  const digits = body.toString('latin1', start, space);
  const end = start + Number(digits);
  if (!/^[1-9]\d*$/.test(digits) || end > body.length || body[end - 1] !== 0x0a) return undefined;
  const equals = body.indexOf(0x3d, space);
  if (equals < 0 || equals >= end || equals === space + 1) return undefined;
  return { key: body.toString('latin1', space + 1, equals), value: body.subarray(equals + 1, end - 1), end };
}

/** The body of a GNU long name or long link header. */
export function readLongName(body: Buffer): Verdict<string> {
  const end = body.indexOf(0);
  const name = end < 0 ? body : body.subarray(0, end);
  if (end >= 0 && body.subarray(end).some((byte) => byte !== 0))
    return { refused: 'a NUL byte in a long name' };
  return { value: decodeName(name) };
}

/** Numbers: undefined where the field is empty, NaN where it is no number. */
export interface PlainHeader {
  readonly typeflag: string;
  /** Where an extension has the whole name, this one may be cut within a character. */
  readonly name: string;
  readonly linkname: string;
  readonly size: number | undefined;
  readonly mode: number | undefined;
  readonly uid: number | undefined;
  readonly gid: number | undefined;
  readonly mtime: number | undefined;
}

export function readHeader(block: Buffer): PlainHeader {
  const name = field(block, 0, 100);
  const prefix = block.toString('latin1', 257, 263) === 'ustar\0' ? prefixOf(block) : '';
  return {
    typeflag: String.fromCharCode(block[156] ?? 0),
    name: prefix === '' ? name : `${prefix}/${name}`,
    linkname: field(block, 157, 100),
    size: numberAt(block, 124, 12),
    mode: numberAt(block, 100, 8),
    uid: numberAt(block, 108, 8),
    gid: numberAt(block, 116, 8),
    mtime: numberAt(block, 136, 12),
  };
}

/** star has times in the last 24 bytes of the prefix, and a NUL before them. */
function prefixOf(block: Buffer): string {
  return field(block, 345, block[475] === 0 ? 130 : 155);
}

function field(block: Buffer, start: number, length: number): string {
  if (block[start] === 0) return '';
  const end = block.indexOf(0, start);
  return decodeName(block.subarray(start, end < 0 ? start + length : Math.min(end, start + length)));
}

/** Octal between spaces, up to a NUL; or base-256, two's complement, with the top bit set. */
function numberAt(block: Buffer, start: number, length: number): number | undefined {
  const first = block[start] ?? 0;
  if ((first & 0x80) !== 0) return base256(block, start, length);
  const text = block.toString('latin1', start, start + length);
  const end = text.indexOf('\0');
  if (end === 0 && /[^\0]/.test(text)) return Number.NaN; // GNU tar goes on behind the NUL, others do not
  const digits = (end < 0 ? text : text.slice(0, end)).trim();
  if (digits === '') return undefined;
  return /^[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : Number.NaN;
}

function base256(block: Buffer, start: number, length: number): number {
  const first = block[start] ?? 0;
  let value = (first & 0x40) === 0 ? first & 0x3f : (first & 0x3f) - 0x40;
  for (let index = start + 1; index < start + length; index += 1) value = value * 256 + (block[index] ?? 0);
  return Number.isSafeInteger(value) ? value : Number.NaN;
}

const NO_SPARSE = 'Make the archive again: GNU tar without --sparse, bsdtar with --no-read-sparse.';
const NO_NEWLINE = 'Make the archive again with tar --format=gnu, or without --xattrs and --acls.';
