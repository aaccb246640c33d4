import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { defineConfig } from 'vitest/config';

/** Without a C compiler there is no init to be tested; where everything has to be there, its tests then fail. */
const mustHaveAll = process.env.DDBG_REQUIRE_DOCKER === '1';
const isBuilt = (platform: string) =>
  mustHaveAll || existsSync(new URL(`dist/init/${platform}/ddbg-init`, import.meta.url));
const canTestInit = isBuilt(`linux-${process.arch}`);
if (!canTestInit)
  console.error('\nSKIPPED: test/init, for dist/init is not built (npm run build:init says why)\n');

/** The same with arm64's programs, under an emulator. */
const answers = (program: string) => mustHaveAll || spawnSync(program, ['--version']).status === 0;
const canEmulate =
  process.arch !== 'arm64' &&
  canTestInit &&
  isBuilt('linux-arm64') &&
  answers('qemu-aarch64-static') &&
  answers('cc');
if (!canEmulate && process.arch !== 'arm64')
  console.error(
    '\nSKIPPED: test/init with arm64, for dist/init/linux-arm64, qemu-aarch64-static or cc is not there\n',
  );

/** A file for each run: .ci/run adds them up. test/matrix.mjs names the one that it reads. */
const named = process.env.DDBG_TEST_RESULTS;
const outputFile = named ?? `.cache/test-results/${process.pid}.json`;

/** Pure tests, tests that start real processes and servers, tests in real containers, and of what is published. */
export default defineConfig({
  test: {
    reporters: process.env.CI || named ? ['default', ['json', { outputFile }]] : ['default'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    projects: [
      {
        extends: true,
        test: { name: 'unit', include: ['test/*.test.ts', 'test/{report,container}/*.unit.test.ts'] },
      },
      {
        extends: true,
        test: {
          name: 'process',
          include: [`test/{process,overlay${canTestInit ? ',init' : ''}}/**/*.test.ts`],
        },
      },
      ...(canEmulate
        ? [
            {
              extends: true as const,
              test: {
                name: 'init-arm64',
                include: ['test/init/**/*.test.ts'],
                globalSetup: ['test/init/emulated.ts'],
                setupFiles: ['test/init/cannot.ts'],
                env: { DDBG_TEST_DIST: join(tmpdir(), `ddbg-arm64-${process.pid}`, 'dist') },
                testTimeout: 180_000, // a gigabyte through an emulated recorder, on a busy machine
              },
            },
          ]
        : []),
      {
        extends: true,
        test: {
          name: 'container',
          include: ['test/container/**/*.test.ts'],
          exclude: ['test/container/*.unit.test.ts'],
          globalSetup: ['test/container/engine.ts'],
          testTimeout: 120_000,
          hookTimeout: 120_000,
          fileParallelism: false,
        },
      },
      {
        extends: true,
        test: {
          name: 'package',
          include: ['test/package/*.test.ts'],
          globalSetup: ['test/package/pack.ts', 'test/container/engine.ts'],
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});
