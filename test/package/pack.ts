/**
 * The tarball that the tests of this folder are about: packed from a fresh build (npm's prepack), or the one that
 * DDBG_TEST_PACKAGE names, e.g. the very file that is about to be published. The test images get the same one.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TestProject } from 'vitest/node';

declare module 'vitest' {
  export interface ProvidedContext {
    tarball: string;
  }
}

const root = fileURLToPath(new URL('../..', import.meta.url));

export default function setup(project: TestProject): () => void {
  const folder = mkdtempSync(join(realpathSync(tmpdir()), 'ddbg-pack-'));
  const given = process.env.DDBG_TEST_PACKAGE;
  const tarball = given ? realpathSync(given) : pack(folder);
  process.env.DDBG_TEST_PACKAGE = tarball; // engine.ts comes next
  project.provide('tarball', tarball);
  return () => rmSync(folder, { recursive: true, force: true });
}

function pack(folder: string): string {
  execFileSync('npm', ['pack', '--pack-destination', folder], { cwd: root, stdio: 'pipe' });
  const [name = 'npm left no tarball'] = readdirSync(folder);
  return join(folder, name);
}
