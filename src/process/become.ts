/**
 * Something else takes our place, where Node can do that (process.execve: Node >= 22.15 and >= 23.11): the command when
 * off, the native init when on.
 */
import { accessSync, constants, realpathSync } from 'node:fs';
import type { CommandLine } from '../plan.ts';
import { resolveCommand, which } from './resolve.ts';

type Execve = (file: string, args: readonly string[], environment: Record<string, string>) => never;

/** Undefined before Node 22.15. */
const { execve } = process as unknown as { execve?: Execve };

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
  if (execve === undefined) return;
  const resolution = resolveCommand(command.argv[0] ?? '', command.environment);
  if (!resolution.ok || !resolution.isCertain || !fitsIntoExecve(command)) return;
  replaceUs(resolution.path, command.argv, command.environment);
}

/**
 * Replaces this process by the native init with our own arguments; it starts a Node of its own, which comes out at
 * nativeHost. Returns when it cannot.
 */
export function becomeInit(init: string, argv: readonly string[]): void {
  if (execve === undefined) return;
  if (!process.env.DDBG_NODE && !isFoundInPath()) return; // it could find no Node, or another one
  try {
    accessSync(init, constants.X_OK); // also says no on a mount with noexec
  } catch {
    return; // not built for this platform
  }
  const environment = Object.entries(process.env).map(([name, value = '']) => [name, value] as const);
  replaceUs(init, [init, ...argv], Object.fromEntries(environment));
}

function isFoundInPath(): boolean {
  const found = which('node', process.env.PATH);
  return found !== undefined && realpathSync(found) === realpathSync(process.execPath);
}

function replaceUs(
  file: string,
  argv: readonly string[],
  environment: Readonly<Record<string, string>>,
): void {
  for (const signal of IGNORED_BY_NODE) {
    const listener = (): void => {};
    process.on(signal, listener);
    process.removeListener(signal, listener);
  }
  execve?.call(process, file, [...argv], { ...environment });
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
