/**
 * Starting the command, on our own stdin, stdout, stderr and terminal.
 *
 * With Node's own spawn and not with execa: everything that execa adds would be switched off here, and loading it is
 * 14 to 18 of the 25 ms that a start may take over `node -e 0` (measured, bundled, Node 20). It also opens
 * process.stdout at its import, which log.ts avoids for the command's sake.
 */
import type { ChildProcess } from 'node:child_process';
import { errnoOf, reasonOf } from '../errors.ts';
import type { Outcome, SignalName } from '../outcome.ts';
import { signalNumber } from '../outcome.ts';
import type { CommandLine } from '../plan.ts';

export interface RunningCommand {
  /** Undefined when it could not be started. */
  readonly pid: number | undefined;
  /** Never rejects: an end of any kind is a value. */
  readonly ended: Promise<Outcome>;
  /** False when it is gone already. */
  send(signal: SignalName): boolean;
}

export function spawnCommand(command: CommandLine): RunningCommand {
  const { spawn } = process.getBuiltinModule('node:child_process'); // 2 ms, and under the native init not needed
  const [file = '', ...args] = command.argv;
  let child: ChildProcess;
  try {
    child = spawn(file, args, { stdio: 'inherit', env: command.environment });
  } catch (error) {
    // Some errors come as an event (ENOENT, EACCES, EAGAIN), the others are thrown (E2BIG, ENOMEM).
    return { pid: undefined, ended: Promise.resolve(notStarted(file, error)), send: () => false };
  }
  return {
    pid: child.pid,
    ended: new Promise((resolve) => {
      child.on('error', (error) => {
        // A kill(2) that is not permitted (the command changed its user) is an error event too.
        if (child.pid === undefined) resolve(notStarted(file, error));
      });
      child.on('exit', (status, signal) => {
        if (signal !== null) resolve({ kind: 'killed', signal: signal as SignalName });
        // A death by a real-time signal comes as status 0 without a signal: Node knows no names for those.
        else resolve({ kind: 'exited', status: status ?? 0 });
      });
    }),
    send: (signal) => child.kill(signalNumber(signal)),
  };
}

function notStarted(file: string, error: unknown): Outcome {
  const code = errnoOf(error);
  return {
    kind: 'not-started',
    status: code === 'ENOENT' ? 127 : 126,
    reason: `${file}: ${code ?? reasonOf(error)}`,
  };
}
