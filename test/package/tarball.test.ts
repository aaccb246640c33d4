/** Can it be published? What is in the tarball, and what a person gets who installs it. */
import { type ExecFileSyncOptions, execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { tmpdir } from 'node:os';
import { join, normalize, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { readElf } from '../elf.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const tarball = inject('tarball');
const folder = mkdtempSync(join(tmpdir(), 'ddbg-package-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Unpacked, every file with its path. */
const unpacked = join(folder, 'package');
execFileSync('tar', ['-C', folder, '-xpzf', tarball]);
const files = readdirSync(unpacked, { recursive: true, encoding: 'utf8', withFileTypes: true })
  .filter((entry) => !entry.isDirectory())
  .map((entry) => relative(unpacked, join(entry.parentPath, entry.name)))
  .sort();
const manifest = JSON.parse(readFileSync(join(unpacked, 'package.json'), 'utf8'));

/** As a machine that knows nothing of this one: no settings of npm, an empty cache. */
const stranger = { PATH: process.env.PATH, HOME: join(folder, 'home'), npm_config_update_notifier: 'false' };
mkdirSync(stranger.HOME);

function says(file: string, args: readonly string[], options: ExecFileSyncOptions = {}): string {
  return String(
    execFileSync(file, args, { encoding: 'utf8', stdio: 'pipe', env: stranger, ...options }),
  ).trim();
}

describe('the tarball', () => {
  const tool = (name: string) => join(root, 'node_modules/.bin', name);

  test('publint and attw have nothing to say', () => {
    expect(says(tool('publint'), [tarball, '--strict'])).toMatch(/^All good!$/m);
    const options = ['--profile', 'esm-only', '--no-definitely-typed', '--no-emoji', '--format', 'ascii'];
    expect(says(tool('attw'), [tarball, ...options])).toMatch(/^bundler: OK/m);
  });

  /** What no other file leads to: read by path (src/host.ts, src/process/record.ts), or for people. */
  const kept = [
    'LICENSE',
    'README.md',
    'dist/THIRD-PARTY-LICENSES.txt',
    ...['arm64', 'x64'].flatMap((architecture) => [
      `dist/init/linux-${architecture}/ddbg-init`,
      `dist/init/linux-${architecture}/ddbg-record`,
    ]),
    'package.json',
  ];

  test('holds what bin and exports lead to, the native programs, licences and README: no more and no less', () => {
    const reached = new Set<string>();
    const visit = (file: string): void => {
      if (reached.has(file)) return;
      reached.add(file);
      for (const name of importsOf(file)) {
        if (name.startsWith('.')) visit(normalize(join(file, '..', name)));
        else expect([file, name, isBuiltin(name)]).toEqual([file, name, true]); // no other package
      }
    };
    const exported = Object.values(manifest.exports as Record<string, string | Record<string, string>>);
    const paths = exported.flatMap((entry) => (typeof entry === 'string' ? [entry] : Object.values(entry)));
    for (const path of [...paths, ...Object.values<string>(manifest.bin)]) visit(normalize(path));
    expect(reached.size).toBeGreaterThan(40);
    expect(files).toEqual([...new Set([...reached, ...kept])].sort());
  });

  function importsOf(file: string): string[] {
    if (!/\.(cjs|js|d\.ts)$/.test(file)) return [];
    const text = readFileSync(join(unpacked, file), 'utf8');
    return [...text.matchAll(/(?:require|import)\('([^']+)'\)|\bfrom '([^']+)';/g)].map(
      ([, loaded, imported = '']) => loaded ?? imported,
    );
  }

  test('brings no other package along, and runs nothing when it is installed', () => {
    for (const key of ['dependencies', 'optionalDependencies', 'peerDependencies', 'bundleDependencies'])
      expect([key, manifest[key]]).toEqual([key, undefined]);
    const scripts = Object.keys(manifest.scripts);
    expect(scripts.filter((name) => /^(pre|post)?install$|^prepare$/.test(name))).toEqual([]);
  });

  test('is plain files; programs may be executed by everybody, and their interpreters are named', () => {
    const listed = says('tar', ['-tvzf', tarball]).split('\n');
    expect(listed.filter((line) => !line.startsWith('-'))).toEqual([]);
    const isExecutable = (file: string) => (statSync(join(unpacked, file)).mode & 0o111) === 0o111;
    const bins = Object.values<string>(manifest.bin);
    const native = files.filter((file) => file.startsWith('dist/init/'));
    expect(files.filter(isExecutable)).toEqual([...bins, ...native].sort());
    for (const bin of bins.filter((file) => file.endsWith('.cjs')))
      expect(readFileSync(join(unpacked, bin), 'utf8')).toMatch(/^#!\/usr\/bin\/env node\n/);
  });

  test.each(['x64', 'arm64'])('the native programs for %s are static, and for that processor', (machine) => {
    const names = files.filter((file) => file.startsWith(`dist/init/linux-${machine}/`));
    expect(names).toHaveLength(2);
    for (const name of names)
      expect([name, readElf(join(unpacked, name))]).toEqual([name, { machine, isStatic: true }]);
  });

  test('names no place of the machine that built it', () => {
    const places = [root.replace(/\/$/, ''), 'ddbg-build-', '/home/', '/Users/', 'sourceMappingURL'];
    const found = files.flatMap((file) => {
      const bytes = readFileSync(join(unpacked, file));
      return places.filter((place) => bytes.includes(place)).map((place) => `${file}: ${place}`);
    });
    expect(found).toEqual([]);
  });

  test('is as big as README says, to one part in twenty', () => {
    const readme = readFileSync(join(root, 'README.md'), 'utf8');
    const said = /(\d+) kB to download and (\d+) kB unpacked/.exec(readme)?.slice(1) ?? [];
    const sum = files.reduce((bytes, file) => bytes + statSync(join(unpacked, file)).size, 0);
    const real = [statSync(tarball).size, sum].map((bytes) => Math.round(bytes / 1000));
    const isNear = said.map((size, index) => Math.abs(Number(size) / (real[index] ?? 0) - 1) < 0.05);
    expect({ said, real, isNear }).toEqual({ said, real, isNear: [true, true] });
  });
});

describe('installed in an empty folder, without a network', () => {
  const home = join(folder, 'installed');
  const bin = (name: string) => join(home, 'node_modules/.bin', name);
  const inHome = { cwd: home };

  beforeAll(() => {
    mkdirSync(home);
    const cache = `--cache=${join(folder, 'no-cache')}`;
    says('npm', ['install', '--offline', '--no-audit', '--no-fund', cache, tarball], inHome);
  });

  test('it is the only package, and its programs run', () => {
    const installed = readdirSync(join(home, 'node_modules')).filter((name) => !name.startsWith('.'));
    expect(installed).toEqual(['ddbg-entry']);
    expect(readdirSync(join(home, 'node_modules/.bin')).sort()).toEqual(Object.keys(manifest.bin).sort());
    for (const name of ['ddbg-entry', 'ddbg'])
      expect([name, says(bin(name), ['--version'])]).toEqual([name, manifest.version]);
    expect(spawnSync(bin('ddbg-entry'), ['sh', '-c', 'exit 7'], { env: stranger }).status).toBe(7);
  });

  test('the line for shell entrypoints finds it in PATH', () => {
    const entrypoint = join(home, 'entrypoint.sh');
    writeFileSync(entrypoint, '#!/bin/sh\n. ddbg-entry.sh\nexec sh -c "exit 7"\n', { mode: 0o755 });
    const PATH = `${join(home, 'node_modules/.bin')}:${stranger.PATH}`;
    const off = spawnSync(entrypoint, { env: { ...stranger, PATH }, encoding: 'utf8' });
    expect(off).toMatchObject({ status: 7, stdout: '', stderr: '' });
    const on = spawnSync(entrypoint, { env: { ...stranger, PATH, DEBUG: 'verbose' }, encoding: 'utf8' });
    expect(on).toMatchObject({ status: 7, stderr: expect.stringMatching(/^ddbg-entry: /m) });
  });

  test('--install puts the init of this machine in front, and it runs', () => {
    const said = says(bin('ddbg-entry'), [`--install=${join(home, 'front')}`], inHome);
    expect(said).toMatch(/front\/ddbg-entry is the native init now$/);
    const front = spawnSync(join(home, 'front/ddbg-entry'), ['--exit-map=7:9', '--', 'sh', '-c', 'exit 7'], {
      env: stranger,
    });
    expect(front.status).toBe(9);
  });

  test('ESM imports it, with everything that its types promise, and the schema', () => {
    writeFileSync(
      join(home, 'entry.mjs'),
      `import * as entry from 'ddbg-entry';
       import schema from 'ddbg-entry/fault.schema.json' with { type: 'json' };
       const status = await entry.runEntry({ argv: ['--', 'sh', '-c', 'exit 7'], environment: { PATH: process.env.PATH } });
       console.log(JSON.stringify({ status, schema: schema.type, names: Object.keys(entry) }));`,
    );
    const said = JSON.parse(says(process.execPath, ['--no-warnings', 'entry.mjs'], inHome));
    const declared = /^export \{(.*)\};$/m.exec(readFileSync(join(unpacked, 'dist/index.d.ts'), 'utf8'))?.[1];
    const values = (declared ?? '').split(',').filter((name) => !/^\s*type\s/.test(name));
    expect(said).toEqual({ status: 7, schema: 'object', names: values.map((name) => name.trim()).sort() });
    expect(said.names.length).toBeGreaterThan(4);
  });

  describe.each([
    ['nodenext', ['--module', 'nodenext', '--moduleResolution', 'nodenext']],
    ['bundler', ['--module', 'esnext', '--moduleResolution', 'bundler']],
  ])('its types for a consumer who has no other types, %s', (_, flags) => {
    const compile = (name: string, text: string) => {
      writeFileSync(join(home, 'package.json'), '{ "type": "module" }');
      writeFileSync(join(home, name), text);
      const options = ['--noEmit', '--strict', '--target', 'es2023', ...flags, name];
      const tsc = join(root, 'node_modules/typescript/bin/tsc');
      return spawnSync(process.execPath, [tsc, ...options], { cwd: home, encoding: 'utf8', env: stranger });
    };

    test('compile', () => {
      const compiled = compile(
        'entry.ts',
        `import { applyOverlay, EntryError, type EntryHooks, makePlan, parseDebug, runEntry } from 'ddbg-entry';
         const hooks: EntryHooks = { onFault: (fault) => { const text: string = fault.summary; void text; } };
         const status: number = await runEntry({ argv: ['true'], environment: {}, hooks });
         makePlan(parseDebug({ DEBUG: 'x' }), { argv: ['a'], environment: {} });
         await applyOverlay(['x'], { root: '/x', limits: { stallMs: status } });
         if (new EntryError('DDBG_FETCH', 'x').hint === undefined) throw new Error();`,
      );
      expect(compiled).toMatchObject({ status: 0, stdout: '' });
    });

    test('are types: what is wrong is refused', () => {
      const { status, stdout } = compile(
        'wrong.ts',
        `import { type EntryHooks, runEntry } from 'ddbg-entry';
         const hooks: EntryHooks = { onSomething: () => {} };
         const status: string = await runEntry({ argv: 'true', hooks });`,
      );
      expect(status).not.toBe(0);
      expect(stdout.match(/error TS\d+/g)).toEqual(['error TS2353', 'error TS2322', 'error TS2322']);
    });
  });
});

test('npx runs it out of the tarball, without a network', () => {
  const options = ['--offline', '--yes', `--cache=${join(folder, 'npx-cache')}`, `--package=${tarball}`];
  expect(says('npx', [...options, 'ddbg-entry', '--version'], { cwd: stranger.HOME })).toBe(manifest.version);
});
