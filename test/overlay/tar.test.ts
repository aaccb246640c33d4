import { spawnSync } from 'node:child_process';
import {
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { create } from 'tar';
import { describe, expect, it } from 'vitest';
import { encodeName } from '../../src/overlay/octets.ts';
import { paxHeader, paxRecord, TAR_END, type TarPart, tarOf, tarPart } from './archives.ts';
import { hasTool, type Item, makePlace, read, refused, run } from './reading.ts';
import { isRoot, makeStand } from './stand.ts';
import { treeOf } from './trees.ts';

const good = { name: 'etc/new.conf', content: 'new\n' };

describe('what it reads', () => {
  it('files, directories, links, modes and mtimes, from tar and from tar.gz', async () => {
    for (const pack of [(plain: Buffer) => plain, (plain: Buffer) => gzipSync(plain)]) {
      const stand = makeStand();
      const tar = tarOf(
        { name: './', type: '5', mode: 0o700 },
        { name: './opt/new/', type: '5', mode: 0o1750, mtime: 1_400_000_000 },
        { name: './opt/new/file', content: 'hello', mode: 0o604, mtime: 1_300_000_000 },
        { name: './opt/new/hard', type: '1', link: './opt/new/file' },
        { name: './opt/new/soft', type: '2', link: '../../../../etc/passwd', mtime: 1_200_000_000 },
        { name: './opt/new/empty' },
      );
      const report = await stand.apply(stand.file('p.tar', pack(tar)));
      const at = (name: string): string => join(stand.root, 'opt/new', name);
      expect(readFileSync(at('file'), 'utf8')).toBe('hello');
      expect(statSync(at('file')).mode & 0o7777).toBe(0o604);
      expect(statSync(at('file')).mtimeMs).toBe(1_300_000_000_000);
      expect(statSync(at('hard')).ino).toBe(statSync(at('file')).ino);
      expect(readlinkSync(at('soft'))).toBe('../../../../etc/passwd');
      expect(lstatSync(at('soft')).mtimeMs).toBe(1_200_000_000_000);
      expect(statSync(at('')).mode & 0o7777).toBe(0o1750);
      expect(statSync(at('')).mtimeMs).toBe(1_400_000_000_000);
      expect(statSync(stand.root).mode & 0o7777).toBe(0o755); // `./` with 0700 is not for us
      expect(report.sources[0]).toMatchObject({ files: 3, directories: 1, symlinks: 1, bytesWritten: 5 });
    }
  });

  it.each(['v7', 'ustar', 'gnu', 'pax'])('what GNU tar writes as %s, to the last bit', async (format) => {
    const stand = makeStand();
    const source = join(stand.workDir, '..', 'source');
    const long =
      { v7: 'short', ustar: `${'long-'.repeat(17)}/x` }[format] ??
      `${'long-'.repeat(20)}/${'name-'.repeat(15)}`;
    mkdirSync(join(source, 'opt/tree', long), { recursive: true });
    writeFileSync(join(source, 'opt/tree', long, 'größe.txt'), 'x'.repeat(70_000), { mode: 0o640 });
    symlinkSync(`${long}/größe.txt`, join(source, 'opt/tree/link'));
    const path = join(stand.workDir, '..', 'p.tar');
    expect(spawnSync('tar', [`--format=${format}`, '-C', source, '-cf', path, 'opt']).status).toBe(0);
    await stand.apply(path);
    const [expected, actual] = [join(source, 'opt/tree'), join(stand.root, 'opt/tree')].map((tree) =>
      Object.entries(treeOf(tree, { inodes: false })).map(([name, { mtimeUs, ...node }]) => ({
        name,
        ...node,
        mtime: mtimeUs?.slice(0, -6),
      })),
    );
    expect(actual).toEqual(expected);
  });

  it('what node-tar writes', async () => {
    const stand = makeStand();
    const source = join(stand.workDir, '..', 'source');
    mkdirSync(join(source, 'etc'), { recursive: true });
    writeFileSync(join(source, 'etc/app.conf'), 'by node-tar');
    const path = join(stand.workDir, '..', 'p.tgz');
    await create({ gzip: true, cwd: source, file: path }, ['.']);
    await stand.apply(path);
    expect(stand.read('etc/app.conf')).toBe('by node-tar');
  });

  it('a header extension cut by any chunk, in the middle of a character', async () => {
    const stand = makeStand();
    const name = `opt/${'é'.repeat(120)}/${'ü'.repeat(100)}`;
    const parts = [
      good,
      paxHeader({ path: name, comment: 'ö'.repeat(150_000) }),
      { name: 'short', content: 'long name' },
    ];
    for (const pad of [0, 1]) {
      const filler = { name: 'opt/filler', content: 'x'.repeat(512 * 250 + pad * 512) };
      await stand.apply(stand.file('p.tgz', gzipSync(tarOf(filler, ...parts))));
      expect(stand.read(name)).toBe('long name');
    }
  });

  it('a long name whose short form ends in the middle of a character', async () => {
    const stand = makeStand();
    const name = `opt/${'é'.repeat(80)}`;
    const cut = Buffer.from(name).subarray(0, 99);
    for (const extension of [paxHeader({ path: name }), { name: 'L', type: 'L', content: `${name}\0` }]) {
      await stand.apply(stand.file('p.tar', tarOf(extension, { name: cut, content: extension.type ?? '' })));
      expect(stand.read(name)).toBe(extension.type);
    }
  });

  it('several gzip members, and zeros after the end', async () => {
    const stand = makeStand();
    const tar = tarOf(good);
    const members = Buffer.concat([
      gzipSync(tar.subarray(0, 700)),
      gzipSync(tar.subarray(700)),
      Buffer.alloc(300_000),
    ]);
    await stand.apply(stand.file('p.tgz', members));
    await stand.apply(stand.file('p.tar', Buffer.concat([tar, Buffer.alloc(20_000)])));
    expect(stand.read('etc/new.conf')).toBe('new\n');
  });

  it('of two entries with one name the later one', async () => {
    const stand = makeStand();
    await stand.apply(
      stand.file('p.tar', tarOf({ ...good, content: 'first' }, { ...good, content: 'second' })),
    );
    expect(stand.read('etc/new.conf')).toBe('second');
  });

  it('a comment in a global header, as git archive writes it', async () => {
    const stand = makeStand();
    await stand.apply(stand.file('p.tar', tarOf(paxHeader({ comment: 'f'.repeat(40) }, 'g'), good)));
    expect(stand.read('etc/new.conf')).toBe('new\n');
  });
});

describe('what it reads, byte for byte', () => {
  const latin = (text: string): Buffer => Buffer.from(text, 'latin1');
  const readParts = async (...parts: TarPart[]): Promise<Item[]> => {
    const path = join(makePlace(), 'p.tar');
    writeFileSync(path, tarOf(...parts));
    return read(path);
  };

  it('names and targets that are no UTF-8, from a header, a prefix, a long name and an extension', async () => {
    const long = `${'d'.repeat(120)}/caf\xe9`;
    const items = await readParts(
      { name: latin('etc/caf\xe9'), content: 'x' },
      { name: latin('\xe9'), change: (header) => latin('pr\xe4fix').copy(header, 345) },
      { name: 'L', type: 'L', content: latin(`${long}\0`) },
      { name: 'K', type: 'K', content: latin('t\xe9\0') },
      { name: 'cut', type: '2', link: 'cut' },
      paxHeader({ path: latin(long), linkpath: latin('\xff\xfe'), hdrcharset: 'BINARY' }),
      { name: 'cut', type: '2', link: 'cut' },
      paxHeader({ path: Buffer.from('€'.repeat(60)) }),
      { name: Buffer.from('€'.repeat(60)).subarray(0, 100), content: 'y' },
      { name: 'h', type: '1', link: latin('etc/caf\xe9') },
      paxHeader({ path: Buffer.from([0x61, 0xf0, 0x9f, 0x98, 0x2f]) }), // node-tar: one U+FFFD, of the same length
      { name: 'cut/', type: '5' },
    );
    const name = (text: string): string => encodeName(text).toString('latin1');
    expect(items.map((item) => [name(item.name), name(item.linkTarget ?? '')])).toEqual([
      ['etc/caf\xe9', ''],
      ['pr\xe4fix/\xe9', ''],
      [long, 't\xe9'],
      [long, '\xff\xfe'],
      [Buffer.from('€'.repeat(60)).toString('latin1'), ''],
      ['h', 'etc/caf\xe9'],
      ['a\xf0\x9f\x98/', ''],
    ]);
  });

  it('times to the microsecond, before 1970 too', async () => {
    const times = ['1.5', '1300000000.123456789', '-1.25', '-1.0000001', '0', '17', '-0.000001'];
    const items = await readParts(...times.flatMap((mtime) => [paxHeader({ mtime }), good]));
    expect(items.map(({ mtimeMs }) => mtimeMs)).toEqual([
      1500, 1_300_000_000_123.456, -1250, -1000.001, 0, 17_000, -0.001,
    ]);
  });

  it('numbers in base 256, in every field', async () => {
    const base256 = (value: bigint, start: number, length: number) => (header: Buffer) => {
      const bits = BigInt.asUintN(length * 8 - 1, value)
        .toString(16)
        .padStart(length * 2, '0');
      Buffer.from(bits, 'hex').copy(header, start);
      header[start] = (header[start] ?? 0) | 0x80 | (value < 0n ? 0xff : 0);
    };
    const items = await readParts(
      { ...good, change: base256(-86_400n, 136, 12) },
      { ...good, change: base256(8_589_934_592n, 136, 12) },
      { ...good, change: base256(4_000_000_000n, 108, 8) },
      { ...good, change: base256(3_000_000_000n, 116, 8) },
      { ...good, change: base256(4n, 124, 12) },
      { ...good, change: base256(0o751n, 100, 8) },
    );
    expect(items[0]?.mtimeMs).toBe(-86_400_000);
    expect(items[1]?.mtimeMs).toBe(8_589_934_592_000);
    expect([items[2]?.uid, items[3]?.gid]).toEqual([4_000_000_000, 3_000_000_000]);
    expect([items[4]?.size, items[5]?.mode]).toEqual([4, 0o751]);
  });

  it('owners, from a header and from an extension', async () => {
    const items = await readParts(
      { ...good, uid: 1000, gid: 50 },
      paxHeader({ uid: '4294967294', gid: '3000000' }),
      good,
      { ...good, change: (header) => header.fill(0, 100, 124).fill(0, 136, 148) },
    );
    expect(items.map(({ uid, gid }) => [uid, gid])).toEqual([
      [1000, 50],
      [4_294_967_294, 3_000_000],
      [undefined, undefined],
    ]);
    expect(items[2]).toMatchObject({ mode: undefined, mtimeMs: undefined });
  });

  it('what it drops of an entry, each once', async () => {
    const records = {
      'SCHILY.xattr.security.capability': Buffer.from([1, 0, 0, 2, 0xff]),
      'SCHILY.xattr.user.größe': 'x',
      'LIBARCHIVE.xattr.security.capability': 'AQAA',
      'SCHILY.acl.access': 'user::rwx,group::r-x',
      'RHT.security.selinux': 'system_u',
      'SCHILY.dev': '1',
    };
    const items = await readParts(paxHeader(records), good, good);
    expect(items.map(({ dropped }) => dropped)).toEqual([
      ['security.capability', 'user.größe', 'system.posix_acl_access', 'security.selinux'],
      undefined,
    ]);
  });

  it.runIf(isRoot && hasTool('setcap'))('a capability, as GNU tar writes it', async () => {
    const place = makePlace();
    writeFileSync(join(place, 'ping'), 'x');
    if (spawnSync('setcap', ['cap_net_raw+ep', join(place, 'ping')]).status !== 0) return;
    run('tar', ['--xattrs', '--xattrs-include=*', '--format=pax', '-cf', 'p.tar', 'ping'], place);
    const outcome = await read(join(place, 'p.tar')).catch((error: unknown) => error as Error);
    if (outcome instanceof Error) expect(outcome.message).toMatch(/newline in SCHILY\.xattr\.security/);
    else expect(outcome[0]?.dropped).toEqual(['security.capability']);
  });

  it('the way out of a newline that cannot be read in one way', async () => {
    const path = join(makePlace(), 'p.tar');
    writeFileSync(path, tarOf(paxHeader({ path: `${'x'.repeat(120)}\n16 path=../evil` }), good));
    const error = await refused(path);
    expect(error.message).toMatch(/newline in path/);
    expect(error.hint).toMatch(/--format=gnu/);
  });

  it('a path of 100,000 levels in no time', async () => {
    const started = process.cpuUsage(); // not the clock: others may have the processor
    const [item] = await readParts(paxHeader({ path: `${'a/'.repeat(100_000)}b` }), good);
    expect(item?.name).toHaveLength(200_001);
    const wild = Buffer.alloc(500_000, 0xff);
    const [other] = await readParts(paxHeader({ path: wild }), good);
    expect(encodeName(other?.name ?? '').equals(wild)).toBe(true);
    expect(process.cpuUsage(started).user / 1000).toBeLessThan(3000);
  });
});

const damaged = (spoil: (header: Buffer) => void) => tarOf(good, { name: 'etc/x', content: 'x', spoil });

describe('what it refuses, the root as it was', () => {
  it.each<[string, Buffer, RegExp]>([
    ['a gzip that is cut', gzipSync(tarOf(good)).subarray(0, -5), /truncated/],
    ['a gzip with a wrong checksum', spoilt(gzipSync(tarOf(good)), -6), /damaged/],
    [
      'a gzip with something after it',
      Buffer.concat([gzipSync(tarOf(good)), Buffer.from('junk')]),
      /damaged/,
    ],
    [
      'a gzip with something after zeros',
      Buffer.concat([gzipSync(tarOf(good)), Buffer.alloc(99), Buffer.from('junk')]),
      /follows the end/,
    ],
    ['a gzip of a page', gzipSync('<html></html>'.padEnd(600)), /in the gzip file is no tar archive.*HTML/],
    ['a gzip of a gzip', gzipSync(gzipSync(tarOf(good, { name: 'x', content: noise(2000) }))), /once more/],
    ['a gzip of almost nothing', gzipSync('hi'), /only 2 bytes/],
    [
      'a tar that ends in a file',
      tarOf({ ...good, content: 'x'.repeat(2000) }).subarray(0, 1024),
      /truncated.*middle/,
    ],
    ['a tar that ends between files', tarPart(good), /truncated.*two zero blocks/],
    ['a wrong checksum', damaged((header) => header.write('y', 4)), /checksum/],
    ['something after the end', Buffer.concat([tarOf(good), tarOf(good)]), /follows the end/],
    [
      'a header extension that does not add up',
      tarOf({ name: 'p', type: 'x', content: '99 path=x\n' }, good),
      /add up/,
    ],
    [
      'a header extension with a newline',
      tarOf({ name: 'p', type: 'x', content: paxRecord('SCHILY.xattr.user.x', 'a\n16 path=../evil') }, good),
      /newline/,
    ],
    ['a NUL in a path', tarOf(paxHeader({ path: 'etc/a\0b' }), good), /NUL/],
    ['a global path', tarOf(paxHeader({ path: 'etc/x' }, 'g'), good), /global/],
    ['a global linkpath', tarOf(paxHeader({ linkpath: '/etc/x' }, 'g'), good), /global/],
    ['an empty path', tarOf(paxHeader({ path: '' }), good), /an empty path/],
    ['a global owner', tarOf(paxHeader({ uid: '0' }, 'g'), good), /global.*uid/],
    ['a time that is none', tarOf(paxHeader({ mtime: '1e9' }), good), /mtime=1e9/],
    ['an owner that is none', tarOf(paxHeader({ uid: '-2' }), good), /uid=-2/],
    [
      'an owner that Linux has not',
      tarOf(paxHeader({ uid: '4294967295' }), good),
      /owner that Linux has not/,
    ],
    ['a size that is none', tarOf(paxHeader({ size: '5x' }), good), /size=5x/],
    [
      'a mode that is none',
      tarOf({ ...good, change: (header) => header.write('000z644\0', 100) }),
      /mode that cannot be read|two ways/,
    ],
    [
      'a negative size',
      tarOf({ ...good, change: (header) => header.fill(0xff, 124, 136) }),
      /size that cannot be read/,
    ],
    [
      'a negative owner',
      tarOf({ ...good, change: (header) => header.fill(0xff, 108, 116) }),
      /owner that Linux has not, -1/,
    ],
    ['a link without a target', tarOf({ name: 'etc/l', type: '2' }), /symlink without a target/],
    ['a file with a target', tarOf({ ...good, link: 'etc/x' }), /file with a target/],
    ['a header extension without its entry', tarOf(good, paxHeader({ path: 'etc/x' })), /without its entry/],
    [
      'a directory with content',
      tarOf({ name: 'etc/d/', type: '5', content: 'x' }),
      /directory with content/,
    ],
    [
      'a name that reads in two ways',
      damaged((header) => restamp(header, () => header.write('etc/x\0\nevil', 0))),
      /two ways/,
    ],
    ['an old sparse file', tarOf({ name: 'etc/x', type: 'S', content: 'x' }), /sparse/],
    ['a new sparse file', tarOf(paxHeader({ 'GNU.sparse.major': '1' }), good), /sparse/],
    ['an unknown type', tarOf({ name: 'etc/x', type: 'Q' }), /unknown type "Q"/],
    ['a volume label', tarOf({ name: 'label', type: 'V' }, good), /volume label/],
    [
      'a link with content',
      tarOf(good, { name: 'etc/l', type: '1', link: good.name, content: 'x' }),
      /hardlink with content/,
    ],
    [
      'a header extension that is too large',
      tarOf({ name: 'p', type: 'x', content: paxRecord('comment', 'x'.repeat(1_100_000)) }, good),
      /metaBytes/,
    ],
    ['nothing at all', TAR_END, /holds nothing/],
  ])('%s', async (_what, content, why) => {
    const stand = makeStand();
    const error = await stand.refused(stand.file('p', content), 'DDBG_ARCHIVE');
    expect(error.message).toMatch(why);
  });

  it.each<[string, TarPart[], RegExp]>([
    ['..', [{ name: '../evil', content: 'x' }], /'\.\.'/],
    ['.. below', [{ name: 'etc/../../evil', content: 'x' }], /'\.\.'/],
    ['.. by a long name', [{ name: 'L', type: 'L', content: '../evil\0' }, good], /'\.\.'/],
    ['.. by an extension', [paxHeader({ path: 'etc/../../evil' }), good], /'\.\.'/],
    ['.. by a prefix', [{ name: 'evil', prefix: '..', content: 'x' }], /'\.\.'/],
    ['an absolute name', [{ name: '/etc/app.conf', content: 'x' }], /absolute/],
    ['a character device', [good, { name: 'dev/null0', type: '3' }], /character device/],
    ['a block device', [good, { name: 'dev/sda0', type: '4' }], /block device/],
    ['a FIFO', [good, { name: 'opt/pipe', type: '6' }], /FIFO/],
    ['a file of aufs', [good, { name: 'etc/.wh..wh.plnk' }], /aufs/],
    ['a folder like a whiteout', [good, { name: '.wh.etc/x', content: 'x' }], /\.wh\./],
    [
      'a hard link out of the archive',
      [good, { name: 'etc/shadow', type: '1', link: 'etc/app.conf' }],
      /no file earlier/,
    ],
    [
      'a hard link upwards',
      [good, { name: 'etc/shadow', type: '1', link: '../../etc/shadow' }],
      /no file earlier/,
    ],
    [
      'a hard link to a symlink',
      [
        { name: 'etc/s', type: '2', link: '/etc/shadow' },
        { name: 'etc/h', type: '1', link: 'etc/s' },
      ],
      /no file earlier/,
    ],
    [
      'a hard link to a file that comes twice',
      [good, { name: 'etc/h', type: '1', link: good.name }, good],
      /twice/,
    ],
    [
      'below a symlink of its own',
      [
        { name: 'opt/l', type: '2', link: '/etc' },
        { name: 'opt/l/evil', content: 'x' },
      ],
      /archive makes something else/,
    ],
    [
      'below a file of its own',
      [
        { name: 'opt/f', content: 'x' },
        { name: 'opt/f/g', content: 'x' },
      ],
      /archive makes something else/,
    ],
    [
      'a symlink over a directory of its own',
      [
        { name: 'opt/d/x', content: 'x' },
        { name: 'opt/d', type: '2', link: '/etc' },
      ],
      /directory and something else/,
    ],
    [
      'a file and a directory of one name',
      [
        { name: 'opt/d/', type: '5' },
        { name: 'opt/d', content: 'x' },
      ],
      /twice/,
    ],
    [
      'a name of 300 bytes',
      [{ name: 'L', type: 'L', content: `etc/${'x'.repeat(300)}\0` }, good],
      /255 bytes/,
    ],
    ['a deep tree', [paxHeader({ path: `${'opt/'.repeat(200)}x` }), good], /folders deep/],
  ])('%s', async (_what, parts, why) => {
    const stand = makeStand();
    const error = await stand.refused(
      stand.file('p.tar', tarOf({ name: 'usr/bin/first', content: 'x' }, ...parts)),
      'DDBG_UNSAFE',
    );
    expect(error.message).toMatch(why);
    expect(error.hint).toBeDefined();
  });

  it.each([
    [{ entries: 2 }, /2 entries/],
    [{ unpackedBytes: 5000 }, /unpacked-bytes/],
    [{ fileBytes: 1000 }, /file-bytes/],
  ])('more than the limit %j', async (limits, why) => {
    const stand = makeStand();
    const parts = [good, { name: 'etc/b', content: 'b' }, { name: 'etc/c', content: 'c'.repeat(4000) }];
    const error = await stand.refused(stand.file('p.tgz', gzipSync(tarOf(...parts))), 'DDBG_ARCHIVE', {
      limits,
    });
    expect(error.message).toMatch(why);
  });
});

function spoilt(content: Buffer, at: number): Buffer {
  const copy = Buffer.from(content);
  const index = copy.length + at;
  copy[index] = (copy[index] ?? 0) ^ 1;
  return copy;
}

function noise(length: number): Buffer {
  return Buffer.from(Array.from({ length }, (_, index) => (index * 7919 + (index >> 3) * 31) & 0xff));
}

/** Changes a header and makes its checksum right again. */
function restamp(header: Buffer, change: () => void): void {
  change();
  header.fill(0x20, 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
}
