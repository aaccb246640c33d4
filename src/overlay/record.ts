/**
 * overlay.json in the state directory: what each run has done to a root, so that it can be shown and taken back. A
 * restarted container lays the same archives again and finds everything there: such a run adds nothing to the record.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { EntryError, errnoOf, reasonOf } from '../errors.ts';
import type { OverlayReport } from './report.ts';
import type { Transaction } from './transaction.ts';

const RECORD = 'overlay.json';
const SCHEMA = 2;

/** The content of overlay.json. */
export interface OverlayRecord {
  readonly schema: typeof SCHEMA;
  /** First to last. */
  readonly runs: readonly OverlayReport[];
}

/** @throws EntryError `DDBG_STATE` where there is one that cannot be read */
export function readRecord(workDir: string): OverlayRecord {
  const path = `${workDir}/${RECORD}`;
  try {
    const record = JSON.parse(readFileSync(path, 'utf8')) as Partial<OverlayRecord> | null;
    if (record?.schema !== SCHEMA) throw new Error(`it has schema ${record?.schema}, this is for ${SCHEMA}`);
    const { schema, runs } = record;
    if (!Array.isArray(runs)) throw new Error('it has no runs');
    return { schema, runs };
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return { schema: SCHEMA, runs: [] };
    throw new EntryError('DDBG_STATE', `cannot read ${path}: ${reasonOf(error)}`, {
      hint: `Move it away: what was overlaid before can then not be taken back with it.`,
      cause: error,
    });
  }
}

export function addRun({ schema, runs }: OverlayRecord, run: OverlayReport): OverlayRecord {
  return changesNothing(run) && runs.length > 0 ? { schema, runs } : { schema, runs: [...runs, run] };
}

/** Writes it where one rename puts it in its place: there is room for it then. */
export function stageRecord(
  record: OverlayRecord,
  workDir: string,
  transaction: Transaction,
): { readonly from: string; readonly to: string } {
  const from = `${workDir}/.ddbg-overlay.record`;
  transaction.note({ temporary: [from] });
  rmSync(from, { force: true });
  writeFileSync(from, `${JSON.stringify(record, undefined, 2)}\n`, { mode: 0o600, flag: 'wx' });
  return { from, to: `${workDir}/${RECORD}` };
}

function changesNothing({ sources }: OverlayReport): boolean {
  return sources.every(({ entries }) => entries.every(({ action }) => action === 'same'));
}
