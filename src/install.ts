/**
 * `ddbg-entry --install`: puts the native init where npm has put our bin, so that it, and not Node, is started.
 *
 * A link and no copy: the init finds the rest of the package from where it lies, and npm, which takes away and renews
 * only what leads into the package, goes on to do so.
 */
import {
  accessSync,
  constants,
  lstatSync,
  mkdirSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { delimiter, dirname, join, relative, resolve } from 'node:path';
import { EntryError, reasonOf } from './errors.ts';

const NAME = 'ddbg-entry';

/** Where the init for this machine would be, below the folder of the bundle. */
export function initFile(dist: string): string {
  return join(dist, 'init', `${process.platform}-${process.arch}`, 'ddbg-init');
}

/**
 * Links DIRECTORY/ddbg-entry to the init. Doing it twice is the same as doing it once.
 *
 * @param dist the folder of the bundle
 * @param directory made where it is missing; default: where PATH finds the package's bin
 * @param path the variable PATH
 * @returns what was done, one sentence
 * @throws EntryError `DDBG_INSTALL`
 */
export function install(dist: string, directory: string | undefined, path: string | undefined): string {
  const init = initFile(dist);
  try {
    accessSync(init, constants.X_OK);
  } catch (error) {
    throw new EntryError('DDBG_INSTALL', `cannot install the native init: ${reasonOf(error)}`, {
      hint: `it is built for linux-x64 and linux-arm64; without it ddbg-entry works on Node alone (this is ${process.platform}-${process.arch})`,
    });
  }
  const link = directory === undefined ? findBin(dist, path) : join(resolve(directory), NAME);
  try {
    const before = targetOf(link);
    if (before === realpathSync(init)) return `${link} is the native init already`;
    if (before !== undefined && !isInside(before, dist)) {
      throw new EntryError('DDBG_INSTALL', `cannot install the native init: ${link} is there and not ours`, {
        hint: `name another folder: ${NAME} --install=DIR`,
      });
    }
    mkdirSync(dirname(link), { recursive: true });
    const folder = realpathSync(dirname(link)); // a relative link counts from where the folder really is
    const temporary = join(folder, `.${NAME}-${process.pid}`);
    symlinkSync(relative(folder, realpathSync(init)), temporary);
    try {
      renameSync(temporary, link);
    } catch (error) {
      rmSync(temporary, { force: true });
      throw error;
    }
    return `${link} is the native init now`;
  } catch (error) {
    if (error instanceof EntryError) throw error;
    throw new EntryError('DDBG_INSTALL', `cannot install the native init: ${reasonOf(error)}`, {
      hint: `name a folder that you may write to: ${NAME} --install=DIR`,
    });
  }
}

/** The first ddbg-entry of PATH, if it is this package's. */
function findBin(dist: string, path = ''): string {
  const candidates = path.split(delimiter).map((folder) => resolve(folder, NAME));
  const found = candidates.find((file) => targetOf(file) !== undefined);
  const target = found === undefined ? undefined : targetOf(found);
  if (found !== undefined && target !== undefined && isInside(target, dist)) return found;
  const why =
    found === undefined ? `PATH finds no ${NAME}` : `PATH finds ${found}, which is not this package's`;
  throw new EntryError('DDBG_INSTALL', `cannot install the native init: ${why}`, {
    hint: `say where it shall be: ${NAME} --install=/usr/local/bin`,
  });
}

/** Where a link, or a file, leads to; undefined: there is nothing. A link that leads nowhere leads to ''. */
function targetOf(file: string): string | undefined {
  if (lstatSync(file, { throwIfNoEntry: false }) === undefined) return undefined;
  try {
    return realpathSync(file);
  } catch {
    return '';
  }
}

function isInside(file: string, folder: string): boolean {
  return file.startsWith(`${realpathSync(folder)}/`);
}
