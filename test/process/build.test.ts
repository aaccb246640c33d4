/** The build on a machine that lacks something. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { temporaryFolder } from './harness.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

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
