import { expect, test } from 'vitest';
import { transition } from '../../src/process/supervise.ts';

test.each([
  ['waiting', 'start', 'running'],
  ['waiting', 'stop', 'ended'],
  ['running', 'stop', 'stopping'],
  ['running', 'end', 'ended'],
  ['stopping', 'stop', 'stopping'],
  ['stopping', 'end', 'ended'],
  ['ended', 'stop', 'ended'],
  ['ended', 'start', 'ended'],
] as const)('%s --%s--> %s', (state, event, next) => {
  expect(transition(state, event)).toBe(next);
});
