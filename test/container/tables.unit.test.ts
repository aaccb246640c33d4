/** The kernel's tables of sockets, mounts and processes, on texts as they are. */
import { expect, test } from 'vitest';
import { parseListeners } from '../../src/container/network.ts';
import type { ProcessEntry } from '../../src/container/processes.ts';
import { isComingIn, parseProcess, relationsOf } from '../../src/container/processes.ts';
import { fullIn, mountOf, parseMountTable } from '../../src/container/space.ts';
import { parseStat } from '../../src/container/stat.ts';
import { fieldsOf, groupsOf, hasEnded, realUidOf, signalsIn, userOf } from '../../src/container/status.ts';

test('listeners, by address and inode; connections are none', () => {
  const head =
    '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n';
  const tcp = `${head}   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000 100 0 0 10 0
   1: 0100007F:1F91 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0000 20 4 30 10 -1\n`;
  expect(parseListeners(tcp)).toEqual([{ address: '127.0.0.1', port: 8080, inode: '4711' }]);
  const tcp6 = `${head}   0: 00000000000000000000000000000000:0BB8 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 99 1 0 100 0 0 10 0
   1: 0000000000000000FFFF00000100007F:0BB9 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 98 1 0 100 0 0 10 0
   2: B80D0120000000000000000001000000:0BBA 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 97 1 0 100 0 0 10 0
   3: 00000120010000000000000001000000:0BBB 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 96 1 0 100 0 0 10 0\n`;
  const addresses = ['::', '127.0.0.1', '2001:db8::1', '2001:0:0:1::1'];
  expect(parseListeners(tcp6).map(({ address }) => address)).toEqual(addresses);
  expect(parseListeners('')).toEqual([]);
});

test('mounts: options of the mount and of its file system, escapes, the longest point above a path', () => {
  const mounts = parseMountTable(`1 0 0:30 / / rw,relatime - overlay overlay rw,lowerdir=/a
2 1 0:31 / /proc rw - proc proc rw
3 1 8:1 /x /data\\040x ro,relatime shared:1 - ext4 /dev/sda1 rw
4 1 8:2 / /mnt rw - ext4 /dev/sdb1 ro
broken line`);
  expect(mounts.map(({ point, isReadOnly }) => [point, isReadOnly])).toEqual([
    ['/', false],
    ['/proc', false],
    ['/data x', true],
    ['/mnt', true],
  ]);
  expect(mountOf('/data x/y/z', mounts)?.point).toBe('/data x');
  expect(mountOf('/database', mounts)?.point).toBe('/');
});

test('full is less than a rest of bytes, or no inode; what cannot be written is never full', () => {
  const mount = { point: '/x', type: 'tmpfs', isReadOnly: false, device: '0:1' };
  const space = { sizeBytes: 1e9, freeBytes: 5e8, inodes: 1_000, freeInodes: 500 };
  expect(fullIn({ ...mount, space })).toBeUndefined();
  expect(fullIn({ ...mount, space: { ...space, freeBytes: 1_000_000 } })).toBe('bytes');
  expect(fullIn({ ...mount, space: { ...space, freeInodes: 0 } })).toBe('inodes');
  expect(fullIn({ ...mount, space: { ...space, inodes: 0, freeInodes: 0 } })).toBeUndefined();
  expect(fullIn({ ...mount, isReadOnly: true, space: { ...space, freeBytes: 0 } })).toBeUndefined();
  expect(fullIn({ ...mount, space: undefined })).toBeUndefined();
  const small = { ...space, sizeBytes: 65_536 };
  expect(fullIn({ ...mount, space: { ...small, freeBytes: 53_248 } })).toBeUndefined();
  expect(fullIn({ ...mount, space: { ...small, freeBytes: 0 } })).toBe('bytes');
});

test('/proc/PID/stat: a name with parentheses and newlines, what was cut off', () => {
  const rest = 'S 7 6 5 1025 4 2097152 1 0 0 0 25 5 0 0 20 0 3 0 99 10000000 250';
  const text = `12 (a) R 1\n(b) ${rest} 1 2 3 140723 ${'0 '.repeat(21)}4096 0 0\n`;
  const stat = {
    name: 'a) R 1\n(b',
    state: 'S',
    parent: 7,
    group: 6,
    foreground: 4,
    isKernelThread: true,
    ticks: 30,
    threads: 3,
    startTicks: 99,
    residentPages: 250,
    stackStart: '140723',
    environmentStart: '4096',
  };
  expect(parseStat(text)).toEqual(stat);
  const cut = text.slice(0, text.indexOf(' 10000000'));
  const unknown = { residentPages: Number.NaN, stackStart: undefined, environmentStart: undefined };
  expect(parseStat(cut)).toEqual({ ...stat, ...unknown });
  expect(['', '12', '12 (a', '12 (a) S 7'].map(parseStat)).toEqual([
    undefined,
    undefined,
    undefined,
    undefined,
  ]);
});

test('/proc/PID/status: whoever it is called as, its ids, groups and signals', () => {
  const status = (...lines: readonly string[]) => fieldsOf(lines.join('\n'));
  const own = ['Name:\ta:\\nUid:\t7', 'State:\tS (sleeping)', 'Uid:\t1\t2\t3\t4', 'Gid:\t5\t6\t7\t8'];
  const fields = status(
    ...own,
    'Groups:\t20 30 ',
    'SigPnd:\t4000',
    'ShdPnd:\t8000000000000001',
    'SigIgn:\t0',
    '',
  );
  expect(fields.get('Name')).toBe('a:\\nUid:\t7');
  expect([userOf(fields), realUidOf(fields), groupsOf(fields)]).toEqual([{ uid: 2, gid: 6 }, 1, [20, 30]]);
  const empty = status('Groups:\t ');
  expect([userOf(empty), realUidOf(empty), groupsOf(empty)]).toEqual([{ uid: 0, gid: 0 }, undefined, []]);
  expect(signalsIn(fields, 'SigPnd', 'ShdPnd')).toEqual([1, 15, 64]);
  expect(['SigIgn', 'SigBlk'].map((name) => signalsIn(fields, name))).toEqual([[], []]);
  expect(
    ['S (sleeping)', 'Z (zombie)', 'X (dead)'].map((state) => hasEnded(status(`State:\t${state}`))),
  ).toEqual([false, true, true]);
});

test('a process may be called anything', () => {
  const fields = `S 1 7 7 0 -1 4194304 100 0 0 0 25 5 0 0 20 0 3 0 1234 10000000 250 ${'0 '.repeat(28)}`;
  expect(parseProcess(7, `7 (a) b) (c) ${fields}`)).toMatchObject({
    name: 'a) b) (c',
    parent: 1,
    threads: 3,
    cpuMs: 300,
    startTicks: 1234,
  });
});

test('a docker exec that has not begun is known by its name', () => {
  expect(['runc:[2:INIT]', 'runc:[1:CHILD]', 'runc', 'node'].map((name) => isComingIn({ name }))).toEqual([
    true,
    true,
    false,
    false,
  ]);
});

test('who belongs to the command, who came from outside, and whose parent has gone', () => {
  const process = (pid: number, parent: number, name = 'x') =>
    parseProcess(pid, `${pid} (${name}) S ${parent} ${'0 '.repeat(40)}`) as ProcessEntry;
  const entries = [
    process(1, 0),
    process(7, 1),
    process(12, 1),
    process(13, 12),
    process(14, 13),
    process(20, 0),
    process(21, 20),
    process(30, 1),
    process(31, 1, 'ddbg-record'),
  ];
  expect(Object.fromEntries(relationsOf(entries, 12, [1, 7]))).toEqual({
    1: 'ours',
    7: 'ours',
    12: 'command',
    13: 'below',
    14: 'below',
    20: 'outside',
    21: 'outside',
    30: 'orphan',
    31: 'ours',
  });
});
