/** What is mounted where, from /proc/self/mountinfo: kernel interfaces are no place for files, and a file that is a mount point cannot be renamed over (EBUSY). */
import { readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { attempt } from '../attempt.ts';
import { decodeName } from './octets.ts';

export interface Mounts {
  /** The type of the file system that holds a path, by the longest mount point above it; undefined: unknown. */
  typeOf(path: string): string | undefined;
  isMountPoint(path: string): boolean;
  /** Where the file system begins that holds a path. A rename from one to another fails with EXDEV. */
  pointOf(path: string): string;
}

/** File systems whose files are the kernel's own. */
const KERNEL_TYPES = new Set([
  ...['proc', 'sysfs', 'cgroup', 'cgroup2', 'devpts', 'mqueue'],
  ...[
    'debugfs',
    'tracefs',
    'securityfs',
    'configfs',
    'bpf',
    'pstore',
    'efivarfs',
    'binfmt_misc',
    'fusectl',
    'selinuxfs',
  ],
]);

export function isKernelType(type: string | undefined): boolean {
  return type !== undefined && KERNEL_TYPES.has(type);
}

/** Without /proc there is nothing to know, and nothing of all this is mounted. */
export function readMounts(path = '/proc/self/mountinfo'): Mounts {
  return parseMounts(attempt(() => decodeName(readFileSync(path)), ''));
}

/** proc(5): fields by spaces, the fifth the mount point, the type after a lone `-`. The last mount at a place is on top. */
export function parseMounts(mountinfo: string): Mounts {
  const types = new Map<string, string>();
  for (const line of mountinfo.split('\n')) {
    const fields = line.split(' ');
    const point = fields[4];
    const type = fields[fields.indexOf('-', 6) + 1];
    if (point !== undefined && type !== undefined) types.set(unescapeOctal(point), type);
  }
  const pointOf = (path: string): string => {
    let at = path;
    while (at !== '/' && !types.has(at)) at = dirname(at);
    return at;
  };
  return {
    typeOf: (path) => types.get(pointOf(path)),
    isMountPoint: (path) => types.has(path),
    pointOf,
  };
}

/** Space, tab, newline and backslash are written as \040 and so on; others stand as they are. */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}
