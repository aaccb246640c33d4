/**
 * zstd: Node's own where it has it (22.15, 23.8), else fzstd; the only user of that.
 *
 * We find the frames ourselves and give each to a decompressor of its own. Node's reads the first and drops the rest
 * without a word (pzstd and skippable frames: the whole archive), and on 22 takes a frame that is cut for a whole one;
 * all measured on 22.23 and 24.21. fzstd checks no checksum, so that damage would pass: only with #sha256=.
 */
import { closeSync, openSync } from 'node:fs';
import { Readable, type Transform } from 'node:stream';
import * as zlib from 'node:zlib';
import type { Reading } from './archive.ts';
import { type Bytes, bytesOf, CHUNK_BYTES, damaged, somethingFollows, type Unpack } from './decompress.ts';
import { refusal, stopIfAsked } from './subject.ts';
import { createTurns } from './turns.ts';
import { bytesText } from './units.ts';

const MAGIC = 0xfd2fb528;
const FIRST_SKIPPABLE = 0x184d2a50;
const LARGEST_WINDOW = 128 * 1024 * 1024; // what `zstd -d` takes without --long, and Node too
const RLE_BLOCK = 1;
const RESERVED_BLOCK = 3;

/** @types/node 20 has it not. */
const { createZstdDecompress } = zlib as {
  createZstdDecompress?: (options: { chunkSize: number }) => Transform;
};

type DecodeFrame = (pieces: Iterable<Buffer>) => AsyncIterable<Buffer> | Iterable<Buffer>;

export const unzstd: Unpack = async function* (path, reading) {
  const decodeFrame = createZstdDecompress === undefined ? await fallback(reading) : decodeByNode;
  const fd = openSync(path, 'r');
  const turn = createTurns();
  try {
    const bytes = bytesOf(fd, 'zstd', reading);
    do {
      const frame = openFrame(bytes, reading);
      if (frame.isSkippable) for (const _ of frame.pieces) await turn();
      else yield* decodeFrame(frame.pieces);
      await turn();
      stopIfAsked(reading.signal, reading.subject);
    } while (isMore(bytes, reading));
  } catch (error) {
    throw damaged('zstd', reading, error);
  } finally {
    closeSync(fd);
  }
};

async function* decodeByNode(pieces: Iterable<Buffer>): AsyncGenerator<Buffer> {
  const source = Readable.from(gather(pieces), { objectMode: true, highWaterMark: 1 });
  const stream = createZstdDecompress?.({ chunkSize: CHUNK_BYTES }) as Transform;
  source.on('error', (error) => stream.destroy(error));
  try {
    for await (const chunk of source.pipe(stream)) yield chunk as Buffer;
  } finally {
    source.destroy();
    stream.destroy();
  }
}

async function fallback(reading: Reading): Promise<DecodeFrame> {
  if (!reading.isVerified) {
    const why = `it is a zstd file, and Node ${process.versions.node} cannot check its checksums (22.15 can)`;
    const hint = 'Give its digest with #sha256=, or pack it as .tar.gz.';
    throw refusal('DDBG_ARCHIVE', 'read', reading.subject, why, hint);
  }
  const { Decompress } = await import('fzstd');
  return async function* (pieces) {
    // Block by block, each of at most 128 kB when it is unpacked: it gives all that a push holds at once.
    const turn = createTurns();
    const ready: Buffer[] = [];
    const stream = new Decompress((piece) => ready.push(Buffer.from(piece)));
    for (const piece of pieces) {
      stream.push(piece);
      for (const chunk of ready.splice(0)) yield chunk;
      await turn();
      stopIfAsked(reading.signal, reading.subject);
    }
    stream.push(new Uint8Array(0), true); // it holds less than 18 bytes back until then
    yield* ready;
  };
}

/** Nothing, zeros, or another frame. */
function isMore(bytes: Bytes, reading: Reading): boolean {
  const next = bytes.some(1);
  if (next.length === 0) return false;
  bytes.putBack(next);
  if (next[0] !== 0) return true;
  if (bytes.skipZeros()) throw somethingFollows('zstd', reading);
  return false;
}

/** RFC 8878, 3.1: a frame with data, or one to be skipped. */
function openFrame(bytes: Bytes, reading: Reading): { isSkippable: boolean; pieces: Iterable<Buffer> } {
  const magic = bytes.upTo(4);
  const number = magic.length === 4 ? magic.readUInt32LE(0) : 0;
  if (number === MAGIC) return { isSkippable: false, pieces: readFrame(magic, bytes, reading) };
  if ((number & 0xfffffff0) !== FIRST_SKIPPABLE) throw somethingFollows('zstd', reading);
  return { isSkippable: true, pieces: pass(bytes.take(4).readUInt32LE(0), bytes) };
}

function* readFrame(magic: Buffer, bytes: Bytes, reading: Reading): Generator<Buffer> {
  const { header, hasChecksum } = readFrameHeader(bytes, reading);
  yield magic;
  yield header;
  for (let isLast = false; !isLast; ) {
    const head = bytes.take(3);
    const block = head.readUIntLE(0, 3);
    const type = (block >> 1) & 3;
    if (type === RESERVED_BLOCK) throw new Error('a block of an unknown type');
    isLast = (block & 1) !== 0;
    yield head;
    yield* pass(type === RLE_BLOCK ? 1 : block >> 3, bytes);
  }
  if (hasChecksum) yield bytes.take(4);
}

function readFrameHeader(bytes: Bytes, reading: Reading): { header: Buffer; hasChecksum: boolean } {
  const descriptor = bytes.take(1);
  const flags = descriptor.readUInt8(0);
  const isSingle = (flags & 0x20) !== 0;
  const dictionary = bytes.take((isSingle ? 0 : 1) + ([0, 1, 2, 4][flags & 3] ?? 0));
  const content = bytes.take([isSingle ? 1 : 0, 2, 4, 8][flags >> 6] ?? 0);
  if ((flags & 3) !== 0 && dictionary.subarray(isSingle ? 0 : 1).some((byte) => byte !== 0)) {
    const hint = 'Make it again without a dictionary, or as .tar.gz.';
    throw refusal('DDBG_ARCHIVE', 'read', reading.subject, 'it was compressed with a dictionary', hint);
  }
  // Without a window of its own a frame needs its whole content at hand.
  const window = isSingle ? contentBytes(content) : windowBytes(dictionary.readUInt8(0));
  if (window > LARGEST_WINDOW) {
    const why = `its zstd window is ${bytesText(window)}; the largest that can be read is 128 MiB`;
    const hint = 'Make it again without --long and --ultra, or with --long=27 at most.';
    throw refusal('DDBG_ARCHIVE', 'read', reading.subject, why, hint);
  }
  return { header: Buffer.concat([descriptor, dictionary, content]), hasChecksum: (flags & 4) !== 0 };
}

function contentBytes(field: Buffer): number {
  return field.length === 8 ? Number(field.readBigUInt64LE(0)) : field.readUIntLE(0, field.length);
}

function windowBytes(descriptor: number): number {
  const base = 2 ** (10 + (descriptor >> 3));
  return base + (base / 8) * (descriptor & 7);
}

function* pass(count: number, bytes: Bytes): Generator<Buffer> {
  for (let left = count; left > 0; ) {
    const piece = bytes.take(Math.min(left, CHUNK_BYTES));
    left -= piece.length;
    yield piece;
  }
}

/** A block header has 3 bytes, and each piece costs a way into another thread and back. */
function* gather(pieces: Iterable<Buffer>): Generator<Buffer> {
  let held: Buffer[] = [];
  let length = 0;
  for (const piece of pieces) {
    held.push(piece);
    length += piece.length;
    if (length < CHUNK_BYTES) continue;
    yield Buffer.concat(held);
    held = [];
    length = 0;
  }
  if (length > 0) yield Buffer.concat(held);
}
