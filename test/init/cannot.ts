/**
 * What qemu-user 7.2 cannot let arm64's programs do: each case with the reason, measured by running it. It is said in
 * the output and left out; everything else in this folder runs in the project init-arm64 as it is.
 */
import { basename } from 'node:path';
import { afterAll, beforeEach, type RunnerTask, type RunnerTestFile } from 'vitest';

const IGNORED =
  'who ignores a fatal signal has a handler of the emulator there, and execve(2) makes a handler the default';
const SHIFTED =
  'it keeps two of the host’s real-time signals to itself and has other numbers for the rest: 37 is 35';
const FAULTS =
  'it blocks none of these for all of its threads: the second dies of ILL and FPE, BUS and SEGV can miss the signalfd';
const OF_LIBC = 'signals 32 and 33 are those of the libc it is built with';
const VARIABLES = 'it keeps variables by their names: one of each, and none without a =';
const LATE =
  'it takes a stop and the CONT behind it when it gets to them: 3 of 90 runs stood still, of 160 without it none';
const MEMORY = 'the translator and what it has translated are in the same process, 11 MB';

/** By file. A name is that of a test, or of a describe with all that is in it. */
const CANNOT: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'node-dies.test.ts': {
    'parked > so does what the map names': SHIFTED,
    'parked > it waits in 100 kB': MEMORY,
  },
  'signals.test.ts': {
    'off > each signal arrives exactly once: ILL, BUS, FPE and SEGV': FAULTS,
    'on > each signal arrives exactly once: ILL, BUS, FPE and SEGV': FAULTS,
    'off > each signal arrives exactly once: 32 and 33': OF_LIBC,
    'on > each signal arrives exactly once: 32 and 33': OF_LIBC,
    'off > --stop-signal-map=TERM:RTMIN+3: 15 arrives as 37, and is a stop': SHIFTED,
    'on > --stop-signal-map=TERM:RTMIN+3: 15 arrives as 37, and is a stop': SHIFTED,
    'off > --stop-signal-map=RTMAX-5:INT: 59 arrives as 2, and is a stop': SHIFTED,
    'on > --stop-signal-map=RTMAX-5:INT: 59 arrives as 2, and is a stop': SHIFTED,
    'off > an ignored HUP stays ignored: nohup': IGNORED,
    'on > an ignored HUP stays ignored: nohup': IGNORED,
  },
  'statuses.test.ts': {
    'off > death by each fatal real-time signal is 128+N': SHIFTED,
    'on > death by each fatal real-time signal is 128+N': SHIFTED,
  },
  'terminal.test.ts': {
    "'off' > from the background to the front: fg gives it the terminal": LATE,
    "'on' > from the background to the front: fg gives it the terminal": LATE,
    "'off' > fg that comes while the command is just stopping: it goes on at once": LATE,
    "'on' > fg that comes while the command is just stopping: it goes on at once": LATE,
  },
  'transparency.test.ts': {
    'HUP ignored': IGNORED,
    'PIPE and a real-time signal ignored': IGNORED,
    'a signal of libc’s own blocked': OF_LIBC,
    'a variable twice, and ones that are none': VARIABLES,
    'tini > changes at least what we change': IGNORED,
  },
};

const entriesOf = (file: string) => Object.entries(CANNOT[basename(file)] ?? {});
const isIn = (entry: string, test: string) => test === entry || test.startsWith(`${entry} > `);

let file: RunnerTestFile | undefined;

beforeEach(({ task, skip }) => {
  file = task.file;
  const [, reason] = entriesOf(file.name).find(([entry]) => isIn(entry, task.fullTestName)) ?? [];
  if (reason === undefined) return;
  process.stderr.write(`NOT TESTED with arm64: ${task.fullName}: ${reason}\n`);
  skip(reason);
});

afterAll(() => {
  const { name = '', tasks = [] } = file ?? {};
  const tests = testsIn(tasks);
  for (const [entry] of entriesOf(name)) {
    if (!tests.some((test) => isIn(entry, test)))
      throw new Error(`cannot.ts: ${name} has no test '${entry}'`);
  }
});

function testsIn(tasks: readonly RunnerTask[]): string[] {
  return tasks.flatMap((task) => (task.type === 'suite' ? testsIn(task.tasks) : task.fullTestName));
}
