/** On a real terminal: who has its foreground, that each key arrives once, and that job control works around and in us. */
import { execFileSync, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { temporaryFolder } from '../process/harness.ts';
import {
  cannotCompile,
  childrenOf,
  init,
  look,
  program,
  STAYING,
  type Started,
  start,
  until,
} from './kit.ts';

const CTRL_C = '\u0003';
const CTRL_Z = '\u001a';
const CTRL_BACKSLASH = '\u001c';

interface OnTerminal {
  readonly env?: Readonly<Record<string, string>>;
  /** TOSTOP: whoever writes from the background is stopped. */
  readonly tostop?: boolean;
}

/** A program with a terminal of its own; what is typed is not echoed. */
function onTerminal(argv: readonly string[], { env = {}, tostop = false }: OnTerminal = {}) {
  const front = [program('pty'), ...(tostop ? ['-t'] : [])];
  const entry = start([...front, ...argv], { env: { TERM: 'dumb', PS1: 'PROMPT> ', ...env }, stdin: 'pipe' });
  return { ...entry, type: (text: string) => entry.child.stdin?.write(text) };
}
type Terminal = ReturnType<typeof onTerminal>;

const line = (flags: readonly string[], command: readonly string[]) => [
  ...init.argv,
  `--state-dir=${join(temporaryFolder(), 'state')}`,
  ...flags,
  '--',
  ...command,
];
const inits = STAYING.map(([way, options]) => {
  const { flags = [], env = {} } = options as { flags?: readonly string[]; env?: Record<string, string> };
  return { way, env, ours: (...command: string[]) => line(flags, command) };
});

/** An interactive bash, at its first prompt. `run`: with what bash is to start. */
async function inBash(ours: readonly string[], env: OnTerminal['env'], tostop = false) {
  const bash = onTerminal(['bash', '--norc', '--noprofile', '-i'], { env: env ?? {}, tostop });
  await bash.waitFor(/PROMPT> /);
  const quoted = ours.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
  const prompts = () => bash.stdout().split('PROMPT> ').length;
  return {
    ...bash,
    prompts,
    run: (behind = '') => bash.type(`${quoted} ${behind}\n`),
    /** The next prompt: bash has the terminal again. */
    prompt: async (since: number) => until(() => prompts() > since),
  };
}

const readyPid = async (entry: Pick<Started, 'waitFor'>) => Number((await entry.waitFor(/ready (\d+)/))[1]);
const inForeground = (pid: number) => {
  const found = look(pid);
  return found !== undefined && found.group === found.foreground;
};
const stop = (terminal: Terminal) => terminal.signal('SIGKILL');

describe.skipIf(cannotCompile).each(inits)('$way', ({ env, ours }) => {
  test('the command has the foreground from its first instruction', async () => {
    const entry = onTerminal(ours(program('probe')), { env });
    expect(await entry.status).toBe(0);
    for (const fd of [0, 1, 2]) expect(entry.stdout()).toContain(`foreground${fd} ours`);
  });

  test.each([
    ['Ctrl-C', CTRL_C, 2],
    ['Ctrl-\\', CTRL_BACKSLASH, 3],
    ['Ctrl-Z', CTRL_Z, 20],
  ])('%s arrives exactly once', async (_, key, number) => {
    const entry = onTerminal(ours(program('tool'), 'catch'), { env });
    const pid = await readyPid(entry);
    entry.type(key);
    await entry.waitFor(new RegExp(`got ${number} `));
    process.kill(pid, 'SIGUSR1'); // straight to it, as a mark behind: what was passed on would be there by now
    await entry.waitFor(/got 10 /);
    entry.type(key);
    await until(() => (entry.stdout().match(new RegExp(`got ${number} `, 'g')) ?? []).length > 1);
    expect([...entry.stdout().matchAll(/got (\d+) /g)].map(([, got]) => Number(got))).toEqual([
      number,
      10,
      number,
    ]);
    stop(entry);
  });

  test.each([
    ['that dies of it', ['sleep', '1000'], 130],
    [
      'that ends of it with a status of its own',
      ['bash', '-c', 'trap "exit 3" INT; echo up; while :; do sleep 0.05; done'],
      3,
    ],
  ] as const)('Ctrl-C for a command %s is a stop', async (_, command, status) => {
    const entry = onTerminal(ours(...command), { env });
    await until(() => childrenOf(childrenOf(entry.pid)[0]?.pid ?? 0).some(({ pid }) => inForeground(pid)));
    if (status === 3) await entry.waitFor(/up/);
    entry.type(CTRL_C);
    expect(await entry.status).toBe(status);
    expect(entry.stdout()).not.toContain('fault');
  });

  test('bash as the command has job control', async () => {
    const entry = onTerminal(ours('bash', '--norc', '--noprofile', '-i'), { env });
    await entry.waitFor(/PROMPT> /);
    entry.type('cat\n');
    entry.type('typed\n');
    await entry.waitFor(/typed/);
    entry.type(CTRL_Z);
    await entry.waitFor(/Stopped/);
    entry.type('fg\n');
    entry.type('again\n');
    await entry.waitFor(/again/);
    const prompts = () => entry.stdout().split('PROMPT> ').length;
    const since = prompts();
    entry.type(CTRL_C);
    await until(() => prompts() > since);
    entry.type('exit 0\n');
    expect(await entry.status).toBe(0);
    expect(entry.stdout()).not.toMatch(/no job control|cannot set terminal/);
  });

  test('below a bash: Ctrl-Z suspends us as a job, fg continues, and at the end bash has the terminal', async () => {
    const bash = await inBash(ours('cat'), env);
    bash.run();
    bash.type('first\n');
    await bash.waitFor(/first/);
    for (const word of ['second', 'third']) {
      bash.type(CTRL_Z);
      await until(() => bash.stdout().split('Stopped').length > (word === 'second' ? 1 : 2));
      bash.type(`fg\n${word}\n`);
      await bash.waitFor(new RegExp(word));
    }
    const since = bash.prompts();
    bash.type('\u0004'); // end of the input, for cat
    await bash.prompt(since);
    expect(childrenOf(bash.pid).every(({ pid }) => inForeground(pid))).toBe(true);
    bash.type('echo status $?; exit 4\n');
    expect(await bash.status).toBe(4);
    expect(bash.stdout()).toContain('status 0');
  });

  test('below a bash: each fg continues it once: a second time would undo the next Ctrl-Z', async () => {
    const bash = await inBash(ours(program('tool'), 'catch', '0', '20'), env);
    const times = (word: string) => bash.stdout().split(word).length - 1;
    bash.run();
    const pid = await readyPid(bash);
    for (let round = 1; round <= 20; round++) {
      bash.type(CTRL_Z);
      await until(() => times('Stopped') === round);
      bash.type('fg\n');
      await until(() => times('got 18 ') >= round);
      process.kill(pid, 'SIGUSR1'); // a mark behind what was passed on
      await until(() => times('got 10 ') === round);
    }
    expect(times('got 18 ')).toBe(20);
    stop(bash);
  });

  test('below a bash: bg continues it in the background, and bash keeps the terminal', async () => {
    const body =
      'trap "echo went on" CONT; echo ready $$; for i in 1 2 3 4 5 6 7 8 9; do sleep 0.05; done; exit 0';
    const bash = await inBash(ours('bash', '-c', body), env);
    bash.run();
    await bash.waitFor(/ready/);
    bash.type(CTRL_Z);
    await bash.waitFor(/Stopped/);
    bash.type('bg\n');
    await bash.waitFor(/went on/);
    bash.type('wait; echo waited $?; exit 0\n');
    expect(await bash.status).toBe(0);
    expect(bash.stdout()).toContain('waited 0');
  });

  test('in the background of a bash it does not take the terminal', async () => {
    const bash = await inBash(ours('sh', '-c', 'echo ready $$; exec sleep 1000'), env);
    bash.run('&');
    const pid = await readyPid(bash);
    expect(inForeground(pid)).toBe(false);
    bash.type('echo typed $((6*7))\n');
    await bash.waitFor(/typed 42/);
    bash.type('kill %1; wait %1; echo ended $?; exit 0\n');
    await bash.waitFor(/ended 143/);
    expect(await bash.status).toBe(0);
  });

  test('from the background to the front: fg gives it the terminal', async () => {
    const bash = await inBash(ours('cat'), env);
    bash.run('&');
    await bash.waitFor(/\[1\] \d+/);
    await until(() =>
      childrenOf(childrenOf(childrenOf(bash.pid)[0]?.pid ?? 0)[0]?.pid ?? 0).some(
        ({ pid, state }) => pid > 0 && state === 'T',
      ),
    );
    bash.type('fg\nread by cat\n');
    await bash.waitFor(/read by cat/);
    stop(bash);
  });

  test('fg that comes while the command is just stopping: it goes on at once', async () => {
    const fifo = join(temporaryFolder(), 'fifo');
    execFileSync('mkfifo', [fifo]);
    const bash = await inBash(ours('sh', '-c', `echo ready $$; read -r line < ${fifo}; exec cat`), env);
    bash.run('&');
    const pid = await readyPid(bash);
    const ourPid = look(pid)?.parent ?? 0;
    process.kill(ourPid, 'SIGSTOP'); // it hears of nothing until fg
    await until(() => look(ourPid)?.state === 'T');
    writeFileSync(fifo, 'go\n');
    await until(() => look(pid)?.state === 'T'); // of TTIN
    bash.type('fg\n');
    await until(() => inForeground(pid) && look(pid)?.state === 'S');
    bash.type('read by cat\n');
    await bash.waitFor(/^read by cat/m);
    stop(bash);
  });

  test('Ctrl-Z for a pipeline stops all of it', async () => {
    const bash = await inBash(ours('cat'), env);
    bash.run('| cat');
    bash.type('first\n');
    await bash.waitFor(/first/);
    bash.type(CTRL_Z);
    await bash.waitFor(/Stopped/);
    stop(bash);
  });

  test('TOSTOP does not block it', async () => {
    const verbose = 'DEBUG' in env ? { DEBUG: 'verbose' } : env;
    const body = 'trap "echo heard" USR2; trap "exit 3" USR1; echo ready $$; while :; do sleep 0.05; done';
    const bash = await inBash(ours('bash', '-c', body), verbose, true);
    bash.type('stty tostop\n');
    bash.run();
    const pid = await readyPid(bash);
    const ourPid = look(pid)?.parent ?? 0;
    process.kill(ourPid, 'SIGUSR2'); // node has a line to say about it, from the background
    if (verbose !== env) await bash.waitFor(/passing on SIGUSR2/);
    await bash.waitFor(/heard/);
    process.kill(ourPid, 'SIGUSR1');
    await until(() => look(ourPid) === undefined);
    bash.type('echo status $?; exit 0\n');
    await bash.waitFor(/status 3/);
    expect(await bash.status).toBe(0);
  });
});

test.skipIf(cannotCompile)(
  'a command that stops its whole group does not hold us up at its end',
  async () => {
    const command = ['sh', '-c', 'echo ready $$; kill -STOP 0; exit 7'];
    const entry = onTerminal(line([], command), { env: { DEBUG: 'stayalive=1s' } });
    const pid = await readyPid(entry);
    await until(() => look(pid)?.state === 'T');
    process.kill(pid, 'SIGCONT');
    expect(await entry.status).toBe(7);
  },
);

describe.skipIf(cannotCompile)('parked on a terminal', () => {
  test.each([
    ['Ctrl-C', CTRL_C, 'SIGINT'],
    ['Ctrl-\\', CTRL_BACKSLASH, 'SIGQUIT'],
  ])('%s lets go', async (_, key, name) => {
    const entry = onTerminal(line([], ['sh', '-c', 'exit 7']), { env: { DEBUG: 'stayalive' } });
    await entry.waitFor(/let it go[\s\S]*---\r?\n/);
    const [ours] = childrenOf(entry.pid);
    await until(() => ours !== undefined && childrenOf(ours.pid).length === 0 && inForeground(ours.pid));
    entry.type(key);
    expect(await entry.status).toBe(7);
    expect(entry.stdout()).toContain(`let go by ${name}, ending with status 7`);
  });

  test('a window that changes its size does not', async () => {
    const entry = onTerminal(line([], ['false']), { env: { DEBUG: 'stayalive' } });
    await entry.waitFor(/let it go[\s\S]*---\r?\n/);
    const pid = childrenOf(entry.pid)[0]?.pid ?? 0;
    process.kill(pid, 'SIGWINCH');
    process.kill(pid, 'SIGTERM');
    expect(await entry.status).toBe(1);
    expect(entry.stdout()).toContain('let go by SIGTERM'); // WINCH is the higher number, but was sent first
  });
});

/** Kernels before 5.9, and sandboxes that refuse it. */
const strace = spawnSync('strace', ['-V']).status === 0;
test.skipIf(cannotCompile || !strace).each(inits)(
  'without close_range(2) the command is started, $way',
  async ({ env, ours }) => {
    const log = join(temporaryFolder(), 'log');
    const traced = [
      'strace',
      '-f',
      '--seccomp-bpf', // stops for this call alone
      '-o',
      log,
      '-e',
      'trace=close_range',
      '-e',
      'inject=close_range:error=ENOSYS',
    ];
    const entry = onTerminal([...traced, ...ours('sh', '-c', 'echo started')], { env });
    await entry.waitFor(/started/);
    expect(await entry.status).toBe(0);
  },
);
