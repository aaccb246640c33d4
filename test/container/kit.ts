/** The words that the container tests of the entrypoint share: its start, archives, its park, and what it left. */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { expect } from 'vitest';
import { tarOf, type ZipPart, zipOf } from '../overlay/archives.ts';
import {
  type CommandResult,
  type Container,
  type ContainerOptions,
  docker,
  engine,
  type RunOptions,
  run,
  start,
} from './docker.ts';

/** `DEBUG` is short for the environment variable, `entryFlags` go between `ddbg-entry` and `--`. */
interface EntryWords {
  readonly DEBUG?: string;
  readonly entryFlags?: readonly string[];
}

/** `docker run --entrypoint ddbg-entry IMAGE -- COMMAND`, to its end. */
export function runEntry(
  image: string,
  command: readonly string[],
  options: RunOptions & EntryWords = {},
): Promise<CommandResult> {
  return run(image, withEntry(command, options));
}

/** The same in the background; removed after the test. */
export function startEntry(
  image: string,
  command: readonly string[],
  options: ContainerOptions & EntryWords = {},
): Promise<Container> {
  return start(image, withEntry(command, options));
}

function withEntry<T extends ContainerOptions & EntryWords>(command: readonly string[], options: T): T {
  const { DEBUG, entryFlags = [], env } = options;
  return {
    ...options,
    entrypoint: 'ddbg-entry',
    command: [...entryFlags, '--', ...command],
    env: { ...(DEBUG === undefined ? {} : { DEBUG }), ...env },
  };
}

// ---- files and archives -----------------------------------------------------------------------------------------

/** Mode 0644, or 0755 for text that starts with `#!`, or what is said. */
export type Content = string | Buffer | { readonly bytes: Buffer; readonly mode: number };

function bytesAndMode(content: Content): { bytes: string | Buffer; mode: number } {
  if (typeof content === 'object' && 'mode' in content) return content;
  return { bytes: content, mode: Buffer.from(content).toString('latin1', 0, 2) === '#!' ? 0o755 : 0o644 };
}

/** Writes the files and returns the `docker run` flags that mount them, read-only, at `/t`. */
export function mountFiles(files: Readonly<Record<string, Content>>): string[] {
  const directory = mkdtempSync(join(engine().directory, 'files-'));
  chmodSync(directory, 0o755);
  for (const [name, content] of Object.entries(files)) {
    const { bytes, mode } = bytesAndMode(content);
    const file = join(directory, name);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, bytes);
    chmodSync(file, mode);
  }
  return ['--volume', `${directory}:/t:ro`];
}

/** `mountFiles` with probe.c, compiled, as `/t/probe`. */
export function mountProbe(files: Readonly<Record<string, Content>> = {}): string[] {
  const mounts = mountFiles(files);
  const [directory = ''] = (mounts[1] ?? '').split(':');
  const source = fileURLToPath(new URL('probe.c', import.meta.url));
  execFileSync('cc', ['-static', '-O1', '-o', join(directory, 'probe'), source]);
  return mounts;
}

export function tarGz(files: Readonly<Record<string, Content>>): Buffer {
  const parts = Object.entries(files).map(([name, content]) => {
    const { bytes, mode } = bytesAndMode(content);
    return { name, content: bytes, mode };
  });
  return gzipSync(tarOf(...parts));
}

/** As `git archive` makes them: only what is executable has a mode. */
export function zip(files: Readonly<Record<string, Content>>): Buffer {
  const parts = Object.entries(files).map(([name, content]): ZipPart => {
    const { bytes, mode } = bytesAndMode(content);
    return { name, content: bytes, ...(mode === 0o755 ? { unixMode: 0o100755 } : {}) };
  });
  return zipOf(...parts);
}

// ---- what a container says and leaves ---------------------------------------------------------------------------

/** A command that runs until it is stopped, says `up` when it is ready, and ends with `status` after TERM. */
export function untilTerm(status: number): string[] {
  return ['sh', '-c', `trap "echo stopping; exit ${status}" TERM; echo up; while :; do sleep 0.05; done`];
}

/** The lines of ddbg-entry in a text, without its name in front. */
export function ownLines(text: string): string[] {
  return [...text.matchAll(/^ddbg-entry: (.*?)\r?$/gm)].map(([, line = '']) => line);
}

/** What the banner of a parked container tells a person to type. */
export interface Banner {
  readonly id: string;
  /** '': the image has none. */
  readonly shell: string;
  /** `. FILE` in there brings the command's environment back. */
  readonly environmentFile: string;
  /** What lets it go from inside: `kill 1`, or `ddbg release` where there is that. */
  readonly release: string;
  readonly status: number;
  readonly text: string;
}

/** Waits until the container is parked: the last line of the banner is out. */
export async function waitForPark(container: Container): Promise<Banner> {
  const { input } = await container.waitForLog(/let it go: .*\r?\n.*-{60}/);
  const text = ownLines(input).join('\n');
  const [, id = '', shell = ''] =
    /^get in: +docker exec -it (\S+) (?:(?:\S*\/)?ddbg shell(?: +or )?)?(\w*)(?:,.*)?$/m.exec(text) ?? [];
  const [, environmentFile = ''] =
    /^(?:its environment, once inside|get in:.* and there): \. (\S+)$/m.exec(text) ?? [];
  const letGo =
    /^let it go: +docker stop \S+ +or, inside: (kill \d+|\S*ddbg release) +\(it ends with status (\d+)\)$/m;
  const [, release = '', status] = letGo.exec(text) ?? [];
  return { id, shell, environmentFile, release, status: Number(status), text };
}

/** What a container has changed in its file system, as `docker diff` lists it: `C /run`, `A /run/ddbg`. */
export async function changes(container: Container): Promise<string[]> {
  const { status, stdout, stderr } = await docker(['diff', container.id]);
  if (status !== 0) throw new Error(stderr);
  return stdout.split('\n').filter(Boolean).sort();
}

/**
 * Milliseconds from the first signal that the engine sent to the end of the container, both by the engine's own clock:
 * neither the CLI's start nor ours counts.
 */
export async function msFromSignalToEnd(container: Container): Promise<number> {
  const until = (Date.now() / 1000 + 0.05).toFixed(3); // the engine's events have its clock, which is ours
  const format = '{{.Action}} {{.TimeNano}}';
  const ofContainer = `container=${container.id}`;
  const filters = [ofContainer, 'event=kill', 'event=die'].flatMap((filter) => ['--filter', filter]);
  const range = ['--since', '10m', '--until', until];
  const { stdout } = await docker(['events', ...range, ...filters, '--format', format]);
  const at = (action: string) =>
    BigInt(new RegExp(`^${action} (\\d+)$`, 'm').exec(stdout)?.[1] ?? Number.NaN);
  return Number(at('die') - at('kill')) / 1e6;
}

// ---- what runs in a container -----------------------------------------------------------------------------------

export interface Process {
  readonly pid: number;
  readonly parent: number;
  /** `Z...`: a zombie. */
  readonly state: string;
  /** Its name, of 15 bytes at the most. */
  readonly name: string;
}

/** The processes in a container, by their pids in there, without the one that looks. */
export async function processes(container: Container): Promise<Process[]> {
  const { stdout } = await container.exec(['ps', '-e', '-o', 'pid=,ppid=,stat=,comm=']);
  return [...stdout.matchAll(/^ *(\d+) +(\d+) +(\S+) +(.*)$/gm)]
    .map(([, pid, parent, state = '', name = '']) => ({
      pid: Number(pid),
      parent: Number(parent),
      state,
      name,
    }))
    .filter(({ name }) => name !== 'ps');
}

/** Of PID 1: kilobytes of memory and the number of threads. */
export async function sizeOfFirst(container: Container): Promise<{ residentKb: number; threads: number }> {
  const { stdout } = await container.exec(['cat', '/proc/1/status']);
  const field = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(stdout)?.[1]);
  return { residentKb: field('VmRSS'), threads: field('Threads') };
}

/** `expect.poll`, for what takes as long as it takes. */
export function eventually<T>(look: () => Promise<T>) {
  return expect.poll(look, { timeout: 15_000, interval: 50 });
}

/** By the engine's clock, from the signal to the end of the container. */
const LONGEST_STOP_MS = 1000;

/** `docker stop`: over at once, and not by the KILL that would follow. Returns the exit status. */
export async function stopPromptly(container: Container): Promise<number> {
  await container.stop({ timeoutS: 30 });
  const status = await container.wait();
  expect(await msFromSignalToEnd(container)).toBeLessThan(LONGEST_STOP_MS);
  return status;
}
