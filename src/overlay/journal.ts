/**
 * The journal of a transaction: what is about to be done, one JSON value a line, each written before it is done. Whoever
 * finds it with its writer dead takes it back, or brings it to its end.
 */
import { textOf } from '../attempt.ts';
import type { Step } from './steps.ts';
import type { Times } from './times.ts';

/** The folder that a transaction is in; below it, and beside it under names that start so, all is ours. */
export const FOLDER = '.ddbg-overlay';

/** A name that no archive may bring. */
export function isOurName(component: string): boolean {
  return component.startsWith(FOLDER);
}

/** A line of the journal. */
export type Line =
  /** Directories whose times must survive, before something in them changes. */
  | { readonly times: readonly (readonly [directory: string, times: Times])[] }
  /** What lies outside the folder for a while, beside its target. */
  | { readonly temporary: readonly string[] }
  | { readonly steps: readonly Step[] }
  | { readonly done: Done };

/** What is left to do when all steps are done. */
export interface Done {
  /** Where the originals go, prepared; undefined: they are not kept. */
  readonly backup: string | undefined;
  /** Files that are renamed: the record. */
  readonly publish: readonly { readonly from: string; readonly to: string }[];
  /** Trees that are not needed any more. */
  readonly remove: readonly string[];
}

/** What these lines say of times, first to last. */
export function timesIn(lines: readonly Line[]): readonly (readonly [directory: string, times: Times])[] {
  return lines.flatMap((line) => ('times' in line ? line.times : []));
}

export function formatLine(line: Line): string {
  return `${JSON.stringify(line)}\n`;
}

/** A last line that is cut off announced something that was not begun. */
export function readJournal(path: string): Line[] {
  return (textOf(path) ?? '')
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Line);
}
