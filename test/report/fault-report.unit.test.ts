/** The report as JSON and as a screen: its schema, its size, and nobody's secrets. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { expect, test } from 'vitest';
import type { Facts } from '../../src/report/facts.ts';
import type { ReportedRun } from '../../src/report/fault-report.ts';
import { faultSummary, makeFaultReport, showFaultReport, sparkline } from '../../src/report/fault-report.ts';
import { CAUSES, findCause } from '../../src/report/verdict.ts';
import { FACTS, saying } from './facts.ts';

const schema = JSON.parse(
  readFileSync(fileURLToPath(new URL('../../src/report/fault-schema.json', import.meta.url)), 'utf8'),
);
const validate = new Ajv2020({ formats: { 'date-time': true } }).compile(schema);

const RUN: ReportedRun = {
  at: new Date(0),
  status: 1,
  summary: 'exited with status 1',
  meaning: undefined,
};

const report = (facts: Facts, environment: Record<string, string> = {}) =>
  makeFaultReport(facts, findCause(facts), RUN, [environment]);

const process = (argv: readonly string[]) => ({
  pid: 30,
  name: 'worker',
  relation: 'below' as const,
  state: 'S',
  argv,
  residentBytes: 1,
});

test('it follows its schema, which lists every cause', () => {
  for (const facts of [FACTS, saying('bad config'), { ...FACTS, witnessed: undefined, outcome: undefined }]) {
    const valid = validate(JSON.parse(JSON.stringify(report(facts))));
    expect(valid, JSON.stringify(validate.errors)).toBe(true);
  }
  expect(validate({ ...report(FACTS), extra: 1 })).toBe(false);
  expect(schema.properties.verdict.properties.cause.enum).toEqual(CAUSES);
});

test('secrets are masked wherever they turn up', () => {
  const environment = {
    DB_PASSWORD: 'correct-horse-battery',
    API_TOKEN: 'tok_0123456789',
    TLS_PRIVATE_KEY: '-----BEGIN KEY-----\nMIIEvQIBADANBgkq\n-----END KEY-----',
  };
  const facts: Facts = {
    ...saying(
      `${'x'.repeat(490)}correct-horse-battery\nconnecting with correct-horse-battery\nMIIEvQIBADANBgkq\nfatal: bad password=hunter22 for postgres://u:p4ssw0rd@db/x, correct-horse-battery`,
    ),
    argv: ['node', 'x.js', '--token', 'tok_0123456789', '--password=hunter22'],
    running: [process(['worker', '--secret=hunter22', 'tok_0123456789', '--api-key', 'hunter22'])],
    user: { ...FACTS.user, cwd: '/srv/tok_0123456789' },
    core: { path: '/tmp/core', sizeBytes: 1, open: 'gdb correct-horse-battery /tmp/core' },
  };
  const made = report(facts, environment);
  const shown = [JSON.stringify(made), ...showFaultReport(made), faultSummary(made)].join('\n');
  for (const secret of ['correct-horse', 'tok_0123', 'hunter22', 'p4ssw0rd', 'MIIEvQ']) {
    expect(shown).not.toContain(secret);
  }
  expect(shown).toContain('***');
});

test('one screen, the cause first, whatever there is to say', () => {
  const long = 'y'.repeat(400);
  const facts: Facts = {
    ...saying(Array.from({ length: 100 }, (_, at) => `${at} ${long}`).join('\n')),
    argv: Array.from({ length: 60 }, () => long),
    running: Array.from({ length: 30 }, () => process([long])),
    core: { path: '/core', sizeBytes: 1, open: `gdb ${long}` },
    overlay: { sources: [long], files: 3, removed: 1 },
  };
  for (const columns of [40, 80, 100, 200]) {
    const lines = showFaultReport(report(facts), { columns });
    expect(lines.length).toBeLessThanOrEqual(40);
    expect(lines.filter((line) => line.length > columns)).toEqual([]);
    expect(lines[0]).toMatch(/^exit \(stated\)/);
  }
  expect(showFaultReport(report(FACTS), { colour: true })[0]).toContain('\u001b[1m');
});

test('which run it was, and when; a command line as it would be typed', () => {
  const lines = showFaultReport(report({ ...FACTS, argv: ['sh', '-c', 'echo hi; exit 3'] }));
  expect(lines).toContain('  run:        1, ended 1970-01-01 00:00:00 UTC');
  expect(lines).toContain("  command:    sh -c 'echo hi; exit 3'");
});

test('what such a fault usually means is said where nothing better is known', () => {
  const meaning = "most often the kernel's OOM killer";
  const show = (facts: Facts): string =>
    showFaultReport(makeFaultReport(facts, findCause(facts), { ...RUN, meaning }, [])).join('\n');
  expect(show({ ...FACTS, outcome: { kind: 'killed', signal: 'SIGKILL' } })).not.toContain('usually');
  expect(show({ ...FACTS, outcome: { kind: 'exited', status: 137 } })).toContain(`usually:    ${meaning}`);
});

test('only a terminal cuts; words of ours are wrapped', () => {
  const long = 'z'.repeat(300);
  const facts = saying(`bad ${long}`);
  const verdict = { ...findCause(facts), hint: `${'word '.repeat(40)}end` };
  const made = makeFaultReport(facts, verdict, RUN, []);
  const lines = showFaultReport(made);
  expect(lines).toContain(`    ! bad ${long}`);
  const hint = lines.findIndex((line) => line.startsWith('  hint:'));
  expect(lines.slice(hint, hint + 3).every((line) => line.length <= 100)).toBe(true);
  expect(lines[hint + 2]).toMatch(/^ {14}word .*end$/);
  expect(showFaultReport(made, { columns: 80 }).some((line) => line.endsWith('...'))).toBe(true);
});

test('text of the command starts no line and moves no cursor', () => {
  const lines = showFaultReport(report(saying('a\u001b]0;title\u0007b\rc\u009bd')));
  expect(lines.join('')).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/);
});

test('the summary is one line of 4095 bytes at the most', () => {
  const summary = faultSummary(report(saying(`bad ${'ü'.repeat(9_000)}\u0007`)));
  expect(summary).toMatch(/^exited with status 1: it exited with status 1; its last words: bad ü/);
  expect(Buffer.byteLength(summary)).toBeLessThanOrEqual(4_095);
  expect(faultSummary(report(FACTS))).toBe('exited with status 1');
});

test('a sparkline of nothing is nothing', () => {
  expect(sparkline([])).toBe('');
  expect(sparkline([0, 0])).toBe('');
  expect(sparkline([0, 50, 100], 100)).toBe('▁▅█');
});
