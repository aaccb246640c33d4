/**
 * Internet addresses as /proc has them, and as people read them. Pure.
 */

/** `0100007F`: words of 32 bits as this machine has them in memory. */
export function bytesOfAddress(hex: string, isLittleEndian = true): readonly number[] {
  return (hex.match(/.{8}/g) ?? []).flatMap((word) => {
    const inOrder = (word.match(/../g) ?? []).map((byte) => Number.parseInt(byte, 16));
    return isLittleEndian ? inOrder.reverse() : inOrder;
  });
}

/** An IPv4 address in IPv6: its last four bytes are that. */
export function isMapped(bytes: readonly number[]): boolean {
  return bytes.slice(0, 10).every((byte) => byte === 0) && bytes.slice(10, 12).every((byte) => byte === 255);
}

/** As RFC 5952 wants it: the first longest run of two or more zeros as `::`, an IPv4 address in IPv6 with dots. */
export function formatIpv6(bytes: readonly number[]): string {
  if (isMapped(bytes)) return `::ffff:${bytes.slice(12).join('.')}`;
  const groups = Array.from({ length: 8 }, (_, at) => (bytes[2 * at] ?? 0) * 256 + (bytes[2 * at + 1] ?? 0));
  let best = { at: 0, length: 1 };
  for (let at = 0; at < 8; at += 1) {
    let length = 0;
    while (groups[at + length] === 0) length += 1;
    if (length > best.length) best = { at, length };
  }
  const hex = (some: readonly number[]) => some.map((group) => group.toString(16)).join(':');
  if (best.length < 2) return hex(groups);
  return `${hex(groups.slice(0, best.at))}::${hex(groups.slice(best.at + best.length))}`;
}
