/** The flags that the native init follows, in ENTRYPOINT of real containers: off, and with a word. */
import { describe, expect, it } from 'vitest';
import { describeWithEngine, startWebServer } from './docker.ts';
import { changes, runEntry, startEntry, stopPromptly, tarGz, untilTerm, waitForPark } from './kit.ts';

/** A command with a daemon that has left its session, and says what it hears before it ends. */
const withDaemon = (onTerm: string) => [
  'bash',
  '-c',
  `setsid bash -c 'trap "${onTerm}" TERM; echo daemon; while :; do sleep 0.05; done' & trap "exit 3" TERM; wait`,
];
const SAYS_BYE = 'sleep 0.2; echo bye; exit';

const trapping = (signal: string, status: number) => [
  'bash',
  '-c',
  `trap "exit ${status}" ${signal}; echo up; while :; do sleep 0.05; done`,
];

describeWithEngine('flags of the init', (images) => {
  describe.each([
    ['off', undefined],
    ['on', 'stayalive'],
  ])('%s', (_, DEBUG) => {
    const word = DEBUG === undefined ? {} : { DEBUG };

    it.each([
      ['nothing: a daemon is not waited for', [], SAYS_BYE, 3, /^daemon\n$/],
      ['--grace=30s: it is told, and waited for', ['--grace=30s'], SAYS_BYE, 3, /^daemon\nbye\n$/],
      ['--grace=1s: it is killed when it does not end', ['--grace=1s'], 'echo no', 3, /^daemon\nno\n$/],
    ])('%s', async (_what, entryFlags, onTerm, status, stdout) => {
      const container = await startEntry(images.native, withDaemon(onTerm), {
        entryFlags: ['--init', ...entryFlags],
        ...word,
      });
      await container.waitForLog(/^daemon$/m);
      await container.stop({ timeoutS: 30 });
      expect(await container.wait()).toBe(status);
      expect((await container.logs()).stdout).toMatch(stdout);
    });

    it('--group: everything below the command gets the signal, in its own session too', async () => {
      const daemon = `setsid bash -c 'trap "${SAYS_BYE}" TERM; echo up; while :; do sleep 0.05; done' & daemon=$!`;
      const script = `${daemon}; trap : TERM; wait; wait $daemon; exit 3`; // for ever, if only the command gets it
      const container = await startEntry(images.native, ['bash', '-c', script], {
        entryFlags: ['--group'],
        ...word,
      });
      await container.waitForLog(/^up$/m);
      expect(await stopPromptly(container)).toBe(3);
      expect((await container.logs()).stdout).toBe('up\nbye\n');
    });

    it.each([
      ['TERM:QUIT', 'TERM', trapping('QUIT', 3), 3],
      ['USR1:TERM', 'USR1', trapping('TERM', 4), 4],
      ['RTMIN+3:INT,TERM:0', 'RTMIN+3', trapping('INT', 5), 5],
      ['37:15', '37', ['sh', '-c', 'echo up; exec sleep 1000'], 143],
    ])(
      '--stop-signal-map=%s, STOPSIGNAL %s: the command gets the other, a stop',
      async (map, signal, command, status) => {
        const container = await startEntry(images.native, command, {
          entryFlags: [`--stop-signal-map=${map}`],
          flags: ['--stop-signal', signal],
          ...word,
        });
        await container.waitForLog(/^up$/m);
        expect(await stopPromptly(container)).toBe(status);
        expect((await container.logs()).stderr).not.toContain('get in');
      },
    );

    it('--stop-signal-map=TERM:0 drops it', async () => {
      const container = await startEntry(images.native, trapping('TERM INT', 3), {
        entryFlags: ['--stop-signal-map=TERM:0'],
        ...word,
      });
      await container.waitForLog(/^up$/m);
      await container.kill('TERM');
      await container.stop({ timeoutS: 1 });
      expect(await container.wait()).toBe(137);
    });

    it('--exit-map=143:0,7:9: a stop is success, and what else is said', async () => {
      const entryFlags = ['--exit-map=143:0,7:9'];
      const container = await startEntry(images.native, untilTerm(143), { entryFlags, ...word });
      await container.waitForLog(/^up$/m);
      expect(await stopPromptly(container)).toBe(0);
      const [killed, other] = await Promise.all([
        runEntry(images.native, ['sh', '-c', 'kill -TERM $$'], { entryFlags, ...word }),
        runEntry(images.native, ['sh', '-c', 'exit 5'], { entryFlags }),
      ]);
      expect([killed.status, other.status]).toEqual([0, 5]);
    });
  });

  it.each([
    ['USR1', 'USR1:TERM', 'SIGUSR1'],
    ['RTMIN+3', 'RTMIN+3:QUIT', 'SIGRTMIN+3'],
    ['37', 'TERM:QUIT,37:QUIT', 'SIGRTMIN+3'],
  ])('STOPSIGNAL %s lets a held container go with --stop-signal-map=%s', async (signal, map, name) => {
    const container = await startEntry(images.native, ['sh', '-c', 'exit 7'], {
      DEBUG: 'stayalive',
      entryFlags: [`--stop-signal-map=${map}`, '--exit-map=7:9'],
      flags: ['--stop-signal', signal],
    });
    expect((await waitForPark(container)).status).toBe(9);
    expect(await stopPromptly(container)).toBe(9);
    expect((await container.logs()).stderr).toContain(`let go by ${name}, ending with status 9\n`);
  });

  it.each([
    ['native', images.native],
    ['bare', images.node20],
  ])(
    '%s: --allow=verbose refuses fstree, whatever the setting, and touches nothing',
    async (_what, image) => {
      const server = await startWebServer({ 'patch.tar.gz': tarGz({ 'etc/patched': 'yes\n' }) });
      const settings = ['DEBUG', 'DDBG'].map((name) => ({
        [name]: `verbose,fstree=${server.url}/patch.tar.gz`,
      }));
      for (const env of settings) {
        const container = await startEntry(image, ['touch', '/started'], {
          entryFlags: ['--allow=verbose'],
          network: server.network,
          env,
        });
        expect(await container.wait()).toBe(125);
        expect((await container.logs()).stderr).toMatch(
          /^ddbg-entry: cannot use fstree of D\w+: this image allows verbose/,
        );
        expect(await changes(container)).toEqual([]);
      }
      expect((await server.container.logs()).stdout).toBe('ready\n');
      const allowed = await runEntry(image, ['echo', 'out'], {
        entryFlags: ['--allow=verbose'],
        DEBUG: 'verbose',
      });
      expect(allowed).toMatchObject({ status: 0, stdout: 'out\n' });
    },
  );

  it('bare, where Node cannot become the init: says what the flag needs, and starts nothing', async () => {
    const ended = await runEntry(images.node20, ['echo', 'out'], { entryFlags: ['--grace=2s'] });
    expect(ended).toMatchObject({ status: 125, stdout: '' });
    expect(ended.stderr).toMatch(/--grace needs the native init.*\n.*RUN ddbg-entry --install/);
  });

  it('Node 24 becomes the init for them', async () => {
    const ended = await runEntry(
      images.node24,
      ['bash', '-c', 'tr "\\0" " " </proc/1/cmdline; kill -TERM $$'],
      {
        entryFlags: ['--init', '--exit-map=143:9'],
      },
    );
    expect(ended).toMatchObject({
      status: 9,
      stdout: expect.stringMatching(/ddbg-init --init /),
      stderr: '',
    });
  });
});
