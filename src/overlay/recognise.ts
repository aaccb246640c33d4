/**
 * What a file is, by its first bytes: names and Content-Types lie. Pure. What we cannot unpack is named, because a
 * login page or a .tar.xz behind a .tgz address is what people really have.
 */

export type Format = 'tar' | 'tar.gz' | 'zip';

export type Recognised = { readonly format: Format } | { readonly looksLike: string; readonly hint?: string };

/** As many first bytes as `recognise` wants to see. */
export const HEAD_BYTES = 1024;

const REPACK = 'Pack it as .tar.gz or .zip: those can be read everywhere.';

const FOREIGN: readonly (readonly [magic: string, looksLike: string, hint?: string])[] = [
  ['fd377a585a00', 'an xz file', REPACK],
  ['28b52ffd', 'a zstd file', REPACK],
  ['425a68', 'a bzip2 file', REPACK],
  ['04224d18', 'an lz4 file', REPACK],
  ['1f9d', 'a file of compress (.Z)', REPACK],
  ['4c5a4950', 'an lzip file', REPACK],
  ['377abcaf271c', 'a 7z file', REPACK],
  ['526172211a07', 'a rar file', REPACK],
  [
    '213c617263683e',
    'an ar archive (.deb or .a)',
    'Unpack it first: dpkg-deb --fsys-tarfile FILE | gzip > patch.tgz',
  ],
  ['edabeedb', 'an rpm package', 'Unpack it first: rpm2cpio.'],
  ['303730373031', 'a cpio archive', REPACK],
  [
    '7f454c46',
    'an ELF program or library',
    'Put it into an archive at its path: tar -czf patch.tgz usr/bin/NAME',
  ],
  ['2321', 'a script', 'Put it into an archive at its path: tar -czf patch.tgz usr/bin/NAME'],
  ['25504446', 'a PDF'],
];

export function recognise(head: Buffer): Recognised {
  if (head.length === 0) return { looksLike: 'an empty file' };
  if (startsWith(head, '1f8b')) return { format: 'tar.gz' };
  if (startsWith(head, '504b0304') || startsWith(head, '504b0506')) return { format: 'zip' };
  if (startsWith(head, '504b0708'))
    return { looksLike: 'one part of a split zip', hint: 'Join the parts first: zip -s 0.' };
  if (isTarHeader(head) || isZeroBlock(head)) return { format: 'tar' };
  for (const [magic, looksLike, hint] of FOREIGN) {
    if (startsWith(head, magic)) return { looksLike, ...(hint === undefined ? {} : { hint }) };
  }
  return recogniseText(head);
}

function recogniseText(head: Buffer): Recognised {
  const text = head
    .toString('latin1')
    .replace(/^(\xef\xbb\xbf)?\s+/, '')
    .toLowerCase();
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
  return { looksLike: 'nothing known', hint: 'It takes a tar, tar.gz or zip file.' };
}

function startsWith(head: Buffer, hex: string): boolean {
  return head.subarray(0, hex.length / 2).toString('hex') === hex;
}

export function isZeroBlock(block: Buffer): boolean {
  return block.length >= 512 && block.subarray(0, 512).every((byte) => byte === 0);
}

/** By its checksum: the `ustar` magic is missing in the oldest kind. */
export function isTarHeader(block: Buffer): boolean {
  if (block.length < 512) return false;
  const stated = Number.parseInt(block.toString('latin1', 148, 156).replace(/\0.*$/s, '').trim(), 8);
  let sum = 8 * 0x20;
  for (let index = 0; index < 512; index += 1) {
    if (index < 148 || index >= 156) sum += block[index] ?? 0;
  }
  return sum === stated;
}
