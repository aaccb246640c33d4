/** A whole tree as a value, names of any bytes included, and one to start from that has a bit of everything. */
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import { join } from 'node:path';

/** Missing: what does not belong to the comparison. */
export interface TreeNode {
  type: 'file' | 'directory' | 'symlink' | 'other';
  mode: string;
  owner?: string;
  mtimeUs?: string;
  inode?: bigint;
  /** sha256 of a file, target of a symlink */
  content?: string;
  /** Of a file with several names in this tree: the first one. */
  group?: string;
  links?: number;
}
export type Tree = Record<string, TreeNode>;

export interface TreeOptions {
  /** Default: of all but directories, for one that was removed and made again is another. */
  readonly inodes?: boolean | 'all';
  /** Below the top; default all. Left out with all that is in it. */
  readonly without?: readonly string[];
}

const separator = Buffer.from('/');

/** By name below the top, '.' the top itself; a byte that is no UTF-8 is shown as `\xHH`. */
export function treeOf(root: string, { inodes = true, without = [] }: TreeOptions = {}): Tree {
  const tree: Tree = {};
  const firstNames = new Map<bigint, string>();
  const visit = (path: Buffer, name: string): void => {
    if (without.includes(name)) return;
    const node = look(path, name, firstNames);
    if (!inodes || (inodes !== 'all' && node.type === 'directory')) delete node.inode;
    tree[name] = node;
    if (node.type !== 'directory') return;
    for (const child of fs.readdirSync(path, { encoding: 'buffer' }).sort(Buffer.compare))
      visit(
        Buffer.concat([path, separator, child]),
        name === '.' ? textOf(child) : `${name}/${textOf(child)}`,
      );
  };
  visit(Buffer.from(root), '.');
  return tree;
}

/** Of a root that has not been touched at all. */
export function snapshotTree(root: string): Tree {
  return treeOf(root, { inodes: 'all' });
}

function look(path: Buffer, name: string, firstNames: Map<bigint, string>): TreeNode {
  const stat = fs.lstatSync(path, { bigint: true });
  const node: TreeNode = {
    type: stat.isFile()
      ? 'file'
      : stat.isDirectory()
        ? 'directory'
        : stat.isSymbolicLink()
          ? 'symlink'
          : 'other',
    mode: (stat.mode & 0o7777n).toString(8),
    owner: `${stat.uid}:${stat.gid}`,
    mtimeUs: String(stat.mtimeNs / 1000n),
    inode: stat.ino,
  };
  if (node.type === 'directory') return node;
  node.links = Number(stat.nlink);
  if (node.type === 'symlink') node.content = textOf(fs.readlinkSync(path, { encoding: 'buffer' }));
  if (node.type === 'file') node.content = createHash('sha256').update(fs.readFileSync(path)).digest('hex');
  if (stat.nlink > 1n) {
    const group = firstNames.get(stat.ino) ?? name;
    firstNames.set(stat.ino, group);
    node.group = group;
  }
  return node;
}

function textOf(bytes: Buffer): string {
  const text = bytes.toString('utf8');
  return Buffer.from(text).equals(bytes)
    ? text
    : bytes.toString('latin1').replace(/[\x80-\xff]/g, (byte) => `\\x${byte.charCodeAt(0).toString(16)}`);
}

/** Only these facts of each node. */
export function only(tree: Tree, ...facts: readonly (keyof TreeNode)[]): Record<string, Partial<TreeNode>> {
  return Object.fromEntries(
    Object.entries(tree).map(([name, node]) => [
      name,
      Object.fromEntries(Object.entries(node).filter(([fact]) => facts.includes(fact as keyof TreeNode))),
    ]),
  );
}

/** Old and odd times on all of it, so that whatever is touched shows. */
export function ageTree(root: string): void {
  const paths: Buffer[] = [];
  const collect = (path: Buffer): void => {
    paths.push(path);
    if (!fs.lstatSync(path).isDirectory()) return;
    for (const child of fs.readdirSync(path, { encoding: 'buffer' }))
      collect(Buffer.concat([path, separator, child]));
  };
  collect(Buffer.from(root));
  for (const [index, path] of paths.entries()) {
    const seconds = 1_500_000_000 + index + 0.123_456_25;
    fs.lutimesSync(path, seconds, seconds);
  }
}

/** Adds to the root of a stand: groups of hard links, closed modes, owners, deep folders, names of any bytes. */
export function furnish(root: string): void {
  const at = (path: string): string => join(root, path);
  const write = (path: string, content: string, mode = 0o644): void => {
    fs.mkdirSync(join(at(path), '..'), { recursive: true });
    fs.writeFileSync(at(path), content);
    fs.chmodSync(at(path), mode);
  };
  fs.mkdirSync(at('opt'), { recursive: true });
  write('srv/group/one', 'a group of three', 0o640);
  fs.linkSync(at('srv/group/one'), at('srv/group/two'));
  fs.linkSync(at('srv/group/one'), at('opt/three'));
  write('srv/pair/a', 'a pair');
  fs.linkSync(at('srv/pair/a'), at('srv/pair/b'));
  write('srv/old/deep/er/file', 'deep');
  write('srv/old/deep/setuid', 'special', 0o4755);
  fs.symlinkSync('deep/er', at('srv/old/link'));
  fs.linkSync(at('srv/old/deep/er/file'), at('srv/old/again'));
  fs.mkdirSync(at('srv/old/empty'), { mode: 0o700 });
  fs.chmodSync(at('srv/old/deep'), 0o2711);
  write('srv/full/1', '1');
  write('srv/full/2', '2');
  write('srv/full/sub/3', '3');
  write('srv/closed/file', 'closed', 0o400);
  fs.chmodSync(at('srv/closed'), 0o555);
  fs.symlinkSync('/etc/app.conf', at('srv/absolute'));
  fs.writeFileSync(Buffer.concat([Buffer.from(`${root}/srv/`), Buffer.from([0x6e, 0xe9, 0xff])]), 'no UTF-8');
  if (process.geteuid?.() === 0) {
    fs.chownSync(at('srv/old/deep/er'), 12, 34);
    fs.chownSync(at('srv/group/one'), 56, 78);
    fs.lchownSync(at('srv/absolute'), 9, 9);
  }
  ageTree(root);
}
