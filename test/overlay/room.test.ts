/** The real full disk: of any number of inodes and pages that is too small, the root is as it was; one more, and it is there. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { EntryError } from '../../src/errors.ts';
import { tarOf } from './archives.ts';
import { mayMount, mount } from './mounting.ts';
import { makeStand, type Stand } from './stand.ts';
import { treeOf } from './trees.ts';

const canMount = mayMount();
if (!canMount) console.warn('SKIPPED: full disks need root and CAP_SYS_ADMIN');

const PATCH = tarOf(
  { name: 'etc/app.conf', content: 'x'.repeat(20_000) },
  { name: 'etc/added', content: 'added\n' },
  { name: 'usr/bin/tool', content: 'y'.repeat(9000), mode: 0o755 },
  { name: 'bin/twin', type: '1', link: 'usr/bin/tool' },
  { name: 'usr/lib/libx.so.1', type: '2', link: 'libx.so.2' },
  { name: 'srv/a/b', content: 'b' },
  { name: 'srv/a/c', type: '2', link: 'b' },
  { name: 'opt/.wh.app' },
);

/** The root and our own files on a tmpfs of that size. */
function onSmallDisk(options: string): { stand: Stand; root: string; workDir: string } {
  const stand = makeStand();
  const disk = join(stand.workDir, '../disk');
  mkdirSync(disk);
  mount('-t', 'tmpfs', '-o', options, 'none', disk);
  const [root, workDir] = [join(disk, 'root'), join(disk, 'work')];
  cpSync(stand.root, root, { recursive: true, verbatimSymlinks: true });
  mkdirSync(workDir, { mode: 0o700 });
  writeFileSync(join(root, 'etc/kept'), 'kept');
  return { stand, root, workDir };
}

/** To take something back takes some room, too. */
function enlarge(root: string): void {
  const disk = join(root, '..');
  expect(spawnSync('mount', ['-o', 'remount,size=4m,nr_inodes=400', disk]).status).toBe(0);
}

describe.skipIf(!canMount)('a disk that is too small', () => {
  it.each([
    ['inodes', (size: number) => `size=1m,nr_inodes=${size}`, 18, 60],
    ['pages of 4 kB', (size: number) => `size=${4 * size}k,nr_inodes=200`, 6, 60],
  ])('of %s, whatever their number', async (_what, options, from, to) => {
    const outcomes: string[] = [];
    for (let size = from; size <= to; size += 1) {
      const { stand, root, workDir } = onSmallDisk(options(size));
      const before = treeOf(root);
      const archive = stand.file('p.tar', PATCH);
      const error = await stand
        .apply([{ location: archive, strip: 0 }], { root, workDir })
        .then(() => undefined)
        .catch((reason: unknown) => reason as EntryError);
      outcomes.push(error === undefined ? 'laid' : 'refused');
      if (error !== undefined) {
        expect(error, `${size}: ${error.stack}`).toMatchObject({ name: 'EntryError', code: 'DDBG_WRITE' });
        expect(treeOf(root), `${size}: ${error.message}`).toEqual(before);
      } else {
        expect(Object.keys(treeOf(root)), `${size}`).toEqual(
          expect.arrayContaining(['etc/added', 'srv/a/c']),
        );
        enlarge(root);
        stand.revert({ root, workDir });
        expect(treeOf(root), `${size}: taken back`).toEqual(before);
      }
    }
    // Once it fits, it fits.
    expect(outcomes.join(' ')).toMatch(/^(refused )+(laid ?)+$/);
  });
});
