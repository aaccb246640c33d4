/**
 * Reads tar, whatever it is packed in; the only user of node-tar, and of that only of the two classes that read a
 * header. Never its extract: with `cwd: '/'` that writes nothing and reports success, and it drops sparse files and
 * renames what is not UTF-8 without a word. Nor its Parser: it is lenient, and what it cannot read it skips.
 *
 * Our own reading (pax.ts) decides. node-tar's is held against it wherever it can be right, and where the two differ,
 * others will differ too: the archive is refused. All of it is synchronous; 2 GB pass through 256 kB.
 */
import { Header } from 'tar/header';
import { Pax } from 'tar/pax';
import { reasonOf } from '../errors.ts';
import type { ArchiveEntry, EntryKind, ReadArchive, Reading, Sink, Visit } from './archive.ts';
import { isZero, JOINED, type Unpack } from './decompress.ts';
import { moveLimit } from './limits.ts';
import { type Extensions, type PlainHeader, readHeader, readLongName, readPax, type Verdict } from './pax.ts';
import { isTarHeader, isZeroBlock, recognise, TAKES } from './recognise.ts';
import { refusal, stopIfAsked } from './subject.ts';
import { bytesText } from './units.ts';

const BLOCK = 512;

const KINDS: Readonly<Record<string, EntryKind>> = {
  '0': 'file',
  '\0': 'file',
  '7': 'file', // contiguous; POSIX: read as a file where there is nothing of the kind
  '5': 'directory',
  '2': 'symlink',
  '1': 'hardlink',
};

/** Header extensions: PAX for the next entry and for all, GNU long names and links. */
const META_TYPES = 'xXgLK';

const DEVICES: Readonly<Record<string, string>> = {
  '3': 'a character device',
  '4': 'a block device',
  '6': 'a FIFO',
};

/** Refused by name; everything else that is not above is refused as unknown. */
const UNREADABLE: Readonly<Record<string, string>> = {
  S: 'a sparse file',
  D: 'a directory of an incremental dump',
  M: 'a piece of a multi-volume archive',
  V: 'a volume label',
};

const LARGEST_ID = 0xfffffffe; // the one above says "leave it" to chown

/** `what` starts the sentence that it is no tar: `it is`, `what is in the gzip file is`. */
export function tarReader(unpack: Unpack, what: string): ReadArchive {
  return async (path, visit, reading) => {
    const feeder = createFeeder(visit, reading, what);
    for await (const chunk of unpack(path, reading)) feeder.feed(chunk);
    feeder.end();
  };
}

interface Feeder {
  feed(chunk: Buffer): void;
  end(): void;
}

/** What comes next: one header; the body of a header extension, whole; a body as it comes; only zeros. */
type Expected =
  | { readonly state: 'header' }
  | { readonly state: 'meta'; readonly type: string; readonly size: number }
  | { readonly state: 'body'; left: number; padding: number; readonly sink: Sink | undefined }
  | { readonly state: 'padding' };

const HEADER: Expected = { state: 'header' };

function createFeeder(visit: Visit, reading: Reading, what: string): Feeder {
  const { subject, limits, signal } = reading;
  let expected: Expected = HEADER;
  let held: Buffer = Buffer.alloc(0);
  let position = 0;
  let total = 0;
  let index = 0;
  let extensions: Extensions | undefined;
  let hasPax = false;
  /** The same as node-tar reads them. */
  let theirs: Pax | undefined;

  const refuse = (why: string, hint?: string): never => {
    throw refusal('DDBG_ARCHIVE', 'read', subject, `${why} (at byte ${position})`, hint ?? REMAKE);
  };
  const must = <T>(verdict: Verdict<T>): T =>
    'refused' in verdict ? refuse(`it holds ${verdict.refused}`, verdict.hint) : verdict.value;

  /** One header block. */
  function takeHeader(block: Buffer): Expected {
    if (isZeroBlock(block)) return takeEnd();
    if (!isTarHeader(block))
      return position === 0 ? refuseForeign(block) : refuse(`it is damaged: ${NO_SUM}`);
    if (/^ustar[^\0 ]/.test(block.toString('latin1', 257, 263)) && block[345] !== 0)
      refuse('it holds a header of an unknown kind, whose name some read with a prefix and some without');
    const header = readHeader(block);
    if (META_TYPES.includes(header.typeflag)) return expectMeta(header);
    const entry = describe(header);
    compare(entry, block);
    extensions = undefined;
    hasPax = false;
    theirs = undefined;
    index += 1;
    const sink = visit(entry);
    if (entry.size > 0) return { state: 'body', left: entry.size, padding: -entry.size & (BLOCK - 1), sink };
    sink?.end();
    return HEADER;
  }

  function takeEnd(): Expected {
    if (extensions !== undefined) refuse('it holds a header extension without its entry');
    return { state: 'padding' };
  }

  function refuseForeign(block: Buffer): never {
    const found = recognise(block);
    const looksLike = 'format' in found ? `a ${found.format} file once more` : found.looksLike;
    return refuse(`${what} no tar archive; it looks like ${looksLike}`, TAKES);
  }

  function expectMeta({ typeflag, size }: PlainHeader): Expected {
    if (size === undefined || Number.isNaN(size)) return refuse('it holds a header extension without a size');
    if (size > limits.metaBytes) {
      refuse(`it holds a header extension larger than ${bytesText(limits.metaBytes)}, the limit metaBytes`);
    }
    return size > 0 ? { state: 'meta', type: typeflag, size } : HEADER;
  }

  function describe(header: PlainHeader): ArchiveEntry {
    const name = extensions?.path ?? header.name;
    const kind = kindOf(header.typeflag, name);
    const size = readable(extensions?.size ?? header.size, 'size', name) ?? 0;
    if (size < 0) refuse(`it holds a size that cannot be read, of ${name}`);
    if (kind !== 'file' && size > 0) refuse(`it holds a ${kind} with content, ${name}`);
    if (size > limits.fileBytes)
      refuse(
        `${name} is larger than the limit file-bytes, ${bytesText(limits.fileBytes)}`,
        moveLimit('file-bytes'),
      );
    if (index >= limits.entries)
      refuse(`it holds more than ${limits.entries} entries, the limit entries`, moveLimit('entries'));
    const isLink = kind === 'symlink' || kind === 'hardlink';
    const target = extensions?.linkpath ?? header.linkname;
    if (name === '') refuse('it holds an entry without a name');
    // Docker makes the whiteouts of a layer of one inode and leaves the name of the first in all others (20.10).
    const isWhiteout = kind === 'file' && size === 0 && /(^|\/)\.wh\.[^/]+$/.test(name);
    if (isLink !== (target !== '') && !isWhiteout)
      refuse(`it holds a ${kind} ${isLink ? 'without' : 'with'} a target, ${name}`);
    const mode = readable(header.mode, 'mode', name);
    const seconds = readable(header.mtime, 'time', name);
    return {
      index,
      name,
      kind,
      size,
      mode: mode === undefined ? undefined : mode & 0o7777,
      mtimeMs: extensions?.mtimeMs ?? (seconds === undefined ? undefined : seconds * 1000),
      uid: idOf(extensions?.uid ?? header.uid, 'owner', name),
      gid: idOf(extensions?.gid ?? header.gid, 'group', name),
      linkTarget: isLink ? target : undefined,
      ...(extensions?.dropped === undefined ? {} : { dropped: extensions.dropped }),
    };
  }

  function kindOf(typeflag: string, name: string): EntryKind {
    const kind = KINDS[typeflag];
    // The oldest tars have no type for a directory, only the slash.
    if (kind !== undefined) return kind === 'file' && name.endsWith('/') ? 'directory' : kind;
    const device = DEVICES[typeflag];
    if (device === undefined) {
      const found = UNREADABLE[typeflag] ?? `an entry of the unknown type ${JSON.stringify(typeflag)}`;
      return refuse(`it holds ${found}, ${name}`);
    }
    throw refusal('DDBG_UNSAFE', 'apply', subject, `it holds ${device}, ${name}`, NO_DEVICES);
  }

  function readable(value: number | undefined, field: string, name: string): number | undefined {
    return Number.isNaN(value) ? refuse(`it holds a ${field} that cannot be read, of ${name}`) : value;
  }

  function idOf(value: number | undefined, field: string, name: string): number | undefined {
    const id = readable(value, field, name);
    if (id !== undefined && (id < 0 || id > LARGEST_ID))
      refuse(`it holds an ${field} that Linux has not, ${id}, of ${name}`);
    return id;
  }

  /** node-tar's reading against ours. */
  function compare(entry: ArchiveEntry, block: Buffer): void {
    const { name, kind, linkTarget } = entry;
    const other = readTheirs(block);
    if (name.isWellFormed()) {
      if (other.path !== name)
        refuse(`it holds a name that can be read in two ways, ${other.path} and ${name}`);
      if ((other.type === 'Directory') !== (kind === 'directory'))
        refuse(`it holds a type that can be read in two ways, of ${name}`);
    }
    if (linkTarget?.isWellFormed() && other.linkpath !== linkTarget) {
      refuse(`it holds a link target that can be read in two ways, ${other.linkpath} and ${linkTarget}`);
    }
    const theirMode = other.mode === undefined ? undefined : other.mode & 0o7777;
    const theirMs = other.mtime?.getTime();
    const same =
      (other.size ?? 0) === entry.size &&
      theirMode === entry.mode &&
      other.uid === entry.uid &&
      other.gid === entry.gid &&
      Math.abs((theirMs ?? 0) - (entry.mtimeMs ?? 0)) <= 1; // a Date has no fraction
    if (!same) refuse(`it holds a number that can be read in two ways, of ${name}`);
  }

  /** Its ReadEntry, a stream, puts the names of an extension over those of the header; its Header alone does not. */
  function readTheirs(block: Buffer): Header {
    try {
      const header = new Header(block, 0, theirs);
      return Object.assign(header, {
        path: theirs?.path ?? header.path,
        linkpath: theirs?.linkpath ?? header.linkpath,
      });
    } catch (error) {
      return refuse(`it is damaged: ${reasonOf(error)}`);
    }
  }

  function takeMeta(blocks: Buffer, type: string, size: number): Expected {
    const content = blocks.subarray(0, size);
    const text = content.toString();
    if (type === 'g') {
      must(readPax(content, true));
    } else if (type === 'x' || type === 'X') {
      // GNU tar and bsdtar forget the first, node-tar and python have both.
      if (hasPax) refuse('it holds two extended headers for one entry');
      hasPax = true;
      extend(must(readPax(content, false)));
      theirs = Pax.parse(text, theirs, false);
    } else {
      // GNU tar goes on to the next NUL, whatever the size says.
      if (!content.includes(0) && (blocks[size] ?? 0) !== 0) refuse('it holds a long name without an end');
      const key = type === 'K' ? 'linkpath' : 'path';
      extend({ [key]: must(readLongName(content)) });
      theirs = Object.assign(theirs ?? new Pax({}), { [key]: text.replace(/\0.*/s, '') });
    }
    return HEADER;
  }

  /** Of a GNU long name and a PAX one before one entry, some readers take the first and some the last. */
  function extend(more: Extensions): void {
    for (const key of ['path', 'linkpath'] as const) {
      const [one, other] = [extensions?.[key], more[key]];
      if (one !== undefined && other !== undefined && one !== other)
        refuse(`it holds a name that can be read in two ways, ${one} and ${other}`);
    }
    extensions = { ...extensions, ...more };
  }

  function takeBody(piece: Buffer, body: Expected & { state: 'body' }): Expected {
    const content = Math.min(piece.length, body.left);
    if (content > 0) {
      body.sink?.write(content === piece.length ? piece : piece.subarray(0, content));
      body.left -= content;
      if (body.left === 0) body.sink?.end();
    }
    body.padding -= piece.length - content;
    return body.left + body.padding === 0 ? HEADER : body;
  }

  /** Takes one piece off the front, and says how long it was; 0: it needs more bytes first. */
  function step(bytes: Buffer): number {
    const length = wantedOf(expected, bytes.length);
    if (length === 0 || bytes.length < length) return 0;
    const piece = bytes.subarray(0, length);
    if (expected.state === 'header') expected = takeHeader(piece);
    else if (expected.state === 'meta') expected = takeMeta(piece, expected.type, expected.size);
    else if (expected.state === 'body') expected = takeBody(piece, expected);
    else if (!isZero(piece)) refuse('something follows the end of the archive', JOINED);
    position += length;
    return length;
  }

  return {
    feed(chunk) {
      stopIfAsked(signal, subject);
      total += chunk.length;
      if (total > limits.unpackedBytes) {
        refuse(
          `it unpacks to more than ${bytesText(limits.unpackedBytes)}, the limit unpacked-bytes`,
          moveLimit('unpacked-bytes'),
        );
      }
      held = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
      for (let taken = step(held); taken > 0; taken = step(held)) held = held.subarray(taken);
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

/** How many bytes the next piece has, of those at hand. */
function wantedOf(expected: Expected, atHand: number): number {
  if (expected.state === 'header') return BLOCK;
  if (expected.state === 'meta') return BLOCK * Math.ceil(expected.size / BLOCK);
  return expected.state === 'body' ? Math.min(atHand, expected.left + expected.padding) : atHand;
}

const NO_SUM = 'the checksum of a header does not fit';
const REMAKE = 'Make the archive again with GNU tar or bsdtar, without special options.';
const NO_DEVICES = 'Leave it out of the archive (tar --exclude=NAME), or pack only the files that differ.';
