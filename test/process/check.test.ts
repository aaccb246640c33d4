/** `ddbg check`, `ddbg health`, `ddbg hook` as real processes. */
import { execFileSync, spawnSync } from 'node:child_process';
import { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { cli, dist, node, script, startEntry, temporaryFolder } from './harness.ts';
import { runTool } from './tool.ts';

const bin = join(dist, 'ddbg.cjs');

/** The built bin itself, with a PATH of its own. */
function runBin(argv: readonly string[], PATH: string) {
  const { status, stdout, stderr } = spawnSync(node, [bin, ...argv], { encoding: 'utf8', env: { PATH } });
  return { status, stdout, stderr };
}

describe('check', () => {
  it('npm’s link in PATH is a note, and no problem', () => {
    const folder = temporaryFolder();
    symlinkSync(cli, join(folder, 'ddbg-entry'));
    symlinkSync(node, join(folder, 'node'));
    const { status, stdout, stderr } = runBin(['check'], `${folder}:/usr/bin:/bin`);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(/^note {4}pid 1: \S+\/ddbg-entry is Node's: /m);
    expect(stdout).toMatch(/^ok {6}node in PATH: \S+\/node$/m);
  });

  it('nothing in PATH: problems with their way out, first, and 1', () => {
    const { status, stdout } = runBin(['check'], temporaryFolder());
    expect(status).toBe(1);
    expect(stdout).toMatch(
      /^problem pid 1: PATH finds no ddbg-entry: .*\n {8}RUN npm install --global ddbg-entry/,
    );
    expect(stdout).toMatch(/^problem node in PATH: /m);
    const answer = JSON.parse(runBin(['check', '--json'], temporaryFolder()).stdout);
    expect(answer).toMatchObject({ schema: 1, problems: 2 });
  });

  it('somebody else’s ddbg-entry is a problem', () => {
    const folder = temporaryFolder();
    script(folder, 'ddbg-entry', '#!/bin/sh\n');
    const { status, stdout } = runBin(['check'], `${folder}:/usr/bin:/bin`);
    expect(status).toBe(1);
    expect(stdout).toMatch(/^problem pid 1: \S+ is not this package's$/m);
  });

  it('takes no arguments', () => {
    expect(runTool('check', ['--all'])).toMatchObject({ status: 2, stdout: '' });
  });
});

describe('health', () => {
  it('1 while the container is held, and else 0', async () => {
    const entry = startEntry(['sh', '-c', 'read x; exit 3'], { env: { DEBUG: 'stayalive' }, stdin: 'pipe' });
    const look = (...more: string[]) => runTool('health', [`--state-dir=${entry.stateDir}`, ...more]);
    expect(look()).toEqual({ status: 0, stdout: '', stderr: '' }); // before there is any state, too
    entry.child.stdin?.end('x\n');
    await entry.waitFor(/let it go: /);
    expect(look()).toEqual({
      status: 1,
      stdout: 'parked: the command has ended and the container is held; ddbg says more\n',
      stderr: '',
    });
    expect(JSON.parse(look('--json').stdout)).toEqual({ schema: 1, isHealthy: false, phase: 'parked' });
    entry.kill('SIGKILL');
    await entry.status;
    expect(look()).toMatchObject({ status: 0 }); // what it has left still says parked, and is not believed
  });

  it('0 where there is nothing', () => {
    const place = `--state-dir=${join(temporaryFolder(), 'none')}`;
    expect(runTool('health', [place])).toEqual({ status: 0, stdout: '', stderr: '' });
    expect(runTool('health', ['x']).status).toBe(2);
  });
});

describe('hook', () => {
  it.each(['bash', 'sh', 'dash', 'ksh', 'zsh'])(
    'its text for %s is shell, and does nothing when off',
    (shell) => {
      const { status, stdout } = runTool('hook', [shell]);
      expect(status).toBe(0);
      expect(stdout).toMatch(/^\. ddbg-entry\.sh$/m);
      if (spawnSync(shell, ['-c', 'true']).status !== 0) return;
      const folder = temporaryFolder();
      symlinkSync(join(dist, 'ddbg-entry.sh'), join(folder, 'ddbg-entry.sh'));
      const file = script(folder, 'entry', `${stdout}echo "here $1"\n`);
      const env = { PATH: `${folder}:${process.env.PATH}` };
      expect(execFileSync(shell, [file, 'x'], { encoding: 'utf8', env })).toBe('here x\n');
    },
  );

  it('another shell, or none: 2', () => {
    expect(runTool('hook', ['fish'])).toMatchObject({ status: 2, stdout: '' });
    expect(runTool('hook', []).stderr).toMatch(
      /^ddbg: cannot hook: for which shell\?\nddbg: {3}ddbg hook bash\|/,
    );
  });
});
