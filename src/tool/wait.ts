/**
 * Waiting for the entry to get somewhere: woken by a change of its state directory, and once a second for what no file
 * tells.
 */
import type { FSWatcher } from 'node:fs';
import { rmSync, watch, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { steadyMs } from '../clock.ts';
import { asUser } from '../container/user.ts';
import { parseDuration } from '../parse.ts';
import type { Answer } from './answer.ts';
import { STATUS, ToolError } from './answer.ts';
import type { Found } from './find.ts';
import { lookForState } from './find.ts';

const PHASES = ['parked', 'running', 'ended'] as const;
type WaitedFor = (typeof PHASES)[number];

/** @throws ToolError */
export async function wait(argv: readonly string[], directory?: string): Promise<Answer> {
  const { values } = parseArgs({
    args: [...argv],
    options: { for: { type: 'string', default: 'parked' }, timeout: { type: 'string' } },
  });
  const phase = values.for as WaitedFor;
  if (!PHASES.includes(phase)) {
    throw new ToolError(STATUS.usage, `--for=${values.for} is no phase`, `they are ${PHASES.join(', ')}`);
  }
  const limitMs = values.timeout === undefined ? Number.POSITIVE_INFINITY : parseDuration(values.timeout);
  if (limitMs === undefined) {
    throw new ToolError(STATUS.usage, `--timeout=${values.timeout} is no duration`, 'such as 90s, 30m or 2h');
  }
  return waitFor(phase, limitMs, directory);
}

async function waitFor(phase: WaitedFor, limitMs: number, directory: string | undefined): Promise<Answer> {
  const startedAt = steadyMs();
  let now = lookForState(directory);
  let remove = (): void => {};
  process.on('exit', () => remove());
  while (!isThere(now, phase)) {
    remove();
    remove = leaveMark(now);
    // "parked" and "running" will not come any more; a container that has just been started has no state yet.
    if (now?.phase === 'ended') return gaveUp(now, 'it will not come', STATUS.nothing);
    const left = limitMs - (steadyMs() - startedAt);
    if (left <= 0) return gaveUp(now, `it is not ${phase} after ${limitMs / 1_000} s`, STATUS.timeout);
    const state = watchState(now?.directory ?? '/run');
    const wasThere = now?.phase;
    const from = now?.record.run;
    await state.until(() => {
      now = lookForState(directory);
      return now?.phase !== wasThere || now?.record.run !== from;
    }, left);
    state.close();
  }
  return {
    status: STATUS.done,
    lines: [now === undefined ? phase : sentence(now)],
    json: factsOf(now),
  };
}

/** The entry has an eye on who waits: the end of the container would be ours too, with 137. Returns the way to take it away. */
function leaveMark(now: Found | undefined): () => void {
  if (now === undefined) return () => {};
  const { directory, owner } = now;
  const file = join(directory, `waiting-${process.pid}`);
  const remove = (): void => asUser(owner, () => rmSync(file, { force: true }));
  try {
    asUser(owner, () => writeFileSync(file, '', { mode: 0o600 }));
  } catch {
    // no room: then it may be killed
  }
  return remove;
}

function isThere(now: Found | undefined, phase: WaitedFor): boolean {
  return now !== undefined && now.phase === phase;
}

function gaveUp(now: Found | undefined, why: string, status: number): Answer {
  return {
    status,
    lines: [now === undefined ? `${why}: there is no state` : `${why}: ${sentence(now)}`],
    json: factsOf(now),
  };
}

function sentence({ phase, record }: Found): string {
  const end = phase === 'running' || record.end === null ? '' : `: the command ${record.end.summary}`;
  return `${phase}, run ${record.run}${end}`;
}

function factsOf(now: Found | undefined): unknown {
  return { phase: now?.phase ?? null, run: now?.record.run ?? null, end: now?.record.end ?? null };
}

/** What no file tells: that the entry is gone, or that its first file has come. */
const LOOK_EVERY_MS = 1_000;

export interface StateWatch {
  /** False: the time (milliseconds) is over. */
  until(isSo: () => boolean, limitMs: number): Promise<boolean>;
  close(): void;
}

export function watchState(directory: string): StateWatch {
  let wake = (): void => {};
  let watcher: FSWatcher | undefined;
  try {
    watcher = watch(directory, { persistent: false }, () => wake());
    watcher.on('error', () => watcher?.close());
  } catch {
    // no such directory yet, or no more watches to be had: looking now and then does it
  }
  return {
    until: async (isSo, limitMs) => {
      const endAt = steadyMs() + limitMs;
      while (!isSo()) {
        const left = endAt - steadyMs();
        if (left <= 0) return false;
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, Math.min(left, LOOK_EVERY_MS));
          wake = () => {
            clearTimeout(timer);
            resolve();
          };
        });
      }
      return true;
    },
    close: () => watcher?.close(),
  };
}
