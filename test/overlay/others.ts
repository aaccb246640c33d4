/**
 * Other readers of archives, each as a way from an archive to a tree on the disk, and what our rules make of such a
 * tree: so that two trees can be held against each other and any difference is one that nobody meant.
 */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import unzipper from 'unzipper';
import { hasTool, makePlace } from './reading.ts';
import { isRoot } from './stand.ts';
import { type Tree, type TreeNode, treeOf } from './trees.ts';

export interface Other {
  readonly name: string;
  readonly reads: 'tar' | 'zip' | 'both';
  /** What of a tree it does not give back as the archive has it. */
  readonly without: (node: TreeNode) => readonly (keyof TreeNode)[];
  /** mtimes as near as that. */
  readonly nearUs?: number;
  /** What it said; empty: it was content, and exited with 0. */
  readonly extract: (archive: string, root: string) => string | Promise<string>;
}

/** As root they give files away; nobody else can. */
const OWNERS = isRoot ? ['--same-owner'] : ['--no-same-owner'];
const isLink = (node: TreeNode): boolean => node.type === 'symlink';

/**
 * Times that it finds implausible, and keywords that only others know, are no fault of an archive. And without the last
 * one a folder gets the time of now whenever something of it comes after something else, as bsdtar packs.
 */
const GNU_OPTIONS = ['--warning=no-timestamp', '--warning=no-unknown-keyword', '--delay-directory-restore'];

export const GNU_TAR: Other = {
  name: 'GNU tar',
  reads: 'tar',
  without: () => [],
  extract: (archive, root) =>
    spoken('tar', ['-xpf', archive, '-C', root, '--numeric-owner', ...OWNERS, ...GNU_OPTIONS]),
};

/** Onto a root that has something: no folder changes, no symlink to a folder is replaced. */
export const GNU_TAR_CAREFUL: Other = {
  ...GNU_TAR,
  name: 'GNU tar, leaving folders alone',
  extract: (archive, root) =>
    spoken('tar', [
      ...['-xpf', archive, '-C', root, '--numeric-owner', ...OWNERS, ...GNU_OPTIONS],
      ...['--no-overwrite-dir', '--keep-directory-symlink'],
    ]),
};

export const BSDTAR: Other = {
  name: 'bsdtar',
  reads: 'both',
  without: () => [],
  extract: (archive, root) => spoken('bsdtar', ['-xpf', archive, '-C', root, '--numeric-owner', ...OWNERS]),
};

/** Its times are floats. Symlinks keep the time at which they are made. */
export const PYTHON_TAR: Other = {
  name: 'python tarfile',
  reads: 'tar',
  without: (node) => (isLink(node) ? ['mtimeUs'] : []),
  nearUs: 3,
  extract: (archive, root) =>
    spoken('python3', [
      '-c',
      `
import sys, tarfile
with tarfile.open(sys.argv[1]) as tar:
    tar.errorlevel = 2
    trusting = {'filter': 'fully_trusted'} if hasattr(tarfile, 'fully_trusted_filter') else {}
    tar.extractall(sys.argv[2], numeric_owner=True, **trusting)`,
      archive,
      root,
    ]),
};

/** -X: owners. -K: setuid and its like. -^: control characters in names. Symlinks keep the time at which they are made. */
export const UNZIP: Other = {
  name: 'unzip',
  reads: 'zip',
  without: (node) => (isLink(node) ? ['mtimeUs', 'owner'] : []),
  extract: (archive, root) =>
    spoken('unzip', ['-qq', '-o', '-K', '-^', ...(isRoot ? ['-X'] : []), archive, '-d', root]),
};

/** Names and contents only: it writes neither modes nor times nor links. */
export const PYTHON_ZIP: Other = {
  name: 'python zipfile',
  reads: 'zip',
  without: () => ['mode', 'owner', 'mtimeUs'],
  extract: (archive, root) =>
    spoken('python3', [
      '-c',
      `
import os, stat, sys, zipfile
root = os.fsencode(sys.argv[2])
with zipfile.ZipFile(sys.argv[1]) as zip:
    for item in zip.infolist():
        name = item.orig_filename.encode('utf-8' if item.flag_bits & 0x800 else 'cp437')
        path = os.path.join(root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        kind = stat.S_IFMT(item.external_attr >> 16) if item.create_system in (3, 19) else 0
        if name.endswith(b'/'): os.makedirs(path, exist_ok=True)
        elif kind == stat.S_IFLNK: os.symlink(zip.read(item), path)
        else: open(path, 'wb').write(zip.read(item))`,
      archive,
      root,
    ]),
};

/** The second reader from npm: names and contents, written here, for its own extract() turns links into text. */
export const UNZIPPER: Other = {
  name: 'unzipper',
  reads: 'zip',
  without: () => ['mode', 'owner', 'mtimeUs'],
  extract: async (archive, root) => {
    const directory = await unzipper.Open.file(archive);
    for (const file of directory.files) {
      const name = Buffer.from(file.pathBuffer);
      const path = Buffer.concat([Buffer.from(`${root}/`), name]);
      const content = file.type === 'Directory' ? Buffer.alloc(0) : await file.buffer();
      fs.mkdirSync(path.subarray(0, path.lastIndexOf('/')), { recursive: true });
      const isSymlink = ((file.externalFileAttributes >>> 16) & 0o170000) === 0o120000;
      if (name.at(-1) === 0x2f) fs.mkdirSync(path, { recursive: true });
      else if (isSymlink) fs.symlinkSync(content, path);
      else fs.writeFileSync(path, content);
    }
    return '';
  },
};

const TOOLS = new Map<Other, string>([
  [GNU_TAR, 'tar'],
  [GNU_TAR_CAREFUL, 'tar'],
  [BSDTAR, 'bsdtar'],
  [PYTHON_TAR, 'python3'],
  [UNZIP, 'unzip'],
  [PYTHON_ZIP, 'python3'],
]);

/** Those that are here. */
export function present(...others: readonly Other[]): Other[] {
  return others.filter((other) => {
    const tool = TOOLS.get(other);
    return tool === undefined || hasTool(tool);
  });
}

export interface Outcome {
  /** What it complained of; empty: nothing. */
  readonly said: string;
  readonly tree: Tree;
}

/** `root`: onto what; default an empty one. */
export async function outcomeOf(other: Other, archive: string, root = emptyRoot()): Promise<Outcome> {
  const said = await other.extract(archive, root);
  return { said, tree: treeOf(root, { inodes: false }) };
}

export function emptyRoot(): string {
  const root = join(makePlace(), 'root');
  fs.mkdirSync(root);
  return root;
}

/** With the umask that most have; what it leaves running, or a question it asks, ends after a while. */
function spoken(command: string, args: readonly string[]): string {
  const { status, stderr, error } = spawnSync('sh', ['-c', 'umask 022; exec "$@"', 'sh', command, ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
    timeout: 30_000,
    env: { ...process.env, LC_ALL: 'C.UTF-8' },
  });
  const text = String(stderr ?? '').trim();
  return status === 0 && error === undefined ? text : `${error ?? `status ${status}`}: ${text}`;
}

export interface Rules {
  readonly setuid?: 'keep' | undefined;
  readonly owner?: 'archive' | undefined;
}

/**
 * What our rules make of a tree as tar leaves it. Directories that are not in the archive are made now, by whoever
 * makes them. The root itself is nobody's business.
 */
export function asOurs(tree: Tree, { setuid, owner }: Rules, since: number): Tree {
  const keptOf = { file: 0o777, directory: 0o1777, symlink: 0o7777, other: 0o7777 };
  const entries = Object.entries(tree).filter(([name]) => name !== '.');
  return Object.fromEntries(
    entries.map(([name, node]): [string, TreeNode] => {
      const mode = Number.parseInt(node.mode, 8) & (setuid === 'keep' ? 0o7777 : keptOf[node.type]);
      const time = Number(node.mtimeUs) / 1000;
      const isNow = node.type === 'directory' && time >= since && time <= Date.now() + 1000;
      return [
        name,
        {
          ...node,
          mode: mode.toString(8),
          ...(owner === 'archive' ? {} : { owner: `${process.geteuid?.()}:${process.getegid?.()}` }),
          ...(isNow ? { mtimeUs: 'now' } : {}),
        },
      ];
    }),
  );
}

/** Two trees as far as this reader goes, to be compared with toEqual. */
export function comparable(ours: Tree, theirs: Tree, other: Other): [ours: Tree, theirs: Tree] {
  const cut = (tree: Tree): Tree =>
    Object.fromEntries(
      Object.entries(tree).map(([name, node]) => {
        const without = other.without(node);
        return [
          name,
          Object.fromEntries(
            Object.entries(node).filter(([fact]) => !without.includes(fact as keyof TreeNode)),
          ) as unknown as TreeNode,
        ];
      }),
    );
  const [one, two] = [cut(ours), cut(theirs)];
  for (const [name, node] of Object.entries(two)) {
    const mine = one[name];
    const apart = Math.abs(Number(mine?.mtimeUs) - Number(node.mtimeUs));
    if (mine !== undefined && apart <= (other.nearUs ?? 0)) node.mtimeUs = mine.mtimeUs as string;
  }
  return [one, two];
}
