/** The tarball where nothing else is: no compiler, no network, an empty cache. */
import { expect, inject, it } from 'vitest';
import { describeWithEngine, start } from '../container/docker.ts';

describeWithEngine('the tarball in a bare container', (images) => {
  it('is installed and runs, as the README has it, and out of npx', async () => {
    const container = await start(images.node20, {
      command: ['sleep', '1000'],
      flags: ['--init', '--volume', `${inject('tarball')}:/ddbg-entry.tgz:ro`],
    });
    const shell = (script: string) => container.exec(['sh', '-c', script]);
    const quiet = '--silent --offline --no-audit --no-fund --cache=/tmp/none';

    const tools = 'cc gcc g++ clang make python3 node-gyp ddbg-entry ddbg';
    expect((await shell(`npm uninstall --global --silent ddbg-entry; command -v ${tools}`)).stdout).toBe('');
    expect((await shell('grep -c : /proc/net/dev')).stdout).toBe('1\n'); // lo

    const folder = await shell(
      `mkdir /app && cd /app && npm install ${quiet} /ddbg-entry.tgz && ls node_modules &&
       node_modules/.bin/ddbg-entry sh -c 'exit 7'; echo $?; node_modules/.bin/ddbg --version;
       echo "import('ddbg-entry').then((entry) => console.log(typeof entry.runEntry))" | node -`,
    );
    expect(folder).toMatchObject({ status: 0, stderr: '' });
    expect(folder.stdout).toMatch(/^ddbg-entry\n7\n\d+\.\d+\.\d+\nfunction\n$/);

    const npx = await shell(`cd /tmp && npx ${quiet} --yes --package=/ddbg-entry.tgz ddbg-entry --version`);
    expect(npx).toMatchObject({ status: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/), stderr: '' });

    const global = await shell(
      `npm install ${quiet} --global /ddbg-entry.tgz && ddbg-entry --install && ddbg-entry --exit-map=7:9 sh -c 'exit 7'`,
    );
    expect(global).toEqual({
      status: 9,
      stdout: 'ddbg-entry: /usr/local/bin/ddbg-entry is the native init now\n',
      stderr: '',
    });
  });
});
