/**
 * How far a download is: a bar on a terminal, at most ten times a second; elsewhere a line every five seconds. A fast
 * one shows nothing.
 */
import type { Log } from '../log.ts';
import { bytesText } from './units.ts';

const FIRST_BAR_MS = 300;
const BAR_EVERY_MS = 100;
const LINE_EVERY_MS = 5000;
const BAR_CELLS = 24;

export interface Progress {
  update(bytes: number): void;
  done(): void;
}

export function showProgress(
  log: Log,
  totalBytes: number | undefined,
  now: () => number = Date.now,
): Progress {
  const started = now();
  let next = started + (log.terminal ? FIRST_BAR_MS : LINE_EVERY_MS);
  return {
    update(bytes) {
      const time = now();
      if (time < next) return;
      next = time + (log.terminal ? BAR_EVERY_MS : LINE_EVERY_MS);
      const text = progressText(bytes, totalBytes, time - started);
      if (log.terminal) log.transient(`${bar(bytes, totalBytes)}${text}`);
      else log.say(`fetched ${text} so far`, { bytes, totalBytes });
    },
    done() {
      log.transient('');
    },
  };
}

function progressText(bytes: number, totalBytes: number | undefined, elapsedMs: number): string {
  const rate = `${bytesText(Math.round((bytes * 1000) / Math.max(1, elapsedMs)))}/s`;
  if (totalBytes === undefined || totalBytes === 0) return `${bytesText(bytes)}, ${rate}`;
  const percent = Math.floor((100 * bytes) / totalBytes);
  return `${percent} % of ${bytesText(totalBytes)}, ${rate}`;
}

function bar(bytes: number, totalBytes: number | undefined): string {
  if (totalBytes === undefined || totalBytes === 0) return '';
  const cells = Math.min(BAR_CELLS, Math.floor((BAR_CELLS * bytes) / totalBytes));
  return `[${'#'.repeat(cells)}${'.'.repeat(BAR_CELLS - cells)}] `;
}
