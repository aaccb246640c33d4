/** What is sent to the init arrives at the command: every signal, once, with its value, as the map says. */
import { setTimeout } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { signalNumber } from '../../src/outcome.ts';
import { FORWARDED } from '../../src/signals.ts';
import {
  cannotCompile,
  finished,
  inBatches,
  init,
  launchFile,
  look,
  program,
  runInit,
  STAYING,
  type Started,
  start,
  startBare,
  startInit,
  statusLine,
  until,
} from './kit.ts';

/** KILL and STOP cannot be caught, CHLD is the init's own. */
const ALL = Array.from({ length: 64 }, (_, at) => at + 1).filter((number) => ![9, 17, 19].includes(number));
/** Apart are those that an emulator cannot pass on: cannot.ts says why. */
const APART = [4, 7, 8, 11, 32, 33];
const KINDS: [string, readonly number[]][] = [
  ['all others', ALL.filter((number) => !APART.includes(number))],
  ['ILL, BUS, FPE and SEGV', [4, 7, 8, 11]],
  ['32 and 33', [32, 33]],
];

const catcher = (...words: string[]) => [program('tool'), 'catch', ...words];
const got = (entry: Started) =>
  [...entry.stdout().matchAll(/^got (\d+) /gm)].map(([, number]) => Number(number));

/** Sends each, waits for each; then once more the first, behind which a second copy of the others would not stay. */
async function sendEach(entry: Started, numbers: readonly number[]): Promise<void> {
  await entry.waitFor(/ready/);
  for (const number of numbers) {
    entry.signal(number);
    await entry.waitFor(new RegExp(`^got ${number} `, 'm'));
  }
  const [first = 0] = numbers;
  entry.signal(first);
  await until(() => got(entry).length > numbers.length);
  expect(got(entry)).toEqual([...numbers, first]);
}

describe.skipIf(cannotCompile).each(STAYING)('%s', (_, options) => {
  test.each(KINDS)('each signal arrives exactly once: %s', async (_, numbers) => {
    await sendEach(startInit(catcher(), { ...options }), numbers);
  });

  test('a value that was queued with a signal arrives with it, each in its order', async () => {
    const entry = startInit(catcher(), { ...options });
    await entry.waitFor(/ready/);
    const sent = [
      [40, '1'],
      [40, '1099511627783'],
      [40, '3'],
      [10, '4711'],
    ] as const;
    for (const [number, value] of sent) {
      await finished(start([program('tool'), 'send', `${entry.pid}`, `${number}`, value]));
      await entry.waitFor(new RegExp(`^got ${number} -1 ${value}$`, 'm'));
    }
    expect(got(entry)).toEqual([40, 40, 40, 10]);
  });

  test.each([
    ['TERM:QUIT', 15, 3],
    ['SIGTERM:SIGQUIT', 15, 3],
    ['sigterm:quit', 15, 3],
    ['15:3', 15, 3],
    ['USR1:TERM', 10, 15],
    ['TERM:INT,USR1:QUIT', 10, 3],
    ['TERM:RTMIN+3', 15, 37],
    ['RTMAX-5:INT', 59, 2],
    ['WINCH:QUIT', 28, 3],
  ])('--stop-signal-map=%s: %i arrives as %i, and is a stop', async (map, sent, arrives) => {
    const entry = startInit(catcher(`${arrives}`), {
      ...options,
      flags: ['--init', `--stop-signal-map=${map}`],
    });
    await entry.waitFor(/ready/);
    entry.signal(sent);
    expect(await entry.status).toBe(0);
    expect(got(entry)).toEqual([arrives]);
  });
});

describe.skipIf(cannotCompile)('the map', () => {
  test.each(['TERM:QUIT', 'USR1:QUIT'])('%s: a fault that follows is none', async (map) => {
    const command = ['bash', '-c', 'trap "exit 3" QUIT; echo ready; until read -t 0.1 line; do :; done'];
    const env = { DEBUG: 'stayalive' };
    const entry = startInit(command, { flags: [`--stop-signal-map=${map}`], env, stdin: 'pipe' });
    await entry.waitFor(/^ready/m);
    entry.kill(map.startsWith('TERM') ? 'SIGTERM' : 'SIGUSR1');
    expect(await finished(entry)).toEqual({ status: 3, stdout: 'ready\n', stderr: '' });
  });

  test.each(STAYING)('TERM:0 is dropped, what follows is not (%s)', async (_, options) => {
    const entry = startInit(catcher('10'), { ...options, flags: ['--init', '--stop-signal-map=TERM:0'] });
    await entry.waitFor(/ready/);
    entry.signal('SIGTERM');
    entry.signal('SIGUSR1'); // the lower number: it could overtake, so once more
    expect(await entry.status).toBe(0);
    expect(got(entry)).toEqual([10]);
  });

  test('what is dropped is no stop: the fault of an hour later is one', async () => {
    const env = { DEBUG: 'stayalive' };
    const command = ['bash', '-c', 'trap "exit 3" USR1; echo ready; until read -t 0.1 line; do :; done'];
    const entry = startInit(command, { flags: ['--stop-signal-map=TERM:0'], env, stdin: 'pipe' });
    await entry.waitFor(/^ready/m);
    entry.signal('SIGTERM');
    entry.signal('SIGUSR1');
    await entry.waitFor(/exited with status 3[\s\S]*let it go/);
  });
});

describe('bare', () => {
  test.skipIf(cannotCompile)('each of src/signals.ts arrives exactly once', async () => {
    const entry = startBare(catcher(), { env: { DEBUG: 'stayalive' } });
    await sendEach(entry, FORWARDED.map(signalNumber));
  });
});

describe.skipIf(cannotCompile).each(STAYING)('%s', (_, options) => {
  test('TSTP stops the command, CONT continues it, and the init waits', async () => {
    const entry = startInit(['sh', '-c', 'echo ready $$; exec sleep 1000'], options);
    const pid = Number((await entry.waitFor(/ready (\d+)/))[1]);
    await until(() => look(pid)?.state === 'S');
    for (const _ of [1, 2]) {
      entry.signal('SIGTSTP');
      await until(() => look(pid)?.state === 'T');
      await until(() => look(entry.pid)?.state === 'S');
      entry.signal('SIGCONT');
      await until(() => look(pid)?.state === 'S');
    }
    entry.signal('SIGTERM');
    expect(await entry.status).toBe(143);
  });

  test('a command that ignores TERM runs on, the init with it', async () => {
    const command = [
      'bash',
      '-c',
      'trap "" TERM; trap "exit 4" USR1; echo ready $$; until read -t 0.1 x; do :; done',
    ];
    const entry = startInit(command, { ...options, stdin: 'pipe' });
    const pid = Number((await entry.waitFor(/ready (\d+)/))[1]);
    for (let round = 0; round < 5; round++) entry.signal('SIGTERM');
    entry.signal('SIGUSR2'); // behind them: what arrives at the end has not overtaken them
    expect(await entry.status).toBe(128 + 12);
    expect(look(pid)).toBeUndefined();
  });

  const given = (records: readonly string[], command: readonly string[]) => {
    const { flags = [], env = {} } = options as { flags?: readonly string[]; env?: Record<string, string> };
    const variables = { PATH: process.env.PATH ?? '', DDBG_TEST_RUN: '', ...env };
    return launchFile([
      ...records,
      ...[...init.argv, ...flags, '--state-dir=/dev/null/none', '--', ...command].map(
        (word) => `arg ${word}`,
      ),
      ...Object.entries(variables).map(([name, value]) => `env ${name}=${value}`),
    ]);
  };

  test('an ignored HUP stays ignored: nohup', async () => {
    const file = given(['ignore 1'], ['/bin/sh', '-c', 'echo ready $$; read line; exit 0']);
    const entry = start([program('launch'), file], { stdin: 'pipe' });
    const pid = Number((await entry.waitFor(/ready (\d+)/))[1]);
    expect(BigInt(`0x${statusLine(pid, 'SigIgn')}`)).toBe(1n);
    entry.signal('SIGHUP');
    entry.child.stdin?.end('line\n');
    expect(await entry.status).toBe(0);
  });

  test('an ignored CHLD stays ignored, and the status is known all the same', async () => {
    const file = given(['ignore 17'], ['/bin/grep', '-E', 'SigIgn:.*10000$', '/proc/self/status']);
    expect((await finished(start([program('launch'), file]))).status).toBe(0);
  });

  test('blocked signals stay blocked: they wait in the command', async () => {
    const file = given(['block 10', 'block 40'], ['/bin/sh', '-c', 'echo ready $$; read line; exit 0']);
    const entry = start([program('launch'), file], { stdin: 'pipe' });
    const pid = Number((await entry.waitFor(/ready (\d+)/))[1]);
    const bits = (1n << 9n) | (1n << 39n);
    expect(BigInt(`0x${statusLine(pid, 'SigBlk')}`)).toBe(bits);
    entry.signal(10);
    entry.signal(40);
    await until(() => BigInt(`0x${statusLine(pid, 'ShdPnd')}`) === bits);
    entry.child.stdin?.end('line\n');
    expect(await entry.status).toBe(0);
  });
});

test.each([
  ['gone', {}],
  ['off', { flags: ['--init'] }],
  ['on', { env: { DEBUG: 'stayalive' } }],
])('%s: a stop at any moment of the start ends it, as a stop', async (_, options) => {
  const delays = Array.from({ length: 32 }, (_, at) => at * 4); // the moments are what is tested
  const seen = await inBatches(delays, async (delay) => {
    const entry = startInit(['sleep', '1000'], options);
    await setTimeout(delay);
    entry.signal('SIGTERM');
    const status = await entry.status;
    return { status, isFault: entry.stderr().includes('fault') };
  });
  expect(new Set(seen.map((one) => JSON.stringify(one)))).toEqual(
    new Set(['{"status":143,"isFault":false}']),
  );
});

test('nobody takes a signal that is sent to the command itself for a stop', async () => {
  const entry = startInit(['sh', '-c', 'kill -TERM $$'], { env: { DEBUG: 'stayalive' } });
  await entry.waitFor(/was killed by signal SIGTERM[\s\S]*let it go/);
  entry.signal('SIGTERM');
  expect(await entry.status).toBe(143);
  expect((await runInit(['sh', '-c', 'kill -TERM $$'], { flags: ['--init'] })).status).toBe(143);
});
