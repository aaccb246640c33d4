/**
 * Names as bytes. Linux names are bytes, archives hold any of them, and JavaScript's strings cannot: so a byte that is
 * no UTF-8 becomes one lone surrogate, U+DC80 to U+DCFF, and back (Python's `surrogateescape`, PEP 383). Every name in
 * the overlay is such a string: most are plain text, all can be split at `/`, compared, and written to JSON and back.
 * Pure.
 */

const FIRST_ESCAPE = 0xdc00;
const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Any bytes as a name; `encodeName` gives exactly them back. */
export function decodeName(bytes: Uint8Array): string {
  return utf8(bytes) ?? decodePieces(bytes);
}

/** The text of these bytes; undefined where they are no UTF-8. */
export function utf8(bytes: Uint8Array): string | undefined {
  try {
    return strict.decode(bytes);
  } catch {
    return undefined;
  }
}

function decodePieces(bytes: Uint8Array): string {
  const pieces: string[] = [];
  let start = 0;
  for (let at = 0; at < bytes.length; ) {
    const length = sequenceLength(bytes, at);
    if (length === 0) {
      pieces.push(
        strict.decode(bytes.subarray(start, at)),
        String.fromCharCode(FIRST_ESCAPE + (bytes[at] ?? 0)),
      );
      start = at + 1;
    }
    at += length || 1;
  }
  return pieces.join('') + strict.decode(bytes.subarray(start));
}

/** Of the UTF-8 character that starts there; 0: none does (table 3-7 of the Unicode standard, as TextDecoder has it). */
function sequenceLength(bytes: Uint8Array, at: number): number {
  const first = bytes[at] ?? 0;
  if (first < 0x80) return 1;
  const length = first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
  for (let index = 1; index < length; index += 1) {
    const [low, high] = index === 1 ? secondRange(first) : [0x80, 0xbf];
    const byte = bytes[at + index] ?? 0;
    if (byte < low || byte > high) return 0;
  }
  return length;
}

/** No longer form than needed, no surrogates, nothing above U+10FFFF. */
function secondRange(first: number): readonly [low: number, high: number] {
  if (first === 0xe0) return [0xa0, 0xbf];
  if (first === 0xed) return [0x80, 0x9f];
  if (first === 0xf0) return [0x90, 0xbf];
  return first === 0xf4 ? [0x80, 0x8f] : [0x80, 0xbf];
}

export function encodeName(name: string): Buffer {
  if (name.isWellFormed()) return Buffer.from(name);
  const pieces = name.match(/[\udc80-\udcff]|[^\udc80-\udcff]+/gu) ?? [];
  return Buffer.concat(
    pieces.map((piece) => {
      const code = piece.charCodeAt(0);
      const isEscape = piece.length === 1 && code >= FIRST_ESCAPE + 0x80 && code <= FIRST_ESCAPE + 0xff;
      return isEscape ? Buffer.of(code - FIRST_ESCAPE) : Buffer.from(piece);
    }),
  );
}

/** How many bytes a name has on the disk. */
export function nameBytes(name: string): number {
  return name.isWellFormed() ? Buffer.byteLength(name) : encodeName(name).length;
}

/** What node:fs takes for a name: the string itself wherever that says it. */
export function nativePath(name: string): string | Buffer {
  return name.isWellFormed() ? name : encodeName(name);
}
