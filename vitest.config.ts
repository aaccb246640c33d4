import { defineConfig } from 'vitest/config';

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
      { extends: true, test: { name: 'process', include: ['test/{process,overlay,init}/**/*.test.ts'] } },
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
