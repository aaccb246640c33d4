/** What an overlay and its revert share: the place they work at, the moment of change, and the error that ends it. */
import { realpathSync, statSync } from 'node:fs';
import { EntryError, reasonOf } from '../errors.ts';
import * as disk from './disk.ts';
import { exists, perform, type Step } from './steps.ts';
import { refusal, type Subject } from './subject.ts';
import type { Transaction } from './transaction.ts';

export function openDirectory(path: string, what: string): string {
  try {
    const real = realpathSync(path);
    if (path.startsWith('/') && statSync(real).isDirectory()) return real;
  } catch (error) {
    throw new EntryError('DDBG_ROOT', `cannot use the ${what} ${path}: ${reasonOf(error)}`, { cause: error });
  }
  throw new EntryError(
    'DDBG_ROOT',
    `cannot use the ${what} ${path}: it is not the absolute path of a directory`,
  );
}

const UNCHANGED = '; nothing is changed';

/** The moment of change: synchronous, so that nothing of ours runs in between. */
export function commit(
  steps: readonly Step[],
  transaction: Transaction,
  subject: Subject,
  root: string,
): void {
  const parents = new Set(steps.map(({ to }) => to.slice(0, to.lastIndexOf('/')) || '/'));
  const times = [...parents].filter(exists).map((path) => [path, disk.timesOf(path)] as const);
  const remade = steps.flatMap((step) =>
    step.do === 'make-folder' ? [[step.to, step.facts.times] as const] : [],
  );
  transaction.note({ times: [...times, ...remade] });
  transaction.note({ steps });
  for (const step of steps) {
    try {
      perform(step);
    } catch (error) {
      const shown = root === '/' ? step.to : step.to.slice(root.length);
      const why = `${shown}: ${reasonOf(error)}${UNCHANGED}`;
      throw refusal('DDBG_WRITE', 'replace', subject, why, undefined, error);
    }
  }
}

/** The first error is the one that counts; that something could not be put back must be in it. */
export function withLosses(error: EntryError, lost: readonly string[], directory: string): EntryError {
  if (lost.length === 0) return error;
  const why = error.message.replace(UNCHANGED, '');
  return new EntryError(error.code, `${why}; and could not be put back: ${lost.join('; ')}`, {
    hint: `The originals are below ${directory}/old, and the next run tries again; better start a new container.`,
    cause: error,
  });
}
