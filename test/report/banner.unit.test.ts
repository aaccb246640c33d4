import { expect, test } from 'vitest';
import { judgeOutcome } from '../../src/fault.ts';
import type { BannerFacts } from '../../src/report/banner.ts';
import { parkBanner, showCommand, showDuration, stayAliveHint } from '../../src/report/banner.ts';

const fault = judgeOutcome({ kind: 'killed', signal: 'SIGSEGV' }, undefined);
const facts: BannerFacts = {
  fault,
  cause: undefined,
  command: "node 'my server.js' '--token=***'",
  commandPid: 12,
  durationMs: 200_000,
  container: { evidence: '/.dockerenv', engine: 'docker', id: '3f2a3f2a3f2a', pod: undefined },
  ownPid: 1,
  shell: 'bash',
  hasOwnShell: false,
  tool: undefined,
  stateDirectory: '/run/ddbg',
  limitMs: 1_800_000,
  now: new Date('2026-11-21T14:05:59Z'),
  isReachedByStops: true,
};

test('what happened, how to get in, how to let go', () => {
  const lines = parkBanner(facts);
  expect(lines).toContain(
    "fault: node 'my server.js' '--token=***' (pid 12, ran 3 min 20 s) was killed by signal SIGSEGV (11)",
  );
  expect(lines.join('\n')).toContain('usually means: it used memory that is not its own');
  expect(lines).toContain(
    'the container stays for 30 min (until 14:35 UTC; the clock stands while somebody is attached), everything in it is as it was left',
  );
  expect(lines).toContain('get in:      docker exec -it 3f2a3f2a3f2a bash');
  expect(lines).toContain('its environment, once inside: . /run/ddbg/environ.sh');
  expect(lines).toContain(
    'let it go:   docker stop 3f2a3f2a3f2a   or, inside: kill 1   (it ends with status 139)',
  );
});

test('with ddbg in PATH its words are the lines, and there are nine at most', () => {
  expect(parkBanner({ ...facts, tool: 'ddbg' }).slice(2)).toEqual([
    expect.stringMatching(/^usually means: /),
    expect.stringMatching(/^the container stays for 30 min/),
    'get in:      docker exec -it 3f2a3f2a3f2a ddbg shell   or bash, and there: . /run/ddbg/environ.sh',
    'what happened: docker exec 3f2a3f2a3f2a ddbg report',
    'again:       docker exec 3f2a3f2a3f2a ddbg rerun',
    'let it go:   docker stop 3f2a3f2a3f2a   or, inside: ddbg release   (it ends with status 139)',
    expect.stringMatching(/^-+$/),
  ]);
});

test('a cause that somebody has found takes the place of the usual one', () => {
  const lines = parkBanner({ ...facts, cause: 'cause: killed by the OOM killer' });
  expect(lines[2]).toBe('cause: killed by the OOM killer');
  expect(lines.join('\n')).not.toContain('usually means');
});

/** The lines that are typed, without what they are for. */
const typed = (changes: Partial<BannerFacts>) =>
  parkBanner({ ...facts, ...changes })
    .map((line) => /^(?:get in|what happened|again|let it go): +(.*?)(?: {3}\(it ends.*)?$/.exec(line)?.[1])
    .filter((line) => line !== undefined);

const pod = (changes = {}) => ({
  ...facts.container,
  engine: 'kubernetes' as const,
  pod: { name: 'web-1', namespace: 'shop', container: 'app', ...changes },
});
const of = (engine: 'podman' | 'nerdctl' | 'runc' | 'crun', namespace?: string) => ({
  ...facts.container,
  engine,
  namespace,
});
const none = { shell: undefined };

test.each<[string, Partial<BannerFacts>, readonly string[]]>([
  [
    'podman',
    { container: of('podman') },
    ['podman exec -it 3f2a3f2a3f2a bash', 'podman stop 3f2a3f2a3f2a   or, inside: kill 1'],
  ],
  [
    'nerdctl',
    { container: of('nerdctl') },
    ['nerdctl exec -it 3f2a3f2a3f2a bash', 'nerdctl stop 3f2a3f2a3f2a   or, inside: kill 1'],
  ],
  [
    'nerdctl in a namespace',
    { container: of('nerdctl', 'shop') },
    ['nerdctl -n shop exec -it 3f2a3f2a3f2a bash', 'nerdctl -n shop stop 3f2a3f2a3f2a   or, inside: kill 1'],
  ],
  [
    'crun, which has no exec -i and no stop',
    { container: { ...of('crun'), id: 'shop' }, tool: '/ddbg/bin/ddbg', hasOwnShell: true, ...none },
    [
      'crun exec -t shop /ddbg/bin/ddbg shell',
      'crun exec shop /ddbg/bin/ddbg report',
      'crun exec shop /ddbg/bin/ddbg rerun',
      'crun kill shop   or, inside: /ddbg/bin/ddbg release',
    ],
  ],
  [
    'runc, and nothing says which container; no shell',
    { container: { ...of('runc'), id: undefined }, ...none },
    ['this image has no shell; its files lie where runc state CONTAINER says', 'runc kill CONTAINER'],
  ],
  [
    'a pod',
    { container: pod() },
    [
      'kubectl exec -it web-1 -n shop -c app -- bash',
      "kubectl exec web-1 -n shop -c app -- bash -c 'kill 1'",
    ],
  ],
  [
    'a pod, with the tool',
    { container: pod(), tool: 'ddbg' },
    [
      'kubectl exec -it web-1 -n shop -c app -- ddbg shell   or bash, and there: . /run/ddbg/environ.sh',
      'kubectl exec web-1 -n shop -c app -- ddbg report',
      'kubectl exec web-1 -n shop -c app -- ddbg rerun',
      'kubectl exec web-1 -n shop -c app -- ddbg release',
    ],
  ],
  [
    'a pod of which little is known',
    { container: pod({ name: undefined, namespace: undefined, container: undefined }) },
    ['kubectl exec -it POD -- bash', "kubectl exec POD -- bash -c 'kill 1'"],
  ],
  [
    'a pod without a shell',
    { ...none, container: pod() },
    [
      'this image has no shell; kubectl debug -it web-1 -n shop --target=app --image=busybox brings one along',
      'kubectl delete pod web-1 -n shop',
    ],
  ],
  [
    'no shell',
    none,
    ['this image has no shell; docker cp 3f2a3f2a3f2a:/PATH . copies files out', 'docker stop 3f2a3f2a3f2a'],
  ],
  [
    'no shell, with the tool',
    { ...none, tool: 'ddbg' },
    [
      'this image has no shell; docker cp 3f2a3f2a3f2a:/PATH . copies files out',
      'docker exec 3f2a3f2a3f2a ddbg report',
      'docker exec 3f2a3f2a3f2a ddbg rerun',
      'docker stop 3f2a3f2a3f2a   or, inside: ddbg release',
    ],
  ],
  [
    'no shell, in the carrier, which brings one',
    { ...none, tool: '/ddbg/bin/ddbg', hasOwnShell: true },
    [
      'docker exec -it 3f2a3f2a3f2a /ddbg/bin/ddbg shell',
      'docker exec 3f2a3f2a3f2a /ddbg/bin/ddbg report',
      'docker exec 3f2a3f2a3f2a /ddbg/bin/ddbg rerun',
      'docker stop 3f2a3f2a3f2a   or, inside: /ddbg/bin/ddbg release',
    ],
  ],
  [
    'stops get lost (npx)',
    { isReachedByStops: false, ownPid: 20 },
    ['docker exec -it 3f2a3f2a3f2a bash', "docker exec 3f2a3f2a3f2a bash -c 'kill 20'"],
  ],
  [
    'no state directory, with the tool',
    { stateDirectory: undefined, tool: 'ddbg' },
    [
      'docker exec -it 3f2a3f2a3f2a ddbg shell   or bash',
      'docker exec 3f2a3f2a3f2a ddbg report',
      'docker exec 3f2a3f2a3f2a ddbg rerun',
      'docker stop 3f2a3f2a3f2a   or, inside: ddbg release',
    ],
  ],
  [
    'no container at all',
    { container: { ...facts.container, evidence: undefined }, tool: 'ddbg' },
    ['this is no container: look around from another terminal', 'ddbg report', 'ddbg rerun', 'kill 1'],
  ],
])('the lines for %s', (_, changes, lines) => {
  expect(typed(changes)).toEqual(lines);
  expect(parkBanner({ ...facts, ...changes }).length).toBeLessThanOrEqual(9);
});

test.each([
  [90_000, 'until 14:07:29 UTC'],
  [30 * 60_000, 'until 14:35 UTC'],
  [12 * 3_600_000, 'until 2026-11-22 02:05 UTC'],
])('a limit of %i ms ends %s', (limitMs, text) => {
  expect(parkBanner({ ...facts, limitMs }).join('\n')).toContain(text);
});

test('parked after a success', () => {
  const lines = parkBanner({ ...facts, fault: undefined, limitMs: undefined }).join('\n');
  expect(lines).toMatch(/done: node .* ended with status 0/);
  expect(lines).toContain('(it ends with status 0)');
});

test('the hint keeps the words that were given', () => {
  if (fault === undefined) throw new Error('no fault');
  expect(stayAliveHint(fault, 'x', 'DDBG', ['verbose'])).toBe(
    'x was killed by signal SIGSEGV (11); to keep the container next time and look inside: -e DDBG=verbose,stayalive',
  );
});

test('the hint can be pasted, and says the reason of a failed set-up no second time', () => {
  const failed = judgeOutcome({ kind: 'setup-failed', reason: 'cannot fetch it' }, undefined);
  if (failed === undefined) throw new Error('no fault');
  expect(stayAliveHint(failed, 'x', 'DEBUG', ['fstree=http://h/a?b=1&c=2#sha256=ab&strip=1'])).toBe(
    "x was not started; to keep the container next time and look inside: -e 'DEBUG=fstree=http://h/a?b=1&c=2#sha256=ab&strip=1,stayalive'",
  );
});

test.each([
  [30, '0.03 s'],
  [300, '0.3 s'],
  [42_000, '42 s'],
  [90_000, '90 s'],
  [180_000, '3 min'],
  [200_000, '3 min 20 s'],
  [7_200_000, '2 h'],
  [7_500_000, '2 h 5 min'],
])('%i ms reads %s', (ms, text) => {
  expect(showDuration(ms)).toBe(text);
});

test('a command line can be pasted', () => {
  expect(showCommand(['sh', '-c', "echo 'x' $Y"], String)).toBe("sh -c 'echo '\\''x'\\'' $Y'");
  expect(showCommand(['x'.repeat(1_000)], String)).toHaveLength(303);
});
