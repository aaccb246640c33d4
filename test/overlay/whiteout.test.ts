/** Deletions as the layers of an image have them: OCI image-spec, layer.md. */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { paxHeader, type TarPart, tarOf, zipOf } from './archives.ts';
import { mayMount, mountFile, mountVolume } from './mounting.ts';
import { makeStand, originals, type Stand } from './stand.ts';
import { furnish, type Tree, treeOf } from './trees.ts';

const canMount = mayMount();
if (!canMount) console.warn('SKIPPED: whiteouts of mount points need root and CAP_SYS_ADMIN');

const file = (name: string, content = 'new'): TarPart => ({ name, content });
const empty = (name: string): TarPart => ({ name });

function furnishedStand(): Stand {
  const stand = makeStand();
  furnish(stand.root);
  return stand;
}

const apply = (stand: Stand, ...parts: TarPart[]) =>
  stand.apply([{ location: stand.file('p.tar', tarOf(...parts)), strip: 0 }]);

const refused = async (stand: Stand, ...parts: TarPart[]): Promise<string> => {
  const source = { location: stand.file('p.tar', tarOf(...parts)), strip: 0 };
  return (await stand.refused([source], 'DDBG_UNSAFE')).message;
};

/** Names that are gone, and names that came. */
function difference(before: Tree, after: Tree): { gone: string[]; came: string[] } {
  return {
    gone: Object.keys(before).filter((name) => !(name in after)),
    came: Object.keys(after).filter((name) => !(name in before)),
  };
}

describe('a whiteout', () => {
  const OLD = ['', '/again', '/deep', '/deep/er', '/deep/er/file', '/deep/setuid', '/empty', '/link'];
  it.each<[string, TarPart[], string[], string[]]>([
    ['of a file', [empty('etc/.wh.app.conf')], ['etc/app.conf'], []],
    ['of a symlink, not of what it leads to', [empty('usr/lib/.wh.libx.so.1')], ['usr/lib/libx.so.1'], []],
    ['of a symlink to a folder', [empty('.wh.lib')], ['lib'], []],
    ['of a symlink that leads nowhere', [empty('srv/.wh.absolute')], ['srv/absolute'], []],
    ['of a whole folder', [empty('srv/.wh.old')], OLD.map((name) => `srv/old${name}`), []],
    ['through a symlink to a folder', [empty('bin/.wh.tool')], ['usr/bin/tool'], []],
    ['through an absolute symlink, inside the root', [empty('lib/.wh.libx.so.1')], ['usr/lib/libx.so.1'], []],
    ['of one name of a hard link group', [empty('srv/group/.wh.one')], ['srv/group/one'], []],
    ['with ./ in front', [empty('./etc/./.wh.app.conf')], ['etc/app.conf'], []],
    [
      'of a file, and one of the folder above it',
      [empty('srv/full/.wh.1'), empty('srv/.wh.full')],
      ['srv/full', 'srv/full/1', 'srv/full/2', 'srv/full/sub', 'srv/full/sub/3'],
      [],
    ],
    ['twice', [empty('etc/.wh.app.conf'), empty('etc/.wh.app.conf')], ['etc/app.conf'], []],
    ['of a name with a dot', [empty('etc/.wh..hidden')], [], []],
    ['of a name that is not there', [empty('etc/.wh.nothing'), empty('no/such/.wh.folder')], [], []],
    ['below a file', [empty('etc/app.conf/.wh.x')], [], []],
    ['below a symlink that leads nowhere', [empty('srv/absolute/x/.wh.y')], [], []],
    ['in a folder that the archive makes', [file('opt/n/x'), empty('opt/n/.wh.y')], [], ['opt/n', 'opt/n/x']],
    ['of what the same archive brings: that stays', [file('etc/n'), empty('etc/.wh.n')], [], ['etc/n']],
    [
      'of what the same archive brings, the other way round',
      [empty('etc/.wh.n'), file('etc/n')],
      [],
      ['etc/n'],
    ],
    ['of a file that the same archive replaces', [empty('etc/.wh.app.conf'), file('etc/app.conf')], [], []],
    [
      'of a folder that the same archive fills',
      [empty('srv/.wh.full'), file('srv/full/2'), file('srv/full/n/m')],
      ['srv/full/1', 'srv/full/sub', 'srv/full/sub/3'],
      ['srv/full/n', 'srv/full/n/m'],
    ],
    [
      'of all in a folder, explicitly',
      [empty('srv/full/.wh.1'), empty('srv/full/.wh.2'), empty('srv/full/.wh.sub')],
      ['srv/full/1', 'srv/full/2', 'srv/full/sub', 'srv/full/sub/3'],
      [],
    ],
  ])('%s', async (_what, parts, gone, came) => {
    const stand = furnishedStand();
    const before = treeOf(stand.root);
    const report = await apply(stand, ...parts);
    expect(difference(before, treeOf(stand.root))).toEqual({ gone: gone.toSorted(), came: came.toSorted() });
    const removed = report.sources[0]?.entries.filter(({ action }) => action === 'removed');
    expect(removed?.map(({ path }) => path).toSorted()).toEqual(gone.map((name) => `/${name}`).toSorted());
    expect(report.sources[0]?.removed).toBe(gone.length);
    expect(Object.keys(treeOf(stand.root)).filter((name) => name.includes('.wh.'))).toEqual([]);
    stand.revert();
    expect(treeOf(stand.root)).toEqual(before);
  });

  it('leaves times, modes and owners of the folders above', async () => {
    const stand = furnishedStand();
    const before = treeOf(stand.root);
    await apply(stand, empty('srv/.wh.old'), empty('srv/group/.wh.one'));
    const after = treeOf(stand.root);
    for (const name of ['.', 'srv', 'srv/group']) expect(after[name]).toEqual(before[name]);
  });

  it('keeps the originals, and says in the log what is gone', async () => {
    const stand = furnishedStand();
    await apply(stand, empty('srv/.wh.closed'));
    expect(fs.readFileSync(originals(stand, 'srv/closed/file'), 'utf8')).toBe('closed');
    expect(stand.lines.join('')).toMatch(/removed file \/srv\/closed\/file, mode 0400, 6 B\n/);
    expect(stand.lines.join('')).toMatch(/removed directory \/srv\/closed, mode 0555/);
    expect(stand.lines.at(-1)).toMatch(/0 files, .*; 0 replaced, 2 removed\n$/);
  });

  it('of a name of any bytes', async () => {
    const stand = furnishedStand();
    const before = treeOf(stand.root);
    await apply(stand, { name: Buffer.from('srv/.wh.n\xe9\xff', 'latin1') });
    expect(difference(before, treeOf(stand.root)).gone).toEqual(['srv/n\\xe9\\xff']);
  });

  it('as Docker writes all but the first of a layer: with the name of the first as their link', async () => {
    const stand = furnishedStand();
    const first = 'srv/pair/.wh.a';
    await apply(stand, empty(first), { ...empty('srv/pair/.wh.b'), link: first });
    expect(fs.readdirSync(join(stand.root, 'srv/pair'))).toEqual([]);
    const other = stand.file('o.tar', tarOf({ ...file('etc/m'), link: first }));
    expect((await stand.refused(other, 'DDBG_ARCHIVE')).message).toMatch(/a file with a target/);
  });

  it('in a zip', async () => {
    const stand = furnishedStand();
    const zip = zipOf({ name: 'etc/.wh.app.conf' }, { name: 'srv/full/.wh..wh..opq' });
    const report = await stand.apply(stand.file('p.zip', zip));
    expect(report.sources[0]?.removed).toBe(5);
    expect(fs.existsSync(join(stand.root, 'etc/app.conf'))).toBe(false);
  });

  it('below leading folders that are dropped', async () => {
    const stand = furnishedStand();
    const tar = tarOf(empty('repo/etc/.wh.app.conf'), file('repo/usr/bin/n'), empty('repo/.wh.README'));
    const report = await stand.apply(stand.file('p.tar', tar));
    expect(report.sources[0]).toMatchObject({ strip: 1, removed: 1 });
    expect(fs.existsSync(join(stand.root, 'etc/app.conf'))).toBe(false);
  });

  it('of what an earlier archive of the same run has brought', async () => {
    const stand = furnishedStand();
    const before = treeOf(stand.root);
    const first = stand.file('1.tar', tarOf(file('opt/n/x'), file('etc/m')));
    const second = stand.file('2.tar', tarOf(empty('opt/.wh.n'), empty('etc/.wh.m')));
    await stand.apply([first, second]);
    expect(difference(before, treeOf(stand.root))).toEqual({ gone: [], came: [] });
  });
});

describe('an opaque folder', () => {
  const FULL = ['1', '2', 'sub', 'sub/3'].map((name) => `srv/full/${name}`);
  it.each<[string, TarPart[], string[], string[]]>([
    ['loses all it has', [empty('srv/full/.wh..wh..opq')], FULL, []],
    [
      'keeps what the archive brings after it',
      [empty('srv/full/.wh..wh..opq'), file('srv/full/1'), file('srv/full/n')],
      FULL.slice(1),
      ['srv/full/n'],
    ],
    [
      'keeps what the archive brings before it',
      [file('srv/full/1'), file('srv/full/n'), empty('srv/full/.wh..wh..opq')],
      FULL.slice(1),
      ['srv/full/n'],
    ],
    [
      'keeps a folder in it that the archive has, and nothing else in that',
      [{ name: 'srv/full/sub/', type: '5' }, empty('srv/full/.wh..wh..opq')],
      ['srv/full/1', 'srv/full/2', 'srv/full/sub/3'],
      [],
    ],
    [
      'keeps what is there already just so',
      [file('srv/full/2', '2'), empty('srv/full/.wh..wh..opq')],
      ['srv/full/1', 'srv/full/sub', 'srv/full/sub/3'],
      [],
    ],
    ['by a symlink to it', [empty('bin/.wh..wh..opq')], ['usr/bin/tool'], []],
    ['that is not there', [empty('opt/none/.wh..wh..opq')], [], []],
    ['that the archive makes', [file('opt/n/x'), empty('opt/n/.wh..wh..opq')], [], ['opt/n', 'opt/n/x']],
    ['that is a file on the disk', [empty('etc/app.conf/.wh..wh..opq')], [], []],
    ['in another one', [empty('srv/full/.wh..wh..opq'), empty('srv/full/sub/.wh..wh..opq')], FULL, []],
  ])('%s', async (_what, parts, gone, came) => {
    const stand = furnishedStand();
    const before = treeOf(stand.root);
    await apply(stand, ...parts);
    expect(difference(before, treeOf(stand.root))).toEqual({ gone: gone.toSorted(), came: came.toSorted() });
    stand.revert();
    expect(treeOf(stand.root)).toEqual(before);
  });

  it('gives what layer.md says for its own example, in both orders', async () => {
    const opaque = empty('a/.wh..wh..opq');
    const rest = [{ name: 'a/b/', type: '5' }, { name: 'a/b/c/', type: '5' }, file('a/b/c/foo')];
    for (const parts of [
      [opaque, ...rest],
      [...rest, opaque],
    ]) {
      const stand = makeStand();
      fs.mkdirSync(join(stand.root, 'a/b/c'), { recursive: true });
      fs.writeFileSync(join(stand.root, 'a/b/c/bar'), 'bar');
      await apply(stand, { name: 'a/', type: '5' }, ...parts);
      expect(Object.keys(treeOf(join(stand.root, 'a')))).toEqual(['.', 'b', 'b/c', 'b/c/foo']);
    }
  });
});

describe('refused, the root as it was', () => {
  it.each<[string, TarPart[], RegExp]>([
    ['a whiteout with content', [file('etc/.wh.app.conf')], /a whiteout is an empty file/],
    [
      'a whiteout that is a folder',
      [{ name: 'etc/.wh.app.conf/', type: '5' }],
      /a whiteout is an empty file/,
    ],
    ['a whiteout that is a symlink', [{ name: 'etc/.wh.app.conf', type: '2', link: 'x' }], /an empty file/],
    [
      'a whiteout that is a hard link',
      [file('etc/n'), { name: 'etc/.wh.app.conf', type: '1', link: 'etc/n' }],
      /an empty file/,
    ],
    ['something below a whiteout', [empty('etc/.wh.x/y')], /starts with .wh./],
    ['a whiteout of nothing', [empty('etc/.wh.')], /names nothing/],
    ['a whiteout of .', [empty('etc/.wh..')], /names nothing/],
    ['a whiteout of ..', [empty('etc/.wh...')], /names nothing/],
    ['what aufs keeps for itself', [empty('.wh..wh.plnk')], /aufs/],
    ['an opaque root', [empty('.wh..wh..opq')], /the root itself/],
    ['an opaque root, with content', [empty('./.wh..wh..opq'), file('etc/n')], /the root itself/],
    ['a whiteout of our own names', [empty('.wh..ddbg-overlay')], /our own/],
    [
      'a hard link to the mark of a deletion',
      [file('etc/n'), empty('etc/.wh.n'), { name: 'etc/h', type: '1', link: 'etc/.wh.n' }],
      /is no file earlier/,
    ],
    [
      'a symlink that goes while names lead through it',
      [empty('.wh.bin'), file('bin/n')],
      /symlink \/bin cannot be deleted/,
    ],
    ['.. in front of a whiteout', [empty('../.wh.x')], /'\.\.'/],
    [
      'a whiteout below a new symlink',
      [empty('opt/n/.wh.x'), { name: 'opt/n', type: '2', link: '/etc' }],
      /needs the directory \/opt\/n, which the archive makes something else/,
    ],
    ['an opaque file', [empty('etc/app.conf/.wh..wh..opq'), file('etc/app.conf')], /something else/],
  ])('%s', async (_what, parts, why) => {
    const stand = furnishedStand();
    expect(await refused(stand, ...parts)).toMatch(why);
  });

  it('an opaque folder above the level that is dropped', async () => {
    const stand = furnishedStand();
    const tar = stand.file('p.tar', tarOf(empty('repo/.wh..wh..opq'), file('repo/etc/n')));
    expect((await stand.refused(tar, 'DDBG_UNSAFE')).message).toMatch(/empty the root itself/);
  });

  it('our own directory, by its name, from above and from within', async () => {
    const stand = furnishedStand();
    const workDir = join(stand.root, 'run/ours');
    fs.mkdirSync(workDir, { recursive: true, mode: 0o700 });
    fs.writeFileSync(join(workDir, 'state.json'), '{}');
    for (const name of ['.wh.run', 'run/.wh.ours', 'run/.wh..wh..opq', 'run/ours/.wh.state.json']) {
      const before = treeOf(stand.root, { without: ['run/ours'] });
      const source = { location: stand.file('p.tar', tarOf(empty(name))), strip: 0 };
      const error = await stand.apply([source], { workDir }).catch((reason: unknown) => reason);
      expect(error).toMatchObject({
        code: 'DDBG_UNSAFE',
        message: expect.stringContaining('our own directory'),
      });
      expect(treeOf(stand.root, { without: ['run/ours'] })).toEqual(before);
      expect(fs.readdirSync(workDir)).toEqual(['state.json']);
    }
  });

  it('a FIFO', async () => {
    const stand = furnishedStand();
    expect(spawnSync('mkfifo', [join(stand.root, 'srv/full/pipe')]).status).toBe(0);
    const source = { location: stand.file('p.tar', tarOf(empty('srv/.wh.full'))), strip: 0 };
    const error = await stand.apply([source]).catch((reason: unknown) => reason);
    expect(String(error)).toMatch(/a FIFO \(\/srv\/full\/pipe\) cannot be deleted/);
  });
});

describe.skipIf(!canMount)('mounts', () => {
  it('refuses a mount point, by its name and by a folder above it', async () => {
    const stand = furnishedStand();
    mountVolume(stand, 'srv/full/volume');
    mountFile(stand, 'etc/hosts', 'of the host');
    for (const name of ['srv/full/.wh.volume', 'srv/.wh.full', 'srv/full/.wh..wh..opq', 'etc/.wh.hosts'])
      expect(await refused(stand, empty(name))).toMatch(/is a mount point and cannot be deleted/);
  });

  it('empties a volume, and deletes in it', async () => {
    const stand = furnishedStand();
    const volume = mountVolume(stand, 'data');
    furnish(volume);
    await apply(stand, empty('data/.wh..wh..opq'), file('data/kept/x'));
    expect(fs.readdirSync(volume)).toEqual(['kept']);
    stand.revert();
    expect(fs.readdirSync(volume)).toEqual(['opt', 'srv']);
  });
});

describe('docker save', () => {
  /** A layer as docker writes it: PAX headers for fractions of seconds, folders first, whiteouts in their place. */
  const LAYER = tarOf(
    { name: 'etc/', type: '5' },
    empty('etc/.wh.app.conf'),
    paxHeader({
      mtime: '1700000000.123456789',
      'SCHILY.xattr.security.capability': Buffer.from([1, 0, 0, 2]),
    }),
    file('etc/app.json', '{}'),
    { name: 'srv/', type: '5' },
    { name: 'srv/full/', type: '5' },
    empty('srv/full/.wh..wh..opq'),
    file('srv/full/fresh'),
    { name: 'usr/', type: '5' },
    { name: 'usr/bin/', type: '5' },
    { ...file('usr/bin/tool', 'new tool\n'), mode: 0o755 },
  );
  const ID = 'a'.repeat(64);
  const MANIFEST = JSON.stringify([{ Config: `${ID}.json`, RepoTags: ['x:1'], Layers: [`${ID}/layer.tar`] }]);

  it.each([
    ['as it is', LAYER],
    ['packed', gzipSync(LAYER)],
  ])('a layer works as a patch, %s', async (_what, content) => {
    const stand = furnishedStand();
    const before = treeOf(stand.root);
    await stand.apply(stand.file('layer', content));
    const gone = ['etc/app.conf', 'srv/full/1', 'srv/full/2', 'srv/full/sub', 'srv/full/sub/3'];
    const after = treeOf(stand.root);
    expect(difference(before, after)).toEqual({ gone, came: ['etc/app.json', 'srv/full/fresh'] });
    expect(after['etc/app.json']?.mtimeUs).toBe('1700000000123456');
    expect(stand.read('usr/bin/tool')).toBe('new tool\n');
    expect(stand.lines.join('')).toMatch(/extended attributes are not written \(security\.capability\)/);
    stand.revert();
    expect(treeOf(stand.root)).toEqual(before);
  });

  it.each<[string, TarPart[]]>([
    [
      'of docker before 25',
      [
        file(`${ID}/VERSION`, '1.0'),
        { name: `${ID}/layer.tar`, content: LAYER },
        file(`${ID}.json`, '{}'),
        file('manifest.json', MANIFEST),
      ],
    ],
    [
      'of docker since 25',
      [
        { name: `blobs/sha256/${ID}`, content: LAYER },
        file('index.json', '{}'),
        file('manifest.json', MANIFEST),
        file('oci-layout', '{}'),
      ],
    ],
    [
      'an OCI layout',
      [
        file('oci-layout', '{}'),
        file('index.json', '{}'),
        { name: `blobs/sha256/${ID}`, content: gzipSync(LAYER) },
      ],
    ],
  ])('a whole image is refused, with the way out: %s', async (_what, parts) => {
    const stand = furnishedStand();
    for (const archive of [
      tarOf(...parts),
      tarOf(...parts.map((part) => ({ ...part, name: `./${part.name}` }))),
    ]) {
      const error = await stand.refused(stand.file('image.tar', archive), 'DDBG_ARCHIVE');
      expect(error.message).toMatch(/a whole image \(docker save\)/);
      expect(error.hint).toMatch(/layer/);
    }
  });
});
