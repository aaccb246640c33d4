/**
 * What a container costs while nothing happens in it: held after a fault by our init alone, against tini in front of a
 * command that sleeps, and against bash that waits for a sleep, which is how ceph's stayalive holds one (the sum of
 * the two). Memory is what is mapped and there (Rss); pages of files, which others may share, are in it, and not in "own".
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  ENVIRONMENT,
  findProgram,
  median,
  note,
  PEER,
  peerRows,
  printColumns,
  summarise,
  target,
} from './measure.mjs';

const MOST_KB = 100;
const WATCHED_MS = 2000;
const PATIENCE_MS = 20_000;

/** As many variables as a container has: they lie on the stack of each. */
const CONTAINER = {
  ...ENVIRONMENT,
  HOSTNAME: '3f1c5f0d9a4e',
  HOME: '/root',
  TERM: 'xterm',
  LANG: 'C.UTF-8',
  TZ: 'Etc/UTC',
  NODE_VERSION: '20.20.2',
  APP_ENV: 'production',
  DATABASE_URL: 'postgres://app:secret@database:5432/app',
  REDIS_URL: 'redis://redis:6379/0',
};

export async function benchPark({ builds, directory, runs }) {
  const rows = makeRows(builds);
  const measured = rows.map(() => []);
  for (let round = 0; round < runs; round += 1) {
    const running = [];
    try {
      for (const row of rows) running.push(await start(row, directory));
      const before = running.map(({ pids }) => switches(pids));
      await sleep(WATCHED_MS);
      running.forEach(({ pids }, index) => {
        measured[index].push({ ...memory(pids), switches: switches(pids) - before[index] });
      });
    } finally {
      for (const { end } of running) await end();
    }
  }
  return report(rows, measured, runs);
}

/** `counts`: how many processes of the row are ours to count, from the first one; what sleeps stands for the command. */
function makeRows(builds) {
  const sleeping = [findProgram('sleep'), '1000'];
  const waiting = (row) => ({ ...row, processes: 2, counts: 1 });
  const parked = (name, file) => ({
    name,
    argv: (state) => [file, `--state-dir=${state}`, '--', 'false'],
    environment: { DEBUG: 'stayalive' },
    says: 'the container stays',
    processes: 1,
    counts: 1,
  });
  return [
    ...peerRows(sleeping).map((row) => waiting({ ...row, name: `${row.name}, waiting` })),
    { name: 'bash + sleep', argv: [findProgram('bash'), '-c', 'sleep 1000; exit'], processes: 2, counts: 2 },
    ...builds.flatMap(({ cli, init, suffix }) => [
      parked(`cli.cjs, parked${suffix}`, cli),
      ...(init === undefined
        ? []
        : [
            waiting({
              name: `ddbg-init --init, waiting${suffix}`,
              argv: [init, '--init', '--', ...sleeping],
            }),
            parked(`ddbg-init, parked${suffix}`, init),
          ]),
    ]),
  ];
}

/** Comes back when everything of the row is there and rests. */
async function start({ name, argv, environment, says = '', processes, counts }, directory) {
  const place = mkdtempSync(join(directory, 'park-'));
  const said = join(place, 'said');
  const [file, ...args] = typeof argv === 'function' ? argv(join(place, 'state')) : argv;
  const output = openSync(said, 'w');
  const child = spawn(file, args, {
    env: { ...CONTAINER, ...environment },
    stdio: ['ignore', 'ignore', output],
  });
  closeSync(output);
  const kill = () => {
    for (const pid of tree(child.pid)) process.kill(pid, 'SIGKILL');
  };
  process.on('exit', kill); // Ctrl-C
  const end = async () => {
    kill();
    process.off('exit', kill);
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  };
  const giveUpAt = performance.now() + PATIENCE_MS;
  for (;;) {
    const pids = tree(child.pid);
    const isThere = pids.length === processes && (processes === 1 || nameOf(pids.at(-1)) === 'sleep');
    if (isThere && readFileSync(said, 'utf8').includes(says)) return { pids: pids.slice(0, counts), end };
    if (performance.now() > giveUpAt) {
      await end();
      throw new Error(`${name} does not come to rest:\n${readFileSync(said, 'utf8')}`);
    }
    await sleep(20);
  }
}

/** The process and all below it, as long as they are there. */
function tree(pid) {
  const children = readOf(pid, `task/${pid}/children`);
  if (children === undefined) return [];
  return [pid, ...(children.match(/\d+/g) ?? []).flatMap((child) => tree(Number(child)))];
}

const nameOf = (pid) => readOf(pid, 'comm')?.trim();

function readOf(pid, file) {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return undefined; // it has ended
  }
}

function sum(pids, file, ...names) {
  const number = (text, name) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text)[1]);
  return pids
    .map((pid) => readFileSync(`/proc/${pid}/${file}`, 'utf8'))
    .flatMap((text) => names.map((name) => number(text, name)))
    .reduce((one, other) => one + other, 0);
}

/** Not VmRSS of `status`: on some kernels it is only near the truth, by more than we have in all. */
const memory = (pids) => ({
  rssKb: sum(pids, 'smaps_rollup', 'Rss'),
  ownKb: sum(pids, 'smaps_rollup', 'Private_Clean', 'Private_Dirty'),
  threads: sum(pids, 'status', 'Threads'),
});

const switches = (pids) => sum(pids, 'status', 'voluntary_ctxt_switches', 'nonvoluntary_ctxt_switches');

function report(rows, measured, runs) {
  const samples = rows.map(({ name }, index) => ({
    name,
    values: measured[index].map(({ rssKb }) => rssKb),
  }));
  const peer = `${PEER}, waiting`;
  const summary = summarise(samples, rows.some(({ name }) => name === peer) ? peer : rows[0].name).map(
    (row, index) => ({
      ...row,
      ownKb: median(measured[index].map(({ ownKb }) => ownKb)),
      threads: median(measured[index].map(({ threads }) => threads)),
      switches: median(measured[index].map((each) => each.switches)),
    }),
  );
  printColumns(
    `park: resident memory, ${runs} rounds`,
    ['', 'median kB', 'min - max', 'own kB', `to ${peer}`, 'threads', `switches in ${WATCHED_MS / 1000} s`],
    summary.map((row) => [
      row.name,
      String(row.median),
      `${row.min} - ${row.max}`,
      String(row.ownKb),
      `${row.ratio.toFixed(2)} x`,
      String(row.threads),
      String(row.switches),
    ]),
  );
  const ours = summary.filter(({ name }) => name.startsWith('ddbg-init, parked'));
  const found = ours.map(({ name, max }) => ({ name, value: max }));
  const reached = target(`parked at most ${MOST_KB} kB, ever`, MOST_KB, found, 0);
  if (ours.some(({ threads, switches: count }) => threads !== 1 || count !== 0))
    note('A PARKED INIT IS NOT AT REST: it has more than one thread, or has run');
  return { unit: 'kB', targets: [reached], rows: summary };
}
