/** fault.json as the built bin leaves it: its schema, nobody's secrets, a run that nothing of it disturbs. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { expect, test } from 'vitest';
import { gatherFacts } from '../../src/report/facts.ts';
import type { FaultReport } from '../../src/report/fault-report.ts';
import { tellKubernetes } from '../../src/report/reporting.ts';
import { openWatch } from '../../src/report/watch.ts';
import { dist, node, runEntry, script, startEntry, temporaryFolder } from './harness.ts';

const schema = JSON.parse(readFileSync(join(dist, 'fault.schema.json'), 'utf8'));
const validate = new Ajv2020({ formats: { 'date-time': true } }).compile(schema);

async function faultOf(command: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const entry = startEntry(command, { env: { DEBUG: 'stayalive', ...env } });
  await entry.waitFor(/let it go: .*\n.*-{60}/);
  const text = readFileSync(join(entry.stateDir, 'fault.json'), 'utf8');
  entry.kill('SIGTERM');
  await entry.status;
  return { report: JSON.parse(text) as FaultReport, text, log: entry.stderr() };
}

test.each([
  ['undecided', ['sh', '-c', 'exit 7']],
  ['killed', ['sh', '-c', 'sleep 0.2; kill -KILL $$']],
  ['segfault', ['sh', '-c', 'kill -SEGV $$']],
  ['not-found', ['no-such-command']],
])('%s: it follows its schema', async (cause, command) => {
  const { report, log } = await faultOf(command);
  expect(validate(report), JSON.stringify(validate.errors)).toBe(true);
  expect(report.verdict.cause, log).toBe(cause);
  expect(report.argv).toEqual(command);
});

test('planted secrets are in none of it, also those that the script has exported itself', async () => {
  const folder = temporaryFolder();
  const child = script(folder, 'worker', '#!/bin/sh\nsleep 60\n');
  const command = [
    'sh',
    '-c',
    `export DB_PASSWORD=exported-0123; exec sh -c '${child} exported-0123 given-456789 >/dev/null 2>&1 & sleep 0.5; exit 1' x --token given-456789`,
  ];
  const { report, text, log } = await faultOf(command, { API_TOKEN: 'given-456789' });
  expect(report.running.map(({ argv }) => argv.join(' ')).join('\n')).toMatch(/worker \*\*\* \*\*\*/);
  for (const secret of ['exported-0123', 'given-456789']) {
    expect(`${text}${log}`).not.toContain(secret);
  }
});

/** A held entry whose last run may have ended well. */
async function held(command: readonly string[], DEBUG: string) {
  const entry = startEntry(command, { env: { DEBUG } });
  await entry.waitFor(/let it go: .*\n.*-{60}/);
  return {
    entry,
    ddbg: (before: readonly string[], ...args: readonly string[]) => {
      const line = [node, join(dist, 'ddbg.cjs'), `--state-dir=${entry.stateDir}`, ...args];
      const [program = node, ...rest] = before.length === 0 ? line : [...before, line.join(' '), '/dev/null'];
      return spawnSync(program, rest, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
    },
    end: async () => {
      entry.kill('SIGTERM');
      await entry.status;
    },
  };
}

test('of a run that ended well there is nothing to report, and that is said', async () => {
  const { ddbg, end } = await held(['true'], 'stayalive=always');
  expect(ddbg([], 'report')).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(
      /^run 1 exited with status 0, \d\d:\d\d:\d\d UTC: there is nothing to report\n$/,
    ),
  });
  expect(ddbg([], 'report', '1', '--json').stdout).toBe('null\n');
  expect(ddbg([], 'report', '2')).toMatchObject({
    status: 3,
    stderr: expect.stringContaining('no report of run 2'),
  });
  await end();
});

test('a terminal that has no columns, and no terminal at all, show every word', async () => {
  const words = 'word '.repeat(40).trim();
  const { ddbg, end } = await held(['sh', '-c', `exit 7 # ${words}`], 'stayalive');
  // script(1) makes the terminal; without a terminal of its own it has 0 columns.
  expect(ddbg(['script', '-qec'], 'report').stdout).toMatch(/undecided: it exited with status 7 by itself/);
  expect(ddbg([], 'report').stdout).toContain(`sh -c 'exit 7 # ${words}'`);
  expect(ddbg([], 'report').stdout).not.toContain('...');
  await end();
});

test('a file that only begins as a program is damaged, and of no architecture', async () => {
  const file = script(temporaryFolder(), 'broken', Buffer.from('\u007fELFnine byte', 'latin1'));
  const { report } = await faultOf([file]);
  expect(report.verdict).toMatchObject({ cause: 'no-program', hint: null });
  expect(report.verdict.sentence).toContain('is damaged');
});

test('where the recorder had no room for its files, nothing was recorded', () => {
  const stateDirectory = temporaryFolder();
  const given = {
    command: { argv: ['true'], environment: {} },
    outcome: { kind: 'exited', status: 3 },
    coreDumped: false,
    stop: undefined,
    pid: process.pid,
    durationMs: 10,
    endedAtMs: Date.now(),
    before: undefined,
    cgroup: '',
    witnessed: undefined,
    stateDirectory,
    ours: [],
    version: '0',
  } as const;
  mkdirSync(join(stateDirectory, 'output'));
  expect(gatherFacts(given).output).toBeUndefined();
  writeFileSync(join(stateDirectory, 'output/stdout'), '');
  expect(gatherFacts(given).output).toEqual([]);
});

test('without stayalive nothing is watched, and nothing left', async () => {
  const { stderr } = await runEntry(['sh', '-c', 'kill -SEGV $$'], { env: { DEBUG: 'verbose' } });
  expect(stderr).not.toContain('why:');
});

test('a termination log is written where it is there, and never made', () => {
  const folder = temporaryFolder();
  const file = join(folder, 'termination-log');
  tellKubernetes('no', file);
  expect(() => readFileSync(file)).toThrow('ENOENT');
  writeFileSync(file, 'something longer than that');
  tellKubernetes('exited with status 1', file);
  expect(readFileSync(file, 'utf8')).toBe('exited with status 1\n');
  mkdirSync(join(folder, 'folder'));
  tellKubernetes('no', join(folder, 'folder'));
});

test('a watch over what is not there any more says little, and does not throw', () => {
  const watch = openWatch([1, process.pid]);
  watch.stopped('SIGTERM');
  watch.start(2 ** 22 - 1);
  watch.sample();
  watch.end();
  watch.sample();
  expect(watch.look().witnessed).toMatchObject({ oomKill: undefined, command: undefined });
});
