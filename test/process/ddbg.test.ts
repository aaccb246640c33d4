/** The bin ddbg beside a real entry, on Node alone and under the native init. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { tarOf } from '../overlay/archives.ts';
import { hasTool, run } from '../overlay/reading.ts';
import { dist, type Entry, isRoot, node, runEntry, script, startEntry, temporaryFolder } from './harness.ts';

const bin = join(dist, 'ddbg.cjs');
const init = join(dist, `init/linux-${process.arch}/ddbg-init`);

interface Said {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** `ddbg ARG...` for that state directory, as itself or as another user. */
function ddbg(
  stateDir: string,
  args: readonly string[],
  options: { uid?: number; env?: NodeJS.ProcessEnv; cwd?: string } = {},
): Said {
  const { uid, cwd } = options;
  const { status, stdout, stderr } = spawnSync(node, [bin, `--state-dir=${stateDir}`, ...args], {
    encoding: 'utf8',
    env: { PATH: process.env.PATH, ...options.env },
    ...(cwd === undefined ? {} : { cwd }),
    ...(uid === undefined ? {} : { uid, gid: uid }),
  });
  return { status: status ?? -1, stdout, stderr };
}

function json(stateDir: string, ...args: string[]): Record<string, unknown> {
  const said = ddbg(stateDir, [...args, '--json']);
  return JSON.parse(said.stdout);
}

interface Held {
  readonly entry: Entry;
  readonly stateDir: string;
}

interface Setting {
  readonly env?: Readonly<Record<string, string>>;
  readonly flags?: readonly string[];
  readonly uid?: number;
}

/** Starts it in a folder that every user may enter. */
function hold(file: string, words: readonly string[], command: readonly string[], setting: Setting): Held {
  const folder = temporaryFolder();
  chmodSync(folder, 0o777);
  const stateDir = join(folder, 'state');
  const { env, flags = [], uid } = setting;
  const entry = startEntry(command, {
    env: { DEBUG: 'stayalive', ...env },
    node: file,
    program: [...words, `--state-dir=${stateDir}`, ...flags, '--'],
    ...(uid === undefined ? {} : { uid }),
  });
  return { entry, stateDir };
}

const hosts = [
  { name: 'node alone', file: node, words: [join(dist, 'cli.cjs')] },
  { name: 'native init', file: init, words: [] },
]
  .filter(({ file }) => existsSync(file))
  .map(({ name, file, words }) => ({
    name,
    start: (command: readonly string[], setting: Setting = {}) => hold(file, words, command, setting),
  }));

const PARKED = /let it go:[^\n]*\n[^\n]*---\n/;
const LET_GO = /---\n[^\n]*let it go|let it go/;

/** As soon as the banner is there. */
async function parked(held: Held): Promise<Held> {
  await held.entry.waitFor(PARKED);
  return held;
}

describe.each(hosts)('$name', ({ start }) => {
  test('status, the default, says what is going on and what to do; --json the same for programs', async () => {
    const held = await parked(start(['sh', '-c', 'exit 7']));
    const said = ddbg(held.stateDir, []);
    expect(said.status).toBe(0);
    expect(said.stdout).toMatch(/^parked for /);
    expect(said.stdout).toContain("sh -c 'exit 7'");
    expect(said.stdout).toContain('exited with status 7');
    for (const next of ['ddbg report', 'ddbg shell', 'ddbg rerun', 'ddbg release'])
      expect(said.stdout).toContain(next);
    expect(json(held.stateDir, 'status')).toMatchObject({
      schema: 2,
      phase: 'parked',
      run: 1,
      end: { kind: 'exited', status: 7, isFault: true },
      runs: [{ run: 1, status: 7, report: 'fault-1.json' }],
    });
    expect(json(held.stateDir, 'report')).toMatchObject({ kind: 'exited', status: 7 });
  });

  test('shell runs with the last environment of the command, byte for byte, and where it stood', async () => {
    const folder = temporaryFolder();
    const environ = join(folder, 'environ');
    // The entrypoint exports before it execs; what is exec'd has a dotted name, a newline and bytes that are no UTF-8.
    const inner = script(
      folder,
      'inner',
      `#!/bin/bash\ncat /proc/$$/environ > ${environ}.new && mv ${environ}.new ${environ}\nuntil [ -e ${folder}/end ]; do sleep 0.02; done\nexit 3\n`,
    );
    const outer = script(
      folder,
      'outer',
      `#!/bin/bash\nexport LATE=$'two\\nlines' RAW=$'\\xff\\xfe'\ncd /usr/bin; umask 027; ulimit -S -n 300; ulimit -S -c 0\nexec env a.dotted-name=1 ${inner}\n`,
    );
    const held = start([outer]);
    await expect.poll(() => existsSync(environ), { timeout: 20_000, interval: 5 }).toBe(true);
    // Sampled: the state has it as soon as the sampler has looked.
    const expected = readFileSync(environ);
    const kept = join(held.stateDir, 'environ');
    const read = () => (existsSync(kept) ? readFileSync(kept, 'latin1') : '');
    await expect.poll(read, { timeout: 20_000, interval: 10 }).toBe(expected.toString('latin1'));
    writeFileSync(join(folder, 'end'), '');
    await parked(held);
    const seen = spawnSync(node, [
      bin,
      `--state-dir=${held.stateDir}`,
      'shell',
      '--',
      'cat',
      '/proc/self/environ',
    ]);
    expect(seen.stdout.equals(expected)).toBe(true);
    expect(expected.includes(Buffer.from('RAW=\xff\xfe\0', 'latin1'))).toBe(true);
    expect(expected.toString('latin1')).toContain('a.dotted-name=1');
    const where = ddbg(held.stateDir, ['shell', '--', 'sh', '-c', 'pwd; umask; ulimit -S -n; exit 42']);
    expect(where).toMatchObject({ status: 42, stdout: '/usr/bin\n0027\n300\n' });
    const script_ = spawnSync(node, [bin, `--state-dir=${held.stateDir}`, 'shell'], {
      input: 'echo "$LATE"; exit 5',
    });
    expect([script_.status, script_.stdout.toString()]).toEqual([5, 'two\nlines\n']);
  });

  test('rerun: with another environment and other arguments, counted; a fault parks again, success ends with 0', async () => {
    const held = await parked(start(['sh', '-c', 'echo "run with ${X-nothing}"; exit "${STATUS-4}"']));
    expect(json(held.stateDir, 'rerun', '--env', 'X=one', '--env', 'STATUS=5')).toMatchObject({ run: 2 });
    await held.entry.waitFor(/run with one/);
    expect(ddbg(held.stateDir, ['wait', '--timeout', '20s']).status).toBe(0);
    expect(json(held.stateDir)).toMatchObject({ phase: 'parked', run: 2, end: { status: 5 } });
    expect(ddbg(held.stateDir, ['rerun', '--', 'sh', '-c', 'echo other; exit 6']).status).toBe(0);
    expect(ddbg(held.stateDir, ['wait', '--for', 'parked', '--timeout', '20s']).status).toBe(0);
    const { runs } = json(held.stateDir) as { runs: unknown[] };
    expect(runs).toMatchObject([
      { status: 4 },
      { status: 5 },
      { status: 6, argv: ['sh', '-c', 'echo other; exit 6'] },
    ]);
    // What the second one changed is not in the third, nor here.
    ddbg(held.stateDir, ['rerun', '--env=STATUS=0']);
    expect(await held.entry.status).toBe(0);
    expect(held.entry.stdout()).toBe('run with nothing\nrun with one\nother\nrun with nothing\n');
  });

  test('rerun --stay holds the container after success, --verbose says every step', async () => {
    const held = await parked(start(['sh', '-c', 'exit "${STATUS-4}"']));
    expect(held.entry.stderr()).not.toContain('environment:');
    ddbg(held.stateDir, ['rerun', '--stay', '--verbose', '-e', 'STATUS=0']);
    await held.entry.waitFor(/done:[\s\S]*let it go/);
    expect(held.entry.stderr()).toContain('environment: STATUS=0');
    expect(json(held.stateDir)).toMatchObject({
      phase: 'parked',
      run: 2,
      end: { status: 0, isFault: false },
    });
    expect(ddbg(held.stateDir, ['release']).status).toBe(0);
    expect(await held.entry.status).toBe(0);
  });

  test('release: with the status of the fault, or another', async () => {
    const first = await parked(start(['sh', '-c', 'exit 7']));
    expect(ddbg(first.stateDir, ['release']).stdout).toContain('ends with status 7');
    expect(await first.entry.status).toBe(7);
    const second = await parked(start(['sh', '-c', 'exit 7']));
    expect(ddbg(second.stateDir, ['release', '42'])).toMatchObject({ status: 0 });
    expect(await second.entry.status).toBe(42);
    expect(second.entry.stderr()).toContain('let go by ddbg release, ending with status 42');
  });

  test('while the command runs: status and shell; no rerun, no release', async () => {
    const held = start(['sh', '-c', 'export NOW=1; echo ready; exec sleep 60']);
    await held.entry.waitFor(/ready/);
    expect(ddbg(held.stateDir, ['wait', '--for=running', '--timeout=20s']).status).toBe(0);
    expect(json(held.stateDir)).toMatchObject({ phase: 'running', end: null });
    for (const tool of ['rerun', 'release']) {
      const refused = { status: 3, stderr: expect.stringContaining('not parked') };
      expect(ddbg(held.stateDir, [tool])).toMatchObject(refused);
    }
    expect(ddbg(held.stateDir, ['shell', '--', 'pwd']).stdout).toBe(`${process.cwd()}\n`);
    held.entry.kill('SIGTERM');
    expect(await held.entry.status).toBe(143);
  });

  test('a stop that came is shown as long as the command goes on', async () => {
    const held = start(['sh', '-c', "trap '' TERM; echo ready; while :; do sleep 0.1; done"]);
    await held.entry.waitFor(/ready/);
    expect(ddbg(held.stateDir, ['wait', '--for=running', '--timeout=20s']).status).toBe(0);
    held.entry.kill('SIGTERM');
    const deadline = Date.now() + 10_000;
    while (json(held.stateDir).stop === null && Date.now() < deadline);
    expect(json(held.stateDir)).toMatchObject({ phase: 'running', stop: { signal: 'SIGTERM' } });
    expect(ddbg(held.stateDir, []).stdout).toContain('SIGTERM was passed on');
  });

  test('wait: until it is parked, and no longer than it may', async () => {
    const folder = temporaryFolder();
    const held = start(['sh', '-c', `until [ -e ${folder}/end ]; do sleep 0.02; done; exit 3`]);
    expect(ddbg(held.stateDir, ['wait', '--for=running', '--timeout=20s']).status).toBe(0);
    expect(ddbg(held.stateDir, ['wait', '--timeout=1s'])).toMatchObject({ status: 124 });
    writeFileSync(join(folder, 'end'), '');
    expect(ddbg(held.stateDir, ['wait', '--timeout=20s'])).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('parked, run 1'),
    });
    held.entry.kill('SIGTERM');
    await held.entry.status;
    expect(ddbg(held.stateDir, ['wait', '--for=ended', '--timeout=20s']).status).toBe(0);
    expect(ddbg(held.stateDir, ['wait', '--timeout=20s']).status).toBe(3); // that will not come any more
  });

  test('fstree, diff, revert: laid, shown, taken back; a rerun does not lay the first ones again', async () => {
    const root = temporaryFolder();
    mkdirSync(join(root, 'etc'));
    writeFileSync(join(root, 'etc/app.conf'), 'one\ntwo\nthree\n');
    const archive = join(temporaryFolder(), 'p.tar');
    writeFileSync(
      archive,
      tarOf(
        { name: 'etc/app.conf', content: 'one\n2\nthree\nPASSWORD=hunter2hunter2\n' },
        { name: 'etc/new', content: 'new\n' },
        { name: 'etc/binary', content: 'a\0b' },
      ),
    );
    const held = await parked(
      start(['sh', '-c', `cat ${root}/etc/app.conf; exit 3`], {
        flags: [`--root=${root}`],
        env: { DEBUG: `stayalive,fstree=${archive}`, PASSWORD: 'hunter2hunter2' },
      }),
    );
    const diff = ddbg(held.stateDir, ['diff']).stdout;
    expect(diff).toContain('-two\n+2\n');
    expect(diff).toContain('--- /dev/null');
    expect(diff).toContain('PASSWORD=***');
    expect(diff).not.toContain('hunter2');
    expect(diff).toContain('new /etc/binary, 3 B (0644)');
    expect(ddbg(held.stateDir, ['diff', '--json', '/etc/new']).stdout).toContain('"path": "/etc/new"');
    expect(ddbg(held.stateDir, ['diff', '--stat']).stdout.split('\n')).toHaveLength(4);
    writeFileSync(join(root, 'etc/app.conf'), 'mended by hand\n');
    ddbg(held.stateDir, ['rerun']);
    await held.entry.waitFor(/mended by hand/);
    ddbg(held.stateDir, ['wait', '--timeout=20s']);
    const second = join(temporaryFolder(), 'q.tar');
    writeFileSync(second, tarOf({ name: 'etc/app.conf', content: 'from the second\n' }));
    ddbg(held.stateDir, ['rerun', '--fstree', second]);
    await held.entry.waitFor(/from the second/);
    ddbg(held.stateDir, ['wait', '--timeout=20s']);
    const third = join(temporaryFolder(), 'r.tar');
    writeFileSync(third, tarOf({ name: 'etc/third', content: '3\n' }));
    expect(ddbg(held.stateDir, ['fstree', third])).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('changed: 1'),
    });
    expect(readFileSync(join(root, 'etc/third'), 'utf8')).toBe('3\n');
    expect(ddbg(held.stateDir, ['revert', '--runs=1']).status).toBe(0);
    expect(existsSync(join(root, 'etc/third'))).toBe(false);
    writeFileSync(join(root, 'etc/new'), 'changed since\n');
    expect(ddbg(held.stateDir, ['revert'])).toMatchObject({
      status: 125,
      stderr: expect.stringContaining('/etc/new'),
    });
    expect(ddbg(held.stateDir, ['revert', '--force']).status).toBe(0);
    expect(readFileSync(join(root, 'etc/app.conf'), 'utf8')).toBe('one\ntwo\nthree\n');
    expect(ddbg(held.stateDir, ['diff']).stdout).toContain('no overlay has changed anything');
  });

  test('diff: of a path as it is typed; --raw is for patch(1), to the byte', async () => {
    const root = join(temporaryFolder(), 'root');
    mkdirSync(join(root, 'etc'), { recursive: true });
    const before = 'one\n\ntwo\n\n\n\n \n';
    const after = 'PASSWORD=hunter2hunter2\n\ntwo \u001b[31m\n\n\n\n \n';
    writeFileSync(join(root, 'etc/app.conf'), before);
    const names = [Buffer.from('a b\n"c"\\'), Buffer.from([0x66, 0xff, 0x67]), Buffer.from('grün')];
    const archive = join(temporaryFolder(), 'p.tar');
    writeFileSync(
      archive,
      tarOf(
        { name: 'etc/app.conf', content: after },
        ...names.map((name) => ({ name: Buffer.concat([Buffer.from('etc/'), name]), content: 'new' })),
      ),
    );
    const held = await parked(
      start(['sh', '-c', 'exit 3'], {
        flags: [`--root=${root}`],
        env: { DEBUG: `stayalive,fstree=${archive}`, PASSWORD: 'hunter2hunter2' },
      }),
    );
    const masked = ddbg(held.stateDir, ['diff', '/etc/app.conf']);
    expect(masked.stdout).toContain('+PASSWORD=***\n');
    expect(masked.stdout).toContain('+two \\u001b[31m\n');
    expect(masked.stderr).toContain('shown as ***');
    expect(ddbg(held.stateDir, ['diff', '--stat']).stderr).toBe('');
    expect(ddbg(held.stateDir, ['diff', '/etc/grün'])).toMatchObject({
      stdout: expect.stringContaining('+++ b/etc/grün\n'),
      stderr: '',
    });
    expect(ddbg(held.stateDir, ['diff', '--stat', '.'], { cwd: join(root, 'etc') }).stdout).toMatch(
      /^new(.*\n){4}$/,
    );
    expect(ddbg(held.stateDir, ['diff', '--stat', 'app.conf'], { cwd: join(root, 'etc') }).stdout).toMatch(
      /^replaced \/etc\/app.conf.*\n$/,
    );
    expect(ddbg(held.stateDir, ['diff', '/nonexist']).stdout).toMatch(
      /^no overlay has changed anything below \/nonexist; /,
    );
    const raw = ddbg(held.stateDir, ['diff', '--raw']);
    expect(raw.stderr).toBe('');
    expect(raw.stdout).toContain('+++ "b/etc/a b\\n\\"c\\"\\\\"\n');
    expect(raw.stdout).toContain('+++ "b/etc/f\\377g"\n');
    if (!hasTool('patch')) return;
    const copy = temporaryFolder();
    mkdirSync(join(copy, 'etc'));
    writeFileSync(join(copy, 'etc/app.conf'), before);
    run('patch', ['-p1', '-d', copy], undefined, Buffer.from(raw.stdout)); // throws where it fails
    expect(readFileSync(join(copy, 'etc/app.conf'), 'utf8')).toBe(after);
    for (const name of names)
      expect(readFileSync(Buffer.concat([Buffer.from(`${copy}/etc/`), name]), 'utf8')).toBe('new');
  });

  test('shell on a terminal: the TERM of who asks, where the command had none', async () => {
    const without = await parked(start(['sh', '-c', 'exit 3']));
    const other = await parked(start(['sh', '-c', 'exit 3'], { env: { TERM: 'vt52' } }));
    const shell = (stateDir: string, words = ''): string => {
      const line = `'${node}' '${bin}' --state-dir='${stateDir}' shell ${words}`;
      return spawnSync('script', ['-qec', line, '/dev/null'], {
        encoding: 'utf8',
        input: 'echo "<$TERM>"; exit\n',
        env: { PATH: process.env.PATH, TERM: 'xterm-256color' },
      }).stdout;
    };
    expect(shell(without.stateDir)).toContain('<xterm-256color>');
    expect(shell(other.stateDir)).toContain('<vt52>');
    expect(shell(without.stateDir, '-- env')).not.toContain('TERM=');
  });

  test('an overlay that failed is laid by the next rerun', async () => {
    const root = temporaryFolder();
    const archive = join(temporaryFolder(), 'late.tar');
    const held = await parked(
      start(['sh', '-c', `cat ${root}/x; exit 0`], {
        flags: [`--root=${root}`],
        env: { DEBUG: `stayalive,fstree=${archive}` },
      }),
    );
    expect(json(held.stateDir)).toMatchObject({ end: { kind: 'setup-failed', status: 125 }, isLaid: false });
    writeFileSync(archive, tarOf({ name: 'x', content: 'here now\n' }));
    ddbg(held.stateDir, ['rerun']);
    expect(await held.entry.status).toBe(0);
    expect(held.entry.stdout()).toBe('here now\n');
  });

  test('output: what was recorded, with its streams, without secrets', async () => {
    const held = await parked(
      start(['sh', '-c', 'echo one; echo "token $API_TOKEN" >&2; exit 3'], {
        env: { DEBUG: 'stayalive,record', API_TOKEN: 'geheim-geheim' },
      }),
    );
    const { lines } = json(held.stateDir, 'output') as { lines: { stream: string; text: string }[] };
    expect(lines.map(({ stream, text }) => `${stream} ${text}`).sort()).toEqual([
      'stderr token ***',
      'stdout one',
    ]);
    expect(ddbg(held.stateDir, ['output', '--lines=1']).stdout).toMatch(/^\S+Z std(out|err) .*\n$/);
    const other = await parked(start(['sh', '-c', 'exit 3']));
    expect(ddbg(other.stateDir, ['output'])).toMatchObject({
      status: 3,
      stderr: expect.stringContaining('not recorded'),
    });
  });

  test('the history is kept to its limits: a hundred runs, ten reports', async () => {
    const held = await parked(start(['sh', '-c', 'exit 3']));
    const runs = Array.from({ length: 120 }, (_, at) => ({
      run: at - 119,
      startedAt: new Date(0).toISOString(),
      durationMs: 1,
      stop: null,
      argv: [],
      cause: null,
      kind: 'exited',
      status: 1,
      summary: 'exited with status 1',
      isFault: true,
      report: `fault-${at}.json`,
    }));
    for (const { report } of runs.slice(0, 30)) writeFileSync(join(held.stateDir, report), '{}');
    writeFileSync(join(held.stateDir, 'runs.json'), JSON.stringify({ schema: 1, runs }));
    ddbg(held.stateDir, ['rerun']);
    ddbg(held.stateDir, ['wait', '--timeout=20s']);
    const after = json(held.stateDir).runs as { report: string | null }[];
    expect(after).toHaveLength(100);
    expect(after.filter(({ report }) => report !== null)).toHaveLength(10);
    expect(readdirSync(held.stateDir).filter((name) => /^fault-\d/.test(name)).length).toBeLessThanOrEqual(
      10,
    );
  });

  test('of several reruns at once one is done, the others are told so', async () => {
    const held = await parked(start(['sh', '-c', 'sleep 0.3; exit 3']));
    const asked = await Promise.all(
      [1, 2, 3].map(
        (number) =>
          new Promise<number | null>((resolve) => {
            const words = [bin, `--state-dir=${held.stateDir}`, 'rerun', '--env', `N=${number}`];
            spawn(node, words, { stdio: 'ignore' }).on('exit', resolve);
          }),
      ),
    );
    const done = asked.filter((status) => status === 0).length;
    expect(asked.filter((status) => status !== 0)).toEqual(Array.from({ length: 3 - done }, () => 3));
    expect(done).toBeGreaterThan(0);
    ddbg(held.stateDir, ['wait', '--timeout=20s']);
    const { run, runs } = json(held.stateDir) as { run: number; runs: { status: number }[] };
    expect(run).toBe(1 + done); // none is lost, and no signal has reached a command
    expect(runs.map(({ status }) => status)).toEqual(Array.from({ length: run }, () => 3));
  });

  test('wait has its answer before the container ends', async () => {
    const folder = temporaryFolder();
    const held = start(['sh', '-c', `until [ -e ${folder}/end ]; do sleep 0.02; done; exit 0`]);
    await expect.poll(() => existsSync(join(held.stateDir, 'state.json')), { timeout: 20_000 }).toBe(true);
    const answer = (phase: string) =>
      new Promise<number | null>((resolve) => {
        const words = [bin, `--state-dir=${held.stateDir}`, 'wait', `--for=${phase}`];
        spawn(node, words, { stdio: 'ignore' }).on('exit', resolve);
      });
    const [parkedNever, ended] = [answer('parked'), answer('ended')];
    const marks = () => readdirSync(held.stateDir).filter((name) => name.startsWith('waiting-')).length;
    await expect.poll(marks, { timeout: 20_000 }).toBe(2);
    writeFileSync(join(folder, 'end'), '');
    expect([await parkedNever, await ended, await held.entry.status]).toEqual([3, 0, 0]);
  });

  test('a restart begins a new life: nothing of the one before is left in the history', async () => {
    const held = await parked(start(['sh', '-c', 'exit 3']));
    ddbg(held.stateDir, ['rerun']);
    ddbg(held.stateDir, ['wait', '--timeout=20s']);
    held.entry.kill('SIGTERM');
    await held.entry.status;
    const state = JSON.parse(readFileSync(join(held.stateDir, 'state.json'), 'utf8'));
    expect(state.run).toBe(2);
    writeFileSync(
      join(held.stateDir, 'request.json'),
      JSON.stringify({ schema: 1, action: 'release', status: 9 }),
    );
    const again = startEntry(['sh', '-c', 'exit 4'], {
      env: { DEBUG: 'stayalive' },
      program: [join(dist, 'cli.cjs'), `--state-dir=${held.stateDir}`, '--'],
    });
    await again.waitFor(LET_GO);
    expect(json(held.stateDir)).toMatchObject({ run: 1, end: { status: 4 }, runs: [{ run: 1, status: 4 }] });
  });

  test.runIf(isRoot)('as root for another user; another user is refused', async () => {
    const held = await parked(start(['sh', '-c', 'id -u; exit 7'], { uid: 1000, env: {} }));
    expect(ddbg(held.stateDir, ['status'], { uid: 1001 })).toMatchObject({ status: 4 });
    expect(ddbg(held.stateDir, ['status'], { uid: 1000 })).toMatchObject({ status: 0 });
    expect(ddbg(held.stateDir, ['shell', '--', 'id', '-u']).stdout).toBe('1000\n');
    expect(ddbg(held.stateDir, ['rerun'])).toMatchObject({ status: 0 });
    ddbg(held.stateDir, ['wait', '--timeout=20s']);
    expect(json(held.stateDir)).toMatchObject({ run: 2 });
    for (const name of readdirSync(held.stateDir)) expect(statSync(join(held.stateDir, name)).uid).toBe(1000);
    expect(ddbg(held.stateDir, ['release'], { uid: 1000 }).status).toBe(0);
    expect(await held.entry.status).toBe(7);
  });

  test.runIf(isRoot)(
    'a full state directory never stops the park, and a rerun that cannot be asked for says so',
    async () => {
      const place = temporaryFolder();
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k,mode=0700', 'tmpfs', place]);
      try {
        const folder = temporaryFolder();
        const held = start(['sh', '-c', `until [ -e ${folder}/end ]; do sleep 0.02; done; exit 3`], {
          flags: [`--state-dir=${place}`],
        });
        await expect.poll(() => existsSync(join(place, 'standing.json')), { timeout: 20_000 }).toBe(true);
        spawnSync('dd', ['if=/dev/zero', `of=${place}/filler`, 'bs=1k', 'count=1000']);
        writeFileSync(join(folder, 'end'), '');
        await held.entry.waitFor(PARKED);
        // The reserve has made room for what is known of it.
        expect(json(place)).toMatchObject({
          phase: 'parked',
          end: { status: 3 },
          runs: [{ report: 'fault-1.json' }],
        });
        expect(ddbg(place, ['release'])).toMatchObject({ status: 0 });
        expect(await held.entry.status).toBe(3);
      } finally {
        execFileSync('umount', ['-l', place]);
      }
    },
  );
});

test.runIf(isRoot)('a planted directory is not believed: it names a process of somebody else', async () => {
  const folder = temporaryFolder();
  const state = join(folder, 'state');
  mkdirSync(state, { mode: 0o700 });
  const startTicks = Number(readFileSync('/proc/1/stat', 'utf8').split(') ')[1]?.split(' ')[19]);
  const record = {
    schema: 2,
    phase: 'parked',
    run: 1,
    pids: { entry: 1, command: null },
    entryStartTicks: startTicks,
    argv: [],
    plan: {},
  };
  writeFileSync(join(state, 'state.json'), JSON.stringify(record));
  execFileSync('chown', ['-R', '1000:1000', state]);
  const said = ddbg(state, ['release']);
  expect(said.status).toBe(3);
  // A link laid for root to follow leads nowhere: it is read as its owner.
  execFileSync('rm', [join(state, 'state.json')]);
  execFileSync('ln', ['-s', '/etc/shadow', join(state, 'state.json')]);
  expect(ddbg(state, ['status']).status).toBe(3);
});

test('what is wrong on the command line: status 2, the rule and the way out; with --json as JSON', () => {
  const place = temporaryFolder();
  for (const args of [
    ['nonsense'],
    ['release', '256'],
    ['release', 'x'],
    ['rerun', 'cmd'],
    ['rerun', '--env', 'X'],
    ['rerun', '--nonsense'],
    ['rerun', '--fstree', 'ftp://h/a'],
    ['wait', '--for=never'],
    ['wait', '--timeout=soon'],
    ['fstree'],
    ['revert', '--runs=0'],
    ['report', 'x'],
    ['output', '--lines=0'],
    ['shell', '-c', 'ls'],
    ['wait', '--timeout', '-1'],
  ]) {
    const said = ddbg(place, args);
    expect([args, said.status]).toEqual([args, 2]);
    expect(said.stderr).toMatch(/^ddbg: .*\n(ddbg: {3}.*\n)?$/);
    expect(said.stderr).not.toContain('positional');
    expect(JSON.parse(ddbg(place, [...args, '--json']).stdout)).toMatchObject({ error: { status: 2 } });
  }
  const meant = (word: string) => /did you mean ddbg (\w+)\?/.exec(ddbg(place, [word]).stderr)?.[1];
  const slips = ['statsu', 'stats', 'raport', 'rerrun', 'shel', 'nonsense', 'x'].map(meant);
  expect(slips).toEqual(['status', 'status', 'report', 'rerun', 'shell', undefined, undefined]);
  expect(ddbg(place, ['shell', '-c', 'ls']).stderr).toContain('behind --');
  expect(ddbg(place, ['--help']).stdout).toContain('ddbg rerun'.slice(5));
  expect(ddbg(place, ['status'])).toMatchObject({ status: 3, stderr: expect.stringContaining('stayalive') });
});

test('without stayalive there is nothing to work on', async () => {
  const place = temporaryFolder();
  await runEntry(['true'], { env: { DEBUG: 'verbose' } });
  expect(ddbg(place, ['status']).status).toBe(3);
});

test.skipIf(!isRoot)('overlays of other users: said, and as whom they are seen', () => {
  const [one, other] = [54_321, 54_322];
  const place = `/tmp/ddbg-${one}`;
  const ask = (tool: string, uid = 0) => {
    const own = temporaryFolder();
    chownSync(own, uid, uid);
    return ddbg(own, [tool], { uid }).stdout;
  };
  mkdirSync(place, { mode: 0o700 });
  try {
    writeFileSync(join(place, 'overlay.json'), '{"schema":2,"runs":[]}', { mode: 0o600 });
    chownSync(place, one, one);
    expect(ask('diff', other)).toContain(
      `uid ${one} has state of its own, perhaps an overlay, in ${place}: docker exec --user ${one} ... ddbg diff`,
    );
    expect(ask('revert')).toContain(`uid ${one} has an overlay`);
    expect(ask('diff')).toContain(`uid ${one} has an overlay of its own in ${place}: `);
    expect(ask('diff', one)).not.toContain(place);
    expect(ask('diff', one)).toContain('no overlay has changed anything');
  } finally {
    rmSync(place, { recursive: true });
  }
});
