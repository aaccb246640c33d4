/** The bin ddbg in real containers: what somebody types who has come in with docker exec. */
import { spawn } from 'node:child_process';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type Container, describeWithEngine, engine } from './docker.ts';
import { eventually, startEntry, tarGz, waitForPark } from './kit.ts';

/** `docker exec CONTAINER ddbg ... --json`: its exit status and what it answered. */
async function ask(
  container: Container,
  ...args: string[]
): Promise<{ status: number; json: Record<string, unknown> }> {
  const { status, stdout } = await container.exec(['ddbg', ...args, '--json']);
  return { status, json: JSON.parse(stdout) };
}

const SERVICE = ['sh', '-c', 'echo "port $(cat /etc/port)"; test "$(cat /etc/port)" -gt 1024'];

describeWithEngine('ddbg', (images) => {
  describe.each([
    ['node alone', images.node20],
    ['native init', images.native],
    ['Node 24', images.node24],
  ])('%s', (name, image) => {
    it('fault, park, report, edit, rerun, success: the container ends with 0', async () => {
      const container = await startEntry(image, SERVICE, { DEBUG: 'stayalive' });
      const startedAt = performance.now();
      await waitForPark(container);
      const report = await container.exec(['ddbg', 'report']);
      expect(report).toMatchObject({ status: 0, stdout: expect.stringMatching(/exited with status [12]/) });
      await container.exec(['sh', '-c', 'echo 8080 > /etc/port']);
      expect(await container.exec(['ddbg', 'rerun'])).toMatchObject({
        status: 0,
        stdout: expect.stringContaining('run 2'),
      });
      expect(await container.wait()).toBe(0);
      console.log(
        `${name}: from the start over park, report, edit and rerun to the end in ${Math.round(performance.now() - startedAt)} ms`,
      );
      expect((await container.logs()).stdout).toBe('port \nport 8080\n');
    });

    it('the same by a script that reads JSON only', async () => {
      const container = await startEntry(image, ['sh', '-c', 'read -r wait < /tmp/go; . /etc/service'], {
        DEBUG: 'stayalive',
        entryFlags: [],
        flags: ['--tmpfs', '/tmp'],
      });
      await eventually(async () => (await container.exec(['mkfifo', '/tmp/go'])).stderr).toMatch(/^$|exists/);
      // Without its fifo the first run may have failed at once: that is a fault too.
      if ((await ask(container, 'wait', '--for', 'running', '--timeout', '1s')).status === 0) {
        await container.exec(['sh', '-c', 'echo > /tmp/go']);
      }
      expect((await ask(container, 'wait', '--for', 'parked', '--timeout', '30s')).json).toMatchObject({
        phase: 'parked',
      });
      const { json } = await ask(container, 'report');
      expect(json).toMatchObject({ kind: 'exited', run: 1 });
      expect(
        (await ask(container, 'rerun', '--env', 'PORT=1', '--', 'sh', '-c', 'exit "$PORT"')).json,
      ).toMatchObject({ run: 2 });
      expect((await ask(container, 'wait', '--timeout', '30s')).json).toMatchObject({
        run: 2,
        end: { status: 1 },
      });
      expect((await ask(container, 'status')).json).toMatchObject({
        runs: [{ run: 1 }, { run: 2, status: 1 }],
      });
      expect((await ask(container, 'release', '77')).json).toMatchObject({ released: true, status: 77 });
      expect(await container.wait()).toBe(77);
    });

    it('a patch while it is parked: fstree, diff, revert, and rerun --fstree', async () => {
      const container = await startEntry(image, SERVICE, { DEBUG: 'stayalive' });
      await waitForPark(container);
      const patch = tarGz({ 'etc/port': '9090\n' }).toString('base64');
      await container.exec(['sh', '-c', `echo ${patch} | base64 -d > /root/patch.tar.gz`]);
      expect((await container.exec(['ddbg', 'fstree', '/root/patch.tar.gz'])).stdout).toContain('changed: 1');
      expect((await container.exec(['ddbg', 'diff'])).stdout).toContain('+9090');
      expect((await container.exec(['ddbg', 'revert'])).stdout).toContain('taken back: 1 overlay');
      expect((await container.exec(['cat', '/etc/port'])).status).toBe(1);
      expect(
        (await container.exec(['sh', '-c', 'cd /root && ddbg rerun --fstree patch.tar.gz'])).status,
      ).toBe(0);
      expect(await container.wait()).toBe(0);
    });

    it('the environment of a program that another user runs, byte for byte, though root may not look into it', async () => {
      const inner = 'cat /proc/$$/environ > /tmp/environ; sleep 1.5; exit 3';
      const outer = `export EARLY=1; exec setpriv --reuid 1000 --regid 1000 --clear-groups env LATE.dotted="\${EARLY}2" bash -c '${inner}'`;
      const container = await startEntry(image, ['bash', '-c', outer], { DEBUG: 'stayalive' });
      await waitForPark(container);
      const seen = await container.exec([
        'ddbg',
        'shell',
        '--',
        'sh',
        '-c',
        'id -u; cmp /proc/$$/environ /tmp/environ && grep -az LATE /tmp/environ',
      ]);
      expect(seen).toMatchObject({ status: 0, stdout: '1000\nLATE.dotted=12\0' });
    });

    it.each([
      ['--user 1000:1000', ['--user', '1000:1000']],
      ['--read-only', ['--read-only']],
      ['--cap-drop ALL', ['--cap-drop', 'ALL', '--security-opt', 'no-new-privileges']],
    ])('%s', async (_, flags) => {
      const container = await startEntry(image, ['sh', '-c', 'exit "${STATUS-7}"'], {
        DEBUG: 'stayalive',
        flags,
      });
      await waitForPark(container);
      expect((await ask(container, 'status')).json).toMatchObject({ phase: 'parked', end: { status: 7 } });
      expect((await container.exec(['ddbg', 'shell', '--', 'sh', '-c', 'echo "$HOME"'])).status).toBe(0);
      expect((await ask(container, 'rerun', '--env', 'STATUS=8')).json).toMatchObject({ run: 2 });
      expect((await ask(container, 'wait', '--timeout', '30s')).json).toMatchObject({ end: { status: 8 } });
      if (flags[0] === '--user') {
        const other = await container.exec(['ddbg', 'status'], { user: '1001' });
        expect(other).toMatchObject({ status: 4, stderr: expect.stringContaining('uid 1000') });
        expect(await container.exec(['ddbg', 'shell', '--', 'id', '-u'], { user: '0' })).toMatchObject({
          stdout: '1000\n',
        });
      }
      expect((await ask(container, 'release')).status).toBe(0);
      expect(await container.wait()).toBe(8);
    });

    it('a shell on a terminal: the prompt says where one is, Ctrl-C is the shell’s, the status is its', async () => {
      const container = await startEntry(image, ['sh', '-c', 'export MARK=1; exit 3'], {
        DEBUG: 'stayalive',
      });
      await waitForPark(container);
      const terminal = openTerminal(container, ['ddbg', 'shell']);
      await terminal.waitFor(/\(parked: status 3\)/);
      terminal.type('tty; echo "$- done"\r');
      await terminal.waitFor(/\/dev\/pts\/\d+[\s\S]*\S*m\S* done/); // with job control
      terminal.type('sleep 100\r');
      await eventually(async () => (await container.exec(['ps', '-e'])).stdout).toContain('sleep');
      terminal.type('\u0003');
      terminal.type('env | grep -c -e PS1 -e ENV= ; exit 42\r');
      await terminal.waitFor(/^0\r?$/m);
      expect(await terminal.ended).toBe(42);
      expect((await container.inspect()).State.Running).toBe(true);
    });
  });
});

/** `docker exec -it` on a terminal of its own. */
function openTerminal(container: Container, command: readonly string[]) {
  const { host } = engine();
  const words = [
    'docker',
    ...(host === undefined ? [] : ['--host', host]),
    'exec',
    '-it',
    container.id,
    ...command,
  ];
  const child = spawn(
    'script',
    ['--quiet', '--return', '--flush', '--command', words.join(' '), '/dev/null'],
    {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, TERM: 'dumb' },
    },
  );
  onTestFinished(() => void child.kill('SIGKILL'));
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (piece: string) => {
    text += piece;
  });
  return {
    type: (keys: string) => child.stdin.write(keys),
    waitFor: (pattern: RegExp) => expect.poll(() => text, { timeout: 15_000, interval: 20 }).toMatch(pattern),
    ended: new Promise<number | null>((resolve) => child.on('exit', resolve)),
  };
}
