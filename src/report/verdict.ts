/**
 * Facts -> what caused the end, where they decide it. Pure.
 *
 * The rule: a cause is named when the facts leave no other, or when the command itself names it in its last words and the
 * facts agree. What is merely true beside it is noticed, never blamed.
 */

import type { MountSpace } from '../container/space.ts';
import { fullIn, mountOf } from '../container/space.ts';
import type { SignalName } from '../outcome.ts';
import { signalNumber } from '../outcome.ts';
import type { Obstacle } from '../process/resolve.ts';
import type { Facts, Forbidden, PathFacts } from './facts.ts';
import type { Rise, Vanished } from './witness.ts';
import type { Statement } from './words.ts';

export const CAUSES = [
  'oom-killed',
  'child-oom-killed',
  'killed',
  'pids-limit',
  'cpu-throttled',
  'disk-full',
  'inodes-full',
  'read-only',
  'permission',
  'not-found',
  'interpreter-missing',
  'line-ends',
  'loader-missing',
  'wrong-architecture',
  'no-program',
  'library-missing',
  'port-in-use',
  'descriptors',
  'name-not-resolved',
  'stop-ignored',
  'exception',
  'heap-limit',
  'abort',
  'arithmetic',
  'segfault',
  'bus',
  'illegal-instruction',
  'seccomp',
  'cpu-time-limit',
  'file-size-limit',
  'signal',
  'waiting',
  'exit',
  'setup-failed',
  'undecided',
] as const;

export type CauseName = (typeof CAUSES)[number];

export interface Verdict {
  readonly cause: CauseName;
  /**
   * `measured`: the facts decide. `stated`: the command's last words say so, and the facts do not speak against it.
   * Null: nothing is decided.
   */
  readonly certainty: 'measured' | 'stated' | null;
  /** What happened, without the command's name; may hold secrets of it, as everything here, until it is masked. */
  readonly sentence: string;
  readonly evidence: readonly string[];
  /** What to do about it. */
  readonly hint?: string | undefined;
  /** True beside it, and deciding nothing. */
  readonly noticed: readonly string[];
}

type Finding = Omit<Verdict, 'noticed' | 'evidence'> & { readonly evidence?: readonly string[] };

export function findCause(facts: Facts): Verdict {
  const found = find(facts);
  return { ...found, evidence: found.evidence ?? [], noticed: notice(facts, found.cause) };
}

function find(facts: Facts): Finding {
  const { outcome } = facts;
  switch (outcome?.kind) {
    case undefined:
      return ofRunning(facts);
    case 'setup-failed':
      return measured('setup-failed', `the command was not started: ${outcome.reason}`);
    case 'stopped-early':
      return undecided(`a stop (${outcome.signal}) came before the command was started`);
    case 'not-started':
      return ofNotStarted(facts, outcome.reason);
    case 'killed':
      return outcome.signal === 'SIGKILL' ? ofKill(facts) : ofSignal(facts, outcome.signal);
    case 'exited':
      return ofExit(facts, outcome.status);
  }
}

function measured(cause: CauseName, sentence: string, more: Partial<Finding> = {}): Finding {
  return { cause, certainty: 'measured', sentence, ...more };
}

function stated(cause: CauseName, sentence: string, more: Partial<Finding> = {}): Finding {
  return { cause, certainty: 'stated', sentence, ...more };
}

function undecided(sentence: string, more: Partial<Finding> = {}): Finding {
  return { cause: 'undecided', certainty: null, sentence, ...more };
}

// ---- a command that runs -----------------------------------------------------------------------------------------

/** A stop that is not followed for so long is not being worked on. */
const STOP_PATIENCE_MS = 3_000;

function ofRunning(facts: Facts): Finding {
  const { stop, waiting } = facts;
  const { seen } = facts;
  const isPending = stop !== undefined && stop.msAgo >= STOP_PATIENCE_MS;
  const evidence = isPending
    ? [`${stop.signal} was passed on ${seconds(stop.msAgo)} ago, and it still runs`]
    : [];
  const number = stop === undefined ? 0 : signalNumber(stop.signal);
  if (isPending && seen !== undefined && (seen.ignores.includes(number) || seen.blocks.includes(number))) {
    const [verb, mask] = seen.ignores.includes(number) ? ['ignores', 'SigIgn'] : ['blocks', 'SigBlk'];
    return measured('stop-ignored', `it ${verb} the stop (${stop.signal})`, {
      evidence: [...evidence, `${mask} of /proc/${facts.pid}/status has signal ${number}`],
      hint: 'let the entrypoint script exec the server, or tell it in its own way: --stop-signal-map=TERM:QUIT',
    });
  }
  return measured('waiting', `it runs${waiting === undefined ? '' : `: ${describeWaiting(facts)}`}`, {
    evidence: [...evidence, ...waitingEvidence(facts)],
  });
}

const STATES: Readonly<Record<string, string>> = {
  R: 'it is working',
  S: 'it sleeps',
  D: 'it waits for a disk or a network file system, and cannot be interrupted',
  T: 'it is stopped (SIGSTOP, or a debugger)',
  t: 'a debugger holds it',
  Z: 'it has ended, and nobody has asked for its status',
};

function describeWaiting({ waiting }: Facts): string {
  if (waiting === undefined) return '';
  const call = waiting.syscall === undefined ? '' : ` in ${waiting.syscall}`;
  const target = waiting.target === undefined ? '' : ` of ${waiting.target}`;
  return `${STATES[waiting.state] ?? `state ${waiting.state}`}${call}${target}`;
}

function waitingEvidence({ waiting, running }: Facts): readonly string[] {
  if (waiting === undefined) return [];
  const below = running.filter(({ relation }) => relation === 'below');
  return [
    `state ${waiting.state}, ${waiting.threads} thread${waiting.threads === 1 ? '' : 's'}, ${waiting.cpuMs} ms of a processor so far`,
    ...(waiting.wchan === undefined ? [] : [`in the kernel: ${waiting.wchan}`]),
    ...(below.length === 0
      ? []
      : [
          `below it: ${below
            .slice(0, 5)
            .map(({ name, pid }) => `${name} (${pid})`)
            .join(', ')}`,
        ]),
  ];
}

// ---- never started -----------------------------------------------------------------------------------------------

const OBSTACLE_CAUSES: Readonly<Record<Obstacle, CauseName>> = {
  missing: 'not-found',
  permission: 'permission',
  'interpreter-missing': 'interpreter-missing',
  'line-ends': 'line-ends',
  'loader-missing': 'loader-missing',
  'wrong-architecture': 'wrong-architecture',
  'no-program': 'no-program',
};

const OBSTACLE_HINTS: Readonly<Partial<Record<Obstacle, string>>> = {
  'line-ends': "make its line ends Unix's: sed -i 's/\\r$//' FILE, and a .gitattributes with *.sh eol=lf",
  'loader-missing': 'build it for the libc of this image, or statically (CGO_ENABLED=0, -static)',
  'wrong-architecture': 'build or pull for this platform: docker build --platform',
  permission: 'chmod +x it, or run as the user it belongs to',
};

function ofNotStarted({ obstacle }: Facts, reason: string): Finding {
  if (obstacle === undefined) return undecided(`it could not be started: ${reason}`);
  const { why } = obstacle;
  return measured(OBSTACLE_CAUSES[why], obstacle.reason, { hint: OBSTACLE_HINTS[why] });
}

// ---- killed ------------------------------------------------------------------------------------------------------

/** From the OOM killer's stroke to the end of whom it struck, giving back its memory included. */
const STROKE_MS = 1_000;

/** So much may have been used since the last look. */
const CPU_LOOK_MS = 300;

function ofKill(facts: Facts): Finding {
  const { witnessed, counters } = facts;
  const kills = counters.risen.oomKills;
  const stroke = witnessed?.oomKill;
  const others = likelyVictims(facts);
  if (stroke !== undefined && stroke.msBeforeEnd <= STROKE_MS && others.length < stroke.timesLately) {
    return measured('oom-killed', `the kernel's OOM killer ended it${limitWords(facts)}`, {
      evidence: memoryEvidence(facts),
      hint: 'give the container more memory (docker run -m), or find what it keeps',
    });
  }
  // Without a witness (it lived too short to be sampled): the counter alone, when nobody else was there.
  if (witnessed === undefined && kills !== undefined && kills > 0) {
    return measured('oom-killed', `the kernel's OOM killer ended it${limitWords(facts)}`, {
      evidence: memoryEvidence(facts),
    });
  }
  const timeLimit = limitOf(facts, 'Max cpu time');
  const used = witnessed?.cpuMs ?? 0;
  if (timeLimit !== undefined && used >= 500 * timeLimit) {
    const evidence = [`${seconds(used)} of a processor when last looked at, ulimit -t ${timeLimit}`];
    return used >= 1_000 * timeLimit - CPU_LOOK_MS
      ? measured(
          'cpu-time-limit',
          'it has used up its CPU time (ulimit -t), for which the kernel sends KILL',
          { evidence },
        )
      : undecided('it got KILL, of somebody or because its CPU time (ulimit -t) was used up', { evidence });
  }
  if (kills === undefined) {
    return undecided(
      'it got KILL; whether of the OOM killer cannot be told: this cgroup has no oom_kill to read',
    );
  }
  return measured('killed', 'somebody sent it KILL; the OOM killer did not', {
    evidence: [
      kills === 0
        ? 'oom_kill of its cgroup has not risen'
        : `oom_kill rose ${stroke === undefined ? '' : `${seconds(stroke.msBeforeEnd)} `}before, for another process`,
    ],
    hint: 'look for kill -9, a supervisor or a watchdog in the container, or a timeout that ran out',
  });
}

/** Those that the OOM killer may have struck instead of the command. */
function otherVictims({ witnessed }: Facts): readonly Vanished[] {
  return (witnessed?.vanished ?? []).filter(({ relation }) => relation !== 'command');
}

/** The OOM killer takes the largest: who was small has ended by itself just then. Largest first. */
function likelyVictims(facts: Facts): readonly Vanished[] {
  const limit = facts.counters.after?.memory.limitBytes ?? 0;
  return otherVictims(facts)
    .filter(({ residentBytes }) => residentBytes > 0 && residentBytes >= LARGE_SHARE * limit)
    .toSorted((one, other) => other.residentBytes - one.residentBytes);
}

const LARGE_SHARE = 0.1;

function limitWords({ counters }: Facts): string {
  const limit = counters.after?.memory.limitBytes;
  return limit === undefined ? '' : `: the container's memory limit is ${bytes(limit)}`;
}

function memoryEvidence({ counters, witnessed }: Facts): readonly string[] {
  const { memory } = counters.after ?? {};
  const stroke = witnessed?.oomKill;
  return [
    `oom_kill of its cgroup rose by ${counters.risen.oomKills ?? stroke?.times}${stroke === undefined ? '' : `, ${seconds(stroke.msBeforeEnd)} before the end`}`,
    ...(memory?.peakBytes === undefined
      ? []
      : [
          `memory peak of the container: ${bytes(memory.peakBytes)}${memory.limitBytes === undefined ? '' : ` of ${bytes(memory.limitBytes)}`}`,
        ]),
    ...(witnessed?.mostResidentBytes === undefined
      ? []
      : [`the command itself was seen with ${bytes(witnessed.mostResidentBytes)}`]),
  ];
}

/** What each signal is for. Anybody may send any of them: who did is not told. */
const SIGNAL_CAUSES: Readonly<Partial<Record<SignalName, readonly [CauseName, string]>>> = {
  SIGABRT: [
    'abort',
    'it ended by SIGABRT, by which a program gives up itself: an assertion, an uncaught C++ exception, a damaged heap',
  ],
  SIGFPE: ['arithmetic', 'it ended by SIGFPE, the signal for an integer division by zero or an overflow'],
  SIGSEGV: ['segfault', 'it ended by SIGSEGV, the signal for the use of memory that is not its own'],
  SIGBUS: [
    'bus',
    'it ended by SIGBUS, the signal for a mapped file that was cut short or has no room, and for misaligned addresses',
  ],
  SIGILL: [
    'illegal-instruction',
    'it ended by SIGILL, the signal for an instruction that this processor does not have, and for deliberate traps',
  ],
  SIGSYS: ['seccomp', 'it ended by SIGSYS, the signal for a system call that the seccomp profile forbids'],
  SIGXCPU: ['cpu-time-limit', 'it ended by SIGXCPU, the signal for a used up CPU time limit (ulimit -t)'],
  SIGXFSZ: [
    'file-size-limit',
    'it ended by SIGXFSZ, the signal for a file that grew beyond the size limit (ulimit -f)',
  ],
};

function ofSignal(facts: Facts, signal: SignalName): Finding {
  const heap = claimOf(facts, 'heap-limit');
  if (signal === 'SIGABRT' && heap !== undefined) return ofHeap(heap);
  const { exception } = facts.words ?? {};
  if (signal === 'SIGABRT' && exception !== undefined) return ofException(facts);
  const [cause, sentence] = SIGNAL_CAUSES[signal] ?? [
    'signal' as const,
    `it ended by ${signal}, and no stop came through the entrypoint`,
  ];
  const line = facts.words?.line;
  const quoted = line === undefined || cause === 'signal' ? [] : [`its last words: ${line}`];
  const fullShm = facts.mounts.filter((mount) => mount.type === 'tmpfs' && fullIn(mount) !== undefined);
  const full = signal === 'SIGBUS' ? fullShm.map(({ point }) => `${point} is full`) : [];
  return measured(cause, sentence, {
    evidence: [...quoted, ...full],
    hint: hintOfSignal(facts, signal, fullShm),
  });
}

function hintOfSignal(
  { core }: Facts,
  signal: SignalName,
  fullShm: readonly MountSpace[],
): string | undefined {
  if (signal === 'SIGBUS' && fullShm.some(({ point }) => point === '/dev/shm'))
    return 'docker run --shm-size=256m';
  if (signal === 'SIGSYS') return 'docker run --security-opt seccomp=PROFILE.json, or unconfined to be sure';
  return core === undefined ? undefined : core.open;
}

// ---- exited ------------------------------------------------------------------------------------------------------

function ofExit(facts: Facts, status: number): Finding {
  return (
    ofChildKilled(facts, status) ??
    ofMissing(facts, status) ??
    ofForks(facts) ??
    ofStatements(facts, status) ??
    ofThrottling(facts, status) ??
    (facts.words?.exception === undefined ? undefined : ofException(facts)) ??
    ofShellsWord(facts, status) ??
    ofLastWords(facts, status)
  );
}

/** The parent had so long to end of it; longer where it says that it did. */
const PARENT_MS = 1_000;
const TELLING_PARENT_MS = 2_000;

/** After the stroke it spoke of something else, or said that it goes on. */
function spokeOfElse({ words }: Facts, stroke: Rise): boolean {
  if (words?.line === undefined) return false;
  if (SURVIVES.test(words.line)) return true;
  const isAfter = words.msBeforeEnd === undefined || words.msBeforeEnd <= stroke.msBeforeEnd;
  return isAfter && !OF_A_DEATH.test(words.line);
}

const SURVIVES = /respawn|restart|\bretry|\bignor(ed|ing)\b|\bcontinu(e|ing)\b/i;
const OF_A_DEATH =
  /\bkill|\boom\b|memory|\b(9|137)\b|\b(worker|child|subprocess|process|job)\b.*\b(died|dead|lost|gone|exited|ended|failed|crashed|terminated|status|code|signal)\b|Command failed|non-zero|npm (ERR!|error)|\*\*\* .*\bError \d+$/i;

function ofChildKilled(facts: Facts, status: number): Finding | undefined {
  const stroke = facts.witnessed?.oomKill;
  if (stroke === undefined) return undefined;
  const [victim] = likelyVictims(facts);
  // From outside came a docker exec; an orphan may be anybody's.
  const isItsOwn = victim !== undefined && likelyVictims(facts).every(({ relation }) => relation === 'below');
  // A shell says 128+9, or "Killed", for a child that died of KILL, and nobody else was seen to go.
  const isTold = status === 128 + 9 || /(^|\s)Killed(\s|$)/.test(facts.words?.line ?? '');
  if (stroke.msBeforeEnd > (isTold ? TELLING_PARENT_MS : PARENT_MS)) return undefined;
  if (!isTold && spokeOfElse(facts, stroke)) return undefined;
  const isSaid = isTold && victim === undefined && stroke.msBeforeEnd <= STROKE_MS;
  if (!isItsOwn && !isSaid) return undefined;
  const who =
    victim === undefined || !isItsOwn
      ? 'a process that it ran'
      : `its child ${victim.name} (pid ${victim.pid})`;
  const seen =
    isItsOwn && victim !== undefined && victim.residentBytes > 0
      ? [`${victim.name} was last seen with ${bytes(victim.residentBytes)}`]
      : [];
  return measured(
    'child-oom-killed',
    `the kernel's OOM killer ended ${who}, and then it exited${limitWords(facts)}`,
    {
      evidence: [...memoryEvidence(facts).slice(0, 2), ...seen],
      hint: 'give the container more memory (docker run -m), or find what the child keeps',
    },
  );
}

/** 127 of a loader or of env(1) before the program itself could say a word. */
const LOADER_MS = 3_000;

function ofMissing(facts: Facts, status: number): Finding | undefined {
  if (status !== 127 || facts.durationMs > LOADER_MS) return undefined;
  const [missing] = facts.libraries;
  if (missing !== undefined) {
    const names = facts.libraries.map(({ name }) => name).join(', ');
    return measured(
      'library-missing',
      `the shared library ${names} is not there, which ${missing.neededBy} needs`,
      {
        evidence: [`none of that name in LD_LIBRARY_PATH, RUNPATH, the loader's cache and its folders`],
        hint: 'install the package that brings it, or copy it beside the others',
      },
    );
  }
  if (facts.missingForEnv === undefined) return undefined;
  return measured(
    'interpreter-missing',
    `its first line asks env for ${facts.missingForEnv}, which is not in PATH`,
  );
}

function ofForks(facts: Facts): Finding | undefined {
  const { witnessed, counters } = facts;
  const refusal = witnessed?.pidsLimit;
  if (refusal === undefined || refusal.msBeforeEnd > STROKE_MS) return undefined;
  const then = witnessed?.threadsThen;
  const saysSo = claimOf(facts, 'fork-refused') !== undefined;
  // Somebody who came by docker exec can have taken them all, or have been the one refused.
  if (!saysSo && (then === undefined || then.outside > 0)) return undefined;
  const limit = counters.after?.pids.limit;
  return measured(
    'pids-limit',
    `the limit of processes${limit === undefined ? '' : ` (${limit})`} was reached: a new process or thread was refused`,
    {
      evidence: [
        `pids.events of its cgroup rose by ${refusal.times}, the last time ${seconds(refusal.msBeforeEnd)} before the end`,
        ...(then === undefined ? [] : [`it and all below it had ${then.command} threads then`]),
      ],
      hint: 'docker run --pids-limit, or find what does not end its children',
    },
  );
}

/** The latest claim that the facts agree with. */
function ofStatements(facts: Facts, status: number): Finding | undefined {
  for (const statement of facts.words?.statements ?? []) {
    const finding = ofStatement(facts, statement, status);
    if (finding !== undefined)
      return { ...finding, evidence: [`it said: ${statement.line}`, ...(finding.evidence ?? [])] };
  }
  return undefined;
}

function ofStatement(facts: Facts, { claim }: Statement, status: number): Finding | undefined {
  switch (claim.kind) {
    case 'port-in-use':
      return ofPort(facts, claim.port);
    case 'disk-full':
      return ofDisk(facts, claim.path);
    case 'read-only':
      return ofReadOnly(facts, claim.path);
    case 'permission':
      return ofPermission(facts, claim.path);
    case 'descriptors':
      return ofDescriptors(facts);
    case 'name-not-resolved':
      return ofName(facts, claim.name);
    case 'library-missing':
      if (facts.named.libraries.find(({ name }) => name === claim.name)?.isThere !== false) return undefined;
      return stated('library-missing', `the shared library ${claim.name} is not there`, {
        evidence: [`none of that name in LD_LIBRARY_PATH, the loader's cache and its folders`],
      });
    case 'not-found':
      return ofProgram(facts, claim.name, status);
    case 'heap-limit':
      return ofHeap({ claim, line: '' });
    case 'fork-refused':
    case 'timeout':
      return undefined; // decided by the counters
  }
}

function claimOf(facts: Facts, kind: Statement['claim']['kind']): Statement | undefined {
  return facts.words?.statements.find(({ claim }) => claim.kind === kind);
}

function ofPort({ listeners }: Facts, port: number | undefined): Finding | undefined {
  const holder = listeners.find((listener) => listener.port === port);
  if (port === undefined || holder === undefined) return undefined;
  const who =
    holder.pid === undefined
      ? 'a process that we may not see'
      : `${holder.name ?? 'a process'} (pid ${holder.pid})`;
  return stated('port-in-use', `port ${port} is in use, by ${who}`, {
    evidence: [`${who} listens on ${holder.address}:${port} now`],
  });
}

function ofDisk(facts: Facts, path: string | undefined): Finding | undefined {
  const named = pathOf(facts, path);
  const candidates =
    named === undefined ? distinct(facts.mounts) : facts.mounts.filter(({ point }) => point === named.mount);
  const full = candidates.filter((mount) => fullIn(mount) !== undefined);
  const [first] = full;
  if (first === undefined) return undefined;
  const what = fullIn(first) === 'inodes' ? 'inodes' : 'bytes';
  const points = full.map(({ point }) => point).join(', ');
  return stated(
    what === 'inodes' ? 'inodes-full' : 'disk-full',
    `${points} is full${what === 'inodes' ? ': no inode is left, though there is room' : ''}`,
    {
      evidence: full.map(describeSpace),
    },
  );
}

function ofReadOnly(facts: Facts, path: string | undefined): Finding | undefined {
  const named = pathOf(facts, path);
  const mount = named === undefined ? undefined : mountOf(named.path, facts.mounts);
  if (named === undefined || mount?.isReadOnly !== true) return undefined;
  return stated('read-only', `${named.path} cannot be written: ${mount.point} is mounted read-only`, {
    evidence: [`${mount.point} (${mount.type}) is mounted ro`],
    hint: `docker run --tmpfs or --volume for what it writes, or without --read-only`,
  });
}

function ofPermission(facts: Facts, path: string | undefined): Finding | undefined {
  const named = pathOf(facts, path);
  if (named?.forbidden === undefined) return undefined;
  const { uid, gid } = facts.user;
  return stated('permission', `uid ${uid} may not use ${named.path}`, {
    evidence: [describeForbidden(named.forbidden, uid)],
    hint: `chown ${uid}:${gid} it in the image, or run as the user it belongs to (docker run --user)`,
  });
}

function describeForbidden({ path, what, mode, uid, gid }: Forbidden, user: number): string {
  return `${path} has mode ${mode.toString(8).padStart(4, '0')} and belongs to ${uid}:${gid}: uid ${user} may not ${what} it`;
}

function ofDescriptors(facts: Facts): Finding | undefined {
  const seen = facts.witnessed?.descriptors;
  const limit = limitOf(facts, 'Max open files');
  if (seen === undefined || limit === undefined) return undefined;
  // What was seen speaks against it, unless it happened between two looks.
  if (seen.most < 0.8 * limit && !(seen.lastMsBeforeEnd > 500 || facts.durationMs < 1_000)) return undefined;
  if (seen.most < 0.5 * limit && limit > 4_096) return undefined;
  return stated('descriptors', `it ran out of file descriptors (ulimit -n ${limit})`, {
    evidence: seen.most >= 0.8 * limit ? [`${seen.most} of ${limit} were seen open`] : [],
    hint: 'docker run --ulimit nofile=65536, or find what is not closed',
  });
}

function ofName({ names }: Facts, name: string | undefined): Finding | undefined {
  if (name !== undefined && names.hosts.includes(name.toLowerCase())) return undefined;
  const { nameservers } = names;
  const unreachable = nameservers.filter(({ hasRoute }) => hasRoute === false);
  const cannot = unreachable.length === nameservers.length;
  if (name === undefined && !cannot) return undefined;
  const evidence =
    nameservers.length === 0
      ? ['/etc/resolv.conf names no nameserver']
      : [
          `nameserver ${nameservers.map(({ address }) => address).join(', ')}${cannot ? ': there is no route to it' : ''}`,
        ];
  return stated('name-not-resolved', `the name ${name ?? 'that it asked for'} could not be resolved`, {
    evidence: [...evidence, ...(name === undefined ? [] : [`${name} is not in /etc/hosts`])],
  });
}

function ofProgram(facts: Facts, name: string, status: number): Finding | undefined {
  const blocked = facts.named.programs.find((program) => program.name === name)?.blocked;
  if (blocked === undefined || ![126, 127, 1, 2].includes(status)) return undefined;
  return stated(OBSTACLE_CAUSES[blocked.why], blocked.reason, { hint: OBSTACLE_HINTS[blocked.why] });
}

function ofHeap({ line }: Statement): Finding {
  return stated('heap-limit', 'its runtime reached its own heap limit, not that of the container', {
    evidence: line === '' ? [] : [`it said: ${line}`],
    hint: 'NODE_OPTIONS=--max-old-space-size=MB, or -Xmx for Java; or find what it keeps',
  });
}

/** Of the periods, and of the run time. */
const THROTTLED_SHARE = 0.4;
const THROTTLED_TIME_SHARE = 0.25;

function ofThrottling(facts: Facts, status: number): Finding | undefined {
  const { periods, throttledPeriods } = facts.counters.risen;
  if (!isThrottled(facts)) return undefined;
  const timeout = claimOf(facts, 'timeout');
  if (timeout === undefined && status !== 124) return undefined;
  return stated('cpu-throttled', 'time ran out while the CPU limit held it back', {
    evidence: [
      timeout === undefined ? 'status 124 is that of timeout(1)' : `it said: ${timeout.line}`,
      `throttled in ${throttledPeriods} of ${periods} periods`,
    ],
    hint: 'docker run --cpus',
  });
}

function isThrottled({ counters, durationMs }: Facts): boolean {
  const { periods = 0, throttledPeriods = 0, throttledMs = 0 } = counters.risen;
  return (
    periods >= 5 &&
    throttledPeriods >= THROTTLED_SHARE * periods &&
    throttledMs >= THROTTLED_TIME_SHARE * durationMs
  );
}

function ofException(facts: Facts): Finding {
  const { runtime, line, place } = facts.words?.exception ?? { runtime: 'Node', line: '', place: undefined };
  const name = runtime === 'Go' || runtime === 'Rust' ? 'panic' : 'exception';
  return stated('exception', `${runtime}: an uncaught ${name}: ${line}`, {
    evidence: place === undefined ? [] : [`at ${place}`],
  });
}

const SHELL_WORDS: readonly (readonly [SignalName, RegExp])[] = [
  ['SIGSEGV', /Segmentation fault/],
  ['SIGABRT', /Aborted/],
  ['SIGFPE', /Floating point exception|Arithmetic exception/],
  ['SIGBUS', /Bus error/],
  ['SIGILL', /Illegal instruction/],
  ['SIGSYS', /Bad system call/],
  ['SIGXCPU', /CPU time limit exceeded/],
  ['SIGXFSZ', /File size limit exceeded/],
];

/** A shell that reports how its child died, in words and in its status. */
function ofShellsWord({ words }: Facts, status: number): Finding | undefined {
  const line = words?.line;
  const [signal] =
    SHELL_WORDS.find(([name, word]) => status === 128 + signalNumber(name) && word.test(line ?? '')) ?? [];
  const [cause, sentence] = (signal && SIGNAL_CAUSES[signal]) ?? [];
  if (cause === undefined || sentence === undefined) return undefined;
  return stated(cause, `what it ran ended: ${sentence.replace(/^it ended by/, 'by')}`, {
    evidence: [`it said: ${line}`],
  });
}

function ofLastWords({ words, output }: Facts, status: number): Finding {
  if (words?.line !== undefined)
    return stated('exit', `it exited with status ${status}; its last words: ${words.line.trim()}`);
  const signal = status > 128 && status <= 128 + 31;
  const said =
    output === undefined
      ? 'what it said was not recorded (that takes DEBUG=stayalive,record, and room in the state directory)'
      : 'it said nothing near its end';
  return undecided(`it exited with status ${status} by itself, and the facts decide nothing; ${said}`, {
    evidence: signal
      ? [
          `${status} is what a shell says of a child that died of signal ${status - 128}; a program can say it too`,
        ]
      : [],
  });
}

// ---- noticed -----------------------------------------------------------------------------------------------------

function notice(facts: Facts, cause: CauseName): readonly string[] {
  const { witnessed, counters, names } = facts;
  const { after, risen } = counters;
  const noticed: string[] = [];
  const kills = witnessed?.oomKill;
  if (
    !['oom-killed', 'child-oom-killed'].includes(cause) &&
    (kills !== undefined || (risen.oomKills ?? 0) > 0)
  ) {
    noticed.push(
      `the OOM killer struck ${times(kills?.times ?? risen.oomKills ?? 1)}${agoOf(kills)}${victimsOf(facts)}`,
    );
  }
  if (cause !== 'pids-limit' && (risen.pidsLimitHits ?? 0) > 0) {
    noticed.push(
      `a fork was refused by the limit of processes (${after?.pids.limit})${agoOf(witnessed?.pidsLimit)}`,
    );
  }
  if (cause !== 'disk-full' && cause !== 'inodes-full') {
    const full = distinct(facts.mounts).filter((mount) => fullIn(mount) !== undefined);
    noticed.push(...full.map((mount) => `full: ${describeSpace(mount)}`));
  }
  if (cause !== 'cpu-throttled' && isThrottled(facts)) {
    noticed.push(`the CPU limit held it back in ${risen.throttledPeriods} of ${risen.periods} periods`);
  }
  const limit = limitOf(facts, 'Max open files');
  const most = witnessed?.descriptors?.most;
  if (cause !== 'descriptors' && limit !== undefined && most !== undefined && most >= 0.9 * limit) {
    noticed.push(`${most} of ${limit} file descriptors were open`);
  }
  const unreachable =
    names.nameservers.length > 0 && names.nameservers.every(({ hasRoute }) => hasRoute === false);
  if (cause === 'exit' && unreachable && OF_NAMES.test(facts.words?.line ?? ''))
    noticed.push('there is no route to any nameserver');
  if (cause === 'exit') noticed.push(...overruledWords(facts));
  return noticed;
}

const OF_NAMES =
  /resolv|getaddrinfo|ENOTFOUND|EAI_|\blookup\b|\bDNS\b|nameserver|name or service|name resolution|unknown ?host|host(name)? not found|bad address/i;

/** What it had said before its last words, where the facts agree with it. */
function overruledWords(facts: Facts): readonly string[] {
  const status = facts.outcome?.kind === 'exited' ? facts.outcome.status : 0;
  return (facts.words?.overruled ?? []).flatMap((statement) => {
    const finding = ofStatement(facts, statement, status);
    return finding === undefined ? [] : [`before that it said: ${statement.line} (${finding.sentence})`];
  });
}

function times(count: number): string {
  return count === 1 ? 'once' : `${count} times`;
}

function agoOf(rise: Rise | undefined): string {
  return rise === undefined ? '' : `, last ${seconds(rise.msBeforeEnd)} before the end`;
}

function victimsOf(facts: Facts): string {
  const victims = likelyVictims(facts);
  const names = victims
    .slice(0, 3)
    .map(
      ({ name, pid, relation }) => `${name} (pid ${pid}${relation === 'outside' ? ', from outside' : ''})`,
    );
  return names.length === 0 ? '' : `; gone since: ${names.join(', ')}`;
}

// ---- words -------------------------------------------------------------------------------------------------------

function pathOf({ named }: Facts, said: string | undefined): PathFacts | undefined {
  return said === undefined ? undefined : named.paths.find((path) => path.said === said);
}

/** Mounts of one device share their room: the first of each. */
function distinct(mounts: readonly MountSpace[]): readonly MountSpace[] {
  return mounts.filter((mount, at) => mounts.findIndex(({ device }) => device === mount.device) === at);
}

function describeSpace({ point, type, space }: MountSpace): string {
  if (space === undefined) return `${point} (${type})`;
  const inodes = space.inodes === 0 ? '' : `, ${space.freeInodes} of ${space.inodes} inodes`;
  return `${point} (${type}) has ${bytes(space.freeBytes)} of ${bytes(space.sizeBytes)} free${inodes}`;
}

/** The soft limit, as a number; undefined: none, or not known. */
function limitOf({ limits }: Facts, name: string): number | undefined {
  const soft = Number(limits.find((limit) => limit.name === name)?.soft);
  return Number.isFinite(soft) ? soft : undefined;
}

export function bytes(count: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value < 10 && unit > 0 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

export function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(ms < 100 ? 2 : 1)} s`;
}
