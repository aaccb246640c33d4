/**
 * Reads zip; the only user of yauzl, and of that only for the central directory. yauzl believes what that says, so it
 * is held against the local headers and against itself before anything is inflated: 34 kB with overlapping entries
 * inflate to 5 GB. Contents we read ourselves: a stream for each of 10,000 small files costs more than all the rest.
 */
import { closeSync, createReadStream, fstatSync, openSync, readSync } from 'node:fs';
import { crc32, createInflateRaw, inflateRawSync } from 'node:zlib';
import {
  type Entry,
  type ExtraField,
  fromRandomAccessReaderPromise,
  type LocalFileHeader,
  parseExtraFields,
  RandomAccessReader,
  type ZipFile,
} from 'yauzl';
import { attempt } from '../attempt.ts';
import { EntryError, errnoOf, reasonOf } from '../errors.ts';
import type { ArchiveEntry, EntryKind, ReadArchive, Reading, Sink, Visit } from './archive.ts';
import { CHUNK_BYTES } from './decompress.ts';
import { moveLimit } from './limits.ts';
import { decodeName, utf8 } from './octets.ts';
import { refusal, stopIfAsked } from './subject.ts';
import { createTurns } from './turns.ts';
import { bytesText } from './units.ts';

const UNIX = 3;
const OS_X = 19;
const S_IFMT = 0o170000;
// A Map: as keys of an object the linter rewrites octal numbers, and gets them wrong.
const KINDS: ReadonlyMap<number, EntryKind> = new Map([
  [0o100000, 'file'],
  [0o040000, 'directory'],
  [0o120000, 'symlink'],
]);
const DOS_DIRECTORY = 0x10;
const STORED = 0;
const DEFLATED = 8;
const UTF8_FLAG = 0x800;
const DESCRIPTOR_FLAG = 0x8;
const LONGEST_LINK_BYTES = 4095;
/** Inflated at once and on this thread: below, going to another one takes longer. */
const SMALL_BYTES = 256 * 1024;

interface File {
  readonly path: string;
  readonly fd: number;
}

interface Item {
  readonly entry: Entry;
  readonly dataStart: number;
  readonly owner: Owner;
}

interface Owner {
  readonly uid: number | undefined;
  readonly gid: number | undefined;
}

export const readZip: ReadArchive = async (path, visit, reading) => {
  const fd = openSync(path, 'r');
  try {
    const reader = new DirectoryReader(fd);
    // decodeStrings: false, or yauzl turns `\` into `/` and names without a flag into cp437.
    const options = { autoClose: false, decodeStrings: false };
    const zip = await fromRandomAccessReaderPromise(reader, fstatSync(fd).size, options);
    await readAll(zip, { path, fd }, visit, reading);
  } catch (error) {
    if (error instanceof EntryError) throw error;
    throw damaged(reasonOf(error), reading, error);
  } finally {
    closeSync(fd);
  }
};

/** Answers at once and reads ahead: four small reads for each entry through another thread were most of the time. */
class DirectoryReader extends RandomAccessReader {
  readonly #fd: number;
  #start = 0;
  #chunk: Buffer = Buffer.alloc(0);

  constructor(fd: number) {
    super();
    this.#fd = fd;
  }

  override read(
    buffer: Buffer,
    offset: number,
    length: number,
    position: number,
    callback: (error: Error | null, bytesRead?: number) => void,
  ): void {
    let count: number;
    try {
      count = this.#read(buffer, offset, length, position);
    } catch (error) {
      callback(error as Error);
      return;
    }
    callback(null, count);
  }

  #read(buffer: Buffer, offset: number, length: number, position: number): number {
    if (length > CHUNK_BYTES) return readSync(this.#fd, buffer, offset, length, position);
    if (position < this.#start || position + length > this.#start + this.#chunk.length) {
      const next = Buffer.allocUnsafe(CHUNK_BYTES);
      this.#chunk = next.subarray(0, readSync(this.#fd, next, 0, CHUNK_BYTES, position));
      this.#start = position;
    }
    const start = position - this.#start;
    return this.#chunk.copy(buffer, offset, start, start + length);
  }

  /** Contents are read without yauzl. */
  override _readStreamForRange(): never {
    throw new Error('no streams');
  }
}

async function readAll(zip: ZipFile, file: File, visit: Visit, reading: Reading): Promise<void> {
  const directoryStart = zip.readEntryCursor as unknown as number; // the types say boolean; it is an offset
  const turn = createTurns();
  refuseMany(zip.entryCount, reading);
  const entries: Entry[] = [];
  for await (const entry of zip.eachEntry()) {
    entries.push(entry);
    await turn();
    stopIfAsked(reading.signal, reading.subject);
  }
  refuseLargeSizes(entries, reading);
  if (anotherEntryFollows(zip, file.fd)) refuse(reading, 'it holds more entries than it says');
  const items = await locate(zip, entries, directoryStart, reading);
  for (const [index, item] of items.entries()) {
    await turn();
    stopIfAsked(reading.signal, reading.subject);
    await readOne(file, item, index, visit, reading);
  }
}

async function readOne(file: File, item: Item, index: number, visit: Visit, reading: Reading): Promise<void> {
  const described = describe(item, index, reading);
  if (described.kind === 'directory') {
    visit(described);
  } else if (described.kind === 'symlink') {
    visit({ ...described, size: 0, linkTarget: readLink(file.fd, item, reading) });
  } else {
    await readContent(file, item, visit(described), reading);
  }
}

async function readContent(file: File, item: Item, sink: Sink | undefined, reading: Reading): Promise<void> {
  const { entry } = item;
  if (Math.max(entry.uncompressedSize, entry.compressedSize) <= SMALL_BYTES) {
    const content = readSmall(file.fd, item, reading);
    if (content.length > 0) sink?.write(content);
  } else {
    await readLarge(file.path, item, sink, reading);
  }
  sink?.end();
}

function readSmall(fd: number, { entry, dataStart }: Item, reading: Reading): Buffer {
  const packed = Buffer.allocUnsafe(entry.compressedSize);
  if (readSync(fd, packed, 0, packed.length, dataStart) < packed.length)
    throw damaged('it ends too early', reading);
  const content = entry.compressionMethod === DEFLATED ? inflate(packed, entry, reading) : packed;
  hold(content.length, crc32(content), entry, reading);
  return content;
}

function inflate(packed: Buffer, entry: Entry, reading: Reading): Buffer {
  try {
    return inflateRawSync(packed, { maxOutputLength: Math.max(1, entry.uncompressedSize) });
  } catch (error) {
    if (errnoOf(error) === 'ERR_BUFFER_TOO_LARGE') throw wrongSize(entry, reading);
    throw error;
  }
}

async function readLarge(
  path: string,
  { entry, dataStart }: Item,
  sink: Sink | undefined,
  reading: Reading,
): Promise<void> {
  // By its path: a stream that is given our descriptor closes it when it is destroyed, autoClose or not.
  const source = createReadStream(path, {
    start: dataStart,
    end: dataStart + entry.compressedSize - 1,
    highWaterMark: CHUNK_BYTES,
  });
  const isPacked = entry.compressionMethod === DEFLATED;
  const stream = isPacked ? source.pipe(createInflateRaw({ chunkSize: CHUNK_BYTES })) : source;
  if (stream !== source) source.on('error', (error) => stream.destroy(error));
  let sum = 0;
  let length = 0;
  try {
    for await (const chunk of stream) {
      stopIfAsked(reading.signal, reading.subject);
      length += (chunk as Buffer).length;
      if (length > entry.uncompressedSize) throw wrongSize(entry, reading);
      sum = crc32(chunk as Buffer, sum);
      sink?.write(chunk as Buffer);
    }
  } finally {
    source.destroy();
    stream.destroy();
  }
  hold(length, sum, entry, reading);
}

/** What came out against what the directory says. */
function hold(length: number, sum: number, entry: Entry, reading: Reading): void {
  if (length !== entry.uncompressedSize) throw wrongSize(entry, reading);
  if (sum !== entry.crc32) refuse(reading, `its checksum does not fit: ${nameOf(entry, reading)} is damaged`);
}

function wrongSize(entry: Entry, reading: Reading): Error {
  return damaged(`${nameOf(entry, reading)} has not the ${entry.uncompressedSize} bytes it says`, reading);
}

function damaged(reason: string, reading: Reading, cause?: unknown): Error {
  const hint = 'Fetch it again, or make it again; unzip -t says whether a file is whole.';
  const why = `its zip data is damaged (${reason})`;
  return refusal('DDBG_ARCHIVE', 'read', reading.subject, why, hint, cause);
}

/** A symlink's content is its target. */
function readLink(fd: number, item: Item, reading: Reading): string {
  const { compressedSize, uncompressedSize } = item.entry;
  if (Math.max(compressedSize, uncompressedSize) > LONGEST_LINK_BYTES)
    refuse(reading, `the target of the symlink ${nameOf(item.entry, reading)} is too long`);
  return decodeName(readSmall(fd, item, reading));
}

function describe({ entry, owner }: Item, index: number, reading: Reading): ArchiveEntry {
  const name = nameOf(entry, reading);
  if (entry.isEncrypted())
    refuse(reading, `${name} is encrypted`, 'Make the archive again without a password.');
  if (entry.compressionMethod !== STORED && entry.compressionMethod !== DEFLATED) {
    refuse(
      reading,
      `${name} is compressed by method ${entry.compressionMethod}`,
      'Make the archive again with deflate, the default of zip.',
    );
  }
  const unix = unixMode(entry);
  const kind = kindOf(entry, name, unix, reading);
  return {
    index,
    name,
    kind,
    size: kind === 'directory' ? 0 : entry.uncompressedSize,
    mode: unix === 0 ? undefined : unix & 0o7777,
    mtimeMs: mtimeOf(entry),
    ...owner,
    linkTarget: undefined,
  };
}

/** 0 where there is none: `git archive` gives plain files no mode at all. */
function unixMode(entry: Entry): number {
  return isUnix(entry) ? entry.externalFileAttributes >>> 16 : 0;
}

function isUnix(entry: Entry): boolean {
  const madeBy = entry.versionMadeBy >> 8;
  return madeBy === UNIX || madeBy === OS_X;
}

function kindOf(entry: Entry, name: string, unix: number, reading: Reading): EntryKind {
  const type = unix & S_IFMT;
  if (type === 0 && !name.endsWith('/') && (entry.externalFileAttributes & DOS_DIRECTORY) !== 0)
    refuse(reading, `${name} is a directory by its DOS attributes, not by its name`);
  if (name.endsWith('/') || type === 0o040000) {
    if (entry.uncompressedSize > 0) refuse(reading, `the directory ${name} has content`);
    if (type !== 0 && type !== 0o040000)
      refuse(reading, `${name} is a directory by its name, not by its mode`);
    return 'directory';
  }
  const kind = type === 0 ? 'file' : KINDS.get(type);
  if (kind !== undefined) return kind;
  const why = `it holds a device, FIFO or socket, ${name}`;
  throw refusal('DDBG_UNSAFE', 'apply', reading.subject, why, 'Leave it out of the archive.');
}

/**
 * The extended timestamp 0x5455 (seconds, UTC) or NTFS's; what Info-ZIP had before it, macOS still writes and PKWARE
 * calls its own (0x5855, 0x000d: access, modification); else that of DOS: two seconds, in the zone of this process.
 */
function mtimeOf(entry: Entry): number | undefined {
  const hasUtc = [0x5455, 0x000a].some((id) => fieldOf(entry.extraFields, id) !== undefined);
  const older = fieldOf(entry.extraFields, 0x5855) ?? fieldOf(entry.extraFields, 0x000d);
  if (!hasUtc && older !== undefined && older.length >= 8) return older.readInt32LE(4) * 1000;
  const hasTime = entry.lastModFileDate !== 0 || fieldOf(entry.extraFields, 0x5455) !== undefined;
  const time = entry.getLastModDate().getTime();
  return hasTime && !Number.isNaN(time) ? time : undefined;
}

/** Info-ZIP's fields: 0x7875 has sizes and numbers; those before it, and PKWARE's, have 16 bits each, in the local header. */
function ownerOf(entry: Entry, local: readonly ExtraField[]): Owner {
  const current = fieldOf(entry.extraFields, 0x7875) ?? fieldOf(local, 0x7875);
  if (current !== undefined && current[0] === 1) {
    const uidBytes = current[1] ?? 0;
    return { uid: idAt(current, 2, uidBytes), gid: idAt(current, 3 + uidBytes, current[2 + uidBytes] ?? 0) };
  }
  const second = fieldOf(local, 0x7855);
  if (second !== undefined) return { uid: idAt(second, 0, 2), gid: idAt(second, 2, 2) };
  const first = fieldOf(local, 0x5855) ?? fieldOf(local, 0x000d); // after two times
  return first === undefined
    ? { uid: undefined, gid: undefined }
    : { uid: idAt(first, 8, 2), gid: idAt(first, 10, 2) };
}

/** Undefined where it is not whole, or above what Linux has. */
function idAt(data: Buffer, start: number, length: number): number | undefined {
  if (length < 1 || start + length > data.length) return undefined;
  const low = data.readUIntLE(start, Math.min(length, 4));
  const isSmall = data.subarray(start + 4, start + length).every((byte) => byte === 0);
  return isSmall && low < 0xffffffff ? low : undefined;
}

function fieldOf(fields: readonly ExtraField[], id: number): Buffer | undefined {
  return fields.find((field) => field.id === id)?.data;
}

function nameOf(entry: Entry, reading: Reading): string {
  const raw = entry.fileNameRaw;
  const declared = unicodePath(entry.extraFields, raw) ?? declaredName(entry);
  // Info-ZIP on unix writes the bytes of the name and no flag; DOS means cp437, or whatever was in use.
  const plain = isAscii(raw) || isUnix(entry) ? decodeName(raw) : undefined;
  const name = declared === undefined ? plain : utf8(declared);
  if (name === undefined) {
    return refuse(
      reading,
      `it holds a name that is not UTF-8, ${(declared ?? raw).toString('latin1')}`,
      'Make the archive again with UTF-8 names, or as tar.gz.',
    );
  }
  if (!name.includes('\\')) return name;
  const why = `it holds a name with a backslash, ${name}, a separator to some and a character to others`;
  const hint = 'Make the archive again with / between folders.';
  throw refusal('DDBG_UNSAFE', 'apply', reading.subject, why, hint);
}

function declaredName(entry: Entry): Buffer | undefined {
  return (entry.generalPurposeBitFlag & UTF8_FLAG) === 0 ? undefined : entry.fileNameRaw;
}

function isAscii(bytes: Buffer): boolean {
  return bytes.every((byte) => byte < 0x80);
}

/** Info-ZIP's extra field 0x7075: version, CRC of the plain name, the name in UTF-8. */
function unicodePath(fields: readonly ExtraField[], name: Buffer): Buffer | undefined {
  const field = fieldOf(fields, 0x7075);
  if (field === undefined || field.length < 6 || field[0] !== 1) return undefined;
  return field.readUInt32LE(1) === crc32(name) ? field.subarray(5) : undefined;
}

function rawNameOf(entry: Entry): Buffer {
  return unicodePath(entry.extraFields, entry.fileNameRaw) ?? entry.fileNameRaw;
}

function refuseMany(count: number, reading: Reading): void {
  if (count > reading.limits.entries)
    refuse(
      reading,
      `it holds ${count} entries; the limit entries is ${reading.limits.entries}`,
      moveLimit('entries'),
    );
}

function refuseLargeSizes(entries: readonly Entry[], reading: Reading): void {
  const { fileBytes, unpackedBytes } = reading.limits;
  let sum = 0;
  for (const entry of entries) {
    sum += entry.uncompressedSize;
    if (entry.uncompressedSize > fileBytes) {
      refuse(
        reading,
        `${nameOf(entry, reading)} is larger than the limit file-bytes, ${bytesText(fileBytes)}`,
        moveLimit('file-bytes'),
      );
    }
  }
  if (sum > unpackedBytes) {
    refuse(
      reading,
      `it unpacks to ${bytesText(sum)}; the limit unpacked-bytes is ${bytesText(unpackedBytes)}`,
      moveLimit('unpacked-bytes'),
    );
  }
}

/** Where each content is. Refuses local headers that say something else, and entries that share bytes. */
async function locate(
  zip: ZipFile,
  entries: readonly Entry[],
  directoryStart: number,
  reading: Reading,
): Promise<Item[]> {
  const turn = createTurns();
  const items: Item[] = [];
  for (const entry of entries) {
    await turn();
    stopIfAsked(reading.signal, reading.subject);
    const local = await zip.readLocalFileHeaderPromise(entry);
    if (!agrees(local, entry)) refuse(reading, `its two headers of ${nameOf(entry, reading)} do not agree`);
    const fields = fieldsOf(local);
    const localName = unicodePath(fields, local.fileName) ?? local.fileName;
    if (fieldOf(fields, 0x7075) !== undefined && !localName.equals(rawNameOf(entry)))
      refuse(reading, `its two headers of ${nameOf(entry, reading)} do not agree on its name`);
    const owner = ownerOf(entry, fields);
    items.push({ entry, dataStart: local.fileDataStart, owner });
  }
  const ranges = items.toSorted((one, other) => startOf(one) - startOf(other));
  for (const [index, range] of ranges.entries()) {
    const end = range.dataStart + range.entry.compressedSize;
    const next = ranges[index + 1];
    if (end > (next === undefined ? directoryStart : startOf(next)))
      refuse(reading, `its entries overlap (${nameOf(range.entry, reading)})`);
  }
  return items;
}

/** What aligns contents (zipalign) leaves rests there that are no fields; nothing depends on those. */
function fieldsOf(local: LocalFileHeader): readonly ExtraField[] {
  return attempt(() => parseExtraFields(local.extraField), []);
}

function startOf({ entry }: Item): number {
  return entry.relativeOffsetOfLocalHeader;
}

function agrees(local: LocalFileHeader, entry: Entry): boolean {
  const isLater = (entry.generalPurposeBitFlag & DESCRIPTOR_FLAG) !== 0; // its numbers follow the content
  return (
    local.fileName.equals(entry.fileNameRaw) &&
    local.compressionMethod === entry.compressionMethod &&
    (isLater || local.crc32 === entry.crc32)
  );
}

function anotherEntryFollows(zip: ZipFile, fd: number): boolean {
  const signature = Buffer.alloc(4);
  readSync(fd, signature, 0, 4, zip.readEntryCursor as unknown as number);
  return signature.readUInt32LE(0) === 0x02014b50;
}

function refuse(reading: Reading, why: string, hint = 'Make the archive again with zip.'): never {
  throw refusal('DDBG_ARCHIVE', 'read', reading.subject, why, hint);
}
