/** `docker run -t` and `-it`, in real containers: the terminal is the command's, and one Ctrl-C is one. */
import { spawn } from 'node:child_process';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import {
  type Container,
  describeWithEngine,
  engine,
  start,
  startWebServer,
  type WebServer,
} from './docker.ts';
import { eventually, processes, startEntry, tarGz, waitForPark } from './kit.ts';

const TERMINAL = ['--tty'];
const INTERACTIVE = ['--interactive', '--tty'];

/** Says every INT it gets, and ends with 3 when a line `bye` is typed. */
const COUNTS_INTERRUPTS = `
  process.on('SIGINT', () => console.log('got INT'));
  process.stdin.on('data', (text) => {
    console.log('line ' + text);
    if (String(text).startsWith('bye')) process.exit(3);
  });
  console.log('up');
`;

/** Ctrl-C at a command that counts its interrupts, then its end. */
async function expectOneInterrupt(container: Container): Promise<void> {
  const keyboard = await attach(container);
  keyboard.type('\u0003');
  await container.waitForLog(/^(\^C)?got INT\r$/m);
  keyboard.type('bye\n');
  expect(await container.wait()).toBe(3);
  // two signals close together can become one: under verbose, a line of ours lies between them
  expect((await container.logs()).stdout.match(/^(\^C)?got INT\r$/gm)).toHaveLength(1);
}

describeWithEngine('a terminal', (images) => {
  let server: WebServer;
  beforeAll(async () => {
    server = await startWebServer({ 'patch.tar.gz': tarGz({ 'etc/patched': 'yes\n' }) });
  });

  describe.each([
    ['Node 20', images.node20],
    ['Node 20, native', images.native],
    ['Node 24', images.node24],
  ])('%s', (_, image) => {
    it.each([undefined, 'verbose', 'stayalive'])(
      'DEBUG=%s: the command has it, in the foreground',
      async (DEBUG) => {
        const script = 'test -t 0 && test -t 1 && test -t 2 && tty && ps -o tpgid=,pgid= -p $$';
        const command = ['bash', '-c', script];
        const container = await startEntry(image, command, {
          flags: TERMINAL,
          ...(DEBUG === undefined ? {} : { DEBUG }),
        });
        expect(await container.wait()).toBe(0);
        const { stdout } = await container.logs();
        expect(stdout).toMatch(/^\/dev\/pts\/0\r$/m);
        expect(stdout).toMatch(/^ *(\d+) +\1\r$/m); // its group is the one in the foreground
      },
    );

    it('all three words: the patch, the trace and the banner are whole lines', async () => {
      const container = await startEntry(image, ['bash', '-c', 'cat /etc/patched; exit 7'], {
        DEBUG: `verbose,stayalive,fstree=${server.url}/patch.tar.gz`,
        flags: TERMINAL,
        network: server.network,
      });
      const { text, status } = await waitForPark(container);
      expect(status).toBe(7);
      expect(text).toMatch(/^overlaid .*patch\.tar\.gz/m);
      const { stdout } = await container.logs();
      expect(stdout).toMatch(/^\+ .*: cat \/etc\/patched\r$/m);
      expect(stdout).toMatch(/^yes\r$/m);
      await container.stop({ timeoutS: 30 });
      expect(await container.wait()).toBe(7);
    });

    it.each([undefined, 'verbose'])('DEBUG=%s: one Ctrl-C is one INT', async (DEBUG) => {
      const container = await startEntry(image, ['node', '-e', COUNTS_INTERRUPTS], {
        flags: INTERACTIVE,
        ...(DEBUG === undefined ? {} : { DEBUG }),
      });
      await expectOneInterrupt(container);
    });

    it('stayalive: a Ctrl-C in the park lets go', async () => {
      const container = await startEntry(image, ['node', '-e', COUNTS_INTERRUPTS], {
        DEBUG: 'stayalive',
        flags: INTERACTIVE,
      });
      const keyboard = await attach(container);
      keyboard.type('bye\n');
      await waitForPark(container);
      keyboard.type('\u0003');
      expect(await container.wait()).toBe(3);
      const { stdout } = await container.logs();
      expect(stdout).toContain('let go by SIGINT, ending with status 3');
    });

    it('stayalive: a command that ends of Ctrl-C is not held', async () => {
      const container = await startEntry(
        image,
        ['sh', '-c', 'echo up; read x; echo line $x; exec sleep 1000'],
        {
          DEBUG: 'stayalive',
          flags: INTERACTIVE,
        },
      );
      const keyboard = await attach(container);
      keyboard.type('\u0003');
      expect(await container.wait()).toBe(130);
      expect((await container.logs()).stdout).not.toContain('get in');
    });
  });

  it.each([
    ['native', undefined, images.native],
    ['native', 'verbose', images.native],
    ['bare', undefined, images.node20],
    ['bare', 'verbose', images.node20],
  ])('npx, %s, DEBUG=%s: one Ctrl-C is one INT', async (_what, DEBUG, image) => {
    const container = await start(image, {
      entrypoint: 'npx',
      command: ['ddbg-entry', '--', 'node', '-e', COUNTS_INTERRUPTS],
      env: { npm_config_script_shell: '/bin/bash', ...(DEBUG === undefined ? {} : { DEBUG }) },
      flags: INTERACTIVE,
    });
    await expectOneInterrupt(container);
  });

  describe.each([
    ['--init', undefined],
    ['--stall-timeout=30s', 'stayalive'],
  ])('native, %s, DEBUG=%s', (flag, DEBUG) => {
    const options = {
      entryFlags: [flag],
      flags: INTERACTIVE,
      ...(DEBUG === undefined ? {} : { DEBUG }),
    };

    it('job control: Ctrl-Z, fg and Ctrl-C are for the job, the shell stays', async () => {
      const command = ['sh', '-c', 'echo up; read x; echo line $x; exec bash --norc -i'];
      const container = await startEntry(images.native, command, options);
      const jobs = async () => (await processes(container)).filter(({ name }) => name === 'sleep');
      const shell = async () => (await processes(container)).find(({ name }) => name === 'bash');
      const keyboard = await attach(container);
      await eventually(shell).toMatchObject({ parent: 1 });
      keyboard.type('sleep 1000\n');
      await eventually(jobs).toMatchObject([{ state: expect.stringMatching(/^S\+/) }]);
      keyboard.type('\u001a');
      await container.waitForLog(/^\[1\]\+ +Stopped +sleep 1000\r$/m);
      keyboard.type('fg\n');
      await eventually(jobs).toMatchObject([{ state: expect.stringMatching(/^S\+/) }]);
      keyboard.type('\u0003');
      await eventually(jobs).toEqual([]);
      keyboard.type('echo status=$?\nexit 3\n');
      await container.waitForLog(/^status=130\r$/m);
      if (DEBUG !== undefined) {
        expect((await waitForPark(container)).status).toBe(3);
        keyboard.type('\u0003');
      }
      expect(await container.wait()).toBe(3);
      expect((await container.logs()).stdout).not.toMatch(/job control|process group/);
    });

    it('the command leads the group in the foreground; Ctrl-Z, where nobody can say fg, holds nothing up', async () => {
      const script = `console.log('group', require('fs').readFileSync('/proc/self/stat', 'utf8'));${COUNTS_INTERRUPTS}`;
      const container = await startEntry(images.native, ['node', '-e', script], options);
      const keyboard = await attach(container);
      const { stdout } = await container.logs();
      const [, pid, parent, group, foreground] =
        /^group (\d+) \(.*\) \S (\d+) (\d+) \d+ \d+ (\d+) /m.exec(stdout) ?? [];
      expect({ parent, group, foreground }).toEqual({ parent: '1', group: pid, foreground: pid });
      keyboard.type('\u001a');
      keyboard.type('again\n');
      await container.waitForLog(/^line again/m);
      keyboard.type('\u0003');
      await container.waitForLog(/^(\^C)?got INT\r$/m);
      keyboard.type('bye\n');
      expect(await container.wait()).toBe(3); // soon after a Ctrl-C: not held
    });
  });
});

/** A person at the container's terminal: `docker attach` below a pty of script(1), which Debian always has. */
async function attach(container: Container) {
  const { host } = engine();
  const docker = host === undefined ? 'docker' : `docker --host ${host}`;
  await container.waitForLog(/up\r?$/m); // npm has written to the line before
  const script = spawn('script', ['-qfec', `${docker} attach ${container.id}`, '/dev/null'], {
    stdio: ['pipe', 'ignore', 'inherit'],
  });
  onTestFinished(() => {
    script.kill('SIGKILL');
  });
  const type = (keys: string) => script.stdin.write(keys);
  // Its answer says that the CLI has made the terminal raw: from here on Ctrl-C is a key, not a signal for the CLI.
  type('hello\n');
  await container.waitForLog(/^line hello/m);
  return { type };
}
