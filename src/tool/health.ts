/**
 * `HEALTHCHECK CMD ddbg health`: a container that is held is not healthy, and monitoring shall see it. In front of
 * another check: `ddbg health && curl -f http://localhost/`.
 */
import type { Answer } from './answer.ts';
import { STATUS, ToolError } from './answer.ts';
import { lookForState } from './find.ts';

/** What `--json` prints for `health`. */
export interface HealthAnswer {
  readonly schema: 1;
  readonly isHealthy: boolean;
  /** Null: ddbg-entry is off here, or keeps no state that can be seen. */
  readonly phase: string | null;
}

/** Healthy, unless the container is known to be held. @throws ToolError for a wrong command line */
export async function health(argv: readonly string[], directory?: string): Promise<Answer> {
  if (argv[0] !== undefined)
    throw new ToolError(STATUS.usage, `cannot say: '${argv[0]}' is no flag of health`);
  const phase = phaseOf(directory);
  const isHealthy = phase !== 'parked';
  return {
    status: isHealthy ? STATUS.done : STATUS.no,
    lines: isHealthy ? [] : ['parked: the command has ended and the container is held; ddbg says more'],
    json: { schema: 1, isHealthy, phase } satisfies HealthAnswer,
  };
}

/** That the state is another user's, or cannot be read, says nothing about the command. */
function phaseOf(directory: string | undefined): string | null {
  try {
    const found = lookForState(directory);
    return found?.isEntryAlive ? found.phase : null;
  } catch (error) {
    if (error instanceof ToolError) return null;
    throw error;
  }
}
