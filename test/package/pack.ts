/**
 * The tarball that the tests of this folder are about: packed from a fresh build (npm's prepack), or the one that
 * DDBG_TEST_PACKAGE names, e.g. the very file that is about to be published. The test images get the same one.
 */
import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { npmPack } from '../container/engine.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    tarball: string;
  }
}

export default async function setup(project: TestProject): Promise<() => void> {
  const folder = mkdtempSync(join(realpathSync(tmpdir()), 'ddbg-pack-'));
  const given = process.env.DDBG_TEST_PACKAGE;
  const tarball = given ? realpathSync(given) : await npmPack(folder);
  process.env.DDBG_TEST_PACKAGE = tarball; // engine.ts comes next
  project.provide('tarball', tarball);
  return () => rmSync(folder, { recursive: true, force: true });
}
