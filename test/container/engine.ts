/**
 * Gives the container tests a Docker engine and their images; vitest runs it once, before the tests (`globalSetup`).
 *
 * An engine that can be reached is used. Where there is none and DDBG_REQUIRE_DOCKER=1 asks for the tests, one is
 * brought up on a bare Debian machine, as root, from Debian's packages and npm's alone (no image registry):
 *
 *   debootstrap (cached) -> docker import ddbg-test-base -> docker build ddbg-test-node20, ddbg-test-node24
 *                                                                       '-> ddbg-test-native
 *
 * DDBG_TEST_PACKAGE names a tarball to test instead of packing the checkout, e.g. the one about to be published.
 * DDBG_TEST_NODE names a Node: a Node 20 is in ddbg-test-node20 and ddbg-test-native, a later one in ddbg-test-node24
 * and ddbg-test-native. (Which of the two a test asks for is not a matter of taste: only a later one has process.execve.)
 */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { onExit } from 'signal-exit';
import type { TestProject } from 'vitest/node';

export interface Engine {
  /** The engine's socket when it is ours; undefined: what the CLI finds by itself. */
  readonly host?: string;
  readonly images: {
    readonly base: string;
    readonly node20: string;
    /** Or whichever later one DDBG_TEST_NODE names. */
    readonly node24: string;
    /** After `ddbg-entry --install`; on Node 20, or the one that DDBG_TEST_NODE names. */
    readonly native: string;
  };
  /** A directory that goes with the engine: for what tests mount into their containers. */
  readonly directory: string;
  /** On every container of this run, so that the end of the run finds those a test has left. */
  readonly label: string;
  readonly skipped?: undefined;
}

export interface NoEngine {
  /** Why there are no container tests in this run. */
  readonly skipped: string;
}

declare module 'vitest' {
  export interface ProvidedContext {
    engine: Engine | NoEngine;
  }
}

const CHECKOUT = fileURLToPath(new URL('../..', import.meta.url));
const CACHE = join(CHECKOUT, 'node_modules/.cache/ddbg');
const DIRECTORY_PREFIX = 'ddbg-engine-';
/** Without a login, PATH may lack the directories of root's programs. */
const PATH = `${process.env.PATH ?? ''}:/usr/local/sbin:/usr/sbin:/sbin`;
const SUITE = 'bookworm';
const PACKAGES = [
  'libstdc++6', // Node's one library that minbase lacks
  'libatomic1', // and one more from Node 26 on
  'ca-certificates',
  'curl',
  'procps', // ps, which people call first in a container that misbehaves
  'busybox', // ash
  'ksh93u+m',
  'zsh',
];
/** Inside the root, relative: what apt and dpkg leave and no test reads. */
const UNUSED = [
  'var/cache/apt',
  'var/lib/apt/lists',
  'var/log',
  'usr/share/doc',
  'usr/share/info',
  'usr/share/locale',
  'usr/share/man',
];
const READY_DEADLINE_MS = 60_000;
/** dockerd gives containers this long when it is told to stop; we remove them before. */
const SHUTDOWN_TIMEOUT_S = 5;
const STOP_DEADLINE_MS = 10_000;

/** Whatever starts something adds the way to undo it. */
type Undo = Array<() => void>;

/** The docker CLI, at this engine. */
type Docker = (args: readonly string[]) => Promise<string>;

export default async function setup(project: TestProject): Promise<(() => void) | undefined> {
  const required = process.env.DDBG_REQUIRE_DOCKER === '1';
  const undo: Undo = [];
  const tearDown = () => {
    forgetExit();
    for (let step = undo.pop(); step !== undefined; step = undo.pop()) step();
  };
  // vitest runs no teardown when a signal ends it, neither now nor during the tests: hence also here, hence synchronous.
  const forgetExit = onExit(tearDown);

  try {
    project.provide('engine', await prepareEngine(required, undo));
    return tearDown;
  } catch (error) {
    tearDown();
    if (required) throw error;
    const [reason = ''] = String(error instanceof Error ? error.message : error).split('\n');
    console.warn(
      `\nSKIPPED: container tests: ${reason}. To run them: npm run test:container, as root on Debian.\n`,
    );
    project.provide('engine', { skipped: reason });
    return undefined;
  }
}

async function prepareEngine(required: boolean, undo: Undo): Promise<Engine> {
  const clock = startClock();
  let host: string | undefined;
  const reachable = await isReachable();
  if (!reachable && !required) throw new Error('no Docker engine can be reached');

  sweep();
  const directory = mkdtempSync(join(realpathSync(tmpdir()), DIRECTORY_PREFIX));
  writeFileSync(join(directory, 'owner'), String(process.pid));
  undo.push(() => removeDirectory(directory));
  // An installed engine may start itself: look again before starting our own.
  if (!reachable && !((await installMissing()) && (await isReachable()))) {
    host = await startEngine(directory, undo);
  }
  clock(host === undefined ? 'engine found' : 'engine started');

  const docker: Docker = (args) => must('docker', atHost(host, args));
  const label = `ddbg-test=${process.pid}-${Date.now()}`;
  undo.push(() => removeContainers(host, label));

  const images = {
    base: 'ddbg-test-base',
    node20: 'ddbg-test-node20',
    node24: 'ddbg-test-node24',
    native: 'ddbg-test-native',
  };
  await importBase(docker, images.base, directory, required);
  clock('base image');
  const given = process.env.DDBG_TEST_NODE;
  const isLater = given !== undefined && !(await must(given, ['--version'])).startsWith('v20.');
  const [tarball, npm, node20, node24] = await Promise.all([
    packCheckout(directory),
    npmDirectory(),
    given !== undefined && !isLater ? given : nodeBinary(20),
    isLater ? given : nodeBinary(24),
  ]);
  clock('node, npm, package');
  const { base } = images;
  const native = { native: images.native };
  const stages20 = { bare: images.node20, ...(isLater ? {} : native) };
  const stages24 = { bare: images.node24, ...(isLater ? native : {}) };
  await Promise.all([
    buildImages(docker, stages20, base, { tarball, npm, node: node20 }, directory),
    buildImages(docker, stages24, base, { tarball, npm, node: node24 }, directory),
  ]);
  clock('node images');
  return { ...(host === undefined ? {} : { host }), images, directory, label };
}

// ---- the engine -----------------------------------------------------------------------------------------------

function atHost(host: string | undefined, args: readonly string[]): string[] {
  return host === undefined ? [...args] : ['--host', host, ...args];
}

async function isReachable(host?: string): Promise<boolean> {
  // "docker version" fails without a server in every version of the CLI; "docker info" does not.
  const asked = await execa('docker', atHost(host, ['version', '--format', '{{.Server.Version}}']), {
    reject: false,
    timeout: 10_000,
  });
  return asked.exitCode === 0;
}

/** Installs what starting an engine needs; false where nothing was missing. */
async function installMissing(): Promise<boolean> {
  if (process.getuid?.() !== 0) throw new Error('cannot start a Docker engine: not root');
  const missing = [
    ...(onPath('dockerd') ? [] : ['docker.io', 'iptables']),
    ...(onPath('debootstrap') ? [] : ['debootstrap']),
  ];
  if (missing.length > 0) await aptInstall(missing);
  // Debian 13 and later have the CLI in a package of its own.
  if (!onPath('docker')) await aptInstall(['docker-cli']);
  return missing.length > 0;
}

export async function aptInstall(packages: readonly string[]): Promise<void> {
  const env = { DEBIAN_FRONTEND: 'noninteractive' };
  await must('apt-get', ['update'], { env });
  await must('apt-get', ['install', '--yes', '--no-install-recommends', ...packages], { env });
}

/**
 * Starts dockerd, with everything of its in `directory`; returns its host once it answers. What it leaves elsewhere, for
 * want of a setting: empty directories in /run, /opt/containerd and the cgroups, and /etc/docker/key.json.
 */
async function startEngine(directory: string, undo: Undo): Promise<string> {
  const host = `unix://${join(directory, 'docker.sock')}`;
  const logFile = join(directory, 'dockerd.log');
  const configFile = join(directory, 'daemon.json');
  writeFileSync(configFile, '{}');
  const log = openSync(logFile, 'a');
  // In its own process group, or a Ctrl-C at the terminal would stop it before its containers are removed. The kernel
  // tells it to stop even when we are killed: setpriv is in Debian's util-linux, hence always there.
  const dockerd = spawn(
    'setpriv',
    [
      ...['--pdeathsig', 'TERM', '--', 'dockerd'],
      ...['--config-file', configFile], // not the machine's
      ...['--host', host],
      ...['--data-root', join(directory, 'data')],
      ...['--exec-root', join(directory, 'exec')],
      ...['--pidfile', join(directory, 'dockerd.pid')],
      ...['--shutdown-timeout', String(SHUTDOWN_TIMEOUT_S)],
      // Tests use no network but a container's loopback: the machine's bridges, rules and sysctls stay as they are,
      // and a kernel without iptables does.
      ...['--bridge', 'none', '--iptables=false', '--ip6tables=false'],
      ...['--ip-forward=false', '--ip-masq=false', '--userland-proxy=false'],
    ],
    { detached: true, stdio: ['ignore', log, log], env: { ...process.env, PATH } },
  );
  let ended: string | undefined;
  dockerd.once('error', (error) => {
    ended = error.message;
  });
  dockerd.once('exit', (code, signal) => {
    ended = `it ended (${signal ?? code})`;
  });
  undo.push(() => stopEngine(dockerd.pid === undefined ? [] : [dockerd.pid], directory));
  dockerd.unref();

  const deadline = Date.now() + READY_DEADLINE_MS;
  while (!(await isReachable(host))) {
    const late = Date.now() > deadline ? `no answer after ${READY_DEADLINE_MS / 1000} s` : undefined;
    const reason = ended ?? late;
    if (reason !== undefined) {
      throw new Error(`cannot start dockerd: ${reason}; its log:\n${readFileSync(logFile, 'utf8')}`);
    }
    await delay(100);
  }
  return host;
}

/** TERM for dockerd; at the deadline KILL, for its containerd and shims as well. */
function stopEngine(dockerds: readonly number[], directory: string): void {
  for (const pid of dockerds) sendSignal(pid, 'SIGTERM');
  waitUntil(() => !dockerds.some(isRunning), SHUTDOWN_TIMEOUT_S * 1000 + STOP_DEADLINE_MS);
  for (const pid of processesOf(directory)) sendSignal(pid, 'SIGKILL');
  waitUntil(() => processesOf(directory).length === 0, STOP_DEADLINE_MS);
}

function removeContainers(host: string | undefined, label: string): void {
  const cli = (args: string[]) => spawnSync('docker', atHost(host, args), { encoding: 'utf8' }).stdout ?? '';
  const ids = cli(['ps', '--all', '--quiet', '--filter', `label=${label}`])
    .split('\n')
    .filter(Boolean);
  if (ids.length > 0) cli(['rm', '--force', '--volumes', ...ids]);
}

/** Removes what runs that were killed have left. */
function sweep(): void {
  for (const name of readdirSync(tmpdir()).filter((entry) => entry.startsWith(DIRECTORY_PREFIX))) {
    const directory = join(realpathSync(tmpdir()), name);
    const owner = Number(readIfThere(join(directory, 'owner')));
    if (!owner || isRunning(owner)) continue;
    stopEngine(processesOf(directory, 'dockerd'), directory);
    removeDirectory(directory);
  }
}

function removeDirectory(directory: string): void {
  const mountsInside = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((mountPoint) => mountPoint.startsWith(`${directory}/`));
  for (const mountPoint of mountsInside.reverse()) spawnSync('umount', [mountPoint]);
  rmSync(directory, { recursive: true, force: true });
}

// ---- the images -----------------------------------------------------------------------------------------------

/** The base image: as the engine has it from an earlier run, else from the cached root, else from a new one. */
async function importBase(
  docker: Docker,
  image: string,
  directory: string,
  required: boolean,
): Promise<void> {
  const recipe = JSON.stringify([SUITE, process.arch, PACKAGES, UNUSED, 'ash']);
  const key = createHash('sha256').update(recipe).digest('hex').slice(0, 12);
  const had = await docker(['image', 'ls', '--quiet', '--filter', `label=ddbg-test-base=${key}`, image]);
  if (had !== '') return;
  const tarball = join(CACHE, `base-${key}.tar`);
  if (!existsSync(tarball)) await makeRoot(tarball, directory, required);
  await docker([
    'import',
    '--change',
    `LABEL ddbg-test-base=${key}`,
    '--change',
    'CMD ["bash"]',
    tarball,
    image,
  ]);
}

async function makeRoot(tarball: string, directory: string, required: boolean): Promise<void> {
  if (process.getuid?.() !== 0) throw new Error('cannot build the base image: debootstrap needs root');
  if (!onPath('debootstrap')) {
    if (!required) throw new Error('cannot build the base image: debootstrap is missing');
    await aptInstall(['debootstrap']);
  }
  const root = join(directory, 'root');
  const include = `--include=${PACKAGES.join(',')}`;
  await must('debootstrap', ['--variant=minbase', include, SUITE, root, await debianMirror()]);
  for (const path of UNUSED) {
    rmSync(join(root, path), { recursive: true, force: true });
    mkdirSync(join(root, path), { recursive: true });
  }
  symlinkSync('busybox', join(root, 'usr/bin/ash'));
  mkdirSync(CACHE, { recursive: true });
  const unfinished = `${tarball}.${process.pid}`;
  const exclude = ['./dev/*', './proc/*', './sys/*'].map((pattern) => `--exclude=${pattern}`);
  await must('tar', ['-C', root, '--numeric-owner', ...exclude, '-cf', unfinished, '.']);
  renameSync(unfinished, tarball); // whole or not at all: another run may be reading
  rmSync(root, { recursive: true });
}

/** The mirror the machine's apt uses, as apt itself understands its sources. */
async function debianMirror(): Promise<string> {
  const format = '$(REPO_URI) $(RELEASE) $(COMPONENT)';
  const targets = (await must('apt-get', ['indextargets', '--format', format, 'Created-By: Packages']))
    .split('\n')
    .map((line) => line.split(' '))
    .filter(([uri, release, component]) => uri && component === 'main' && !release?.endsWith('-security'));
  const [mirror] = targets.find(([, release]) => release === SUITE) ?? targets[0] ?? [];
  if (mirror === undefined)
    throw new Error("cannot build the base image: apt's sources name no Debian mirror");
  return mirror;
}

interface ImageParts {
  /** The package, as npm packs it. */
  readonly tarball: string;
  /** npm's package directory, with its dependencies. */
  readonly npm: string;
  /** The node executable. */
  readonly node: string;
}

/** @param images what to call each stage of the Dockerfile */
async function buildImages(
  docker: Docker,
  images: { readonly bare: string; readonly native?: string },
  base: string,
  parts: ImageParts,
  directory: string,
): Promise<void> {
  const context = join(directory, images.bare);
  mkdirSync(context);
  cpSync(parts.node, join(context, 'node'));
  cpSync(parts.npm, join(context, 'npm'), { recursive: true });
  cpSync(parts.tarball, join(context, 'ddbg-entry.tgz'));
  const file = join(CHECKOUT, 'docker/test/Dockerfile');
  const flags = ['--network', 'none', '--force-rm', '--build-arg', `BASE=${base}`, '--file', file];
  for (const [stage, image] of Object.entries(images))
    await docker(['build', ...flags, '--target', stage, '--tag', image, context]);
  rmSync(context, { recursive: true });
}

async function packCheckout(directory: string): Promise<string> {
  const given = process.env.DDBG_TEST_PACKAGE;
  return given ? realpathSync(given) : npmPack(join(directory, 'package'));
}

/** Packs the checkout into a new directory: npm's output cannot be read for the name, prepack's output is mixed into it. */
export async function npmPack(destination: string): Promise<string> {
  mkdirSync(destination, { recursive: true });
  await must('npm', ['pack', '--pack-destination', destination]);
  const tarball = readdirSync(destination).find((name) => name.endsWith('.tgz'));
  if (tarball === undefined) throw new Error('cannot pack: npm left no tarball');
  return join(destination, tarball);
}

/** npm's directory: beside the running npm, unless a distribution has taken its dependencies out of it. */
async function npmDirectory(): Promise<string> {
  const running = join(await must('npm', ['root', '--global']), 'npm');
  return existsSync(join(running, 'node_modules')) ? running : await fromNpm('npm@10');
}

async function nodeBinary(major: number): Promise<string> {
  const running = Number(process.versions.node.split('.')[0]);
  if (running === major && process.platform === 'linux') return process.execPath;
  return join(await fromNpm(`node-linux-${process.arch}@${major}`), 'bin/node');
}

/** A package of npm's registry, unpacked in the cache. */
function fromNpm(spec: string): Promise<string> {
  return must('node', [join(CHECKOUT, 'docker/carrier/downloads.mjs'), 'npm', spec]);
}

// ---- the machine ----------------------------------------------------------------------------------------------

/** Runs to the end, or throws with all it wrote: this is all there is to read on a CI machine. */
async function must(
  file: string,
  args: readonly string[],
  options: { env?: Record<string, string> } = {},
): Promise<string> {
  const env = { PATH, DOCKER_BUILDKIT: '0', ...options.env };
  const result = await execa(file, args, { cwd: CHECKOUT, reject: false, all: true, env });
  if (result.exitCode === 0) return result.stdout;
  throw new Error(`cannot run "${file} ${args.join(' ')}": ${result.shortMessage ?? ''}\n${result.all}`);
}

export function onPath(command: string): boolean {
  return PATH.split(':').some((entry) => existsSync(join(entry, command)));
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** Not by `kill(pid, 0)`, which also succeeds for our own child that has ended and is not reaped yet. */
function isRunning(pid: number): boolean {
  const stat = readIfThere(`/proc/${pid}/stat`);
  return stat !== '' && !/^[ZX]/.test(stat.slice(stat.lastIndexOf(')') + 2));
}

/** The engine's processes, by the directory they were told to use: a process id in a file may be another's by now. */
function processesOf(directory: string, program = 'containerd|dockerd'): number[] {
  const isProgram = new RegExp(`^[^\\0]*(?:${program})[^\\0/]*\\0`);
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => {
      const commandLine = pid ? readIfThere(`/proc/${pid}/cmdline`) : '';
      return isProgram.test(commandLine) && commandLine.includes(directory) && isRunning(pid);
    });
}

function sendSignal(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended meanwhile.
  }
}

function waitUntil(isTrue: () => boolean, deadlineMs: number): void {
  const clock = new Int32Array(new SharedArrayBuffer(4));
  const deadline = Date.now() + deadlineMs;
  while (!isTrue() && Date.now() < deadline) Atomics.wait(clock, 0, 0, 20);
}

/** Says how long each step took: the first run debootstraps and downloads, the next ones do not. */
function startClock(): (step: string) => void {
  let last = Date.now();
  return (step) => {
    const now = Date.now();
    console.log(`container tests: ${step} (${((now - last) / 1000).toFixed(1)} s)`);
    last = now;
  };
}
