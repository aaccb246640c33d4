/** `ddbg check` where it is meant to run, in a real `docker build`, and in containers of other users and rights; `ddbg health`. */
import { expect, it } from 'vitest';
import type { CheckAnswer, Finding } from '../../src/tool/check.ts';
import { describeWithEngine, docker, type RunOptions, run, start } from './docker.ts';
import { changes, eventually, startEntry, waitForPark } from './kit.ts';

async function check(
  image: string,
  options: RunOptions = {},
): Promise<{ status: number; answer: CheckAnswer }> {
  const { status, stdout, stderr } = await run(image, { command: ['ddbg', 'check', '--json'], ...options });
  expect(stderr).toBe('');
  return { status, answer: JSON.parse(stdout) };
}

function of(answer: CheckAnswer, subject: string): Finding | undefined {
  return answer.findings.find((finding) => finding.subject === subject);
}

/** A Dockerfile to its end; the image is taken away again. */
async function build(lines: readonly string[]) {
  const tag = `ddbg-test-check-${Math.random().toString(36).slice(2)}`;
  const flags = ['--network', 'none', '--no-cache', '--force-rm', '--tag', tag];
  const result = await docker(['build', ...flags, '-'], { input: `${lines.join('\n')}\n` });
  if (result.status === 0) await docker(['rmi', '--force', tag]);
  return result;
}

describeWithEngine('ddbg check', (images) => {
  it('in a docker build, with the native init: no finding about it, and the build goes on', async () => {
    const { status, stdout } = await build([`FROM ${images.native}`, 'RUN ddbg check']);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^ok {6}pid 1: \/usr\/local\/bin\/ddbg-entry is the native init: /m);
    expect(stdout).toMatch(/^ok {6}native init: runs here \(linux-\w+\)$/m);
    expect(stdout).not.toMatch(/^problem/m);
  });

  it('in a docker build, as the USER of the image', async () => {
    const { status, stdout } = await build([`FROM ${images.native}`, 'USER 1000:1000', 'RUN ddbg check']);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^ok {6}state directory: \/tmp\/ddbg-1000 for uid 1000, \/run\/ddbg for root$/m);
    expect(stdout).toMatch(/^ok {6}user: uid 1000, which \/etc\/passwd does not name, gid 1000$/m);
  });

  it('in a docker build, something is wrong: the build fails, and says what', async () => {
    const { status, stdout, stderr } = await build([
      `FROM ${images.native}`,
      'RUN rm "$(command -v ddbg-entry)" && ddbg check',
    ]);
    expect(status).not.toBe(0);
    expect(stdout + stderr).toMatch(
      /^problem pid 1: PATH finds no ddbg-entry: an ENTRYPOINT with it would not start$/m,
    );
  });

  it('without the native init: a note with the way out, and it is true', async () => {
    const { status, answer } = await check(images.node20);
    expect(status).toBe(0);
    expect(of(answer, 'pid 1')).toMatchObject({
      level: 'note',
      wayOut: 'RUN ddbg-entry --install puts the native init there',
    });
    const mended = await build([`FROM ${images.node20}`, 'RUN ddbg-entry --install', 'RUN ddbg check']);
    expect(mended.stdout).toMatch(/^ok {6}pid 1: /m);
  });

  it('the native image has no finding but those of the tools that Debian has not got, and of cores', async () => {
    const { answer } = await check(images.native);
    const found = answer.findings.filter(({ level }) => level !== 'ok').map(({ subject }) => subject);
    expect(found.filter((subject) => subject !== 'core files')).toEqual(['tools']);
    expect(of(answer, 'shells')?.said).toMatch(/^bash, zsh, ash, sh: bash is the one/);
  });

  it('the state directory is the one that ddbg-entry then takes: as a user, and with --read-only', async () => {
    for (const flags of [[], ['--user', '1000'], ['--read-only'], ['--read-only', '--user', '1000']]) {
      const { status, answer } = await check(images.native, { flags });
      expect(status).toBe(0);
      const [place = ''] = of(answer, 'state directory')?.said.split(' ') ?? [];
      const container = await startEntry(images.native, ['sh', '-c', 'exit 3'], {
        DEBUG: 'stayalive',
        flags,
      });
      expect((await waitForPark(container)).environmentFile).toBe(`${place}/environ.sh`);
    }
  });

  it('limits as they are, and nothing is left behind', async () => {
    const flags = ['--memory', '128m', '--ulimit', 'core=1000:1000', '--pids-limit', '19'];
    const { answer } = await check(images.native, { flags });
    expect(of(answer, 'cgroup')?.said).toMatch(/memory 128 MB, .* pids 19$/);
    expect(of(answer, 'pids')).toMatchObject({ level: 'note' });
    expect(of(answer, 'core files')?.said).toMatch(/1000/);
    const container = await start(images.native, { command: ['sleep', '1000'], flags: ['--init'] });
    const before = await changes(container);
    expect((await container.exec(['ddbg', 'check'])).status).toBe(0);
    expect(await changes(container)).toEqual(before);
  });
});

describeWithEngine('ddbg health', (images) => {
  it('as a HEALTHCHECK: healthy while it runs, unhealthy while it is held', async () => {
    const flags = [
      ...['--health-cmd', 'ddbg health', '--health-interval', '500ms', '--health-retries', '1'],
      ...['--health-timeout', '20s'],
    ];
    const command = ['sh', '-c', 'echo up; while [ ! -e /tmp/go ]; do sleep 0.1; done; exit 3'];
    const container = await startEntry(images.native, command, { DEBUG: 'stayalive', flags });
    const health = async () => {
      const { State } = await container.inspect();
      return (State as unknown as { Health?: { Status: string } }).Health?.Status;
    };
    await eventually(health).toBe('healthy');
    await container.exec(['touch', '/tmp/go']);
    await waitForPark(container);
    await eventually(health).toBe('unhealthy');
  });

  it('off it is healthy', async () => {
    const container = await startEntry(images.native, ['sleep', '1000'], { flags: ['--init'] });
    expect(await container.exec(['ddbg', 'health'])).toEqual({ status: 0, stdout: '', stderr: '' });
  });
});
