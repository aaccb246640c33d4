#!/usr/bin/env node
/**
 * What ddbg-entry costs: how much later the command starts, and how long an overlay takes. Fails on no number.
 *
 *     npm run bench
 *     node test/bench/bench.mjs [start] [overlay] [--runs=15] [--json=FILE] [--also=PATH/TO/OTHER/dist/cli.cjs ...]
 *
 * How to read it: a machine's milliseconds say little, they differ from one minute to the next. So every round runs
 * each row once, one after the other (A B C, A B C ...), and what counts is the last two columns: the difference and
 * the ratio to the row named there, taken within each round, then the median of those. The first round warms caches
 * and is thrown away. --also puts another build into the same rounds, to see what a change is worth.
 */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { arch, availableParallelism, release, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { benchOverlay } from './overlay.mjs';
import { benchStart } from './start.mjs';

const BENCHES = { start: benchStart, overlay: benchOverlay };
const DEFAULT_RUNS = { start: 15, overlay: 5 };
const BUILT = fileURLToPath(new URL('../../dist/cli.cjs', import.meta.url));

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    runs: { type: 'string' },
    json: { type: 'string' },
    also: { type: 'string', multiple: true, default: [] },
  },
});
const wanted = positionals.length > 0 ? positionals : Object.keys(BENCHES);
const runs = options.runs === undefined ? undefined : Number(options.runs);
const builds = [
  { name: 'ddbg-entry', cli: BUILT },
  ...options.also.map((path) => ({ name: path, cli: resolve(path) })),
];

for (const name of wanted) {
  if (!Object.hasOwn(BENCHES, name))
    stop(`there is no bench '${name}', only ${Object.keys(BENCHES).join(', ')}`);
}
if (runs !== undefined && !(Number.isInteger(runs) && runs > 0)) stop('--runs takes a whole number above 0');
for (const { cli } of builds) if (!existsSync(cli)) stop(`${cli} is not there: npm run build`);

const directory = mkdtempSync(join(tmpdir(), 'ddbg-bench-'));
process.on('exit', () => rmSync(directory, { recursive: true, force: true }));
process.on('SIGINT', () => process.exit(130));
process.on('SIGTERM', () => process.exit(143));

const machine = `Node ${process.version}, ${arch()}, ${availableParallelism()} cores, Linux ${release()}`;
console.log(machine);
const results = {};
for (const name of wanted) {
  results[name] = await BENCHES[name]({ builds, directory, runs: runs ?? DEFAULT_RUNS[name] });
}
if (options.json !== undefined) {
  const record = { at: new Date().toISOString(), machine, ...results };
  writeFileSync(options.json, `${JSON.stringify(record, undefined, 2)}\n`);
}

function stop(why) {
  console.error(`bench: ${why}`);
  process.exit(2);
}
