/**
 * `ddbg`: what is going on, and what to do next.
 */
import { findCarrier } from '../carrier.ts';
import { attachedSessions } from '../container/attached.ts';
import type { EndRecord, RunRecord } from '../life.ts';
import { printable } from '../log.ts';
import { showClock, showCommand, showDuration } from '../report/banner.ts';
import type { Answer } from './answer.ts';
import { STATUS } from './answer.ts';
import type { Found } from './find.ts';
import { findState, runsOf } from './find.ts';

/** As it is typed: no PATH leads to the carrier's. */
const TOOL = findCarrier()?.tool ?? 'ddbg';

/** @throws ToolError */
export function status(_argv: readonly string[], directory?: string): Promise<Answer> {
  const found = findState(directory);
  const runs = runsOf(found);
  const now = Date.now();
  const sessions = attachedSessions();
  return Promise.resolve({
    status: STATUS.done,
    lines: [
      ...describe(found, runs, now),
      ...sessions.map(
        ({ pid, uid, command, visitMs }) =>
          `attached: ${printable(command)} (pid ${pid}, uid ${uid}, for ${showDuration(visitMs)})`,
      ),
      '',
      ...whatNext(found),
    ],
    json: { ...found.record, phase: found.phase, directory: found.directory, runs, sessions },
  });
}

function describe(
  { phase, record, directory }: Found,
  runs: readonly RunRecord[],
  now: number,
): readonly string[] {
  const { run, pids, end, stop, plan } = record;
  const age = showDuration(now - Date.parse(record.phaseSince));
  const last = runs.at(-1);
  const ran = last === undefined || phase === 'running' ? '' : `, ran ${showDuration(last.durationMs)}`;
  const pid = pids.command === null ? 'never started' : `pid ${pids.command}`;
  return [
    `${phase} for ${age}, since ${showClock(record.phaseSince)}`,
    `command:  ${printable(showCommand(record.argv, (text) => text))}   (run ${run}, ${pid}${ran})`,
    `directory ${printable(record.cwd)}, uid ${record.uid}; state in ${directory}`,
    ...(stop === null || phase !== 'running'
      ? []
      : [`stop:     ${stop.signal} was passed on at ${showClock(stop.at)}, and it still runs`]),
    ...(phase === 'running' ? [] : endLines(end, last)),
    ...(phase === 'parked' && plan.stayAlive?.limitMs !== undefined
      ? [`limit:    ${showDuration(plan.stayAlive.limitMs)}; the clock stands while somebody is attached`]
      : []),
    ...(runs.length > 1 ? ['runs:', ...runs.slice(-10).map(historyLine)] : []),
  ];
}

function endLines(end: EndRecord | null, last: RunRecord | undefined): readonly string[] {
  if (end === null) return ['ended:    nobody was left to note how; the init holds the container'];
  return [
    `ended:    it ${end.summary}; the container ends with status ${end.status}`,
    ...(last?.cause == null ? [] : [`cause:    ${last.cause}`]),
  ];
}

function historyLine({ run, startedAt, durationMs, summary, cause, report }: RunRecord): string {
  const kept = report === null ? '' : `   (${TOOL} report ${run})`;
  return `  ${run}  ${showClock(startedAt)}  ${showDuration(durationMs)}  ${cause ?? summary}${kept}`;
}

function whatNext({ phase, record }: Found): readonly string[] {
  switch (phase) {
    case 'parked':
      return [
        `${TOOL} report      what has happened`,
        `${TOOL} shell       a shell where the command stood, with its environment`,
        `${TOOL} rerun       run it again   (--env NAME=VALUE, --fstree URL, -- OTHER COMMAND)`,
        `${TOOL} release     let the container end with status ${record.end?.status ?? 0}`,
      ];
    case 'running':
      return [`${TOOL} dump        what it is doing`, `${TOOL} shell       a shell with its environment`];
    case 'overlay':
      return [`${TOOL} wait --for running`];
    case 'ended':
      return ['nothing is left to do'];
  }
}
