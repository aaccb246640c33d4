/**
 * docs/picture.svg is drawn from this: each command is typed at a real container, and what comes is what is shown.
 * `npm run picture` draws it anew; the test goes red when the product says anything else than the picture does.
 */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { buildImage, describeWithEngine, engine, start } from './docker.ts';
import { drawTerminal, type Typed } from './picture.ts';

const IMAGE = 'ddbg-test-example-demo';
const DEMO = fileURLToPath(new URL('../../examples/demo', import.meta.url));
const PICTURE = '../../docs/picture.svg';

describeWithEngine('the picture', (images) => {
  test('shows what the demo of README really says', async () => {
    const base = ['--network', 'none', '--build-arg', `BASE=${images.native}`];
    await buildImage(IMAGE, [...base, DEMO]);

    const container = await start(IMAGE, { env: { DEBUG: 'stayalive,record' } });
    await container.waitForLog(/let it go:[^\n]*\n[^\n]*-{9}\n/);
    const session: Typed[] = [
      {
        command: 'docker run --detach --name shop -e DEBUG=stayalive,record shop',
        output: `${container.id}\n`,
      },
    ];
    const type = (command: string): void => {
      session.push({ command, output: ask(command.replaceAll(/ shop\b/g, ` ${container.id}`)) });
    };
    type('docker logs shop');
    type('docker exec shop ddbg report | head -n 6');
    type('docker exec shop sed -i s/PORT=0/PORT=8080/ /app/etc/shop.conf');
    type('docker exec shop ddbg rerun');
    expect(await container.wait()).toBe(0);
    type('docker logs --tail 2 shop');
    type('docker wait shop');

    const title =
      'A program faults, its container is held, the cause is told, a file is mended, it runs again.';
    const steady = session.map(({ command, output }) => ({
      command,
      output: makeSteady(output, container.id),
    }));
    await expect(drawTerminal(steady, title)).toMatchFileSnapshot(PICTURE);
  });
});

/** stdout and stderr in one, as a terminal has them. */
function ask(line: string): string {
  const { host } = engine();
  const env = host === undefined ? process.env : { ...process.env, DOCKER_HOST: host };
  return execFileSync('sh', ['-c', `{ ${line}; } 2>&1`], { encoding: 'utf8', env });
}

/** What differs from run to run, and from machine to machine, is always the same here; nothing else is touched. */
function makeSteady(text: string, id: string): string {
  const STEADY_ID = '3f2a9c41d7e08b5566f1a0c27be94d13508ce7fa6b21d9034c8e5fd7a16b3e92';
  return text
    .replaceAll(id, STEADY_ID)
    .replaceAll(id.slice(0, 12), STEADY_ID.slice(0, 12))
    .replace(/\bpid \d+/g, 'pid 13')
    .replace(/\b\d+(\.\d+)? s\b/g, '0.06 s')
    .replace(/\b\d+ MiB\b/g, '17 MiB')
    .replace(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC/g, '2026-11-20 14:02:11 UTC');
}
