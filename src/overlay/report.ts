/** What was done, as a plain value: a run in `overlay.json`, and the lines of the log. */
import type { Log } from '../log.ts';
import type { EntryKind } from './archive.ts';
import { directoryMode, type Taking } from './attributes.ts';
import type { Checked, Placement } from './check.ts';
import * as disk from './disk.ts';
import { nameBytes } from './octets.ts';
import type { Format } from './recognise.ts';
import type { Spool } from './spool.ts';
import type { Staged } from './stage.ts';
import type { DirectoryFacts } from './steps.ts';
import { bytesText, countText, modeText } from './units.ts';

/** One run: what `applyOverlay` did. */
export interface OverlayReport {
  /** When it was committed, ISO 8601. */
  readonly at: string;
  /** The directory that was overlaid, without symlinks. */
  readonly root: string;
  /** One for each fstree, in the order they were applied. */
  readonly sources: readonly SourceReport[];
  /** Where the originals of what was replaced or removed are kept, by number of the source and path. Not there when nothing was. */
  readonly backup: string;
}

export interface SourceReport {
  /** Where it came from, secrets masked. */
  readonly shownLocation: string;
  /** Of the archive, lower-case hex; left out for a directory. */
  readonly sha256?: string;
  /** Of the archive; left out for a directory. */
  readonly bytes?: number;
  readonly format: Format;
  /** Leading folders dropped. */
  readonly strip: number;
  /** Written, hard links included. */
  readonly files: number;
  /** Made. Existing ones are never changed, and not listed. */
  readonly directories: number;
  readonly symlinks: number;
  /** There already, byte for byte: not written. */
  readonly same: number;
  /** Deleted by whiteouts. */
  readonly removed: number;
  /** Of the content of all files written. */
  readonly bytesWritten: number;
  readonly entries: readonly ReportEntry[];
}

export interface ReportEntry {
  /** From the root, as it was resolved: `/usr/bin/x` for a `bin/x` where `/bin` leads to `usr/bin`. A byte that is no UTF-8 is a lone surrogate, U+DC80 to U+DCFF. */
  readonly path: string;
  readonly action: 'new' | 'replaced' | 'same' | 'removed';
  readonly kind: EntryKind;
  /** Of files, as they are now; left out for what was removed. */
  readonly sha256?: string;
  /** Of the file that was there; left out where there was none, or none that could be read. */
  readonly sha256Before?: string;
  readonly size: number;
  /** Permission bits. */
  readonly mode: number;
  /** Of symlinks, as they are now. */
  readonly linkTarget?: string;
  /** A mounted file, whose content was changed in place. */
  readonly inPlace?: true;
  /** Of a removed directory: what it takes to make it again. */
  readonly facts?: DirectoryFacts;
}

export interface SourceFacts {
  readonly shownLocation: string;
  readonly sha256?: string;
  readonly bytes?: number;
  readonly format: Format;
  readonly strip: number;
}

/** Made when all is staged and nothing is changed yet. */
export function makeReport(
  facts: SourceFacts,
  checked: Checked,
  { steps, files }: Staged,
  spool: Spool,
  taking: Taking,
): SourceReport {
  const factsOf = new Map(
    steps.flatMap((step) => (step.do === 'remove-folder' ? [[step.to, step.facts] as const] : [])),
  );
  const entries: ReportEntry[] = [];
  for (const { shown, described } of checked.newDirectories) {
    const mode = directoryMode(described?.entry, taking);
    entries.push({ path: shown, action: 'new', kind: 'directory', size: 0, mode });
  }
  for (const placement of checked.placements) {
    const { target, before, inPlace } = placement;
    const { mode = 0o777, sha256Before } = files.get(target) ?? {};
    entries.push({
      ...describe(placement, before === 'nothing' ? 'new' : 'replaced', mode, spool),
      ...(sha256Before === undefined ? {} : { sha256Before }),
      ...(inPlace ? { inPlace } : {}),
    });
  }
  for (const placement of checked.same) {
    const mode = (placement.stat?.mode ?? 0) & 0o7777;
    const entry = describe(placement, 'same', mode, spool);
    entries.push(entry.sha256 === undefined ? entry : { ...entry, sha256Before: entry.sha256 });
  }
  for (const { target, shown } of checked.deletions) {
    const stat = disk.lstatSync(target);
    const folder = factsOf.get(target);
    entries.push({
      path: shown,
      action: 'removed',
      kind: folder !== undefined ? 'directory' : stat.isSymbolicLink() ? 'symlink' : 'file',
      size: folder === undefined ? stat.size : 0,
      mode: stat.mode & 0o7777,
      ...(folder === undefined ? {} : { facts: folder }),
    });
  }
  return { ...facts, ...countEntries(entries), entries };
}

function describe(
  { arranged, shown }: Placement,
  action: ReportEntry['action'],
  mode: number,
  spool: Spool,
): ReportEntry {
  const { entry, sameAs } = arranged;
  if (entry.kind === 'symlink') {
    const linkTarget = entry.linkTarget ?? '';
    return { path: shown, action, kind: 'symlink', size: nameBytes(linkTarget), mode, linkTarget };
  }
  const { sha256, size } = spool.contentOf(sameAs?.entry ?? entry);
  return { path: shown, action, kind: entry.kind, sha256, size, mode };
}

function countEntries(
  entries: readonly ReportEntry[],
): Pick<SourceReport, 'files' | 'directories' | 'symlinks' | 'same' | 'removed' | 'bytesWritten'> {
  const written = entries.filter(({ action }) => action === 'new' || action === 'replaced');
  const files = written.filter(({ kind }) => kind === 'file' || kind === 'hardlink');
  const count = (test: (entry: ReportEntry) => boolean): number => entries.filter(test).length;
  return {
    files: files.length,
    directories: written.filter(({ kind }) => kind === 'directory').length,
    symlinks: written.filter(({ kind }) => kind === 'symlink').length,
    same: count(({ action }) => action === 'same'),
    removed: count(({ action }) => action === 'removed'),
    bytesWritten: files.reduce((sum, { kind, size }) => (kind === 'file' ? sum + size : sum), 0),
  };
}

export function logReport(report: SourceReport, log: Log): void {
  for (const { path, action, kind, sha256, size, mode } of report.entries) {
    const digest = sha256 === undefined ? '' : ` sha256 ${sha256}`;
    log.detail(`${action} ${kind} ${path}, mode ${modeText(mode)}, ${bytesText(size)}${digest}`);
  }
  const { files, directories, symlinks, same, removed, bytesWritten } = report;
  const replaced = report.entries.filter(({ action }) => action === 'replaced').length;
  const counts = [
    countText(files, 'file'),
    countText(directories, 'directory', 'directories'),
    countText(symlinks, 'link'),
    `${bytesText(bytesWritten)} written`,
  ];
  const others = [
    `${replaced} replaced`,
    ...(same > 0 ? [`${same} there already`] : []),
    ...(removed > 0 ? [`${removed} removed`] : []),
  ];
  log.say(`overlaid ${report.shownLocation}: ${counts.join(', ')}; ${others.join(', ')}`, {
    ...{
      location: report.shownLocation,
      files,
      directories,
      symlinks,
      bytesWritten,
      replaced,
      same,
      removed,
    },
  });
}
