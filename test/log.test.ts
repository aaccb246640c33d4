import { describe, expect, test } from 'vitest';
import { EntryError, reasonOf } from '../src/errors.ts';
import { createLog } from '../src/log.ts';

function recorded(options: Parameters<typeof createLog>[0] = {}) {
  let text = '';
  const log = createLog({
    ...options,
    write: (more) => {
      text += more;
    },
  });
  return { log, text: () => text };
}

describe('lines', () => {
  test('one fact a line, whatever is in it', () => {
    const { log, text } = recorded();
    log.say('a\nb\r\u001b[31m\u2028c');
    expect(text()).toBe('ddbg-entry: a\\nb\\r\\u001b[31m\\u2028c\n');
  });

  test('details under verbose only', () => {
    const quiet = recorded();
    quiet.log.detail('x');
    expect(quiet.text()).toBe('');
    const verbose = recorded({ verbose: true });
    verbose.log.detail('x');
    expect(verbose.text()).toBe('ddbg-entry: x\n');
  });

  test('no line goes out with the secrets of a URL', () => {
    const { log, text } = recorded({ json: true });
    log.say('get https://u:geheim@h/', {
      url: 'https://u:geheim@h/?token=geheim',
      list: ['http://geheim@h'],
    });
    expect(text()).not.toContain('geheim');
  });
});

test('DDBG_LOG=json: one object a line', () => {
  const { log, text } = recorded({ json: true, verbose: true });
  log.say('one', { status: 7 });
  log.detail('two');
  log.transient('never');
  const lines = text()
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(lines).toMatchObject([
    { level: 'info', message: 'one', status: 7 },
    { level: 'detail', message: 'two' },
  ]);
  expect(Date.parse(String(lines[0]?.time))).not.toBeNaN();
});

test('on a terminal a passing line is taken away before the next one', () => {
  const { log, text } = recorded({ terminal: true });
  log.transient('50 %');
  log.say('done');
  expect(text()).toBe('ddbg-entry: 50 %\r\u001b[Kddbg-entry: done\n');
  const piped = recorded({ terminal: false });
  piped.log.transient('50 %');
  expect(piped.text()).toBe('');
});

test('errors: reasons without secrets, also from inside an AggregateError', () => {
  expect(new EntryError('DDBG_FETCH', 'cannot get https://u:geheim@h/').message).toBe(
    'cannot get https://***@h/',
  );
  const refused = new Error('connect ECONNREFUSED 127.0.0.1:1');
  expect(reasonOf(new AggregateError([refused, refused], ''))).toBe('connect ECONNREFUSED 127.0.0.1:1');
  expect(reasonOf(Object.assign(new Error(''), { code: 'EPERM' }))).toBe('EPERM');
  expect(reasonOf('text')).toBe('text');
});
