/** Every format, as the tools that people have write it: exact, or refused; damaged, cut, joined, blown up, stopped. */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import * as zlib from 'node:zlib';
import { build } from 'esbuild';
import { beforeAll, describe, expect, it } from 'vitest';
import { withDefaults } from '../../src/overlay/limits.ts';
import { type Format, looksLikeImage, recognise } from '../../src/overlay/recognise.ts';
import { tarOf } from './archives.ts';
import {
  byName,
  formatOf,
  hasTool,
  type Item,
  makePlace,
  makeTree,
  noise,
  read,
  refused,
  run,
  treeOf,
} from './reading.ts';

interface Packer {
  readonly ending: string;
  readonly format: Format;
  readonly command: readonly [string, ...string[]];
  /** Whether what is damaged can be told: brotli has no checksum, and on Node 20 zstd's are not looked at. */
  readonly isChecked: boolean;
  readonly canJoin: boolean;
}

const checksZstd = 'createZstdDecompress' in zlib;
const PACKERS: readonly Packer[] = (
  [
    { ending: 'gz', format: 'tar.gz', command: ['gzip', '-c'], isChecked: true, canJoin: true },
    { ending: 'xz', format: 'tar.xz', command: ['xz', '-c'], isChecked: true, canJoin: true },
    { ending: 'bz2', format: 'tar.bz2', command: ['bzip2', '-c'], isChecked: true, canJoin: true },
    { ending: 'zst', format: 'tar.zst', command: ['zstd', '-qc'], isChecked: checksZstd, canJoin: true },
    {
      ending: 'br',
      format: 'tar.br',
      command: ['brotli', '-c', '-q', '5'],
      isChecked: false,
      canJoin: false,
    },
  ] satisfies Packer[]
).filter(({ command: [tool] }) => hasTool(tool));
if (!checksZstd)
  console.error(`\nSKIPPED: damaged zstd, for Node ${process.versions.node} has none of its own\n`);

const pack = ({ command: [tool, ...args] }: Packer, content: Buffer): Buffer =>
  run(tool, args, undefined, content);
const named = PACKERS.map((packer) => [packer.format, packer] as const);

const content = noise(30_000).toString('latin1').repeat(3);
const parts = [
  { name: 'etc/one', content: 'one\n' },
  { name: 'opt/noise', content: Buffer.from(content, 'latin1') },
  { name: 'opt/zeros', content: Buffer.alloc(300_000) },
  { name: 'opt/link', type: '2', link: 'noise' },
];
const tar = tarOf(...parts);

function saved(name: string, bytes: Buffer): string {
  const path = join(makePlace(), name);
  fs.writeFileSync(path, bytes);
  return path;
}

describe('what tar writes', () => {
  const seconds = (items: Map<string, Item>): Map<string, Item> =>
    new Map(
      [...items].map(([name, item]) => [name, { ...item, mtimeMs: Math.floor((item.mtimeMs ?? 0) / 1000) }]),
    );
  /** ustar has 100 bytes for a link's target and 256 for a path, v7 100 for both. */
  it.each([
    ['v7', { long: false }, seconds],
    ['ustar', { long: false }, seconds],
    ['oldgnu', {}, seconds],
    ['gnu', {}, seconds],
    ['pax', {}, (items: Map<string, Item>) => items],
    ['posix', {}, (items: Map<string, Item>) => items],
  ])('GNU tar as %s', async (format, tree, rounded) => {
    const place = makePlace();
    makeTree(place, tree);
    run('tar', [`--format=${format}`, '--numeric-owner', '-cf', 'p.tar', 'opt'], place);
    const items = await read(join(place, 'p.tar'));
    const order = items.map(({ name }) => name.replace(/\/$/, ''));
    expect(rounded(byName(items))).toEqual(rounded(treeOf(place, order)));
  });

  it.runIf(hasTool('bsdtar')).each([
    ['ustar', { long: false, bytes: false }, seconds],
    ['pax', { bytes: false }, (items: Map<string, Item>) => items],
    ['gnutar', { bytes: false }, seconds],
    ['v7', { long: false, bytes: false }, seconds],
  ])('bsdtar as %s', async (format, tree, rounded) => {
    const place = makePlace();
    makeTree(place, tree);
    run('bsdtar', [`--format=${format}`, '--no-xattrs', '-cf', 'p.tar', 'opt'], place);
    const items = await read(join(place, 'p.tar'));
    const order = items.map(({ name }) => name.replace(/\/$/, ''));
    expect(rounded(byName(items))).toEqual(rounded(treeOf(place, order)));
  });

  it.runIf(hasTool('python3')).each(['USTAR', 'GNU', 'PAX'])("python's tarfile as %s", async (format) => {
    const place = makePlace();
    makeTree(place, { long: format !== 'USTAR' });
    const program = `import tarfile,sys\nwith tarfile.open("p.tar","w",format=tarfile.${format}_FORMAT) as t: t.add("opt")`;
    run('python3', ['-c', program], place);
    const items = await read(join(place, 'p.tar'));
    const order = items.map(({ name }) => name);
    expect(seconds(byName(items))).toEqual(seconds(treeOf(place, order)));
    const time = items.find(({ name }) => name === 'opt/file')?.mtimeMs ?? 0;
    if (format === 'PAX') expect(Math.abs(time - 1_300_000_000_654.321)).toBeLessThan(0.002); // a float, in python
  });

  it('an unchanged tree of git archive, with its comment in a global header', async () => {
    const place = makePlace();
    makeTree(place);
    const git = (...args: string[]) =>
      run(
        'git',
        ['-c', 'user.name=x', '-c', 'user.email=x@x', '-c', 'init.defaultBranch=main', ...args],
        place,
      );
    git('init', '-q');
    git('add', '.');
    git('commit', '-qm', 'x');
    git('archive', '--format=tar', '-o', 'p.tar', 'HEAD');
    const ours = byName(await read(join(place, 'p.tar')));
    for (const [name, item] of treeOf(place)) {
      if (item.kind === 'directory' || item.kind === 'hardlink') continue;
      expect(ours.get(name)).toMatchObject({
        kind: item.kind,
        content: item.content,
        linkTarget: item.linkTarget,
      });
    }
  });
});

describe('what compressors write', () => {
  it.each(named)('%s, the same as without', async (_format, packer) => {
    const place = makePlace();
    makeTree(place);
    const plain = run('tar', ['--format=pax', '-cf', '-', 'opt'], place);
    const path = saved(`p.tar.${packer.ending}`, pack(packer, plain));
    expect(formatOf(path)).toBe(packer.format);
    expect(await read(path)).toEqual(await read(saved('p.tar', plain)));
  });

  it.each(named)('%s, with zeros after it and nothing else', async (_format, packer) => {
    const packed = pack(packer, tar);
    const name = `p.tar.${packer.ending}`;
    const expected = await read(saved('p.tar', tar));
    for (const zeros of packer.ending === 'xz' ? [4, 512, 1_000_000] : [1, 3, 512, 1_000_000]) // xz: in fours
      expect(await read(saved(name, Buffer.concat([packed, Buffer.alloc(zeros)])))).toEqual(expected);
    for (const tail of ['junkjunk', '\0\0\0\0junk', '\n']) {
      const error = await refused(saved(name, Buffer.concat([packed, Buffer.from(tail)])));
      expect(error.message).toMatch(/follows the end|damaged|truncated/);
    }
    const far = await refused(
      saved(name, Buffer.concat([packed, Buffer.alloc(1_000_000), Buffer.from('junk'.repeat(5))])),
    );
    expect(far.message).toMatch(/follows the end/);
  });

  it.each(named.filter(([, { canJoin }]) => canJoin))(
    '%s, in several pieces joined',
    async (_format, packer) => {
      const pieces = [tar.subarray(0, 700), Buffer.alloc(0), tar.subarray(700, 99_999), tar.subarray(99_999)];
      const joined = Buffer.concat(pieces.map((piece) => pack(packer, piece)));
      expect(await read(saved(`p.tar.${packer.ending}`, joined))).toEqual(await read(saved('p.tar', tar)));
    },
  );

  it.each(named)('%s, cut anywhere', async (_format, packer) => {
    const packed = pack(packer, tar);
    for (let length = 40; length < packed.length; length += Math.ceil(packed.length / 60)) {
      const error = await refused(saved(`p.tar.${packer.ending}`, packed.subarray(0, length)), {
        format: packer.format,
      });
      expect(error.message).toMatch(/truncated/);
    }
    const last = await refused(saved(`p.tar.${packer.ending}`, packed.subarray(0, -1)));
    expect(last.message).toMatch(/truncated: the \w+ data ends too early/);
  });

  it.each(named.filter(([, { isChecked }]) => isChecked))(
    '%s, damaged anywhere: refused, or what it was',
    async (_format, packer) => {
      const packed = pack(packer, tar);
      const expected = await read(saved('p.tar', tar));
      const path = saved(`p.tar.${packer.ending}`, packed);
      let refusals = 0;
      for (let at = 0; at < packed.length; at += 97) {
        const spoilt = Buffer.from(packed);
        spoilt[at] = (packed[at] ?? 0) ^ (1 << (at % 8));
        fs.writeFileSync(path, spoilt);
        const result = await read(path, { format: packer.format }).catch((error: unknown) => error);
        if (result instanceof Error) {
          expect(result).toMatchObject({ name: 'EntryError' });
          refusals += 1;
        } else {
          expect(result).toEqual(expected);
        }
      }
      expect(refusals).toBeGreaterThan(packed.length / 97 - 5);
    },
  );

  it.each(named)('%s, of what is no tar', async (_format, packer) => {
    const { format } = packer;
    const of = (inner: Buffer) => refused(saved(`p.tar.${packer.ending}`, pack(packer, inner)), { format });
    const page = await of(Buffer.from('<html>'.padEnd(600)));
    expect(page.message).toMatch(/what is in the \w+ file is no tar archive; it looks like an HTML page/);
    const twice = await of(zlib.gzipSync(noise(2000)));
    expect(twice.message).toMatch(/a tar\.gz file once more/);
    const nothing = await of(Buffer.alloc(0));
    expect(nothing.message).toMatch(/no tar archive; it has only 0 bytes/);
  });

  it.each(named)('%s, no further than its limit', async (_format, packer) => {
    const bomb = tarOf({ name: 'opt/zeros', content: Buffer.alloc(30_000_000) });
    const path = saved(`p.tar.${packer.ending}`, pack(packer, bomb));
    let seen = 0;
    const limits = withDefaults({ unpackedBytes: 5_000_000 });
    const error = await refused(path, { limits, onPiece: () => (seen += 1) });
    expect(error.message).toMatch(/unpacked-bytes/);
    expect(seen).toBeLessThan(100);
  });

  it.each(named)('%s, until a stop is asked for', async (_format, packer) => {
    const path = saved(
      `p.tar.${packer.ending}`,
      pack(packer, tarOf({ name: 'opt/noise', content: noise(8_000_000) })),
    );
    const stop = new AbortController();
    let after = 0;
    const error = await refused(path, {
      signal: stop.signal,
      onPiece: () => {
        after += 1;
        stop.abort();
      },
    });
    expect(error.code).toBe('DDBG_ABORTED');
    expect(after).toBeLessThan(10);
  });

  it.runIf(hasTool('zstd') && !checksZstd)(
    'zstd only with a digest, where its checksums are not looked at',
    async () => {
      const path = saved('p.tar.zst', run('zstd', ['-qc'], undefined, tar));
      const error = await refused(path, { isVerified: false });
      expect(error.message).toMatch(/Node [\d.]+ cannot check its checksums/);
      expect(error.hint).toMatch(/#sha256=.*tar\.gz/);
    },
  );

  it.runIf(hasTool('zstd'))('zstd with frames to be skipped, and in many frames', async () => {
    const frame = (piece: Buffer): Buffer => run('zstd', ['-qc'], undefined, piece);
    const skipped = Buffer.concat([Buffer.from('5e2a4d1804000000', 'hex'), Buffer.from('note')]);
    const packed = [skipped, frame(tar.subarray(0, 1000)), skipped, frame(tar.subarray(1000)), skipped];
    const path = saved('p.tar.zst', Buffer.concat(packed));
    expect(formatOf(path)).toBe('tar.zst');
    expect(await read(path)).toEqual(await read(saved('p.tar', tar)));
  });

  it.runIf(hasTool('zstd'))('zstd with a window of up to 128 MiB, and no larger', async () => {
    const large = tarOf({ name: 'opt/noise', content: noise(5_000_000) });
    const from = (args: string[]): Buffer => run('zstd', ['-qc', ...args], undefined, large);
    expect(await read(saved('p.tar.zst', from(['--long=27'])))).toHaveLength(1);
    const error = await refused(saved('p.tar.zst', from(['--long=28'])));
    expect(error.message).toMatch(/window is 268\.4 MB; the largest that can be read is 128 MiB/);
  });

  it.runIf(hasTool('bzip2'))(
    'bzip2 only with both of its checksums, each held against what it is of',
    async () => {
      const packed = run('bzip2', ['-c'], undefined, tarOf({ name: 'etc/one', content: 'one\n' }));
      const end = 0x177245385090n;
      const all = BigInt(`0x${packed.toString('hex')}`);
      const padding = [0n, 1n, 2n, 3n, 4n, 5n, 6n, 7n].find(
        (bits) => ((all >> (bits + 32n)) & 0xffffffffffffn) === end,
      );
      const ofStream = 1n << ((padding ?? expect.fail('no end')) + 31n);
      const ofBlock = 1n << (BigInt(packed.length - 11) * 8n + 7n); // the first bit after BZh9 and the block's magic
      const spoilt = (bits: bigint) => saved('p.tar.bz2', Buffer.from((all ^ bits).toString(16), 'hex'));
      expect((await refused(spoilt(ofStream))).message).toMatch(/checksum of a stream/);
      expect((await refused(spoilt(ofBlock))).message).toMatch(/checksum of a block/);
      expect((await refused(spoilt(ofBlock | ofStream))).message).toMatch(/checksum of a block/);
    },
  );

  it.runIf(hasTool('xz'))('xz with every check and filter that can be read, and no other', async () => {
    const from = (...args: string[]): string => saved('p.tar.xz', run('xz', ['-c', ...args], undefined, tar));
    const expected = await read(saved('p.tar', tar));
    for (const args of [['--check=crc32'], ['--check=crc64'], ['-9e'], ['--block-size=10000'], ['-T2']])
      expect(await read(from(...args)), args.join(' ')).toEqual(expected);
    for (const args of [['--check=sha256'], ['--lzma2=dict=128MiB'], ['--delta', '--lzma2']])
      expect((await refused(from(...args))).message, args.join(' ')).toMatch(/filter|dictionary|check/);
  });
});

describe('memory', () => {
  const bundle = { path: '' };
  beforeAll(async () => {
    const folder = fs.mkdtempSync('/tmp/reading-bundle-');
    const source = `
      import { readFileSync } from 'node:fs';
      import { openReader } from './src/overlay/readers.ts';
      import { withDefaults } from './src/overlay/limits.ts';
      let bytes = 0;
      const sink = { write: (chunk) => { bytes += chunk.length; }, end() {} };
      const reading = { subject: 'fstree=x', limits: withDefaults(), isVerified: true };
      openReader(process.argv[3]).then((read) => read(process.argv[2], () => sink, reading)).then(() =>
        console.log(JSON.stringify({ bytes, status: readFileSync('/proc/self/status', 'utf8') })));`;
    bundle.path = join(folder, 'read.cjs');
    const resolveDir = join(import.meta.dirname, '../..');
    const options = { bundle: true, platform: 'node', format: 'cjs', outfile: bundle.path } as const;
    await build({ stdin: { contents: source, resolveDir }, ...options, logLevel: 'error' });
    return () => fs.rmSync(folder, { recursive: true });
  });

  const node = process.env.DDBG_TEST_NODE ?? process.execPath;
  const measure = (path: string, format: Format): { bytes: number; rss: number } => {
    const { stdout, stderr } = spawnSync(node, [bundle.path, path, format], { encoding: 'utf8' });
    expect(stderr).toBe('');
    const { bytes, status } = JSON.parse(stdout) as { bytes: number; status: string };
    // Not maxRSS: that starts with what vitest had when it forked.
    return { bytes, rss: Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024 };
  };
  const size = 400_000_000;
  const header = tarOf({ name: 'opt/zeros', size, content: '' }).subarray(0, 512);
  const bomb = (): Buffer => Buffer.concat([header, Buffer.alloc(size + 1024)]);

  it.each(named)('of %s: 400 MB of zeros in less than 200 MB', (_format, packer) => {
    const fast = { gz: ['gzip', '-1c'], xz: ['xz', '-0c'], br: ['brotli', '-q', '1', '-c'] }[packer.ending];
    const command = (fast ?? packer.command) as [string, ...string[]];
    const path = saved(`p.tar.${packer.ending}`, pack({ ...packer, command }, bomb()));
    const { bytes, rss } = measure(path, packer.format);
    expect(bytes).toBe(size);
    expect(rss).toBeLessThan(200_000_000);
  });

  it.runIf(hasTool('zip'))('of zip: 400 MB of zeros in less than 200 MB', () => {
    const place = makePlace();
    fs.writeFileSync(join(place, 'zeros'), Buffer.alloc(size));
    run('zip', ['-q1', 'p.zip', 'zeros'], place);
    const { bytes, rss } = measure(join(place, 'p.zip'), 'zip');
    expect(bytes).toBe(size);
    expect(rss).toBeLessThan(200_000_000);
  });
});

describe('recognise', () => {
  const of = (hex: string): Buffer => Buffer.concat([Buffer.from(hex, 'hex'), noise(100)]);

  it.each<[string, string]>([
    ['1f8b08', 'tar.gz'],
    ['28b52ffd', 'tar.zst'],
    ['502a4d18', 'tar.zst'],
    ['5f2a4d18', 'tar.zst'],
    ['fd377a585a00', 'tar.xz'],
    ['425a6831314159265359', 'tar.bz2'],
    ['425a6839177245385090', 'tar.bz2'],
    ['504b0304', 'zip'],
    ['504b0506', 'zip'],
  ])('%s is %s', (hex, format) => {
    expect(recognise(of(hex))).toEqual({ format });
    expect(recognise(of(hex), 'https://host/patch.tar.br')).toEqual({ format });
  });

  it.each<[string, RegExp]>([
    ['04224d18', /lz4/],
    ['4c5a4950', /lzip/],
    ['5d00008000', /lzma/],
    ['1f9d90', /compress/],
    ['377abcaf271c', /7z/],
    ['526172211a07', /rar/],
    ['213c617263683e', /ar archive/],
    ['edabeedb', /rpm/],
    ['303730373031', /cpio/],
    ['7f454c46', /ELF/],
    ['2321', /script/],
    ['25504446', /PDF/],
    ['425a68', /nothing known/],
    ['425a6830314159265359', /nothing known/],
  ])('%s is not for us: %s', (hex, looksLike) => {
    expect(recognise(of(hex))).toMatchObject({ looksLike: expect.stringMatching(looksLike) });
  });

  it('knows brotli by its name alone, when nothing else fits', () => {
    const brotli = zlib.brotliCompressSync(tar);
    for (const name of ['/p.tar.br', 'p.TBR', 'https://h/p.tar.br', 'https://h/p.tar.br?a=b.zip#strip=1'])
      expect(recognise(brotli, name)).toEqual({ format: 'tar.br' });
    for (const name of ['', 'p.br', 'https://h/?p.tar.br', 'https://h/x#p.tbr'])
      expect(recognise(brotli, name)).toHaveProperty('looksLike');
    expect(recognise(Buffer.from('[1] starts like brotli'), 'p.tar.br')).toMatchObject({ looksLike: 'JSON' });
    expect(recognise(Buffer.from('<!doctype html>'), 'p.tar.br')).toMatchObject({
      looksLike: 'an HTML page',
    });
    expect(recognise(Buffer.from([0x5b, 0xff, 0, 1]), 'p.tar.br')).toEqual({ format: 'tar.br' });
    expect(recognise(tar, 'p.tar.br')).toEqual({ format: 'tar' });
  });
});

describe('looksLikeImage', () => {
  const digest = 'ab'.repeat(32);
  it.each<[string, string[], boolean]>([
    [
      'docker save',
      ['manifest.json', 'repositories', `${digest}/`, `${digest}/VERSION`, `${digest}/layer.tar`],
      true,
    ],
    [
      'docker save since 25',
      ['blobs/sha256/', `blobs/sha256/${digest}`, 'index.json', 'manifest.json', 'oci-layout'],
      true,
    ],
    ['skopeo, an OCI layout', ['./oci-layout', './index.json', `./blobs/sha256/${digest}`], true],
    ['a web app', ['manifest.json', 'index.html', 'js/app.js'], false],
    ['an extension', ['usr/share/x/manifest.json', 'usr/share/x/index.json'], false],
    ['a layer', ['etc/', 'etc/passwd', '.wh.tmp'], false],
    ['blobs without a manifest', ['index.json', `blobs/sha256/${digest}`], false],
    ['a folder of blobs', ['index.json', 'blobs/sha256/readme'], false],
    ['nothing', [], false],
  ])('%s', (_what, names, expected) => {
    expect(looksLikeImage(names)).toBe(expected);
  });
});
