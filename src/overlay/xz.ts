/**
 * xz, with the wasm of xz-decompress (xz-embedded); the only user of it. Not by its XzReadableStream, which keeps the
 * wasm's memory as long as the process lives and tells errors as text: we drive the same four functions of its wasm. It
 * reads several streams and the zeros between them (in fours, as xz has it), and checks CRC32, CRC64 and the index; it
 * has room for dictionaries of up to 64 MiB, what `xz -9` takes.
 */
import type { Reading } from './archive.ts';
import { type Bytes, somethingFollows, truncated, unpackInTurns } from './decompress.ts';
import { refusal } from './subject.ts';

/** xz.h of xz-embedded: enum xz_ret. */
const OK = 0;
const STREAM_END = 1;
const FORMAT_ERROR = 5;
const BUF_ERROR = 8;
const REASONS: Readonly<Record<number, string>> = {
  2: 'it uses a check that cannot be read here (only CRC32 and CRC64)',
  3: 'there is not enough memory for its dictionary',
  4: 'its dictionary is larger than 64 MiB, what xz -9 takes',
  6: 'it uses a filter or a check that cannot be read here (only LZMA2 and BCJ, CRC32 and CRC64)',
};
const REPACK = 'Make it again with xz -9 and no other options, or as .tar.gz.';

interface Wasm {
  readonly memory: { readonly buffer: ArrayBuffer };
  create_context(): number;
  destroy_context(context: number): void;
  supply_input(context: number, length: number): void;
  get_next_output(context: number): number;
}

export const unxz = unpackInTurns('xz', async (bytes, reading) => decode(await loadWasm(), bytes, reading));

/** A fresh one each time: memory of wasm only grows, and this process may live for weeks. */
async function loadWasm(): Promise<Wasm> {
  const module = (await import('xz-decompress')) as unknown as { default?: Library } & Library;
  const { XzReadableStream } = module.default ?? module;
  await XzReadableStream._getModuleInstance();
  const { exports } = XzReadableStream._moduleInstance ?? {};
  delete XzReadableStream._moduleInstance;
  return exports as Wasm;
}

interface Library {
  readonly XzReadableStream: {
    _getModuleInstance(): Promise<void>;
    _moduleInstance?: { readonly exports: unknown };
  };
}

function* decode(wasm: Wasm, bytes: Bytes, reading: Reading): Generator<Buffer> {
  const context = wasm.create_context();
  const at = layoutOf(wasm, context);
  for (;;) {
    const input = bytes.some(at.bufferBytes);
    new Uint8Array(wasm.memory.buffer, at.input).set(input);
    wasm.supply_input(context, input.length); // nothing: that was all, and only then it says that it is at the end
    for (;;) {
      const result = wasm.get_next_output(context);
      if (result !== OK && result !== STREAM_END) throw unreadable(result, reading);
      const state = new Uint32Array(wasm.memory.buffer, context, 6); // memory may have grown, and moved
      const [, , taken = 0, , , filled = 0] = state;
      yield Buffer.from(wasm.memory.buffer.slice(at.output, at.output + filled));
      state[5] = 0;
      if (result === STREAM_END) return;
      if (taken === input.length && filled < at.bufferBytes) break;
    }
    if (input.length === 0) throw truncated('xz', reading);
  }
}

/** struct DecompressionContext: buffer size, input, its position and size, output, its position and size. */
function layoutOf(wasm: Wasm, context: number): { bufferBytes: number; input: number; output: number } {
  const [bufferBytes = 0, input = 0, , , output = 0] = new Uint32Array(wasm.memory.buffer, context, 6);
  return { bufferBytes, input, output };
}

function unreadable(result: number, reading: Reading): Error {
  if (result === BUF_ERROR) return truncated('xz', reading);
  if (result === FORMAT_ERROR) return somethingFollows('xz', reading); // its own first bytes were seen before
  const reason = REASONS[result];
  if (reason === undefined) return new Error(`xz-embedded says ${result}`);
  return refusal('DDBG_ARCHIVE', 'read', reading.subject, reason, REPACK);
}
