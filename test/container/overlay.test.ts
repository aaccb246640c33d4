/**
 * What the overlay promises, in real containers: the files that everything runs on, each format, mounted files,
 * somebody who may write little or nothing, odd names.
 */
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TarPart, tarOf } from '../overlay/archives.ts';
import { hasTool } from '../overlay/reading.ts';
import {
  type Container,
  describeWithEngine,
  docker,
  engine,
  run,
  start,
  startWebServer,
  type WebServer,
} from './docker.ts';
import { changes, mountFiles, ownLines, runEntry, startEntry, tarGz, waitForPark, zip } from './kit.ts';

const HELLO = '#!/bin/sh\necho "hello $*"\nexit 7\n';
const hello: readonly TarPart[] = [
  { name: './usr/bin/hello', content: HELLO, mode: 0o755 },
  { name: './opt/hello/deep/note', content: 'a note\n' },
  { name: './opt/hello/link', type: '2', link: 'deep/note' },
  { name: './etc/motd', content: 'from an archive\n' },
];
const helloTar = tarOf(...hello);
const helloZip = zip({ 'bin/hello': HELLO, 'opt/hello/deep/note': 'a note\n', 'etc/motd': 'from a zip\n' });
const ODD_NAMES = [
  ' blank ',
  '-rf',
  '*',
  'back\\slash',
  'quo\'te"',
  'new\nline',
  'ünï',
  '.hidden',
  'x'.repeat(255),
];

const FILES: Readonly<Record<string, Buffer>> = {
  'hello.tar': helloTar,
  'hello.tar.gz': gzipSync(helloTar),
  'hello.tar.br': brotliCompressSync(helloTar),
  'hello.zip': helloZip,
};
/** What Node cannot make, by the tools that people use. */
const TOOLS = [
  ['hello.tar.zst', ['zstd', '-qc']],
  ['hello.tar.xz', ['xz', '-c']],
  ['hello.tar.bz2', ['bzip2', '-c']],
] as const;
const packed = Object.fromEntries(
  TOOLS.flatMap(([name, [tool, flag]]) =>
    hasTool(tool) ? [[name, execFileSync(tool, [flag], { input: helloTar })]] : [],
  ),
);

describeWithEngine('the overlay', (images) => {
  const EACH = [
    ['node20', images.node20],
    ['native', images.native],
    ['node24', images.node24],
  ] as const;
  let server: WebServer;
  beforeAll(async () => {
    server = await startWebServer({ ...FILES, ...packed });
  });

  describe.each(EACH)('%s', (_, image) => {
    it('node, libc, the loader, libstdc++ and /bin/sh, all of them in use: it goes on and starts the command', async () => {
      const inUse = await filesInUse(image);
      const flags = mountFiles({ 'system.tar': tarOf(...inUse.parts) });
      const command = [
        'sh',
        '-c',
        'readlink /bin /lib; echo "${BASH_VERSION:+bash}"; node -p "6 * 7"; exit 7',
      ];
      const container = await startEntry(image, command, { DEBUG: 'stayalive,fstree=/t/system.tar', flags });
      const { status } = await waitForPark(container);
      expect(status).toBe(7);
      expect((await container.logs()).stdout).toBe('usr/bin\nusr/lib\nbash\n42\n');

      const digests = await container.exec(['sha256sum', ...inUse.digests.keys()]);
      expect(digests.stdout).toBe([...inUse.digests].map(([path, hex]) => `${hex}  ${path}\n`).join(''));
      const { runs } = await recordOf(container);
      const written = runs[0].sources[0].entries.map(({ path }: { path: string }) => path);
      expect(written.sort()).toEqual([...inUse.digests.keys()].sort());
      expect(written.filter((path: string) => !path.startsWith('/usr/'))).toEqual([]);
      expect(
        (await changes(container)).filter((line) => /^. \/(bin|lib|lib64|\.ddbg.*)$/.test(line)),
      ).toEqual([]);
      await container.stop({ timeoutS: 30 });
      expect(await container.wait()).toBe(7);
    });

    const script =
      'cat /etc/motd /opt/hello/deep/note; ls -A /opt; stat -c "%a %u" /usr/bin/hello; exec hello you';
    const fromArchive = 'from an archive\na note\nhello\n755 0\nhello you\n';
    it.each([
      ...['hello.tar', 'hello.tar.gz', 'hello.tar.br', ...Object.keys(packed)].map((name) => [
        name,
        fromArchive,
      ]),
      ['hello.zip', fromArchive.replace('an archive', 'a zip')],
    ])('%s over http', async (name, expected) => {
      const pin = `#sha256=${sha256(FILES[name] ?? packed[name] ?? '')}`; // without it Node 20 does not take a zst
      const ended = await runEntry(image, ['sh', '-c', script], {
        DEBUG: `fstree=${server.url}/${name}${pin}`,
        network: server.network,
      });
      expect(ended).toMatchObject({ status: 7, stdout: expected });
    });

    it('a mounted archive, by its URL and by its path; a mounted directory, and its subdirectory', async () => {
      const flags = mountFiles({
        'p.tgz': FILES['hello.tar.gz'] ?? '',
        'patches/usr/bin/hello': HELLO,
        'patches/etc/motd': 'from a directory\n',
        'patches/opt/hello/deep/note': 'a note\n',
      });
      const ended = (fstree: string) =>
        runEntry(image, ['sh', '-c', script], { DEBUG: `fstree=${fstree}`, flags });
      const [byUrl, byPath, directory, deeper] = await Promise.all([
        ...['file:///t/p.tgz', '/t/p.tgz', 'file:///t/patches/'].map(ended),
        ended('/t/p.tgz,fstree=/t/patches/etc'), // two levels down there is no folder of a root: it lands in /
      ]);
      expect(byUrl).toMatchObject({ status: 7, stdout: fromArchive });
      expect(byPath).toMatchObject({ status: 7, stdout: fromArchive });
      expect(directory).toMatchObject({
        status: 7,
        stdout: fromArchive.replace('an archive', 'a directory'),
      });
      expect(deeper).toMatchObject({ status: 7, stdout: fromArchive });
    });
  });

  describe('mounted files', () => {
    it('/etc/hosts, resolv.conf and hostname stay mounted, no word of volumes, and again after a restart', async () => {
      const patch = {
        'etc/hosts': '127.0.0.1 here\n',
        'etc/resolv.conf': '# none\n',
        'etc/hostname': 'me\n',
      };
      const script = `cat /etc/hosts /etc/resolv.conf /etc/hostname; grep -cE " /etc/(host|resolv)" /proc/self/mountinfo`;
      const container = await startEntry(images.node24, ['sh', '-c', script], {
        DEBUG: 'fstree=/t/p.tgz',
        flags: mountFiles({ 'p.tgz': tarGz(patch) }),
      });
      expect(await container.wait()).toBe(0);
      await docker(['start', '--attach', container.id]);
      const { stdout, stderr } = await container.logs();
      expect(stdout).toBe('127.0.0.1 here\n# none\nme\n3\n'.repeat(2));
      expect(stderr.match(/3 replaced|[1-3] there already/g)?.[0]).toBe('3 replaced');
      expect(stderr).not.toContain('volume');
    });

    it('a volume, and a file of the host: written, with a warning that names them; the host sees it', async () => {
      const volume = mkdtempSync(join(engine().directory, 'volume-'));
      chmodSync(volume, 0o755);
      writeFileSync(join(volume, 'old'), 'old\n');
      chownSync(join(volume, 'old'), 1000, 1000);
      const file = join(volume, 'app.conf');
      writeFileSync(file, 'a longer line than the new one\n');
      const { ino } = statSync(file);
      const named = `ddbg-test-${randomBytes(6).toString('hex')}`;
      const flags = [
        ...mountFiles({
          'p.tgz': tarGz({
            'data/old': 'new\n',
            'data/deep/er': 'deep\n',
            'etc/app.conf': 'short\n',
            'srv/named/x': 'x\n',
            'opt/scratch/y': 'y\n',
          }),
        }),
        ...[
          '--volume',
          `${volume}:/data`,
          '--volume',
          `${file}:/etc/app.conf`,
          '--volume',
          `${named}:/srv/named`,
        ],
        ...['--tmpfs', '/opt/scratch'],
      ];
      const script =
        'cat /data/old /data/deep/er /etc/app.conf /srv/named/x /opt/scratch/y; ls -A / | grep ddbg';
      const ended = await runEntry(images.native, ['sh', '-c', script], { DEBUG: 'fstree=/t/p.tgz', flags });
      await docker(['volume', 'rm', named]);
      expect(ended.stdout).toBe('new\ndeep\nshort\nx\ny\n');
      const warnings = ownLines(ended.stderr).filter((line) => line.includes('outlives the container'));
      const names = warnings.map((line) => /writes to (\S+), a volume/.exec(line)?.[1]);
      expect(names.sort()).toEqual(['/data', '/etc/app.conf', '/srv/named']);
      expect(readdirSync(volume).sort()).toEqual(['app.conf', 'deep', 'old']);
      expect(readFileSync(join(volume, 'old'), 'utf8')).toBe('new\n');
      expect(statSync(join(volume, 'old')).uid).toBe(1000);
      expect(readFileSync(file, 'utf8')).toBe('short\n');
      expect(statSync(file).ino).toBe(ino);
    });

    it.each([
      ['/proc', { name: 'proc/sys/kernel/hostname', content: 'x' }, /on proc, an interface of the kernel/],
      ['/sys', { name: 'sys/kernel/x', content: 'x' }, /on sysfs, an interface of the kernel/],
      ['/dev/pts', { name: 'dev/pts/9', content: 'x' }, /on devpts, an interface of the kernel/],
      ['a link to /proc', { name: 'dev/fd/9', content: 'x' }, /\/proc\/\d+\/fd.* is on proc, an interface/],
      [
        'a mount point deleted',
        { name: 'etc/.wh.hosts' },
        /\/etc\/hosts is a mount point and cannot be deleted/,
      ],
      [
        'a link over a mounted file',
        { name: 'etc/hosts', type: '2', link: 'motd' },
        /cannot replace a mounted file/,
      ],
      ['a device', { name: 'dev/null', content: 'x' }, /\/dev\/null/],
    ] as const)('%s: refused, and nothing is changed', async (_, part, reason) => {
      const flags = mountFiles({ 'p.tar': tarOf({ name: 'usr/first', content: 'x' }, part) });
      const container = await startEntry(images.node20, ['true'], { DEBUG: 'fstree=/t/p.tar', flags });
      expect(await container.wait()).toBe(125);
      expect((await container.logs()).stderr).toMatch(reason);
      expect((await changes(container)).filter((line) => !isOurs(line))).toEqual([]);
    });

    it('a mounted file that is a running program: refused, with the way out', async () => {
      const [node = ''] = await copyOut(images.node20, ['/usr/local/bin/node']);
      const flags = mountFiles({ 'p.tgz': tarGz({ 'etc/motd': 'x\n', 'usr/local/bin/node': 'x\n' }) });
      const container = await startEntry(images.node20, ['true'], {
        DEBUG: 'fstree=/t/p.tgz',
        flags: [...flags, '--volume', `${node}:/usr/local/bin/node`],
      });
      expect(await container.wait()).toBe(125);
      const { stderr } = await container.logs();
      expect(stderr).toContain('/usr/local/bin/node is a mounted file and a running program');
      expect(stderr).toContain('mount a directory in place of the single file');
      expect((await changes(container)).filter((line) => !isOurs(line))).toEqual([]);
    });
  });

  describe('somebody who may write little', () => {
    const owned = `ddbg-test-owned-${process.pid}`;
    let flags: string[];
    beforeAll(async () => {
      await build(owned, [
        `FROM ${images.node20}`,
        'RUN mkdir -p /opt/app/sub && echo old >/opt/app/a && chmod 640 /opt/app/a && chown -R 1000:1000 /opt/app',
        'RUN mkdir /srv/mixed && echo old | tee /srv/mixed/theirs >/srv/mixed/ours && chown 1000 /srv/mixed/theirs',
      ]);
      flags = mountFiles({
        'mixed.tgz': tarGz({
          'usr/bin/free': 'x\n',
          'etc/motd': 'x\n',
          'opt/app/a': 'x\n',
          'opt/new/er/f': 'x\n',
        }),
        'app.tgz': tarGz({ 'opt/app/a': 'new\n', 'opt/app/sub/deep/b': 'deep\n' }),
        'mixed-owners.tgz': tarGz({ 'srv/mixed/ours': 'new\n', 'srv/mixed/theirs': 'new\n' }),
      });
    });
    afterAll(() => docker(['rmi', owned]));

    /** Refused, and as it was: the error is returned. */
    async function refused(fstree: string, more: readonly string[]): Promise<string> {
      const container = await startEntry(owned, ['true'], {
        DEBUG: `fstree=${fstree}`,
        flags: [...flags, ...more],
      });
      expect(await container.wait()).toBe(125);
      const left = (await changes(container)).filter((line) => !isOurs(line) && !/^[AC] \/tmp/.test(line));
      expect(left).toEqual([]);
      return ownLines((await container.logs()).stderr).join('\n');
    }

    it('--read-only: every target in one error', async () => {
      const error = await refused('/t/mixed.tgz', ['--read-only']);
      expect(error).toContain('may not write 4 of its targets');
      for (const place of [
        '/usr/bin/free (/usr/bin',
        '/etc/motd (/etc',
        '/opt/app/a (/opt/app',
        '/opt/new (/opt',
      ])
        expect(error).toContain(`${place} is on a read-only file system)`);
      expect(error).toContain('Run without --read-only, or put a tmpfs or a volume there.');
    });

    it('--read-only, with a tmpfs at the target', async () => {
      const options = { DEBUG: 'fstree=/t/app.tgz', flags: [...flags, '--read-only', '--tmpfs', '/opt/app'] };
      const script = 'cat /opt/app/a /opt/app/sub/deep/b; ls /dev/shm/ddbg-0; touch /opt/x';
      const ended = await runEntry(owned, ['sh', '-c', script], options);
      expect(ended).toMatchObject({ status: 1, stdout: 'new\ndeep\noverlay.json\n' });
    });

    it('uid 1000: every target that may not be written in one error', async () => {
      const error = await refused('/t/mixed.tgz', ['--user', '1000']);
      expect(error).toContain('uid 1000 may not write 3 of its targets');
      for (const place of ['/usr/bin/free (/usr/bin', '/etc/motd (/etc', '/opt/new (/opt'])
        expect(error).toContain(`${place} belongs to uid 0, mode 0755)`);
      expect(error).not.toContain('/opt/app');
    });

    it('uid 1000, for what is its own', async () => {
      const options = { DEBUG: 'fstree=/t/app.tgz', flags: [...flags, '--user', '1000'] };
      const script = 'cat /opt/app/a /opt/app/sub/deep/b; stat -c "%u %a" /opt/app/a; ls /tmp/ddbg-1000';
      const ended = await runEntry(owned, ['sh', '-c', script], options);
      expect(ended).toMatchObject({ status: 0, stdout: 'new\ndeep\n1000 644\nbackup\noverlay.json\n' });
    });

    it("root with --cap-drop ALL: what is root's own", async () => {
      const options = {
        DEBUG: `fstree=/t/p.tgz`,
        flags: [...mountFiles({ 'p.tgz': FILES['hello.tar.gz'] ?? '' }), '--cap-drop', 'ALL'],
      };
      const ended = await runEntry(owned, ['sh', '-c', 'cat /etc/motd; exec hello'], options);
      expect(ended).toMatchObject({ status: 7, stdout: 'from an archive\nhello \n' });
    });

    it("root with --cap-drop ALL: somebody else's folder is named, and so is a file that would lose its owner", async () => {
      const folder = await refused('/t/app.tgz', ['--cap-drop', 'ALL']);
      expect(folder).toContain('Run the container with --cap-add DAC_OVERRIDE');
      expect(folder).toContain(
        '/opt/app/a (/opt/app belongs to uid 1000, mode 0755); /opt/app/sub/deep (/opt/app/sub belongs to uid 1000',
      );
      expect(await refused('/t/mixed-owners.tgz', ['--cap-drop', 'ALL'])).toContain('/srv/mixed/theirs');
    });
  });

  it('odd names: each as it is, and none makes a second line', async () => {
    const names = [...ODD_NAMES.map((name) => Buffer.from(name)), Buffer.from('bytes-\xff', 'latin1')];
    const parts = names.map((name) => ({
      name: Buffer.concat([Buffer.from('opt/odd/'), name]),
      content: 'x\n',
    }));
    const long = parts.find(({ name }) => name.length > 100);
    const tar = tarOf(
      ...parts.filter((part) => part !== long),
      { name: '././@LongLink', type: 'L', content: `${long?.name}\0` },
      { name: 'opt/odd/cut-off', content: 'x\n' },
    );
    const flags = mountFiles({ 'p.tar': tar });
    const script = 'console.log(JSON.stringify(fs.readdirSync("/opt/odd", "latin1")))';
    const ended = await runEntry(images.node20, ['node', '-e', script], {
      DEBUG: 'verbose,fstree=/t/p.tar',
      flags,
    });
    expect(JSON.parse(ended.stdout).sort()).toEqual(names.map((name) => name.toString('latin1')).sort());
    expect(
      ended.stderr.split('\n').filter((line) => line !== '' && !line.startsWith('ddbg-entry: ')),
    ).toEqual([]);
    expect(ended.stderr).toContain('/opt/odd/new\\nline');
  });
});

/** What `docker diff` shows of our state directory, of the folder above it, and of what tests mount. */
function isOurs(change: string): boolean {
  return change === 'C /run' || /^A \/(t|run\/ddbg(\/overlay\.json)?)$/.test(change);
}

function sha256(bytes: string | Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** overlay.json, as somebody inside reads it. */
async function recordOf(container: Container, directory = '/run/ddbg') {
  const { stdout } = await container.exec(['cat', `${directory}/overlay.json`]);
  return JSON.parse(stdout);
}

/** An image of these lines of a Dockerfile. */
async function build(tag: string, lines: readonly string[]): Promise<void> {
  const built = await docker(['build', '--network', 'none', '--force-rm', '--tag', tag, '-'], {
    input: lines.join('\n'),
  });
  if (built.status !== 0) throw new Error(built.stderr);
}

/** Copies of files of an image; where they are now. */
async function copyOut(image: string, paths: readonly string[]): Promise<string[]> {
  const container = await start(image, { command: ['true'] });
  await container.wait();
  const directory = mkdtempSync(join(engine().directory, 'copy-'));
  const copies: string[] = [];
  for (const [index, path] of paths.entries()) {
    const copy = join(directory, String(index));
    const copied = await docker(['cp', '--follow-link', `${container.id}:${path}`, copy]);
    if (copied.status !== 0) throw new Error(copied.stderr);
    copies.push(copy);
  }
  return copies;
}

/**
 * An archive of all that a node of the image has mapped, with bytes behind its end that no loader looks at; of the
 * loader by the name that programs have in them; and of another shell as /bin/sh. Named as people do: `lib/x`, `bin/x`.
 */
async function filesInUse(image: string) {
  const mapped = 'fs.readFileSync("/proc/self/maps", "utf8").match(/\\/\\S+/g)';
  const asked = await run(image, {
    command: [
      'sh',
      '-c',
      `node -p '[...new Set(${mapped})].join("\\n")'; ls /lib64/ld-linux* || ls /lib/ld-linux*`,
    ],
  });
  const paths = asked.stdout.split('\n').filter(Boolean);
  for (const name of ['bin/node', 'libc.so.6', 'libstdc++.so', 'lib64/ld-linux'].slice(
    0,
    process.arch === 'x64' ? 4 : 3,
  ))
    expect(paths.some((path) => path.includes(name))).toBe(true);
  const copies = await copyOut(image, [...paths, '/usr/bin/bash']);
  const digests = new Map<string, string>();
  const parts = [...paths, '/usr/bin/sh'].map((path, index) => {
    const bytes = readFileSync(copies[index] ?? '');
    const content = path === '/usr/bin/sh' ? bytes : Buffer.concat([bytes, Buffer.from('changed')]);
    digests.set(path.replace(/^\/lib/, '/usr/lib'), sha256(content));
    return { name: path.replace(/^\/(usr\/(?=bin|lib))?/, ''), content, mode: 0o755 };
  });
  return { parts, digests };
}
