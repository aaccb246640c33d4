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
 * becomes 0.122999 s (measured). Half a microsecond on top, away from 1970, and whole ones survive, to 2242.
 */
export function secondsOf(microseconds: number): number {
  const whole = Math.round(microseconds); // milliseconds with a fraction, times 1000, are a little beside it
  const away = Math.sign(whole) * 0.5;
  return whole % 1e6 === 0 ? whole / 1e6 : (whole + away) / 1e6;
}

/** As Node must be given it: of a number below zero it makes the time of now, of the same number as text it does not. */
export function nativeTime(seconds: number): string {
  return String(seconds);
}
