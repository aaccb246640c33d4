/**
 * The pipeline: the one file that knows the order.
 *
 *     text -> Directives -> Plan -> overlay -> run -> Outcome -> Fault? -> park -> status
 */

import { judgeOutcome } from './fault.ts';
import type { EntryHooks } from './hooks.ts';
import type { Host } from './host.ts';
import { bareHost } from './host.ts';
import { createLog } from './log.ts';
import { OWN_FAILURE } from './outcome.ts';
import { parseDebug } from './parse.ts';
import { makePlan } from './plan.ts';
import { listen } from './signals.ts';
import * as stages from './stages.ts';

export interface EntryInput {
  /** What stands behind `ddbg-entry` on a command line: flags, optionally `--`, the command and its arguments. */
  readonly argv: readonly string[];
  /** Where DEBUG, DDBG and DDBG_LOG are read, and what the command gets without our words. Default: process.env. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** Default: none. */
  readonly hooks?: EntryHooks;
}

/**
 * Runs a command as the container's entrypoint. The caller exits with the status it resolves to.
 *
 * Off (no directive of ours in the environment), on Node >= 22.15, it never returns: the command replaces this process.
 *
 * @returns the exit status for the container (0 to 255): the command's, 128+S, 127, 126, or 125 where we failed
 * ourselves, which is then said on stderr. Never rejects for anything in the environment, an archive or the command.
 */
export function runEntry(input: EntryInput): Promise<number> {
  return runEntryOn(bareHost(), input);
}

/** The same for whoever knows better what stands around the command: the bin. */
export async function runEntryOn(host: Host, input: EntryInput): Promise<number> {
  const { argv, environment = process.env, hooks = {} } = input;
  let log = createLog({ json: environment.DDBG_LOG === 'json' });
  try {
    const directives = parseDebug(environment);
    const plan = makePlan(directives, { argv, environment });
    log = createLog({ json: plan.jsonLog, verbose: plan.verbose });
    host.prepare(plan);
    for (const hint of plan.hints) log.say(hint);
    if (!plan.on) host.become(plan.command); // comes back only where Node cannot do it
    const signals = listen();
    try {
      const context = { host, plan, log, signals, hooks };
      return plan.on ? await runWatched(context) : (await stages.runAsChild(context)).status;
    } finally {
      signals.close();
    }
  } catch (error) {
    stages.sayFailure(log, error);
    return OWN_FAILURE;
  }
}

async function runWatched(context: stages.Context): Promise<number> {
  for (let held: number | undefined; ; ) {
    const desk = stages.openDesk(context);
    try {
      const released = stages.readRelease(desk);
      if (released !== undefined) return await stages.finish(desk, released);
      const run = (await stages.layOverlays(desk)) ?? (await stages.runCommand(desk));
      const fault = judgeOutcome(run.outcome, run.stop, run.status);
      const report = await stages.sayEnd(desk, run, fault);
      // Stopped before a rerun has begun, it ends as it would have without.
      const status = run.pid === undefined ? (held ?? run.status) : run.status;
      if (!stages.isHeld(desk, run, fault)) return await stages.finish(desk, status);
      held = run.status;
      if (!(await stages.holdContainer(desk, run, fault, report))) return run.status;
    } finally {
      desk.close();
    }
  }
}
