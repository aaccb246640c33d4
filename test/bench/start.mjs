/**
 * How much later the command starts. Its first instruction is what counts, not its end: a tiny static program writes
 * CLOCK_MONOTONIC as the first thing in main(), and that is compared with the same clock just before the spawn.
 *
 * Off, what other inits add to the bare command is the yardstick; on, `node -e 0` from spawn to exit: what any program
 * on this Node costs. The rest is ours.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync, realpathSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import {
  compile,
  driveRounds,
  ENVIRONMENT,
  findProgram,
  NODE,
  NODE_ARGV,
  note,
  PEER,
  peerRows,
  printTable,
  ROUNDS_A_RUN,
  summarise,
  target,
} from './measure.mjs';

const BARE = 'bare command';
const MOST_OF_PEER = 0.25;
const MOST_MS_OVER_NODE = 20;

export async function benchStart({ builds, directory, runs }) {
  const [driver, probe] = compile(directory, 'start.c', 'first-instruction.c');
  const rounds = runs * ROUNDS_A_RUN;
  const off = benchOff({
    builds,
    driver,
    rounds,
    command: [probe],
    until: "its command's first instruction",
  });
  const whole = benchOff({ builds, driver, rounds, command: ['/bin/true'], until: 'the end of /bin/true' });
  const traces = [];
  for (const { init, suffix } of builds) if (init) traces.push(await lookForTraces(init, suffix));
  return { off, whole, traces, on: benchOn({ builds, driver, runs, probe, directory }) };
}

function benchOff({ builds, driver, rounds, command, until }) {
  const rows = [
    { name: BARE, argv: command },
    ...peerRows(command),
    ...builds.flatMap(({ init, suffix }) =>
      init === undefined
        ? []
        : [
            { name: `ddbg-init, off${suffix}`, argv: [init, '--', ...command] },
            { name: `ddbg-init --init${suffix}`, argv: [init, '--init', '--', ...command] },
          ],
    ),
  ];
  const column = command[0] === '/bin/true' ? 1 : 0;
  const printed = driveRounds(driver, rows, rounds + 1);
  const samples = rows.map(({ name }, index) => ({
    name,
    values: printed[index].slice(1).map((values) => values[column] / 1e3),
  }));
  const hasPeer = rows.some(({ name }) => name === PEER);
  const against = hasPeer ? { yardstick: PEER, base: BARE } : { yardstick: BARE };
  const summary = summarise(samples, against.yardstick, against.base);
  printTable(`start, off: from spawn to ${until}, ${rounds} rounds`, summary, { ...against, unit: 'us' });
  const ours = hasPeer ? summary.filter(({ name }) => name.startsWith('ddbg-init, off')) : [];
  const reached = target(
    `off adds at most ${MOST_OF_PEER} x of what ${PEER} adds`,
    MOST_OF_PEER,
    ours.map(({ name, ratio }) => ({ name, value: ratio })),
  );
  return { until, unit: 'us', targets: [reached], rows: summary };
}

/** Off, is it the command and nothing else? Whatever /proc says of it is what it says of the bare command. */
async function lookForTraces(init, suffix) {
  const command = [findProgram('cat')];
  const bare = await look(command);
  const off = await look([init, '--', ...command]);
  const { rssKb: bareKb, ...bareFacts } = bare;
  const { rssKb, ...facts } = off;
  const isTraceless = isDeepStrictEqual(facts, bareFacts);
  note(
    isTraceless
      ? `off${suffix}, /proc: the same process is ${facts.program}; its files in memory (${facts.mapped.length}), descriptors, children, signals and environment are the bare command's; ${rssKb} kB, bare ${bareKb} kB`
      : `OFF LEAVES A TRACE${suffix}: ${JSON.stringify(facts)}, bare: ${JSON.stringify(bareFacts)}`,
  );
  return { isTraceless, ...off, bareKb };
}

async function look(argv) {
  const child = spawn(argv[0], argv.slice(1), { env: ENVIRONMENT, stdio: ['pipe', 'ignore', 'ignore'] });
  try {
    const place = `/proc/${child.pid}`;
    const read = (name) => readFileSync(join(place, name), 'utf8');
    const program = realpathSync(argv.at(-1));
    // It reads its stdin, so it is through with its own start.
    while (readlinkSync(`${place}/exe`) !== program || !/^State:\s+S/m.test(read('status'))) await sleep(5);
    const status = read('status');
    return {
      program,
      command: read('cmdline').split('\0').slice(0, -1),
      environment: read('environ').split('\0').slice(0, -1),
      mapped: [...new Set(read('maps').match(/\/.*$/gm))],
      descriptors: readdirSync(`${place}/fd`),
      children: read(`task/${child.pid}/children`),
      parent: Number(/^PPid:\s+(\d+)/m.exec(status)[1]),
      signals: status.match(/^Sig(Blk|Ign|Cgt):.*$/gm),
      rssKb: Number(/^VmRSS:\s+(\d+)/m.exec(status)[1]),
    };
  } finally {
    child.stdin.end();
    if (child.exitCode === null) await once(child, 'exit');
  }
}

function benchOn({ builds, driver, runs, probe, directory }) {
  const stateDir = join(directory, 'state');
  const row = (name, file, environment) => ({
    name,
    argv: [file, `--state-dir=${join(stateDir, name)}`, '--', probe],
    environment,
  });
  const rows = [
    { name: NODE, argv: NODE_ARGV },
    ...builds.flatMap(({ cli, init, suffix }) => [
      row(`cli.cjs, off${suffix}`, cli, {}),
      row(`cli.cjs, stayalive${suffix}`, cli, { DEBUG: 'stayalive' }),
      row(`cli.cjs, verbose${suffix}`, cli, { DEBUG: 'verbose' }),
      ...(init === undefined
        ? []
        : [
            row(`ddbg-init, stayalive${suffix}`, init, { DEBUG: 'stayalive' }),
            row(`ddbg-init, verbose${suffix}`, init, { DEBUG: 'verbose' }),
          ]),
    ]),
  ];
  const samples = rows.map(({ name }) => ({ name, values: [] }));
  for (let round = -1; round < runs; round += 1) {
    rmSync(stateDir, { recursive: true, force: true }); // a container starts without one
    driveRounds(driver, rows, 1).forEach(([[first, end]], index) => {
      if (round >= 0) samples[index].values.push((rows[index].name === NODE ? end : first) / 1e6);
    });
  }
  const summary = summarise(samples, NODE);
  printTable(`start, on: from spawn to the command's first instruction, ${runs} rounds`, summary, {
    yardstick: NODE,
  });
  const reached = target(
    `on at most ${NODE} + ${MOST_MS_OVER_NODE} ms, on Node 20`,
    MOST_MS_OVER_NODE,
    summary
      .filter(({ name }) => name.startsWith('ddbg-init'))
      .map(({ name, difference }) => ({ name, value: difference })),
    1,
  );
  return { unit: 'ms', targets: [reached], rows: summary };
}
