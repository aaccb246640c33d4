/** A tree with what file systems take and archive formats stumble over, less what a format cannot hold. */
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import { isRoot } from './stand.ts';

export interface Holds {
  /** Names and targets longer than 100 bytes, paths longer than 255; default true. */
  readonly long?: boolean;
  /** Names that are no UTF-8; default true. */
  readonly bytes?: boolean;
  /** Names that differ in their normal form (NFC, NFD) alone; default true. */
  readonly twins?: boolean;
  /** A backslash in a name; default true. */
  readonly backslash?: boolean;
  /** Owners above 2^21; default true. */
  readonly wideIds?: boolean;
  /**
   * `octal`: from 1970, up to 2^33 seconds. `zip`: from 1980, up to 2^31, whole seconds. `whole`: no fraction before 1970.
   * Default `any`.
   */
  readonly times?: 'any' | 'whole' | 'octal' | 'zip';
}

/** Below `place`/opt. Every time is long ago or far ahead: whatever says `now` was made by a reader. */
export function makeOddTree(place: string, holds: Holds = {}): void {
  const { long = true, bytes = true, twins = true, backslash = true, wideIds = true, times = 'any' } = holds;
  const at = (name: string | Buffer): Buffer =>
    Buffer.concat([Buffer.from(`${place}/opt/`), Buffer.from(name)]);
  const folder = (name: string): void => void fs.mkdirSync(at(name), { recursive: true });
  const write = (name: string | Buffer, content: string | Buffer = ''): void =>
    fs.writeFileSync(at(name), content);
  const latin = (text: string): Buffer => Buffer.from(text, 'latin1');

  for (const name of ['sizes', 'modes', 'times', 'owners', 'names', 'links', 'hard/other', 'empty/empty'])
    folder(name);
  for (const size of [0, 1, 511, 512, 513, 1023, 1024, 1025, 10_239, 10_240, 10_241, 70_001])
    write(`sizes/${size}`, noiseOf(size));

  const names = [
    ...['with space', ' ', 'ends in space ', '-dash', '--help', '@at', 'new\nline', 'tab\t', 'esc\x1b[31m'],
    ...[
      '.hidden',
      '..two',
      '...',
      '._double',
      '*',
      '[a-z]?',
      '"quoted"',
      "it's",
      '$HOME',
      '#strip=1',
      '%2e%2e',
    ],
    ...['größe 中文 😀', 'caf\u00e9', 'ends in dot.', 'UPPER', 'upper', 'a:b', 'pax_global_header'],
    ...(twins ? ['cafe\u0301'] : []),
    ...(backslash ? ['back\\slash'] : []),
    ...(long ? [98, 99, 100, 101, 255] : [80]).map((length) => 'n'.repeat(length)),
  ];
  for (const name of names) write(`names/${name}`, name);
  if (bytes) {
    write(latin('names/caf\xe9'), 'latin-1');
    write(latin('names/\xff\xfe'), 'no UTF-8 at all');
    write(latin('names/a\xf0\x9f\x98'), 'a character cut short');
    fs.symlinkSync(latin('t\xe4rget'), at(latin('links/l\xefnk')));
  }
  if (long) {
    // At the borders of ustar's prefix and name, and beyond them.
    for (const length of [150, 151, 155, 156]) {
      folder('p'.repeat(length - 4));
      write(`${'p'.repeat(length - 4)}/${'q'.repeat(100)}`, String(length));
    }
    folder(`${'d'.repeat(200)}/${'e'.repeat(200)}`);
    write(`${'d'.repeat(200)}/${'e'.repeat(200)}/${'f'.repeat(200)}`, 'deep');
    fs.linkSync(at(`${'d'.repeat(200)}/${'e'.repeat(200)}/${'f'.repeat(200)}`), at('hard/of long name'));
    for (const length of [99, 100, 101, 300, 3000]) fs.symlinkSync('t'.repeat(length), at(`links/${length}`));
  }

  for (const target of ['nowhere', '/absolute/nowhere', '../sizes/512', '..', '.', 'a//b/./c/', ' ', 'größe'])
    fs.symlinkSync(target, at(`links/to ${target.replaceAll('/', '|')}`));

  write('hard/one', 'three names');
  fs.linkSync(at('hard/one'), at('hard/two'));
  fs.linkSync(at('hard/one'), at('hard/other/three'));
  write('hard/empty');
  fs.linkSync(at('hard/empty'), at('hard/other/empty'));

  const modes = [0, 1, 0o111, 0o222, 0o400, 0o444, 0o640, 0o777, 0o1755, 0o2755, 0o4755, 0o6711, 0o7777];
  for (const mode of modes.filter((mode) => isRoot || (mode & 0o500) === 0o500)) {
    write(`modes/${mode.toString(8)}`, mode.toString(8));
    folder(`modes/d${mode.toString(8)}`);
  }

  const seconds = {
    octal: [0, 1, 1.5, 1_300_000_000.654321, 2 ** 31, 2 ** 32 + 1, 2 ** 33 - 1],
    any: [0, 1.5, 1_300_000_000.654321, 2 ** 33, 2 ** 33 + 1.123456, -1, -1.25, -86_400, -2_000_000_000.5],
    whole: [0, 1.5, 1_300_000_000.654321, 2 ** 33, 2 ** 33 + 1.123456, -1, -86_400, -2_000_000_000],
    zip: [1_300_000_001, 1_300_000_000, 2 ** 31 - 1, 315_619_200],
  }[times];
  for (const [index] of seconds.entries()) {
    write(`times/${index}`);
    folder(`times/d${index}`);
    fs.symlinkSync('x', at(`times/l${index}`));
  }

  if (isRoot) {
    const ids = [1, 1000, 65_534, ...(wideIds ? [2_097_151, 2_097_152, 3_000_000_000] : [])];
    for (const id of ids) {
      write(`owners/${id}`, String(id));
      fs.symlinkSync('x', at(`owners/l${id}`));
      fs.lchownSync(at(`owners/${id}`), id, id - 1);
      fs.lchownSync(at(`owners/l${id}`), id, id - 1);
    }
  }
  ageBelow(at(''));
  for (const [index, second] of seconds.entries()) {
    // As text: Node makes `now` of a number below zero.
    for (const kind of ['', 'd', 'l']) fs.lutimesSync(at(`times/${kind}${index}`), '1', String(second));
  }
  fs.lutimesSync(at('times'), 1, 1_400_000_000);
  // Last, for a closed folder can be read by root alone.
  for (const mode of modes.filter((mode) => isRoot || (mode & 0o500) === 0o500)) {
    fs.chmodSync(at(`modes/${mode.toString(8)}`), mode);
    fs.chmodSync(at(`modes/d${mode.toString(8)}`), mode);
  }
}

/** Even seconds, for DOS has no odd ones. */
function ageBelow(path: Buffer): void {
  if (fs.lstatSync(path).isDirectory()) {
    for (const name of fs.readdirSync(path, { encoding: 'buffer' }))
      ageBelow(Buffer.concat([path, Buffer.from('/'), name]));
  }
  fs.lutimesSync(path, 1_400_000_000, 1_400_000_000);
}

function noiseOf(length: number): Buffer {
  const blocks = Array.from({ length: Math.ceil(length / 64) }, (_, index) =>
    createHash('sha512').update(`${length} ${index}`).digest(),
  );
  return Buffer.concat(blocks).subarray(0, length);
}
