/** The kernel's counters, on files as Docker, podman and Kubernetes have them. */
import { expect, test } from 'vitest';
import { readCounters, risen } from '../../src/container/counters.ts';
import { readCgroupLimits } from '../../src/container/limits.ts';

type Tree = Readonly<Record<string, string>>;

const reader = (tree: Tree) => (path: string) => tree[path.replace(/\/+/g, '/')]?.trim();
const below = (folder: string, files: Tree): Tree =>
  Object.fromEntries(Object.entries(files).map(([name, text]) => [`${folder}/${name}`, text]));

const V2: Tree = {
  'memory.events': 'low 0\nhigh 0\nmax 812\noom 3\noom_kill 2\noom_group_kill 0\n',
  'memory.current': '52428800\n',
  'memory.peak': '67108864\n',
  'memory.max': '67108864\n',
  'pids.current': '14\n',
  'pids.max': '40\n',
  'pids.events': 'max 5\n',
  'cpu.max': '20000 100000\n',
  'cpu.stat':
    'usage_usec 4211000\nuser_usec 4000000\nsystem_usec 211000\nnr_periods 60\nnr_throttled 48\nthrottled_usec 4712345\n',
};
const V2_COUNTERS = {
  version: 2,
  memory: {
    oomKills: 2,
    limitHits: 812,
    currentBytes: 52_428_800,
    peakBytes: 67_108_864,
    limitBytes: 67_108_864,
  },
  pids: { current: 14, limit: 40, limitHits: 5 },
  cpu: { periods: 60, throttledPeriods: 48, throttledMs: 4_712, usageMs: 4_211 },
};
const CONTROLLERS = { '/sys/fs/cgroup/cgroup.controllers': 'cpuset cpu io memory pids\n' };

const V1: Tree = {
  ...below('/sys/fs/cgroup/memory', {
    'memory.oom_control': 'oom_kill_disable 0\nunder_oom 0\noom_kill 1\n',
    'memory.failcnt': '37\n',
    'memory.usage_in_bytes': '10485760\n',
    'memory.max_usage_in_bytes': '209715200\n',
    'memory.limit_in_bytes': '209715200\n',
  }),
  ...below('/sys/fs/cgroup/pids', { 'pids.current': '3\n', 'pids.max': 'max\n', 'pids.events': 'max 0\n' }),
  ...below('/sys/fs/cgroup/cpu', { 'cpu.stat': 'nr_periods 0\nnr_throttled 0\nthrottled_time 2500000\n' }),
  ...below('/sys/fs/cgroup/cpuacct', { 'cpuacct.usage': '1234567890\n' }),
};
const V1_COUNTERS = {
  version: 1,
  memory: {
    oomKills: 1,
    limitHits: 37,
    currentBytes: 10_485_760,
    peakBytes: 209_715_200,
    limitBytes: 209_715_200,
  },
  pids: { current: 3, limit: undefined, limitHits: 0 },
  cpu: { periods: 0, throttledPeriods: 0, throttledMs: 3, usageMs: 1_235 },
};

const ID = '3f2a9c41d7e0'.padEnd(64, '0');
const DOCKER_V1 = ['memory', 'pids', 'cpu,cpuacct', 'name=systemd']
  .map((names, at) => `${9 - at}:${names}:/docker/${ID}`)
  .join('\n');

test.each<[string, string, Tree, unknown]>([
  ['Docker, v1', DOCKER_V1, V1, V1_COUNTERS],
  [
    'Docker, v2, a cgroup namespace of its own',
    '0::/\n',
    { ...CONTROLLERS, ...below('/sys/fs/cgroup', V2) },
    V2_COUNTERS,
  ],
  [
    'podman, v2, the host mounted whole',
    `0::/machine.slice/libpod-${ID}.scope/container\n`,
    { ...CONTROLLERS, ...below(`/sys/fs/cgroup/machine.slice/libpod-${ID}.scope/container`, V2) },
    V2_COUNTERS,
  ],
  [
    'Kubernetes, v2, the path is the host and the mount is ours',
    `0::/kubepods.slice/kubepods-burstable.slice/cri-containerd-${ID}.scope\n`,
    { ...CONTROLLERS, ...below('/sys/fs/cgroup', V2) },
    V2_COUNTERS,
  ],
])('%s', (_, cgroup, tree, counters) => {
  expect(readCounters(cgroup, reader(tree))).toEqual(counters);
});

test('an old kernel has no memory.peak, the root no limits: undefined, and not 0', () => {
  const { 'memory.peak': _peak, 'memory.events': _events, ...rest } = V2;
  const tree = { ...CONTROLLERS, ...below('/sys/fs/cgroup', { ...rest, 'memory.max': 'max\n' }) };
  const { memory } = readCounters('0::/\n', reader(tree));
  expect(memory).toMatchObject({ oomKills: undefined, peakBytes: undefined, limitBytes: undefined });
  expect(readCounters('', reader({}))).toMatchObject({ version: 1, memory: { oomKills: undefined } });
});

test('limits are found in the same places', () => {
  const v2 = reader({ ...CONTROLLERS, ...below('/sys/fs/cgroup', V2) });
  expect(readCgroupLimits('0::/\n', v2)).toEqual({
    version: 2,
    memoryBytes: 67_108_864,
    cpus: 0.2,
    pids: 40,
  });
  expect(readCgroupLimits(DOCKER_V1, reader(V1))).toMatchObject({ version: 1, memoryBytes: 209_715_200 });
  expect(readCgroupLimits('', reader({}))).toMatchObject({ version: undefined });
});

test('only a difference of two readings is one', () => {
  expect([risen(1, 3), risen(3, 1), risen(undefined, 3), risen(1, undefined)]).toEqual([
    2,
    0,
    undefined,
    undefined,
  ]);
});
