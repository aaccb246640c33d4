/**
 * All processes that can be seen, and which of them are below one.
 */
import { parseStat } from '../container/stat.ts';
import type { Reader } from './read.ts';

export interface Relative {
  readonly pid: number;
  readonly parent: number;
  readonly name: string;
  readonly state: string;
}

export interface Descendant extends Relative {
  /** 1: a child. */
  readonly depth: number;
}

export function readProcesses(reader: Reader): readonly Relative[] {
  return (reader.list('/proc') ?? []).flatMap((entry) => {
    const pid = Number(entry);
    if (!Number.isInteger(pid)) return [];
    const stat = parseStat(reader.text(`/proc/${pid}/stat`) ?? '');
    return stat === undefined ? [] : [{ pid, parent: stat.parent, name: stat.name, state: stat.state }];
  });
}

/** Each behind its parent, as a tree is printed. Pure. */
export function descendantsOf(pid: number, all: readonly Relative[]): readonly Descendant[] {
  const children = new Map<number, Relative[]>();
  for (const one of all) {
    const known = children.get(one.parent);
    if (known === undefined) children.set(one.parent, [one]);
    else known.push(one);
  }
  const found: Descendant[] = [];
  const open = [...(children.get(pid) ?? [])].reverse().map((one) => ({ ...one, depth: 1 }));
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    found.push(next);
    const { depth } = next;
    for (const child of [...(children.get(next.pid) ?? [])].reverse())
      open.push({ ...child, depth: depth + 1 });
  }
  return found;
}
