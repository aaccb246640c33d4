/** What a reader hands out, as values, without a root: and trees with every name that Linux takes, to be packed. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished } from 'vitest';
import type { EntryError } from '../../src/errors.ts';
import type { ArchiveEntry, Reading } from '../../src/overlay/archive.ts';
import { withDefaults } from '../../src/overlay/limits.ts';
import { decodeName } from '../../src/overlay/octets.ts';
import { openReader } from '../../src/overlay/readers.ts';
import { type Format, HEAD_BYTES, recognise } from '../../src/overlay/recognise.ts';

export type Item = Omit<ArchiveEntry, 'index'> & { readonly content: string };

export function makePlace(): string {
  const place = fs.mkdtempSync(join(fs.realpathSync(tmpdir()), 'reading-'));
  onTestFinished(() => fs.rmSync(place, { recursive: true, force: true }));
  return place;
}

export interface Options extends Partial<Reading> {
  readonly format?: Format;
  /** Called before each piece of content; default nothing. */
  readonly onPiece?: () => void;
}

/** Every entry in the archive's order, with the digest of its content. Without isVerified: false, it counts as verified. */
export async function read(path: string, options: Options = {}): Promise<Item[]> {
  const items: Item[] = [];
  const reader = await openReader(options.format ?? formatOf(path));
  const reading = { subject: 'fstree=x', limits: withDefaults(), isVerified: true, ...options };
  await reader(
    path,
    ({ index, ...entry }) => {
      expect(index).toBe(items.length);
      const hash = createHash('sha256');
      let length = 0;
      let isOpen = true;
      const item = { ...entry, content: '' };
      items.push(item);
      return {
        write(chunk) {
          expect(isOpen).toBe(true);
          options.onPiece?.();
          hash.update(chunk);
          length += chunk.length;
        },
        end() {
          expect([isOpen, length]).toEqual([true, entry.size]);
          isOpen = false;
          if (entry.kind === 'file') item.content = hash.digest('hex');
        },
      };
    },
    reading,
  );
  return items;
}

export async function refused(path: string, options: Options = {}): Promise<EntryError> {
  const error = await read(path, options).then(
    () => expect.fail('it was read'),
    (reason: unknown) => reason as EntryError,
  );
  expect(error, String(error)).toMatchObject({ name: 'EntryError' });
  expect(error.message).toMatch(/^cannot \w+ fstree=x: /);
  return error;
}

export function formatOf(path: string): Format {
  if (fs.statSync(path).isDirectory()) return 'directory';
  const found = recognise(fs.readFileSync(path).subarray(0, HEAD_BYTES), path);
  return 'format' in found ? found.format : expect.fail(`it looks like ${found.looksLike}`);
}

/** What is missing is said; where everything has to be there, its tests then fail. */
export function hasTool(name: string): boolean {
  const isThere = spawnSync('which', [name]).status === 0;
  if (!isThere) console.error(`\nSKIPPED: what needs ${name}, which is not here\n`);
  return isThere || process.env.DDBG_REQUIRE_DOCKER === '1';
}

export function run(command: string, args: readonly string[], cwd?: string, input?: Buffer): Buffer {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd,
    input,
    maxBuffer: 2 ** 30,
    env: { ...process.env, LC_ALL: 'C.UTF-8' },
  });
  expect(status, `${command} ${args.join(' ')}: ${error ?? stderr}`).toBe(0);
  return stdout;
}

interface Tree {
  /** Names that are no UTF-8; default true. */
  readonly bytes?: boolean;
  /** Names longer than 100 bytes, paths longer than 255; default true. */
  readonly long?: boolean;
}

/** Below `place`/opt: files, an empty one, directories, links of both kinds, odd names, odd times. */
export function makeTree(place: string, { bytes = true, long = true }: Tree = {}): void {
  const top = join(place, 'opt');
  fs.mkdirSync(join(top, 'empty folder'), { recursive: true });
  fs.mkdirSync(join(top, 'deep/er'), { recursive: true });
  const write = (name: string | Buffer, content: string | Buffer): void =>
    fs.writeFileSync(Buffer.concat([Buffer.from(`${top}/`), Buffer.from(name)]), content);
  write('file', 'content\n');
  write('empty', '');
  write('deep/er/large', noise(700_001));
  write('with space', 'x');
  write('new\nline', 'y');
  write('-dash', 'z');
  write('größe 中文', 'utf-8');
  write('block', 'x'.repeat(512));
  if (bytes) write(Buffer.from('caf\xe9', 'latin1'), 'latin-1');
  if (long) {
    write('x'.repeat(255), '255');
    fs.mkdirSync(join(top, 'a'.repeat(150), 'b'.repeat(150)), { recursive: true });
    write(`${'a'.repeat(150)}/${'b'.repeat(150)}/deep`, '300');
    fs.symlinkSync('t'.repeat(300), join(top, 'long link'));
  }
  fs.symlinkSync('../../etc/passwd', join(top, 'link'));
  if (bytes) fs.symlinkSync(Buffer.from('t\xe4rget', 'latin1'), Buffer.from(`${top}/l\xefnk`, 'latin1'));
  fs.linkSync(join(top, 'file'), join(top, 'deep/hard'));
  fs.chmodSync(join(top, 'file'), 0o4751);
  fs.chmodSync(join(top, 'empty folder'), 0o1770);
  fs.lutimesSync(join(top, 'link'), 1_200_000_000, 1_200_000_000);
  fs.utimesSync(join(top, 'file'), 1_300_000_000, 1_300_000_000.654321);
  fs.utimesSync(join(top, 'empty folder'), 1_400_000_000, 1_400_000_000);
}

export function noise(length: number): Buffer {
  const blocks = Array.from({ length: Math.ceil(length / 64) }, (_, index) =>
    createHash('sha512').update(String(index)).digest(),
  );
  return Buffer.concat(blocks).subarray(0, length);
}

/** What lies below `place`, as an archive of `opt` should have it; of names of one file the first in `order`. */
export function treeOf(place: string, order: readonly string[] = []): Map<string, Item> {
  const items = new Map<string, Item>();
  const firsts = new Map<number, string>();
  const visit = (name: Buffer): void => {
    const path = Buffer.concat([Buffer.from(`${place}/`), name]);
    const stat = fs.lstatSync(path);
    const text = decodeName(name);
    const first = stat.isFile() && stat.nlink > 1 ? firsts.get(stat.ino) : undefined;
    if (stat.isFile() && first === undefined) firsts.set(stat.ino, text);
    const kind = stat.isDirectory() ? 'directory' : stat.isSymbolicLink() ? 'symlink' : 'file';
    items.set(text, {
      name: text,
      kind: first === undefined ? kind : 'hardlink',
      size: kind === 'file' && first === undefined ? stat.size : 0,
      mode: stat.mode & 0o7777,
      mtimeMs: Number(fs.lstatSync(path, { bigint: true }).mtimeNs / 1000n) / 1000,
      uid: stat.uid,
      gid: stat.gid,
      linkTarget: kind === 'symlink' ? decodeName(fs.readlinkSync(path, 'buffer')) : first,
      content:
        kind === 'file' && first === undefined
          ? createHash('sha256').update(fs.readFileSync(path)).digest('hex')
          : '',
    });
  };
  const walk = (name: Buffer): Buffer[] => {
    const path = Buffer.concat([Buffer.from(`${place}/`), name]);
    if (!fs.lstatSync(path).isDirectory()) return [name];
    const names = fs.readdirSync(path, { encoding: 'buffer' }).sort(Buffer.compare);
    return [name, ...names.flatMap((child) => walk(Buffer.concat([name, Buffer.from('/'), child])))];
  };
  const place_ = (name: Buffer): number => {
    const at = order.indexOf(decodeName(name));
    return at < 0 ? order.length : at;
  };
  for (const name of walk(Buffer.from('opt')).sort((one, other) => place_(one) - place_(other))) visit(name);
  return items;
}

/** Folders without the slash at their end, whatever the order. */
export function byName(items: readonly Item[]): Map<string, Item> {
  return new Map(
    items.map((item) => {
      const name = item.name.replace(/\/$/, '');
      return [name, { ...item, name }];
    }),
  );
}
