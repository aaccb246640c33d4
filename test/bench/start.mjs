/**
 * How much later the command starts. Its first instruction is what counts, not its end: a tiny static program writes
 * CLOCK_MONOTONIC as the first thing in main(), and that is compared with the same clock just before the spawn.
 *
 * The yardstick is `node -e 0` from spawn to exit: what any program on this Node costs. The rest is ours.
 */
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  findProgram,
  milliseconds,
  note,
  printTable,
  runRounds,
  runToEnd,
  signed,
  summarise,
} from './measure.mjs';

export const YARDSTICK = 'node -e 0';
const TARGET_MS = 25;
const SOURCE = fileURLToPath(new URL('./first-instruction.c', import.meta.url));

/** Other entrypoints, and how each is called in front of a command. -s: quiet about not being PID 1. */
const PEERS = { tini: ['-s', '--'], 'dumb-init': ['--'], catatonit: ['--'] };

export function benchStart({ builds, directory, runs }) {
  const probe = makeProbe(directory);
  const peers = Object.keys(PEERS).filter((name) => findProgram(name) !== undefined);
  const rows = [
    nodeRow(),
    { name: 'bare command', measure: () => probe.measure([]) },
    ...peers.map((name) => ({ name, measure: () => probe.measure([findProgram(name), ...PEERS[name]]) })),
    ...builds.flatMap((build) => entryRows(build, probe, join(directory, 'state'))),
  ];
  const summary = summarise(runRounds(rows, runs), YARDSTICK);
  printTable(`start: from spawn to ${probe.until}, ${runs} rounds`, summary, YARDSTICK);
  note(`target: ddbg-entry with a word in DEBUG at most ${YARDSTICK} ${signed(TARGET_MS)} ms, on Node 20`);
  const missing = Object.keys(PEERS).filter((name) => !peers.includes(name));
  if (missing.length > 0) note(`not in PATH, so not compared: ${missing.join(', ')}`);
  return { until: probe.until, targetMs: TARGET_MS, rows: summary };
}

export function nodeRow() {
  return { name: YARDSTICK, measure: () => runToEnd([process.execPath, '-e', '0']).ms };
}

function entryRows({ name, cli }, probe, stateDir) {
  const prefix = [cli, `--state-dir=${stateDir}`, '--'];
  const measure = (environment) => {
    rmSync(stateDir, { recursive: true, force: true }); // a container starts without one
    return probe.measure(prefix, environment);
  };
  return [
    { name: `${name}, off`, measure: () => measure({}) },
    { name: `${name}, stayalive`, measure: () => measure({ DEBUG: 'stayalive' }) },
    { name: `${name}, verbose`, measure: () => measure({ DEBUG: 'verbose' }) },
  ];
}

/** The command that tells when it started; without a C compiler one that only tells when it has ended. */
function makeProbe(directory) {
  const program = join(directory, 'first-instruction');
  const compiler = findProgram('gcc') ?? findProgram('cc');
  if (compiler !== undefined) {
    const { status, stderr } = spawnSync(compiler, ['-O2', '-static', '-o', program, SOURCE], {
      encoding: 'utf8',
    });
    if (status === 0) {
      return {
        until: "the command's first instruction",
        measure: (prefix, environment) => {
          const { startedAt, stdout } = runToEnd([...prefix, program], environment);
          return milliseconds(startedAt, BigInt(stdout));
        },
      };
    }
    note(`${compiler} cannot build ${SOURCE}: ${stderr.trim()}`);
  }
  note('NO WORKING C COMPILER: the rows below show whole runs of /bin/true, its end and our exit included');
  return {
    until: 'the end of /bin/true',
    measure: (prefix, environment) => runToEnd([...prefix, '/bin/true'], environment).ms,
  };
}
