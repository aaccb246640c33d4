/**
 * What the workbench costs: `ddbg status` from start to end beside `node -e 0`, and what watching a command that does
 * nothing takes of a processor, beside the same with only verbose, where nothing is sampled.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  ENVIRONMENT,
  findProgram,
  median,
  NODE,
  NODE_ARGV,
  printColumns,
  printTable,
  runRounds,
  runToEnd,
  summarise,
  target,
} from './measure.mjs';

const MOST_MS_OVER_NODE = 30;
const MOST_PERCENT = 0.5;
/** Behind the first seconds, in which it looks more often, and V8 compiles. */
const SETTLED_MS = 15_000;
const WATCHED_MS = 10_000;
const TICKS_A_SECOND = 100;

export async function benchTool({ builds, directory, runs }) {
  return {
    status: await benchStatus(builds, directory, runs),
    sampling: await benchSampling(builds, directory),
  };
}

async function benchStatus(builds, directory, runs) {
  const held = [];
  try {
    for (const { cli, init, suffix } of builds) {
      const state = join(directory, `tool${suffix}`);
      held.push(await startEntry(init ?? cli, state, ['false'], 'stayalive', 'let it go'));
    }
    const rows = [
      { name: NODE, measure: () => runToEnd(NODE_ARGV).ms },
      ...builds.flatMap(({ cli, suffix }) => {
        const ddbg = (...args) => [
          process.execPath,
          join(dirname(cli), 'ddbg.cjs'),
          `--state-dir=${join(directory, `tool${suffix}`)}`,
          ...args,
        ];
        return [
          { name: `ddbg status${suffix}`, measure: () => runToEnd(ddbg('status')).ms },
          { name: `ddbg report${suffix}`, measure: () => runToEnd(ddbg('report')).ms },
        ];
      }),
    ];
    const summary = summarise(runRounds(rows, runs), NODE);
    printTable(`ddbg, from start to end, ${runs} rounds`, summary, { yardstick: NODE });
    const found = summary
      .filter(({ name }) => name.startsWith('ddbg status'))
      .map(({ name, difference }) => ({ name, value: difference }));
    const reached = target(
      `ddbg status at most ${NODE} + ${MOST_MS_OVER_NODE} ms`,
      MOST_MS_OVER_NODE,
      found,
      1,
    );
    return { unit: 'ms', targets: [reached], rows: summary };
  } finally {
    for (const child of held) await end(child);
  }
}

/**
 * Of node, the only one that looks: user and system time of its process, all threads. As root in a PID namespace of its
 * own, for it looks at all processes there are, and a machine has more of them than a container.
 */
async function benchSampling(builds, directory) {
  const command = [findProgram('sleep'), '1000'];
  const isAlone = process.getuid() === 0 && findProgram('unshare') !== undefined;
  const front = isAlone ? ['unshare', '--pid', '--fork', '--mount-proc', '--kill-child'] : [];
  const rows = builds.flatMap(({ init, suffix }) =>
    init === undefined
      ? []
      : ['verbose', 'stayalive'].map((word) => ({ name: `${word}${suffix}`, init, word, values: [] })),
  );
  for (let round = 0; round < 3; round += 1) {
    for (const row of rows) {
      const state = join(directory, `sampling-${row.name}-${round}`);
      const child = await startEntry(row.init, state, command, row.word, undefined, front);
      try {
        await sleep(SETTLED_MS);
        const node = nodeBelow(entryOf(child.pid));
        const before = ticksOf(node);
        await sleep(WATCHED_MS);
        row.values.push(((ticksOf(node) - before) / TICKS_A_SECOND / (WATCHED_MS / 1_000)) * 100);
      } finally {
        await end(child);
      }
    }
  }
  printColumns(
    `watching a command${isAlone ? ', in a PID namespace of its own' : ''}, % of a processor, median of 3 times ${WATCHED_MS / 1_000} s (a clock tick is 0.1 %)`,
    ['', 'median', 'all'],
    rows.map(({ name, values }) => [
      name,
      median(values).toFixed(2),
      values.map((value) => value.toFixed(2)).join(' '),
    ]),
  );
  const found = rows
    .filter(({ word }) => word === 'stayalive')
    .map(({ name, values }) => ({ name, value: median(values) }));
  return {
    unit: '%',
    targets: [target(`sampling at most ${MOST_PERCENT} % of a core`, MOST_PERCENT, found)],
    rows,
  };
}

/** Comes back when it has said that, or when its command runs. */
async function startEntry(file, state, command, word, says, front = []) {
  const [program, ...words] = [...front, file, `--state-dir=${state}`, '--', ...command];
  const child = spawn(program, words, {
    env: { ...ENVIRONMENT, DEBUG: word },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  process.on('exit', () => child.kill('SIGKILL'));
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text) => {
    said += text;
  });
  while (says !== undefined && !said.includes(says)) await sleep(10);
  while (says === undefined && !childrenOf(entryOf(child.pid)).some((pid) => nameOf(pid) === 'sleep'))
    await sleep(10);
  return child;
}

async function end(child) {
  for (const pid of childrenOf(entryOf(child.pid))) process.kill(pid, 'SIGKILL');
  child.kill('SIGKILL');
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
}

/** Behind unshare(1). */
function entryOf(pid) {
  return nameOf(pid) === 'unshare' ? (childrenOf(pid)[0] ?? pid) : pid;
}

function nodeBelow(pid) {
  const node = childrenOf(pid).find((child) => nameOf(child) !== 'sleep');
  if (node === undefined) throw new Error('there is no node below the init');
  return node;
}

function childrenOf(pid) {
  return (readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').match(/\d+/g) ?? []).map(Number);
}

function nameOf(pid) {
  return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
}

function ticksOf(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return Number(fields[11]) + Number(fields[12]);
}
