/**
 * What is mounted, whether it can be written, and whether there is room.
 */
import { statfsSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { textOf } from '../attempt.ts';

export interface Mount {
  readonly point: string;
  readonly type: string;
  readonly isReadOnly: boolean;
  /** `major:minor`: mounts of one device share their room. */
  readonly device: string;
}

export interface MountSpace extends Mount {
  /** Undefined where it was not asked: a file system of the kernel's, or one across a network, which may hang. */
  readonly space: Space | undefined;
}

/** For whoever is not root. */
export interface Space {
  readonly sizeBytes: number;
  readonly freeBytes: number;
  /** 0: this file system does not count them. */
  readonly inodes: number;
  readonly freeInodes: number;
}

/** Where files can be kept and statfs(2) answers at once. */
const ASKED =
  /^(ext[234]|xfs|btrfs|overlay|aufs|tmpfs|ramfs|f2fs|zfs|vfat|exfat|jfs|reiserfs|bcachefs|fuse-overlayfs)$/;
const MOST_MOUNTS = 200;

/** Pure: the text of /proc/self/mountinfo, proc(5), the last mount of each place. */
export function parseMountTable(mountinfo: string): readonly Mount[] {
  const mounts = new Map<string, Mount>();
  for (const line of mountinfo.split('\n')) {
    const fields = line.split(' ');
    const dash = fields.indexOf('-', 6);
    const [, , device, , escaped, options] = fields;
    const [type, , superOptions] = fields.slice(dash + 1);
    if (dash < 0 || escaped === undefined || type === undefined || device === undefined) continue;
    const point = escaped.replace(/\\([0-7]{3})/g, (_, digits: string) =>
      String.fromCharCode(Number.parseInt(digits, 8)),
    );
    const isReadOnly = [options, superOptions].some((list) => (list ?? '').split(',').includes('ro'));
    mounts.set(point, { point, type, isReadOnly, device });
  }
  return [...mounts.values()];
}

export function readMountSpaces(): readonly MountSpace[] {
  return parseMountTable(textOf('/proc/self/mountinfo') ?? '')
    .slice(0, MOST_MOUNTS)
    .map((mount) => ({ ...mount, space: ASKED.test(mount.type) ? spaceOf(mount.point) : undefined }));
}

function spaceOf(point: string): Space | undefined {
  try {
    if (!statSync(point).isDirectory()) return undefined; // /etc/hosts and its like are files of the host's disk
    const { bsize, blocks, bavail, files, ffree } = statfsSync(point);
    return { sizeBytes: blocks * bsize, freeBytes: bavail * bsize, inodes: files, freeInodes: ffree };
  } catch {
    return undefined;
  }
}

/** The mount that holds a path, by the longest point above it. Pure. */
export function mountOf<T extends Mount>(path: string, mounts: readonly T[]): T | undefined {
  for (let at = path; ; at = dirname(at)) {
    const mount = mounts.find(({ point }) => point === at);
    if (mount !== undefined || at === '/' || at === '.') return mount;
  }
}

/** So little room is none: what is written fills a disk but for a rest. */
const REST_SHARE = 0.005;
const LEAST_REST_BYTES = 64 * 1024;
/** On a file system that is itself hardly larger. */
const LARGEST_REST_SHARE = 0.05;
const MOST_REST_BYTES = 16 * 1024 * 1024;

/** What a mount that can be written has none left of. Pure. */
export function fullIn({ isReadOnly, space }: MountSpace): 'bytes' | 'inodes' | undefined {
  if (isReadOnly || space === undefined || space.sizeBytes === 0) return undefined;
  const least = Math.min(LEAST_REST_BYTES, space.sizeBytes * LARGEST_REST_SHARE);
  const rest = Math.min(MOST_REST_BYTES, Math.max(least, space.sizeBytes * REST_SHARE));
  if (space.freeBytes < rest) return 'bytes';
  return space.inodes > 0 && space.freeInodes === 0 ? 'inodes' : undefined;
}
