/** Facts of a run in which nothing stands out, to be changed. */
import type { Counters } from '../../src/container/counters.ts';
import type { Facts } from '../../src/report/facts.ts';
import type { Witnessed } from '../../src/report/witness.ts';
import { readLastWords } from '../../src/report/words.ts';

export const MIB = 1024 ** 2;

export const COUNTERS: Counters = {
  version: 2,
  memory: { oomKills: 0, limitHits: 0, currentBytes: 50 * MIB, peakBytes: 60 * MIB, limitBytes: 200 * MIB },
  pids: { current: 12, limit: 40, limitHits: 0 },
  cpu: { periods: 100, throttledPeriods: 0, throttledMs: 0, usageMs: 900 },
};

export const WITNESSED: Witnessed = {
  oomKill: undefined,
  vanished: [],
  pidsLimit: undefined,
  threadsThen: undefined,
  command: undefined,
  mostResidentBytes: 40 * MIB,
  cpuMs: 800,
  descriptors: { most: 20, last: 20, lastMsBeforeEnd: 20 },
  series: { memoryBytes: [10, 20, 30].map((count) => count * MIB), cpus: [0.1, 0.9] },
};

export const FACTS: Facts = {
  outcome: { kind: 'exited', status: 1 },
  stop: undefined,
  pid: 12,
  durationMs: 10_000,
  argv: ['node', 'server.js'],
  counters: {
    after: COUNTERS,
    risen: {
      oomKills: 0,
      memoryLimitHits: 0,
      pidsLimitHits: 0,
      periods: 100,
      throttledPeriods: 0,
      throttledMs: 0,
      cpuMs: 900,
    },
  },
  witnessed: WITNESSED,
  seen: undefined,
  user: { uid: 1000, gid: 1000, groups: [], capabilities: 0n, cwd: '/app' },
  mounts: [mount('/', 'overlay', 9e9)],
  listeners: [],
  names: { nameservers: [{ address: '10.0.0.2', hasRoute: true }], hosts: ['localhost'] },
  obstacle: undefined,
  missingForEnv: undefined,
  libraries: [],
  words: undefined,
  named: { paths: [], programs: [], libraries: [] },
  output: undefined,
  running: [],
  waiting: undefined,
  overlay: undefined,
  core: undefined,
  limits: [{ name: 'Max open files', soft: '1024', hard: '1024' }],
  versions: {
    ddbgEntry: '0.1.0',
    node: 'v20.20.2',
    kernel: '6.1',
    architecture: 'x64',
    distribution: undefined,
  },
};

export function mount(point: string, type: string, freeBytes: number, isReadOnly = false) {
  const space = { sizeBytes: 1e10, freeBytes, inodes: 1_000, freeInodes: 500 };
  return { point, type, isReadOnly, device: point, space };
}

/** The facts with last words. */
export function saying(text: string, facts: Partial<Facts> = {}): Facts {
  const lines = text.split('\n');
  const words = readLastWords(lines.map((line) => ({ text: line, msBeforeEnd: 10 })));
  const output = lines.map((line) => ({ atMs: 0, stream: 'stderr' as const, text: line }));
  return { ...FACTS, ...facts, words, output };
}
