/**
 * fstree as the entrypoint and a Node program call it: which root may be changed, where our files go, and the record.
 */
import type { Container } from '../container/identity.ts';
import { identifyContainer, readClues } from '../container/identity.ts';
import { EntryError, reasonOf } from '../errors.ts';
import type { Log } from '../log.ts';
import { createLog } from '../log.ts';
import type { FstreeSource } from '../parse.ts';
import { parseFstree } from '../parse.ts';
import { openState } from '../state.ts';
import type { GivenLimits } from './limits.ts';
import type { OverlayReport } from './report.ts';

export interface ApplyOverlayOptions {
  /** The directory that the archives are laid over, absolute. Default: `/`, and only inside a container. */
  readonly root?: string | undefined;
  /** Where downloads, replaced originals and overlay.json go. Default: the first usual place that can be had. */
  readonly stateDirectory?: string | undefined;
  /** The pid of the process that the state directory belongs to. Default: this one. */
  readonly stateOwner?: number | undefined;
  /** Default: our own lines on stderr, without details. */
  readonly log?: Log | undefined;
  /** Aborting it ends the work at once, with DDBG_ABORTED and the root unchanged. Default: it cannot be aborted. */
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds, bytes and counts; Infinity switches one off. Defaults: 30 s without a byte, 10 min in all, 4 GiB to download, 16 GiB unpacked, 8 GiB a file, 200,000 entries. */
  readonly limits?: GivenLimits | undefined;
}

/**
 * Lays archives over a root, in order, all or nothing, and leaves `overlay.json` in the state directory.
 *
 * @param sources what `fstree=` takes: URLs or paths with our options in the fragment, or what `parseDebug` made of them
 * @returns what was written: per archive its digest, and per path the action, digests, size and mode
 * @throws EntryError; the root is then as it was. `DDBG_BAD_DIRECTIVE`, `DDBG_ROOT`, `DDBG_STATE`, `DDBG_FETCH`,
 * `DDBG_DIGEST`, `DDBG_ARCHIVE`, `DDBG_UNSAFE`, `DDBG_WRITE` or `DDBG_ABORTED`.
 */
export async function applyOverlay(
  sources: readonly (string | FstreeSource)[],
  options: ApplyOverlayOptions = {},
): Promise<OverlayReport> {
  const log = options.log ?? createLog();
  const parsed = sources.map((source) =>
    typeof source === 'string' ? parseFstree(source, 'fstree') : source,
  );
  if (options.root === undefined) refuseHost(identifyContainer(readClues()));
  const state = openState(options.stateDirectory, options.stateOwner);
  const { applyOverlays } = await import('./overlay.ts'); // with undici, tar and yauzl: 80 ms that off must not pay
  const report = await applyOverlays(parsed, {
    root: options.root ?? '/',
    workDir: state.directory,
    log,
    signal: options.signal,
    limits: options.limits,
  });
  try {
    state.write('overlay.json', `${JSON.stringify({ schema: 1, ...report }, undefined, 2)}\n`);
  } catch (error) {
    log.warn(`cannot write overlay.json: ${reasonOf(error)}`); // the overlay is in place all the same
  }
  return report;
}

/** A laptop is not a patch target. */
function refuseHost(container: Container): void {
  if (container.evidence !== undefined) return;
  throw new EntryError('DDBG_ROOT', 'cannot lay fstree over /: nothing says that this is a container', {
    hint: 'run it in a container, or name the directory that may be changed: --root=DIR',
  });
}
