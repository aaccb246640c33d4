/** The harness itself: an engine, the images and the few words of docker.ts do what the other tests rely on. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { describeWithEngine, docker, run, start, startWebServer, type WebServer } from './docker.ts';

/** DDBG_TEST_NODE: the Node of some of the images. */
const given = process.env.DDBG_TEST_NODE;
const givenVersion =
  given === undefined ? undefined : execFileSync(given, ['--version'], { encoding: 'utf8' }).trim();

describeWithEngine('the engine of the container tests', (images) => {
  describe.each([
    [images.node20, 'v20.'],
    [images.node24, givenVersion === undefined || givenVersion.startsWith('v20.') ? 'v24.' : givenVersion],
    [images.native, givenVersion ?? 'v20.'],
  ])('image %s', (image, version) => {
    it('has its Node, npm and the packed package', async () => {
      const node = await run(image, { command: ['node', '--version'] });
      expect(node).toMatchObject({ status: 0, stderr: '' });
      expect(node.stdout).toContain(version);
      const both = await run(image, { command: ['sh', '-c', 'npm --version && which npx ddbg-entry'] });
      expect(both).toMatchObject({ status: 0, stderr: '' });
      expect(both.stdout).toMatch(/^\d+\.\d+\.\d+\n\/usr\/local\/bin\/npx\n\/usr\/local\/bin\/ddbg-entry\n$/);
    });

    it('keeps stdout, stderr and the exit status apart', async () => {
      const script = 'cat; echo "$WORD"; echo err >&2; exit 7';
      const env = { WORD: 'a b' };
      const ended = await run(image, { command: ['-c', script], entrypoint: '/bin/sh', env, input: 'in\n' });
      expect(ended).toEqual({ status: 7, stdout: 'in\na b\n', stderr: 'err\n' });
    });
  });

  it('has every shell and tool that the tests name', async () => {
    for (const shell of ['bash', 'dash', 'ash', 'ksh', 'zsh']) {
      const ended = await run(images.base, { command: [shell, '-c', 'echo "$1"', shell, 'yes'] });
      expect([shell, ended.status, ended.stdout]).toEqual([shell, 0, 'yes\n']);
    }
    const tools = ['curl', 'tar', 'ps', 'ldconfig', 'busybox'];
    const found = await run(images.base, { command: ['sh', '-c', `which ${tools.join(' ')} | wc -l`] });
    expect(found.stdout.trim()).toBe(String(tools.length));
  });

  it('reports a signal as 128 + n', async () => {
    const container = await start(images.base, {
      command: ['sh', '-c', 'trap "exit 3" USR1; echo up; while :; do sleep 0.1; done'],
    });
    await container.waitForLog(/^up$/m);
    await container.kill('KILL');
    expect(await container.wait()).toBe(137);
    expect((await container.inspect()).State).toMatchObject({ Status: 'exited', ExitCode: 137, Pid: 0 });
  });

  it('stops, executes beside, and removes', async () => {
    const script = 'trap "exit 3" TERM; echo up; echo warn >&2; while :; do sleep 0.1; done';
    const container = await start(images.base, { command: ['sh', '-c', script] });
    await container.waitForLog(/^up$/m);
    const beside = await container.exec(['sh', '-c', 'id -u; echo "$X"; exit 5'], {
      user: '1234',
      env: { X: 'x' },
    });
    expect(beside).toEqual({ status: 5, stdout: '1234\nx\n', stderr: '' });
    await container.stop({ timeoutS: 20 });
    expect(await container.wait()).toBe(3);
    expect(await container.logs()).toEqual({ stdout: 'up\n', stderr: 'warn\n' });
    await container.remove();
    expect((await docker(['inspect', container.name])).status).not.toBe(0);
  });

  it('says what the log was when it does not match', async () => {
    const ended = await start(images.base, { command: ['echo', 'something else'] });
    await expect(ended.waitForLog(/ready/)).rejects.toThrow(/has ended.*something else/s);
    const silent = await start(images.base, { command: ['sleep', '60'] });
    await expect(silent.waitForLog(/ready/, 300)).rejects.toThrow(/after 300 ms/);
  });

  it('fails a run that does not end, and removes its container', async () => {
    const label = 'test.endless';
    const endless = run(images.base, {
      command: ['sleep', '60'],
      flags: ['--label', label],
      deadlineMs: 1500,
    });
    await expect(endless).rejects.toThrow(/not done after 1500 ms/);
    expect((await docker(['ps', '--all', '--quiet', '--filter', `label=${label}`])).stdout).toBe('');
  });

  describe('a web server that a hook starts', () => {
    let server: WebServer;
    beforeAll(async () => {
      server = await startWebServer({
        'a/hello.txt': Buffer.from('hello\n'),
        'copy.ts': import.meta.filename,
      });
    });

    it('is reached from a container that joins it', async () => {
      const fetched = await run(images.node20, {
        network: server.network,
        command: ['curl', '-sS', '--fail', `${server.url}/a/hello.txt`],
      });
      expect(fetched).toEqual({ status: 0, stdout: 'hello\n', stderr: '' });
      await server.container.waitForLog(/^GET \/a\/hello\.txt 200$/m);
    });

    it('is still there for the next test, and serves a copied file', async () => {
      const fetched = await run(images.node24, {
        network: server.network,
        command: [
          'node',
          '-e',
          `fetch('${server.url}/copy.ts').then(r => r.text()).then(t => process.stdout.write(t))`,
        ],
      });
      expect(fetched.stdout).toBe(readFileSync(join(server.dir, 'copy.ts'), 'utf8'));
    });

    it('is not reached without joining it', async () => {
      const fetched = await run(images.node20, { command: ['curl', '-sS', `${server.url}/a/hello.txt`] });
      expect(fetched.status).toBe(7);
    });
  });
});
