/**
 * Our own files: the state directory (0700, files 0600, written whole then renamed).
 */
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { textOf } from './attempt.ts';
import { EntryError, errnoOf, reasonOf } from './errors.ts';

export interface State {
  readonly directory: string;
  /** Puts a whole file in place, or throws and leaves the one before. */
  write(name: string, content: string | Uint8Array): void;
  /** Takes one of them away, if it is there. */
  remove(name: string): void;
}

/** With a read-only root only /dev/shm can be written (measured); as another user than root /run cannot. */
export function usualPlaces(uid: number): readonly string[] {
  return ['/run/ddbg', `/tmp/ddbg-${uid}`, `/dev/shm/ddbg-${uid}`];
}

/**
 * Opens the state directory, making it where needed.
 *
 * @param directory the one that must be used; default: the first usual place that can be had and is ours
 * @param owner the pid that the record is kept under: the native init's where it is in front of us. Default: ours.
 * 'anybody': state.json is not written, and whose it is does not matter
 * @throws EntryError `DDBG_STATE` with every place that was tried and why not
 */
export function openState(directory?: string, owner: number | 'anybody' = process.pid): State {
  const uid = process.getuid?.() ?? 0;
  const refusals: string[] = [];
  for (const place of directory === undefined ? usualPlaces(uid) : [directory]) {
    const refusal = claim(place, uid, owner);
    if (refusal !== undefined) refusals.push(`${place}: ${refusal}`);
    else {
      return {
        directory: place,
        write: (name, content) => writeStateFile(place, name, content),
        remove: (name) => rmSync(join(place, name), { force: true }),
      };
    }
  }
  throw new EntryError('DDBG_STATE', `cannot keep state: ${refusals.join('; ')}`, {
    hint: 'name a place that is not there yet, or a directory of mode 0700: ddbg-entry --state-dir=DIR -- COMMAND',
  });
}

/** Makes the directory ours, or says why it cannot be: a directory planted by another user is never trusted. */
function claim(place: string, uid: number, owner: number | 'anybody'): string | undefined {
  try {
    try {
      mkdirSync(place, { mode: 0o700 });
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error;
      const stats = lstatSync(place);
      if (!stats.isDirectory()) return 'is there already and is no directory';
      if (stats.uid !== uid) return `belongs to uid ${stats.uid}, we are ${uid}`;
      // Somebody's directory is not ours to close: --state-dir=/tmp must not take /tmp from everybody else.
      if ((stats.mode & 0o077) !== 0)
        return `is open to others (mode ${(stats.mode & 0o7777).toString(8)}, not 700)`;
    }
    if (owner === 'anybody') {
      writeWhole(place, '.probe', '');
      rmSync(join(place, '.probe'));
    } else if (isOfAnotherRun(place, owner)) return 'is in use by another ddbg-entry';
    else reserve(place);
    return undefined;
  } catch (error) {
    return reasonOf(error);
  }
}

/** `docker exec C ddbg-entry ...` must not write over the record of the container's own. A restart has the same pid. */
function isOfAnotherRun(place: string, owner: number): boolean {
  try {
    const { phase, pids } = JSON.parse(readFileSync(join(place, 'state.json'), 'utf8'));
    return phase !== 'ended' && pids.entry !== owner && isProcess(pids.entry);
  } catch {
    return false; // none there, or not readable as one
  }
}

/** /proc has threads too, unlisted: after a restart an old pid may be one of ours. */
function isProcess(pid: number): boolean {
  return new RegExp(`^Tgid:\\s*${pid}$`, 'm').test(textOf(`/proc/${pid}/status`) ?? '');
}

/**
 * Room for the records of a fault whose cause is a full disk: it is given back when there is no other. Not zeros, which some
 * file systems do not store.
 */
const RESERVE = '.reserve';
const RESERVE_BYTES = 64 * 1024;

/** Where the record of this life may be already, a full disk is no reason to go elsewhere. */
function reserve(place: string): void {
  try {
    writeWhole(place, RESERVE, Buffer.alloc(RESERVE_BYTES, 1));
  } catch (error) {
    if (!isFull(error) || !existsSync(join(place, 'state.json'))) throw error;
  }
}

function isFull(error: unknown): boolean {
  return ['ENOSPC', 'EDQUOT'].includes(errnoOf(error) ?? '');
}

/** Enough to keep two writers apart; against planted names there is O_EXCL. (node:crypto would cost 2 ms of each start.) */
function uniqueSuffix(): string {
  return `${process.pid}-${Math.random().toString(36).slice(2, 10)}`;
}

/** Puts a whole file in place, with the reserve's room if there is no other, or throws and leaves the one before. */
export function writeStateFile(directory: string, name: string, content: string | Uint8Array): void {
  try {
    writeWhole(directory, name, content);
  } catch (error) {
    if (!isFull(error)) throw error;
    rmSync(join(directory, RESERVE), { force: true });
    writeWhole(directory, name, content);
  }
}

function writeWhole(directory: string, name: string, content: string | Uint8Array): void {
  const file = join(directory, name);
  const temporary = `${file}.${uniqueSuffix()}`;
  try {
    writeFileSync(temporary, content, { mode: 0o600, flag: 'wx' });
    renameSync(temporary, file);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}

/**
 * Writes a file that every user may read, beside the usual places: the command may change its user, and the state
 * directory is closed to others. Returns its path and the way to take it away.
 *
 * @throws EntryError `DDBG_STATE`
 */
export function writePublicFile(name: string, content: string): { path: string; remove(): void } {
  const refusals: string[] = [];
  for (const place of usualPlaces(process.getuid?.() ?? 0)) {
    const path = join(dirname(place), `${name}-${uniqueSuffix()}`);
    try {
      writeFileSync(path, content, { mode: 0o644, flag: 'wx' });
      chmodSync(path, 0o644); // whatever the umask
      return { path, remove: () => rmSync(path, { force: true }) };
    } catch (error) {
      refusals.push(reasonOf(error));
    }
  }
  throw new EntryError('DDBG_STATE', `cannot write ${name}: ${refusals.join('; ')}`);
}

/** The environment as a file for any shell's `.`: whoever execs in has the command's, quoted, after one short line. */
export function environmentAsShell(variables: readonly (readonly [string, string])[]): string {
  const lines = variables.map(([name, value]) =>
    /^[A-Za-z_]\w*$/.test(name)
      ? `export ${name}='${value.replaceAll("'", `'\\''`)}'`
      : `# no shell can export this name: ${JSON.stringify(name)}`,
  );
  // A shell of `docker exec` has the container's own, with the words that the command never saw.
  const absent = ['DEBUG', 'DDBG']
    .filter((name) => !variables.some(([given]) => given === name))
    .map((name) => `unset ${name}`);
  return `${[...absent, ...lines].join('\n')}\n`;
}
