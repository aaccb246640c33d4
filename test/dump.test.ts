/** The pure parts of `ddbg dump`: what the kernel writes, and what is made of it. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { formatIpv6 } from '../src/container/address.ts';
import { readCgroupUse } from '../src/dump/cgroup.ts';
import type { Dump } from '../src/dump/dump.ts';
import { descendantsOf } from '../src/dump/family.ts';
import { summariseMaps } from '../src/dump/memory.ts';
import { createReader, readWithin } from '../src/dump/read.ts';
import { formatAddress, parseInet, parseUnix, showSocket } from '../src/dump/sockets.ts';
import { syscallName } from '../src/dump/syscalls.ts';
import { parseSystemLine } from '../src/dump/threads.ts';
import { whatItWaitsFor } from '../src/dump/waits.ts';
import { plain } from '../src/dump/words.ts';

describe('sockets', () => {
  it.each([
    ['0100007F:1F90', '127.0.0.1:8080'],
    ['00000000000000000000000001000000:0050', '[::1]:80'],
    ['00000000000000000000000000000000:0016', '[::]:22'],
    ['0000000000000000FFFF00000A00A8C0:01BB', '[::ffff:192.168.0.10]:443'],
    ['B80D01200000000000000000010000FF:FFFF', '[2001:db8::ff00:1]:65535'],
  ])('%s is %s', (text, shown) => {
    expect(formatAddress(text)).toBe(shown);
  });

  it('IPv6 as RFC 5952 has it: the longest run, the first of two, never a single group', () => {
    const groups = (...numbers: number[]) =>
      formatIpv6(numbers.flatMap((group) => [group >> 8, group & 255]));
    expect(groups(0x2001, 0xdb8, 0, 0, 1, 0, 0, 1)).toBe('2001:db8::1:0:0:1');
    expect(groups(0x2001, 0, 0, 1, 0, 0, 0, 1)).toBe('2001:0:0:1::1');
    expect(groups(0x2001, 0xdb8, 0, 1, 1, 1, 1, 1)).toBe('2001:db8:0:1:1:1:1:1');
    expect(groups(1, 0, 0, 0, 0, 0, 0, 0)).toBe('1::');
  });

  it('a table of TCP: states, what nobody has read or accepted', () => {
    const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000003 00:00000000 00000000  1000        0 41 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:C001 08 00000010:00000005 00:00000000 00000000  1000        0 42 1 0 20 4 0 10 -1
`;
    expect(parseInet(table, 'tcp').map(showSocket)).toEqual([
      'listening 127.0.0.1:8080 (3 not accepted yet)',
      'closed by the other end, not by us (CLOSE_WAIT) 127.0.0.1:8080 to 127.0.0.1:49153 (5 bytes not read, 16 bytes not taken)',
    ]);
  });

  it('unix sockets whose paths hold newlines, are abstract or not there', () => {
    const table = `Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 7 /tmp/a
b: c
0000000000000000: 00000002 00000000 00000000 0002 01 8 @bus
0000000000000000: 00000003 00000000 00000000 0001 03 9
`;
    expect(parseUnix(table).map(({ state, local, inode }) => [inode, state, local])).toEqual([
      [7, 'listening', '/tmp/a\nb: c'],
      [8, 'unconnected', '@bus'],
      [9, 'connected', ''],
    ]);
  });
});

describe('system calls', () => {
  it.each([
    ['x64', 0, 'read'],
    ['x64', 202, 'futex'],
    ['x64', 334, 'rseq'],
    ['x64', 441, 'epoll_pwait2'],
    ['arm64', 63, 'read'],
    ['arm64', 98, 'futex'],
    ['arm64', 22, 'epoll_pwait'],
    ['arm64', 441, 'epoll_pwait2'],
    ['x64', 400, 'syscall 400'],
    ['', 3, 'syscall 3'],
  ])('%s %i is %s', (architecture, number, name) => {
    expect(syscallName(number, architecture)).toBe(name);
  });

  it.each([
    ['x64', 'cc'],
    ['arm64', 'aarch64-linux-gnu-gcc'],
  ])('the names of %s are those of its headers', (architecture, compiler) => {
    const include = '#include <asm/unistd.h>\n';
    const made = spawnSync(compiler, ['-dM', '-E', '-'], { input: include, encoding: 'utf8' });
    if (made.status !== 0 || (architecture === 'x64' && process.arch !== 'x64')) return;
    const values = new Map(
      [...made.stdout.matchAll(/^#define (__NR\w*) (\S+)$/gm)].map(([, name = '', value = '']) => [
        name,
        value,
      ]),
    );
    const wrong: string[] = [];
    for (const [name, value] of values) {
      const number = Number(values.get(value) ?? value);
      const isName = !/^__NR(?:3264_|_syscalls|_arch_specific)/.test(name);
      if (isName && syscallName(number, architecture) !== name.slice('__NR_'.length))
        wrong.push(`${name} ${value}`);
    }
    expect(values.size).toBeGreaterThan(250);
    expect(wrong).toEqual([]);
  });

  it('a line of /proc/PID/syscall', () => {
    expect(parseSystemLine('running\n')).toEqual({ kind: 'running' });
    expect(parseSystemLine('-1 0x7ffd0 0x7f00\n')).toEqual({ kind: 'elsewhere', stackPointer: 0x7ffd0n });
    expect(parseSystemLine('0 0x3 0x7ffd 0x1 0x0 0x0 0x0 0x7ffe 0x7f01\n')).toMatchObject({
      kind: 'call',
      number: 0,
      stackPointer: 0x7ffen,
    });
    expect(parseSystemLine('')).toBeUndefined();
  });
});

describe('processes', () => {
  it('descendants, each behind its parent', () => {
    const one = (pid: number, parent: number) => ({ pid, parent, name: 'x', state: 'S' });
    const all = [one(1, 0), one(2, 1), one(3, 1), one(4, 2), one(5, 9), one(6, 4)];
    expect(descendantsOf(1, all).map(({ pid, depth }) => [pid, depth])).toEqual([
      [2, 1],
      [4, 2],
      [6, 3],
      [3, 1],
    ]);
  });

  it('maps: heap, the stacks that threads are on, anonymous, files by size', () => {
    const maps = `55550000-55560000 rw-p 00000000 00:00 0                          [heap]
7f000000-7f100000 rw-p 00000000 00:00 0
7f200000-7f300000 rw-p 00000000 00:00 0
7f400000-7f410000 r-xp 00000000 08:01 12                         /lib/a b.so
7f410000-7f420000 rw-p 00010000 08:01 12                         /lib/a b.so
7f500000-7f501000 r-xp 00000000 08:01 13                         /bin/x (deleted)
7ffe0000-7fff0000 rw-p 00000000 00:00 0                          [stack]
7fff1000-7fff2000 r-xp 00000000 00:00 0                          [vdso]
`;
    expect(summariseMaps(maps, [0x7f280000n])).toEqual({
      mappings: 8,
      heap: 0x10000,
      stacks: 0x110000,
      anonymous: 0x100000,
      files: [
        { path: '/lib/a b.so', bytes: 0x20000 },
        { path: '/bin/x (deleted)', bytes: 0x1000 },
      ],
    });
  });

  it('names on a line', () => {
    expect(plain('a\nb\udcff\u001b[2J😀')).toBe('a\\nb\\xff\\u001b[2J😀');
  });

  it('a file that hangs when it is read is given up, and that is noted', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'ddbg-test-'));
    try {
      const fifo = join(folder, 'fifo');
      execFileSync('mkfifo', [fifo]);
      const reader = createReader();
      expect(await readWithin(reader, fifo, 'it', 50)).toBeUndefined();
      expect([...reader.refused]).toEqual([['it', 'ETIMEDOUT']]);
      execFileSync('sh', ['-c', `: >'${fifo}'`]); // lets the thread go that still waits
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe('what it waits for, where ptrace’s rules hide the system calls', () => {
  const thread = {
    ...{ tid: 7, name: 'node', state: 'S', isSteady: true, percent: 0, isRunning: false },
    ...{ call: null, lockHolder: null, kernelStack: null },
  };
  const open = {
    target: '',
    isDeleted: false,
    canRead: true,
    canWrite: true,
    others: [],
    watched: [],
    detail: '',
  };
  const listening = {
    kind: 'tcp',
    state: 'listening',
    local: '0.0.0.0:80',
    remote: '',
    received: 0,
    unsent: 0,
    inode: 1,
  };
  const facts = (wchan: string | null) =>
    ({
      pid: 7,
      state: 'S',
      tracer: null,
      cgroup: { isFrozen: false },
      processor: { percent: 0 },
      threads: [{ ...thread, wchan }],
      descriptors: [
        { ...open, fd: 3, kind: 'epoll', socket: undefined, watched: [4] },
        { ...open, fd: 4, kind: 'socket', socket: listening },
      ],
    }) as unknown as Dump;

  it.each([
    [
      'do_epoll_wait',
      "waits in the kernel's do_epoll_wait, which is epoll_wait; its only epoll, fd 3, is of 1 socket: listening 0.0.0.0:80",
    ],
    ['pipe_read', "waits in the kernel's pipe_read, which is a read of a pipe"],
    ['nfs_wait_bit', "waits in the kernel's nfs_wait_bit, as far as may be seen"],
    [null, 'waits where it may not be seen from here'],
  ])('%s', (wchan, said) => {
    expect(whatItWaitsFor(facts(wchan))).toBe(said);
  });

  it('uninterruptible sleep and the freezer come first', () => {
    const stuck = {
      ...facts('nfs_wait_bit'),
      threads: [{ ...thread, state: 'D', wchan: 'nfs_wait_bit' }],
    } as Dump;
    expect(whatItWaitsFor(stuck)).toMatch(/^is in uninterruptible sleep \(D\) in nfs_wait_bit; no signal/);
    expect(whatItWaitsFor({ ...stuck, cgroup: { isFrozen: true } } as Dump)).toMatch(/^is frozen: /);
  });
});

describe('cgroup', () => {
  const from = (files: Readonly<Record<string, string>>) => (path: string) => files[path];

  it('v2, in a container: its own is mounted as the root', () => {
    const use = readCgroupUse(
      '0::/docker/abc\n',
      from({
        '/sys/fs/cgroup/cgroup.controllers': 'cpu memory pids',
        '/sys/fs/cgroup/memory.current': '1048576',
        '/sys/fs/cgroup/memory.max': '67108864',
        '/sys/fs/cgroup/memory.events': 'low 0\nhigh 0\nmax 12\noom 2\noom_kill 2',
        '/sys/fs/cgroup/pids.current': '7',
        '/sys/fs/cgroup/pids.max': 'max',
        '/sys/fs/cgroup/cpu.max': '50000 100000',
        '/sys/fs/cgroup/cpu.stat': 'usage_usec 1\nnr_periods 9\nnr_throttled 3\nthrottled_usec 1500000',
        '/sys/fs/cgroup/cgroup.freeze': '1',
      }),
    );
    expect(use).toEqual({
      version: 2,
      memoryBytes: 1_048_576,
      memoryLimitBytes: 67_108_864,
      oomKills: 2,
      pids: 7,
      pidsLimit: undefined,
      cpuLimit: 0.5,
      throttledTimes: 3,
      throttledMs: 1500,
      isFrozen: true,
    });
  });

  it('v1, seen from outside', () => {
    const use = readCgroupUse(
      '4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n2:pids:/docker/abc\n1:freezer:/docker/abc\n',
      from({
        '/sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes': '4096',
        '/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes': '9223372036854771712',
        '/sys/fs/cgroup/memory/docker/abc/memory.oom_control': 'oom_kill_disable 0\nunder_oom 0\noom_kill 1',
        '/sys/fs/cgroup/pids/docker/abc/pids.current': '3',
        '/sys/fs/cgroup/pids/docker/abc/pids.max': '20',
        '/sys/fs/cgroup/cpu/docker/abc/cpu.stat': 'nr_periods 4\nnr_throttled 2\nthrottled_time 2000000',
        '/sys/fs/cgroup/freezer/docker/abc/freezer.state': 'FROZEN',
      }),
    );
    expect(use).toMatchObject({ version: 1, memoryBytes: 4096, memoryLimitBytes: undefined, oomKills: 1 });
    expect(use).toMatchObject({ pids: 3, pidsLimit: 20, throttledTimes: 2, throttledMs: 2, isFrozen: true });
  });
});
