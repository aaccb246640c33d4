/**
 * The same archives read by us and by everybody else: the trees are equal, or we refuse and say why. Where our rules
 * make us differ on purpose, the test says so.
 */
import * as fs from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { create } from 'tar';
import { describe, expect, it } from 'vitest';
import { EntryError } from '../../src/errors.ts';
import { paxHeader, type TarPart, tarOf, tarPart, type ZipPart, zipOf } from './archives.ts';
import { type Holds, makeOddTree } from './oddities.ts';
import {
  asOurs,
  BSDTAR,
  comparable,
  emptyRoot,
  GNU_TAR,
  GNU_TAR_CAREFUL,
  type Other,
  outcomeOf,
  PYTHON_TAR,
  PYTHON_ZIP,
  present,
  type Rules,
  UNZIP,
  UNZIPPER,
} from './others.ts';
import { hasTool, makePlace, run } from './reading.ts';
import { isRoot, makeStand, type Source, sha256 as sha256Of } from './stand.ts';
import { ageTree, furnish, type Tree, type TreeNode, treeOf } from './trees.ts';

const AS_IT_IS: Rules = isRoot ? { setuid: 'keep', owner: 'archive' } : { setuid: 'keep' };
const TAR_READERS = present(GNU_TAR, BSDTAR, PYTHON_TAR);
const ZIP_READERS = present(UNZIP, BSDTAR, PYTHON_ZIP, UNZIPPER);

interface Options extends Rules {
  readonly sha256?: string | undefined;
}

/** Onto an empty root, every name as the archive has it. */
async function ours(archive: string, options: Options, root = emptyRoot()): Promise<Tree> {
  const stand = makeStand();
  await stand.apply([{ location: archive, strip: 0, ...options } as Source], { root });
  return treeOf(root, { inodes: false });
}

/** Without complaints of theirs, and under our rules as well as with everything taken over. */
async function expectSame(archive: string, others: readonly Other[], options: Options = {}): Promise<Tree> {
  const since = Date.now() - 100;
  const trees = new Map<Rules, Tree>();
  for (const rules of [{}, AS_IT_IS])
    trees.set(rules, asOurs(await ours(archive, { ...options, ...rules }), AS_IT_IS, since));
  for (const other of others) {
    const { said, tree } = await outcomeOf(other, archive);
    expect(said, other.name).toBe('');
    for (const [rules, whole] of trees) {
      const [mine, theirs] = comparable(whole, asOurs(tree, rules, since), other);
      expect(mine, other.name).toEqual(theirs);
    }
  }
  return trees.get(AS_IT_IS) as Tree;
}

/** Against what was packed: names, types, contents, targets, modes, owners; links and times as far as the format goes. */
function expectPacked(
  tree: Tree,
  place: string,
  grainUs: number,
  hasHardLinks: boolean,
  lost: readonly (keyof TreeNode)[] = [],
): void {
  const packed = asOurs(treeOf(place, { inodes: false, without: NOT_PACKED }), AS_IT_IS, Number.NaN);
  const near: Other = {
    ...GNU_TAR,
    nearUs: grainUs,
    without: () => [...lost, ...(hasHardLinks ? [] : (['group', 'links'] as const))],
  };
  const [mine, theirs] = comparable(tree, packed, near);
  expect(mine).toEqual(theirs);
}
const isExact = (other: Other): boolean => other !== BSDTAR;
const NOT_PACKED = ['p.tar', 'p.zip'];
const SECOND_US = 999_999;

interface Writer {
  readonly what: string;
  readonly tool: string;
  readonly holds: Holds;
  /** How exact its times are. */
  readonly grainUs: number;
  readonly isPax?: boolean;
  /** What it does not write as it is. */
  readonly lost?: readonly (keyof TreeNode)[];
  /** Writes `opt` of `place`, from within it, to p.tar or p.zip. */
  readonly pack: (place: string) => unknown;
}

const bySh = (command: string) => (place: string) => run('sh', ['-c', command], place);
const byPython = (program: string) => (place: string) => run('python3', ['-c', program], place);
const V7: Holds = { long: false, wideIds: false, times: 'octal' };
const USTAR: Holds = { long: false, wideIds: false, times: 'octal' };

const TAR_WRITERS: readonly Writer[] = [
  ...(
    [
      ['v7', V7, SECOND_US],
      ['ustar', USTAR, SECOND_US],
      ['oldgnu', {}, SECOND_US],
      ['gnu', {}, SECOND_US],
      ['pax', {}, 0],
    ] as const
  ).map(([format, holds, grainUs]) => ({
    what: `GNU tar, ${format}`,
    tool: 'tar',
    holds,
    grainUs,
    isPax: format === 'pax',
    pack: bySh(`tar --format=${format} -cf p.tar opt`),
  })),
  ...(
    [
      ['v7', V7, SECOND_US],
      ['ustar', USTAR, SECOND_US],
      ['gnutar', { times: 'octal' }, SECOND_US],
      // Before 1970 it writes -2.75 for what is -1.25.
      ['rpax', { times: 'whole' }, SECOND_US],
      ['pax', { times: 'whole' }, 0],
    ] as const
  ).map(([format, holds, grainUs]) => ({
    what: `bsdtar, ${format}`,
    tool: 'bsdtar',
    holds,
    grainUs,
    isPax: format.endsWith('pax'),
    pack: bySh(`bsdtar --format=${format} -cf p.tar opt`),
  })),
  ...(
    [
      ['USTAR', USTAR, SECOND_US],
      ['GNU', {}, SECOND_US],
      ['PAX', {}, 3],
    ] as const
  ).map(([format, holds, grainUs]) => ({
    what: `python, ${format}`,
    tool: 'python3',
    holds,
    grainUs,
    isPax: format === 'PAX',
    pack: byPython(`
import tarfile
with tarfile.open('p.tar', 'w', format=tarfile.${format}_FORMAT) as tar: tar.add('opt')`),
  })),
  {
    what: 'node-tar',
    tool: 'node',
    holds: { bytes: false, times: 'octal' },
    grainUs: SECOND_US,
    isPax: true,
    lost: ['mode'], // it lets whoever may read a folder enter it
    // Not in turns: with this tree it then never ends (7.5.23, jobs: 4).
    pack: (place) => create({ cwd: place, file: join(place, 'p.tar'), sync: true }, ['opt']),
  },
];

describe('tar: the tree that GNU tar, bsdtar and python make, from what', () => {
  it.each(TAR_WRITERS.filter(({ tool }) => hasTool(tool)))(
    '$what writes',
    async ({ holds, pack, grainUs, isPax, lost }) => {
      const place = makePlace();
      makeOddTree(place, holds);
      await pack(place);
      const tree = await expectSame(join(place, 'p.tar'), isPax ? TAR_READERS.filter(isExact) : TAR_READERS);
      expectPacked(tree, place, grainUs, true, lost);
    },
  );

  // It brings names in PAX into NFC, so that of two twins one is lost; it has no names there that are no UTF-8; and it
  // reads -1.25 as -0.75.
  it.each(TAR_WRITERS.filter(({ tool, isPax }) => isPax === true && hasTool(tool)))(
    '$what writes, read by bsdtar too',
    async ({ holds, pack, grainUs, lost }) => {
      const place = makePlace();
      makeOddTree(place, { times: 'whole', ...holds, bytes: false, twins: false });
      await pack(place);
      expectPacked(await expectSame(join(place, 'p.tar'), TAR_READERS), place, grainUs, true, lost);
    },
  );
});

const packTree = (place: string, holds: Holds = {}): void => {
  makeOddTree(place, holds);
  run('tar', ['--format=gnu', '-cf', 'p.tar', 'opt'], place);
};

describe('packed tar: the tree that GNU tar and bsdtar make', () => {
  it.each([
    ['gzip', 'gzip -c p.tar > p'],
    [
      'gzip in members, as pigz -i and bgzip write',
      'split -n 4 p.tar m. && for m in m.*; do gzip -c $m; done > p',
    ],
    ['zstd', 'zstd -qc p.tar > p'],
    ['xz', 'xz -T2 --block-size=40000 -c p.tar > p'],
    ['bzip2', 'bzip2 -c p.tar > p'],
    ['bzip2 in streams, as pbzip2 writes', 'split -n 4 p.tar m. && for m in m.*; do bzip2 -c $m; done > p'],
  ])('of %s', async (what, command) => {
    const [tool = ''] = what.split(' ');
    if (!hasTool(tool)) return;
    const place = makePlace();
    packTree(place);
    run('sh', ['-c', command], place);
    // Its checksums are not looked at on Node 20, so there has to be a digest.
    const sha256 = tool === 'zstd' ? sha256Of(fs.readFileSync(join(place, 'p'))) : undefined;
    await expectSame(join(place, 'p'), TAR_READERS.filter(isExact).slice(0, 1).concat(BSDTAR), { sha256 });
  });

  it('of brotli, which none of them reads', async () => {
    if (!hasTool('brotli')) return;
    const place = makePlace();
    packTree(place);
    run('brotli', ['-q', '5', '-o', 'p.tar.br', 'p.tar'], place);
    const packed = await ours(join(place, 'p.tar.br'), AS_IT_IS);
    expect(asOurs(packed, AS_IT_IS, Number.NaN)).toEqual(
      asOurs(await ours(join(place, 'p.tar'), AS_IT_IS), AS_IT_IS, Number.NaN),
    );
  });
});

const ZIP: Holds = { times: 'zip', backslash: false };
const ZIP_WRITERS: readonly Writer[] = [
  ...(
    [
      ['zip', '-qry p.zip opt'],
      ['zip, stored', '-q0ry p.zip opt'],
      ['zip, zip64', '-qry -fz p.zip opt'],
      ['zip, with data descriptors', '-qry - opt > p.zip'],
      ['zip, stored, with data descriptors', '-q0ry - opt > p.zip'],
    ] as const
  ).map(([what, args]) => ({ what, tool: 'zip', holds: ZIP, grainUs: 0, pack: bySh(`zip ${args}`) })),
  // Without extra fields: DOS times, in local time and even seconds, no owners.
  {
    what: 'zip -X',
    tool: 'zip',
    holds: ZIP,
    grainUs: 2 * SECOND_US,
    lost: ['owner'],
    pack: bySh('zip -qryX p.zip opt'),
  },
  {
    what: 'bsdtar, zip',
    tool: 'bsdtar',
    holds: { ...ZIP, bytes: false, twins: false },
    grainUs: 0,
    pack: bySh('bsdtar --format=zip -cf p.zip opt'),
  },
];

describe('zip: the tree that unzip, bsdtar, python and unzipper make, from what', () => {
  it.each(ZIP_WRITERS.filter(({ tool }) => hasTool(tool)))(
    '$what writes',
    async ({ holds, pack, grainUs, lost }) => {
      const place = makePlace();
      makeOddTree(place, holds);
      pack(place);
      const tree = await expectSame(join(place, 'p.zip'), ZIP_READERS);
      expectPacked(tree, place, grainUs, false, lost);
    },
  );
});

describe('git archive: the tree that others make', () => {
  it.each(['tar', 'zip'] as const)('%s, with a prefix', async (format) => {
    const place = makePlace();
    makeOddTree(place, format === 'tar' ? {} : { backslash: false, bytes: false, twins: false });
    const git = (...args: string[]): Buffer =>
      run('git', ['-c', 'user.name=x', '-c', 'user.email=x@x', ...args], place);
    git('init', '-q');
    git('add', 'opt');
    git('commit', '-qm', 'x', '--date=2020-01-01T00:00:00Z');
    git('archive', `--format=${format}`, '--prefix=patch-1.0/', '-o', `p.${format}`, 'HEAD');
    const archive = join(place, `p.${format}`);
    if (format === 'tar') {
      // bsdtar has no names in PAX that are no UTF-8, and one of two twins.
      await expectSame(archive, TAR_READERS.filter(isExact));
      return;
    }
    // Plain files have mode 0 there. unzip takes that as it is, and bsdtar makes 0664 of it: we make them 0644.
    const withoutModes = ZIP_READERS.map(
      (other): Other => ({ ...other, without: (node) => [...other.without(node), 'mode'] }),
    );
    const tree = await expectSame(archive, withoutModes);
    const modes = new Set(Object.values(tree).map(({ type, mode }) => `${type} ${mode}`));
    expect(modes).toEqual(new Set(['directory 755', 'file 644', 'file 755', 'symlink 777']));
  });
});

describe("python's zipfile: the tree that others make", () => {
  it.runIf(hasTool('python3'))('stored, deflated, zip64 where none is needed, into a pipe', async () => {
    const program = `
import zipfile
class Pipe:
    def __init__(self, file): self.file = file
    def write(self, data): return self.file.write(data)
    def flush(self): pass
for name, wrap in (('file.zip', lambda file: file), ('pipe.zip', Pipe)):
    with open(name, 'wb') as file, zipfile.ZipFile(wrap(file), 'w') as zip:
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            for large in (False, True):
                for size in (0, 1, 400000):
                    item = zipfile.ZipInfo('opt/%d %s %d gr\u00f6\u00dfe' % (method, large, size), (2020, 1, 2, 3, 4, 6))
                    item.compress_type = method
                    item.external_attr = 0o100640 << 16
                    with zip.open(item, 'w', force_zip64=large) as entry: entry.write(b'x' * size)`;
    const place = makePlace();
    run('python3', ['-c', program], place);
    for (const name of ['file.zip', 'pipe.zip']) {
      // unzip and bsdtar do not read a zip64 entry with a data descriptor whose sizes are not in it: see what they say.
      const tree = await expectSame(
        join(place, name),
        [PYTHON_ZIP, UNZIPPER].concat(name === 'file.zip' ? [UNZIP, BSDTAR] : []),
      );
      expect(Object.keys(tree)).toHaveLength(13);
    }
  });
});

describe('onto a root that has something: the tree that GNU tar makes', () => {
  it('but for the folders that are there, owners of what is replaced, and what is the same already', async () => {
    const place = makePlace();
    makeOddTree(place);
    fs.mkdirSync(join(place, 'bin'));
    fs.mkdirSync(join(place, 'srv/group'), { recursive: true });
    fs.mkdirSync(join(place, 'opt/app'), { mode: 0o700 });
    fs.mkdirSync(join(place, 'etc'), { mode: 0o700 });
    fs.writeFileSync(join(place, 'bin/tool'), 'new tool', { mode: 0o700 });
    fs.writeFileSync(join(place, 'bin/another'), 'another', { mode: 0o755 });
    fs.writeFileSync(join(place, 'etc/app.conf'), 'new conf', { mode: 0o600 });
    fs.writeFileSync(join(place, 'etc/same'), 'the same', { mode: 0o644 });
    fs.writeFileSync(join(place, 'srv/group/one'), 'one of three', { mode: 0o644 });
    fs.linkSync(join(place, 'etc/app.conf'), join(place, 'etc/conf, once more'));
    ageTree(place);
    run('tar', ['--format=pax', '-cf', 'p.tar', 'opt', 'bin', 'etc', 'srv'], place);

    const stand = makeStand();
    furnish(stand.root);
    fs.writeFileSync(join(stand.root, 'etc/same'), 'the same', { mode: 0o644 });
    ageTree(stand.root);
    const before = treeOf(stand.root, { inodes: false });
    const copy = join(place, 'copy');
    run('cp', ['-a', stand.root, copy]);

    await stand.apply([{ location: join(place, 'p.tar'), strip: 0, setuid: 'keep' }]);
    const { said, tree } = await outcomeOf(GNU_TAR_CAREFUL, join(place, 'p.tar'), copy);
    expect(said).toBe('');
    const expected = asOurs(tree, { setuid: 'keep', owner: 'archive' }, Number.NaN);
    for (const [name, node] of Object.entries(expected)) {
      const old = before[name];
      if (old?.type === 'directory' || name === 'etc/same') expected[name] = old as TreeNode;
      else if (old === undefined) node.owner = `${process.geteuid?.()}:${process.getegid?.()}`;
      else node.owner = old.owner as string;
    }
    const { '.': _, ...mine } = treeOf(stand.root, { inodes: false });
    // The originals are kept, and what is kept of a file with several names is one more name of it.
    const but: Other = { ...GNU_TAR_CAREFUL, without: () => ['links'] };
    const [one, two] = comparable(mine, expected, but);
    expect(one).toEqual(two);
    expect(mine).toMatchObject({ bin: { type: 'symlink' }, 'usr/bin/another': { type: 'file' } });
    expect(mine['srv/group/one']).not.toHaveProperty('group');
    expect(mine['srv/group/two']).toMatchObject({ group: 'opt/three' });
  });
});

describe('what is neither tar nor zip is refused by its name', () => {
  it.runIf(hasTool('bsdtar')).each([
    ['newc', /a cpio archive/],
    ['odc', /a cpio archive/],
    ['bin', /a cpio archive/],
    ['7zip', /a 7z file/],
    ['xar', /a xar archive/],
    ['ar', /an ar archive/],
    ['iso9660', /something follows the end/],
    ['mtree', /plain text/],
    ['shar', /a script/],
    ['warc', /plain text/],
  ])('%s', async (format, looksLike) => {
    const place = makePlace();
    fs.writeFileSync(join(place, 'file'), 'content\n');
    run('bsdtar', [`--format=${format}`, '-cf', 'p', 'file'], place);
    const error = await makeStand().refused(join(place, 'p'), 'DDBG_ARCHIVE', { root: emptyRoot() });
    expect(error.message).toMatch(looksLike);
  });
});

const good: TarPart = { name: 'etc/good', content: 'good\n' };

/** What GNU tar and bsdtar say of it: nothing, or something. */
async function saidOf(archive: string, others: readonly Other[]): Promise<Record<string, 'quiet' | 'loud'>> {
  const answers: [string, 'quiet' | 'loud'][] = [];
  for (const other of others)
    answers.push([other.name, (await outcomeOf(other, archive)).said === '' ? 'quiet' : 'loud']);
  return Object.fromEntries(answers);
}

const QUIET = 'quiet';
const LOUD = 'loud';
const base256 =
  (value: bigint, start: number, length: number) =>
  (header: Buffer): void => {
    const digits = BigInt.asUintN(length * 8, value)
      .toString(16)
      .padStart(length * 2, '0');
    Buffer.from(digits, 'hex').copy(header, start);
    header[start] = (header[start] ?? 0) | 0x80;
  };

describe('tar: refused on purpose, whatever GNU tar and bsdtar do', () => {
  it.each<[string, readonly TarPart[], EntryError['code'], RegExp, gnu: string, bsd: string]>([
    ['..', [{ name: 'etc/../evil', content: 'x' }], 'DDBG_UNSAFE', /'\.\.'/, LOUD, LOUD],
    ['an absolute name', [{ name: '/etc/evil', content: 'x' }], 'DDBG_UNSAFE', /absolute/, LOUD, LOUD],
    ['a FIFO', [{ name: 'etc/fifo', type: '6' }], 'DDBG_UNSAFE', /FIFO/, QUIET, QUIET],
    ['a device', [{ name: 'etc/null', type: '3' }], 'DDBG_UNSAFE', /character device/, QUIET, QUIET],
    [
      'a file below a symlink of its own',
      [
        { name: 'etc/l', type: '2', link: 'd' },
        { name: 'etc/d/', type: '5' },
        { name: 'etc/l/x', content: 'x' },
      ],
      'DDBG_UNSAFE',
      /archive makes something else/,
      QUIET,
      LOUD,
    ],
    [
      'a symlink over a directory of its own',
      [
        { name: 'etc/d/', type: '5' },
        { name: 'etc/d', type: '2', link: 'x' },
      ],
      'DDBG_UNSAFE',
      /twice/,
      QUIET,
      QUIET,
    ],
    [
      'a hard link to a symlink',
      [
        { name: 'etc/l', type: '2', link: 'good' },
        { name: 'etc/h', type: '1', link: 'etc/l' },
      ],
      'DDBG_UNSAFE',
      /no file earlier/,
      QUIET,
      QUIET,
    ],
    [
      'a hard link to what comes later',
      [
        { name: 'etc/h', type: '1', link: 'etc/later' },
        { name: 'etc/later', content: 'x' },
      ],
      'DDBG_UNSAFE',
      /no file earlier/,
      LOUD,
      LOUD,
    ],
    [
      'a hard link to a file that comes twice',
      [
        { name: 'etc/h', type: '1', link: good.name },
        { ...good, content: 'again' },
      ],
      'DDBG_UNSAFE',
      /twice/,
      QUIET,
      QUIET,
    ],
    [
      'a sparse file of PAX',
      [paxHeader({ 'GNU.sparse.size': '1024', 'GNU.sparse.numblocks': '0' }), { name: 'etc/s' }],
      'DDBG_ARCHIVE',
      /sparse/,
      QUIET,
      QUIET,
    ],
    ['a whiteout that names nothing', [{ name: 'etc/.wh.' }], 'DDBG_UNSAFE', /whiteout/, QUIET, QUIET],
    ['a volume label', [{ name: 'label', type: 'V' }], 'DDBG_ARCHIVE', /volume label/, QUIET, QUIET],
    ['an unknown type', [{ name: 'etc/q', type: 'Q' }], 'DDBG_ARCHIVE', /unknown type/, LOUD, QUIET],
    [
      'a global header that sets an mtime',
      [paxHeader({ mtime: '1' }, 'g'), { name: 'etc/x' }],
      'DDBG_ARCHIVE',
      /global.*mtime/,
      QUIET,
      QUIET,
    ],
    [
      'a newline in an attribute',
      [paxHeader({ 'SCHILY.xattr.user.x': 'a\nb' }), { name: 'etc/x' }],
      'DDBG_ARCHIVE',
      /newline/,
      QUIET,
      QUIET,
    ],
    [
      'a directory with content',
      [{ name: 'etc/d/', type: '5', content: 'x' }],
      'DDBG_ARCHIVE',
      /with content/,
      LOUD,
      LOUD,
    ],
    [
      'a long name that goes on beyond its size',
      [{ name: 'L', type: 'L', content: 'etc/shown, not', size: 9 }, { name: 'etc/x' }],
      'DDBG_ARCHIVE',
      /long name without an end/,
      QUIET,
      QUIET,
    ],
    [
      'two extended headers for one entry, of which some read both and some the last',
      [paxHeader({ path: 'etc/a' }), paxHeader({ mtime: '1' }), { name: 'etc/x' }],
      'DDBG_ARCHIVE',
      /two extended headers/,
      QUIET,
      LOUD,
    ],
    [
      'a name of PAX and a long name, of which each reader takes another',
      [{ name: 'L', type: 'L', content: 'etc/a\0' }, paxHeader({ path: 'etc/b' }), { name: 'etc/x' }],
      'DDBG_ARCHIVE',
      /read in two ways/,
      QUIET,
      QUIET,
    ],
    [
      'the same the other way round',
      [paxHeader({ path: 'etc/b' }), { name: 'L', type: 'L', content: 'etc/a\0' }, { name: 'etc/x' }],
      'DDBG_ARCHIVE',
      /read in two ways/,
      QUIET,
      QUIET,
    ],
    [
      'a number behind a NUL, which GNU tar reads',
      [{ name: 'etc/x', uid: 7, change: (header) => void header.fill(0, 108, 109) }],
      'DDBG_ARCHIVE',
      /owner that cannot be read/,
      QUIET,
      QUIET,
    ],
    [
      'a prefix in a header of an unknown kind, which bsdtar reads',
      [{ name: 'x', prefix: 'etc', change: (header) => void header.write('ustar-', 257) }],
      'DDBG_ARCHIVE',
      /unknown kind/,
      QUIET,
      QUIET,
    ],
    [
      'two long names for one entry',
      [
        { name: 'L', type: 'L', content: 'etc/first\0' },
        { name: 'L', type: 'L', content: 'etc/second\0' },
        { name: 'etc/x' },
      ],
      'DDBG_ARCHIVE',
      /read in two ways/,
      QUIET,
      QUIET,
    ],
    [
      'a list of names, the type N of an old GNU tar: a file to bsdtar',
      [{ name: 'etc/x', type: 'N' }],
      'DDBG_ARCHIVE',
      /unknown type/,
      LOUD,
      QUIET,
    ],
    ['no name', [{ name: '' }], 'DDBG_ARCHIVE', /without a name/, LOUD, LOUD],
    [
      'two numbers of an owner that is none',
      [{ name: 'etc/x', change: base256(0xffffffffn, 108, 8) }],
      'DDBG_ARCHIVE',
      /Linux has not/,
      QUIET,
      QUIET,
    ],
  ])('%s', async (_what, parts, code, why, gnu, bsd) => {
    const stand = makeStand();
    const archive = stand.file('p.tar', tarOf(good, ...parts));
    const error = await stand.refused([{ location: archive, strip: 0 }], code, { root: emptyRoot() });
    expect(error.message).toMatch(why);
    const answers = await saidOf(archive, present(GNU_TAR, BSDTAR));
    expect(answers).toEqual({ [GNU_TAR.name]: gnu, [BSDTAR.name]: bsd });
  });

  it('a whiteout deletes, where others write a file of that name', async () => {
    const stand = makeStand();
    const archive = stand.file('p.tar', tarOf(good, { name: 'etc/.wh.gone' }));
    expect(Object.keys((await outcomeOf(GNU_TAR, archive)).tree)).toContain('etc/.wh.gone');
    expect(Object.keys(await ours(archive, {}))).toEqual(['.', 'etc', 'etc/good']);
  });

  it('what ends without zero blocks', async () => {
    const stand = makeStand();
    const archive = stand.file('p.tar', tarPart(good));
    await stand.refused(archive, 'DDBG_ARCHIVE', { root: emptyRoot() });
    expect((await outcomeOf(GNU_TAR, archive)).said).toBe('');
  });
});

describe('tar: odd, and the same to us as to GNU tar and bsdtar', () => {
  const file = (more: Partial<TarPart>): TarPart => ({ name: 'etc/x', content: 'content', ...more });
  const text = (value: string, start: number) => (header: Buffer) =>
    void header.write(value, start, 'latin1');
  const both = present(GNU_TAR, BSDTAR);
  it.each<[string, readonly TarPart[], (readonly Other[])?]>([
    [
      'numbers in base 256',
      [
        file({
          change: (header) => {
            base256(7n, 124, 12)(header);
            base256(0o640n, 100, 8)(header);
            base256(2_000_000_000n, 108, 8)(header);
            base256(9_000_000_000n, 136, 12)(header);
          },
        }),
      ],
    ],
    ['a time before 1970', [file({ change: base256(-86_400n, 136, 12) })]],
    ['numbers with spaces before and after', [file({ change: text('   644 \0', 100) })]],
    [
      'numbers without an end',
      [file({ change: text('00000000007 ', 124) }), file({ name: 'y', change: text('00000644', 100) })],
    ],
    ['owners that are empty', [file({ change: (header) => void header.fill(0, 108, 124) })]],
    ['a name of 100 bytes without an end', [file({ name: 'n'.repeat(100) })]],
    ['a prefix of 155 bytes without an end', [file({ name: 'n'.repeat(100), prefix: 'p'.repeat(155) })]],
    [
      'a prefix in a header without magic',
      [file({ prefix: 'no', change: (header) => void header.fill(0, 257, 265) })],
    ],
    [
      'the magic of old GNU, and its times where the prefix is',
      [
        file({
          change: (header) => {
            header.write('ustar  \0', 257, 'latin1');
            header.write('14371140000\0', 345, 'latin1');
          },
        }),
      ],
    ],
    [
      'the prefix of star, with its times',
      [
        file({
          prefix: 'star',
          change: (header) => {
            header.write('14371140000\u000014371140000\0', 476, 'latin1');
            header.write('tar\0', 508, 'latin1');
          },
        }),
      ],
    ],
    [
      'a directory by its slash alone',
      [
        { name: 'etc/d/', type: '0', mode: 0o750 },
        { name: 'etc/e/', type: '\0' },
      ],
    ],
    ['a directory without a slash', [{ name: 'etc/d', type: '5', mode: 0o711 }, file({ name: 'etc/d/x' })]],
    ['a contiguous file', [file({ type: '7' })], present(BSDTAR, PYTHON_TAR)],
    ['a file of the oldest kind', [file({ type: '\0' })]],
    [
      'names with ./ and // and /. in them',
      [file({ name: './etc//./x' }), { name: './/etc/d/.', type: '5' }],
    ],
    ['the root itself', [{ name: './', type: '5', mode: 0o700 }, file({})]],
    ['two entries of one name', [file({}), file({ content: 'the later one', mode: 0o600 })]],
    ['a file, then a symlink of one name', [file({}), { name: 'etc/x', type: '2', link: 'y' }]],
    ['a symlink, then a file of one name', [{ name: 'etc/x', type: '2', link: 'y' }, file({})]],
    [
      'a directory twice, with another mode',
      [
        { name: 'etc/d/', type: '5', mode: 0o700 },
        { name: 'etc/d/', type: '5', mode: 0o755 },
      ],
    ],
    [
      'a hard link to a hard link',
      [file({}), { name: 'a', type: '1', link: 'etc/x' }, { name: 'b', type: '1', link: 'a' }],
    ],
    ['a hard link to itself', [file({}), { name: 'etc/x', type: '1', link: './etc/x' }], [GNU_TAR]],
    [
      'a hard link with other attributes',
      [file({}), { name: 'a', type: '1', link: 'etc/x', mode: 0o600, mtime: 1 }],
    ],
    ['a long name without an end', [{ name: 'L', type: 'L', content: `etc/${'l'.repeat(120)}` }, file({})]],
    [
      'a long link before a long name',
      [
        { name: 'K', type: 'K', content: `${'t'.repeat(150)}\0` },
        { name: 'L', type: 'L', content: `etc/${'l'.repeat(150)}\0` },
        { name: 'cut', type: '2', link: 'cut' },
      ],
    ],
    ['a size of PAX before one of the header', [paxHeader({ size: '7' }), file({ size: 0 })]],
    [
      'records of PAX that nobody knows',
      [paxHeader({ comment: 'x', 'VENDOR.key': 'a=b', atime: '1.5', ctime: '2' }), file({})],
    ],
    [
      'owners of PAX',
      [paxHeader({ uid: '3000000', gid: '4000000', uname: 'nobody', gname: 'nogroup' }), file({})],
    ],
    [
      'a PAX header before a directory',
      [paxHeader({ path: `${'d'.repeat(200)}/` }), { name: 'cut/', type: '5' }],
    ],
    ['a comment for all', [paxHeader({ comment: 'x'.repeat(40) }, 'g'), file({})]],
    ['a time of PAX with nine digits', [paxHeader({ mtime: '1300000000.123456789' }), file({})]],
    ['a time of PAX far ahead', [paxHeader({ mtime: '8589934593.5' }), file({})]],
    [
      'times of PAX to the microsecond',
      Array.from({ length: 50 }, (_, index) => [
        paxHeader({
          mtime: `${1_000_000_000 + index * 31_415_926}.${String(index * 20_011 + 1).padStart(6, '0')}`,
        }),
        file({ name: `etc/${index}` }),
      ]).flat(),
    ],
    ['a time of PAX before 1970', [paxHeader({ mtime: '-86400' }), file({})]],
  ])('%s', async (_what, parts, others = both) => {
    const stand = makeStand();
    const archive = stand.file('p.tar', Buffer.concat([tarOf(...parts), Buffer.alloc(9 * 1024)]));
    await expectSame(archive, others);
  });
});

describe('zip: odd, and the same to us as to unzip and bsdtar', () => {
  const numbers = (...values: readonly [value: number, bytes: number][]): Buffer =>
    Buffer.concat(
      values.map(([value, bytes]) => {
        const data = Buffer.alloc(bytes);
        data.writeUIntLE(value, 0, bytes);
        return data;
      }),
    );
  const file = (more: Partial<ZipPart>): ZipPart => ({
    name: 'etc/x',
    content: 'content',
    unixMode: 0o100640,
    ...more,
  });
  const stamp = (seconds: number): Buffer => numbers([1, 1], [seconds >>> 0, 4]);
  it.each<[string, readonly ZipPart[], (readonly Other[])?]>([
    ['its time in UTC', [file({ extra: [[0x5455, stamp(1_300_000_001)]] })]],
    [
      'its time as macOS has it, in the field before',
      [file({ extra: [[0x5855, numbers([1, 4], [1_300_000_001, 4])]] })],
    ],
    [
      'its time and owner as PKWARE has them',
      [file({ extra: [[0x000d, numbers([1, 4], [1_300_000_001, 4], [12, 2], [34, 2])]] })],
      [UNZIP],
    ],
    ['owners', [file({ extra: [[0x7875, numbers([1, 1], [4, 1], [70_000, 4], [4, 1], [50, 4])]] })]],
    ['a name in UTF-8 by its flag', [file({ name: 'größe', flags: 0x800 })]],
    ['folders after what is in them', [file({}), { name: 'etc/', unixMode: 0o040711 }], [BSDTAR]],
    ['two entries of one name', [file({}), file({ content: 'the later one' })]],
    ['a symlink, packed', [{ name: 'etc/l', content: '../'.repeat(50), unixMode: 0o120777 }]],
    ['modes with setuid', [file({ unixMode: 0o104755 }), { name: 'etc/d/', unixMode: 0o043755 }]],
  ])('%s', async (_what, parts, others = [UNZIP, BSDTAR]) => {
    const stand = makeStand();
    await expectSame(stand.file('p.zip', zipOf(...parts)), present(...others));
  });

  it('its time before 1970: signed, as the field is meant; unzip takes that of DOS, bsdtar makes it 2106', async () => {
    const stand = makeStand();
    const archive = stand.file('p.zip', zipOf(file({ extra: [[0x5455, stamp(-86_400)]] })));
    const seconds = (tree: Tree): number => Number(tree['etc/x']?.mtimeUs) / 1e6;
    const theirs = [];
    for (const other of present(UNZIP, BSDTAR)) theirs.push(seconds((await outcomeOf(other, archive)).tree));
    expect(theirs).toEqual([new Date(2020, 8, 13, 12, 26).getTime() / 1000, 2 ** 32 - 86_400]);
    expect(seconds(await ours(archive, {}))).toBe(-86_400);
  });

  it('a name in UTF-8 that only one header has: bsdtar takes that of the local one, unzip the other, and we refuse', async () => {
    const stand = makeStand();
    const field = Buffer.concat([numbers([1, 1], [crc32('etc/x'), 4]), Buffer.from('etc/other')]);
    const archive = stand.file('p.zip', zipOf(file({ extra: [], localExtra: [[0x7075, field]] })));
    const names = [];
    for (const other of present(UNZIP, BSDTAR))
      names.push(Object.keys((await outcomeOf(other, archive)).tree).at(-1));
    expect(names).toEqual(['etc/x', 'etc/other']);
    const error = await stand.refused(archive, 'DDBG_ARCHIVE', { root: emptyRoot() });
    expect(error.message).toMatch(/do not agree on its name/);
    await expectSame(stand.file('q.zip', zipOf(file({ extra: [[0x7075, field]] }))), present(BSDTAR));
  });

  it('read-only of DOS is no mode to us', async () => {
    const stand = makeStand();
    const zip = zipOf({ name: 'x', content: 'x' });
    zip[zip.indexOf('PK\u0001\u0002', 'latin1') + 38] = 1;
    const archive = stand.file('p.zip', zip);
    for (const other of present(UNZIP, BSDTAR))
      expect((await outcomeOf(other, archive)).tree.x?.mode, other.name).toBe('444');
    expect((await ours(archive, {})).x?.mode).toBe('644');
  });

  it('a directory by the attributes of DOS alone is a file to unzip, a directory to bsdtar, and refused', async () => {
    const stand = makeStand();
    const zip = zipOf({ name: 'x', content: '' });
    zip[zip.indexOf('PK\u0001\u0002', 'latin1') + 38] = 0x10;
    const archive = stand.file('p.zip', zip);
    const types = [];
    for (const other of present(UNZIP, BSDTAR)) types.push((await outcomeOf(other, archive)).tree.x?.type);
    expect(types).toEqual(['file', 'directory']);
    const error = await stand.refused(archive, 'DDBG_ARCHIVE', { root: emptyRoot() });
    expect(error.message).toMatch(/DOS attributes/);
  });
});

/** mulberry32: the same numbers on every machine. */
function createDice(seed: number): (sides: number) => number {
  let state = seed;
  return (sides) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % sides;
  };
}

type Dice = ReturnType<typeof createDice>;

/** A header that was changed, with its checksum right again. */
function restamp(header: Buffer): void {
  header.fill(0x20, 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
}

const TAR_FIELDS = [
  [0, 100],
  [100, 8],
  [108, 8],
  [116, 8],
  [124, 12],
  [136, 12],
  [156, 1],
  [157, 100],
  [257, 8],
  [345, 155],
] as const;
const LIKELY = Buffer.from('\0\0 /.017xLKg\x80\xff%aA-', 'latin1');

function mutateTar(tar: Buffer, dice: Dice): Buffer {
  const blocks = tar.length / 512;
  const at = dice(blocks) * 512;
  switch (dice(8)) {
    case 0:
      return tar.subarray(0, dice(tar.length));
    case 1: // a block twice
      return Buffer.concat([tar.subarray(0, at + 512), tar.subarray(at)]);
    case 2: // a block less
      return Buffer.concat([tar.subarray(0, at), tar.subarray(at + 512)]);
    case 3: {
      const other = dice(blocks) * 512;
      const copy = Buffer.from(tar);
      tar.copy(copy, at, other, other + 512);
      return copy;
    }
    default: {
      const copy = Buffer.from(tar);
      const [start, length] = TAR_FIELDS[dice(TAR_FIELDS.length)] as (typeof TAR_FIELDS)[number];
      for (let count = dice(2); count >= 0; count -= 1)
        copy[at + start + dice(length)] = dice(3) === 0 ? dice(256) : (LIKELY[dice(LIKELY.length)] as number);
      // In a header, and not in what merely stands where one could be.
      if (tar.toString('latin1', at + 257, at + 262) === 'ustar') restamp(copy.subarray(at, at + 512));
      return copy;
    }
  }
}

function mutateZip(zip: Buffer, dice: Dice): Buffer {
  const at = dice(zip.length);
  const copy = Buffer.from(zip);
  switch (dice(6)) {
    case 0:
      return zip.subarray(0, at);
    case 1:
      return Buffer.concat([zip.subarray(0, at), zip.subarray(Math.max(0, at - 1 - dice(60)))]);
    case 2:
      return Buffer.concat([zip.subarray(0, at), zip.subarray(at + 1 + dice(60))]);
    case 3: // in the headers of the directory, where most lies
      copy[zip.indexOf('PK\u0001\u0002', 'latin1') + dice(60)] = dice(256);
      return copy;
    default:
      copy[at] = dice(2) === 0 ? dice(256) : (zip[at] as number) ^ (1 << dice(8));
      return copy;
  }
}

// Not bsdtar for zip: where it does not find the directory at the end it goes by the local headers, without a word.
describe('damaged at random: refused, or what those make of it that see nothing wrong', () => {
  const tar = tarOf(
    { name: 'etc/', type: '5', mode: 0o755 },
    { name: 'etc/one', content: 'one', mode: 0o640, uid: 12, gid: 34 },
    { name: 'etc/two', content: '2'.repeat(700), prefix: 'opt' },
    { name: 'etc/link', type: '2', link: 'one' },
    { name: 'etc/hard', type: '1', link: 'etc/one' },
    paxHeader({ path: `etc/${'x'.repeat(120)}`, mtime: '1300000000.25' }),
    { name: 'etc/cut', content: 'by PAX' },
    { name: 'L', type: 'L', content: `etc/${'l'.repeat(120)}\0` },
    { name: 'etc/cut', content: 'by GNU' },
  );
  const extra = [
    [0x5455, Buffer.from('0100f14e4d', 'hex')],
    [0x7875, Buffer.from('01040c0000000422000000', 'hex')],
  ] as const;
  const zip = zipOf(
    { name: 'etc/', unixMode: 0o040755, extra },
    { name: 'etc/one', content: 'one', unixMode: 0o100640, extra, method: 0 },
    { name: 'etc/two', content: '2'.repeat(700), unixMode: 0o100755, extra },
    { name: 'etc/link', content: 'one', unixMode: 0o120777, extra },
  );

  it.each([
    ['tar', 300, () => mutateTar, tar, present(GNU_TAR, BSDTAR)],
    ['zip', 300, () => mutateZip, zip, present(UNZIP).map(namesAndContents)],
  ] as const)('%s, %i times', { timeout: 120_000 }, async (format, times, mutation, whole, others) => {
    const mutate = mutation();
    const stand = makeStand();
    const jail = join(stand.workDir, '../jail');
    const counts = { refused: 0, read: 0, compared: 0 };
    for (let seed = 1; seed <= times; seed += 1) {
      const spoilt = mutate(whole, createDice(seed));
      const archive = stand.file(`p.${format}`, spoilt);
      fs.rmSync(jail, { recursive: true, force: true });
      fs.mkdirSync(join(jail, 'root/srv'), { recursive: true });
      fs.writeFileSync(join(jail, 'root/srv/kept'), 'there before');
      const workDir = join(jail, 'work');
      fs.mkdirSync(workDir, { mode: 0o700 });
      const before = treeOf(jail);
      const since = Date.now() - 100;
      const rules = AS_IT_IS;
      const result = await stand
        .apply([{ location: archive, strip: 0, ...rules } as Source], { root: join(jail, 'root'), workDir })
        .catch((error: unknown) => error);
      const all = treeOf(jail, { without: ['root', 'work'] });
      expect(Object.keys(all), `seed ${seed}: written outside`).toEqual(['.']);
      if (result instanceof Error) {
        expect(result, `seed ${seed}: ${result.stack}`).toBeInstanceOf(EntryError);
        expect((result as EntryError).code, `seed ${seed}`).toMatch(/^DDBG_(ARCHIVE|UNSAFE)$/);
        expect(treeOf(jail, { without: ['work'] }), `seed ${seed}`).toEqual(without(before, 'work'));
        counts.refused += 1;
        continue;
      }
      counts.read += 1;
      const tree = treeOf(join(jail, 'root'), { inodes: false, without: ['srv'] });
      const mine = asOurs(tree, rules, since);
      for (const other of others) {
        const { said, tree } = await outcomeOf(other, archive);
        if (said !== '') continue;
        const [one, two] = comparable(mine, asOurs(tree, rules, since), other);
        expect(one, `seed ${seed}, ${other.name}`).toEqual(two);
        counts.compared += 1;
      }
    }
    expect(counts.read, JSON.stringify(counts)).toBeGreaterThan(times / 10);
    expect(counts.refused, JSON.stringify(counts)).toBeGreaterThan(times / 10);
    expect(counts.compared, JSON.stringify(counts)).toBeGreaterThan(times / 10);
  });
});

/** Times and owners a zip has twice, and each reader believes another copy. */
function namesAndContents(other: Other): Other {
  return { ...other, without: (node) => [...other.without(node), 'mtimeUs', 'owner'] };
}

function without(tree: Tree, name: string): Tree {
  return Object.fromEntries(Object.entries(tree).filter(([path]) => path !== name));
}
