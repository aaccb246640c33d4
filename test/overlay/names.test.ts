import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkLinkTarget, checkName } from '../../src/overlay/names.ts';
import { findStrip, singleFolder } from '../../src/overlay/strip.ts';

const good = fc.stringMatching(/^[A-Za-z0-9 _+~\n\u00e9-]{1,20}$/);
const reason = (name: string): string | undefined => {
  const checked = checkName(name, 100);
  return 'refused' in checked ? checked.refused : undefined;
};

describe('checkName', () => {
  it.each([
    ['usr/bin/x', ['usr', 'bin', 'x']],
    ['./usr/bin/', ['usr', 'bin']],
    ['usr//./bin', ['usr', 'bin']],
    ['./', []],
    ['.', []],
    ['...', ['...']],
    ['a\\b', ['a\\b']],
    ['.whx', ['.whx']],
  ])('%j', (name, components) => {
    expect(checkName(name, 100)).toEqual({ components });
  });

  it.each([
    ['', /empty/],
    ['/etc/passwd', /absolute/],
    ['//etc', /absolute/],
    ['../x', /'\.\.'/],
    ['a/../../x', /'\.\.'/],
    ['a/..', /'\.\.'/],
    ['a\0b', /NUL/],
    ['.wh.etc/passwd', /folder of its name starts with \.wh\./],
    ['.wh..wh..opq/x', /folder of its name/],
    ['etc/.wh.', /names nothing/],
    ['etc/.wh..', /names nothing/],
    ['etc/.wh...', /names nothing/],
    ['.wh..wh.plnk', /aufs/],
    ['.wh..wh.aufs', /aufs/],
    ['etc/.wh..wh.', /aufs/],
    ['etc/.wh..wh..opq2', /aufs/],
    [`${'\udcff'.repeat(256)}`, /255 bytes/],
    [`${'é'.repeat(128)}`, /255 bytes/],
    ['a/'.repeat(101), /101 folders/],
  ])('refuses %j', (name, why) => {
    expect(reason(name)).toMatch(why);
  });

  it.each<[string, string[], string]>([
    ['etc/.wh.passwd', ['etc', 'passwd'], 'name'],
    ['./.wh.etc/', ['etc'], 'name'],
    ['a//.wh.b c', ['a', 'b c'], 'name'],
    ['a/.wh.\udce9', ['a', '\udce9'], 'name'],
    ['a/.wh....', ['a', '...'], 'name'],
    ['a/.wh..x', ['a', '.x'], 'name'],
    ['etc/app/.wh..wh..opq', ['etc', 'app'], 'opaque'],
    ['.wh..wh..opq', [], 'opaque'],
  ])('%j deletes', (name, components, whiteout) => {
    expect(checkName(name, 100)).toEqual({ components, whiteout });
  });

  it('takes 255 bytes of any kind, and refuses a path of 100,000 levels', () => {
    expect(checkName('\udcff'.repeat(255), 100)).toHaveProperty('components');
    expect(reason('a/'.repeat(100_000))).toMatch(/100000 folders/);
  });

  it('gives back the components of any good name, however it is written', () => {
    fc.assert(
      fc.property(
        fc.array(good, { minLength: 1, maxLength: 10 }),
        fc.constantFrom('/', '//', '/./'),
        (parts, slash) => {
          expect(checkName(`./${parts.join(slash)}/`, 100)).toEqual({ components: parts });
        },
      ),
    );
  });

  it('never lets a component out that could leave its folder', () => {
    const piece = fc.constantFrom('..', '.', '', 'a', '...', '\0', '..\0', ' ..', 'usr');
    fc.assert(
      fc.property(
        fc.array(fc.oneof(piece, fc.string())).map((parts) => parts.join('/')),
        (name) => {
          const checked = checkName(name, 100);
          if ('refused' in checked) return;
          expect(name.startsWith('/')).toBe(false);
          for (const component of checked.components) {
            expect(['', '.', '..']).not.toContain(component);
            expect(component).not.toMatch(/[/\0]/);
          }
        },
      ),
    );
  });
});

describe('checkLinkTarget', () => {
  it('takes what a kernel takes, wherever it leads', () => {
    expect(checkLinkTarget('../../../etc/shadow')).toBeUndefined();
    expect(checkLinkTarget('')).toMatch(/empty/);
    expect(checkLinkTarget('a\0b')).toMatch(/NUL/);
    expect(checkLinkTarget('x'.repeat(4096))).toMatch(/4095/);
    expect(checkLinkTarget('\udcff'.repeat(4095))).toBeUndefined();
  });
});

const names = (...list: string[]) =>
  list.map((name) => ({ components: name.split('/').filter(Boolean), isFile: !name.endsWith('/') }));

describe('findStrip', () => {
  const nothingThere = () => false;

  it('takes a folder that the root has for no packaging', () => {
    const list = names('server/lib/x.js', 'server/index.js');
    expect(findStrip(list, nothingThere).strip).toBe(1);
    expect(findStrip(list, (folder) => folder === 'server')).toEqual({ strip: 0, because: 'server' });
    expect(findStrip(names('server', 'repo/usr/x'), (folder) => folder === 'server').strip).toBe(1);
  });

  it.each([
    [['usr/bin/x'], 0],
    [['repo-main/', 'repo-main/README', 'repo-main/usr/bin/x'], 1],
    [['a/b/etc/x'], 2],
    [['a/b/c/etc/x'], 0],
    [['readme', 'data/x'], 0],
    [['a/b/etc/x', 'c/usr/y'], 1],
    [['repo/run', 'repo/a/etc/x'], 2], // a file called run is no folder
    [['bin'], 0],
    [['x/opt/'], 1],
  ])('%j -> %i', (list, strip) => {
    expect(findStrip(names(...list), nothingThere).strip).toBe(strip);
  });

  it('says what decided it', () => {
    expect(findStrip(names('repo/README', 'repo/usr/bin/x'), nothingThere).because).toBe('repo/usr');
    expect(findStrip(names('data/x'), nothingThere).because).toBeUndefined();
  });

  it('finds the same level one folder further down', () => {
    const folder = fc.constantFrom('one', 'two', 'three');
    fc.assert(
      fc.property(fc.array(folder, { maxLength: 2 }), fc.constantFrom('usr', 'etc', 'bin'), (above, top) => {
        expect(findStrip(names([...above, top, 'file'].join('/')), nothingThere).strip).toBe(above.length);
      }),
    );
  });
});

describe('singleFolder', () => {
  it('is the one folder that holds everything', () => {
    expect(singleFolder(names('pkg/', 'pkg/a', 'pkg/b/c'))).toBe('pkg');
    expect(singleFolder(names('pkg/a', 'other/b'))).toBeUndefined();
    expect(singleFolder(names('pkg/a', 'file'))).toBeUndefined();
    expect(singleFolder(names('file'))).toBeUndefined();
  });
});
