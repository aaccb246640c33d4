/**
 * Archives and roots that want more than they should get, built in code. After each: one error with a code and a name,
 * the root as it was, nothing left behind, nothing outside the root touched, memory bounded.
 */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { dirname, join } from 'node:path';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import type { EntryError } from '../../src/errors.ts';
import {
  paxHeader,
  paxRecord,
  TAR_END,
  type TarPart,
  tarOf,
  tarPart,
  type ZipPart,
  zipOf,
} from './archives.ts';
import { runAsUser, UID } from './as-user.ts';
import { isRoot, makeStand, type Stand, sha256 } from './stand.ts';
import { treeOf } from './trees.ts';

if (!isRoot) console.warn('SKIPPED: folders of other users need root');

/** A part in both formats. */
interface Part {
  readonly name: string | Buffer;
  readonly content?: string | Buffer;
  readonly link?: string;
  readonly folder?: true;
}

const toTar = ({ name, content, link, folder }: Part): TarPart =>
  link !== undefined
    ? { name, type: '2', link }
    : folder === true
      ? { name: `${name}/`, type: '5', mode: 0o755 }
      : { name, content: content ?? 'x' };

const toZip = ({ name, content, link, folder }: Part): ZipPart =>
  link !== undefined
    ? { name, content: link, unixMode: 0o120777 }
    : folder === true
      ? { name: `${name}/`, unixMode: 0o040755 }
      : { name, content: content ?? 'x', unixMode: 0o100644 };

const FORMATS: Record<string, (parts: readonly Part[]) => Buffer> = {
  tar: (parts) => tarOf(...parts.map(toTar)),
  'tar.gz': (parts) => gzipSync(tarOf(...parts.map(toTar))),
  zip: (parts) => zipOf(...parts.map(toZip)),
};

const FIRST: Part = { name: 'usr/bin/first', content: 'it would be written first' };

/** The root and all that is beside it: where a traversal would end. */
async function refused(
  stand: Stand,
  archive: Buffer,
  code: EntryError['code'],
  options: Parameters<Stand['refused']>[2] & { sha256?: string } = {},
): Promise<EntryError> {
  const path = stand.file('p', archive);
  const outside = (): unknown => treeOf(dirname(stand.root), { without: ['work'] });
  const before = outside();
  const { sha256: digest, ...rest } = options;
  const source = { location: path, strip: 0, ...(digest === undefined ? {} : { sha256: digest }) };
  const error = await stand.refused([source], code, rest);
  expect(outside()).toEqual(before);
  expect(fs.readdirSync(stand.workDir)).toEqual([]);
  expect(error.message).toContain(`fstree=${path}`);
  return error;
}

describe('a way out of the root', () => {
  it.each<[string, Part[], RegExp]>([
    ['..', [{ name: '../evil' }], /"\.\.\/evil".*'\.\.'/],
    ['.. further on', [{ name: 'etc/../../evil' }], /'\.\.'/],
    ['.. at the end', [{ name: 'etc/..', folder: true }], /'\.\.'/],
    ['.. in the middle that stays inside', [{ name: 'etc/../etc/app.conf' }], /'\.\.'/],
    ['an absolute name', [{ name: '/etc/app.conf' }], /"\/etc\/app.conf".*absolute/],
    ['an absolute name with two slashes', [{ name: '//etc/app.conf' }], /absolute/],
    [
      'a symlink, then a file through it',
      [{ name: 'opt/l', link: '/etc' }, { name: 'opt/l/evil' }],
      /\/opt\/l, which the archive makes something else/,
    ],
    [
      'a symlink upwards, then a file through it',
      [{ name: 'opt/l', link: '../../../../tmp' }, { name: 'opt/l/evil' }],
      /which the archive makes something else/,
    ],
    [
      'a symlink, then a folder over it, then a file',
      [{ name: 'opt/l', link: '/etc' }, { name: 'opt/l', folder: true }, { name: 'opt/l/evil' }],
      /twice, as a directory/,
    ],
    [
      'a folder, then a symlink over it, then a file',
      [{ name: 'opt/d', folder: true }, { name: 'opt/d', link: '/etc' }, { name: 'opt/d/evil' }],
      /twice, as a directory/,
    ],
    [
      'a chain of symlinks',
      [
        { name: 'opt/a', link: 'b' },
        { name: 'opt/b', link: 'c' },
        { name: 'opt/c', link: '../../../tmp' },
        { name: 'opt/a/evil' },
      ],
      /which the archive makes something else/,
    ],
    [
      'a file that comes before the symlink above it',
      [{ name: 'opt/l/evil' }, { name: 'opt/l', link: '/tmp' }],
      /a directory and something else/,
    ],
    [
      'a symlink below a new folder that is one itself',
      [
        { name: 'opt/n/l', link: '/tmp' },
        { name: 'opt/n', link: '/tmp' },
      ],
      /a directory and something else/,
    ],
    [
      'something below a file of the archive',
      [{ name: 'opt/f' }, { name: 'opt/f/x' }],
      /which the archive makes something else/,
    ],
    ['something below a file of the root', [{ name: 'etc/app.conf/x' }], /\/etc\/app.conf is a file/],
    ['a file over a folder', [{ name: 'etc' }], /a file cannot replace a directory \(\/etc\)/],
    [
      'a symlink over a folder',
      [{ name: 'etc', link: 'opt' }],
      /a symlink cannot replace a directory \(\/etc\)/,
    ],
    [
      'a symlink over a symlink to a folder',
      [{ name: 'bin', link: '/tmp' }],
      /the symlink to a directory \/bin/,
    ],
    ['a name of ours', [{ name: '.ddbg-overlay/journal' }], /a name of our own files/],
    ['a name of ours, deeper', [{ name: 'etc/.ddbg-overlay.part' }], /a name of our own files/],
    ['a name of ours, as a symlink', [{ name: '.ddbg-overlay', link: '/tmp' }], /a name of our own files/],
    [
      'a part of 256 bytes',
      [{ name: `etc/${'x'.repeat(90)}`.padEnd(100, 'x') }, { name: `opt/${'é'.repeat(128)}` }],
      /255 bytes|ends|two ways|disagree/,
    ],
    ['no name at all', [{ name: '.' }], /the root itself/],
  ])('%s', async (_what, parts, why) => {
    for (const [format, pack] of Object.entries(FORMATS)) {
      if (format.startsWith('tar') && parts.some(({ name }) => Buffer.byteLength(name) > 100)) continue;
      const stand = makeStand();
      const error = await refused(stand, pack([FIRST, ...parts]), 'DDBG_UNSAFE');
      expect(error.message, format).toMatch(why);
      expect(error.hint, format).toBeDefined();
    }
  });

  it.each<[string, TarPart[], RegExp]>([
    [
      'a hard link to outside',
      [{ name: 'opt/h', type: '1', link: '../../etc/shadow' }],
      /"opt\/h".*no file earlier/,
    ],
    ['an absolute hard link', [{ name: 'opt/h', type: '1', link: '/etc/shadow' }], /no file earlier/],
    [
      'a hard link to what the root has',
      [{ name: 'opt/h', type: '1', link: 'etc/app.conf' }],
      /no file earlier/,
    ],
    [
      'a hard link to a symlink',
      [
        { name: 'opt/s', type: '2', link: '/etc/shadow' },
        { name: 'opt/h', type: '1', link: 'opt/s' },
      ],
      /no file earlier/,
    ],
    [
      'a hard link to a folder',
      [
        { name: 'opt/d/', type: '5' },
        { name: 'opt/h', type: '1', link: 'opt/d' },
      ],
      /no file earlier/,
    ],
    [
      'a chain of hard links that starts outside',
      [
        { name: 'opt/h', type: '1', link: '../x' },
        { name: 'opt/i', type: '1', link: 'opt/h' },
      ],
      /"opt\/h"/,
    ],
    [
      'a hard link forwards',
      [
        { name: 'opt/h', type: '1', link: 'opt/f' },
        { name: 'opt/f', content: 'x' },
      ],
      /no file earlier/,
    ],
    [
      'hard links in a circle',
      [
        { name: 'opt/a', type: '1', link: 'opt/b' },
        { name: 'opt/b', type: '1', link: 'opt/a' },
      ],
      /no file earlier/,
    ],
    [
      'a hard link over the symlink that it is to go through',
      [
        { name: 'opt/f', content: 'x' },
        { name: 'bin', type: '1', link: 'opt/f' },
      ],
      /symlink to a directory \/bin/,
    ],
    [
      'a file written through a hard link: the first version is what is linked',
      [
        { name: 'opt/f', content: '1' },
        { name: 'opt/h', type: '1', link: 'opt/f' },
        { name: 'opt/f', content: '2' },
      ],
      /that the archive has twice/,
    ],
    ['.. by a prefix', [{ name: 'evil', prefix: '..', content: 'x' }], /'\.\.'/],
    [
      '.. by a GNU long name',
      [
        { name: 'L', type: 'L', content: '../evil\0' },
        { name: 'good', content: 'x' },
      ],
      /'\.\.'/,
    ],
    [
      '.. by a GNU long link',
      [
        { name: 'K', type: 'K', content: '../../etc/shadow\0' },
        { name: 'opt/h', type: '1', link: 'x' },
      ],
      /no file earlier/,
    ],
    ['.. by a PAX path', [paxHeader({ path: '../evil' }), { name: 'good', content: 'x' }], /'\.\.'/],
    ['an absolute PAX path', [paxHeader({ path: '/etc/evil' }), { name: 'good', content: 'x' }], /absolute/],
    [
      'a PAX linkpath',
      [paxHeader({ linkpath: '../../etc/shadow' }), { name: 'opt/h', type: '1', link: 'x' }],
      /no file earlier/,
    ],
    [
      '100,000 folders by a PAX path',
      [paxHeader({ path: `${'d/'.repeat(100_000)}x` }), { name: 'x', content: 'x' }],
      /100001 folders deep, the limit depth is 100/,
    ],
    [
      '100,000 folders by a long name',
      [
        { name: 'L', type: 'L', content: `${'d/'.repeat(100_000)}x\0` },
        { name: 'x', content: 'x' },
      ],
      /100001 folders deep/,
    ],
    [
      'a symlink target of 5000 bytes',
      [paxHeader({ linkpath: 'x'.repeat(5000) }), { name: 'opt/l', type: '2', link: 'x' }],
      /longer than 4095/,
    ],
    ['a character device', [{ name: 'dev/m', type: '3' }], /character device, dev\/m/],
    ['a block device', [{ name: 'dev/m', type: '4' }], /block device, dev\/m/],
    ['a FIFO', [{ name: 'opt/f', type: '6' }], /FIFO, opt\/f/],
  ])('of a tar: %s', async (_what, parts, why) => {
    const error = await refused(makeStand(), tarOf(toTar(FIRST), ...parts), 'DDBG_UNSAFE');
    expect(error.message).toMatch(why);
    expect(error.message.length).toBeLessThan(250_000);
  });

  it.each<[string, ZipPart[], RegExp]>([
    ['a backslash', [{ name: '..\\..\\evil', content: 'x' }], /backslash/],
    ['a backslash within a folder', [{ name: 'etc\\evil', content: 'x' }], /backslash/],
    ['a drive', [{ name: 'C:\\evil', content: 'x' }], /backslash/],
    ['a character device', [{ name: 'dev/m', unixMode: 0o020666 }], /device/],
    ['a block device', [{ name: 'dev/m', unixMode: 0o060666 }], /device/],
    ['a FIFO', [{ name: 'opt/f', unixMode: 0o010644 }], /FIFO/],
    ['a socket', [{ name: 'opt/s', unixMode: 0o140644 }], /socket/],
    ['100,000 folders', [{ name: `${'d/'.repeat(30_000)}x`, content: 'x' }], /30001 folders deep/],
    ['a NUL', [{ name: 'etc/a\0b', content: 'x' }], /NUL/],
    [
      'a Unicode path that says something else',
      [{ name: 'good', content: 'x', extra: [[0x7075, unicodePath('good', '../evil')]] }],
      /'\.\.'/,
    ],
  ])('of a zip: %s', async (_what, parts, why) => {
    const error = await refused(makeStand(), zipOf(toZip(FIRST), ...parts), 'DDBG_UNSAFE');
    expect(error.message).toMatch(why);
  });

  it('is no way for a symlink that the archive only brings: it is written, and nothing goes through it', async () => {
    for (const pack of Object.values(FORMATS)) {
      const stand = makeStand();
      const outside = treeOf(dirname(stand.root), { without: ['work', 'root', 'p'] });
      await stand.apply([
        { location: stand.file('p', pack([{ name: 'opt/l', link: '../../../../../etc' }])), strip: 0 },
      ]);
      expect(fs.readlinkSync(join(stand.root, 'opt/l'))).toBe('../../../../../etc');
      const through = [{ location: stand.file('p', pack([{ name: 'opt/l/evil' }])), strip: 0 }];
      await stand.apply(through); // a second archive: as seen from inside the root, that is /etc
      expect(fs.existsSync(join(stand.root, 'etc/evil'))).toBe(true);
      expect(fs.existsSync('/etc/evil')).toBe(false);
      expect(Object.keys(treeOf(dirname(stand.root), { without: ['work', 'root', 'p'] }))).toEqual(
        Object.keys(outside),
      );
    }
  });
});

function unicodePath(plain: string, name: string): Buffer {
  const head = Buffer.alloc(5);
  head[0] = 1;
  head.writeUInt32LE(crc(plain), 1);
  return Buffer.concat([head, Buffer.from(name)]);
}

function crc(text: string): number {
  return gzipSync(text).readUInt32LE(gzipSync(text).length - 8);
}

describe('two readings of one archive', () => {
  const good: TarPart = { name: 'etc/good', content: 'good' };

  it.each<[string, TarPart[], RegExp]>([
    [
      'a newline in an extended attribute that starts a path',
      [{ name: 'p', type: 'x', content: paxRecord('SCHILY.xattr.user.x', 'a\n18 path=etc/evil') }, good],
      /newline/,
    ],
    [
      'a newline in a path',
      [{ name: 'p', type: 'x', content: paxRecord('path', 'etc/a\n20 linkpath=/etc/x') }, good],
      /newline/,
    ],
    [
      'a newline in a linkpath',
      [
        { name: 'p', type: 'x', content: paxRecord('linkpath', 'a\n18 path=etc/evil') },
        { name: 'etc/l', type: '2', link: 'a' },
      ],
      /newline/,
    ],
    [
      'a newline in a comment',
      [{ name: 'p', type: 'x', content: paxRecord('comment', 'a\n18 path=etc/evil') }, good],
      /newline/,
    ],
    ['a record longer than its header', [{ name: 'p', type: 'x', content: '99 path=x\n' }, good], /add up/],
    ['a record of length 0', [{ name: 'p', type: 'x', content: '0 path=x\n' }, good], /add up/],
    [
      'a record of a length that is no number',
      [{ name: 'p', type: 'x', content: '+9 path=x\n' }, good],
      /add up/,
    ],
    [
      'two paths in one header',
      [
        {
          name: 'p',
          type: 'x',
          content: Buffer.concat([paxRecord('path', 'etc/one'), Buffer.from('7 path=\n')]),
        },
        good,
      ],
      /add up|empty/,
    ],
    ['a NUL in a path', [paxHeader({ path: 'etc/a\0b' }), good], /NUL/],
    ['a NUL in a long name', [{ name: 'L', type: 'L', content: 'etc/a\0b\0' }, good], /NUL/],
    [
      'a PAX size that is too small',
      [paxHeader({ size: '1' }), { ...good, content: 'x'.repeat(600) }],
      /damaged|two ways|truncated|checksum/,
    ],
    ['a PAX size that is too large', [paxHeader({ size: '2000' }), good], /truncated|damaged/],
    ['a PAX size below 0', [paxHeader({ size: '-1' }), good], /size=-1/],
    ['a PAX size that is no number', [paxHeader({ size: '4x' }), good], /size=4x/],
    [
      'a PAX size of a folder',
      [paxHeader({ size: '512' }), { name: 'opt/d/', type: '5' }],
      /content|two ways|damaged|truncated/,
    ],
    ['a global path', [paxHeader({ path: 'etc/evil' }, 'g'), good], /global/],
    ['a global size', [paxHeader({ size: '0' }, 'g'), good], /global/],
    ['a size below 0, in base 256', [{ ...good, change: (header) => header.fill(0xff, 124, 136) }], /size/],
    [
      'a size beyond all, in base 256',
      [{ ...good, change: (header) => header.fill(0x7f, 125, 136).fill(0x80, 124, 125) }],
      /size|file-bytes/,
    ],
    [
      'a size that is no number',
      [{ ...good, change: (header) => header.write('0000000000z\0', 124) }],
      /size/,
    ],
    ['a header that claims more than there is', [{ ...good, size: 100_000 }], /truncated/],
    [
      'a header that claims less than there is',
      [{ ...good, content: 'y'.repeat(600), size: 4 }],
      /checksum|damaged/,
    ],
    ['a long name without its entry', [{ name: 'L', type: 'L', content: 'etc/x\0' }], /without its entry/],
    [
      'two long names',
      [{ name: 'L', type: 'L', content: 'etc/x\0' }, paxHeader({ path: 'etc/y' }), good],
      /two ways/,
    ],
    ['a sparse file', [{ name: 'etc/x', type: 'S', content: 'x' }], /sparse/],
    [
      'a sparse file by PAX',
      [paxHeader({ 'GNU.sparse.map': '0,1', 'GNU.sparse.name': 'etc/evil' }), good],
      /sparse/,
    ],
    ['an unknown type', [{ name: 'etc/x', type: '@' }], /unknown type "@"/],
    [
      'a file with a slash at its end and content',
      [{ name: 'etc/x/', content: 'x' }],
      /directory with content/,
    ],
  ])('of a tar: %s', async (_what, parts, why) => {
    const error = await refused(makeStand(), tarOf(toTar(FIRST), ...parts), 'DDBG_ARCHIVE');
    expect(error.message).toMatch(why);
  });

  const first = { name: 'etc/good', content: 'good', unixMode: 0o100644 };
  it.each<[string, () => Buffer, RegExp]>([
    [
      'another name in the local header',
      () => zipOf({ ...first, localName: 'etc/evil' }),
      /do not agree \(?|do not agree/,
    ],
    ['a size too small', () => zipOf({ ...first, size: 2 }), /bytes/],
    ['a size too large', () => zipOf({ ...first, size: 200 }), /bytes/],
    ['a size too small, stored', () => zipOf({ ...first, method: 0, size: 2 }), /damaged|bytes/],
    ['a size too large, stored', () => zipOf({ ...first, method: 0, size: 200 }), /damaged|bytes/],
    ['a wrong checksum', () => zipOf({ ...first, crc: 7 }), /checksum/],
    [
      'entries that share their bytes',
      () => zipOf(first, { ...first, name: 'etc/evil', localName: 'etc/good', offset: 0 }),
      /overlap|do not agree/,
    ],
    ['one entry twice', () => zipOf(first, { ...first, offset: 0 }), /overlap/],
    ['an offset beyond the end', () => zipOf({ ...first, offset: 1_000_000 }), /damaged/],
    ['an offset into the directory', () => zipOf({ ...first, offset: 60 }), /damaged/],
    ['fewer entries than there are', () => patch(zipOf(first, toZip(FIRST)), -12, 1), /more entries/],
    ['more entries than there are', () => patch(zipOf(first), -12, 2), /damaged/],
    ['a method that nobody has', () => zipOf({ ...first, method: 99 }), /method 99/],
    ['a password', () => zipOf({ ...first, flags: 1 }), /encrypted/],
    [
      'a symlink of 5000 bytes',
      () => zipOf({ name: 'etc/l', content: 'x'.repeat(5000), unixMode: 0o120777 }),
      /too long/,
    ],
    [
      'a folder with content',
      () => zipOf({ name: 'etc/d/', content: 'x', unixMode: 0o040755 }),
      /has content/,
    ],
    [
      'a name in no encoding',
      () => zipOf({ name: Buffer.from('etc/\xff', 'latin1'), content: 'x' }),
      /not UTF-8/,
    ],
  ])('of a zip: %s', async (_what, build, why) => {
    expect((await refused(makeStand(), build(), 'DDBG_ARCHIVE')).message).toMatch(why);
  });

  it('of a name that comes twice, the later one counts, in both formats and of both kinds', async () => {
    for (const [format, pack] of Object.entries(FORMATS)) {
      const stand = makeStand();
      const parts = [
        { name: 'opt/n', content: '1' },
        { name: 'opt/l', link: 'a' },
        { name: 'opt/n', link: 'x' },
        { name: 'opt/l', content: '2' },
      ];
      await stand.apply([{ location: stand.file('p', pack(parts)), strip: 0 }]);
      expect([fs.readlinkSync(join(stand.root, 'opt/n')), stand.read('opt/l')], format).toEqual(['x', '2']);
    }
  });

  it('A and a are two files', async () => {
    for (const pack of Object.values(FORMATS)) {
      const stand = makeStand();
      const parts = [
        { name: 'opt/A', content: 'A' },
        { name: 'opt/a', content: 'a' },
        { name: 'opt/É', content: 'É' },
        { name: 'opt/E\u0301', content: 'E' },
      ];
      await stand.apply([{ location: stand.file('p', pack(parts)), strip: 0 }]);
      expect(fs.readdirSync(join(stand.root, 'opt')).toSorted()).toEqual(['A', 'E\u0301', 'a', 'app', 'É']);
      expect(['A', 'a', 'É', 'E\u0301'].map((name) => stand.read(`opt/${name}`))).toEqual([
        'A',
        'a',
        'É',
        'E',
      ]);
    }
  });
});

/** Sets 16 bits, counted from the end. */
function patch(zip: Buffer, at: number, value: number): Buffer {
  zip.writeUInt16LE(value, zip.length + at);
  return zip;
}

describe('a bomb', () => {
  const MiB = 1024 ** 2;
  const ROOM_BYTES = 200 * MiB;
  const limits = { unpackedBytes: 40 * MiB };

  /** A header that says so many zeros follow, and some of them; packed in pieces that can be repeated. */
  const claims = (bytes: number): Buffer => tarPart({ name: 'opt/zeros', size: bytes });
  const PIECE = Buffer.alloc(16 * MiB);

  function filter(command: string, input: Buffer): Buffer {
    const { stdout, status, error } = spawnSync(command, ['-c', '-1'], { input, maxBuffer: 64 * MiB });
    if (status !== 0) throw error ?? new Error(command);
    return stdout;
  }
  const repeated = (pack: (content: Buffer) => Buffer): Buffer => {
    const piece = pack(PIECE);
    return Buffer.concat([
      pack(claims(64 * PIECE.length)),
      ...Array.from({ length: 64 }, () => piece),
      pack(TAR_END),
    ]);
  };

  const BOMBS: Record<string, [tool: string | undefined, build: () => Buffer]> = {
    tar: [undefined, () => Buffer.concat([claims(64 * MiB), ...Array.from({ length: 4 }, () => PIECE)])],
    'tar.gz': [undefined, () => repeated((content) => gzipSync(content, { level: 1 }))],
    'tar.xz': ['xz', () => repeated((content) => filter('xz', content))],
    'tar.bz2': ['bzip2', () => repeated((content) => filter('bzip2', content))],
    'tar.zst': ['zstd', () => repeated((content) => filter('zstd', content))],
    'tar.br': [
      undefined,
      () =>
        brotliCompressSync(Buffer.concat([claims(64 * MiB), ...Array.from({ length: 4 }, () => PIECE)]), {
          params: { [constants.BROTLI_PARAM_QUALITY]: 1 },
        }),
    ],
    zip: [
      undefined,
      () => zipOf(...Array.from({ length: 5 }, (_, index) => ({ name: `opt/${index}`, content: PIECE }))),
    ],
    'zip, of one file': [undefined, () => zipOf({ name: 'opt/0', content: Buffer.alloc(48 * MiB) })],
  };

  it.each(Object.entries(BOMBS))('in a %s stops at the limit', async (format, [tool, build]) => {
    if (tool !== undefined && spawnSync(tool, ['--version']).error !== undefined)
      return console.warn(`SKIPPED: the ${format} bomb, ${tool} is not here`);
    const archive = build();
    const stand = makeStand();
    const path = stand.file(`p.${format}`, archive);
    const before = process.resourceUsage().maxRSS * 1024;
    const cases = [
      ['unpacked-bytes', limits],
      ['file-bytes', { fileBytes: 10 * MiB }],
    ] as const;
    for (const [name, given] of cases) {
      const error = await stand.refused([{ location: path, sha256: sha256(archive) }], 'DDBG_ARCHIVE', {
        limits: given,
      });
      expect(error.message).toContain(`the limit ${name}`);
      expect(error.hint).toContain(`DDBG_FSTREE_LIMIT=${name}=N`);
    }
    expect(process.resourceUsage().maxRSS * 1024 - before).toBeLessThan(ROOM_BYTES);
  });

  it('of entries stops at the limit, in each format', async () => {
    const count = 30_000;
    const parts = Array.from(
      { length: count },
      (_, index) => ({ name: `opt/${index}`, folder: true }) as const,
    );
    for (const [format, pack] of Object.entries(FORMATS)) {
      const error = await refused(makeStand(), pack(parts), 'DDBG_ARCHIVE', { limits: { entries: 10_000 } });
      expect(error.message, format).toMatch(/entries/);
    }
  });

  it('of millions of entries stops at the limit that is the default', async () => {
    const block = Buffer.concat(Array.from({ length: 1000 }, () => tarPart({ name: 'opt/d/', type: '5' })));
    const million = Buffer.concat([...Array.from({ length: 300 }, () => block), TAR_END]);
    const error = await refused(makeStand(), gzipSync(million, { level: 1 }), 'DDBG_ARCHIVE');
    expect(error.message).toMatch(/more than 200000 entries, the limit/);
  });

  it('of header extensions stops at the limit', async () => {
    const long = paxHeader({ comment: 'x'.repeat(2 * MiB) });
    const lie = { name: 'p', type: 'x', size: 5e9 };
    for (const part of [long, lie, { name: 'L', type: 'L', size: 5e9 }])
      expect(
        (await refused(makeStand(), tarOf(part, { name: 'x', content: 'x' }), 'DDBG_ARCHIVE')).message,
      ).toMatch(/metaBytes/);
  });

  it('of attributes names them once, not by the thousand', async () => {
    const stand = makeStand();
    const parts = Array.from({ length: 2000 }, (_, index) => [
      paxHeader({ [`SCHILY.xattr.user.x${index}`]: 'y' }),
      { name: `opt/${index}` },
    ]).flat();
    await stand.apply(stand.file('p.tar', tarOf(...parts)));
    for (const line of stand.lines) expect(line.length).toBeLessThan(4000);
  });
});

describe('what lies in the root', () => {
  const patchOf = (stand: Stand): string =>
    stand.file('p.tar', tarOf({ name: 'etc/app.conf', content: 'new' }));
  /** What a journal of ours would have done: /etc/shadow away, or mtimes of anything. */
  const orders = (stand: Stand): string => {
    const victim = join(stand.root, 'etc/app.conf');
    const steps = [
      { do: 'add', from: join(stand.root, 'opt/taken'), to: victim },
      { do: 'make-folder', to: join(stand.root, 'opt/app'), facts: {} },
    ];
    return [{ times: [[victim, { atime: 1, mtime: 1 }]] }, { temporary: [victim] }, { steps }]
      .map((line) => `${JSON.stringify(line)}\n`)
      .join('');
  };
  function plant(folder: string, stand: Stand, uid: number, mode: number): void {
    fs.mkdirSync(join(folder, 'new'), { recursive: true });
    fs.writeFileSync(join(folder, 'journal'), orders(stand));
    fs.writeFileSync(join(folder, 'owner'), JSON.stringify({ pid: 1, boot: 'another', namespace: '' }));
    for (const path of ['journal', 'owner', 'new', '']) fs.chownSync(join(folder, path), uid, uid);
    fs.chmodSync(folder, mode);
  }

  it.skipIf(!isRoot).each([
    ['of another user', UID, 0o700],
    ['open to others', 0, 0o755],
    ['open to a group', 0, 0o770],
  ])('a journal %s is refused, not obeyed', async (_what, uid, mode) => {
    const stand = makeStand();
    plant(join(stand.root, '.ddbg-overlay'), stand, uid, mode);
    const before = treeOf(stand.root);
    const error = await stand.apply(patchOf(stand)).catch((reason: unknown) => reason);
    expect(error).toMatchObject({
      code: 'DDBG_WRITE',
      message: expect.stringMatching(/belongs to uid .*not to us alone/),
    });
    expect(() => stand.revert()).toThrow(/not to us alone/);
    expect(treeOf(stand.root)).toEqual(before);
  });

  it
    .skipIf(!isRoot)
    .each([
      '.ddbg-overlay-old-aaaaaaaaaaaa',
      '.ddbg-overlay-new-4194305-1-bbbbbbbbbbbb',
      '.ddbg-overlay-cccccccccccc',
    ])('what looks like our leavings, %s, gives no orders', async (name) => {
    const stand = makeStand();
    const outside = stand.file('victim', 'outside');
    fs.utimesSync(outside, 1_400_000_000, 1_400_000_000);
    const folder = join(stand.root, name);
    plant(folder, stand, UID, 0o700);
    const line = { times: [[outside, { atime: 1, mtime: 1 }]] };
    fs.writeFileSync(join(folder, 'journal'), `${JSON.stringify(line)}\n`);
    const conf = fs.statSync(join(stand.root, 'etc/app.conf')).ino;
    await stand.apply(stand.file('p.tar', tarOf({ name: 'etc/n', content: 'new' }))).catch(() => undefined);
    expect(fs.statSync(outside).mtimeMs).toBe(1_400_000_000_000);
    expect(fs.statSync(join(stand.root, 'etc/app.conf')).ino).toBe(conf);
  });

  it.each(['not JSON at all\n', '{"times":7}\n', '[]\n', 'null\n', '{"steps":[{"do":"add"}]}\n'])(
    'a journal of our own that is damaged (%j) ends in an error, not in a change',
    async (text) => {
      const stand = makeStand();
      const folder = join(stand.root, '.ddbg-overlay');
      fs.mkdirSync(folder, { mode: 0o700 });
      fs.writeFileSync(join(folder, 'journal'), text, { mode: 0o600 });
      const names = ['etc/app.conf', 'usr/bin/tool'].map((name) => fs.statSync(join(stand.root, name)).ino);
      const outcome = await stand
        .apply(stand.file('p.tar', tarOf({ name: 'etc/n', content: 'n' })))
        .catch((reason: unknown) => reason);
      if (outcome instanceof Error) expect(outcome).toMatchObject({ name: 'EntryError', code: 'DDBG_WRITE' });
      expect(['etc/app.conf', 'usr/bin/tool'].map((name) => fs.statSync(join(stand.root, name)).ino)).toEqual(
        names,
      );
    },
  );

  it.each(['/tmp', 'etc', 'nowhere'])('a symlink named as our folder, to %s, is refused', async (target) => {
    const stand = makeStand();
    fs.symlinkSync(target, join(stand.root, '.ddbg-overlay'));
    const before = treeOf(stand.root);
    const error = await stand.apply(patchOf(stand)).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ name: 'EntryError', code: 'DDBG_WRITE' });
    expect(treeOf(stand.root)).toEqual(before);
  });

  it('a file named as our folder is refused', async () => {
    const stand = makeStand();
    fs.writeFileSync(join(stand.root, '.ddbg-overlay'), 'x');
    const before = treeOf(stand.root);
    await expect(stand.apply(patchOf(stand))).rejects.toMatchObject({
      name: 'EntryError',
      code: 'DDBG_WRITE',
    });
    expect(treeOf(stand.root)).toEqual(before);
  });

  it('symlinks in a circle, and links out of the root, are followed as in a chroot', async () => {
    const stand = makeStand();
    fs.symlinkSync('b', join(stand.root, 'opt/a'));
    fs.symlinkSync('a', join(stand.root, 'opt/b'));
    const circle = stand.file('c.tar', tarOf({ name: 'opt/a/x', content: 'x' }));
    expect((await stand.refused(circle, 'DDBG_UNSAFE')).message).toMatch(/round in a circle/);
    fs.symlinkSync('/../../../etc', join(stand.root, 'opt/up'));
    await stand.apply(stand.file('u.tar', tarOf({ name: 'opt/up/inside', content: 'x' })));
    expect(stand.read('etc/inside')).toBe('x');
  });

  it.skipIf(!isRoot)("a place in a folder with the sticky bit is its owner's", async () => {
    const stand = makeStand();
    const folder = join(stand.root, 'var/tmp');
    fs.mkdirSync(folder);
    fs.chmodSync(folder, 0o1777);
    fs.writeFileSync(join(folder, 'roots'), 'of root', { mode: 0o666 });
    const source = {
      location: stand.file('p.tar', tarOf({ name: 'var/tmp/roots', content: 'new' })),
      strip: 0,
    };
    const before = treeOf(stand.root);
    const [outcome] = await runAsUser(stand, { apply: [source] });
    expect(outcome).toMatchObject({ code: 'DDBG_WRITE', message: expect.stringContaining('sticky') });
    expect(treeOf(stand.root)).toEqual(before);
  });
});
