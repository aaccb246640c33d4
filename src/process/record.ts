/**
 * Recording: the command is started by dist/init/PLATFORM/ddbg-record (init/record.c), which keeps what it writes.
 * Here it is put in front, asked to pass on the rest at the end, and asked what was typed.
 */
import {
  accessSync,
  closeSync,
  constants,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { steadyMs } from '../clock.ts';
import { EntryError, errnoOf, reasonOf } from '../errors.ts';
import { signalName } from '../outcome.ts';
import type { CommandLine } from '../plan.ts';
import { STREAMS, type Stream, typedOf } from './recorded.ts';
import type { PassingStop } from './supervise.ts';

/**
 * The command with the recorder in front, which becomes the command. The recording of the run before is kept beside the
 * new one, as `stdout.previous` and so on.
 *
 * @param directory where it is kept; made where it is missing, in a directory that is there
 * @throws EntryError `DDBG_RECORD` where there is no recorder for this machine, or no directory
 */
export function recordCommand(command: CommandLine, directory: string): CommandLine {
  const recorder = recorderFile();
  try {
    accessSync(recorder, constants.X_OK);
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    for (const stream of STREAMS) clear(directory, stream);
  } catch (error) {
    throw new EntryError('DDBG_RECORD', `cannot record: ${reasonOf(error)}; the command runs unrecorded`);
  }
  return { ...command, argv: [recorder, directory, ...command.argv], recording: directory };
}

/** Beside the bundle, as all of the package. */
function recorderFile(): string {
  const platform = `${process.platform}-${process.arch}`;
  return fileURLToPath(new URL(`init/${platform}/ddbg-record`, import.meta.url));
}

function clear(directory: string, stream: Stream): void {
  const file = join(directory, stream);
  for (const suffix of ['previous', 'request', 'done']) rmSync(`${file}.${suffix}`, { force: true });
  try {
    renameSync(file, `${file}.previous`);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
}

/**
 * Resolves when everything is passed on that the command has written before, however long the reader of the log takes,
 * whoever else still has its pipes open; at once where the recorder has ended.
 */
export async function drainRecording(directory: string): Promise<void> {
  await Promise.all(STREAMS.map((stream) => drain(join(directory, stream))));
}

async function drain(file: string): Promise<void> {
  const done = openFifo(`${file}.done`, constants.O_RDONLY);
  if (done === undefined) return;
  if (!hasWriter(done) || !ask(`${file}.request`)) {
    closeSync(done);
    return;
  }
  const { Socket } = process.getBuiltinModule('node:net'); // not imported above: it is needed at the end only
  const socket = new Socket({ fd: done, readable: true, writable: false });
  await new Promise<void>((resolve) => {
    socket.on('data', () => resolve()).on('close', () => resolve()); // closed: it has ended, and with it all was passed on
    socket.on('error', () => {}); // close follows
  });
  socket.destroy();
}

/**
 * Whether the recorder has it open. Who opens a named pipe that has lost its last writer is never told of its end, and
 * the kernel closes the two of a process that ends in no order: the answer would be waited for in vain.
 */
function hasWriter(fifo: number): boolean {
  try {
    return readSync(fifo, Buffer.alloc(1)) > 0;
  } catch (error) {
    if (errnoOf(error) === 'EAGAIN') return true;
    throw error;
  }
}

/** False: nobody is there any more, also where it ends at this moment. */
function ask(file: string): boolean {
  const request = openFifo(file, constants.O_WRONLY);
  if (request === undefined) return false;
  try {
    writeSync(request, '\n');
    return true;
  } catch (error) {
    if (errnoOf(error) === 'EPIPE') return false;
    throw error;
  } finally {
    closeSync(request);
  }
}

/** Undefined: there is none, or nobody at its other end. */
function openFifo(file: string, mode: number): number | undefined {
  try {
    return openSync(file, mode | constants.O_NONBLOCK);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENXIO') return undefined;
    throw error;
  }
}

/** The last Ctrl-C or Ctrl-\ that the command's terminal has sent it. */
export function typedStop(directory: string): PassingStop | undefined {
  const typed = typedOf(directory);
  if (typed === undefined) return undefined;
  const agoMs = Number(process.hrtime.bigint() - typed.atNs) / 1e6; // the same clock: CLOCK_MONOTONIC
  return { signal: signalName(typed.signal), at: steadyMs() - agoMs };
}
