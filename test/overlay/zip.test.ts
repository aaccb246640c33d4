import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import unzipper from 'unzipper';
import { describe, expect, it } from 'vitest';
import { type ZipPart, zipOf } from './archives.ts';
import { makeStand } from './stand.ts';

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

describe('what it refuses, the root as it was', () => {
  it.each<[string, Buffer, RegExp]>([
    ['cut', zipOf(good).subarray(0, -30), /damaged/],
    ['a wrong checksum', zipOf({ ...good, crc: 1 }), /checksum/],
    ['a size too small', zipOf({ ...good, size: 2 }), /damaged.*bytes/],
    ['a size too large', zipOf({ ...good, size: 200 }), /damaged.*bytes/],
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
      /5\.0 MB.*unpackedBytes/,
    );
    expect(
      (await stand.refused(stand.file('p.zip', bomb), 'DDBG_ARCHIVE', { limits: { entries: 4 } })).message,
    ).toMatch(/5 entries/);
    expect(
      (await stand.refused(stand.file('p.zip', bomb), 'DDBG_ARCHIVE', { limits: { fileBytes: 5 } })).message,
    ).toMatch(/fileBytes/);
  });
});

/** One entry less in the count at the end. */
function understated(zip: Buffer): Buffer {
  const copy = Buffer.from(zip);
  copy.writeUInt16LE(1, copy.length - 22 + 10);
  return copy;
}
