/**
 * A look at a process for people: what it waits for first, then one subject after the other. Pure.
 */
import { showCommand, showDuration } from '../report/banner.ts';
import type { Descriptor } from './descriptors.ts';
import type { Dump, DumpThread } from './dump.ts';
import { STATES } from './threads.ts';
import { waitOf } from './waits.ts';
import { describeDescriptor, few, plain, showBytes } from './words.ts';

/** @param all every thread, descriptor, mapped file and variable; else the first few of each */
export function dumpLines(dump: Dump, all = false): readonly string[] {
  return [
    `pid ${dump.pid} (${plain(dump.name)}) ${dump.waits}`,
    ...describeProcess(dump),
    ...describeThreads(dump, all),
    ...describeSignals(dump),
    ...describeOpen(dump, all),
    ...describeLimits(dump),
    ...describeMemory(dump, all),
    ...describeCgroup(dump),
    ...describeDescendants(dump, all),
    ...describeEnvironment(dump, all),
    ...describeRuntime(dump),
    ...describeUnread(dump),
  ];
}

function describeUnread({ unread }: Dump): string[] {
  const reasons = [...new Set(unread.map(({ why }) => why))];
  return reasons.map((reason) => {
    const what = unread.filter(({ why }) => why === reason).map((one) => one.what);
    return `cannot be read: ${what.join(', ')} (${reason})`;
  });
}

function mostOf(all: boolean, most: number): number {
  return all ? Number.POSITIVE_INFINITY : most;
}

function describeProcess(dump: Dump): string[] {
  const { argv, parent, processor, ranSeconds, tracer } = dump;
  const ran = ranSeconds === null ? '' : `, started ${showDuration(ranSeconds * 1000)} ago`;
  const line = argv === null ? '(none to be read)' : plain(showCommand(argv, (text) => text));
  return [
    `command: ${line}`,
    ...describePlaces(dump),
    `process: ${STATES[dump.state] ?? dump.state} (${dump.state}), uid ${dump.uid}, gid ${dump.gid}, ${parent.pid === 0 ? 'no parent that can be seen' : `parent ${parent.pid} (${plain(parent.name ?? '?')})`}${ran}${tracer === null ? '' : `, traced by pid ${tracer.pid}`}`,
    `processor: ${processor.percent} % of a core over ${processor.sampledMs} ms, ${processor.seconds} s so far`,
  ];
}

/** A zombie has none. */
function describePlaces({ executable, directory, root }: Dump): string[] {
  const places = Object.entries({ file: executable, directory, root });
  const known = places.flatMap(([what, path]) => (path === null ? [] : [`${what}: ${plain(path)}`]));
  return known.length === 0 ? [] : [known.join(', ')];
}

const MOST_GROUPS = 8;
const MOST_THREADS = 8;

/** Threads that do the same are one line. */
function describeThreads(dump: Dump, all: boolean): string[] {
  const { threads } = dump;
  const groups = new Map<string, DumpThread[]>();
  for (const thread of threads) {
    const key = `${thread.state} ${waitOf(thread, dump)}`;
    const known = groups.get(key);
    if (known === undefined) groups.set(key, [thread]);
    else known.push(thread);
  }
  const sorted = [...groups.values()].sort(
    (one, other) =>
      Number(holdsMain(other, dump)) - Number(holdsMain(one, dump)) || other.length - one.length,
  );
  const shown = sorted.slice(0, mostOf(all, MOST_GROUPS));
  const more = sorted.length - shown.length;
  return [
    `threads: ${threads.length}`,
    ...shown.flatMap((group) => describeGroup(group, dump, all)),
    ...(more > 0 ? [`  and ${more} more kinds of waiting: --all shows them`] : []),
  ];
}

function holdsMain(group: readonly DumpThread[], { pid }: Dump): boolean {
  return group.some(({ tid }) => tid === pid);
}

function describeGroup(group: readonly DumpThread[], dump: Dump, all: boolean): string[] {
  const [first] = group;
  if (first === undefined) return [];
  const names = few(
    group.map(({ tid, name, percent }) => `${tid} (${plain(name)})${percent > 0 ? ` ${percent} %` : ''}`),
    mostOf(all, group.length > MOST_THREADS ? 3 : MOST_THREADS),
  );
  const count = group.length === 1 ? '' : `${group.length} `;
  const wchan = first.wchan === null ? '' : ` [${first.wchan}]`;
  // where the call says it all, the kernel's stack only repeats it
  const isTelling = all || first.state === 'D' || first.call === null;
  const kernel = isTelling ? (first.kernelStack ?? []).slice(0, mostOf(all, 6)) : [];
  const stack = kernel.length === 0 ? [] : [`    kernel: ${kernel.join(' < ')}`];
  return [`  ${count}${first.state} ${waitOf(first, dump)}${wchan}: ${names}`, ...stack];
}

function describeSignals({ signals }: Dump): string[] {
  const parts = Object.entries(signals)
    .filter(([, names]) => names.length > 0)
    .map(([how, names]) => `${how} ${shortNames(names)}`);
  return [`signals: ${parts.join('; ') || 'none pending, blocked, ignored or caught'}`];
}

/** Without SIG; a long list by what is missing in it. */
function shortNames(names: readonly string[]): string {
  const short = names.map((name) => name.replace(/^SIG/, ''));
  return short.length > 40 ? `${short.length} of 64` : short.join(' ');
}

const MOST_DESCRIPTORS = 24;
/** From here on it is said that there is little left. */
const NEARLY = 0.8;

function describeOpen(dump: Dump, all: boolean): string[] {
  const { descriptors, limits, pid } = dump;
  const limit = limits.find(({ name }) => name === 'Max open files');
  if (descriptors === null) return [];
  if (descriptors.length === 0) return ['open files: none'];
  const of = limit === undefined ? '' : ` of ${limit.soft}`;
  const isNear = descriptors.length >= NEARLY * Number(limit?.soft ?? Number.NaN);
  const shown = descriptors.slice(0, mostOf(all, MOST_DESCRIPTORS));
  const more = descriptors.length - shown.length;
  return [
    `open files: ${descriptors.length}${of}${isNear ? ', NEARLY ALL THAT ARE ALLOWED' : ''}: ${countKinds(descriptors)}`,
    ...shown.map((one) => `  ${one.fd} ${accessOf(one)} ${describeDescriptor(one, pid)}`),
    ...(more > 0 ? [`  and ${more} more: --all shows them`] : []),
  ];
}

function accessOf({ canRead, canWrite }: Descriptor): string {
  return canRead && canWrite ? 'rw' : canRead ? 'r ' : canWrite ? 'w ' : '- ';
}

function countKinds(descriptors: readonly Descriptor[]): string {
  const counts = new Map<string, number>();
  for (const { kind, socket } of descriptors) {
    const name = kind === 'socket' ? `socket|${socket?.kind ?? ''} ${socket?.state ?? 'unlisted'}` : kind;
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  const sorted = [...counts].sort(([, one], [, other]) => other - one);
  return few(
    sorted.map(([name, count]) => {
      const [kind = '', state] = name.split('|');
      return `${count} ${PLURALS[kind]?.[Number(count > 1)] ?? kind}${state === undefined ? '' : ` ${state}`}`;
    }),
    8,
  );
}

const PLURALS: Readonly<Record<string, readonly [string, string]>> = {
  ...{ file: ['file', 'files'], device: ['device', 'devices'], terminal: ['on a terminal', 'on terminals'] },
  ...{ pipe: ['pipe', 'pipes'], socket: ['socket', 'sockets'], epoll: ['epoll', 'epolls'] },
  ...{
    eventfd: ['eventfd', 'eventfds'],
    timerfd: ['timerfd', 'timerfds'],
    memory: ['memory file', 'memory files'],
  },
};

/** The limits that explain hangs and failures, in bytes and seconds as the kernel has them; the others are in the JSON. */
const SHOWN_LIMITS: Readonly<Record<string, string>> = {
  'Max open files': 'open files',
  'Max processes': 'processes',
  'Max core file size': 'core file',
  'Max stack size': 'stack',
  'Max address space': 'address space',
  'Max cpu time': 'cpu time',
  'Max locked memory': 'locked memory',
};

function describeLimits({ limits }: Dump): string[] {
  const shown = limits.flatMap(({ name, soft, hard }) => {
    const called = SHOWN_LIMITS[name];
    const inBytes = /size|space|memory/.test(name);
    const [now, most] = [soft, hard].map((value) => (inBytes ? showLimit(value) : value));
    return called === undefined ? [] : [`${called} ${now === most ? now : `${now} of ${most}`}`];
  });
  return shown.length === 0 ? [] : [`limits: ${shown.join(', ')}`];
}

function showLimit(value: string): string {
  return /^[1-9]\d*$/.test(value) ? showBytes(Number(value)) : value;
}

const MOST_FILES = 5;

function describeMemory({ memory, mapped }: Dump, all: boolean): string[] {
  const { resident, anonymous, ofFiles, shared, swapped, peakResident, virtual } = memory;
  if (resident === undefined) return [];
  const say = (bytes: number | undefined, what: string) =>
    bytes === undefined || bytes === 0 ? [] : [`${showBytes(bytes)} ${what}`];
  const parts = [
    ...say(anonymous, 'anonymous'),
    ...say(ofFiles, 'of files'),
    ...say(shared, 'shared'),
    ...say(swapped, 'swapped out'),
  ];
  const first = `memory: ${showBytes(resident)} resident (${parts.join(', ')}), at most ${showBytes(peakResident ?? resident)} so far, ${showBytes(virtual ?? 0)} of addresses`;
  if (mapped === null) return [first];
  const files = mapped.files
    .slice(0, mostOf(all, MOST_FILES))
    .map(({ path, bytes }) => `${plain(path)} ${showBytes(bytes)}`);
  const space = [
    ...say(mapped.heap, 'heap'),
    ...say(mapped.stacks, 'stacks'),
    ...say(mapped.anonymous, 'anonymous'),
  ];
  return [
    first,
    `  addresses: ${mapped.mappings} mappings, ${space.join(', ')}; ${mapped.files.length} files${files.length === 0 ? '' : `, the biggest: ${files.join(', ')}`}`,
  ];
}

function describeCgroup({ cgroup }: Dump): string[] {
  if (cgroup.version === undefined) return ['cgroup: cannot be read'];
  const { memoryBytes, memoryLimitBytes, pids, pidsLimit, cpuLimit, throttledTimes, throttledMs, oomKills } =
    cgroup;
  const of = (value: string | undefined, limit: string | undefined) =>
    `${value ?? '?'} of ${limit ?? 'no limit'}`;
  const bytes = (value: number | undefined) => (value === undefined ? undefined : showBytes(value));
  const throttled =
    throttledTimes === undefined || throttledTimes === 0
      ? ''
      : ` (throttled ${throttledTimes} times, ${showDuration(throttledMs ?? 0)} in all)`;
  return [
    `cgroup v${cgroup.version}: memory ${of(bytes(memoryBytes), bytes(memoryLimitBytes))}${oomKills ? `, ${oomKills} killed for want of it` : ''}; pids ${of(pids?.toString(), pidsLimit?.toString())}; cpus ${cpuLimit ?? 'no limit'}${throttled}${cgroup.isFrozen ? '; FROZEN' : ''}`,
  ];
}

const MOST_DESCENDANTS = 16;

function describeDescendants({ descendants }: Dump, all: boolean): string[] {
  if (descendants.length === 0) return ['children: none'];
  const shown = descendants.slice(0, mostOf(all, MOST_DESCENDANTS));
  const more = descendants.length - shown.length;
  return [
    `children: ${descendants.filter(({ depth }) => depth === 1).length}, with theirs ${descendants.length}`,
    ...shown.map(
      ({ depth, pid, name, state }) =>
        `${'  '.repeat(Math.min(depth, 20))}${pid} (${plain(name)}) ${STATES[state] ?? state}`,
    ),
    ...(more > 0 ? [`  and ${more} more: --all shows them`] : []),
  ];
}

function describeEnvironment({ environment }: Dump, all: boolean): string[] {
  if (environment === null) return [];
  if (!all) return [`environment: ${environment.length} variables: --all shows them, secrets masked`];
  return environment.map((variable) => `environment: ${plain(variable)}`);
}

function describeRuntime({ runtime }: Dump): string[] {
  if (runtime === null) return [];
  const where = runtime.signal === null ? '' : `; it goes to ${plain(runtime.where)}`;
  return [`runtime: ${runtime.name}, which ${runtime.offer}${where}`];
}
