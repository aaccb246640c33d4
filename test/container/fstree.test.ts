/** `fstree` alone, in real containers and over real HTTP: what is laid over `/`, and that a failure changes nothing. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { appendFileSync, mkdtempSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { describeWithEngine, docker, engine, run, start, startWebServer, type WebServer } from './docker.ts';
import {
  type Content,
  changes,
  mountFiles,
  msFromSignalToEnd,
  ownLines,
  runEntry,
  startEntry,
  tarGz,
  untilTerm,
  zip,
} from './kit.ts';

const FREE = '#!/bin/sh\necho "patched free $*"\nexit 7\n';

const GOOD = tarGz({ 'usr/bin/free': FREE, 'opt/new/deep/note.txt': 'a note\n' });

const FILES: Readonly<Record<string, Buffer>> = {
  'good.tar.gz': GOOD,
  'below-bin.zip': zip({ 'bin/free': FREE, 'etc/motd': 'from a zip\n' }),
  // what GitHub serves: everything in REPO-BRANCH/, plain files without a mode
  'repo-main.zip': zip({
    'repo-main/README.md': '# repo\n',
    'repo-main/etc/app.conf': 'from the repo\n',
    'repo-main/usr/local/bin/hello': '#!/bin/sh\necho hello\n',
  }),
  'first.tar.gz': tarGz({ 'etc/order': 'first\n', 'etc/only-first': 'x\n' }),
  'second.tar.gz': tarGz({ 'etc/order': 'second\n' }),
  'truncated.tar.gz': GOOD.subarray(0, -20),
  'page.tar.gz': Buffer.from('<!DOCTYPE html><title>Sign in</title>\n'),
  'escaping.tar.gz': tarGz({ 'etc/first': 'x\n', 'etc/../../../outside': 'x\n' }),
  'over-a-directory.tar.gz': tarGz({ 'etc/first': 'x\n', 'usr/lib': 'a file\n' }),
};

const hasGcc = spawnSync('gcc', ['--version']).status === 0;
if (!hasGcc) console.warn('\nSKIPPED: a patched shared library in containers: there is no gcc here.\n');

describeWithEngine('fstree', (images) => {
  let server: WebServer;
  let url: (name: string) => string;
  beforeAll(async () => {
    server = await startWebServer(FILES);
    url = (name) => `${server.url}/${name}`;
  });

  describe.each([
    ['node20', images.node20],
    ['native', images.native],
    ['node24', images.node24],
  ])('%s', (name, image) => {
    const patched = (fstree: string, command: readonly string[]) =>
      runEntry(image, command, { DEBUG: `fstree=${fstree}`, network: server.network });

    it('tar.gz: a tool in /usr/bin is another, its digest and a summary are said', async () => {
      const plain = await run(image, { command: ['free', '-b'] });
      const ended = await patched(url('good.tar.gz'), ['free', '-b']);
      expect(plain.stdout).toMatch(/^ +total +used/);
      expect(ended).toMatchObject({ status: 7, stdout: 'patched free -b\n' });
      const said = ownLines(ended.stderr).join('\n');
      expect(said).toContain(`sha256 ${sha256(GOOD)}`);
      expect(said).toMatch(/2 files/);
      expect(said).not.toContain('note.txt'); // one line a file is for verbose
      expect(said).not.toContain('environment: ');
    });

    it('zip: below /bin, which stays a symlink', async () => {
      const script = 'free; readlink /bin; cat /etc/motd; stat -c "%a %U" /usr/bin/free /';
      const ended = await patched(url('below-bin.zip'), ['sh', '-c', script]);
      expect(ended.stdout).toBe('patched free \nusr/bin\nfrom a zip\n755 root\n755 root\n');
      expect(ended.status).toBe(0);
    });

    it('a zip as GitHub makes it', async () => {
      const script = 'cat /etc/app.conf; stat -c %a /etc/app.conf; hello; ! test -e /repo-main';
      const ended = await patched(url('repo-main.zip'), ['sh', '-c', script]);
      expect(ended).toMatchObject({ status: 0, stdout: 'from the repo\n644\nhello\n' });
    });

    it('several, in order', async () => {
      const both = `${url('first.tar.gz')},fstree=${url('second.tar.gz')}`;
      const ended = await patched(both, ['sh', '-c', 'cat /etc/order /etc/only-first']);
      expect(ended).toMatchObject({ status: 0, stdout: 'second\nx\n' });
    });

    it('the command sees neither DEBUG nor anything else of ours', async () => {
      const ended = await patched(url('good.tar.gz'), [
        'sh',
        '-c',
        'echo "${DEBUG-none}"; env | grep -c DDBG',
      ]);
      expect(ended.stdout).toBe('none\n0\n');
    });

    it("Node's own libstdc++, mapped by us meanwhile", async () => {
      const library = await libstdcxxOf(image);
      const flags = mountFiles({
        'lib.tar.gz': tarGz({ [library.path.slice(1)]: library.patched }),
      });
      const script = `sha256sum ${library.path}; exec node -e 'console.log("node runs")'`;
      const ended = await runEntry(image, ['sh', '-c', script], { DEBUG: 'fstree=/t/lib.tar.gz', flags });
      expect(ended).toMatchObject({
        status: 0,
        stdout: `${sha256(library.patched)}  ${library.path}\nnode runs\n`,
      });
    });

    it.skipIf(!hasGcc)('a shared library of the command', async () => {
      const greet = buildGreet();
      const flags = mountFiles({
        'app.tar.gz': tarGz({ 'usr/bin/greet': greet.program, 'usr/lib/libgreet.so.1': greet.broken }),
        'patch.tar.gz': tarGz({ 'lib/libgreet.so.1': greet.mended }),
      });
      const broken = await runEntry(image, ['greet'], { DEBUG: 'fstree=/t/app.tar.gz', flags });
      expect(broken).toMatchObject({ status: 1, stdout: 'library 1\n' });
      const DEBUG = 'fstree=/t/app.tar.gz,fstree=file:///t/patch.tar.gz';
      const mended = await runEntry(image, ['sh', '-c', 'greet && readlink /lib'], { DEBUG, flags });
      expect(mended).toMatchObject({ status: 0, stdout: 'library 2\nusr/lib\n' });
    });

    it('/etc/hosts, which docker has mounted, is written in place', async () => {
      const hosts = '127.0.0.1 localhost patched.test\n';
      const flags = mountFiles({ 'hosts.tar.gz': tarGz({ 'etc/hosts': hosts }) });
      const script = 'cat /etc/hosts; grep -c " /etc/hosts " /proc/self/mountinfo; getent hosts patched.test';
      const ended = await runEntry(image, ['sh', '-c', script], { DEBUG: 'fstree=/t/hosts.tar.gz', flags });
      expect(ended).toMatchObject({
        status: 0,
        stdout: `${hosts}1\n127.0.0.1       localhost patched.test\n`,
      });
    });

    it.each([
      ['a wrong sha256', `good.tar.gz#sha256=${'0'.repeat(64)}`, /sha256 is [0-9a-f]{64}/],
      ['404', 'missing.tar.gz', /answered 404/],
      ['truncated', 'truncated.tar.gz', /truncated\.tar\.gz/],
      ['a page', 'page.tar.gz', /html/i],
      ['a name that leaves the root', 'escaping.tar.gz', /outside/],
      ['a file over a directory', 'over-a-directory.tar.gz', /usr\/lib/],
    ])('%s: 125, the command not started, nothing changed', async (_what, file, reason) => {
      const container = await startEntry(image, ['touch', '/started'], {
        DEBUG: `fstree=${url(file)}`,
        network: server.network,
      });
      expect(await container.wait()).toBe(125);
      expect((await container.logs()).stderr).toMatch(reason);
      expect((await changes(container)).filter((change) => !isOurs(change))).toEqual([]);
    });

    it('the right sha256 is taken, and kept in the line that says how to stay alive', async () => {
      const pinned = `${url('good.tar.gz')}#sha256=${sha256(GOOD)}`;
      const ended = await patched(pinned, ['free']);
      expect(ended.status).toBe(7);
      expect(ended.stderr).toContain(pinned);
    });

    it('a read-only root: 125, and says so', async () => {
      const options = {
        DEBUG: `fstree=${url('good.tar.gz')}`,
        network: server.network,
        flags: ['--read-only'],
      };
      const ended = await runEntry(image, ['free'], options);
      expect(ended).toMatchObject({ status: 125, stdout: '' });
      expect(ended.stderr).toMatch(/read-only/i);
      expect(ended.stderr).toMatch(/\/usr\/bin|\/opt/);
    });

    it('as uid 1000: 125, naming uid and path', async () => {
      const options = {
        DEBUG: `fstree=${url('good.tar.gz')}`,
        network: server.network,
        flags: ['--user', '1000:1000'],
      };
      const ended = await runEntry(image, ['free'], options);
      expect(ended).toMatchObject({ status: 125, stdout: '' });
      expect(ended.stderr).toMatch(/\/usr\/bin|\/opt/);
      expect(ended.stderr).toMatch(/uid 1000/);
    });

    it('a dead host: 125, and nothing is started', async () => {
      const ended = await runEntry(image, ['echo', 'no'], { DEBUG: 'fstree=http://127.0.0.1:9/x.tar.gz' });
      expect(ended).toMatchObject({ status: 125, stdout: '' });
      expect(ended.stderr).toMatch(/127\.0\.0\.1:9.*ECONNREFUSED/);
    });

    it('a stop during a slow download: 143 at once, nothing changed', async () => {
      const container = await startEntry(image, ['touch', '/started'], {
        DEBUG: `fstree=${url('first.tar.gz')},fstree=${url(`stall/${name}`)}`,
        network: server.network,
      });
      await server.container.waitForLog(new RegExp(`^GET /stall/${name} stalls$`, 'm'));
      await container.stop({ timeoutS: 30 });
      expect(await container.wait()).toBe(143);
      expect(await msFromSignalToEnd(container)).toBeLessThan(1000);
      expect((await changes(container)).filter((change) => !isOurs(change))).toEqual([]);
    });

    it('a server that stalls: 125 after --stall-timeout', async () => {
      const ended = await runEntry(image, ['echo', 'no'], {
        DEBUG: `fstree=${url('stall/timeout')}`,
        entryFlags: ['--stall-timeout=1s', '--fetch-timeout=2s'],
        network: server.network,
      });
      expect(ended).toMatchObject({ status: 125, stdout: '' });
      expect(ended.stderr).toContain('no byte for 1 s');
    });

    it('docker stop of the command behind it: its own status', async () => {
      const container = await startEntry(image, untilTerm(3), {
        DEBUG: `fstree=${url('good.tar.gz')}`,
        network: server.network,
      });
      await container.waitForLog(/^up$/m);
      await container.stop({ timeoutS: 30 });
      expect(await container.wait()).toBe(3);
    });
  });
});

/** What `docker diff` shows of our state directory, and of the directory above it. */
function isOurs(change: string): boolean {
  return change === 'C /run' || /^A \/run\/ddbg(\/overlay\.json)?$/.test(change);
}

function sha256(bytes: string | Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** The library that the image's node is linked to, with bytes behind its end that no loader looks at. */
async function libstdcxxOf(image: string) {
  const container = await start(image, { command: ['sh', '-c', 'readlink -f /usr/lib/*/libstdc++.so.6'] });
  await container.wait();
  const path = (await container.logs()).stdout.trim();
  const copy = join(mkdtempSync(join(engine().directory, 'lib-')), 'lib');
  const copied = await docker(['cp', `${container.id}:${path}`, copy]);
  if (copied.status !== 0) throw new Error(copied.stderr);
  appendFileSync(copy, 'patched');
  return { path, patched: readFileSync(copy) };
}

/** A program, and the library it needs: one that makes it fail, one that does not. */
function buildGreet() {
  const directory = mkdtempSync(join(engine().directory, 'gcc-'));
  const compile = (name: string, source: string, ...flags: string[]): Content => {
    const output = join(directory, name);
    const { status, stderr } = spawnSync('gcc', ['-x', 'c', '-', '-o', output, ...flags], { input: source });
    if (status !== 0) throw new Error(`gcc: ${stderr}`);
    return { bytes: readFileSync(output), mode: 0o755 };
  };
  const library = (text: string, status: number) =>
    compile(
      'libgreet.so',
      `#include <stdio.h>\nint greet(void) { puts("${text}"); return ${status}; }\n`,
      ...['-shared', '-fPIC', '-Wl,-soname,libgreet.so.1'],
    );
  const [broken, mended] = [library('library 1', 1), library('library 2', 0)];
  const main = 'int greet(void); int main(void) { return greet(); }\n';
  const program = compile('greet', main, `-L${directory}`, '-lgreet');
  return { program, broken, mended };
}
