/**
 * `verbose`: what the command will see, a fact a line, without secrets.
 */
import type { CgroupLimits, ResourceLimit } from '../container/limits.ts';
import type { CommandLine } from '../plan.ts';
import type { Resolution } from '../process/resolve.ts';
import { makeMask, maskVariable } from '../secrets.ts';
import { showCommand } from './banner.ts';

export interface Surroundings {
  readonly command: CommandLine;
  readonly resolution: Resolution;
  readonly cwd: string;
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
  readonly umask: number;
  readonly cgroup: CgroupLimits;
  readonly limits: readonly ResourceLimit[];
}

/** The limits that explain faults; the kernel lists more. */
const SHOWN_LIMITS: Readonly<Record<string, string>> = {
  'Max open files': 'open files',
  'Max processes': 'processes',
  'Max core file size': 'core file',
  'Max stack size': 'stack',
  'Max address space': 'address space',
  'Max file size': 'file size',
  'Max cpu time': 'cpu time',
  'Max locked memory': 'locked memory',
};

/** Pure. */
export function describeSurroundings(facts: Surroundings): readonly string[] {
  const { command, resolution, cgroup } = facts;
  const mask = makeMask(command.environment);
  const interpreter =
    resolution.ok && resolution.interpreter ? ` (through ${resolution.interpreter.join(' ')})` : '';
  const limits = facts.limits.flatMap(({ name, soft, hard }) => {
    const shown = SHOWN_LIMITS[name];
    return shown === undefined ? [] : [`${shown} ${soft === hard ? soft : `${soft} of ${hard}`}`];
  });
  return [
    `command: ${showCommand(command.argv, mask)}`,
    `file: ${resolution.ok ? `${resolution.path}${interpreter}` : resolution.reason}`,
    `directory: ${facts.cwd}`,
    `user: uid ${facts.uid}, gid ${facts.gid}, groups ${facts.groups.join(' ') || 'none'}, umask ${facts.umask.toString(8).padStart(4, '0')}`,
    `limits: ${limits.join(', ')}`,
    describeCgroup(cgroup),
    ...Object.entries(command.environment)
      .sort(([one], [other]) => (one < other ? -1 : 1))
      .map(([name, value]) => `environment: ${maskVariable(name, value, mask)}`),
  ];
}

function describeCgroup({ version, memoryBytes, cpus, pids }: CgroupLimits): string {
  if (version === undefined) return 'cgroup: cannot be read';
  const memory = memoryBytes === undefined ? 'no limit' : `${Math.round(memoryBytes / 1024 ** 2)} MiB`;
  return `cgroup v${version}: memory ${memory}, cpus ${cpus ?? 'no limit'}, pids ${pids ?? 'no limit'}`;
}
