/**
 * From an archive's entries to what shall be where below the root: names checked, leading folders dropped, duplicates
 * and hard links settled. Pure: what it must know of the disk it is told.
 */
import type { ArchiveEntry } from './archive.ts';
import type { OverlayLimits } from './limits.ts';
import { checkLinkTarget, checkName } from './names.ts';
import { type FoundStrip, findStrip, singleFolder } from './strip.ts';
import { refusal, type Subject } from './subject.ts';

export interface Arranged {
  readonly entry: ArchiveEntry;
  /** Below the root, at least one. */
  readonly components: readonly string[];
  /** Of a hard link: the file it is one with. */
  readonly sameAs: Arranged | undefined;
}

export interface Arrangement {
  readonly arranged: readonly Arranged[];
  readonly strip: number;
  readonly found: FoundStrip | undefined;
  /** Names of files and links that lie above the level of `strip`. */
  readonly leftOut: readonly string[];
  /** The only folder at the top of what is written; a wrong strip level shows there. */
  readonly onlyFolder: string | undefined;
}

interface Named {
  readonly entry: ArchiveEntry;
  readonly components: readonly string[];
}

export function arrange(
  entries: readonly ArchiveEntry[],
  explicitStrip: number | undefined,
  isInRoot: (folder: string) => boolean,
  limits: OverlayLimits,
  subject: Subject,
): Arrangement {
  const named = entries.map((entry) => nameEntry(entry, limits, subject));
  const names = named.map(({ entry, components }) => ({
    components,
    isFile: entry.kind === 'file' || entry.kind === 'hardlink',
  }));
  const found = explicitStrip === undefined ? findStrip(names, isInRoot) : undefined;
  const strip = explicitStrip ?? found?.strip ?? 0;
  const kept = named.filter(({ components }) => components.length > strip);
  const leftOut = named.filter(
    ({ entry, components }) => components.length <= strip && entry.kind !== 'directory',
  );
  if (kept.length === 0) throw nothingLeft(entries.length, strip, subject);
  return {
    arranged: settle(kept, strip, limits, subject),
    strip,
    found,
    leftOut: leftOut.map(({ entry }) => entry.name),
    onlyFolder: found?.because === undefined && explicitStrip === undefined ? singleFolder(names) : undefined,
  };
}

function nameEntry(entry: ArchiveEntry, limits: OverlayLimits, subject: Subject): Named {
  const checked = checkName(entry.name, limits.depth);
  if ('refused' in checked) throw unsafe(entry, checked.refused, subject, checked.hint);
  if (checked.components.length === 0 && entry.kind !== 'directory') {
    throw unsafe(entry, 'it would be the root itself', subject);
  }
  if (entry.kind === 'symlink') {
    const refused = checkLinkTarget(entry.linkTarget ?? '');
    if (refused !== undefined) throw unsafe(entry, refused, subject);
  }
  return { entry, components: checked.components };
}

/** Of two entries with one name the later one counts, as for tar. Hard links find their file among those before them. */
function settle(
  named: readonly Named[],
  strip: number,
  limits: OverlayLimits,
  subject: Subject,
): readonly Arranged[] {
  const byName = new Map<string, Arranged>();
  for (const { entry, components: all } of named) {
    const components = all.slice(strip);
    const key = components.join('/');
    const earlier = byName.get(key);
    if (earlier !== undefined && (earlier.entry.kind === 'directory') !== (entry.kind === 'directory')) {
      throw unsafe(entry, 'the archive has it twice, as a directory and as something else', subject);
    }
    const sameAs = entry.kind === 'hardlink' ? fileOf(entry, byName, strip, limits, subject) : undefined;
    if (sameAs !== undefined && sameAs === earlier) continue; // a link to itself
    byName.set(key, { entry, components, sameAs });
  }
  refuseLostFiles([...byName.values()], subject);
  return [...byName.values()];
}

function fileOf(
  entry: ArchiveEntry,
  byName: ReadonlyMap<string, Arranged>,
  strip: number,
  limits: OverlayLimits,
  subject: Subject,
): Arranged {
  const checked = checkName(entry.linkTarget ?? '', limits.depth);
  const key = 'refused' in checked ? undefined : checked.components.slice(strip).join('/');
  const target = key === undefined ? undefined : byName.get(key);
  const file = target?.sameAs ?? target;
  if (file === undefined || file.entry.kind !== 'file') {
    const why = `it is a hard link to ${entry.linkTarget}, which is no file earlier in the archive`;
    throw unsafe(entry, why, subject, 'Put the file itself into the archive: tar --hard-dereference.');
  }
  return file;
}

/** A link to a first version, which a second one of the same name has replaced. */
function refuseLostFiles(arranged: readonly Arranged[], subject: Subject): void {
  const all = new Set(arranged);
  const lost = arranged.find(({ sameAs }) => sameAs !== undefined && !all.has(sameAs));
  if (lost !== undefined)
    throw unsafe(lost.entry, 'it is a hard link to a file that the archive has twice', subject);
}

function nothingLeft(count: number, strip: number, subject: Subject): Error {
  const why =
    count === 0 ? 'it holds nothing' : `nothing of its ${count} entries is left below strip=${strip}`;
  return refusal(
    'DDBG_ARCHIVE',
    'apply',
    subject,
    why,
    count === 0 ? undefined : 'Give a lower level: #strip=0.',
  );
}

export function unsafe(entry: ArchiveEntry, why: string, subject: Subject, hint?: string): Error {
  return refusal(
    'DDBG_UNSAFE',
    'apply',
    subject,
    `${JSON.stringify(entry.name)}: ${why}`,
    hint ?? 'Leave it out of the archive.',
  );
}
