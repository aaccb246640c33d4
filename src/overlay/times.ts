/**
 * A directory that gets a new name in it gets a new mtime; an overlay must not show there. So each is remembered
 * before we touch it, and given its times back at the end, whatever the end.
 */
import { lstatSync, utimesSync } from 'node:fs';

/** Seconds, as Node's utimes takes them. */
export interface Times {
  readonly atime: number;
  readonly mtime: number;
}

export interface DirectoryTimes {
  remember(directory: string): void;
  /** Best effort: a directory of somebody else, or one that is gone, stays as it is. */
  restore(): void;
}

export function rememberTimes(): DirectoryTimes {
  const remembered = new Map<string, Times>();
  return {
    remember(directory) {
      if (!remembered.has(directory)) remembered.set(directory, timesOf(directory));
    },
    restore() {
      for (const [directory, { atime, mtime }] of remembered) {
        try {
          utimesSync(directory, atime, mtime);
        } catch {}
      }
    },
  };
}

/** Not by `stat.mtime`: a Date ends at milliseconds. */
export function timesOf(path: string): Times {
  const { atimeNs, mtimeNs } = lstatSync(path, { bigint: true });
  return { atime: secondsOf(Number(atimeNs / 1000n)), mtime: secondsOf(Number(mtimeNs / 1000n)) };
}

/**
 * Node takes times as a double of seconds, exact to about 240 ns today; 20 also cuts at the microsecond, so that 0.123 s
 * becomes 0.122999 s (measured). A quarter of a microsecond on top, and whole microseconds survive.
 */
export function secondsOf(microseconds: number): number {
  return microseconds % 1e6 === 0 ? microseconds / 1e6 : (Math.floor(microseconds) + 0.25) / 1e6;
}
