/** A directory as a source: the same as an archive of it, and nothing that is not in it. */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { withDefaults } from '../../src/overlay/limits.ts';
import { byName, makePlace, makeTree, read, refused, run, treeOf } from './reading.ts';

const isRoot = process.geteuid?.() === 0;

it('is read to the last bit, in the order of its bytes', async () => {
  const place = makePlace();
  makeTree(place);
  const items = await read(place);
  expect(byName(items)).toEqual(treeOf(place));
  expect(items.map(({ name }) => name)).toEqual([...treeOf(place).keys()]);
});

it('is the same as GNU tar makes of it', async () => {
  const place = makePlace();
  makeTree(place);
  const packed = join(makePlace(), 'p.tar');
  run('tar', ['--sort=name', '--format=pax', '--numeric-owner', '-cf', packed, '-C', place, 'opt']);
  expect(byName(await read(place))).toEqual(byName(await read(packed)));
});

it('sorts by bytes, not by what strings are made of', async () => {
  const place = makePlace();
  for (const name of ['\u{1f600}', '\uff5e', 'a', 'B']) fs.writeFileSync(join(place, name), '');
  fs.writeFileSync(Buffer.concat([Buffer.from(`${place}/`), Buffer.from([0xf5])]), '');
  expect((await read(place)).map(({ name }) => name)).toEqual(['B', 'a', '\uff5e', '\u{1f600}', '\udcf5']);
});

it('takes a symlink for its top, and for nothing below', async () => {
  const place = makePlace();
  const real = makePlace();
  fs.mkdirSync(join(real, 'secret'));
  fs.writeFileSync(join(real, 'secret/file'), 'x');
  fs.symlinkSync(real, join(place, 'folder'));
  expect(await read(place)).toMatchObject([{ name: 'folder', kind: 'symlink', linkTarget: real }]);
  expect((await read(join(place, 'folder'), { format: 'directory' })).map(({ name }) => name)).toEqual([
    'secret',
    'secret/file',
  ]);
});

describe('what it refuses', () => {
  it('a FIFO, a socket, a device, each by its name', async () => {
    const place = makePlace();
    const make = (name: string, command: string, ...args: string[]) => {
      fs.mkdirSync(join(place, name));
      run(command, [join(place, name, 'odd'), ...args]);
      return refused(join(place, name));
    };
    const pipe = await make('pipe', 'mkfifo');
    expect([pipe.code, pipe.message]).toEqual(['DDBG_UNSAFE', expect.stringMatching(/a FIFO, odd/)]);
    if (isRoot && spawnSync('mknod', [join(place, 'test'), 'c', '1', '3']).status === 0)
      expect((await make('null', 'mknod', 'c', '1', '3')).message).toMatch(/a device, odd/);
    fs.mkdirSync(join(place, 'sock'));
    const server = createServer().listen(join(place, 'sock/odd'));
    await new Promise((resolve) => server.once('listening', resolve));
    expect((await refused(join(place, 'sock'))).message).toMatch(/a socket, odd/);
    server.close();
  });

  it.runIf(!isRoot)('what it may not read, by its name', async () => {
    const place = makePlace();
    fs.writeFileSync(join(place, 'shut'), '', { mode: 0 });
    expect((await refused(place)).message).toMatch(/shut cannot be read \(EACCES/);
  });

  it('what is not there', async () => {
    const error = await refused(join(makePlace(), 'none'), { format: 'directory' });
    expect(error.message).toMatch(/the directory cannot be read \(ENOENT/);
  });

  it.each([
    [{ entries: 2 }, /more than 2 entries/],
    [{ fileBytes: 1000 }, /large is larger than the limit file-bytes/],
    [{ unpackedBytes: 3000 }, /unpacked-bytes/],
    [{ depth: 2 }, /opt\/deep\/er is more than 2 folders deep/],
  ])('more than the limit %j', async (limits, why) => {
    const place = makePlace();
    fs.mkdirSync(join(place, 'opt/deep/er'), { recursive: true });
    fs.writeFileSync(join(place, 'opt/large'), Buffer.alloc(5000));
    expect((await refused(place, { limits: withDefaults(limits) })).message).toMatch(why);
  });

  const large = (place: string): string => {
    const path = join(place, 'large');
    fs.writeFileSync(path, Buffer.alloc(3_000_000));
    return path;
  };

  it.each<[string, (path: string) => void]>([
    ['grows', (path) => fs.appendFileSync(path, 'more')],
    ['shrinks', (path) => fs.truncateSync(path, 2_500_000)],
    ['shrinks at once', (path) => fs.truncateSync(path, 10)],
    ['is written to', (path) => fs.writeFileSync(path, Buffer.alloc(3_000_000, 1))],
  ])('a file that %s while it is read', async (_what, change) => {
    const place = makePlace();
    const path = large(place);
    let pieces = 0;
    const error = await refused(place, {
      onPiece: () => {
        pieces += 1;
        if (pieces === 1) change(path);
      },
    });
    expect(error.message).toMatch(/large changed while it was read/);
  });

  it('a folder that changes while it is read', async () => {
    const place = makePlace();
    large(place);
    const error = await refused(place, { onPiece: () => fs.writeFileSync(join(place, 'new'), '') });
    expect(error.message).toMatch(/the directory changed while it was read/);
  });

  it('a folder that becomes a symlink while it is read', async () => {
    const place = makePlace();
    fs.mkdirSync(join(place, 'a'));
    large(join(place, 'a'));
    fs.writeFileSync(join(place, 'a/z'), '');
    const elsewhere = makePlace();
    fs.writeFileSync(join(elsewhere, 'z'), 'secret');
    const swap = (): void => {
      if (fs.lstatSync(join(place, 'a')).isSymbolicLink()) return;
      fs.renameSync(join(place, 'a'), join(place, 'b'));
      fs.symlinkSync(elsewhere, join(place, 'a'));
    };
    expect((await refused(place, { onPiece: swap })).message).toMatch(
      /changed while it was read|cannot be read/,
    );
  });

  it('to go on when a stop is asked for', async () => {
    const place = makePlace();
    large(place);
    const stop = new AbortController();
    const error = await refused(place, { signal: stop.signal, onPiece: () => stop.abort() });
    expect(error.code).toBe('DDBG_ABORTED');
  });
});
