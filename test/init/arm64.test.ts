/**
 * The essentials once more with the init of arm64, emulated by qemu on another machine.
 *
 * What qemu-user 7.2 cannot do (measured), and is therefore left to the other files: real-time signals (it keeps the
 * host's first two for itself and shows the guest the rest two numbers lower), being a subreaper (prctl(2) says no: here
 * it is PID 1 of a namespace of its own), signals that a processor raises (ILL, TRAP, BUS, FPE and SEGV from outside are
 * the emulator's own end), and small memory (its translator is in the same process).
 */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { node, script, temporaryFolder } from '../process/harness.ts';
import {
  cannotCompile,
  childrenOf,
  emulated,
  inBatches,
  init,
  parked,
  program,
  runInit,
  startInit,
  until,
} from './kit.ts';

const isThere = emulated !== undefined && !cannotCompile;
const one = emulated ?? init;
const STATUSES = [0, 1, 2, 3, 7, 42, 63, 64, 100, 125, 126, 127, 128, 137, 143, 255];
const SIGNALS = Array.from({ length: 31 }, (_, at) => at + 1).filter(
  (number) => ![4, 5, 7, 8, 9, 11, 17, 19].includes(number),
);

/** As PID 1 of a namespace of its own, without anybody else in its /proc. */
const unshare = ['unshare', '--pid', '--fork', '--mount-proc', '--kill-child'];
const canUnshare = spawnSync(unshare[0] ?? '', [...unshare.slice(1), 'true']).status === 0;
const asPid1 = { name: one.name, argv: [...unshare, ...one.argv] };

describe.skipIf(!isThere).each([
  ['gone', {}],
  ['off', { flags: ['--init'] }],
  ['on', { env: { DEBUG: 'verbose' } }],
])('%s', (way, options) => {
  const ours = { ...options, init: one };
  test('statuses, and deaths', async () => {
    expect(
      await inBatches(
        STATUSES,
        async (status) => (await runInit(['/bin/sh', '-c', `exit ${status}`], ours)).status,
      ),
    ).toEqual(STATUSES);
    if (way === 'gone') return; // it is the emulator's parent that would see the signal
    const deaths = await inBatches(
      [1, 6, 9, 11, 15, 31],
      async (number) => (await runInit([program('tool'), 'die', `${number}`], ours)).status,
    );
    expect(deaths).toEqual([129, 134, 137, 139, 143, 159]);
  });

  test.each([
    ['nowhere', 127, () => 'no-such-command'],
    ['a directory', 126, () => temporaryFolder()],
    ['without the x', 126, () => script(temporaryFolder(), 'plain', '#!/bin/sh\n', 0o644)],
    ['text without #!', 6, () => script(temporaryFolder(), 'text', 'exit 6\n')],
    ['bytes that are no program', 126, () => script(temporaryFolder(), 'garbage', Buffer.from([1, 2, 0, 3]))],
  ])('%s: %i', async (_, status, make) => {
    expect((await runInit([make()], ours)).status).toBe(status);
  });
});

describe.skipIf(!isThere).each([
  ['off', { flags: ['--init'] }],
  ['on', { env: { DEBUG: 'stayalive' } }],
])('%s', (way, options) => {
  const ours = { ...options, init: one };
  test('signals are passed on, each once', async () => {
    const entry = startInit([program('tool'), 'catch', '12'], ours);
    await entry.waitFor(/ready/);
    const sent = [...SIGNALS.filter((number) => number !== 12), 12];
    for (const number of sent) {
      entry.signal(number);
      await entry.waitFor(new RegExp(`^got ${number} `, 'm'));
    }
    expect(await entry.status).toBe(0);
    expect([...entry.stdout().matchAll(/^got (\d+)/gm)].map(([, number]) => Number(number))).toEqual(sent);
  });

  test('the maps', async () => {
    const flags = ['--stop-signal-map=TERM:USR1', '--exit-map=7:0,9:3'];
    const entry = startInit(['bash', '-c', 'trap "exit 9" USR1; echo ready; while :; do sleep 0.05; done'], {
      ...ours,
      flags,
    });
    await entry.waitFor(/ready/);
    entry.signal('SIGTERM');
    expect(await entry.status).toBe(3);
    expect(await runInit(['sh', '-c', 'exit 7'], { ...ours, flags })).toEqual({
      status: 0,
      stdout: '',
      stderr: '',
    });
  });

  test.skipIf(!canUnshare)('as PID 1: 50 children, 50 orphans, none left', async () => {
    const entry = startInit([program('tool'), 'crowd', '50', '50'], {
      ...options,
      init: asPid1,
      stdin: 'pipe',
    });
    await entry.waitFor(/^own 50, wrong 0$/m);
    const own = way === 'off' ? 1 : 2;
    await until(() => childrenOf(childrenOf(entry.pid)[0]?.pid ?? 0).length === own);
    entry.child.stdin?.end();
    if (way === 'on') {
      await entry.waitFor(/let it go/);
      process.kill(childrenOf(entry.pid)[0]?.pid ?? 0, 'SIGTERM');
    }
    expect(await entry.status).toBe(5);
  });

  test.skipIf(!canUnshare)('as PID 1: --group reaches a daemon, --grace ends it', async () => {
    const tell = (tag: string) =>
      `trap "echo ${tag} got TERM" TERM; echo ${tag} ready; while :; do sleep 0.05; done`;
    const body = `(setsid bash -c '${tell('daemon')}' &); trap 'exit 4' TERM; echo command ready; while :; do sleep 0.05; done`;
    const flags = ['--group', '--grace=1s'];
    const entry = startInit(['bash', '-c', body], { ...options, flags, init: asPid1 });
    for (const tag of ['daemon', 'command']) await entry.waitFor(new RegExp(`${tag} ready`));
    process.kill(childrenOf(entry.pid)[0]?.pid ?? 0, 'SIGTERM');
    await entry.waitFor(/daemon got TERM/);
    expect(await entry.status).toBe(4);
  });
});

describe.skipIf(!isThere)('the gate and the park', () => {
  test.each([
    [{ DEBUG: 'x:*' }, 0],
    [{ DDBG: '' }, 0],
    [{ DEBUG: 'stayalve' }, 0],
    [{ DEBUG: 'stayalive' }, 125],
    [{ DDBG: 'x' }, 125],
  ])('%j with a node that fails: %i', async (env, status) => {
    expect((await runInit(['true'], { env: { ...env, DDBG_NODE: '/bin/false' }, init: one })).status).toBe(
      status,
    );
    const without = await runInit(['/bin/true'], {
      env: { ...env, PATH: '/nonexistent' },
      init: {
        ...one,
        argv: ['/usr/bin/env', 'PATH=/nonexistent', '/usr/bin/qemu-aarch64-static', ...one.argv.slice(1)],
      },
    });
    expect(without.status).toBe(JSON.stringify(env).includes('stayalve') ? 0 : status);
  });

  test.each(['SIGTERM', 'SIGINT', 'SIGQUIT', 'SIGHUP', 'SIGWINCH'] as const)(
    'parked, %s lets go',
    async (signal) => {
      const entry = startInit(['sh', '-c', 'exit 7'], { env: { DEBUG: 'stayalive' }, init: one });
      await parked(entry);
      entry.signal(signal);
      expect(await entry.status).toBe(7);
      expect(entry.stderr()).toContain(`let go by ${signal}, ending with status 7`);
    },
  );

  test('a time limit, and the command once more', async () => {
    expect((await runInit(['false'], { env: { DEBUG: 'stayalive=1s' }, init: one })).status).toBe(1);
    const file = join(temporaryFolder(), 'mended');
    const entry = startInit(['sh', '-c', `test -e ${file} || exit 7`], {
      env: { DEBUG: 'stayalive', DDBG_NODE: node },
      init: one,
    });
    await parked(entry);
    writeFileSync(file, '');
    entry.signal('SIGUSR1');
    expect(await entry.status).toBe(0);
  });
});
