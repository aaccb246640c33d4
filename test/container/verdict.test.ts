/**
 * What the fault report blames: causes seeded in real containers must be named, and faults that merely look alike must
 * not be. One table at the end.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type FaultReport, showFaultReport } from '../../src/report/fault-report.ts';
import type { CauseName } from '../../src/report/verdict.ts';
import { type Container, describeWithEngine } from './docker.ts';
import { type Content, mountFiles, startEntry, waitForPark } from './kit.ts';

interface Case {
  /** What is done to it. */
  readonly seeded: string;
  readonly command: readonly string[];
  readonly cause: CauseName | readonly CauseName[];
  /** In the sentence or the evidence. */
  readonly says?: RegExp;
  /** In `noticed`: it was seen, and not blamed. */
  readonly notices?: RegExp;
  readonly flags?: readonly string[];
  /** Default: stayalive,record: what it says is told. */
  readonly DEBUG?: string;
  /** Done from outside once the command has said `up`. */
  readonly meanwhile?: (container: Container) => Promise<unknown>;
  /** The command goes on: `ddbg report` is asked instead. */
  readonly isLive?: true;
}

interface Judged {
  readonly report: FaultReport;
  readonly log: string;
}

const NOBODY: readonly CauseName[] = ['undecided', 'exit'];
const MEMORY = ['--memory', '200m', '--memory-swap', '200m'];
const NODE_LEAK = 'const kept=[];setInterval(()=>kept.push(Buffer.alloc(8e6,1)),10)';
const sh = (script: string): string[] => ['sh', '-c', script];
const bash = (script: string): string[] => ['bash', '-c', script];
const says = (text: string, status: number): string[] => sh(`echo '${text}' >&2; exit ${status}`);

const TRACES: Readonly<Record<string, string>> = {
  python: `Traceback (most recent call last):
  File "/app/main.py", line 9, in <module>
    main()
  File "/app/main.py", line 5, in main
    return orders[7]
KeyError: 7`,
  java: `Exception in thread "main" java.lang.IllegalStateException: no such tenant: 7
\tat com.example.Orders.find(Orders.java:41)
\tat com.example.Main.main(Main.java:12)`,
  go: `panic: runtime error: index out of range [7] with length 3

goroutine 1 [running]:
main.main()
\t/src/main.go:12 +0x1d
exit status 2`,
};

const SPAWN_MANY =
  "for(let i=0;i<40;i++)require('child_process').spawn('sleep',['1']).on('error',()=>{});setTimeout(()=>{console.error('bad config');process.exit(1)},5000)";

const SERVER = "require('net').createServer().listen(8080,()=>console.log('up'))";

const SEEDED: readonly Case[] = [
  {
    seeded: 'memory beyond the limit at once',
    command: ['/t/seeds', 'leak', '400', '100'],
    flags: MEMORY,
    cause: 'oom-killed',
    says: /200 MiB/,
  },
  {
    seeded: 'a leak to the limit, in Node',
    command: ['node', '-e', NODE_LEAK],
    flags: MEMORY,
    cause: 'oom-killed',
    says: /oom_kill/,
  },
  {
    seeded: 'a slow leak to the limit',
    command: ['/t/seeds', 'leak', '400', '15000'],
    flags: MEMORY,
    cause: 'oom-killed',
  },
  {
    seeded: 'a child beyond the limit, the parent exits 1',
    command: sh('/t/seeds leak 400 2000; exit 1'),
    flags: MEMORY,
    cause: 'child-oom-killed',
    says: /its child seeds|a process that it ran/, // on a slow machine nobody sees it
  },
  {
    seeded: 'a child beyond the limit, the shell says 137',
    command: sh('/t/seeds leak 400 2000; exit $?'),
    flags: MEMORY,
    cause: 'child-oom-killed',
  },
  {
    seeded: 'kill -9 from outside',
    command: sh('echo up; exec sleep 100'),
    meanwhile: killFromOutside,
    cause: 'killed',
    says: /oom_kill of its cgroup has not risen/,
  },
  {
    seeded: 'a fork bomb under --pids-limit',
    command: sh('while :; do sleep 30 & done'),
    flags: ['--pids-limit', '40'],
    cause: 'pids-limit',
    says: /40/,
  },
  {
    seeded: 'the pids limit, in the words of bash',
    command: bash('for i in $(seq 15); do sleep 1 & done; exit 1'),
    flags: ['--pids-limit', '20'],
    cause: 'pids-limit',
  },
  {
    seeded: 'a disk that is full',
    command: sh('dd if=/dev/zero of=/full/x bs=64k'),
    flags: ['--tmpfs', '/full:size=1m'],
    cause: 'disk-full',
    says: /\/full/,
  },
  {
    seeded: 'no inode left',
    command: sh('set -e; for i in $(seq 50); do : >/full/$i; done'),
    flags: ['--tmpfs', '/full:size=10m,nr_inodes=12'],
    cause: 'inodes-full',
    says: /\/full/,
  },
  {
    seeded: 'a read-only root',
    command: sh('mkdir /data || exit 1'),
    flags: ['--read-only', '--tmpfs', '/run'],
    cause: 'read-only',
    says: /\/data/,
  },
  {
    seeded: 'a file of another user',
    command: ['node', '-e', "require('fs').writeFileSync('/etc/passwd','x')"],
    flags: ['--user', '1000:1000'],
    cause: 'permission',
    says: /\/etc\/passwd.*0644.*uid 1000/,
  },
  {
    seeded: 'a directory of another user, read',
    command: sh('ls /root; exit 1'),
    flags: ['--user', '1000:1000'],
    cause: 'permission',
    says: /uid 1000 may not read or write it/,
  },
  { seeded: 'a command that is not executable', command: ['/t/plain.sh'], cause: 'permission' },
  {
    seeded: 'a command that is not there',
    command: ['no-such-command'],
    cause: 'not-found',
    says: /no-such-command/,
  },
  {
    seeded: 'a script calls what is not there',
    command: bash('no-such-tool --now'),
    cause: 'not-found',
    says: /no-such-tool/,
  },
  {
    seeded: '#!/opt/no/perl',
    command: ['/t/perl.sh'],
    cause: 'interpreter-missing',
    says: /\/opt\/no\/perl/,
  },
  {
    seeded: '#!/usr/bin/env python9',
    command: ['/t/python9'],
    cause: 'interpreter-missing',
    says: /python9/,
  },
  { seeded: '#!/bin/bash with Windows line ends', command: ['/t/windows.sh'], cause: 'line-ends' },
  { seeded: 'a musl program on glibc', command: ['/t/musl'], cause: 'loader-missing', says: /ld-musl/ },
  { seeded: 'a program of another architecture', command: ['/t/foreign'], cause: 'wrong-architecture' },
  {
    seeded: 'a program of which only the first bytes are there',
    command: ['/t/damaged'],
    cause: 'no-program',
    says: /is damaged/,
  },
  {
    seeded: 'a shared library that is missing',
    command: ['/t/needy'],
    cause: 'library-missing',
    says: /libneeded\.so\.1/,
  },
  {
    seeded: 'the same, called by a script',
    command: bash('set -e; /t/needy; echo done'),
    cause: 'library-missing',
    says: /libneeded\.so\.1/,
  },
  {
    seeded: 'a port in use',
    command: sh(
      `node -e "${SERVER}" & while ! grep -q :1F90 /proc/net/tcp6; do sleep 0.05; done; node -e "${SERVER}"`,
    ),
    cause: 'port-in-use',
    says: /port 8080 is in use, by node/,
  },
  {
    seeded: 'out of file descriptors',
    command: [
      'node',
      '-e',
      "const fs=require('fs');setInterval(()=>{for(let i=0;i<9;i++)fs.openSync('/etc/hostname')},20)",
    ],
    flags: ['--ulimit', 'nofile=128:128'],
    cause: 'descriptors',
    says: /128/,
  },
  {
    seeded: 'a name that nobody resolves',
    command: ['node', '-e', "require('net').connect(80,'db.internal')"],
    cause: 'name-not-resolved',
    says: /db\.internal/,
  },
  {
    seeded: 'time runs out under --cpus',
    command: sh('timeout 2 /t/seeds spin'),
    flags: ['--cpus', '0.1'],
    cause: 'cpu-throttled',
    says: /124/,
  },
  {
    seeded: 'an uncaught exception in Node',
    command: ['node', '/t/throws.js'],
    cause: 'exception',
    says: /TypeError: .*undefined.*throws\.js:2/,
  },
  {
    seeded: 'an uncaught exception in Python',
    command: sh('cat /t/python.txt >&2; exit 1'),
    cause: 'exception',
    says: /Python.*KeyError: 7.*main\.py:5/,
  },
  {
    seeded: 'an uncaught exception in Java',
    command: sh('cat /t/java.txt >&2; exit 1'),
    cause: 'exception',
    says: /Java.*no such tenant.*Orders\.java:41/,
  },
  {
    seeded: 'a panic in Go',
    command: sh('cat /t/go.txt >&2; exit 2'),
    cause: 'exception',
    says: /Go.*out of range.*main\.go:12/,
  },
  {
    seeded: "the heap limit of Node's own",
    command: ['node', '--max-old-space-size=30', '-e', 'const a=[];for(;;)a.push([1,2,3].map(String))'],
    cause: 'heap-limit',
  },
  { seeded: 'abort()', command: ['/t/seeds', 'abort'], cause: 'abort' },
  {
    seeded: 'abort(), with a core file',
    command: sh('ulimit -c unlimited; cd /tmp; sleep 0.5; exec /t/seeds abort'),
    cause: 'abort',
    flags: ['--ulimit', 'core=-1'],
  },
  { seeded: 'an integer division by zero', command: ['/t/seeds', 'divide'], cause: 'arithmetic' },
  { seeded: 'a null pointer', command: ['/t/seeds', 'segfault'], cause: 'segfault' },
  { seeded: 'a null pointer of a child', command: bash('/t/seeds segfault; exit $?'), cause: 'segfault' },
  { seeded: 'a mapped file that is too short', command: ['/t/seeds', 'bus'], cause: 'bus' },
  { seeded: 'an instruction that is none', command: ['/t/seeds', 'trap'], cause: 'illegal-instruction' },
  { seeded: 'a forbidden system call', command: ['/t/seeds', 'forbidden'], cause: 'seccomp' },
  { seeded: 'ulimit -t, soft', command: bash('ulimit -S -t 1; exec /t/seeds spin'), cause: 'cpu-time-limit' },
  {
    seeded: 'ulimit -t, hard: a KILL',
    command: bash('ulimit -t 1; exec /t/seeds spin'),
    cause: 'cpu-time-limit',
  },
  {
    seeded: 'ulimit -f',
    command: bash('ulimit -f 1; exec dd if=/dev/zero of=/tmp/x bs=64k count=4'),
    cause: 'file-size-limit',
  },
  {
    seeded: 'exit 1 with a plain message',
    command: says('config: no such tenant', 1),
    cause: 'exit',
    says: /config: no such tenant/,
  },
  {
    seeded: 'the same, traced',
    command: sh('echo boom >&2; exit 1'),
    DEBUG: 'verbose,stayalive,record',
    cause: 'exit',
    says: /its last words: boom/,
  },
  {
    seeded: 'a stop that is ignored',
    command: sh("trap '' TERM; echo up; while :; do sleep 0.1; done"),
    meanwhile: askToStop,
    isLive: true,
    cause: 'stop-ignored',
    says: /SigIgn/,
  },
  {
    seeded: 'a hang',
    command: sh('mkfifo /tmp/pipe; echo up; exec cat </dev/null /tmp/pipe'),
    isLive: true,
    cause: 'waiting',
  },
];

const ALIKE: readonly Case[] = [
  { seeded: 'exit 137, and nobody killed', command: sh('exit 137'), cause: NOBODY },
  { seeded: 'exit 137, without record', command: sh('exit 137'), DEBUG: 'stayalive', cause: 'undecided' },
  { seeded: 'exit 139 by itself', command: sh('exit 139'), cause: NOBODY },
  { seeded: 'exit 134 by itself', command: sh('exit 134'), cause: NOBODY },
  { seeded: 'exit 143 by itself', command: sh('exit 143'), cause: NOBODY },
  { seeded: 'exit 127 by itself', command: sh('exit 127'), cause: NOBODY },
  { seeded: 'exit 126 by itself', command: sh('exit 126'), cause: NOBODY },
  { seeded: 'exit 124 by itself', command: says('timed out', 124), cause: 'exit' },
  {
    seeded: 'exit 1 after the OOM kill of a docker exec',
    command: sh('echo up; until [ -e /tmp/go ]; do sleep 0.02; done; exit 1'),
    flags: MEMORY,
    meanwhile: overfillFromOutside,
    cause: NOBODY,
    notices: /OOM killer/,
  },
  {
    seeded: 'exit 1, its child OOM-killed long before',
    command: sh('/t/seeds leak 400 500; sleep 3; exit 1'),
    flags: MEMORY,
    cause: NOBODY,
    notices: /OOM killer/,
  },
  {
    seeded: 'a child OOM-killed, and then it says of what it ends',
    command: sh(
      "/t/seeds leak 400 500 || echo 'worker lost, respawned'; sleep 1.8; echo 'FATAL: license expired' >&2; exit 3",
    ),
    flags: MEMORY,
    cause: 'exit',
    says: /license expired/,
    notices: /OOM killer struck once/,
  },
  {
    seeded: 'the same, sooner',
    command: sh('/t/seeds leak 400 500; sleep 0.4; echo "FATAL: license expired" >&2; exit 3'),
    flags: MEMORY,
    cause: 'exit',
    notices: /OOM killer/,
  },
  {
    seeded: 'EACCES survived, then another failure',
    command: sh('ls /root; echo "login failed: invalid credentials" >&2; exit 1'),
    flags: ['--user', '1000:1000'],
    cause: 'exit',
    says: /login failed/,
    notices: /before that it said: ls: .*\/root/,
  },
  {
    seeded: 'not found, survived, then another failure',
    command: sh('grep foo /etc/hosts.nope; echo "test suite: 3 failed"; exit 1'),
    cause: 'exit',
    says: /test suite: 3 failed/,
  },
  {
    seeded: 'it says something, and there is no room to record it',
    command: sh('echo hi; exit 3'),
    flags: ['--tmpfs', '/run:size=64k'],
    cause: 'undecided',
    says: /was not recorded/,
  },
  {
    seeded: 'kill -9, a child OOM-killed long before',
    command: sh('/t/seeds leak 400 500; sleep 3; kill -9 $$'),
    flags: MEMORY,
    cause: 'killed',
  },
  {
    seeded: 'kill -9 near the memory limit',
    command: sh('/t/seeds leak 120 100 0; kill -9 $$'),
    flags: MEMORY,
    cause: 'killed',
  },
  {
    seeded: 'exit 1, memory nearly full of files',
    command: sh('dd if=/dev/zero of=/tmp/x bs=1M count=190 2>/dev/null; exit 1'),
    flags: MEMORY,
    cause: NOBODY,
  },
  {
    seeded: 'the pids limit hit long before',
    command: ['node', '-e', SPAWN_MANY],
    flags: ['--pids-limit', '40'],
    cause: 'exit',
    notices: /fork was refused/,
  },
  {
    seeded: 'EADDRINUSE said, the port free',
    command: says('Error: listen EADDRINUSE: address already in use :::3000', 1),
    cause: 'exit',
  },
  {
    seeded: 'a port in use, and a config error',
    command: sh(
      `node -e "${SERVER}" & while ! grep -q :1F90 /proc/net/tcp6; do sleep 0.05; done; echo 'bad port 8080 in config' >&2; exit 1`,
    ),
    cause: 'exit',
  },
  {
    seeded: 'a full disk beside a config error',
    command: sh('dd if=/dev/zero of=/full/x bs=64k 2>/dev/null; echo bad config >&2; exit 1'),
    flags: ['--tmpfs', '/full:size=1m'],
    cause: 'exit',
    notices: /full/,
  },
  {
    seeded: 'ENOSPC said, and there is room',
    command: says("cp: error writing '/tmp/x': No space left on device", 1),
    cause: 'exit',
  },
  {
    seeded: 'ENOSPC survived, then another error',
    command: sh(
      "dd if=/dev/zero of=/full/x bs=64k 2>/dev/null; echo 'warning: cache: no space left on device, ignored' >&2; echo bad config >&2; exit 1",
    ),
    flags: ['--tmpfs', '/full:size=1m'],
    cause: 'exit',
  },
  {
    seeded: 'a read-only root nobody wrote to',
    command: says('bad config', 1),
    flags: ['--read-only', '--tmpfs', '/run'],
    cause: 'exit',
  },
  {
    seeded: 'EROFS said, and it can be written',
    command: says("touch: cannot touch '/tmp/x': Read-only file system", 1),
    cause: 'exit',
  },
  {
    seeded: 'EACCES said, and root may',
    command: says("Error: EACCES: permission denied, open '/etc/hostname'", 1),
    cause: 'exit',
  },
  {
    seeded: 'EMFILE said, with 5 of 1024 open',
    command: sh('sleep 1.5; echo "too many open files" >&2; exit 1'),
    flags: ['--ulimit', 'nofile=20000:20000'],
    cause: 'exit',
  },
  {
    seeded: 'a name said that /etc/hosts has',
    command: says('getaddrinfo ENOTFOUND localhost', 1),
    cause: 'exit',
  },
  {
    seeded: 'throttled, and a config error',
    command: bash('timeout 1 /t/seeds spin; echo bad config >&2; exit 1'),
    flags: ['--cpus', '0.1'],
    cause: 'exit',
    notices: /CPU limit/,
  },
  { seeded: 'a timeout that nothing held back', command: sh('timeout 1 sleep 10'), cause: NOBODY },
  {
    seeded: 'an exception that was caught and logged',
    command: [
      'node',
      '-e',
      "console.error(new Error('retry later'));console.error('giving up');process.exit(3)",
    ],
    cause: 'exit',
  },
  {
    seeded: 'a traceback long before the end',
    command: sh('cat /t/python.txt >&2; for i in 1 2 3 4 5 6; do echo going on $i >&2; done; exit 2'),
    cause: 'exit',
  },
  { seeded: 'not found said of what is there', command: says('sh: 1: bash: not found', 127), cause: 'exit' },
  {
    seeded: 'a library said to be missing that is there',
    command: says(
      'x: error while loading shared libraries: libc.so.6: cannot open shared object file: No such file or directory',
      127,
    ),
    cause: 'exit',
  },
  {
    seeded: 'SIGABRT, an old core file lying around',
    command: sh('cd /tmp; printf "\\177ELF" >core; touch -d 2020-01-01 core; exec /t/seeds abort'),
    flags: ['--ulimit', 'core=0'],
    cause: 'abort',
  },
  {
    seeded: 'a stop that is being worked on',
    command: sh("trap 'sleep 20' TERM; echo up; while :; do sleep 0.1; done"),
    meanwhile: askToStop,
    isLive: true,
    cause: 'waiting',
  },
];

describeWithEngine('the verdict', (images) => {
  const judged = new Map<Case, Judged>();
  const failed = new Map<Case, unknown>();
  let mounts: readonly string[] = [];

  beforeAll(async () => {
    mounts = mountSeeds();
    const waiting = [...SEEDED, ...ALIKE];
    const worker = async (): Promise<void> => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
        try {
          judged.set(next, await judge(images.native, next, mounts));
        } catch (error) {
          failed.set(next, error);
        }
      }
    };
    await Promise.all([worker(), worker(), worker(), worker()]);
  }, 400_000);

  afterAll(() => {
    console.log(table('seeded', SEEDED, judged));
    console.log(table('merely alike', ALIKE, judged));
  });

  it('has at least 24 causes and 24 that are alike', () => {
    expect(SEEDED.length).toBeGreaterThanOrEqual(24);
    expect(ALIKE.length).toBeGreaterThanOrEqual(24);
  });

  it.each([...SEEDED, ...ALIKE].map((each) => [each.seeded, each] as const))('%s', (_, each) => {
    if (failed.has(each)) throw failed.get(each);
    const { report, log } = judged.get(each) as Judged;
    const { verdict } = report;
    expect(verdict, log).toMatchObject({ cause: causeOf(each, verdict.cause) });
    const told = `${verdict.sentence} ${verdict.evidence.join(' ')}`;
    if (each.says !== undefined) expect(told).toMatch(each.says);
    if (each.notices !== undefined) expect(verdict.noticed.join(' ')).toMatch(each.notices);
    expect(validate(report), JSON.stringify(validate.errors)).toBe(true);
    const screen = showFaultReport(report, { columns: 100 });
    expect(screen.length).toBeLessThanOrEqual(40);
    expect(screen.filter((line) => line.length > 100)).toEqual([]);
    expect(screen[0]).toContain(verdict.cause);
  });

  it('a core file is named with the line that opens it, and only a fresh one', () => {
    const of = (seeded: string): FaultReport | undefined =>
      judged.get([...SEEDED, ...ALIKE].find((each) => each.seeded === seeded) as Case)?.report;
    expect(of('abort(), with a core file')?.core?.path).toMatch(/^\/tmp\/core(\.\d+)?$/);
    expect(of('abort(), with a core file')?.core?.open).toMatch(/^gdb \S+ \/tmp\/core/);
    expect(of('SIGABRT, an old core file lying around')?.core).toBeNull();
  });
});

const schema = JSON.parse(
  readFileSync(fileURLToPath(new URL('../../dist/fault.schema.json', import.meta.url)), 'utf8'),
);
const validate = new Ajv2020({ formats: { 'date-time': true } }).compile(schema);

function causeOf({ cause }: Case, found: CauseName): CauseName {
  return typeof cause === 'string' ? cause : cause.includes(found) ? found : (cause[0] ?? 'undecided');
}

async function judge(image: string, each: Case, mounts: readonly string[]): Promise<Judged> {
  const { command, DEBUG = 'stayalive,record', flags = [], meanwhile, isLive } = each;
  const container = await startEntry(image, command, { DEBUG, flags: [...mounts, ...flags] });
  try {
    if (meanwhile !== undefined || isLive) await container.waitForLog(/^up$/m);
    await meanwhile?.(container);
    if (isLive) return await judgeLive(container, each);
    await waitForPark(container);
    const { stdout } = await container.exec([
      'sh',
      '-c',
      'cat /run/ddbg/fault.json 2>/dev/null || cat /tmp/ddbg-*/fault.json',
    ]);
    return { report: JSON.parse(stdout), log: (await container.logs()).stderr };
  } finally {
    await container.remove();
  }
}

async function judgeLive(container: Container, each: Case): Promise<Judged> {
  const ask = async (): Promise<FaultReport> =>
    JSON.parse((await container.exec(['ddbg', 'report', '--json'])).stdout);
  const deadline = Date.now() + 20_000;
  // The stop has to be some seconds old.
  const isDone = ({ verdict }: FaultReport): boolean =>
    verdict.cause === each.cause &&
    (each.meanwhile === undefined || /was passed on/.test(verdict.evidence.join()));
  while (!isDone(await ask()) && Date.now() < deadline);
  if (each.cause === 'stop-ignored') await container.waitForLog(/it still runs: it ignores the stop/);
  return { report: await ask(), log: (await container.logs()).stderr };
}

function killFromOutside(container: Container): Promise<unknown> {
  return container.exec(['sh', '-c', 'kill -9 $(pidof sleep)']);
}

/** A process of another: it is the largest, so the OOM killer takes it. */
async function overfillFromOutside(container: Container): Promise<void> {
  await container.exec(['sh', '-c', '/t/seeds leak 400 1000; touch /tmp/go']);
}

/** To PID 1, which passes it on. Long enough ago for the report: polled by whoever asks. */
function askToStop(container: Container): Promise<unknown> {
  return container.kill('TERM');
}

function mountSeeds(): readonly string[] {
  const files: Record<string, Content> = {
    'plain.sh': { bytes: Buffer.from('#!/bin/sh\necho hello\n'), mode: 0o644 },
    'perl.sh': '#!/opt/no/perl\n',
    python9: '#!/usr/bin/env python9\n',
    'windows.sh': '#!/bin/bash\r\necho hello\r\n',
    damaged: { bytes: Buffer.from('7f454c46020101000000000000', 'hex'), mode: 0o755 },
    'throws.js': 'const order = undefined;\norder.items;\n',
    ...Object.fromEntries(Object.entries(TRACES).map(([name, text]) => [`${name}.txt`, `${text}\n`])),
  };
  const mounts = mountFiles(files);
  const [directory = ''] = (mounts[1] ?? '').split(':');
  const source = fileURLToPath(new URL('seeds.c', import.meta.url));
  const to = (name: string): string => join(directory, name);
  execFileSync('cc', ['-static', '-O0', '-o', to('seeds'), source]);
  const input = (text: string) => ({ input: text });
  execFileSync('musl-gcc', ['-xc', '-o', to('musl'), '-'], input('int main(void) { return 0; }'));
  execFileSync(
    'cc',
    ['-shared', '-Wl,-soname,libneeded.so.1', '-xc', '-o', to('libneeded.so'), '-'],
    input('int needed(void) { return 0; }'),
  );
  execFileSync(
    'cc',
    ['-xc', '-o', to('needy'), '-', '-L', directory, '-lneeded'],
    input('int needed(void); int main(void) { return needed(); }'),
  );
  execFileSync('rm', [to('libneeded.so')]);
  // The same program, said to be for another processor (e_machine of elf(5): RISC-V).
  execFileSync('cp', [to('seeds'), to('foreign')]);
  execFileSync('sh', ['-c', `printf '\\363' | dd of=${to('foreign')} bs=1 seek=18 conv=notrunc 2>/dev/null`]);
  return mounts;
}

function table(title: string, cases: readonly Case[], judged: ReadonlyMap<Case, Judged>): string {
  const rows = cases.map((each) => {
    const verdict = judged.get(each)?.report.verdict;
    const isRight = verdict !== undefined && causeOf(each, verdict.cause) === verdict.cause;
    const evidence = verdict?.evidence[0] ?? verdict?.sentence ?? '';
    const cells = [
      each.seeded.padEnd(46),
      (verdict?.cause ?? 'none').padEnd(20),
      evidence.slice(0, 76).padEnd(76),
    ];
    return `${cells.join(' | ')} | ${isRight ? 'right' : 'WRONG'}`;
  });
  return [`\n${title.padEnd(46)} | verdict              | evidence`, ...rows].join('\n');
}
