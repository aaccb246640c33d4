import * as fs from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { isKernelType, parseMounts } from '../../src/overlay/mounts.ts';
import { tarOf } from './archives.ts';
import { mayMount, mount } from './mounting.ts';
import { makeStand, originals, type Stand } from './stand.ts';
import { snapshotTree } from './trees.ts';

const MOUNTINFO = `22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
28 27 0:25 / /mnt/with\\040space rw - tmpfs none rw
29 27 254:0 /x /etc/hosts rw,relatime master:1 propagate_from:2 - ext4 /dev/vda rw
30 27 0:9 / /data rw - ext4 /dev/vdb rw
31 27 0:10 / /data rw - cgroup2 cgroup2 rw
`;

describe('parseMounts', () => {
  const mounts = parseMounts(MOUNTINFO);
  it.each([
    ['/proc/sys/kernel/core_pattern', 'proc'],
    ['/process', 'ext4'],
    ['/', 'ext4'],
    ['/mnt/with space/x', 'tmpfs'],
    ['/data/x', 'cgroup2'],
  ])('%s is on %s', (path, type) => {
    expect(mounts.typeOf(path)).toBe(type);
  });

  it('knows mount points', () => {
    expect(mounts.isMountPoint('/etc/hosts')).toBe(true);
    expect(mounts.isMountPoint('/etc')).toBe(false);
    expect(parseMounts('').typeOf('/x')).toBeUndefined();
    expect([isKernelType('proc'), isKernelType('tmpfs'), isKernelType(undefined)]).toEqual([
      true,
      false,
      false,
    ]);
  });
});

const able = mayMount();
if (!able) console.warn('SKIPPED: the tests with real mounts need root and CAP_SYS_ADMIN');

function onTmpfs(stand: Stand, options: string): string {
  const root = join(stand.root, 'small');
  fs.mkdirSync(root);
  mount('-t', 'tmpfs', '-o', options, 'none', root);
  fs.mkdirSync(join(root, 'etc'));
  fs.writeFileSync(join(root, 'etc/kept'), 'kept');
  return root;
}

describe.skipIf(!able)('real mounts', () => {
  it('foresees a disk without room, and one without inodes', async () => {
    const stand = makeStand();
    const root = onTmpfs(stand, 'size=1m,nr_inodes=20');
    const large = stand.file('p.tar', tarOf({ name: 'etc/x', content: Buffer.alloc(2e6) }));
    expect((await stand.refused(large, 'DDBG_WRITE', { root })).message).toMatch(
      /needs 2\.0 MB .*the file system of \S+\/small has 1\.0 MB left/,
    );
    const many = Array.from({ length: 30 }, (_, index) => ({ name: `etc/${index}`, content: '' }));
    expect(
      (await stand.refused(stand.file('q.tar', tarOf(...many)), 'DDBG_WRITE', { root })).message,
    ).toContain('inodes');
  });

  it('counts a small file as the block that it takes', async () => {
    const stand = makeStand();
    const root = onTmpfs(stand, 'size=1m');
    // 600 files of one byte: 600 bytes by their sizes, 600 pages on the disk.
    const many = Array.from({ length: 600 }, (_, index) => ({
      name: `etc/d${index % 7}/${index}`,
      content: 'x',
    }));
    const error = await stand.refused(
      stand.file('p.tar', tarOf({ name: 'etc/kept', content: 'new' }, ...many)),
      'DDBG_WRITE',
      { root },
    );
    expect(error.message).toMatch(
      /it needs 1\.0 MB up to etc\/\S+, the file system of \S+\/small has 1\.0 MB left/,
    );
  });

  it('foresees a read-only root', async () => {
    const stand = makeStand();
    const root = onTmpfs(stand, 'size=1m');
    mount('-o', 'remount,ro', root);
    const error = await stand.refused(
      stand.file('p.tar', tarOf({ name: 'etc/x', content: 'x' })),
      'DDBG_WRITE',
      { root },
    );
    expect(error.message).toMatch(/\/etc\/x \(\/etc is on a read-only file system\)/);
    expect(error.hint).toContain('--read-only');
  });

  it('writes a bind-mounted file in place, and puts its content back when a later one fails', async () => {
    const stand = makeStand();
    const host = stand.file('hosts', 'of the host\n');
    const hosts = join(stand.root, 'etc/hosts');
    fs.writeFileSync(hosts, '');
    mount('--bind', host, hosts);
    const inode = fs.statSync(host).ino;
    const first = stand.file(
      '1.tar',
      tarOf({ name: 'etc/hosts', content: 'new\n', mode: 0o600 }, { name: 'etc/app.conf', content: 'new' }),
    );
    const second = stand.file('2.tar', tarOf({ name: 'etc/app.conf/x', content: 'x' }));
    await stand.refused([first, second], 'DDBG_UNSAFE');
    expect(fs.readFileSync(host, 'utf8')).toBe('of the host\n');

    const report = await stand.apply(first);
    expect(fs.readFileSync(host, 'utf8')).toBe('new\n');
    expect(fs.statSync(host).ino).toBe(inode);
    expect(report.sources[0]?.entries[0]).toMatchObject({
      path: '/etc/hosts',
      action: 'replaced',
      mode: 0o644,
    });
    expect(fs.readFileSync(originals(stand, '/etc/hosts'), 'utf8')).toBe('of the host\n');
    const link = stand.file('3.tar', tarOf({ name: 'etc/hosts', type: '2', link: 'x' }));
    expect((await stand.refused(link, 'DDBG_UNSAFE')).message).toContain('mounted file');
  });

  it('writes below a mounted directory, and moves originals over file systems', async () => {
    const stand = makeStand();
    const root = onTmpfs(stand, 'size=1m');
    fs.chmodSync(join(root, 'etc/kept'), 0o640);
    const inRoot = stand.file(
      'p.tar',
      tarOf(
        { name: 'small/etc/kept', content: 'new' },
        { name: 'small/etc/also', type: '1', link: 'small/etc/kept' },
      ),
    );
    await stand.apply([{ location: inRoot, strip: 0 }]);
    expect(stand.read('small/etc/also')).toBe('new');
    const kept = originals(stand, '/small/etc/kept');
    expect(fs.readFileSync(kept, 'utf8')).toBe('kept');
    expect(fs.statSync(kept).mode & 0o777).toBe(0o640);
  });

  it('copies a hard link that would cross two file systems', async () => {
    const stand = makeStand();
    onTmpfs(stand, 'size=1m');
    const path = stand.file(
      'p.tar',
      tarOf(
        { name: 'etc/one', content: 'same', mode: 0o604 },
        { name: 'small/two', type: '1', link: 'etc/one' },
      ),
    );
    await stand.apply([{ location: path, strip: 0 }]);
    expect(stand.read('small/two')).toBe('same');
    expect(fs.statSync(join(stand.root, 'small/two')).mode & 0o777).toBe(0o604);
  });

  it('refuses what is on an interface of the kernel, through a symlink, too', async () => {
    const stand = makeStand();
    fs.mkdirSync(join(stand.root, 'proc'));
    mount('-t', 'proc', 'proc', join(stand.root, 'proc'));
    fs.symlinkSync('/proc/sys', join(stand.root, 'opt/sys'));
    for (const name of ['proc/sys/kernel/x', 'opt/sys/kernel/core_pattern']) {
      const before = snapshotTree(join(stand.root, 'etc'));
      const path = stand.file('p.tar', tarOf({ name: 'etc/app.conf', content: 'x' }, { name, content: 'x' }));
      const error = await stand.apply(path).catch((reason: unknown) => reason);
      expect(error).toMatchObject({
        code: 'DDBG_UNSAFE',
        message: expect.stringMatching(/is on proc, an interface of the kernel/),
      });
      expect(snapshotTree(join(stand.root, 'etc'))).toEqual(before);
    }
  });
});
