/**
 * npm run test:matrix: the process and the container tests on other Nodes, one after the other, and a table at the end.
 *
 *     npm run test:matrix [-- VERSION... [--process[=FILE,...]] [--container[=FILE,...]]]
 *
 * By default Node 20, 22, 24 and 26, and all tests of both; a FILE is `process/run`, `container/off`.
 * The process tests run on that Node themselves. For the container tests it is in the images: in node20 where it is a
 * Node 20; else in place of Node 24, and below the native init (DDBG_TEST_NODE, see container/engine.ts). What is about
 * Node 20 alone is left out then, and counted as skipped.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { fromNpm } from '../docker/carrier/downloads.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const { values: suites, positionals } = parseArgs({
  // parseArgs knows no option whose value may be missing: all files are the value ''
  args: process.argv.slice(2).map((word) => (/^--(process|container)$/.test(word) ? `${word}=` : word)),
  options: { process: { type: 'string' }, container: { type: 'string' } },
  allowPositionals: true,
});
const versions = positionals.length > 0 ? positionals : ['20', '22', '24', '26'];
const wanted = Object.keys(suites).length > 0 ? suites : { process: '', container: '' };

const rows = [];
for (const version of versions) {
  const node = nodeOf(version);
  const exact = execFileSync(node, ['--version'], { encoding: 'utf8' }).trim();
  const env = { DDBG_TEST_NODE: node };
  if (wanted.process !== undefined) {
    const PATH = `${dirname(node)}${delimiter}${process.env.PATH}`;
    rows.push(run(exact, 'process', node, { ...env, PATH }));
  }
  if (wanted.container !== undefined) {
    const others = exact.startsWith('v20.') ? [] : ['--testNamePattern=^(?!.*(Node 20(?!, native)|node20))'];
    rows.push(run(exact, 'container', process.execPath, { ...env, DDBG_REQUIRE_DOCKER: '1' }, others));
  }
}
const heads = ['Node', 'tests', 'passed', 'failed', 'skipped', 'minutes'];
console.log(`\n${table([heads, ...rows.map(cells)])}`);
process.exitCode = rows.every(({ status }) => status === 0) ? 0 : 1;

/** The newest of that version in npm's registry; the one that runs us where it is one. */
function nodeOf(version) {
  if (process.versions.node.startsWith(`${version}.`)) return process.execPath;
  return join(fromNpm(`node-linux-${process.arch}@${version}`), 'bin/node');
}

/** On `node` itself. */
function run(version, suite, node, env, args = []) {
  console.log(`\n==== Node ${version}, ${suite} tests\n`);
  const results = join(root, '.cache/test-results', `${version}-${suite}.json`);
  rmSync(results, { force: true });
  const files = wanted[suite].split(',').filter(Boolean);
  const paths = files.map((name) => `test/${name}.test.ts`);
  const vitest = join(root, 'node_modules/vitest/vitest.mjs');
  const since = Date.now();
  const { status } = spawnSync(node, [vitest, 'run', '--project', suite, ...args, ...paths], {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, ...env, DDBG_TEST_RESULTS: results },
  });
  const minutes = (Date.now() - since) / 60_000;
  const counts = existsSync(results) ? JSON.parse(readFileSync(results, 'utf8')) : {};
  return { version, suite, status, minutes, counts };
}

function cells({ version, suite, minutes, counts }) {
  const numbers = [counts.numPassedTests, counts.numFailedTests, counts.numPendingTests];
  return [version, suite, ...numbers.map((number) => String(number ?? '?')), minutes.toFixed(1)];
}

function table(lines) {
  const widths = lines[0].map((_, column) => Math.max(...lines.map((line) => line[column].length)));
  return lines.map((line) => line.map((cell, index) => cell.padEnd(widths[index])).join('  ')).join('\n');
}
