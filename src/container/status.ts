/**
 * What /proc/PID/status says of a process, proc(5), and what else has a field a line.
 */
import { textOf } from '../attempt.ts';
import type { User } from './user.ts';

export type Fields = ReadonlyMap<string, string>;

/** Of lines such as `Name:\tvalue`. The first of a name counts: names hold no newline (measured: escaped). Pure. */
export function fieldsOf(text: string): Fields {
  const fields = new Map<string, string>();
  for (const line of text.split('\n')) {
    const colon = line.indexOf(':');
    const name = line.slice(0, colon);
    if (colon > 0 && !fields.has(name)) fields.set(name, line.slice(colon + 1).trim());
  }
  return fields;
}

/**
 * Everybody's to read. Undefined where there is no such process, or no /proc.
 *
 * @param proc default: /proc
 */
export function readStatus(pid: number, proc = '/proc'): Fields | undefined {
  const text = textOf(`${proc}/${pid}/status`);
  return text === undefined ? undefined : fieldsOf(text);
}

/** It is a zombie, or on its way to be nothing. */
export function hasEnded(fields: Fields): boolean {
  return /^[ZX]/.test(fields.get('State') ?? '');
}

/** The effective ones, which the kernel compares with those of who looks; root's where nothing is said. */
export function userOf(fields: Fields): User {
  return { uid: idOf(fields, 'Uid', EFFECTIVE) ?? 0, gid: idOf(fields, 'Gid', EFFECTIVE) ?? 0 };
}

export function realUidOf(fields: Fields): number | undefined {
  return idOf(fields, 'Uid', REAL);
}

export function groupsOf(fields: Fields): readonly number[] {
  return (fields.get('Groups') ?? '').split(' ').filter(Boolean).map(Number);
}

const REAL = 0;
const EFFECTIVE = 1;

/** Four a line: real, effective, saved, of the file system. */
function idOf(fields: Fields, name: 'Uid' | 'Gid', which: number): number | undefined {
  const id = fields.get(name)?.split('\t')[which];
  return id === undefined ? undefined : Number(id);
}

/** The numbers of the signals in such masks: `SigIgn`, `SigBlk`, ... */
export function signalsIn(fields: Fields, ...names: readonly string[]): readonly number[] {
  const bits = names
    .map((name) => BigInt(`0x${fields.get(name) || 0}`))
    .reduce((one, other) => one | other, 0n);
  return Array.from({ length: 64 }, (_, at) => at + 1).filter(
    (signal) => (bits & (1n << BigInt(signal - 1))) !== 0n, // bit 0 is signal 1
  );
}
