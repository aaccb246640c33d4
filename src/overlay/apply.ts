/**
 * fstree as the entrypoint and a Node program call it: which root may be changed, and where our files go.
 */
import { namesIn } from '../attempt.ts';
import type { Container } from '../container/identity.ts';
import { identifyContainer, readClues } from '../container/identity.ts';
import { EntryError } from '../errors.ts';
import type { Log } from '../log.ts';
import { createLog } from '../log.ts';
import type { FstreeSource } from '../parse.ts';
import { parseFstree } from '../parse.ts';
import { openState } from '../state.ts';
import type { GivenLimits } from './limits.ts';
import type { OverlayReport } from './report.ts';
import type { RevertReport } from './revert.ts';

interface PlaceOptions {
  /** The directory that archives are laid over, absolute. Default: `/`, and only inside a container. */
  readonly root?: string | undefined;
  /** Where downloads, replaced originals and overlay.json are. Default: the first usual place that can be had. */
  readonly stateDirectory?: string | undefined;
  /** Default: our own lines on stderr, without details. */
  readonly log?: Log | undefined;
}

export interface ApplyOverlayOptions extends PlaceOptions {
  /** Aborting it ends the work at once, with DDBG_ABORTED and the root unchanged. Default: it cannot be aborted. */
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds, bytes and counts; Infinity switches one off. Defaults: 30 s without a byte, 10 min in all, 4 GiB to download, 16 GiB unpacked, 8 GiB a file, 200,000 entries, 100 folders deep. */
  readonly limits?: GivenLimits | undefined;
  /** Where http_proxy, https_proxy, no_proxy, DDBG_FSTREE_TOKEN, DDBG_FSTREE_HEADER, NETRC and HOME are read. Default: process.env. */
  readonly environment?: Readonly<Record<string, string | undefined>> | undefined;
}

export interface RevertOverlayOptions extends PlaceOptions {
  /** How many runs of `applyOverlay` are taken back, from the last one. Default: all of this root. */
  readonly runs?: number | undefined;
  /** Takes back what somebody has changed since, too. Default: false, and nothing is touched then. */
  readonly force?: boolean | undefined;
}

/**
 * Lays archives over a root, in order, all or nothing, and leaves `overlay.json` in the state directory. Killed in the
 * middle, the next call (or `revertOverlay`) for the same root puts it right first.
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
  const parsed = sources.map((source) =>
    typeof source === 'string' ? parseFstree(source, 'fstree') : source,
  );
  const place = openPlace(options);
  const { applyOverlays } = await import('./engine.ts');
  const { signal, limits, environment } = options;
  return applyOverlays(parsed, { ...place, signal, limits, environment });
}

/**
 * Brings a root back to what it was before `applyOverlay`: contents, modes, owners, mtimes, links; what was new is
 * gone. All or nothing. A directory that was new and holds something that came later stays, and is named.
 *
 * @returns what was taken back; `runs` is 0 where nothing was recorded
 * @throws EntryError; the root is then as it was. `DDBG_WRITE` also where something has changed since (see `force`) or
 * an original is gone, `DDBG_ROOT`, `DDBG_STATE`.
 */
export async function revertOverlay(options: RevertOverlayOptions = {}): Promise<RevertReport> {
  const place = openPlace(options);
  const { revertOverlays } = await import('./engine.ts');
  return revertOverlays({ ...place, runs: options.runs, force: options.force });
}

/** Whether a killed run has left its transaction behind, at the top of the root or in the state directory. */
export function wasCutOff(root = '/', stateDirectory?: string): boolean {
  const places = [root, ...(stateDirectory === undefined ? [] : [stateDirectory])];
  return places.some((place) => namesIn(place).some((name) => name.startsWith('.ddbg-overlay')));
}

/** Puts right what a killed run has left. @throws EntryError `DDBG_WRITE`, `DDBG_STATE` */
export async function recoverOverlay(options: PlaceOptions = {}): Promise<void> {
  const { root, workDir, log } = openPlace(options);
  const { recover } = await import('./engine.ts');
  recover(root, workDir, log);
}

function openPlace(options: PlaceOptions): { root: string; workDir: string; log: Log } {
  const { root, stateDirectory, log = createLog() } = options;
  if (root === undefined) refuseHost(identifyContainer(readClues()));
  // Another ddbg-entry may be using it: a root has one record, and the transaction keeps two writers apart.
  return { root: root ?? '/', workDir: openState(stateDirectory, 'anybody').directory, log };
}

/** A laptop is not a patch target. */
function refuseHost(container: Container): void {
  if (container.evidence !== undefined) return;
  throw new EntryError('DDBG_ROOT', 'cannot lay fstree over /: nothing says that this is a container', {
    hint: 'run it in a container, or name the directory that may be changed: --root=DIR',
  });
}
