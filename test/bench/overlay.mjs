/**
 * How long an overlay takes, against what one would type otherwise: `curl URL | tar xz`. Both fetch the same archive
 * from a server process on loopback into an empty directory; ddbg-entry starts `true` afterwards.
 *
 * Also the common case, a patch of one file: all of it, less what `node -e 0` costs.
 */
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FILES, writePatchZip, writeTreeTarGz } from './archives.mjs';
import {
  findProgram,
  NODE,
  NODE_ARGV,
  note,
  printTable,
  runRounds,
  runToEnd,
  summarise,
} from './measure.mjs';

const SERVER = fileURLToPath(new URL('./server.mjs', import.meta.url));
const PEER = 'curl | tar xz';

export async function benchOverlay({ builds, directory, runs }) {
  const served = join(directory, 'served');
  mkdirSync(served);
  const tree = await writeTreeTarGz(join(served, 'tree.tar.gz'));
  writePatchZip(join(served, 'patch.zip'));
  const server = await startServer(served);
  try {
    return {
      tree: benchTree({ builds, directory, runs, tree, url: `${server.url}/tree.tar.gz` }),
      patch: benchPatch({ builds, directory, runs: Math.max(runs, 7), url: `${server.url}/patch.zip` }),
    };
  } finally {
    await server.close();
    rmSync(served, { recursive: true });
  }
}

function benchTree({ builds, directory, runs, tree, url }) {
  const missing = ['curl', 'tar', 'gzip'].filter((name) => findProgram(name) === undefined);
  const hasPeer = missing.length === 0;
  const rows = [
    ...(hasPeer ? [{ name: PEER, measure: () => timeInto(directory, FILES, runPeer(url)) }] : []),
    ...builds.map((build) => overlayRow(build, directory, FILES, url)),
  ];
  const yardstick = hasPeer ? PEER : rows[0].name;
  const summary = summarise(runRounds(rows, runs), yardstick);
  const title = `overlay: ${FILES} files, ${megabytes(tree.bytes)} (${megabytes(tree.compressedBytes)} as tar.gz)`;
  printTable(`${title}, ${runs} rounds`, summary, { yardstick });
  if (!hasPeer) note(`NOT COMPARED WITH ${PEER}: ${missing.join(', ')} not in PATH`);
  return { ...tree, peer: hasPeer ? PEER : null, rows: summary };
}

function benchPatch({ builds, directory, runs, url }) {
  const node = { name: NODE, measure: () => runToEnd(NODE_ARGV).ms };
  const rows = [node, ...builds.map((build) => overlayRow(build, directory, 1, url))];
  const summary = summarise(runRounds(rows, runs), NODE);
  printTable(`patch: a zip of one 200 kB file, ${runs} rounds`, summary, { yardstick: NODE });
  return { rows: summary };
}

function overlayRow({ suffix, cli }, directory, files, url) {
  return { name: `ddbg-entry${suffix}`, measure: () => timeInto(directory, files, runEntry(cli, url)) };
}

function runPeer(url) {
  // No pipefail in sh: what a failing curl leaves is found by counting.
  return ({ target }) => runToEnd(['/bin/sh', '-c', 'curl -sSf "$0" | tar xz -C "$1"', url, target]);
}

function runEntry(cli, url) {
  return ({ target, state }) =>
    runToEnd([cli, `--root=${target}`, `--state-dir=${state}`, '--', 'true'], { DEBUG: `fstree=${url}` });
}

/** Times one run into a fresh empty directory; making, checking and removing that is not timed. */
function timeInto(directory, files, run) {
  const place = mkdtempSync(join(directory, 'run-'));
  const target = join(place, 'root');
  mkdirSync(target);
  try {
    const { ms } = run({ target, state: join(place, 'state') });
    const found = readdirSync(target, { recursive: true }).filter((name) =>
      statSync(join(target, name)).isFile(),
    );
    if (found.length !== files) throw new Error(`${found.length} files arrived, not ${files}`);
    return ms;
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
}

/** In a process of its own: in ours it would stand still while a run is waited for. */
async function startServer(folder) {
  const child = spawn(process.execPath, [SERVER, folder], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  const url = await new Promise((resolve, reject) => {
    child.stdout.once('data', (line) => resolve(`${line}`.trim()));
    child.once('error', reject);
    ended.then(() => reject(new Error('the server ended before it was ready')), reject);
  });
  return {
    url,
    close: () => {
      child.kill();
      return ended;
    },
  };
}

function megabytes(bytes) {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}
