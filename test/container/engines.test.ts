/**
 * The same life under other engines than Docker, all from Debian's packages: podman as root and as another user, runc
 * and crun alone, docker-compose; as a table at the end. What the banner says is typed as it stands.
 *
 * Each row but docker-compose's has a namespace of mounts and of processes for itself: what its engine keeps in /run
 * and /var/lib is the test's, and all of it goes with the row, or with us, however we end. Only podman's empty cgroup,
 * libpod_parent, stays.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it, onTestFailed } from 'vitest';
import { build, buildCarrier, compile, ENTRY, FAULT, TOOL, withStatus } from './carrier-images.ts';
import { type CommandResult, describeWithEngine, docker, engine } from './docker.ts';
import { aptInstall, onPath } from './engine.ts';
import { eventually, ownLines } from './kit.ts';
import { Matrix } from './matrix.ts';

const IMAGE = 'ddbg-test-engines';
const SERVICE = '/app/service';
/** Says which USR1 it gets, until a stop. */
const STOPPED = 3;
const SH = '/ddbg/bin/busybox';
const UNTIL_TERM = [
  ...[SH, 'sh', '-c'],
  `trap 'echo got USR1' USR1; trap 'exit ${STOPPED}' TERM; echo up; while :; do ${SH} sleep 0.05; done`,
];

interface Row {
  readonly name: string;
  readonly kind: 'podman' | 'runtime' | 'compose';
  /** docker-compose: the engine's. */
  readonly runtime: 'crun' | 'runc';
  readonly cgroups?: keyof typeof CGROUPS;
  readonly isRootless?: boolean;
}

/**
 * What of the cgroups a row sees. crun takes no machine that has controllers in both hierarchies ("cgroups in hybrid mode
 * not supported"); under v2 alone it also wants CAP_SYS_RESOURCE, and has no row.
 */
const CGROUPS = {
  'as they are': ':',
  'no v2 beside v1': '! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified',
  'v2 alone': 'umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup',
} as const;

const ROWS: readonly Row[] = [
  { name: 'podman, root, runc', kind: 'podman', runtime: 'runc' },
  { name: 'podman, root, runc, cgroup v2', kind: 'podman', runtime: 'runc', cgroups: 'v2 alone' },
  { name: 'podman, root, crun', kind: 'podman', runtime: 'crun', cgroups: 'no v2 beside v1' },
  { name: 'podman, rootless, runc', kind: 'podman', runtime: 'runc', isRootless: true },
  {
    name: 'podman, rootless, crun',
    kind: 'podman',
    runtime: 'crun',
    cgroups: 'no v2 beside v1',
    isRootless: true,
  },
  { name: 'runc run', kind: 'runtime', runtime: 'runc' },
  { name: 'runc run, cgroup v2', kind: 'runtime', runtime: 'runc', cgroups: 'v2 alone' },
  { name: 'crun run', kind: 'runtime', runtime: 'crun', cgroups: 'no v2 beside v1' },
  { name: 'docker-compose', kind: 'compose', runtime: 'runc' },
];
/** Of their containers, which another run's may not have at the same engine. */
const NAMES = new Map(ROWS.map((row, at) => [row, `ddbg-${process.pid}-${at + 1}`]));
const COLUMNS = ['held', 'id', 'get in', 'report', 'rerun', 'let go', 'inside', 'signals'] as const;
type Column = (typeof COLUMNS)[number];

/** Without root in it: a user of the machine that owns nothing. */
const NOBODY = 65534;

// ---- a world for each row -------------------------------------------------------------------------------------------

interface World {
  /** A command line, as a person types it; on a terminal with the keys that come. */
  type(line: string, keys?: string): Promise<CommandResult>;
  end(): Promise<void>;
}

async function run(argv: readonly string[], keys = ''): Promise<CommandResult> {
  const [file = '', ...args] = argv;
  const { exitCode = 255, stdout, stderr } = await execa(file, args, { reject: false, input: keys });
  return { status: exitCode, stdout, stderr };
}

const shellOf = (line: string, keys: string | undefined): string[] =>
  keys === undefined ? ['sh', '-c', line] : ['script', '-qec', line, '/dev/null'];

/** @param lib becomes /var/lib */
async function startWorld(row: Row, lib: string): Promise<World> {
  const user = row.isRootless ? NOBODY : 0;
  // bash reaps the orphans: podman's conmon ends as one
  const script = `set -e
    read -r pid _ </proc/self/stat
    mount -t proc proc /proc
    mount -t tmpfs tmpfs /run
    mount --bind '${lib}' /var/lib
    ${CGROUPS[row.cgroups ?? 'as they are']}
    install -d -m 700 -o ${user} -g ${user} /run/user
    echo "$pid"
    read -r _ || exit 0`;
  const own = ['--mount', '--pid', '--fork', '--kill-child', 'bash', '-c', script];
  const holder = spawn('unshare', own, { stdio: ['pipe', 'pipe', 'inherit'] });
  const [said] = await Promise.race([once(holder.stdout, 'data'), once(holder, 'exit')]);
  if (!Buffer.isBuffer(said)) throw new Error(`cannot make the namespace of ${row.name}: status ${said}`);
  const pid = Number(said);
  const asUser = ['setpriv', '--reuid', `${user}`, '--regid', `${user}`, '--clear-groups'];
  const variables = [`PATH=${process.env.PATH}:/usr/sbin:/sbin`, 'HOME=/var/lib/home', 'TERM=xterm'];
  const podmans = ['CONTAINERS_CONF=/var/lib/containers.conf', 'XDG_RUNTIME_DIR=/run/user'];
  const inside = [
    ...['nsenter', '--target', `${pid}`, '--mount', '--pid'],
    ...(row.isRootless ? asUser : []),
    ...['env', '--ignore-environment', ...variables, ...podmans],
  ];
  return {
    type: (line, keys) => run([...inside, ...shellOf(line, keys)], keys),
    end: async () => {
      const ended = holder.exitCode === null ? once(holder, 'exit') : undefined;
      holder.stdin.end();
      await ended;
    },
  };
}

/** What podman has to be told on a machine without systemd, without CAP_SYS_RESOURCE and without a network. */
function podmanSettings(row: Row): string {
  const limits = readFileSync('/proc/self/limits', 'utf8');
  const hard = (name: string) =>
    Number(new RegExp(`^${name} +\\S+ +(\\d+)`, 'm').exec(limits)?.[1] ?? 2 ** 20);
  const files = hard('Max open files');
  const processes = Math.min(hard('Max processes'), 32_768); // podman 4.3 lowers its own to that first
  return `[containers]
netns = "none"
pids_limit = 0
default_ulimits = ["nofile=${files}:${files}", "nproc=${processes}:${processes}"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "${row.runtime}"
`;
}

// ---- the engines ----------------------------------------------------------------------------------------------------

interface Started {
  /** As the engine has it. */
  readonly id: string;
  /** In a cgroup namespace nothing tells a runtime's name for the container: the lines leave it open. */
  readonly isNameless?: boolean;
  log(): Promise<string>;
  /** Its exit status. */
  wait(): Promise<number>;
}

interface Host extends World {
  start(name: string, environment: readonly string[], command: readonly string[]): Promise<Started>;
  /** The lines that stop it and that send it USR1. */
  readonly stop: (name: string) => string;
  readonly usr1: (name: string) => string;
}

async function must(world: World, line: string): Promise<string> {
  const { status, stdout, stderr } = await world.type(line);
  if (status !== 0) throw new Error(`${line}: ${status}: ${stderr}`);
  return stdout.trim();
}

const quoted = (words: readonly string[]) =>
  words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');

async function startPodman(row: Row, lib: string): Promise<Host> {
  writeFileSync(join(lib, 'containers.conf'), podmanSettings(row));
  mkdirSync(join(lib, 'home'), { recursive: true });
  if (row.isRootless) chownSync(join(lib, 'home'), NOBODY, NOBODY);
  const world = await startWorld(row, lib);
  try {
    await must(world, `podman image exists ${IMAGE} || podman load --quiet </var/lib/image.tar`);
  } catch (error) {
    await world.end();
    throw error;
  }
  return {
    ...world,
    start: async (name, environment, command) => {
      const flags = environment.map((each) => `--env=${each}`);
      const line = `podman run --detach --name ${name} ${quoted([...flags, IMAGE, ...command])}`;
      return {
        id: await must(world, line),
        log: async () => {
          const { stdout, stderr } = await world.type(`podman logs ${name}`);
          return `${stdout}\n${stderr}\n`;
        },
        wait: async () => Number(await must(world, `podman wait ${name}`)),
      };
    },
    stop: (name) => `podman stop --time 60 ${name}`,
    usr1: (name) => `podman kill --signal USR1 ${name}`,
    end: async () => {
      await world.type('podman rm --all --force --time 0');
      await world.end();
    },
  };
}

async function startRuntime(row: Row, lib: string): Promise<Host> {
  const world = await startWorld(row, lib);
  const { runtime } = row;
  return {
    ...world,
    start: async (name, environment, command) => {
      writeFileSync(join(lib, 'rootfs/app/status'), `${FAULT}\n`);
      const bundle = join(lib, name);
      mkdirSync(bundle);
      await must(world, `cd /var/lib/${name} && ${runtime} spec`);
      const config = JSON.parse(readFileSync(join(bundle, 'config.json'), 'utf8'));
      Object.assign(config.root, { path: '/var/lib/rootfs', readonly: false });
      Object.assign(config.process, { terminal: false, args: [ENTRY, '--', ...command] });
      config.process.env.push(...environment);
      writeFileSync(join(bundle, 'config.json'), JSON.stringify(config));
      const ended = world.type(`${runtime} run --bundle /var/lib/${name} ${name} >/var/lib/${name}/log 2>&1`);
      return {
        id: name,
        isNameless: config.linux.namespaces.some(({ type }: { type: string }) => type === 'cgroup'),
        log: async () => readFileSync(join(bundle, 'log'), 'utf8'),
        wait: async () => (await ended).status,
      };
    },
    stop: (name) => `${runtime} kill ${name}`,
    usr1: (name) => `${runtime} kill ${name} USR1`,
  };
}

/** One project for each container. @param lib for its files */
async function startCompose(lib: string): Promise<Host> {
  const { host } = engine();
  const variables = host === undefined ? [] : [`DOCKER_HOST=${host}`];
  const world: World = {
    type: (line, keys) => run(['env', ...variables, ...shellOf(line, keys)], keys),
    end: async () => {},
  };
  const compose = (name: string) => `docker-compose --project-name ${name} --file ${lib}/${name}.json`;
  const names: string[] = [];
  return {
    ...world,
    start: async (name, environment, command) => {
      writeFileSync(join(lib, `${name}.json`), composeFile({ app: { environment, command } }));
      names.push(name);
      await must(world, `${compose(name)} up --detach`);
      const id = await must(world, `${compose(name)} ps --quiet app`);
      return {
        id,
        log: async () => {
          const { stdout, stderr } = await docker(['logs', id]);
          return stdout + stderr;
        },
        wait: async () => Number((await docker(['wait', id])).stdout),
      };
    },
    stop: (name) => `${compose(name)} stop --timeout 60`,
    usr1: (name) => `${compose(name)} kill -s USR1`,
    end: async () => {
      for (const name of names) await must(world, `${compose(name)} down --timeout 0`);
    },
  };
}

type ComposeService = { readonly environment: readonly string[]; readonly command: readonly string[] };

function composeFile(services: Readonly<Record<string, ComposeService>>): string {
  const [name, value] = engine().label.split('=') as [string, string];
  const common = { image: IMAGE, network_mode: 'none', labels: { [name]: value } };
  const all = Object.entries(services).map(([service, { environment, command }]) => [
    service,
    { ...common, environment, command: command.map((word) => word.replaceAll('$', '$$$$')) },
  ]);
  return JSON.stringify({ version: '2.4', services: Object.fromEntries(all) });
}

// ---- the tests ------------------------------------------------------------------------------------------------------

/** Program and Debian package. */
const WANTED = { podman: 'podman', crun: 'crun', runc: 'runc', 'docker-compose': 'docker-compose' };
const missing = Object.entries(WANTED).flatMap(([program, name]) => (onPath(program) ? [] : [name]));
const isRequired = process.env.DDBG_REQUIRE_DOCKER === '1';
const isRoot = process.getuid?.() === 0;
const reason =
  isRequired || (missing.length === 0 && isRoot)
    ? undefined
    : `${isRoot ? '' : 'not root; '}missing: ${missing.join(', ') || 'nothing'}`;
if (reason !== undefined) console.warn(`\nSKIPPED: other engines: ${reason}\n`);

describe.skipIf(reason !== undefined)('other engines', () => {
  describeWithEngine('with the carrier', () => {
    const matrix = new Matrix('the carrier under', ROWS, COLUMNS);
    let lib: string;

    beforeAll(async () => {
      if (missing.length > 0) await aptInstall(missing);
      await buildCarrier();
      await build(IMAGE, 'scratch', (folder) => {
        withStatus(folder);
        compile(folder, 'cc', '-static');
      });
      lib = join(engine().directory, 'engines');
      mkdirSync(join(lib, 'rootfs'), { recursive: true });
      await docker(['save', '--output', join(lib, 'image.tar'), IMAGE]);
      chmodSync(join(lib, 'image.tar'), 0o644);
      const made = await docker(['create', '--label', engine().label, IMAGE]);
      const exported = join(lib, 'rootfs.tar');
      await docker(['export', '--output', exported, made.stdout.trim()]);
      await execa('tar', ['-C', join(lib, 'rootfs'), '-xf', exported]);
    }, 600_000);

    afterAll(() => {
      console.log(`${matrix}`);
    });

    describe.each(ROWS)('$name', (row) => {
      let host: Host;
      let held: Started;
      let last: Started | undefined;
      let log = '';
      const cell = (column: Column, body: () => Promise<string | undefined>) =>
        matrix.cell(row.name, column, () => {
          onTestFailed(() => console.error(`the last log of ${row.name}:\n${log}`));
          return body();
        });
      const logOf = async (started: Started) => {
        log = await started.log();
        return log;
      };
      const hold = async (suffix: string): Promise<Started> => {
        const started = await host.start(
          `${NAMES.get(row)}-${suffix}`,
          ['TENANT=blue', 'DEBUG=stayalive'],
          [SERVICE],
        );
        last = started;
        await eventually(() => logOf(started)).toMatch(/let it go: .*\n.*-{60}/);
        return started;
      };
      /** What the banner says is to be typed. */
      const typed = (what: string): string => {
        const line = new RegExp(`^${what}: +(.*?)(?: {3}.*)?$`, 'm').exec(ownLines(log).join('\n'))?.[1];
        if (line === undefined) throw new Error(`no "${what}" in ${log}`);
        return last?.isNameless ? line.replace('CONTAINER', last.id) : line;
      };
      const inside = (words: string): string => typed('what happened').replace(/report$/, words);

      beforeAll(async () => {
        const { kind } = row;
        host = await (kind === 'podman'
          ? startPodman(row, lib)
          : kind === 'runtime'
            ? startRuntime(row, lib)
            : startCompose(lib));
      }, 120_000);
      afterAll(() => host?.end());

      cell('held', async () => {
        held = await hold('held');
        expect(log).toContain('up, tenant blue');
        expect(log).toContain(`(it ends with status ${FAULT})`);
        return undefined;
      });

      cell('id', async () => {
        const client = row.kind === 'compose' ? 'docker' : row.kind === 'podman' ? 'podman' : row.runtime;
        const flag = row.kind === 'runtime' ? '-t' : '-it';
        const id = row.kind === 'runtime' ? held.id : held.id.slice(0, 12);
        expect(typed('get in')).toBe(`${client} exec ${flag} ${id} ${TOOL} shell`);
        expect(log.includes('CONTAINER')).toBe(held.isNameless ?? false);
        return held.isNameless ? 'open' : undefined;
      });

      cell('get in', async () => {
        const { status, stdout } = await host.type(typed('get in'), 'echo "at $TENANT"; exit 5\n');
        expect({ status, stdout }).toEqual({ status: 5, stdout: expect.stringMatching(/^at blue\r?$/m) });
        return undefined;
      });

      cell('report', async () => {
        const { status, stdout, stderr } = await host.type(typed('what happened'));
        expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
        expect(stdout).toContain(`exited with status ${FAULT}`);
        return undefined;
      });

      cell('rerun', async () => {
        await must(host, inside("shell -- sh -c 'echo 0 >/app/status'"));
        await must(host, typed('again'));
        expect(await held.wait()).toBe(0);
        return undefined;
      });

      cell('let go', async () => {
        const started = await hold('out');
        expect((await host.type(typed('let it go'))).status).toBe(0);
        expect(await started.wait()).toBe(FAULT); // 137 where the KILL had to come
        return undefined;
      });

      cell('inside', async () => {
        const started = await hold('in');
        expect(log).toMatch(new RegExp(`let it go: .* {3}or, inside: ${TOOL} release {3}`));
        await must(host, inside('release'));
        expect(await started.wait()).toBe(FAULT);
        return undefined;
      });

      cell('signals', async () => {
        const name = `${NAMES.get(row)}-signals`;
        const started = await host.start(name, ['DEBUG=stayalive'], UNTIL_TERM);
        await eventually(() => logOf(started)).toMatch(/^up$/m);
        await must(host, host.usr1(name));
        await eventually(() => logOf(started)).toMatch(/^got USR1$/m);
        await must(host, host.stop(name));
        expect(await started.wait()).toBe(STOPPED);
        log = await started.log();
        expect(log).not.toContain('fault:');
        return undefined;
      });
    });

    it('docker-compose: one service faults and is held, the other goes on; stop and down end both', async () => {
      const host = await startCompose(lib);
      const file = join(lib, 'pair.json');
      const environment = ['TENANT=blue', 'DEBUG=stayalive'];
      const services = {
        good: { environment, command: UNTIL_TERM },
        bad: { environment, command: [SERVICE] },
      };
      writeFileSync(file, composeFile(services));
      const compose = (words: string) =>
        must(host, `docker-compose -p ddbg-${process.pid}-pair -f ${file} ${words}`);
      const logOf = async (id: string) => {
        const { stdout, stderr } = await docker(['logs', id]);
        return stdout + stderr;
      };
      const up = async () => {
        await compose('up --detach');
        const ids = [await compose('ps --quiet good'), await compose('ps --quiet bad')] as const;
        await eventually(() => logOf(ids[0])).toMatch(/^up$/m);
        await eventually(() => logOf(ids[1])).toMatch(/let it go: .*\n.*-{60}/);
        const running = await compose('ps --quiet --filter status=running');
        expect(running.split('\n').sort()).toEqual([...ids].sort());
        return ids;
      };
      const statuses = async (ids: readonly string[]) => (await docker(['wait', ...ids])).stdout;
      try {
        const first = await up();
        expect(await compose('exec -T bad /ddbg/bin/ddbg report')).toContain(`exited with status ${FAULT}`);
        await compose('stop');
        expect(await statuses(first)).toBe(`${STOPPED}\n${FAULT}\n`);
        await compose('rm --force');
        const second = await up();
        const ended = statuses(second);
        await compose('down');
        expect(await ended).toBe(`${STOPPED}\n${FAULT}\n`);
      } finally {
        await compose('down --timeout 0');
      }
    });
  });
});
