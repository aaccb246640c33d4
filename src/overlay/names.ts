/** Is a name in an archive safe to write? Pure: the disk is asked elsewhere (check.ts). */
import { moveLimit } from './limits.ts';
import { nameBytes } from './octets.ts';

export type CheckedName =
  | {
      readonly components: readonly string[];
      /** It stands for a deletion: of what `components` name, or of all that the folder they name has so far. */
      readonly whiteout?: Whiteout;
    }
  | { readonly refused: string; readonly hint?: string };

/** As in the layers of an image (OCI image-spec, layer.md): `.wh.NAME`, and `.wh..wh..opq` for all of its folder. */
export type Whiteout = 'name' | 'opaque';

const COMPONENT_BYTES = 255; // NAME_MAX of every Linux file system we may meet
const WHITEOUT = '.wh.';
const OPAQUE = '.wh..wh..opq';

/** The components of a name without `.` and empty ones; none for `./`, the root itself. */
export function checkName(name: string, depthLimit: number): CheckedName {
  if (name === '') return { refused: 'its name is empty' };
  if (name.includes('\0')) return { refused: 'its name holds a NUL byte' };
  if (name.startsWith('/')) {
    return {
      refused: 'its name is absolute',
      hint: 'Make the archive with relative names: tar -C / -czf patch.tgz usr/bin/NAME',
    };
  }
  const components = name.split('/').filter((component) => component !== '' && component !== '.');
  if (components.includes('..')) return { refused: "its name goes up with '..'" };
  if (components.length > depthLimit)
    return {
      refused: `it is ${components.length} folders deep, the limit depth is ${depthLimit}`,
      hint: moveLimit('depth'),
    };
  if (components.some((component) => nameBytes(component) > COMPONENT_BYTES))
    return { refused: `a part of its name is longer than ${COMPONENT_BYTES} bytes` };
  return components.some((component) => component.startsWith(WHITEOUT))
    ? checkWhiteout(components)
    : { components };
}

function checkWhiteout(components: readonly string[]): CheckedName {
  const folder = components.slice(0, -1);
  const last = components.at(-1) ?? '';
  if (folder.some((component) => component.startsWith(WHITEOUT)))
    return {
      refused: `a folder of its name starts with ${WHITEOUT}, the mark of a deletion`,
      hint: NO_MARKS,
    };
  if (last === OPAQUE) return { components: folder, whiteout: 'opaque' };
  const deleted = last.slice(WHITEOUT.length);
  if (['', '.', '..'].includes(deleted))
    return { refused: `it is a whiteout, the mark of a deletion, and names nothing`, hint: NO_MARKS };
  // aufs keeps its own files below such names: .wh..wh.plnk, .wh..wh.aufs, .wh..wh.orph.
  if (deleted.startsWith(WHITEOUT))
    return { refused: 'it is a file that aufs keeps for itself, not one of a layer', hint: NO_MARKS };
  return { components: [...folder, deleted], whiteout: 'name' };
}

const NO_MARKS = 'Leave it out of the archive, or rename it: .wh.NAME stands for the deletion of NAME.';

/** What a symlink may hold. Where it leads is not our concern: nothing is ever written through one of the archive's own. */
export function checkLinkTarget(target: string): string | undefined {
  if (target === '') return 'its target is empty';
  if (target.includes('\0')) return 'its target holds a NUL byte';
  return nameBytes(target) > 4095 ? 'its target is longer than 4095 bytes' : undefined;
}
