/**
 * A shell, or a program, where the command stood: with its last environment, directory, user, groups, umask and limits,
 * on the terminal of whoever asks.
 */
import type { ChildProcess } from 'node:child_process';
import { spawn, spawnSync } from 'node:child_process';
import {
  accessSync,
  chmodSync,
  constants,
  existsSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import type { Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { findCarrier } from '../carrier.ts';
import { readStat } from '../container/stat.ts';
import { errnoOf, reasonOf } from '../errors.ts';
import { initFile } from '../install.ts';
import { isTerminal } from '../log.ts';
import type { SignalName } from '../outcome.ts';
import { signalNumber } from '../outcome.ts';
import { SHELLS, which } from '../process/resolve.ts';
import type { Standing } from '../process/sampler.ts';
import { readStanding } from '../process/sampler.ts';
import { STATUS, ToolError } from './answer.ts';
import type { Found } from './find.ts';
import { findState, readStateFile } from './find.ts';

/**
 * Runs it to its end.
 *
 * @param argv after `--`, a command line instead of a shell
 * @returns its exit status
 * @throws ToolError
 */
export async function shell(argv: readonly string[], directory?: string): Promise<number> {
  const words = argv[0] === '--' ? argv.slice(1) : argv;
  if (words === argv && argv[0]?.startsWith('-') === true) {
    throw new ToolError(
      STATUS.usage,
      `'${argv[0]}' is no flag of shell`,
      'a command stands behind --: ddbg shell -- sh -c COMMAND',
    );
  }
  const found = findState(directory);
  const environment = readStateFile(found, 'environ');
  const standing = standingOf(found);
  if (environment === undefined || standing === undefined) {
    throw new ToolError(
      STATUS.nothing,
      'what the command had is not known: it was never started, or could not be kept',
    );
  }
  const variables = environment.toString('latin1').split('\0').filter(Boolean);
  const rc = words.length > 0 ? undefined : chooseShell(found, variables);
  const added = rc === undefined ? [] : [...rc.variables, ...terminalOf(variables)];
  try {
    return await run(rc?.argv ?? findProgram(words, variables), [...variables, ...added], standing);
  } finally {
    rc?.remove();
  }
}

/** What it stands at now, while it lives; else what was noted last. */
function standingOf(found: Found): Standing | undefined {
  const { record, owner } = found;
  const pid = record.pids.command;
  const isAlive = found.phase === 'running' && pid !== null && readStat(pid)?.parent === record.pids.entry;
  const living = isAlive ? readStanding(pid) : undefined;
  const standing = living ?? parse(readStateFile(found, 'standing.json')) ?? atStart(found);
  if (standing === undefined) return undefined;
  // An entry that is not root cannot have started anything as somebody else: a file that says so is a trap for root.
  return owner.uid === 0 ? standing : { ...standing, uid: owner.uid, gid: owner.gid };
}

function parse(text: Buffer | undefined): Standing | undefined {
  try {
    return text === undefined ? undefined : (JSON.parse(text.toString()) as Standing);
  } catch {
    return undefined;
  }
}

/** It was never started, or ended before it was looked at: as it would have been. */
function atStart({ record, isEntryAlive }: Found): Standing | undefined {
  const entry = isEntryAlive ? readStanding(record.pids.entry) : undefined;
  return entry === undefined ? undefined : { ...entry, cwd: record.cwd };
}

interface Chosen {
  readonly argv: readonly string[];
  readonly variables: readonly string[];
  remove(): void;
}

/** The prompt says where one is. Not by PS1 in the environment: what is started from there must see the command's. */
function chooseShell(found: Found, variables: readonly string[]): Chosen {
  const words = findShell(lastValueOf(variables, 'PATH'));
  if (words === undefined) {
    throw new ToolError(
      STATUS.nothing,
      `this image has none of ${SHELLS.join(', ')} in PATH`,
      'name a program: ddbg shell -- PROGRAM ARG...',
    );
  }
  const plain = { argv: words, variables: [], remove: () => {} };
  if (!isInteractive()) return plain; // a script on stdin needs no prompt
  const folder = makePublicFolder();
  if (folder === undefined) return plain;
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  const prompt = promptOf(found);
  const tool = findCarrier()?.tool;
  const toolFunction = tool === undefined ? '' : `ddbg() { ${tool} "$@"; }\n`; // PATH stays the command's
  const name = basename(realpathSync(words[0] ?? ''));
  if (name.startsWith('bash')) {
    const rc = putFile(
      folder,
      'bashrc',
      `${toolFunction}[ -r ~/.bashrc ] && . ~/.bashrc\nPS1='${prompt}'"$PS1"\n`,
    );
    return { argv: [...words, '--rcfile', rc], variables: [], remove };
  }
  const setting = name.startsWith('zsh') ? 'ZDOTDIR' : 'ENV';
  const before = lastValueOf(variables, setting);
  const restore =
    before === undefined ? `unset ${setting}` : `${setting}='${before.replaceAll("'", `'\\''`)}'`;
  if (setting === 'ZDOTDIR') {
    putFile(
      folder,
      '.zshrc',
      `${restore}\n${toolFunction}[ -r "\${ZDOTDIR-$HOME}/.zshrc" ] && . "\${ZDOTDIR-$HOME}/.zshrc"\nPS1='${prompt}'"$PS1"\n`,
    );
    return { argv: words, variables: [`ZDOTDIR=${folder}`], remove };
  }
  const rc = putFile(
    folder,
    'shrc',
    `${restore}\n${toolFunction}[ -r "\${ENV-}" ] && . "$ENV"\nPS1='${prompt}'"\${PS1-$ }"\n`,
  );
  return { argv: words, variables: [`ENV=${rc}`], remove };
}

/** The image's best, else the carrier's: also where the image's do not run. */
function findShell(path: string | undefined): readonly string[] | undefined {
  const busybox = findCarrier()?.busybox;
  const files = SHELLS.flatMap((name) => which(name, path) ?? []);
  if (busybox === undefined) return files.length > 0 ? files.slice(0, 1) : undefined;
  const file = files.find((each) => spawnSync(each, ['-c', ':']).status === 0); // its libc may be what is broken
  return file === undefined ? [busybox, 'sh'] : [file];
}

/** A program that the image does not have may be one of the carrier's busybox. */
function findProgram(words: readonly string[], variables: readonly string[]): readonly string[] {
  const [name = ''] = words;
  const busybox = findCarrier()?.busybox;
  if (
    busybox === undefined ||
    name.includes('/') ||
    which(name, lastValueOf(variables, 'PATH')) !== undefined
  )
    return words;
  const { stdout } = spawnSync(busybox, ['--list'], { encoding: 'utf8' });
  return stdout.split('\n').includes(name) ? [busybox, ...words] : words;
}

function isInteractive(): boolean {
  return [0, 2].every(isTerminal);
}

/** It is another terminal than the command's: without a name of it an editor, less and clear do not work. */
function terminalOf(variables: readonly string[]): readonly string[] {
  const { TERM } = process.env;
  if (TERM === undefined || !isInteractive() || lastValueOf(variables, 'TERM') !== undefined) return [];
  return [`TERM=${Buffer.from(TERM).toString('latin1')}`];
}

function promptOf({ phase, record }: Found): string {
  const { end } = record;
  const why = phase !== 'parked' || end === null ? '' : `: status ${end.status}`;
  return `(${phase}${why}) `;
}

/** Open to every user: the shell runs as the command's. Undefined: there is no place. */
function makePublicFolder(): string | undefined {
  for (const place of ['/run', '/tmp', '/dev/shm']) {
    try {
      const folder = mkdtempSync(join(place, 'ddbg-shell-'));
      chmodSync(folder, 0o755);
      return folder;
    } catch {
      // the next one
    }
  }
  return undefined;
}

function putFile(folder: string, name: string, text: string): string {
  const file = join(folder, name);
  writeFileSync(file, Buffer.from(text, 'latin1'));
  chmodSync(file, 0o644); // whatever the umask
  return file;
}

/** The last one counts, as for most who look. */
function lastValueOf(variables: readonly string[], name: string): string | undefined {
  return variables.findLast((each) => each.startsWith(`${name}=`))?.slice(name.length + 1);
}

/** setrlimit(2)'s numbers for the names in /proc/PID/limits, the same on x64 and arm64. */
const LIMIT_NUMBERS: Readonly<Record<string, number>> = {
  'Max cpu time': 0,
  'Max file size': 1,
  'Max data size': 2,
  'Max stack size': 3,
  'Max core file size': 4,
  'Max resident set': 5,
  'Max processes': 6,
  'Max open files': 7,
  'Max locked memory': 8,
  'Max address space': 9,
  'Max file locks': 10,
  'Max pending signals': 11,
  'Max msgqueue size': 12,
  'Max nice priority': 13,
  'Max realtime priority': 14,
  'Max realtime timeout': 15,
};
const UNLIMITED = String(2n ** 64n - 1n);

/** What the init's --stand reads; `variables` are bytes in strings. Pure. */
function standRecords(standing: Standing, variables: readonly string[], isOther: boolean): Buffer {
  const { uid, gid, groups, umask, cwd, limits } = standing;
  const records = [
    ...limits.flatMap(({ name, soft, hard }) => {
      const number = LIMIT_NUMBERS[name];
      const value = (text: string): string => (text === 'unlimited' ? UNLIMITED : text);
      return number === undefined ? [] : [`limit ${number} ${value(soft)} ${value(hard)}`];
    }),
    ...(isOther ? [`groups ${groups.join(',')}`, `gid ${gid}`, `uid ${uid}`] : []),
    `cwd ${Buffer.from(cwd).toString('latin1')}`,
    `umask ${umask.toString(8)}`,
    ...variables.map((each) => `set ${each}`),
  ];
  return Buffer.from(records.map((record) => `${record}\0`).join(''), 'latin1');
}

/**
 * Whether it takes root to stand there, and rights that `runc spec` does not give to it: setgroups to what they are is
 * refused too. Not by process.getgroups(), which adds the process's own group to them.
 */
function isOtherUser(standing: Standing): boolean {
  const who = ({ uid, gid, groups }: Standing): string => [uid, gid, ...groups].join();
  const own = readStanding(process.pid);
  return own === undefined || who(own) !== who(standing);
}

async function run(
  words: readonly string[],
  variables: readonly string[],
  standing: Standing,
): Promise<number> {
  const init = initFile(fileURLToPath(new URL('.', import.meta.url)));
  const isNative = isExecutable(init);
  const child = isNative
    ? startByInit(init, words, standRecords(standing, variables, isOtherUser(standing)))
    : startByNode(words, variables, standing);
  const pass = (signal: NodeJS.Signals): void => void child.kill(signal);
  process.on('SIGINT', () => {}); // the terminal sends these to both of us
  process.on('SIGQUIT', () => {});
  process.on('SIGTERM', pass);
  process.on('SIGHUP', pass);
  return new Promise((resolve, reject) => {
    child.on('error', (error) =>
      reject(
        new ToolError(
          errnoOf(error) === 'ENOENT' ? 127 : 126,
          `cannot start ${words[0]}: ${reasonOf(error)}`,
        ),
      ),
    );
    child.on('exit', (code, signal) => resolve(code ?? 128 + signalNumber(signal as SignalName)));
  });
}

function startByInit(init: string, words: readonly string[], records: Buffer): ChildProcess {
  const child = spawn(init, ['--stand=3', ...words], { stdio: ['inherit', 'inherit', 'inherit', 'pipe'] });
  const end = child.stdio[3] as Writable | null;
  end?.on('error', () => {}); // it says itself why it gave up
  end?.end(records);
  return child;
}

/** As far as Node can: names and values that are UTF-8, and our own limits. */
function startByNode(
  words: readonly string[],
  variables: readonly string[],
  standing: Standing,
): ChildProcess {
  process.umask(standing.umask);
  const [file = '', ...rest] = words;
  const environment = variables.map((each): [string, string] => {
    const text = Buffer.from(each, 'latin1').toString();
    return [text.slice(0, text.indexOf('=')), text.slice(text.indexOf('=') + 1)];
  });
  const user = isOtherUser(standing) ? { uid: standing.uid, gid: standing.gid } : {};
  const cwd = existsSync(standing.cwd) ? standing.cwd : '/';
  return spawn(file, rest, { stdio: 'inherit', env: Object.fromEntries(environment), cwd, ...user });
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
