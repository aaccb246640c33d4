/**
 * Asking the entry for something: the request is a file in its state directory, USR1 makes it look there. Nobody can
 * send that signal who could not kill it.
 */
import { linkSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { readStat } from '../container/stat.ts';
import { asUser } from '../container/user.ts';
import { EntryError, errnoOf, reasonOf } from '../errors.ts';
import type { Request } from '../life.ts';
import { LOCK, REQUEST } from '../life.ts';
import { printable } from '../log.ts';
import { parseFstree } from '../parse.ts';
import { showCommand } from '../report/banner.ts';
import { writeStateFile } from '../state.ts';
import type { Answer } from './answer.ts';
import { STATUS, ToolError } from './answer.ts';
import type { Found } from './find.ts';
import { findState, readStateFile } from './find.ts';
import { watchState } from './wait.ts';

/** @throws ToolError, EntryError */
export async function rerun(argv: readonly string[], directory?: string): Promise<Answer> {
  const request = readRerun(argv);
  const found = findParked('run it again', directory);
  await ask(found, request, (now, before) => now.record.run > before.record.run);
  const now = findState(found.directory).record;
  const command = printable(showCommand(now.argv, (text) => text));
  return {
    status: STATUS.done,
    lines: [`run ${now.run}: ${command}; its output goes where the container's goes (docker logs)`],
    json: { run: now.run, phase: now.phase, argv: now.argv, pid: now.pids.command },
  };
}

function readRerun(argv: readonly string[]): Request {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      env: { type: 'string', multiple: true, short: 'e' },
      fstree: { type: 'string', multiple: true },
      verbose: { type: 'boolean' },
      stay: { type: 'boolean' },
    },
  });
  const words = argv.includes('--') ? argv.slice(argv.indexOf('--') + 1) : [];
  if (positionals.length > words.length) {
    throw new ToolError(
      STATUS.usage,
      `'${positionals[0]}' is no flag`,
      'another command line stands behind --',
    );
  }
  const environment = (values.env ?? []).map((text): [string, string] => {
    const at = text.indexOf('=');
    if (at > 0) return [text.slice(0, at), text.slice(at + 1)];
    throw new ToolError(STATUS.usage, `--env ${text} has no value`, 'write --env NAME=VALUE');
  });
  return {
    schema: 1,
    action: 'rerun',
    environment: Object.fromEntries(environment),
    argv: words.length > 0 ? words : undefined,
    fstree: (values.fstree ?? []).map(fromHere),
    verbose: values.verbose ?? false,
    stay: values.stay ?? false,
    by: process.pid,
  };
}

/** The entry has another working directory. @throws EntryError where it cannot be read */
function fromHere(text: string): string {
  parseFstree(text, 'ddbg rerun --fstree');
  return /^[a-z][a-z0-9+.-]*:/i.test(text) ? text : resolve(text);
}

/** @throws ToolError */
export async function release(argv: readonly string[], directory?: string): Promise<Answer> {
  const [text, ...more] = argv;
  if (more.length > 0 || (text !== undefined && !/^\d{1,3}$/.test(text)) || Number(text ?? 0) > 255) {
    throw new ToolError(
      STATUS.usage,
      `'${argv.join(' ')}' is no exit status`,
      'it takes one number from 0 to 255',
    );
  }
  const found = findParked('let it go', directory);
  const status = text === undefined ? (found.record.end?.status ?? 0) : Number(text);
  const said = {
    lines: [`the container ends with status ${status}`],
    json: { released: true, status },
  };
  await ask(found, { schema: 1, action: 'release', status, by: process.pid }, (now) => now.phase === 'ended');
  return { status: STATUS.done, ...said };
}

function findParked(purpose: string, directory: string | undefined): Found {
  const found = findState(directory);
  if (found.phase === 'parked') return found;
  const hints = {
    overlay: 'its overlay is being laid; ddbg wait --for parked waits for the park',
    running: `the command is running (pid ${found.record.pids.command}); ddbg wait --for parked waits for the park`,
    ended: 'nothing holds it any more',
    parked: '',
  };
  throw new ToolError(STATUS.nothing, `cannot ${purpose}: the container is not parked`, hints[found.phase]);
}

const GIVES_UP_MS = 15_000;

/** Signals once: a second USR1 could reach the command that the first has started. The init keeps one that comes early. */
async function ask(
  asked: Found,
  request: Request,
  isDone: (now: Found, before: Found) => boolean,
): Promise<void> {
  const unlock = lock(asked);
  const watch = watchState(asked.directory);
  try {
    const found = findParked(request.action === 'rerun' ? 'run it again' : 'let it go', asked.directory); // still so
    const remove = putRequest(found, request);
    signal(found);
    if (await watch.until(() => isDone(findState(found.directory), found), GIVES_UP_MS)) return;
    remove();
    throw new ToolError(
      STATUS.failed,
      `process ${found.record.pids.entry} has not taken the request within ${GIVES_UP_MS / 1000} s`,
      'its log says why (docker logs)',
    );
  } finally {
    watch.close();
    unlock();
  }
}

/** One at a time: the second of two would write over the first one's request, or signal what that has started. */
function lock(found: Found): () => void {
  const { directory, owner } = found;
  const file = join(directory, LOCK);
  const own = `${file}.${process.pid}`;
  const take = (): void =>
    asUser(owner, () => {
      writeFileSync(own, String(process.pid), { mode: 0o600 });
      try {
        linkSync(own, file); // with its content at once
      } finally {
        rmSync(own, { force: true });
      }
    });
  const unlock = (): void => asUser(owner, () => rmSync(file, { force: true }));
  for (let attempt = 0; ; attempt++) {
    try {
      take();
      return unlock;
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') return () => {}; // no room: the request itself will say so
    }
    const holder = holderOf(found);
    if (attempt > 2 || (holder !== undefined && readStat(holder) !== undefined))
      throw new ToolError(
        STATUS.nothing,
        `another ddbg (pid ${holder ?? '?'}) is just asking for a rerun or the release`,
      );
    if (holder !== undefined) unlock(); // it was killed
  }
}

/** Undefined: it has just given it back. */
function holderOf(found: Found): number | undefined {
  const text = readStateFile(found, LOCK)?.toString();
  return text === undefined ? undefined : Number(text);
}

function putRequest({ directory, owner }: Found, request: Request): () => void {
  const remove = (): void => asUser(owner, () => rmSync(join(directory, REQUEST), { force: true }));
  try {
    asUser(owner, () => writeStateFile(directory, REQUEST, JSON.stringify(request)));
    return remove;
  } catch (error) {
    const hint =
      request.action === 'rerun'
        ? 'make room there, or run the command again as it was: kill -USR1 1'
        : 'make room there, or let it go with the status it has: kill 1';
    throw new ToolError(STATUS.failed, `cannot ask for it: ${reasonOf(error)}`, hint);
  }
}

function signal({ record }: Found): void {
  try {
    process.kill(record.pids.entry, 'SIGUSR1');
  } catch (error) {
    if (errnoOf(error) === 'ESRCH') throw new ToolError(STATUS.nothing, 'the container has ended');
    throw new EntryError('DDBG_STATE', `cannot signal process ${record.pids.entry}: ${reasonOf(error)}`);
  }
}
