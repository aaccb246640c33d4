/** Is a name in an archive safe to write? Pure: the disk is asked elsewhere (check.ts). */

export type CheckedName =
  | { readonly components: readonly string[] }
  | { readonly refused: string; readonly hint?: string };

const COMPONENT_BYTES = 255; // NAME_MAX of every Linux file system we may meet
const WHITEOUT = '.wh.';

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
    return { refused: `it is ${components.length} folders deep, the limit is ${depthLimit}` };
  for (const component of components) {
    if (Buffer.byteLength(component) > COMPONENT_BYTES) {
      return { refused: `a part of its name is longer than ${COMPONENT_BYTES} bytes` };
    }
    if (component.startsWith(WHITEOUT)) {
      return {
        refused: 'it is a whiteout of an image layer, a deletion, which is not supported',
        hint: 'Leave .wh. files out of the archive.',
      };
    }
  }
  return { components };
}

/** What a symlink may hold. Where it leads is not our concern: nothing is ever written through one of the archive's own. */
export function checkLinkTarget(target: string): string | undefined {
  if (target === '') return 'its target is empty';
  if (target.includes('\0')) return 'its target holds a NUL byte';
  return Buffer.byteLength(target) > 4095 ? 'its target is longer than 4095 bytes' : undefined;
}
