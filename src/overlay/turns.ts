/** Work that never waits would keep a stop from ever being heard: the event loop gets a turn every so often. */
import { setImmediate } from 'node:timers/promises';

const TURN_MS = 10;

/** To be awaited between pieces of such work; costs nothing until it is time. */
export function createTurns(): () => Promise<void> | undefined {
  let since = performance.now();
  return () => {
    if (performance.now() - since < TURN_MS) return undefined;
    return setImmediate().then(() => {
      since = performance.now();
    });
  };
}
