/** The command's status, signals, environment and descriptors, off and on. */
import { execFileSync } from 'node:child_process';
import { chmodSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { FORWARDED } from '../../src/signals.ts';
import { cli, isRoot, node, runEntry, script, startEntry, temporaryFolder } from './harness.ts';

const signalsFixture = fileURLToPath(new URL('../fixtures/signals.bash', import.meta.url));
const off = {};
const on = { DEBUG: 'stayalive=1s' };
const OFF_VALUES = [undefined, '', '1', 'true', '*', 'express:*', ' a , b', 'x'.repeat(100_000)];

describe('exit status', () => {
  test.each([0, 1, 2, 7, 125, 126, 127, 128, 137, 143, 254, 255])(
    '%i stays %i, off and on',
    async (status) => {
      const command = ['sh', '-c', `exit ${status}`];
      const [absent, present] = await Promise.all([
        runEntry(command, { env: off }),
        runEntry(command, { env: { DEBUG: 'verbose' } }),
      ]);
      expect(absent).toEqual({ status, stdout: '', stderr: '' });
      expect(present.status).toBe(status);
    },
  );

  test.each([
    ['SEGV', 139],
    ['TERM', 143],
    ['KILL', 137],
    ['ABRT', 134],
    ['USR1', 138],
  ])('death by %s is %i', async (signal, status) => {
    const command = ['sh', '-c', `kill -${signal} $$`];
    const [absent, present] = await Promise.all([
      runEntry(command, { env: off }),
      runEntry(command, { env: { DEBUG: 'verbose' } }),
    ]);
    expect([absent.status, present.status]).toEqual([status, status]);
  });
});

describe('a command that cannot be started', () => {
  test.each([off, { DEBUG: 'verbose' }])('not found: 127 (%j)', async (env) => {
    const { status, stderr } = await runEntry(['no-such-command'], { env });
    expect(status).toBe(127);
    expect(stderr).toContain('no-such-command: not found in PATH');
  });

  test('not executable, a directory: 126', async () => {
    const folder = temporaryFolder();
    const plain = script(folder, 'plain', '#!/bin/sh\n', 0o644);
    for (const file of [plain, folder]) expect((await runEntry([file])).status).toBe(126);
  });

  test('the wrong architecture: 126, and which', async () => {
    const elf = Buffer.alloc(64);
    elf.write('\u007fELF', 'latin1');
    elf.set([2, 1, 1], 4);
    elf.writeUInt16LE(2, 16);
    elf.writeUInt16LE(process.arch === 'arm64' ? 62 : 183, 18);
    const folder = temporaryFolder();
    const file = script(folder, 'foreign', elf);
    for (const env of [off, { DEBUG: 'verbose' }]) {
      const { status, stderr } = await runEntry([file], { env });
      expect(status).toBe(126);
      expect(stderr).toMatch(/is built for (aarch64|x86_64), this machine is/);
    }
  });

  test.each([
    ['#!/no/such/shell\n', 'needs /no/such/shell'],
    ['#!/bin/sh\r\necho\r\n', 'Windows line ends'],
  ])('its interpreter is missing: 127, and why (%j)', async (text, reason) => {
    const file = script(temporaryFolder(), 'entry', text);
    const { status, stderr } = await runEntry([file], { env: { DEBUG: 'verbose' } });
    expect(status).toBe(127);
    expect(stderr).toContain(reason);
  });

  test('it is a fault: stayalive parks', async () => {
    const entry = startEntry(['no-such-command'], { env: { DEBUG: 'stayalive' } });
    await entry.waitFor(/could not be started: no-such-command: not found in PATH[\s\S]*let it go/);
    expect(readFileSync(join(entry.stateDir, 'environ'), 'utf8')).toContain('HOME=/root\0');
    entry.kill('SIGTERM');
    expect(await entry.status).toBe(127);
  });

  test('a script without #! is run by sh, as execvp does', async () => {
    const file = script(temporaryFolder(), 'entry', 'echo plain; exit 7\n');
    expect(await runEntry([file])).toEqual({ status: 7, stdout: 'plain\n', stderr: '' });
  });
});

describe('off', () => {
  test.each(OFF_VALUES)('DEBUG=%s is nobody’s business', async (DEBUG) => {
    const env = { DEBUG, 'my.dotted': 'x', 'a-b': 'y', LINES_OF_IT: 'one\ntwo', EMPTY: '' };
    const { status, stdout, stderr } = await runEntry(['cat', '/proc/self/environ'], { env });
    const direct = { PATH: process.env.PATH, HOME: '/root', ...env };
    const expected = Object.entries(direct).flatMap(([name, value]) =>
      value === undefined ? [] : `${name}=${value}\0`,
    );
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toBe(expected.join(''));
  });

  test('a near miss gets its one line and nothing else', async () => {
    const { stderr, stdout } = await runEntry(['sh', '-c', 'echo $DEBUG'], { env: { DEBUG: 'stayalve' } });
    expect(stderr).toBe("ddbg-entry: DEBUG has 'stayalve': did you mean 'stayalive'?\n");
    expect(stdout).toBe('stayalve\n');
  });

  test('nothing is left on the disk', async () => {
    const entry = startEntry(['true']);
    await entry.status;
    expect(() => statSync(entry.stateDir)).toThrow('ENOENT');
  });

  const canReplace =
    execFileSync(node, ['-p', 'typeof process.execve'], { encoding: 'utf8' }).trim() === 'function';
  test.runIf(canReplace)('the command takes our place: same pid, no signal ignored', async () => {
    const entry = startEntry(['sh', '-c', 'echo $$; grep SigIgn /proc/self/status']);
    expect(await entry.status).toBe(0);
    expect(entry.stdout()).toMatch(new RegExp(`^${entry.pid}\nSigIgn:\\s+0+\n$`));
  });
});

describe('on', () => {
  test('our words are gone from the environment, the rest is byte for byte the same', async () => {
    const env = { DEBUG: 'express:*,stayalive', DDBG_LOG: 'json', 'my.dotted': 'x', LINES_OF_IT: 'one\ntwo' };
    const { stdout } = await runEntry(['cat', '/proc/self/environ'], { env });
    const expected = { PATH: process.env.PATH, HOME: '/root', ...env, DEBUG: 'express:*' };
    expect(stdout).toBe(
      Object.entries(expected)
        .map(([name, value]) => `${name}=${value}\0`)
        .join(''),
    );
  });

  test('working directory, umask and arguments are as they were', async () => {
    const cwd = temporaryFolder();
    const command = ['sh', '-c', 'pwd; umask; printf "[%s]" "$@"', 'x', '', 'a b', "'", '--', '*'];
    const { stdout } = await runEntry(command, { env: on, cwd });
    expect(stdout).toBe(`${cwd}\n0022\n[][a b]['][--][*]`);
  });

  test('stdin, stdout and stderr stay blocking pipes for the command', async () => {
    // 04000 is O_NONBLOCK; libuv sets it on pipes that it is asked to write to
    const command = ['sh', '-c', 'sleep 0; grep flags /proc/self/fdinfo/1 /proc/self/fdinfo/2'];
    const { stdout } = await runEntry(command, { env: { DEBUG: 'verbose' } });
    const flags = [...stdout.matchAll(/flags:\s+(\d+)/g)].map(([, octal]) => Number.parseInt(octal ?? '', 8));
    expect(flags).toHaveLength(2);
    expect(flags.map((bits) => bits & 0o4000)).toEqual([0, 0]);
  });

  test('a megabyte on both streams arrives whole', async () => {
    const command = [
      'sh',
      '-c',
      'head -c 1000000 /dev/zero | tr "\\0" o; head -c 1000000 /dev/zero | tr "\\0" e >&2',
    ];
    const { stdout, stderr } = await runEntry(command, { env: on });
    expect([stdout.length, stderr.length]).toEqual([1_000_000, 1_000_000]);
  });

  test('a fault without stayalive: one line, how to stay alive next time', async () => {
    const { status, stderr } = await runEntry(['sh', '-c', 'exit 7'], {
      env: { DDBG: 'verbose', DDBG_LOG: 'json' },
    });
    const lines = stderr.split('\n').filter((line) => line.includes('-e D'));
    expect(status).toBe(7);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain('-e DDBG=verbose,stayalive'); // DEBUG would not be read beside it
    const other = await runEntry(['false'], { env: { DEBUG: 'express:x,verbose' } });
    expect(other.stderr).toContain('-e DEBUG=express:x,verbose,stayalive');
  });
});

describe('signals', () => {
  // USR2 ends the fixture; TSTP stops us as well (its own test); bash itself waits on CONT and WINCH as on any other
  const names = FORWARDED.filter((name) => name !== 'SIGUSR2' && name !== 'SIGTSTP').map((name) =>
    name.slice(3),
  );

  test.each([
    ['off', off],
    ['on', on],
  ])('each is passed on, %s', async (_, env) => {
    const entry = startEntry([signalsFixture, ...names], { env });
    await entry.waitFor(/ready \d+/);
    for (const name of names) {
      entry.kill(`SIG${name}` as NodeJS.Signals);
      await entry.waitFor(new RegExp(`got ${name}\n`));
    }
    entry.kill('SIGUSR2');
    expect(await entry.status).toBe(42);
    expect(entry.stdout().match(/got TERM\n/g)).toHaveLength(1);
  });

  test('the table holds what can be caught, each number once', () => {
    expect(FORWARDED).toContain('SIGTERM');
    expect(FORWARDED).toContain('SIGUSR1');
    expect(FORWARDED).toContain('SIGHUP');
    expect(FORWARDED).not.toContain('SIGKILL');
    expect(FORWARDED).not.toContain('SIGCHLD');
    expect(FORWARDED).not.toContain('SIGSEGV');
    expect(FORWARDED.filter((name) => ['SIGABRT', 'SIGIOT'].includes(name))).toHaveLength(1);
  });

  describe('on a terminal', () => {
    /** script(1) gives the command line a pseudo-terminal, and passes on what is typed. */
    const onTerminal = (command: string, env: Record<string, string>) => {
      const entry = startEntry(['-qefc', command, '/dev/null'], {
        node: 'script',
        program: [],
        env,
        stdin: 'pipe',
      });
      return { ...entry, type: (text: string) => entry.child.stdin?.write(text) };
    };
    const wrapped = (command: string) => `exec ${node} ${cli} -- ${command}`;

    test('one Ctrl-C is one INT for the command, and a stop', async () => {
      const entry = onTerminal(wrapped(`${signalsFixture} INT`), { DEBUG: 'stayalive' });
      await entry.waitFor(/ready \d+/);
      entry.type('\u0003');
      await entry.waitFor(/got INT/);
      const [, pid = ''] = /ready (\d+)/.exec(entry.stdout()) ?? [];
      process.kill(Number(pid), 'SIGUSR2');
      expect(await entry.status).toBe(42); // soon after a Ctrl-C: no fault
      expect(entry.stdout().match(/got INT/g)).toHaveLength(1);
    });

    test('Ctrl-C that ends the command does not park', async () => {
      const entry = onTerminal(wrapped("sh -c 'echo ready; exec sleep 1000'"), { DEBUG: 'stayalive' });
      await entry.waitFor(/ready/);
      entry.type('\u0003');
      expect(await entry.status).toBe(130);
      expect(entry.stdout()).not.toContain('fault');
    });

    test('Ctrl-C on a command that ends of it with a status of its own is a stop too', async () => {
      const command = 'sh -c \'trap "exit 1" INT; echo ready; while :; do sleep 0.1; done\'';
      const entry = onTerminal(wrapped(command), { DEBUG: 'stayalive' });
      await entry.waitFor(/ready/);
      entry.type('\u0003');
      expect(await entry.status).toBe(1);
      expect(entry.stdout()).not.toContain('fault');
    });

    test('an interactive bash has job control and the terminal', async () => {
      const entry = onTerminal(wrapped('bash --norc -i'), { DEBUG: 'stayalive' });
      await entry.waitFor(/bash-[\d.]+[#$] /);
      entry.type("sh -c 'echo in front $((6*7)); exec sleep 1000'\n");
      await entry.waitFor(/in front 42/);
      entry.type('\u001a');
      await entry.waitFor(/Stopped/);
      entry.type('kill -9 %1\nexit 0\nexit 0\n');
      expect(await entry.status).toBe(0);
    });
  });

  test.each(['SIGTERM', 'SIGINT', 'SIGQUIT', 'SIGHUP'] as const)(
    'a stop by %s is no fault',
    async (signal) => {
      const entry = startEntry(
        ['sh', '-c', 'trap "exit 3" TERM INT QUIT HUP; sleep 1000 >/dev/null 2>&1 & echo ready; wait'],
        {
          env: { DEBUG: 'stayalive' },
        },
      );
      await entry.waitFor(/ready/);
      entry.kill(signal);
      expect(await entry.status).toBe(3);
      expect(entry.stderr()).toBe('');
    },
  );

  test('a HUP long ago was a reload, and a crash now is a fault', async () => {
    const body = 'trap "echo reloaded" HUP; echo ready; until read -t 0.1 line; do :; done; exit 9';
    const entry = startEntry(['bash', '-c', body], { env: { DEBUG: 'stayalive' }, stdin: 'pipe' });
    await entry.waitFor(/^ready/m);
    entry.kill('SIGHUP');
    await entry.waitFor(/reloaded/);
    // what makes it "long ago" is a clock, so this one test waits for it
    await new Promise((resolve) => setTimeout(resolve, 10_500));
    entry.child.stdin?.write('crash\n');
    await entry.waitFor(/exited with status 9[\s\S]*let it go/);
    entry.kill('SIGTERM');
    expect(await entry.status).toBe(9);
  });

  test('a stop that kills the command is 143 and no fault', async () => {
    const entry = startEntry(['sh', '-c', 'echo ready; exec sleep 1000'], {
      env: { DEBUG: 'stayalive,verbose' },
    });
    await entry.waitFor(/^ready/m);
    entry.kill('SIGTERM');
    expect(await entry.status).toBe(143);
    expect(entry.stderr()).not.toContain('fault');
  });
});

describe('stayalive', () => {
  test.each(['SIGTERM', 'SIGINT', 'SIGQUIT', 'SIGHUP'] as const)(
    'parked, %s ends it with the fault',
    async (signal) => {
      const entry = startEntry(['sh', '-c', 'exit 7'], { env: { DEBUG: 'stayalive' } });
      await entry.waitFor(
        /fault: sh -c 'exit 7' \(pid \d+, ran [\d.]+ s\) exited with status 7[\s\S]*let it go: .*\n.*---\n/,
      );
      entry.kill('SIGUSR2'); // no stop: nothing happens
      await expect.poll(() => readFileSync(`/proc/${entry.pid}/status`, 'utf8')).toMatch(/^ShdPnd:\s+0+$/m);
      entry.kill(signal);
      expect(await entry.status).toBe(7);
      expect(entry.stderr()).toContain(`let go by ${signal}, ending with status 7`);
    },
  );

  test('parked without a terminal, WINCH is a stop: some images have it for theirs', async () => {
    const entry = startEntry(['false'], { env: { DEBUG: 'stayalive' } });
    await entry.waitFor(/let it go/);
    entry.kill('SIGWINCH');
    expect(await entry.status).toBe(1);
  });

  test('a second run beside it does not write over its record', async () => {
    const first = startEntry(['sh', '-c', 'exit 3'], { env: { DEBUG: 'stayalive' } });
    await first.waitFor(/let it go/);
    const flag = `--state-dir=${first.stateDir}`;
    const second = await runEntry(['false'], { env: { DEBUG: 'stayalive=1s' }, program: [cli, flag, '--'] });
    expect(second.status).toBe(1);
    expect(second.stderr).toContain('is in use by another ddbg-entry');
    expect(readFileSync(join(first.stateDir, 'fault.json'), 'utf8')).toContain('"status": 3');
  });

  test('a thread with the pid of the run before is no other run', async () => {
    const first = startEntry(['sh', '-c', 'exit 3'], { env: { DEBUG: 'stayalive=1s' } });
    expect(await first.status).toBe(3);
    const file = join(first.stateDir, 'state.json');
    const thread = readdirSync('/proc/self/task')
      .map(Number)
      .find((id) => id !== process.pid);
    const state = JSON.parse(readFileSync(file, 'utf8'));
    writeFileSync(file, JSON.stringify({ ...state, phase: 'parked', pids: { entry: thread } }));
    const program = [cli, `--state-dir=${first.stateDir}`, '--'];
    const second = await runEntry(['true'], { env: { DEBUG: 'stayalive' }, program });
    expect(second.stderr).not.toContain('in use');
    expect(JSON.parse(readFileSync(file, 'utf8'))).toMatchObject({ phase: 'ended' });
  });

  test('a fault of the run before is not left in the record', async () => {
    const first = startEntry(['sh', '-c', 'exit 3'], { env: { DEBUG: 'stayalive=1s' } });
    expect(await first.status).toBe(3);
    const program = [cli, `--state-dir=${first.stateDir}`, '--'];
    expect((await runEntry(['true'], { env: { DEBUG: 'stayalive' }, program })).status).toBe(0);
    expect(() => statSync(join(first.stateDir, 'fault.json'))).toThrow('ENOENT');
  });

  test('a death by signal is explained', async () => {
    const entry = startEntry(['sh', '-c', 'kill -SEGV $$'], { env: { DEBUG: 'stayalive' } });
    await entry.waitFor(
      /was killed by signal SIGSEGV \(11\)\n.*why: it ended by SIGSEGV.*\n[\s\S]*status 139\)/,
    );
    entry.kill('SIGTERM');
    expect(await entry.status).toBe(139);
  });

  test('a time limit ends it', async () => {
    const { status, stderr } = await runEntry(['false'], { env: { DEBUG: 'stayalive=1s' } });
    expect(status).toBe(1);
    expect(stderr).toContain('the container stays for 1.0 s');
    expect(stderr).toContain('the time limit is over, ending with status 1');
  });

  test('always: after success too, but not after a stop', async () => {
    const done = startEntry(['true'], { env: { DEBUG: 'stayalive=always' } });
    await done.waitFor(/done: true .*ended with status 0[\s\S]*let it go/);
    done.kill('SIGTERM');
    expect(await done.status).toBe(0);

    const stopped = startEntry(['sh', '-c', 'echo ready; exec sleep 1000'], {
      env: { DEBUG: 'stayalive=always' },
    });
    await stopped.waitFor(/^ready/m);
    stopped.kill('SIGTERM');
    expect(await stopped.status).toBe(143);
  });

  test('success does not park', async () => {
    expect(await runEntry(['true'], { env: { DEBUG: 'stayalive' } })).toEqual({
      status: 0,
      stdout: '',
      stderr: '',
    });
  });

  test('the environment is kept for whoever execs in, closed to others', async () => {
    const env = { DEBUG: 'stayalive', QUOTED: "it's\n$HOME `x`", 'my.dotted': 'y', API_TOKEN: 'geheim' };
    const entry = startEntry(['sh', '-c', 'exit 7'], { env });
    await entry.waitFor(/let it go/);
    const file = (name: string) => join(entry.stateDir, name);
    expect(statSync(entry.stateDir).mode & 0o777).toBe(0o700);
    for (const name of ['environ', 'environ.sh', 'state.json', 'fault.json']) {
      expect(statSync(file(name)).mode & 0o777).toBe(0o600);
    }
    const { DEBUG: _, ...rest } = { PATH: process.env.PATH, HOME: '/root', ...env };
    expect(readFileSync(file('environ'), 'utf8')).toBe(
      Object.entries(rest)
        .map(([name, value]) => `${name}=${value}\0`)
        .join(''),
    );
    const inside = `DEBUG=stayalive DDBG=verbose; . ${file('environ.sh')}; printf %s "$QUOTED$DEBUG$DDBG"`;
    expect((await runEntry(['sh', '-c', inside])).stdout).toBe(env.QUOTED);
    expect(JSON.parse(readFileSync(file('state.json'), 'utf8'))).toMatchObject({
      schema: 2,
      phase: 'parked',
    });
    expect(JSON.parse(readFileSync(file('fault.json'), 'utf8'))).toMatchObject({
      kind: 'exited',
      status: 7,
      signal: null,
    });
    expect(readFileSync(file('state.json'), 'utf8')).not.toContain('geheim');
  });

  test.runIf(isRoot)(
    'a state directory that another user planted is not trusted, and stayalive works without',
    async () => {
      const folder = temporaryFolder();
      const { chownSync, mkdirSync, chmodSync } = await import('node:fs');
      chmodSync(folder, 0o777);
      mkdirSync(join(folder, 'planted'));
      chownSync(join(folder, 'planted'), 4242, 4242);
      const entry = startEntry(['false'], {
        env: { DEBUG: 'stayalive' },
        program: [cli, `--state-dir=${join(folder, 'planted')}`, '--'],
      });
      await entry.waitFor(/cannot keep state: .*belongs to uid 4242[\s\S]*let it go/);
      entry.kill('SIGTERM');
      expect(await entry.status).toBe(1);
    },
  );
});

describe('what else must not happen', () => {
  test('a secret that is an argument too is in no line: banner, hint, or that it cannot be started', async () => {
    const env = { DB_PASSWORD: 'geheim-geheim' };
    const held = startEntry(['false', 'geheim-geheim'], { env: { ...env, DEBUG: 'stayalive' } });
    await held.waitFor(/let it go/);
    const texts = [held.stderr()];
    texts.push((await runEntry(['false', 'geheim-geheim'], { env: { ...env, DEBUG: 'verbose' } })).stderr);
    texts.push((await runEntry(['no-such-command', 'geheim-geheim'], { env })).stderr);
    for (const text of texts) {
      expect(text).toContain('***');
      expect(text).not.toContain('geheim');
    }
  });

  test('somebody’s open directory is not closed by --state-dir, and not used', async () => {
    const folder = temporaryFolder();
    chmodSync(folder, 0o1777);
    const entry = startEntry(['false'], {
      env: { DEBUG: 'stayalive=1s' },
      program: [cli, `--state-dir=${folder}`, '--'],
    });
    expect(await entry.status).toBe(1);
    expect(entry.stderr()).toContain('is open to others (mode 1777, not 700)');
    expect(statSync(folder).mode & 0o7777).toBe(0o1777);
  });

  test('a working directory that is gone is no reason to fail', async () => {
    const command = `cd $(mktemp -d) && rmdir $PWD && exec ${node} ${cli} -- sh -c 'exit 7'`;
    const { status, stderr } = await runEntry([], {
      node: 'sh',
      program: ['-c', command],
      env: { DEBUG: 'verbose' },
    });
    expect(stderr).toContain('directory: (');
    expect(status).toBe(7);
  });

  test('a script whose interpreter is a script without #!', async () => {
    const folder = temporaryFolder();
    const interpreter = script(folder, 'interpreter', 'echo "for $1"\n');
    const file = script(folder, 'entry', `#!${interpreter}\n`);
    const run = await runEntry([file]);
    expect(run.status).toBeLessThan(128); // on Node 22 and 24 a failing execve would be an abort, 134
  });

  test('a damaged ELF file: 126, and that it is', async () => {
    const elf = readFileSync('/bin/true').subarray(0, 200);
    const { status, stderr } = await runEntry([script(temporaryFolder(), 'cut', elf)]);
    expect(stderr).toMatch(/is damaged|Exec format|ENOEXEC|EACCES|ELIBBAD|cannot|not/);
    expect(status).toBeGreaterThanOrEqual(126);
  });
});

describe('bad input', () => {
  test.each([
    [{ DDBG: 'stayalvie' }, [], /cannot read DDBG: 'stayalvie'.*\n.*did you mean 'stayalive'/],
    [{ DEBUG: 'fstree=' }, [], /cannot read DEBUG: 'fstree=': fstree needs the URL/],
    [{ DEBUG: 'fstree=ftp://h/a' }, [], /the scheme must be http, https or file, not ftp/],
    [{ DEBUG: 'stayalive=soon' }, [], /stayalive takes a duration/],
    [{}, ['--nonsense=1'], /'--nonsense=1' is no flag of ours/],
    [{}, ['--root=relative'], /--root=relative must be an absolute path/],
  ])('%j %j: 125, and the command is not started', async (env, flags, message) => {
    const { status, stdout, stderr } = await runEntry(['echo', 'started'], { env, flags });
    expect({ status, stdout }).toEqual({ status: 125, stdout: '' });
    expect(stderr).toMatch(message);
  });

  test('no command: 125 and how to use it', async () => {
    const { status, stderr } = await runEntry([]);
    expect(status).toBe(125);
    expect(stderr).toContain('usage: ddbg-entry');
  });
});

test('NODE_OPTIONS=--inspect finds its port free in the command', async () => {
  const env = { NODE_OPTIONS: '--inspect=127.0.0.1:0', DEBUG: 'stayalive' };
  const command = [node, '-p', 'typeof require("node:inspector").url()'];
  expect((await runEntry(command, { env })).stdout).toBe('string\n');
  const port = /ws:\/\/127\.0\.0\.1:(\d+)/.exec((await runEntry(command, { env })).stderr)?.[1];
  const fixed = await runEntry(command, { env: { ...env, NODE_OPTIONS: `--inspect=127.0.0.1:${port}` } });
  expect(fixed.stderr).not.toContain('address already in use');
});

test('--help and --version answer on stdout', async () => {
  const help = await runEntry([], { program: [cli, '--help'] });
  expect(help).toMatchObject({ status: 0, stderr: '' });
  for (const word of ['verbose', 'stayalive', 'fstree', '--root', '--state-dir', 'Exit status']) {
    expect(help.stdout).toContain(word);
  }
  const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  expect((await runEntry([], { program: [cli, '--version'] })).stdout).toBe(`${manifest.version}\n`);
});

test('stderr may be closed or full: the command does not care', async () => {
  const command = `exec 2>&-; exec ${node} ${cli} -- sh -c 'exit 7'`;
  const closed = await runEntry([], { node: '/bin/sh', program: ['-c', command], env: { DEBUG: 'verbose' } });
  expect(closed.status).toBe(7);
  const full = `exec ${node} ${cli} -- sh -c 'exit 7' 2>/dev/full`;
  expect(
    (await runEntry([], { node: '/bin/sh', program: ['-c', full], env: { DEBUG: 'verbose' } })).status,
  ).toBe(7);
});
