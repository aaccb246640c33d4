/**
 * How much an archive may ask of us, in one table: an archive is somebody else's word, and a disk or a night is soon
 * full. A limit that is reached is an error that names it, before the root is touched.
 */

import { EntryError } from '../errors.ts';
import type { LIMIT_NAMES } from '../plan.ts';

interface Limit {
  readonly value: number;
  readonly unit: 'bytes' | 'entries' | 'components' | 'milliseconds' | 'times';
  readonly why: string;
}

const MiB = 1024 ** 2;
const GiB = 1024 ** 3;

export const LIMITS = {
  archiveBytes: { value: 4 * GiB, unit: 'bytes', why: 'the download, on the disk that holds our own files' },
  unpackedBytes: {
    value: 16 * GiB,
    unit: 'bytes',
    why: '34 kB of zip can unpack to 5 GB, 10 MB of gzip to 10 GB',
  },
  fileBytes: { value: 8 * GiB, unit: 'bytes', why: 'one file' },
  entries: { value: 200_000, unit: 'entries', why: 'an inode each, and 3 kB of our memory (measured)' },
  metaBytes: { value: MiB, unit: 'bytes', why: 'one tar header extension; it is held in memory' },
  depth: {
    value: 100,
    unit: 'components',
    why: 'deeper than any tree people make; some tools recurse over it',
  },
  stallMs: { value: 30_000, unit: 'milliseconds', why: 'no byte for so long: connect, headers or body' },
  totalMs: {
    value: 600_000,
    unit: 'milliseconds',
    why: 'one download with its retries; a slow drip never stalls',
  },
  retries: { value: 3, unit: 'times', why: 'after 0.5, 1 and 2 seconds, or what the server asks for' },
  redirects: { value: 10, unit: 'times', why: 'curl stops at 50, browsers at 20; a real chain has 3' },
} as const satisfies Record<string, Limit>;

/** Each a number in its unit above; Infinity switches one off. */
export type OverlayLimits = { readonly [name in keyof typeof LIMITS]: number };

/** The way out that an error about a limit names. @param flag as --limit has it */
export function moveLimit(flag: keyof typeof LIMIT_NAMES): string {
  return `If it is meant to be so: DDBG_FSTREE_LIMIT=${flag}=N on the container, or --limit=${flag}=N in the ENTRYPOINT.`;
}

/** What is undefined is not given: options pass through several hands. */
export type GivenLimits = { readonly [name in keyof OverlayLimits]?: number | undefined };

/** @throws EntryError `DDBG_BAD_USAGE` for what is no limit, or no number: a program may have them from anywhere */
export function withDefaults(limits: GivenLimits = {}): OverlayLimits {
  for (const [name, value] of Object.entries(limits)) {
    const isNumber = value === undefined || (typeof value === 'number' && value >= 0);
    if (Object.hasOwn(LIMITS, name) && isNumber) continue;
    throw new EntryError('DDBG_BAD_USAGE', `cannot use the limit ${name}: ${value}`, {
      hint: `There are ${Object.keys(LIMITS).join(', ')}, each a number of 0 or more.`,
    });
  }
  const entries = Object.entries(LIMITS).map(([name, limit]) => [
    name,
    limits[name as keyof OverlayLimits] ?? limit.value,
  ]);
  return Object.fromEntries(entries) as OverlayLimits;
}
