/**
 * How far a download or an unpacking is: a bar on a terminal, at most ten times a second; elsewhere a line after 5, 10,
 * 20, 40 and 80 seconds and then each minute. A fast one shows nothing.
 */
import type { Log } from '../log.ts';
import { bytesText, countText, durationText } from './units.ts';

const FIRST_BAR_MS = 300;
const BAR_EVERY_MS = 100;
const FIRST_LINE_MS = 5000;
const LINE_AT_LEAST_EVERY_MS = 60_000;
const BAR_CELLS = 24;

export interface ProgressOptions {
  readonly doing: 'fetched' | 'unpacked';
  /** Bytes, those before `startAt` included. Default: not known, and then neither percent nor time left is shown. */
  readonly totalBytes?: number | undefined;
  /** Bytes that were there before: they count as done, but not for the rate. Default 0. */
  readonly startAt?: number | undefined;
}

export interface Progress {
  /** @param bytes all that are done; @param files how many, where that says anything */
  update(bytes: number, files?: number): void;
  /** Takes the bar away. */
  done(): void;
}

export function showProgress(log: Log, options: ProgressOptions, now: () => number = Date.now): Progress {
  const started = now();
  let next = started + (log.terminal ? FIRST_BAR_MS : FIRST_LINE_MS);
  return {
    update(bytes, files) {
      const time = now();
      if (time < next) return;
      const elapsedMs = time - started;
      const facts = measure(bytes, elapsedMs, options);
      const text = progressText(facts, files);
      if (log.terminal) {
        next = time + BAR_EVERY_MS;
        log.transient(`${bar(facts)}${text}`);
      } else {
        next = time + Math.min(elapsedMs, LINE_AT_LEAST_EVERY_MS);
        log.say(`${options.doing} ${text}`, files === undefined ? facts : { ...facts, files });
      }
    },
    done() {
      log.transient('');
    },
  };
}

type Measured = {
  readonly bytes: number;
  readonly totalBytes: number | undefined;
  readonly bytesPerSecond: number;
  readonly etaSeconds: number | undefined;
};

function measure(bytes: number, elapsedMs: number, options: ProgressOptions): Measured {
  const totalBytes = options.totalBytes || undefined; // of 0 bytes there is no percentage
  const bytesPerSecond = Math.round(((bytes - (options.startAt ?? 0)) * 1000) / Math.max(1, elapsedMs));
  const known = totalBytes !== undefined && bytesPerSecond > 0;
  const etaSeconds = known ? Math.ceil(Math.max(0, totalBytes - bytes) / bytesPerSecond) : undefined;
  return { bytes, totalBytes, bytesPerSecond, etaSeconds };
}

function progressText(facts: Measured, files: number | undefined): string {
  const { bytes, totalBytes, bytesPerSecond, etaSeconds } = facts;
  const size =
    totalBytes === undefined
      ? bytesText(bytes)
      : `${percentOf(bytes, totalBytes)} % of ${bytesText(totalBytes)}`;
  const count = files === undefined ? '' : `${grouped(countText(files, 'file'))}, `;
  const left = etaSeconds === undefined ? '' : `, ${durationText(etaSeconds * 1000)} left`;
  return `${count}${size}, ${bytesText(bytesPerSecond)}/s${left}`;
}

function bar({ bytes, totalBytes }: Measured): string {
  if (totalBytes === undefined) return '';
  const cells = Math.floor((BAR_CELLS * percentOf(bytes, totalBytes)) / 100);
  return `[${'#'.repeat(cells)}${'.'.repeat(BAR_CELLS - cells)}] `;
}

/** At most 100: a zip may say less than it holds. */
function percentOf(bytes: number, totalBytes: number): number {
  return Math.min(100, Math.floor((100 * bytes) / totalBytes));
}

/** `1200 files` -> `1,200 files` */
function grouped(text: string): string {
  return text.replace(/\B(?=(\d{3})+\b)/g, ',');
}
