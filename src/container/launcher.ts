/**
 * Who started us, as far as that makes us worse than we could be. One sentence each: what is degraded, what mends it.
 */
import { basename } from 'node:path';
import { linkOf, textOf } from '../attempt.ts';
import { isByNpx } from './npx.ts';
import { parentOf } from './stat.ts';

export interface LauncherClues {
  /** Native: the init is in front of us. */
  readonly host: 'bare' | 'native';
  /** Of us, or of the init. */
  readonly pid: number;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** The file that the parent of that process runs, without its folder; undefined where it cannot be read. */
  readonly parentProgram: string | undefined;
}

export function readLauncherClues(
  host: LauncherClues['host'],
  pid: number,
  environment: LauncherClues['environment'],
): LauncherClues {
  return { host, pid, environment, parentProgram: programOf(parentOf(pid)) };
}

export interface Degraded {
  readonly sentence: string;
  /** `docker stop` does not reach us: npm ends, and the kernel kills the rest. */
  readonly losesStops: boolean;
}

/** Pure. Undefined: nothing to say. */
export function degradedBy(clues: LauncherClues): Degraded | undefined {
  const { host, environment, pid, parentProgram } = clues;
  if (isByNpx(environment) && pid !== 1) {
    const losesStops = parentProgram !== undefined && /^(dash|sh|busybox|ash)$/.test(parentProgram);
    const sentence = losesStops
      ? `started by npx through ${parentProgram}: a stop never reaches the command, nor do HUP, QUIT and USR2, and a death by signal becomes status 1; put ENV npm_config_script_shell=/bin/bash into the Dockerfile (HUP stays lost), or install the package and use ENTRYPOINT ["ddbg-entry", "--"]`
      : `started by npx: HUP never reaches the command, and start-up takes a quarter of a second longer; install the package and use ENTRYPOINT ["ddbg-entry", "--"]`;
    return { sentence, losesStops };
  }
  if (pid === 1 && host === 'bare') {
    const sentence =
      'node is PID 1 here: orphaned processes are not reaped, and 40 MB stay in use; RUN ddbg-entry --install in the Dockerfile mends it (or docker run --init the reaping)';
    return { sentence, losesStops: false };
  }
  return undefined;
}

/** The shell that npm runs is known by its file: /bin/sh is a link to dash or bash. */
function programOf(pid: number): string | undefined {
  const file = linkOf(`/proc/${pid}/exe`);
  return file === undefined ? textOf(`/proc/${pid}/comm`)?.trim() : basename(file);
}
