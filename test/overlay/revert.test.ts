/** What was laid over a root is taken back, and the root is as it was: to the mode, the microsecond and the inode. */
import * as fs from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { EntryError } from '../../src/errors.ts';
import type { RevertOptions } from '../../src/overlay/revert.ts';
import { paxHeader, type TarPart, tarOf } from './archives.ts';
import { runAsUser, UID } from './as-user.ts';
import { mayMount, mountFile, mountVolume } from './mounting.ts';
import { isRoot, makeStand, type Source, type Stand } from './stand.ts';
import { ageTree, furnish, only, treeOf } from './trees.ts';

const canMount = mayMount();
if (!canMount) console.warn('SKIPPED: reverts with real mounts need root and CAP_SYS_ADMIN');
if (!isRoot) console.warn('SKIPPED: only root can start a process as uid 1000');

function furnishedStand(): Stand {
  const stand = makeStand();
  furnish(stand.root);
  return stand;
}

const ALL_BUT_LINKS = ['type', 'mode', 'owner', 'mtimeUs', 'content'] as const;

let count = 0;
function source(stand: Stand, ...parts: TarPart[]): Source {
  count += 1;
  return { location: stand.file(`${count}.tar`, tarOf(...parts)), strip: 0 };
}

/** Nothing of ours is left: no backup, no run in the record, no transaction. */
function expectNothingKept({ root, workDir }: Pick<Stand, 'root' | 'workDir'>): void {
  expect(fs.readdirSync(root).filter((name) => name.startsWith('.ddbg'))).toEqual([]);
  const backup = join(workDir, 'backup');
  expect(fs.existsSync(backup) ? fs.readdirSync(backup) : []).toEqual([]);
  expect(runsOf(workDir)).toEqual([]);
}

function runsOf(workDir: string): unknown[] {
  return (JSON.parse(fs.readFileSync(join(workDir, 'overlay.json'), 'utf8')) as { runs: unknown[] }).runs;
}

function refusedRevert(stand: Stand, options: Partial<RevertOptions> = {}): EntryError {
  const before = treeOf(stand.root);
  const ours = treeOf(stand.workDir);
  try {
    stand.revert(options);
  } catch (error) {
    expect(treeOf(stand.root)).toEqual(before);
    expect(only(treeOf(stand.workDir), 'content')).toEqual(only(ours, 'content'));
    return error as EntryError;
  }
  return expect.fail('it was taken back');
}

const file = (name: string, content = `new ${name}`, mode = 0o644): TarPart => ({ name, content, mode });
const link = (name: string, target: string): TarPart => ({ name, type: '2', link: target });
const hard = (name: string, target: string): TarPart => ({ name, type: '1', link: target });
const folder = (name: string, mode = 0o755): TarPart => ({ name: `${name}/`, type: '5', mode });
const gone = (name: string): TarPart => ({ name: name.replace(/[^/]*$/, '.wh.$&') });
const emptied = (name: string): TarPart => ({ name: `${name}/.wh..wh..opq` });

/** Runs of archives; each brings the root back to what it was. */
const SCENARIOS: Record<string, TarPart[][][]> = {
  'new files, in old folders and new ones': [
    [
      [
        file('etc/a'),
        file('srv/b', '', 0o600),
        folder('opt/x', 0o555),
        file('opt/x/y/z'),
        folder('opt/e', 0o1777),
      ],
    ],
  ],
  'replaced files': [
    [
      [
        file('etc/app.conf', 'new', 0o777),
        file('usr/bin/tool'),
        file('srv/closed/file'),
        file('srv/old/deep/setuid'),
      ],
    ],
  ],
  'a replaced file of the same size': [[[file('etc/app.conf', 'NEW conf\n')]]],
  'a mode that changes, and nothing else': [[[file('etc/app.conf', 'old conf\n', 0o600)]]],
  'symlinks, new and replaced, by links and by files': [
    [[link('opt/new', '/nowhere'), link('usr/lib/libx.so.1', 'libx.so.2'), file('srv/absolute')]],
  ],
  'a file replaced by a symlink': [[[link('etc/app.conf', '/etc/other'), link('srv/group/one', 'two')]]],
  'one name of a hard link group': [[[file('srv/group/two')]]],
  'all names of a hard link group, by one new file': [
    [[file('srv/group/one'), hard('srv/group/two', 'srv/group/one'), hard('opt/three', 'srv/group/one')]],
  ],
  'new hard links, and one to a file that is there already': [
    [[file('srv/pair/a', 'a pair'), hard('srv/pair/c', 'srv/pair/a'), file('opt/n'), hard('etc/m', 'opt/n')]],
  ],
  'folders, links and files by whiteouts': [
    [[gone('srv/old'), gone('srv/absolute'), gone('etc/app.conf'), gone('srv/pair/a'), gone('srv/closed')]],
  ],
  'a whiteout of half a hard link group': [[[gone('srv/group/one'), gone('opt/three')]]],
  'opaque folders, with and without content of the archive': [
    [
      [
        emptied('srv/full'),
        file('srv/full/2'),
        file('srv/full/sub/4'),
        emptied('srv/old'),
        emptied('srv/closed'),
      ],
    ],
  ],
  'through merged /usr': [
    [[file('bin/tool'), file('lib/new'), gone('lib/libx.so.1'), link('bin/alias', 'tool')]],
  ],
  'names of any bytes': [
    [
      [
        { name: Buffer.from('srv/n\xe9\xff', 'latin1'), content: 'new' },
        { name: Buffer.from('srv/\xfe/\xfd', 'latin1'), content: 'in a folder' },
        { name: Buffer.from('srv/l\xe9', 'latin1'), type: '2', link: Buffer.from('\xff', 'latin1') },
      ],
    ],
    [[{ name: Buffer.from('srv/.wh.n\xe9\xff', 'latin1') }]],
  ],
  'files that are there already, and others': [
    [[file('etc/app.conf', 'old conf\n', 0o640), file('usr/bin/tool', 'old tool\n', 0o755), file('etc/b')]],
  ],
  'several archives in one run, on the same paths': [
    [
      [file('etc/app.conf', '1'), file('etc/new', '1'), link('opt/l', 'a')],
      [file('etc/app.conf', '2'), file('etc/new', '2'), link('opt/l', 'b')],
      [file('etc/app.conf', '3'), gone('etc/new'), file('opt/l', 'a file')],
    ],
  ],
  'several runs on the same paths': [
    [[file('etc/app.conf', '1'), file('opt/x/a'), gone('usr/bin/tool')]],
    [[file('etc/app.conf', '2'), gone('opt/x/a'), file('usr/bin/tool', 'again', 0o755)]],
    [[gone('etc/app.conf'), gone('opt/x'), file('usr/bin/tool', '3')]],
  ],
  'a file that comes back just as it was': [
    [[file('etc/app.conf', '1')]],
    [[file('etc/app.conf', 'old conf\n', 0o640)]],
  ],
  'a file that becomes a folder': [
    [[gone('etc/app.conf')], [file('etc/app.conf/a'), file('etc/app.conf/b/c')]],
  ],
  'a folder that becomes a file': [[[gone('srv/old')]], [[file('srv/old')]]],
  'a folder that becomes a symlink, and a file below what it was': [
    [[gone('srv/old')]],
    [[link('srv/old', 'full')]],
  ],
  'a folder that goes and comes, with other attributes': [
    [[gone('srv/old')]],
    [[folder('srv/old', 0o700), folder('srv/old/deep', 0o711), file('srv/old/deep/setuid')]],
  ],
  'a symlink to a folder that becomes a folder': [[[gone('lib')]], [[file('lib/x')]]],
  'a new file, then a folder of that name': [[[file('opt/n')]], [[gone('opt/n')]], [[file('opt/n/a')]]],
  'a new folder, then a file of that name': [[[file('opt/n/a/b')]], [[gone('opt/n')]], [[file('opt/n')]]],
  'a hard link group that is replaced, then removed': [
    [[file('srv/group/one'), hard('srv/group/two', 'srv/group/one')]],
    [[emptied('srv/group')]],
  ],
};

async function applyRuns(stand: Stand, runs: readonly (readonly TarPart[][])[]): Promise<void> {
  for (const archives of runs) await stand.apply(archives.map((parts) => source(stand, ...parts)));
}

describe('revertOverlays', () => {
  it.each(Object.entries(SCENARIOS))('%s', async (_what, runs) => {
    const stand = furnishedStand();
    const before = treeOf(stand.root);
    await applyRuns(stand, runs);
    expect(treeOf(stand.root)).not.toEqual(before);
    const report = stand.revert();
    expect(treeOf(stand.root)).toEqual(before);
    expectNothingKept(stand);
    expect(report).toMatchObject({ runs: runs.length, left: [] });
  });

  it.each(Object.entries(SCENARIOS))('run by run: %s', async (_what, runs) => {
    const stand = furnishedStand();
    const trees = [];
    for (const archives of runs) {
      trees.push(treeOf(stand.root));
      await applyRuns(stand, [archives]);
    }
    for (const before of trees.toReversed()) {
      expect(stand.revert({ runs: 1 }).runs).toBe(1);
      expect(treeOf(stand.root)).toEqual(before);
    }
    expectNothingKept(stand);
  });

  it.each(Object.entries(SCENARIOS))('by copies, the state directory elsewhere: %s', async (_what, runs) => {
    const stand = furnishedStand();
    const workDir = fs.mkdtempSync('/dev/shm/overlay-');
    onTestFinished(() => fs.rmSync(workDir, { recursive: true }));
    const before = treeOf(stand.root, { inodes: false });
    for (const archives of runs)
      await stand.apply(
        archives.map((parts) => source(stand, ...parts)),
        { workDir },
      );
    stand.revert({ workDir });
    // A copy is a file of its own: only what was one file and is there whole comes back as one.
    const after = treeOf(stand.root, { inodes: false });
    expect(only(after, ...ALL_BUT_LINKS)).toEqual(only(before, ...ALL_BUT_LINKS));
    expectNothingKept({ root: stand.root, workDir });
  });

  it('says what it did', async () => {
    const stand = furnishedStand();
    await stand.apply([source(stand, file('etc/app.conf'), file('opt/x/y'), gone('srv/closed'))]);
    const { root } = stand;
    const report = stand.revert();
    expect({ ...report, removed: report.removed.toSorted(), restored: report.restored.toSorted() }).toEqual({
      root,
      runs: 1,
      restored: ['/etc/app.conf', '/srv/closed', '/srv/closed/file'],
      removed: ['/opt/x', '/opt/x/y'],
      left: [],
    });
    expect(stand.lines.at(-1)).toContain(`took back 1 overlay of ${root}: 3 paths restored, 2 removed`);
  });

  it('knows its own root from another in one record', async () => {
    const stand = furnishedStand();
    const other = makeStand();
    const { workDir } = stand;
    await stand.apply([source(stand, file('etc/app.conf'))]);
    await other.apply([source(other, file('etc/app.conf', 'other'))], { workDir });
    expect(stand.revert().runs).toBe(1);
    expect([stand.read('etc/app.conf'), other.read('etc/app.conf')]).toEqual(['old conf\n', 'other']);
    expect(other.revert({ workDir }).runs).toBe(1);
    expect(other.read('etc/app.conf')).toBe('old conf\n');
  });

  it('does nothing the second time, and nothing for no runs', async () => {
    const stand = furnishedStand();
    await stand.apply([source(stand, file('etc/app.conf'))]);
    const laid = treeOf(stand.root);
    expect(stand.revert({ runs: 0 })).toMatchObject({ runs: 0, restored: [], removed: [], left: [] });
    expect(treeOf(stand.root)).toEqual(laid);
    stand.revert();
    const [root, ours] = [treeOf(stand.root), treeOf(join(stand.workDir, 'overlay.json'))];
    expect(stand.revert()).toMatchObject({ runs: 0, restored: [], removed: [], left: [] });
    expect([treeOf(stand.root), treeOf(join(stand.workDir, 'overlay.json'))]).toEqual([root, ours]);
  });

  it('leaves no record where there was none', () => {
    const stand = furnishedStand();
    expect(stand.revert().runs).toBe(0);
    expect(fs.readdirSync(stand.workDir)).toEqual([]);
  });

  it('adds nothing to the record for a run that finds all there, which stays revertible', async () => {
    const stand = furnishedStand();
    const before = treeOf(stand.root);
    const patch = source(
      stand,
      ...[file('etc/app.conf'), file('opt/x/y'), hard('opt/x/z', 'opt/x/y'), link('opt/x/l', 'y')],
      ...[gone('usr/bin/tool'), emptied('srv/full'), file('srv/full/9')],
    );
    await stand.apply([patch]);
    const [laid, ours] = [treeOf(stand.root), fs.readFileSync(join(stand.workDir, 'overlay.json'), 'utf8')];
    const again = await stand.apply([patch]);
    expect(again.sources[0]).toMatchObject({ files: 0, directories: 0, symlinks: 0, removed: 0 });
    expect(treeOf(stand.root)).toEqual(laid);
    expect(fs.readFileSync(join(stand.workDir, 'overlay.json'), 'utf8')).toBe(ours);
    expect(fs.readdirSync(join(stand.workDir, 'backup'))).toHaveLength(1);
    stand.revert();
    expect(treeOf(stand.root)).toEqual(before);
  });
});

describe('what changed since', () => {
  const patch = [file('etc/app.conf'), file('opt/x/y'), link('opt/x/l', 'y'), gone('usr/bin/tool')];

  it.each<[string, string, (at: (path: string) => string) => void]>([
    ['content', '/etc/app.conf', (at) => fs.appendFileSync(at('etc/app.conf'), 'more')],
    ['content of the same size', '/opt/x/y', (at) => fs.writeFileSync(at('opt/x/y'), 'NEW opt/x/y')],
    ['a file that is gone', '/opt/x/y', (at) => fs.unlinkSync(at('opt/x/y'))],
    [
      'a folder that is gone',
      '/opt/x, /opt/x/y, /opt/x/l',
      (at) => fs.rmSync(at('opt/x'), { recursive: true }),
    ],
    [
      'a link that leads elsewhere',
      '/opt/x/l',
      (at) => {
        fs.unlinkSync(at('opt/x/l'));
        fs.symlinkSync('elsewhere', at('opt/x/l'));
      },
    ],
    [
      'a file that is a folder now',
      '/etc/app.conf',
      (at) => {
        fs.unlinkSync(at('etc/app.conf'));
        fs.mkdirSync(at('etc/app.conf/deep'), { recursive: true });
      },
    ],
    [
      'a folder that is a file now',
      '/opt/x, /opt/x/y, /opt/x/l',
      (at) => {
        fs.rmSync(at('opt/x'), { recursive: true });
        fs.writeFileSync(at('opt/x'), 'a file');
      },
    ],
    ['a deleted name that is back', '/usr/bin/tool', (at) => fs.writeFileSync(at('usr/bin/tool'), 'back')],
    [
      'a deleted name that is a folder now',
      '/usr/bin/tool',
      (at) => fs.mkdirSync(at('usr/bin/tool/x'), { recursive: true }),
    ],
  ])('%s is refused, and taken back with force', async (_what, named, change) => {
    const stand = furnishedStand();
    const before = treeOf(stand.root);
    await stand.apply([source(stand, ...patch)]);
    change((path) => join(stand.root, path));
    const error = refusedRevert(stand);
    expect(error.code).toBe('DDBG_WRITE');
    expect(error.message).toMatch(/^cannot take back the overlay: changed since: /);
    expect(error.message.replace(/^.*since: /, '')).toBe(named);
    expect(error.hint).toContain('force');
    stand.revert({ force: true });
    const times = (tree: ReturnType<typeof treeOf>) =>
      only(tree, 'type', 'mode', 'owner', 'content', 'inode', 'group', 'links');
    expect(times(treeOf(stand.root))).toEqual(times(before)); // the test itself has touched mtimes of folders
    expectNothingKept(stand);
  });

  it.each([
    ['opt/x', false],
    ['srv/group', true],
  ])('never goes through a symlink that stands where %s was', async (swapped, refused) => {
    const stand = furnishedStand();
    await stand.apply([source(stand, file('opt/x/y'), file('srv/group/one'))]);
    const outside = join(stand.root, '..', 'outside');
    fs.renameSync(join(stand.root, swapped), outside);
    fs.symlinkSync(outside, join(stand.root, swapped));
    const before = treeOf(outside);
    expect(refusedRevert(stand).message).toContain('changed since');
    if (refused)
      expect(refusedRevert(stand, { force: true }).message).toMatch(/\/srv\/group is no directory/);
    else stand.revert({ force: true });
    expect(treeOf(outside)).toEqual(before);
  });

  it('a missing backup is refused, with force too', async () => {
    const stand = furnishedStand();
    const { backup } = await stand.apply([source(stand, ...patch)]);
    fs.unlinkSync(`${backup}/1/etc/app.conf`);
    for (const force of [false, true]) {
      const error = refusedRevert(stand, { force });
      expect(error.message).toMatch(/the originals are gone of \/etc\/app.conf$/);
      expect(error.code).toBe('DDBG_WRITE');
    }
  });

  it('a new folder that holds something that came later stays, and is named', async () => {
    const stand = furnishedStand();
    const before = treeOf(stand.root);
    await stand.apply([source(stand, file('opt/x/y/z'), file('opt/v/w'))]);
    fs.writeFileSync(join(stand.root, 'opt/x/later'), 'later');
    expect(stand.revert().left).toEqual(['/opt/x']);
    expect(stand.lines.join('')).toMatch(/\/opt\/x stays: it holds something that came later/);
    expect(fs.readdirSync(join(stand.root, 'opt'))).toEqual(['app', 'three', 'x']);
    expect(fs.readdirSync(join(stand.root, 'opt/x'))).toEqual(['later']);
    fs.rmSync(join(stand.root, 'opt/x'), { recursive: true });
    expect(only(treeOf(stand.root), 'content', 'mode')).toEqual(only(before, 'content', 'mode'));
  });

  it('a file cannot come back where a folder holds something that came later', async () => {
    const stand = furnishedStand();
    await applyRuns(stand, [[[gone('etc/app.conf')]], [[file('etc/app.conf/a')]]]);
    fs.writeFileSync(join(stand.root, 'etc/app.conf/later'), 'later');
    expect(refusedRevert(stand).message).toMatch(/\/etc\/app.conf/);
    stand.revert({ force: true });
    expect(stand.read('etc/app.conf')).toBe('old conf\n');
  });

  it('a record that cannot be read is refused', async () => {
    const stand = furnishedStand();
    await stand.apply([source(stand, ...patch)]);
    const record = join(stand.workDir, 'overlay.json');
    for (const text of ['{', '{"schema":1}', '[]', 'null', '{"schema":2}', '{"schema":2,"runs":7}']) {
      fs.writeFileSync(record, text);
      expect(refusedRevert(stand), text).toMatchObject({ name: 'EntryError', code: 'DDBG_STATE' });
    }
  });
});

describe.skipIf(!canMount)('mounts', () => {
  it('a mounted file, changed in place by several archives', async () => {
    const stand = furnishedStand();
    const host = mountFile(stand, 'etc/hosts', 'of the host\n');
    fs.chmodSync(host, 0o604);
    ageTree(stand.root);
    const before = treeOf(stand.root);
    await applyRuns(stand, [
      [[file('etc/hosts', '1')], [file('etc/hosts', 'two, longer than it was before')]],
      [[file('etc/hosts', '3')]],
    ]);
    expect(fs.readFileSync(host, 'utf8')).toBe('3');
    stand.revert();
    expect(treeOf(stand.root)).toEqual(before);
    expect(fs.readFileSync(host, 'utf8')).toBe('of the host\n');
    expectNothingKept(stand);
  });

  it('a volume below the root: all but inodes', async () => {
    const stand = furnishedStand();
    const volume = mountVolume(stand, 'data');
    furnish(join(volume));
    ageTree(stand.root);
    const before = treeOf(stand.root, { inodes: false });
    const inside = [
      ...[
        file('data/new/a'),
        file('data/srv/group/one'),
        link('data/srv/absolute', 'x'),
        gone('data/srv/old'),
      ],
      ...[
        emptied('data/srv/full'),
        file('data/srv/full/sub/3'),
        hard('etc/cross', 'data/new/a'),
        file('etc/app.conf'),
      ],
    ];
    await applyRuns(stand, [[inside], [[gone('data/new'), file('data/srv/pair/a')]]]);
    expect(stand.lines.join('')).not.toContain('a volume'); // a tmpfs goes with the container
    stand.revert();
    const after = treeOf(stand.root, { inodes: false });
    expect(only(after, ...ALL_BUT_LINKS)).toEqual(only(before, ...ALL_BUT_LINKS)); // across file systems: copies
    expectNothingKept(stand);
  });
});

describe.skipIf(!isRoot)('uid 1000', () => {
  /** What that user owns, and in it what it does not. */
  function ownedStand(): Stand {
    const stand = makeStand();
    const own = join(stand.root, 'opt/app');
    fs.mkdirSync(join(own, 'sub/deep'), { recursive: true });
    for (const path of ['own', 'sub/deep/file']) fs.writeFileSync(join(own, path), path, { mode: 0o640 });
    fs.linkSync(join(own, 'own'), join(own, 'sub/twin'));
    for (const path of ['', 'own', 'sub', 'sub/deep', 'sub/deep/file'])
      fs.chownSync(join(own, path), UID, UID);
    fs.writeFileSync(join(own, 'of-root'), "root's", { mode: 0o600 });
    fs.symlinkSync('own', join(own, 'link-of-root'));
    fs.chmodSync(join(own, 'sub/deep'), 0o555);
    ageTree(stand.root);
    return stand;
  }

  it.each<[string, TarPart[]]>([
    [
      'new files and closed folders',
      [file('opt/app/n'), folder('opt/app/x', 0o555), folder('opt/app/x/y', 0o500), file('opt/app/x/y/z')],
    ],
    ['replaced files and links', [file('opt/app/own'), link('opt/app/sub/twin', 'x')]],
    ["root's files", [file('opt/app/of-root'), file('opt/app/link-of-root')]],
    ["deletions of root's files", [gone('opt/app/of-root'), gone('opt/app/link-of-root')]],
    ['deletions', [gone('opt/app/own'), gone('opt/app/sub/twin')]],
    ['new hard links', [file('opt/app/own', 'own', 0o640), hard('opt/app/third', 'opt/app/own')]],
  ])('%s', async (_what, parts) => {
    const stand = ownedStand();
    const before = treeOf(stand.root);
    const [applied, reverted] = await runAsUser(stand, { apply: [source(stand, ...parts)] }, { revert: {} });
    expect(applied).toHaveProperty('sources');
    expect(reverted).toMatchObject({ runs: 1, left: [] });
    expect(treeOf(stand.root)).toEqual(before);
    expectNothingKept(stand);
    expect(fs.readdirSync(stand.workDir).filter((name) => !/^(backup|overlay.json)$/.test(name))).toEqual([]);
  });

  it('a folder with the mode that the archive gives it', async () => {
    const stand = ownedStand();
    const parts = [folder('opt/app/x', 0o555), folder('opt/app/x/y', 0o500), file('opt/app/x/y/z')];
    await runAsUser(stand, { apply: [source(stand, ...parts)] });
    const tree = treeOf(join(stand.root, 'opt/app/x'));
    expect(only(tree, 'mode', 'mtimeUs')).toMatchObject({
      '.': { mode: '555', mtimeUs: '1600000000000000' },
      y: { mode: '500', mtimeUs: '1600000000000000' },
    });
  });

  it('a whole run is refused where one place is closed, and nothing is taken back', async () => {
    const stand = ownedStand();
    const before = treeOf(stand.root);
    const parts = [file('opt/app/n'), gone('opt/app/sub/deep/file')];
    const [applied, reverted] = await runAsUser(stand, { apply: [source(stand, ...parts)] }, { revert: {} });
    expect(applied).toMatchObject({
      code: 'DDBG_WRITE',
      message: expect.stringContaining('/opt/app/sub/deep'),
    });
    expect(reverted).toMatchObject({ runs: 0 });
    expect(treeOf(stand.root)).toEqual(before);
  });
});

it('takes back what a pax archive with fractions of a second has brought', async () => {
  const stand = furnishedStand();
  const before = treeOf(stand.root);
  await stand.apply([source(stand, paxHeader({ mtime: '1234567890.123456789' }), file('etc/app.conf'))]);
  expect(treeOf(stand.root)['etc/app.conf']?.mtimeUs).toBe('1234567890123456');
  stand.revert();
  expect(treeOf(stand.root)).toEqual(before);
});
