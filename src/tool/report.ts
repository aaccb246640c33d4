/**
 * `ddbg report`: what has happened, the cause first; of a command that runs, what it waits for.
 */
import { readFileSync } from 'node:fs';
import { asUser } from '../container/user.ts';
import type { StateRecord } from '../life.ts';
import { reportName } from '../life.ts';
import type { SignalName } from '../outcome.ts';
import type { FaultReport } from '../report/fault-report.ts';
import { showFaultReport } from '../report/fault-report.ts';
import { report as makeReport } from '../report/reporting.ts';
import type { Answer } from './answer.ts';
import { STATUS, ToolError } from './answer.ts';
import type { Found } from './find.ts';
import { findState, readStateFile } from './find.ts';

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
  const json = isLive ? liveReport(found, record) : keptReport(found, text);
  const { columns = 100, isTTY = false } = process.stdout;
  return Promise.resolve({
    status: STATUS.done,
    lines: showFaultReport(json, { columns, colour: isTTY }),
    json,
  });
}

function keptReport(found: Found, text: string | undefined): FaultReport {
  const run = text ?? lastFault(found);
  const file = run === undefined ? undefined : readStateFile(found, reportName(Number(run)));
  if (file !== undefined) return JSON.parse(file.toString());
  throw new ToolError(
    STATUS.nothing,
    `there is no report${text === undefined ? '' : ` of run ${text}`}`,
    'a run has one when it has ended in a fault; the last ten are kept',
  );
}

function lastFault(found: Found): number | undefined {
  try {
    const { runs } = JSON.parse(readStateFile(found, 'runs.json')?.toString() ?? '');
    return (runs as { run: number; report: string | null }[]).findLast(({ report: kept }) => kept !== null)
      ?.run;
  } catch {
    return undefined; // there is none yet
  }
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
        stop:
          stop === null ? undefined : { signal: stop.signal as SignalName, msAgo: now - Date.parse(stop.at) },
        pid,
        durationMs: now - Date.parse(startedAt),
        endedAtMs: now,
        before: undefined,
        cgroup: readOr(`/proc/${pid ?? 'self'}/cgroup`),
        witnessed: undefined,
        stateDirectory: directory,
        ours: [pids.entry, process.pid],
        version: (JSON.parse(readOr(new URL('../package.json', import.meta.url))) as { version: string })
          .version,
      },
      { at: new Date(now), number: run, status: undefined, summary: 'runs', meaning: undefined },
    ),
  );
}

function readOr(file: string | URL): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '{}';
  }
}
