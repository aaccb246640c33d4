/** Overlays and reverts without root's rights: in a real process, for access(2) asks who a process really is. */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { dirname, join } from 'node:path';
import { build } from 'esbuild';
import { expect } from 'vitest';
import type { Source, Stand } from './stand.ts';

export const UID = 1000;

type Job = { readonly apply: readonly Source[] } | { readonly revert: { runs?: number; force?: boolean } };

const here = import.meta.dirname;
let code: Promise<Uint8Array> | undefined;

async function bundle(): Promise<Uint8Array> {
  const { outputFiles } = await build({
    stdin: {
      contents: "export { applyOverlays } from './overlay.ts'; export { revertOverlays } from './revert.ts';",
      resolveDir: join(here, '../../src/overlay'),
    },
    bundle: true,
    write: false,
    platform: 'node',
    format: 'esm',
    logLevel: 'error',
    banner: {
      js: "import { createRequire as __make } from 'node:module'; const require = __make(import.meta.url);",
    },
  });
  return outputFiles[0]?.contents ?? new Uint8Array();
}

/** One after the other, as uid 1000; what each returned, or its error. The code lies in /tmp: the checkout may be closed to that user. */
export async function runAsUser(stand: Stand, ...jobs: readonly Job[]): Promise<Record<string, unknown>[]> {
  code ??= bundle();
  const base = dirname(stand.root);
  fs.writeFileSync(join(base, 'overlay.mjs'), await code);
  fs.copyFileSync(join(here, 'fixtures/as-user.mjs'), join(base, 'as-user.mjs'));
  fs.chmodSync(base, 0o755);
  fs.chownSync(stand.workDir, UID, UID);
  const program = [join(base, 'as-user.mjs'), join(base, 'overlay.mjs'), stand.root, stand.workDir];
  const run = spawnSync(process.execPath, [...program, JSON.stringify(jobs)], {
    uid: UID,
    gid: UID,
    encoding: 'utf8',
    cwd: '/',
  });
  expect(run.stderr).toBe('');
  return JSON.parse(run.stdout) as Record<string, unknown>[];
}
