/**
 * From a run that is over, or goes on, to its report: what is loaded only when there is one to make.
 */
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { textOf } from '../attempt.ts';
import { parseEnviron } from '../container/environ.ts';
import type { Gathering } from './facts.ts';
import { gatherFacts } from './facts.ts';
import type { FaultReport, ReportedRun } from './fault-report.ts';
import { makeFaultReport } from './fault-report.ts';
import { findCause } from './verdict.ts';

export { faultSummary } from './fault-report.ts';

export function report(given: Gathering, run: ReportedRun): FaultReport {
  const facts = gatherFacts(given);
  const environments = [given.command.environment, lastEnvironment(given.stateDirectory)];
  return makeFaultReport(facts, findCause(facts), run, environments);
}

/** What the command's script has exported on its way holds secrets too: `environ`, as the sampler has kept it. */
function lastEnvironment(directory: string | undefined): Record<string, string> {
  return parseEnviron(textOf(join(directory ?? '', 'environ')) ?? '');
}

/** Where Kubernetes looks for the last word of a container (terminationMessagePath). */
const TERMINATION_LOG = '/dev/termination-log';

/** Only where the file is there already, and never waiting for a reader. */
export function tellKubernetes(summary: string, path = TERMINATION_LOG): void {
  try {
    const file = openSync(
      path,
      constants.O_WRONLY | constants.O_TRUNC | constants.O_NONBLOCK | constants.O_NOFOLLOW,
    );
    try {
      writeSync(file, `${summary}\n`);
    } finally {
      closeSync(file);
    }
  } catch {
    // this is no pod
  }
}
