/**
 * A directory that gets a new name in it gets a new mtime; an overlay must not show there. So the times of each are
 * noted before we touch it, and given back at the end, whatever the end.
 */

/** Seconds, as Node's utimes takes them. */
export interface Times {
  readonly atime: number;
  readonly mtime: number;
}

/**
 * Node takes times as a double of seconds, exact to about 240 ns today; 20 also cuts at the microsecond, so that 0.123 s
 * becomes 0.122999 s (measured). A quarter of a microsecond on top, and whole microseconds survive.
 */
export function secondsOf(microseconds: number): number {
  return microseconds % 1e6 === 0 ? microseconds / 1e6 : (Math.floor(microseconds) + 0.25) / 1e6;
}
