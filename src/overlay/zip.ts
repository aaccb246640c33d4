/**
 * Reads zip with yauzl; the only user of it. yauzl believes the central directory, so what that says is held against
 * the local headers and against itself before anything is inflated: 34 kB with overlapping entries inflate to 5 GB.
 * It checks sizes, not checksums: the CRC is ours.
 */
import type { Readable } from 'node:stream';
import { crc32 } from 'node:zlib';
import { type Entry, openPromise, type ZipFile } from 'yauzl';
import { EntryError, reasonOf } from '../errors.ts';
import type { ArchiveEntry, EntryKind, ReadArchive, Reading, Sink, Visit } from './archive.ts';
import { utf8 } from './pax.ts';
import { refusal, stopIfAsked } from './subject.ts';
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
const UTF8_FLAG = 0x800;
const DESCRIPTOR_FLAG = 0x8;
const LONGEST_LINK_BYTES = 4095;

export const readZip: ReadArchive = async (path, visit, reading) => {
  try {
    // decodeStrings: false, or yauzl turns `\` into `/` and names without a flag into cp437.
    const zip = await openPromise(path, { autoClose: false, decodeStrings: false });
    try {
      await readAll(zip, visit, reading);
    } finally {
      zip.close();
    }
  } catch (error) {
    if (error instanceof EntryError) throw error;
    const hint = 'Fetch it again, or make it again; unzip -t says whether a file is whole.';
    throw refusal(
      'DDBG_ARCHIVE',
      'read',
      reading.subject,
      `its zip data is damaged (${reasonOf(error)})`,
      hint,
      error,
    );
  }
};

async function readAll(zip: ZipFile, visit: Visit, reading: Reading): Promise<void> {
  const directoryStart = zip.readEntryCursor as unknown as number; // the types say boolean; it is an offset
  refuseMany(zip.entryCount, reading);
  const entries: Entry[] = [];
  for await (const entry of zip.eachEntry()) {
    stopIfAsked(reading.signal, reading.subject);
    entries.push(entry);
  }
  refuseLargeSizes(entries, reading);
  await refuseLies(zip, entries, directoryStart, reading);
  for (const [index, entry] of entries.entries()) await readOne(zip, entry, index, visit, reading);
}

async function readOne(
  zip: ZipFile,
  entry: Entry,
  index: number,
  visit: Visit,
  reading: Reading,
): Promise<void> {
  const described = describe(entry, index, reading);
  if (described.kind === 'directory') {
    visit(described);
  } else if (described.kind === 'symlink') {
    visit({ ...described, size: 0, linkTarget: await readLink(zip, entry, reading) });
  } else {
    await readContent(zip, entry, visit(described), reading);
  }
}

async function readContent(
  zip: ZipFile,
  entry: Entry,
  sink: Sink | undefined,
  reading: Reading,
): Promise<void> {
  const stream: Readable = await zip.openReadStreamPromise(entry);
  let sum = 0;
  for await (const chunk of stream) {
    stopIfAsked(reading.signal, reading.subject);
    sum = crc32(chunk as Buffer, sum);
    sink?.write(chunk as Buffer);
  }
  if (sum !== entry.crc32) refuse(reading, `its checksum does not fit: ${nameOf(entry, reading)} is damaged`);
  sink?.end();
}

/** A symlink's content is its target. */
async function readLink(zip: ZipFile, entry: Entry, reading: Reading): Promise<string> {
  const name = nameOf(entry, reading);
  if (entry.uncompressedSize > LONGEST_LINK_BYTES)
    refuse(reading, `the target of the symlink ${name} is too long`);
  const chunks: Uint8Array[] = [];
  await readContent(zip, entry, { write: (chunk) => void chunks.push(chunk), end: () => {} }, reading);
  return utf8(Buffer.concat(chunks)) ?? refuse(reading, `the target of the symlink ${name} is not UTF-8`);
}

function describe(entry: Entry, index: number, reading: Reading): ArchiveEntry {
  const name = nameOf(entry, reading);
  if (entry.isEncrypted())
    refuse(reading, `${name} is encrypted`, 'Make the archive again without a password.');
  if (entry.compressionMethod !== 0 && entry.compressionMethod !== 8) {
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
    linkTarget: undefined,
  };
}

/** 0 where there is none: `git archive` gives plain files no mode at all. */
function unixMode(entry: Entry): number {
  const madeBy = entry.versionMadeBy >> 8;
  return madeBy === UNIX || madeBy === OS_X ? entry.externalFileAttributes >>> 16 : 0;
}

function kindOf(entry: Entry, name: string, unix: number, reading: Reading): EntryKind {
  const type = unix & S_IFMT;
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

function mtimeOf(entry: Entry): number | undefined {
  const time = entry.getLastModDate().getTime();
  return Number.isNaN(time) ? undefined : time;
}

function nameOf(entry: Entry, reading: Reading): string {
  const raw = unicodePath(entry) ?? entry.fileNameRaw;
  const ascii = raw.every((byte) => byte < 0x80);
  const madeBy = entry.versionMadeBy >> 8;
  const declared = raw !== entry.fileNameRaw || (entry.generalPurposeBitFlag & UTF8_FLAG) !== 0;
  // Info-ZIP on unix writes the bytes of the name and no flag; DOS means cp437, or whatever was in use.
  const name = ascii || declared || madeBy === UNIX || madeBy === OS_X ? utf8(raw) : undefined;
  if (name === undefined) {
    refuse(
      reading,
      `it holds a name that is not UTF-8, ${raw.toString('latin1')}`,
      'Make the archive again with UTF-8 names, or as tar.gz.',
    );
  } else if (name.includes('\\')) {
    const why = `it holds a name with a backslash, ${name}, a separator to some and a character to others`;
    throw refusal(
      'DDBG_UNSAFE',
      'apply',
      reading.subject,
      why,
      'Make the archive again with / between folders.',
    );
  }
  return name as string;
}

/** Info-ZIP's extra field 0x7075: version, CRC of the plain name, the name in UTF-8. */
function unicodePath(entry: Entry): Buffer | undefined {
  const field = entry.extraFields.find((extra) => extra.id === 0x7075)?.data;
  if (field === undefined || field.length < 6 || field[0] !== 1) return undefined;
  return field.readUInt32LE(1) === crc32(entry.fileNameRaw) ? field.subarray(5) : undefined;
}

function refuseMany(count: number, reading: Reading): void {
  if (count > reading.limits.entries)
    refuse(reading, `it holds ${count} entries; the limit is ${reading.limits.entries}`);
}

function refuseLargeSizes(entries: readonly Entry[], reading: Reading): void {
  const { fileBytes, unpackedBytes } = reading.limits;
  let sum = 0;
  for (const entry of entries) {
    sum += entry.uncompressedSize;
    if (entry.uncompressedSize > fileBytes) {
      refuse(
        reading,
        `${nameOf(entry, reading)} is larger than the limit fileBytes, ${bytesText(fileBytes)}`,
      );
    }
  }
  if (sum > unpackedBytes) {
    refuse(
      reading,
      `it unpacks to ${bytesText(sum)}; the limit unpackedBytes is ${bytesText(unpackedBytes)}`,
    );
  }
}

/** Local headers that say something else, entries that share bytes, entries the count does not count. */
async function refuseLies(
  zip: ZipFile,
  entries: readonly Entry[],
  directoryStart: number,
  reading: Reading,
): Promise<void> {
  const ranges: { start: number; end: number; entry: Entry }[] = [];
  for (const entry of entries) {
    stopIfAsked(reading.signal, reading.subject);
    const local = await zip.readLocalFileHeaderPromise(entry);
    const same =
      local.fileName.equals(entry.fileNameRaw) &&
      local.compressionMethod === entry.compressionMethod &&
      ((entry.generalPurposeBitFlag & DESCRIPTOR_FLAG) !== 0 || local.crc32 === entry.crc32);
    if (!same) refuse(reading, `its two headers of ${nameOf(entry, reading)} do not agree`);
    ranges.push({
      start: entry.relativeOffsetOfLocalHeader,
      end: local.fileDataStart + entry.compressedSize,
      entry,
    });
  }
  ranges.sort((one, other) => one.start - other.start);
  for (const [index, range] of ranges.entries()) {
    if (range.end > (ranges[index + 1]?.start ?? directoryStart)) {
      refuse(reading, `its entries overlap (${nameOf(range.entry, reading)})`);
    }
  }
  if (await anotherEntryFollows(zip)) refuse(reading, 'it holds more entries than it says');
}

async function anotherEntryFollows(zip: ZipFile): Promise<boolean> {
  const cursor = zip.readEntryCursor as unknown as number;
  if (cursor + 4 > zip.fileSize) return false;
  const { reader } = zip as unknown as { reader: { read(...args: unknown[]): void } };
  const buffer = Buffer.alloc(4);
  await new Promise<void>((resolve, reject) => {
    reader.read(buffer, 0, 4, cursor, (error: Error | null) => (error ? reject(error) : resolve()));
  });
  return buffer.readUInt32LE(0) === 0x02014b50;
}

function refuse(reading: Reading, why: string, hint = 'Make the archive again with zip.'): never {
  throw refusal('DDBG_ARCHIVE', 'read', reading.subject, why, hint);
}
