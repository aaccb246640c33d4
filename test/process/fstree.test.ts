/** fstree through the bin: what the command finds, and that a failure starts nothing and changes nothing. */
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import type { RequestListener } from 'node:http';
import { basename, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { type TarPart, tarOf } from '../overlay/archives.ts';
import { serve } from '../overlay/stand.ts';
import { snapshotTree } from '../overlay/trees.ts';
import { cli, dist, isRoot, node, runEntry, startEntry, temporaryFolder } from './harness.ts';

/** A small image with a program that is broken. */
function makeRoot(): string {
  const root = join(temporaryFolder(), 'root');
  mkdirSync(join(root, 'usr/bin'), { recursive: true });
  symlinkSync('usr/bin', join(root, 'bin'));
  writeFileSync(join(root, 'usr/bin/tool'), '#!/bin/sh\necho broken; exit 7\n');
  chmodSync(join(root, 'usr/bin/tool'), 0o755);
  return root;
}

const tar = (parts: readonly TarPart[]) => tarOf(...parts);
const patch = gzipSync(tar([{ name: 'bin/tool', mode: 0o755, content: '#!/bin/sh\necho mended\n' }]));
const answer =
  (body: Buffer | string): RequestListener =>
  (_, response) =>
    void response.end(body);
const sha256 = (content: Buffer) => createHash('sha256').update(content).digest('hex');

test('the patch is in place before the command starts; digest and summary are said', async () => {
  const root = makeRoot();
  const url = await serve(answer(patch));
  const run = await runEntry([join(root, 'bin/tool')], {
    env: { DEBUG: `fstree=${url}/patch.tar.gz#sha256=${sha256(patch)}` },
    flags: [`--root=${root}`],
  });
  expect(run).toMatchObject({ status: 0, stdout: 'mended\n' });
  expect(run.stderr).toContain(sha256(patch));
  expect(run.stderr).toMatch(/1 file/);
  expect(run.stderr).not.toContain('starting'); // that is verbose's
  expect(readFileSync(join(root, 'usr/bin/tool'), 'utf8')).toContain('mended');
});

test('under verbose, a line with the digest for each file; overlay.json holds the record', async () => {
  const root = makeRoot();
  const file = join(temporaryFolder(), 'patch.tar');
  writeFileSync(
    file,
    tar([
      { name: 'usr/bin/tool', mode: 0o755, content: '#!/bin/sh\n' },
      { name: 'etc/new', content: 'x' },
    ]),
  );
  const entry = startEntry(['true'], { env: { DEBUG: `verbose,fstree=${file}` }, flags: [`--root=${root}`] });
  expect(await entry.status).toBe(0);
  expect(entry.stderr()).toMatch(
    new RegExp(
      `replaced.*${sha256(Buffer.from('#!/bin/sh\n'))}.*/usr/bin/tool|/usr/bin/tool.*${sha256(Buffer.from('#!/bin/sh\n'))}`,
    ),
  );
  const record = JSON.parse(readFileSync(join(entry.stateDir, 'overlay.json'), 'utf8'));
  expect(record).toMatchObject({ schema: 2, runs: [{ sources: [{ sha256: sha256(readFileSync(file)) }] }] });
});

test('all three words: traced, patched, and parked with what the patch left broken', async () => {
  const root = makeRoot();
  const url = await serve(
    answer(gzipSync(tar([{ name: 'bin/tool', mode: 0o755, content: '#!/bin/sh\nexit 9\n' }]))),
  );
  const entry = startEntry([join(root, 'bin/tool')], {
    env: { DEBUG: `verbose,stayalive,fstree=${url}/p.tgz` },
    flags: [`--root=${root}`],
  });
  await entry.waitFor(/\+ .*exit 9[\s\S]*exited with status 9[\s\S]*let it go: .*status 9/);
  entry.kill('SIGTERM');
  expect(await entry.status).toBe(9);
});

describe('a failure', () => {
  const failures: [string, RequestListener, string, RegExp][] = [
    ['404', (_, response) => void response.writeHead(404).end(patch), '', /404/],
    ['html page', answer('<!DOCTYPE html><html>'), '', /HTML/i],
    ['truncated', answer(patch.subarray(0, patch.length - 20)), '', /it is truncated/],
    ['wrong sha256', answer(patch), `#sha256=${'0'.repeat(64)}`, /sha256/],
    ['../', answer(tar([{ name: '../evil', content: 'x' }])), '', /\.\.\/evil/],
    ['absolute', answer(tar([{ name: '/etc/evil', content: 'x' }])), '', /\/etc\/evil/],
    ['device', answer(tar([{ name: 'dev/evil', type: '3' }])), '', /dev\/evil/],
    ['file over directory', answer(tar([{ name: 'usr/bin', content: 'x' }])), '#strip=0', /usr\/bin/],
  ];

  test.each(failures)(
    '%s: 125, the root as it was, nothing started',
    async (_, listener, fragment, message) => {
      const root = makeRoot();
      const before = snapshotTree(root);
      const url = await serve(listener);
      const { status, stdout, stderr } = await runEntry(['echo', 'started'], {
        env: { DEBUG: `fstree=${url}/p${fragment}` },
        flags: [`--root=${root}`],
      });
      expect({ status, stdout }).toEqual({ status: 125, stdout: '' });
      expect(stderr).toMatch(message);
      expect(snapshotTree(root)).toEqual(before);
    },
  );

  test('parks with stayalive, and is let go with 125', async () => {
    const root = makeRoot();
    const entry = startEntry(['true'], {
      env: { DEBUG: 'stayalive,fstree=/no/such/archive' },
      flags: [`--root=${root}`],
    });
    await entry.waitFor(
      /fault: true was not started: cannot .*\/no\/such\/archive[\s\S]*let it go: .*status 125/,
    );
    entry.kill('SIGTERM');
    expect(await entry.status).toBe(125);
  });

  test.runIf(isRoot)('a / that is no container’s is refused, by root too', async () => {
    const folder = temporaryFolder();
    const archive = join(folder, 'patch.tar');
    writeFileSync(archive, tar([{ name: 'evil', content: 'x' }]));
    // This machine may look like a container; a root of our own, with all of its folders in it, does not.
    const enter = `set -e; root=${folder}/root; mkdir -p $root; mount --bind $root $root; cd /
      for d in *; do
        if [ -L "$d" ]; then cp -P "$d" $root/
        elif [ -d "$d" ]; then mkdir -p "$root/$d"; mount --rbind "$d" "$root/$d"; fi
      done
      exec chroot $root ${node} ${cli} --state-dir=/tmp/${basename(folder)}/state -- echo started`;
    const refused = await runEntry(['-m', 'sh', '-c', enter], {
      node: 'unshare',
      program: [],
      env: { DEBUG: `fstree=${archive}` },
    });
    expect(refused).toMatchObject({ status: 125, stdout: '' });
    expect(refused.stderr).toMatch(
      /cannot lay fstree over \/: nothing says that this is a container\n.*--root=DIR/,
    );
    expect(existsSync(join(folder, 'root/evil'))).toBe(false);
  });

  test('a stalled server is given up after --stall-timeout', async () => {
    const root = makeRoot();
    const url = await serve((_, response) => void response.writeHead(200).write('x'));
    const { status, stderr } = await runEntry(['true'], {
      env: { DEBUG: `fstree=${url}/p` },
      flags: [`--root=${root}`, '--stall-timeout=1s'],
    });
    expect(status).toBe(125);
    expect(stderr).toMatch(/cannot fetch .*: no byte for 1 s \(--stall-timeout\)/);
  });

  test('passwords and signatures of the URL are never shown', async () => {
    const url = (await serve((_, response) => void response.writeHead(403).end())).replace(
      '//',
      '//me:geheim@',
    );
    const entry = startEntry(['true'], {
      env: { DEBUG: `verbose,stayalive,fstree=${url}/p?X-Amz-Signature=geheim` },
      flags: [`--root=${makeRoot()}`],
    });
    await entry.waitFor(/let it go/);
    expect(entry.stderr()).not.toContain('geheim');
    for (const name of readdirSync(entry.stateDir)) {
      expect(readFileSync(join(entry.stateDir, name), 'utf8')).not.toContain('geheim');
    }
  });
});

test.each([[''], ['stayalive,']])(
  'a stop during the download ends it at once: %s143, nothing left',
  async (words) => {
    const root = makeRoot();
    const before = snapshotTree(root);
    let asked = (): void => {};
    const request = new Promise<void>((resolve) => {
      asked = resolve;
    });
    const url = await serve((_, response) => {
      response.writeHead(200, { 'content-length': '1000000' }).write('x');
      asked();
    });
    const entry = startEntry(['echo', 'started'], {
      env: { DEBUG: `${words}fstree=${url}/p` },
      flags: [`--root=${root}`],
    });
    await request;
    entry.kill('SIGTERM');
    expect(await entry.status).toBe(143);
    expect(entry.stdout()).toBe('');
    expect(snapshotTree(root)).toEqual(before);
    expect(readdirSync(entry.stateDir).filter((name) => name.startsWith('download'))).toEqual([]);
  },
);

test('without fstree neither tar nor yauzl nor a decompressor is loaded', () => {
  const heavy = /yauzl|ustar|fzstd|createGunzip/;
  /** What a file imports at its start, and those in turn. */
  const closure = (name: string, seen = new Set<string>()): Set<string> => {
    if (seen.has(name)) return seen;
    seen.add(name);
    const requires = /^(?:var \w+ = )?require\('\.\/([^']+)'\)/gm; // not the lazy ones, inside functions
    for (const [, next] of readFileSync(join(dist, name), 'utf8').matchAll(requires)) {
      if (next !== undefined) closure(next, seen);
    }
    return seen;
  };
  for (const start of ['cli.cjs', 'index.cjs']) {
    expect(closure(start).size).toBeGreaterThan(1);
    for (const name of closure(start))
      expect(`${name} ${heavy.test(readFileSync(join(dist, name), 'utf8'))}`).toBe(`${name} false`);
  }
  const all = readdirSync(dist).filter((name) => name.endsWith('.cjs'));
  expect(all.some((name) => heavy.test(readFileSync(join(dist, name), 'utf8')))).toBe(true); // the pattern finds them
  expect(existsSync(cli)).toBe(true);
});
