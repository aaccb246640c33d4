/**
 * Which file a command line will really execute, found as execvp(3) and the kernel find it: PATH, `#!`, `env`.
 *
 * Needed before the start: execve in Node aborts the process when it fails, libuv runs a foreign binary as a shell
 * script (execvp's ENOEXEC fallback), and both answers come without the reason a person needs.
 */
import { accessSync, closeSync, constants, openSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { errnoOf } from '../errors.ts';

export type Resolution = Executable | NotExecutable;

export interface Executable {
  readonly ok: true;
  /** The path that execve gets: with a slash, found in PATH where the command had none. */
  readonly path: string;
  /** For a `#!` script: what the kernel puts in front of the path, e.g. `['/usr/bin/env', 'bash']`. */
  readonly interpreter: readonly string[] | undefined;
  /** Neither an ELF file nor a `#!` script: execvp(3) hands it to /bin/sh. */
  readonly isPlainText: boolean;
  /** False where only the kernel can tell: plain text, an interpreter that is, an unreadable file, another word size. */
  readonly isCertain: boolean;
}

export interface NotExecutable {
  readonly ok: false;
  /** 127: it, or the interpreter or loader it names, is not there. 126: it is there but cannot be executed. */
  readonly status: 126 | 127;
  readonly why: Obstacle;
  readonly reason: string;
}

/** Why a file cannot be executed. */
export type Obstacle =
  | 'missing'
  | 'permission'
  | 'interpreter-missing'
  | 'line-ends'
  | 'loader-missing'
  | 'wrong-architecture'
  | 'no-program';

/** What execvp(3) searches where PATH is not set (glibc's confstr(_CS_PATH)). */
const DEFAULT_PATH = '/bin:/usr/bin';

/** The kernel reads this much of a file to find `#!` (BINPRM_BUF_SIZE). */
const HEAD_BYTES = 256;

/** The kernel follows `#!` from interpreter to interpreter at most this often. */
const MOST_INTERPRETERS = 5;

/** What an ELF file begins with. */
const ELF = '\u007fELF';

/** ELF e_machine values by what Node calls the architecture; the second runs on the first's processors. */
const ELF_MACHINES: Readonly<Record<string, readonly number[]>> = {
  x64: [62, 3],
  arm64: [183, 40],
};
const ELF_MACHINE_NAMES: Readonly<Record<number, string>> = {
  3: 'i386',
  40: 'arm',
  62: 'x86_64',
  183: 'aarch64',
  243: 'riscv64',
  21: 'ppc64',
  22: 's390x',
};

export function resolveCommand(
  command: string,
  environment: Readonly<Record<string, string | undefined>>,
): Resolution {
  const found = findInPath(command, environment.PATH);
  return 'path' in found ? inspect(found.path, command, 0) : found;
}

/** What a person is offered to come in by, the best first. */
export const SHELLS = ['bash', 'zsh', 'ash', 'sh'] as const;

/** The first executable of that name in PATH, or undefined. */
export function which(name: string, path: string | undefined): string | undefined {
  const found = findInPath(name, path);
  return 'path' in found ? found.path : undefined;
}

function findInPath(command: string, path: string | undefined): { path: string } | NotExecutable {
  if (command.includes('/')) return checkAccess(command, command);
  let refused: NotExecutable | undefined;
  for (const directory of (path ?? DEFAULT_PATH).split(':')) {
    const found = checkAccess(join(directory === '' ? '.' : directory, command), command);
    if ('path' in found) return found;
    if (found.status === 126) refused ??= found; // like execvp: search on, and remember that something was there
  }
  return refused ?? notFound(`${command}: not found in PATH`);
}

function checkAccess(file: string, command: string): { path: string } | NotExecutable {
  try {
    const stats = statSync(file);
    if (stats.isDirectory()) return notExecutable(`${file} is a directory`);
    if (!stats.isFile()) return notExecutable(`${file} is no regular file`);
    accessSync(file, constants.X_OK);
    return { path: file };
  } catch (error) {
    const code = errnoOf(error);
    if (code === 'EACCES')
      return notExecutable(`${file}: permission denied (uid ${process.getuid?.()})`, 'permission');
    if (code === 'ENOENT' || code === 'ENOTDIR') return notFound(`${command}: no such file`);
    return notExecutable(`${file}: ${code ?? String(error)}`);
  }
}

function inspect(path: string, shownAs: string, depth: number): Resolution {
  if (depth > MOST_INTERPRETERS) return notExecutable(`${shownAs}: too many levels of interpreters`);
  let head: Buffer;
  try {
    head = readHead(path);
  } catch {
    // Executable but not readable (mode 0111): the kernel can run it, we cannot look into it.
    return { ok: true, path, interpreter: undefined, isPlainText: false, isCertain: false };
  }
  if (head.toString('latin1', 0, 4) === ELF) return inspectElf(path, head);
  const interpreter = readShebang(head);
  if (interpreter === undefined && head.includes(0))
    return notExecutable(`${path} is neither a program nor a script`);
  if (interpreter === undefined) return { ok: true, path, interpreter, isPlainText: true, isCertain: false };
  const [program = ''] = interpreter;
  if (program.endsWith('\r') || interpreter.at(-1)?.endsWith('\r')) {
    return notFound(
      `${path} has Windows line ends: its first line asks for '${interpreter.join(' ')}'`,
      'line-ends',
    );
  }
  const access = checkAccess(program, program);
  if (!('path' in access)) {
    const why = access.why === 'missing' ? 'interpreter-missing' : access.why;
    return { ...access, why, reason: `${path} needs ${program} (its first line), but ${access.reason}` };
  }
  const next = inspect(program, program, depth + 1);
  return next.ok ? { ok: true, path, interpreter, isPlainText: false, isCertain: next.isCertain } : next;
}

function inspectElf(path: string, head: Buffer): Resolution {
  const [, , , , wordSize = 0, byteOrder = 0] = head;
  const littleEndian = byteOrder === 1;
  const machine = head.length < 20 ? 0 : littleEndian ? head.readUInt16LE(18) : head.readUInt16BE(18);
  if (machine === 0 || ![1, 2].includes(wordSize) || ![1, 2].includes(byteOrder)) {
    return notExecutable(`${path} is damaged: it begins as a program (ELF) and does not go on as one`);
  }
  const runnable = ELF_MACHINES[process.arch];
  if (runnable !== undefined && !runnable.includes(machine)) {
    const name = ELF_MACHINE_NAMES[machine] ?? `machine ${machine}`;
    return notExecutable(
      `${path} is built for ${name}, this machine is ${process.arch}`,
      'wrong-architecture',
    );
  }
  const loader = readLoader(path);
  if (loader !== undefined) {
    if (loader === '') return notExecutable(`${path} is damaged: it names no loader`);
    const access = checkAccess(loader, loader);
    if (!('path' in access)) {
      return notFound(
        `${path} needs the loader ${loader}, which is not in this image (another libc, or a static build is needed)`,
        'loader-missing',
      );
    }
  }
  const isCertain = machine === runnable?.[0];
  return { ok: true, path, interpreter: undefined, isPlainText: false, isCertain };
}

/** PT_INTERP of a little-endian ELF file: the dynamic loader it names; undefined for a static one. @throws where it cannot be read */
export function readLoader(path: string): string | undefined {
  const head = readHead(path, 64);
  if (head.length < 64 || head.toString('latin1', 0, 4) !== ELF || head[5] !== 1) return undefined;
  const is64 = head[4] === 2;
  const tableAt = is64 ? Number(head.readBigUInt64LE(32)) : head.readUInt32LE(28);
  const entrySize = head.readUInt16LE(is64 ? 54 : 42);
  const count = head.readUInt16LE(is64 ? 56 : 44);
  const table = readHead(path, Math.min(entrySize * count, 64 * 1024), tableAt);
  const PT_INTERP = 3;
  for (let at = 0; at + entrySize <= table.length && entrySize >= (is64 ? 56 : 32); at += entrySize) {
    if (table.readUInt32LE(at) !== PT_INTERP) continue;
    const offset = is64 ? Number(table.readBigUInt64LE(at + 8)) : table.readUInt32LE(at + 4);
    const size = is64 ? Number(table.readBigUInt64LE(at + 32)) : table.readUInt32LE(at + 16);
    return readHead(path, Math.min(size, 4096), offset).toString('utf8').replace(/\0.*$/s, '');
  }
  return undefined;
}

/** The interpreter and its one argument out of a `#!` line, split as the kernel splits it. */
function readShebang(head: Buffer): readonly string[] | undefined {
  if (head[0] !== 0x23 || head[1] !== 0x21) return undefined;
  const line = (/^#!([^\n\0]*)/.exec(head.toString('utf8'))?.[1] ?? '').replace(/^[ \t]+|[ \t]+$/g, '');
  const [, program, argument] = /^([^ \t]+)[ \t]*(.*)$/.exec(line) ?? [];
  if (program === undefined) return undefined;
  return argument ? [program, argument] : [program];
}

function readHead(path: string, length = HEAD_BYTES, position = 0): Buffer {
  const file = openSync(path, 'r');
  try {
    const head = Buffer.alloc(length);
    return head.subarray(0, readSync(file, head, 0, length, position));
  } finally {
    closeSync(file);
  }
}

function notFound(reason: string, why: Obstacle = 'missing'): NotExecutable {
  return { ok: false, status: 127, why, reason };
}

function notExecutable(reason: string, why: Obstacle = 'no-program'): NotExecutable {
  return { ok: false, status: 126, why, reason };
}
