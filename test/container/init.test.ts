/**
 * The native init as PID 1, in real containers: off it is not there at all, with --init or a word it is small, and the
 * command finds everything as it would have without it. What it has in common with the entrypoint on Node alone, the
 * other suites hold over both.
 */
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { describeWithEngine, docker, engine, run, start } from './docker.ts';
import {
  eventually,
  mountProbe,
  ownLines,
  processes,
  runEntry,
  sizeOfFirst,
  startEntry,
  stopPromptly,
  untilTerm,
  waitForPark,
} from './kit.ts';

const MOST_KB = 100;
const ENVIRONMENT = {
  'spring.datasource.url': 'jdbc:h2:mem',
  'a-b': 'c',
  EMPTY: '',
  LINES: "it's\ntwo $HOME",
  NODE_OPTIONS: '--no-warnings',
};

/** What probe.c says, once before and once after us. */
function states(stdout: string): { before: string[]; after: string[]; words: string[] } {
  const [before = [], after = []] = stdout.split('=====\n').map((text) => text.split('\n').filter(Boolean));
  const isWord = (line: string) => line.startsWith('arg: ');
  return { before, after: after.filter((line) => !isWord(line)), words: after.filter(isWord) };
}

/** All but what a process of its own must have another of. */
function withoutPids(state: readonly string[]): string[] {
  return state.filter((line) => !/^(pid|ppid|pgid|death signal): /.test(line));
}

describeWithEngine('the native init', (images) => {
  let probe: string[];
  beforeAll(() => {
    probe = mountProbe();
  });
  const inspected = (
    how: string,
    flags: readonly string[],
    env: Readonly<Record<string, string>>,
    ...own: string[]
  ) =>
    run(images.native, {
      entrypoint: '/t/probe',
      command: [how, 'ddbg-entry', ...own, '--', '/t/probe', 'end', 'a b', '', '\n--init'],
      flags: [...probe, ...flags],
      env,
    });
  const WORDS = ['end', 'a b', '', '\n--init'].map((word) => `arg: ${Buffer.from(word).toString('hex')}`);
  const NOFILE = ['--ulimit', 'nofile=1024:4096'];

  describe('off', () => {
    it.each([
      ['as it comes', 'show', [], {}],
      ['with limits and names of variables that no shell takes', 'show', NOFILE, ENVIRONMENT],
      ["with a DEBUG of somebody else's", 'show', [], { DEBUG: 'express:*,1', DDBG_LOG: 'json' }],
      ['with everything odd', 'odd', [...NOFILE, '--user', '1000:1001', '--group-add', '5'], ENVIRONMENT],
    ])('%s: the command is PID 1, the same in everything', async (_what, how, flags, env) => {
      const ended = await inspected(how, flags, env);
      const { before, after, words } = states(ended.stdout);
      expect(ended).toMatchObject({ status: 0, stderr: '' });
      expect(before[0]).toBe('pid: 1');
      expect(before.length).toBeGreaterThan(50);
      expect(after).toEqual(before);
      expect(words).toEqual(WORDS);
    });

    it('needs no node; a word does, and says so in a line', async () => {
      const flags = [...probe, ...(await initAlone(images.native))];
      const command = ['--', '/t/probe', 'end'];
      const at = (env: Record<string, string>) =>
        run(images.base, { entrypoint: '/i/ddbg-init', command, flags, env });
      const [off, near, on, json] = await Promise.all([
        at({}),
        at({ DEBUG: 'stayalvie' }), // nobody is there to say what is meant
        at({ DEBUG: 'stayalive' }),
        at({ DEBUG: 'stayalive', DDBG_LOG: 'json' }),
      ]);
      expect(off).toMatchObject({ status: 0, stderr: '' });
      expect(off.stdout).toMatch(/^pid: 1\n/);
      expect(near).toMatchObject({ status: 0, stderr: '' });
      const reason =
        'cannot do what is asked for: the rest of the package is not there: link to its init, do not copy it';
      expect(on).toEqual({ status: 125, stdout: '', stderr: `ddbg-entry: ${reason}\n` });
      expect(json).toMatchObject({ status: 125, stdout: '' });
      expect(JSON.parse(json.stderr)).toMatchObject({ message: reason });
    });

    it('in an image with node, without it in PATH: off works, DDBG_NODE helps a word', async () => {
      const at = (env: Record<string, string>) =>
        run(images.native, {
          entrypoint: '/usr/local/bin/ddbg-entry',
          command: ['sh', '-c', 'echo $$; exit 7'],
          env: { PATH: '/usr/bin:/bin', ...env },
        });
      const [off, on, named, wrong] = await Promise.all([
        at({}),
        at({ DEBUG: 'verbose' }),
        at({ DEBUG: 'verbose', DDBG_NODE: '/usr/local/bin/node' }),
        at({ DEBUG: 'verbose', DDBG_NODE: '/usr/bin/node' }),
      ]);
      expect(off).toEqual({ status: 7, stdout: '1\n', stderr: '' });
      expect(on).toMatchObject({ status: 125, stdout: '' });
      expect(named.status).toBe(7);
      expect(wrong).toMatchObject({
        status: 125,
        stderr: expect.stringContaining('DDBG_NODE names no program'),
      });
    });
  });

  describe('in front of the command, with --init or a word', () => {
    it.each([
      ['off, --init', '--init', 'show', {}],
      ['off, --init, everything odd', '--init', 'odd', {}],
      ['on', '--stall-timeout=30s', 'show', { DEBUG: 'stayalive' }],
      ['on, everything odd', '--stall-timeout=30s', 'odd', { DEBUG: 'stayalive' }],
    ])('%s: the command is below PID 1, else the same in everything', async (_what, flag, how, env) => {
      const ended = await inspected(how, NOFILE, { ...ENVIRONMENT, ...env }, flag);
      const { before, after, words } = states(ended.stdout);
      const debug = `env: ${Buffer.from('DEBUG=stayalive').toString('hex')}`;
      expect(ended).toMatchObject({ status: 0, stderr: '' });
      expect(withoutPids(after)).toEqual(withoutPids(before).filter((line) => line !== debug));
      const [pid, parent, group] = after.map((line) => Number(line.split(' ')[1]));
      expect({ isFirst: pid === 1, parent, group }).toEqual({ isFirst: false, parent: 1, group: pid });
      expect(words).toEqual(WORDS);
    });

    it.each([
      ['--init', undefined],
      ['--init', 'stayalive'],
      ['--stall-timeout=30s', 'verbose,stayalive'],
    ])('%s, DEBUG=%s: PID 1 is small', async (flag, DEBUG) => {
      const container = await startEntry(images.native, untilTerm(3), {
        entryFlags: [flag],
        ...(DEBUG === undefined ? {} : { DEBUG }),
      });
      await container.waitForLog(/^up$/m);
      const first = await container.exec(['readlink', '/proc/1/exe']);
      const size = await sizeOfFirst(container);
      expect(first.stdout).toMatch(/\/ddbg-init\n$/);
      expect(size.threads).toBe(1);
      expect(size.residentKb).toBeLessThanOrEqual(MOST_KB);
      expect((await processes(container)).filter(({ name }) => name === 'sh')).toMatchObject([{ parent: 1 }]);
      expect(await stopPromptly(container)).toBe(3);
    });

    it('the command can die of a signal that it sends itself, which PID 1 cannot', async () => {
      const command = ['sh', '-c', 'kill -SEGV $$'];
      const ended = await Promise.all([
        runEntry(images.native, command),
        runEntry(images.native, command, { entryFlags: ['--init'] }),
        runEntry(images.native, command, { DEBUG: 'verbose' }),
      ]);
      expect(ended.map(({ status }) => status)).toEqual([0, 139, 139]);
    });

    it('its status is the container’s', async () => {
      const scripts = ['exit 0', 'exit 7', 'kill -TERM $$', 'kill -34 $$', 'exit 255'];
      const ended = await Promise.all(
        scripts.map((script) => runEntry(images.native, ['bash', '-c', script], { entryFlags: ['--init'] })),
      );
      expect(ended.map(({ status }) => status)).toEqual([0, 7, 143, 162, 255]);
      expect(ended.map(({ stderr }) => stderr).join('')).toBe('');
      const [missing, notExecutable] = await Promise.all([
        runEntry(images.native, ['no-such-command'], { entryFlags: ['--init'] }),
        runEntry(images.native, ['/etc/passwd'], { entryFlags: ['--init'] }),
      ]);
      expect([missing.status, notExecutable.status]).toEqual([127, 126]);
      expect(missing.stderr).toMatch(/^ddbg-entry: cannot start no-such-command: .*\n$/);
    });
  });

  describe('parked', () => {
    const DEBUG = 'stayalive';

    it('node is gone, PID 1 is small and reaps what docker exec leaves', async () => {
      const container = await startEntry(images.native, ['sh', '-c', 'echo run; exit 7'], { DEBUG });
      expect(await waitForPark(container)).toMatchObject({
        release: expect.stringMatching(/^(kill 1|ddbg release)$/),
        status: 7,
      });
      await eventually(() => processes(container)).toMatchObject([{ pid: 1, name: 'ddbg-entry' }]);
      const top = await docker(['top', container.id, '-o', 'pid,args']);
      expect(top.stdout.trim().split('\n')).toEqual([
        expect.any(String),
        expect.stringContaining('ddbg-entry'),
      ]);

      const orphan =
        'sh -c "sleep 0.1 & exit"; setsid sh -c "(sleep 0.1 &) & exit"; (setsid sleep 0.1 &) & exit';
      for (let round = 0; round < 3; round++) await container.exec(['bash', '-c', orphan]);
      await eventually(() => processes(container)).toMatchObject([{ pid: 1 }]);
      const size = await sizeOfFirst(container);
      expect(size.threads).toBe(1);
      expect(size.residentKb).toBeLessThanOrEqual(MOST_KB);
      expect(await stopPromptly(container)).toBe(7);
    });

    it('kill -USR1 1 runs the command again, with what was mended', async () => {
      const script = 'cat /tmp/mended || exit 7; exit 9';
      const container = await startEntry(images.native, ['sh', '-c', script], { DEBUG });
      await waitForPark(container);
      await container.exec(['sh', '-c', 'echo mended >/tmp/mended; kill -USR1 1']);
      await container.waitForLog(/exited with status 9[\s\S]*ends with status 9\)\n.*-{60}/);
      await eventually(() => processes(container)).toMatchObject([{ pid: 1 }]);
      expect((await sizeOfFirst(container)).residentKb).toBeLessThanOrEqual(MOST_KB);
      expect((await container.logs()).stdout).toBe('mended\n');
      await container.kill('USR1');
      await container.waitForLog(/(exited with status 9[\s\S]*ends with status 9\)\n.*-{60}[\s\S]*){2}/);
      expect(await stopPromptly(container)).toBe(9);
    });

    it('again and well: the container ends with 0', async () => {
      const container = await startEntry(images.native, ['test', '-e', '/tmp/mended'], { DEBUG });
      await waitForPark(container);
      await container.exec(['sh', '-c', 'touch /tmp/mended; kill -USR1 1']);
      expect(await container.wait()).toBe(0);
    });
  });

  describe('where little is allowed', () => {
    const command = ['sh', '-c', 'echo out; exit 7'];

    it.each([
      ['a read-only root', ['--read-only']],
      ['uid 1000', ['--user', '1000:1000']],
      ['no capabilities', ['--cap-drop', 'ALL']],
      ['no new privileges', ['--security-opt', 'no-new-privileges']],
      ['docker-init in front', ['--init']],
      ['32 MB', ['--memory', '32m']], // node's 40 MB are mostly pages of its file
    ])('%s: off, --init and a word work', async (_what, flags) => {
      const [off, init, on] = await Promise.all([
        runEntry(images.native, command, { flags }),
        runEntry(images.native, command, { flags, entryFlags: ['--init'] }),
        runEntry(images.native, command, { flags, DEBUG: 'verbose' }),
      ]);
      expect(off).toEqual({ status: 7, stdout: 'out\n', stderr: '' });
      expect(init).toEqual(off);
      expect(on).toMatchObject({ status: 7, stdout: 'out\n' });
      expect(ownLines(on.stderr).join('\n')).toMatch(/^the command exited with status 7 after/m);
    });

    it('nothing can be forked: off works, the rest says so', async () => {
      const flags = ['--pids-limit', '1'];
      const [off, init, on] = await Promise.all([
        runEntry(images.native, ['echo', 'out'], { flags }),
        runEntry(images.native, ['echo', 'out'], { flags, entryFlags: ['--init'] }),
        runEntry(images.native, ['echo', 'out'], { flags, DEBUG: 'stayalive' }),
      ]);
      const line = (file: string) => `ddbg-entry: cannot start ${file}: Resource temporarily unavailable\n`;
      expect(off).toEqual({ status: 0, stdout: 'out\n', stderr: '' });
      expect(init).toEqual({ status: 126, stdout: '', stderr: line('echo') });
      expect(on).toEqual({ status: 125, stdout: '', stderr: line('/usr/local/bin/node') });
    });

    it('all of it: held, and let go', async () => {
      const hardened = ['--read-only', '--user', '1000:1000', '--cap-drop', 'ALL', '--memory', '32m'];
      const flags = [...hardened, '--security-opt', 'no-new-privileges', '--pids-limit', '40'];
      const container = await startEntry(images.native, command, { flags, DEBUG: 'stayalive' });
      expect((await waitForPark(container)).status).toBe(7);
      await eventually(() => processes(container)).toMatchObject([{ pid: 1 }]);
      expect(await stopPromptly(container)).toBe(7);
    });

    it('docker-init in front: we reap all the same, and a stop comes through', async () => {
      const script = 'sh -c "sleep 1000 & exit"; (sleep 0.01 &); echo up; read forever';
      const container = await startEntry(images.native, ['bash', '-c', script], {
        flags: ['--init', '--interactive'],
        DEBUG: 'stayalive',
      });
      await container.waitForLog(/^up$/m);
      const namesOf = (all: Awaited<ReturnType<typeof processes>>) => all.map(({ name }) => name).sort();
      await eventually(async () => namesOf(await processes(container))).toEqual([
        'bash',
        'ddbg-entry',
        'docker-init',
        'node',
        'sleep',
      ]);
      const all = await processes(container);
      const init = all.find(({ name }) => name === 'ddbg-entry');
      expect(init).toMatchObject({ parent: 1 });
      expect(all.filter(({ parent }) => parent === init?.pid)).toHaveLength(3);
      expect(await stopPromptly(container)).toBe(143);
    });
  });
});

/** The init's file out of an image, and the flags that mount it at `/i/ddbg-init`. */
async function initAlone(image: string): Promise<string[]> {
  const directory = mkdtempSync(join(engine().directory, 'init-'));
  const container = await start(image, { command: ['true'] });
  const copied = await docker([
    'cp',
    '-L',
    `${container.id}:/usr/local/bin/ddbg-entry`,
    join(directory, 'ddbg-init'),
  ]);
  if (copied.status !== 0) throw new Error(copied.stderr);
  return ['--volume', `${directory}:/i:ro`];
}
