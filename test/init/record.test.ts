/** What goes through the recorder: all of it, unchanged, in order, no faster than it is read; and what the command sees of it. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmdirSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { readRecorded } from '../../src/process/recorded.ts';
import { mayMount, mount } from '../overlay/mounting.ts';
import { cli, isRoot, node, temporaryFolder } from '../process/harness.ts';
import {
  cannotCompile,
  childrenOf,
  finished,
  inBatches,
  init,
  openFiles,
  parked,
  processes,
  program,
  type Started,
  skipLoudly,
  start,
  statusLine,
  until,
} from './kit.ts';

const recorder = join(init.argv[0] ?? '', '../ddbg-record');

interface Options {
  readonly DEBUG?: string;
  readonly flags?: readonly string[];
  readonly state?: string;
}
/** The words in front of a command that is to be recorded, and the environment that asks for it. */
type Way = (options?: Options) => { front: string[]; env: Record<string, string>; output: string };
const way =
  (argv: readonly string[]): Way =>
  ({ DEBUG = 'record', flags = [], state = join(temporaryFolder(), 'state') } = {}) => ({
    front: [...argv, `--state-dir=${state}`, ...flags, '--'],
    env: { DEBUG },
    output: join(state, 'output'),
  });
const native = way(init.argv);
const WAYS: [string, Way][] = [
  ['native', native],
  ['bare', way([node, cli])], // on Node >= 22.15 the init takes its place
];

/** Its stdout through a program of ours: bytes stay bytes. */
function piped(
  front: readonly string[],
  command: readonly string[],
  into: string,
  env: Record<string, string>,
) {
  return start(['bash', '-c', `set -o pipefail; "$@" | ${into}`, 'bash', ...front, ...command], { env });
}

const lines = (directory: string, stream: string) =>
  readRecorded(directory)
    .filter((line) => line.stream === stream)
    .map(({ text }) => text);

/** Bytes that look like chance, the same ones each time. */
const noise = (bytes: number) =>
  `openssl enc -aes-128-ctr -K ${'0'.repeat(32)} -iv ${'0'.repeat(32)} -in /dev/zero 2>/dev/null | head -c ${bytes}`;

const recorders = () =>
  processes().filter(({ pid }) => {
    try {
      return readFileSync(`/proc/${pid}/comm`, 'utf8') === 'ddbg-record\n';
    } catch {
      return false;
    }
  });

describe.each(WAYS)('%s', (_, ours) => {
  test('a gigabyte: not a byte is another', async () => {
    const { front, env } = ours();
    const body = noise(1_000_000_000);
    const expected = execFileSync('bash', ['-c', `${body} | sha256sum`], { encoding: 'utf8' });
    const run = await finished(piped(front, ['bash', '-c', body], 'sha256sum', env));
    expect(run).toMatchObject({ status: 0, stdout: expected });
  });

  test('both streams, each in its order; marks, times and text are kept', async () => {
    const { front, env, output } = ours();
    const body = 'for i in $(seq 300); do echo out $i; echo err $i >&2; done; printf "no end"; exit 7';
    const since = Date.now();
    const run = await finished(start([...front, 'bash', '-c', body], { env }));
    const numbered = (name: string) => Array.from({ length: 300 }, (_unused, at) => `${name} ${at + 1}`);
    expect(run.status).toBe(7);
    expect(run.stdout.split('\n')).toEqual([...numbered('out'), 'no end']);
    expect(run.stderr.split('\n').slice(0, 300)).toEqual(numbered('err'));
    expect(lines(output, 'stdout')).toEqual([...numbered('out'), 'no end']);
    expect(lines(output, 'stderr')).toEqual(numbered('err'));
    const times = readRecorded(output).map(({ atMs }) => atMs);
    expect(times).toEqual([...times].sort((one, other) => one - other));
    expect(times[0]).toBeGreaterThanOrEqual(since - 1);
    expect(times.at(-1)).toBeLessThanOrEqual(Date.now());
    expect(readRecorded(output, 2)).toEqual(readRecorded(output).slice(-2));
  });

  test('one file for both: the order of all, without the recorder and with it', async () => {
    const { front, env, output } = ours();
    const file = join(temporaryFolder(), 'both');
    const body = 'for i in $(seq 200); do echo out $i; echo err $i >&2; done';
    const run = start(['bash', '-c', '"$@" >"$FILE" 2>&1', 'bash', ...front, 'bash', '-c', body], {
      env: { ...env, FILE: file },
    });
    expect(await run.status).toBe(0);
    const expected = Array.from({ length: 200 }, (_unused, at) => `out ${at + 1}\nerr ${at + 1}\n`).join('');
    expect(readFileSync(file, 'utf8')).toBe(expected);
    expect(`${lines(output, 'stdout').join('\n')}\n`).toBe(expected);
  });

  test('who reads slowly makes the command wait, and gets all; the other stream goes on meanwhile', async () => {
    const { front, env } = ours();
    const count = join(temporaryFolder(), 'count');
    const body = `
      let sent = 0;
      const { writeSync, writeFileSync } = require('node:fs');
      const block = Buffer.alloc(65536, 'x');
      for (let i = 0; i < 200; i++) { writeSync(1, block); sent += block.length; writeFileSync(${JSON.stringify(count)}, String(sent)); writeSync(2, '.'); }
    `;
    const entry = start([...front, node, '-e', body], { env });
    entry.child.stdout?.pause();
    const sent = () => (existsSync(count) ? Number(readFileSync(count, 'utf8')) : 0);
    let before = -1;
    let still = 0;
    await until(() => {
      still = sent() > 0 && sent() === before ? still + 1 : 0;
      before = sent();
      return still > 30;
    });
    expect(before).toBeLessThan(4_000_000); // pipes and the socket of the test, no more
    await until(() => entry.stderr().length === before / 65536);
    entry.child.stdout?.resume();
    expect(await entry.status).toBe(0);
    expect(entry.stdout().length).toBe(200 * 65536);
  });

  test('stdin is the command’s, untouched', async () => {
    const { front, env } = ours();
    const entry = start([...front, 'sh', '-c', 'cat; readlink /proc/self/fd/0'], { env, stdin: 'pipe' });
    entry.child.stdin?.end('typed\n');
    expect(await entry.status).toBe(0);
    expect(entry.stdout()).toMatch(/^typed\n(pipe|socket):/);
  });

  test.each([
    [['sh', '-c', 'exit 7'], 7, ''],
    [['sh', '-c', 'kill -SEGV $$'], 139, ''],
    [['sh', '-c', 'kill -KILL $$'], 137, ''],
    [['no-such-command'], 127, 'not found in PATH'],
    [['/etc/passwd'], 126, 'permission denied'],
  ])('%j ends with %i, as without', async (command, status, said) => {
    const { front, env } = ours();
    const run = await finished(start([...front, ...command], { env }));
    expect(run.status).toBe(status);
    expect(run.stderr).toContain(said);
  });

  test('the reader goes away: the command gets SIGPIPE, and at its next write', async () => {
    const { front, env } = ours();
    const folder = temporaryFolder();
    const status = join(folder, 'status');
    execFileSync('mkfifo', [join(folder, 'go')]);
    const endless = `"$@" bash -c 'yes; echo $? >${status}' | head -1; until test -s ${status}; do sleep 0.02; done`;
    expect(await start(['bash', '-c', endless, 'bash', ...front], { env }).status).toBe(0);
    expect(readFileSync(status, 'utf8')).toBe('141\n');
    // It rests when the reader goes; its first write after that must fail already.
    const later = `"$@" bash -c 'trap "" PIPE; echo up; read x <${folder}/go; until ! ls /proc/*/comm >/dev/null; do break; done; echo more; echo $? >${status}' | head -1; echo gone`;
    const entry = start(['bash', '-c', later, 'bash', ...ours({}).front], { env });
    writeFileSync(status, '');
    await entry.waitFor(/up/);
    await until(() => !pumpsOf(entry).some((pid) => opens(pid, 'stdout.request')));
    writeFileSync(join(folder, 'go'), '\n');
    await until(() => readFileSync(status, 'utf8') === '1\n');
  });

  test('a background process with the pipe open does not delay the end, and its output goes on', async () => {
    const { front, env, output } = ours({ DEBUG: 'stayalive,record' });
    const folder = temporaryFolder();
    execFileSync('mkfifo', [join(folder, 'go')]);
    const body = `(read x <${folder}/go; echo from behind; sleep 1000) & head -c 300000 /dev/zero | tr '\\0' x; exit 7`;
    const entry = start([...front, 'bash', '-c', body], { env });
    await entry.waitFor(/let it go/);
    const { length } = entry.stdout();
    expect(length).toBe(300_000);
    writeFileSync(join(folder, 'go'), '\n');
    await entry.waitFor(/from behind/);
    await until(() => readRecorded(output, 1)[0]?.text.endsWith('from behind'));
    entry.kill('SIGTERM');
    expect(await entry.ended).toBe(7);
  });

  test('the command finds no child, no descriptor and no variable of ours', async () => {
    const { front, env } = ours();
    const body =
      'read children < /proc/$$/task/$$/children; echo "[$children]"; echo /proc/$$/fd/*; tr "\\0" "\\n" </proc/$$/environ | cut -d= -f1 | sort | xargs';
    const unrecorded = ours({ DEBUG: 'stayalive' });
    const [without, run] = await Promise.all([
      finished(start([...unrecorded.front, 'bash', '-c', body], { env: unrecorded.env })),
      finished(start([...front, 'bash', '-c', body], { env })),
    ]);
    const withoutPids = (text: string) => text.replaceAll(/\/proc\/\d+/g, '');
    expect(withoutPids(run.stdout)).toBe(withoutPids(without.stdout));
    expect(run.stdout).toMatch(/^\[\]\n/);
  });

  test('nothing of it is left when the command was the last that could write', async () => {
    const { front, env } = ours();
    const entry = start([...front, 'sh', '-c', 'echo $$; read x'], { env, stdin: 'pipe' });
    await entry.waitFor(/\d/);
    const pumps = pumpsOf(entry);
    expect(pumps).toHaveLength(2);
    for (const pid of pumps) {
      expect(statusLine(pid, 'VmRSS')).toMatch(/kB$/);
      expect(
        openFiles(pid)
          .map((name) => name.replace(/^.*\./, '').replace(/:.*/, ''))
          .sort(),
      ).toEqual(['done', 'pipe', 'request', 'socket'].sort());
    }
    entry.child.stdin?.end();
    await entry.status;
    await until(() => pumps.every((pid) => !existsSync(`/proc/${pid}/fd/0`) && isGone(pid)));
  });

  test('the next run keeps the recording of the one before', async () => {
    const state = join(temporaryFolder(), 'state');
    for (const word of ['first', 'second', 'third']) {
      const { front, env } = ours({ state });
      expect(await start([...front, 'echo', word], { env }).status).toBe(0);
    }
    const output = join(state, 'output');
    expect(lines(output, 'stdout')).toEqual(['third']);
    expect(readFileSync(join(output, 'stdout.previous')).includes('second')).toBe(true);
    expect(statSync(join(output, 'stdout')).mode & 0o777).toBe(0o600);
    expect(statSync(output).mode & 0o777).toBe(0o700);
  });

  test('a limit on the size of files: it is said, and the command runs unrecorded', async () => {
    const { front, env, output } = ours();
    const argv = ['bash', '-c', 'ulimit -f 100; "$@"', 'bash', ...front, 'sh', '-c', 'echo ran; exit 7'];
    const run = await finished(start(argv, { env }));
    expect(run).toMatchObject({ status: 7, stdout: 'ran\n' });
    expect(run.stderr).toMatch(
      /^ddbg-entry: cannot record in .*: File too large; the command runs unrecorded$/m,
    );
    expect(readRecorded(output)).toEqual([]);
  });

  test.skipIf(!mayMount())('a state directory that is full: the same', async () => {
    const state = mkdtempSync(join(tmpdir(), 'ddbg-full-')); // not a temporaryFolder: those go before the mount does
    onTestFinished(() => rmdirSync(state));
    mount('-t', 'tmpfs', '-o', 'size=1m,mode=700', 'none', state);
    const { front, env } = ours({ state });
    const run = await finished(start([...front, 'sh', '-c', 'echo ran; exit 7'], { env }));
    expect(run).toMatchObject({ status: 7, stdout: 'ran\n' });
    expect(run.stderr).toMatch(
      /^ddbg-entry: cannot record in .*: No space left on device; the command runs unrecorded$/m,
    );
  });

  test('a recording that somebody truncates stops no command', async () => {
    const { front, env, output } = ours();
    const body = `echo first; : >${output}/stdout; for i in $(seq 2000); do echo line $i; done; exit 3`;
    const run = await finished(start([...front, 'bash', '-c', body], { env }));
    expect(run.status).toBe(3);
    const numbered = Array.from({ length: 2000 }, (_unused, at) => `line ${at + 1}`);
    expect(run.stdout).toBe(`first\n${numbered.join('\n')}\n`);
  });
});

/** The pumps of its run; orphans, so not below it. */
function pumpsOf(entry: Started): number[] {
  return recorders()
    .map(({ pid }) => pid)
    .filter((pid) => sameRun(pid, entry.pid));
}

/** Of one test file, that is: its mark is in the environment that is handed down. Tests of a file do not overlap. */
function sameRun(pid: number, other: number): boolean {
  const read = (one: number) => {
    try {
      return readFileSync(`/proc/${one}/environ`, 'latin1');
    } catch {
      return '';
    }
  };
  const mark = /DDBG_TEST_RUN=[^\0]*/;
  return mark.exec(read(pid))?.[0] !== undefined && mark.exec(read(pid))?.[0] === mark.exec(read(other))?.[0];
}

function opens(pid: number, name: string): boolean {
  return openFiles(pid).some((file) => file.endsWith(name));
}

function isGone(pid: number): boolean {
  return !processes().some((one) => one.pid === pid && one.state !== 'Z');
}

describe('the file', () => {
  const record = (directory: string, ...command: string[]) =>
    spawnSync(recorder, [directory, ...command], { maxBuffer: 2 ** 26 });

  /** Lines of 64 bytes: 16384 of them are a megabyte. */
  const numbered = (count: number) =>
    Array.from({ length: count }, (_, at) => String(at).padStart(63, '0')).map((line) => `${line}\n`);

  test.each([0, 1, 16_383, 16_384, 16_385, 20_480, 20_481, 50_000])('after %i lines of 64 bytes', (count) => {
    const folder = temporaryFolder();
    const text = numbered(count).join('');
    writeFileSync(join(folder, 'text'), text);
    const { stdout } = record(folder, 'cat', join(folder, 'text'));
    expect(stdout.toString() === text).toBe(true);
    untilRecorded(folder, text.length);
    const kept = readRecorded(folder);
    const expected = numbered(count)
      .slice(-16_384)
      .map((line) => line.slice(0, -1));
    // of what is not whole the first line is left out: nobody knows whether its front is there
    expect(kept.map((line) => line.text)).toEqual(count > 16_384 ? expected.slice(1) : expected);
  });

  test('the last megabyte is there to the byte', () => {
    const folder = temporaryFolder();
    const text = ['a'.repeat(700_000), 'b'.repeat(1_048_575), 'c'].join('');
    writeFileSync(join(folder, 'text'), text);
    record(folder, 'cat', join(folder, 'text'));
    untilRecorded(folder, text.length);
    const kept = readRecorded(folder).map((line) => line.text);
    expect(kept.join('')).toBe(`${'b'.repeat(1_048_575)}c`);
    expect(Math.max(...kept.map((line) => line.length))).toBeLessThanOrEqual(16 * 1024);
  });

  test('bytes that are no text, and characters at the edge of a piece', () => {
    const folder = temporaryFolder();
    const bytes = Buffer.concat([
      Buffer.from([0x61, 0xff, 0xfe, 0x0a]),
      Buffer.from(`${'x'.repeat(16_383)}ü€\r\n\n`),
    ]);
    writeFileSync(join(folder, 'bytes'), bytes);
    const { stdout } = record(folder, 'cat', join(folder, 'bytes'));
    expect(stdout.equals(bytes)).toBe(true);
    untilRecorded(folder, bytes.length);
    expect(readRecorded(folder).map((line) => line.text)).toEqual([
      'a\ufffd\ufffd',
      'x'.repeat(16_383),
      'ü€',
      '',
    ]);
    expect(readRecorded(folder, 1).map((line) => line.text)).toEqual(['']);
    expect(readRecorded(folder, 0)).toEqual([]);
  });

  test('each line has the time at which it came', async () => {
    const folder = temporaryFolder();
    const entry = start([recorder, folder, 'bash', '-c', 'echo 1; read x; echo 2; read x; echo 3; read x'], {
      stdin: 'pipe',
    });
    const seen: number[] = [];
    for (const line of ['1', '2', '3']) {
      await entry.waitFor(new RegExp(`^${line}$`, 'm'));
      seen.push(Date.now());
      entry.child.stdin?.write('\n');
    }
    await entry.status;
    const times = readRecorded(folder).map(({ atMs }) => atMs);
    expect(times).toHaveLength(3);
    for (const [at, time] of times.entries()) {
      expect(time).toBeLessThanOrEqual((seen[at] ?? 0) + 1);
      if (at > 0) expect(time).toBeGreaterThanOrEqual((seen[at - 1] ?? 0) - 1);
    }
  });

  test('what is no recording is read as nothing', () => {
    const folder = temporaryFolder();
    expect(readRecorded(folder)).toEqual([]);
    writeFileSync(join(folder, 'stdout'), 'x'.repeat(100));
    expect(readRecorded(folder)).toEqual([]);
    expect(readRecorded(join(folder, 'none'))).toEqual([]);
  });
});

/** The pump may still be at the last bytes: nobody has asked it to hurry. */
function untilRecorded(folder: string, size: number): void {
  const file = join(folder, 'stdout');
  const endAt = Date.now() + 10_000;
  while (Number(readFileSync(file).readBigUInt64LE(32)) < size && Date.now() < endAt);
}

/** Where the init is PID 1 the kernel kills the recorder with it: whoever has not asked before loses the rest. */
const mayUnshare = isRoot && spawnSync('unshare', ['--pid', '--fork', '--mount-proc', 'true']).status === 0;
if (!mayUnshare) skipLoudly('unshare(1) may not make a PID namespace: the end of PID 1 is not tested here');

describe.skipIf(!mayUnshare)('as PID 1', () => {
  const asFirst = ['unshare', '--pid', '--fork', '--mount-proc'];
  const BYTES = 300_000;

  test.each([
    ['the last writer', ''],
    ['beside others who can write', 'sleep 1000 & '],
  ])(
    '200 times a large write and then the end, %s: never a byte less',
    async (_, before) => {
      const body = `${before}head -c ${BYTES} /dev/zero; exit 5`;
      const runs = await inBatches(
        Array.from({ length: 200 }),
        () => {
          const { front, env } = native();
          return finished(piped([...asFirst, ...front], ['bash', '-c', body], 'wc -c', env));
        },
        4,
      );
      expect(runs.filter(({ stdout }) => stdout !== `${BYTES}\n`)).toEqual([]);
      expect(new Set(runs.map(({ status }) => status))).toEqual(new Set([5]));
    },
    240_000,
  );

  test('with a reader that takes its time', async () => {
    const { front, env } = native();
    const body = `sleep 1000 & head -c ${BYTES} /dev/zero | tr '\\0' x; exit 5`;
    const reader = '{ sleep 0.5; cat; } | wc -c';
    const run = await finished(piped([...asFirst, ...front], ['bash', '-c', body], reader, env));
    expect(run).toMatchObject({ status: 5, stdout: `${BYTES}\n` });
  });

  test('without node', async () => {
    const { front, env } = native();
    const folder = temporaryFolder();
    execFileSync('mkfifo', [join(folder, 'go')]);
    const body = `sleep 1000 & echo up >&2; read x <${folder}/go; head -c ${BYTES} /dev/zero; exit 5`;
    const entry = piped([...asFirst, ...front], ['bash', '-c', body], 'wc -c', env);
    await entry.waitFor(/up/);
    const nodes = processes().filter(({ pid }) => {
      try {
        return (
          sameRun(pid, entry.pid) && readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('--init-link=')
        );
      } catch {
        return false;
      }
    });
    expect(nodes).toHaveLength(1);
    process.kill(nodes[0]?.pid ?? 0, 'SIGKILL');
    await entry.waitFor(/runs on without it/);
    writeFileSync(join(folder, 'go'), '\n');
    expect(await finished(entry)).toMatchObject({ status: 5, stdout: `${BYTES}\n` });
  });
});

describe('the init', () => {
  test('--grace does not wait for the recorder, --group does not signal it', async () => {
    const { front, env } = native({ flags: ['--grace=60s', '--group'] });
    const body = 'trap "echo stopping; exit 3" TERM; echo up; while :; do sleep 0.05; done';
    const entry = start([...front, 'bash', '-c', body], { env });
    await entry.waitFor(/up/);
    entry.kill('SIGTERM');
    expect(await entry.status).toBe(3);
    expect(entry.stdout()).toBe('up\nstopping\n');
  });

  test('parked, it is alone: the recorder has ended with the last writer', async () => {
    const { front, env } = native({ DEBUG: 'stayalive,record' });
    const entry = start([...front, 'sh', '-c', 'echo said; exit 7'], { env });
    await parked(entry);
    expect(childrenOf(entry.pid)).toEqual([]);
    entry.kill('SIGTERM');
    expect(await entry.status).toBe(7);
  });

  test('run again by USR1, it is recorded again', async () => {
    const state = join(temporaryFolder(), 'state');
    const { front, env, output } = native({ DEBUG: 'stayalive,record', state });
    const entry = start([...front, 'sh', '-c', 'echo run $$; exit 7'], { env });
    await parked(entry);
    const first = lines(output, 'stdout');
    entry.kill('SIGUSR1');
    await until(() => lines(output, 'stdout').length === 1 && lines(output, 'stdout')[0] !== first[0]);
    expect(readFileSync(join(output, 'stdout.previous')).includes(first[0] ?? 'none')).toBe(true);
    await until(() => childrenOf(entry.pid).length === 0);
    entry.kill('SIGTERM');
    expect(await entry.status).toBe(7);
  });

  test('verbose: the trace of a bash is recorded, the command that is shown is the one that was given', async () => {
    const { front, env, output } = native({ DEBUG: 'verbose,record' });
    const run = await finished(start([...front, 'bash', '-c', 'echo said'], { env }));
    expect(run.stderr).toMatch(/starting: bash -c 'echo said'$/m);
    expect(lines(output, 'stderr')).toEqual([expect.stringMatching(/^\+ .*echo said$/)]);
    expect(lines(output, 'stdout')).toEqual(['said']);
  });
});

describe.skipIf(cannotCompile)('a terminal', () => {
  const onTerminal = (command: readonly string[], options: Options = {}) => {
    const { front, env, output } = native(options);
    const entry = start([program('pty'), ...front, ...command], {
      env: { TERM: 'dumb', ...env },
      stdin: 'pipe',
    });
    return { ...entry, output, type: (keys: string) => entry.child.stdin?.write(keys) };
  };

  test('the command has one, in the foreground, on all three; what it shows is kept and unchanged', async () => {
    const entry = onTerminal([
      'bash',
      '-c',
      'test -t 0 && test -t 1 && test -t 2 && tty; ps -o tpgid=,pgid= -p $$; printf "\\033[31mred\\033[m\\n"',
    ]);
    expect(await entry.status).toBe(0);
    const [tty = '', group = '', red = ''] = entry.stdout().split('\r\n');
    expect(tty).toMatch(/^\/dev\/pts\/\d+$/);
    expect(group).toMatch(/^ *(\d+) +\1$/);
    expect(red).toBe('\u001b[31mred\u001b[m');
    expect(lines(entry.output, 'terminal')).toEqual([tty, group, red]);
  });

  test.each([
    ['Ctrl-C', '\u0003', 130, 'exec sleep 1000'],
    ['Ctrl-\\', '\u001c', 131, 'exec sleep 1000'],
    [
      'Ctrl-C, for one that ends of it with its own status',
      '\u0003',
      3,
      'trap "exit 3" INT; while :; do sleep 0.05; done',
    ],
  ])('%s is a stop: nothing is held', async (_, key, status, body) => {
    const shell = status === 3 ? 'bash' : 'dash'; // bash ignores QUIT until it is sleep
    const entry = onTerminal([shell, '-c', `echo up; ${body}`], { DEBUG: 'stayalive,record' });
    await entry.waitFor(/up/);
    entry.type(key);
    expect(await entry.status).toBe(status);
    expect(entry.stdout()).not.toContain('fault');
  });

  test('Ctrl-C arrives once, and what is typed arrives', async () => {
    const entry = onTerminal([program('tool'), 'catch', '10']);
    const pid = Number((await entry.waitFor(/ready (\d+)/))[1]);
    entry.type('\u0003');
    await entry.waitFor(/got 2 /);
    process.kill(pid, 'SIGUSR1');
    expect(await entry.status).toBe(0);
    expect([...entry.stdout().matchAll(/got (\d+) /g)].map(([, got]) => got)).toEqual(['2', '10']);
    const cat = onTerminal(['cat']);
    cat.type('typed\n');
    await cat.waitFor(/typed/);
    cat.type('\u0004');
    expect(await cat.status).toBe(0);
  });

  test('parked, the terminal is what it was: Ctrl-C lets go', async () => {
    const entry = onTerminal(['sh', '-c', 'exit 7'], { DEBUG: 'stayalive,record' });
    await entry.waitFor(/let it go[\s\S]*---\r+\n/);
    await until(() => recorders().filter(({ pid }) => sameRun(pid, entry.pid)).length === 0);
    entry.type('\u0003');
    expect(await entry.status).toBe(7);
    expect(entry.stdout()).toContain('let go by SIGINT');
  });

  test('below a bash: the mode of the terminal is as before, also when the recorder is killed', async () => {
    const { front, env } = native();
    const quoted = [...front, 'bash', '-c', 'stty -echo raw; echo up; read x']
      .map((word) => `'${word}'`)
      .join(' ');
    const folder = temporaryFolder();
    const [before, after] = [join(folder, 'before'), join(folder, 'after')];
    const entry = start([program('pty'), 'bash', '-c', `stty -a >${before}; ${quoted}; stty -a >${after}`], {
      env: { TERM: 'dumb', ...env },
      stdin: 'pipe',
    });
    await entry.waitFor(/up/);
    const pump = recorders().find(
      ({ pid }) =>
        sameRun(pid, entry.pid) &&
        opens(pid, 'terminal.done') &&
        opens(pid, 'ptmx') &&
        !opens(pid, '/dev/tty'),
    );
    expect(pump).toBeDefined();
    process.kill(pump?.pid ?? 0, 'SIGKILL');
    await entry.status;
    expect(readFileSync(after, 'utf8')).toBe(readFileSync(before, 'utf8'));
  });
});
