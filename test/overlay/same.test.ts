/** What is there already, byte for byte, is not written: not its inode, not its ctime. */
import * as fs from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { type TarPart, tarOf, type ZipPart, zipOf } from './archives.ts';
import { runAsUser, UID } from './as-user.ts';
import { mayMount, mountFile } from './mounting.ts';
import { isRoot, makeStand, originals, type Stand, sha256 } from './stand.ts';
import { treeOf } from './trees.ts';

const canMount = mayMount();
if (!canMount) console.warn('SKIPPED: mounted files need root and CAP_SYS_ADMIN');
if (!isRoot) console.warn('SKIPPED: only root can start a process as uid 1000');

/** Changes with any write, rename over, chmod, chown or utimes. */
function mark(stand: Stand, path: string): string {
  const { ino, ctimeNs, nlink } = fs.lstatSync(join(stand.root, path), { bigint: true });
  return `${ino} ${ctimeNs} ${nlink}`;
}

/** As makeStand made them. */
const CONF: TarPart = { name: 'etc/app.conf', content: 'old conf\n', mode: 0o640 };
const TOOL: TarPart = { name: 'usr/bin/tool', content: 'old tool\n', mode: 0o755 };
const LIB: TarPart = { name: 'usr/lib/libx.so.1.0', content: 'old lib\n', mode: 0o644 };
const LINK: TarPart = { name: 'usr/lib/libx.so.1', type: '2', link: 'libx.so.1.0' };

const apply = (stand: Stand, ...parts: TarPart[]) =>
  stand.apply([{ location: stand.file('p.tgz', gzipSync(tarOf(...parts))), strip: 0 }]);

const asZip = ({ name, content = '', mode = 0 }: TarPart): ZipPart => ({
  name,
  content,
  unixMode: 0o100000 | mode,
});

const LARGE = 700_000;
const large = (change?: number): Buffer => {
  const content = Buffer.from(Array.from({ length: LARGE }, (_, index) => (index * 7919) & 0xff));
  if (change !== undefined) content[change] = (content[change] ?? 0) ^ 1;
  return content;
};

describe('what is the same', () => {
  it.each([
    ['in a tar', (stand: Stand) => apply(stand, CONF, TOOL, LIB, LINK)],
    [
      'with other times',
      (stand: Stand) => apply(stand, ...[CONF, TOOL, LIB, LINK].map((part) => ({ ...part, mtime: 1 }))),
    ],
    ['below a symlink', (stand: Stand) => apply(stand, CONF, { ...TOOL, name: 'bin/tool' }, LIB, LINK)],
    ['in a zip', (stand: Stand) => stand.apply(stand.file('p.zip', zipOf(...[CONF, TOOL, LIB].map(asZip))))],
  ])('is left alone, %s', async (_what, lay) => {
    const stand = makeStand();
    const names = [
      'etc/app.conf',
      'usr/bin/tool',
      'usr/lib/libx.so.1.0',
      'usr/lib/libx.so.1',
      'etc',
      'usr/bin',
    ];
    const before = names.map((name) => mark(stand, name));
    const report = await lay(stand);
    // Not even its folders were touched: their mtimes would have to be set back.
    expect(names.map((name) => mark(stand, name))).toEqual(before);
    const [source] = report.sources;
    expect(source).toMatchObject({ files: 0, symlinks: 0, directories: 0, bytesWritten: 0 });
    expect(source?.same).toBe(source?.entries.length);
    expect(source?.entries.find(({ path }) => path === '/etc/app.conf')).toEqual({
      ...{ path: '/etc/app.conf', action: 'same', kind: 'file', size: 9, mode: 0o640 },
      ...{ sha256: sha256('old conf\n'), sha256Before: sha256('old conf\n') },
    });
    expect(fs.existsSync(join(stand.workDir, 'backup'))).toBe(false);
    expect(stand.lines.at(-1)).toMatch(/0 files, .* 0 B written; 0 replaced, [34] there already\n/);
  });

  it('is told by the archive of another, which is written', async () => {
    const stand = makeStand();
    const conf = mark(stand, 'etc/app.conf');
    const report = await apply(stand, CONF, { ...TOOL, content: 'new tool\n' });
    expect(mark(stand, 'etc/app.conf')).toBe(conf);
    expect(report.sources[0]?.entries.map(({ path, action }) => `${action} ${path}`)).toEqual([
      'replaced /usr/bin/tool',
      'same /etc/app.conf',
    ]);
  });

  it('a file of size 0', async () => {
    const stand = makeStand();
    fs.writeFileSync(join(stand.root, 'etc/empty'), '', { mode: 0o600 });
    const before = mark(stand, 'etc/empty');
    await apply(stand, { name: 'etc/empty', mode: 0o600 });
    expect(mark(stand, 'etc/empty')).toBe(before);
    const report = await apply(stand, { name: 'etc/empty', mode: 0o604 });
    expect(report.sources[0]?.entries).toMatchObject([
      { action: 'replaced', mode: 0o604, sha256: sha256('') },
    ]);
    expect(fs.statSync(join(stand.root, 'etc/empty')).mode & 0o7777).toBe(0o604);
  });

  it('hard links, all of them, and one more', async () => {
    const stand = makeStand();
    fs.linkSync(join(stand.root, 'etc/app.conf'), join(stand.root, 'opt/twin'));
    const twin = { name: 'opt/twin', type: '1', link: 'etc/app.conf' };
    const before = mark(stand, 'etc/app.conf');
    const report = await apply(stand, CONF, twin);
    expect(mark(stand, 'etc/app.conf')).toBe(before);
    expect(report.sources[0]).toMatchObject({ same: 2, files: 0 });

    await apply(stand, CONF, twin, { ...twin, name: 'opt/third' });
    const { ino, nlink } = fs.statSync(join(stand.root, 'etc/app.conf'));
    expect([ino, nlink]).toEqual([fs.statSync(join(stand.root, 'opt/third')).ino, 3]);
    expect(before.startsWith(`${ino} `)).toBe(true);
  });

  it('a hard link that came as a file before', async () => {
    const stand = makeStand();
    const location = stand.file(
      'p.tar',
      tarOf({ name: 'opt/a' }, { name: 'opt/c' }, { name: 'opt/a', type: '1', link: 'opt/c' }),
    );
    const source = { location, strip: 0 };
    await stand.apply([source]);
    const before = treeOf(stand.root);
    expect((await stand.apply([source])).sources[0]).toMatchObject({ files: 0, same: 2 });
    expect(treeOf(stand.root)).toEqual(before);
  });

  it('but not two files of equal content where the archive has one', async () => {
    const stand = makeStand();
    fs.copyFileSync(join(stand.root, 'etc/app.conf'), join(stand.root, 'opt/twin'));
    const report = await apply(stand, CONF, { name: 'opt/twin', type: '1', link: 'etc/app.conf' });
    expect(report.sources[0]?.entries).toMatchObject([
      { path: '/opt/twin', action: 'replaced' },
      { action: 'same' },
    ]);
    expect(fs.statSync(join(stand.root, 'opt/twin')).ino).toBe(
      fs.statSync(join(stand.root, 'etc/app.conf')).ino,
    );
  });

  it('whatever setuid bit the archive would have', async () => {
    const stand = makeStand();
    const before = mark(stand, 'usr/bin/tool');
    await apply(stand, { ...TOOL, mode: 0o4755 });
    expect(mark(stand, 'usr/bin/tool')).toBe(before);
    const path = stand.file('s.tar', tarOf({ ...TOOL, mode: 0o4755 }));
    await stand.apply([{ location: path, setuid: 'keep' }]);
    expect(fs.statSync(join(stand.root, 'usr/bin/tool')).mode & 0o7777).toBe(0o4755);
  });

  it.skipIf(!isRoot)('whatever owner the archive has, unless it is asked for', async () => {
    const stand = makeStand();
    fs.chownSync(join(stand.root, 'etc/app.conf'), 12, 34);
    const before = [mark(stand, 'etc/app.conf'), mark(stand, 'usr/lib/libx.so.1')];
    await apply(stand, { ...CONF, uid: 5, gid: 6 }, { ...LINK, uid: 5, gid: 6 });
    expect([mark(stand, 'etc/app.conf'), mark(stand, 'usr/lib/libx.so.1')]).toEqual(before);
    const path = stand.file('o.tar', tarOf({ ...CONF, uid: 5, gid: 6 }, { ...LINK, uid: 5, gid: 6 }));
    const report = await stand.apply([{ location: path, owner: 'archive' }]);
    for (const name of ['etc/app.conf', 'usr/lib/libx.so.1']) {
      const { uid, gid } = fs.lstatSync(join(stand.root, name));
      expect([name, uid, gid]).toEqual([name, 5, 6]);
    }
    expect(report.sources[0]?.entries.map(({ action }) => action)).toEqual(['replaced', 'replaced']);
    expect((await stand.apply([{ location: path, owner: 'archive' }])).sources[0]?.same).toBe(2);
  });

  it('a zip without modes takes no mode away', async () => {
    const stand = makeStand();
    const before = mark(stand, 'usr/bin/tool');
    await stand.apply(stand.file('p.zip', zipOf({ name: 'usr/bin/tool', content: 'old tool\n' })));
    expect(mark(stand, 'usr/bin/tool')).toBe(before);
  });

  it.skipIf(!canMount)('a mounted file, whatever its mode', async () => {
    const stand = makeStand();
    mountFile(stand, 'etc/hosts', 'of the host\n');
    const before = mark(stand, 'etc/hosts');
    const report = await apply(stand, { name: 'etc/hosts', content: 'of the host\n', mode: 0o600 });
    expect(mark(stand, 'etc/hosts')).toBe(before);
    expect(report.sources[0]?.entries).toMatchObject([{ action: 'same', mode: 0o644 }]);
  });

  it.skipIf(!isRoot)('is no error for uid 1000 on a tree that is not its own', async () => {
    const stand = makeStand();
    fs.chmodSync(join(stand.root, 'etc/app.conf'), 0o644);
    const before = ['etc/app.conf', 'usr/bin/tool', 'usr/lib/libx.so.1'].map((name) => mark(stand, name));
    const same = [
      { ...CONF, mode: 0o644 },
      TOOL,
      LIB,
      LINK,
      { name: 'etc/', type: '5' },
      { name: './', type: '5' },
    ];
    const source = (...parts: TarPart[]) => [
      { location: stand.file(`${parts.length}.tar`, tarOf(...parts)), strip: 0 },
    ];
    const [first, second, third] = await runAsUser(
      stand,
      { apply: source(...same) },
      { apply: source(...same, { name: 'etc/one', content: '1' }) },
      { apply: source({ ...CONF, mode: 0o640 }) },
    );
    expect(first).toMatchObject({ sources: [{ same: 4, files: 0 }] });
    expect(second).toMatchObject({
      code: 'DDBG_WRITE',
      message: expect.stringMatching(/1 of its targets: \/etc\/one /),
    });
    expect(third).toMatchObject({ code: 'DDBG_WRITE', message: expect.stringMatching(/: \/etc\/app.conf /) });
    expect(['etc/app.conf', 'usr/bin/tool', 'usr/lib/libx.so.1'].map((name) => mark(stand, name))).toEqual(
      before,
    );
  });

  it.skipIf(!isRoot)('cannot be known by uid 1000 of a file that it may not read', async () => {
    const stand = makeStand();
    fs.chmodSync(join(stand.root, 'etc/app.conf'), 0o600);
    const location = stand.file('p.tar', tarOf({ ...CONF, mode: 0o600 }));
    const [first] = await runAsUser(stand, { apply: [{ location, strip: 0 }] });
    expect(first).toMatchObject({ code: 'DDBG_WRITE', message: expect.stringContaining('/etc/app.conf') });
    fs.chownSync(join(stand.root, 'etc'), UID, UID);
    const [again] = await runAsUser(stand, { apply: [{ location, strip: 0 }] });
    expect(again).toMatchObject({ sources: [{ entries: [{ action: 'replaced' }] }] });
  });
});

describe('what is not the same', () => {
  it.each([
    ['the first byte', 0],
    ['a byte after the first 64 kB', 70_000],
    ['the last byte of the first 256 kB', 256 * 1024 - 1],
    ['the first byte after them', 256 * 1024],
    ['a byte in the middle', 500_000],
    ['the last byte', LARGE - 1],
  ])('differs in %s', async (_what, change) => {
    for (const format of ['tar', 'zip']) {
      const stand = makeStand();
      fs.writeFileSync(join(stand.root, 'opt/large'), large(change), { mode: 0o644 });
      const part = { name: 'opt/large', content: large() };
      const archive = format === 'tar' ? gzipSync(tarOf(part, CONF), { level: 1 }) : zipOf(part, asZip(CONF));
      const report = await stand.apply(stand.file('p', archive));
      expect(fs.readFileSync(join(stand.root, 'opt/large')).equals(large())).toBe(true);
      expect(fs.readFileSync(originals(stand, 'opt/large')).equals(large(change))).toBe(true);
      expect(report.sources[0]?.entries).toMatchObject([
        { action: 'replaced', sha256: sha256(large()), sha256Before: sha256(large(change)) },
        { action: 'same' },
      ]);
    }
  });

  it.each([
    ['shorter', large().subarray(0, -1)],
    ['longer', Buffer.concat([large(), Buffer.from('x')])],
    ['empty', Buffer.alloc(0)],
  ])('is %s', async (_what, content) => {
    const stand = makeStand();
    fs.writeFileSync(join(stand.root, 'opt/large'), content);
    const report = await apply(stand, { name: 'opt/large', content: large() });
    expect(report.sources[0]?.entries).toMatchObject([{ action: 'replaced' }]);
    expect(fs.readFileSync(join(stand.root, 'opt/large')).equals(large())).toBe(true);
  });

  it('differs only in its mode: it is replaced, with mode and time of the archive', async () => {
    for (const content of ['old conf\n', large()]) {
      const stand = makeStand();
      fs.writeFileSync(join(stand.root, 'etc/app.conf'), content);
      const report = await apply(stand, { ...CONF, content, mode: 0o604, mtime: 1_234_567_890 });
      const { mode, mtimeMs } = fs.statSync(join(stand.root, 'etc/app.conf'));
      expect([mode & 0o7777, mtimeMs]).toEqual([0o604, 1_234_567_890_000]);
      expect(report.sources[0]?.entries).toMatchObject([
        { action: 'replaced', mode: 0o604, sha256: sha256(content), sha256Before: sha256(content) },
      ]);
      expect(fs.statSync(originals(stand, 'etc/app.conf')).mode & 0o7777).toBe(0o640);
    }
  });

  it('is a link instead of a file, or the other way round', async () => {
    const stand = makeStand();
    const report = await apply(
      stand,
      { ...LIB, name: 'usr/lib/libx.so.1' },
      { ...LINK, name: 'usr/lib/libx.so.1.0', link: 'libx.so.2' },
    );
    expect(report.sources[0]?.entries.map(({ action }) => action)).toEqual(['replaced', 'replaced']);
    expect(fs.lstatSync(join(stand.root, 'usr/lib/libx.so.1')).isFile()).toBe(true);
  });
});

describe('where a file lies is guessed', () => {
  it.each<[string, TarPart[], string]>([
    ['right, the level found at once', [{ ...CONF, name: 'a/etc/app.conf' }], 'etc/app.conf'],
    [
      'not yet, the level found late',
      [
        { ...CONF, name: 'x/conf' },
        { name: 'x/usr/n', content: 'n' },
      ],
      'conf',
    ],
    [
      'wrong: found first at a level that a later name changes',
      [
        { ...CONF, name: 'a/b/etc/app.conf' },
        { name: 'a/usr/n', content: 'n' },
      ],
      'b/etc/app.conf',
    ],
    [
      'wrong: equal content, another mode and time',
      [
        { name: 'a/b/etc/app.conf', content: 'old conf\n', mode: 0o701, mtime: 7 },
        { name: 'a/usr/n', content: 'n' },
      ],
      'b/etc/app.conf',
    ],
    [
      'wrong: a folder that the root has',
      [
        { ...CONF, name: 'a/b/etc/app.conf' },
        { name: 'a/b/n', content: 'n' },
        { name: 'usr/x', content: 'x' },
      ],
      'a/b/etc/app.conf',
    ],
  ])('%s', async (_what, parts, target) => {
    const stand = makeStand();
    const before = mark(stand, 'etc/app.conf');
    await stand.apply(stand.file('p.tar', tarOf(...parts)));
    expect(mark(stand, 'etc/app.conf')).toBe(before);
    expect(stand.read(target)).toBe('old conf\n');
    const { mode = 0, mtime = 1_600_000_000 } = parts[0] ?? {};
    const stat = fs.statSync(join(stand.root, target));
    if (target !== 'etc/app.conf') expect([stat.mode & 0o7777, stat.mtimeMs]).toEqual([mode, mtime * 1000]);
  });

  it('and a symlink that leads out of the root brings nothing in', async () => {
    const stand = makeStand();
    const outside = join(stand.root, '..', 'outside');
    fs.mkdirSync(outside);
    fs.writeFileSync(join(outside, 'f'), 'outside', { mode: 0o604 });
    fs.symlinkSync(outside, join(stand.root, 'opt/out'));
    fs.mkdirSync(join(stand.root, outside), { recursive: true });
    await apply(stand, { name: 'opt/out/f', content: 'outside', mode: 0o600, mtime: 5 });
    const { mode, mtimeMs } = fs.statSync(join(stand.root, outside, 'f'));
    expect([mode & 0o7777, mtimeMs]).toEqual([0o600, 5000]);
    expect(fs.statSync(join(outside, 'f')).mode & 0o7777).toBe(0o604);
  });
});

describe('of several archives', () => {
  it('the second finds what the first has made', async () => {
    const stand = makeStand();
    const patch = stand.file('1.tar', tarOf({ name: 'opt/n/x', content: 'x' }, { ...CONF, content: 'new' }));
    const report = await stand.apply([patch, patch]);
    expect(report.sources[0]).toMatchObject({ files: 2, same: 0 });
    expect(report.sources[1]).toMatchObject({ files: 0, same: 2 });
  });

  it('the second brings back what the first has replaced', async () => {
    const stand = makeStand();
    const first = stand.file('1.tar', tarOf({ ...CONF, content: 'NEW conf\n' }));
    const second = stand.file('2.tar', tarOf(CONF));
    const report = await stand.apply([first, second]);
    expect(stand.read('etc/app.conf')).toBe('old conf\n');
    expect(report.sources[1]?.entries).toMatchObject([
      { action: 'replaced', sha256Before: sha256('NEW conf\n') },
    ]);
  });

  it('of two names that end at one place neither counts, the first the same or not', async () => {
    const stand = makeStand();
    const twice = tarOf(TOOL, { ...TOOL, name: 'bin/tool', content: 'later' });
    const source = { location: stand.file('p.tar', twice), strip: 0 };
    expect((await stand.refused([source], 'DDBG_UNSAFE')).message).toMatch(/ends at \/usr\/bin\/tool, as/);
  });
});
