/**
 * What a file is, by its first bytes: names and Content-Types lie. Pure. What we cannot unpack is named, because a
 * login page or a .7z behind a .tgz address is what people really have. Only brotli has no first bytes of its own.
 */

export type Format =
  | 'tar'
  | 'tar.gz'
  | 'tar.zst'
  | 'tar.xz'
  | 'tar.bz2'
  | 'tar.br'
  | 'zip'
  /** A directory as it is, packed in nothing. */
  | 'directory';

export type Recognised = { readonly format: Format } | { readonly looksLike: string; readonly hint?: string };

/** As many first bytes as `recognise` wants to see. */
export const HEAD_BYTES = 1024;

/** What is read, in words, for hints. */
export const TAKES =
  'It takes a tar, plain or packed with gzip, zstd, xz, bzip2 or brotli (.tar.br), or a zip.';

const REPACK = 'Pack it as .tar.gz or .zip: those can be read everywhere.';

const PACKED: readonly (readonly [magic: RegExp, format: Format])[] = [
  [/^1f8b/, 'tar.gz'],
  [/^28b52ffd/, 'tar.zst'],
  [/^5.2a4d18/, 'tar.zst'], // a frame to be skipped: pzstd, and whoever keeps notes in one
  [/^fd377a585a00/, 'tar.xz'],
  [/^425a683[1-9](314159265359|177245385090)/, 'tar.bz2'], // a block, or the end of what holds nothing
  [/^504b0304|^504b0506/, 'zip'],
];

const FOREIGN: readonly (readonly [magic: string, looksLike: string, hint?: string])[] = [
  ['04224d18', 'an lz4 file', REPACK],
  ['1f9d', 'a file of compress (.Z)', REPACK],
  ['4c5a4950', 'an lzip file', REPACK],
  ['5d0000', 'an lzma file', REPACK],
  ['377abcaf271c', 'a 7z file', REPACK],
  ['526172211a07', 'a rar file', REPACK],
  [
    '213c617263683e',
    'an ar archive (.deb or .a)',
    'Unpack it first: dpkg-deb --fsys-tarfile FILE | gzip > patch.tgz',
  ],
  ['edabeedb', 'an rpm package', 'Unpack it first: rpm2cpio.'],
  ['303730373031', 'a cpio archive', REPACK],
  ['303730373032', 'a cpio archive', REPACK],
  ['303730373037', 'a cpio archive', REPACK],
  ['c771', 'a cpio archive', REPACK],
  ['71c7', 'a cpio archive', REPACK],
  ['78617221', 'a xar archive', REPACK],
  [
    '7f454c46',
    'an ELF program or library',
    'Put it into an archive at its path: tar -czf patch.tgz usr/bin/NAME',
  ],
  ['2321', 'a script', 'Put it into an archive at its path: tar -czf patch.tgz usr/bin/NAME'],
  ['25504446', 'a PDF'],
];

/** `location` is the URL or path it came from, for the one format that only its name tells. */
export function recognise(head: Buffer, location = ''): Recognised {
  if (head.length === 0) return { looksLike: 'an empty file' };
  const hex = head.toString('hex', 0, 16);
  const packed = PACKED.find(([magic]) => magic.test(hex));
  if (packed !== undefined) return { format: packed[1] };
  if (hex.startsWith('504b0708'))
    return { looksLike: 'one part of a split zip', hint: 'Join the parts first: zip -s 0.' };
  if (isTarHeader(head) || isZeroBlock(head)) return { format: 'tar' };
  // Before the short magics below: two of brotli's bytes may be any.
  const text = head.toString('latin1');
  if (isBrotliName(location) && /[^\t\n\f\r\x20-\xff]/.test(text)) return { format: 'tar.br' };
  for (const [magic, looksLike, hint] of FOREIGN) {
    if (hex.startsWith(magic)) return { looksLike, ...(hint === undefined ? {} : { hint }) };
  }
  return recogniseText(text);
}

function isBrotliName(location: string): boolean {
  const path = /^[a-z]+:/i.test(location) ? location.replace(/[?#].*$/s, '') : location;
  return /\.(tar\.br|tbr)$/i.test(path);
}

function recogniseText(head: string): Recognised {
  const text = head.replace(/^(\xef\xbb\xbf)?\s+/, '').toLowerCase();
  if (/^(<!doctype html|<html|<head|<body|<!--)/.test(text)) {
    return {
      looksLike: 'an HTML page',
      hint: 'The address is that of a page (a login, an error); give that of the file itself.',
    };
  }
  if (text.startsWith('<?xml') || text.startsWith('<')) return { looksLike: 'an XML document' };
  if (/^[{[]/.test(text))
    return { looksLike: 'JSON', hint: 'The address is that of an API; give that of the file itself.' };
  if (/^version https:\/\/git-lfs/.test(text))
    return { looksLike: 'a Git LFS pointer', hint: 'Fetch the file itself with git lfs.' };
  if (/^[\t\n\r\x20-\x7e]*$/.test(text)) return { looksLike: 'plain text' };
  return { looksLike: 'nothing known', hint: TAKES };
}

/**
 * Whether these are the names in an image that was saved whole (`docker save`, an OCI layout): its layers are archives
 * in it, and its own files are nothing to lay over a root.
 */
export function looksLikeImage(names: readonly string[]): boolean {
  const present = new Set(names.map((name) => name.replace(/^(\.?\/)+/, '')));
  const holds = (pattern: RegExp): boolean => [...present].some((name) => pattern.test(name));
  const blobs = (): boolean => holds(/^blobs\/sha256\/[0-9a-f]{64}$/);
  if (present.has('oci-layout') && present.has('index.json') && blobs()) return true;
  return present.has('manifest.json') && (holds(/^[0-9a-f]{64}\/layer\.tar$/) || blobs());
}

const ZERO_BLOCK = Buffer.alloc(512);

export function isZeroBlock(block: Buffer): boolean {
  return block.length >= 512 && ZERO_BLOCK.equals(block.subarray(0, 512));
}

/** By its checksum: the `ustar` magic is missing in the oldest kind. */
export function isTarHeader(block: Buffer): boolean {
  if (block.length < 512) return false;
  const stated = Number.parseInt(block.toString('latin1', 148, 156).replace(/\0.*$/s, '').trim(), 8);
  let sum = 8 * 0x20;
  for (let index = 0; index < 148; index += 1) sum += block[index] as number;
  for (let index = 156; index < 512; index += 1) sum += block[index] as number;
  return sum === stated;
}
