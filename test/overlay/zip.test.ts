import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import unzipper from 'unzipper';
import { describe, expect, it } from 'vitest';
import { type ZipPart, zipOf } from './archives.ts';
import {
  byName,
  hasTool,
  type Item,
  makePlace,
  makeTree,
  noise,
  read,
  refused,
  run,
  treeOf,
} from './reading.ts';
import { makeStand, sha256 } from './stand.ts';

const good: ZipPart = { name: 'etc/new.conf', content: 'new\n', unixMode: 0o100600 };

it('a zip without modes leaves those of what it replaces', async () => {
  const stand = makeStand();
  const path = stand.file(
    'p.zip',
    zipOf({ name: 'usr/bin/tool', content: 'new' }, { name: 'usr/bin/other', content: 'x' }),
  );
  await stand.apply(path);
  const mode = (name: string) => statSync(join(stand.root, 'usr/bin', name)).mode & 0o777;
  expect([mode('tool'), mode('other')]).toEqual([0o755, 0o644]);
});

describe('what it reads', () => {
  it('a GitHub zip: one leading folder, files without a mode, something beside it', async () => {
    const stand = makeStand();
    const zip = zipOf(
      { name: 'repo-branch/' },
      { name: 'repo-branch/README.md', content: '# read me\n' },
      { name: 'repo-branch/usr/' },
      { name: 'repo-branch/usr/bin/tool', content: 'new tool\n', unixMode: 0o100755 },
      { name: 'repo-branch/usr/share/x/y', content: 'y' },
      { name: 'repo-branch/usr/bin/alias', content: 'tool', unixMode: 0o120000 },
      { name: 'pax_global_header', content: 'x' },
    );
    const report = await stand.apply(stand.file('p.zip', zip));
    expect(stand.read('usr/bin/tool')).toBe('new tool\n');
    expect(stand.read('README.md')).toBe('# read me\n');
    expect(readlinkSync(join(stand.root, 'usr/bin/alias'))).toBe('tool');
    const mode = (path: string): number => statSync(join(stand.root, path)).mode & 0o7777;
    expect([mode('usr/bin/tool'), mode('README.md'), mode('usr/share/x/y'), mode('usr/share/x')]).toEqual([
      0o755, 0o644, 0o644, 0o755,
    ]);
    expect(report.sources[0]).toMatchObject({ format: 'zip', strip: 1, files: 3, symlinks: 1 });
    expect(stand.lines.join('')).toMatch(/dropping 1 leading folder, for repo-branch\/usr/);
    expect(stand.lines.join('')).toMatch(/left out above that level: 1 entry \(pax_global_header\)/);
  });

  it('the same as unzipper reads, from what zip writes', async ({ skip }) => {
    const stand = makeStand();
    const source = join(stand.workDir, '..', 'source');
    mkdirSync(join(source, 'opt/tree/deep'), { recursive: true });
    for (const [name, length] of [
      ['small', 3],
      ['empty', 0],
      ['deep/large', 300_000],
      ['größe', 10],
    ] as const) {
      writeFileSync(join(source, 'opt/tree', name), Buffer.alloc(length, name), { mode: 0o751 });
    }
    const path = join(stand.workDir, '..', 'p.zip');
    if (spawnSync('zip', ['-qry', path, 'opt'], { cwd: source }).status !== 0) {
      const program = 'import shutil,sys; shutil.make_archive(sys.argv[1][:-4], "zip", sys.argv[2])';
      if (spawnSync('python3', ['-c', program, path, source]).status !== 0)
        return skip('SKIPPED: neither zip nor python3 here');
    }
    await stand.apply(path);
    const second = await unzipper.Open.file(path);
    const files = second.files.filter((file) => file.type === 'File');
    expect(files).toHaveLength(4);
    for (const file of files) {
      const ours = join(stand.root, Buffer.from(file.pathBuffer).toString('utf8'));
      expect(readFileSync(ours).equals(await file.buffer())).toBe(true);
      expect(statSync(ours).mode & 0o777).toBe(0o751);
    }
  });

  it('stored and deflated', async () => {
    const stand = makeStand();
    await stand.apply(
      stand.file('p.zip', zipOf({ ...good, method: 0 }, { name: 'etc/two', content: 'two', method: 8 })),
    );
    expect([stand.read('etc/new.conf'), stand.read('etc/two')]).toEqual(['new\n', 'two']);
  });
});

describe('what it reads, byte for byte', () => {
  const readParts = async (...parts: ZipPart[]): Promise<Item[]> => {
    const path = join(makePlace(), 'p.zip');
    writeFileSync(path, zipOf(...parts));
    return read(path);
  };
  const latin = (text: string): Buffer => Buffer.from(text, 'latin1');
  const numbers = (...values: [value: number, bytes: number][]): Buffer =>
    Buffer.concat(
      values.map(([value, bytes]) => {
        const data = Buffer.alloc(bytes);
        data.writeUIntLE(value, 0, bytes);
        return data;
      }),
    );

  it('names and targets that are no UTF-8, made on UNIX and without a flag', async () => {
    const items = await readParts(
      { name: latin('etc/caf\xe9'), content: 'x', unixMode: 0o100644 },
      { name: 'etc/link', content: latin('t\xe9'), unixMode: 0o120777 },
    );
    expect(items.map(({ name, linkTarget }) => [name, linkTarget])).toEqual([
      ['etc/caf\udce9', undefined],
      ['etc/link', 't\udce9'],
    ]);
  });

  it("owners, as each generation of Info-ZIP's has them", async () => {
    const unix3 = numbers([1, 1], [4, 1], [70_000, 4], [2, 1], [50, 2]);
    const huge = numbers([1, 1], [4, 1], [0xffffffff, 4], [4, 1], [0xfffffffe, 4]);
    const items = await readParts(
      { name: 'a', extra: [[0x7875, unix3]] },
      { name: 'b', extra: [[0x7855, Buffer.alloc(0)]], localExtra: [[0x7855, numbers([1000, 2], [100, 2])]] },
      { name: 'c', localExtra: [[0x5855, numbers([1, 4], [2, 4], [33, 2], [44, 2])]] },
      { name: 'd', extra: [[0x7875, huge]] },
      { name: 'e', extra: [[0x7875, numbers([1, 1], [9, 1])]] },
      { name: 'f' },
    );
    expect(items.map(({ uid, gid }) => [uid, gid])).toEqual([
      [70_000, 50],
      [1000, 100],
      [33, 44],
      [undefined, 0xfffffffe],
      [undefined, undefined],
      [undefined, undefined],
    ]);
  });

  it('times: the extended one, else that of DOS, else none', async () => {
    const stamp = (seconds: number): Buffer => {
      const data = Buffer.alloc(5, 1);
      data.writeInt32LE(seconds, 1);
      return data;
    };
    const items = await readParts(
      { name: 'a', extra: [[0x5455, stamp(1_300_000_001)]] },
      { name: 'b', extra: [[0x5455, stamp(-86_400)]] },
      { name: 'c' },
      { name: 'd', date: 0 },
    );
    expect(items.map(({ mtimeMs }) => mtimeMs)).toEqual([
      1_300_000_001_000,
      -86_400_000,
      new Date(2020, 8, 13, 12, 26).getTime(),
      undefined,
    ]);
  });

  it('a local header with a rest that is no field, as zipalign leaves', async () => {
    const zip = zipOf({ name: 'a', content: 'x', method: 0, localExtra: [[0xd935, Buffer.alloc(3)]] });
    zip.writeUInt16LE(9000, 30 + 1 + 2);
    const path = join(makePlace(), 'p.zip');
    writeFileSync(path, zip);
    expect(await read(path)).toHaveLength(1);
  });
});

describe('what tools write', () => {
  /** zip has no hard links, and whole seconds; folders have no content to be told apart by. */
  const flat = (items: Map<string, Item>) =>
    new Map(
      [...items].map(([name, { kind, mode, mtimeMs = 0, content, linkTarget, size }]) => [
        name,
        kind === 'symlink'
          ? { kind, linkTarget }
          : { kind, mode, mtimeMs: Math.floor(mtimeMs / 1000), content, size },
      ]),
    );
  /** As if each name were a file of its own. */
  const unlinked = (place: string): Map<string, Item> => {
    const items = treeOf(place);
    for (const [name, item] of items) {
      const first = item.kind === 'hardlink' ? items.get(item.linkTarget ?? '') : undefined;
      if (first !== undefined) items.set(name, { ...first, name });
    }
    return items;
  };

  it.runIf(hasTool('zip')).each([
    ['zip', ['-qry', 'p.zip', 'opt']],
    ['zip -0, stored', ['-q0ry', 'p.zip', 'opt']],
    ['zip -fz, zip64', ['-qry', '-fz', 'p.zip', 'opt']],
  ])('%s', async (_what, args) => {
    const place = makePlace();
    makeTree(place);
    run('zip', args, place);
    const items = await read(join(place, 'p.zip'));
    expect(flat(byName(items))).toEqual(flat(unlinked(place)));
    expect(items.every(({ uid, gid }) => uid === process.getuid?.() && gid === process.getgid?.())).toBe(
      true,
    );
  });

  it.runIf(hasTool('zip')).each([[['-qry']], [['-q0ry']]])(
    'zip %j into a pipe, with data descriptors',
    async (args) => {
      const place = makePlace();
      makeTree(place);
      writeFileSync(join(place, 'p.zip'), run('zip', [...args, '-', 'opt'], place));
      expect(flat(byName(await read(join(place, 'p.zip'))))).toEqual(flat(unlinked(place)));
    },
  );

  it.runIf(hasTool('bsdtar'))('bsdtar', async () => {
    const place = makePlace();
    makeTree(place, { bytes: false });
    run('bsdtar', ['--format=zip', '-cf', 'p.zip', 'opt'], place);
    expect(flat(byName(await read(join(place, 'p.zip'))))).toEqual(flat(unlinked(place)));
  });

  it.runIf(hasTool('python3'))(
    "python's zipfile: zip64 where none is needed, a seekless file, 70,000 entries",
    async () => {
      const program = `
import zipfile,sys
class Pipe:
    def __init__(s, f): s.f = f
    def write(s, b): return s.f.write(b)
    def flush(s): pass
for name, make in (('a.zip', lambda f: f), ('b.zip', Pipe)):
    with open(name, 'wb') as f, zipfile.ZipFile(make(f), 'w', zipfile.ZIP_DEFLATED) as z:
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            i = zipfile.ZipInfo('opt/%d' % method, (2020, 1, 2, 3, 4, 6)); i.compress_type = method
            with z.open(i, 'w', force_zip64=True) as e: e.write(b'x' * 400000)
with zipfile.ZipFile('c.zip', 'w') as z:
    for n in range(70000): z.writestr('opt/%d' % n, 'x')`;
      const place = makePlace();
      run('python3', ['-c', program], place);
      for (const name of ['a.zip', 'b.zip']) {
        const items = await read(join(place, name));
        expect(items.map(({ size, content }) => [size, content])).toEqual(
          Array(2).fill([400_000, sha256('x'.repeat(400_000))]),
        );
      }
      expect(await read(join(place, 'c.zip'))).toHaveLength(70_000);
    },
  );

  it('git archive', async () => {
    const place = makePlace();
    makeTree(place, { bytes: false }); // what is no UTF-8 it says to be of DOS
    const git = (...args: string[]) =>
      run('git', ['-c', 'user.name=x', '-c', 'user.email=x@x', ...args], place);
    git('init', '-q');
    git('add', '.');
    git('commit', '-qm', 'x');
    git('archive', '--format=zip', '-o', 'p.zip', 'HEAD');
    const items = byName(await read(join(place, 'p.zip')));
    for (const [name, item] of unlinked(place)) {
      if (item.kind === 'directory') continue;
      expect(items.get(name)).toMatchObject({
        kind: item.kind,
        content: item.content,
        linkTarget: item.linkTarget,
      });
    }
  });

  it('damaged or cut anywhere: refused, or what it was', async () => {
    const zip = zipOf(
      { name: 'etc/one', content: noise(5000), unixMode: 0o100644 },
      { name: 'etc/two', content: Buffer.alloc(400_000), unixMode: 0o100755 },
      { name: 'etc/link', content: 'one', unixMode: 0o120777 },
    );
    const path = join(makePlace(), 'p.zip');
    writeFileSync(path, zip);
    const contents = async () =>
      (await read(path, { format: 'zip' })).map(({ content, linkTarget }) => [content, linkTarget]);
    const expected = await contents();
    for (let at = 0; at < zip.length; at += 29) {
      const spoilt = Buffer.from(zip);
      spoilt[at] = (zip[at] ?? 0) ^ (1 << (at % 8));
      writeFileSync(path, spoilt);
      const result = await contents().catch((error: unknown) => error);
      if (result instanceof Error) expect(result).toMatchObject({ name: 'EntryError' });
      else expect(result).toEqual(expected);
      writeFileSync(path, zip.subarray(0, at));
      await refused(path, { format: 'zip' });
    }
  });

  it('large and small entries until a stop is asked for', async () => {
    for (const size of [10, 3_000_000]) {
      const path = join(makePlace(), 'p.zip');
      const parts = Array.from({ length: 20 }, (_, index) => ({
        name: `etc/${index}`,
        content: Buffer.alloc(size),
      }));
      writeFileSync(path, zipOf(...parts));
      const stop = new AbortController();
      const error = await refused(path, { signal: stop.signal, onPiece: () => stop.abort() });
      expect(error.code).toBe('DDBG_ABORTED');
    }
  });
});

describe('what it refuses, the root as it was', () => {
  it.each<[string, Buffer, RegExp]>([
    ['cut', zipOf(good).subarray(0, -30), /damaged/],
    ['a wrong checksum', zipOf({ ...good, crc: 1 }), /checksum/],
    ['a size too small', zipOf({ ...good, size: 2 }), /damaged.*bytes it says/],
    ['a size too large', zipOf({ ...good, size: 200 }), /damaged.*bytes it says/],
    ['encrypted', zipOf({ ...good, flags: 1 }), /encrypted/],
    ['another method', zipOf({ ...good, method: 12 }), /method 12/],
    [
      'entries that overlap',
      zipOf(good, { ...good, name: 'etc/new2conf', localName: 'etc/new.conf', offset: 0 }),
      /do not agree|overlap/,
    ],
    ['the same entry twice', zipOf(good, { ...good, offset: 0 }), /overlap/],
    ['two headers that differ', zipOf({ ...good, localName: 'etc/xxx.conf' }), /do not agree/],
    ['more entries than it says', understated(zipOf(good, { name: 'etc/b', content: 'b' })), /more entries/],
    [
      'a name of unknown encoding',
      zipOf({ name: Buffer.from('etc/\x81', 'latin1'), content: 'x' }),
      /not UTF-8/,
    ],
    [
      'a name that says it is UTF-8',
      zipOf({ name: Buffer.from('etc/\x81', 'latin1'), content: 'x', unixMode: 0o100644, flags: 0x800 }),
      /not UTF-8/,
    ],
    ['a directory with content', zipOf({ name: 'etc/d/', content: 'x' }), /has content/],
    ['nothing', zipOf(), /holds nothing/],
    [
      'a symlink of 5000 bytes',
      zipOf({ name: 'etc/l', content: 'x'.repeat(5000), unixMode: 0o120777 }),
      /too long/,
    ],
  ])('%s', async (_what, content, why) => {
    const stand = makeStand();
    expect((await stand.refused(stand.file('p.zip', content), 'DDBG_ARCHIVE')).message).toMatch(why);
  });

  it.each<[string, ZipPart, RegExp]>([
    ['..', { name: '../evil', content: 'x' }, /'\.\.'/],
    ['an absolute name', { name: '/etc/evil', content: 'x' }, /absolute/],
    ['a backslash', { name: '..\\evil', content: 'x' }, /backslash/],
    ['a device', { name: 'dev/x', unixMode: 0o020666 }, /device/],
    ['a NUL', { name: 'etc/a\0b', content: 'x' }, /NUL/],
  ])('%s', async (_what, part, why) => {
    const stand = makeStand();
    expect((await stand.refused(stand.file('p.zip', zipOf(good, part)), 'DDBG_UNSAFE')).message).toMatch(why);
  });

  it('lies about sizes, before anything is inflated', async () => {
    const stand = makeStand();
    const bomb = zipOf(
      ...Array.from({ length: 5 }, (_, index) => ({ name: `etc/${index}`, content: Buffer.alloc(1e6) })),
    );
    const limits = { unpackedBytes: 3e6 };
    expect((await stand.refused(stand.file('p.zip', bomb), 'DDBG_ARCHIVE', { limits })).message).toMatch(
      /5\.0 MB.*unpacked-bytes/,
    );
    expect(
      (await stand.refused(stand.file('p.zip', bomb), 'DDBG_ARCHIVE', { limits: { entries: 4 } })).message,
    ).toMatch(/5 entries/);
    expect(
      (await stand.refused(stand.file('p.zip', bomb), 'DDBG_ARCHIVE', { limits: { fileBytes: 5 } })).message,
    ).toMatch(/file-bytes/);
  });
});

/** One entry less in the count at the end. */
function understated(zip: Buffer): Buffer {
  const copy = Buffer.from(zip);
  copy.writeUInt16LE(1, copy.length - 22 + 10);
  return copy;
}
