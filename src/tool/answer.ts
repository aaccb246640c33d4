/**
 * What a tool of the bin `ddbg` has to say.
 */
export interface Answer {
  /** The exit status, see STATUS. */
  readonly status: number;
  /** What a person reads. */
  readonly lines: readonly string[];
  /** The same for a program: what `--json` prints, as one JSON value. */
  readonly json: unknown;
}

/** The exit statuses of `ddbg`; `ddbg shell` ends with what it ran. */
export const STATUS = {
  done: 0,
  /** The answer to what was asked is no: unhealthy, or a check has found a problem. */
  no: 1,
  /** The command line is wrong. */
  usage: 2,
  /** There is nothing to work on: no state, or the wrong phase. */
  nothing: 3,
  /** Neither the user that the container runs as nor root. */
  refused: 4,
  /** `ddbg wait --timeout`: as timeout(1). */
  timeout: 124,
  /** It failed itself. */
  failed: 125,
} as const;

/** Ends a tool early: a sentence ("cannot X: why"), the way out, the exit status. */
export class ToolError extends Error {
  override readonly name = 'ToolError';
  readonly status: number;
  readonly hint: string | undefined;

  constructor(status: number, message: string, hint?: string) {
    super(message);
    this.status = status;
    this.hint = hint;
  }
}
