/** Work that never waits would keep a stop from ever being heard: the event loop gets a turn every so often. */
import { setImmediate } from 'node:timers/promises';
import { steadyMs } from '../clock.ts';

const TURN_MS = 10;

/** To be awaited between pieces of such work; costs nothing until it is time. */
export function createTurns(): () => Promise<void> | undefined {
  let since = steadyMs();
  return () => {
    if (steadyMs() - since < TURN_MS) return undefined;
    return setImmediate().then(() => {
      since = steadyMs();
    });
  };
}
