/**
 * Where a name ends below the root: component by component through what is on the disk and what the archive adds.
 * Existing directory symlinks are followed as in a chroot, never replaced: `/bin -> usr/bin` must survive a `bin/`.
 */
import type { Stats } from 'node:fs';
import { dirname } from 'node:path';
import { reasonOf } from '../errors.ts';
import { lookAt, readlinkSync } from './disk.ts';
import { refusal, type Subject } from './subject.ts';

/** As the kernel: ELOOP after 40. */
const LINKS_FOLLOWED = 40;

export interface Targets {
  /** The directory that these components name, existing or new. Throws what `refuse` makes of a reason. */
  directory(components: readonly string[], refuse: Refuse): string;
  /** The directory that these components name on the disk; undefined: there is none. Throws as above where the archive makes it something else. */
  existing(components: readonly string[], refuse: Refuse): string | undefined;
  /** Whether something of the archive goes into this directory, or below it. */
  isUsed(directory: string): boolean;
  /** Whether a name of the archive leads through this symlink. */
  isFollowed(link: string): boolean;
  /** What is at this place now; undefined: nothing, as far as the disk goes. */
  onDisk(path: string): Stats | undefined;
  /** Whether a symlink on the disk leads to a directory. */
  leadsToDirectory(link: string): boolean;
  /** Directories that are not there yet, parents first. */
  readonly newDirectories: ReadonlySet<string>;
  /** From now on something other than a directory will be there. */
  occupy(path: string): void;
  isOccupied(path: string): boolean;
  /** As seen from inside the root: `/etc/hosts`. */
  shown(path: string): string;
}

export type Refuse = (why: string) => Error;

export function createTargets(root: string, subject: Subject): Targets {
  const disk = new Map<string, Stats | undefined>();
  const known = new Map<string, string>();
  const newDirectories = new Set<string>();
  const occupied = new Set<string>();
  const used = new Set<string>(['/']);
  const followedLinks = new Set<string>();

  const shown = (path: string): string => (root === '/' ? path : path.slice(root.length) || '/');

  function onDisk(path: string): Stats | undefined {
    if (newDirectories.has(dirname(path))) return undefined;
    if (!disk.has(path)) disk.set(path, look(path));
    return disk.get(path);
  }

  function look(path: string): Stats | undefined {
    try {
      return lookAt(path);
    } catch (error) {
      const why = `${shown(path)}: ${reasonOf(error)}`;
      throw refusal(
        'DDBG_WRITE',
        'apply',
        subject,
        why,
        'Run the container as a user that may write there.',
        error,
      );
    }
  }

  function directory(components: readonly string[], refuse: Refuse): string {
    const name = components.join('/');
    const resolved = known.get(name) ?? walk(components, refuse, 'make');
    if (resolved === undefined) throw refuse('its folder cannot be found');
    known.set(name, resolved);
    for (let at = resolved; !used.has(at); at = dirname(at)) used.add(at);
    return resolved;
  }

  /** To `make` what is missing; else undefined for a way that leads nowhere. To `ask` refuses nothing at all. */
  function walk(
    components: readonly string[],
    refuse: Refuse,
    why: 'make' | 'look' | 'ask',
  ): string | undefined {
    const create = why === 'make';
    const ahead = [...components];
    let at = root;
    let followed = 0;
    let fromLink = 0; // how many of the next components come from a link's target
    let link = '';
    while (ahead.length > 0) {
      const component = ahead.shift() as string;
      const partOfLink = fromLink > 0;
      if (partOfLink) fromLink -= 1;
      if (component === '' || component === '.') continue;
      if (component === '..') {
        at = at === root ? root : dirname(at);
        continue;
      }
      const next = at === '/' ? `/${component}` : `${at}/${component}`;
      if (occupied.has(next)) {
        if (why === 'ask') return undefined;
        throw refuse(`it needs the directory ${shown(next)}, which the archive makes something else`);
      }
      const stat = newDirectories.has(next) ? 'new' : onDisk(next);
      if (stat === undefined) {
        if (!create) return undefined;
        if (partOfLink) throw refuse(`it lies below the symlink ${shown(link)}, which leads nowhere`);
        newDirectories.add(next);
        at = next;
      } else if (stat === 'new' || stat.isDirectory()) {
        at = next;
      } else if (stat.isSymbolicLink()) {
        followed += 1;
        if (followed > LINKS_FOLLOWED) {
          if (!create) return undefined;
          throw refuse(`it lies below the symlink ${shown(next)}, which leads round in a circle`);
        }
        if (create) followedLinks.add(next);
        const target = readlinkSync(next);
        const parts = target.split('/');
        if (target.startsWith('/')) at = root;
        link = next;
        fromLink += parts.length;
        ahead.unshift(...parts);
      } else {
        if (!create) return undefined;
        throw refuse(`${shown(next)} is ${kindText(stat)}, not a directory`);
      }
    }
    return at;
  }

  return {
    directory,
    existing: (components, refuse) => walk(components, refuse, 'look'),
    isUsed: (path) => used.has(path),
    isFollowed: (link) => followedLinks.has(link),
    onDisk,
    leadsToDirectory: (path) => walk(shown(path).split('/'), () => new Error(path), 'ask') !== undefined,
    newDirectories,
    occupy: (path) => void occupied.add(path),
    isOccupied: (path) => occupied.has(path),
    shown,
  };
}

export function kindText(stat: Stats): string {
  if (stat.isFile()) return 'a file';
  if (stat.isDirectory()) return 'a directory';
  if (stat.isSymbolicLink()) return 'a symlink';
  if (stat.isFIFO()) return 'a FIFO';
  return stat.isSocket() ? 'a socket' : 'a device';
}
