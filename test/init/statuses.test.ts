/** What the command ended with is what the container ends with; which file a name executes, and with which words. */
import { mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { script, temporaryFolder } from '../process/harness.ts';
import { cannotCompile, finished, inBatches, init, launchFile, program, runInit, start } from './kit.ts';

/** verbose and not stayalive: nothing parks. */
const WAYS = [
  ['gone', {}],
  ['off', { flags: ['--init'] }],
  ['on', { env: { DEBUG: 'verbose' } }],
] as const;

const ALL_STATUSES = Array.from({ length: 256 }, (_, status) => status);
/** Those whose default action ends a process: not CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG, WINCH. */
const FATAL = Array.from({ length: 64 }, (_, at) => at + 1).filter(
  (number) => ![17, 18, 19, 20, 21, 22, 23, 28].includes(number),
);

/** As the kernel counts them. */
const FIRST_REALTIME = 32;

describe.skipIf(cannotCompile).each(WAYS)('%s', (way, options) => {
  test('all 256 exit statuses', async () => {
    const seen = await inBatches(ALL_STATUSES, async (status) => {
      const run = await runInit([`/bin/sh`, '-c', `exit ${status}`], options);
      return run.status;
    });
    expect(seen).toEqual(ALL_STATUSES);
  });

  test.each([
    ['', FATAL.filter((number) => number < FIRST_REALTIME)],
    ['real-time ', FATAL.filter((number) => number >= FIRST_REALTIME)],
  ])('death by each fatal %ssignal is 128+N', async (_, fatal) => {
    const seen = await inBatches(fatal, async (number) => {
      const command = [program('tool'), 'die', `${number}`];
      if (way !== 'gone') return (await runInit(command, options)).status;
      // what took its place dies of it: here a shell sees it as another init or a container engine would
      const { argv } = init;
      return (await finished(start(['bash', '-c', '"$@"; exit $?', 'bash', ...argv, '--', ...command])))
        .status;
    });
    expect(seen).toEqual(fatal.map((number) => 128 + number));
  });

  describe('what cannot be executed', () => {
    const garbage = Buffer.concat([Buffer.from('text first\n'), Buffer.alloc(40, 7), Buffer.alloc(40)]);
    test.each([
      ['a name that is nowhere', 127, () => 'no-such-command'],
      ['a path that is nowhere', 127, () => '/no/such/command'],
      ['a path below a file', 127, () => '/etc/passwd/command'],
      ['the empty name', 127, () => ''],
      ['a file without the x', 126, () => script(temporaryFolder(), 'plain', '#!/bin/sh\n', 0o644)],
      ['a directory', 126, () => temporaryFolder()],
      ['bytes that are no program', 126, () => script(temporaryFolder(), 'garbage', garbage)],
      [
        'a program that breaks off before its first NUL',
        126,
        () => script(temporaryFolder(), 'elf', '\x7fELFnine'),
      ],
      ['a missing interpreter', 127, () => script(temporaryFolder(), 'entry', '#!/no/such/shell\n')],
      ['a loop of links', 126, () => linkLoop()],
    ])('%s: %i', async (_, status, make) => {
      const file = make();
      const run = await runInit([file, 'word'], options);
      expect({ status: run.status, stdout: run.stdout }).toEqual({ status, stdout: '' });
      expect(run.stderr).toContain('ddbg-entry: ');
      expect(run.stderr).toContain(file);
    });
  });

  test('a text file without #! is sh’s, its arguments exact; an empty one succeeds', async () => {
    const folder = temporaryFolder();
    const text = script(folder, 'text', 'printf "[%s]" "$0" "$@"; exit 6\n');
    const words = ['', 'a b', '*', '$HOME', "'", 'two\nlines', '--', '-c', 'ü'];
    const wanted = [text, ...words].map((word) => `[${word}]`).join('');
    expect(await runInit([text, ...words], options)).toMatchObject({ status: 6, stdout: wanted });
    const byName = {
      ...options,
      env: { ...('env' in options ? options.env : {}), PATH: folder, DDBG_NODE: process.execPath },
    };
    expect(await runInit(['text', ...words], byName)).toMatchObject({ status: 6, stdout: wanted });
    expect((await runInit([script(folder, 'empty', '')], options)).status).toBe(0);
  });

  describe('PATH', () => {
    const say = (folder: string, text: string, mode = 0o755) =>
      script(folder, 'tried', `#!/bin/sh\necho ${text}\n`, mode);
    /** Three folders: one without, one with a file that cannot be executed, one with the program. */
    const makeFolders = () => {
      const folder = temporaryFolder();
      const [without, closed, good] = ['without', 'closed', 'good'].map((name) => join(folder, name));
      for (const one of [without, closed, good]) mkdirSync(one as string);
      say(closed as string, 'closed', 0o644);
      say(good as string, 'good');
      return { without, closed, good } as Record<'without' | 'closed' | 'good', string>;
    };
    type Folders = ReturnType<typeof makeFolders>;

    test.each([
      ['the first that has it', (f: Folders) => `${f.without}:${f.good}`, 0, 'good\n'],
      ['past one that cannot be executed', (f: Folders) => `${f.closed}:${f.good}`, 0, 'good\n'],
      ['only one that cannot be executed', (f: Folders) => `${f.closed}:${f.without}`, 126, ''],
      ['an empty entry is the working directory', (f: Folders) => `${f.without}::/x`, 0, 'here\n'],
      ['so is one at the end', (f: Folders) => `${f.without}:`, 0, 'here\n'],
      ['so is an empty PATH', () => '', 0, 'here\n'],
      [
        'a file in it, and a folder that is not there',
        (f: Folders) => `/etc/passwd:/no:${f.good}`,
        0,
        'good\n',
      ],
      ['nowhere', (f: Folders) => f.without, 127, ''],
    ])('%s', async (_, path, status, stdout) => {
      const folders = makeFolders();
      const cwd = temporaryFolder();
      say(cwd, 'here');
      // the init's node is not to be looked for in this PATH
      const env = {
        ...('env' in options ? options.env : {}),
        PATH: path(folders),
        DDBG_NODE: process.execPath,
      };
      expect(await runInit(['tried'], { ...options, env, cwd })).toMatchObject({ status, stdout });
    });

    test('unset, it is that of execvp: /bin and /usr/bin', async () => {
      const env = { ...('env' in options ? options.env : {}), PATH: undefined, DDBG_NODE: process.execPath };
      expect((await runInit(['true'], { ...options, env })).status).toBe(0);
      expect((await runInit(['tried'], { ...options, env })).status).toBe(127);
    });
  });

  test('arguments arrive to the byte, argv[0] as it was given', async () => {
    const words = ['', 'a b', '\n', 'two\nlines\n', '--', '--init', '-', '*', '', '\u00e4'].map((text) =>
      Buffer.from(text),
    );
    words.push(Buffer.from([0xff, 0xfe, 0x80, 0x31]), Buffer.alloc(100_000, 'x'));
    const [file = ''] = init.argv;
    const flags = 'flags' in options ? options.flags : [];
    const variables = {
      PATH: `${join(program('tool'), '..')}:${process.env.PATH}`,
      ...('env' in options ? options.env : {}),
    };
    const records = [
      ...[file, ...flags, '--', 'tool', 'argv'].map((word) => `arg ${word}`),
      ...words.map((word) => Buffer.concat([Buffer.from('arg '), word])),
      ...Object.entries(variables).map(([name, value]) => `env ${name}=${value}`),
    ];
    const { stdout } = await finished(start([program('launch'), launchFile(records)]));
    const wanted = [Buffer.from('tool'), Buffer.from('argv'), ...words].map((word) => word.toString('hex'));
    expect(stdout.split('\n')).toEqual([...wanted, '']);
  });

  test.each([
    ['before the command', ['--', 'echo', 'x'], 'x\n'],
    ['only the first', ['--', 'echo', '--', '--init'], '-- --init\n'],
    ['not needed', ['echo', '--init', '--'], '--init --\n'],
    ['a command called -', ['-', 'x'], undefined],
  ])('-- %s', async (_, words, stdout) => {
    const flags = 'flags' in options ? options.flags : [];
    const run = await finished(start([...init.argv, ...flags, ...words], options));
    if (stdout === undefined) expect(run.status).toBe(127);
    else expect(run).toMatchObject({ status: 0, stdout });
  });
});

function linkLoop(): string {
  const file = join(temporaryFolder(), 'loop');
  symlinkSync(file, file);
  return file;
}
