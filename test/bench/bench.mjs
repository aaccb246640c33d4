#!/usr/bin/env node
/**
 * What ddbg-entry costs, beside what else could stand in its place: the start of the command (start), holding a
 * container (park), passing a signal on (signals), reaping (orphans), an overlay (overlay), keeping the output
 * (record), ddbg and the sampling behind it (tool). Says of each target whether it was met, and fails on no number.
 *
 *     npm run bench
 *     node test/bench/bench.mjs [start|park|signals|orphans|overlay|record|tool ...] [--runs=N] [--json=FILE]
 *                               [--also=PATH/TO/OTHER/dist/cli.cjs ...]
 *
 * The peers are Debian's packages: apt-get install gcc tini dumb-init catatonit curl.
 *
 * How to read it: a machine's milliseconds say little, they differ from one minute to the next, and say nothing at a
 * load above its cores. So every round runs each row once, one after the other (A B C, A B C ...), and what counts is
 * the last two columns: the difference and the ratio to the row named there, taken within each round, then the median
 * of those. The first round warms caches and is thrown away; what takes a millisecond or less gets twenty rounds a
 * run. --also puts another build into the same rounds, to see what a change is worth; its rows end with (2), the next
 * one's with (3).
 */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { arch, availableParallelism, loadavg, release, tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { findProgram } from './measure.mjs';
import { benchOrphans } from './orphans.mjs';
import { benchOverlay } from './overlay.mjs';
import { benchPark } from './park.mjs';
import { benchRecord } from './record.mjs';
import { benchSignals } from './signals.mjs';
import { benchStart } from './start.mjs';
import { benchTool } from './tool.mjs';

const BENCHES = {
  start: benchStart,
  park: benchPark,
  signals: benchSignals,
  orphans: benchOrphans,
  overlay: benchOverlay,
  record: benchRecord,
  tool: benchTool,
};
/** Node's clock and kill are too coarse for these. */
const IN_C = ['start', 'signals', 'orphans'];
const DEFAULT_RUNS = { start: 15, park: 5, signals: 15, orphans: 5, overlay: 5, record: 5, tool: 15 };
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
const builds = [BUILT, ...options.also.map((path) => resolve(path))].map((cli, index) => {
  const init = join(dirname(cli), 'init', `linux-${arch()}`, 'ddbg-init');
  return { cli, init: existsSync(init) ? init : undefined, suffix: index === 0 ? '' : ` (${index + 1})` };
});

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

const machine = `Node ${process.version}, ${arch()}, ${availableParallelism()} cores, Linux ${release()}, load ${loadavg()[0].toFixed(1)}`;
console.log(machine);
for (const { cli, init, suffix } of builds) {
  if (suffix !== '') console.log(`${suffix.trim()} is ${cli}`);
  if (init === undefined) console.log(`NOT MEASURED: ${cli} has no native init beside it`);
}
const results = {};
for (const name of wanted) {
  if (IN_C.includes(name) && findProgram('gcc') === undefined) {
    console.log(`\n${name}: NOT MEASURED, there is no gcc (apt-get install gcc libc6-dev)`);
    continue;
  }
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
