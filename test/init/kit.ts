/**
 * What the tests of the native init share: the init, programs in C, and an end for everything that a
 * test has started, wherever in the tree of processes it went.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, expect } from 'vitest';
import { linkOf, namesIn } from '../../src/attempt.ts';
import {
  cli,
  dist,
  type Entry,
  type EntryOptions,
  node,
  startEntry,
  temporaryFolder,
} from '../process/harness.ts';

/** A missing tool is a failure where everything has to be there. */
const mustHaveAll = process.env.DDBG_REQUIRE_DOCKER !== undefined;

/** Of this machine; in the project init-arm64 it is arm64's, emulated.ts says how. Its arguments follow. */
export const init = { argv: [join(dist, 'init', `linux-${process.arch}`, 'ddbg-init')] } as const;
const isEmulated = process.env.DDBG_TEST_DIST !== undefined;
/** As /proc counts them: qemu-user has a thread of its own. */
export const ONE_THREAD = isEmulated ? '2' : '1';

export function skipLoudly(what: string): void {
  if (mustHaveAll) throw new Error(what);
  process.stderr.write(`\nNOT TESTED: ${what}\n`);
}

/* ---- programs ---- */

const programs = new Map<string, string>();
let programFolder: string | undefined;
afterAll(() => {
  if (programFolder !== undefined) rmSync(programFolder, { recursive: true, force: true });
});

const compiler = ['musl-gcc', 'gcc', 'cc'].find((name) => spawnSync(name, ['--version']).status === 0);
if (compiler === undefined)
  skipLoudly('there is no C compiler for test/init/fixtures: test/init is not tested');
/** For describe.skipIf: nothing here works without. */
export const cannotCompile = compiler === undefined;

/** fixtures/NAME.c, compiled. */
export function program(name: 'tool' | 'launch' | 'probe' | 'pty'): string {
  const known = programs.get(name);
  if (known !== undefined) return known;
  programFolder ??= mkdtempSync(join(tmpdir(), 'ddbg-programs-'));
  const file = join(programFolder, name);
  const source = fileURLToPath(new URL(`fixtures/${name}.c`, import.meta.url));
  execFileSync(compiler ?? 'cc', ['-std=c11', '-O1', '-Wall', '-Wextra', '-static', '-o', file, source]);
  programs.set(name, file);
  return file;
}

/** What launch.c reads: records, in bytes. */
export function launchFile(records: readonly (string | Buffer)[]): string {
  const file = join(temporaryFolder(), 'records');
  writeFileSync(file, Buffer.concat(records.flatMap((record) => [Buffer.from(record), Buffer.from([0])])));
  return file;
}

/* ---- starting ---- */

/** Every process that a test starts inherits it, and is found by it. */
const MARK = { DDBG_TEST_RUN: `${process.pid}.${Math.random()}` };

export interface Started extends Entry {
  /** The status as soon as it has ended, whoever still has its pipes open. */
  readonly ended: Promise<number>;
  /** Node's kill, with every number. */
  signal(signal: number | NodeJS.Signals): void;
}

export function start(argv: readonly string[], options: EntryOptions = {}): Started {
  const [file = '', ...program] = argv;
  const entry = startEntry([], { ...options, node: file, program, env: { ...MARK, ...options.env } });
  const ended = new Promise<number>((resolve) => {
    entry.child.on('exit', (code) => resolve(code ?? -1));
  });
  return { ...entry, ended, signal: (signal) => void process.kill(entry.pid, signal) };
}

/** `ddbg-init FLAGS -- COMMAND`, with a state directory of its own. */
export function startInit(command: readonly string[], options: EntryOptions = {}): Started {
  const state = `--state-dir=${join(temporaryFolder(), 'state')}`;
  return start([...init.argv, state, ...(options.flags ?? []), '--', ...command], options);
}

/** `node cli.cjs -- COMMAND`. */
export function startBare(command: readonly string[], options: EntryOptions = {}): Started {
  const state = `--state-dir=${join(temporaryFolder(), 'state')}`;
  return start([node, cli, state, ...(options.flags ?? []), '--', ...command], options);
}

export async function finished(entry: Started) {
  const status = await entry.status;
  return { status, stdout: entry.stdout(), stderr: entry.stderr() };
}

export const runInit = (command: readonly string[], options: EntryOptions = {}) =>
  finished(startInit(command, options));

/** The ways to be in front of a command that stay there. */
export const STAYING = [
  ['off', { flags: ['--init'] }],
  ['on', { env: { DEBUG: 'stayalive' } }],
] as const satisfies [string, EntryOptions][];

/** So many at a time: two processors, and hundreds of short processes. */
export async function inBatches<T, R>(
  items: readonly T[],
  work: (item: T) => Promise<R>,
  size = 8,
): Promise<R[]> {
  const results: R[] = [];
  for (let at = 0; at < items.length; at += size) {
    results.push(...(await Promise.all(items.slice(at, at + size).map(work))));
  }
  return results;
}

/* ---- processes ---- */

export interface Process {
  readonly pid: number;
  readonly state: string;
  readonly parent: number;
  readonly group: number;
  readonly session: number;
  /** The foreground group of its terminal; -1: it has none. */
  readonly foreground: number;
}

export function processes(): Process[] {
  return readdirSync('/proc').flatMap((name) => (/^\d+$/.test(name) ? (look(Number(name)) ?? []) : []));
}

/** Undefined: it is gone. */
export function look(pid: number): Process | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const [state = '', ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const [parent = 0, group = 0, session = 0, , foreground = 0] = fields.map(Number);
    return { pid, state, parent, group, session, foreground };
  } catch {
    return undefined;
  }
}

export const childrenOf = (pid: number) => processes().filter(({ parent }) => parent === pid);

/** A line of /proc/PID/status. */
export function statusLine(pid: number, name: string): string {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8');
  return new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(text)?.[1] ?? '';
}

/** What a process has open. A descriptor that is open for a moment only may be listed, and gone before it is read. */
export const openFiles = (pid: number): readonly string[] =>
  namesIn(`/proc/${pid}/fd`).flatMap((fd) => linkOf(`/proc/${pid}/fd/${fd}`) ?? []);

/** Its only thread waits, and no child is left: it is parked. */
export async function parked({ pid, waitFor }: Started): Promise<void> {
  await waitFor(/let it go/);
  await until(() => childrenOf(pid).length === 0);
}

export const until = (condition: () => unknown) =>
  expect.poll(() => Boolean(condition()), { timeout: 15_000, interval: 10 }).toBe(true);

function marked(): number[] {
  return processes()
    .filter(({ pid, state }) => {
      try {
        return state !== 'Z' && readFileSync(`/proc/${pid}/environ`, 'latin1').includes(MARK.DDBG_TEST_RUN);
      } catch {
        return false; // gone, or not ours to read
      }
    })
    .map(({ pid }) => pid);
}

afterEach(() => {
  for (let round = 0; round < 100; round++) {
    const left = marked(); // one that was being forked escapes a round
    if (left.length === 0) return;
    for (const pid of left) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // it was quicker
      }
    }
  }
});
