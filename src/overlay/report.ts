/** What was done, as a plain value: the manifest in `overlay.json`, and the lines of the log. */
import type { Log } from '../log.ts';
import type { EntryKind } from './archive.ts';
import type { Checked } from './check.ts';
import type { Format } from './recognise.ts';
import type { Staged } from './stage.ts';
import { bytesText, countText, modeText } from './units.ts';

export interface OverlayReport {
  /** One for each fstree, in the order they were applied. */
  readonly sources: readonly SourceReport[];
  /** Where the replaced originals are kept, by number of the source and path. Not there when nothing was replaced. */
  readonly backup: string;
}

export interface SourceReport {
  /** Where it came from, secrets masked. */
  readonly shownLocation: string;
  /** Of the archive, lower-case hex. */
  readonly sha256: string;
  /** Of the archive. */
  readonly bytes: number;
  readonly format: Format;
  /** Leading folders dropped. */
  readonly strip: number;
  /** Written, hard links included. */
  readonly files: number;
  /** Made. Existing ones are never changed, and not listed. */
  readonly directories: number;
  readonly symlinks: number;
  /** Of the content of all files written. */
  readonly bytesWritten: number;
  readonly entries: readonly ReportEntry[];
}

export interface ReportEntry {
  /** From the root, as it was resolved: `/usr/bin/x` for a `bin/x` where `/bin` leads to `usr/bin`. */
  readonly path: string;
  readonly action: 'new' | 'replaced' | 'same';
  readonly kind: EntryKind;
  /** Of files. */
  readonly sha256?: string;
  /** Of the file that was there; left out where there was none, or none that could be read. */
  readonly sha256Before?: string;
  readonly size: number;
  /** Permission bits. */
  readonly mode: number;
}

export interface SourceFacts {
  readonly shownLocation: string;
  readonly sha256: string;
  readonly bytes: number;
  readonly format: Format;
  readonly strip: number;
}

export function makeReport(
  facts: SourceFacts,
  checked: Checked,
  staged: Staged,
  modeInPlace: (target: string) => number,
): SourceReport {
  const entries: ReportEntry[] = [];
  for (const { shown, mode } of checked.newDirectories) {
    entries.push({ path: shown, action: 'new', kind: 'directory', size: 0, mode });
  }
  for (const { arranged, target, shown, before, inPlace } of checked.placements) {
    const { sha256, sha256Before, size = 0, mode = 0 } = staged.written.get(target) ?? {};
    entries.push({
      path: shown,
      action: before === 'nothing' ? 'new' : 'replaced',
      kind: arranged.entry.kind,
      ...(sha256 === undefined ? {} : { sha256 }),
      ...(sha256Before === undefined ? {} : { sha256Before }),
      size,
      mode: inPlace ? modeInPlace(target) : mode,
    });
  }
  for (const { shown, arranged } of checked.same) {
    const size = Buffer.byteLength(arranged.entry.linkTarget ?? '');
    entries.push({ path: shown, action: 'same', kind: 'symlink', size, mode: 0o777 });
  }
  return { ...facts, ...countEntries(entries), entries };
}

function countEntries(
  entries: readonly ReportEntry[],
): Pick<SourceReport, 'files' | 'directories' | 'symlinks' | 'bytesWritten'> {
  const files = entries.filter(({ kind }) => kind === 'file' || kind === 'hardlink');
  return {
    files: files.length,
    directories: entries.filter(({ kind }) => kind === 'directory').length,
    symlinks: entries.filter(({ kind, action }) => kind === 'symlink' && action !== 'same').length,
    bytesWritten: files.reduce((sum, { kind, size }) => (kind === 'file' ? sum + size : sum), 0),
  };
}

export function logReport(report: SourceReport, log: Log): void {
  for (const { path, action, kind, sha256, size, mode } of report.entries) {
    const digest = sha256 === undefined ? '' : ` sha256 ${sha256}`;
    log.detail(`${action} ${kind} ${path}, mode ${modeText(mode)}, ${bytesText(size)}${digest}`);
  }
  const { files, directories, symlinks, bytesWritten } = report;
  const replaced = report.entries.filter(({ action }) => action === 'replaced').length;
  const counts = [
    countText(files, 'file'),
    countText(directories, 'directory', 'directories'),
    countText(symlinks, 'link'),
    `${bytesText(bytesWritten)} written`,
  ];
  log.say(`overlaid ${report.shownLocation}: ${counts.join(', ')}; ${replaced} replaced`, {
    ...{ location: report.shownLocation, files, directories, symlinks, bytesWritten, replaced },
  });
}
