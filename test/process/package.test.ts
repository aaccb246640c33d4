/** What a person gets who installs the package. */
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { dist, temporaryFolder } from './harness.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** Without a compiler for a platform its init is not there; where CI runs, all of them must be. */
const inits = ['arm64', 'x64']
  .flatMap((architecture) => ['init', 'record'].map((name) => `dist/init/linux-${architecture}/ddbg-${name}`))
  .filter((file) => process.env.DDBG_REQUIRE_DOCKER === '1' || existsSync(join(root, file)));

test('it holds only what runs, and needs no other package', () => {
  const options = ['pack', '--dry-run', '--json', '--ignore-scripts'];
  const [packed] = JSON.parse(
    execFileSync('npm', options, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }),
  );
  const names = (packed.files as { path: string }[]).map(({ path }) =>
    path.replace(/-[A-Z0-9]{8}\.cjs$/, '-HASH.cjs'),
  );
  expect([...new Set(names)].sort()).toEqual([
    'LICENSE',
    'README.md',
    'dist/THIRD-PARTY-LICENSES.txt',
    'dist/act-HASH.cjs',
    'dist/bzip2-HASH.cjs',
    'dist/changes-HASH.cjs',
    'dist/check-HASH.cjs',
    'dist/chunk-HASH.cjs',
    'dist/cli.cjs',
    'dist/ddbg-entry.sh',
    'dist/ddbg.cjs',
    'dist/decompress-HASH.cjs',
    'dist/directory-HASH.cjs',
    'dist/dump-HASH.cjs',
    'dist/engine-HASH.cjs',
    'dist/esm-HASH.cjs', // fzstd
    'dist/fault.schema.json',
    'dist/health-HASH.cjs',
    'dist/hook-HASH.cjs',
    'dist/index.cjs',
    'dist/index.d.ts',
    'dist/index.js',
    ...inits,
    'dist/local-HASH.cjs',
    'dist/output-HASH.cjs',
    'dist/patch-HASH.cjs',
    'dist/report-HASH.cjs',
    'dist/reporting-HASH.cjs',
    'dist/shell-HASH.cjs',
    'dist/status-HASH.cjs',
    'dist/tar-HASH.cjs',
    'dist/usage-HASH.cjs',
    'dist/wait-HASH.cjs',
    'dist/xz-HASH.cjs',
    'dist/xz-decompress-HASH.cjs',
    'dist/zip-HASH.cjs',
    'dist/zstd-HASH.cjs',
    'package.json',
  ]);
  const manifest = JSON.parse(execFileSync('cat', [join(root, 'package.json')], { encoding: 'utf8' }));
  expect(manifest.dependencies).toBeUndefined();
});

test('without a C compiler the init is not built, which is said, and everything else is', () => {
  const folder = temporaryFolder();
  const build = `import { buildInit } from '${join(root, 'src/init/build.mjs')}';
    for (const { platform, libc, line } of buildInit('${folder}')) console.log(platform, libc, line);`;
  const said = execFileSync(process.execPath, ['--input-type=module', '-e', build], {
    encoding: 'utf8',
    env: { PATH: folder },
  });
  expect(said).toMatch(/^linux-x64 undefined .*NOT BUILT, there is no working musl-gcc or .*Node alone$/m);
  expect(said).toMatch(/^linux-arm64 undefined .*NOT BUILT/m);
  expect(existsSync(join(folder, 'init/linux-x64/ddbg-init'))).toBe(false);
});

test.each([
  ['nodenext', ['--module', 'nodenext']],
  ['bundler', ['--module', 'esnext', '--moduleResolution', 'bundler']],
])('its types compile for a consumer who has no other types, %s', (_, flags) => {
  const consumer = temporaryFolder();
  const installed = join(consumer, 'node_modules/ddbg-entry');
  mkdirSync(installed, { recursive: true });
  cpSync(dist, join(installed, 'dist'), { recursive: true });
  cpSync(join(root, 'package.json'), join(installed, 'package.json'));
  writeFileSync(join(consumer, 'package.json'), '{ "type": "module" }');
  writeFileSync(
    join(consumer, 'entry.ts'),
    `import { applyOverlay, EntryError, type EntryHooks, makePlan, parseDebug, runEntry } from 'ddbg-entry';
     const hooks: EntryHooks = { onFault: (fault) => { const text: string = fault.summary; void text; } };
     const status: number = await runEntry({ argv: ['true'], environment: {}, hooks });
     makePlan(parseDebug({ DEBUG: 'x' }), { argv: ['a'], environment: {} });
     await applyOverlay(['x'], { root: '/x', limits: { stallMs: status } });
     if (new EntryError('DDBG_FETCH', 'x').hint === undefined) throw new Error();
     // @ts-expect-error there is no such hook: the types are not any
     const wrong: EntryHooks = { onSomething: () => {} };
     void wrong;`,
  );
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  const options = ['--noEmit', '--strict', '--target', 'es2023', ...flags, 'entry.ts'];
  execFileSync(process.execPath, [tsc, ...options], { cwd: consumer, stdio: 'pipe' });
});
