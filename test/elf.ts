/** The header of a program, elf(5): for tests of what is built. */
import { readFileSync } from 'node:fs';

const MACHINES: Readonly<Record<number, string>> = { 62: 'x64', 183: 'arm64' };
const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const PT_INTERP = 3;

/** Undefined: it is no ELF file of 64 bits, little-endian. */
export function readElf(file: string) {
  const bytes = readFileSync(file);
  if (bytes.toString('latin1', 0, 6) !== '\x7fELF\x02\x01') return undefined;
  const [start, size, count] = [
    Number(bytes.readBigUInt64LE(32)),
    bytes.readUInt16LE(54),
    bytes.readUInt16LE(56),
  ];
  const segments = Array.from({ length: count }, (_, at) => bytes.readUInt32LE(start + at * size));
  return {
    machine: MACHINES[bytes.readUInt16LE(18)] ?? 'another',
    isStatic: segments.includes(PT_LOAD) && !segments.includes(PT_INTERP) && !segments.includes(PT_DYNAMIC),
  };
}
