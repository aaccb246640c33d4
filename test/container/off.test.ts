/**
 * Off, in real containers: the container behaves as the image without ddbg-entry does.
 *
 * What "as without" means differs by Node. Since 22.15 the command takes our place and is PID 1, which the kernel
 * protects from signals without a handler, its own included. Node 20 stays as the parent, so the command is an ordinary
 * process. Statuses below come from commands for which that makes no difference; the last test says what does.
 */
import { describe, expect, it } from 'vitest';
import { describeWithEngine, run, start } from './docker.ts';
import { changes, runEntry, startEntry, untilTerm } from './kit.ts';

const SEGV_BELOW = ['sh', '-c', 'sh -c "kill -SEGV \\$\\$"; exit $?'];

describeWithEngine('off', (images) => {
  describe.each([
    ['Node 20', images.node20, false],
    ['Node 20, native', images.native, true],
    ['Node 24', images.node24, true],
  ])('%s', (_, image, becomesCommand) => {
    it.each([
      [0, ['sh', '-c', 'cat; echo err >&2']],
      [7, ['sh', '-c', 'cat; echo err >&2; exit 7']],
      [139, ['sh', '-c', 'cat; echo err >&2; sh -c "kill -SEGV \\$\\$" 2>/dev/null; exit $?']],
    ])('status %i, stdin, stdout and stderr', async (status, command) => {
      const ended = await runEntry(image, command, { input: 'in\n' });
      expect(ended).toEqual({ status, stdout: 'in\n', stderr: 'err\n' });
    });

    it('a command that is not there: 127; that cannot be executed: 126', async () => {
      const [missing, notExecutable] = await Promise.all([
        runEntry(image, ['no-such-command']),
        runEntry(image, ['/etc/passwd']),
      ]);
      expect([missing.status, notExecutable.status]).toEqual([127, 126]);
      expect(missing.stderr).toMatch(/^ddbg-entry: .*no-such-command.*\n$/);
      expect(notExecutable.stderr).toMatch(/^ddbg-entry: .*\/etc\/passwd.*\n$/);
    });

    it.each([143, 0, 3])('docker stop: the status of its TERM trap, %i', async (status) => {
      const container = await startEntry(image, untilTerm(status));
      await container.waitForLog(/^up$/m);
      await container.stop({ timeoutS: 30 });
      expect(await container.wait()).toBe(status);
      expect(await container.logs()).toEqual({ stdout: 'up\nstopping\n', stderr: '' });
    });

    it('docker stop, a command without a handler below an init: 143', async () => {
      const command = ['sh', '-c', 'echo up; exec sleep 1000'];
      const container = await startEntry(image, command, { flags: ['--init'] });
      await container.waitForLog(/^up$/m);
      await container.stop({ timeoutS: 30 });
      expect(await container.wait()).toBe(143);
    });

    it('the environment is the plain one, byte for byte, whatever DEBUG is', async () => {
      const env = {
        DEBUG: 'VALUE',
        'spring.datasource.url': 'jdbc:h2:mem',
        'a-b': 'c',
        EMPTY: '',
        LINES: "it's\ntwo $HOME",
        NODE_OPTIONS: '--no-warnings',
        PS4: 'mine ',
      };
      const flags = ['--hostname', 'same', '--workdir', '/usr'];
      const plain = await run(image, { command: ['cat', '/proc/self/environ'], env, flags });
      const variables = (text: string) => text.split('\0').sort(); // docker hands them over in any order
      expect(variables(plain.stdout)).toContain('spring.datasource.url=jdbc:h2:mem');
      for (const DEBUG of ['express:*', '1', 'true', '*', '', 'app:verbose,tree', 'x'.repeat(100_000)]) {
        const command = ['cat', '/proc/self/environ'];
        const own = await runEntry(image, command, { env: { ...env, DEBUG }, flags });
        const expected = plain.stdout.replace('DEBUG=VALUE', () => `DEBUG=${DEBUG}`);
        expect(own).toMatchObject({ status: 0, stderr: '' });
        expect(variables(own.stdout)).toEqual(variables(expected));
      }
    });

    it('writes nothing to the file system', async () => {
      const command = ['sh', '-c', 'echo x >/tmp/of-the-command'];
      const [plain, own] = [await start(image, { command }), await startEntry(image, command)];
      expect([await plain.wait(), await own.wait()]).toEqual([0, 0]);
      expect(await changes(plain)).toEqual(['A /tmp/of-the-command', 'C /tmp']);
      expect(await changes(own)).toEqual(await changes(plain));
    });

    it('user, groups, directory, umask, limits and a read-only root are the plain ones', async () => {
      const flags = [
        ...['--user', '1000:1001', '--group-add', '5', '--workdir', '/usr/lib', '--read-only'],
        ...['--ulimit', 'nofile=100:2000', '--ulimit', 'core=0'],
      ];
      // hard limits: Node raises the soft one of open files for itself, and hands that down
      const command = ['bash', '-c', 'id; pwd; umask; ulimit -Ha; ls -l /proc/self/fd | wc -l'];
      const [plain, own] = await Promise.all([
        run(image, { command, flags }),
        runEntry(image, command, { flags }),
      ]);
      expect(plain.stdout).toContain('uid=1000 gid=1001 groups=1001,5');
      expect(own).toEqual(plain);
    });

    it(`the command ${becomesCommand ? 'is' : 'is below'} PID 1, which alone makes a difference`, async () => {
      const pid = await runEntry(image, ['sh', '-c', 'echo $$; tr "\\0" " " </proc/1/cmdline']);
      const dead = await runEntry(image, ['sh', '-c', 'kill -SEGV $$; echo alive']);
      const plain = await run(image, { command: ['sh', '-c', 'kill -SEGV $$; echo alive'] });
      expect(plain).toMatchObject({ status: 0, stdout: 'alive\n' }); // PID 1 is immune to its own signals
      if (becomesCommand) {
        expect(pid.stdout).toMatch(/^1\nsh -c /);
        expect(dead).toEqual(plain);
      } else {
        expect(pid.stdout).toMatch(/^(?!1\n)\d+\nnode /);
        expect(dead).toEqual({ status: 139, stdout: '', stderr: '' });
      }
      expect((await runEntry(image, SEGV_BELOW)).status).toBe(139);
    });

    it('a near miss is said in a line, DDBG is strict', async () => {
      const [near, strict] = await Promise.all([
        runEntry(image, ['sh', '-c', 'echo "$DEBUG"'], { DEBUG: 'stayalvie' }),
        runEntry(image, ['echo', 'not reached'], { env: { DDBG: 'stayalvie' } }),
      ]);
      const hint = "ddbg-entry: DEBUG has 'stayalvie': did you mean 'stayalive'?\n";
      expect(near).toEqual({ status: 0, stdout: 'stayalvie\n', stderr: hint });
      expect(strict).toMatchObject({ status: 125, stdout: '' });
      expect(strict.stderr).toMatch(/'stayalvie'.*\n.*did you mean 'stayalive'\?/);
    });
  });
});
