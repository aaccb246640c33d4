/**
 * Patching the container from inside: lay an archive over it, see what that has changed, take it back.
 */
import { existsSync, lstatSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { attempt, namesIn } from '../attempt.ts';
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
  const { found, root, stateDirectory } = placeOf(directory);
  const report = await applyOverlay(argv, { root, stateDirectory, log: createLog({ verbose: true }) });
  const entries = report.sources.flatMap((source) => source.entries);
  const changed = entries.filter(({ action }) => action !== 'same');
  return {
    status: STATUS.done,
    lines: [
      changed.length === 0
        ? 'everything in it is there already'
        : `changed: ${changed.length}; ${whoShows(found)}ddbg diff shows it, ddbg revert takes it back`,
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
  const { found, root, stateDirectory } = placeOf(directory);
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
        ? ['no overlay is there to be taken back', ...overlaysOfOthers(stateDirectory, found)]
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
    options: { stat: { type: 'boolean' }, raw: { type: 'boolean' } },
  });
  const { found, root, stateDirectory } = placeOf(directory);
  const { describeChanges } = await import('../overlay/changes.ts');
  const describe = (paths: readonly string[]) =>
    describeChanges({
      root: root ?? '/',
      workDir: stateDirectory ?? usualPlaces(ownUid()).find((place) => existsSync(`${place}/overlay.json`)),
      paths,
      mask: values.raw === true ? undefined : makeMask(found === undefined ? {} : environmentOf(found)),
    });
  const paths = positionals.map((path) => fromRoot(path, root));
  const changes = describe(paths);
  const json = { changes };
  if (changes.length === 0) {
    const isElsewhere = paths.length > 0 && describe([]).length > 0;
    const lines = isElsewhere
      ? [
          `no overlay has changed anything below ${paths.map(printable).join(', ')}; ddbg diff shows what else`,
        ]
      : ['no overlay has changed anything', ...overlaysOfOthers(stateDirectory, found)];
    return { status: STATUS.done, lines, json };
  }
  // Beside the patch, which a pipe takes away.
  if (values.stat !== true && changes.some(({ isAltered }) => isAltered === true))
    createLog().warn(
      'what looks like a secret is shown as ***, and what cannot be shown is escaped: for patch(1) it takes ddbg diff --raw',
    );
  const lines = changes.flatMap(({ summary, patch }) =>
    values.stat === true || patch === undefined ? [summary] : [summary, ...patch.split('\n')],
  );
  return { status: STATUS.done, lines, json };
}

function ownUid(): number {
  return process.getuid?.() ?? 0;
}

/** What is typed stands for a file as it is seen from here; what is recorded begins at the root. */
function fromRoot(path: string, root: string | undefined): string {
  const whole = resolve(path);
  return root !== undefined && !path.startsWith('/') && `${whole}/`.startsWith(`${root}/`)
    ? whole.slice(root.length) || '/'
    : whole;
}

/** Each user has a record of its own, where nobody else can exchange what is in it. */
function whoShows(found: Found | undefined): string {
  const uid = ownUid();
  const isAlone = found === undefined ? uid === 0 && uidOf('/proc/1') === 0 : found.owner.uid === uid;
  return isAlone ? '' : `as this user (docker exec --user ${uid} ...) `;
}

/** A directory of another user's can only be seen, unless we are root. */
function overlaysOfOthers(directory: string | undefined, found: Found | undefined): readonly string[] {
  const own = ownUid();
  const others = ['/tmp', '/dev/shm'].flatMap((folder) =>
    namesIn(folder).flatMap((name) => (/^ddbg-\d+$/.test(name) ? [`${folder}/${name}`] : [])),
  );
  const named = found === undefined ? [] : [found.directory];
  return [...new Set(['/run/ddbg', ...others, ...named])].flatMap((place) => {
    const uid = uidOf(place);
    if (uid === undefined || uid === own || place === directory) return [];
    if (own === 0 && !existsSync(`${place}/overlay.json`)) return [];
    const what = own === 0 ? 'an overlay of its own' : 'state of its own, perhaps an overlay,';
    return [
      `uid ${uid} has ${what} in ${printable(place)}: docker exec --user ${uid} ... ddbg diff shows it`,
    ];
  });
}

function uidOf(path: string): number | undefined {
  return attempt(() => lstatSync(path).uid);
}
