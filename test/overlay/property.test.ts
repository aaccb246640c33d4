/**
 * Any archive over any root, of so few names that they meet all the time: refused, and nothing is changed; or laid as
 * recorded and nothing else; there already when it is laid again; and gone without a trace when it is taken back.
 */
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { EntryError } from '../../src/errors.ts';
import type { OverlayReport, ReportEntry } from '../../src/overlay/report.ts';
import { type TarPart, tarOf } from './archives.ts';
import { makeStand, type Stand } from './stand.ts';
import { ageTree, type Tree, treeOf } from './trees.ts';

const step = fc.constantFrom('a', 'b', 'c');
const path = fc.array(step, { minLength: 1, maxLength: 3 }).map((steps) => steps.join('/'));
const content = fc.constantFrom('', 'one', 'two', 'x'.repeat(600));
const mode = fc.constantFrom(0o644, 0o755, 0o400);
const linkTarget = fc.oneof(path, fc.constantFrom('.', '..', '/a', '../b', 'nowhere'));

type Thing =
  | { readonly is: 'file'; readonly path: string; readonly content: string; readonly mode: number }
  | { readonly is: 'folder'; readonly path: string }
  | { readonly is: 'symlink' | 'hardlink'; readonly path: string; readonly to: string }
  | { readonly is: 'whiteout' | 'opaque'; readonly path: string };

const file = fc.record({ is: fc.constant('file' as const), path, content, mode });
const folder = fc.record({ is: fc.constant('folder' as const), path });
const symlink = fc.record({ is: fc.constant('symlink' as const), path, to: linkTarget });
const hardlink = fc.record({ is: fc.constant('hardlink' as const), path, to: path });
const deletion = fc.record({ is: fc.constantFrom('whiteout' as const, 'opaque' as const), path });

const roots = fc.array(
  fc.oneof({ weight: 3, arbitrary: file }, folder, symlink, { weight: 1, arbitrary: hardlink }),
  { maxLength: 8 },
);
const patches = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: file },
    { weight: 2, arbitrary: folder },
    { weight: 2, arbitrary: symlink },
    { weight: 2, arbitrary: hardlink },
    { weight: 2, arbitrary: deletion },
  ),
  { minLength: 1, maxLength: 6 },
);

function partOf(thing: Thing): TarPart {
  switch (thing.is) {
    case 'file':
      return { name: thing.path, content: thing.content, mode: thing.mode };
    case 'folder':
      return { name: `${thing.path}/`, type: '5', mode: 0o755 };
    case 'symlink':
      return { name: thing.path, type: '2', link: thing.to };
    case 'hardlink':
      return { name: thing.path, type: '1', link: thing.to };
    case 'whiteout':
      return { name: thing.path.replace(/[^/]*$/, '.wh.$&') };
    case 'opaque':
      return { name: `${thing.path}/.wh..wh..opq` };
  }
}

/** As far as they fit together; what does not is left out. */
function furnish({ root, workDir }: Stand, things: readonly Thing[]): void {
  for (const directory of [root, workDir]) {
    fs.rmSync(directory, { recursive: true });
    fs.mkdirSync(directory, { mode: 0o755 });
  }
  for (const thing of things) {
    const at = join(root, thing.path);
    try {
      makeFolders(root, dirname(thing.path));
      if (thing.is === 'file') fs.writeFileSync(at, thing.content, { mode: thing.mode, flag: 'wx' });
      if (thing.is === 'folder') fs.mkdirSync(at);
      if (thing.is === 'symlink') fs.symlinkSync(thing.to, at);
      if (thing.is === 'hardlink' && fs.lstatSync(join(root, thing.to)).isFile())
        fs.linkSync(join(root, thing.to), at);
    } catch {}
  }
  ageTree(root);
}

/** Fails at a symlink on the way: it may lead out of the root. */
function makeFolders(root: string, path: string): void {
  if (path === '.') return;
  makeFolders(root, dirname(path));
  const at = join(root, path);
  if (fs.lstatSync(at, { throwIfNoEntry: false })?.isDirectory() !== true) fs.mkdirSync(at);
}

async function lay({ apply, file }: Stand, patch: readonly Thing[]): Promise<OverlayReport | EntryError> {
  const location = file('patch.tar', tarOf(...patch.map(partOf)));
  try {
    return await apply([{ location, strip: 0 }]);
  } catch (error) {
    expect(error, String((error as Error).stack)).toMatchObject({ name: 'EntryError' });
    return error as EntryError;
  }
}

/** As it was, but that it counts the names that the archive has linked to it. Those that were replaced are kept for a revert. */
function expectUntouched(name: string, before: Tree, after: Tree): void {
  const [old, now] = [before[name], after[name]];
  if (old?.links === undefined) {
    expect(now, name).toEqual(old);
    return;
  }
  const isLinkedNow = (other: string) =>
    after[other]?.inode === old.inode && before[other]?.inode !== old.inode;
  const links = old.links + Object.keys(after).filter(isLinkedNow).length;
  // the group is the first of its names: not the same one any more where that was replaced, or a new one comes before it
  expect({ ...now, group: '' }, name).toEqual({ ...old, links, group: '' });
}

/** What the record says of each path is so, and what it does not mention is as it was. */
function expectRecorded(root: string, before: Tree, after: Tree, entries: readonly ReportEntry[]): void {
  for (const { path: recorded, action, kind, sha256, sha256Before, mode: bits, linkTarget: to } of entries) {
    const name = recorded.slice(1);
    const [old, now] = [before[name], after[name]];
    if (action === 'new') expect(old, name).toBeUndefined();
    else expect(old, name).toBeDefined();
    if (action === 'removed') expect(now, name).toBeUndefined();
    else expect(now?.type, name).toBe(kind === 'hardlink' ? 'file' : kind);
    if (action === 'same') expectUntouched(name, before, after);
    if (sha256 !== undefined) expect(now?.content, name).toBe(sha256);
    if (sha256Before !== undefined && old?.type === 'file') expect(old.content, name).toBe(sha256Before);
    if (to !== undefined && kind === 'symlink') expect(now?.content, name).toBe(to);
    if (now !== undefined && kind === 'file') expect(now.mode, name).toBe(bits.toString(8));
    if (now?.type === 'file')
      expect(
        createHash('sha256')
          .update(fs.readFileSync(join(root, name)))
          .digest('hex'),
      ).toBe(now.content);
  }
  const recorded = new Set(entries.map((entry) => entry.path.slice(1)));
  for (const name of new Set([...Object.keys(before), ...Object.keys(after)])) {
    if (!recorded.has(name)) expectUntouched(name, before, after);
  }
}

it('is refused, or as recorded, the same when laid again, and can be taken back', {
  timeout: 300_000,
}, async () => {
  const seen = { refused: 0, laid: 0 };
  const stand = makeStand();
  await fc.assert(
    fc.asyncProperty(roots, patches, async (things, patch) => {
      furnish(stand, things);
      const before = treeOf(stand.root);
      const report = await lay(stand, patch);
      const after = treeOf(stand.root);
      if (report instanceof Error) {
        seen.refused += 1;
        expect(after, report.message).toEqual(before);
        return;
      }
      seen.laid += 1;
      const entries = report.sources.flatMap((source) => source.entries);
      expectRecorded(stand.root, before, after, entries);
      const again = await lay(stand, patch);
      expect(again, String(again)).not.toBeInstanceOf(Error);
      expect(treeOf(stand.root)).toEqual(after);
      stand.revert();
      expect(treeOf(stand.root)).toEqual(before);
    }),
    { numRuns: 800 },
  );
  expect(seen.refused, JSON.stringify(seen)).toBeGreaterThan(50);
  expect(seen.laid, JSON.stringify(seen)).toBeGreaterThan(50);
});
