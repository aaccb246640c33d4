/**
 * How long a signal takes from kill(2) on the init to the first instruction of the command's handler: USR1, which
 * means nothing to us, and TERM, which is a stop. On, node is told of each, and is there to be told.
 */
import {
  compile,
  driveRounds,
  initRows,
  PEER,
  peerRows,
  printTable,
  ROUNDS_A_RUN,
  summarise,
  target,
} from './measure.mjs';

const BARE = 'bare command';
const MOST_OF_PEER = 2;

export async function benchSignals({ builds, directory, runs }) {
  const [driver] = compile(directory, 'signals.c');
  const command = [driver, 'command'];
  const rows = [{ name: BARE, argv: command }, ...peerRows(command), ...initRows(builds, command, directory)];
  const rounds = runs * ROUNDS_A_RUN;
  const printed = driveRounds(driver, rows, rounds + 1);
  const yardstick = rows.some(({ name }) => name === PEER) ? PEER : BARE;
  return Object.fromEntries(
    ['USR1', 'TERM'].map((signal) => {
      const samples = rows.map(({ name }, index) => ({
        name,
        values: printed[index]
          .filter(([of]) => of === signal)
          .slice(1)
          .map(([, nanoseconds]) => nanoseconds / 1e3),
      }));
      const summary = summarise(samples, yardstick);
      const title = `signals: ${signal}, from kill(2) to the command's handler, ${rounds} rounds`;
      printTable(title, summary, { yardstick, unit: 'us' });
      return [signal, { unit: 'us', targets: [reach(summary, yardstick)], rows: summary }];
    }),
  );
}

function reach(summary, yardstick) {
  const ours = summary.filter(({ name }) => yardstick === PEER && name.startsWith('ddbg-init'));
  return target(
    `at most ${MOST_OF_PEER} x of ${PEER}`,
    MOST_OF_PEER,
    ours.map(({ name, ratio }) => ({ name, value: ratio })),
  );
}
