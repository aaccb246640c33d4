/** What happens on the disk: targets, staging, commit, rollback. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, describe, expect, it, onTestFinished } from 'vitest';
import { readStat } from '../../src/container/stat.ts';
import { createLog } from '../../src/log.ts';
import { type TarPart, tarOf, zipOf } from './archives.ts';
import { isRoot, makeStand, originals, type Stand, sha256 } from './stand.ts';
import { snapshotTree } from './trees.ts';

afterEach(() => void process.umask(0o022));

const applyTar = (stand: Stand, ...parts: TarPart[]) =>
  stand.apply(stand.file('p.tgz', gzipSync(tarOf(...parts))));

it('sweeps what killed runs have downloaded, whoever has their pid now', async () => {
  const stand = makeStand();
  const other = spawn('sleep', ['60']);
  onTestFinished(() => void other.kill());
  const thread = fs.readdirSync('/proc/self/task').find((id) => Number(id) !== process.pid);
  const started = readStat(other.pid as number)?.startTicks;
  const plant = (name: string): string => {
    fs.writeFileSync(join(stand.workDir, name), 'half');
    return name;
  };
  for (const owner of [`${process.pid}-1`, `${thread}-1`, `${other.pid}-1`, '4194305-1'])
    plant(`download-${owner}-abc`);
  const kept = [plant(`download-${other.pid}-${started}-abc`), plant('download-of-mine')];
  await applyTar(stand, { name: 'etc/n', content: 'n' });
  expect(
    fs
      .readdirSync(stand.workDir)
      .filter((name) => name.startsWith('download-'))
      .sort(),
  ).toEqual(kept.sort());
});

it.each([{ entries: 'lots' }, { 'archive-bytes': 2 }, { depth: Number.NaN }, { entries: -1 }])(
  'refuses limits that are none, %j',
  async (limits) => {
    const stand = makeStand();
    const patch = stand.file('p.tar', tarOf({ name: 'etc/n', content: 'n' }));
    const error = await stand.refused(patch, 'DDBG_BAD_USAGE', { limits: limits as object });
    expect(error.hint).toContain('archiveBytes');
  },
);

it('refuses a tar with nothing but its root', async () => {
  const stand = makeStand();
  const empty = stand.file('p.tar', tarOf({ name: './', type: '5' }));
  expect((await stand.refused(empty, 'DDBG_ARCHIVE')).message).toMatch(/it holds nothing$/);
});

describe('existing things', () => {
  it.skipIf(!isRoot)('keeps the owner of a file that it replaces; what is new is ours', async () => {
    const stand = makeStand();
    fs.chownSync(join(stand.root, 'etc/app.conf'), 999, 998);
    await applyTar(
      stand,
      { name: 'etc/app.conf', content: 'new', mode: 0o600 },
      { name: 'etc/new', content: 'x' },
    );
    const { uid, gid, mode } = fs.statSync(join(stand.root, 'etc/app.conf'));
    expect([uid, gid, mode & 0o7777]).toEqual([999, 998, 0o600]);
    expect(fs.statSync(join(stand.root, 'etc/new')).uid).toBe(process.getuid?.());
  });

  it('keeps the first originals when it runs again', async () => {
    const stand = makeStand();
    const first = await applyTar(stand, { name: 'etc/app.conf', content: 'once' });
    const second = await applyTar(stand, { name: 'etc/app.conf', content: 'twice' });
    const kept = [first, second].map(({ backup }) => fs.readFileSync(`${backup}/1/etc/app.conf`, 'utf8'));
    expect(kept).toEqual(['old conf\n', 'once']);
  });

  it('follows directory symlinks inside the root, and never replaces them', async () => {
    const stand = makeStand();
    const report = await applyTar(
      stand,
      { name: 'bin/', type: '5', mode: 0o700 },
      { name: 'bin/tool', content: 'new tool', mode: 0o755 },
      { name: 'lib/libx.so.1.0', content: 'new lib' },
    );
    expect(fs.readlinkSync(join(stand.root, 'bin'))).toBe('usr/bin');
    expect(fs.readlinkSync(join(stand.root, 'lib'))).toBe('/usr/lib'); // absolute: from the root, not from the host
    expect(stand.read('usr/bin/tool')).toBe('new tool');
    expect(stand.read('usr/lib/libx.so.1.0')).toBe('new lib');
    expect(fs.statSync(join(stand.root, 'usr/bin')).mode & 0o777).toBe(0o755);
    expect(report.sources[0]?.entries.map(({ path, action }) => `${action} ${path}`)).toEqual([
      'replaced /usr/bin/tool',
      'replaced /usr/lib/libx.so.1.0',
    ]);
  });

  it('clamps a symlink that goes up out of the root', async () => {
    const stand = makeStand();
    fs.symlinkSync('../../../../../opt/app', join(stand.root, 'usr/up'));
    await applyTar(stand, { name: 'usr/up/x', content: 'inside' });
    expect(stand.read('opt/app/x')).toBe('inside');
  });

  it('keeps mode, owner and mtime of directories, and says what was there before', async () => {
    const stand = makeStand();
    const before = snapshotTree(stand.root);
    const report = await applyTar(
      stand,
      { name: './', type: '5', mode: 0o700 },
      { name: 'etc/', type: '5', mode: 0o700, mtime: 1 },
      { name: 'etc/app.conf', content: 'new conf\n', mode: 0o600 },
      { name: 'etc/other.conf', content: 'other' },
    );
    const after = snapshotTree(stand.root);
    for (const directory of ['.', 'etc', 'usr']) expect(after[directory]).toEqual(before[directory]);
    expect(report.sources[0]?.entries).toEqual([
      {
        path: '/etc/app.conf',
        action: 'replaced',
        kind: 'file',
        size: 9,
        mode: 0o600,
        sha256: sha256('new conf\n'),
        sha256Before: sha256('old conf\n'),
      },
      { path: '/etc/other.conf', action: 'new', kind: 'file', size: 5, mode: 0o644, sha256: sha256('other') },
    ]);
    expect(stand.lines.at(-1)).toBe(
      `ddbg-entry: overlaid ${join(stand.root, '..')}/p.tgz: 2 files, 0 directories, 0 links, 14 B written; 1 replaced\n`,
    );
    expect(stand.lines.join('')).toContain(
      `replaced file /etc/app.conf, mode 0600, 9 B sha256 ${sha256('new conf\n')}`,
    );
  });

  it('keeps the originals, with their inode', async () => {
    const stand = makeStand();
    const before = snapshotTree(stand.root);
    await applyTar(
      stand,
      { name: 'etc/app.conf', content: 'new' },
      { name: 'usr/lib/libx.so.1', type: '2', link: 'liby' },
    );
    const kept = snapshotTree(originals(stand, ''));
    expect(kept['etc/app.conf']).toEqual(before['etc/app.conf']);
    expect(kept['usr/lib/libx.so.1']?.content).toBe('libx.so.1.0');
    expect(Object.keys(snapshotTree(stand.root))).toEqual(Object.keys(before)); // nothing temporary is left
  });

  it('replaces symlinks to files by files and by other symlinks', async () => {
    const stand = makeStand();
    await applyTar(stand, { name: 'usr/lib/libx.so.1', type: '2', link: 'libx.so.2' });
    expect(fs.readlinkSync(join(stand.root, 'usr/lib/libx.so.1'))).toBe('libx.so.2');
    await applyTar(stand, { name: 'usr/lib/libx.so.1', content: 'a file now' });
    expect(fs.lstatSync(join(stand.root, 'usr/lib/libx.so.1')).isFile()).toBe(true);
    expect(stand.read('usr/lib/libx.so.1.0')).toBe('old lib\n');
  });

  it('leaves a symlink to a directory alone that the archive has as well', async () => {
    const stand = makeStand();
    const before = snapshotTree(stand.root);
    const report = await applyTar(
      stand,
      { name: 'bin', type: '2', link: 'usr/bin' },
      { name: 'etc/', type: '5' },
    );
    expect(snapshotTree(stand.root)).toEqual(before);
    expect(report.sources[0]?.entries).toMatchObject([{ path: '/bin', action: 'same' }]);
  });

  it.each<[string, TarPart[], RegExp]>([
    ['a file over a directory', [{ name: 'etc', content: 'x' }], /a file cannot replace a directory/],
    [
      'a file over a symlink to a directory',
      [{ name: 'bin', content: 'x' }],
      /a file cannot replace the symlink to a directory \/bin/,
    ],
    [
      'a symlink over a directory',
      [{ name: 'opt/app', type: '2', link: '/etc' }],
      /a symlink cannot replace a directory/,
    ],
    [
      'a symlink over another to a directory',
      [{ name: 'bin', type: '2', link: 'sbin' }],
      /cannot replace the symlink to a directory/,
    ],
    ['a directory over a file', [{ name: 'etc/app.conf/', type: '5' }], /is a file, not a directory/],
    ['something below a file', [{ name: 'etc/app.conf/x', content: 'x' }], /\/etc\/app.conf is a file/],
    [
      'a directory over a symlink to a file',
      [{ name: 'usr/lib/libx.so.1/', type: '5' }],
      /is a file, not a directory/,
    ],
    [
      'two names with one end',
      [
        { name: 'bin/tool', content: 'a' },
        { name: 'usr/bin/tool', content: 'b' },
      ],
      /ends at \/usr\/bin\/tool, as "bin\/tool"/,
    ],
  ])('refuses %s', async (_what, parts, why) => {
    const stand = makeStand();
    const path = stand.file('p.tar', tarOf({ name: 'usr/bin/first', content: 'x' }, ...parts));
    expect((await stand.refused([{ location: path, strip: 0 }], 'DDBG_UNSAFE')).message).toMatch(why);
  });

  it('refuses a symlink that leads nowhere, and one that leads round', async () => {
    const stand = makeStand();
    fs.symlinkSync('/nowhere', join(stand.root, 'opt/dangling'));
    fs.symlinkSync('loop', join(stand.root, 'opt/loop'));
    const path = (name: string): string => stand.file('p.tar', tarOf({ name, content: 'x' }));
    expect((await stand.refused(path('opt/dangling/x'), 'DDBG_UNSAFE')).message).toContain('leads nowhere');
    expect((await stand.refused(path('opt/loop/x'), 'DDBG_UNSAFE')).message).toContain('round in a circle');
  });

  it('refuses its own directory as a target', async () => {
    const stand = makeStand();
    const workDir = join(stand.root, 'run/ours');
    fs.mkdirSync(workDir, { recursive: true });
    const path = stand.file('p.tar', tarOf({ name: 'run/ours/state.json', content: 'x' }));
    const error = await stand.apply(path, { workDir }).catch((reason: unknown) => reason);
    expect(String(error)).toContain('/run/ours/state.json is in our own directory');
    expect(fs.readdirSync(workDir)).toEqual([]);
  });
});

describe('new things', () => {
  it('have the modes of the archive under any umask', async () => {
    const stand = makeStand();
    process.umask(0o077);
    await applyTar(
      stand,
      { name: 'opt/new/', type: '5', mode: 0o555 },
      { name: 'opt/new/a', content: 'a', mode: 0o666 },
      { name: 'opt/implied/b', content: 'b', mode: 0o444 },
      { name: 'etc/c', content: 'c', mode: 0o777 },
    );
    const mode = (path: string): string => (fs.statSync(join(stand.root, path)).mode & 0o7777).toString(8);
    expect(['opt/new', 'opt/new/a', 'opt/implied', 'opt/implied/b', 'etc/c'].map(mode)).toEqual([
      '555',
      '666',
      '755',
      '444',
      '777',
    ]);
  });

  it('never have setuid, setgid or sticky bits, and a line says so', async () => {
    const stand = makeStand();
    await applyTar(stand, { name: 'usr/bin/su', content: 'x', mode: 0o6755 });
    expect(fs.statSync(join(stand.root, 'usr/bin/su')).mode & 0o7777).toBe(0o755);
    expect(stand.lines.join('')).toMatch(/setuid, setgid and sticky bits are not taken.*\/usr\/bin\/su/);
  });

  it('arrive under another folder only when asked, and a line says how', async () => {
    const stand = makeStand();
    const path = stand.file(
      'p.zip',
      zipOf({ name: 'pkg/data/x', content: 'x' }, { name: 'pkg/y', content: 'y' }),
    );
    await stand.apply(path);
    expect(stand.read('pkg/y')).toBe('y');
    expect(stand.lines.join('')).toMatch(/goes below \/pkg, which is not there yet; #strip=1/);
    await stand.apply([{ location: path, strip: 1 }]);
    expect(stand.read('data/x')).toBe('x');
    expect((await stand.refused([{ location: path, strip: 5 }], 'DDBG_ARCHIVE')).message).toContain(
      'strip=5',
    );
  });
});

describe('several archives', () => {
  it('apply in order, the second on what the first has made', async () => {
    const stand = makeStand();
    const first = stand.file(
      '1.tar',
      tarOf(
        { name: 'opt/v1/', type: '5' },
        { name: 'opt/current', type: '2', link: 'v1' },
        { name: 'etc/app.conf', content: 'first' },
      ),
    );
    const second = stand.file(
      '2.tar',
      tarOf({ name: 'opt/current/x', content: 'x' }, { name: 'etc/app.conf', content: 'second' }),
    );
    const report = await stand.apply([first, second]);
    expect([stand.read('opt/v1/x'), stand.read('etc/app.conf')]).toEqual(['x', 'second']);
    expect(report.sources[1]?.entries).toMatchObject([
      { path: '/opt/v1/x' },
      { action: 'replaced', sha256Before: sha256('first') },
    ]);
    expect(fs.readFileSync(originals(stand, '/etc/app.conf'), 'utf8')).toBe('old conf\n');
    expect(fs.readFileSync(originals(stand, '../2/etc/app.conf'), 'utf8')).toBe('first');
  });

  it('are taken back together, whatever the second one fails by', async () => {
    const stand = makeStand();
    const first = stand.file(
      '1.tar',
      tarOf(
        { name: 'opt/new/deep/x', content: 'x' },
        { name: 'etc/app.conf', content: 'first' },
        { name: 'usr/lib/libx.so.1', type: '2', link: 'liby' },
        { name: 'usr/bin/added', content: 'a' },
      ),
    );
    const bad: Record<string, Buffer> = {
      DDBG_ARCHIVE: Buffer.from('<html>'),
      DDBG_UNSAFE: tarOf(
        { name: 'opt/new/deep/y', content: 'y' },
        { name: 'opt/new/deep', content: 'a file over a directory of the first' },
      ),
    };
    for (const [code, content] of Object.entries(bad)) {
      await stand.refused([first, stand.file('2', content)], code as 'DDBG_ARCHIVE');
    }
  });

  it('are all fetched before the first one touches anything', async () => {
    const stand = makeStand();
    const first = stand.file('1.tar', tarOf({ name: 'etc/app.conf', content: 'first' }));
    let called = 0;
    const beforeCommit = async (): Promise<void> => {
      called += 1;
    };
    await stand.refused([first, '/no/such/file'], 'DDBG_FETCH', { beforeCommit });
    expect(called).toBe(0);
    await stand.apply([first, first], { beforeCommit });
    expect(called).toBe(1);
  });
});

describe('all or nothing', () => {
  const parts: TarPart[] = [
    { name: 'opt/new/deep/x', content: 'x' },
    { name: 'etc/app.conf', content: 'new' },
    { name: 'usr/bin/tool', content: 'new' },
    { name: 'usr/bin/link', type: '2', link: 'tool' },
    { name: 'etc/added', content: 'a' },
  ];

  it('when a target has become a directory meanwhile', async () => {
    const stand = makeStand();
    const path = stand.file('p.tar', tarOf(...parts));
    const target = join(stand.root, 'usr/bin/link');
    const beforeCommit = async (): Promise<void> => {
      fs.mkdirSync(join(target, 'full'), { recursive: true });
    };
    const before = snapshotTree(stand.root);
    const error = await stand.apply(path, { beforeCommit }).catch((reason: unknown) => reason);
    expect(error).toMatchObject({
      code: 'DDBG_WRITE',
      message: expect.stringMatching(/^cannot replace .*\/usr\/bin\/link:.*nothing is changed/),
    });
    fs.rmSync(target, { recursive: true });
    const after = snapshotTree(stand.root);
    expect({ ...after, 'usr/bin': 0 }).toEqual({ ...before, 'usr/bin': 0 }); // the test itself touched usr/bin
  });

  it('when what is needed later cannot be loaded, and when it takes a stop to find out', async () => {
    const stand = makeStand();
    const path = stand.file('p.tar', tarOf(...parts));
    const stop = new AbortController();
    await stand.refused(path, 'DDBG_ABORTED', {
      signal: stop.signal,
      beforeCommit: async () => stop.abort(),
    });
    await stand.refused(path, 'DDBG_WRITE', { beforeCommit: () => Promise.reject(new Error('no module')) });
  });

  it('when it is stopped while it stages', async () => {
    const stand = makeStand();
    const path = stand.file('p.tar', tarOf(...parts, { name: 'opt/large', content: Buffer.alloc(8e6, 'x') }));
    const stop = new AbortController();
    let staged = false;
    const watcher = fs.watch(stand.root, () => {
      staged = true;
      stop.abort();
    });
    onTestFinished(() => watcher.close());
    await stand.refused(path, 'DDBG_ABORTED', { signal: stop.signal });
    expect(staged).toBe(true);
  });

  it('when a name in the middle cannot be made', async () => {
    const stand = makeStand();
    const path = stand.file('p.tar', tarOf(...parts));
    const beforeCommit = async (): Promise<void> => {
      // A staged file is gone: the rename fails after others have succeeded.
      fs.rmSync(join(stand.root, '.ddbg-overlay/new/1/2'));
    };
    const error = await stand.refused(path, 'DDBG_WRITE', { beforeCommit });
    expect(error.message).toContain('ENOENT');
  });

  it('an immutable file fails the commit, and nothing is changed', async ({ skip }) => {
    const stand = makeStand();
    const path = stand.file('p.tar', tarOf(...parts));
    const target = join(stand.root, 'etc/app.conf');
    if (spawnSync('chattr', ['+i', target]).status !== 0) return skip('SKIPPED: no immutable files here');
    onTestFinished(() => void spawnSync('chattr', ['-i', target]));
    const error = await stand.refused(path, 'DDBG_WRITE'); // neither link nor rename: the commit fails and is undone
    expect(error.message).toMatch(/\/etc\/app\.conf.*nothing is changed/);
  });
});

it('replaces a program that is running', async () => {
  const stand = makeStand();
  const program = join(stand.root, 'usr/bin/sleeper');
  fs.copyFileSync(fs.realpathSync('/bin/sleep'), program);
  const child: ChildProcess = spawn(program, ['1000'], { stdio: 'ignore' });
  onTestFinished(() => void child.kill('SIGKILL'));
  await once(child, 'spawn');
  expect(() => fs.openSync(program, 'w')).toThrow('ETXTBSY'); // what a writer in place would have met
  await applyTar(stand, { name: 'usr/bin/sleeper', content: '#!/bin/sh\necho patched\n', mode: 0o755 });
  expect(spawnSync(program, { encoding: 'utf8' }).stdout).toBe('patched\n');
  expect(child.exitCode).toBeNull();
  process.kill(child.pid as number, 0);
});

it('says nothing that would end a line', async () => {
  const stand = makeStand();
  const lines: string[] = [];
  const log = createLog({ write: (text) => void lines.push(text), terminal: false, verbose: true });
  await stand.apply(stand.file('p.zip', zipOf({ name: 'etc/a\nddbg-entry: fake', content: 'x' })), { log });
  expect(fs.readdirSync(join(stand.root, 'etc'))).toContain('a\nddbg-entry: fake');
  for (const line of lines) expect(line).toMatch(/^ddbg-entry: .*\n$/);
});

it('refuses a root that is none', async () => {
  const stand = makeStand();
  const path = stand.file('p.tar', tarOf({ name: 'etc/x', content: 'x' }));
  for (const root of ['/no/such/root', 'relative', path]) {
    await expect(stand.apply(path, { root })).rejects.toMatchObject({ code: 'DDBG_ROOT' });
  }
});
