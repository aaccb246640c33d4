/**
 * What `record` costs while a command writes: a gigabyte through it into a pipe that is read as fast as can be, against
 * the same with stdout inherited, and against `tee FILE` behind the command, which is how people keep a log.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { ENVIRONMENT, findProgram, note, printTable, summarise } from './measure.mjs';

const GIGABYTE = 1_000_000_000;
const INHERITED = 'inherited';
/** Blocks as a program with a buffer writes them, and as cat(1) does. */
const WRITES = { 'writes of 4 kB': '4k', 'writes of 128 kB': '128k' };

export function benchRecord({ builds, directory, runs }) {
  const place = mkdtempSync(join(directory, 'record-'));
  const source = join(place, 'source'); // in the page cache: reading it costs every row the same
  execFileSync('dd', ['if=/dev/urandom', `of=${source}`, 'bs=1M', 'count=954', 'status=none']);
  const { size } = statSync(source);
  if (size < GIGABYTE) throw new Error(`${source} has ${size} bytes only`);
  return Object.entries(WRITES).map(([title, block]) => {
    const command = [findProgram('dd'), `if=${source}`, `bs=${block}`, 'status=none'];
    const rows = [
      { name: INHERITED, argv: command },
      { name: 'tee FILE', argv: command, behind: `| tee ${join(place, 'tee')}` },
      ...builds.flatMap(({ cli, init, suffix }) => recorded(init ?? cli, suffix, place, command)),
    ];
    const samples = rows.map(({ name }) => ({ name, values: [] }));
    for (let round = -1; round < runs; round += 1) {
      rows.forEach((row, index) => {
        const ms = measure(row);
        if (round >= 0) samples[index].values.push(ms);
      });
    }
    const summary = summarise(samples, INHERITED);
    printTable(`record: 1 GB, ${title}, into cat >/dev/null, ${runs} rounds`, summary, {
      yardstick: INHERITED,
      digits: 0,
    });
    for (const { name, median } of summary) note(`${name}: ${Math.round(size / 1e3 / median)} MB/s`);
    return { title, unit: 'ms', bytes: size, rows: summary };
  });
}

/** Beside it stayalive, which does the same without the recorder: what is not the recorder's is in both. */
function recorded(file, suffix, place, command) {
  return ['stayalive', 'record'].map((DEBUG) => ({
    name: `${DEBUG}${suffix}`,
    argv: [
      file,
      `--state-dir=${join(place, `state-${DEBUG}${suffix.replaceAll(/\W/g, '')}`)}`,
      '--',
      ...command,
    ],
    environment: { DEBUG },
  }));
}

/** By the clock of the shell's end: the last byte is read. */
function measure({ name, argv, behind = '', environment = {} }) {
  const startedAt = process.hrtime.bigint();
  const { status, stderr } = spawnSync(
    '/bin/bash',
    ['-c', `set -o pipefail; "$@" ${behind} | cat >/dev/null`, 'bash', ...argv],
    {
      env: { ...ENVIRONMENT, ...environment },
      stdio: ['ignore', 'ignore', 'pipe'],
      encoding: 'utf8',
    },
  );
  if (status !== 0) throw new Error(`${name}: status ${status}\n${stderr}`);
  return Number(process.hrtime.bigint() - startedAt) / 1e6;
}
