/**
 * Off: the command takes our place, where Node can do that (process.execve: Node >= 22.15 and >= 23.11).
 */

import type { CommandLine } from '../plan.ts';
import { resolveCommand } from './resolve.ts';

type Execve = (file: string, args: readonly string[], environment: Record<string, string>) => never;

/** A string longer than this fails with E2BIG (MAX_ARG_STRLEN, 32 pages). */
const LONGEST_STRING_BYTES = 32 * 4096 - 1;

/** All strings together: a quarter of the smallest stack limit that is in use (8 MiB), less some air. */
const MOST_BYTES = 2 * 1024 * 1024 - 64 * 1024;

/** Signals that Node ignores for itself. The command would inherit that; adding and removing a listener undoes it. */
const IGNORED_BY_NODE = ['SIGPIPE', 'SIGXFSZ'] as const;

/**
 * Replaces this process by the command: same pid, same descriptors. Returns only when it cannot, with nothing changed;
 * then the caller starts the command as a child.
 *
 * Looks before it leaps: on Node 22 and 24 a failing execve aborts the process with 134 and cannot be caught. What no
 * look shows is left: a file that somebody has open for writing (ETXTBSY).
 */
export function becomeCommand(command: CommandLine): void {
  const execve = (process as unknown as { execve?: Execve }).execve;
  if (execve === undefined) return;
  const resolution = resolveCommand(command.argv[0] ?? '', command.environment);
  if (!resolution.ok || !resolution.isCertain || !fitsIntoExecve(command)) return;
  for (const signal of IGNORED_BY_NODE) {
    const listener = (): void => {};
    process.on(signal, listener);
    process.removeListener(signal, listener);
  }
  execve.call(process, resolution.path, [...command.argv], { ...command.environment });
}

function fitsIntoExecve(command: CommandLine): boolean {
  const variables = Object.entries(command.environment).map(([name, value]) => `${name}=${value}`);
  const sizes = [...command.argv, ...variables].map((text) => Buffer.byteLength(text) + 1);
  const pointers = 8 * sizes.length;
  return (
    Math.max(...sizes) <= LONGEST_STRING_BYTES &&
    sizes.reduce((sum, size) => sum + size, 0) + pointers <= MOST_BYTES
  );
}
