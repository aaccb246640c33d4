/** When node is asked and when it is not; and what is wrong is said in one line, with 125. */
import { existsSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isOn, parseDebug } from '../../src/parse.ts';
import { node, script, temporaryFolder } from '../process/harness.ts';
import { finished, inBatches, init, runInit, start } from './kit.ts';

const read = (path: string) => readFileSync(fileURLToPath(new URL(path, import.meta.url)), 'utf8');

/** A node that leaves a mark before it is node: whether it was asked. */
function markingNode() {
  const folder = temporaryFolder();
  const mark = join(folder, 'asked');
  const file = script(folder, 'node', `#!/bin/sh\n: >${mark}\nexec ${node} "$@"\n`);
  return { DDBG_NODE: file, wasAsked: () => existsSync(mark) };
}

async function ask(env: Record<string, string | undefined>, flags: readonly string[] = []) {
  const { DDBG_NODE, wasAsked } = markingNode();
  const run = await runInit(['sh', '-c', 'echo "${DEBUG-none} ${DDBG-none}"'], {
    env: { DDBG_NODE, ...env },
    flags,
  });
  return { ...run, wasAsked: wasAsked() };
}

describe.each([
  ['off', []],
  ['--init', ['--init']],
])('node is asked, %s', (_, flags) => {
  test.each([
    [{}, 'none none'],
    [{ DEBUG: '' }, ' none'],
    [{ DEBUG: '1' }, '1 none'],
    [{ DEBUG: '*' }, '* none'],
    [{ DEBUG: 'express:*,knex' }, 'express:*,knex none'],
    [{ DEBUG: 'ver,sta,fs,tree' }, 'ver,sta,fs,tree none'],
    [{ DEBUG: 'my-verbose,not.stayalive,x=fstree' }, 'my-verbose,not.stayalive,x=fstree none'],
    [{ DEBUG: 'recorder:*,records,record:*,recor' }, 'recorder:*,records,record:*,recor none'],
    [{ DEBUG: 'x'.repeat(100_000) }, `${'x'.repeat(100_000)} none`],
    [{ DDBG: '' }, 'none none'],
    [{ DDBG: '', DEBUG: 'verbose' }, 'verbose none'],
    [{ DDBG: '', DEBUG: 'stayalive,fstree=/x' }, 'stayalive,fstree=/x none'],
  ])('never for %j', async (env, shown) => {
    const run = await ask(env, flags);
    expect(run).toEqual({ status: 0, stdout: `${shown}\n`, stderr: '', wasAsked: false });
  });

  test.each([
    [{ DEBUG: 'stayalive' }, 'none none', ''],
    [{ DEBUG: ' stayalive' }, 'none none', ''],
    [{ DEBUG: 'a,stayalive,b' }, 'a,b none', ''],
    [{ DEBUG: 'stayalive=1s' }, 'none none', ''],
    [{ DEBUG: '\tstayalive\n' }, 'none none', ''],
    [{ DDBG: 'stayalive' }, 'none none', ''],
    [{ DDBG: 'stayalive', DEBUG: 'verbose' }, 'verbose none', ''],
    [{ DEBUG: 'stayalve' }, 'stayalve none', "did you mean 'stayalive'?"],
    [{ DEBUG: 'VERBOSE' }, 'VERBOSE none', "did you mean 'verbose'?"],
    [{ DEBUG: "'stayalive'" }, "'stayalive' none", "did you mean 'stayalive'?"],
    [{ DEBUG: 'a;stayalive' }, 'a;stayalive none', "did you mean 'stayalive'?"],
    [{ DEBUG: 'verbatim:*' }, 'verbatim:* none', ''],
    [{ DEBUG: 'record' }, 'none none', ''],
    [{ DEBUG: 'recorder:*, record' }, 'recorder:* none', ''],
    [{ DEBUG: 'RECORD' }, 'RECORD none', "did you mean 'record'?"],
    [{ DEBUG: "'record'" }, "'record' none", "did you mean 'record'?"],
  ])('for %j', async (env, shown, line) => {
    const run = await ask(env, flags);
    expect(run).toMatchObject({ status: 0, stdout: `${shown}\n`, wasAsked: true });
    if (line === '') expect(run.stderr).toBe('');
    else expect(run.stderr).toContain(line);
  });
});

test('whatever is on for src/parse.ts, or an error, the init asks about', async () => {
  const beside = fc.array(
    fc.constantFrom(',', ' ', '\t', '\n', '\v', '\f', '\u00a0', ';', "'", 'x', ':', '='),
    { maxLength: 2 },
  );
  const word = fc.constantFrom(
    'verbose',
    'stayalive',
    'fstree=/a',
    'stayalive=1s',
    'fstree',
    'verbose=',
    'record',
  );
  const text = fc
    .tuple(beside, word, beside)
    .map(([before, middle, behind]) => [...before, middle, ...behind].join(''));
  const on = [...new Set(fc.sample(text, { numRuns: 400, seed: 1 }))].filter((DEBUG) => {
    try {
      return isOn(parseDebug({ DEBUG }));
    } catch {
      return true;
    }
  });
  expect(on.length).toBeGreaterThan(50);
  const asked = await inBatches(on, async (DEBUG) => {
    const folder = temporaryFolder();
    const DDBG_NODE = script(folder, 'node', '#!/bin/sh\nexit 44\n');
    const { status } = await runInit(['true'], { env: { DEBUG, DDBG_NODE } });
    return [DEBUG, status];
  });
  expect(asked.filter(([, status]) => status !== 125)).toEqual([]);
});

test('a node that never says a word is not waited for: where none of our words may be there the command starts', async () => {
  const DDBG_NODE = script(temporaryFolder(), 'node', '#!/bin/sh\nexec sleep 1000\n');
  const [surely, perhaps] = await Promise.all([
    runInit(['echo', 'ran'], { env: { DEBUG: 'verbose', DDBG_NODE } }),
    runInit(['echo', 'ran'], { env: { DEBUG: 'verbos', DDBG_NODE } }),
  ]);
  expect(surely).toMatchObject({
    status: 125,
    stdout: '',
    stderr: expect.stringContaining('node says nothing'),
  });
  expect(perhaps).toMatchObject({ status: 0, stdout: 'ran\n' });
});

describe('node is found', () => {
  const nowhere = { PATH: '/nonexistent' };
  const command = ['/bin/sh', '-c', 'echo ran'];
  const ran = { status: 0, stdout: 'ran\n', stderr: '' };

  test.each(['verbos', 'stayalve', 'VERBOSE', 'fstre', 'verbatim'])(
    'not: %s runs the command, silently',
    async (DEBUG) => {
      expect(await runInit(command, { env: { ...nowhere, DEBUG } })).toEqual(ran);
      expect(await runInit(command, { env: { DEBUG, DDBG_NODE: '/no/such/node' } })).toEqual(ran);
    },
  );

  test.each([
    [{ DEBUG: 'stayalive' }],
    [{ DEBUG: 'x,verbose' }],
    [{ DEBUG: 'fstree=/x' }],
    [{ DDBG: 'nonsense' }],
  ])('not: %j is 125, and one line', async (env) => {
    const missing = await runInit(command, { env: { ...nowhere, ...env } });
    expect(missing).toMatchObject({ status: 125, stdout: '' });
    expect(missing.stderr).toMatch(
      /^ddbg-entry: cannot do what is asked for: there is no node in PATH; .*\n$/,
    );
    const named = await runInit(command, { env: { ...env, DDBG_NODE: '/no/such/node' } });
    expect(named).toMatchObject({ status: 125, stdout: '' });
    expect(named.stderr).toMatch(/^ddbg-entry: .*DDBG_NODE names no program\n$/);
    const json = await runInit(command, { env: { ...nowhere, ...env, DDBG_LOG: 'json' } });
    expect(JSON.parse(json.stderr)).toMatchObject({ level: 'warn' });
  });

  test('in PATH behind a folder of that name', async () => {
    const folder = temporaryFolder();
    const { mkdirSync } = await import('node:fs');
    mkdirSync(join(folder, 'node'));
    const env = { DEBUG: 'stayalive', PATH: `${folder}:${join(node, '..')}:${process.env.PATH}` };
    expect(await runInit(command, { env })).toEqual(ran);
  });

  test('an empty DDBG_NODE names none, and PATH has it', async () => {
    expect(await runInit(command, { env: { DEBUG: 'stayalive', DDBG_NODE: '' } })).toEqual(ran);
  });

  test('the init is found through a link', async () => {
    const link = join(temporaryFolder(), 'link');
    symlinkSync(init.argv[0] ?? '', link);
    expect(await finished(start([link, ...command], { env: { DEBUG: 'stayalive' } }))).toEqual(ran);
  });

  test.each([
    ['/bin/false', /node ended with status 1 before the command was started/],
    ['/bin/true', /node ended with status 0 before the command was started/],
    ['/etc', /DDBG_NODE names no program/],
  ])('a node that fails (%s): 125, and why', async (DDBG_NODE, line) => {
    const run = await runInit(command, { env: { DEBUG: 'verbose', DDBG_NODE } });
    expect(run).toMatchObject({ status: 125, stdout: '' });
    expect(run.stderr).toMatch(line);
    expect(run.stderr.split('\n')).toHaveLength(2);
  });
});

describe('flags', () => {
  const RULES = {
    init: /takes no value/,
    group: /takes no value/,
    grace: /must be a duration such as 10s, 2m or 1h, at most 576h/,
    pdeathsig: /must be a signal such as TERM or 15/,
    'stop-signal-map': /must be FROM:TO\[,FROM:TO...\]/,
    'exit-map': /must be FROM:TO\[,FROM:TO...\]/,
  };

  test.each([
    ['init', ['=', '=1', '=yes']],
    ['group', ['=', '=0']],
    [
      'grace',
      [
        '',
        '=',
        '=10',
        '=0s',
        '=-1s',
        '=1d',
        '=1.5s',
        '=10s ',
        '= 10s',
        '=577h',
        '=99999999s',
        '=34561m',
        '=10ss',
        '=s',
      ],
    ],
    [
      'pdeathsig',
      [
        '',
        '=',
        '=0',
        '=65',
        '=NOPE',
        '=TERM,',
        '=SIG',
        '=SIGSIGTERM',
        '=RTMIN+31',
        '=RTMAX-31',
        '=RTMIN-1',
        '=-9',
      ],
    ],
    [
      'stop-signal-map',
      [
        '',
        '=',
        '=TERM',
        '=TERM:',
        '=:TERM',
        '=TERM:QUIT,',
        '=TERM:QUIT:INT',
        '=TERM:65',
        '=KILL:TERM',
        '=STOP:TERM',
        '=CHLD:TERM',
        '=9:15',
        '=0:15',
        '=TERM:QUIT;INT:TERM',
        '=TERM=QUIT',
        '=TERM :QUIT',
      ],
    ],
    [
      'exit-map',
      [
        '',
        '=',
        '=143',
        '=143:',
        '=:0',
        '=256:0',
        '=0:256',
        '=-1:0',
        '=a:0',
        '=143:0,',
        '=143:0 ',
        '=1:2:3',
        '=99999999999999999999:0',
      ],
    ],
  ] as const)('--%s: a wrong value is 125, and the line has flag, value and rule', async (name, values) => {
    const runs = await inBatches(values, (value) =>
      runInit(['echo', 'started'], { flags: [`--${name}${value}`] }),
    );
    for (const [at, run] of runs.entries()) {
      expect({ value: values[at], status: run.status, stdout: run.stdout }).toEqual({
        value: values[at],
        status: 125,
        stdout: '',
      });
      expect(run.stderr).toContain(`--${name}${values[at]}: `);
      expect(run.stderr).toMatch(RULES[name]);
      expect(run.stderr.split('\n')).toHaveLength(2);
    }
  });

  test.each([
    '--grace=1s',
    '--grace=576h',
    '--grace=34560m',
    '--pdeathsig=TERM',
    '--pdeathsig=sigkill',
    '--pdeathsig=64',
    '--pdeathsig=RTMIN+30',
    '--pdeathsig=RTMAX',
    '--stop-signal-map=TERM:QUIT,INT:0',
    '--stop-signal-map=1:64,RTMIN:RTMAX-30',
    '--exit-map=7:255,143:0',
    '--group',
    '--init',
  ])('%s is right', async (flag) => {
    expect(await runInit(['echo', 'started'], { flags: [flag] })).toEqual({
      status: 0,
      stdout: 'started\n',
      stderr: '',
    });
  });

  test.each([
    '--nonsense',
    '--nonsense=1',
    '-x',
    '--Init',
    '--ini',
    '--initt',
    '-init',
    '--grace:1s',
    '--=1',
  ])('%s is none', async (flag) => {
    const run = await runInit(['echo', 'started'], { flags: [flag] });
    expect(run).toMatchObject({ status: 125, stdout: '' });
    expect(run.stderr).toBe(
      `ddbg-entry: cannot run: '${flag}' is no flag of ours; put -- in front of a command that starts with a dash\n`,
    );
  });

  test.each([[[]], [['--']], [['--init']], [['--init', '--']]])(
    'no command after %j: 125 and how to use it',
    async (words) => {
      const run = await finished(start([...init.argv, ...words]));
      expect(run).toMatchObject({ status: 125, stdout: '' });
      expect(run.stderr).toMatch(
        /^ddbg-entry: cannot run: there is no command to run; usage: ddbg-entry .*\n$/,
      );
    },
  );

  test('init.c and src/plan.ts have the same', () => {
    const table = /FLAGS\[\] = \{\n([\s\S]*?)\n\};/.exec(read('../../src/init/init.c'))?.[1] ?? '';
    const own = [...table.matchAll(/\{"([a-z-]+)", (has_value)?/g)].map(([, name, isNodes]) => ({
      name,
      isOurs: isNodes === undefined,
    }));
    const plan = read('../../src/plan.ts');
    const list = (name: string) =>
      [
        ...(new RegExp(`const ${name} = \\[(.*?)\\]`, 's').exec(plan)?.[1] ?? '').matchAll(/'([a-z-]+)'/g),
      ].map(([, flag]) => flag);
    expect(
      own
        .filter(({ isOurs }) => isOurs)
        .map(({ name }) => name)
        .sort(),
    ).toEqual(list('INIT_FLAGS').sort());
    expect(
      own
        .filter(({ isOurs }) => !isOurs)
        .map(({ name }) => name)
        .sort(),
    ).toEqual(list('FLAGS').sort());
    expect(own.length).toBeGreaterThan(5);
  });
});

test.each([['--help'], ['-h'], ['--version'], ['--init', '--help'], ['--help', '--', 'false']])(
  '%s %s %s is answered on stdout, whatever DEBUG says',
  async (...words) => {
    const version = (JSON.parse(read('../../package.json')) as { version: string }).version;
    for (const env of [{}, { DEBUG: 'stayalive' }]) {
      const run = await finished(start([...init.argv, ...words], { env }));
      expect(run).toMatchObject({ status: 0, stderr: '' });
      expect(run.stdout).toMatch(
        words.includes('--version') ? new RegExp(`^${version}\n$`) : /^ddbg-entry: .*[\s\S]*Exit status/,
      );
    }
    const without = await finished(start([...init.argv, ...words], { env: { PATH: '/nonexistent' } }));
    expect(without).toMatchObject({ status: 125, stdout: '' });
  },
);
