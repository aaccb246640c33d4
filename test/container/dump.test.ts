/** `ddbg dump` inside of real containers, with the rights that Docker gives: no CAP_SYS_PTRACE. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import type { DumpAnswer } from '../../src/tool/dump.ts';
import { type Container, describeWithEngine, type ExecOptions } from './docker.ts';
import { eventually, mountFiles, startEntry } from './kit.ts';

/** fixtures/hang.c, compiled, as /t/hang. */
function mountHang(): string[] {
  const mounts = mountFiles({});
  const [directory = ''] = (mounts[1] ?? '').split(':');
  const source = fileURLToPath(new URL('../fixtures/hang.c', import.meta.url));
  execFileSync('cc', ['-static', '-pthread', '-O1', '-o', join(directory, 'hang'), source], {
    stdio: 'pipe',
  });
  return mounts;
}

const dump = (container: Container, argv: readonly string[] = [], options: ExecOptions = {}) =>
  container.exec(['ddbg', 'dump', ...argv], options);

/** But for the kernel's stacks, which are never shown in a container. */
const unread = (stdout: string) => stdout.match(/^cannot be read: (?!kernel stacks \().*$/gm) ?? [];

/** The first line, looked for until the command is where it hangs. */
function firstLine(container: Container, options: ExecOptions = {}) {
  return eventually(async () => (await dump(container, [], options)).stdout.split('\n')[0]);
}

describeWithEngine('ddbg dump', (images) => {
  const hang = (how: string, flags: readonly string[] = [], value = '') =>
    startEntry(images.native, ['/t/hang', how, value], {
      DEBUG: 'stayalive',
      flags: [...mountHang(), ...flags],
    });

  it('of the command, by root and as the user that it is', async () => {
    const container = await hang('pipe');
    await firstLine(container).toMatch(
      /^pid \d+ \(hang\) waits in read of fd 3, a pipe, written by pid \d+ \(writer\)$/,
    );
    const { status, stdout, stderr } = await dump(container);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(/^command: \/t\/hang pipe/m);
    expect(unread(stdout)).toEqual([]);
  });

  it('of a command of uid 1000: by root, who looks as that user; by itself; by a third', async () => {
    const container = await hang('deadlock', ['--user', '1000:1000']);
    for (const user of ['0', '1000:1000']) {
      await firstLine(container, { user }).toMatch(
        / is in a deadlock: thread \d+ \(forward\) waits for a mutex of /,
      );
    }
    const third = await dump(container, [], { user: '2000:2000' });
    expect(third.status).toBe(4);
    const { pid }: DumpAnswer = JSON.parse((await dump(container, ['--json'])).stdout);
    const refused = await dump(container, [String(pid)], { user: '2000:2000' });
    expect(refused.status).toBe(0);
    expect(refused.stdout).toMatch(
      /^cannot be read: .*system calls.* \(not permitted: needs the same user, or --cap-add SYS_PTRACE/m,
    );
    expect(refused.stdout).toMatch(/^threads: 3$/m);
  });

  it('limits of the container, its own sockets, and with a read-only root', async () => {
    const container = await hang('serve', [
      '--memory',
      '96m',
      '--pids-limit',
      '77',
      '--read-only',
      '--sysctl',
      'net.ipv6.conf.all.disable_ipv6=0',
    ]);
    await firstLine(container).toMatch(
      / in epoll_wait of fd 3 with 3 sockets: listening 127\.0\.0\.1:\d+, listening \[::1\]:\d+, established /,
    );
    const { stdout } = await dump(container);
    expect(stdout).toMatch(/^cgroup v[12]: memory \S+ \S+ of 96 MB.*; pids \d+ of 77; /m);
  });

  it('without a command: nothing to look at, 3', async () => {
    const container = await startEntry(images.native, ['sh', '-c', 'exit 3'], { DEBUG: 'stayalive' });
    await container.waitForLog(/let it go: /);
    const { status, stderr } = await dump(container);
    expect(status).toBe(3);
    expect(stderr).toMatch(/^ddbg: there is no command to look at: it is not running \(parked\)$/m);
  });

  it('on Node alone, without the native init', async () => {
    const container = await startEntry(images.node20, ['sleep', '1000'], { DEBUG: 'stayalive' });
    await firstLine(container).toMatch(/^pid \d+ \(sleep\) waits in clock_nanosleep for 1000 s$/);
  });
});
