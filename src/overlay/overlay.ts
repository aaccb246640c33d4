/**
 * fstree: puts downloaded archives onto a root, all or nothing. The sequence, from top to bottom:
 *
 *     fetch -> verify -> read -> check -> stage -> commit -> record
 *
 * Every archive is fetched, verified and read before the first one touches anything. Up to its commit an archive
 * leaves only temporary names; an error later on takes back, in reverse, whatever is there.
 */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readSync,
  realpathSync,
  rmSync,
  statSync,
} from 'node:fs';
import { EntryError, reasonOf } from '../errors.ts';
import type { Log } from '../log.ts';
import type { FstreeSource } from '../parse.ts';
import { maskUrls } from '../secrets.ts';
import type { ArchiveEntry, ReadArchive, Reading } from './archive.ts';
import { type Arrangement, arrange } from './arrange.ts';
import { check } from './check.ts';
import { type Committed, commit } from './commit.ts';
import { fetchHttp } from './fetch.ts';
import { type GivenLimits, type OverlayLimits, withDefaults } from './limits.ts';
import { copyLocal } from './local.ts';
import { readMounts } from './mounts.ts';
import { type Format, HEAD_BYTES, recognise } from './recognise.ts';
import { logReport, makeReport, type OverlayReport, type SourceReport } from './report.ts';
import { hasSpecialBits, type Staged, stage } from './stage.ts';
import { openStore, type Stored } from './store.ts';
import { refusal, type Subject, stopIfAsked, subjectOf } from './subject.ts';
import { readTar, readTarGz } from './tar.ts';
import { type DirectoryTimes, rememberTimes } from './times.ts';
import { bytesText, countText } from './units.ts';
import { readZip } from './zip.ts';

export interface OverlayOptions {
  /** The directory that archives are put onto; absolute. Whether `/` is a container's is the caller's to ask. */
  readonly root: string;
  /** An existing directory of ours, mode 0700: for downloads, and for replaced originals below `backup/`. */
  readonly workDir: string;
  readonly log: Log;
  /** A stop that was asked for: rejects with DDBG_ABORTED, the root unchanged. */
  readonly signal?: AbortSignal | undefined;
  /** See limits.ts for names, units and defaults. Infinity switches one off. */
  readonly limits?: GivenLimits | undefined;
  /**
   * Called once, when the first archive is staged and nothing is renamed yet; if it rejects, nothing is changed. The
   * entrypoint has loaded all of its code by then and needs none: it is where the tests stand at that moment.
   */
  readonly beforeCommit?: (() => Promise<void>) | undefined;
}

interface Job {
  readonly root: string;
  readonly workDir: string;
  readonly log: Log;
  readonly signal: AbortSignal | undefined;
  readonly limits: OverlayLimits;
  readonly times: DirectoryTimes;
}

interface Archive {
  readonly source: FstreeSource;
  readonly reading: Reading;
  readonly stored: Stored;
  readonly format: Format;
  readonly arrangement: Arrangement;
}

const READERS: Readonly<Record<Format, ReadArchive>> = { tar: readTar, 'tar.gz': readTarGz, zip: readZip };

/**
 * Rejects with an EntryError: DDBG_FETCH, DDBG_DIGEST, DDBG_ARCHIVE, DDBG_UNSAFE, DDBG_ROOT, DDBG_WRITE, DDBG_ABORTED.
 * The root is then as it was: names, types, modes, owners, contents, and mtimes to the microsecond.
 */
export async function applyOverlays(
  sources: readonly FstreeSource[],
  options: OverlayOptions,
): Promise<OverlayReport> {
  const job = openJob(options);
  sweepDownloads(job.workDir);
  const downloads: string[] = [];
  const done: { committed: Committed; staged: Staged }[] = [];
  const reports: SourceReport[] = [];
  try {
    const archives: Archive[] = [];
    for (const source of sources) archives.push(await obtain(source, downloads, job));
    for (const [index, archive] of archives.entries()) {
      const beforeCommit = index === 0 ? options.beforeCommit : undefined;
      reports.push(await apply(archive, done, beforeCommit, job));
    }
  } catch (error) {
    throw withLosses(asEntryError(error, sources), takeBack(done, job));
  } finally {
    for (const path of downloads) rmSync(path, { force: true });
  }
  const backup = keepOriginals(done, job);
  for (const report of reports) logReport(report, job.log);
  return { sources: reports, backup };
}

function openJob(options: OverlayOptions): Job {
  const { root, workDir, log, signal } = options;
  const open = (path: string, what: string): string => {
    try {
      const real = realpathSync(path);
      if (path.startsWith('/') && statSync(real).isDirectory()) return real;
    } catch (error) {
      throw new EntryError('DDBG_ROOT', `cannot use the ${what} ${path}: ${reasonOf(error)}`, {
        cause: error,
      });
    }
    throw new EntryError(
      'DDBG_ROOT',
      `cannot use the ${what} ${path}: it is not the absolute path of a directory`,
    );
  };
  return {
    root: open(root, 'root'),
    workDir: open(workDir, 'work directory'),
    log,
    signal,
    limits: withDefaults(options.limits),
    times: rememberTimes(),
  };
}

/** What a killed run has left: gigabytes, with a restart policy. After a restart the process has the same pid. */
function sweepDownloads(workDir: string): void {
  for (const name of readdirSync(workDir)) {
    const [, pid] = /^download-(\d+)-/.exec(name) ?? [];
    if (pid === undefined) continue;
    if (Number(pid) === process.pid || !existsSync(`/proc/${pid}`))
      rmSync(`${workDir}/${name}`, { force: true });
  }
}

/** fetch, verify, read: nothing is written yet. */
async function obtain(source: FstreeSource, downloads: string[], job: Job): Promise<Archive> {
  const subject = subjectOf(source.location);
  const reading: Reading = { subject, limits: job.limits, signal: job.signal };
  stopIfAsked(job.signal, subject);
  const stored = await fetch(source, downloads, reading, job);
  verify(source, stored, subject);
  const format = recogniseFile(stored, subject);
  const facts = { location: maskUrls(source.location), sha256: stored.sha256, bytes: stored.bytes, format };
  job.log.say(
    `fetched ${maskUrls(source.location)}: ${format}, ${bytesText(stored.bytes)}, sha256 ${stored.sha256}`,
    facts,
  );
  const entries: ArchiveEntry[] = [];
  await READERS[format](stored.path, (entry) => void entries.push(entry), reading);
  const arrangement = arrange(
    entries,
    source.strip,
    (folder) => existsBelow(job.root, folder),
    job.limits,
    subject,
  );
  logArrangement(arrangement, source, subject, job);
  return { source, reading, stored, format, arrangement };
}

async function fetch(source: FstreeSource, downloads: string[], reading: Reading, job: Job): Promise<Stored> {
  const { location } = source;
  const { subject, limits, signal } = reading;
  const path = `${job.workDir}/download-${process.pid}-${randomBytes(6).toString('hex')}`;
  const store = openStore(path, limits.archiveBytes, subject);
  downloads.push(path);
  try {
    job.log.say(`fetching ${maskUrls(location)}`, { location: maskUrls(location) });
    if (/^https?:/i.test(location))
      await fetchHttp(location, store, { subject, limits, log: job.log, signal });
    else await copyLocal(location, store, subject, signal);
    return store.finish();
  } finally {
    store.close();
  }
}

function verify(source: FstreeSource, stored: Stored, subject: Subject): void {
  if (source.sha256 === undefined || source.sha256 === stored.sha256) return;
  const why = `its sha256 is ${stored.sha256}, #sha256= asks for ${source.sha256}`;
  throw refusal(
    'DDBG_DIGEST',
    'use',
    subject,
    why,
    'If the archive was meant to change, change #sha256= with it.',
  );
}

function recogniseFile(stored: Stored, subject: Subject): Format {
  const head = Buffer.alloc(HEAD_BYTES);
  const fd = openSync(stored.path, 'r');
  let length = 0;
  try {
    length = readSync(fd, head, 0, HEAD_BYTES, 0);
  } finally {
    closeSync(fd);
  }
  const found = recognise(head.subarray(0, length));
  if ('format' in found) return found.format;
  const size = stored.bytes === 0 ? '' : ` of ${bytesText(stored.bytes)}`;
  throw refusal(
    'DDBG_ARCHIVE',
    'use',
    subject,
    `it looks like ${found.looksLike}${size}, not like a tar, tar.gz or zip`,
    found.hint,
  );
}

function logArrangement(arrangement: Arrangement, source: FstreeSource, subject: Subject, job: Job): void {
  const { strip, found, leftOut, onlyFolder, arranged } = arrangement;
  const { log } = job;
  if (found !== undefined && strip > 0) {
    log.say(`dropping ${countText(strip, 'leading folder')}, for ${found.because} (#strip=0 keeps them)`, {
      strip,
    });
  }
  if (leftOut.length > 0) {
    const some = leftOut.slice(0, 3).join(', ');
    const more = leftOut.length > 3 ? ', ...' : '';
    log.say(`left out above that level: ${countText(leftOut.length, 'entry', 'entries')} (${some}${more})`, {
      leftOut,
    });
  }
  if (source.strip === undefined && onlyFolder !== undefined && !existsBelow(job.root, onlyFolder)) {
    log.warn(
      `all of ${subject} goes below /${onlyFolder}, which is not there yet; #strip=1 would drop that folder`,
    );
  }
  const special = arranged
    .filter(({ entry }) => hasSpecialBits(entry))
    .map(({ components }) => `/${components.join('/')}`);
  if (special.length > 0) {
    const some = special.slice(0, 3).join(', ');
    log.warn(
      `setuid, setgid and sticky bits are not taken from an archive: ${some}${special.length > 3 ? ', ...' : ''}`,
    );
  }
}

function existsBelow(root: string, name: string): boolean {
  return statSync(`${root}/${name}`, { throwIfNoEntry: false })?.isDirectory() === true;
}

/** check, stage, commit, record: from here on there is something to take back. */
async function apply(
  archive: Archive,
  done: { committed: Committed; staged: Staged }[],
  beforeCommit: (() => Promise<void>) | undefined,
  job: Job,
): Promise<SourceReport> {
  const { reading, stored, format, source, arrangement } = archive;
  const { subject } = reading;
  const { root, workDir, times } = job;
  stopIfAsked(job.signal, subject);
  const checked = check(arrangement.arranged, { subject, root, workDir, mounts: readMounts() });
  const staged = await stage(checked, {
    ...reading,
    path: stored.path,
    read: READERS[format],
    workDir,
    times,
  });
  try {
    await beforeCommit?.();
    stopIfAsked(job.signal, subject);
    done.push({ staged, committed: commit(staged.steps, { subject, workDir }) });
  } catch (error) {
    staged.discard();
    throw error;
  }
  const { sha256, bytes } = stored;
  const facts = { shownLocation: maskUrls(source.location), sha256, bytes, format, strip: arrangement.strip };
  return makeReport(facts, checked, staged, (target) => statSync(target).mode & 0o7777);
}

/** In reverse: the second archive was put onto what the first had made. */
function takeBack(done: readonly { committed: Committed; staged: Staged }[], job: Job): readonly string[] {
  const lost = done.toReversed().flatMap(({ committed, staged }) => {
    const reasons = committed.undo();
    staged.discard();
    return reasons;
  });
  job.times.restore();
  return lost;
}

/** In a folder of their own: a second run of the same container finds the first one's patch, not the originals. */
function keepOriginals(done: readonly { committed: Committed }[], job: Job): string {
  const backup = `${job.workDir}/backup/${new Date().toISOString().replace(/[:.]/g, '-')}`;
  const lost = done.flatMap(({ committed }, index) => committed.keep(`${backup}/${index + 1}`));
  job.times.restore();
  if (lost.length > 0)
    job.log.warn(`cannot keep the originals of ${countText(lost.length, 'replaced file')}: ${lost[0]}`);
  return backup;
}

function asEntryError(error: unknown, sources: readonly FstreeSource[]): EntryError {
  if (error instanceof EntryError) return error;
  const subjects = sources.map(({ location }) => subjectOf(location)).join(', ');
  return refusal('DDBG_WRITE', 'apply', subjects, reasonOf(error), undefined, error);
}

/** The first error is the one that counts; that something could not be put back must be in it. */
function withLosses(error: EntryError, lost: readonly string[]): EntryError {
  if (lost.length === 0) return error;
  return new EntryError(error.code, `${error.message}; and could not be put back: ${lost.join('; ')}`, {
    hint: 'The root is changed in part: start a new container.',
    cause: error,
  });
}
