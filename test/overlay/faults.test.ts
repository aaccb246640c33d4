/**
 * An error, or a KILL, at every system call that changes something: the root is the old tree or the new tree. The real
 * bin under strace, which makes the kernel answer so. After a KILL the next start puts it right.
 */
import { spawn, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { cli, node } from '../process/harness.ts';
import { tarOf } from './archives.ts';
import { mayMount, mount, mountFile } from './mounting.ts';
import { isRoot, makeStand, type Stand } from './stand.ts';
import { type Tree, treeOf } from './trees.ts';

const canTrace = spawnSync('strace', ['-qq', '-o', '/dev/null', 'true']).status === 0;
if (!canTrace) console.warn('SKIPPED: fault injection needs strace, and the right to trace');
if (!canTrace && process.env.DDBG_REQUIRE_DOCKER === '1') throw new Error('strace is missing');

const canMount = mayMount();
if (!canMount) console.warn('SKIPPED: faults in the writing of a mounted file need root and CAP_SYS_ADMIN');

/** By what they do; the older names are those of x86-64, the others of every architecture. */
const CALLS = {
  rename: '?rename,?renameat,renameat2',
  link: '?link,linkat',
  symlink: '?symlink,symlinkat',
  mkdir: '?mkdir,mkdirat',
  remove: '?unlink,?rmdir,unlinkat',
  attributes: 'fchmod,?chmod,fchmodat,?lchown,fchownat,utimensat',
  write: 'write,pwrite64,ftruncate,copy_file_range,?sendfile',
} as const;
type Calls = keyof typeof CALLS;

/** A bit of everything: new and replaced, in new folders and old, in place, links of both kinds, deletions. */
const PATCH = gzipSync(
  tarOf(
    { name: 'etc/app.conf', content: 'new conf\n', mode: 0o600 },
    { name: 'etc/added', content: 'added\n' },
    { name: 'etc/hosts', content: '127.0.0.1 new\n' },
    { name: 'usr/bin/tool', content: 'new tool\n', mode: 0o755 },
    { name: 'bin/twin', type: '1', link: 'usr/bin/tool' },
    { name: 'usr/lib/libx.so.2', content: 'lib 2\n' },
    { name: 'usr/lib/libx.so.1', type: '2', link: 'libx.so.2' },
    { name: 'srv/', type: '5', mode: 0o555, mtime: 1_600_000_000 },
    { name: 'srv/a/', type: '5' },
    { name: 'srv/a/b', content: 'b' },
    { name: 'srv/a/c', type: '2', link: 'b' },
    { name: 'opt/app/.wh.old', content: '' },
    { name: 'var/lib/data/.wh..wh..opq', content: '' },
    { name: 'var/lib/data/kept', content: 'kept\n' },
  ),
);

interface Scene {
  readonly stand: Stand;
  readonly patch: string;
  readonly before: Tree;
}

/** The stand's root, what the deletions need, and a file that is mounted, as an engine does it. */
function setScene({ stateElsewhere = false } = {}): Scene {
  const stand = makeStand();
  const { root, workDir } = stand;
  if (stateElsewhere) mount('-t', 'tmpfs', '-o', 'size=4m,mode=700', 'none', workDir);
  const old = [join(root, 'opt/app/old/deep'), join(root, 'var/lib/data/cache')];
  for (const directory of old) fs.mkdirSync(directory, { recursive: true });
  fs.writeFileSync(join(root, 'opt/app/old/deep/x'), 'x');
  fs.linkSync(join(root, 'opt/app/old/deep/x'), join(root, 'opt/app/old/y'));
  fs.writeFileSync(join(root, 'var/lib/data/cache/1'), '1');
  fs.writeFileSync(join(root, 'var/lib/data/kept'), 'old');
  fs.chmodSync(join(root, 'opt/app/old'), 0o711);
  if (canMount) mountFile(stand, 'etc/hosts', '127.0.0.1 localhost\n');
  else fs.writeFileSync(join(root, 'etc/hosts'), '127.0.0.1 localhost\n');
  for (const path of Object.keys(treeOf(root)).toSorted().reverse())
    fs.lutimesSync(join(root, path), 1_500_000_000.25, 1_500_000_000.5);
  return { stand, patch: stand.file('p.tgz', PATCH), before: treeOf(root) };
}

/** What a new tree has in common with another new tree. */
function withoutInodes(tree: Tree) {
  return Object.fromEntries(Object.entries(tree).map(([path, { inode, ...snap }]) => [path, snap]));
}

interface End {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stderr: string;
}

function run(argv: readonly string[], environment: Record<string, string>): Promise<End> {
  return new Promise((resolve) => {
    const [program = '', ...rest] = argv;
    const child = spawn(program, rest, {
      env: { PATH: process.env.PATH, ...environment },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let stderr = '';
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk;
    });
    child.on('close', (status, signal) => resolve({ status, signal, stderr }));
  });
}

/** Lays the patch, with whatever strace is told to do to it. */
function lay({ stand, patch }: Scene, ...strace: string[]): Promise<End> {
  const entry = [node, cli, `--root=${stand.root}`, `--state-dir=${stand.workDir}`, '--', 'true'];
  const traced = strace.length === 0 ? [] : ['strace', '-f', '-qq', ...strace];
  return run([...traced, ...entry], { DDBG: `fstree=${patch}` });
}

/** The next start, which lays nothing. */
function startAgain({ stand }: Scene): Promise<End> {
  const entry = [node, cli, `--root=${stand.root}`, `--state-dir=${stand.workDir}`, '--', 'true'];
  return run(entry, { DDBG: 'stayalive' });
}

interface Moment {
  readonly call: string;
  readonly when: number;
}

/** Every single call of these in one run. strace counts each name for itself. */
async function momentsOf(calls: Calls, place: Parameters<typeof setScene>[0] = {}): Promise<Moment[]> {
  const scene = setScene(place);
  const log = join(scene.stand.workDir, '../trace');
  const { status, stderr } = await lay(scene, '-o', log, '-e', `trace=${CALLS[calls]}`);
  expect(status, stderr).toBe(0);
  const counts = new Map<string, number>();
  return [...fs.readFileSync(log, 'utf8').matchAll(/^\d+\s+(\w+)\(/gm)].map(([, call = '']) => {
    const when = (counts.get(call) ?? 0) + 1;
    counts.set(call, when);
    return { call, when };
  });
}

let expected: Tree | undefined;
async function newTree(): Promise<Tree> {
  if (expected === undefined) {
    const scene = setScene();
    const { status, stderr } = await lay(scene);
    expect(status, stderr).toBe(0);
    expected = withoutInodes(treeOf(scene.stand.root));
    expect(expected).not.toEqual(withoutInodes(scene.before));
  }
  return expected;
}

/** 'old' or 'new'; fails for anything in between. */
async function treeAfter({ stand, before }: Scene, what: string): Promise<'old' | 'new'> {
  const after = treeOf(stand.root);
  const fresh = await newTree();
  if (!('etc/added' in after)) expect(after, what).toEqual(before);
  else expect(withoutInodes(after), what).toEqual(fresh);
  return 'etc/added' in after ? 'new' : 'old';
}

async function inPairs<T>(items: readonly T[], action: (item: T) => Promise<void>): Promise<void> {
  const left = [...items];
  const worker = async (): Promise<void> => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) await action(item);
  };
  await Promise.all([worker(), worker()]);
}

describe.skipIf(!canTrace || !isRoot)('the root is the old tree or the new one', () => {
  // Not a write: it may be Node's own, which then hangs. room.test.ts fills real disks.
  it.each(Object.keys(CALLS).filter((calls) => calls !== 'write') as Calls[])(
    'when the kernel refuses a %s',
    { timeout: 300_000 },
    async (calls) => {
      const moments = await momentsOf(calls);
      const trees = new Set<string>();
      const said: string[] = [];
      await inPairs(moments, async ({ call, when }) => {
        const error = ['EIO', 'ENOSPC', 'EACCES', 'EPERM'][when % 4];
        const scene = setScene();
        const { status, stderr } = await lay(
          scene,
          '-o',
          '/dev/null',
          '-e',
          `inject=${call}:error=${error}:when=${when}`,
        );
        const what = `${call} ${when}: ${error}, status ${status}, ${stderr}`;
        // What cannot be put right in the root is said: times that the kernel does not let us set, our own folder.
        if (/the times of|cannot be taken away|could not be put back/.test(stderr)) {
          said.push(what);
          return;
        }
        const tree = await treeAfter(scene, what);
        trees.add(tree);
        expect(status, what).toBe(tree === 'new' ? 0 : 125);
      });
      expect(trees).toContain('old');
      expect(said.length, said.join('')).toBeLessThan(moments.length / 2);
    },
  );

  // On another file system the originals and the record are copied, before the commit is final.
  const onOther = canMount ? (['rename', 'mkdir', 'remove', 'write'] as const) : [];
  it.each([
    ...(Object.keys(CALLS) as Calls[]).map((calls) => [calls, 'on the same', false] as const),
    ...onOther.map((calls) => [calls, 'on another', true] as const),
  ])(
    'when it is killed at a %s, our own files %s file system, and started again',
    { timeout: 300_000 },
    async (calls, _where, stateElsewhere) => {
      const moments = await momentsOf(calls, { stateElsewhere });
      const trees = new Set<string>();
      await inPairs(moments, async ({ call, when }) => {
        const scene = setScene({ stateElsewhere });
        const killed = await lay(scene, '-o', '/dev/null', '-e', `inject=${call}:signal=KILL:when=${when}`);
        const again = await startAgain(scene);
        const what = `${call} ${when}: killed: ${killed.stderr} again: ${again.stderr}`;
        expect(again.status, what).toBe(0);
        trees.add(await treeAfter(scene, what));
        expect((await lay(scene)).status, what).toBe(0);
        expect(await treeAfter(scene, what)).toBe('new');
      });
      expect(trees).toContain('old');
    },
  );
});
