/**
 * Reads tar and tar.gz with node-tar's Parser; the only user of `tar`. Never its extract: with `cwd: '/'` that writes
 * nothing and reports success, and it drops sparse files and renames what is not UTF-8 without a word.
 *
 * The Parser is lenient: what it cannot read it skips, with a `warn` event at best. So we hand it the archive piece by
 * piece (a header, a whole header extension, a body as it comes), look at each piece ourselves, and refuse the archive
 * as soon as the Parser warns, skips, or reads another name or size than we do. Everything in it is synchronous as
 * long as each entry has a `data` listener from the start: no queue, and a 2 GB archive passes through 256 kB.
 */
import { createReadStream } from 'node:fs';
import { createGunzip } from 'node:zlib';
import { Parser, type ReadEntry } from 'tar';
import { EntryError, errnoOf, reasonOf } from '../errors.ts';
import type { EntryKind, ReadArchive, Reading, Sink, Visit } from './archive.ts';
import { type Extensions, type PlainHeader, readHeader, readLongName, readPax, type Verdict } from './pax.ts';
import { isTarHeader, isZeroBlock, recognise } from './recognise.ts';
import { refusal, stopIfAsked } from './subject.ts';
import { bytesText } from './units.ts';

const BLOCK = 512;
const CHUNK_BYTES = 256 * 1024;

const KINDS: Readonly<Record<string, EntryKind>> = {
  File: 'file',
  OldFile: 'file',
  ContiguousFile: 'file', // POSIX: read as a file where there is nothing of the kind
  Directory: 'directory',
  SymbolicLink: 'symlink',
  Link: 'hardlink',
};

/** Header extensions: PAX for the next entry and for all, GNU long names and links. */
const META_TYPES = 'xXgLKN';

/** Refused by name; everything else that is not above is refused as unknown. */
const REFUSED: Readonly<Record<string, string>> = {
  CharacterDevice: 'a character device',
  BlockDevice: 'a block device',
  FIFO: 'a FIFO',
  SparseFile: 'a sparse file',
  GNUDumpDir: 'a directory of an incremental dump',
  ContinuationFile: 'a piece of a multi-volume archive',
  TapeVolumeHeader: 'a volume label',
};

export const readTar: ReadArchive = async (path, visit, reading) => {
  const feeder = createFeeder(visit, reading, 'it is');
  const source = createReadStream(path, { highWaterMark: CHUNK_BYTES });
  for await (const chunk of source) feeder.feed(chunk as Buffer);
  feeder.end();
};

export const readTarGz: ReadArchive = async (path, visit, reading) => {
  const feeder = createFeeder(visit, reading, 'what is in the gzip file is');
  const source = createReadStream(path, { highWaterMark: CHUNK_BYTES });
  const gunzip = createGunzip({ chunkSize: CHUNK_BYTES });
  source.on('error', (error) => gunzip.destroy(error));
  try {
    // Not pipeline(): gunzip ends by itself where zeros follow its data, and pipeline calls that a premature close.
    for await (const chunk of source.pipe(gunzip)) feeder.feed(chunk as Buffer);
  } catch (error) {
    if (error instanceof EntryError) throw error;
    throw damagedGzip(error, reading);
  } finally {
    source.destroy();
    gunzip.destroy();
  }
  feeder.end();
  await refuseTail(path, gunzip.bytesWritten, reading);
};

/** gunzip stops at the first zero after its data and does not look on. Padding is fine, anything else is not. */
async function refuseTail(path: string, start: number, reading: Reading): Promise<void> {
  for await (const chunk of createReadStream(path, { start })) {
    if ((chunk as Buffer).every((byte) => byte === 0)) continue;
    throw refusal(
      'DDBG_ARCHIVE',
      'read',
      reading.subject,
      'something follows the end of the gzip data',
      JOINED,
    );
  }
}

function damagedGzip(error: unknown, reading: Reading): Error {
  const truncated = errnoOf(error) === 'Z_BUF_ERROR';
  const why = truncated
    ? 'it is truncated: the gzip data ends too early'
    : `its gzip data is damaged (${reasonOf(error)})`;
  const hint = 'Fetch it again, or make it again; gzip -t says whether a file is whole.';
  return refusal('DDBG_ARCHIVE', 'read', reading.subject, why, hint, error);
}

interface Feeder {
  feed(chunk: Buffer): void;
  end(): void;
}

/** What comes next: one header; the body of a header extension, whole; a body as it comes; only zeros. */
type Expected =
  | { readonly state: 'header' }
  | { readonly state: 'meta'; readonly type: string; readonly size: number; readonly padded: number }
  | { readonly state: 'body'; remaining: number }
  | { readonly state: 'padding' };

function createFeeder(visit: Visit, reading: Reading, what: string): Feeder {
  const { subject, limits, signal } = reading;
  const parser = new Parser({
    maxMetaEntrySize: limits.metaBytes,
    maxDecompressionRatio: Number.POSITIVE_INFINITY,
  });
  let expected: Expected = { state: 'header' };
  let held: Buffer = Buffer.alloc(0);
  let position = 0;
  let total = 0;
  let index = 0;
  let header: PlainHeader | undefined;
  let extensions: Extensions = {};
  let bodyBlocks: number | undefined;

  const refuse = (why: string, hint?: string): never => {
    throw refusal('DDBG_ARCHIVE', 'read', subject, `${why} (at byte ${position})`, hint ?? REMAKE);
  };
  const must = <T>(verdict: Verdict<T>): T =>
    'refused' in verdict ? refuse(`it holds ${verdict.refused}`) : verdict.value;

  parser.on('warn', (_code: string, message: string | Error) =>
    refuse(`it is damaged: ${reasonOf(message)}`),
  );
  parser.on('error', (error: unknown) => refuse(`it is damaged: ${reasonOf(error)}`));
  parser.on('ignoredEntry', (entry: ReadEntry) => {
    const kind = REFUSED[entry.type] ?? `an entry of the unknown type ${JSON.stringify(header?.typeflag)}`;
    refuse(`it holds ${kind}, ${entry.path}`);
  });
  parser.on('entry', (entry: ReadEntry) => {
    bodyBlocks = entry.startBlockSize;
    const sink = begin(entry);
    entry.on('data', (chunk: Buffer) => sink?.write(chunk));
    entry.on('end', () => sink?.end());
  });

  function begin(entry: ReadEntry): Sink | undefined {
    compare(entry);
    const kind = KINDS[entry.type];
    if (kind === undefined) {
      throw refusal(
        'DDBG_UNSAFE',
        'apply',
        subject,
        `it holds ${REFUSED[entry.type] ?? entry.type}, ${entry.path}`,
        NO_DEVICES,
      );
    }
    if (kind !== 'file' && entry.size > 0) refuse(`it holds a ${kind} with content, ${entry.path}`);
    if (entry.size > limits.fileBytes) {
      refuse(`${entry.path} is larger than the limit fileBytes, ${bytesText(limits.fileBytes)}`);
    }
    if (index >= limits.entries) refuse(`it holds more than ${limits.entries} entries, the limit`);
    const link = kind === 'symlink' || kind === 'hardlink';
    const sink = visit({
      index,
      name: entry.path,
      kind,
      size: kind === 'file' ? entry.size : 0,
      mode: entry.mode,
      mtimeMs:
        entry.mtime === undefined || Number.isNaN(entry.mtime.getTime()) ? undefined : entry.mtime.getTime(),
      linkTarget: link ? entry.linkpath : undefined,
    });
    index += 1;
    extensions = {};
    return sink;
  }

  /** The Parser's reading against ours. */
  function compare(entry: ReadEntry): void {
    const name =
      extensions.path ?? header?.name ?? refuse(`it holds a name that is not UTF-8, ${entry.path}`);
    if (entry.path !== name)
      refuse(`it holds a name that can be read in two ways, ${entry.path} and ${name}`);
    if (entry.type === 'Link' || entry.type === 'SymbolicLink') {
      const target =
        extensions.linkpath ?? header?.linkname ?? refuse(`the target of the link ${name} is not UTF-8`);
      if (entry.linkpath !== target) {
        refuse(`it holds a link target that can be read in two ways, ${entry.linkpath} and ${target}`);
      }
    }
    const size = extensions.size ?? header?.size;
    if (entry.type !== 'Directory' && entry.size !== size)
      refuse(`it holds a size that cannot be read, of ${entry.path}`);
  }

  function refuseLargeMeta({ typeflag, size = 0 }: PlainHeader): void {
    if (META_TYPES.includes(typeflag) && size > limits.metaBytes) {
      refuse(`it holds a header extension larger than ${bytesText(limits.metaBytes)}, the limit metaBytes`);
    }
  }

  /** One header block. Whatever the Parser makes of it, it does now. */
  function takeHeader(block: Buffer): Expected {
    if (isZeroBlock(block)) return { state: 'padding' };
    if (position === 0 && !isTarHeader(block)) {
      const found = recognise(block);
      const looksLike = 'format' in found ? `a ${found.format} file once more` : found.looksLike;
      refuse(`${what} no tar archive; it looks like ${looksLike}`, 'It takes a tar, tar.gz or zip file.');
    }
    header = readHeader(block);
    refuseLargeMeta(header);
    bodyBlocks = undefined;
    parser.write(block);
    if (bodyBlocks !== undefined)
      return bodyBlocks === 0 ? { state: 'header' } : { state: 'body', remaining: bodyBlocks };
    const size = header.size ?? refuse('it holds a header extension without a size');
    const padded = BLOCK * Math.ceil(size / BLOCK);
    // The Parser takes an empty extension in silence, and the next header for what it is.
    return size === 0 ? { state: 'header' } : { state: 'meta', type: header.typeflag, size, padded };
  }

  function takeMeta(body: Buffer, meta: Expected & { state: 'meta' }): Expected {
    const content = body.subarray(0, meta.size);
    if (meta.type === 'L' || meta.type === 'N')
      extensions = { ...extensions, path: must(readLongName(content)) };
    else if (meta.type === 'K') extensions = { ...extensions, linkpath: must(readLongName(content)) };
    else if (meta.type === 'g') must(readPax(content, true));
    else if (meta.type === 'x' || meta.type === 'X')
      extensions = { ...extensions, ...must(readPax(content, false)) };
    else refuse(`it holds a header extension of the unknown type ${JSON.stringify(meta.type)}`);
    parser.write(body);
    return { state: 'header' };
  }

  function takeBody(piece: Buffer, body: Expected & { state: 'body' }): Expected {
    body.remaining -= piece.length;
    parser.write(piece);
    return body.remaining === 0 ? { state: 'header' } : body;
  }

  /** Takes one piece off the front; false: it needs more bytes first. */
  function step(): boolean {
    const wanted = expected.state === 'meta' ? expected.padded : expected.state === 'header' ? BLOCK : 1;
    if (held.length < wanted) return false;
    const length =
      expected.state === 'body'
        ? Math.min(held.length, expected.remaining)
        : expected.state === 'padding'
          ? held.length
          : wanted;
    const piece = held.subarray(0, length);
    held = held.subarray(length);
    if (expected.state === 'header') expected = takeHeader(piece);
    else if (expected.state === 'meta') expected = takeMeta(piece, expected);
    else if (expected.state === 'body') expected = takeBody(piece, expected);
    else if (piece.some((byte) => byte !== 0)) refuse('something follows the end of the archive', JOINED);
    position += length;
    return true;
  }

  return {
    feed(chunk) {
      stopIfAsked(signal, subject);
      total += chunk.length;
      if (total > limits.unpackedBytes) {
        refuse(`it unpacks to more than ${bytesText(limits.unpackedBytes)}, the limit unpackedBytes`);
      }
      held = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
      while (step());
    },
    end() {
      if (expected.state === 'padding') return;
      const whole = expected.state === 'header' && held.length === 0;
      refuse(
        position === 0 && expected.state === 'header'
          ? `${what} no tar archive; it has only ${total} bytes`
          : whole
            ? 'it is truncated: the two zero blocks at its end are missing'
            : 'it is truncated: it ends in the middle of an entry',
      );
    },
  };
}

const REMAKE = 'Make the archive again with GNU tar or bsdtar, without special options.';
const JOINED = 'Give the archives one by one, each with its own fstree=.';
const NO_DEVICES = 'Leave it out of the archive: tar --exclude=dev, or pack only the files that differ.';
