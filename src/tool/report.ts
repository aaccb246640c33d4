/**
 * `ddbg report`: what has happened, the cause first; of a command that runs, what it waits for.
 */
import { textOf } from '../attempt.ts';
import { asUser } from '../container/user.ts';
import type { RunRecord, StateRecord } from '../life.ts';
import { reportName } from '../life.ts';
import { printable } from '../log.ts';
import type { SignalName } from '../outcome.ts';
import { showClock } from '../report/banner.ts';
import type { FaultReport } from '../report/fault-report.ts';
import { showFaultReport } from '../report/fault-report.ts';
import { report as makeReport } from '../report/reporting.ts';
import { ownVersion } from '../version.ts';
import type { Answer } from './answer.ts';
import { STATUS, ToolError } from './answer.ts';
import type { Found } from './find.ts';
import { findState, readStateFile, runsOf } from './find.ts';

/** What a fault was: the last one, or that of a run; or how the run stands that goes on. @throws ToolError */
export function report(argv: readonly string[], directory?: string): Promise<Answer> {
  const [text] = argv;
  if (argv.length > 1 || (text !== undefined && !/^[1-9]\d{0,5}$/.test(text))) {
    throw new ToolError(
      STATUS.usage,
      `'${argv.join(' ')}' is no run`,
      'it takes the number of one: ddbg status lists them',
    );
  }
  const found = findState(directory);
  const { phase, record } = found;
  const isLive = phase === 'running' && (text === undefined || Number(text) === record.run);
  if (isLive) return Promise.resolve(answerOf(liveReport(found, record)));
  const run = text === undefined ? lastRun(found) : Number(text);
  const kept = run === undefined ? undefined : keptReport(found, run);
  return Promise.resolve(kept === undefined ? answerWithout(found, run) : answerOf(kept));
}

function answerOf(json: FaultReport): Answer {
  const { columns, isTTY = false } = process.stdout;
  const width = isTTY ? columns || USUAL_COLUMNS : undefined; // a terminal may say that it has none
  return { status: STATUS.done, lines: showFaultReport(json, { columns: width, colour: isTTY }), json };
}

const USUAL_COLUMNS = 100;

function keptReport(found: Found, run: number): FaultReport | undefined {
  const file = readStateFile(found, reportName(run));
  return file === undefined ? undefined : JSON.parse(file.toString());
}

/** The run that has ended last; one that is being prepared has nothing to tell. */
function lastRun(found: Found): number | undefined {
  return runsOf(found).at(-1)?.run;
}

/** A run that has ended well needs no report. @throws ToolError where there should be one */
function answerWithout(found: Found, run: number | undefined): Answer {
  const runs = runsOf(found);
  const ended = runs.find((each) => each.run === run);
  if (ended?.isFault !== false) {
    throw new ToolError(
      STATUS.nothing,
      `there is no report${run === undefined ? '' : ` of run ${run}`}`,
      'a run has one when it has ended in a fault; the last ten are kept',
    );
  }
  const fault = runs.findLast(({ report: kept }) => kept !== null)?.run;
  const earlier = fault === undefined ? [] : [`ddbg report ${fault} is the last one there is`];
  const lines = [
    `run ${ended.run} ${ended.summary}, ${endOf(ended)}: there is nothing to report`,
    ...earlier,
  ];
  return { status: STATUS.done, lines: lines.map(printable), json: null };
}

function endOf({ startedAt, durationMs }: RunRecord): string {
  return showClock(new Date(Date.parse(startedAt) + durationMs).toISOString());
}

/** Looked at now, as the state's owner. There is no witness: who samples the command is another process. */
function liveReport(found: Found, { pids, argv, startedAt, stop, run }: StateRecord): FaultReport {
  const { directory, owner } = found;
  const pid = pids.command ?? undefined;
  const now = Date.now();
  return asUser(owner, () =>
    makeReport(
      {
        command: { argv, environment: {} },
        outcome: undefined,
        coreDumped: undefined,
        stop:
          stop === null ? undefined : { signal: stop.signal as SignalName, msAgo: now - Date.parse(stop.at) },
        pid,
        durationMs: now - Date.parse(startedAt),
        endedAtMs: now,
        before: undefined,
        cgroup: textOf(`/proc/${pid ?? 'self'}/cgroup`) ?? '',
        witnessed: undefined,
        stateDirectory: directory,
        ours: [pids.entry, process.pid],
        version: ownVersion(),
      },
      { at: new Date(now), number: run, status: undefined, summary: 'runs', meaning: undefined },
    ),
  );
}
