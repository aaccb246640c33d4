/** A root to overlay, a place for our own files, a log to read, and the whole tree as a value to compare. */
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished } from 'vitest';
import type { EntryError } from '../../src/errors.ts';
import { createLog } from '../../src/log.ts';
import { applyOverlays, type OverlayOptions } from '../../src/overlay/overlay.ts';
import type { OverlayReport } from '../../src/overlay/report.ts';
import { type RevertOptions, type RevertReport, revertOverlays } from '../../src/overlay/revert.ts';
import { treeOf } from './trees.ts';

export interface Stand {
  readonly root: string;
  readonly workDir: string;
  /** Every line that was logged so far. */
  readonly lines: string[];
  /** Writes an archive beside the root and returns its path. */
  file(name: string, content: Buffer | string): string;
  apply(
    sources: string | readonly (string | Source)[],
    options?: Partial<OverlayOptions>,
  ): Promise<OverlayReport>;
  /** Applies, expects this code, and that the root is as it was. */
  refused(
    sources: string | readonly (string | Source)[],
    code: EntryError['code'],
    options?: Partial<OverlayOptions>,
  ): Promise<EntryError>;
  /** Takes it back. */
  revert(options?: Partial<RevertOptions>): RevertReport;
  read(path: string): string;
}

export interface Source {
  location: string;
  sha256?: string;
  strip?: number;
  setuid?: 'keep';
  owner?: 'archive';
}

export const isRoot = process.geteuid?.() === 0;

/** A small image: merged /usr, a program, a configuration. */
export function makeStand(): Stand {
  const base = fs.mkdtempSync(join(fs.realpathSync(tmpdir()), 'overlay-'));
  onTestFinished(() => fs.rmSync(base, { recursive: true, force: true }));
  const root = join(base, 'root');
  const workDir = join(base, 'work');
  fs.mkdirSync(workDir, { mode: 0o700 });
  for (const directory of ['usr/bin', 'usr/lib', 'etc', 'opt/app', 'var/lib']) {
    fs.mkdirSync(join(root, directory), { recursive: true });
  }
  fs.symlinkSync('usr/bin', join(root, 'bin'));
  fs.symlinkSync('/usr/lib', join(root, 'lib'));
  fs.writeFileSync(join(root, 'usr/bin/tool'), 'old tool\n', { mode: 0o755 });
  fs.writeFileSync(join(root, 'etc/app.conf'), 'old conf\n', { mode: 0o640 });
  fs.writeFileSync(join(root, 'usr/lib/libx.so.1.0'), 'old lib\n');
  fs.symlinkSync('libx.so.1.0', join(root, 'usr/lib/libx.so.1'));
  ageTree(root);
  const lines: string[] = [];
  const log = createLog({ verbose: true, write: (text) => void lines.push(text), terminal: false });
  const apply: Stand['apply'] = (sources, options = {}) => {
    const list = typeof sources === 'string' ? [sources] : sources;
    return applyOverlays(
      list.map((source) => ({
        sha256: undefined,
        strip: undefined,
        ...(typeof source === 'string' ? { location: source } : source),
      })),
      { root, workDir, log, ...options },
    );
  };
  return {
    root,
    workDir,
    lines,
    apply,
    file(name, content) {
      fs.writeFileSync(join(base, name), content);
      return join(base, name);
    },
    async refused(sources, code, options = {}) {
      const before = treeOf(options.root ?? root);
      const ours = treeOf(options.workDir ?? workDir);
      const error = await apply(sources, options).then(
        () => expect.fail('it was applied'),
        (reason: unknown) => reason as EntryError,
      );
      expect(error, String(error)).toMatchObject({ name: 'EntryError', code });
      expect(error.message).toMatch(/^cannot \w+ .*fstree=|^cannot use the /);
      expect(treeOf(options.root ?? root)).toEqual(before);
      expect(Object.keys(treeOf(options.workDir ?? workDir))).toEqual(Object.keys(ours));
      return error;
    },
    revert: (options = {}) => revertOverlays({ root, workDir, log, ...options }),
    read: (path) => fs.readFileSync(join(root, path), 'utf8'),
  };
}

/** Old, odd times, so that a touched directory shows. */
function ageTree(root: string): void {
  for (const path of [...walk(root), ''].sort().reverse())
    fs.lutimesSync(join(root, path), 1_500_000_000.25, 1_500_000_000.5);
}

function* walk(root: string, below = ''): Generator<string> {
  for (const entry of fs.readdirSync(join(root, below), { withFileTypes: true })) {
    const path = join(below, entry.name);
    yield path;
    if (entry.isDirectory()) yield* walk(root, path);
  }
}

/** Where the originals of the one run and its first archive are kept. */
export function originals(stand: Stand, path: string): string {
  const [run = '', ...more] = fs.readdirSync(join(stand.workDir, 'backup'));
  expect(more).toEqual([]);
  return join(stand.workDir, 'backup', run, '1', path);
}

/** A real server on the loopback, gone with the test. */
export async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

export function sha256(content: Buffer | string): string {
  return createHash('sha256').update(content).digest('hex');
}
