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
  ['AUTHORIZATION', true],
  ['JWT', true],
  ['BEARER', true],
  ['CARD_PIN', true],
  ['SHIPPING', false],
  ['KEYBOARD', false],
  ['TOKENIZERS_PARALLELISM', false],
  ['TOKENIZER_API_KEY', true],
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
  ["'https://u@h/p?signature=x' -p1", "'https://***@h/p?signature=***' -p1"],
  ["cannot get 'https://h/p?sig=x', 404", "cannot get 'https://h/p?sig=***', 404"],
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

  test('what says something about a secret is shown, unless it may be the secret itself', () => {
    const shown = (name: string, value: string) => maskVariable(name, value, makeMask({ [name]: value }));
    for (const [name, value] of [
      ['DB_PASSWORD_FILE', '/run/secrets/db'],
      ['SECRET_FILE', './secret.txt'],
      ['KEY_PATH', 'certs/server.pem'],
      ['TOKEN_TTL', '3600'],
      ['SESSION_TIMEOUT', '30min'],
      ['API_KEY_HEADER', 'X-Api-Key'],
      ['KEYBOARD', 'de-latin1-nodeadkeys'],
    ] as const)
      expect(shown(name, value)).toBe(`${name}=${value}`);
    for (const [name, value] of [
      ['DB_PASSWORD_FILE', 'hunter2hunter2'],
      ['SECRET_FILE', '-----BEGIN KEY-----\nabc/def\n'],
      ['TOKEN_TTL', 'a8f5f167f44f4964'],
      ['AUTH_HEADER', 'a8f5f167f44f4964'],
      ['TOKEN_HEADER', 'X-Token: a8f5f167f44f4964'],
    ] as const)
      expect(shown(name, value)).toBe(`${name}=***`);
    const files = makeMask({ DB_PASSWORD_FILE: '/run/secrets/db' });
    expect(files('/run/secrets/db: no such file')).toBe('/run/secrets/db: no such file');
  });

  test.each([
    '/etc/passwd: Permission denied',
    '/etc/passwd: permission denied',
    '/opt/token: No such file or directory',
    'cat: /run/secrets/token: No such file or directory',
    "cat: '/etc/secret:': No such file or directory",
    '/opt/my-token: cannot execute: required file not found',
    'SyntaxError: Unexpected token: foo',
    'FATAL: password: authentication failed for user "x"',
    'the token: is required',
    'secret: cannot read',
    'secret: not found',
    'Basic authentication failed',
    'docker run -u 1000:1000 curl',
  ])('what is no secret stays: %s', (text) => {
    expect(mask(text)).toBe(text);
  });

  test.each([
    ['Password: hunter2', 'Password: ***'],
    ['invalid token: eyJabc.def', 'invalid token: ***'],
    ['/run/secrets/token:hunter2', '/run/secrets/token:***'],
    ['read /run/secrets/token: hunter2', 'read /run/secrets/token: ***'],
    ['/x/token=hunter2', '/x/token=***'],
    ['/a/b.secret=hunter2 token=x', '/a/b.secret=*** token=***'],
    ['password: notmydog', 'password: ***'],
    ["password ':x'", "password ':x'"],
    ['Cookie: sid=abc; id=def', 'Cookie: ***'],
    ['{"cookie":"sid=abc","a":1}', '{"cookie":"***","a":1}'],
    ["curl -u bob:geheim -H 'Cookie: sid=1' h", "curl -u bob:*** -H 'Cookie: ***' h"],
    ['curl -u "bob:x y" h', 'curl -u "bob:***" h'],
    ['curl -ubob:geheim --user=bob:x h', 'curl -ubob:*** --user=bob:*** h'],
  ])('what is one goes: %s', (text, masked) => {
    expect(mask(text)).toBe(masked);
    expect(mask(masked)).toBe(masked);
  });

  test('a password that its own name tells is not looked for; the name of the program is no secret', () => {
    const known = makeMask({ POSTGRES_PASSWORD: 'postgres', DB_PASSWORD: 'password' });
    expect(known('postgres: not found in PATH')).toBe('postgres: not found in PATH');
    expect(known('password authentication failed')).toBe('password authentication failed');
    expect(maskVariable('POSTGRES_PASSWORD', 'postgres', known)).toBe('POSTGRES_PASSWORD=***');
    const other = makeMask({ PGPASSWORD: 'rabbitmq', ROOT_PW: 'hunter2hunter2' });
    expect(maskArguments(['rabbitmq', 'rabbitmq'], other)).toEqual(['rabbitmq', '***']);
    expect(maskArguments(['/opt/hunter2hunter2/rabbitmq'], other)).toEqual(['/opt/***/rabbitmq']);
    expect(maskArguments(['hunter2hunter2'], other)).toEqual(['***']);
    expect(maskArguments(['/etc/passwd'], other)).toEqual(['/etc/passwd']);
  });

  test('names with passwords, and headers', () => {
    const argv = [
      'curl',
      '-u',
      'bob:x:y',
      '-ubob:x',
      '--user=bob:x',
      '-U',
      'bob:x',
      '-u',
      '1000:1000',
      '-u',
      'http://h',
    ];
    expect(maskArguments(argv, mask).join(' ')).toBe(
      'curl -u bob:*** -ubob:*** --user=bob:*** -U bob:*** -u 1000:1000 -u http://h',
    );
    const headers = [
      ...['curl', '-H', 'Cookie: sid=1; x=2', '--header=Cookie: sid=1', '-HCookie: sid', '-H', 'X-Auth: a b'],
      ...['-H', 'Authorization: Bearer abc', '-H', 'Accept: text/html', '--header', 'Authorization: abc'],
    ];
    expect(maskArguments(headers, mask)).toEqual([
      ...['curl', '-H', 'Cookie: ***', '--header=Cookie: ***', '-HCookie: ***', '-H', 'X-Auth: ***'],
      ...['-H', 'Authorization: Bearer ***', '-H', 'Accept: text/html', '--header', 'Authorization: ***'],
    ]);
  });

  test('takes a megabyte in stride', () => {
    for (const piece of ['/', 'token', 'token:', '-u a', 'curl -u ', 'cookie:', 'a', '/token: a ', "'"]) {
      const text = piece.repeat(1_000_000 / piece.length);
      const before = performance.now();
      mask(text);
      expect(performance.now() - before).toBeLessThan(3_000);
    }
  });
});
