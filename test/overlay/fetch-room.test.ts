/** Room: refused before the first byte where the length is known, and a clear word where it is not. */
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { download, makeDirectory, refused, serve } from './download.ts';

function mountSmall(options: string): string | undefined {
  const point = join(makeDirectory(), 'small');
  mkdirSync(point);
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', options, 'none', point]).status !== 0) return undefined;
  onTestFinished(() => void spawnSync('umount', [point]));
  return point;
}

const megabyte = Buffer.alloc(1024 * 1024, 'x');

it('refuses what is too large for the file system before it comes', async ({ skip }) => {
  const directory = mountSmall('size=1m');
  if (directory === undefined) return skip('SKIPPED: may not mount here');
  let sent = 0;
  const url = await serve((_request, response) => {
    response.writeHead(200, { 'content-length': 3 * megabyte.length }).flushHeaders();
    response.write('x', () => {
      sent += 1;
    });
  });
  const error = await refused(url, 'DDBG_WRITE', { directory });
  expect(error.message).toMatch(/it needs 3\.1 MB, the file system of .*small\/download has 1\.0 MB left/);
  expect(error.hint).toContain('--state-dir');
  expect(sent).toBeLessThanOrEqual(1);
});

it('says how much room there was where the length is unknown', async ({ skip }) => {
  const directory = mountSmall('size=1m');
  if (directory === undefined) return skip('SKIPPED: may not mount here');
  const url = await serve((_request, response) => {
    response.write(megabyte);
    response.end(megabyte);
  });
  const error = await refused(url, 'DDBG_WRITE', { directory });
  expect(error.message).toMatch(/ENOSPC, there was room for (1\.0 MB|9\d\d\.\d kB)/);
});

it('asks only for what is still to come, when it goes on', async ({ skip }) => {
  const directory = mountSmall('size=1m');
  if (directory === undefined) return skip('SKIPPED: may not mount here');
  const content = megabyte.subarray(0, 800_000);
  let asked = 0;
  const url = await serve((_request, response) => {
    asked += 1;
    if (asked === 1) {
      response.writeHead(200, { etag: '"a"', 'content-length': content.length });
      response.write(content.subarray(0, 600_000), () => response.destroy());
    } else {
      response.writeHead(206, { etag: '"a"', 'content-range': 'bytes 600000-799999/800000' });
      response.end(content.subarray(600_000));
    }
  });
  expect((await download(url, { directory })).bytes).toBe(800_000);
});

it('takes a tmpfs without a size, which says 0 blocks, for endless', async ({ skip }) => {
  const directory = mountSmall('size=0,nr_inodes=0');
  if (directory === undefined) return skip('SKIPPED: may not mount here');
  const url = await serve((_request, response) => {
    response.writeHead(200, { 'content-length': megabyte.length }).end(megabyte);
  });
  expect((await download(url, { directory })).bytes).toBe(megabyte.length);
});
