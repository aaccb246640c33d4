/** What is shown of a long download or unpacking, with a clock of the test's own. */
import { expect, it } from 'vitest';
import { createLog } from '../../src/log.ts';
import { type ProgressOptions, showProgress } from '../../src/overlay/progress.ts';

function watch(options: ProgressOptions, kind: { terminal?: boolean; json?: boolean } = {}) {
  let time = 0;
  const written: { time: number; text: string }[] = [];
  const log = createLog({ terminal: false, ...kind, write: (text) => void written.push({ time, text }) });
  const progress = showProgress(log, options, () => time);
  return {
    written,
    progress,
    /** Calls update each 10 ms up to there. */
    until(end: number, bytesAt: (time: number) => number, files?: number): void {
      for (; time < end; time += 10) progress.update(bytesAt(time), files);
    },
  };
}

it('shows nothing of a fast one', () => {
  for (const terminal of [true, false]) {
    const { written, until, progress } = watch({ doing: 'fetched', totalBytes: 1000 }, { terminal });
    until(290, () => 500);
    progress.done();
    expect(written).toEqual([]);
  }
});

it('says less and less often in a log, with rate and time left', () => {
  const { written, until } = watch({ doing: 'fetched', totalBytes: 1_000_000 });
  until(300_000, (time) => time); // 1 kB a second
  expect(written.map(({ time }) => time / 1000)).toEqual([5, 10, 20, 40, 80, 140, 200, 260]);
  expect(written[0]?.text).toBe('ddbg-entry: fetched 0 % of 1.0 MB, 1.0 kB/s, 17 min left\n');
  expect(written[7]?.text).toBe('ddbg-entry: fetched 26 % of 1.0 MB, 1.0 kB/s, 12 min left\n');
});

it('draws a bar on a terminal, ten times a second, and takes it away', () => {
  const { written, until, progress } = watch({ doing: 'fetched', totalBytes: 1000 }, { terminal: true });
  until(1300, () => 500);
  const bars = written.filter(({ text }) => text.includes('####'));
  expect(bars).toHaveLength(10);
  expect(bars[0]).toEqual({
    time: 300,
    text: 'ddbg-entry: [############............] 50 % of 1.0 kB, 1.7 kB/s, 1 s left',
  });
  progress.done();
  expect(written.at(-1)?.text).toBe('\r\u001b[K');
});

it('has no bar, percent or time left where the total is unknown, and counts files', () => {
  const { written, until } = watch({ doing: 'unpacked' }, { terminal: true });
  until(310, () => 3_000_000, 1_234_567);
  expect(written.map(({ text }) => text)).toEqual(['ddbg-entry: 1,234,567 files, 3.0 MB, 10.0 MB/s']);
  const one = watch({ doing: 'unpacked', totalBytes: 0 });
  one.until(5010, () => 0, 1);
  expect(one.written[0]?.text).toBe('ddbg-entry: unpacked 1 file, 0 B, 0 B/s\n');
});

it('gives JSON facts and no bar', () => {
  const { written, until, progress } = watch(
    { doing: 'unpacked', totalBytes: 20_000 },
    { json: true, terminal: true },
  );
  until(5010, () => 10_000, 12);
  progress.done();
  expect(written).toHaveLength(1);
  expect(JSON.parse(written[0]?.text ?? '')).toMatchObject({
    ...{ bytes: 10_000, totalBytes: 20_000, bytesPerSecond: 2000, etaSeconds: 5, files: 12 },
    message: 'unpacked 12 files, 50 % of 20.0 kB, 2.0 kB/s, 5 s left',
  });
});

it('does not count what was there before for the rate, nor more than all', () => {
  const resumed = watch({ doing: 'fetched', totalBytes: 10_000, startAt: 5000 });
  resumed.until(5010, () => 7500);
  expect(resumed.written[0]?.text).toContain('fetched 75 % of 10.0 kB, 500 B/s, 5 s left');
  const lying = watch({ doing: 'unpacked', totalBytes: 10 }, { terminal: true });
  lying.until(310, () => 1000);
  expect(lying.written[0]?.text).toContain(`[${'#'.repeat(24)}] 100 % of 10 B`);
});
