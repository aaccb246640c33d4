/**
 * `ddbg output`: the last of what the command wrote, where `record` has kept it.
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { asUser } from '../container/user.ts';
import { printable } from '../log.ts';
import { readRecorded } from '../process/recorded.ts';
import { makeMask } from '../secrets.ts';
import type { Answer } from './answer.ts';
import { STATUS, ToolError } from './answer.ts';
import { environmentOf, findState } from './find.ts';

/** @throws ToolError */
export function output(argv: readonly string[], directory?: string): Promise<Answer> {
  const { values } = parseArgs({ args: [...argv], options: { lines: { type: 'string' } } });
  if (values.lines !== undefined && !/^[1-9]\d{0,7}$/.test(values.lines)) {
    throw new ToolError(STATUS.usage, `--lines=${values.lines} is no number of lines`, 'such as --lines=100');
  }
  const found = findState(directory);
  const mask = makeMask(environmentOf(found));
  const most = values.lines === undefined ? undefined : Number(values.lines);
  const lines = asUser(found.owner, () => readRecorded(join(found.directory, 'output'), most)).map(
    ({ atMs, stream, text }) => ({ at: new Date(atMs).toISOString(), stream, text: mask(text) }),
  );
  if (lines.length === 0 && found.record.plan.record !== true) {
    throw new ToolError(
      STATUS.nothing,
      'the output of the command is not recorded',
      'it is with the word record: docker run -e DEBUG=stayalive,record IMAGE; docker logs has it in any case',
    );
  }
  return Promise.resolve({
    status: STATUS.done,
    lines: lines.map(({ at, stream, text }) => `${at} ${stream} ${printable(text)}`),
    json: { lines },
  });
}
