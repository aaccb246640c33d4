/** `ddbg dump`: real processes that hang in every way we can make, and what is said of them. */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { takeLook } from '../../src/dump/look.ts';
import { dumpLines } from '../../src/dump/text.ts';
import type { DumpAnswer } from '../../src/tool/dump.ts';
import { hasTool } from '../overlay/reading.ts';
import { isRoot, node, script, startEntry, temporaryFolder } from './harness.ts';
import { hangProgram, runTool, startHanging, type ToolResult } from './tool.ts';

const DEADLINE_MS = 15_000;

/** Looks again until the first line is as expected: what says that it is ready is about to wait, and not there yet. */
async function lookUntil(
  pid: number,
  pattern: RegExp,
  argv: readonly string[] = [],
  before: readonly string[] = [],
): Promise<ToolResult & { first: string }> {
  const deadline = Date.now() + DEADLINE_MS;
  for (;;) {
    const result = runTool('dump', [String(pid), ...argv], before);
    const [first = ''] = result.stdout.split('\n');
    if (pattern.test(first)) return { ...result, first };
    if (Date.now() > deadline) expect(result.stdout + result.stderr).toMatch(pattern);
  }
}

function json(pid: number, before: readonly string[] = []): DumpAnswer {
  return JSON.parse(runTool('dump', [String(pid), '--json'], before).stdout);
}

/** Large, and wanted by one test: without it that one is skipped, also where everything else has to be there. */
const hasJava = spawnSync('java', ['-version']).status === 0;
if (!hasJava) console.error('\nSKIPPED: what needs java, which is not here\n');

const hang = (how: string, value = '', options = {}) => startHanging([hangProgram(), how, value], options);

describe('what it waits for', () => {
  it('a pipe: who writes to it', async () => {
    const { pid } = await hang('pipe');
    const { first, status, stderr } = await lookUntil(pid, /in read of/);
    expect(first).toMatch(
      new RegExp(`^pid ${pid} \\(hang\\) waits in read of fd 3, a pipe, written by pid \\d+ \\(writer\\)$`),
    );
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  });

  it('stdin: a pipe whose other end is ours', async () => {
    const { pid } = await startHanging(['sh', '-c', 'echo ready; exec cat'], { stdin: 'pipe' });
    const { first } = await lookUntil(pid, /\(cat\) waits in read/);
    // node makes such pipes as pairs of unix sockets
    expect(first).toMatch(/ waits in read of fd 0, a socket, unix connected$/);
  });

  it('a terminal', async () => {
    const line = 'stty -echo; echo ready; exec cat';
    const { pid } = await startHanging(['script', '-qfec', line, '/dev/null'], { stdin: 'pipe' });
    const [child] = json(pid).descendants;
    const { first } = await lookUntil(child?.pid ?? 0, /\(cat\) waits/);
    expect(first).toMatch(/ waits in read of fd 0, a terminal \(\/dev\/pts\/\d+\)$/);
  });

  it('a named pipe that nobody writes to: while it is opened, and afterwards', async () => {
    const fifo = join(temporaryFolder(), 'fi\nfo');
    execFileSync('mkfifo', [fifo]);
    const { pid } = await hang('fifo', fifo);
    const { first } = await lookUntil(pid, / in openat? of /);
    expect(first).toMatch(/of '.*\/fi\\nfo', a named pipe that nobody has opened at the other end$/);

    const shell = await startHanging(['bash', '-c', 'exec 3<>"$0"; echo ready; read -u 3 -r x', fifo]);
    const later = await lookUntil(shell.pid, / in read of /);
    expect(later.first).toMatch(
      /of fd 3, a named pipe \(.*\/fi\\nfo\), shared with nobody but itself, as far as can be seen$/,
    );
  });

  it('sockets, with addresses, state and who has the peer', async () => {
    const { pid } = await hang('serve');
    const { first, stdout } = await lookUntil(pid, / in epoll_wait /);
    const peer = `which is pid ${pid} \\(hang\\)`;
    expect(first).toMatch(
      new RegExp(
        `in epoll_p?wait of fd 3 with 3 sockets: listening 127\\.0\\.0\\.1:\\d+, listening \\[::1\\]:\\d+, ` +
          `established 127\\.0\\.0\\.1:\\d+ to 127\\.0\\.0\\.1:\\d+, ${peer}; a timerfd \\(fires in 3[56]\\d\\d(\\.\\d+)? s\\)$`,
      ),
    );
    expect(stdout).toMatch(/^ {2}4 rw an eventfd \(count 7\)$/m);
    expect(stdout).toMatch(/^ {2}9 rw a socket, established .* \(5 bytes not read\), which is/m);
    if (!hasTool('ss')) return;
    // what ss(8) says of the same sockets
    const seen = execFileSync('ss', ['-Htanp'], { encoding: 'utf8' })
      .split('\n')
      .filter((line) => line.includes(`pid=${pid},`))
      .map((line) => line.split(/\s+/))
      .map(([state, received, , local]) => `${state} ${state === 'LISTEN' ? 0 : received} ${local}`);
    const ours = (json(pid).descriptors ?? [])
      .flatMap(({ socket }) => (socket?.kind === 'tcp' ? [socket] : []))
      .map(
        ({ state, received, local }) => `${state === 'listening' ? 'LISTEN' : 'ESTAB'} ${received} ${local}`,
      );
    expect(ours.sort()).toEqual(seen.sort());
  });

  it('unix sockets, by path and abstract', async () => {
    const path = join(temporaryFolder(), 'so\ncket');
    const { pid } = await hang('unix', path);
    const { first, stdout } = await lookUntil(pid, / in accept/);
    expect(first).toMatch(/in accept4? of fd 3, a socket, unix listening .*\/so\\ncket$/);
    expect(stdout).toMatch(/^ {2}4 rw a socket, unix unconnected @ddbg-hidden$/m);
  });

  it('two threads that wait for each other’s mutex: a deadlock, named', async () => {
    const { pid } = await hang('deadlock');
    const { first, stdout } = await lookUntil(pid, /deadlock/);
    expect(first).toMatch(
      /is in a deadlock: thread \d+ \(forward\) waits for a mutex of thread (\d+) \(reverse\), thread \1 \(reverse\) waits for a mutex of thread \d+ \(forward\)$/,
    );
    expect(stdout).toMatch(
      new RegExp(`S in futex for the end of thread \\d+ \\(forward\\).*: ${pid} \\(hang\\)$`, 'm'),
    );
  });

  it('a mutex that the thread holds itself', async () => {
    const { pid } = await hang('self');
    const { first } = await lookUntil(pid, /deadlock/);
    expect(first).toMatch(new RegExp(`thread ${pid} \\(hang\\) waits for a mutex that it holds itself$`));
  });

  it('conditions only: a candidate, and no more is said', async () => {
    const { pid } = await hang('futexes');
    const { first } = await lookUntil(pid, /deadlock candidate/);
    expect(first).toMatch(
      /is a deadlock candidate: every one of 4 threads waits on a futex, without a time limit$/,
    );
  });

  it('a lock on a file: who holds it', async () => {
    const file = join(temporaryFolder(), 'lock');
    const { pid } = await hang('lock', file);
    const { first } = await lookUntil(pid, / in flock /);
    expect(first).toMatch(/in flock of fd 5, .*\/lock, for a lock that pid \d+ \(holder\) holds$/);
  });

  it('a child; several descriptors; a time', async () => {
    const waiting = await hang('child');
    const { first } = await lookUntil(waiting.pid, / in wait4 /);
    expect(first).toMatch(/waits in wait4 for its child, pid \d+ \(hang\)$/);
    const polling = await hang('poll', '', { stdin: 'ignore' });
    expect((await lookUntil(polling.pid, / in p?poll /)).first).toMatch(
      /with a pipe, written by nobody but itself, as far as can be seen; a pipe, written by nobody but itself, as far as can be seen, for 3600(000 ms| s) at the most$/,
    );
    const asleep = await startHanging(['sh', '-c', 'echo ready; exec sleep 3600.5']);
    expect((await lookUntil(asleep.pid, /\(sleep\)/)).first).toMatch(
      /waits in clock_nanosleep for 3600.5 s$/,
    );
  });

  it('stopped by a signal; held by a tracer; in uninterruptible sleep; a zombie', async () => {
    const stopped = await hang('threads', '1');
    process.kill(stopped.pid, 'SIGSTOP');
    expect((await lookUntil(stopped.pid, /stopped/)).first).toMatch(
      new RegExp(`is stopped by a signal \\(T\\); kill -CONT ${stopped.pid} lets it go on$`),
    );
    process.kill(stopped.pid, 'SIGCONT');
    await lookUntil(stopped.pid, /waits in pause for a signal/);

    const stuck = await hang('vfork');
    expect((await lookUntil(stuck.pid, /\(D\)/)).first).toMatch(
      /is in uninterruptible sleep \(D\) in \S+ \(in vfork\); no signal reaches it there, but perhaps KILL$/,
    );
    const parent = await hang('zombie');
    const [, zombie = ''] = /^zombie (\d+)$/m.exec(parent.said()) ?? [];
    const dead = await lookUntil(Number(zombie), /zombie/);
    expect(dead.stdout).not.toMatch(/file: \?|open files: 0/);
    expect(dead.first).toMatch(
      new RegExp(
        `has ended \\(a zombie\\): its parent, pid ${parent.pid} \\(hang\\), has not asked for its status$`,
      ),
    );
  });

  it('a processor that it burns', async () => {
    const { pid } = await hang('spin');
    const { first } = await lookUntil(pid, /burns/);
    const [, percent] = /burns CPU: (\d+) % of a core over 2\d\d ms$/.exec(first) ?? [];
    expect(Number(percent)).toBeLessThanOrEqual(110);
  });

  it('Node: its event loop', async () => {
    const server = `require('http').createServer().listen(0, '127.0.0.1', () => console.log('ready'))`;
    const { pid } = await startHanging([node, '-e', server]);
    const { first } = await lookUntil(pid, /epoll_p?wait/);
    expect(first).toMatch(
      /sleeps with all \d+ threads; the main thread in epoll_p?wait of fd \d+ with 1 socket: listening 127\.0\.0\.1:\d+; /,
    );
  });
});

describe('names and numbers', () => {
  it('what is deleted, names that are no text, signals', async () => {
    const file = join(temporaryFolder(), 'go\nne (deleted)');
    const { pid } = await hang('deleted', file);
    const { stdout } = await lookUntil(pid, /nanosleep/);
    expect(stdout).toMatch(
      new RegExp(`^pid ${pid} \\(od\\)d\\\\n\\\\xff name\\) waits in \\S+ for 3600.5 s$`, 'm'),
    );
    expect(stdout).toMatch(/^ {2}3 rw .*\/go\\nne \(deleted\) \(deleted\)$/m);
    expect(stdout).toMatch(/^signals: pending USR2; blocked USR2; ignored USR1$/m);
    const { name, descriptors } = json(pid);
    expect(name).toBe('od)d\n\udcff name');
    expect(descriptors?.find(({ fd }) => fd === 3)).toMatchObject({ target: file, isDeleted: true });
  });

  it('secrets in arguments and environment are masked, in the text and in the JSON', async () => {
    const planted = 'planted-s3cret-value';
    const env = { API_TOKEN: planted, URL: `https://me:${planted}@host/?token=${planted}` };
    const { pid } = await startHanging(
      [
        'bash',
        '-c',
        'echo ready; read x < <(sleep 3600)',
        'name',
        '--password',
        planted,
        `--token=${planted}`,
      ],
      { env },
    );
    const { stdout } = await lookUntil(pid, /./, ['--all']);
    expect(stdout).toMatch(/--password '?\*\*\*'? '?--token=\*\*\*/);
    expect(stdout).toMatch(/^environment: API_TOKEN=\*\*\*$/m);
    expect(stdout).not.toContain(planted);
    const whole = JSON.stringify(json(pid));
    expect(whole).toContain('API_TOKEN=***');
    expect(whole).not.toContain(planted);
  });

  it('... and in paths: open files, sockets, directory, executable, what it waits for', async () => {
    const planted = 'planted-s3cret-value';
    const folder = join(temporaryFolder(), planted);
    mkdirSync(folder);
    cpSync('/bin/sleep', join(folder, 'nap'));
    const fifo = join(folder, 'fifo');
    execFileSync('mkfifo', [fifo]);
    const env = { DB_PASSWORD: planted };
    const napping = await startHanging(['bash', '-c', 'exec 5>f; echo ready; exec ./nap 3600'], {
      env,
      cwd: folder,
    });
    const { stdout } = await lookUntil(napping.pid, /\(nap\)/, ['--all']);
    expect(stdout).toMatch(/^file: .*\/\*\*\*\/nap, directory: .*\/\*\*\*$/m);
    expect(stdout).toMatch(/^ {2}5 w {2}.*\/\*\*\*\/f$/m);
    const waiting = await startHanging([hangProgram(), 'fifo', fifo], { env });
    const { first } = await lookUntil(waiting.pid, / in openat? of /);
    expect(first).toMatch(/of '.*\/\*\*\*\/fifo'/);
    const listening = await hang('unix', join(folder, 'socket'), { env });
    await lookUntil(listening.pid, /in accept4? of fd 3, .*\/\*\*\*\/socket$/);
    for (const { pid } of [napping, waiting, listening]) {
      expect(JSON.stringify(json(pid))).not.toContain(planted);
      expect(runTool('dump', [String(pid), '--all']).stdout).not.toContain(planted);
    }
  });

  it('limits, memory, children, as ps and the kernel have them', async () => {
    const { pid } = await startHanging([
      'bash',
      '-c',
      'ulimit -Sn 12; exec 3</dev/null 4</dev/null 5</dev/null 6</dev/null 7</dev/null 8</dev/null 9</dev/null; sleep 3600 & echo ready; wait',
    ]);
    const { stdout } = await lookUntil(pid, / in wait4 for a child: pid \d+ \(sleep\)$/);
    expect(stdout).toMatch(/^open files: 1\d of 12, NEARLY ALL THAT ARE ALLOWED: /m);
    expect(stdout).toMatch(/^children: 1, with theirs 1\n {2}\d+ \(sleep\) sleeping$/m);
    const { memory, descendants, ranSeconds } = json(pid);
    const [rss, elapsed] = execFileSync('ps', ['-o', 'rss=,etimes=', '-p', String(pid)], { encoding: 'utf8' })
      .trim()
      .split(/\s+/)
      .map(Number);
    expect(memory.resident).toBe((rss ?? 0) * 1024);
    expect(Math.abs((ranSeconds ?? 0) - (elapsed ?? 0))).toBeLessThan(3);
    expect(descendants).toMatchObject([{ parent: pid, name: 'sleep', depth: 1 }]);
  });

  it('open files as lsof has them', async () => {
    if (!hasTool('lsof')) return;
    const { pid } = await startHanging([node, '-e', `console.log('ready'); setInterval(() => {}, 1e6)`]);
    const theirs = execFileSync('lsof', ['-n', '-P', '-a', '-d', '0-999', '-Ff', '-p', String(pid)], {
      encoding: 'utf8',
    });
    const seen = [...theirs.matchAll(/^f(\d+)$/gm)].map(([, fd]) => Number(fd));
    expect(json(pid).descriptors?.map(({ fd }) => fd)).toEqual(seen);
  });
});

describe('what is gone', () => {
  it('threads and processes may end at any moment of a look', async () => {
    const busy =
      'for i in $(seq 400); do sleep 0.0$((i % 10)) & done; echo ready; while :; do sleep 0.05; done';
    const { pid } = await startHanging(['bash', '-c', busy]);
    const children = json(pid).descendants.map((child) => child.pid);
    const looks = await Promise.all([...children.slice(-100), pid].map(takeLook));
    const ends = looks.map((look) => (look === undefined ? 'not there' : look.waits));
    expect(ends.at(-1)).toMatch(/wait4|runs|burns/);
    for (const look of looks) if (look !== undefined) expect(dumpLines(look).length).toBeGreaterThan(4);
    const shorter = await startHanging(['bash', '-c', 'echo ready; sleep 0.1; sleep 0.1']);
    const gone = await Promise.all(Array.from({ length: 10 }, () => takeLook(shorter.pid)));
    expect(gone.every((look) => look !== undefined)).toBe(true);
  });

  it('a process in a pid namespace of its own knows its threads by other numbers: nothing is made of them', async () => {
    if (!isRoot) return;
    const { pid } = await startHanging([
      'unshare',
      '--pid',
      '--fork',
      '--kill-child',
      hangProgram(),
      'deadlock',
    ]);
    const [child] = json(pid).descendants;
    const { first } = await lookUntil(child?.pid ?? 0, /futex/);
    expect(first).toMatch(
      /is a deadlock candidate: every one of 3 threads waits on a futex, without a time limit$/,
    );
  });
});

describe('size', () => {
  it('2,000 threads: one line, and less than a second', async () => {
    const { pid } = await hang('threads', '2000');
    const { stdout } = await lookUntil(
      pid,
      /sleeps with all 2000 threads; the main thread in pause for a signal$/,
    );
    expect(stdout).toMatch(
      /^ {2}2000 S in pause for a signal.*: \d+ \(hang\), \d+ \(hang\), \d+ \(hang\), 1997 more$/m,
    );
    const before = performance.now();
    const { threads } = json(pid);
    const tookMs = performance.now() - before;
    expect(threads).toHaveLength(2000);
    console.log(`2,000 threads: ${Math.round(tookMs)} ms, start of node included`);
    expect(tookMs).toBeLessThan(3000); // others use this machine; alone it is 0.5 s
  });

  it('10,000 open files: the first few, --all for all, and less than a second', async () => {
    const { pid } = await hang('files', '10000');
    const before = performance.now();
    const { stdout } = await lookUntil(pid, /waits in pause/);
    console.log(`10,000 open files: ${Math.round(performance.now() - before)} ms, start of node included`);
    expect(stdout).toMatch(/^open files: 10003 of \d+: 10001 devices, /m);
    expect(stdout.split('\n').length).toBeLessThan(50);
    const all = runTool('dump', [String(pid), '--all']);
    expect(all.stdout.match(/^ {2}\d+ r {2}\/dev\/zero$/gm)).toHaveLength(10_000);
    expect(json(pid).descriptors).toHaveLength(10_003);
  });
});

/** Where this is 1 or more only root with all its rights, or a parent, may look into a process. */
const ptraceScope = existsSync('/proc/sys/kernel/yama/ptrace_scope')
  ? Number(readFileSync('/proc/sys/kernel/yama/ptrace_scope', 'utf8'))
  : 0;

describe.skipIf(!isRoot || ptraceScope > 0)('who looks', () => {
  const asUser = ['setpriv', '--reuid=1000', '--regid=1000', '--clear-groups'];
  /** What root is in a container of Docker's. */
  const withoutPtrace = [
    'setpriv',
    '--bounding-set=-sys_ptrace,-sys_admin',
    '--inh-caps=-sys_ptrace,-sys_admin',
  ];

  it('the same user sees all but the kernel’s stacks', async () => {
    const { pid } = await hang('pipe', '', { uid: 1000 });
    const { stdout, stderr } = await lookUntil(
      pid,
      /in read of fd 3, a pipe, written by pid \d+ \(writer\)$/,
      [],
      asUser,
    );
    expect(stderr).toBe('');
    expect(stdout).toMatch(/^process: sleeping \(S\), uid 1000, gid 1000, /m);
    expect(stdout.match(/^cannot be read: (?!kernel stacks \().*$/gm)).toBeNull();
  });

  it('another user is told once what may not be read, and what mends that', async () => {
    const { pid } = await hang('pipe');
    const { stdout, first, status } = await lookUntil(pid, /./, [], asUser);
    expect(status).toBe(0);
    expect(first).toMatch(
      / waits (?:where it may not be seen from here|in the kernel's \S+, as far as may be seen)$/,
    );
    expect(stdout.match(/not permitted: needs the same user, or --cap-add SYS_PTRACE/g)).toHaveLength(1);
    expect(stdout).toMatch(
      /^cannot be read: (?=.*system calls)(?=.*open files)(?=.*the memory map).*\(not permitted: needs/m,
    );
    expect(json(pid, asUser)).toMatchObject({ descriptors: null, mapped: null, environment: null });
  });

  it('root without CAP_SYS_PTRACE looks as the user of the process', async () => {
    const { pid } = await hang('pipe', '', { uid: 1000 });
    const { stdout } = await lookUntil(
      pid,
      /in read of fd 3, a pipe, written by pid \d+ \(writer\)$/,
      [],
      withoutPtrace,
    );
    expect(stdout.match(/^cannot be read: (?!kernel stacks \().*$/gm)).toBeNull();
  });
});

describe('--signal', () => {
  it('Node without --report-on-signal: nothing is sent, and it is said how to switch it on', async () => {
    const { pid } = await startHanging([node, '-e', `console.log('ready'); setInterval(() => {}, 1e6)`]);
    const { status, stdout } = runTool('dump', [String(pid), '--signal']);
    expect(status).toBe(1);
    expect(stdout).toMatch(/^nothing was sent: node writes no .*NODE_OPTIONS='--report-on-signal'.*$/m);
    expect(json(pid).state).toBe('S');
  });

  it('Node with it: a report, where it is said', async () => {
    const folder = temporaryFolder();
    mkdirSync(join(folder, 'reports'));
    const { pid } = await startHanging(
      [node, '--report-directory=reports', '-e', `console.log('ready'); setInterval(() => {}, 1e6)`],
      { env: { NODE_OPTIONS: '--report-on-signal --report-filename=there.json' }, cwd: folder },
    );
    const { status, stdout } = runTool('dump', [String(pid), '--signal']);
    expect(status).toBe(0);
    expect(stdout).toMatch(
      /^SIGUSR2 was sent: node writes a diagnostic report on SIGUSR2; it goes to .*reports\/there\.json$/m,
    );
    const there = () => readdirSync(join(folder, 'reports'));
    await expect.poll(there, { timeout: DEADLINE_MS }).toEqual(['there.json']);
  });

  it('what catches no signal gets none', async () => {
    const plainProgram = await hang('threads', '1');
    const refused = runTool('dump', [String(plainProgram.pid), '--signal=QUIT']);
    expect(refused).toMatchObject({ status: 1 });
    expect(refused.stdout).toMatch(
      /^nothing was sent: what runs in pid \d+ \(hang\) is no runtime that answers/m,
    );
  });

  it.skipIf(!hasJava)('a JVM prints its threads', async () => {
    const folder = temporaryFolder();
    const source = script(
      folder,
      'Hang.java',
      'class Hang { public static void main(String[] a) throws Exception { System.out.println("ready"); Thread.sleep(3600000); } }',
    );
    const java = await startHanging(['java', source]);
    const { status, stdout } = runTool('dump', [String(java.pid), '--signal']);
    expect({ status, stdout }).toMatchObject({ status: 0 });
    expect(stdout).toMatch(/^SIGQUIT was sent: jvm prints its threads on SIGQUIT, and runs on; it goes to /m);
    await expect.poll(java.said, { timeout: DEADLINE_MS }).toMatch(/Full thread dump/);
  });

  it('Go: only where QUIT is spelt out, for it ends', async () => {
    // what the linker of Go leaves in a program, and what its runtime does on QUIT
    const go = () => startHanging([hangProgram('-DGO'), 'go']);
    const kept = await go();
    const gentle = runTool('dump', [String(kept.pid), '--signal']);
    expect(gentle.status).toBe(1);
    expect(gentle.stdout).toMatch(/^nothing was sent: go prints its goroutines on SIGQUIT and ENDS/m);
    expect(json(kept.pid).state).toBe('S');
    const ended = await go();
    const asked = runTool('dump', [String(ended.pid), '--signal=QUIT']);
    expect(asked.status).toBe(0);
    expect(asked.stdout).toMatch(/^SIGQUIT was sent: go prints .*; it goes to /m);
    await expect.poll(() => ended.child.exitCode, { timeout: DEADLINE_MS }).toBe(2);
    const plainC = await hang('threads', '1');
    expect(json(plainC.pid).runtime).toBeNull();
  });

  it('Python: what is registered is only said', async () => {
    const code =
      'import faulthandler, signal, time; faulthandler.register(signal.SIGUSR1); print("ready", flush=True); time.sleep(3600)';
    const python = spawnSync('python3', ['-c', 'import sys; print(sys.executable)'], { encoding: 'utf8' });
    if (python.status !== 0) return;
    const { pid } = await startHanging([python.stdout.trim(), '-X', 'faulthandler', '-c', code]);
    const { stdout } = runTool('dump', [String(pid)]);
    expect(stdout).toMatch(
      /^runtime: python, which faulthandler is on for fatal signals; SIGUSR1 is handled: /m,
    );
  });
});

describe('usage', () => {
  it.each([[['x']], [['1', '2']], [['--signal=KILL', '1']], [['0']]])('%j is refused with 2', (argv) => {
    const { status, stdout, stderr } = runTool('dump', argv);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toMatch(/^ddbg: cannot dump: /);
  });

  it('a process that is not there: 3', () => {
    const { status, stderr } = runTool('dump', ['4194999']);
    expect({ status, stderr }).toEqual({
      status: 3,
      stderr: 'ddbg: there is no process 4194999 that can be seen from here\n',
    });
  });

  it('--help', () => {
    expect(runTool('dump', ['--help']).stdout).toMatch(/^ddbg dump \[PID\]/);
  });

  it('without a PID: the command, and when that has ended it is said', async () => {
    const entry = startEntry(['sh', '-c', 'read x; exit 3'], { env: { DEBUG: 'stayalive' }, stdin: 'pipe' });
    const place = `--state-dir=${entry.stateDir}`;
    const look = () => runTool('dump', [place]);
    await expect
      .poll(() => look().stdout, { timeout: DEADLINE_MS })
      .toMatch(/^pid \d+ \(sh\) waits in read of fd 0, /);
    entry.child.stdin?.end('x\n');
    await entry.waitFor(/let it go: /);
    const { status, stderr } = look();
    expect(status).toBe(3);
    expect(stderr).toMatch(/^ddbg: there is no command to look at: it is not running \(parked\)$/m);
  });
});
