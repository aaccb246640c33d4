import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeName, encodeName, nameBytes, nativePath, utf8 } from '../../src/overlay/octets.ts';

describe('names as bytes', () => {
  it('go there and back, whatever they are', () => {
    const piece = fc.oneof(
      fc.uint8Array({ maxLength: 6 }),
      fc.string({ unit: 'binary', maxLength: 4 }).map((text) => Uint8Array.from(Buffer.from(text))),
      fc.constantFrom(
        ...['c0af', 'eda080', 'edb2a9', 'f4908080', 'f09f98', 'e282', 'efbbbf', 'c3', 'ff'].map(bytesOf),
      ),
    );
    fc.assert(
      fc.property(fc.array(piece), (pieces) => {
        const bytes = Buffer.concat(pieces);
        const name = decodeName(bytes);
        expect(encodeName(name)).toEqual(bytes);
        expect(nameBytes(name)).toBe(bytes.length);
        expect(name.isWellFormed()).toBe(utf8(bytes) !== undefined);
        expect(Buffer.from(nativePath(name))).toEqual(bytes);
        expect(encodeName(JSON.parse(JSON.stringify(name)))).toEqual(bytes);
      }),
      { numRuns: 2000 },
    );
  });

  it.each([
    ['caf\u00e9', '636166c3a9'],
    ['caf\udce9', '636166e9'],
    ['\ufeffx', 'efbbbf78'],
    ['\udced\udca0\udc80', 'eda080'], // a surrogate in UTF-8 is none
    ['\udcc0\udcaf', 'c0af'], // nor is a slash in two bytes
    ['\udcf4\udc90\udc80\udc80', 'f4908080'],
    ['a\udcf0\udc9f\udc98/', '61f09f982f'],
    ['\u{10ffff}', 'f48fbfbf'],
  ])('%j is %s', (name, hex) => {
    expect(decodeName(bytesOf(hex))).toBe(name);
    expect(encodeName(name).toString('hex')).toBe(hex);
  });

  it('split at slashes as bytes do', () => {
    const path = Buffer.from('a\xe9/\xff\xfe/b', 'latin1');
    expect(
      decodeName(path)
        .split('/')
        .map((part) => encodeName(part).toString('latin1')),
    ).toEqual(['a\xe9', '\xff\xfe', 'b']);
  });

  it('of a million bytes that are no UTF-8', () => {
    const wild = Buffer.alloc(1_000_000, 0xe2);
    expect(encodeName(decodeName(wild)).equals(wild)).toBe(true);
  });
});

function bytesOf(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex, 'hex'));
}
