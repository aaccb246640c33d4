/**
 * Reading what need not be there: a process that has just ended, a file that is not ours to read, a machine without /proc.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** What it reads, or `otherwise` where it throws. */
export function attempt<T>(read: () => T): T | undefined;
export function attempt<T>(read: () => T, otherwise: T): T;
export function attempt<T>(read: () => T, otherwise?: T): T | undefined {
  try {
    return read();
  } catch {
    return otherwise;
  }
}

/** A file whole; undefined where it cannot be read. */
export function textOf(file: string): string | undefined {
  return attempt(() => readFileSync(file, 'utf8'));
}

/** Where a symbolic link leads; undefined where it cannot be read. */
export function linkOf(path: string): string | undefined {
  return attempt(() => readlinkSync(path));
}

/** Empty where it cannot be read. */
export function namesIn(directory: string): readonly string[] {
  return attempt(() => readdirSync(directory), []);
}
