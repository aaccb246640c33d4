/** The init's word for a core that was dumped. */
import { expect, test } from 'vitest';
import { node, script, temporaryFolder } from '../process/harness.ts';
import { runInit } from './kit.ts';

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
