/**
 * `ddbg dump [PID]`: one look at a process that hangs.
 */
import type { Dump } from '../dump/dump.ts';
import { takeLook } from '../dump/look.ts';
import { dumpLines } from '../dump/text.ts';
import { plain } from '../dump/words.ts';
import { reasonOf } from '../errors.ts';
import type { Answer } from './answer.ts';
import { STATUS, ToolError } from './answer.ts';
import type { Found } from './find.ts';
import { findState } from './find.ts';

/** What `--json` prints for `dump`. */
export interface DumpAnswer extends Dump {
  /** Null: it was not asked for. */
  readonly sent: { readonly signal: string | null; readonly said: string } | null;
}

interface Asked {
  /** Undefined: the command's. */
  readonly pid: number | undefined;
  readonly all: boolean;
  /** Undefined: not asked for; 'gentle': only what does no harm. */
  readonly signal: 'gentle' | 'QUIT' | undefined;
}

/**
 * @param argv a pid and flags
 * @param directory of the state that says which process the command is; default: the one that is found
 * @throws ToolError
 */
export async function dump(argv: readonly string[], directory?: string): Promise<Answer> {
  const asked = parse(argv);
  const pid = asked.pid ?? commandOf(findState(directory));
  const look = await takeLook(pid);
  if (look === undefined)
    throw new ToolError(STATUS.nothing, `there is no process ${pid} that can be seen from here`);
  const sent = asked.signal === undefined ? null : askRuntime(look, asked.signal);
  return {
    status: sent !== null && sent.signal === null ? STATUS.no : STATUS.done,
    lines: [...dumpLines(look, asked.all), ...(sent === null ? [] : [sent.said])],
    json: { ...look, sent } satisfies DumpAnswer,
  };
}

function commandOf({ record, phase }: Found): number {
  const { command } = record.pids;
  if (phase === 'running' && command !== null) return command;
  throw new ToolError(
    STATUS.nothing,
    `there is no command to look at: it is not running (${phase})`,
    'ddbg dump PID looks at any other process; ddbg report says what has happened',
  );
}

function parse(argv: readonly string[]): Asked {
  let asked: Asked = { pid: undefined, all: false, signal: undefined };
  for (const word of argv) {
    if (word === '--all') asked = { ...asked, all: true };
    else if (word === '--signal') asked = { ...asked, signal: 'gentle' };
    else if (word === '--signal=QUIT' || word === '--signal=SIGQUIT') asked = { ...asked, signal: 'QUIT' };
    else if (word.startsWith('--signal='))
      throw new ToolError(STATUS.usage, `cannot dump: ${word}: the only signal that may be named is QUIT`);
    else if (/^[1-9]\d{0,9}$/.test(word) && asked.pid === undefined) asked = { ...asked, pid: Number(word) };
    else
      throw new ToolError(
        STATUS.usage,
        `cannot dump: '${word}' is neither a flag nor the one PID`,
        'ddbg dump [PID] [--all] [--signal]',
      );
  }
  return asked;
}

/** A signal that the process does not catch would end it: then it is not sent. */
function askRuntime(look: Dump, how: 'gentle' | 'QUIT'): { signal: string | null; said: string } {
  const { pid, name, runtime, signals } = look;
  const none = (why: string) => ({ signal: null, said: `nothing was sent: ${why}` });
  if (runtime === null)
    return none(`what runs in pid ${pid} (${plain(name)}) is no runtime that answers signals`);
  const { signal } = runtime;
  if (signal === null) return none(`${runtime.name} ${runtime.offer}`);
  if (how === 'QUIT' && signal !== 'SIGQUIT')
    return none(`${runtime.name} has nothing to say to QUIT; leave it at --signal`);
  if (runtime.isFatal && how !== 'QUIT') return none(`${runtime.name} ${runtime.offer}`);
  if (!signals.caught.includes(signal)) return none(`${signal} would end it, for it is not caught`);
  try {
    process.kill(pid, signal as NodeJS.Signals);
  } catch (error) {
    return none(reasonOf(error));
  }
  return {
    signal,
    said: `${signal} was sent: ${runtime.name} ${runtime.offer}; it goes to ${plain(runtime.where)}`,
  };
}
