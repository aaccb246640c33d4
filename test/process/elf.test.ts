/** Every program that is built is for the processor its folder names, and needs nothing beside it. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** e_machine, elf(5). */
const MACHINES: Readonly<Record<number, string>> = { 62: 'x64', 183: 'arm64' };
const PT_DYNAMIC = 2;
const PT_INTERP = 3;

/** Undefined: it is no ELF file. */
function elf(file: string) {
  const bytes = readFileSync(file);
  if (bytes.toString('latin1', 0, 4) !== '\x7fELF') return undefined;
  const [start, size, count] = [
    Number(bytes.readBigUInt64LE(32)),
    bytes.readUInt16LE(54),
    bytes.readUInt16LE(56),
  ];
  const segments = Array.from({ length: count }, (_, at) => bytes.readUInt32LE(start + at * size));
  return {
    machine: MACHINES[bytes.readUInt16LE(18)] ?? 'another',
    isStatic: !segments.includes(PT_INTERP) && !segments.includes(PT_DYNAMIC),
  };
}

function programsIn(folder: string) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .flatMap((file) => {
      const found = elf(file);
      return found === undefined ? [] : [{ file: file.slice(root.length), ...found }];
    });
}

const FOLDERS = [
  ['dist/init/linux-x64', 'x64'],
  ['dist/init/linux-arm64', 'arm64'],
] as const;

test('node itself is read right', () => {
  expect(elf(process.execPath)).toEqual({ machine: process.arch, isStatic: false });
  expect(elf(join(root, 'package.json'))).toBeUndefined();
});

test.each(FOLDERS.filter(([folder]) => existsSync(join(root, folder))))('%s: %s', (folder, machine) => {
  const programs = programsIn(join(root, folder));
  expect(programs.length).toBeGreaterThan(0);
  for (const program of programs) expect(program).toEqual({ file: program.file, machine, isStatic: true });
});
