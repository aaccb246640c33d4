/** Archives as no tool makes them, built in code: every field can lie. */
import { crc32, deflateRawSync } from 'node:zlib';

export interface TarPart {
  name: string | Buffer;
  /** `0` file, `1` hard link, `2` symlink, `3` and `4` devices, `5` directory, `6` FIFO, `x` `g` `L` `K` `S` ... Default file. */
  type?: string;
  content?: string | Buffer;
  mode?: number;
  mtime?: number;
  link?: string | Buffer;
  prefix?: string;
  uid?: number;
  gid?: number;
  /** What the header claims; default the truth. */
  size?: number;
  /** Before the checksum is in, and after. */
  change?: (header: Buffer) => void;
  spoil?: (header: Buffer) => void;
}

export function tarPart(part: TarPart): Buffer {
  const content = Buffer.from(part.content ?? '');
  const header = Buffer.alloc(512);
  const name = Buffer.from(part.name);
  name.copy(header, 0, 0, 100);
  const octal = (value: number, offset: number, length: number): void => {
    header.write(`${value.toString(8).padStart(length - 1, '0')}\0`, offset, 'latin1');
  };
  octal(part.mode ?? 0o644, 100, 8);
  octal(part.uid ?? 0, 108, 8);
  octal(part.gid ?? 0, 116, 8);
  octal(part.size ?? content.length, 124, 12);
  octal(part.mtime ?? 1_600_000_000, 136, 12);
  header.write(part.type ?? '0', 156, 'latin1');
  Buffer.from(part.link ?? '').copy(header, 157, 0, 100);
  header.write('ustar\u000000', 257, 'latin1');
  header.write(part.prefix ?? '', 345, 155);
  part.change?.(header);
  header.fill(0x20, 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  part.spoil?.(header);
  return Buffer.concat([header, content, Buffer.alloc((512 - (content.length % 512)) % 512)]);
}

export const TAR_END = Buffer.alloc(1024);

export function tarOf(...parts: readonly TarPart[]): Buffer {
  return Buffer.concat([...parts.map(tarPart), TAR_END]);
}

/** `LENGTH KEY=VALUE\n`, as POSIX wants it. */
export function paxRecord(key: string, value: string | Buffer): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), Buffer.from(value), Buffer.from('\n')]);
  let length = rest.length;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

export function paxHeader(records: Readonly<Record<string, string | Buffer>>, type = 'x'): TarPart {
  const content = Buffer.concat(Object.entries(records).map(([key, value]) => paxRecord(key, value)));
  return { name: 'PaxHeaders/x', type, content };
}

export interface ZipPart {
  name: string | Buffer;
  content?: string | Buffer;
  /** With the type bits; default 0: no mode at all. */
  unixMode?: number;
  madeBy?: number;
  flags?: number;
  method?: number;
  /** Lies of the central directory. */
  crc?: number;
  size?: number;
  offset?: number;
  /** Another name in the local header. */
  localName?: string;
  /** Extra fields: id and data. */
  extra?: readonly ZipField[];
  localExtra?: readonly ZipField[];
  /** DOS date; default that of 2020-09-13. */
  date?: number;
}

export type ZipField = readonly [id: number, data: Buffer];

export function zipOf(...parts: readonly ZipPart[]): Buffer {
  const locals: Buffer[] = [];
  const centrals: Buffer[] = [];
  let offset = 0;
  for (const part of parts) {
    const content = Buffer.from(part.content ?? '');
    const method = part.method ?? (content.length > 0 ? 8 : 0);
    const data = method === 8 ? deflateRawSync(content) : content;
    const common = { ...part, method, crc: part.crc ?? crc32(content), size: part.size ?? content.length };
    const local = Buffer.concat([localHeader(common, data.length), data]);
    centrals.push(centralHeader(common, data.length, part.offset ?? offset));
    locals.push(local);
    offset += local.length;
  }
  return Buffer.concat([...locals, ...centrals, endOf(parts.length, Buffer.concat(centrals).length, offset)]);
}

type Known = ZipPart & { method: number; crc: number; size: number };

function localHeader(part: Known, packed: number): Buffer {
  const name = Buffer.from(part.localName ?? part.name);
  const header = Buffer.alloc(30);
  header.writeUInt32LE(0x04034b50, 0);
  common(header, 4, part, packed);
  const extra = fieldsOf(part.localExtra ?? part.extra);
  header.writeUInt16LE(name.length, 26);
  header.writeUInt16LE(extra.length, 28);
  return Buffer.concat([header, name, extra]);
}

function centralHeader(part: Known, packed: number, offset: number): Buffer {
  const name = Buffer.from(part.name);
  const header = Buffer.alloc(46);
  header.writeUInt32LE(0x02014b50, 0);
  header.writeUInt16LE((part.madeBy ?? (part.unixMode === undefined ? 0 : 3)) << 8, 4);
  common(header, 6, part, packed);
  const extra = fieldsOf(part.extra);
  header.writeUInt16LE(name.length, 28);
  header.writeUInt16LE(extra.length, 30);
  header.writeUInt32LE(((part.unixMode ?? 0) << 16) >>> 0, 38);
  header.writeUInt32LE(offset, 42);
  return Buffer.concat([header, name, extra]);
}

function fieldsOf(fields: readonly ZipField[] = []): Buffer {
  const parts = fields.map(([id, data]) => {
    const head = Buffer.alloc(4);
    head.writeUInt16LE(id, 0);
    head.writeUInt16LE(data.length, 2);
    return Buffer.concat([head, data]);
  });
  return Buffer.concat(parts);
}

/** The fields both headers have, in the same order. 2020-09-13 12:26. */
function common(header: Buffer, at: number, part: Known, packed: number): void {
  header.writeUInt16LE(20, at);
  header.writeUInt16LE(part.flags ?? 0, at + 2);
  header.writeUInt16LE(part.method, at + 4);
  header.writeUInt16LE((12 << 11) | (26 << 5), at + 6);
  header.writeUInt16LE(part.date ?? (40 << 9) | (9 << 5) | 13, at + 8);
  header.writeUInt32LE(part.crc, at + 10);
  header.writeUInt32LE(packed, at + 14);
  header.writeUInt32LE(part.size, at + 18);
}

function endOf(count: number, size: number, offset: number): Buffer {
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(count, 8);
  end.writeUInt16LE(count, 10);
  end.writeUInt32LE(size, 12);
  end.writeUInt32LE(offset, 16);
  return end;
}
