/**
 * Our own look at a tar header and its extensions, beside node-tar's: pure. node-tar reads PAX records line by line
 * and without a word skips what it cannot read, so that a newline in a value starts a record of its own (`path=` in an
 * xattr) and a broken one leaves the entry with another name. Two readings that differ mean a refusal.
 */

export interface Extensions {
  readonly path?: string;
  readonly linkpath?: string;
  readonly size?: number;
}

export type Verdict<T> = { readonly value: T } | { readonly refused: string };

/** Records that change what or where we write; in a global header they would apply to every later entry. */
const WEIGHTY = new Set(['path', 'linkpath', 'size', 'mtime', 'mode', 'type']);
const SPARSE = /^(GNU\.sparse\.|SCHILY\.realsize|SUN\.holesdata)/;

export function readPax(body: Buffer, isGlobal: boolean): Verdict<Extensions> {
  const found: { path?: string; linkpath?: string; size?: number } = {};
  let position = 0;
  while (position < body.length) {
    const record = recordAt(body, position);
    if (record === undefined) return { refused: 'an extended header whose records do not add up' };
    position = record.end;
    const { key, value } = record;
    if (SPARSE.test(key)) return { refused: `a sparse file (${key})` };
    if (value.includes(0x0a)) return { refused: `an extended header with a newline in ${key}` };
    if (!WEIGHTY.has(key)) continue;
    if (isGlobal) return { refused: `a global extended header that sets ${key}` };
    const text = utf8(value);
    if (text === undefined) return { refused: `a ${key} that is not UTF-8` };
    if (text.includes('\0')) return { refused: `a NUL byte in ${key}` };
    if (key === 'path') found.path = text;
    if (key === 'linkpath') found.linkpath = text;
    if (key === 'size') {
      if (!/^\d{1,15}$/.test(text)) return { refused: `size=${text} in an extended header` };
      found.size = Number(text);
    }
  }
  return { value: found };
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
  return {
    key: body.toString('latin1', space + 1, equals),
    value: body.subarray(equals + 1, end - 1),
    end,
  };
}

/** The body of a GNU long name or long link header. */
export function readLongName(body: Buffer): Verdict<string> {
  const end = body.indexOf(0);
  const name = end < 0 ? body : body.subarray(0, end);
  if (end >= 0 && body.subarray(end).some((byte) => byte !== 0))
    return { refused: 'a NUL byte in a long name' };
  const text = utf8(name);
  return text === undefined ? { refused: 'a name that is not UTF-8' } : { value: text };
}

export interface PlainHeader {
  /** Undefined: not UTF-8. Where an extension has the whole name, this one may be cut within a character. */
  readonly name: string | undefined;
  readonly linkname: string | undefined;
  readonly typeflag: string;
  readonly size: number | undefined;
}

export function readHeader(block: Buffer): PlainHeader {
  const name = field(block, 0, 100);
  const prefix = block.toString('latin1', 257, 263) === 'ustar\0' ? prefixOf(block) : '';
  const whole =
    name === undefined || prefix === undefined ? undefined : prefix === '' ? name : `${prefix}/${name}`;
  return {
    name: whole,
    linkname: field(block, 157, 100),
    typeflag: String.fromCharCode(block[156] ?? 0),
    size: sizeOf(block),
  };
}

/** star has times in the last 24 bytes of the prefix, and a NUL before them. */
function prefixOf(block: Buffer): string | undefined {
  return field(block, 345, block[475] === 0 ? 130 : 155);
}

function field(block: Buffer, start: number, length: number): string | undefined {
  const bytes = block.subarray(start, start + length);
  const end = bytes.indexOf(0);
  return utf8(end < 0 ? bytes : bytes.subarray(0, end));
}

/** Octal, or base-256 with the top bit set. */
function sizeOf(block: Buffer): number | undefined {
  const bytes = block.subarray(124, 136);
  if (bytes[0] === 0x80) {
    const value = bytes.subarray(1).reduce((sum, byte) => sum * 256 + byte, 0);
    return Number.isSafeInteger(value) ? value : undefined;
  }
  const text = bytes.toString('latin1').replace(/\0.*$/s, '').trim();
  return /^[0-7]+$/.test(text) ? Number.parseInt(text, 8) : text === '' ? 0 : undefined;
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

export function utf8(bytes: Uint8Array): string | undefined {
  try {
    return decoder.decode(bytes);
  } catch {
    return undefined;
  }
}
