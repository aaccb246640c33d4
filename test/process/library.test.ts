/** import { runEntry, parseDebug, makePlan, applyOverlay } from 'ddbg-entry': what the package exports, as installed. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, test } from 'vitest';
import { tarOf } from '../overlay/archives.ts';
import { dist, runEntry, script, startEntry, temporaryFolder } from './harness.ts';

const index = pathToFileURL(join(dist, 'index.js')).href;

/** An entrypoint written in Node. */
function entrypoint(body: string): readonly string[] {
  const file = script(
    temporaryFolder(),
    'entry.mjs',
    `import * as ddbg from ${JSON.stringify(index)};\n${body}\n`,
  );
  return [file];
}

const withHooks = (command: string, extra = '') => `
  const note = (name) => (value) => console.log(name, typeof value === 'object' ? value?.status ?? value?.kind : value);
  const hooks = { beforeStop: note('beforeStop'), afterStop: note('afterStop'), onFault: note('onFault'), beforePark: note('beforePark'), ${extra} };
  process.exit(await ddbg.runEntry({ argv: ['--state-dir=' + process.argv[2], '--', ...${command}], hooks }));`;

describe('hooks', () => {
  const start = (body: string, env: Record<string, string>) =>
    startEntry([join(temporaryFolder(), 'state')], { program: entrypoint(body), env });

  test('a stop: before it is passed on, and after', async () => {
    const body = withHooks(
      `['sh', '-c', 'trap "echo trapped; exit 3" TERM; sleep 1000 >/dev/null 2>&1 & echo ready; wait']`,
    );
    const entry = start(body, { DEBUG: 'stayalive' });
    await entry.waitFor(/^ready/m);
    entry.kill('SIGTERM');
    expect(await entry.status).toBe(3);
    expect(entry.stdout()).toBe('ready\nbeforeStop SIGTERM\ntrapped\nafterStop 3\n');
  });

  test('the first stop waits for its hook', async () => {
    const slow = `beforeStop: async () => { await new Promise((done) => setTimeout(done, 50)); console.log('drained'); }`;
    const entry = start(withHooks(`['sh', '-c', 'echo ready; exec sleep 1000']`, slow), { DEBUG: 'verbose' });
    await entry.waitFor(/^ready/m);
    entry.kill('SIGTERM');
    expect(await entry.status).toBe(143);
    expect(entry.stdout()).toBe('ready\ndrained\nafterStop killed\n');
  });

  test('a fault, and before the park', async () => {
    const entry = start(withHooks(`['sh', '-c', 'exit 7']`), { DEBUG: 'stayalive' });
    await entry.waitFor(/let it go/);
    entry.kill('SIGTERM');
    expect(await entry.status).toBe(7);
    expect(entry.stdout()).toBe('onFault 7\nbeforePark 7\n');
  });

  test('a stop that comes while a hook runs is for the park', async () => {
    const stopping = `onFault: async () => {
      process.kill(process.pid, 'SIGTERM');
      await new Promise((done) => setTimeout(done, 50));
    }`;
    const entry = start(withHooks(`['sh', '-c', 'exit 7']`, stopping), { DEBUG: 'stayalive' });
    expect(await entry.status).toBe(7);
    expect(entry.stderr()).toContain('let go by SIGTERM, ending with status 7');
  });

  test('a stop does not wait for a slow hook once the command has ended', async () => {
    const slow = `onFault: () => { console.log('asked'); return new Promise(() => {}); }, timeoutMs: 1e8`;
    const entry = start(withHooks(`['sh', '-c', 'exit 7']`, slow), { DEBUG: 'stayalive' });
    await entry.waitFor(/asked/);
    entry.kill('SIGTERM');
    expect(await entry.status).toBe(7);
  });

  test('one that throws, or hangs, is said and changes nothing', async () => {
    const broken = `onFault: () => { throw new Error('mine') }, beforePark: () => new Promise(() => {}), timeoutMs: 50`;
    const entry = start(withHooks(`['false']`, broken), { DEBUG: 'stayalive' });
    await entry.waitFor(
      /hook onFault failed: mine[\s\S]*hook beforePark failed: it took longer than 50 ms[\s\S]*let it go/,
    );
    entry.kill('SIGTERM');
    expect(await entry.status).toBe(1);
  });

  test('off, there is nobody to run them', async () => {
    const entry = start(withHooks(`['false']`), {});
    expect(await entry.status).toBe(1);
    expect(entry.stdout()).toBe('');
  });
});

test('a stop that comes before the start: it is not started, 143', async () => {
  const body = `
    process.once('SIGTERM', () => {});
    const run = ddbg.runEntry({ argv: ['--', 'echo', 'started'] });
    process.kill(process.pid, 'SIGTERM');
    console.log(await run);`;
  const { stdout } = await runEntry([], { program: entrypoint(body), env: { DEBUG: 'stayalive' } });
  expect(stdout).toBe('143\n');
});

test('an entrypoint in Node goes on after the command', async () => {
  const body = `
    const status = await ddbg.runEntry({ argv: ['--', 'sh', '-c', 'echo "$SEEN$DEBUG"; exit 4'], environment: { ...process.env, DEBUG: 'verbose', SEEN: 'x' } });
    console.log('after', status);`;
  const { stdout, stderr, status } = await runEntry([], { program: entrypoint(body) });
  expect({ stdout, status }).toEqual({ stdout: 'x\nafter 4\n', status: 0 });
  expect(stderr).toContain('environment: SEEN=x');
});

test('off, what execve(2) would refuse with E2BIG is a status, not an abort of Node', async () => {
  const body = `console.log(await ddbg.runEntry({ argv: ['true', 'x'.repeat(200_000)], environment: { PATH: process.env.PATH } }));`;
  const { stdout, stderr } = await runEntry([], { program: entrypoint(body) });
  expect(stdout).toBe('126\n');
  expect(stderr).toContain('E2BIG');
});

test('parseDebug and makePlan are pure and typed errors come out', async () => {
  const body = `
    const directives = ddbg.parseDebug({ DEBUG: 'verbose,x' });
    console.log(directives.verbose, directives.debugForCommand);
    const plan = ddbg.makePlan(directives, { argv: ['a'], environment: { DEBUG: 'verbose,x' } });
    console.log(plan.on, plan.command.environment.DEBUG);
    try { ddbg.parseDebug({ DDBG: 'nope' }) } catch (error) { console.log(error instanceof ddbg.EntryError, error.code) }`;
  const { stdout } = await runEntry([], { program: entrypoint(body) });
  expect(stdout).toBe('true x\ntrue x\ntrue DDBG_BAD_DIRECTIVE\n');
});

test('applyOverlay lays an archive over a directory and returns the record', async () => {
  const folder = temporaryFolder();
  const archive = join(folder, 'a.tar');
  writeFileSync(archive, tarOf({ name: 'etc/new', content: 'hello' }));
  const body = `
    const [, , archive, root, state] = process.argv;
    const report = await ddbg.applyOverlay([archive], { root, stateDirectory: state });
    console.log(JSON.stringify(report.sources[0].entries.map(({ path, action }) => [path, action])));
    try { await ddbg.applyOverlay([archive + '#nonsense'], { root }) } catch (error) { console.log(error.code, error.message.includes('nonsense')) }`;
  const { stdout } = await runEntry([archive, folder, join(folder, 'state')], { program: entrypoint(body) });
  expect(stdout).toContain('["/etc/new","new"]');
  expect(stdout).toContain('DDBG_BAD_DIRECTIVE true');
});
