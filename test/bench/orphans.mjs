/**
 * What it costs to bury 10,000 orphans, in batches of a hundred, and how long they lie about as zombies. Each init is
 * PID 1 of a PID namespace of its own, as in a container: dumb-init reaps nothing otherwise. Needs root for that.
 */
import {
  compile,
  driveRounds,
  initRows,
  note,
  PEER,
  peerRows,
  printTable,
  summarise,
  target,
} from './measure.mjs';

const ORPHANS = 10_000;
const MOST_OF_PEER = 1.2;
const MOST_ZOMBIE_MS = 100;

export async function benchOrphans({ builds, directory, runs }) {
  if (process.getuid() !== 0) {
    console.log('\norphans: NOT MEASURED, only root can make a PID namespace here');
    return null;
  }
  const [driver] = compile(directory, 'orphans.c');
  const command = [driver, 'command', String(ORPHANS)];
  const rows = [...peerRows(command), ...initRows(builds, command, directory)];
  const printed = driveRounds(driver, rows, runs + 1).map((rounds) => rounds.slice(1));
  const column = (at) =>
    rows.map(({ name }, index) => ({ name, values: printed[index].map((values) => values[at] / 1e6) }));
  const yardstick = rows.some(({ name }) => name === PEER) ? PEER : rows[0].name;
  const cpu = summarise(column(0), yardstick);
  const title = `orphans: CPU time of the init itself for ${ORPHANS} of them, ${runs} rounds`;
  printTable(title, cpu, { yardstick });
  const oldest = column(1).map(({ name, values }) => ({ name, value: Math.max(...values) }));
  note(
    `oldest zombie seen (looked for every 5 ms), ms: ${oldest.map(({ name, value }) => `${name} ${value.toFixed(0)}`).join(', ')}`,
  );
  const isOurs = ({ name }) => name.startsWith('ddbg-init');
  const targets = [
    target(
      `at most ${MOST_OF_PEER} x of ${PEER}'s CPU time`,
      MOST_OF_PEER,
      cpu
        .filter((row) => yardstick === PEER && isOurs(row))
        .map(({ name, ratio }) => ({ name, value: ratio })),
    ),
    target(`no zombie older than ${MOST_ZOMBIE_MS} ms`, MOST_ZOMBIE_MS, oldest.filter(isOurs), 0),
  ];
  return { unit: 'ms', targets, rows: cpu, oldest };
}
