/**
 * From a source to its content in our hands: fetch, verify, recognise, read. Nothing of the root is touched; what is
 * read lies in the spool afterwards.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, openSync, readdirSync, readSync, rmSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { readStat } from '../container/stat.ts';
import type { Log } from '../log.ts';
import type { FstreeSource } from '../parse.ts';
import { maskUrls } from '../secrets.ts';
import type { ArchiveEntry, Reading } from './archive.ts';
import { type Arrangement, arrange, asStripName, type Named, nameEntry } from './arrange.ts';
import { fileMode, losesBits } from './attributes.ts';
import * as disk from './disk.ts';
import { fetchHttp } from './fetch.ts';
import type { OverlayLimits } from './limits.ts';
import { showProgress } from './progress.ts';
import { openReader } from './readers.ts';
import { type Format, HEAD_BYTES, recognise } from './recognise.ts';
import { createSpool, type Spool } from './spool.ts';
import { openStore, type Stored } from './store.ts';
import { findStrip } from './strip.ts';
import { refusal, type Subject, stopIfAsked, subjectOf } from './subject.ts';
import { bytesText, countText, someOf } from './units.ts';

export interface ObtainContext {
  readonly root: string;
  /** For downloads. */
  readonly workDir: string;
  readonly log: Log;
  readonly signal: AbortSignal | undefined;
  readonly limits: OverlayLimits;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** A source that is here, its digest the one that was asked for. */
export interface Obtained {
  readonly source: FstreeSource;
  readonly reading: Reading;
  readonly format: Format;
  /** Of the archive in our own directory, or of the directory as it stands. */
  readonly path: string;
  /** Undefined for a directory. */
  readonly stored: Stored | undefined;
}

export interface ReadSource extends Obtained {
  readonly arrangement: Arrangement;
  readonly spool: Spool;
}

/**
 * What a killed run has left: gigabytes, with a restart policy. After a restart the pid is ours again, or that of a
 * thread of ours (/proc has those too, unlisted): only with the time of its start does it name a process.
 */
export function sweepDownloads(workDir: string): void {
  for (const name of readdirSync(workDir)) {
    const [, pid, startTicks] = /^download-(\d+)-(\d+)-/.exec(name) ?? [];
    if (pid === undefined || readStat(Number(pid))?.startTicks === Number(startTicks)) continue;
    rmSync(`${workDir}/${name}`, { force: true });
  }
}

/** @param downloads gets the path of what is to be removed at the end */
export async function obtain(
  source: FstreeSource,
  downloads: string[],
  context: ObtainContext,
): Promise<Obtained> {
  const { limits, signal, log } = context;
  const subject = subjectOf(source.location);
  const reading: Reading = { subject, limits, isVerified: source.sha256 !== undefined, signal };
  stopIfAsked(signal, subject);
  const directory = directoryOf(source.location);
  if (directory !== undefined) {
    if (source.sha256 !== undefined)
      throw refusal('DDBG_DIGEST', 'use', subject, 'a directory has no sha256', 'Leave #sha256= out.');
    return { source, reading, format: 'directory', path: directory, stored: undefined };
  }
  const stored = await fetch(source, downloads, reading, context);
  verify(source, stored, subject);
  const format = recogniseFile(stored, source.location, subject);
  const facts = { location: maskUrls(source.location), sha256: stored.sha256, bytes: stored.bytes, format };
  log.say(
    `fetched ${maskUrls(source.location)}: ${format}, ${bytesText(stored.bytes)}, sha256 ${stored.sha256}`,
    facts,
  );
  return { source, reading, format, path: stored.path, stored };
}

/** Undefined: it is none, or cannot be looked at, which the copying says better. */
function directoryOf(location: string): string | undefined {
  if (/^https?:/i.test(location)) return undefined;
  try {
    const path = /^file:/i.test(location) ? fileURLToPath(location) : location;
    return statSync(path).isDirectory() ? path : undefined;
  } catch {
    return undefined;
  }
}

async function fetch(
  source: FstreeSource,
  downloads: string[],
  reading: Reading,
  context: ObtainContext,
): Promise<Stored> {
  const { location } = source;
  const { subject, limits, signal } = reading;
  const { log, environment, workDir } = context;
  const owner = `${process.pid}-${readStat('self')?.startTicks ?? 0}`;
  const path = `${workDir}/download-${owner}-${randomBytes(6).toString('hex')}`;
  const store = openStore(path, limits.archiveBytes, subject);
  downloads.push(path);
  try {
    log.say(`fetching ${maskUrls(location)}`, { location: maskUrls(location) });
    const digestGiven = source.sha256 !== undefined;
    if (/^https?:/i.test(location))
      await fetchHttp(location, store, { subject, limits, log, signal, environment, digestGiven });
    else await (await import('./local.ts')).copyLocal(location, store, subject, signal);
    return store.finish();
  } finally {
    store.close();
  }
}

function verify(source: FstreeSource, stored: Stored, subject: Subject): void {
  if (source.sha256 === undefined || source.sha256 === stored.sha256) return;
  const why = `its sha256 is ${stored.sha256}, #sha256= asks for ${source.sha256}`;
  const hint = 'If the archive was meant to change, change #sha256= with it.';
  throw refusal('DDBG_DIGEST', 'use', subject, why, hint);
}

function recogniseFile(stored: Stored, location: string, subject: Subject): Format {
  const head = Buffer.alloc(HEAD_BYTES);
  const fd = openSync(stored.path, 'r');
  let length = 0;
  try {
    length = readSync(fd, head, 0, HEAD_BYTES, 0);
  } finally {
    closeSync(fd);
  }
  const found = recognise(head.subarray(0, length), location);
  if ('format' in found) return found.format;
  const size = stored.bytes === 0 ? '' : ` of ${bytesText(stored.bytes)}`;
  const why = `it looks like ${found.looksLike}${size}, not like a tar (plain, gz, zst, xz, bz2, br) or a zip`;
  throw refusal('DDBG_ARCHIVE', 'use', subject, why, found.hint);
}

/**
 * Reads it whole, once: names checked as they come, contents into the spool.
 *
 * @param compares whether files that the root has already are only compared
 */
export async function readSource(
  obtained: Obtained,
  spoolDirectory: string,
  compares: boolean,
  context: ObtainContext,
): Promise<ReadSource> {
  const { source, reading, format, path } = obtained;
  const { subject, limits } = reading;
  const { root, log } = context;
  const named: Named[] = [];
  const guess = createGuess(source.strip, root);
  const progress = showProgress(log, { doing: 'unpacked', totalBytes: undefined });
  const spool = createSpool({
    subject,
    directory: spoolDirectory,
    guess: () => (compares ? guess.placeOf(named.at(-1)) : undefined),
    progress: ({ bytes, files }) => progress.update(bytes, files),
  });
  try {
    const read = await openReader(format);
    await read(
      path,
      (entry) => {
        const one = nameEntry(entry, limits, subject);
        named.push(one);
        guess.learn(one);
        return entry.kind === 'file' && one.whiteout === undefined
          ? spool.open(entry, one.components, fileMode(entry, source))
          : undefined;
      },
      reading,
    );
  } finally {
    progress.done();
    spool.close();
  }
  const isInRoot = (folder: string): boolean => existsBelow(root, folder);
  const arrangement = arrange(named, source.strip, isInRoot, limits, subject);
  logArrangement(arrangement, source, subject, context);
  return { ...obtained, arrangement, spool };
}

interface Guess {
  learn(named: Named): void;
  placeOf(named: Named | undefined): string | undefined;
}

/** Where a name will end, as far as the names before it tell: strip.ts decides when it has seen all. */
function createGuess(explicitStrip: number | undefined, root: string): Guess {
  let strip = explicitStrip;
  const folders = new Map<string, boolean>();
  const hasFolder = (path: string): boolean => {
    const known = folders.get(path) ?? disk.lookAt(path) !== undefined;
    folders.set(path, known);
    return known;
  };
  return {
    learn(named) {
      if (strip === 0 || explicitStrip !== undefined) return;
      const { strip: found, because } = findStrip([asStripName(named)], () => false);
      if (because !== undefined) strip = Math.min(found, strip ?? found);
    },
    placeOf(named) {
      if (strip === undefined || named === undefined || named.components.length <= strip) return undefined;
      const place = `${root === '/' ? '' : root}/${named.components.slice(strip).join('/')}`;
      return hasFolder(place.slice(0, place.lastIndexOf('/')) || '/') ? place : undefined;
    },
  };
}

function logArrangement(
  arrangement: Arrangement,
  source: FstreeSource,
  subject: Subject,
  { root, log }: ObtainContext,
): void {
  const { strip, found, leftOut, onlyFolder, arranged } = arrangement;
  if (found !== undefined && strip > 0) {
    log.say(`dropping ${countText(strip, 'leading folder')}, for ${found.because} (#strip=0 keeps them)`, {
      strip,
    });
  }
  if (leftOut.length > 0) {
    log.say(
      `left out above that level: ${countText(leftOut.length, 'entry', 'entries')} (${someOf(leftOut)})`,
      {
        leftOut,
      },
    );
  }
  if (source.strip === undefined && onlyFolder !== undefined && !existsBelow(root, onlyFolder)) {
    log.warn(
      `all of ${subject} goes below /${onlyFolder}, which is not there yet; #strip=1 would drop that folder`,
    );
  }
  const shown = (test: (entry: ArchiveEntry) => boolean): readonly string[] =>
    arranged.filter(({ entry }) => test(entry)).map(({ components }) => `/${components.join('/')}`);
  const special = shown((entry) => losesBits(entry, source));
  if (special.length > 0) {
    const what = 'setuid, setgid and sticky bits are not taken from an archive';
    log.warn(`${what}: ${someOf(special)} (#setuid=keep takes them)`, { dropped: special });
  }
  const attributed = shown(({ dropped = [] }) => dropped.length > 0);
  if (attributed.length > 0) {
    const names = [...new Set(arranged.flatMap(({ entry }) => entry.dropped ?? []))];
    log.warn(`extended attributes are not written (${someOf(names)}): ${someOf(attributed)}`, {
      dropped: attributed,
    });
  }
}

function existsBelow(root: string, name: string): boolean {
  return disk.statSync(`${root}/${name}`)?.isDirectory() === true;
}
