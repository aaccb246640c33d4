/** Every cause from facts, and what is one circumstance away from it and must not be blamed. */
import { describe, expect, test } from 'vitest';
import type { Facts } from '../../src/report/facts.ts';
import type { CauseName } from '../../src/report/verdict.ts';
import { CAUSES, findCause } from '../../src/report/verdict.ts';
import type { Witnessed } from '../../src/report/witness.ts';
import { COUNTERS, FACTS, MIB, mount, saying, WITNESSED } from './facts.ts';

const exited = (status: number): Partial<Facts> => ({ outcome: { kind: 'exited', status } });
const killed = (signal: `SIG${string}`): Partial<Facts> => ({
  outcome: { kind: 'killed', signal } as Facts['outcome'],
});
const seen = (change: Partial<Witnessed>): Partial<Facts> => ({ witnessed: { ...WITNESSED, ...change } });
const risen = (change: Partial<Facts['counters']['risen']>): Partial<Facts> => ({
  counters: { after: COUNTERS, risen: { ...FACTS.counters.risen, ...change } },
});
const blocked = (why: NonNullable<Facts['obstacle']>['why']): Partial<Facts> => ({
  outcome: { kind: 'not-started', status: 127, reason: 'x' },
  obstacle: { why, reason: 'because' },
});
const stroke = (msBeforeEnd: number, timesLately = 1) => ({ times: 1, msBeforeEnd, timesLately });
const gone = (relation: 'below' | 'outside' | 'orphan' | 'command') => ({
  pid: 20,
  name: 'hog',
  relation,
  residentBytes: 150 * MIB,
});
const full = { mounts: [mount('/', 'overlay', 9e9), mount('/full', 'tmpfs', 0)] };
const throttled = risen({ throttledPeriods: 90, throttledMs: 8_000 });
const on = (port: number) => [{ address: '::', port, pid: 9, name: 'nginx' }];
const path = (said: string, change: Partial<Facts['named']['paths'][number]> = {}) => ({
  named: {
    paths: [{ said, path: said, mount: '/full', forbidden: undefined, ...change }],
    programs: [],
    libraries: [],
  },
});
const forbidden = { path: '/x', what: 'write' as const, mode: 0o644, uid: 0, gid: 0 };
const program = (name: string, isThere: boolean) => ({
  named: {
    paths: [],
    programs: [
      {
        name,
        blocked: isThere ? undefined : { why: 'missing' as const, reason: `${name}: not found in PATH` },
      },
    ],
    libraries: [],
  },
});
const library = (name: string, isThere: boolean | undefined) => ({
  named: { paths: [], programs: [], libraries: [{ name, isThere }] },
});
const stopped = (msAgo: number, ignores: readonly number[]): Partial<Facts> => ({
  outcome: undefined,
  stop: { signal: 'SIGTERM', msAgo },
  seen: { uid: 0, gid: 0, groups: [], capabilities: 0n, ignores, blocks: [], cwd: '/', limits: [] },
});

const PORT = 'Error: listen EADDRINUSE: address already in use :::3000';
const NO_SPACE = "cp: error writing '/full/x': No space left on device";
const LIBRARY =
  'x: error while loading shared libraries: libz.so.1: cannot open shared object file: No such file';

const TABLE: readonly (readonly [CauseName, string, Facts])[] = [
  [
    'oom-killed',
    'KILL as the counter rises',
    {
      ...FACTS,
      ...killed('SIGKILL'),
      ...seen({ oomKill: stroke(20) }),
      ...{ counters: risen({ oomKills: 1 }).counters ?? FACTS.counters },
    },
  ],
  [
    'oom-killed',
    'nobody saw it live',
    { ...FACTS, ...killed('SIGKILL'), witnessed: undefined, ...risen({ oomKills: 1 }) },
  ],
  ['killed', 'KILL, and the counter did not rise', { ...FACTS, ...killed('SIGKILL') }],
  [
    'killed',
    'KILL, a child was struck long before',
    { ...FACTS, ...killed('SIGKILL'), ...seen({ oomKill: stroke(5_000, 0) }), ...risen({ oomKills: 1 }) },
  ],
  [
    'killed',
    'KILL, a child was struck just before, and is gone',
    {
      ...FACTS,
      ...killed('SIGKILL'),
      ...seen({ oomKill: stroke(300), vanished: [gone('below')] }),
      ...risen({ oomKills: 1 }),
    },
  ],
  [
    'undecided',
    'KILL, and no counter to read',
    { ...FACTS, ...killed('SIGKILL'), ...risen({ oomKills: undefined }) },
  ],
  [
    'cpu-time-limit',
    'KILL at the end of ulimit -t',
    {
      ...FACTS,
      ...killed('SIGKILL'),
      ...seen({ cpuMs: 1_900 }),
      limits: [{ name: 'Max cpu time', soft: '2', hard: '2' }],
    },
  ],
  [
    'child-oom-killed',
    'exit 1, its child gone with the stroke',
    { ...FACTS, ...seen({ oomKill: stroke(100), vanished: [gone('below')] }) },
  ],
  [
    'child-oom-killed',
    'exit 137 with the stroke, nobody seen to go',
    { ...FACTS, ...exited(137), ...seen({ oomKill: stroke(100) }) },
  ],
  [
    'child-oom-killed',
    'its child gone with the stroke, and it speaks of that',
    saying('worker 20 died, giving up', seen({ oomKill: stroke(100), vanished: [gone('below')] })),
  ],
  [
    'exit',
    'its child gone with the stroke, and then it speaks of something else',
    saying('FATAL: license expired', seen({ oomKill: stroke(600), vanished: [gone('below')] })),
  ],
  [
    'exit',
    'its child gone with the stroke, and it goes on',
    saying('worker lost, respawned', seen({ oomKill: stroke(600), vanished: [gone('below')] })),
  ],
  [
    'undecided',
    'its child gone with the stroke, and it lived on for a while',
    { ...FACTS, ...seen({ oomKill: stroke(1_800), vanished: [gone('below')] }) },
  ],
  ['undecided', 'exit 1 with the stroke, nobody seen to go', { ...FACTS, ...seen({ oomKill: stroke(100) }) }],
  [
    'undecided',
    'exit 1, a docker exec gone with the stroke',
    { ...FACTS, ...seen({ oomKill: stroke(100), vanished: [gone('outside')] }) },
  ],
  [
    'undecided',
    'exit 1, one of each gone with the stroke',
    { ...FACTS, ...seen({ oomKill: stroke(100), vanished: [gone('below'), gone('outside')] }) },
  ],
  [
    'undecided',
    'exit 1, its child gone long before',
    { ...FACTS, ...seen({ oomKill: stroke(3_000, 0), vanished: [gone('below')] }) },
  ],
  ['undecided', 'exit 137, no stroke', { ...FACTS, ...exited(137) }],
  [
    'pids-limit',
    'a fork refused at the end',
    {
      ...FACTS,
      ...seen({ pidsLimit: stroke(50), threadsThen: { command: 30, outside: 0 } }),
      ...risen({ pidsLimitHits: 1 }),
    },
  ],
  [
    'pids-limit',
    'a fork refused at the end, and it says so',
    saying('bash: fork: Interrupted system call', seen({ pidsLimit: stroke(0) })),
  ],
  [
    'undecided',
    'a fork refused at the end, to a docker exec perhaps',
    { ...FACTS, ...seen({ pidsLimit: stroke(50), threadsThen: { command: 5, outside: 25 } }) },
  ],
  [
    'undecided',
    'a fork refused long before',
    { ...FACTS, ...seen({ pidsLimit: stroke(5_000, 0), threadsThen: { command: 30, outside: 0 } }) },
  ],
  ['cpu-throttled', 'timeout(1) ran out, throttled', { ...FACTS, ...exited(124), ...throttled }],
  ['cpu-throttled', 'it says so, throttled', saying('upstream timed out', throttled)],
  ['exit', 'it says so, not throttled', saying('upstream timed out')],
  ['undecided', 'throttled, and exit 1', { ...FACTS, ...throttled }],
  ['port-in-use', 'said, and somebody listens', saying(PORT, { listeners: on(3000) })],
  ['exit', 'said, and nobody listens', saying(PORT)],
  ['exit', 'said, and somebody listens elsewhere', saying(PORT, { listeners: on(3001) })],
  ['exit', 'somebody listens, and something else is said', saying('bad config', { listeners: on(3000) })],
  ['disk-full', 'said, and that mount is full', saying(NO_SPACE, { ...full, ...path('/full/x') })],
  [
    'inodes-full',
    'said, and it has no inode',
    saying(NO_SPACE, {
      ...path('/full/x'),
      mounts: [
        {
          ...mount('/full', 'tmpfs', 1e9),
          space: { sizeBytes: 1e10, freeBytes: 1e9, inodes: 9, freeInodes: 0 },
        },
      ],
    }),
  ],
  ['exit', 'said, and there is room', saying(NO_SPACE, path('/full/x'))],
  [
    'exit',
    'said, and another mount is full',
    saying(NO_SPACE, { ...full, ...path('/full/x', { mount: '/' }) }),
  ],
  ['exit', 'full, and something else is said', saying('bad config', full)],
  [
    'read-only',
    'said, and mounted ro',
    saying('touch: /full/x: Read-only file system', {
      ...path('/full/x'),
      mounts: [mount('/full', 'tmpfs', 9e9, true)],
    }),
  ],
  [
    'exit',
    'said, and mounted rw',
    saying('touch: /full/x: Read-only file system', {
      ...path('/full/x'),
      mounts: [mount('/full', 'tmpfs', 9e9)],
    }),
  ],
  [
    'permission',
    'said, and the mode forbids it',
    saying('cat: /x: Permission denied', path('/x', { forbidden })),
  ],
  [
    'exit',
    'said, the mode forbids it, and then another failure',
    saying('cat: /x: Permission denied\nlogin failed: invalid credentials', path('/x', { forbidden })),
  ],
  ['exit', 'said, and the mode allows it', saying('cat: /x: Permission denied', path('/x'))],
  [
    'descriptors',
    'said, and nearly all were open',
    saying(
      'EMFILE: too many open files',
      seen({ descriptors: { most: 1_020, last: 1_020, lastMsBeforeEnd: 10 } }),
    ),
  ],
  ['exit', 'said, and few were open', saying('EMFILE: too many open files')],
  ['name-not-resolved', 'said', saying('getaddrinfo ENOTFOUND db')],
  ['exit', 'said of a name in /etc/hosts', saying('getaddrinfo ENOTFOUND localhost')],
  ['exit', 'said without a name, a nameserver is there', saying('gaierror: Name or service not known')],
  [
    'name-not-resolved',
    'said without a name, no nameserver',
    saying('gaierror: Name or service not known', { names: { nameservers: [], hosts: [] } }),
  ],
  [
    'library-missing',
    'the loader would not find it',
    { ...FACTS, ...exited(127), durationMs: 20, libraries: [{ name: 'libz.so.1', neededBy: '/x' }] },
  ],
  [
    'undecided',
    'the same, and it ran for long',
    { ...FACTS, ...exited(127), libraries: [{ name: 'libz.so.1', neededBy: '/x' }] },
  ],
  [
    'library-missing',
    'said, and it is not there',
    saying(LIBRARY, { ...exited(127), ...library('libz.so.1', false) }),
  ],
  ['exit', 'said, and it is there', saying(LIBRARY, { ...exited(127), ...library('libz.so.1', true) })],
  [
    'exit',
    'said, and it cannot be told',
    saying(LIBRARY, { ...exited(127), ...library('libz.so.1', undefined) }),
  ],
  [
    'not-found',
    'said, and not in PATH',
    saying('sh: 1: jq: not found', { ...exited(127), ...program('jq', false) }),
  ],
  ['exit', 'said, and in PATH', saying('sh: 1: jq: not found', { ...exited(127), ...program('jq', true) })],
  [
    'interpreter-missing',
    'env would not find it',
    { ...FACTS, ...exited(127), durationMs: 9, missingForEnv: 'python9' },
  ],
  ['undecided', 'exit 127, everything there', { ...FACTS, ...exited(127), durationMs: 9 }],
  ['not-found', 'never started', { ...FACTS, ...blocked('missing') }],
  ['permission', 'never started', { ...FACTS, ...blocked('permission') }],
  ['interpreter-missing', 'never started', { ...FACTS, ...blocked('interpreter-missing') }],
  ['line-ends', 'never started', { ...FACTS, ...blocked('line-ends') }],
  ['loader-missing', 'never started', { ...FACTS, ...blocked('loader-missing') }],
  ['wrong-architecture', 'never started', { ...FACTS, ...blocked('wrong-architecture') }],
  ['no-program', 'never started', { ...FACTS, ...blocked('no-program') }],
  ['setup-failed', 'the overlay', { ...FACTS, outcome: { kind: 'setup-failed', reason: 'x' } }],
  ['stop-ignored', 'SigIgn has it', { ...FACTS, ...stopped(5_000, [15]) }],
  ['waiting', 'a stop a moment ago', { ...FACTS, ...stopped(500, [15]) }],
  ['waiting', 'a stop that is not ignored', { ...FACTS, ...stopped(5_000, []) }],
  ['waiting', 'no stop', { ...FACTS, outcome: undefined }],
  [
    'exception',
    'Python',
    saying('Traceback (most recent call last):\n  File "/a.py", line 3, in x\nValueError: no'),
  ],
  [
    'heap-limit',
    'V8',
    saying(
      'FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory',
      killed('SIGABRT'),
    ),
  ],
  ['abort', 'SIGABRT', { ...FACTS, ...killed('SIGABRT') }],
  ['arithmetic', 'SIGFPE', { ...FACTS, ...killed('SIGFPE') }],
  ['segfault', 'SIGSEGV', { ...FACTS, ...killed('SIGSEGV') }],
  ['segfault', 'a shell says so', saying('Segmentation fault (core dumped)', exited(139))],
  ['exit', 'a shell says so, with another status', saying('Segmentation fault (core dumped)')],
  ['undecided', 'exit 139', { ...FACTS, ...exited(139) }],
  ['bus', 'SIGBUS', { ...FACTS, ...killed('SIGBUS') }],
  ['illegal-instruction', 'SIGILL', { ...FACTS, ...killed('SIGILL') }],
  ['seccomp', 'SIGSYS', { ...FACTS, ...killed('SIGSYS') }],
  ['cpu-time-limit', 'SIGXCPU', { ...FACTS, ...killed('SIGXCPU') }],
  ['file-size-limit', 'SIGXFSZ', { ...FACTS, ...killed('SIGXFSZ') }],
  ['signal', 'SIGTERM', { ...FACTS, ...killed('SIGTERM') }],
  ['exit', 'its last words', saying('bad config')],
  ['undecided', 'no words', { ...FACTS }],
];

describe('the cause', () => {
  test.each(TABLE)('%s: %s', (cause, _, facts) => {
    const verdict = findCause(facts);
    expect(verdict, JSON.stringify(verdict)).toMatchObject({ cause });
    expect(verdict.sentence).not.toMatch(/undefined|NaN/);
    expect(verdict.evidence.join(' ')).not.toMatch(/undefined|NaN/);
  });

  test('every cause is in the table', () => {
    const tested = new Set(TABLE.map(([cause]) => cause));
    expect(CAUSES.filter((cause) => !tested.has(cause))).toEqual([]);
  });
});

test('what is true beside it is noticed', () => {
  const { noticed } = findCause(
    saying('bad config', { ...full, ...throttled, ...seen({ oomKill: stroke(9_000, 0) }) }),
  );
  expect(noticed.join('\n')).toMatch(/OOM killer.*9\.0 s before[\s\S]*\/full[\s\S]*90 of 100 periods/);
});

test('what it said before its last words is noticed where the facts agree', () => {
  const text = 'cat: /x: Permission denied\nlogin failed';
  expect(findCause(saying(text, path('/x', { forbidden }))).noticed).toEqual([
    'before that it said: cat: /x: Permission denied (uid 1000 may not use /x)',
  ]);
  expect(findCause(saying(text, path('/x'))).noticed).toEqual([]);
});

test('the route to the nameservers is noticed where the words are about names', () => {
  const names = { nameservers: [{ address: '10.0.0.2', hasRoute: false }], hosts: [] };
  expect(findCause(saying('bad config', { names })).noticed).toEqual([]);
  expect(findCause(saying('DNS gave no answer', { names })).noticed).toEqual([
    'there is no route to any nameserver',
  ]);
});

test('who has decided nothing is not certain', () => {
  expect(findCause(FACTS).certainty).toBeNull();
  expect(findCause({ ...FACTS, ...killed('SIGABRT') }).certainty).toBe('measured');
});

test('what does not support a verdict is no evidence for it', () => {
  const few = seen({ descriptors: { most: 0, last: 0, lastMsBeforeEnd: 900 } });
  const verdict = findCause(saying('EMFILE: too many open files', few));
  expect(verdict).toMatchObject({ cause: 'descriptors', evidence: ['it said: EMFILE: too many open files'] });
});

test('a core file is opened with the line in the hint', () => {
  const core = { path: '/tmp/core', sizeBytes: 1, open: 'gdb /x /tmp/core' };
  expect(findCause({ ...FACTS, ...killed('SIGSEGV'), core }).hint).toBe('gdb /x /tmp/core');
});
