/**
 * Rounds, medians and the table: what both benches need to be comparable with themselves.
 */
import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';

/** The node that runs the bench is the node that runs ddbg-entry (its first line says `env node`). */
const PATH = [dirname(process.execPath), process.env.PATH ?? '/usr/bin:/bin'].join(delimiter);

/** No DEBUG, NODE_OPTIONS or npm_* of whoever started the bench: every row gets the same few variables. */
export const ENVIRONMENT = { PATH, HOME: '/', LC_ALL: 'C' };

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

/** CLOCK_MONOTONIC, in nanoseconds. */
export const now = () => process.hrtime.bigint();

/** Runs argv to its end. A row that did not do its work must not look fast: any other status than 0 ends the bench. */
export function runToEnd(argv, environment = {}) {
  const [file, ...args] = argv;
  const env = { ...ENVIRONMENT, ...environment };
  const startedAt = now();
  const { status, signal, error, stdout, stderr } = spawnSync(file, args, {
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
  });
  const endedAt = now();
  if (status !== 0)
    throw new Error(`${argv.join(' ')}: ${error?.message ?? signal ?? `status ${status}`}\n${stderr}`);
  return { startedAt, endedAt, ms: milliseconds(startedAt, endedAt), stdout };
}

export function milliseconds(from, to) {
  return Number(to - from) / 1e6;
}

/**
 * Runs every row once a round, so that a slow moment of the machine meets them all.
 *
 * @param rows [{ name, measure }], measure() returns milliseconds
 * @returns per row its name and the milliseconds of each round; the warm-up round is not among them
 */
export function runRounds(rows, runs) {
  const samples = rows.map(({ name }) => ({ name, ms: [] }));
  for (let round = -1; round < runs; round += 1) {
    rows.forEach((row, index) => {
      const ms = row.measure();
      if (round >= 0) samples[index].ms.push(ms);
    });
  }
  return samples;
}

/** Each row's median, min and max, and how it stands to the row called `yardstick`, round by round. */
export function summarise(samples, yardstick) {
  const base = samples.find(({ name }) => name === yardstick);
  if (base === undefined) throw new Error(`no row is called ${yardstick}`);
  return samples.map(({ name, ms }) => ({
    name,
    medianMs: median(ms),
    minMs: Math.min(...ms),
    maxMs: Math.max(...ms),
    minusYardstickMs: median(ms.map((value, round) => value - base.ms[round])),
    ratioToYardstick: median(ms.map((value, round) => value / base.ms[round])),
    ms,
  }));
}

function median(values) {
  const sorted = values.toSorted((one, other) => one - other);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

export function printTable(title, summary, yardstick) {
  const lines = summary.map((row) => [
    row.name,
    row.medianMs.toFixed(1),
    `${row.minMs.toFixed(1)} - ${row.maxMs.toFixed(1)}`,
    row.name === yardstick ? '' : signed(row.minusYardstickMs),
    row.name === yardstick ? '' : `${row.ratioToYardstick.toFixed(2)} x`,
  ]);
  const head = ['', 'median ms', 'min - max', `minus ${yardstick}`, `to ${yardstick}`];
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

export function signed(ms) {
  return `${ms < 0 ? '' : '+'}${ms.toFixed(1)}`;
}

/** What the table cannot show: a peer that is missing, a target. */
export function note(text) {
  console.log(`  ${text}`);
}
