/**
 * The package as test/init finds it in the project init-arm64: where this machine's init and recorder have their places,
 * arm64's run under qemu-user. Node and all that the tests start besides are this machine's.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TestProject } from 'vitest/node';

const root = fileURLToPath(new URL('../..', import.meta.url));

export default function setup({ config }: TestProject): () => void {
  const dist = config.env.DDBG_TEST_DIST as string;
  const folder = join(dist, '..');
  mkdirSync(folder, { mode: 0o755 });
  const undo = () => rmSync(folder, { recursive: true, force: true });
  try {
    cpSync(join(root, 'package.json'), join(folder, 'package.json'));
    cpSync(join(root, 'dist'), dist, { recursive: true });
    for (const name of ['ddbg-init', 'ddbg-record']) emulate(dist, name);
  } catch (error) {
    undo();
    throw error;
  }
  return undo;
}

function emulate(dist: string, name: string): void {
  const [program, place] = ['linux-arm64', `linux-${process.arch}`].map((platform) =>
    join(dist, 'init', platform, name),
  ) as [string, string];
  // by a link, for the name of a process is that of the file it executes, and the recorder is known by it
  const emulator = join(dist, 'emulator', name);
  mkdirSync(join(emulator, '..'), { recursive: true });
  symlinkSync(execFileSync('which', ['qemu-aarch64-static'], { encoding: 'utf8' }).trim(), emulator);
  const source = fileURLToPath(new URL('fixtures/emulate.c', import.meta.url));
  const names = [`-DEMULATOR="${emulator}"`, `-DPROGRAM="${program}"`];
  rmSync(place);
  execFileSync('cc', ['-std=c11', '-O1', '-Wall', '-Wextra', '-static', ...names, '-o', place, source]);
  chmodSync(place, 0o755);
}
