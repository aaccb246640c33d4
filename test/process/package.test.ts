/** What a person gets who installs the package. */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { dist, temporaryFolder } from './harness.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

test('it holds only what runs, and needs no other package', () => {
  const options = ['pack', '--dry-run', '--json', '--ignore-scripts'];
  const [packed] = JSON.parse(
    execFileSync('npm', options, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }),
  );
  const names = (packed.files as { path: string }[])
    .map(({ path }) => path.replace(/-[A-Z0-9]{8}\.cjs$/, '-HASH.cjs'))
    .sort();
  expect(names).toEqual([
    'LICENSE',
    'README.md',
    'dist/THIRD-PARTY-LICENSES.txt',
    'dist/chunk-HASH.cjs',
    'dist/cli.cjs',
    'dist/ddbg-entry.sh',
    'dist/index.cjs',
    'dist/index.d.ts',
    'dist/index.js',
    'dist/init/linux-arm64/ddbg-init',
    'dist/init/linux-x64/ddbg-init',
    'dist/overlay-HASH.cjs',
    'package.json',
  ]);
  const manifest = JSON.parse(execFileSync('cat', [join(root, 'package.json')], { encoding: 'utf8' }));
  expect(manifest.dependencies).toBeUndefined();
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
