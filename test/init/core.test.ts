/** The init's word for a core that was dumped, and what the report makes of it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { FaultReport } from '../../src/report/fault-report.ts';
import { node, script, temporaryFolder } from '../process/harness.ts';
import { parked, runInit, startInit } from './kit.ts';

/** A node that starts the command, prints what it hears of its end, and has the init end too. */
const LISTENER = `
const { readSync, writeSync } = require('node:fs');
const link = Number(process.argv.find((word) => word.startsWith('--init-link=')).split('=')[1]);
writeSync(link, 'start\\0');
let heard = '';
const buffer = Buffer.alloc(4096);
while (!/^ended .*\\n/m.test(heard)) heard += buffer.toString('latin1', 0, readSync(link, buffer));
console.log(heard.split('\\n').find((line) => line.startsWith('ended')));
writeSync(link, 'exit 0\\0');
`;

const heardOf = async (body: string) => {
  const folder = temporaryFolder();
  const DDBG_NODE = script(folder, 'listener', `#!${node}\n${LISTENER}`);
  const env = { DEBUG: 'stayalive', DDBG_NODE };
  return (await runInit(['bash', '-c', `cd ${folder}; ${body}`], { env })).stdout;
};

test.each([
  ['ulimit -c unlimited; kill -SEGV $$', 'ended killed 11 139 core\n'],
  ['ulimit -c 0; kill -SEGV $$', 'ended killed 11 139 -\n'],
  ['ulimit -c unlimited; kill -KILL $$', 'ended killed 9 137 -\n'],
  ['exit 139', 'ended exited 139 139 -\n'],
])('%s: %s', async (body, line) => {
  expect(await heardOf(body)).toBe(line);
});

/** The core file of the report; it is looked for where the command was. */
const coreOf = async (body: string) => {
  const state = temporaryFolder();
  const entry = startInit(['bash', '-c', body], {
    cwd: temporaryFolder(),
    env: { DEBUG: 'stayalive' },
    flags: [`--state-dir=${state}`],
  });
  await parked(entry);
  const { core }: FaultReport = JSON.parse(readFileSync(join(state, 'fault.json'), 'utf8'));
  entry.signal('SIGTERM');
  await entry.ended;
  return core;
};

const CHILD = 'ulimit -S -c unlimited; bash -c "kill -SEGV \\$\\$"';
test.each([
  ["the command's is named", 'ulimit -c unlimited; kill -SEGV $$', true],
  ["a child's, whose end the shell passes on", `${CHILD}; exit $?`, true],
  ["none but a child's, and it has died itself", `${CHILD}; ulimit -S -c 0; kill -SEGV $$`, false],
])('a core: %s', async (_, body, isNamed) => {
  expect((await coreOf(body)) !== null).toBe(isNamed);
});
