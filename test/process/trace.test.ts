/** verbose: what is shown, and shells that trace themselves. */
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { which } from '../../src/process/resolve.ts';
import { cli, isRoot, node, runEntry, script, temporaryFolder } from './harness.ts';

const verbose = { DEBUG: 'verbose' };

/** Runs it without and with verbose: status and stdout must be the same. Returns the trace lines. */
async function traced(command: readonly string[], env: Record<string, string> = {}, cwd?: string) {
  const options = cwd === undefined ? {} : { cwd };
  const plain = await runEntry(command, { env, ...options });
  const run = await runEntry(command, { env: { ...env, ...verbose }, ...options });
  expect({ status: run.status, stdout: run.stdout }).toEqual({ status: plain.status, stdout: plain.stdout });
  expect(plain.stderr).not.toMatch(/^\+/m);
  return {
    ...run,
    lines: run.stderr.split('\n').filter((line) => line !== '' && !line.startsWith('ddbg-entry: ')),
  };
}

describe('bash', () => {
  const folder = () => {
    const place = temporaryFolder();
    script(place, 'nested.sh', '#!/bin/bash\necho from-nested\n');
    script(
      place,
      'entry.sh',
      '#!/bin/bash\nset -euo pipefail\ngreet() {\n  echo "hello $1"\n}\ngreet you\n./nested.sh\nexit 5\n',
    );
    return place;
  };

  test('each line carries file, line and function, nested scripts too', async () => {
    const cwd = folder();
    const { lines, status } = await traced([join(cwd, 'entry.sh')], {}, cwd);
    expect(status).toBe(5);
    expect(lines).toEqual([
      `+ ${cwd}/entry.sh:2: set -euo pipefail`,
      `+ ${cwd}/entry.sh:6: greet you`,
      `+ ${cwd}/entry.sh:4:greet(): echo 'hello you'`,
      `+ ${cwd}/entry.sh:7: ./nested.sh`,
      '+ ./nested.sh:2: echo from-nested',
      `+ ${cwd}/entry.sh:8: exit 5`,
    ]);
  });

  test.each([
    ['bash script', (file: string) => ['bash', file]],
    ['bash -c', (file: string) => ['bash', '-c', `. ${file}`]],
    ['bash --norc -eu script', (file: string) => ['bash', '--norc', '-eu', file]],
    ['bash --posix script', (file: string) => ['bash', '--posix', file]],
    ['bash -p script', (file: string) => ['bash', '-p', file]],
    ['bash -o pipefail script', (file: string) => ['bash', '-o', 'pipefail', file]],
    ['bash -- script', (file: string) => ['bash', '--', file]],
  ])('as %s', async (_, command) => {
    const file = script(temporaryFolder(), 'entry.sh', 'echo "in $1"; exit 5\n', 0o644);
    const { lines, status } = await traced([...command(file), 'argument']);
    expect(status).toBe(5);
    expect(lines.join('\n')).toContain('exit 5');
  });

  test.each([
    '#!/usr/bin/env bash',
    '#!/usr/bin/env -S bash -eu',
    '#!/usr/bin/env -S X=1 bash',
    '#!/bin/bash -e',
    '#!/bin/bash --posix',
    '#! /bin/bash',
  ])('through %s', async (shebang) => {
    const file = script(temporaryFolder(), 'entry.sh', `${shebang}\necho "$0 $- \${X-}" | tr -d x\nexit 5\n`);
    const { lines, status } = await traced([file]);
    expect(status).toBe(5);
    expect(lines.join('\n')).toContain('exit 5');
  });

  test('what the script captures of its own stderr stays clean', async () => {
    const cwd = folder();
    script(
      cwd,
      'capture.sh',
      '#!/bin/bash\nf() { echo out; echo err >&2; }\na=$(f 2>&1)\nb=$(./nested.sh 2>&1)\necho "[$a][$b]"\n',
    );
    const { stdout } = await traced([join(cwd, 'capture.sh')], {}, cwd);
    expect(stdout).toBe('[out\nerr][from-nested]\n');
  });

  test('the user’s own BASH_ENV is read as before, and not traced', async () => {
    const cwd = temporaryFolder();
    script(cwd, 'my env.sh', 'FROM_ENV="set by me"\n', 0o644);
    const file = script(cwd, 'entry.sh', '#!/bin/bash\necho "$FROM_ENV"\n');
    const { stdout, lines } = await traced([file], { BASH_ENV: '$PLACE/my env.sh', PLACE: cwd });
    expect(stdout).toBe('set by me\n');
    expect(lines).toEqual([`+ ${file}:2: echo 'set by me'`]);
  });

  test('a user’s BASH_ENV that is not there is no matter', async () => {
    const file = script(temporaryFolder(), 'entry.sh', '#!/bin/bash\necho fine\n');
    expect((await traced([file], { BASH_ENV: '/no/such/file' })).lines).toEqual([`+ ${file}:2: echo fine`]);
  });

  test('with few file descriptors it is traced all the same', async () => {
    const file = script(temporaryFolder(), 'entry.sh', '#!/bin/bash\nulimit -n 64; bash -c "echo deep"\n');
    expect((await traced([file])).lines.join('\n')).toContain('echo deep');
  });

  test.runIf(isRoot)('a nested script that runs as another user can read its instructions', async () => {
    const cwd = temporaryFolder();
    const file = script(
      cwd,
      'entry.sh',
      '#!/bin/bash\nsetpriv --reuid 4242 --clear-groups bash -c "echo as-other"\n',
    );
    const { stdout, stderr } = await traced(['sh', '-c', `umask 077; exec ${node} ${cli} -- ${file}`]);
    expect(stdout).toBe('as-other\n');
    expect(stderr).not.toContain('denied');
    expect(stderr).toContain('+ bash:1: echo as-other');
  });

  test('nothing of it is left on the disk', async () => {
    const left = () =>
      readdirSync('/run')
        .concat(readdirSync('/tmp'))
        .filter((name) => name.startsWith('ddbg-trace'));
    const before = left();
    await traced([script(temporaryFolder(), 'entry.sh', '#!/bin/bash\ntrue\n')]);
    expect(left().filter((name) => !before.includes(name))).toEqual([]);
  });
});

describe('the other shells', () => {
  const shells = ['sh', 'dash', 'ash', 'ksh', 'zsh'].map(
    (name) => [name, which(name, process.env.PATH)] as const,
  );

  test.for(shells)('%s traces itself, status and stdout stay', async ([name, path], { skip }) => {
    if (path === undefined)
      return skip(`SKIPPED: ${name} is not on this machine; the container tests have it`);
    const file = script(temporaryFolder(), 'entry', `#!${path} -e\nset -u\necho "hello $1"\nexit 5\n`);
    const { lines, status } = await traced([file, 'you']);
    expect(status).toBe(5);
    expect(lines.some((line) => /^\+.*entry.* echo .*hello you/.test(line))).toBe(true);
  });

  test.each([
    ['#!/bin/sh', 'echo "$0"; exit 5'],
    ['#!/bin/sh -', 'echo "$0"; exit 5'],
    ['#!/bin/sh -eu', 'echo "$0"; exit 5'],
    ['#!/usr/bin/env sh', 'echo "$0"; exit 5'],
    ['', 'echo "$0"; exit 5'],
  ])('through %s', async (shebang, body) => {
    const file = script(temporaryFolder(), 'entry', `${shebang}\n${body}\n`.trimStart());
    const { lines, status, stdout } = await traced([file]);
    expect({ status, stdout }).toEqual({ status: 5, stdout: `${file}\n` });
    expect(lines.join('\n')).toContain('exit 5');
  });

  test('sh -c', async () => {
    const { lines } = await traced(['sh', '-c', 'echo "$1"; exit 5', 'name', 'argument']);
    expect(lines).toEqual([
      expect.stringMatching(/^\+ name(:1)?: echo argument$/),
      expect.stringMatching(/^\+ name(:1)?: exit 5$/),
    ]);
  });

  test('found in PATH', async () => {
    const bin = temporaryFolder();
    script(bin, 'my-entry', '#!/bin/sh\necho found\n');
    const env = { PATH: `${bin}:${process.env.PATH}` };
    expect((await traced(['my-entry'], env)).lines).toEqual([
      expect.stringMatching(/^\+ my-entry(:2)?: echo found$/),
    ]);
  });

  test('a bash script below sh is traced with file, line and function', async () => {
    const cwd = temporaryFolder();
    const nested = script(cwd, 'nested.sh', '#!/bin/bash\nf() { echo deep; }\nf\n');
    const { lines } = await traced([script(cwd, 'entry', `#!/bin/sh\n${nested}\n`)]);
    expect(lines).toContain(`+ ${nested}:2:f(): echo deep`);
  });

  test('a user’s own PS4 stays', async () => {
    const { lines } = await traced(['dash', '-c', 'true'], { PS4: 'mine ' });
    expect(lines).toEqual(['mine true']);
  });
});

describe('what is no shell script is run untouched', () => {
  test.each([
    ['a program', ['cat', '/proc/self/environ']],
    ['an interpreter', [process.execPath, '-p', 'JSON.stringify([process.env.PS4, process.env.BASH_ENV])']],
    ['a shell without a script', ['sh']],
    ['a script from stdin', ['bash', '-s', 'x']],
  ])('%s', async (_, command) => {
    const { lines } = await traced(command);
    expect(lines).toEqual([]);
  });

  test('a script of another language', async () => {
    const file = script(
      temporaryFolder(),
      'entry',
      `#!${process.execPath}\nconsole.log(process.env.BASH_ENV)\n`,
    );
    const { stdout, lines } = await traced([file]);
    expect({ stdout, lines }).toEqual({ stdout: 'undefined\n', lines: [] });
  });
});

describe('what the command will see', () => {
  test('argv, file, directory, user, limits and environment, without secrets', async () => {
    const cwd = join(temporaryFolder(), 'some where');
    mkdirSync(cwd);
    const env = {
      ...verbose,
      DB_PASSWORD: 'geheim-eins',
      DATABASE_URL: 'postgres://me:geheim-zwei@db/x',
      COPY: 'holds geheim-eins too',
      MULTI: 'a\nb',
      PLAIN: 'seen',
    };
    const { stderr } = await runEntry(['true', '--token=geheim-drei', '--api-key', 'geheim-vier', 'x'], {
      env,
      cwd,
    });
    expect(stderr).not.toContain('geheim');
    for (const line of [
      "command: true '--token=***' --api-key '***' x",
      `file: ${which('true', process.env.PATH)}`,
      `directory: ${cwd}`,
      `user: uid ${process.getuid?.()}, gid ${process.getgid?.()}`,
      'umask 0022',
      'limits: ',
      'open files ',
      'cgroup',
      'environment: DB_PASSWORD=***',
      'environment: DATABASE_URL=postgres://***@db/x',
      'environment: COPY=holds *** too',
      'environment: MULTI=a\\nb',
      'environment: PLAIN=seen',
      'the command exited with status 0',
    ]) {
      expect(stderr).toContain(line);
    }
    expect(stderr.split('\n').every((line) => line === '' || line.startsWith('ddbg-entry: '))).toBe(true);
  });

  test('as JSON, an object a line', async () => {
    const { stderr } = await runEntry(['true'], { env: { ...verbose, DDBG_LOG: 'json' } });
    const messages = stderr
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { message: string }).message);
    expect(messages).toContain('command: true');
  });
});
