/**
 * How many leading folders of an archive are packaging. Pure. As ceph-container's debug.sh did it: look for the
 * folders every Linux root has, at depth 0, 1 and 2; the shallowest wins. Beyond it: a folder that the root has at its
 * top is no packaging either, or `server/lib/x.js` would go to /lib in an image that has its program in /server.
 */

/** Beyond ceph's nine, what images keep their own things in. A stray match costs a line that says `#strip=`. */
const TOP_FOLDERS = new Set([
  ...['bin', 'etc', 'lib', 'lib64', 'opt', 'run', 'usr', 'sbin', 'var'],
  ...['lib32', 'libx32', 'home', 'root', 'srv', 'app', 'tmp', 'boot', 'dev'],
]);
const DEEPEST = 2;

export interface StripName {
  readonly components: readonly string[];
  readonly isFile: boolean;
}

export interface FoundStrip {
  readonly strip: number;
  /** The name that decided it; undefined: no well-known folder anywhere. */
  readonly because: string | undefined;
}

/** @param isInRoot whether the root has a folder of that name at its top */
export function findStrip(names: readonly StripName[], isInRoot: (folder: string) => boolean): FoundStrip {
  for (let depth = 0; depth <= DEEPEST; depth += 1) {
    const isTop = (folder: string) => TOP_FOLDERS.has(folder) || (depth === 0 && isInRoot(folder));
    const because = names.find((name) => hasFolderAt(name, depth, isTop));
    if (because !== undefined)
      return { strip: depth, because: because.components.slice(0, depth + 1).join('/') };
  }
  return { strip: 0, because: undefined };
}

/** A folder: a plain file called `run` or `app` in a repository says nothing. */
function hasFolderAt(name: StripName, depth: number, isTop: (folder: string) => boolean): boolean {
  const component = name.components[depth];
  const isFolder = name.components.length > depth + 1 || !name.isFile;
  return component !== undefined && isFolder && isTop(component);
}

/** The one folder everything lies in, if there is one. */
export function singleFolder(names: readonly StripName[]): string | undefined {
  const first = names.find((name) => name.components.length > 0)?.components[0];
  if (first === undefined) return undefined;
  const inside = names.every(
    ({ components, isFile }) =>
      components.length === 0 || (components[0] === first && (components.length > 1 || !isFile)),
  );
  return inside ? first : undefined;
}
