/**
 * Rounds, medians and the table: what the benches need to be comparable with themselves.
 */
import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { basename, delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The node that runs the bench is the node that runs ddbg-entry (its first line says `env node`). */
const PATH = [dirname(process.execPath), process.env.PATH ?? '/usr/bin:/bin'].join(delimiter);

/** No DEBUG, NODE_OPTIONS or npm_* of whoever started the bench: every row gets the same few variables. */
export const ENVIRONMENT = { PATH, HOME: '/', LC_ALL: 'C' };

/** What any program on this Node costs, from spawn to exit. */
export const NODE = 'node -e 0';
export const NODE_ARGV = [process.execPath, '-e', '0'];

/** What takes a millisecond and less varies more: it gets so many rounds for each run that is asked for. */
export const ROUNDS_A_RUN = 20;

/** Other inits, Debian's packages, and how each is called in front of a command. -s: also where it is not PID 1. */
const PEERS = { tini: ['-s', '--'], 'dumb-init': ['--'], catatonit: ['--'] };

/** The one that the targets name. */
export const PEER = 'tini';

/** A row for each peer that is there. Says loudly which is not: a table without it proves nothing about it. */
export function peerRows(command) {
  const missing = Object.keys(PEERS).filter((name) => findProgram(name) === undefined);
  if (missing.length > 0)
    console.log(`\nNOT COMPARED WITH ${missing.join(', ')}: not in PATH (apt-get install)`);
  return Object.entries(PEERS)
    .filter(([name]) => !missing.includes(name))
    .map(([name, flags]) => ({ name, argv: [findProgram(name), ...flags, ...command] }));
}

/** Undefined where it is not in PATH. */
export function findProgram(name) {
  return PATH.split(delimiter)
    .map((folder) => join(folder, name))
    .find((file) => {
      try {
        accessSync(file, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/** Builds C programs of this folder. Throws where there is no compiler: nothing else here has a clock that is good enough. */
export function compile(directory, ...sources) {
  return sources.map((source) => {
    const program = join(directory, basename(source, '.c'));
    const file = fileURLToPath(new URL(source, import.meta.url));
    const { status, error, stderr } = spawnSync('gcc', ['-O2', '-static', '-o', program, file], {
      encoding: 'utf8',
    });
    if (status !== 0)
      throw new Error(`gcc cannot build ${source} (apt-get install gcc libc6-dev): ${error ?? stderr}`);
    return program;
  });
}

/** CLOCK_MONOTONIC, in nanoseconds. */
const now = () => process.hrtime.bigint();

/** Runs argv to its end. A row that did not do its work must not look fast: any other status than 0 ends the bench. */
export function runToEnd(argv, environment = {}) {
  const [file, ...args] = argv;
  const env = { ...ENVIRONMENT, ...environment };
  const startedAt = now();
  const { status, signal, error, stdout, stderr } = spawnSync(file, args, {
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
  });
  const ms = Number(now() - startedAt) / 1e6;
  if (status !== 0) {
    const why = error?.message ?? signal ?? `status ${status}`;
    throw new Error(`${argv.slice(0, 8).join(' ')} ...: ${why}\n${stderr}`);
  }
  return { ms, stdout };
}

/**
 * Runs every row once a round, so that a slow moment of the machine meets them all.
 *
 * @param rows [{ name, measure }], measure() returns milliseconds
 * @returns per row its name and the value of each round; the warm-up round is not among them
 */
export function runRounds(rows, runs) {
  const samples = rows.map(({ name }) => ({ name, values: [] }));
  for (let round = -1; round < runs; round += 1) {
    rows.forEach((row, index) => {
      const value = row.measure();
      if (round >= 0) samples[index].values.push(value);
    });
  }
  return samples;
}

/**
 * The same with one of the C programs, which does the rounds.
 *
 * @param rows [{ name, argv, environment? }]
 * @returns per row the words that the program has printed about it, one list a round, with the warm-up round
 */
export function driveRounds(program, rows, rounds) {
  const words = rows.flatMap(({ argv, environment = {} }) => [
    ';',
    ...Object.entries(environment).map(([name, value]) => `${name}=${value}`),
    ...argv,
  ]);
  const printed = rows.map(() => []);
  for (const line of runToEnd([program, String(rounds), ...words])
    .stdout.trim()
    .split('\n')) {
    const [row, ...values] = line.split(' ');
    printed[row].push(values);
  }
  return printed;
}

/**
 * Each row's median, min and max, and how it stands to the row called `yardstick`, round by round.
 *
 * @param base a row that is taken off both before they are compared: how do the additions to it compare?
 */
export function summarise(samples, yardstick, base) {
  const find = (wanted) => samples.find(({ name }) => name === wanted)?.values;
  const [of, zero] = [find(yardstick), find(base)];
  if (of === undefined) throw new Error(`no row is called ${yardstick}`);
  return samples.map(({ name, values }) => ({
    name,
    median: median(values),
    min: Math.min(...values),
    max: Math.max(...values),
    difference: median(values.map((value, round) => value - (zero ?? of)[round])),
    ratio: median(
      values.map((value, round) =>
        zero === undefined
          ? value / of[round]
          : (value - zero[round]) / (of[round] - zero[round] || Number.NaN),
      ),
    ),
    values,
  }));
}

export function median(values) {
  const sorted = values.filter((value) => !Number.isNaN(value)).toSorted((one, other) => one - other);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

export function printTable(title, summary, { yardstick, base, unit = 'ms', digits = 1 }) {
  const number = (value) => value.toFixed(digits);
  printColumns(
    title,
    [
      '',
      `median ${unit}`,
      'min - max',
      `minus ${base ?? yardstick}`,
      `${base ? 'that ' : ''}to ${yardstick}`,
    ],
    summary.map(({ name, median: middle, min, max, difference, ratio }) => [
      name,
      number(middle),
      `${number(min)} - ${number(max)}`,
      name === (base ?? yardstick) ? '' : `${difference < 0 ? '' : '+'}${number(difference)}`,
      name === base || name === yardstick ? '' : `${ratio.toFixed(2)} x`,
    ]),
  );
}

export function printColumns(title, head, lines) {
  const widths = head.map((text, column) =>
    Math.max(text.length, ...lines.map((line) => line[column].length)),
  );
  console.log(`\n${title}`);
  for (const line of [head, ...lines]) {
    const cells = line.map((text, column) =>
      column === 0 ? text.padEnd(widths[column]) : text.padStart(widths[column]),
    );
    console.log(`  ${cells.join('   ')}`.trimEnd());
  }
}

/** What the table cannot show: a peer that is missing, a target. */
export function note(text) {
  console.log(`  ${text}`);
}

/** Says whether it was met, for each of our rows that it is about. @returns that, for the record */
export function target(what, most, found, digits = 2) {
  const rows = found.map(({ name, value }) => ({ name, value, isMet: value <= most }));
  const each = rows.map(
    ({ name, value, isMet }) => `${name} ${value.toFixed(digits)}, ${isMet ? 'met' : 'MISSED'}`,
  );
  note(`target: ${what}: ${each.length > 0 ? each.join('; ') : 'NOT MEASURED'}`);
  return { what, most, rows };
}

/** Our init in front of a command: staying, and on. */
export function initRows(builds, command, directory) {
  return builds.flatMap(({ init, suffix }, index) =>
    init === undefined
      ? []
      : [
          { name: `ddbg-init --init${suffix}`, argv: [init, '--init', '--', ...command] },
          {
            name: `ddbg-init, stayalive${suffix}`,
            argv: [init, `--state-dir=${join(directory, `state-${index}`)}`, '--', ...command],
            environment: { DEBUG: 'stayalive' },
          },
        ],
  );
}
