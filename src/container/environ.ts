/**
 * An environment as /proc/PID/environ and our own `environ` have it: NAME=VALUE, each with a NUL at its end. Pure.
 */

/** Each name and value, in order, also where a name is there twice; what holds no = is no variable. */
export function environEntries(text: string): readonly (readonly [name: string, value: string])[] {
  return text.split('\0').flatMap((entry) => {
    const at = entry.indexOf('=');
    return at < 0 ? [] : [[entry.slice(0, at), entry.slice(at + 1)] as const];
  });
}

/** The last of a name counts. */
export function parseEnviron(text: string): Record<string, string> {
  return Object.fromEntries(environEntries(text)); // not by assignment: a variable can be called __proto__
}
