/**
 * Patching the container from inside: lay an archive over it, see what that has changed, take it back.
 */
import { existsSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { createLog, printable } from '../log.ts';
import { applyOverlay, revertOverlay } from '../overlay/apply.ts';
import { makeMask } from '../secrets.ts';
import { usualPlaces } from '../state.ts';
import type { Answer } from './answer.ts';
import { STATUS, ToolError } from './answer.ts';
import type { Found } from './find.ts';
import { environmentOf, lookForState } from './find.ts';

/** Which root, and where our files go. The entry's own state where it is ours too; else our own: root's originals must not lie where another user can exchange them. */
function placeOf(directory: string | undefined): {
  readonly found: Found | undefined;
  readonly root: string | undefined;
  readonly stateDirectory: string | undefined;
} {
  const found = lookForState(directory);
  const root = found?.record.plan.root;
  const isOurs = found !== undefined && found.owner.uid === process.getuid?.();
  return {
    found,
    root: root === '/' ? undefined : root, // then it must be a container's
    stateDirectory: isOurs ? found.directory : directory,
  };
}

/** @throws EntryError, and the root is as it was; ToolError */
export async function fstree(argv: readonly string[], directory?: string): Promise<Answer> {
  if (argv.length === 0) throw new ToolError(STATUS.usage, 'fstree needs the URL or path of an archive');
  const { root, stateDirectory } = placeOf(directory);
  const report = await applyOverlay(argv, { root, stateDirectory, log: createLog({ verbose: true }) });
  const entries = report.sources.flatMap((source) => source.entries);
  const changed = entries.filter(({ action }) => action !== 'same');
  return {
    status: STATUS.done,
    lines: [
      changed.length === 0
        ? 'everything in it is there already'
        : `changed: ${changed.length}; ddbg diff shows it, ddbg revert takes it back`,
    ],
    json: report,
  };
}

/** @throws EntryError, and the root is as it was; ToolError */
export async function revert(argv: readonly string[], directory?: string): Promise<Answer> {
  const { values } = parseArgs({
    args: [...argv],
    options: { runs: { type: 'string' }, force: { type: 'boolean' } },
  });
  if (values.runs !== undefined && !/^[1-9]\d{0,4}$/.test(values.runs)) {
    throw new ToolError(
      STATUS.usage,
      `--runs=${values.runs} is no number of runs`,
      'such as --runs=1, the last one',
    );
  }
  const { root, stateDirectory } = placeOf(directory);
  const report = await revertOverlay({
    root,
    stateDirectory,
    runs: values.runs === undefined ? undefined : Number(values.runs),
    force: values.force,
  });
  const { runs, restored, removed, left } = report;
  return {
    status: STATUS.done,
    lines:
      runs === 0
        ? ['no overlay is there to be taken back']
        : [
            `taken back: ${runs} ${runs === 1 ? 'overlay' : 'overlays'}, ${restored.length} paths as before, ${removed.length} gone`,
            ...left.map((path) => `left, for something else is in it now: ${printable(path)}`),
          ],
    json: report,
  };
}

/** @throws EntryError, ToolError */
export async function diff(argv: readonly string[], directory?: string): Promise<Answer> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: { stat: { type: 'boolean' } },
  });
  const { found, root, stateDirectory } = placeOf(directory);
  const { describeChanges } = await import('../overlay/changes.ts');
  const changes = describeChanges({
    root: root ?? '/',
    workDir:
      stateDirectory ??
      usualPlaces(process.getuid?.() ?? 0).find((place) => existsSync(`${place}/overlay.json`)),
    paths: positionals,
    mask: makeMask(found === undefined ? {} : environmentOf(found)),
  });
  const lines = changes.flatMap(({ summary, patch }) =>
    values.stat === true || patch === undefined ? [summary] : [summary, ...patch.split('\n')],
  );
  return {
    status: STATUS.done,
    lines: changes.length === 0 ? ['no overlay has changed anything'] : lines,
    json: { changes },
  };
}
