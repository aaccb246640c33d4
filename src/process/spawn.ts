/**
 * Starting the command. The only user of execa.
 */
import { execa } from 'execa';
import { errnoOf } from '../errors.ts';
import type { Outcome, SignalName } from '../outcome.ts';
import type { CommandLine } from '../plan.ts';

export interface RunningCommand {
  /** Undefined when it could not be started. */
  readonly pid: number | undefined;
  /** Never rejects: an end of any kind is a value. */
  readonly ended: Promise<Outcome>;
  /** False when it is gone already. */
  send(signal: SignalName): boolean;
}

/** Starts the command on our own stdin, stdout, stderr and terminal. */
export function spawnCommand(command: CommandLine): RunningCommand {
  const [file = '', ...args] = command.argv;
  const subprocess = execa(file, args, {
    stdio: 'inherit',
    env: command.environment,
    extendEnv: false,
    reject: false,
    // The default hands our own death to signal-exit, which turns an unhandled HUP into a TERM for the command and,
    // at PID 1, re-sends the signal to itself with no effect.
    cleanup: false,
    forceKillAfterDelay: false,
    verbose: 'none', // NODE_DEBUG=execa, meant for the command, would print ours as well
  });
  return {
    pid: subprocess.pid,
    ended: subprocess.then((result) => {
      if (result.exitCode !== undefined) return { kind: 'exited', status: result.exitCode };
      if (result.signal !== undefined) return { kind: 'killed', signal: result.signal as SignalName };
      return notStarted(file, result);
    }),
    send: (signal) => subprocess.pid !== undefined && subprocess.kill(signal),
  };
}

function notStarted(file: string, error: unknown): Outcome {
  const code = errnoOf(error);
  const reason = `${file}: ${code ?? (error as Error).message}`;
  return { kind: 'not-started', status: code === 'ENOENT' ? 127 : 126, reason };
}
