/** Without root's rights: a real process of uid 1000, because the effective user of a thread is not what access(2) asks. */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { dirname, join } from 'node:path';
import { build } from 'esbuild';
import { describe, expect, it } from 'vitest';
import { tarOf } from './archives.ts';
import { isRoot, makeStand, originals, type Stand } from './stand.ts';
import { snapshotTree } from './trees.ts';

if (!isRoot) console.warn('SKIPPED: only root can start a process as uid 1000');

const UID = 1000;
const here = import.meta.dirname;

/** In /tmp, where that user may read; the checkout may be closed to it. */
async function applyAsUser(
  stand: Stand,
  archive: string,
  ...more: string[]
): Promise<Record<string, unknown>> {
  const base = dirname(stand.root);
  const bundle = join(base, 'overlay.mjs');
  const program = join(base, 'apply.mjs');
  await build({
    entryPoints: [join(here, '../../src/overlay/overlay.ts')],
    outfile: bundle,
    bundle: true,
    platform: 'node',
    format: 'esm',
    logLevel: 'error',
    banner: {
      js: "import { createRequire as __make } from 'node:module'; const require = __make(import.meta.url);",
    },
  });
  fs.copyFileSync(join(here, 'fixtures/apply.mjs'), program);
  fs.chmodSync(base, 0o755);
  fs.chownSync(stand.workDir, UID, UID);
  const run = spawnSync(process.execPath, [program, bundle, stand.root, stand.workDir, archive, ...more], {
    uid: UID,
    gid: UID,
    encoding: 'utf8',
    cwd: '/',
  });
  expect(run.stderr).toBe('');
  return JSON.parse(run.stdout) as Record<string, unknown>;
}

describe.skipIf(!isRoot)('uid 1000', () => {
  it('is told which place is not its own, and changes nothing', async () => {
    const stand = makeStand();
    const before = snapshotTree(stand.root);
    const error = await applyAsUser(
      stand,
      stand.file('p.tar', tarOf({ name: 'usr/bin/tool', content: 'x' })),
    );
    expect(error.code).toBe('DDBG_WRITE');
    expect(error.message).toMatch(
      /uid 1000 may not write 1 of its targets: \/usr\/bin\/tool \(\/usr\/bin belongs to uid 0, mode 0755\)$/,
    );
    expect(error.hint).toContain('--user 0');
    expect(snapshotTree(stand.root)).toEqual(before);
  });

  it('is told so before the first write, when only one of many places is closed', async () => {
    const stand = makeStand();
    fs.chownSync(join(stand.root, 'opt/app'), UID, UID);
    const before = snapshotTree(stand.root);
    const archive = stand.file(
      'p.tar',
      tarOf({ name: 'opt/app/x', content: 'x' }, { name: 'etc/app.conf', content: 'x' }),
    );
    expect(await applyAsUser(stand, archive)).toMatchObject({ code: 'DDBG_WRITE' });
    expect(snapshotTree(stand.root)).toEqual(before);
  });

  it('takes its staged directories away again, closed ones too', async () => {
    const stand = makeStand();
    fs.chownSync(join(stand.root, 'opt/app'), UID, UID);
    const before = snapshotTree(stand.root);
    const closed = tarOf(
      { name: 'opt/app/new/', type: '5', mode: 0o500 },
      { name: 'opt/app/new/deep/', type: '5', mode: 0o000 },
      { name: 'opt/app/new/deep/x', content: 'x' },
    );
    const error = await applyAsUser(stand, stand.file('p.tar', closed), 'fail');
    expect(error.message).toContain('asked to fail');
    expect(snapshotTree(stand.root)).toEqual(before);
  });

  it("replaces another's file in a directory of its own, where no hard link to it is allowed", async () => {
    const stand = makeStand();
    const directory = join(stand.root, 'opt/app');
    fs.writeFileSync(join(directory, 'of-root'), 'old', { mode: 0o600 });
    fs.chownSync(directory, UID, UID);
    const archive = stand.file(
      'p.tar',
      tarOf(
        { name: 'opt/app/of-root', content: 'new' },
        { name: 'opt/app/closed/', type: '5', mode: 0o500 },
        { name: 'opt/app/closed/x', content: 'x' },
      ),
    );
    const warnings = [
      expect.stringMatching(
        /^what fstree=\S+ replaces will belong to uid 1000, gid 1000: \/opt\/app\/of-root$/,
      ),
    ];
    expect(await applyAsUser(stand, archive)).toEqual({ entries: 3, warnings });
    expect(stand.read('opt/app/of-root')).toBe('new');
    expect(fs.readFileSync(originals(stand, '/opt/app/of-root'), 'utf8')).toBe('old');
    expect(fs.readdirSync(directory).sort()).toEqual(['closed', 'of-root']);
  });
});
