/** Signals, orphans and stops at every moment, in real containers: with the native init as PID 1, and with Node. */
import { beforeAll, describe, expect, it } from 'vitest';
import { signalNumber } from '../../src/outcome.ts';
import { FORWARDED } from '../../src/signals.ts';
import { type Container, describeWithEngine, start, startWebServer } from './docker.ts';
import {
  changes,
  eventually,
  mountProbe,
  msFromSignalToEnd,
  processes,
  startEntry,
  stopPromptly,
  tarGz,
  untilTerm,
  waitForPark,
} from './kit.ts';

/** KILL and STOP cannot be caught, CHLD is the init's own. */
const CLASSIC = Array.from({ length: 31 }, (_, at) => at + 1).filter(
  (number) => ![9, 17, 19].includes(number),
);
const LAST = 64;
const REAL_TIME = [34, 35, 37, 50, 63, LAST];

/** 200 children that the command waits for, each with its status, and 200 that it has nothing to do with any more. */
const BREEDS = `
  good=0
  for i in {1..200}; do (exit $((i % 200))) & pids[i]=$!; ( (sleep 0.05) & ); done
  for i in {1..200}; do wait "\${pids[i]}"; [ $? = $((i % 200)) ] && good=$((good + 1)); done
  echo "up $good"
  read forever
`;

describeWithEngine('signals', (images) => {
  let probe: string[];
  beforeAll(() => {
    probe = mountProbe();
  });

  it.each([
    ['native, --init', images.native, ['--init'], undefined, [...CLASSIC, ...REAL_TIME]],
    ['native, verbose', images.native, [], 'verbose', [...CLASSIC, ...REAL_TIME]],
    ['native, stayalive', images.native, [], 'stayalive', [...CLASSIC, ...REAL_TIME]],
    ['bare, off', images.node20, [], undefined, FORWARDED.map(signalNumber)],
    ['bare, verbose', images.node20, [], 'verbose', FORWARDED.map(signalNumber)],
  ])('%s: docker kill reaches the command with each', async (_what, image, entryFlags, DEBUG, numbers) => {
    const container = await startEntry(image, ['/t/probe', 'hear'], {
      entryFlags,
      flags: probe,
      ...(DEBUG === undefined ? {} : { DEBUG }),
    });
    await container.waitForLog(/^up$/m);
    const inOrder = [...numbers].sort((one, other) => one - other);
    // no two at once to one and the same, and the last of all last: it ends the command
    await Promise.all(
      inOrder.filter((number) => number !== LAST).map((number) => container.kill(String(number))),
    );
    const heard = async () =>
      [...(await container.logs()).stdout.matchAll(/^got (\d+)$/gm)].map(([, n]) => Number(n));
    const sorted = async () => (await heard()).sort((one, other) => one - other);
    await eventually(sorted).toEqual(inOrder.filter((number) => number !== LAST));
    await container.kill(numbers.includes(LAST) ? String(LAST) : 'KILL');
    expect(await container.wait()).toBe(numbers.includes(LAST) ? 0 : 137);
  });

  describe('400 children', () => {
    it.each([
      ['off, --init', ['--init'], undefined],
      ['on', [], 'stayalive'],
    ])(
      'native, %s: orphans are reaped, the others left to their parent',
      async (_what, entryFlags, DEBUG) => {
        const container = await startEntry(images.native, ['bash', '-c', BREEDS], {
          entryFlags,
          flags: ['--interactive'],
          ...(DEBUG === undefined ? {} : { DEBUG }),
        });
        await container.waitForLog(/^up 200$/m);
        const others = async () =>
          (await processes(container)).filter(({ name }) => !/^(ddbg-entry|node|bash)$/.test(name));
        await eventually(others).toEqual([]);
        const states = (await processes(container)).map(({ state }) => state);
        expect(states.filter((state) => state.startsWith('Z'))).toEqual([]);
        expect(await stopPromptly(container)).toBe(143);
      },
    );

    it('bare: orphans stay zombies, which the init is there for', async () => {
      const container = await startEntry(images.node20, ['bash', '-c', BREEDS], {
        flags: ['--interactive'],
        DEBUG: 'stayalive',
      });
      await container.waitForLog(/^up 200$/m);
      const zombies = async () =>
        (await processes(container)).filter(({ state }) => state.startsWith('Z')).length;
      await eventually(zombies).toBe(200);
    });
  });

  describe('a stop', () => {
    // Not bare: the kernel drops what comes for PID 1 before Node listens.
    it('at the very start it is never lost', async () => {
      const rounds = Array.from({ length: 4 }, async () => {
        const container = await startEntry(images.native, untilTerm(143), { DEBUG: 'verbose,stayalive' });
        return stopPromptly(container);
      });
      expect(await Promise.all(rounds)).toEqual([143, 143, 143, 143]);
    });

    it('between the end of the command and the park: the status of the command', async () => {
      // Node is held up by its first line: nobody reads it, and the pipe is full.
      const full = 'mkfifo /tmp/full; exec 3<>/tmp/full; head -c 65536 /dev/zero >&3';
      const container = await start(images.native, {
        entrypoint: 'bash',
        command: ['-c', `${full}; exec ddbg-entry sh -c "echo up; exit 7" 2>&3`],
        env: { DEBUG: 'stayalive' },
      });
      await container.waitForLog(/^up$/m);
      const names = async () => (await processes(container)).map(({ name }) => name);
      await eventually(names).toEqual(['ddbg-entry', 'node']);
      await container.stop({ timeoutS: 30 }); // node has a second for its last words
      expect(await container.wait()).toBe(7);
    });

    it('during a download and between two: nothing is changed, and 143', async () => {
      const server = await startWebServer({ 'first.tar.gz': tarGz({ 'etc/first': 'x\n' }) });
      const container = await startEntry(images.native, ['touch', '/started'], {
        DEBUG: `verbose,stayalive,fstree=${server.url}/first.tar.gz,fstree=${server.url}/stall/init`,
        network: server.network,
        entryFlags: ['--init'],
      });
      await server.container.waitForLog(/^GET \/stall\/init stalls$/m);
      expect(await stopPromptly(container)).toBe(143);
      expect((await changes(container)).filter((change) => !/^. \/run(\/ddbg|$)/.test(change))).toEqual([]);
    });

    it.each([
      ['--init', undefined],
      ['--stall-timeout=30s', 'stayalive'],
    ])('%s, DEBUG=%s: a command that ignores it ends by the KILL of docker', async (flag, DEBUG) => {
      const command = ['sh', '-c', 'trap "" TERM; echo up; while :; do sleep 0.05; done'];
      const container = await startEntry(images.native, command, {
        entryFlags: [flag],
        ...(DEBUG === undefined ? {} : { DEBUG }),
      });
      await container.waitForLog(/^up$/m);
      await container.stop({ timeoutS: 1 });
      expect(await container.wait()).toBe(137);
      expect(await msFromSignalToEnd(container)).toBeGreaterThanOrEqual(1000);
    });
  });

  describe('node is killed', () => {
    const withoutNode = async (command: readonly string[], DEBUG: string): Promise<Container> => {
      const container = await startEntry(images.native, command, { DEBUG, flags: ['--interactive'] });
      await container.waitForLog(/^up$/m);
      await container.exec(['bash', '-c', `kill -9 ${await pidOf(container, 'node')}`]);
      await container.waitForLog(
        /^ddbg-entry: node was killed by signal 9; the command runs on without it$/m,
      );
      return container;
    };

    it('the command runs on, a stop reaches it, its status is the container’s', async () => {
      const container = await withoutNode(untilTerm(3), 'verbose,stayalive');
      expect((await processes(container)).map(({ state }) => state).join()).not.toContain('Z');
      expect(await stopPromptly(container)).toBe(3);
      expect((await container.logs()).stdout).toBe('up\nstopping\n');
    });

    it.each([
      ['stayalive', 'kill -SEGV', 139, true],
      ['stayalive=always', 'kill -USR1', 138, true],
      ['stayalive=1s', 'kill -SEGV', 139, true],
      ['verbose', 'kill -SEGV', 139, false],
    ])('%s: %s of the command, %i, is held: %s', async (DEBUG, kill, status, isHeld) => {
      const container = await withoutNode(['bash', '-c', 'echo up; read forever'], DEBUG);
      await container.exec(['bash', '-c', `${kill} ${await pidOf(container, 'bash')}`]);
      if (isHeld)
        await container.waitForLog(
          new RegExp(`^ddbg-entry: fault: .*\\(status ${status}\\), and node is gone`, 'm'),
        );
      if (isHeld && DEBUG !== 'stayalive=1s') expect(await stopPromptly(container)).toBe(status);
      else expect(await container.wait()).toBe(status);
    });

    it('held without it, it can be run again', async () => {
      const script = 'test -e /tmp/mended && exit 5; echo up; read forever';
      const container = await withoutNode(['bash', '-c', script], 'stayalive');
      await container.exec(['bash', '-c', `kill -SEGV ${await pidOf(container, 'bash')}`]);
      await container.waitForLog(/and node is gone/);
      await container.exec(['bash', '-c', 'touch /tmp/mended; kill -USR1 1']);
      expect((await waitForPark(container)).status).toBe(5);
      expect(await stopPromptly(container)).toBe(5);
    });
  });
});

async function pidOf(container: Container, name: string): Promise<number> {
  const found = (await processes(container)).filter((process) => process.name === name);
  expect(found).toHaveLength(1);
  return found[0]?.pid ?? Number.NaN;
}
