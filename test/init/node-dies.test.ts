/** Node is a guest: it may die at any moment, and a stop may come at any moment. And the park, where it is gone. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  closeSync,
  constants,
  existsSync,
  openSync,
  readFileSync,
  readSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { snapshotTree } from '../overlay/trees.ts';
import { node, script, temporaryFolder } from '../process/harness.ts';
import {
  childrenOf,
  init,
  look,
  ONE_THREAD,
  parked,
  runInit,
  type Started,
  start,
  startInit,
  statusLine,
  until,
} from './kit.ts';

const STAY = { DEBUG: 'stayalive' };
const RELEASES = ['SIGTERM', 'SIGINT', 'SIGQUIT', 'SIGHUP'] as const;

/** Node, among the children of the init. */
async function nodeOf({ pid }: Started): Promise<number> {
  const isNode = (child: number) => {
    try {
      return readFileSync(`/proc/${child}/cmdline`, 'latin1').includes('--init-link=');
    } catch {
      return false;
    }
  };
  await until(() => childrenOf(pid).some((child) => isNode(child.pid)));
  return childrenOf(pid).find((child) => isNode(child.pid))?.pid ?? 0;
}

/** A server that begins an answer and never goes on. */
async function stall() {
  const server = createServer((_, response) => {
    response.writeHead(200, { 'content-length': '1000000' });
    response.write('x'.repeat(1000));
    asked();
  });
  let asked = (): void => {};
  const wasAsked = new Promise<void>((resolve) => {
    asked = resolve;
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/a.tar`, wasAsked };
}

/** A stderr that is full: node waits in its first line, until somebody reads. */
function fullPipe() {
  const file = join(temporaryFolder(), 'pipe');
  execFileSync('mkfifo', [file]);
  const { O_RDWR, O_NONBLOCK } = constants;
  const ours = openSync(file, O_RDWR | O_NONBLOCK);
  onTestFinished(() => closeSync(ours));
  try {
    for (;;) writeSync(ours, '.'.repeat(4096));
  } catch {
    // full
  }
  let text = '';
  const drain = () => {
    const buffer = Buffer.alloc(1 << 20);
    try {
      for (;;) text += buffer.subarray(0, readSync(ours, buffer)).toString().replace(/^\.+/, '');
    } catch {
      return text; // empty, for now
    }
  };
  return { file, drain };
}

/** The init with that stderr, and the moment in which its node waits in a write to it. */
async function stuck(command: readonly string[]) {
  const pipe = fullPipe();
  const entry = startInit(['sh', '-c', 'true'], { env: STAY }); // its folder and its end are the harness's
  await entry.status;
  const words = [...init.argv, `--state-dir=${entry.stateDir}2`, '--', ...command];
  const environment = { PATH: process.env.PATH, ...STAY };
  const child: ChildProcess = spawn('sh', ['-c', `exec "$@" 2>>${pipe.file}`, 'sh', ...words], {
    env: environment,
    stdio: 'ignore',
  });
  const pid = child.pid ?? 0;
  const ended = new Promise<number>((resolve) => child.on('exit', (code) => resolve(code ?? -1)));
  onTestFinished(() => {
    for (const one of [pid, ...childrenOf(pid).map((other) => other.pid)]) {
      if (look(one) !== undefined && child.exitCode === null) process.kill(one, 'SIGKILL');
    }
  });
  const nodePid = await nodeOf({ pid } as Started);
  const waits = () =>
    readFileSync(`/proc/${nodePid}/syscall`, 'utf8').startsWith(process.arch === 'x64' ? '1 0x2' : '64 0x2');
  await until(waits);
  return { pid, nodePid, ended, drain: pipe.drain };
}

describe('node is killed', () => {
  /** A node that kills itself before it has said anything. */
  const dying = (folder: string) => script(folder, 'dying', '#!/bin/sh\nkill -9 $$\n');

  test('before it plans: the command is not started, 125, and why', async () => {
    const env = { ...STAY, DDBG_NODE: dying(temporaryFolder()) };
    const run = await runInit(['echo', 'started'], { env });
    expect(run).toMatchObject({ status: 125, stdout: '' });
    expect(run.stderr).toMatch(/^ddbg-entry: node was killed by signal 9 before the command was started\n$/);
  });

  test('in a download: the container stays, as a fault; TERM lets go with 125', async () => {
    const { url, wasAsked } = await stall();
    const flags = [`--root=${temporaryFolder()}`];
    const entry = startInit(['echo', 'started'], { env: { DEBUG: `stayalive,fstree=${url}` }, flags });
    await wasAsked;
    process.kill(await nodeOf(entry), 'SIGKILL');
    await entry.waitFor(
      /node was killed by signal 9 before the command was started[\s\S]*\(status 125\), and node is gone; the container stays/,
    );
    entry.signal('SIGTERM');
    expect(await entry.status).toBe(125);
    expect(entry.stdout()).toBe('');
  });

  test('in a download, without stayalive: 125', async () => {
    const { url, wasAsked } = await stall();
    const entry = startInit(['echo', 'started'], {
      env: { DEBUG: `fstree=${url}` },
      flags: [`--root=${temporaryFolder()}`],
    });
    await wasAsked;
    process.kill(await nodeOf(entry), 'SIGKILL');
    expect(await entry.status).toBe(125);
  });

  describe('while the command runs', () => {
    const command = [
      'bash',
      '-c',
      // what a read has of a line when its time is over is in its variable, and in no later one (measured)
      'trap "exit 3" TERM; echo ready $$; until read -t 0.05 part; do line+=$part; done; exit $line$part',
    ];
    const begin = async (DEBUG: string, flags: readonly string[] = []) => {
      const entry = startInit(command, { env: { DEBUG }, flags, stdin: 'pipe' });
      const pid = Number((await entry.waitFor(/ready (\d+)/))[1]);
      process.kill(await nodeOf(entry), 'SIGKILL');
      await entry.waitFor(/node was killed by signal 9; the command runs on without it/);
      expect(look(pid)).toBeDefined();
      return { entry, tell: (line: string) => entry.child.stdin?.write(`${line}\n`) };
    };

    test.each([
      ['verbose', [], '7', 7],
      ['verbose', ['--exit-map=7:9'], '7', 9],
      ['stayalive', [], '0', 0],
      ['stayalive', ['--exit-map=7:0'], '7', 0],
      ['stayalive=1s', [], '7', 7],
    ] as const)('%s %j: its true end (%s) is the container’s', async (DEBUG, flags, line, status) => {
      const { entry, tell } = await begin(DEBUG, flags);
      tell(line);
      expect(await entry.status).toBe(status);
    });

    test.each([
      ['SIGTERM', 3],
      ['SIGHUP', 129],
    ] as const)('a stop (%s) reaches it, and is no fault', async (signal, status) => {
      const { entry } = await begin('stayalive');
      entry.signal(signal);
      expect(await entry.ended).toBe(status);
      expect(entry.stderr()).not.toContain('stays');
    });

    test.each([
      ['stayalive', '7'],
      ['stayalive=always', '0'],
    ])('%s: its end is held, and said; a stop lets go', async (DEBUG, line) => {
      for (const release of RELEASES) {
        const { entry, tell } = await begin(DEBUG);
        tell(line);
        await entry.waitFor(new RegExp(`\\(status ${line}\\), and node is gone; the container stays`));
        entry.signal(release);
        expect(await entry.status).toBe(Number(line));
      }
    });
  });

  test('while it judges: the fault is held all the same', async () => {
    const { pid, nodePid, ended, drain } = await stuck(['sh', '-c', 'exit 7']);
    process.kill(nodePid, 'SIGKILL');
    await until(() => /\(status 7\), and node is gone; the container stays/.test(drain()));
    process.kill(pid, 'SIGTERM');
    expect(await ended).toBe(7);
  });
});

describe('a stop', () => {
  test.each(RELEASES)('in a download (%s): nothing is started, nothing is changed', async (signal) => {
    const { url, wasAsked } = await stall();
    const root = temporaryFolder();
    writeFileSync(join(root, 'file'), 'as it was');
    const before = snapshotTree(root);
    const entry = startInit(['echo', 'started'], {
      env: { DEBUG: `stayalive,fstree=${url}` },
      flags: [`--root=${root}`],
    });
    await wasAsked;
    entry.signal(signal);
    expect(await entry.status).toBe(128 + { SIGTERM: 15, SIGINT: 2, SIGQUIT: 3, SIGHUP: 1 }[signal]);
    expect(entry.stdout()).toBe('');
    expect(entry.stderr()).not.toContain('stays');
    expect(snapshotTree(root)).toEqual(before);
  });

  test.each([
    ['the command has ended', ['sh', '-c', 'exit 7'], 7],
    ['it could not be started', ['no-such-command'], 127],
  ] as const)('while node says why it will stay (%s): it does not stay', async (_, command, status) => {
    for (const signal of RELEASES) {
      const { pid, ended, drain } = await stuck(command);
      process.kill(pid, signal);
      await until(() => BigInt(`0x${pendingOf(pid)}`) === 0n); // it has taken it
      drain();
      const reader = setInterval(drain, 20); // the rest of what node has to say
      try {
        expect([signal, await ended]).toEqual([signal, status]);
      } finally {
        clearInterval(reader);
      }
    }
  });
});

/** What waits for it; none, when it is gone. */
function pendingOf(pid: number): string {
  try {
    return statusLine(pid, 'ShdPnd') || '0';
  } catch {
    return '0';
  }
}

describe('parked', () => {
  const fault = (env: Record<string, string> = STAY, body = 'exit 7') =>
    startInit(['sh', '-c', body], { env });

  test.each(RELEASES)('%s lets go, with the fault’s status and a line', async (signal) => {
    const entry = fault();
    await parked(entry);
    entry.signal(signal);
    expect(await entry.status).toBe(7);
    expect(entry.stderr()).toContain(`let go by ${signal}, ending with status 7`);
  });

  test('so does WINCH without a terminal', async () => {
    const apache = fault();
    await parked(apache);
    apache.signal('SIGWINCH');
    expect(await apache.status).toBe(7);
  });

  test('so does what the map names', async () => {
    const mapped = startInit(['false'], { env: STAY, flags: ['--stop-signal-map=RTMIN+3:TERM'] });
    await parked(mapped);
    mapped.signal(37);
    expect(await mapped.status).toBe(1);
    expect(mapped.stderr()).toContain('let go by SIGRTMIN+3, ending with status 1');
  });

  test('a time limit ends it, with and without node', async () => {
    const entry = fault({ DEBUG: 'stayalive=1s' });
    await parked(entry);
    expect(await entry.status).toBe(7);
    expect(entry.stderr()).toContain('the time limit is over, ending with status 7');
  });

  test.skipIf(process.arch !== 'x64')('it waits in 100 kB', async () => {
    const entry = fault();
    await parked(entry);
    expect(Number.parseInt(statusLine(entry.pid, 'VmRSS'), 10)).toBeLessThanOrEqual(100);
  });

  test('it is one thread without a child, and never wakes', async () => {
    const entry = fault();
    await parked(entry);
    const { pid } = entry;
    expect(statusLine(pid, 'Threads')).toBe(ONE_THREAD);
    const switches = () =>
      ['voluntary_ctxt_switches', 'nonvoluntary_ctxt_switches'].map((name) => statusLine(pid, name));
    await until(() => look(pid)?.state === 'S');
    const before = switches();
    const limited = fault({ DEBUG: 'stayalive=1s' }); // a second and more passes
    expect(await limited.status).toBe(7);
    expect(switches()).toEqual(before);
    for (const other of ['SIGUSR2', 'SIGCONT', 'SIGALRM', 'SIGURG', 'SIGTSTP', 'SIGPIPE'] as const)
      entry.signal(other);
    await until(() => BigInt(`0x${pendingOf(pid)}`) === 0n);
    await until(() => look(pid)?.state === 'S');
    expect(look(pid)).toBeDefined();
  });

  test('no signal counts of one who could not kill us anyway', async () => {
    const as = (uid: number, ...argv: readonly string[]) =>
      ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', ...argv] as const;
    const entry = start([...as(4242, ...init.argv), '--', 'sh', '-c', 'echo run; exit 7'], { env: STAY });
    await parked(entry);
    const kill = (uid: number, signal: string) => {
      const [file, ...argv] = as(uid, 'kill', '-s', signal, String(entry.pid));
      return spawnSync(file, argv, { encoding: 'utf8' });
    };
    for (const signal of ['USR1', 'TERM', 'INT', 'QUIT', 'HUP', 'WINCH', 'CHLD', 'KILL']) {
      expect(kill(4343, signal)).toMatchObject({
        status: 1,
        stderr: expect.stringContaining('Operation not permitted'),
      });
    }
    expect(look(entry.pid)?.state).toBe('S');
    expect([entry.stdout(), childrenOf(entry.pid)]).toEqual(['run\n', []]);
    expect(kill(4242, 'TERM').status).toBe(0);
    expect(await entry.status).toBe(7);
  });

  describe('USR1 runs the command again', () => {
    test('also where it comes before node is done with the park', async () => {
      const file = join(temporaryFolder(), 'runs');
      const { pid, ended, drain } = await stuck([
        'sh',
        '-c',
        `echo >>${file}; test $(wc -l <${file}) = 2 || exit 7`,
      ]);
      process.kill(pid, 'SIGUSR1');
      await until(() => BigInt(`0x${pendingOf(pid)}`) === 0n); // it has taken it
      const reader = setInterval(drain, 20); // the rest of what node has to say
      try {
        expect(await ended).toBe(0);
      } finally {
        clearInterval(reader);
      }
      expect(readFileSync(file, 'utf8')).toBe('\n\n');
    });

    test('and what is left of a time limit stays, where node has failed at it', async () => {
      const folder = temporaryFolder();
      const DDBG_NODE = script(
        folder,
        'node',
        `#!/bin/sh\ntest ! -e ${folder}/gone || kill -9 $$\nexec ${node} "$@"\n`,
      );
      const entry = fault({ DEBUG: 'stayalive=6s', DDBG_NODE });
      await parked(entry);
      expect(await fault({ DEBUG: 'stayalive=3s' }).status).toBe(7); // three seconds and more have passed
      writeFileSync(join(folder, 'gone'), '');
      entry.signal('SIGUSR1');
      await entry.waitFor(/node was killed by signal 9[\s\S]*the container stays: /);
      const begun = performance.now();
      expect(await entry.status).toBe(7);
      expect(performance.now() - begun).toBeLessThan(4_500);
    });

    /** Succeeds where there is a file, else ends with 7. */
    const retry = (file: string) => fault(STAY, `echo run in "$PWD" of $0; test -e ${file} || exit 7`);

    test('and it succeeds: the container ends with 0', async () => {
      const file = join(temporaryFolder(), 'mended');
      const entry = retry(file);
      await parked(entry);
      expect(existsSync(file)).toBe(false);
      writeFileSync(file, '');
      entry.signal('SIGUSR1');
      expect(await entry.status).toBe(0);
      const [first, second, rest] = entry.stdout().split('\n');
      expect([second, rest]).toEqual([first, '']);
    });

    test('and it faults again, and again: parked each time, and let go with the last status', async () => {
      const file = join(temporaryFolder(), 'status');
      writeFileSync(file, '7');
      const entry = fault(STAY, `exit $(cat ${file})`);
      await parked(entry);
      for (const status of ['8', '9']) {
        writeFileSync(file, status);
        entry.signal('SIGUSR1');
        await entry.waitFor(new RegExp(`exited with status ${status}[\\s\\S]*ends with status ${status}`));
        await until(() => childrenOf(entry.pid).length === 0);
        expect(statusLine(entry.pid, 'Threads')).toBe(ONE_THREAD);
      }
      entry.signal('SIGTERM');
      expect(await entry.status).toBe(9);
    });

    test('and a stop then is the command’s again', async () => {
      const file = join(temporaryFolder(), 'mended');
      const entry = fault(
        STAY,
        `test -e ${file} || exit 7; trap "exit 5" TERM; echo ready; while :; do sleep 0.05; done`,
      );
      await parked(entry);
      writeFileSync(file, '');
      entry.signal('SIGUSR1');
      await entry.waitFor(/^ready/m);
      entry.signal('SIGTERM');
      expect(await entry.status).toBe(5);
    });

    test('or cannot, where node has vanished: it says so and stays', async () => {
      const folder = temporaryFolder();
      const DDBG_NODE = script(
        folder,
        'node',
        `#!/bin/sh\ntest ! -e ${folder}/gone || kill -9 $$\nexec ${node} "$@"\n`,
      );
      const entry = fault({ ...STAY, DDBG_NODE });
      await parked(entry);
      writeFileSync(join(folder, 'gone'), '');
      entry.signal('SIGUSR1');
      await entry.waitFor(
        /node was killed by signal 9 before the command was started[\s\S]*the container stays/,
      );
      await until(() => childrenOf(entry.pid).length === 0);
      entry.signal('SIGTERM');
      expect(await entry.status).toBe(7);
    });
  });
});

describe('node is no help', () => {
  const trapping = ['bash', '-c', 'trap "exit 3" TERM; echo ready; until read -t 0.1 x; do :; done'];

  test('its death is said to nobody: the SIGPIPE of our line is not for the command', async () => {
    const entry = startInit(trapping, { env: { DEBUG: 'verbose' }, stdin: 'pipe' });
    await entry.waitFor(/^ready$/m);
    entry.child.stderr?.destroy();
    const pid = await nodeOf(entry);
    process.kill(pid, 'SIGKILL');
    await until(() => !childrenOf(entry.pid).some((child) => child.pid === pid));
    entry.signal('SIGTERM');
    expect(await entry.status).toBe(3);
  });

  test('it is stopped: a stop ends the command, and us soon after', async () => {
    const entry = startInit(trapping, { env: STAY, stdin: 'pipe' });
    await entry.waitFor(/^ready$/m);
    process.kill(await nodeOf(entry), 'SIGSTOP');
    entry.signal('SIGTERM');
    expect(await entry.status).toBe(3);
  });

  test('perhaps none of our words is there, and it fails: the command runs all the same', async () => {
    const env = { DEBUG: 'stay:*', DDBG_NODE: '/bin/false' };
    expect(await runInit(['sh', '-c', 'echo "$DEBUG"'], { env })).toMatchObject({
      status: 0,
      stdout: 'stay:*\n',
      stderr: '',
    });
  });
});
