/**
 * The archives of the overlay bench, the same bytes on every machine: a tree of many files of mixed size, half of
 * them random and half text, so that gzip halves it as it does a real tree of programs; and a patch of one file.
 */
import { createCipheriv } from 'node:crypto';
import { createWriteStream, statSync, writeFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { crc32, createGzip, deflateRawSync } from 'node:zlib';
import { Header } from 'tar';

export const FILES = 10_000;
/** For the question whether time is linear in files: of 1 kB each. */
export const SCALES = [1_000, 10_000, 100_000];
const SCALE_BYTES = 1_000;
const LARGE_FILES = 200;
const LARGE_FILE_BYTES = 10_000_000;
const FILES_A_FOLDER = 100;
/** Sizes are spread evenly over the powers between these: many small files, few large ones, 15 kB on average. */
const SMALLEST_BYTES = 256;
const LARGEST_BYTES = 88_000;
const PATCH_BYTES = 200_000;
const BLOCK = 512;
const WRITTEN_AT = new Date('2024-01-01T00:00:00Z');

/** @returns its size, unpacked and packed */
export async function writeTreeTarGz(path) {
  let bytes = 0;
  async function* blocks() {
    const random = createRandom('tree');
    for (let index = 0; index < FILES; index += 1) {
      const content = index % 2 === 0 ? random.bytes(sizeOf(random)) : random.text(sizeOf(random));
      bytes += content.length;
      yield tarEntry(`usr/share/bench/${Math.floor(index / FILES_A_FOLDER)}/${index}`, content);
    }
    yield Buffer.alloc(2 * BLOCK);
  }
  await pipeline(Readable.from(blocks()), createGzip(), createWriteStream(path));
  return { bytes, compressedBytes: statSync(path).size };
}

export async function writeScaleTarGz(path, files) {
  function* blocks() {
    const random = createRandom('scale');
    for (let index = 0; index < files; index += 1) {
      yield tarEntry(
        `usr/share/bench/${Math.floor(index / FILES_A_FOLDER)}/${index}`,
        random.text(SCALE_BYTES),
      );
    }
    yield Buffer.alloc(2 * BLOCK);
  }
  await pipeline(Readable.from(blocks()), createGzip({ level: 1 }), createWriteStream(path));
}

/** 2 GB, not compressed: what passes through us is what counts. @returns its files and bytes */
export async function writeLargeTar(path) {
  function* blocks() {
    const content = createRandom('large').bytes(LARGE_FILE_BYTES);
    for (let index = 0; index < LARGE_FILES; index += 1) yield tarEntry(`usr/share/bench/${index}`, content);
    yield Buffer.alloc(2 * BLOCK);
  }
  await pipeline(Readable.from(blocks()), createWriteStream(path));
  return { files: LARGE_FILES, bytes: LARGE_FILES * LARGE_FILE_BYTES };
}

function sizeOf(random) {
  return Math.round(SMALLEST_BYTES * (LARGEST_BYTES / SMALLEST_BYTES) ** random.fraction());
}

function tarEntry(name, content) {
  const entry = Buffer.alloc(BLOCK + Math.ceil(content.length / BLOCK) * BLOCK);
  new Header({ path: name, mode: 0o644, size: content.length, type: 'File', mtime: WRITTEN_AT }).encode(
    entry,
    0,
  );
  content.copy(entry, BLOCK);
  return entry;
}

export function writePatchZip(path) {
  const content = createRandom('patch').bytes(PATCH_BYTES);
  const name = Buffer.from('usr/share/bench/patched');
  const packed = deflateRawSync(content);
  const fields = Buffer.alloc(26); // what the local and the central header have in common
  fields.writeUInt16LE(20, 0); // version needed
  fields.writeUInt16LE(8, 4); // deflate
  fields.writeUInt32LE(0x58210000, 6); // 2024-01-01
  fields.writeUInt32LE(crc32(content), 10);
  fields.writeUInt32LE(packed.length, 14);
  fields.writeUInt32LE(content.length, 18);
  fields.writeUInt16LE(name.length, 22);
  const local = Buffer.concat([Buffer.from('PK\x03\x04'), fields, name, packed]);
  // Made by version 2.0; no comment, disk, attributes; at offset 0.
  const central = Buffer.concat([Buffer.from('PK\x01\x02\x14\x00'), fields, Buffer.alloc(14), name]);
  const end = Buffer.concat([Buffer.from('PK\x05\x06'), Buffer.alloc(18)]);
  end.writeUInt16LE(1, 8);
  end.writeUInt16LE(1, 10);
  end.writeUInt32LE(central.length, 12);
  end.writeUInt32LE(local.length, 16);
  writeFileSync(path, Buffer.concat([local, central, end]));
}

/** A keystream is as good as random for gzip, fast, and the same everywhere. */
function createRandom(seed) {
  const cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16, seed), Buffer.alloc(16));
  const bytes = (length) => cipher.update(Buffer.alloc(length));
  // 64 lines in random order: gzip makes little of them.
  const lines = Array.from({ length: 64 }, () => `${bytes(30).toString('hex')}\n`);
  return {
    bytes,
    fraction: () => bytes(4).readUInt32LE() / 2 ** 32,
    text: (length) => {
      const picked = Array.from(bytes(Math.ceil(length / 61)), (byte) => lines[byte % 64]);
      return Buffer.from(picked.join('')).subarray(0, length);
    },
  };
}
