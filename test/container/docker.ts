/**
 * What the container tests say to Docker: run to the end, start and watch, serve a directory. The engine and the
 * images come from engine.ts. No container has a network of its own (`--network none`): what needs HTTP joins the
 * loopback of the container that serves it.
 */
import { randomBytes } from 'node:crypto';
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { afterAll, afterEach, describe, inject, TestRunner } from 'vitest';
import type { Engine } from './engine.ts';

const WEB_SERVER = fileURLToPath(new URL('../../docker/test/web-server.mjs', import.meta.url));
const RUN_DEADLINE_MS = 60_000;
const LOG_DEADLINE_MS = 20_000;

export interface CommandResult {
  /** Exit status; 128 + n for a signal n, as a shell says it. */
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ContainerOptions {
  /** What follows the image: CMD. */
  readonly command?: readonly string[];
  /** One path: arguments belong into `command`. */
  readonly entrypoint?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Anything else for "docker run", before the image: `['--init', '--volume', ...]`. */
  readonly flags?: readonly string[];
  /** Default: 'none'. Or the `network` of a `WebServer`. */
  readonly network?: string;
}

export interface RunOptions extends ContainerOptions {
  /** On stdin. Default: nothing, stdin is at its end. */
  readonly input?: string;
  /** The container is removed and the call fails when it takes longer. Default: 60 s. */
  readonly deadlineMs?: number;
}

export interface ExecOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly user?: string;
}

/** The part of "docker inspect" that tests ask for; the rest is there, untyped. */
export interface Inspection extends Record<string, unknown> {
  readonly RestartCount: number;
  readonly State: {
    readonly Status: 'created' | 'running' | 'paused' | 'restarting' | 'removing' | 'exited' | 'dead';
    readonly Running: boolean;
    readonly ExitCode: number;
    readonly OOMKilled: boolean;
    /** On the host; 0 when it is not running. */
    readonly Pid: number;
  };
}

export interface WebServer {
  /** For `ContainerOptions.network` of whoever fetches from it. */
  readonly network: string;
  readonly url: string;
  /** What it serves: a file written here is served at once. */
  readonly dir: string;
  /** Its log has one line a request: "GET /patch.tar.gz 200". */
  readonly container: Container;
}

/** The engine of this run; only to be asked for inside `describeWithEngine`. */
export function engine(): Engine {
  const provided = inject('engine');
  if (provided.skipped !== undefined) throw new Error(`no engine: ${provided.skipped}`);
  return provided;
}

/** `describe`, skipped where there is no engine; engine.ts has said so loudly. */
export function describeWithEngine(name: string, body: (images: Engine['images']) => void): void {
  const provided = inject('engine');
  const none = { base: '', node20: '', node24: '', native: '' };
  if (provided.skipped === undefined) describe(name, () => body(provided.images));
  else describe.skip(`${name} (${provided.skipped})`, () => body(none));
}

/** The docker CLI at this run's engine. Does not throw for an exit status. */
export async function docker(
  args: readonly string[],
  options: { readonly input?: string; readonly deadlineMs?: number } = {},
): Promise<CommandResult> {
  const { host } = engine();
  const deadlineMs = options.deadlineMs ?? RUN_DEADLINE_MS;
  const result = await execa('docker', host === undefined ? args : ['--host', host, ...args], {
    reject: false,
    stripFinalNewline: false,
    input: options.input ?? '',
    timeout: deadlineMs,
    // TERM would be passed on to the container: the CLI ends, the container is removed by whoever asked.
    killSignal: 'SIGKILL',
  });
  if (result.exitCode === undefined) {
    const reason = result.timedOut ? `not done after ${deadlineMs} ms` : result.shortMessage;
    throw new Error(`docker ${args.join(' ')}: ${reason}\n${result.stdout}${result.stderr}`);
  }
  return { status: result.exitCode, stdout: result.stdout, stderr: result.stderr };
}

/** `docker build`, with or without BuildKit. Throws with all it wrote. */
export async function buildImage(image: string, args: readonly string[]): Promise<void> {
  const built = await docker(['build', '--quiet', '--tag', image, ...args], { deadlineMs: 300_000 });
  if (built.status !== 0) throw new Error(`cannot build ${image}: ${built.stdout}\n${built.stderr}`);
}

/** Runs a container to its end and removes it. Throws when Docker cannot create it. */
export async function run(image: string, options: RunOptions = {}): Promise<CommandResult> {
  const name = newName();
  const interactive = options.input === undefined ? [] : ['--interactive'];
  try {
    // In two steps, since "docker run" writes the engine's warnings into the container's stderr (e.g. "IPv4
    // forwarding is disabled").
    await mustDocker(['create', '--rm', ...interactive, ...runArguments(name, image, options)]);
    return await docker(['start', '--attach', ...interactive, name], options);
  } catch (error) {
    await removeByName(name);
    throw error;
  }
}

/** Starts a container in the background. It is removed after the test, or after the file when a hook starts it. */
export async function start(image: string, options: ContainerOptions = {}): Promise<Container> {
  const name = newName();
  registerCleanup(name);
  const started = await docker(['run', '--detach', ...runArguments(name, image, options)]);
  const id = started.stdout.trim();
  if (started.status !== 0) throw new Error(`cannot start ${image}: ${started.stderr}`);
  return new Container(id, name);
}

export class Container {
  readonly id: string;
  readonly name: string;

  constructor(id: string, name: string) {
    this.id = id;
    this.name = name;
  }

  async logs(): Promise<{ readonly stdout: string; readonly stderr: string }> {
    const { stdout, stderr } = await mustDocker(['logs', this.id]);
    return { stdout, stderr };
  }

  /** Waits until stdout and stderr, as they came, match. Fails with the whole log at the deadline or at its end. */
  async waitForLog(pattern: RegExp, deadlineMs = LOG_DEADLINE_MS): Promise<RegExpExecArray> {
    const { host } = engine();
    const args = ['logs', '--follow', this.id];
    const followed = execa('docker', host === undefined ? args : ['--host', host, ...args], {
      all: true,
      buffer: false,
      reject: false,
      timeout: deadlineMs,
      killSignal: 'SIGKILL',
    });
    let log = '';
    followed.all.setEncoding('utf8');
    try {
      for await (const text of followed.all) {
        log += text;
        pattern.lastIndex = 0;
        const match = pattern.exec(log);
        if (match !== null) return match;
      }
    } finally {
      followed.kill('SIGKILL');
    }
    const { timedOut } = await followed;
    const when = timedOut ? `after ${deadlineMs} ms` : 'and the container has ended';
    throw new Error(`container ${this.name}: no ${pattern} in its log ${when}. The log:\n${log}`);
  }

  exec(command: readonly string[], options: ExecOptions = {}): Promise<CommandResult> {
    const user = options.user === undefined ? [] : ['--user', options.user];
    return docker(['exec', ...user, ...environment(options.env), this.id, ...command]);
  }

  /** "docker stop": TERM, then KILL after `timeoutS` (Docker's default: 10). Returns once it has ended. */
  async stop(options: { readonly timeoutS?: number } = {}): Promise<void> {
    const timeout = options.timeoutS === undefined ? [] : ['--time', String(options.timeoutS)];
    await mustDocker(['stop', ...timeout, this.id]);
  }

  /** Sends a signal; does not wait for what it does. */
  async kill(signal: string): Promise<void> {
    await mustDocker(['kill', '--signal', signal, this.id]);
  }

  /** Waits for its end and returns the exit status. */
  async wait(deadlineMs?: number): Promise<number> {
    const { stdout } = await mustDocker(['wait', this.id], deadlineMs === undefined ? {} : { deadlineMs });
    return Number(stdout);
  }

  async inspect(): Promise<Inspection> {
    const { stdout } = await mustDocker(['inspect', '--type', 'container', this.id]);
    return JSON.parse(stdout)[0];
  }

  async remove(): Promise<void> {
    await removeByName(this.name);
  }
}

/**
 * Serves files on the loopback of a container without a network. Bytes are a `Buffer`, a string is the path of a
 * file to copy.
 */
export async function startWebServer(files: Readonly<Record<string, Buffer | string>>): Promise<WebServer> {
  const dir = mkdtempSync(join(engine().directory, 'web-'));
  chmodSync(dir, 0o755);
  for (const [name, content] of Object.entries(files)) {
    const path = join(dir, name);
    mkdirSync(dirname(path), { recursive: true });
    if (typeof content === 'string') copyFileSync(content, path);
    else writeFileSync(path, content);
  }
  const volumes = ['--volume', `${dir}:/srv:ro`, '--volume', `${WEB_SERVER}:/web-server.mjs:ro`];
  const container = await start(engine().images.node20, {
    flags: volumes,
    command: ['node', '/web-server.mjs'],
  });
  await container.waitForLog(/^ready$/m);
  return { network: `container:${container.id}`, url: 'http://127.0.0.1:8000', dir, container };
}

function runArguments(name: string, image: string, options: ContainerOptions): string[] {
  const entrypoint = options.entrypoint === undefined ? [] : ['--entrypoint', options.entrypoint];
  return [
    ...['--name', name, '--label', engine().label],
    ...['--network', options.network ?? 'none'],
    ...environment(options.env),
    ...entrypoint,
    ...(options.flags ?? []),
    image,
    ...(options.command ?? []),
  ];
}

function environment(env: Readonly<Record<string, string>> = {}): string[] {
  return Object.entries(env).flatMap(([name, value]) => ['--env', `${name}=${value}`]);
}

async function mustDocker(
  args: readonly string[],
  options: { readonly deadlineMs?: number } = {},
): Promise<CommandResult> {
  const result = await docker(args, options);
  if (result.status !== 0)
    throw new Error(`docker ${args.join(' ')}: exit ${result.status}: ${result.stderr}`);
  return result;
}

function newName(): string {
  return `ddbg-test-${randomBytes(6).toString('hex')}`;
}

async function removeByName(...names: readonly string[]): Promise<void> {
  await docker(['rm', '--force', '--volumes', ...names]);
}

// ---- clean-up: what a test started goes after the test, what a hook started goes after the file. Not for
// `test.concurrent`, where a test would remove the containers of its neighbours.

/** Names of containers. */
const ofTest = new Set<string>();
const ofFile = new Set<string>();

function registerCleanup(name: string): void {
  (TestRunner.getCurrentTest() === undefined ? ofFile : ofTest).add(name);
}

async function cleanUp(registered: Set<string>): Promise<void> {
  const names = [...registered];
  registered.clear();
  if (names.length > 0) await removeByName(...names);
}

afterEach(async ({ task }) => {
  if (task.result?.state === 'fail') {
    for (const name of ofTest) {
      const { stdout, stderr } = await docker(['logs', name]);
      console.error(`the log of ${name}:\n${stdout}${stderr}`);
    }
  }
  await cleanUp(ofTest);
});
afterAll(() => cleanUp(ofFile));
