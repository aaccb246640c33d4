/**
 * What the command can see of us: nothing, where it takes our place; what this table says, where we stay. Everything
 * that fixtures/probe.c can ask the kernel for is compared, in conditions that are easily lost on the way.
 */
import { spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { node, temporaryFolder } from '../process/harness.ts';
import {
  cannotCompile,
  childrenOf,
  finished,
  init,
  launchFile,
  openFiles,
  program,
  start,
  until,
} from './kit.ts';

/** What a stay changes, with the reason. */
const BY_STAYING: Readonly<Record<string, string>> = {
  'leads-session': 'it is a child, and a child cannot lead a session that is already there',
  'in-session-of-parent': 'and its parent is in its session now',
};

type Way = { readonly front: readonly string[]; readonly env?: Readonly<Record<string, string>> };
const stays = { front: [...init.argv, '--init', '--'] };
const WAYS: Readonly<Record<string, Way>> = {
  gone: { front: [...init.argv, '--'] },
  'gone, after node has looked': { front: [...init.argv, '--'], env: { DEBUG: 'verbatim:*' } },
  'gone, switched off': { front: [...init.argv, '--'], env: { DDBG: '' } },
  'off, --init': stays,
  'on, stayalive': { front: [...init.argv, '--state-dir=STATE', '--'], env: { DEBUG: 'stayalive' } },
  'on, verbose': { front: [...init.argv, '--'], env: { DEBUG: 'verbose' } },
};
const isGone = (name: string) => name.startsWith('gone');

const bytes = (...parts: (string | number[])[]) =>
  Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : Buffer.from(part))));
const variable = (...parts: (string | number[])[]) => bytes('env ', ...parts);

const CONDITIONS: Readonly<Record<string, readonly (string | Buffer)[]>> = {
  plain: [],
  'HUP ignored': ['ignore 1'],
  'CHLD ignored': ['ignore 17'],
  'PIPE and a real-time signal ignored': ['ignore 13', 'ignore 45'],
  'USR1, CHLD, TERM and real-time signals blocked': [
    'block 10',
    'block 17',
    'block 15',
    'block 34',
    'block 64',
  ],
  'a signal of libc’s own blocked': ['block 33'],
  'names no shell passes on': [
    variable('my.dotted=1'),
    variable('a-b=2'),
    variable('__proto__=x'),
    variable('constructor=y'),
    variable('EMPTY='),
  ],
  'a newline, spaces, an = in a value': [
    variable('LINES_OF_IT=one\ntwo\n'),
    variable('SPACED=  a  '),
    variable('EQUAL=a=b=='),
  ],
  'bytes that are no UTF-8': [
    variable('LATIN=', [0xe4, 0xff, 0x80]),
    variable([0xc3, 0x28], '=x'),
    variable('NUL_LIKE=', [1, 2, 0xfe]),
  ],
  'a variable twice, and ones that are none': [
    variable('TWICE=1'),
    variable('TWICE=2'),
    variable('NO_EQUALS_SIGN'),
    variable('=x'),
  ],
  'one variable of 128 kB': [variable(`LONG=${'x'.repeat(131_072 - 6)}`)],
  'a megabyte in all': Array.from({ length: 256 }, (_, at) => variable(`V${at}=${'y'.repeat(4090)}`)),
  'four thousand variables': Array.from({ length: 4000 }, (_, at) => variable(`V${at}=${at}`)),
  'a soft limit of 1024 files': ['nofile 1024'],
  'descriptors 3 and 200': ['open 3', 'open 200'],
  'stdin closed': ['close 0'],
  'stdout to a file, the rest closed': ['close 0', 'close 2'],
  'options for node': [
    variable('NODE_OPTIONS=--require=/nonexistent.js'),
    variable('NODE_V8_COVERAGE=/nonexistent'),
    variable('NODE_DEBUG=net,fs'),
  ],
  'more options for node': [
    variable('NODE_EXTRA_CA_CERTS=/nonexistent'),
    variable('NODE_PENDING_DEPRECATION=1'),
    variable('NODE_NO_WARNINGS=1'),
    variable('NODE_PATH=/x'),
  ],
  'variables of our own': [variable('DDBG_LOG=json'), variable('DDBG_HIDDEN_X=1'), variable('DDBG_OTHER=2')],
};

/** The probe's lines, as `front` lets it see them. `env`: our words, which are gone for it. */
async function look(front: readonly string[], condition: readonly (string | Buffer)[], env: Way['env'] = {}) {
  const words = [...front, program('probe'), 'a word', ''].map((word) =>
    word.replace('STATE', `${temporaryFolder()}/state`),
  );
  const records = [
    ...condition,
    `env PATH=${process.env.PATH}`,
    `env DDBG_NODE=${node}`,
    ...Object.entries(env).map(([name, value]) => `env ${name}=${value}`),
    ...words.map((word) => `arg ${word}`),
  ];
  const run = await finished(start([program('launch'), launchFile(records)]));
  expect(run).toMatchObject({ status: 0 });
  return { lines: run.stdout.split('\n'), stderr: run.stderr };
}

/** The names of the lines that differ; a line that is one side's only counts too. */
function difference(one: readonly string[], other: readonly string[]): string[] {
  const here = new Set(one);
  const there = new Set(other);
  const lines = [...one.filter((line) => !there.has(line)), ...other.filter((line) => !here.has(line))];
  const differing = [...new Set(lines.map((line) => line.split(/[\s:]/)[0] ?? ''))];
  return differing.length === 0 && one.join('\n') !== other.join('\n') ? ['the order'] : differing.sort();
}

describe.skipIf(cannotCompile).each(Object.entries(CONDITIONS))('%s', (name, condition) => {
  test.each(Object.entries(WAYS))('%s', async (way, { front, env }) => {
    const [direct, ours] = await Promise.all([look([], condition), look(front, condition, env)]);
    // a word that is nobody's of ours stays; it is the one difference, and of the test's own making
    const kept = way.includes('looked')
      ? `env ${Buffer.from(`DEBUG=${env?.DEBUG}`).toString('hex')}`
      : undefined;
    const seen = ours.lines.filter((line) => line !== kept);
    expect(seen.length).toBe(ours.lines.length - (kept === undefined ? 0 : 1));
    expect(difference(direct.lines, seen)).toEqual(isGone(way) ? [] : Object.keys(BY_STAYING).sort());
    if (way !== 'on, verbose' && !name.startsWith('more options')) expect(ours.stderr).toBe('');
  });
});

/** What recording changes besides: what stdout and stderr are, where they are open. */
describe.skipIf(cannotCompile).each(Object.entries(CONDITIONS))('%s', (name, condition) => {
  test('on, record', async () => {
    const front = [...init.argv, '--state-dir=STATE', '--'];
    const [direct, ours] = await Promise.all([
      look([], condition),
      look(front, condition, { DEBUG: 'record' }),
    ]);
    const open = ['fd1', 'fd2'].filter((fd) => !condition.includes(`close ${fd.at(-1)}`));
    expect(difference(direct.lines, ours.lines)).toEqual([...Object.keys(BY_STAYING), ...open].sort());
    for (const fd of open) expect(ours.lines).toContainEqual(expect.stringMatching(`^${fd} pipe: 0 1$`));
    if (!name.startsWith('more options')) expect(ours.stderr).toBe('');
  });
});

/** Others that stay, for comparison: what they change and we do not. */
describe.skipIf(cannotCompile).each([
  ['tini', ['tini', '-s', '--']],
  ['dumb-init', ['dumb-init', '--']],
])('%s', (name, front) => {
  const found = spawnSync('which', [name], { encoding: 'utf8' }).stdout.trim();
  test.skipIf(found === '')('changes at least what we change', async () => {
    const condition = ['open 3', 'block 10', 'ignore 1'];
    const [direct, other, ours] = await Promise.all([
      look([], condition),
      look([found, ...front.slice(1)], condition),
      look(stays.front, condition),
    ]);
    const theirs = difference(direct.lines, other.lines);
    expect(theirs.length).toBeGreaterThan(0);
    const oursOnly = difference(direct.lines, ours.lines).filter((line) => !theirs.includes(line));
    // dumb-init gives the command a session of its own, and takes the terminal from it thereby
    expect(oursOnly).toEqual(name === 'dumb-init' ? ['in-session-of-parent', 'leads-session'] : []);
  });
});

/** Whoever reads the other end of an inherited pipe waits for the last writer: that must be the command. */
test.skipIf(cannotCompile).each(['off, --init', 'on, stayalive'])(
  '%s: no inherited descriptor is kept',
  async (way) => {
    const { front, env = {} } = WAYS[way] as Way;
    const records = [
      ...[
        'open 3',
        'open 7',
        'open 200',
        `env PATH=${process.env.PATH}`,
        ...Object.entries(env).map(([name, value]) => `env ${name}=${value}`),
      ],
      ...[...front, '/bin/sh', '-c', 'echo ready; read line'].map(
        (word) => `arg ${word.replace('STATE', `${temporaryFolder()}/state`)}`,
      ),
    ];
    const entry = start([program('launch'), launchFile(records)], { stdin: 'pipe' });
    await entry.waitFor(/ready/);
    expect(childrenOf(entry.pid).some(({ pid }) => openFiles(pid).includes('/dev/zero'))).toBe(true); // the command's
    await until(() => !openFiles(entry.pid).includes('/dev/zero'));
    entry.child.stdin?.end('line\n');
    expect(await entry.status).toBe(0);
  },
);

describe.skipIf(cannotCompile)('DEBUG with words of ours and of others', () => {
  test.each([
    ['express:*,stayalive', 'express:*'],
    // not here: bytes that are no UTF-8, beside a word of ours; docs/limits.md says so
    ['stayalive,ü:*', 'ü:*'],
  ])('%s: theirs arrive to the byte, in their place', async (given, left) => {
    const condition = [variable('A=1'), bytes('env DEBUG=', [...Buffer.from(given)]), variable('B=2')];
    const direct = await look(
      [],
      [variable('A=1'), bytes('env DEBUG=', [...Buffer.from(left)]), variable('B=2')],
    );
    const ours = await look(WAYS['on, stayalive']?.front ?? [], condition);
    expect(difference(direct.lines, ours.lines)).toEqual(Object.keys(BY_STAYING).sort());
  });

  test('twice: neither reaches the command', async () => {
    const condition = [variable('DEBUG=stayalive'), variable('A=1'), variable('DEBUG=stayalive')];
    const direct = await look([], [variable('A=1')]);
    const ours = await look(WAYS['on, stayalive']?.front ?? [], condition);
    expect(difference(direct.lines, ours.lines)).toEqual(Object.keys(BY_STAYING).sort());
  });
});
