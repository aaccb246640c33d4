/** What last words claim, in the ways of many programs. */
import { expect, test } from 'vitest';
import { readLastWords } from '../../src/report/words.ts';

const read = (text: string, msBeforeEnd: number | undefined = 10) =>
  readLastWords(text.split('\n').map((line) => ({ text: line, msBeforeEnd })));

const claimOf = (text: string) => read(text).statements[0]?.claim;

test.each([
  ['Error: listen EADDRINUSE: address already in use :::3000', { kind: 'port-in-use', port: 3000 }],
  ['Error: listen EADDRINUSE: address already in use 127.0.0.1:8080', { kind: 'port-in-use', port: 8080 }],
  ['listen tcp :8080: bind: address already in use', { kind: 'port-in-use', port: 8080 }],
  ['listen tcp 0.0.0.0:80: bind: address already in use', { kind: 'port-in-use', port: 80 }],
  [
    'nginx: [emerg] bind() to 0.0.0.0:80 failed (98: Address already in use)',
    { kind: 'port-in-use', port: 80 },
  ],
  ['Web server failed to start. Port 8080 was already in use.', { kind: 'port-in-use', port: 8080 }],
  ['OSError: [Errno 98] Address already in use', { kind: 'port-in-use', port: undefined }],
  ["dd: error writing '/full/x': No space left on device", { kind: 'disk-full', path: '/full/x' }],
  ['sh: 1: cannot create /full/3: No space left on device', { kind: 'disk-full', path: '/full/3' }],
  ['Error: ENOSPC: no space left on device, write', { kind: 'disk-full', path: undefined }],
  ['Error: ENOSPC: System limit for number of file watchers reached', undefined],
  ["mkdir: cannot create directory '/data': Read-only file system", { kind: 'read-only', path: '/data' }],
  ["Error: EROFS: read-only file system, open '/app/x'", { kind: 'read-only', path: '/app/x' }],
  ['touch: /data/x: Read-only file system', { kind: 'read-only', path: '/data/x' }],
  ["Error: EACCES: permission denied, open '/etc/shadow'", { kind: 'permission', path: '/etc/shadow' }],
  ["PermissionError: [Errno 13] Permission denied: '/srv/x'", { kind: 'permission', path: '/srv/x' }],
  ['bash: line 1: /srv/x: Permission denied', { kind: 'permission', path: '/srv/x' }],
  ['sh: 1: cannot create out.txt: Permission denied', { kind: 'permission', path: 'out.txt' }],
  ['open /var/lib/x: permission denied', { kind: 'permission', path: '/var/lib/x' }],
  ['java.io.FileNotFoundException: /srv/x (Permission denied)', { kind: 'permission', path: '/srv/x' }],
  ["Error: EMFILE: too many open files, open '/x'", { kind: 'descriptors' }],
  ['accept: too many open files in system', undefined],
  ['bash: fork: Resource temporarily unavailable', { kind: 'fork-refused' }],
  ['bash: fork: retry: Resource temporarily unavailable', { kind: 'fork-refused' }],
  ['bash: fork: Interrupted system call', { kind: 'fork-refused' }],
  ['sh: 1: Cannot fork', { kind: 'fork-refused' }],
  ['java.lang.OutOfMemoryError: unable to create new native thread', { kind: 'fork-refused' }],
  ["RuntimeError: can't start new thread", { kind: 'fork-refused' }],
  ['Error: getaddrinfo ENOTFOUND db.internal', { kind: 'name-not-resolved', name: 'db.internal' }],
  ['Error: getaddrinfo EAI_AGAIN db', { kind: 'name-not-resolved', name: 'db' }],
  ['curl: (6) Could not resolve host: example.test', { kind: 'name-not-resolved', name: 'example.test' }],
  ['dial tcp: lookup db on 127.0.0.11:53: no such host', { kind: 'name-not-resolved', name: 'db' }],
  [
    'psql: error: could not translate host name "db" to address: x',
    { kind: 'name-not-resolved', name: 'db' },
  ],
  ['ping: db: Name or service not known', { kind: 'name-not-resolved', name: 'db' }],
  ['socket.gaierror: [Errno -2] Name or service not known', { kind: 'name-not-resolved', name: undefined }],
  [
    'x: error while loading shared libraries: libz.so.1: cannot open shared object file: No such file or directory',
    { kind: 'library-missing', name: 'libz.so.1' },
  ],
  [
    'Error loading shared library libz.so.1: No such file or directory (needed by /x)',
    { kind: 'library-missing', name: 'libz.so.1' },
  ],
  ['sh: 1: jq: not found', { kind: 'not-found', name: 'jq' }],
  ['bash: line 1: jq: command not found', { kind: 'not-found', name: 'jq' }],
  ['/entry.sh: line 3: jq: command not found', { kind: 'not-found', name: 'jq' }],
  ['env: ‘python9’: No such file or directory', { kind: 'not-found', name: 'python9' }],
  ['exec: "jq": executable file not found in $PATH', { kind: 'not-found', name: 'jq' }],
  [
    'bash: ./x.sh: /bin/bash^M: bad interpreter: No such file or directory',
    { kind: 'not-found', name: './x.sh' },
  ],
  ['upstream request timed out', { kind: 'timeout' }],
  ['all is well', undefined],
])('%s', (line, claim) => {
  expect(claimOf(line)).toEqual(claim);
});

test('what was said before it went on is no reason', () => {
  const full = "cp: error writing '/x': No space left on device";
  expect(claimOf(full)?.kind).toBe('disk-full');
  expect(claimOf(`warning: ${full}`)).toBeUndefined();
  expect(claimOf(`${full}, ignored`)).toBeUndefined();
  expect(claimOf(`${full}\none\ntwo\nthree`)).toBeUndefined();
  expect(read(full, 60_000).statements).toEqual([]);
  expect(read(full, 60_000).line).toBeUndefined();
});

test('a claim loses to a later line that tells of another failure, and to none that passes it on', () => {
  const denied = "ls: cannot open directory '/root': Permission denied";
  for (const later of [
    'login failed: invalid credentials',
    'test suite: 3 failed',
    'FATAL: license expired',
    'Error: x',
  ]) {
    expect(read(`${denied}\n${later}`)).toMatchObject({ statements: [], line: later });
    expect(read(`${denied}\n${later}`).overruled).toMatchObject([{ line: denied }]);
  }
  for (const later of [
    'bye',
    '0 errors',
    'npm error code 2',
    'make: *** [Makefile:2: all] Error 2',
    'exited with status 2',
    "Emitted 'error' event on Server instance at:",
  ]) {
    expect(read(`${denied}\n${later}`).statements).toMatchObject([{ line: denied }]);
  }
});

test('of two streams in one moment the claim is not taken for the last word', () => {
  const lines = (apartMs: number) =>
    readLastWords([
      { text: 'test suite: 3 failed', msBeforeEnd: 5 + apartMs, stream: 'stdout' },
      { text: 'grep: /etc/x: No such file or directory', msBeforeEnd: 5, stream: 'stderr' },
    ]);
  expect(lines(1)).toMatchObject({ line: 'test suite: 3 failed', statements: [] });
  expect(lines(100)).toMatchObject({ statements: [{ claim: { kind: 'not-found' } }] });
});

test('what a shell traces is not what the command says', () => {
  expect(read('boom\n+ sh: exit 1').line).toBe('boom');
  expect(read('boom\n+ /entry.sh:3: exit 1\n++ /entry.sh:3:main(): date\n+zsh:1> exit').line).toBe('boom');
  expect(read('+ sh: curl: not found').statements).toEqual([]);
  expect(read('+1 for that').line).toBe('+1 for that');
});

const NODE = `/app/x.js:2
order.items;
      ^

TypeError: Cannot read properties of undefined (reading 'items')
    at Object.<anonymous> (/app/x.js:2:7)
    at Module._compile (node:internal/modules/cjs/loader:1554:14)

Node.js v20.20.2`;

test.each([
  ['Node', NODE, { line: /^TypeError: Cannot read/, place: '/app/x.js:2' }],
  [
    'Node',
    `node:events:497\n      throw er; // Unhandled 'error' event\n      ^\n\nError: listen EADDRINUSE: address already in use :::80\n    at Server.setupListenHandle [as _listen2] (node:net:1904:16)\n    at Object.<anonymous> (/app/s.js:9:3)\n  code: 'EADDRINUSE',\n  port: 80\n}\n\nNode.js v20.20.2`,
    { line: /^Error: listen EADDRINUSE/, place: '/app/s.js:9' },
  ],
  [
    'Python',
    'Traceback (most recent call last):\n  File "/a.py", line 3, in <module>\n    x()\nValueError: no',
    { line: /^ValueError: no$/, place: '/a.py:3' },
  ],
  [
    'Java',
    'Exception in thread "main" java.lang.Error: no\n\tat a.B.c(B.java:4)\nCaused by: x\n\t... 3 more',
    { line: /^java\.lang\.Error: no$/, place: 'B.java:4' },
  ],
  [
    'Go',
    'panic: no\n\ngoroutine 1 [running]:\nmain.main()\n\t/src/m.go:12 +0x1',
    { line: /^panic: no$/, place: '/src/m.go:12' },
  ],
  ['Rust', "thread 'main' panicked at src/main.rs:2:5:\nno", { line: /^no$/, place: 'src/main.rs:2' }],
  [
    'Ruby',
    "a.rb:3:in `x': no (RuntimeError)\n\tfrom a.rb:9:in `<main>'",
    { line: /^RuntimeError: no$/, place: 'a.rb:3' },
  ],
  [
    '.NET',
    'Unhandled exception. System.E: no\n   at P.M() in /src/P.cs:line 7',
    { line: /^System\.E: no$/, place: '/src/P.cs:7' },
  ],
  [
    'C++',
    "terminate called after throwing an instance of 'std::x'\n  what():  no",
    { line: /^std::x: no$/, place: undefined },
  ],
])('an uncaught exception of %s', (runtime, text, { line, place }) => {
  const { exception } = read(text);
  expect(exception).toMatchObject({ runtime, place });
  expect(exception?.line).toMatch(line);
});

test('an exception that somebody caught is none', () => {
  expect(read(NODE.replace(/\n\nNode\.js.*/, '')).exception).toBeUndefined(); // console.error(error)
  expect(read(`${NODE}\n1\n2\n3\n4\n5\n6`).exception).toBeUndefined();
  const logged =
    'ERROR:root:cannot\nTraceback (most recent call last):\n  File "/a.py", line 3, in x\nValueError: no';
  expect(read(logged).exception).toBeUndefined();
});

test('the last line that tells something', () => {
  expect(read('one\n\u001b[31mtwo\u001b[0m\n\n').line).toBe('two');
  expect(read(NODE).line).toMatch(/^TypeError/);
  expect(read('').line).toBeUndefined();
});
