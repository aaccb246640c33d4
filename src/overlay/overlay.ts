/**
 * fstree: puts archives onto a root, all or nothing. The sequence, from top to bottom:
 *
 *     fetch -> verify -> read -> check -> stage -> commit -> record
 *
 * Every archive is fetched, verified and read before the first one touches anything, and all of them are one
 * transaction: an error takes back whatever is there, and what a KILL leaves the next run takes back.
 */
import { rmSync } from 'node:fs';
import { attempt } from '../attempt.ts';
import { EntryError, reasonOf } from '../errors.ts';
import type { Log } from '../log.ts';
import type { FstreeSource } from '../parse.ts';
import { maskUrls } from '../secrets.ts';
import { type Checked, check } from './check.ts';
import { commit, openDirectory, withLosses } from './commit.ts';
import * as disk from './disk.ts';
import { type GivenLimits, withDefaults } from './limits.ts';
import { readMounts } from './mounts.ts';
import {
  type ObtainContext,
  type Obtained,
  obtain,
  type ReadSource,
  readSource,
  sweepDownloads,
} from './obtain.ts';
import { addRun, readRecord, stageRecord } from './record.ts';
import { logReport, makeReport, type OverlayReport, type SourceReport } from './report.ts';
import { digestOf } from './spool.ts';
import { stage } from './stage.ts';
import { refusal, type Subject, stopIfAsked, subjectOf } from './subject.ts';
import { openTransaction, type Transaction } from './transaction.ts';
import { someOf } from './units.ts';

export interface OverlayOptions {
  /** The directory that archives are put onto; absolute. Whether `/` is a container's is the caller's to ask. */
  readonly root: string;
  /** An existing directory of ours, mode 0700: for downloads, the record, and replaced originals below `backup/`. */
  readonly workDir: string;
  readonly log: Log;
  /** A stop that was asked for: rejects with DDBG_ABORTED, the root unchanged. */
  readonly signal?: AbortSignal | undefined;
  /** See limits.ts for names, units and defaults. Infinity switches one off. */
  readonly limits?: GivenLimits | undefined;
  /** Where proxies and credentials are looked up. Default: process.env. */
  readonly environment?: Readonly<Record<string, string | undefined>> | undefined;
  /**
   * Called once, when the first archive is staged and nothing is renamed yet; if it rejects, nothing is changed. The
   * entrypoint has loaded all of its code by then and needs none: it is where the tests stand at that moment.
   */
  readonly beforeCommit?: (() => Promise<void>) | undefined;
}

interface Job extends ObtainContext {
  readonly transaction: Transaction;
}

/**
 * Rejects with an EntryError: DDBG_FETCH, DDBG_DIGEST, DDBG_ARCHIVE, DDBG_UNSAFE, DDBG_ROOT, DDBG_WRITE, DDBG_STATE,
 * DDBG_ABORTED. The root is then as it was: names, types, modes, owners, contents, and mtimes to the microsecond.
 */
export async function applyOverlays(
  sources: readonly FstreeSource[],
  options: OverlayOptions,
): Promise<OverlayReport> {
  const { log, signal, environment = process.env } = options;
  const limits = withDefaults(options.limits);
  const root = openDirectory(options.root, 'root');
  const workDir = openDirectory(options.workDir, 'work directory');
  sweepDownloads(workDir);
  const transaction = openTransaction(root, workDir, log);
  const job: Job = { root, workDir, log, signal, environment, transaction, limits };
  const downloads: string[] = [];
  const reports: SourceReport[] = [];
  try {
    for (const [index, source] of (await readAll(sources, downloads, job)).entries()) {
      const beforeCommit = index === 0 ? options.beforeCommit : undefined;
      reports.push(await apply(source, index + 1, beforeCommit, job));
    }
    const at = new Date().toISOString();
    const backup = `${workDir}/backup/${at.replace(/[:.]/g, '-')}`;
    const report = { at, root, sources: reports, backup };
    record(report, job);
    return report;
  } catch (error) {
    throw withLosses(asEntryError(error, sources), transaction.rollBack(), transaction.directory);
  } finally {
    for (const path of downloads) removeQuietly(path);
  }
}

/** The next run sweeps what is left. */
function removeQuietly(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {}
}

async function readAll(
  sources: readonly FstreeSource[],
  downloads: string[],
  job: Job,
): Promise<readonly ReadSource[]> {
  const obtained: Obtained[] = [];
  for (const source of sources) obtained.push(await obtain(source, downloads, job));
  const read: ReadSource[] = [];
  for (const [index, one] of obtained.entries()) {
    const directory = `${job.transaction.directory}/new/${index + 1}`;
    disk.makeFolders(directory);
    // What a later one finds now, an earlier one may replace before its turn comes.
    read.push(await readSource(one, directory, index === 0, job));
  }
  return read;
}

/** check, stage, commit: from here on there is something to take back. */
async function apply(
  { source, reading, format, stored, arrangement, spool }: ReadSource,
  number: number,
  beforeCommit: (() => Promise<void>) | undefined,
  job: Job,
): Promise<SourceReport> {
  const { subject } = reading;
  const { root, workDir, transaction, signal, log } = job;
  stopIfAsked(signal, subject);
  const mounts = readMounts();
  const checked = check(arrangement, {
    ...{ subject, root, mounts, spoolDirectory: transaction.directory },
    ours: [workDir, transaction.directory],
    taking: source,
    hasContent: (entry, file, { dev, ino }) => {
      const { existing, sha256 } = spool.contentOf(entry);
      return (existing?.dev === dev && existing.ino === ino) || attempt(() => digestOf(file)) === sha256;
    },
  });
  for (const volume of checked.volumes) {
    log.warn(`${subject} writes to ${volume}, a volume: what is written there outlives the container`, {
      volume,
    });
  }
  warnOfOwners(checked, subject, log);
  const old = `${transaction.directory}/old/${number}`;
  const staged = stage(checked, { subject, taking: source, spool, transaction, mounts, old });
  const facts = {
    shownLocation: maskUrls(source.location),
    ...(stored === undefined ? {} : { sha256: stored.sha256, bytes: stored.bytes }),
    ...{ format, strip: arrangement.strip },
  };
  const report = makeReport(facts, checked, staged, spool, source);
  await beforeCommit?.();
  stopIfAsked(signal, subject);
  commit(staged.steps, transaction, subject, root);
  return report;
}

/** Nobody but root can give files away. */
function warnOfOwners({ placements }: Checked, subject: Subject, log: Log): void {
  const [uid, gid] = [process.geteuid?.() ?? 0, process.getegid?.() ?? 0];
  if (uid === 0) return;
  const paths = placements
    .filter(({ before, inPlace }) => before === 'file' && !inPlace)
    .filter(({ stat }) => stat?.uid !== uid || stat.gid !== gid)
    .map(({ shown }) => shown);
  if (paths.length === 0) return;
  log.warn(`what ${subject} replaces will belong to uid ${uid}, gid ${gid}: ${someOf(paths)}`, { paths });
}

function record(report: OverlayReport, { transaction, workDir, log }: Job): void {
  const { backup } = report;
  transaction.prepareBackup(backup);
  const staged = stageRecord(addRun(readRecord(workDir), report), workDir, transaction);
  const lost = transaction.finish({ backup, publish: [staged], remove: [] });
  if (lost.length > 0) log.warn(`the overlay is in place, but not all of its record: ${lost[0]}`);
  for (const source of report.sources) logReport(source, log);
}

function asEntryError(error: unknown, sources: readonly FstreeSource[]): EntryError {
  if (error instanceof EntryError) return error;
  const subjects = sources.map(({ location }) => subjectOf(location)).join(', ');
  return refusal('DDBG_WRITE', 'apply', subjects, reasonOf(error), undefined, error);
}
