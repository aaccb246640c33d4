/** The bin `ddbg` as any user, and processes for it to look at. */
import type { ChildProcess } from 'node:child_process';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { chmodSync, cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach } from 'vitest';
import { dist, node } from './harness.ts';

const folder = mkdtempSync(join(tmpdir(), 'ddbg-tools-'));
chmodSync(folder, 0o755); // other users start what lies here
const undo: (() => void)[] = [];
afterEach(() => {
  for (const step of undo.splice(0).reverse()) step();
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

// ---- tools ----------------------------------------------------------------------------------------------------------

let copied: string | undefined;

/** A copy of the bin: other users may be kept out of the checkout. */
function bin(): string {
  if (copied !== undefined) return copied;
  cpSync(dist, join(folder, 'dist'), { recursive: true });
  copied = join(folder, 'dist/ddbg.cjs');
  return copied;
}

export interface ToolResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** @param before a program that starts another one, with its arguments: `['setpriv', '--reuid=1000', ...]` */
export function runTool(name: string, argv: readonly string[], before: readonly string[] = []): ToolResult {
  const [program = node, ...rest] = [...before, node, bin(), name, ...argv];
  const { status, stdout, stderr } = spawnSync(program, rest, {
    encoding: 'utf8',
    cwd: '/',
    maxBuffer: 2 ** 26,
    timeout: 30_000,
  });
  return { status, stdout, stderr };
}

// ---- what hangs -----------------------------------------------------------------------------------------------------

const compiled = new Map<string, string>();

/** fixtures/hang.c. @param flags for the compiler */
export function hangProgram(...flags: readonly string[]): string {
  const key = flags.join(' ');
  const known = compiled.get(key);
  if (known !== undefined) return known;
  const file = join(folder, `hang${key}`.replaceAll(' ', ''));
  const source = fileURLToPath(new URL('../fixtures/hang.c', import.meta.url));
  execFileSync('cc', ['-O1', '-static', '-pthread', ...flags, '-o', file, source], { stdio: 'pipe' });
  compiled.set(key, file);
  return file;
}

export interface Hanging {
  readonly pid: number;
  readonly child: ChildProcess;
  /** All it has said so far. */
  said(): string;
}

/** Starts a program, and resolves when it has said `ready`. It is killed after the test, with its process group. */
export async function startHanging(
  argv: readonly string[],
  options: { uid?: number; stdin?: 'pipe' | 'ignore'; env?: Record<string, string>; cwd?: string } = {},
): Promise<Hanging> {
  const { uid, stdin = 'ignore', env, cwd = '/' } = options;
  const [program = '', ...rest] = argv;
  const child = spawn(program, rest, {
    stdio: [stdin, 'pipe', 'pipe'],
    detached: true,
    cwd,
    env: { PATH: process.env.PATH, ...env },
    ...(uid === undefined ? {} : { uid, gid: uid }),
  });
  child.on('error', () => {}); // said below
  const { pid } = child;
  if (pid === undefined) throw new Error(`cannot start ${program}`);
  undo.push(() => {
    try {
      process.kill(-pid, 'SIGKILL');
    } catch {
      // it has ended
    }
  });
  let said = '';
  await new Promise<void>((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        said += text;
        if (/^ready/m.test(said)) resolve();
      });
    }
    child.on('error', reject);
    child.on('close', (status, signal) => reject(new Error(`ended with ${status ?? signal}: ${said}`)));
  });
  return { pid, child, said: () => said };
}
