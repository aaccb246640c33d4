/**
 * Who has come in by `docker exec`, `kubectl exec` or nsenter. src/init/init.c looks the same way where it waits alone.
 */
import { namesIn, textOf } from '../attempt.ts';
import { makeMask, maskArguments } from '../secrets.ts';
import { readStat, TICK_MS } from './stat.ts';
import { readStatus, realUidOf } from './status.ts';

/** The first process of somebody who came in. */
export interface Session {
  readonly pid: number;
  /** The real one. */
  readonly uid: number;
  /** Its command line without secrets, at most 200 characters. */
  readonly command: string;
  /** How long it has been here. */
  readonly visitMs: number;
}

export interface Look {
  /** Default: /proc */
  readonly proc?: string;
  /** A process of our container. Default: this one. */
  readonly ownPid?: number;
}

/** In the order of pids; empty where there is no /proc. Not among them: the session that we are in ourselves. */
export function attachedSessions(options: Look = {}): readonly Session[] {
  const { proc = '/proc', ownPid = process.pid } = options;
  const first = firstOf(ownPid, proc);
  const ours = textOf(`${proc}/${ownPid}/cgroup`) ?? '';
  const now = bootMs(ownPid, proc);
  const mask = makeMask(process.env);
  return pidsIn(proc).flatMap((pid): Session[] => {
    const stat = readStat(pid, proc);
    if (stat === undefined || stat.parent !== 0 || pid === 1 || pid === first) return [];
    if (stat.isKernelThread || stat.state === 'Z') return [];
    if (!isOneContainer(ours, textOf(`${proc}/${pid}/cgroup`) ?? '')) return [];
    const argv = (textOf(`${proc}/${pid}/cmdline`) ?? '').replace(/\0$/, '').split('\0');
    const status = readStatus(pid, proc);
    const uid = (status && realUidOf(status)) ?? Number.NaN;
    const command = maskArguments(argv, mask).join(' ').slice(0, 200);
    return [{ pid, uid, command, visitMs: Math.max(0, now - stat.startTicks * TICK_MS) }];
  });
}

/** Our container's first process, whose parent is as far away as that of a session. */
function firstOf(pid: number, proc: string): number {
  const parent = readStat(pid, proc)?.parent ?? 0;
  return parent === 0 ? pid : firstOf(parent, proc);
}

/**
 * Milliseconds since the machine was started, as /proc counts them. What says so may say too little, never too much:
 * lxcfs puts the container's own age into /proc/uptime, and a shell that execs us has started before us.
 */
function bootMs(ownPid: number, proc: string): number {
  const uptime = Number.parseFloat(textOf(`${proc}/uptime`) ?? '') * 1000 || 0;
  const own = (readStat(ownPid, proc)?.startTicks ?? 0) * TICK_MS + process.uptime() * 1000;
  return proc === '/proc' ? Math.max(uptime, own) : uptime;
}

/**
 * Whether two texts of /proc/PID/cgroup are of one container: the same group in every hierarchy, or one below the other
 * (whatever manages groups in there makes such). The others in a pod that shares its PID namespace have another one;
 * what is outside of our cgroup namespace reads `/../other`. Pure.
 */
export function isOneContainer(ours: string, theirs: string): boolean {
  const [own, other] = [ours, theirs].map((text) => text.split('\n').filter(Boolean));
  if (own === undefined || other === undefined || own.length !== other.length) return false;
  return own.every((line, at) => {
    const their = other[at] ?? '';
    if (line === their) return true;
    return !/\/\.\.(\/|$)/.test(their) && (isBelow(line, their) || isBelow(their, line));
  });
}

function isBelow(line: string, above: string): boolean {
  return line.startsWith(above.endsWith('/') ? above : `${above}/`);
}

function pidsIn(proc: string): number[] {
  return namesIn(proc)
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .sort((one, another) => one - another);
}
