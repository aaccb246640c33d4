/**
 * The carrier image in any other: the same life in each (off, traced, patched, held, reported, entered, run again), as a
 * table at the end. The images are made here, from Debian's packages, without an image registry.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { readElf } from '../elf.ts';
import {
  ARCHITECTURE,
  build,
  buildCarrier,
  CARRIER,
  CHECKOUT,
  compile,
  ENTRY,
  FAULT,
  TOOL,
  withStatus,
} from './carrier-images.ts';
import { type Container, describeWithEngine, docker, engine, run, start, startWebServer } from './docker.ts';
import { changes, mountFiles, ownLines, tarGz, waitForPark } from './kit.ts';
import { Matrix } from './matrix.ts';

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
const JAVA = '/usr/lib/jvm/java-17-openjdk-amd64/bin/java';

interface Service {
  readonly image: string;
  readonly command: readonly string[];
  /** What the patch puts in the place of what is wrong. */
  readonly patch: Readonly<Record<string, string>>;
  /** The status of its fault. */
  readonly status: number;
  /** What it prints, broken and mended. */
  readonly says: RegExp;
  /** Whether `verbose` traces it as a script. */
  readonly trace?: RegExp;
}

const byStatus = { patch: { 'app/status': '0\n' }, status: FAULT, says: /^up, tenant \w+\n$/ };

const SERVICES = {
  debian: {
    image: 'ddbg-test-any-debian',
    command: ['/app/entrypoint.sh'],
    trace: /\+ .*entrypoint\.sh:\d+.* cat \/app\/status/,
    ...byStatus,
  },
  busybox: {
    image: 'ddbg-test-any-busybox',
    command: ['/app/entrypoint.sh'],
    trace: /^\+ .*\/app\/status/m,
    ...byStatus,
  },
  static: { image: 'ddbg-test-any-static', command: ['/app/service'], ...byStatus },
  musl: { image: 'ddbg-test-any-musl', command: ['/app/service'], ...byStatus },
  python: { image: 'ddbg-test-any-python', command: ['python3', '/app/service.py'], ...byStatus },
  jvm: {
    image: 'ddbg-test-any-jvm',
    command: [JAVA, '@/app/options'],
    patch: { 'app/options': '-version\n' },
    status: 1,
    says: /^$/,
  },
} satisfies Record<string, Service>;

// ---- the images -----------------------------------------------------------------------------------------------------

/** Debian's packages, unpacked. */
function packages(...names: string[]): string {
  const script = join(CHECKOUT, 'docker/carrier/downloads.mjs');
  return execFileSync('node', [script, 'debian', ARCHITECTURE, ...names], { encoding: 'utf8' }).trim();
}

const SCRIPT = `echo "up, tenant $TENANT"
exit "$(cat /app/status)"
`;
const PYTHON = `import os
print("up, tenant", os.environ["TENANT"])
raise SystemExit(int(open("/app/status").read()))
`;

function script(folder: string, shell: string): void {
  const file = join(folder, 'app/entrypoint.sh');
  writeFileSync(file, `#!${shell}\n${SCRIPT}`);
  chmodSync(file, 0o755);
}

function busybox(folder: string): void {
  mkdirSync(join(folder, 'bin'));
  cpSync(join(packages('busybox-static'), 'bin/busybox'), join(folder, 'bin/busybox'));
  for (const name of ['sh', 'cat']) symlinkSync('busybox', join(folder, 'bin', name));
}

async function makeImages(base: string): Promise<void> {
  await buildCarrier('linux-x64', 'linux-arm64');
  await build(SERVICES.debian.image, base, (folder) => {
    withStatus(folder);
    script(folder, '/bin/bash');
  });
  await build(SERVICES.busybox.image, 'scratch', (folder) => {
    withStatus(folder);
    script(folder, '/bin/sh');
    busybox(folder);
  });
  await build(SERVICES.static.image, 'scratch', (folder) => {
    withStatus(folder);
    compile(folder, 'cc', '-static');
  });
  await build(SERVICES.musl.image, 'scratch', (folder) => {
    withStatus(folder);
    compile(folder, 'musl-gcc');
    cpSync(join(packages('musl'), 'lib'), join(folder, 'lib'), { recursive: true, verbatimSymlinks: true });
  });
  await build(SERVICES.python.image, base, (folder) => {
    const tree = packages(
      'python3-minimal',
      'python3.11-minimal',
      'libpython3.11-minimal',
      'libexpat1',
      'zlib1g',
    );
    cpSync(join(tree, 'usr'), join(folder, 'usr'), { recursive: true, verbatimSymlinks: true });
    cpSync(join(tree, 'lib'), join(folder, 'usr/lib'), { recursive: true, verbatimSymlinks: true }); // in the base /lib is a link
    withStatus(folder);
    writeFileSync(join(folder, 'app/service.py'), PYTHON);
  });
  await build(SERVICES.jvm.image, base, (folder) => {
    const tree = packages('openjdk-17-jre-headless', 'zlib1g');
    cpSync(join(tree, 'usr/lib'), join(folder, 'usr/lib'), { recursive: true, verbatimSymlinks: true });
    cpSync(join(tree, 'etc'), join(folder, 'etc'), { recursive: true, verbatimSymlinks: true });
    writeFileSync(join(folder, 'app/options'), '-cp /app shop.Main\n');
  });
}

// ---- the matrix -----------------------------------------------------------------------------------------------------

const COLUMNS = ['off', 'verbose', 'fstree', 'stayalive', 'report', 'shell', 'rerun'] as const;
type Column = (typeof COLUMNS)[number];

interface Row {
  readonly name: string;
  readonly service: Service;
  readonly flags?: readonly string[];
  /** The engine's `--network`; default: none. */
  readonly network?: () => string;
  /** Why an archive cannot be laid: it is refused, all of it, and the cell says so. */
  readonly refuses?: RegExp;
  readonly isOnTerminal?: boolean;
}

let server: Awaited<ReturnType<typeof startWebServer>>;
let other: Container;

const { debian, static: single } = SERVICES;
const CANNOT_WRITE = /Read-only file system|read-only|EROFS/i;
const ROWS: readonly Row[] = [
  { name: 'Debian without Node', service: debian },
  { name: 'busybox only', service: SERVICES.busybox },
  { name: 'scratch, one static binary', service: single },
  { name: 'musl', service: SERVICES.musl },
  { name: 'Python', service: SERVICES.python },
  { name: 'JVM', service: SERVICES.jvm },
  ...[debian, single].flatMap((service): Row[] => {
    const of = service === debian ? 'Debian' : 'scratch';
    return [
      {
        name: `${of} --user 1000:1000`,
        service,
        flags: ['--user', '1000:1000'],
        refuses: /EACCES|permission|not writable|may not/i,
      },
      { name: `${of} --read-only`, service, flags: ['--read-only'], refuses: CANNOT_WRITE },
      {
        name: `${of} --read-only --tmpfs /run`,
        service,
        flags: ['--read-only', '--tmpfs', '/run'],
        refuses: CANNOT_WRITE,
      },
      {
        name: `${of} --cap-drop ALL no-new-privileges`,
        service,
        flags: ['--cap-drop', 'ALL', '--security-opt', 'no-new-privileges'],
      },
      { name: `${of} fetching over HTTP`, service, network: () => server.network },
      { name: `${of} -it`, service, flags: ['--tty', '--interactive'], isOnTerminal: true },
      { name: `${of} --init`, service, flags: ['--init'] },
      { name: `${of} --pid=container:OTHER`, service, flags: [], network: () => 'none' },
    ];
  }),
];

describeWithEngine('the carrier', (images) => {
  const matrix = new Matrix('the carrier in', ROWS, COLUMNS);

  beforeAll(async () => {
    await makeImages(images.base);
    server = await startWebServer({ 'patch.tar.gz': tarGz({ 'app/status': '0\n' }) });
    other = await start(images.base, { command: ['sleep', '1000'] });
  }, 600_000);

  afterAll(() => {
    console.log(`${matrix}
refused: an archive for files that this user, or a root that is read-only, does not let be written: 125, nothing is changed
every row but that of HTTP has --network none`);
  });

  describe.each(ROWS)('$name', (row) => {
    const { service, name } = row;
    const options = () => {
      const pid = name.includes('--pid=') ? ['--pid', `container:${other.id}`] : [];
      const mounts = mountFiles({ 'patch.tar.gz': tarGz(service.patch) });
      return {
        command: service.command,
        env: { TENANT: 'blue' },
        flags: [...mounts, ...(row.flags ?? []), ...pid],
        ...(row.network === undefined ? {} : { network: row.network() }),
      };
    };
    const withWords = (DEBUG: string) => ({ ...options(), env: { TENANT: 'blue', DEBUG } });
    const archive = () =>
      row.network !== undefined && name.includes('HTTP') ? `${server.url}/patch.tar.gz` : '/t/patch.tar.gz';
    const cell = (column: Column, body: () => Promise<string | undefined>) => matrix.cell(name, column, body);

    cell('off', async () => {
      const { status, stdout, stderr } = await run(service.image, options());
      expect({ status, ours: ownLines(stdout + stderr) }).toEqual({ status: service.status, ours: [] });
      expect(stdout.replaceAll('\r', '')).toMatch(service.says);
      return undefined;
    });

    cell('verbose', async () => {
      const { status, stdout, stderr } = await run(service.image, withWords('verbose'));
      expect(status).toBe(service.status);
      const said = stdout + stderr;
      expect(ownLines(said).join('\n')).toContain('environment: TENANT=blue');
      if (service.trace !== undefined) expect(said).toMatch(service.trace);
      return undefined;
    });

    cell('fstree', async () => {
      const { status, stdout, stderr } = await run(service.image, withWords(`fstree=${archive()}`));
      if (row.refuses === undefined) {
        expect({ status, stderr: row.isOnTerminal ? '' : stderr }).toMatchObject({ status: 0 });
        return undefined;
      }
      expect(status).toBe(125);
      expect(stderr).toMatch(row.refuses);
      expect(stdout).toBe('');
      return 'refused';
    });

    describe('held', () => {
      let container: Container;
      const ask = (...args: string[]) => container.exec([TOOL, ...args]);
      // A hook starts it: it stays for all tests of this row.
      beforeAll(async () => {
        container = await start(service.image, withWords('stayalive'));
      });

      cell('stayalive', async () => {
        const banner = await waitForPark(container);
        expect(banner.status).toBe(service.status);
        expect(banner.text).toContain(`docker exec -it ${banner.id} ${TOOL} shell`);
        expect(container.id.startsWith(banner.id)).toBe(true);
        return undefined;
      });

      cell('report', async () => {
        const { status, stdout, stderr } = await ask('report', '--json');
        expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
        expect(JSON.parse(stdout)).toMatchObject({ kind: 'exited', status: service.status, run: 1 });
        return undefined;
      });

      cell('shell', async () => {
        const { status, stdout, stderr } = await ask('shell', '--', 'sh', '-c', 'echo "at $TENANT"; exit 5');
        expect({ status, stdout, stderr }).toEqual({ status: 5, stdout: 'at blue\n', stderr: '' });
        return undefined;
      });

      cell('rerun', async () => {
        const patching =
          row.refuses === undefined ? ['--fstree', '/t/patch.tar.gz'] : ['--env', 'TENANT=green'];
        expect(await ask('rerun', ...patching)).toMatchObject({ status: 0, stderr: '' });
        if (row.refuses === undefined) {
          expect(await container.wait()).toBe(0);
          return undefined;
        }
        expect(await ask('wait', '--for', 'parked', '--timeout', '30s')).toMatchObject({ status: 0 });
        expect((await container.logs()).stdout).toContain('up, tenant green');
        expect(await ask('release', '3')).toMatchObject({ status: 0 });
        expect(await container.wait()).toBe(3);
        return undefined;
      });
    });
  });

  it('for arm64: each program is, and its node runs with its own loader', () => {
    const folder = join(CHECKOUT, 'docker/carrier/context/arm64');
    const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((file) =>
      lstatSync(join(folder, file)).isFile(),
    );
    const programs = files.flatMap((file) => {
      const program = readElf(join(folder, file));
      return program === undefined ? [] : [{ file, ...program }];
    });
    expect(programs.length).toBeGreaterThan(10);
    expect(programs.filter(({ machine }) => machine !== 'arm64')).toEqual([]);
    const emulator = process.arch === 'arm64' ? [] : ['qemu-aarch64-static'];
    const loader = [
      join(folder, 'lib/ld.so'),
      '--library-path',
      join(folder, 'lib'),
      join(folder, 'lib/node'),
    ];
    const [file = '', ...args] = [...emulator, ...loader, join(folder, 'dist/ddbg.cjs'), '--version'];
    expect(execFileSync(file, args, { encoding: 'utf8' })).toBe(`${version}\n`);
  });

  it('off, no file of /ddbg but the init is opened', () => {
    const root = mkdtempSync(join(engine().directory, 'root-'));
    cpSync(join(CHECKOUT, 'docker/carrier/context', ARCHITECTURE), join(root, 'ddbg'), {
      recursive: true,
      verbatimSymlinks: true,
    });
    mkdirSync(join(root, 'app'));
    withStatus(root);
    compile(root, 'cc', '-static');
    const trace = ['--follow-forks', '--trace=%file', '--quiet=all', '--output', join(root, 'calls')];
    const env = { PATH: process.env.PATH, DEBUG: 'express:*' };
    spawnSync('strace', [...trace, 'chroot', root, ENTRY, '--', '/app/service'], { env });
    const text = readFileSync(join(root, 'calls'), 'utf8').split(/^.*chroot\(.*$/m)[1] ?? '';
    const calls = [...text.matchAll(/^\d+ +(\w+)\((?:AT_FDCWD, )?"(.+?)"/gm)].map(([, ...call]) =>
      call.join(' '),
    );
    expect(calls.filter((call) => call.includes('/ddbg'))).toEqual([`execve ${ENTRY}`]);
    expect(calls).toContain('execve /app/service');
    expect(calls).toContain('openat /app/status'); // so what is opened is seen
  });

  it('from a volume, at any path, for an image that is not ours to change', async () => {
    const volume = `ddbg-test-${process.pid}-${Date.now()}`;
    onTestFinished(async () => void (await docker(['volume', 'rm', '--force', volume])));
    const filled = await run(CARRIER, {
      entrypoint: '/ddbg/bin/busybox',
      command: ['cp', '-a', '/ddbg/.', '/share/'],
      flags: ['--volume', `${volume}:/share`],
    });
    expect(filled).toEqual({ status: 0, stdout: '', stderr: '' });
    const container = await start(images.base, {
      entrypoint: '/opt/ddbg/bin/ddbg-entry',
      command: ['--', 'sh', '-c', 'exit 9'],
      flags: ['--volume', `${volume}:/opt/ddbg:ro`],
      env: { DEBUG: 'stayalive' },
    });
    expect((await waitForPark(container)).text).toContain(' /opt/ddbg/bin/ddbg report');
    expect(await container.exec(['/opt/ddbg/bin/ddbg', 'release'])).toMatchObject({ status: 0, stderr: '' });
    expect(await container.wait()).toBe(9);
    await container.remove(); // it holds the volume
  });

  it('off, a container is left as it was found', async () => {
    const container = await start(single.image, { command: single.command });
    expect(await container.wait()).toBe(FAULT);
    expect((await changes(container)).filter((line) => line.includes('ddbg'))).toEqual([]);
  });
});
