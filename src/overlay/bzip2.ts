/**
 * bzip2, decoded here. No library does it safely: seek-bzip 2.0, unbzip2-stream 1.4 and what is built on them add up a
 * run's length without a limit, so that 32 crafted symbols make it negative and they loop for ever; nor do they hold
 * back their output. The format has no specification; this follows its authors' decompress.c. Each block's and each
 * stream's checksum is held against the data.
 */
import type { Reading } from './archive.ts';
import { type Bytes, CHUNK_BYTES, somethingFollows, truncated, unpackInTurns } from './decompress.ts';
import { refusal } from './subject.ts';

const BLOCK_MAGIC = 0x314159265359;
const END_MAGIC = 0x177245385090;
const LONGEST_CODE = 20;
const GROUP_SYMBOLS = 50;
const RUN_A = 0;
const RUN_B = 1;
const LONGEST_RUN_BIT = 1 << 20; // a block has at most 900,000 bytes

export const bunzip2 = unpackInTurns('bzip2', decodeStreams);

function* decodeStreams(bytes: Bytes, reading: Reading): Generator<Buffer> {
  do {
    const magic = bytes.upTo(4).toString('latin1');
    if (!/^BZh[1-9]$/.test(magic)) throw somethingFollows('bzip2', reading);
    const bits = createBits(bytes, reading);
    yield* decodeStream(bits, Number(magic[3]) * 100_000, reading);
    bits.close();
  } while (bytes.skipZeros());
}

function* decodeStream(bits: Bits, blockBytes: number, reading: Reading): Generator<Buffer> {
  const block = createBlock(blockBytes);
  let streamSum = 0;
  for (;;) {
    const magic = bits.read(24) * 2 ** 24 + bits.read(24);
    const sum = (bits.read(16) << 16) | bits.read(16);
    if (magic === END_MAGIC) {
      if (sum !== streamSum) throw new Error('the checksum of a stream does not fit');
      yield Buffer.alloc(0);
      return;
    }
    if (magic !== BLOCK_MAGIC) throw new Error('a block does not start as one');
    readBlock(bits, block, reading);
    sortBack(block);
    yield* writeBlock(block, sum);
    streamSum = sum ^ ((streamSum << 1) | (streamSum >>> 31));
  }
}

interface Bits {
  /** Up to 24 bits. */
  read(count: number): number;
  /** The next LONGEST_CODE bits, without taking them; zeros where the file has ended. */
  peek(): number;
  drop(count: number): void;
  /** Puts back the whole bytes that were not used. */
  close(): void;
}

/** Most significant bit first. */
function createBits(bytes: Bytes, reading: Reading): Bits {
  let chunk: Buffer = Buffer.alloc(0);
  let at = 0;
  let window = 0;
  let available = 0;
  let missing = 0; // bits in the window that the file does not have
  const nextByte = (): number => {
    if (at === chunk.length) {
      chunk = bytes.some(CHUNK_BYTES);
      at = 0;
    }
    if (chunk.length === 0) missing += 8;
    const byte = chunk[at] ?? 0;
    at += 1;
    return byte;
  };
  const fill = (): void => {
    while (available <= 24) {
      window = (window << 8) | nextByte();
      available += 8;
    }
  };
  const drop = (count: number): void => {
    available -= count;
    if (available < missing) throw truncated('bzip2', reading);
  };
  return {
    drop,
    peek() {
      if (available < LONGEST_CODE) fill();
      return (window >>> (available - LONGEST_CODE)) & ((1 << LONGEST_CODE) - 1);
    },
    read(count) {
      if (available < count) fill();
      const value = (window >>> (available - count)) & ((1 << count) - 1);
      drop(count);
      return value;
    },
    close() {
      const rest: number[] = [];
      for (let left = available - (available % 8); left > missing; left -= 8)
        rest.push((window >>> (left - 8)) & 0xff);
      bytes.putBack(chunk.subarray(at));
      bytes.putBack(Buffer.from(rest));
    },
  };
}

interface Block {
  /** While it is read: bytes. Then in the upper 24 bits where the next one is. */
  readonly cells: Int32Array;
  count: number;
  origin: number;
}

function createBlock(bytes: number): Block {
  return { cells: new Int32Array(bytes), count: 0, origin: 0 };
}

/** Undoes the Huffman codes and the moves to the front. */
function readBlock(bits: Bits, block: Block, reading: Reading): void {
  if (bits.read(1) === 1) {
    const hint = 'Make it again with a bzip2 younger than 1998.';
    throw refusal('DDBG_ARCHIVE', 'read', reading.subject, 'it was made by a bzip2 before 0.9.5', hint);
  }
  block.origin = bits.read(24);
  const used = readUsedBytes(bits);
  if (used.length === 0) throw new Error('a block without bytes');
  const groups = bits.read(3);
  if (groups < 2 || groups > 6) throw new Error('a number of Huffman tables that cannot be');
  const selectors = readSelectors(bits, groups);
  const tables = Array.from({ length: groups }, () => readTable(bits, used.length + 2));
  readSymbols(bits, block, used, selectors, tables);
}

function readUsedBytes(bits: Bits): Uint8Array {
  const used: number[] = [];
  const rows = bits.read(16);
  for (let row = 0; row < 16; row += 1) {
    if ((rows & (0x8000 >> row)) === 0) continue;
    const columns = bits.read(16);
    for (let column = 0; column < 16; column += 1) {
      if ((columns & (0x8000 >> column)) !== 0) used.push(row * 16 + column);
    }
  }
  return Uint8Array.from(used);
}

/** Which table each 50 symbols are coded by, moved to the front each time. */
function readSelectors(bits: Bits, groups: number): Uint8Array {
  const selectors = new Uint8Array(bits.read(15));
  const order = Uint8Array.from({ length: groups }, (_, index) => index);
  for (let index = 0; index < selectors.length; index += 1) {
    let place = 0;
    while (bits.read(1) === 1) {
      place += 1;
      if (place >= groups) throw new Error('a Huffman table that is not there');
    }
    selectors[index] = moveToFront(order, place);
  }
  return selectors;
}

function moveToFront(order: Uint8Array, place: number): number {
  const found = order[place] as number;
  if (place > 16) order.copyWithin(1, 0, place);
  else for (let index = place; index > 0; index -= 1) order[index] = order[index - 1] as number;
  order[0] = found;
  return found;
}

interface Table {
  /** For each length of a code: the first number of LONGEST_CODE bits that is above all codes up to this length. */
  readonly limits: Uint32Array;
  /** What to subtract from a code of this length for its place among the symbols. */
  readonly bases: Int32Array;
  readonly symbols: Uint16Array;
  readonly shortest: number;
}

function readTable(bits: Bits, symbols: number): Table {
  const lengths = new Uint8Array(symbols);
  let length = bits.read(5);
  for (let symbol = 0; symbol < symbols; symbol += 1) {
    for (let steps = 0; bits.read(1) === 1; steps += 1) {
      length += bits.read(1) === 0 ? 1 : -1;
      if (steps === LONGEST_CODE) throw new Error('a Huffman code of a length that goes up and down');
    }
    if (length < 1 || length > LONGEST_CODE) throw new Error('a Huffman code of a length that cannot be');
    lengths[symbol] = length;
  }
  return makeTable(lengths);
}

function makeTable(lengths: Uint8Array): Table {
  const limits = new Uint32Array(LONGEST_CODE + 2);
  const bases = new Int32Array(LONGEST_CODE + 2);
  const symbols: number[] = [];
  let code = 0;
  for (let length = 1; length <= LONGEST_CODE; length += 1) {
    bases[length] = code - symbols.length;
    lengths.forEach((other, symbol) => {
      if (other === length) symbols.push(symbol);
    });
    code = (bases[length] as number) + symbols.length;
    limits[length] = code * 2 ** (LONGEST_CODE - length);
    code *= 2;
  }
  return { limits, bases, symbols: Uint16Array.from(symbols), shortest: Math.min(...lengths) };
}

function readSymbols(
  bits: Bits,
  block: Block,
  used: Uint8Array,
  selectors: Uint8Array,
  tables: readonly Table[],
): void {
  const { cells } = block;
  const order = Uint8Array.from(used);
  const end = used.length + 1;
  let count = 0;
  let runBit = 1;
  let run = 0;
  for (const selector of selectors) {
    const table = tables[selector] as Table;
    for (let left = GROUP_SYMBOLS; left > 0; left -= 1) {
      const symbol = readSymbol(bits, table);
      if (symbol === RUN_A || symbol === RUN_B) {
        if (runBit > LONGEST_RUN_BIT) throw new Error('a run longer than its block');
        run += symbol === RUN_A ? runBit : 2 * runBit;
        runBit *= 2;
        continue;
      }
      if (run > 0) {
        if (count + run > cells.length) throw new Error('a block longer than it may be');
        cells.fill(order[0] as number, count, count + run);
        count += run;
        run = 0;
        runBit = 1;
      }
      if (symbol === end) {
        block.count = count;
        return;
      }
      if (count >= cells.length) throw new Error('a block longer than it may be');
      cells[count] = moveToFront(order, symbol - 1);
      count += 1;
    }
  }
  throw new Error('a block without an end');
}

function readSymbol(bits: Bits, { limits, bases, symbols, shortest }: Table): number {
  const code = bits.peek();
  let length = shortest;
  while (length <= LONGEST_CODE && code >= (limits[length] as number)) length += 1;
  const symbol = symbols[(code >>> (LONGEST_CODE - length)) - (bases[length] as number)];
  if (length > LONGEST_CODE || symbol === undefined)
    throw new Error('a Huffman code that is not in its table');
  bits.drop(length);
  return symbol;
}

/** Undoes the Burrows-Wheeler transform: each cell then says where the next byte is. */
function sortBack({ cells, count, origin }: Block): void {
  if (origin >= count) throw new Error('a block that starts outside itself');
  const places = new Int32Array(257);
  for (let index = 0; index < count; index += 1) {
    const after = ((cells[index] as number) & 0xff) + 1;
    places[after] = (places[after] as number) + 1;
  }
  for (let byte = 1; byte <= 256; byte += 1)
    places[byte] = (places[byte] as number) + (places[byte - 1] as number);
  for (let index = 0; index < count; index += 1) {
    const byte = (cells[index] as number) & 0xff;
    const place = places[byte] as number;
    places[byte] = place + 1;
    cells[place] = (cells[place] as number) | (index << 8);
  }
}

function* writeBlock(block: Block, expected: number): Generator<Buffer> {
  const place: Place = {
    cell: block.cells[block.origin] as number,
    left: block.count,
    sum: -1,
    previous: -1,
    equal: 0,
  };
  while (place.left > 0) {
    const output = Buffer.allocUnsafe(CHUNK_BYTES);
    yield output.subarray(0, writePiece(block.cells, place, output));
  }
  if (~place.sum !== expected) throw new Error('the checksum of a block does not fit');
}

interface Place {
  cell: number;
  left: number;
  sum: number;
  previous: number;
  equal: number;
}

/** Four equal bytes are followed by how many more there are. Not a generator: those are several times as slow here. */
function writePiece(cells: Int32Array, place: Place, output: Buffer): number {
  let { cell, left, sum, previous, equal } = place;
  let length = 0;
  const full = output.length - 255;
  while (left > 0 && length < full) {
    left -= 1;
    cell = cells[cell >> 8] as number;
    const byte = cell & 0xff;
    let copies = 1;
    if (equal === 4) {
      copies = byte;
      equal = 0;
    } else {
      equal = byte === previous ? equal + 1 : 1;
      previous = byte;
    }
    for (; copies > 0; copies -= 1) {
      sum = (sum << 8) ^ (CRC_TABLE[(sum >>> 24) ^ previous] as number);
      output[length] = previous;
      length += 1;
    }
  }
  Object.assign(place, { cell, left, sum, previous, equal });
  return length;
}

/** CRC-32 with the most significant bit first: not that of zlib. */
const CRC_TABLE = Int32Array.from({ length: 256 }, (_, byte) => {
  let value = byte << 24;
  for (let bit = 0; bit < 8; bit += 1) value = value < 0 ? (value << 1) ^ 0x04c11db7 : value << 1;
  return value;
});
