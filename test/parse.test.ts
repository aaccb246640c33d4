import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { EntryError } from '../src/errors.ts';
import { formatFstree, isOn, parseDebug, parseDuration, parseFstree } from '../src/parse.ts';

const HEX = 'a'.repeat(64);
const source = (location: string, sha256?: string, strip?: number) => ({ location, sha256, strip });
const off = { verbose: false, stayAlive: undefined, fstree: [], record: false };
const byDebug = { ...off, setting: 'DEBUG' };
const held = (limitMs?: number, on = 'fault') => ({ on, limitMs });

function failure(variables: Parameters<typeof parseDebug>[0]): EntryError {
  try {
    parseDebug(variables);
  } catch (error) {
    if (error instanceof EntryError) return error;
    throw error;
  }
  throw new Error('it was accepted');
}

describe('what is asked for', () => {
  test.each([
    ['verbose', { ...off, verbose: true }],
    ['stayalive', { ...off, stayAlive: held() }],
    ['record', { ...off, record: true }],
    ['fstree=http://h/a,record', { ...off, record: true, fstree: [source('http://h/a')] }],
    ['stayalive=90s', { ...off, stayAlive: held(90_000) }],
    ['stayalive=30m', { ...off, stayAlive: held(1_800_000) }],
    ['stayalive=2h', { ...off, stayAlive: held(7_200_000) }],
    ['stayalive=always', { ...off, stayAlive: held(undefined, 'always') }],
    ['stayalive,stayalive=90s', { ...off, stayAlive: held(90_000) }],
    ['fstree=https://h/a.tgz', { ...off, fstree: [source('https://h/a.tgz')] }],
    ['fstree=/patches/a.zip', { ...off, fstree: [source('/patches/a.zip')] }],
    ['fstree=a.zip', { ...off, fstree: [source('a.zip')] }],
    ['fstree=file:///a%20b.tar', { ...off, fstree: [source('file:///a%20b.tar')] }],
    [`fstree=http://h/a#sha256=${HEX}&strip=2`, { ...off, fstree: [source('http://h/a', HEX, 2)] }],
    [`fstree=http://h/a#sha256=${HEX.toUpperCase()}`, { ...off, fstree: [source('http://h/a', HEX)] }],
    ['fstree=http://h/a#strip=0', { ...off, fstree: [source('http://h/a', undefined, 0)] }],
    // A comma ends the URL only where a word of ours, or the end, follows.
    [
      'fstree=http://h/a,b.tgz?x=1,stayalive',
      { ...off, stayAlive: held(), fstree: [source('http://h/a,b.tgz?x=1')] },
    ],
    ['fstree=http://h/a,', { ...off, fstree: [source('http://h/a')] }],
    ['fstree=http://h/a,,verbose', { ...off, verbose: true, fstree: [source('http://h/a')] }],
    ['fstree=http://h/a,express:*', { ...off, fstree: [source('http://h/a,express:*')] }],
    ['fstree=http://h/?a=b=c==', { ...off, fstree: [source('http://h/?a=b=c==')] }],
    [
      'fstree=http://h/1,fstree=http://h/2,verbose',
      { ...off, verbose: true, fstree: [source('http://h/1'), source('http://h/2')] },
    ],
    [' verbose , stayalive ', { ...off, verbose: true, stayAlive: held() }],
  ])('%s', (text, expected) => {
    expect(parseDebug({ DEBUG: text })).toMatchObject(expected);
    expect(parseDebug({ DDBG: text })).toMatchObject(expected);
  });
});

describe('what is left for the command', () => {
  test.each([
    ['express:*', 'express:*'],
    ['1', '1'],
    ['true', 'true'],
    ['*', '*'],
    ['', ''],
    [' a , b ,', ' a , b ,'],
    ['verbose', undefined],
    ['express:*,verbose', 'express:*'],
    ['verbose,express:*,-express:router,stayalive', 'express:*,-express:router'],
    ['a,,verbose', 'a,'],
  ])('DEBUG=%s leaves %s', (text, left) => {
    const directives = parseDebug({ DEBUG: text });
    expect(directives.debugForCommand).toBe(left);
    expect(directives.hints).toEqual([]);
  });

  test('without DEBUG there is none afterwards', () => {
    expect(parseDebug({})).toEqual({ ...byDebug, debugForCommand: undefined, hints: [] });
  });

  test('DDBG leaves DEBUG untouched, whatever it holds', () => {
    expect(parseDebug({ DDBG: 'stayalive', DEBUG: 'verbose, x' })).toMatchObject({
      verbose: false,
      stayAlive: held(),
      debugForCommand: 'verbose, x',
    });
  });

  test('an empty DDBG switches us off', () => {
    expect(isOn(parseDebug({ DDBG: '', DEBUG: 'verbose' }))).toBe(false);
  });
});

describe('words that are nearly ours', () => {
  test.each([
    ['stayalve', "DEBUG has 'stayalve': did you mean 'stayalive'?"],
    ['stayalvie', "DEBUG has 'stayalvie': did you mean 'stayalive'?"],
    ['Verbose', "DEBUG has 'Verbose': did you mean 'verbose'?"],
    ['fsrtee=http://u:pw@h/a', "DEBUG has 'fsrtee=http://***@h/a': did you mean 'fstree'?"],
    ['verbose stayalive', "DEBUG has 'verbose stayalive': did you mean 'verbose'?"],
    ["'stayalive'", "DEBUG has ''stayalive'': did you mean 'stayalive'?"],
    ['fstre=http://h/a', "DEBUG has 'fstre=http://h/a': did you mean 'fstree'?"],
  ])('DEBUG=%s gets a line and changes nothing', (text, hint) => {
    const directives = parseDebug({ DEBUG: text });
    expect(directives).toEqual({ ...byDebug, debugForCommand: text, hints: [hint] });
  });

  test.each(['tree', 'free', 'verb', 'stay', 'alive', 'express', 'verbose:*', 'app:verbose'])(
    'DEBUG=%s is somebody else’s',
    (text) => {
      expect(parseDebug({ DEBUG: text })).toEqual({ ...byDebug, debugForCommand: text, hints: [] });
    },
  );

  test('one that a URL swallowed is pointed out', () => {
    const { hints, fstree } = parseDebug({ DEBUG: 'fstree=http://h/a,stayalvie' });
    expect(fstree).toEqual([source('http://h/a,stayalvie')]);
    expect(hints).toEqual([
      "DEBUG has 'stayalvie': did you mean 'stayalive'? It is read as part of the URL.",
    ]);
  });
});

describe('bad input names the setting, the value and the rule', () => {
  test.each([
    ['verbose=1', 'verbose takes no value'],
    ['stayalive=', 'stayalive takes a duration'],
    ['stayalive=10', 'stayalive takes a duration'],
    ['stayalive=0s', 'stayalive takes a duration'],
    ['stayalive=577h', 'stayalive takes a duration'],
    ['stayalive=1.5h', 'stayalive takes a duration'],
    ['fstree', 'fstree needs the URL or path'],
    ['fstree=', 'fstree needs the URL or path'],
    ['fstree=,verbose', 'fstree needs the URL or path'],
    ['fstree=#strip=1', 'fstree needs the URL or path'],
    ['fstree=ftp://h/a', 'the scheme must be http, https or file, not ftp'],
    ['fstree=http://', 'that is no valid URL'],
    ['fstree=https:/h/a', 'that is no valid URL'],
    ['fstree=https://h/a b', 'that is no valid URL'],
    ['fstree=http://h/a#sha256=abc', '#sha256= takes 64 hex digits'],
    ['fstree=http://h/a#strip=-1', '#strip= takes a number'],
    ['fstree=http://h/a#nonsense', "'nonsense' is no option"],
  ])('%s', (text, rule) => {
    for (const setting of ['DEBUG', 'DDBG'] as const) {
      const error = failure({ [setting]: text });
      expect(error.code).toBe('DDBG_BAD_DIRECTIVE');
      expect(error.message).toContain(`cannot read ${setting}: `);
      expect(error.message).toContain(rule);
      expect(error.hint).toBeTruthy();
    }
  });

  test('DDBG: an unknown word, with the nearest of ours', () => {
    const error = failure({ DDBG: 'stayalvie' });
    expect(error.message).toBe("cannot read DDBG: 'stayalvie': that is no word of ours");
    expect(error.hint).toContain("did you mean 'stayalive'?");
    expect(failure({ DDBG: 'express:*' }).hint).not.toContain('did you mean');
  });

  test.each([
    'https:/u:geheim@h',
    'https:u:geheim@h',
    'https://u:ge heim@h',
    'https://u:geheim#x@h/a',
    'ftp://u:ge/heim@h',
  ])('no password of what is no URL is shown: %s', (text) => {
    const { message } = failure({ DEBUG: `fstree=${text}` });
    expect(message).not.toMatch(/heim/);
  });

  test('no password of a URL is shown, however long the word', () => {
    const secret = 'geheim'.repeat(100);
    const { message } = failure({ DDBG: `fstree=ftp://user:${secret}@h/a` });
    expect(message).not.toContain('geheim');
  });
});

describe('any text at all', () => {
  const foreignWord = fc
    .string({ unit: 'grapheme', maxLength: 12 })
    .filter((word) => !/,|verbose|stayalive|fstree|\0/i.test(word));

  test('without a word of ours DEBUG stays as it is, byte for byte', () => {
    fc.assert(
      fc.property(fc.array(foreignWord), (words) => {
        const text = words.join(',');
        const directives = parseDebug({ DEBUG: text });
        expect(isOn(directives)).toBe(false);
        expect(directives.debugForCommand).toBe(text);
      }),
    );
  });

  test('our words are taken out and the others keep text and order', () => {
    const ours = fc.constantFrom('verbose', 'stayalive', 'stayalive=5m');
    fc.assert(
      fc.property(
        fc.array(foreignWord.filter((word) => word !== '')),
        fc.array(ours, { minLength: 1 }),
        fc.infiniteStream(fc.nat()),
        (foreign, words, picks) => {
          const mixed = [...foreign];
          for (const word of words) mixed.splice((picks.next().value ?? 0) % (mixed.length + 1), 0, word);
          const { debugForCommand } = parseDebug({ DEBUG: mixed.join(',') });
          expect(debugForCommand).toBe(foreign.length > 0 ? foreign.join(',') : undefined);
        },
      ),
    );
  });

  test('a URL comes back as it went in', () => {
    const url = fc
      .webUrl({ withQueryParameters: true })
      .filter((text) => !/#|,?(verbose|stayalive|fstree)/.test(text));
    fc.assert(
      fc.property(fc.array(url, { minLength: 1 }), (urls) => {
        const text = urls.map((one) => `fstree=${one}`).join(',');
        const { fstree } = parseDebug({ DEBUG: text });
        expect(fstree.map(({ location }) => location)).toEqual(urls.map((one) => one.replace(/,+$/, '')));
      }),
    );
  });

  test('100 kB of somebody else’s words', () => {
    const text = Array.from({ length: 12_000 }, (_, index) => `app:${index}`).join(',');
    expect(text.length).toBeGreaterThan(90_000);
    expect(parseDebug({ DEBUG: `${text},verbose` })).toMatchObject({ verbose: true, debugForCommand: text });
    expect(parseDebug({ DEBUG: 'verbos,'.repeat(14_000) }).hints).toHaveLength(3);
    expect(parseDebug({ DEBUG: 'x'.repeat(100_000) }).hints).toEqual([]);
  });
});

test('an fstree can be written as it was read', () => {
  for (const text of [
    'http://h/a',
    `http://h/a,b?x=1#sha256=${HEX}`,
    `/a#sha256=${HEX}&strip=0`,
    'a#strip=2',
  ]) {
    expect(formatFstree(parseFstree(text))).toBe(text);
  }
});

test('durations', () => {
  expect(['1s', '90s', '30m', '2h', '576h'].map(parseDuration)).toEqual([
    1_000, 90_000, 1_800_000, 7_200_000, 2_073_600_000,
  ]);
  for (const text of ['', '0s', 's', '5', '5 m', '-1s', '1d', '5M', '577h', '99999999s', '1h30m']) {
    expect(parseDuration(text)).toBeUndefined();
  }
});

describe('record', () => {
  test.each(['record=', 'record=1', 'record=5m'])('%s: it takes no value', (text) => {
    expect(failure({ DEBUG: text }).message).toContain('record takes no value');
  });

  test.each(['recorder', 'records', 'recorder:*', 'recording', 'recreate', 'accord', 'discord', 'report'])(
    '%s is somebody’s own, without a word about it',
    (text) => {
      expect(parseDebug({ DEBUG: text })).toMatchObject({ ...byDebug, debugForCommand: text, hints: [] });
    },
  );

  test.each(['RECORD', "'record'", 'recor', 'a record'])('%s is nearly ours', (text) => {
    expect(parseDebug({ DEBUG: text }).hints).toEqual([`DEBUG has '${text}': did you mean 'record'?`]);
  });
});
