/**
 * A guided minute, without Docker: a program breaks, is looked at, is patched over HTTP and runs again.
 *
 *     npm run demo
 *
 * Everything happens in a temporary folder and ends by itself; on a terminal it pauses so that one can read along.
 */
import { spawn } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { create } from 'tar';

if (process.platform !== 'linux') {
  console.log(
    'The demo needs Linux: ddbg-entry is a container entrypoint. Run it in any Linux container with Node.',
  );
  process.exit(0);
}

const folder = await mkdtemp(join(tmpdir(), 'ddbg-demo-'));
const server = createServer();
try {
  await playDemo();
} finally {
  server.close();
  await rm(folder, { recursive: true, force: true });
}

async function playDemo() {
  const root = join(folder, 'root');
  await cp(fileURLToPath(new URL('root', import.meta.url)), root, { recursive: true }); // has a bad configuration
  const url = await servePatch();
  const shop = join(root, 'app/bin/shop');

  await explain(
    'An "image" with a broken program, started as every container is: no DEBUG.',
    'ddbg-entry steps aside. The program fails, the container would be gone, and nobody knows why.',
  );
  await run({}, root, shop);

  await explain(
    'DEBUG=verbose: what does it do?',
    'The script runs under trace: file, line and function. Secrets in the environment are masked.',
  );
  await run({ DEBUG: 'verbose', SHOP_PASSWORD: 'swordfish' }, root, shop);

  await explain(
    'DEBUG=stayalive,record: keep the container when it faults, and its last output.',
    'Now there is time to exec in and look. The demo plays that person: it reads the report, then lets go.',
  );
  await run({ DEBUG: 'stayalive,record' }, root, shop, async (child) => {
    await inside('report');
    say(`[you, outside] docker stop: the status is still the fault's`);
    child.kill('SIGTERM');
  });

  await explain(
    'DEBUG=stayalive again, and this time it is mended on the spot.',
    `The patch, a tar.gz with one file, comes from ${url}. Then the program runs again in its place, and ends with 0.`,
  );
  await run({ DEBUG: 'stayalive' }, root, shop, async () => {
    await inside('fstree', url);
    await inside('diff');
    await inside('rerun');
  });

  await writeFile(join(root, 'app/etc/shop.conf'), 'PORT=0\n');
  await explain(
    'DEBUG=fstree=URL: the same patch before the start, without building an image.',
    'Downloaded, checked as a whole, and laid over the file system; then the program starts.',
  );
  await run({ DEBUG: `stayalive,fstree=${url}` }, root, shop);

  await explain('That was it. In a real image:', 'ENTRYPOINT ["ddbg-entry", "--", "your-entrypoint.sh"]');
}

/** The mended configuration as an archive on a server of our own, loopback only. */
async function servePatch() {
  const source = join(folder, 'patch');
  await mkdir(join(source, 'app/etc'), { recursive: true });
  await writeFile(join(source, 'app/etc/shop.conf'), 'PORT=8080\n');
  const archive = join(folder, 'patch.tar.gz');
  await create({ gzip: true, cwd: source, file: archive }, ['app/etc/shop.conf']);
  const body = await readFile(archive);
  server.on('request', (_, response) => response.end(body));
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${server.address().port}/patch.tar.gz`;
}

/** Runs ddbg-entry on the program; `onPark` is called once it is held. */
async function run(env, root, program, onPark) {
  const words = Object.entries(env).map(([name, value]) => `-e ${name}=${value}`);
  say(`$ docker run ${[...words, 'shop'].join(' ')}`);
  const cli = fileURLToPath(new URL('../../dist/cli.cjs', import.meta.url));
  const flags = [`--root=${root}`, `--state-dir=${join(folder, 'state')}`];
  const child = spawn(process.execPath, [cli, ...flags, '--', program], {
    env: { PATH: process.env.PATH, ...env },
    stdio: ['ignore', 'inherit', 'pipe'],
  });
  let seen = '';
  child.stderr.setEncoding('utf8').on('data', (text) => {
    process.stdout.write(text);
    const wasParked = seen.includes('let it go:');
    seen += text;
    if (onPark !== undefined && !wasParked && seen.includes('let it go:')) void onPark(child);
  });
  const status = await new Promise((resolve) => child.on('close', resolve));
  say(`=> exit status ${status}`);
}

/** What somebody types who has come in with docker exec. Resolves when it is done. */
async function inside(...words) {
  say(`\n[you, inside] $ ddbg ${words.join(' ')}`);
  const bin = fileURLToPath(new URL('../../dist/ddbg.cjs', import.meta.url));
  const child = spawn(process.execPath, [bin, `--state-dir=${join(folder, 'state')}`, ...words], {
    env: { PATH: process.env.PATH },
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  await new Promise((resolve) => child.on('close', resolve));
}

async function explain(title, text) {
  say(`\n=== ${title}\n    ${text}\n`);
  if (process.stdout.isTTY) await pause(2_500);
}

function say(text) {
  console.log(text);
}
