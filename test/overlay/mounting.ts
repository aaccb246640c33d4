/** Real mounts for a test, gone with it. */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished } from 'vitest';
import { isRoot, type Stand } from './stand.ts';

export function mount(...args: string[]): void {
  const { status, stderr } = spawnSync('mount', args, { encoding: 'utf8' });
  expect(status, stderr).toBe(0);
  const point = args.at(-1) as string;
  onTestFinished(() => void spawnSync('umount', ['-l', point]));
}

/** Whether this process may mount; in a container without CAP_SYS_ADMIN root may not. */
export function mayMount(): boolean {
  if (!isRoot) return false;
  const point = fs.mkdtempSync('/tmp/may-mount-');
  const may = spawnSync('mount', ['-t', 'tmpfs', 'none', point]).status === 0;
  if (may) spawnSync('umount', [point]);
  fs.rmdirSync(point);
  return may;
}

/** A tmpfs on a new folder of the root. */
export function mountVolume(stand: Stand, folder: string): string {
  const point = join(stand.root, folder);
  fs.mkdirSync(point, { recursive: true });
  mount('-t', 'tmpfs', '-o', 'size=4m', 'none', point);
  return point;
}

/** A file of the host on a file of the root; returns that of the host. */
export function mountFile(stand: Stand, path: string, content: string): string {
  const host = stand.file(path.replaceAll('/', '-'), content);
  fs.writeFileSync(join(stand.root, path), '');
  mount('--bind', host, join(stand.root, path));
  return host;
}
