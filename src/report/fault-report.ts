/**
 * The fault report: one run and the verdict on it, as fault.json has it and as one screen of text. Pure.
 */
import type { ResourceLimit } from '../container/limits.ts';
import type { Relation } from '../container/processes.ts';
import { fullIn } from '../container/space.ts';
import { printable } from '../log.ts';
import type { Outcome } from '../outcome.ts';
import { signalNumber } from '../outcome.ts';
import { makeMask, maskArguments } from '../secrets.ts';
import { showClock, showCommand } from './banner.ts';
import type { Facts, OverlaySummary, RunningProcess, Versions } from './facts.ts';
import type { Verdict } from './verdict.ts';
import { bytes, seconds } from './verdict.ts';

/** fault.json: described by fault.schema.json, without secrets. What is not known is null. */
export interface FaultReport {
  readonly schema: 2;
  /** When the run ended, or when a running one was looked at; ISO 8601. */
  readonly at: string;
  /** 1 for the first run in the life of this container. */
  readonly run: number;
  readonly argv: readonly string[];
  /** Null: it was never started. */
  readonly pid: number | null;
  readonly durationMs: number;
  readonly kind: Outcome['kind'] | 'running';
  /** The exit status that the container ends with; null while it runs. */
  readonly status: number | null;
  readonly signal: { readonly name: string; readonly number: number } | null;
  /** "exited with status 7". */
  readonly summary: string;
  /** What that usually means, whatever happened here. */
  readonly meaning: string | null;
  readonly class: FaultClass;
  readonly verdict: {
    readonly cause: Verdict['cause'];
    readonly certainty: Verdict['certainty'];
    readonly sentence: string;
    readonly evidence: readonly string[];
    readonly hint: string | null;
    readonly noticed: readonly string[];
  };
  readonly resources: Resources;
  readonly user: { readonly uid: number; readonly gid: number; readonly cwd: string | null };
  readonly running: readonly RunningProcess[];
  readonly overlay: OverlaySummary | null;
  readonly core: { readonly path: string; readonly sizeBytes: number; readonly open: string } | null;
  /** The last lines; null: not recorded. `at` is milliseconds since 1970. */
  readonly output:
    | readonly { readonly atMs: number; readonly stream: string; readonly text: string }[]
    | null;
  readonly limits: readonly ResourceLimit[];
  readonly versions: Versions;
}

export interface FaultClass {
  /** True: the command is over. False: it runs on, and does not do what it should. */
  readonly fatal: boolean;
  /**
   * True: the command told of it itself, by a status that is not 0. False: it shows only from outside, as a death by
   * signal, a start that failed, or a hang.
   */
  readonly explicit: boolean;
}

interface Resources {
  readonly memory: {
    readonly limitBytes: number | null;
    readonly peakBytes: number | null;
    readonly currentBytes: number | null;
    /** Of the command alone, as seen. */
    readonly mostResidentBytes: number | null;
    readonly oomKills: number | null;
  };
  readonly pids: {
    readonly limit: number | null;
    readonly current: number | null;
    readonly refused: number | null;
  };
  readonly cpu: {
    readonly usedMs: number | null;
    readonly periods: number | null;
    readonly throttledPeriods: number | null;
    readonly throttledMs: number | null;
  };
  readonly descriptors: { readonly most: number | null };
  /** File systems without room. */
  readonly full: readonly string[];
  /** Once a second, the last 60. */
  readonly series: { readonly memoryBytes: readonly number[]; readonly cpus: readonly number[] };
}

/** What the report says of the run beside the facts. */
export interface ReportedRun {
  readonly at: Date;
  /** Default: 1. */
  readonly number?: number;
  /** Undefined: it runs. */
  readonly status: number | undefined;
  /** The outcome in words, fault.ts. */
  readonly summary: string;
  readonly meaning: string | undefined;
}

const REPORTED_OUTPUT = 20;
const LONGEST_LINE = 500;
const LONGEST_ARGUMENTS = 50;

/**
 * No secret of the environments is in it, wherever it came from.
 *
 * @param environments the command's, as it was started and as it was last seen
 */
export function makeFaultReport(
  facts: Facts,
  verdict: Verdict,
  run: ReportedRun,
  environments: readonly Readonly<Record<string, string | undefined>>[],
): FaultReport {
  const masks = environments.map(makeMask);
  const mask = (text: string): string => masks.reduce((shown, one) => one(shown), text);
  const { outcome, counters, witnessed, output } = facts;
  const after = counters.after;
  const arguments_ = (argv: readonly string[]): readonly string[] =>
    maskArguments(argv.slice(0, LONGEST_ARGUMENTS), mask).map((argument) => argument.slice(0, LONGEST_LINE));
  // Masked before it is cut: half a secret is not found.
  const short = (text: string): string => {
    const shown = mask(text);
    return shown.length > LONGEST_LINE ? `${shown.slice(0, LONGEST_LINE)}...` : shown;
  };
  const report: FaultReport = {
    schema: 2,
    at: run.at.toISOString(),
    run: run.number ?? 1,
    argv: maskArguments(facts.argv, mask),
    pid: facts.pid ?? null,
    durationMs: Math.round(facts.durationMs),
    kind: outcome?.kind ?? 'running',
    status: run.status ?? null,
    signal:
      outcome !== undefined && 'signal' in outcome
        ? { name: outcome.signal, number: signalNumber(outcome.signal) }
        : null,
    summary: run.summary,
    meaning: run.meaning ?? null,
    class: { fatal: outcome !== undefined, explicit: outcome?.kind === 'exited' },
    verdict: {
      ...verdict,
      sentence: short(verdict.sentence),
      evidence: verdict.evidence.map(short),
      hint: verdict.hint ?? null,
    },
    resources: {
      memory: {
        limitBytes: after?.memory.limitBytes ?? null,
        peakBytes: after?.memory.peakBytes ?? null,
        currentBytes: after?.memory.currentBytes ?? null,
        mostResidentBytes: witnessed?.mostResidentBytes ?? null,
        oomKills: counters.risen.oomKills ?? null,
      },
      pids: {
        limit: after?.pids.limit ?? null,
        current: after?.pids.current ?? null,
        refused: counters.risen.pidsLimitHits ?? null,
      },
      cpu: {
        usedMs: counters.risen.cpuMs ?? null,
        periods: counters.risen.periods ?? null,
        throttledPeriods: counters.risen.throttledPeriods ?? null,
        throttledMs: counters.risen.throttledMs ?? null,
      },
      descriptors: { most: witnessed?.descriptors?.most ?? null },
      full: facts.mounts.filter((mount) => fullIn(mount) !== undefined).map(({ point }) => point),
      series: witnessed?.series ?? { memoryBytes: [], cpus: [] },
    },
    user: { uid: facts.user.uid, gid: facts.user.gid, cwd: facts.user.cwd ?? null },
    running: facts.running.map((process) => ({ ...process, argv: arguments_(process.argv) })),
    overlay: facts.overlay ?? null,
    core: facts.core ?? null,
    output: output?.slice(-REPORTED_OUTPUT).map((line) => ({ ...line, text: short(line.text) })) ?? null,
    limits: facts.limits,
    versions: facts.versions,
  };
  return maskDeep(report, mask);
}

/** Every string of a value, whatever it is made of: what is added to the report later is masked as well. */
function maskDeep<T>(value: T, mask: (text: string) => string): T {
  if (typeof value === 'string') return mask(value) as T;
  if (Array.isArray(value)) return value.map((part) => maskDeep(part, mask)) as T;
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, maskDeep(part, mask)])) as T;
}

/** Kubernetes shows so much of /dev/termination-log. */
const TERMINATION_BYTES = 4_096 - 1; // and a line end

/** One line: what happened and why, as far as that is known. At most 4096 bytes. */
export function faultSummary({ summary, verdict }: FaultReport): string {
  const why = verdict.cause === 'undecided' ? '' : `: ${verdict.sentence}`;
  const evidence =
    why !== '' && verdict.evidence.length > 0 ? ` (${verdict.evidence.slice(0, 2).join('; ')})` : '';
  return cutBytes(printable(`${summary}${why}${evidence}`), TERMINATION_BYTES);
}

function cutBytes(text: string, most: number): string {
  const whole = Buffer.from(text);
  if (whole.length <= most) return text;
  return whole.toString('utf8', 0, most - 3).replace(/\ufffd+$/, '');
}

export interface ShowOptions {
  /** Of the terminal: longer lines are cut. Default: none is cut; our own words are wrapped at 100. */
  readonly columns?: number | undefined;
  /** Default: false. */
  readonly colour?: boolean;
}

const MOST_LINES = 40;

const USUAL_COLUMNS = 100;

/** One screen: at most 40 lines, the cause first. */
export function showFaultReport(report: FaultReport, options: ShowOptions = {}): readonly string[] {
  const { columns, colour = false } = options;
  const head = headOf(report, columns ?? USUAL_COLUMNS);
  const tail = tailOf(report, columns ?? USUAL_COLUMNS);
  const output = outputOf(report, Math.max(0, MOST_LINES - head.length - tail.length - 1));
  return [...head, ...output, ...tail].slice(0, MOST_LINES).map((line, at) => {
    const cut = cutColumns(printable(line), columns ?? Number.POSITIVE_INFINITY);
    return colour && at === 0 ? `\u001b[1m${cut}\u001b[0m` : cut;
  });
}

function headOf(report: FaultReport, columns: number): readonly string[] {
  const { verdict, resources, pid, durationMs } = report;
  const certainty = verdict.certainty === null ? '' : ` (${verdict.certainty})`;
  const ran = pid === null ? '' : `, pid ${pid}, ${seconds(durationMs)}`;
  return [
    ...wrap(`${verdict.cause}${certainty}: ${verdict.sentence}`, columns, 4),
    ...verdict.evidence.slice(0, 4).flatMap((line) => wrappedField('evidence', line, columns)),
    ...(verdict.hint === null ? [] : wrappedField('hint', verdict.hint, columns)),
    ...verdict.noticed.slice(0, 4).flatMap((line) => wrappedField('beside it', line, columns)),
    '',
    field(
      'run',
      `${report.run}, ${report.kind === 'running' ? 'looked at' : 'ended'} ${report.at.slice(0, 10)} ${showClock(report.at)}`,
    ),
    field(
      'command',
      showCommand(report.argv, (text) => text),
    ),
    ...wrappedField(
      report.kind === 'running' ? 'state' : 'outcome',
      `${report.summary}${ran}; ${classWords(report.class)}`,
      columns,
    ),
    // What is known of this fault needs no guess from others.
    ...(report.meaning === null || verdict.cause !== 'undecided'
      ? []
      : wrappedField('usually', report.meaning, columns)),
    ...memoryLine(resources),
    ...cpuLine(resources),
  ];
}

function tailOf(report: FaultReport, columns: number): readonly string[] {
  const { running, overlay, core, user, versions } = report;
  const shown = running.filter(({ relation }) => relation !== 'command').slice(0, 5);
  const more =
    running.length > shown.length && shown.length === 5 ? [field('', `and ${running.length - 5} more`)] : [];
  const limits = report.limits
    .filter(({ name }) => SHOWN_LIMITS[name] !== undefined)
    .map(({ name, soft }) => `${SHOWN_LIMITS[name]} ${soft}`);
  return [
    ...shown.map(({ pid, name, relation, state }, at) =>
      field(at === 0 ? 'still runs' : '', `${name} (pid ${pid}, ${state}${RELATION_WORDS[relation]})`),
    ),
    ...more,
    ...(overlay === null
      ? []
      : [
          field(
            'overlay',
            `${overlay.files} files of ${overlay.sources.join(', ')}, ${overlay.removed} removed`,
          ),
        ]),
    ...(core === null ? [] : [field('core', `${core.open}   (${bytes(core.sizeBytes)})`)]),
    field('user', `uid ${user.uid}, gid ${user.gid}, in ${user.cwd ?? '?'}`),
    ...(limits.length === 0 ? [] : wrappedField('limits', limits.join(', '), columns)),
    field(
      'versions',
      `ddbg-entry ${versions.ddbgEntry}, Node ${versions.node}, Linux ${versions.kernel}, ${versions.distribution ?? versions.architecture}`,
    ),
  ];
}

const RELATION_WORDS: Readonly<Record<Relation, string>> = {
  ours: '',
  command: '',
  below: ', below the command',
  outside: ', came from outside',
  orphan: '',
};

const SHOWN_LIMITS: Readonly<Record<string, string>> = {
  'Max open files': 'open files',
  'Max processes': 'processes',
  'Max core file size': 'core',
  'Max address space': 'address space',
  'Max file size': 'file size',
  'Max cpu time': 'cpu time',
};

/** See FaultClass. */
function classWords({ fatal, explicit }: FaultClass): string {
  return `${fatal ? 'fatal: it is over' : 'not fatal: it runs on'}; ${explicit ? 'explicit: its status tells of it' : 'implicit: it shows only from outside'}`;
}

function memoryLine({ memory, series }: Resources): readonly string[] {
  const { limitBytes, peakBytes } = memory;
  if (peakBytes === null && series.memoryBytes.length === 0) return [];
  const limit = limitBytes === null ? 'no limit' : `limit ${bytes(limitBytes)}`;
  const peak = peakBytes === null ? '' : `peak of the container ${bytes(peakBytes)}, `;
  const line = sparkline(series.memoryBytes, limitBytes ?? undefined);
  return [field('memory', `${peak}${limit}${line === '' ? '' : `  ${line}`}`)];
}

function cpuLine({ cpu, series }: Resources): readonly string[] {
  if (cpu.usedMs === null && series.cpus.length === 0) return [];
  const used = cpu.usedMs === null ? '' : `${seconds(cpu.usedMs)} used in the container`;
  const held =
    (cpu.throttledPeriods ?? 0) > 0 ? `, held back in ${cpu.throttledPeriods} of ${cpu.periods} periods` : '';
  const line = sparkline(series.cpus);
  return [field('processor', `${used}${held}${line === '' ? '' : `  ${line}`}`)];
}

/** At most what is left of the screen; the last are the ones that matter. */
function outputOf({ output }: FaultReport, room: number): readonly string[] {
  if (output === null) return [];
  if (output.length === 0) return [field('output', 'none')];
  const lines = output.slice(-Math.max(1, Math.min(room - 1, 12)));
  return [
    '  last output:',
    ...lines.map(({ stream, text }) => `    ${stream === 'stderr' ? '!' : ' '} ${text}`),
  ];
}

const BARS = '▁▂▃▄▅▆▇█';

/**
 * A bar a value, one row high.
 *
 * @param top what a whole bar stands for; default: the largest value
 */
export function sparkline(values: readonly number[], top?: number): string {
  const most = top ?? Math.max(...values, 0);
  if (values.length < 2 || most <= 0) return '';
  return values
    .map((value) => BARS[Math.min(BARS.length - 1, Math.floor((value / most) * BARS.length))] ?? BARS[0])
    .join('');
}

function field(name: string, text: string): string {
  return `  ${(name === '' ? '' : `${name}:`).padEnd(11)} ${text}`;
}

/** Where the texts of fields begin. */
const FIELD_COLUMNS = 14;
const MOST_FIELD_LINES = 3;

function wrappedField(name: string, text: string, columns: number): readonly string[] {
  const lines = wrap(text, Math.max(columns - FIELD_COLUMNS, FIELD_COLUMNS), MOST_FIELD_LINES, '');
  return lines.map((line, at) => field(at === 0 ? name : '', line));
}

/**
 * Words over as many lines as it takes.
 *
 * @param most lines; what is left is in the last one
 * @param indent of all lines but the first
 */
function wrap(text: string, columns: number, most: number, indent = '  '): readonly string[] {
  const lines: string[] = [''];
  for (const word of printable(text).split(' ')) {
    const last = lines.at(-1) ?? '';
    if (last === '') lines[lines.length - 1] = word;
    else if (last.length + 1 + word.length <= columns || lines.length === most)
      lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(`${indent}${word}`);
  }
  return lines;
}

function cutColumns(line: string, columns: number): string {
  return line.length <= columns ? line : `${line.slice(0, columns - 3)}...`;
}
