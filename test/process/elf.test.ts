/** Every program that is built is for the processor its folder names, and needs nothing beside it. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { readElf } from '../elf.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

function programsIn(folder: string) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .flatMap((file) => {
      const found = readElf(file);
      return found === undefined ? [] : [{ file: file.slice(root.length), ...found }];
    });
}

const FOLDERS = [
  ['dist/init/linux-x64', 'x64'],
  ['dist/init/linux-arm64', 'arm64'],
] as const;

test('node itself is read right', () => {
  expect(readElf(process.execPath)).toEqual({ machine: process.arch, isStatic: false });
  expect(readElf(join(root, 'package.json'))).toBeUndefined();
});

test.each(FOLDERS.filter(([folder]) => existsSync(join(root, folder))))('%s: %s', (folder, machine) => {
  const programs = programsIn(join(root, folder));
  expect(programs.length).toBeGreaterThan(0);
  for (const program of programs) expect(program).toEqual({ file: program.file, machine, isStatic: true });
});
