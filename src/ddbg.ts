#!/usr/bin/env node
/**
 * The bin `ddbg`: what a person types inside a container that ddbg-entry watches or holds.
 */
import { writeSync } from 'node:fs';
import { EntryError, reasonOf } from './errors.ts';
import type { Answer } from './tool/answer.ts';
import { STATUS, ToolError } from './tool/answer.ts';
import { ownVersion } from './version.ts';

const HELP = `ddbg: work in a container that ddbg-entry watches (DEBUG=stayalive), from inside: docker exec -it C ddbg

  ddbg [--json] [--state-dir=DIR] [COMMAND [ARG ...]]

  status                what is going on, and what to do next (the default)
  report [RUN]          what has happened, the cause first: of the last fault, or of that run; of a command that runs,
                        what it waits for
  output [--lines N]    with DEBUG=record: the last megabyte of what the command wrote, with times and streams
  shell [-- CMD ...]    a shell, or CMD, where the command stood: its last environment, directory, user, umask, limits
  rerun [--env NAME=VALUE] [--fstree URL] [--verbose] [--stay] [-- OTHER COMMAND]
                        run the command again, in place, under the same watch: a fault parks again, success ends the
                        container with 0 (--stay: parks too). What DEBUG's own fstree has laid is not laid again
  fstree URL ...        lay archives over the file system, as DEBUG=fstree=URL does, now
  diff [--stat|--raw] [PATH]
                        what overlays have changed: text as a unified diff, secrets masked (--raw: for patch(1))
  revert [--runs N] [--force]
                        take overlays back, all or the last N; --force: also where somebody has changed something since
  release [STATUS]      let a parked container end, with the fault's status or another
  wait [--for parked|running|ended] [--timeout 60s]
                        until it is so (default: parked, and no limit); 3: it will not come any more
  dump [PID] [--all] [--signal]
                        a look at a process that hangs, by default the command: what it waits for, threads, system
                        calls, open files, sockets; ddbg dump --help says more
  check                 for a Dockerfile, RUN ddbg check: what will not work in the container, and the way out
  health                HEALTHCHECK CMD ddbg health: 1 while the container is held, else 0
  hook bash             the one line for an entrypoint script of your own

  --json                one JSON value on stdout instead of text
  --state-dir=DIR       where ddbg-entry keeps its state (default: found by itself)

It works as the user that the container runs as, or as root. Exit status: 0 done; 1 the answer is no; 2 wrong usage;
3 nothing to work on (no state, not parked); 4 another user's; 124 wait: the time is over; 125 ddbg failed itself;
shell: that of what it ran.
`;

type Tool = (argv: readonly string[], directory?: string) => Promise<Answer>;

/** Each is loaded when it is asked for: the bundle splits there. */
const TOOLS: Readonly<Record<string, () => Promise<Tool>>> = {
  status: async () => (await import('./tool/status.ts')).status,
  report: async () => (await import('./tool/report.ts')).report,
  output: async () => (await import('./tool/output.ts')).output,
  rerun: async () => (await import('./tool/act.ts')).rerun,
  release: async () => (await import('./tool/act.ts')).release,
  fstree: async () => (await import('./tool/patch.ts')).fstree,
  revert: async () => (await import('./tool/patch.ts')).revert,
  diff: async () => (await import('./tool/patch.ts')).diff,
  wait: async () => (await import('./tool/wait.ts')).wait,
  dump: async () => (await import('./tool/dump.ts')).dump,
  check: async () => (await import('./tool/check.ts')).check,
  health: async () => (await import('./tool/health.ts')).health,
  hook: async () => (await import('./tool/hook.ts')).hook,
};

interface Asked {
  readonly name: string;
  readonly argv: readonly string[];
  readonly isJson: boolean;
  readonly directory: string | undefined;
}

/** Ours may stand before and behind the name of the tool, up to `--`. @throws ToolError */
function readArguments(words: readonly string[]): Asked | 'help' | 'version' {
  const end = words.indexOf('--');
  const own = end < 0 ? words : words.slice(0, end);
  const rest: string[] = [];
  let isJson = false;
  let directory: string | undefined;
  for (const word of own) {
    if (word === '--help' || word === '-h' || (word === 'help' && rest.length === 0)) return 'help';
    if (word === '--version' && rest.length === 0) return 'version';
    if (word === '--json') isJson = true;
    else if (word.startsWith('--state-dir=/')) directory = word.slice('--state-dir='.length);
    else rest.push(word);
  }
  const [name = 'status', ...argv] = rest;
  return { name, argv: [...argv, ...(end < 0 ? [] : words.slice(end))], isJson, directory };
}

async function run(words: readonly string[]): Promise<number> {
  const isJson = words.includes('--json');
  try {
    const asked = readArguments(words);
    if (asked === 'help') return print(await helpOn(words), STATUS.done);
    if (asked === 'version') return print(`${ownVersion()}\n`, STATUS.done);
    const { name, argv, directory } = asked;
    if (name === 'shell') return await (await import('./tool/shell.ts')).shell(argv, directory);
    const load = Object.hasOwn(TOOLS, name) ? TOOLS[name] : undefined;
    if (load === undefined) throw new ToolError(STATUS.usage, `'${name}' is no command of ddbg`, meant(name));
    const tool = await load();
    return answer(await tool(argv, directory), isJson);
  } catch (error) {
    return fail(error, isJson);
  }
}

function meant(name: string): string {
  const near = [...Object.keys(TOOLS), 'shell'].find((tool) => isSlip(name, tool));
  return `${near === undefined ? '' : `did you mean ddbg ${near}? `}ddbg --help lists them`;
}

/** Two letters changed places, or one is wrong, missing or too many. */
function isSlip(typed: string, name: string): boolean {
  let start = 0;
  while (start < name.length && typed[start] === name[start]) start += 1;
  const [one, other] = [typed.slice(start), name.slice(start)];
  const isSwapped = one[0] === other[1] && one[1] === other[0] && one.slice(2) === other.slice(2);
  return isSwapped || one.slice(1) === other.slice(1) || one.slice(1) === other || one === other.slice(1);
}

function answer({ status, lines, json }: Answer, isJson: boolean): number {
  return print(
    isJson ? `${JSON.stringify(json, undefined, 2)}\n` : lines.map((line) => `${line}\n`).join(''),
    status,
  );
}

function fail(error: unknown, isJson: boolean): number {
  const { hint = undefined } =
    error instanceof ToolError || error instanceof EntryError ? error : ofFlags(error);
  const status = statusOf(error);
  // node:util's prose goes on behind what is wrong
  const message = isOfFlags(error) ? (reasonOf(error).split(/\.\s/)[0] ?? '') : reasonOf(error);
  if (isJson)
    return print(
      `${JSON.stringify({ error: { message, hint: hint ?? null, status } }, undefined, 2)}\n`,
      status,
    );
  return print(`ddbg: ${message}\n${hint === undefined ? '' : `ddbg:   ${hint}\n`}`, status, 2);
}

function statusOf(error: unknown): number {
  if (error instanceof ToolError) return error.status;
  const isUsage = isOfFlags(error) || (error as NodeJS.ErrnoException).code === 'DDBG_BAD_DIRECTIVE';
  return isUsage ? STATUS.usage : STATUS.failed;
}

function isOfFlags(error: unknown): boolean {
  return `${(error as NodeJS.ErrnoException | undefined)?.code}`.startsWith('ERR_PARSE_ARGS');
}

function ofFlags(error: unknown): { readonly hint?: string } {
  return isOfFlags(error)
    ? { hint: 'ddbg --help lists the flags; a value stands behind =, as in --timeout=60s' }
    : {};
}

/** On a pipe that nobody reads it is nobody's loss. */
function print(text: string, status: number, descriptor = 1): number {
  let rest = Buffer.from(text);
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(descriptor, rest));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') break;
    }
  }
  return status;
}

/** Of the tool that is named, where there is more to say than in HELP. */
async function helpOn(words: readonly string[]): Promise<string> {
  const { USAGE } = await import('./tool/usage.ts');
  const name = words.find((word) => Object.hasOwn(USAGE, word));
  return (name === undefined ? undefined : USAGE[name]) ?? HELP;
}

void run(process.argv.slice(2)).then((status) => process.exit(status));
