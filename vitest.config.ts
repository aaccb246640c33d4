import { existsSync } from 'node:fs';
import { defineConfig } from 'vitest/config';

/** Without a C compiler there is no init to be tested; where everything has to be there, its tests then fail. */
const canTestInit =
  process.env.DDBG_REQUIRE_DOCKER === '1' ||
  existsSync(new URL(`dist/init/linux-${process.arch}/ddbg-init`, import.meta.url));
if (!canTestInit)
  console.error('\nSKIPPED: test/init, for dist/init is not built (npm run build:init says why)\n');

/** Pure tests, tests that start real processes and servers, and tests in real containers. */
export default defineConfig({
  test: {
    reporters: process.env.CI
      ? ['default', ['json', { outputFile: '.cache/test-results.json' }]]
      : ['default'],
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
    ],
  },
});
