/**
 * Who stands around the command: the native init, which asks us what to do, or we alone ("bare").
 */

import type { Degraded } from './container/launcher.ts';
import { degradedBy, readLauncherClues } from './container/launcher.ts';
import { isByNpx } from './container/npx.ts';
import { EntryError } from './errors.ts';
import { OWN_FAILURE } from './outcome.ts';
import type { ParkEnd } from './park.ts';
import { park } from './park.ts';
import type { CommandLine, Plan, PlanInput } from './plan.ts';
import { becomeCommand, becomeInit } from './process/become.ts';
import type { Link } from './process/link.ts';
import { changes, superviseNatively } from './process/native.ts';
import type { Run, Watchers } from './process/supervise.ts';
import { superviseCommand } from './process/supervise.ts';
import type { Signals } from './signals.ts';

export interface Host {
  /** Whom a person inside kills to let a held container go: the init, or us. */
  readonly pid: number;
  /** What this way of being started makes worse, if anything. */
  degraded(): Degraded | undefined;
  /**
   * Before anything is touched. Bare, where the package's init can be had (npm's own bin, Node >= 22.15), it takes our
   * place and this does not return.
   *
   * @throws EntryError `DDBG_BAD_USAGE` for a flag that only the init can follow, where there is none
   */
  prepare(plan: Plan): void;
  /** Off: the command takes the place. Bare it comes back where Node cannot do that. */
  become(command: CommandLine): void;
  /** Runs the command to its end. */
  run(command: CommandLine, signals: Signals, watchers: Watchers): Promise<Run>;
  /** Holds the container; listens from now on. Native it never resolves: `handOver` does the rest. */
  park(signals: Signals, limitMs: number | undefined, say: (line: string) => void): Promise<ParkEnd>;
  /** Everything is said and written: from here on the native init waits alone, and this process ends. */
  handOver(parked: HandOver): void;
  /** Ends this process, and with it the container. */
  exit(status: number): never;
}

export interface HandOver {
  readonly status: number;
  readonly limitMs: number | undefined;
  /** The line for each end of the park, whole. */
  readonly lines: { readonly released: string; readonly expired: string };
}

/** Stands in `HandOver.lines.released` for the name of the signal, which nobody knows yet. */
export const SIGNAL_PLACE = 'SIGNAL';

export interface BareOptions {
  /** Our own arguments, for the native init to start with. Default: this is a library's call, stay what we are. */
  readonly argv?: readonly string[];
  /** The init's file. */
  readonly init?: string;
}

export function bareHost(options: BareOptions = {}): Host {
  return {
    pid: process.pid,
    degraded: () => degradedBy(readLauncherClues('bare', process.pid, process.env)),
    prepare: (plan) => {
      if (!plan.on && plan.initFlags.length === 0 && !isByNpx(process.env)) return;
      if (options.init !== undefined && options.argv !== undefined) becomeInit(options.init, options.argv);
      if (plan.initFlags.length === 0) return;
      const flags = plan.initFlags.map((name) => `--${name}`).join(', ');
      throw new EntryError(
        'DDBG_BAD_USAGE',
        `cannot run: ${flags} needs the native init, which is not in front`,
        {
          hint: 'in the Dockerfile, after the package: RUN ddbg-entry --install',
        },
      );
    },
    become: becomeCommand,
    run: superviseCommand,
    park,
    handOver: () => {},
    exit: (status) => process.exit(status),
  };
}

/** Should the init be stopped or gone itself, we end all the same; what we have told it waits in the socket. */
const LAST_WAIT_MS = 5_000;

/** @param given what the init was given: its arguments and environment */
export function nativeHost(link: Link, given: PlanInput): Host {
  const forGood = (...records: readonly string[]): never => {
    link.send(...records);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, LAST_WAIT_MS); // for the init, which kills us
    return process.exit(OWN_FAILURE);
  };
  return {
    pid: process.ppid,
    degraded: () => degradedBy(readLauncherClues('native', process.ppid, process.env)),
    prepare: ({ on, stayAlive }) => {
      if (on) link.send(`hold ${stayAlive?.on ?? 'never'} ${stayAlive?.limitMs ?? 0}`);
    },
    become: (command) => forGood(...changes(given, command), 'become'),
    run: (command, signals, watchers) => {
      signals.handTo(() => {}); // they are meant for the command, and the init has them
      return superviseNatively(link, given, command, watchers);
    },
    park: () => new Promise(() => {}),
    handOver: ({ status, limitMs, lines }) =>
      forGood(`released ${lines.released}`, `expired ${lines.expired}`, `park ${status} ${limitMs ?? 0}`),
    exit: (status) => forGood(`exit ${status}`),
  };
}
