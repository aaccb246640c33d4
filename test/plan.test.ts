import { describe, expect, test } from 'vitest';
import { EntryError } from '../src/errors.ts';
import { parseDebug } from '../src/parse.ts';
import { makePlan, parseArguments } from '../src/plan.ts';

const plan = (argv: readonly string[], environment: Record<string, string | undefined> = {}) =>
  makePlan(parseDebug(environment), { argv, environment });

function failure(argv: readonly string[]): EntryError {
  try {
    plan(argv);
  } catch (error) {
    if (error instanceof EntryError) return error;
    throw error;
  }
  throw new Error('it was accepted');
}

describe('arguments', () => {
  test.each([
    [['--', 'sh', '-c', 'x'], ['sh', '-c', 'x'], {}],
    [['sh', '--root=/x'], ['sh', '--root=/x'], {}],
    [['--root=/x', 'sh'], ['sh'], { root: '/x' }],
    [['--root=/x', '--state-dir=/s', '--', '--odd'], ['--odd'], { root: '/x', 'state-dir': '/s' }],
    [['--', '--', 'a'], ['--', 'a'], {}],
    [['-', 'a'], ['-', 'a'], {}],
    [['--root=/a=b', 'x'], ['x'], { root: '/a=b' }],
    [['', 'x'], ['', 'x'], {}],
  ])('%j', (argv, command, flags) => {
    expect(parseArguments(argv)).toEqual({ flags, initFlags: [], question: undefined, command });
  });

  test('questions', () => {
    expect(parseArguments(['--help']).question).toBe('help');
    expect(parseArguments(['-h', 'x']).question).toBe('help');
    expect(parseArguments(['--version']).question).toBe('version');
    expect(parseArguments(['x', '--help']).question).toBeUndefined();
    expect(parseArguments(['--', '--help']).question).toBeUndefined();
    expect(parseArguments(['--install'])).toMatchObject({ question: 'install', installDirectory: undefined });
    expect(parseArguments(['--install=/usr/local/bin'])).toMatchObject({
      installDirectory: '/usr/local/bin',
    });
  });

  test("the native init's are named, their values are its own", () => {
    const argv = [
      '--init',
      '--grace=10s',
      '--group',
      '--pdeathsig=TERM',
      '--exit-map=1:0',
      '--stop-signal-map=x',
      'a',
    ];
    expect(plan([...argv.slice(0, 2), ...argv]).initFlags).toEqual([
      'init',
      'grace',
      'group',
      'pdeathsig',
      'exit-map',
      'stop-signal-map',
    ]);
  });

  describe('--allow', () => {
    const given = (list: string, DEBUG: string) => () => plan([`--allow=${list}`, 'x'], { DEBUG });

    test.each([
      ['verbose', 'verbose'],
      ['fstree,verbose', 'verbose,fstree=/x'],
      ['stayalive', 'stayalive=30m,express:*'],
      ['none', 'express:*'],
    ])('--allow=%s lets %s through', (list, text) => {
      expect(given(list, text)).not.toThrow();
    });

    test.each([
      ['verbose', 'fstree=/x', 'cannot use fstree of DEBUG: this image allows verbose'],
      ['none', 'verbose', 'cannot use verbose of DEBUG: this image allows none'],
      ['verbose,fstree', 'verbose,stayalive=always', 'cannot use stayalive'],
      ['verbos', 'x', "--allow=verbos has 'verbos'"],
      ['verbose,', 'x', "--allow=verbose, has ''"],
      ['verbose, fstree', 'x', "has ' fstree'"],
    ])('--allow=%s refuses %s', (list, text, message) => {
      expect(given(list, text)).toThrow(message);
    });
  });

  test.each([
    [[], 'there is no command'],
    [['--'], 'there is no command'],
    [['--roots=/x', 'a'], "'--roots=/x' is no flag"],
    [['-x', 'a'], "'-x' is no flag"],
    [['--allow=none', '--allow=verbose', 'a'], '--allow is there twice'],
    [['--root', '/x', 'a'], '--root has no value'],
    [['--root=', 'a'], '--root has no value'],
    [['--root=x', 'a'], '--root=x must be an absolute path'],
    [['--state-dir=x', 'a'], '--state-dir=x must be an absolute path'],
    [['--fetch-timeout=5', 'a'], '--fetch-timeout=5 must be a duration'],
    [['--stall-timeout=0s', 'a'], '--stall-timeout=0s must be a duration'],
    [['--limit=files=5', 'a'], "--limit: 'files=5' is no limit"],
    [['--limit=entries=5k', 'a'], "--limit: 'entries=5k' is no limit"],
    [['--limit=entries=0', 'a'], "--limit: 'entries=0' is no limit"],
    [['--limit=archive-bytes=5GB', 'a'], "--limit: 'archive-bytes=5GB' is no limit"],
    [['--limit=entries', 'a'], "--limit: 'entries' is no limit"],
    [['--limit=toString=1', 'a'], "--limit: 'toString=1' is no limit"],
  ])('%j is refused', (argv, message) => {
    const error = failure(argv);
    expect(error.code).toBe('DDBG_BAD_USAGE');
    expect(error.message).toContain(message);
    expect(error.hint).toBeTruthy();
  });
});

describe('limits', () => {
  test('by name, with units; the flag of the image has the last word', () => {
    const argv = ['--limit=entries=7,archive-bytes=2G,depth=none', 'x'];
    const limit = 'entries=9,file-bytes=3k,unpacked-bytes=1T';
    const environment = { DDBG: 'fstree=/p.tar', DDBG_FSTREE_LIMIT: limit };
    expect(plan(argv, environment).limits).toEqual({
      entries: 7,
      archiveBytes: 2 * 1024 ** 3,
      depth: Number.POSITIVE_INFINITY,
      fileBytes: 3 * 1024,
      unpackedBytes: 1024 ** 4,
      stallMs: undefined,
      totalMs: undefined,
    });
  });

  test('of the environment name their variable when they are wrong', () => {
    const environment = { DDBG: 'fstree=/p.tar', DDBG_FSTREE_LIMIT: 'entries=many' };
    expect(() => plan(['x'], environment)).toThrow("DDBG_FSTREE_LIMIT: 'entries=many' is no limit");
  });

  test('of the environment are nothing to an image where no archive is asked for', () => {
    for (const DDBG of ['', 'stayalive'])
      expect(plan(['x'], { DDBG, DDBG_FSTREE_LIMIT: 'entries=many' }).limits).not.toHaveProperty('entries');
  });
});

describe('the plan', () => {
  test('on: credentials and limits of the download are nothing to the command; off: nothing changes', () => {
    const environment = {
      DDBG_FSTREE_TOKEN: 't',
      DDBG_FSTREE_HEADER: 'A: b',
      DDBG_FSTREE_LIMIT: 'depth=9',
      A: '1',
    };
    const on = plan(['x'], { ...environment, DDBG: 'verbose' });
    expect(on.command.environment).toEqual({ A: '1' });
    expect(on.given.DDBG_FSTREE_TOKEN).toBe('t');
    expect(plan(['x'], environment).command.environment).toEqual(environment);
  });

  test('off: the environment stays as it is, in its order', () => {
    const environment = {
      Z: '1',
      DEBUG: 'express:*',
      'spring.datasource.url': 'x',
      A: 'line\nline',
      EMPTY: '',
    };
    const made = plan(['x'], environment);
    expect(made.on).toBe(false);
    expect(Object.entries(made.command.environment)).toEqual(Object.entries(environment));
  });

  test('on: our words are gone, DDBG too, the rest keeps its order', () => {
    const environment = { Z: '1', DEBUG: 'express:*,verbose', DDBG_LOG: 'json', A: '2' };
    const made = plan(['--root=/r', '--stall-timeout=5s', '--fetch-timeout=2m', '--', 'x', 'y'], environment);
    expect(made).toEqual({
      on: true,
      initFlags: [],
      command: { argv: ['x', 'y'], environment: { ...environment, DEBUG: 'express:*' } },
      verbose: true,
      stayAlive: undefined,
      fstree: [],
      record: false,
      setting: 'DEBUG',
      root: '/r',
      stateDir: undefined,
      limits: { stallMs: 5_000, totalMs: 120_000 },
      given: environment,
      jsonLog: true,
      hints: [],
    });
    expect(Object.keys(made.command.environment)).toEqual(['Z', 'DEBUG', 'DDBG_LOG', 'A']);
    expect(plan(['x'], { DEBUG: 'verbose' }).command.environment).toEqual({});
    expect(plan(['x'], { DDBG: 'verbose', DEBUG: 'stayalive' }).command.environment).toEqual({
      DEBUG: 'stayalive',
    });
  });

  test('a variable may have any name', () => {
    const environment = Object.fromEntries([
      ['__proto__', 'x'],
      ['constructor', 'y'],
    ]);
    expect(Object.entries(plan(['x'], environment).command.environment)).toEqual(Object.entries(environment));
  });

  test('it is frozen to the bottom', () => {
    const made = plan(['x'], { DEBUG: 'stayalive,fstree=/a' });
    const parts = [
      made,
      made.command,
      made.command.argv,
      made.command.environment,
      made.fstree,
      made.fstree[0],
    ];
    expect(parts.every((part) => Object.isFrozen(part))).toBe(true);
  });
});
