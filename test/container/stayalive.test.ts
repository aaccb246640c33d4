/** `stayalive` alone, in real containers: held on a fault, entered by the printed lines, let go with the fault's status. */
import { describe, expect, it } from 'vitest';
import { describeWithEngine, docker, start } from './docker.ts';
import { changes, ownLines, runEntry, startEntry, stopPromptly, untilTerm, waitForPark } from './kit.ts';

const DEBUG = 'stayalive';
describeWithEngine('stayalive', (images) => {
  describe.each([
    ['Node 20', images.node20],
    ['Node 20, native', images.native],
    ['Node 24', images.node24],
  ])('%s', (_, image) => {
    it.each([
      [7, ['sh', '-c', 'echo out; exit 7'], 'exited with status 7'],
      [139, ['sh', '-c', 'echo out; kill -SEGV $$'], 'was killed by signal SIGSEGV (11)'],
      [143, ['sh', '-c', 'echo out; kill -TERM $$'], 'was killed by signal SIGTERM (15)'],
    ])('a fault of %i: parked, then docker stop ends it with that status at once', async (...row) => {
      const [status, command, ending] = row;
      const container = await startEntry(image, command, { DEBUG });
      const banner = await waitForPark(container);
      expect(banner).toMatchObject({ id: container.id.slice(0, 12), shell: 'bash', status });
      expect(banner.text).toMatch(/^fault: sh -c .* \(pid \d+, ran \d+\.\d+ s\)/m);
      expect(banner.text).toContain(ending);
      expect(await container.inspect()).toMatchObject({ State: { Running: true } });
      expect(await stopPromptly(container)).toBe(status);
      const { stdout, stderr } = await container.logs();
      expect(stdout).toBe('out\n');
      expect(ownLines(stderr).at(-1)).toBe(`let go by SIGTERM, ending with status ${status}`);
    });

    it.each(['TERM', 'INT', 'HUP', 'QUIT'])('docker kill --signal %s lets go', async (signal) => {
      const container = await startEntry(image, ['sh', '-c', 'exit 7'], { DEBUG });
      await waitForPark(container);
      await container.kill('URG'); // no stop: changes nothing
      await container.kill('CONT');
      await container.kill(signal);
      expect(await container.wait()).toBe(7);
      expect((await container.logs()).stderr).toContain(`let go by SIG${signal}, ending with status 7\n`);
    });

    it('docker stop lets go where the STOPSIGNAL is WINCH, as of the Apache images', async () => {
      const flags = ['--stop-signal', 'WINCH'];
      const container = await startEntry(image, ['sh', '-c', 'exit 7'], { DEBUG, flags });
      await waitForPark(container);
      await container.stop({ timeoutS: 30 });
      expect(await container.wait()).toBe(7);
    });

    it('the printed lines, pasted: get in, have the environment, let go from inside', async () => {
      const env = {
        DEBUG: 'express:*,stayalive',
        'spring.datasource.url': 'x',
        TWO_LINES: "it's\n$HOME `id`",
      };
      const looked = 'until [ -e /run/ddbg/standing.json ]; do sleep 0.01; done'; // a shorter life leaves none
      const command = ['sh', '-c', `echo kept >/root/evidence; ${looked}; exit 7`];
      const container = await startEntry(image, command, { env, flags: ['--workdir', '/usr'] });
      const { id, shell, environmentFile, release } = await waitForPark(container);
      expect(environmentFile).toBe('/run/ddbg/environ.sh');

      const look = `. ${environmentFile}; echo "$DEBUG"; echo "$TWO_LINES"; cat /root/evidence; pwd`;
      const inside = await docker(['exec', id, shell, '-c', look]);
      expect(inside).toEqual({ status: 0, stdout: `express:*\n${env.TWO_LINES}\nkept\n/usr\n`, stderr: '' });
      const modes = await container.exec(['sh', '-c', 'stat -c "%a %n" /run/ddbg /run/ddbg/*']);
      expect(modes.stdout.split('\n').filter(Boolean)).toEqual([
        '700 /run/ddbg',
        '600 /run/ddbg/environ',
        '600 /run/ddbg/environ.sh',
        '600 /run/ddbg/fault-1.json',
        '600 /run/ddbg/fault.json',
        '600 /run/ddbg/runs.json',
        '600 /run/ddbg/standing.json',
        '600 /run/ddbg/state.json',
      ]);
      const whole = await container.exec(['cat', '/run/ddbg/environ']);
      expect(whole.stdout.split('\0')).toEqual(
        expect.arrayContaining(['DEBUG=express:*', 'spring.datasource.url=x', `TWO_LINES=${env.TWO_LINES}`]),
      );

      await docker(['exec', id, shell, '-c', release]);
      expect(await container.wait()).toBe(7);
    });

    it('the environment file gives whoever is inside the environment of the command, and no more', async () => {
      // docker exec brings the container's own DEBUG and DDBG along; the command had neither
      const container = await startEntry(image, ['sh', '-c', 'exit 7'], {
        env: { DEBUG: 'theirs', DDBG: 'stayalive' },
      });
      await waitForPark(container);
      const before = await container.exec(['cat', '/run/ddbg/environ']);
      const script = '. /run/ddbg/environ.sh; exec env -0';
      const inside = await container.exec(['dash', '-c', script]);
      const variables = (text: string) =>
        text
          .split('\0')
          .filter((word) => !/^(PWD|OLDPWD|SHLVL|_)=/.test(word))
          .sort();
      expect(variables(inside.stdout)).toEqual(variables(before.stdout));
    });

    it('a stop while the command runs is no fault', async () => {
      const [handled, unhandled] = [
        await startEntry(image, untilTerm(3), { DEBUG }),
        await startEntry(image, ['sh', '-c', 'echo up; exec sleep 1000'], { DEBUG }),
      ];
      for (const container of [handled, unhandled]) await container.waitForLog(/^up$/m);
      expect([await stopPromptly(handled), await stopPromptly(unhandled)]).toEqual([3, 143]);
      for (const container of [handled, unhandled]) {
        expect((await container.logs()).stderr).not.toMatch(/fault|get in/);
      }
    });

    it('success is no fault; with always it is held too', async () => {
      const ended = await runEntry(image, ['echo', 'out'], { DEBUG });
      expect(ended).toMatchObject({ status: 0, stdout: 'out\n' });
      expect(ended.stderr).not.toContain('get in');
      const held = await startEntry(image, ['echo', 'out'], { DEBUG: 'stayalive=always' });
      expect((await waitForPark(held)).status).toBe(0);
      expect(await stopPromptly(held)).toBe(0);
    });

    it('stayalive=1s ends by itself', async () => {
      const ended = await runEntry(image, ['sh', '-c', 'exit 7'], { DEBUG: 'stayalive=1s' });
      expect(ended.status).toBe(7);
      expect(ownLines(ended.stderr).join('\n')).toMatch(/get in:[\s\S]*the time limit is over.*status 7$/);
    });

    it('a command that cannot be started is parked with 127, an overlay that fails with 125', async () => {
      const missing = await startEntry(image, ['no-such-command'], { DEBUG });
      const banner = await waitForPark(missing);
      expect(banner.text).toContain('could not be started: no-such-command: not found in PATH');
      const overlay = await startEntry(image, ['touch', '/started'], {
        DEBUG: 'stayalive,fstree=/no/such/archive.tar.gz',
      });
      expect((await waitForPark(overlay)).text).toMatch(/was not started: .*\/no\/such\/archive\.tar\.gz/);
      expect((await overlay.exec(['ls', '/started'])).status).not.toBe(0);
      expect([await stopPromptly(missing), await stopPromptly(overlay)]).toEqual([127, 125]);
    });

    it.each([
      ['uid 1000', ['--user', '1000:1000'], '/tmp/ddbg-1000'],
      ['a read-only root', ['--read-only'], '/dev/shm/ddbg-0'],
      ['both', ['--read-only', '--user', '1000:1000'], '/dev/shm/ddbg-1000'],
    ])('with %s the state is elsewhere', async (_what, flags, directory) => {
      const container = await startEntry(image, ['sh', '-c', 'exit 7'], { DEBUG, flags, env: { X: 'x y' } });
      const { id, shell, environmentFile, release } = await waitForPark(container);
      expect(environmentFile).toBe(`${directory}/environ.sh`);
      const inside = await docker([
        'exec',
        id,
        shell,
        '-c',
        `. ${environmentFile}; echo "$X"; ${release} >/dev/null`,
      ]);
      expect(inside.stdout).toBe('x y\n');
      expect(await container.wait()).toBe(7);
    });

    it('joined to the network of another container, the printed id is still its own', async () => {
      const other = await start(image, { command: ['sleep', '1000'] });
      const network = `container:${other.id}`;
      const container = await startEntry(image, ['sh', '-c', 'exit 7'], { DEBUG, network });
      const banner = await waitForPark(container);
      const cgroup = await container.exec(['cat', '/proc/1/cgroup']);
      // cgroup v2 hides it: host name, /etc/hosts and all else that names a container are the other's
      const canKnow = cgroup.stdout.includes(container.id);
      expect(banner.id).toBe(canKnow ? container.id.slice(0, 12) : other.id.slice(0, 12));
    });

    it('leaves its state directory and nothing else', async () => {
      const container = await startEntry(image, ['true'], { DEBUG });
      await container.wait();
      expect((await changes(container)).filter((change) => !/^A \/run\/ddbg/.test(change))).toEqual([
        'C /run',
      ]);
    });
  });
});
