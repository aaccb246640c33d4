import { describe, expect, test } from 'vitest';
import { judgeOutcome } from '../src/fault.ts';
import type { Outcome, SignalName } from '../src/outcome.ts';
import { statusOf } from '../src/outcome.ts';

const exited = (status: number): Outcome => ({ kind: 'exited', status });
const killed = (signal: SignalName): Outcome => ({ kind: 'killed', signal });

test.each<[Outcome, number]>([
  [exited(0), 0],
  [exited(7), 7],
  [exited(255), 255],
  [killed('SIGSEGV'), 139],
  [killed('SIGTERM'), 143],
  [killed('SIGKILL'), 137],
  [{ kind: 'not-started', status: 127, reason: '' }, 127],
  [{ kind: 'not-started', status: 126, reason: '' }, 126],
  [{ kind: 'stopped-early', signal: 'SIGTERM' }, 143],
  [{ kind: 'setup-failed', reason: '' }, 125],
])('%j ends with status %i', (outcome, status) => {
  expect(statusOf(outcome)).toBe(status);
});

describe('what counts as a fault', () => {
  test.each<[Outcome]>([
    [exited(1)],
    [killed('SIGTERM')],
    [{ kind: 'not-started', status: 127, reason: 'x' }],
    [{ kind: 'setup-failed', reason: 'x' }],
  ])('%j', (outcome) => {
    expect(judgeOutcome(outcome, undefined)).toMatchObject({ outcome, status: statusOf(outcome) });
  });

  test('success and an early stop are none', () => {
    expect(judgeOutcome(exited(0), undefined)).toBeUndefined();
    expect(judgeOutcome({ kind: 'stopped-early', signal: 'SIGINT' }, 'SIGINT')).toBeUndefined();
  });

  test('nothing that follows a stop is one', () => {
    for (const outcome of [exited(1), exited(143), killed('SIGKILL'), killed('SIGSEGV')]) {
      expect(judgeOutcome(outcome, 'SIGTERM')).toBeUndefined();
    }
  });
});

test.each<[Outcome, string, RegExp]>([
  [exited(7), 'exited with status 7', /^$/],
  [exited(1), 'exited with status 1', /general error/],
  [exited(137), 'exited with status 137', /128\+9: .*SIGKILL: most often the kernel's OOM killer/],
  [exited(255), 'exited with status 255', /exit -1/],
  [killed('SIGSEGV'), 'was killed by signal SIGSEGV (11)', /not its own/],
  [killed('SIGUSR1'), 'was killed by signal SIGUSR1 (10)', /Application-specific/],
  [{ kind: 'not-started', status: 127, reason: 'x: not found' }, 'could not be started: x: not found', /^$/],
])('%j in words', (outcome, summary, meaning) => {
  const fault = judgeOutcome(outcome, undefined);
  expect(fault?.summary).toBe(summary);
  expect(fault?.meaning ?? '').toMatch(meaning);
});
