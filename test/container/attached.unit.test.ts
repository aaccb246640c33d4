/** Who is attached, by /proc as it is seen in a container, and what that does to a time limit. */
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { attachedSessions, isOneContainer } from '../../src/container/attached.ts';
import { afterLook } from '../../src/container/countdown.ts';

const OURS = 'a'.repeat(64);
const OTHER = 'b'.repeat(64);

interface Recorded {
  readonly parent: number;
  readonly cgroup: string;
  readonly name?: string;
  readonly state?: string;
  readonly flags?: number;
  /** Seconds after the start of the machine. */
  readonly started?: number;
  readonly argv?: readonly string[];
}

/** A /proc of these processes, on a machine that runs since 1000 s. */
function procOf(processes: Readonly<Record<number, Recorded>>): string {
  const proc = mkdtempSync(join(tmpdir(), 'ddbg-proc-'));
  onTestFinished(() => rmSync(proc, { recursive: true }));
  writeFileSync(join(proc, 'uptime'), '1000.00 1800.00\n');
  mkdirSync(join(proc, 'sys'));
  for (const [pid, recorded] of Object.entries(processes)) {
    const {
      parent,
      cgroup,
      name = 'sh',
      state = 'S',
      flags = 0x400000,
      started = 900,
      argv = [name],
    } = recorded;
    const fields = [state, parent, pid, pid, 0, -1, flags, ...Array(12).fill(0), started * 100, 0];
    mkdirSync(join(proc, pid));
    writeFileSync(join(proc, pid, 'stat'), `${pid} (${name}) ${fields.join(' ')}\n`);
    writeFileSync(join(proc, pid, 'cgroup'), cgroup);
    writeFileSync(join(proc, pid, 'cmdline'), argv.map((word) => `${word}\0`).join(''));
    writeFileSync(join(proc, pid, 'status'), `Name:\t${name}\nUid:\t1000\t0\t0\t0\n`);
  }
  return proc;
}

const pids = (processes: Readonly<Record<number, Recorded>>, ownPid = 1) =>
  attachedSessions({ proc: procOf(processes), ownPid }).map(({ pid }) => pid);

/** As Docker 20.10 on cgroup v1 has it, /proc/1/cgroup, shortened. */
const v1 = (id: string) =>
  `9:name=systemd:/docker/${id}\n8:pids:/docker/${id}\n5:devices:/docker/${id}\n1:cpu,cpuacct:/docker/${id}\n0::/docker/${id}\n`;

describe('attached is', () => {
  test('whose parent is outside, and nobody else', () => {
    const cgroup = v1(OURS);
    const processes = {
      1: { parent: 0, cgroup, name: 'ddbg-entry' },
      20: { parent: 0, cgroup, name: 'bash) S 1 (', argv: ['bash', '--token=hush'], started: 990 },
      21: { parent: 20, cgroup, name: 'vi' },
      30: { parent: 1, cgroup, name: 'orphan' },
      31: { parent: 0, cgroup, name: 'done', state: 'Z' },
      40: { parent: 0, cgroup, name: 'sleep' },
    };
    expect(attachedSessions({ proc: procOf(processes), ownPid: 1 })).toEqual([
      { pid: 20, uid: 1000, command: 'bash --token=***', visitMs: 10_000 },
      { pid: 40, uid: 1000, command: 'sleep', visitMs: 100_000 },
    ]);
  });

  test('not another container of the pod, whose first process has no parent here either (cgroup v2, private)', () => {
    const processes = {
      1: { parent: 0, cgroup: '0::/../cri-containerd-pause.scope\n', name: 'pause' },
      7: { parent: 0, cgroup: '0::/\n', name: 'ddbg-entry' },
      19: { parent: 0, cgroup: `0::/../cri-containerd-${OTHER}.scope\n`, name: 'sidecar' },
      25: { parent: 19, cgroup: `0::/../cri-containerd-${OTHER}.scope\n` },
      31: { parent: 0, cgroup: `0::/../cri-containerd-${OTHER}.scope\n`, name: 'exec into the sidecar' },
      40: { parent: 0, cgroup: '0::/\n', name: 'exec into us' },
    };
    expect(pids(processes, 7)).toEqual([40]);
  });

  test('not the container’s first process, where that is not we (tini, a shell)', () => {
    const cgroup = `0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-${OURS}.scope\n`;
    const processes = {
      1: { parent: 0, cgroup: '0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-pause.scope\n' },
      7: { parent: 0, cgroup, name: 'tini' },
      8: { parent: 7, cgroup, name: 'sh' },
      9: { parent: 8, cgroup, name: 'ddbg-entry' },
      30: { parent: 0, cgroup },
    };
    expect(pids(processes, 9)).toEqual([30]);
  });

  test('not the kernel, on a machine without a container', () => {
    const processes = {
      1: { parent: 0, cgroup: '0::/init.scope\n', name: 'systemd' },
      2: { parent: 0, cgroup: '0::/\n', name: 'kthreadd', flags: 0x208040 },
      300: { parent: 1, cgroup: '0::/user.slice\n', name: 'ddbg-entry' },
    };
    expect(pids(processes, 300)).toEqual([]);
  });

  test('nobody here, where the test runs with parents', () => {
    expect(attachedSessions().every(({ pid }) => pid !== process.pid)).toBe(true);
    const child = spawn('sleep', ['100']);
    onTestFinished(() => void child.kill());
    expect(attachedSessions().some(({ pid }) => pid === child.pid)).toBe(false);
  });
});

test.each([
  [v1(OURS), v1(OURS), true],
  [v1(OURS), v1(OTHER), false],
  // one hierarchy that the other's engine does not know is enough to tell them apart
  [v1(OURS), v1(OURS).replace(`pids:/docker/${OURS}`, `pids:/docker/${OTHER}`), false],
  // Docker in there, or systemd, has made groups of its own
  ['0::/init\n', '0::/\n', true],
  ['0::/\n', '0::/init\n', true],
  [`0::/docker/${OURS}/init\n`, `0::/docker/${OURS}\n`, true],
  [`0::/docker/${OURS}\n`, `0::/docker/${OURS}/init\n`, true],
  [`0::/docker/${OURS.slice(0, 60)}\n`, `0::/docker/${OURS}\n`, false],
  // crun's own, below the scope
  ['0::/container\n', '0::/container\n', true],
  ['0::/\n', `0::/../crio-${OTHER}.scope/container\n`, false],
  ['0::/\n', '0::/..\n', false],
  ['0::/\n', '0::/..data\n', true],
  ['4:memory:/x\n0::/\n', '0::/\n', false],
  // a kernel without cgroups
  ['', '', true],
])('one container? %j %j %s', (ours, theirs, isOne) => {
  expect(isOneContainer(ours, theirs)).toBe(isOne);
});

describe('a time limit', () => {
  const MINUTE = 60_000;
  /** Looks as they are asked for; `visit` says how long somebody has been there at that time. */
  const over = (limitMs: number, visit: (nowMs: number) => number | undefined) => {
    let limit = { leftMs: limitMs, fromMs: 0, stands: false };
    let nowMs = Math.min(limitMs, 5_000);
    const lines: string[] = [];
    for (let looks = 1; looks < 10_000; looks++) {
      const next = afterLook(limit, nowMs, visit(nowMs));
      if (next.limit.stands !== limit.stands)
        lines.push(`${next.limit.stands ? 'waits' : 'goes on'} ${nowMs}`);
      limit = next.limit;
      if (next.nextMs === 0) return { nowMs, lines, looks };
      expect(next.nextMs).toBeGreaterThan(0);
      nowMs += next.nextMs;
    }
    throw new Error('it is never over');
  };
  /** Somebody who is there from then until then. */
  const from = (start: number, end: number) => (nowMs: number) =>
    nowMs >= start && nowMs < end ? nowMs - start : undefined;

  test('ends exactly then, when nobody comes', () => {
    expect(over(1_000, () => undefined)).toMatchObject({ nowMs: 1_000, lines: [], looks: 1 });
    expect(over(12_345, () => undefined)).toMatchObject({ nowMs: 12_345, lines: [], looks: 3 });
    expect(over(30 * MINUTE, () => undefined)).toMatchObject({ nowMs: 30 * MINUTE, looks: 360 });
  });

  test('waits while somebody is there, from the moment they came', () => {
    const { nowMs, lines } = over(MINUTE, from(7_000, 600_000));
    expect(lines).toEqual(['waits 15000', 'goes on 600000']);
    expect(nowMs).toBe(600_000 + MINUTE - 7_000);
  });

  test('does not end while somebody has just come', () => {
    const { nowMs, lines } = over(MINUTE, from(MINUTE - 1, 600_000));
    expect(lines).toEqual([`waits ${MINUTE + 4_999}`, 'goes on 604999']);
    expect(nowMs).toBe(604_999 + 1);
  });

  test('a health check every few seconds makes no lines and no difference', () => {
    // 60 ms every 3.3 s
    const { nowMs, lines } = over(MINUTE, (now) => (now % 3_300 < 60 ? now % 3_300 : undefined));
    expect(lines).toEqual([]);
    expect(nowMs).toBeGreaterThanOrEqual(MINUTE);
    expect(nowMs).toBeLessThanOrEqual(MINUTE + 5_000);
  });

  test('nor does one that is at work whenever we look', () => {
    // 1 s every 2.5 s: five seconds after one has begun there is always another
    const { nowMs, lines } = over(MINUTE, (now) => (now % 2_500 < 1_000 ? now % 2_500 : undefined));
    expect(lines).toEqual([]);
    expect(nowMs).toBeLessThanOrEqual(MINUTE + 5_000);
    expect(over(MINUTE + 300, (now) => now % 2_500).nowMs).toBeLessThanOrEqual(MINUTE + 5_300);
  });

  test('one goes and the next has just come: nothing is said', () => {
    const visit = (now: number) => from(0, 20_001)(now) ?? from(20_000, 40_000)(now);
    expect(over(MINUTE, visit).lines).toEqual(['waits 5000', 'goes on 40000']);
  });
});
