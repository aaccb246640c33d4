/** `verbose` alone, in real containers: what is shown, what is never shown, and that nothing else changes. */
import { beforeAll, describe, expect, it } from 'vitest';
import { describeWithEngine } from './docker.ts';
import { changes, mountFiles, ownLines, runEntry, startEntry, untilTerm } from './kit.ts';

const SECRET = 'hunter2-hunter2';

/** What follows the first line, of which every shell makes its own. */
const PLAIN_SCRIPT = `greet() {
  echo "hello $1"
}
greet "$1"
cat
exit 7
`;

const SHELLS: readonly (readonly [name: string, firstLine: string, trace: RegExp])[] = [
  ['sh', '#!/bin/sh', /^\+ sh: greet you$/m],
  ['dash', '#!/usr/bin/dash -u', /^\+ dash: echo hello you$/m],
  ['ash', '#!/usr/bin/ash', /^\+ ash:3: echo 'hello you'$/m],
  ['busybox', '#!/bin/busybox sh', /^\+ busybox:3: echo 'hello you'$/m],
  ['ksh', '#!/usr/bin/env ksh', /^\+ ksh:3: echo 'hello you'$/m],
  ['zsh', '#!/usr/bin/env -S zsh -f', /^\+greet:1> echo 'hello you'$/m],
];

const BASH_FILES = {
  'outer.bash': `#!/bin/bash
set -eu
outer() {
  /t/inner.bash "$1"
}
outer one
captured=$(/t/inner.bash two 2>&1)
echo "captured: $captured"
node -e 'console.log("from node")'
exit 7
`,
  'inner.bash': `#!/usr/bin/env bash
inner() {
  echo "inner $1"
}
inner "$1"
`,
};

describeWithEngine('verbose', (images) => {
  describe.each([
    ['Node 20', images.node20],
    ['Node 20, native', images.native],
    ['Node 24', images.node24],
  ])('%s', (_, image) => {
    let mounts: string[];
    beforeAll(() => {
      const scripts = SHELLS.map(([name, firstLine]) => [name, `${firstLine}\n${PLAIN_SCRIPT}`]);
      mounts = mountFiles({ ...Object.fromEntries(scripts), ...BASH_FILES });
    });

    it('shows command, file, directory, user, limits and environment, secrets masked', async () => {
      const ended = await runEntry(image, ['node', '-e', 'console.log(process.env.DB_PASSWORD)', 'a b'], {
        DEBUG: 'express:*,verbose',
        env: {
          DB_PASSWORD: SECRET,
          DATABASE_URL: `postgres://app:${SECRET}@db/app`,
          NOTE: `see ${SECRET}`,
          'my.dotted': 'x',
        },
        flags: [
          '-m',
          '64m',
          '--cpus',
          '0.5',
          '--pids-limit',
          '50',
          '--user',
          '1000:1001',
          '--workdir',
          '/usr',
        ],
      });
      const lines = ownLines(ended.stderr);
      expect(ended).toMatchObject({ status: 0, stdout: `${SECRET}\n` });
      for (const line of [
        `command: node -e 'console.log(process.env.DB_PASSWORD)' 'a b'`,
        'file: /usr/local/bin/node',
        'directory: /usr',
        'cgroup v1: memory 64 MiB, cpus 0.5, pids 50'.replace('v1', cgroupVersion(lines)),
        'environment: DB_PASSWORD=***',
        'environment: DATABASE_URL=postgres://***@db/app',
        'environment: NOTE=see ***',
        'environment: DEBUG=express:*',
        'environment: my.dotted=x',
      ])
        expect(lines).toContain(line);
      expect(lines.join('\n')).toMatch(/^user: uid 1000, gid 1001, groups 1001, umask 0022$/m);
      expect(lines.join('\n')).toMatch(/^limits: .*open files \d+/m);
      expect(lines.join('\n')).toMatch(/^start(ing|ed): node -e /m);
      expect(lines.join('\n')).toMatch(/^the command exited with status 0 after \d+\.\d+ s$/m);
      expect(ended.stderr).not.toContain(SECRET);
      expect(
        ownLines(ended.stderr)
          .map((line) => `ddbg-entry: ${line}\n`)
          .join(''),
      ).toBe(ended.stderr);
    });

    it('no limits are said as such', async () => {
      const { stderr } = await runEntry(image, ['true'], { DEBUG: 'verbose' });
      expect(stderr).toMatch(/cgroup v[12]: memory no limit, cpus no limit, pids (no limit|\d+)\n/);
    });

    it.each(SHELLS)('traces %s (%s)', async (name, _firstLine, trace) => {
      const command = [`/t/${name}`, 'you'];
      const [off, on] = await Promise.all([
        runEntry(image, command, { flags: mounts, input: 'stdin\n' }),
        runEntry(image, command, { flags: mounts, input: 'stdin\n', DEBUG: 'verbose' }),
      ]);
      expect(off).toEqual({ status: 7, stdout: 'hello you\nstdin\n', stderr: '' });
      expect(on).toMatchObject({ status: off.status, stdout: off.stdout });
      expect(on.stderr).toMatch(trace);
    });

    it('traces bash with file, line and function, nested scripts included', async () => {
      const [off, on] = await Promise.all([
        runEntry(image, ['/t/outer.bash'], { flags: mounts }),
        runEntry(image, ['/t/outer.bash'], { flags: mounts, DEBUG: 'verbose' }),
      ]);
      const stdout = 'inner one\ncaptured: inner two\nfrom node\n';
      expect(off).toEqual({ status: 7, stdout, stderr: '' });
      expect(on).toMatchObject({ status: 7, stdout });
      const trace = on.stderr.split('\n').filter((line) => /^\++ /.test(line));
      expect(trace).toContain('+ /t/outer.bash:6: outer one');
      expect(trace).toContain('+ /t/outer.bash:4:outer(): /t/inner.bash one');
      expect(trace).toContain("+ /t/inner.bash:3:inner(): echo 'inner one'");
      expect(trace).toContain("+ /t/inner.bash:3:inner(): echo 'inner two'"); // not inside $captured
    });

    it('a trace hides no secret of the environment from the script, and shows none that it does not use', async () => {
      const ended = await runEntry(image, ['bash', '-c', 'echo ${#DB_PASSWORD}; true "$OTHER"'], {
        DEBUG: 'verbose',
        env: { DB_PASSWORD: SECRET, OTHER: 'seen' },
      });
      expect(ended.stdout).toBe(`${SECRET.length}\n`);
      expect(ended.stderr).toMatch(/^\+ .*: true seen$/m);
      expect(ended.stderr).not.toContain(SECRET);
    });

    it('leaves nothing in the file system', async () => {
      const container = await startEntry(image, ['/t/outer.bash'], { flags: mounts, DEBUG: 'verbose' });
      expect(await container.wait()).toBe(7);
      expect((await changes(container)).filter((change) => !/^[AC] \/(t|run|tmp)$/.test(change))).toEqual([]);
    });

    it.each([
      [139, ['sh', '-c', 'kill -SEGV $$']],
      [127, ['no-such-command']],
      [126, ['/etc/passwd']],
    ])('status %i, and a line how to stay alive next time', async (status, command) => {
      const ended = await runEntry(image, command, { DEBUG: 'verbose' });
      expect(ended.status).toBe(status);
      expect(ended.stderr.match(/-e DEBUG=verbose,stayalive$/gm)).toHaveLength(1);
    });

    it('docker stop is passed on, and is no fault', async () => {
      const container = await startEntry(image, untilTerm(143), { DEBUG: 'verbose' });
      await container.waitForLog(/^up$/m);
      await container.stop({ timeoutS: 30 });
      expect(await container.wait()).toBe(143);
      const { stdout, stderr } = await container.logs();
      expect(stdout).toBe('up\nstopping\n');
      expect(stderr).toMatch(/^ddbg-entry: passing on SIGTERM, a stop$/m);
      expect(stderr).not.toContain('stayalive');
    });
  });
});

/** The engine's machine has one or the other; the values must be right on both. */
function cgroupVersion(lines: readonly string[]): string {
  return /^cgroup (v[12]):/m.exec(lines.join('\n'))?.[1] ?? 'v1 or v2';
}
