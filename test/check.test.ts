/** `ddbg check`: what is made of the facts. That the facts are true, the container tests say. */
import { describe, expect, it } from 'vitest';
import type { Facts, Finding } from '../src/tool/check.ts';
import { judge } from '../src/tool/check.ts';

const well: Facts = {
  platform: 'linux-x64',
  entry: 'init',
  entryFile: '/usr/local/bin/ddbg-entry',
  initFailure: '',
  nodeVersion: '22.15.0',
  leastNodeVersion: '20.18.1',
  nodeInPath: '/usr/local/bin/node',
  carrierTool: undefined,
  environmentSets: [],
  shells: ['bash', 'sh'],
  tools: { ps: true, curl: true },
  hasCertificates: true,
  user: { uid: 0, gid: 0, name: 'root' },
  stateDirectories: { own: '/run/ddbg', refusals: [], ofRoot: '/run/ddbg', readOnly: '/dev/shm/ddbg-0' },
  isBinMerged: true,
  corePattern: '/cores/core.%p',
  isCoreFolderThere: true,
  limits: [{ name: 'Max core file size', soft: 'unlimited', hard: 'unlimited' }],
  cgroup: { version: 2, memoryBytes: undefined, cpus: undefined, pids: undefined },
};

const state = { refusals: ['/run/ddbg: EACCES'], own: undefined, ofRoot: undefined, readOnly: undefined };

describe('check', () => {
  it('finds nothing where all is well', () => {
    expect(judge(well).filter(({ level }) => level !== 'ok')).toEqual([]);
  });

  it.each<[string, Partial<Facts>, Finding['level'], RegExp]>([
    ['no ddbg-entry', { entry: 'none', entryFile: undefined }, 'problem', /PATH finds no ddbg-entry/],
    ['another ddbg-entry', { entry: 'other' }, 'problem', /is not this package's/],
    [
      'npm’s link on Node 20',
      { entry: 'node', nodeVersion: '20.18.1' },
      'note',
      /stays PID 1, also when off/,
    ],
    ['npm’s link on Node 22.15', { entry: 'node' }, 'note', /becomes the command after the start of Node/],
    ['an init that cannot run', { initFailure: 'no node' }, 'problem', /cannot run here: no node/],
    ['the same, not installed', { initFailure: 'x', entry: 'node' }, 'note', /cannot run here: x/],
    ['another processor', { initFailure: undefined, entry: 'node' }, 'note', /is not built for linux-x64/],
    ['an old Node', { nodeVersion: '20.9.0' }, 'problem', /20\.9\.0 is older than 20\.18\.1/],
    ['node not in PATH', { nodeInPath: undefined }, 'problem', /PATH does not find node/],
    ['words in ENV', { environmentSets: ['DEBUG'] }, 'note', /every container of this image/],
    ['no shell', { shells: [] }, 'note', /nobody can work in a container/],
    [
      'no shell, but the carrier’s',
      { shells: [], carrierTool: '/ddbg/bin/ddbg' },
      'ok',
      /\/ddbg\/bin\/ddbg shell brings busybox along/,
    ],
    [
      'the carrier, which needs no node',
      { entry: 'none', nodeInPath: undefined, carrierTool: '/ddbg/bin/ddbg' },
      'ok',
      /with its own libraries/,
    ],
    [
      'no state directory',
      { stateDirectories: state },
      'problem',
      /none that uid 0 could have: \/run\/ddbg: EACCES/,
    ],
    ['tools missing', { tools: { ps: true, gdb: false } }, 'note', /not there: gdb \(reading a core file\)/],
    ['no certificates', { hasCertificates: false }, 'note', /cannot check a server/],
    [
      'cores by pipe',
      { corePattern: '|/usr/lib/x %p' },
      'note',
      /a program of the machine \(core_pattern \|\/usr\/lib\/x\)/,
    ],
    ['cores nowhere', { isCoreFolderThere: false }, 'note', /a folder that is not in this image/],
    ['few pids', { cgroup: { ...well.cgroup, pids: 8 } }, 'note', /a limit of 8 leaves little room/],
    ['no merged /bin', { isBinMerged: false }, 'note', /a directory of its own/],
  ])('%s', (_, facts, level, said) => {
    const findings = judge({ ...well, ...facts });
    expect(findings.find((finding) => said.test(finding.said))).toMatchObject({ level });
    // every problem has its way out
    expect(findings.filter((finding) => finding.level === 'problem' && finding.wayOut === null)).toEqual([]);
  });
});
