/**
 * What runs in a process, recognised from its executable, and what it offers when it is asked by a signal.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { basename } from 'node:path';

export interface Runtime {
  readonly name: 'node' | 'jvm' | 'go' | 'python';
  /** What it tells on a signal, or how that is switched on; a sentence. */
  readonly offer: string;
  /** The signal that makes it tell; null: none does as it runs now. */
  readonly signal: string | null;
  /** It ends the process. */
  readonly isFatal: boolean;
  /** Where it tells. */
  readonly where: string;
}

export interface RuntimeClues {
  readonly executable: string | undefined;
  /** `/proc/PID/exe`, to look into; undefined: not to be read. */
  readonly file: string | undefined;
  /** In clear. */
  readonly argv: readonly string[];
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** `SIGQUIT`, ... */
  readonly caught: readonly string[];
  readonly mappedFiles: readonly string[];
  readonly directory: string | undefined;
  readonly stdout: string | undefined;
  readonly stderr: string | undefined;
}

export function recogniseRuntime(clues: RuntimeClues): Runtime | undefined {
  const program = basename(clues.executable ?? '');
  if (/^(?:node|nodejs)$/.test(program)) return ofNode(clues);
  if (program === 'java' || clues.mappedFiles.some((file) => file.endsWith('/libjvm.so')))
    return ofJvm(clues);
  if (/^python[\d.]*$/.test(program)) return ofPython(clues);
  return clues.file !== undefined && isGo(clues.file) ? ofGo(clues) : undefined;
}

/** SIGUSR1 would open the inspector's port: it is never sent. */
function ofNode({ argv, environment, caught, directory }: RuntimeClues): Runtime {
  const options = [...(environment.NODE_OPTIONS ?? '').split(/\s+/), ...optionsOf(argv)];
  const flagValue = (flag: string) =>
    options.flatMap((option, at) =>
      option.startsWith(`${flag}=`)
        ? option.slice(flag.length + 1)
        : option === flag
          ? (options[at + 1] ?? '')
          : [],
    )[0];
  const shared = { name: 'node', isFatal: false, where: '' } as const;
  const signal = flagValue('--report-signal') ?? 'SIGUSR2';
  const isOn = options.includes('--report-on-signal');
  if (!isOn || !caught.includes(signal)) {
    const how = `start it with NODE_OPTIONS='--report-on-signal', then ddbg dump --signal makes it write one`;
    return {
      ...shared,
      signal: null,
      offer: `writes no diagnostic report on a signal as it runs now: ${how}`,
    };
  }
  const folder = flagValue('--report-directory') ?? flagValue('--report-dir') ?? directory ?? 'its directory';
  const file = flagValue('--report-filename') ?? 'report.DATE.TIME.PID.*.json';
  return { ...shared, signal, offer: `writes a diagnostic report on ${signal}`, where: `${folder}/${file}` };
}

/** Those of node itself: before the script. */
function optionsOf(argv: readonly string[]): readonly string[] {
  const script = argv.findIndex((argument, at) => at > 0 && !argument.startsWith('-'));
  return argv.slice(1, script < 0 ? undefined : script);
}

function ofJvm({ caught, stdout }: RuntimeClues): Runtime {
  const shared = { name: 'jvm', isFatal: false, where: stdout ?? 'its stdout' } as const;
  return caught.includes('SIGQUIT')
    ? { ...shared, signal: 'SIGQUIT', offer: 'prints its threads on SIGQUIT, and runs on' }
    : { ...shared, signal: null, offer: 'does not listen to SIGQUIT (-Xrs?): it would end of it' };
}

function ofGo({ caught, stderr }: RuntimeClues): Runtime {
  const shared = { name: 'go', isFatal: true, where: stderr ?? 'its stderr' } as const;
  return caught.includes('SIGQUIT')
    ? {
        ...shared,
        signal: 'SIGQUIT',
        offer:
          'prints its goroutines on SIGQUIT and ENDS with status 2 (unless it takes that signal itself): only for --signal=QUIT',
      }
    : { ...shared, signal: null, offer: 'does not listen to SIGQUIT' };
}

function ofPython({ argv, environment, caught }: RuntimeClues): Runtime {
  const handles = caught.filter((signal) => ['SIGUSR1', 'SIGUSR2', 'SIGQUIT'].includes(signal));
  const isOn = environment.PYTHONFAULTHANDLER || /(?:^|\0)-X\0?faulthandler/.test(argv.join('\0'));
  const fatal = isOn
    ? 'faulthandler is on for fatal signals'
    : 'faulthandler is not switched on from outside';
  const own =
    handles.length === 0
      ? 'no signal is registered that could be faulthandler.register()'
      : `${handles.join(', ')} is handled: whether by faulthandler.register() cannot be seen from outside`;
  return { name: 'python', signal: null, isFatal: false, where: '', offer: `${fatal}; ${own}` };
}

/** Go's linker writes this section also into stripped programs. */
const GO_SECTION = '.note.go.buildid\0';
const MOST_NAMES = 64 * 1024;

/** ELF of 64 bits, little-endian: the names of its sections. */
function isGo(file: string): boolean {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(file, 'r');
    const head = readAt(descriptor, 0, 64);
    if (head.length < 64 || head.readUInt32BE(0) !== 0x7f454c46 || head[4] !== 2 || head[5] !== 1)
      return false;
    const [size, names] = [head.readUInt16LE(58), head.readUInt16LE(62)];
    const section = readAt(descriptor, Number(head.readBigUInt64LE(40)) + size * names, size);
    if (section.length < 40) return false;
    const length = Math.min(Number(section.readBigUInt64LE(32)), MOST_NAMES);
    return readAt(descriptor, Number(section.readBigUInt64LE(24)), length).includes(GO_SECTION);
  } catch {
    return false;
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

function readAt(descriptor: number, position: number, length: number): Buffer {
  const content = Buffer.alloc(length);
  return content.subarray(0, readSync(descriptor, content, 0, length, position));
}

/** ELF's e_machine of a program, as Node names it; '' for others, whose system calls have other numbers. */
export function architectureOf(file: string): string {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(file, 'r');
    const head = readAt(descriptor, 0, 20);
    const machine = head.length < 20 ? 0 : head.readUInt16LE(18);
    return { 62: 'x64', 183: 'arm64' }[machine] ?? '';
  } catch {
    return process.arch; // not to be read: most likely it is what this machine is
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}
