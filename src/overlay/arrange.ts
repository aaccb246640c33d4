/**
 * From an archive's entries to what shall be where below the root: names checked, leading folders dropped, duplicates
 * and hard links settled. Pure: what it must know of the disk it is told.
 */
import type { ArchiveEntry } from './archive.ts';
import { isOurName } from './journal.ts';
import type { OverlayLimits } from './limits.ts';
import { checkLinkTarget, checkName } from './names.ts';
import { looksLikeImage } from './recognise.ts';
import { type FoundStrip, findStrip, type StripName, singleFolder } from './strip.ts';
import { refusal, type Subject } from './subject.ts';

export interface Arranged {
  readonly entry: ArchiveEntry;
  /** Below the root, at least one. */
  readonly components: readonly string[];
  /** Of a hard link: the file it is one with. */
  readonly sameAs: Arranged | undefined;
}

/** A deletion, as the layers of an image have it. */
export interface Removal {
  readonly entry: ArchiveEntry;
  /** Below the root, at least one: of what is deleted, or of the folder that is emptied. */
  readonly components: readonly string[];
  readonly what: 'name' | 'opaque';
}

export interface Arrangement {
  readonly arranged: readonly Arranged[];
  readonly removals: readonly Removal[];
  readonly strip: number;
  readonly found: FoundStrip | undefined;
  /** Names of files and links that lie above the level of `strip`. */
  readonly leftOut: readonly string[];
  /** The only folder at the top of what is written; a wrong strip level shows there. */
  readonly onlyFolder: string | undefined;
}

/** An entry with a name that is safe. */
export interface Named {
  readonly entry: ArchiveEntry;
  readonly components: readonly string[];
  readonly whiteout: Removal['what'] | undefined;
}

export function arrange(
  named: readonly Named[],
  explicitStrip: number | undefined,
  isInRoot: (folder: string) => boolean,
  limits: OverlayLimits,
  subject: Subject,
): Arrangement {
  refuseImage(named, subject);
  const names = named.map(asStripName);
  const found = explicitStrip === undefined ? findStrip(names, isInRoot) : undefined;
  const strip = explicitStrip ?? found?.strip ?? 0;
  const kept = named.filter(({ components }) => components.length > strip);
  const leftOut = named.filter(
    ({ entry, components }) => components.length <= strip && entry.kind !== 'directory',
  );
  const emptied = named.find(
    ({ whiteout, components }) => whiteout === 'opaque' && components.length <= strip,
  );
  if (emptied !== undefined) throw unsafe(emptied.entry, 'it would empty the root itself', subject);
  if (kept.length === 0) throw nothingLeft(named.length, strip, subject);
  const written = kept.filter(({ whiteout }) => whiteout === undefined);
  return {
    arranged: settle(written, strip, limits, subject),
    removals: kept.flatMap(({ entry, components, whiteout: what }) =>
      what === undefined ? [] : [{ entry, components: components.slice(strip), what }],
    ),
    strip,
    found,
    leftOut: leftOut.map(({ entry }) => entry.name),
    onlyFolder: found?.because === undefined && explicitStrip === undefined ? singleFolder(names) : undefined,
  };
}

/** What strip.ts asks of a name. */
export function asStripName({ entry, components, whiteout }: Named): StripName {
  const isFile = entry.kind === 'file' || entry.kind === 'hardlink';
  return { components, isFile: isFile && whiteout !== 'opaque' };
}

/** Of each entry as it is read: a bad name ends the reading. */
export function nameEntry(entry: ArchiveEntry, limits: OverlayLimits, subject: Subject): Named {
  const checked = checkName(entry.name, limits.depth);
  if ('refused' in checked) throw unsafe(entry, checked.refused, subject, checked.hint);
  if (checked.components.length === 0 && entry.kind !== 'directory') {
    throw unsafe(entry, 'it would be the root itself', subject);
  }
  if (entry.kind === 'symlink') {
    const refused = checkLinkTarget(entry.linkTarget ?? '');
    if (refused !== undefined) throw unsafe(entry, refused, subject);
  }
  if (checked.components.some(isOurName)) throw unsafe(entry, 'it is a name of our own files', subject);
  const { whiteout } = checked;
  if (whiteout !== undefined && (entry.kind !== 'file' || entry.size > 0))
    throw unsafe(entry, 'it is named like a whiteout, and a whiteout is an empty file', subject);
  return { entry, components: checked.components, whiteout };
}

function refuseImage(named: readonly Named[], subject: Subject): void {
  if (!looksLikeImage(named.map(({ components }) => components.join('/')))) return;
  throw refusal(
    'DDBG_ARCHIVE',
    'apply',
    subject,
    'it is a whole image (docker save), not a tree of files',
    'Take the layer out of it: tar -xOf image.tar LAYER/layer.tar > patch.tar (manifest.json names the layers).',
  );
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
    byName.delete(key); // or it keeps its first place, before the file that it is linked to
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
  const isName = 'components' in checked && checked.whiteout === undefined;
  const key = isName ? checked.components.slice(strip).join('/') : undefined;
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
  const isEmpty = count === 0 || strip === 0; // it may have the root itself
  const why = isEmpty ? 'it holds nothing' : `nothing of its ${count} entries is left below strip=${strip}`;
  return refusal(
    'DDBG_ARCHIVE',
    'apply',
    subject,
    why,
    isEmpty ? undefined : 'Give a lower level: #strip=0.',
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
