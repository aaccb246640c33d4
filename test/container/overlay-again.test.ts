/**
 * The overlay in a container that comes back: killed in the middle and started again, restarted, taken back from
 * inside; and the layer of an image as a patch.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { tarOf } from '../overlay/archives.ts';
import { type Container, describeWithEngine, docker, engine, run } from './docker.ts';
import {
  changes,
  eventually,
  mountFiles,
  ownLines,
  runEntry,
  startEntry,
  untilTerm,
  waitForPark,
} from './kit.ts';

/** So many that a commit takes long enough to be killed in it. */
const MANY = 1500;
const manyNames = Array.from({ length: MANY }, (_, index) => `f${10_000 + index}`);
const MANY_TAR = tarOf(
  ...manyNames.map((name) => ({ name: `srv/many/${name}`, content: 'new\n' })),
  ...manyNames.map((name) => ({ name: `srv/added/${name}`, content: 'added\n' })),
  { name: 'usr/bin/.wh.free' },
);
const COUNT =
  'cat /srv/many/* | sort | uniq -c; ls -A /srv; test -e /usr/bin/free && echo free; ls -A / | grep ddbg';
const ALL_OLD = `   ${MANY} old\nmany\nfree\n`;
const ALL_NEW = `   ${MANY} new\nadded\nmany\n`;

/** Names, types, modes, owners, sizes, times to the microsecond and contents. */
const TREE = `find /usr /opt /srv /home ! -path "/srv/many/*" -printf '%p %y %m %U %G %T@ %l\\n' | sed -E 's/(\\.[0-9]{6})[0-9]+/\\1/' | sort; sha256sum /etc/motd /usr/bin/free`;

const PATCH = tarOf(
  { name: './usr/bin/free', content: 'patched\n', mode: 0o700 },
  { name: './etc/motd', content: 'patched\n' },
  { name: './etc/hosts', content: '127.0.0.1 patched\n' },
  { name: './opt/new/er/note', content: 'a note\n' },
  { name: './opt/new/link', type: '2', link: 'er' },
  { name: './usr/share/.wh.bash-completion' },
  { name: './usr/bin/.wh.zsh' },
);
const SECOND = tarOf(
  { name: 'usr/bin/free', content: 'patched again\n' },
  { name: 'opt/new/er/.wh.note' },
  { name: 'opt/new/other', content: 'x\n' },
  { name: 'home/.wh..wh..opq' },
);

describeWithEngine('the overlay, again', (images) => {
  const EACH = [
    ['node20', images.node20],
    ['native', images.native],
    ['node24', images.node24],
  ] as const;
  const built: string[] = [];
  afterAll(() => docker(['rmi', ...built]));

  async function build(name: string, lines: readonly string[]): Promise<string> {
    const tag = `ddbg-test-${name}-${process.pid}`;
    const args = ['build', '--network', 'none', '--force-rm', '--tag', tag, '-'];
    const result = await docker(args, { input: lines.join('\n') });
    if (result.status !== 0) throw new Error(result.stderr);
    built.push(tag);
    return tag;
  }

  describe.each([
    ['node20', images.node20],
    ['native', images.native],
  ])('a KILL, %s', (name, image) => {
    let many: string;
    beforeAll(async () => {
      const fill = `mkdir /srv/many && cd /srv/many && for i in ${manyNames.join(' ')}; do echo old >$i; done`;
      many = await build(`many-${name}`, [`FROM ${image}`, `RUN ${fill}`]);
    });

    /** Starts it, and kills it as soon as what the shell waits for is there. Again, should the KILL come too late. */
    async function killed(until: string): Promise<{ container: Container; archive: string }> {
      for (let tries = 1; ; tries += 1) {
        const flags = mountFiles({ 'many.tar': MANY_TAR });
        const archive = join((flags[1] ?? '').split(':')[0] ?? '', 'many.tar');
        const options = { DEBUG: 'stayalive=always,fstree=/t/many.tar', flags };
        const container = await startEntry(many, ['sh', '-c', COUNT], options);
        await container.exec([
          'sh',
          '-c',
          `until ${until} || test -e /run/ddbg/overlay.json; do sleep 0.02; done`,
        ]);
        await container.kill('KILL');
        expect(await container.wait()).toBe(137);
        if (tries === 3 || (await changes(container)).includes('A /.ddbg-overlay/journal'))
          return { container, archive };
      }
    }

    async function countReplaced(container: Container): Promise<number> {
      return (await changes(container)).filter((line) => /^. \/srv\/many\/f/.test(line)).length;
    }

    it('in the middle of the commit: put right at the next start, said in a line, and laid anew', async () => {
      const { container } = await killed('test -e /.ddbg-overlay/old/1/srv/many/f10010');
      const replaced = await countReplaced(container);
      expect(replaced).toBeGreaterThan(0);
      expect(replaced).toBeLessThan(MANY);
      await docker(['start', container.id]);
      await waitForPark(container);
      const { stdout, stderr } = await container.logs();
      expect(stdout).toBe(ALL_NEW);
      expect(ownLines(stderr)).toContainEqual(
        expect.stringMatching(/^an overlay was cut off in the middle: rolled back \(150\d steps\)$/),
      );
    });

    it('... with the archive gone since: the old tree, to the microsecond, and 125', async () => {
      const { container, archive } = await killed('test -e /.ddbg-overlay/old/1/srv/many/f10010');
      expect(await countReplaced(container)).toBeLessThan(MANY);
      renameSync(archive, `${archive}.gone`);
      await docker(['start', container.id]);
      const { status, text } = await waitForPark(container);
      expect(status).toBe(125);
      expect(text).toMatch(/was not started: .*\/t\/many\.tar: ENOENT/);
      expect(ownLines((await container.logs()).stderr).join('\n')).toContain(
        'cut off in the middle: rolled back',
      );
      expect((await container.exec(['sh', '-c', COUNT])).stdout).toBe(ALL_OLD);
      const original = await run(many, { command: ['sh', '-c', TREE] });
      expect((await container.exec(['sh', '-c', TREE])).stdout).toBe(original.stdout);
    });

    if (name === 'native')
      it('while it unpacks: nothing was changed, nothing is left, and it is laid at the next start', async () => {
        const { container } = await killed('test -e /.ddbg-overlay/new/1/srv/many/f10100');
        expect(await countReplaced(container)).toBe(0);
        expect(await changes(container)).toContain('A /.ddbg-overlay/new/1/srv/many/f10100');
        await docker(['start', container.id]);
        await waitForPark(container);
        expect((await container.logs()).stdout).toBe(ALL_NEW);
        expect((await changes(container)).filter((line) => line.includes('.ddbg-overlay'))).toEqual([]);
      });
  });

  describe.each(EACH)('%s', (_, image) => {
    it('docker restart: everything is there already; one run in the record, and nothing else is new', async () => {
      const container = await startEntry(image, untilTerm(0), {
        DEBUG: 'fstree=/t/p.tar',
        flags: mountFiles({ 'p.tar': PATCH }),
      });
      await container.waitForLog(/^up$/m);
      const first = await changes(container);
      const record = async () => JSON.parse((await container.exec(['cat', '/run/ddbg/overlay.json'])).stdout);
      const { runs } = await record();
      expect(runs).toHaveLength(1);
      expect(runs[0].sources[0]).toMatchObject({
        shownLocation: '/t/p.tar',
        format: 'tar',
        files: 4,
        symlinks: 1,
      });

      await docker(['restart', '--time', '30', container.id]);
      await eventually(async () => (await container.logs()).stdout.match(/^up$/gm)?.length).toBe(2);
      const overlaid = ownLines((await container.logs()).stderr).filter((line) =>
        line.startsWith('overlaid'),
      );
      // The engine writes its /etc/hosts anew at each start.
      expect(overlaid[1]).toMatch(
        /: [01] files?, 0 directories, 0 links, .*; [01] replaced, [45] there already$/,
      );
      expect(await changes(container)).toEqual(expect.arrayContaining(first));
      const { runs: after } = await record();
      expect(after[0]).toEqual(runs[0]);
    });

    it("taken back from inside, the entrypoint's own and a later one: the tree as it was", async () => {
      const flags = mountFiles({ 'p.tar': PATCH, 'second.tar': SECOND });
      const container = await startEntry(image, untilTerm(0), { DEBUG: 'fstree=/t/p.tar', flags });
      await container.waitForLog(/^up$/m);
      const later = await container.exec(['ddbg-entry', '--', 'cat', '/usr/bin/free'], {
        env: { DEBUG: 'fstree=/t/second.tar' },
      });
      expect(later).toMatchObject({ status: 0, stdout: 'patched again\n' });
      expect((await container.exec(['sh', '-c', 'ls -A /home /opt/new; cat /etc/hosts'])).stdout).toBe(
        '/home:\n\n/opt/new:\ner\nlink\nother\n127.0.0.1 patched\n',
      );
      expect(await changes(container)).toContain('D /usr/bin/zsh');

      const report = await revertFrom(container);
      expect(report).toMatchObject({ root: '/', runs: 2, left: [] });
      const original = await run(image, { command: ['sh', '-c', TREE] });
      expect((await container.exec(['sh', '-c', TREE])).stdout).toBe(original.stdout);
      expect((await container.exec(['cat', '/etc/hosts'])).stdout).not.toContain('patched');
      const left = (await changes(container)).filter((line) => !/^C |compile-cache/.test(line));
      expect(left).toEqual(['A /run/ddbg', 'A /run/ddbg/backup', 'A /run/ddbg/overlay.json', 'A /t']);
      expect(await revertFrom(container)).toMatchObject({ runs: 0 });
    });
  });

  it('taken back from inside a container that is held: its record is found', async () => {
    const container = await startEntry(images.native, ['sh', '-c', 'exit 7'], {
      DEBUG: 'stayalive,fstree=/t/p.tar',
      flags: mountFiles({ 'p.tar': PATCH }),
    });
    await waitForPark(container);
    expect(await revertFrom(container)).toMatchObject({ runs: 1, left: [] });
    expect((await container.exec(['ls', '/opt'])).stdout).toBe('');
  });

  it('the top layer of an image, out of docker save, over the image below: files, links and deletions', async () => {
    const below = await build('below', [
      `FROM ${images.node24}`,
      'RUN mkdir -p /opt/tree/a/b /opt/opaque/sub && echo 1 >/opt/tree/a/b/f && echo 2 >/opt/tree/keep' +
        ' && echo 3 >/opt/opaque/one && echo 4 >/opt/opaque/sub/two && ln -s tree /opt/link' +
        ' && echo old >/srv/changed && chown 7:7 /srv/changed',
    ]);
    const image = await build('above', [
      `FROM ${below}`,
      'RUN rm /usr/bin/free /opt/link && rm -r /opt/tree/a /opt/opaque && mkdir /opt/opaque' +
        ' && echo 5 >/opt/opaque/three && ln -s opaque /opt/link2 && mkdir -p /srv/new/er && chmod 750 /srv/new' +
        ' && echo new >/srv/changed && chown 1000:50 /srv/changed && chmod 4755 /srv/changed' +
        ' && echo n >/srv/new/er/one && ln /srv/new/er/one /srv/new/er/two',
    ]);
    const saved = join(mkdtempSync(join(engine().directory, 'saved-')), 'image.tar');
    const { status, stderr } = await docker(['save', '--output', saved, image]);
    expect({ status, stderr }).toMatchObject({ status: 0 });
    const member = (name: string) => execFileSync('tar', ['-xOf', saved, name], { maxBuffer: 1e9 });
    const [{ Layers }] = JSON.parse(member('manifest.json').toString());
    const flags = mountFiles({ 'layer.tar': member(Layers.at(-1)) });

    const list = `find /opt /srv /usr/bin ! -type d -printf '%p %y %m %U %G %s %n %l %.10T@\\n' -o -printf '%p %y %m %U %G\\n' | sort; find /opt /srv -type f -exec sha256sum {} + | sort`;
    const DEBUG = 'fstree=/t/layer.tar#owner=archive&setuid=keep';
    const patched = await runEntry(below, ['sh', '-c', list], { DEBUG, flags });
    const whole = await run(image, { command: ['sh', '-c', list] });
    expect(patched.stderr).toMatch(/overlaid .*[1-9] removed/);
    expect(patched.stdout).toBe(whole.stdout);
    expect(whole.stdout).not.toMatch(/bin\/free |tree\/a|opaque\/one/);
  });
});

/** `revertOverlay()` of the package that is installed in there. */
async function revertFrom(container: Container) {
  const script = `
    import { revertOverlay } from '/usr/local/lib/node_modules/ddbg-entry/dist/index.js';
    console.log(JSON.stringify(await revertOverlay()));`;
  const { stdout, stderr } = await container.exec(['node', '--input-type=module', '-e', script]);
  expect(stderr).toMatch(/took back|nothing to take back/);
  return JSON.parse(stdout);
}
