/**
 * What a process waits for: the first line of a look, as far as /proc decides it. Pure.
 */
import type { Call } from './calls.ts';
import type { Descriptor } from './descriptors.ts';
import type { Dump, DumpThread } from './dump.ts';
import { describeDescriptor, few, plain, showHolder } from './words.ts';

type Facts = Omit<Dump, 'waits'>;

/** From here on we say that it burns its processor. */
const BUSY_PERCENT = 50;
/** What a wait on many descriptors names one by one. */
const MOST_NAMED = 4;

/** A sentence without its subject: `waits in read of fd 0, a terminal (/dev/pts/0)`. */
export function whatItWaitsFor(facts: Facts): string {
  return (
    isHeld(facts) ??
    isDeadlocked(facts) ??
    isUninterruptible(facts) ??
    isBusy(facts) ??
    isAllOnFutexes(facts) ??
    isAsleep(facts)
  );
}

/** By something outside of it. */
function isHeld(facts: Facts): string | undefined {
  const { state, threads, parent, tracer, cgroup } = facts;
  const living = threads.filter((thread) => !isDead(thread));
  if (isDead({ state }) && living.length === 0) {
    const by = `${parent.pid} (${plain(parent.name ?? '?')})`;
    return `has ended (a zombie): its parent, pid ${by}, has not asked for its status`;
  }
  if (state === 't' || (state === 'T' && tracer !== null)) {
    return `is held by a tracer (${state}): ${tracer === null ? 'one that cannot be seen' : showHolder({ ...tracer, name: tracer.name ?? '?' })}`;
  }
  if (state === 'T') return `is stopped by a signal (T); kill -CONT ${facts.pid} lets it go on`;
  if (cgroup.isFrozen) return 'is frozen: the freezer of its cgroup is on (docker pause)';
  return undefined;
}

function isDead({ state }: { readonly state: string }): boolean {
  return state === 'Z' || state === 'X';
}

/** A circle of threads, each of which waits for the next. */
function isDeadlocked({ threads }: Facts): string | undefined {
  const byTid = new Map(threads.map((thread) => [thread.tid, thread]));
  for (const first of threads) {
    const circle = circleFrom(first, byTid);
    if (circle === undefined) continue;
    const [only] = circle;
    if (circle.length === 1 && only !== undefined)
      return `is in a deadlock: thread ${named(only)} waits for a mutex that it holds itself`;
    const steps = circle.map((thread, at) => {
      const next = circle[(at + 1) % circle.length] as DumpThread;
      return `thread ${named(thread)} waits for ${thread.call?.isJoin ? 'the end of' : 'a mutex of'} thread ${named(next)}`;
    });
    return `is in a deadlock: ${few(steps, MOST_NAMED)}`;
  }
  return undefined;
}

function circleFrom(
  first: DumpThread,
  byTid: ReadonlyMap<number, DumpThread>,
): readonly DumpThread[] | undefined {
  const circle: DumpThread[] = [];
  for (let thread: DumpThread | undefined = first; thread !== undefined; ) {
    circle.push(thread);
    const owner: number | undefined = isForever(thread.call) ? thread.call?.owner : undefined;
    if (owner === first.tid) return circle;
    if (owner === undefined || circle.some(({ tid }) => tid === owner)) return undefined; // the circle is further on
    thread = byTid.get(owner);
  }
  return undefined;
}

function isForever(call: Call | null): boolean {
  return call !== null && call.waitsFor === 'futex' && !call.isTimed;
}

function isUninterruptible(facts: Facts): string | undefined {
  const stuck = facts.threads.filter(({ state, isSteady }) => state === 'D' && isSteady);
  const [first] = stuck;
  if (first === undefined) return undefined;
  const who =
    facts.threads.length === 1
      ? ''
      : `: ${stuck.length} of ${facts.threads.length} threads, first ${named(first)}`;
  const call = first.call === null ? '' : ` (${waitOf(first, facts)})`;
  return `is in uninterruptible sleep (D) in ${first.wchan ?? 'the kernel'}${call}${who}; no signal reaches it there, but perhaps KILL`;
}

function isBusy({ processor, threads }: Facts): string | undefined {
  if (processor.percent < BUSY_PERCENT) return undefined;
  const [most] = [...threads].sort((one, other) => other.percent - one.percent);
  const who =
    threads.length === 1 || most === undefined ? '' : `; thread ${named(most)} most: ${most.percent} %`;
  return `burns CPU: ${processor.percent} % of a core over ${processor.sampledMs} ms${who}`;
}

function isAllOnFutexes({ threads }: Facts): string | undefined {
  const living = threads.filter((thread) => !isDead(thread));
  if (living.length === 0 || !living.every(({ call }) => isForever(call))) return undefined;
  const every = living.length === 1 ? 'its only thread' : `every one of ${living.length} threads`;
  return `is a deadlock candidate: ${every} waits on a futex, without a time limit`;
}

function isAsleep(facts: Facts): string {
  const living = facts.threads.filter((thread) => !isDead(thread));
  const main = living.find(({ tid }) => tid === facts.pid);
  const awake = living.filter(({ state, isSteady }) => state === 'R' || !isSteady);
  const load = facts.processor.percent === 0 ? '' : `, ${facts.processor.percent} % of a core`;
  if (awake.length > 0 && living.length > 1) {
    const rest = main === undefined || awake.includes(main) ? '' : `; the main thread ${waitOf(main, facts)}`;
    return `runs: ${awake.length} of ${living.length} threads${load}, first ${named(awake[0] as DumpThread)}${rest}`;
  }
  if (awake.length > 0) return `runs${load}`;
  if (main === undefined) return `lives on in ${living.length} threads; its main thread has ended`;
  const joined = main.call?.isJoin ? living.find(({ tid }) => tid === main.call?.owner) : undefined;
  const next = joined === undefined ? '' : `, which is ${waitOf(joined, facts)}`;
  const what = `${waitOf(main, facts)}${next}`;
  return living.length === 1
    ? `waits ${what}`
    : `sleeps with all ${living.length} threads; the main thread ${what}`;
}

function named({ tid, name }: DumpThread): string {
  return `${tid} (${plain(name)})`;
}

/** `in read of fd 3, a pipe, written by pid 44 (sleep)`. */
export function waitOf(thread: DumpThread, facts: Facts): string {
  const { call, wchan } = thread;
  if (thread.isRunning) return 'on a processor';
  if (call === null) {
    if (wchan === null) return 'where it may not be seen from here';
    return `in the kernel's ${wchan}${meaningOf(wchan, facts)}`;
  }
  return `in ${call.name}${detailOf(thread, call, facts)}`;
}

function detailOf(thread: DumpThread, call: Call, facts: Facts): string {
  const limit = call.isTimed && call.detail !== '' ? `, for ${call.detail} at the most` : '';
  switch (call.waitsFor) {
    case 'descriptors':
      return `${onDescriptors(thread, call, facts)}${limit}`;
    case 'lock': {
      const holder = thread.lockHolder === null ? '' : ` that ${showHolder(thread.lockHolder)} holds`;
      return `${onDescriptors(thread, call, facts)}, for a lock${holder}`;
    }
    case 'futex':
      return onFutex(call, facts);
    case 'time':
      return call.detail === '' ? '' : ` ${call.detail.startsWith('until') ? '' : 'for '}${call.detail}`;
    case 'child':
      return ` for ${ofChildren(call, facts)}`;
    case 'signal':
      return ' for a signal';
    case 'path':
      return ` of ${plain(call.detail)}${/fifo|wait_for_partner/.test(thread.wchan ?? '') ? ', a named pipe that nobody has opened at the other end' : ''}`;
    case 'other':
      return '';
  }
}

/**
 * Where a process may not be looked into by ptrace's rules (kernel.yama.ptrace_scope is 1 on many machines, and Docker gives
 * no CAP_SYS_PTRACE), the kernel still names the function that a thread sleeps in. These are of Linux 4.19 to 6.18.
 */
const MEANINGS: readonly (readonly [RegExp, string])[] = [
  [/epoll_wait|^ep_poll/, 'epoll_wait'],
  [/^(?:anon_)?pipe_(?:read|wait)/, 'a read of a pipe'],
  [/^(?:anon_)?pipe_write/, 'a write to a pipe'],
  [/^wait_for_partner|^fifo_open/, 'the opening of a named pipe'],
  [/^futex_/, 'a futex'],
  [/^do_wait$|^kernel_wait/, 'a wait for a child'],
  [/nanosleep/, 'a sleep'],
  [/^(?:poll_schedule_timeout|do_(?:sys_)?poll|do_select)/, 'poll or select'],
  [/accept/, 'accept'],
  [/^n_tty_read/, 'a read of a terminal'],
  [
    /^unix_(?:stream_read|stream_data_wait|dgram)|^sk_wait_data|^wait_for_more_packets|^__skb_wait/,
    'a read of a socket',
  ],
  [/^sk_stream_wait_memory|^sock_alloc_send/, 'a write to a socket'],
  [/^inet_(?:stream_connect|wait_for_connect)/, 'connect'],
  [/^(?:do_)?sigtimedwait|^sigsuspend|^do_pause|pause$/, 'a wait for a signal'],
  [/lock_inode_wait|flock_lock/, 'a wait for a lock on a file'],
];

function meaningOf(wchan: string, { descriptors, pid }: Facts): string {
  const meaning = MEANINGS.find(([pattern]) => pattern.test(wchan))?.[1];
  if (meaning === undefined) return ', as far as may be seen';
  const epolls = meaning === 'epoll_wait' ? (descriptors ?? []).filter(({ kind }) => kind === 'epoll') : [];
  const [only] = epolls;
  if (epolls.length !== 1 || only === undefined) return `, which is ${meaning}`;
  const watched = only.watched.flatMap((fd) => descriptors?.find((one) => one.fd === fd) ?? []);
  return `, which is ${meaning}; its only epoll, fd ${only.fd}, is of ${listKinds(watched, pid)}`;
}

function onFutex(call: Call, { threads }: Facts): string {
  const owner = threads.find(({ tid }) => tid === call.owner);
  const limit = call.isTimed ? ', for some time' : '';
  if (owner === undefined) return call.detail === 'wait' ? ` (wait${limit})` : ` (${call.detail})`;
  return call.isJoin
    ? ` for the end of thread ${named(owner)}`
    : ` for a mutex that thread ${named(owner)} holds${limit}`;
}

function ofChildren({ child }: Call, { descendants }: Facts): string {
  const children = descendants.filter(
    ({ depth, pid }) => depth === 1 && (child === undefined || pid === child),
  );
  const shown = few(children.map(showHolder), MOST_NAMED);
  if (child !== undefined) return `its child, ${shown === '' ? `pid ${child}` : shown}`;
  return shown === '' ? 'children that cannot be seen' : `a child: ${shown}`;
}

function onDescriptors(thread: DumpThread, call: Call, facts: Facts): string {
  const { descriptors, pid } = facts;
  const find = (fd: number) => descriptors?.find((one) => one.fd === fd);
  const about = (fd: number) => {
    const found = find(fd);
    return found === undefined ? `fd ${fd}` : `fd ${fd}, ${describeDescriptor(found, pid)}`;
  };
  const [first] = call.descriptors;
  if (first === undefined) return '';
  const epoll = find(first);
  if (epoll?.kind === 'epoll' && thread.call?.name.startsWith('epoll_')) {
    const watched = epoll.watched.flatMap((fd) => find(fd) ?? []);
    return ` of fd ${first} with ${listKinds(watched, pid)}`;
  }
  if (call.descriptors.length === 1) return ` of ${about(first)}`;
  return ` with ${listKinds(
    call.descriptors.flatMap((fd) => find(fd) ?? []),
    pid,
  )}`;
}

/** `2 sockets: listening 0.0.0.0:8080, established ...; a pipe, written by ...`: sockets first, they are what is waited for. */
function listKinds(watched: readonly Descriptor[], pid: number): string {
  if (watched.length === 0) return 'no descriptor';
  const sockets = watched.filter(({ kind }) => kind === 'socket');
  const others = watched.filter(({ kind }) => kind !== 'socket');
  const shownSockets = sockets.map((one) => describeDescriptor(one, pid).replace(/^a socket,? /, ''));
  const shownOthers = others.map((one) => describeDescriptor(one, pid));
  const count = `${sockets.length} ${sockets.length === 1 ? 'socket' : 'sockets'}`;
  return [
    ...(sockets.length === 0 ? [] : [`${count}: ${few(shownSockets, MOST_NAMED)}`]),
    ...(others.length === 0 ? [] : [few(shownOthers, MOST_NAMED, '; ')]),
  ].join('; ');
}
