/** `. ddbg-entry.sh`: the one line in a shell entrypoint full of `exec`. */
import { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { which } from '../../src/process/resolve.ts';
import { cli, dist, script, startEntry, temporaryFolder } from './harness.ts';

/** The two bins in PATH, as npm links them. */
function bins(): string {
  const bin = temporaryFolder();
  symlinkSync(cli, join(bin, 'ddbg-entry'));
  symlinkSync(join(dist, 'ddbg-entry.sh'), join(bin, 'ddbg-entry.sh'));
  return bin;
}

const body = `set -e
. ddbg-entry.sh
case "$1" in
serve) exec sh -c 'echo "serving $1 debug=[$DEBUG] sourced=[$DDBG_SOURCED]"; exit 7' sh "$2" ;;
*) exec echo "other [$1] [$2] debug=[$DEBUG] sourced=[$DDBG_SOURCED]" ;;
esac
`;

const start = (command: readonly string[], env: Record<string, string>, bin = bins(), cwd?: string) => {
  const [program = '', ...args] = command;
  return startEntry(args, {
    node: program,
    program: [],
    env: { PATH: `${bin}:${process.env.PATH}`, ...env },
    ...(cwd === undefined ? {} : { cwd }),
  });
};

describe.each(['bash', 'dash', 'ksh', 'zsh'])('%s', (shell) => {
  const path = which(shell, process.env.PATH);
  const file = () => script(temporaryFolder(), 'entry point', `#!${path}\n${body}`);

  test.skipIf(path === undefined)('off: nothing happens, no process of ours is started', async () => {
    // ddbg-entry is not even in PATH: if it were called, the script would fail
    const bin = temporaryFolder();
    symlinkSync(join(dist, 'ddbg-entry.sh'), join(bin, 'ddbg-entry.sh'));
    for (const DEBUG of ['', '1', 'express:*']) {
      const entry = start([file(), 'a b', '*'], { DEBUG }, bin);
      expect(await entry.status).toBe(0);
      expect(entry.stdout()).toBe(`other [a b] [*] debug=[${DEBUG}] sourced=[]\n`);
      expect(entry.stderr()).toBe('');
    }
  });

  test.skipIf(path === undefined)('on: whatever it ends in is watched', async () => {
    const entry = start([file(), 'serve', 'a b'], { DEBUG: 'x,stayalive' });
    await entry.waitFor(/serving a b debug=\[x\] sourced=\[\][\s\S]*exited with status 7[\s\S]*let it go/);
    entry.kill('SIGTERM');
    expect(await entry.status).toBe(7);
  });

  test.skipIf(path === undefined)('run as `SHELL script`, from its own folder', async () => {
    const cwd = temporaryFolder();
    script(cwd, 'plain', body, 0o644);
    const entry = start([shell, 'plain', 'x'], { DDBG: 'stayalive', DEBUG: 'mine' }, bins(), cwd);
    expect(await entry.status).toBe(0);
    expect(entry.stdout()).toBe('other [x] [] debug=[mine] sourced=[]\n');
  });
});

test('bash keeps its own options, and is not changed for the #! of the script', async () => {
  const file = script(
    temporaryFolder(),
    'entry',
    '#!/bin/sh\n. ddbg-entry.sh\nlist=(a b)\nfalse\necho "not stopped"\n',
  );
  const entry = start(['bash', '-e', file], { DEBUG: 'stayalive=1s' });
  expect(await entry.status).toBe(1);
  expect(entry.stdout()).toBe('');
  expect(entry.stderr()).not.toContain('yntax');
});

test('a script that cannot be found any more says so, and goes on', async () => {
  const cwd = temporaryFolder();
  script(cwd, 'entry.sh', '#!/bin/sh\ncd /\n. ddbg-entry.sh\necho on\n');
  const entry = start(['sh', './entry.sh'], { DEBUG: 'stayalive' }, bins(), cwd);
  expect(await entry.status).toBe(0);
  expect(entry.stdout()).toBe('on\n');
  expect(entry.stderr()).toContain('cannot start ./entry.sh over');
});

test('a word that only looks like ours starts it over once and goes on', async () => {
  const file = script(temporaryFolder(), 'entry', `#!/bin/bash\n${body}`);
  const entry = start([file, 'x'], { DEBUG: 'app:verbose' });
  expect(await entry.status).toBe(0);
  expect(entry.stdout()).toBe('other [x] [] debug=[app:verbose] sourced=[]\n');
});

test.each(['verbose', 'stayalive', 'record'])(
  '%s starts it over: it is gone from the environment',
  async (word) => {
    const file = script(temporaryFolder(), 'entry', `#!/bin/bash\n${body}`);
    const entry = start([file, 'x'], { DEBUG: word });
    expect(await entry.status).toBe(0);
    expect(entry.stdout()).toBe('other [x] [] debug=[] sourced=[]\n');
  },
);

test('a failing line before the exec is a fault too', async () => {
  const file = script(temporaryFolder(), 'entry', '#!/bin/bash\nset -e\n. ddbg-entry.sh\nfalse\nexec true\n');
  const entry = start([file], { DEBUG: 'verbose,stayalive' });
  await entry.waitFor(/\+ .*entry:4: false[\s\S]*exited with status 1[\s\S]*let it go/);
  entry.kill('SIGTERM');
  expect(await entry.status).toBe(1);
});
