/**
 * How long an overlay takes, against what one would type otherwise: `curl URL | tar xz`, and against node-tar's own
 * extraction. All fetch the same archive from a server process on loopback; ddbg-entry starts `true` afterwards. Into
 * an empty directory, and once more over what is there; on a disk and on a tmpfs.
 *
 * Also the common case, a patch of one file: all of it, less what `node -e 0` costs. And how time grows with the
 * number of files, and memory with the size of the archive.
 */
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statfsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FILES, SCALES, writeLargeTar, writePatchZip, writeScaleTarGz, writeTreeTarGz } from './archives.mjs';
import {
  ENVIRONMENT,
  findProgram,
  median,
  NODE,
  NODE_ARGV,
  note,
  printColumns,
  printTable,
  runRounds,
  runToEnd,
  summarise,
  target,
} from './measure.mjs';

const SERVER = fileURLToPath(new URL('./server.mjs', import.meta.url));
const EXTRACT = fileURLToPath(new URL('./extract.mjs', import.meta.url));
const PEER = 'curl | tar xz';
const NODE_TAR = 'tar.x of node-tar';
const TMPFS = '/dev/shm';
const TMPFS_TYPE = 0x01021994;
const ROOM_BYTES = 2e9;

export async function benchOverlay({ builds, directory, runs }) {
  const served = join(directory, 'served');
  mkdirSync(served);
  const tree = await writeTreeTarGz(join(served, 'tree.tar.gz'));
  writePatchZip(join(served, 'patch.zip'));
  const server = await startServer(served);
  const context = { builds, runs, tree, url: (name) => `${server.url}/${name}` };
  try {
    const patch = benchPatch({ ...context, directory, runs: Math.max(runs, 15) });
    const trees = places(directory).map((place) => benchTree({ ...context, ...place }));
    const scale = await benchScale({ ...context, directory, served, runs: Math.min(runs, 3) });
    const memory = await benchMemory({ ...context, directory, served });
    return { patch, trees, scale, memory };
  } finally {
    await server.close();
    rmSync(served, { recursive: true });
  }
}

/** Where the bench is, and a tmpfs, if that is another one with room. */
function places(directory) {
  const isTmpfs = (path) => statfsSync(path).type === TMPFS_TYPE;
  const own = { directory, where: isTmpfs(directory) ? 'tmpfs' : 'disk' };
  try {
    const { bavail, bsize } = statfsSync(TMPFS);
    if (own.where === 'disk' && isTmpfs(TMPFS) && bavail * bsize > ROOM_BYTES)
      return [own, { directory: TMPFS, where: 'tmpfs' }];
  } catch {}
  note(`NOT MEASURED on a second file system: ${TMPFS} is no tmpfs with 2 GB left`);
  return [own];
}

function benchTree({ builds, directory, where, runs, tree, url }) {
  const address = url('tree.tar.gz');
  const missing = ['curl', 'tar', 'gzip'].filter((name) => findProgram(name) === undefined);
  const work = [
    ...(missing.length === 0 ? [{ name: PEER, run: runPeer(address) }] : []),
    { name: NODE_TAR, run: ({ target: root }) => runToEnd([process.execPath, EXTRACT, address, root]) },
    ...builds.map(({ suffix, cli }) => ({ name: `ddbg-entry${suffix}`, run: runEntry(cli, address) })),
  ];
  if (missing.length > 0) note(`NOT COMPARED WITH ${PEER}: ${missing.join(', ')} not in PATH`);
  const title = `${FILES} files, ${megabytes(tree.bytes)} (${megabytes(tree.compressedBytes)} as tar.gz), on a ${where}`;
  const fresh = compare(
    `overlay: ${title}, ${runs} rounds`,
    work.map(({ name, run }) => ({ name, measure: () => timeInto(directory, FILES, run) })),
    runs,
    { [PEER]: 1.25, [NODE_TAR]: 0.35 },
  );
  const kept = work.map(() => openPlace(directory));
  try {
    const again = compare(
      `once more over itself: ${title}, ${runs} rounds`,
      work.map(({ name, run }, index) => ({ name, measure: () => run(kept[index]).ms })),
      runs,
      { [PEER]: 1 },
    );
    return { where, ...tree, fresh, again };
  } finally {
    for (const { place } of kept) rmSync(place, { recursive: true, force: true });
  }
}

/** @param limits how many times as long as each of these rows ours may take */
function compare(title, rows, runs, limits) {
  const samples = runRounds(rows, runs);
  const summary = summarise(samples, rows[0].name);
  printTable(title, summary, { yardstick: rows[0].name });
  const targets = Object.entries(limits).map(([name, most]) => {
    const isThere = rows.some((row) => row.name === name);
    const ours = isThere ? summarise(samples, name).filter((row) => row.name.startsWith('ddbg')) : [];
    const found = ours.map((row) => ({ name: row.name, value: row.ratio }));
    return target(`at most ${most} times ${name}`, most, found);
  });
  return { rows: summary, targets };
}

function benchPatch({ builds, directory, runs, url }) {
  const node = { name: NODE, measure: () => runToEnd(NODE_ARGV).ms };
  const rows = [
    node,
    ...builds.map(({ suffix, cli }) => ({
      name: `ddbg-entry${suffix}`,
      measure: () => timeInto(directory, 1, runEntry(cli, url('patch.zip'))),
    })),
  ];
  const summary = summarise(runRounds(rows, runs), NODE);
  printTable(`patch: a zip of one 200 kB file, ${runs} rounds`, summary, { yardstick: NODE });
  const found = summary.slice(1).map(({ name, difference }) => ({ name, value: difference }));
  return { rows: summary, targets: [target(`at most 80 ms more than ${NODE}`, 80, found, 1)] };
}

/** Per file, for ten times as many files. */
async function benchScale({ builds, directory, served, runs, url }) {
  for (const files of SCALES) await writeScaleTarGz(join(served, `${files}.tar.gz`), files);
  const rows = builds.flatMap(({ suffix, cli }) =>
    SCALES.map((files) => ({
      name: `${files} files${suffix}`,
      measure: () => timeInto(directory, files, runEntry(cli, url(`${files}.tar.gz`))),
    })),
  );
  const samples = runRounds(rows, runs);
  printColumns(
    `files of 1 kB, ${runs} rounds`,
    ['', 'median ms', 'us a file'],
    samples.map(({ name, values }) => {
      const ms = median(values);
      return [name, ms.toFixed(0), ((1000 * ms) / Number.parseInt(name, 10)).toFixed(0)];
    }),
  );
  const found = samples.flatMap(({ name, values }, index) => {
    const before = samples[index - 1];
    if (before === undefined || index % SCALES.length === 0) return [];
    return [{ name, value: median(values.map((ms, round) => ms / (10 * before.values[round]))) }];
  });
  return {
    samples,
    targets: [target('at most 1.3 times as long a file with ten times the files', 1.3, found)],
  };
}

async function benchMemory({ builds, directory, served, url }) {
  const { files, bytes } = await writeLargeTar(join(served, 'large.tar'));
  const found = [];
  for (const { suffix, cli } of builds) {
    const place = openPlace(directory);
    try {
      const value = await peakOf([cli, ...entryFlags(place), '--', 'true'], {
        DEBUG: `fstree=${url('large.tar')}`,
      });
      if (countFiles(place.target) !== files) throw new Error('the large archive has not arrived');
      found.push({ name: `ddbg-entry${suffix}`, value });
    } finally {
      rmSync(place.place, { recursive: true, force: true });
    }
  }
  console.log(`\nmemory: an archive of ${megabytes(bytes)}, ${files} files`);
  return { targets: [target('at most 200 MB resident at the peak', 200, found, 0)] };
}

/** The most that a process and its memory have had, in MB: the kernel keeps that, so asking now and then is enough. */
function peakOf([file, ...args], environment) {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { env: { ...ENVIRONMENT, ...environment }, stdio: 'ignore' });
    let peak = 0;
    const timer = setInterval(() => {
      try {
        const [, kilobytes = '0'] =
          /^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8')) ?? [];
        peak = Math.max(peak, Number(kilobytes) / 1000);
      } catch {}
    }, 20);
    child.once('error', reject);
    child.once('close', (status) => {
      clearInterval(timer);
      if (status === 0) resolve(peak);
      else reject(new Error(`${file}: status ${status}`));
    });
  });
}

function runPeer(url) {
  // No pipefail in sh: what a failing curl leaves is found by counting.
  return ({ target: root }) => runToEnd(['/bin/sh', '-c', 'curl -sSf "$0" | tar xz -C "$1"', url, root]);
}

function runEntry(cli, url) {
  return (place) => runToEnd([cli, ...entryFlags(place), '--', 'true'], { DEBUG: `fstree=${url}` });
}

function entryFlags({ target: root, state }) {
  return [`--root=${root}`, `--state-dir=${state}`];
}

function openPlace(directory) {
  const place = mkdtempSync(join(directory, 'run-'));
  const root = join(place, 'root');
  mkdirSync(root);
  return { place, target: root, state: join(place, 'state') };
}

/** Times one run into a fresh empty directory; making, checking and removing that is not timed. */
function timeInto(directory, files, run) {
  const opened = openPlace(directory);
  try {
    const { ms } = run(opened);
    const found = countFiles(opened.target);
    if (found !== files) throw new Error(`${found} files arrived, not ${files}`);
    return ms;
  } finally {
    rmSync(opened.place, { recursive: true, force: true });
  }
}

function countFiles(root) {
  return readdirSync(root, { recursive: true }).filter((name) => statSync(join(root, name)).isFile()).length;
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
