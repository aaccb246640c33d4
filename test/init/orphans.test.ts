/** Every process below the command: reaped, reached by --group, given time by --grace; and what else follows an end. */
import { spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import {
  cannotCompile,
  childrenOf,
  inBatches,
  init,
  look,
  parked,
  processes,
  program,
  runInit,
  STAYING,
  start,
  startInit,
  until,
} from './kit.ts';

/** Says "TAG PID ready", then "TAG got TERM" for each TERM; ends of KILL alone. Its streams are the command's. */
const deaf = (tag: string) =>
  `bash -c 'trap "echo ${tag} got TERM" TERM; echo ${tag} $$ ready; while :; do sleep 0.05; done'`;
/** The same, and ends of it with status 0. */
const mild = (tag: string) =>
  `bash -c 'trap "echo ${tag} got TERM; exit 0" TERM; echo ${tag} $$ ready; while :; do sleep 0.05; done'`;
/** In a session of its own, its parent gone. */
const daemon = (body: string) => `(setsid ${body} </dev/null &)`;

const run = (body: string, options: Parameters<typeof startInit>[1] = {}) =>
  startInit(['bash', '-c', body], options);

describe.skipIf(cannotCompile).each(STAYING)('%s', (_, options) => {
  test('200 children and 200 orphans at once: each status right, no zombie', async () => {
    const command = [program('tool'), 'crowd', '200', '200'];
    const entry = startInit(command, { ...options, stdin: 'pipe' });
    await entry.waitFor(/^own 200, wrong 0$/m);
    const own = options === STAYING[0][1] ? 1 : 2; // the command, and node beside it
    await until(() => childrenOf(entry.pid).length === own);
    expect(childrenOf(entry.pid).filter(({ state }) => state === 'Z')).toEqual([]);
    entry.child.stdin?.end();
    if (own === 2) {
      await parked(entry);
      entry.signal('SIGTERM');
    }
    expect(await entry.status).toBe(5);
  });

  test('a daemon does not disturb, and its death is not the command’s', async () => {
    const body = `${daemon("sh -c 'echo daemon $$; exec sleep 1000'")}; read line; exit 0`;
    const entry = run(body, { ...options, stdin: 'pipe' });
    const pid = Number((await entry.waitFor(/daemon (\d+)/))[1]);
    await until(() => look(pid)?.parent === entry.pid); // we have it, and not the init of the machine
    process.kill(pid, 'SIGSEGV');
    await until(() => look(pid) === undefined);
    expect(look(entry.pid)?.state).toBe('S');
    entry.child.stdin?.end('line\n');
    expect(await entry.status).toBe(0);
  });

  test('--group reaches whoever has left: session, parent, group', async () => {
    const body = `setsid ${deaf('session')} & ${daemon(deaf('daemon'))}; ${deaf('child')} & exec ${deaf('command')}`;
    const entry = run(body, { ...options, flags: ['--group'] });
    for (const tag of ['session', 'daemon', 'child', 'command'])
      await entry.waitFor(new RegExp(`${tag} \\d+ ready`));
    entry.signal('SIGTERM');
    for (const tag of ['session', 'daemon', 'child', 'command'])
      await entry.waitFor(new RegExp(`${tag} got TERM`));
    entry.signal('SIGKILL');
  });

  test('without it, only the command', async () => {
    const body = `${deaf('child')} & ${daemon(deaf('daemon'))}; exec ${deaf('command')}`;
    const entry = run(body, { ...options, flags: ['--init'] });
    for (const tag of ['child', 'daemon', 'command']) await entry.waitFor(new RegExp(`${tag} \\d+ ready`));
    entry.signal('SIGTERM');
    await entry.waitFor(/command got TERM/);
    const [, pid = ''] = /child (\d+) ready/.exec(entry.stdout()) ?? [];
    process.kill(Number(pid), 'SIGTERM'); // an echo of its own: it does hear, and has not before
    await entry.waitFor(/child got TERM/);
    expect(entry.stdout().match(/child got TERM/g)).toHaveLength(1);
    expect(entry.stdout()).not.toContain('daemon got TERM');
  });

  test('--grace: after a stop, TERM to what is left, and the end when the last is gone', async () => {
    const body = `setsid ${mild('session')} & ${daemon(mild('daemon'))}; trap 'exit 3' TERM; echo command ready; while :; do sleep 0.05; done`;
    const entry = run(body, { ...options, flags: ['--grace=10m'] });
    for (const tag of ['session \\d+', 'daemon \\d+', 'command'])
      await entry.waitFor(new RegExp(`${tag} ready`));
    entry.signal('SIGTERM');
    expect(await entry.ended).toBe(3);
    expect(await entry.status).toBe(3);
    for (const tag of ['session', 'daemon']) expect(entry.stdout()).toContain(`${tag} got TERM`);
  });

  test('--grace: KILL for what is left when the time is over, whatever it forks', async () => {
    const forking = `bash -c 'trap "" TERM; echo fork $$ ready; while :; do sleep 0.01; done'`;
    const body = `${daemon(forking)}; ${daemon(deaf('daemon'))}; trap 'exit 3' TERM; echo command ready; while :; do sleep 0.05; done`;
    const entry = run(body, { ...options, flags: ['--grace=1s'] });
    for (const tag of ['fork \\d+', 'daemon \\d+', 'command'])
      await entry.waitFor(new RegExp(`${tag} ready`));
    const pids = [...entry.stdout().matchAll(/ (\d+) ready/g)].map(([, pid]) => Number(pid));
    entry.signal('SIGTERM');
    await entry.waitFor(/daemon got TERM/);
    expect(look(entry.pid)).toBeDefined(); // it waits for them
    expect(await entry.ended).toBe(3);
    expect(pids.filter((pid) => look(pid) !== undefined && look(pid)?.state !== 'Z')).toEqual([]);
  });

  test('--grace: nobody is left, nobody is waited for; and no grace without a stop', async () => {
    const flags = ['--grace=576h'];
    const entry = run("trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done", {
      ...options,
      flags,
    });
    await entry.waitFor(/ready/);
    entry.signal('SIGTERM');
    expect(await entry.status).toBe(3);
    const left = run(`${daemon(deaf('daemon'))}; until read -t 0.05 line; do :; done; exit 0`, {
      ...options,
      flags,
      stdin: 'pipe',
    });
    await left.waitFor(/daemon \d+ ready/);
    left.child.stdin?.end('line\n');
    expect(await left.ended).toBe(0);
    expect(left.stdout()).not.toContain('got TERM');
  });

  test.each([
    ['143:0,7:3', 'exit 7', 3],
    ['143:0,7:3', 'kill -TERM $$', 0],
    ['143:0,7:3', 'exit 3', 3],
    ['7:3,3:0', 'exit 7', 3],
    ['0:9', 'exit 0', 9],
    ['255:0', 'exit 255', 0],
    ['1:2', 'exit 7', 7],
  ])('--exit-map=%s: %s ends with %i', async (map, body, status) => {
    const env = { ...('env' in options ? options.env : {}) } as Record<string, string>;
    if (env.DEBUG !== undefined) env.DEBUG = 'stayalive=1s';
    const flags = ['--init', `--exit-map=${map}`];
    const ended = await runInit(['sh', '-c', body], { flags, env });
    expect(ended.status).toBe(status);
    // what the map makes 0 is no fault, what it makes something else is one
    expect(ended.stderr.includes('the container stays')).toBe(env.DEBUG !== undefined && status !== 0);
  });
});

test.skipIf(cannotCompile)('a zombie that was there before it is reaped too', async () => {
  const command = ['sh', '-c', 'echo ready; read x; exit 5'];
  const entry = start([program('tool'), 'zombie', ...init.argv, '--init', '--', ...command], {
    stdin: 'pipe',
  });
  const pid = Number((await entry.waitFor(/zombie (\d+)[\s\S]*ready/))[1]);
  await until(() => look(pid) === undefined);
  entry.child.stdin?.end('x\n');
  expect(await entry.status).toBe(5);
});

test('many at once, each with an orphan that dies in the same moment: never the wrong status', async () => {
  const seen = await inBatches(
    Array.from({ length: 150 }, (_, at) => at),
    async (at) => {
      const body = `(sh -c 'exit 77' &); (sh -c 'kill -9 $$' &); exit ${at}`;
      return (await runInit(['sh', '-c', body], { flags: ['--init'] })).status;
    },
  );
  expect(seen).toEqual(seen.map((_, at) => at));
});

const inNamespace = ['unshare', '--mount', 'sh', '-c', 'mount -t tmpfs none /proc && exec "$@"', 'sh'];
const canUnshare = spawnSync(inNamespace[0] ?? '', [...inNamespace.slice(1), 'true']).status === 0;
test.skipIf(!canUnshare).each(['--group', '--init'])(
  '%s without /proc: the command at least is reached',
  async (flag) => {
    const body = 'trap "exit 3" TERM; echo ready; while :; do sleep 0.05; done';
    const entry = start([...inNamespace, ...init.argv, flag, '--', 'bash', '-c', body]);
    await entry.waitFor(/ready/);
    entry.signal('SIGTERM');
    expect(await entry.status).toBe(3);
  },
);

describe('--pdeathsig', () => {
  test.each([
    ['gone', []],
    ['off', ['--init']],
  ])('%s: the death of the parent is that signal for the command', async (_, flags) => {
    const { argv } = init;
    const line = [
      ...argv,
      '--pdeathsig=USR1',
      ...flags,
      '--',
      'bash',
      '-c',
      'trap "echo got USR1; exit 0" USR1; echo ready $$; while :; do sleep 0.05; done',
    ];
    const parent = start(['bash', '-c', '"$@" & wait', 'bash', ...line]);
    const pid = Number((await parent.waitFor(/ready (\d+)/))[1]);
    parent.signal('SIGKILL');
    await parent.waitFor(/got USR1/);
    await until(() => look(pid) === undefined);
    expect(processes().filter(({ parent: of }) => of === pid)).toEqual([]);
  });

  test('without it, the command does not notice', async () => {
    const { argv } = init;
    const line = [...argv, '--init', '--', 'sh', '-c', 'echo ready $$; exec sleep 1000'];
    const parent = start(['bash', '-c', '"$@" & wait', 'bash', ...line]);
    const pid = Number((await parent.waitFor(/ready (\d+)/))[1]);
    const between = look(pid)?.parent ?? 0;
    parent.signal('SIGKILL');
    await until(() => look(parent.pid) === undefined && look(between)?.parent !== parent.pid);
    expect(look(pid)?.parent).toBe(between);
  });
});
