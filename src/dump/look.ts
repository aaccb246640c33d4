/**
 * Takes one look at a process. Nothing is stopped or traced: it runs on meanwhile.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { parseEnviron } from '../container/environ.ts';
import { readResourceLimits } from '../container/limits.ts';
import { parseStat, TICK_MS } from '../container/stat.ts';
import type { Fields } from '../container/status.ts';
import { fieldsOf, signalsIn, userOf } from '../container/status.ts';
import { becomeUser } from '../container/user.ts';
import { signalName } from '../outcome.ts';
import { makeMask, maskArguments, maskVariable } from '../secrets.ts';
import type { Memory } from './calls.ts';
import { NO_MEMORY, openMemory, readCall } from './calls.ts';
import { readCgroupUse } from './cgroup.ts';
import type { Descriptor, Ends } from './descriptors.ts';
import { findEnds, findPeers, readDescriptors, readSockets } from './descriptors.ts';
import type { Dump, DumpThread } from './dump.ts';
import type { Relative } from './family.ts';
import { descendantsOf, readProcesses } from './family.ts';
import { memoryUse, summariseMaps } from './memory.ts';
import type { Reader } from './read.ts';
import { createReader, readWithin } from './read.ts';
import type { Runtime } from './runtime.ts';
import { architectureOf, recogniseRuntime } from './runtime.ts';
import { readKernelStack, readProgress, readThreads, type Thread } from './threads.ts';
import { whatItWaitsFor } from './waits.ts';

/** Over so long the processor time is taken; it is the most of what a look takes. */
const SAMPLE_MS = 200;
/** Of how many threads the kernel's stack is read. */
const MOST_STACKS = 32;

/** @returns undefined where there is no such process */
export async function takeLook(pid: number): Promise<Dump | undefined> {
  const reader = createReader();
  const status = reader.text(`/proc/${pid}/status`, 'the process');
  if (status === undefined) return undefined;
  const fields = fieldsOf(status);
  const goBack = becomeItsUser(reader, pid, fields);
  try {
    return await lookAs(reader, pid, fields);
  } finally {
    goBack();
  }
}

/** Where we may not look into it as who we are. Returns the way back. */
function becomeItsUser(reader: Reader, pid: number, fields: Fields): () => void {
  if (reader.link(`/proc/${pid}/cwd`) !== undefined) return () => {};
  return becomeUser(userOf(fields));
}

async function lookAs(reader: Reader, pid: number, fields: Fields): Promise<Dump | undefined> {
  const proc = `/proc/${pid}`;
  const since = performance.now();
  const threads = readThreads(reader, pid);
  const stat = parseStat(reader.text(`${proc}/stat`) ?? '');
  if (stat === undefined) return undefined;

  const all = readProcesses(reader);
  const nameOf = (of: number) => all.find((one) => one.pid === of)?.name ?? null;
  const commandLine = await readWithin(reader, `${proc}/cmdline`, 'the command line');
  const argv =
    commandLine === undefined || commandLine === '' ? null : commandLine.replace(/\0$/, '').split('\0');
  const environ = await readWithin(reader, `${proc}/environ`, 'the environment');
  const environment = parseEnviron(environ ?? '');
  const mask = makeMask(environment);
  const maps = await readWithin(reader, `${proc}/maps`, 'the memory map');
  const pointers = threads.flatMap(({ system }) =>
    system === undefined || system.kind === 'running' ? [] : [system.stackPointer],
  );
  const mapped = maps === undefined || maps === '' ? null : summariseMaps(maps, pointers);
  const descriptors = readOpen(reader, pid, all, namedPipesOf(threads));
  const executable = reader.link(`${proc}/exe`, 'the executable');
  const root = reader.link(`${proc}/root`, 'the root directory');
  const signals = readSignals(fields);
  const directory = reader.link(`${proc}/cwd`, 'the working directory');
  const targetOf = (fd: number) => descriptors?.find((one) => one.fd === fd)?.target;

  // its memory is not touched where the kernel's lock on it is taken
  const isLocked = [...reader.refused.values()].includes('ETIMEDOUT');
  const memory = isLocked ? NO_MEMORY : openMemory(reader, pid);
  const seen = threads.map((thread) => describeThread(thread, memory, { reader, pid, threads, fields, all }));
  memory.close();
  const stacks = readStacks(reader, pid, threads);
  const runtime: Runtime | undefined = recogniseRuntime({
    executable,
    file: reader.refused.has('the executable') ? undefined : `${proc}/exe`,
    argv: argv ?? [],
    environment,
    caught: signals.caught,
    mappedFiles: mapped?.files.map(({ path }) => path) ?? [],
    directory,
    stdout: targetOf(1),
    stderr: targetOf(2),
  });

  await delay(Math.max(0, SAMPLE_MS - (performance.now() - since)));
  const later = readProgress(
    reader,
    pid,
    threads.map(({ tid }) => tid),
  );
  const sampledMs = Math.round(performance.now() - since);
  const percentOf = (ticks: number) => Math.round((ticks * TICK_MS * 100) / sampledMs);
  const progressOf = ({ tid, ticks }: Thread) => (later.get(tid)?.ticks ?? ticks) - ticks;
  // Beside arguments and environment: a secret can be in any path.
  const masked = maskAll(
    {
      name: stat.name,
      executable: executable ?? null,
      directory: directory ?? null,
      root: root === undefined || root === '/' ? null : root,
      runtime: runtime ?? null,
      descriptors: descriptors ?? null,
      mapped,
      seen,
      descendants: descendantsOf(pid, all),
    },
    mask,
  );
  const facts = {
    schema: 1 as const,
    at: new Date().toISOString(),
    pid,
    name: masked.name,
    state: stat.state,
    parent: { pid: stat.parent, name: nameOf(stat.parent) },
    tracer: tracerOf(fields, nameOf),
    ...userOf(fields),
    argv: argv === null ? null : maskArguments(argv, mask),
    environment:
      environ === undefined
        ? null
        : Object.entries(environment).map(([name, value]) => maskVariable(name, value ?? '', mask)),
    executable: masked.executable,
    directory: masked.directory,
    root: masked.root,
    ranSeconds: secondsSince(reader, stat.startTicks),
    runtime: masked.runtime,
    processor: {
      percent: percentOf(threads.reduce((sum, thread) => sum + progressOf(thread), 0)),
      sampledMs,
      seconds: (stat.ticks * TICK_MS) / 1000,
    },
    threads: threads.map(
      (thread, at): DumpThread => ({
        ...(masked.seen[at] as Seen),
        tid: thread.tid,
        name: mask(thread.name),
        state: thread.state,
        isSteady: later.get(thread.tid)?.state === thread.state && progressOf(thread) === 0,
        percent: percentOf(progressOf(thread)),
        wchan: thread.wchan ?? null,
        kernelStack: stacks.get(thread.tid) ?? null,
      }),
    ),
    signals,
    descriptors: masked.descriptors,
    limits: readResourceLimits(pid),
    memory: memoryUse(fields),
    mapped: masked.mapped,
    descendants: masked.descendants,
    cgroup: readCgroupUse(reader.text(`${proc}/cgroup`) ?? '', (file) => reader.text(file)?.trim()),
    unread: [...reader.refused].map(([what, code]) => ({ what, why: whyNot(what, code, reader) })),
  };
  return { ...facts, waits: later.size === 0 ? 'has ended while it was looked at' : whatItWaitsFor(facts) };
}

/** What has a word of ours in it, which may be somebody's password, and is compared with. */
const OURS: ReadonlySet<string> = new Set(['kind', 'state', 'waitsFor', 'signal']);

/** Every text in it. */
function maskAll<Value>(value: Value, mask: (text: string) => string): Value {
  const inside = (part: unknown): unknown => {
    if (typeof part === 'string') return mask(part);
    if (Array.isArray(part)) return part.map(inside);
    if (typeof part !== 'object' || part === null) return part;
    return Object.fromEntries(
      Object.entries(part).map(([name, each]) => [name, OURS.has(name) ? each : inside(each)]),
    );
  };
  return inside(value) as Value;
}

type Seen = Pick<DumpThread, 'isRunning' | 'call' | 'lockHolder'>;

interface Surroundings {
  readonly reader: Reader;
  readonly pid: number;
  readonly threads: readonly Thread[];
  readonly fields: Fields;
  readonly all: readonly Relative[];
}

function describeThread(thread: Thread, memory: Memory, around: Surroundings): Seen {
  const { reader, pid, threads, fields, all } = around;
  // in a namespace of its own it knows itself by other numbers
  const knowsItself = (fields.get('NSpid')?.split('\t').length ?? 1) === 1;
  const tids = new Set(knowsItself ? threads.map(({ tid }) => tid) : []);
  const isOfKernel = !fields.has('VmSize'); // the kernel's own threads are in no call, whatever /proc says (measured: read of fd 0)
  const line = isOfKernel ? undefined : thread.system;
  const call = readCall(line, { memory, tids, architecture: architecture(reader, pid) });
  const holder = call?.waitsFor === 'lock' ? lockHolder(reader, pid) : undefined;
  return {
    isRunning: thread.state === 'R' || line?.kind === 'running',
    call: call ?? null,
    lockHolder:
      holder === undefined ? null : { pid: holder, name: all.find((one) => one.pid === holder)?.name ?? '?' },
  };
}

const architectures = new WeakMap<Reader, string>();

function architecture(reader: Reader, pid: number): string {
  const known = architectures.get(reader) ?? architectureOf(`/proc/${pid}/exe`);
  architectures.set(reader, known);
  return known;
}

/** /proc/locks: who waits stands behind an arrow, below the number of what it waits for. */
function lockHolder(reader: Reader, pid: number): number | undefined {
  const text = reader.text('/proc/locks') ?? '';
  const number = new RegExp(`^(\\d+): -> \\S+ +\\S+ +\\S+ ${pid} `, 'm').exec(text)?.[1];
  const holder = new RegExp(`^${number}: [A-Z]\\S* +\\S+ +\\S+ (\\d+) `, 'm').exec(text)?.[1];
  return number === undefined || holder === undefined ? undefined : Number(holder);
}

/** First the main thread's and of those that nothing can wake. */
function readStacks(reader: Reader, pid: number, threads: readonly Thread[]) {
  const order = (thread: Thread) => (thread.tid === pid ? 0 : thread.state === 'D' ? 1 : 2);
  const chosen = threads
    .filter(({ state }) => state !== 'R' && state !== 'Z')
    .sort((one, other) => order(one) - order(other))
    .slice(0, MOST_STACKS);
  const stacks = new Map<number, readonly string[]>();
  for (const { tid } of chosen) {
    const stack = readKernelStack(reader, pid, tid);
    if (stack === undefined) break; // nor any other
    stacks.set(tid, stack);
  }
  return stacks;
}

/**
 * The descriptors that some thread waits for in the kernel's code of pipes, whatever they are called. (To stat(2) each
 * open file would say it too, and would hang on a network file system that does not answer.)
 */
function namedPipesOf(threads: readonly Thread[]): ReadonlySet<number> {
  return new Set(
    threads.flatMap(({ wchan, system }) =>
      system?.kind === 'call' && /pipe/.test(wchan ?? '')
        ? Number(BigInt.asIntN(32, system.words[0] ?? 0n))
        : [],
    ),
  );
}

/** The open files, and who has the other ends. */
function readOpen(
  reader: Reader,
  pid: number,
  all: readonly Relative[],
  namedPipes: ReadonlySet<number>,
): readonly Descriptor[] | undefined {
  const sockets = readSockets(reader, pid);
  const descriptors = readDescriptors(reader, pid, sockets)?.map((one) =>
    one.kind === 'file' && namedPipes.has(one.fd) ? { ...one, kind: 'pipe' as const } : one,
  );
  if (descriptors === undefined) return undefined;
  const peers = findPeers(sockets);
  const wantedOf = (descriptor: Descriptor): string | undefined => {
    const peer = descriptor.socket === undefined ? undefined : peers.get(descriptor.socket.inode);
    if (peer !== undefined) return `socket:[${peer}]`;
    return descriptor.kind === 'pipe' ? descriptor.target : undefined;
  };
  const wanted = new Set(descriptors.flatMap((one) => wantedOf(one) ?? []));
  const ends = findEnds(
    reader,
    wanted,
    all.map((one) => one.pid),
  );
  return descriptors.map((one) => ({ ...one, others: othersOf(one, wantedOf(one), ends) }));
}

/** The other direction of a pipe; everybody who has the peer of a socket. */
function othersOf(descriptor: Descriptor, target: string | undefined, { holders }: Ends) {
  const known = target === undefined ? [] : (holders.get(target) ?? []);
  const { kind, canRead, canWrite } = descriptor;
  const isOther = (mode: number) => (canRead && (mode & 0o200) !== 0) || (canWrite && (mode & 0o400) !== 0);
  const others = kind === 'pipe' ? known.filter(({ mode }) => isOther(mode)) : known;
  return [...new Map(others.map(({ pid, name }) => [pid, { pid, name }])).values()];
}

function readSignals(fields: Fields): Dump['signals'] {
  const read = (...names: string[]) =>
    signalsIn(fields, ...names).map((number) =>
      number === 32 || number === 33 ? `signal ${number}` : signalName(number),
    );
  return {
    pending: read('SigPnd', 'ShdPnd'),
    blocked: read('SigBlk'),
    ignored: read('SigIgn'),
    caught: read('SigCgt'),
  };
}

function tracerOf(fields: Fields, nameOf: (pid: number) => string | null) {
  const pid = Number(fields.get('TracerPid') ?? 0);
  return pid === 0 ? null : { pid, name: nameOf(pid) };
}

function secondsSince(reader: Reader, startTicks: number): number | null {
  const uptime = Number.parseFloat(reader.text('/proc/uptime') ?? '');
  const seconds = uptime - (startTicks * TICK_MS) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, Math.round(seconds * 10) / 10) : null;
}

function whyNot(what: string, code: string, reader: Reader): string {
  if (code === 'ETIMEDOUT') return 'the kernel does not answer: its memory lock is taken';
  if (code !== 'EACCES' && code !== 'EPERM') return code;
  if (what === 'kernel stacks') return 'not permitted: only the machine’s own root may';
  const yama = reader.text('/proc/sys/kernel/yama/ptrace_scope')?.trim();
  const scope = yama !== undefined && yama !== '0' ? ` (kernel.yama.ptrace_scope is ${yama})` : '';
  return `not permitted: needs the same user, or --cap-add SYS_PTRACE${scope}`;
}
