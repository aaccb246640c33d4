/**
 * The command's life when the native init has it: the init starts it, passes signals on and reaps it; we say what to
 * start, and note what happens.
 */
import { steadyMs } from '../clock.ts';
import type { Outcome, SignalName } from '../outcome.ts';
import { signalName } from '../outcome.ts';
import type { CommandLine, PlanInput } from '../plan.ts';
import type { Link } from './link.ts';
import { resolveCommand } from './resolve.ts';
import type { PassingStop, Run, Watchers } from './supervise.ts';
import { hasTerminal, neverStarted, stopThatPassed } from './supervise.ts';

/**
 * Runs the command to its end.
 *
 * @param given what the init was given: it hears only what is to be different, so that all else stays as it came, to
 * the byte (a variable that is no UTF-8, one that is there twice)
 */
export async function superviseNatively(
  link: Link,
  given: PlanInput,
  command: CommandLine,
  watchers: Watchers = {},
): Promise<Run> {
  const startedAt = steadyMs();
  const recorder = command.recording === undefined ? [] : [`recorder ${command.recording}`];
  link.send(...changes(given, command), ...recorder, 'start');
  let pid: number | undefined;
  let stop: SignalName | undefined;
  let passing: PassingStop | undefined;

  for (;;) {
    const [event, first, second, third, fourth] = (await link.receive()) ?? ['lost'];
    const number = Number(first);
    switch (event) {
      case 'started':
        pid = number;
        watchers.onStart?.(pid);
        break;
      case 'failed':
        return neverStarted(whyNotStarted(command, number), undefined);
      case 'stopped':
        return neverStarted({ kind: 'stopped-early', signal: signalName(number) }, signalName(number));
      case 'signal':
      case 'stop': {
        const signal = signalName(number);
        if (event === 'stop') stop ??= signal;
        if (signal === 'SIGHUP') passing = { signal, at: steadyMs() };
        void watchers.onSignal?.(signal, event === 'stop');
        break;
      }
      case 'typed':
        passing = { signal: signalName(number), at: steadyMs() };
        watchers.onTerminalSignal?.(passing.signal);
        break;
      case 'ended': {
        const outcome: Outcome =
          first === 'exited'
            ? { kind: 'exited', status: Number(second) }
            : { kind: 'killed', signal: signalName(Number(second)) };
        stop ??= stopThatPassed(outcome, passing, hasTerminal(process.ppid));
        return {
          outcome,
          status: Number(third),
          stop,
          pid,
          coreDumped: fourth === 'core',
          durationMs: steadyMs() - startedAt,
        };
      }
      case 'lost':
        throw new Error('the native init is gone');
    }
  }
}

/** What the init has to change in what it was given. Pure. */
export function changes(given: PlanInput, command: CommandLine): string[] {
  const records: string[] = [];
  const kept = commonTail(given.argv, command.argv);
  if (kept < command.argv.length) {
    const front = command.argv.slice(0, command.argv.length - kept);
    records.push(`keep ${kept}`, ...front.map((word) => `arg ${word}`));
  }
  for (const name of Object.keys(given.environment)) {
    if (!Object.hasOwn(command.environment, name)) records.push(`unset ${name}`);
  }
  for (const [name, value] of Object.entries(command.environment)) {
    if (given.environment[name] !== value) records.push(`set ${name}=${value}`);
  }
  return records;
}

function commonTail(one: readonly string[], other: readonly string[]): number {
  let length = 0;
  while (length < Math.min(one.length, other.length) && one.at(-1 - length) === other.at(-1 - length))
    length++;
  return length;
}

/** The kernel has refused it with this errno; a look at the file often tells a person more. */
function whyNotStarted({ argv, environment }: CommandLine, errno: number): Outcome {
  const [file = ''] = argv;
  const resolution = resolveCommand(file, environment);
  const isMissing = errno === ENOENT || errno === ENOTDIR;
  const { getSystemErrorMap } = process.getBuiltinModule('node:util');
  const [name, meaning] = getSystemErrorMap().get(-errno) ?? [`errno ${errno}`, 'unknown'];
  const reason = resolution.ok ? `${file}: ${meaning} (${name})` : resolution.reason;
  return { kind: 'not-started', status: isMissing ? 127 : 126, reason };
}

const ENOENT = 2;
const ENOTDIR = 20;
