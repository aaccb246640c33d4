/**
 * `ddbg hook bash`: the one line for an entrypoint script that somebody has already.
 */
import { which } from '../process/resolve.ts';
import type { Answer } from './answer.ts';
import { STATUS, ToolError } from './answer.ts';

/** Those that can read src/ddbg-entry.sh. */
const SHELLS = ['bash', 'sh', 'dash', 'ash', 'ksh', 'zsh'];

const LINE = '. ddbg-entry.sh';

/** What `--json` prints for `hook`. */
export interface HookAnswer {
  readonly schema: 1;
  readonly line: string;
  /** Where PATH finds the file that the line reads; null: it does not, and the line would fail. */
  readonly file: string | null;
}

/** As shell text: it may be put into the script as it is. @throws ToolError for a shell that cannot read it */
export async function hook(argv: readonly string[]): Promise<Answer> {
  const [shell, ...more] = argv;
  if (shell === undefined || !SHELLS.includes(shell) || more.length > 0) {
    const why = shell === undefined ? 'for which shell?' : `not for '${argv.join(' ')}'`;
    throw new ToolError(STATUS.usage, `cannot hook: ${why}`, `ddbg hook ${SHELLS.join('|')}`);
  }
  const file = which('ddbg-entry.sh', process.env.PATH) ?? null;
  return {
    status: STATUS.done,
    lines: [
      '# Near the top of the script, below #! and above any cd, shift or set --. Without a word of ours in DEBUG it does nothing.',
      ...(file === null ? ['# PATH does not find ddbg-entry.sh here: npm install --global ddbg-entry'] : []),
      LINE,
    ],
    json: { schema: 1, line: LINE, file } satisfies HookAnswer,
  };
}
