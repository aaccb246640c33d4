import { describe, expect, test } from 'vitest';
import { isSecretName, makeMask, maskArguments, maskUrls, maskVariable } from '../src/secrets.ts';

test.each([
  ['DB_PASSWORD', true],
  ['password', true],
  ['POSTGRES_PASSWORD_FILE', true],
  ['GITHUB_TOKEN', true],
  ['CLIENT_SECRET', true],
  ['AWS_SECRET_ACCESS_KEY', true],
  ['AWS_ACCESS_KEY_ID', true],
  ['spring.datasource.password', true],
  ['DB_PASS', true],
  ['DB_PWD', true],
  ['MYSQL_PASSWD', true],
  ['SSH_PRIVATE_THING', true],
  ['SENTRY_DSN', true],
  ['BASIC_AUTH', true],
  ['PWD', false],
  ['OLDPWD', false],
  ['SSH_AUTH_SOCK', false],
  ['PATH', false],
  ['HOME', false],
  ['SSHPASS', true],
  ['AZURE_STORAGE_CONNECTION_STRING', true],
  ['ConnectionStrings__Default', true],
  ['OTEL_EXPORTER_OTLP_HEADERS', true],
  ['AUTHOR', false],
  ['PASSENGER_ROOT', false],
  ['DATABASE_URL', false],
])('isSecretName(%s) is %s', (name, secret) => {
  expect(isSecretName(name)).toBe(secret);
});

test.each([
  ['https://user:geheim@host/a', 'https://***@host/a'],
  ['https://geheim@host/a', 'https://***@host/a'],
  ['postgres://u:p@ss@db/x', 'postgres://***@db/x'],
  ['see https://u:p@h/x and http://v:q@i/y', 'see https://***@h/x and http://***@i/y'],
  ['https://h/a?X-Amz-Signature=abc&x=1', 'https://h/a?X-Amz-Signature=***&x=1'],
  ['https://h/a?token=abc#sha256=1', 'https://h/a?token=***#sha256=1'],
  ['https://h/a?sig=a%2Fb&sv=1&sr=b', 'https://h/a?sig=***&sv=***&sr=b'],
  ['https://user:pa\'ss"wd@host/', 'https://***@host/'],
  ["https://h/a?token=abc'def&x=1", 'https://h/a?token=***&x=1'],
  ['https://h/a?pass=x&pwd=y&st=z&sort=up', 'https://h/a?pass=***&pwd=***&st=***&sort=up'],
  ['https://h/a#access_token=x', 'https://h/a#access_token=***'],
  ['https://h/a#sha256=ab&strip=1', 'https://h/a#sha256=ab&strip=1'],
  ['https://h/path@2/x', 'https://h/path@2/x'],
  ['no url: a=b?token=c', 'no url: a=b?token=c'],
  ['http://[malformed?key=1', 'http://[malformed?key=***'],
])('maskUrls(%s)', (text, masked) => {
  expect(maskUrls(text)).toBe(masked);
});

test('maskUrls takes a megabyte in stride', () => {
  const text = `${'a://'.repeat(100_000)}${'?'.repeat(100_000)}${'&a'.repeat(200_000)}`;
  expect(maskUrls(text).length).toBe(text.length);
});

describe('what the command’s world shows', () => {
  const mask = makeMask({ DB_PASSWORD: 'geheim-wort', SHORT_TOKEN: 'true', PLAIN: 'geheim-not' });

  test('variables', () => {
    expect(maskVariable('DB_PASSWORD', 'geheim-wort', mask)).toBe('DB_PASSWORD=***');
    expect(maskVariable('DB_PASSWORD', '', mask)).toBe('DB_PASSWORD=');
    expect(maskVariable('URL', 'http://u:x@h/geheim-wort', mask)).toBe('URL=http://***@h/***');
    expect(maskVariable('OTHER', 'true', mask)).toBe('OTHER=true');
    expect(maskVariable('DB', 'host=db password=x port=1', mask)).toBe('DB=host=db password=*** port=1');
    expect(maskVariable('DB', 'Server=h;Password=x;Port=1', mask)).toBe('DB=Server=h;Password=***;Port=1');
    expect(maskVariable('JSON', '{"password": "x", "a": 1}', mask)).toBe('JSON={"password": "***", "a": 1}');
    expect(maskVariable('H', 'Authorization: Bearer abc.d', mask)).toBe('H=Authorization: Bearer ***');
  });

  test('arguments', () => {
    const argv = [
      'db',
      '--password=x',
      '--token',
      'abc',
      '--port',
      '1',
      'API_KEY=z',
      'geheim-wort',
      '--key',
      '--next',
    ];
    expect(maskArguments(argv, mask)).toEqual([
      'db',
      '--password=***',
      '--token',
      '***',
      '--port',
      '1',
      'API_KEY=***',
      '***',
      '--key',
      '--next',
    ]); // prettier
  });
});
