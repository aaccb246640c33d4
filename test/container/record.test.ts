/** `DEBUG=record` in real containers: the engine's log has all of it, whoever runs it, and a terminal is a terminal. */
import { spawn } from 'node:child_process';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type Container, describeWithEngine, docker, engine } from './docker.ts';
import { ownLines, runEntry, startEntry, stopPromptly, untilTerm, waitForPark } from './kit.ts';

/** Prints the lines of a recording, as the package's own reader would; Node is in every image. */
const PRINT = `
  const { readFileSync, readdirSync } = require('node:fs');
  for (const name of readdirSync('.').filter((name) => /^(stdout|stderr|terminal)$/.test(name))) {
    const file = readFileSync(name);
    const size = Number(file.readBigUInt64LE(32));
    console.log(name, JSON.stringify(file.toString('utf8', 4096 + 16 * 16384, 4096 + 16 * 16384 + size)));
  }
`;
const printed = async (container: Container, state = '/run/ddbg') =>
  (await container.exec(['sh', '-c', `cd ${state}/output && node -e '${PRINT.replaceAll("'", "'\\''")}'`]))
    .stdout;

describeWithEngine('record', (images) => {
  describe.each([
    ['Node 20', images.node20],
    ['Node 20, native', images.native],
    ['Node 24', images.node24],
  ])('%s', (_, image) => {
    it('the log has both streams; held, what was said can be read inside', async () => {
      const container = await startEntry(image, ['sh', '-c', 'echo out; echo err >&2; exit 7'], {
        DEBUG: 'stayalive,record',
      });
      expect((await waitForPark(container)).status).toBe(7);
      const { stdout, stderr } = await container.logs();
      expect(stdout).toBe('out\n');
      expect(stderr).toMatch(/^err$/m);
      expect(await printed(container)).toBe('stderr "err\\n"\nstdout "out\\n"\n');
      expect(await stopPromptly(container)).toBe(7);
    });

    it('a large write and then the end of the container, beside a process that lives on: 20 times, all of it', async () => {
      const command = ['sh', '-c', 'sleep 1000 & head -c 500000 /dev/zero | tr "\\0" x; exit 3'];
      for (let round = 0; round < 20; round++) {
        const { status, stdout } = await runEntry(image, command, { DEBUG: 'record' });
        expect({ status, length: stdout.length }).toEqual({ status: 3, length: 500_000 });
      }
    });

    it('a stop reaches the command, and its last words the log', async () => {
      const container = await startEntry(image, untilTerm(3), { DEBUG: 'record' });
      await container.waitForLog(/up/);
      expect(await stopPromptly(container)).toBe(3);
      expect((await container.logs()).stdout).toBe('up\nstopping\n');
    });

    it.each([
      ['a user of its own', ['--user', '1000:1000'], '/tmp/ddbg-1000'],
      ['a root that is read-only', ['--read-only'], '/dev/shm/ddbg-0'],
      ['both', ['--read-only', '--user', '1000:1000'], '/dev/shm/ddbg-1000'],
      ['no capability at all', ['--cap-drop', 'ALL', '--security-opt', 'no-new-privileges'], '/run/ddbg'],
    ])('%s', async (_what, flags, state) => {
      const container = await startEntry(image, ['sh', '-c', 'echo out; exit 7'], {
        DEBUG: 'stayalive,record',
        flags,
      });
      await waitForPark(container);
      expect(await printed(container, state)).toContain('stdout "out\\n"\n');
      expect((await container.logs()).stdout).toBe('out\n');
    });

    it('no room in the state directory: one line, and the command runs', async () => {
      const { status, stdout, stderr } = await runEntry(image, ['sh', '-c', 'echo out; exit 7'], {
        DEBUG: 'record',
        entryFlags: ['--state-dir=/small/state'],
        flags: ['--tmpfs', '/small:size=1m,mode=777'],
      });
      expect({ status, stdout }).toEqual({ status: 7, stdout: 'out\n' });
      expect(ownLines(stderr).find((line) => line.startsWith('cannot record'))).toMatch(
        /^cannot record in \/small\/state\/output: No space left on device; the command runs unrecorded$/,
      );
    });

    it('on a terminal: colours, the size and its changes, and no carriage return too many', async () => {
      // docker attach first makes it a row and a column larger, to have everything drawn anew
      const waiting = 'until [ "$heard" ] && [ "$(stty size)" = "33 101" ]; do sleep 0.05; done';
      const body = `test -t 0 && test -t 1 && test -t 2 && stty size; trap heard=1 WINCH; printf "\\033[31mred\\033[m\\nup\\n"; ${waiting}; stty size; exit 7`;
      const container = await startEntry(image, ['bash', '-c', body], {
        DEBUG: 'stayalive,record',
        flags: ['--tty', '--interactive'],
      });
      await container.waitForLog(/up\r?$/m);
      await attach(container, 'stty rows 33 cols 101;');
      await waitForPark(container);
      const { stdout } = await container.logs();
      expect(stdout).toContain('\u001b[31mred\u001b[m\r\nup\r\n');
      expect(stdout).toContain('33 101\r\n');
      expect(stdout).not.toMatch(/^(red|up|\d+ \d+)\r\r\n/m);
      expect(await printed(container)).toMatch(/^terminal ".*red.*\\r\\nup\\r\\n33 101\\r\\n"$/m);
    });

    it('on a terminal: Ctrl-C is a stop, nothing is held', async () => {
      const container = await startEntry(
        image,
        ['sh', '-c', 'echo up; read x; echo line $x; exec sleep 1000'],
        {
          DEBUG: 'stayalive,record',
          flags: ['--tty', '--interactive'],
        },
      );
      await container.waitForLog(/up\r?$/m);
      const keyboard = await attach(container);
      keyboard.type('hello\n');
      await container.waitForLog(/^line hello/m);
      keyboard.type('\u0003');
      expect(await container.wait()).toBe(130);
      expect((await container.logs()).stdout).not.toContain('get in');
    });
  });

  it('the image has the last word: --allow', async () => {
    const options = { DEBUG: 'record', entryFlags: ['--allow=verbose,stayalive'] };
    const { status, stderr } = await runEntry(images.native, ['echo', 'ran'], options);
    expect(status).toBe(125);
    expect(ownLines(stderr)[0]).toContain('cannot use record of DEBUG');
  });

  it('a process that is left behind goes on writing into the log while the container is held', async () => {
    const body = '(until test -e /go; do sleep 0.05; done; echo from behind) & exit 7';
    const container = await startEntry(images.native, ['sh', '-c', body], { DEBUG: 'stayalive,record' });
    await waitForPark(container);
    await container.exec(['touch', '/go']);
    await container.waitForLog(/from behind/);
    expect(await stopPromptly(container)).toBe(7);
  });
});

/** A person at the container's terminal: `docker attach` below a pty of script(1). */
async function attach(container: Container, before = '') {
  const { host } = engine();
  const cli = host === undefined ? 'docker' : `docker --host ${host}`;
  const script = spawn('script', ['-qfec', `${before} ${cli} attach ${container.id}`, '/dev/null'], {
    stdio: ['pipe', 'ignore', 'inherit'],
  });
  onTestFinished(() => {
    script.kill('SIGKILL');
  });
  await expect
    .poll(async () => (await docker(['inspect', '-f', '{{.State.Running}}', container.id])).stdout.trim())
    .toBe('true');
  return { type: (keys: string) => script.stdin.write(keys) };
}
