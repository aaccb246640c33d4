/**
 * Runs the built bin as a real process, and takes the whole process group away after the test.
 */
import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach } from 'vitest';

/** The package as it is built, or the one that DDBG_TEST_DIST names. */
export const dist = process.env.DDBG_TEST_DIST ?? fileURLToPath(new URL('../../dist', import.meta.url));
export const cli = join(dist, 'cli.cjs');
/** The Node that ddbg-entry runs on: this one, or the one that DDBG_TEST_NODE names. */
export const node = process.env.DDBG_TEST_NODE ?? process.execPath;
export const isRoot = process.getuid?.() === 0;

const undo: (() => void)[] = [];
afterEach(() => {
  for (const step of undo.splice(0).reverse()) step();
});

export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'ddbg-test-'));
  undo.push(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** An executable file. */
export function script(folder: string, name: string, text: string | Uint8Array, mode = 0o755): string {
  const file = join(folder, name);
  writeFileSync(file, text);
  chmodSync(file, mode);
  return file;
}

export interface Entry {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly stateDir: string;
  stdout(): string;
  stderr(): string;
  /** Resolves with the match as soon as stdout and stderr together hold it; rejects when the process ends without. */
  waitFor(pattern: RegExp): Promise<RegExpExecArray>;
  /** The exit status; 128+S where it died of signal S, as the command does that took our place. */
  readonly status: Promise<number>;
  kill(signal: NodeJS.Signals): void;
}

export interface EntryOptions {
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly flags?: readonly string[];
  readonly cwd?: string;
  readonly uid?: number;
  /** The program to start instead of Node. */
  readonly node?: string;
  /** Instead of the bin and its flags. */
  readonly program?: readonly string[];
  readonly stdin?: 'ignore' | 'pipe';
}

/** Starts `ddbg-entry --state-dir=... FLAGS -- COMMAND` with a small environment of its own. */
export function startEntry(command: readonly string[], options: EntryOptions = {}): Entry {
  if (!existsSync(cli)) throw new Error('dist/ is not built: npm run build');
  const stateDir = join(temporaryFolder(), 'state');
  const program = options.program ?? [cli, `--state-dir=${stateDir}`, ...(options.flags ?? []), '--'];
  const child = spawn(options.node ?? node, [...program, ...command], {
    env: { PATH: process.env.PATH, HOME: '/root', ...options.env },
    cwd: options.cwd,
    stdio: [options.stdin ?? 'ignore', 'pipe', 'pipe'],
    detached: true,
    ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.uid }),
  });
  const pid = child.pid ?? 0;
  undo.push(() => killSession(pid));
  let out = '';
  let err = '';
  const listeners = new Set<() => void>();
  const tell = () => {
    for (const listener of listeners) listener();
  };
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    out += text;
    tell();
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    err += text;
    tell();
  });
  const status = new Promise<number>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => {
      resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal]));
    });
  });
  status.catch(() => {});
  return {
    child,
    pid,
    stateDir,
    status,
    stdout: () => out,
    stderr: () => err,
    kill: (signal) => process.kill(pid, signal),
    waitFor: (pattern) =>
      new Promise((resolve, reject) => {
        const look = () => {
          const match = pattern.exec(`${out}\n${err}`);
          if (match === null) return;
          listeners.delete(look);
          resolve(match);
        };
        listeners.add(look);
        look();
        status
          .then((code) => reject(new Error(`ended with ${code}, without ${pattern}:\n${out}\n${err}`)))
          .catch(reject);
      }),
  };
}

/** The native init gives the command a process group of its own, in the session that `detached` has made. */
function killSession(session: number): void {
  if (session <= 1) return;
  for (const name of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
      const [, , , id] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (Number(id) === session) process.kill(Number(name), 'SIGKILL');
    } catch {
      // gone meanwhile
    }
  }
}

/** Runs it to its end. */
export async function runEntry(command: readonly string[], options: EntryOptions = {}) {
  const entry = startEntry(command, options);
  const status = await entry.status;
  return { status, stdout: entry.stdout(), stderr: entry.stderr() };
}
