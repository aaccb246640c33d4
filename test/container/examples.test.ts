/** Every example builds and does what the head of its Dockerfile says. */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { buildCarrier, CARRIER, CHECKOUT } from './carrier-images.ts';
import { buildImage, describeWithEngine, run, start, startWebServer } from './docker.ts';

const examples = join(CHECKOUT, 'examples');

describeWithEngine('examples', (images) => {
  const image = (name: string) => `ddbg-test-example-${name}`;
  let folder = '';

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'ddbg-test-'));
    cpSync(examples, folder, { recursive: true });
    execFileSync('cc', ['-static', '-o', 'calc', 'calc.c'], { cwd: join(folder, 'static-binary') });
    await buildCarrier();
    for (const name of [
      'node-server',
      'node-entrypoint',
      'bash-entrypoint',
      'official-entrypoint',
      'static-binary',
    ]) {
      const context = join(folder, name);
      const from = name === 'static-binary' ? `CARRIER=${CARRIER}` : `BASE=${images.node20}`;
      await buildImage(image(name), ['--network', 'none', '--build-arg', from, context]);
    }
  }, 600_000);

  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test('node-server: dies, is held, and runs with a mended configuration', async () => {
    expect((await run(image('node-server'))).status).toBe(1);

    const held = await start(image('node-server'), { env: { DEBUG: 'stayalive' } });
    await held.waitForLog(/TypeError[\s\S]*exited with status 1[\s\S]*let it go/);
    await held.stop();
    expect(await held.wait()).toBe(1);

    const patch = join(folder, 'patch');
    execFileSync('mkdir', ['-p', join(patch, 'app')]);
    execFileSync(
      'sh',
      ['-c', 'echo \'{ "port": 8080, "greeting": "hello" }\' > app/config.json; tar czf fix.tar.gz app'],
      {
        cwd: patch,
      },
    );
    const server = await startWebServer({ 'fix.tar.gz': join(patch, 'fix.tar.gz') });
    const mended = await start(image('node-server'), {
      env: { DEBUG: `fstree=${server.url}/fix.tar.gz` },
      network: server.network,
    });
    // the web server of the test has port 8000, the example 8080, both in one network
    await mended.waitForLog(/listening on 8080/);
    const answer = await mended.exec([
      'node',
      '-e',
      "fetch('http://127.0.0.1:8080').then(r=>r.text()).then(console.log)",
    ]);
    expect(answer.stdout).toContain('HELLO');
    await mended.stop();
    expect(await mended.wait()).toBe(0);
  });

  test('official-entrypoint: traced and held without a change to the script', async () => {
    const plain = await start(image('official-entrypoint'));
    await plain.kill('KILL');
    const traced = await start(image('official-entrypoint'), { env: { DEBUG: 'verbose' } });
    await traced.waitForLog(
      /\+ docker-entrypoint\.sh: mkdir -p \/var\/lib\/server[\s\S]*exec sleep infinity/,
    );
    await traced.stop();
    expect(await traced.wait()).toBe(143);

    const held = await start(image('official-entrypoint'), {
      env: { DEBUG: 'stayalive', DATA_DIR: '/proc/x' },
    });
    await held.waitForLog(/exited with status 1[\s\S]*let it go/);
    await held.stop();
    expect(await held.wait()).toBe(1);
  });

  test('bash-entrypoint: each branch is watched through its one line', async () => {
    expect((await run(image('bash-entrypoint'), { command: ['echo', 'as it was'] })).stdout).toBe(
      'as it was\n',
    );
    const held = await start(image('bash-entrypoint'), {
      env: { DEBUG: 'verbose,stayalive' },
      command: ['migrate'],
    });
    await held.waitForLog(/DATABASE_URL: must be set[\s\S]*exited with status [\s\S]*let it go/);
    await held.stop();
    expect(await held.wait()).toBe(1);
    const traced = await start(image('bash-entrypoint'), { env: { DEBUG: 'verbose' } });
    await traced.waitForLog(/entrypoint\.sh:9:start_web\(\): exec sleep infinity/);
    await traced.stop();
    expect(await traced.wait()).toBe(143);
  });

  test('node-entrypoint: hooks around a stop and a fault', async () => {
    const stopped = await start(image('node-entrypoint'), { env: { DEBUG: 'stayalive' } });
    await stopped.waitForLog(/working on 8080/);
    await stopped.stop();
    expect(await stopped.wait()).toBe(0);
    expect((await stopped.logs()).stdout).toMatch(
      /SIGTERM, leaving the load balancer first[\s\S]*stopped in good order/,
    );

    const held = await start(image('node-entrypoint'), { env: { DEBUG: 'stayalive', PORT: '0' } });
    await held.waitForLog(/readiness is off[\s\S]*let it go/);
    expect((await held.exec(['cat', '/tmp/last-fault'])).stdout).toBe('exited with status 1\n');
    await held.stop();
    expect(await held.wait()).toBe(1);
  });

  test('static-binary: alone in its image it dies of SIGFPE, is held, is reported, and runs again', async () => {
    expect((await run(image('static-binary'), { command: ['6', '2'] })).stdout).toBe('3\n');
    const held = await start(image('static-binary'), { env: { DEBUG: 'stayalive' }, command: ['6', '0'] });
    await held.waitForLog(/killed by signal SIGFPE \(8\)[\s\S]*division by zero[\s\S]*let it go/);
    const report = await held.exec(['/ddbg/bin/ddbg', 'report']);
    expect(report.stdout).toMatch(/^arithmetic \(measured\): it ended by SIGFPE.*division by zero/);
    expect(await held.exec(['/ddbg/bin/ddbg', 'rerun', '--', '/calc', '6', '3'])).toMatchObject({
      status: 0,
    });
    expect(await held.wait()).toBe(0);
    expect((await held.logs()).stdout).toBe('2\n');

    const stopped = await start(image('static-binary'), { env: { DEBUG: 'stayalive' }, command: ['6', '0'] });
    await stopped.waitForLog(/let it go/);
    await stopped.stop();
    expect(await stopped.wait()).toBe(136);
  });
});
