/** `ddbg-entry --install` in real containers, without a network, and what npm makes of it afterwards. */
import { describe, expect, it } from 'vitest';
import { type Container, describeWithEngine, run, start } from './docker.ts';

/** As an image's author would have it, at each line of a Dockerfile. */
async function shell(
  container: Container,
  script: string,
  options: { user?: string; env?: Record<string, string> } = {},
) {
  const result = await container.exec(['bash', '-c', `cd /tmp; ${script}`], options);
  return { status: result.status, stdout: result.stdout, stderr: result.stderr };
}

/** The package, out of the folder where npm has put it. */
const PACK = 'npm pack --silent --ignore-scripts --offline "$(npm root -g)/ddbg-entry" 2>/dev/null';
const INSTALL = 'npm install --silent --global --offline --no-audit --no-fund';
const INIT = /^\/.*\/node_modules\/ddbg-entry\/dist\/init\/linux-\w+\/ddbg-init\n$/;
/** Below an init the command says so by its parent; become, it is the very process. */
const WHO = 'exec ddbg-entry -- sh -c "exit 7"';

describeWithEngine('--install', (images) => {
  const idle = () => start(images.node20, { command: ['sleep', '1000'], flags: ['--init'] });

  it('puts a link to the init where npm had its own, twice as once; npm renews and removes it', async () => {
    const container = await idle();
    const target = async () => (await shell(container, 'readlink -f "$(command -v ddbg-entry)"')).stdout;
    expect(await target()).toMatch(/\/cli\.cjs\n$/);
    const first = await shell(container, 'ddbg-entry --install');
    expect(first).toMatchObject({ status: 0, stderr: '' });
    expect(first.stdout).toBe('ddbg-entry: /usr/local/bin/ddbg-entry is the native init now\n');
    expect(await target()).toMatch(INIT);
    // now it is the init that is asked, and node that answers
    const second = await shell(container, 'ddbg-entry --install; ls -A /usr/local/bin | grep -c ddbg'); // ddbg, ddbg-entry, ddbg-entry.sh
    expect(second.stdout).toBe('ddbg-entry: /usr/local/bin/ddbg-entry is the native init already\n3\n');
    expect((await shell(container, WHO)).status).toBe(7);

    const again = await shell(
      container,
      `tarball=$(${PACK}) && ${INSTALL} "$PWD/$tarball" && echo "$tarball"`,
    );
    expect(again).toMatchObject({ status: 0, stdout: expect.stringMatching(/\.tgz\n$/) });
    expect(await target()).toMatch(/\/cli\.cjs\n$/);
    expect((await shell(container, 'ddbg-entry --install && ddbg-entry --version')).status).toBe(0);
    expect(await target()).toMatch(INIT);

    const gone = await shell(
      container,
      'npm uninstall --silent --global ddbg-entry; ls -l /usr/local/bin | grep ddbg',
    );
    expect(gone).toMatchObject({ status: 1, stdout: '' }); // grep finds nothing, not even a link that leads nowhere
  });

  it('as somebody without rights: refused with a way out; with a prefix of their own: works', async () => {
    const container = await idle();
    const user = '1000:1000';
    const refused = await shell(container, 'ddbg-entry --install', { user });
    expect(refused).toMatchObject({ status: 125, stdout: '' });
    expect(refused.stderr).toMatch(/^ddbg-entry: cannot install the native init: .*\n.*--install=DIR\n$/);
    expect((await shell(container, 'readlink -f /usr/local/bin/ddbg-entry')).stdout).toMatch(/cli\.cjs\n$/);

    const env = { HOME: '/tmp/home' };
    const own = [
      'mkdir home && cd home',
      `tarball=$PWD/$(${PACK})`,
      'npm config set prefix "$HOME/.npm-global"',
      `${INSTALL} "$tarball"`,
      'PATH=$HOME/.npm-global/bin:$PATH',
      'ddbg-entry --install',
      'readlink -f "$(command -v ddbg-entry)"',
      'ddbg-entry --exit-map=7:9 -- sh -c "exit 7"',
    ];
    const installed = await shell(container, own.join(' && '), { user, env });
    expect(installed).toMatchObject({ status: 9, stderr: '' });
    const [said = '', link = ''] = installed.stdout.split('\n');
    expect(said).toBe('ddbg-entry: /tmp/home/.npm-global/bin/ddbg-entry is the native init now');
    expect(`${link}\n`).toMatch(INIT);
  });

  it('--install=DIR: makes the folder, leaves npm’s link alone, and what is not ours', async () => {
    const container = await idle();
    const made = await shell(
      container,
      'ddbg-entry --install=new/folder && /tmp/new/folder/ddbg-entry sh -c "exit 7"',
    );
    expect(made).toEqual({
      status: 7,
      stdout: 'ddbg-entry: /tmp/new/folder/ddbg-entry is the native init now\n',
      stderr: '',
    });
    expect((await shell(container, 'readlink -f /usr/local/bin/ddbg-entry')).stdout).toMatch(/cli\.cjs\n$/);
    expect((await shell(container, 'readlink -f new/folder/ddbg-entry')).stdout).toMatch(INIT);
    for (const foreign of [
      'echo mine >ddbg-entry',
      'ln -s /bin/true ddbg-entry',
      'ln -s /nowhere ddbg-entry',
      'mkdir ddbg-entry',
    ]) {
      const script = `rm -rf taken; mkdir taken; cd taken; ${foreign}; ls -l >../before; ddbg-entry --install=/tmp/taken`;
      const refused = await shell(
        container,
        `${script}; status=$?; ls -lA | diff ../before - >&2; exit $status`,
      );
      expect([foreign, refused.status, refused.stdout]).toEqual([foreign, 125, '']);
      expect(refused.stderr).toMatch(
        /^ddbg-entry: cannot install .*\/tmp\/taken\/ddbg-entry is there and not ours\n.*\n$/,
      );
    }
  });

  it('a PATH that finds another first: refused, nothing is replaced', async () => {
    const container = await idle();
    const script =
      'mkdir first; cp /bin/true first/ddbg-entry; PATH=/tmp/first:$PATH /usr/local/bin/ddbg-entry --install';
    const refused = await shell(container, script);
    expect(refused).toMatchObject({ status: 125, stdout: '' });
    expect(refused.stderr).toContain("PATH finds /tmp/first/ddbg-entry, which is not this package's");
    expect((await shell(container, 'cmp first/ddbg-entry /bin/true')).status).toBe(0);
  });

  describe('a question to the init is answered as by node alone', () => {
    it.each(['--version', '--help', '-h'])('%s, whatever DEBUG is', async (question) => {
      const ask = (image: string, env: Record<string, string>) =>
        run(image, { entrypoint: 'ddbg-entry', command: [question], env });
      const [bare, native, on] = await Promise.all([
        ask(images.node20, {}),
        ask(images.native, {}),
        ask(images.native, { DEBUG: 'stayalive' }),
      ]);
      expect(bare).toMatchObject({ status: 0, stderr: '' });
      expect([native, on]).toEqual([bare, bare]);
    });
  });
});
