/**
 * Looks at the living command again and again, so that what it was is known when it is gone: the environment it had
 * last, also what its entrypoint script exported before `exec`, and where it stood (user, groups, umask, directory,
 * limits). After its death the kernel keeps none of that.
 *
 * A program is only looked at anew when the kernel has put a new one into the process (the stack begins elsewhere), for
 * many overwrite their own environment with a title (nginx, postgres, redis).
 */
import { closeSync, openSync, readFileSync, readlinkSync, readSync } from 'node:fs';
import { attempt } from '../attempt.ts';
import { steadyMs } from '../clock.ts';
import type { ResourceLimit } from '../container/limits.ts';
import { readResourceLimits } from '../container/limits.ts';
import { parseStat } from '../container/stat.ts';
import { groupsOf, hasEnded, readStatus, userOf } from '../container/status.ts';
import type { User } from '../container/user.ts';
import { asUser } from '../container/user.ts';

/** Where a process stands, beside its environment. */
export interface Standing {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
  readonly umask: number;
  readonly cwd: string;
  readonly limits: readonly ResourceLimit[];
}

export interface SamplerWatchers {
  /** The environment as the kernel has it: NAME=VALUE, each with a NUL at its end. */
  readonly onEnvironment: (bytes: Buffer) => void;
  readonly onStanding: (standing: Standing) => void;
  /** At each look; must cost microseconds. True: something is about to happen, look again soon. */
  readonly onLook?: (() => boolean) | undefined;
}

/**
 * Milliseconds between two looks, by the age of the run: scripts end, and exec, soon. A look takes some 30 us, waking
 * node up for it 200 (measured).
 */
const PACE = [
  { untilMs: 250, everyMs: 5 },
  { untilMs: 2_000, everyMs: 20 },
] as const;
const LATER_EVERY_MS = 200;
const URGENT_EVERY_MS = 50;
const STANDING_EVERY_MS = 1_000;
/** Of a process that only its own user may look at: that takes being that user, with all of node's threads. */
const DENIED_EVERY_MS = 200;

/** Starts looking; returns the way to end it. Never throws, and does not keep node alive. */
export function startSampler(pid: number, watchers: SamplerWatchers): () => void {
  const startedAt = steadyMs();
  let timer: NodeJS.Timeout | undefined;
  let program = '';
  let standing = '';
  let standingAt = Number.NEGATIVE_INFINITY;
  let deniedAt = Number.NEGATIVE_INFINITY;
  let environment: Buffer | undefined;
  const look = openLook(pid);

  const lookAtStanding = (now: number): void => {
    standingAt = now;
    const found = readStanding(pid);
    const text = JSON.stringify(found);
    if (found === undefined || text === standing) return;
    standing = text;
    watchers.onStanding(found);
  };

  const lookAtEnvironment = (now: number): void => {
    let user: User | undefined;
    let seen = look.program();
    if (seen === DENIED) {
      if (now - deniedAt < DENIED_EVERY_MS) return;
      deniedAt = now;
      user = readUser(pid);
      seen = attemptAs(user, look.program);
    }
    if (seen === undefined || seen === DENIED || seen === program) return;
    const bytes = attemptAs(user, () => readFileSync(`/proc/${pid}/environ`));
    if (bytes === undefined || attemptAs(user, look.program) !== seen) return; // in the middle of an exec: the next look has it
    program = seen;
    lookAtStanding(now); // it may have changed with it; before anything is written: the process may end meanwhile
    if (environment !== undefined && bytes.equals(environment)) return;
    environment = bytes;
    watchers.onEnvironment(bytes);
  };

  const tick = (): void => {
    const now = steadyMs();
    lookAtEnvironment(now);
    if (now - standingAt >= STANDING_EVERY_MS) lookAtStanding(now);
    const isUrgent = watchers.onLook?.() === true;
    const age = now - startedAt;
    const paceMs = PACE.find(({ untilMs }) => age < untilMs)?.everyMs ?? LATER_EVERY_MS;
    timer = setTimeout(tick, isUrgent ? Math.min(paceMs, URGENT_EVERY_MS) : paceMs);
    timer.unref();
  };
  tick();
  return () => {
    clearTimeout(timer);
    look.close();
  };
}

const DENIED = 'denied';

/** One descriptor for all looks: it is of the process, whatever program is in it. */
function openLook(pid: number): { program(): string | undefined; close(): void } {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(`/proc/${pid}/stat`, 'r');
  } catch {
    // gone already
  }
  const buffer = Buffer.alloc(2_048);
  return {
    /** A text that is another one after each exec; DENIED: we may not know. Undefined: it is gone. */
    program: () => {
      if (descriptor === undefined) return undefined;
      try {
        const text = buffer.toString('latin1', 0, readSync(descriptor, buffer, 0, buffer.length, 0));
        const stat = parseStat(text);
        if (stat === undefined || stat.state === 'Z' || stat.state === 'X') return undefined;
        const { stackStart, environmentStart } = stat;
        return stackStart === '0' ? DENIED : `${stackStart} ${environmentStart}`; // no addresses for who may not look
      } catch {
        return undefined;
      }
    },
    close: () => {
      if (descriptor !== undefined) closeSync(descriptor);
      descriptor = undefined;
    },
  };
}

/** As somebody who may look there; undefined where it fails, whatever the reason. */
function attemptAs<T>(user: User | undefined, read: () => T): T | undefined {
  return attempt(() => (user === undefined ? read() : asUser(user, read)));
}

/** Whom the kernel compares with who looks. */
function readUser(pid: number): User | undefined {
  const status = readStatus(pid);
  return status && userOf(status);
}

/** Where a living process stands. Undefined: it is gone. */
export function readStanding(pid: number): Standing | undefined {
  const status = readStatus(pid);
  if (status === undefined || hasEnded(status)) return undefined;
  const user = userOf(status);
  const readCwd = (): string => readlinkSync(`/proc/${pid}/cwd`);
  return {
    ...user,
    groups: groupsOf(status),
    umask: Number.parseInt(status.get('Umask') ?? '22', 8),
    cwd: attempt(readCwd) ?? attemptAs(user, readCwd) ?? '/',
    limits: readResourceLimits(pid),
  };
}
