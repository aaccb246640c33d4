/**
 * How many leading folders of an archive are packaging. Pure. As ceph-container's debug.sh did it: look for the
 * folders every Linux root has, at depth 0, 1 and 2; the shallowest wins.
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

export function findStrip(names: readonly StripName[]): FoundStrip {
  for (let depth = 0; depth <= DEEPEST; depth += 1) {
    const because = names.find((name) => hasTopFolderAt(name, depth));
    if (because !== undefined)
      return { strip: depth, because: because.components.slice(0, depth + 1).join('/') };
  }
  return { strip: 0, because: undefined };
}

/** A folder: a plain file called `run` or `app` in a repository says nothing. */
function hasTopFolderAt(name: StripName, depth: number): boolean {
  const component = name.components[depth];
  if (component === undefined || !TOP_FOLDERS.has(component)) return false;
  return name.components.length > depth + 1 || !name.isFile;
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
