import { expect, test } from 'vitest';
import { judgeOutcome } from '../../src/fault.ts';
import type { BannerFacts } from '../../src/report/banner.ts';
import { parkBanner, showCommand, showDuration, stayAliveHint } from '../../src/report/banner.ts';

const fault = judgeOutcome({ kind: 'killed', signal: 'SIGSEGV' }, undefined);
const facts: BannerFacts = {
  fault,
  command: "node 'my server.js' '--token=***'",
  commandPid: 12,
  durationMs: 200_000,
  container: { evidence: '/.dockerenv', engine: 'docker', id: '3f2a3f2a3f2a', pod: undefined },
  ownPid: 1,
  shell: 'bash',
  stateDirectory: '/run/ddbg',
  limitMs: 1_800_000,
  isReachedByStops: true,
};

test('what happened, how to get in, how to let go', () => {
  const lines = parkBanner(facts);
  expect(lines).toContain(
    "fault: node 'my server.js' '--token=***' (pid 12, ran 3 min 20 s) was killed by signal SIGSEGV (11)",
  );
  expect(lines.join('\n')).toContain('usually means: it used memory that is not its own');
  expect(lines).toContain('the container stays for 30 min, everything in it is as it was left');
  expect(lines).toContain('get in:      docker exec -it 3f2a3f2a3f2a bash');
  expect(lines).toContain('its environment, once inside: . /run/ddbg/environ.sh');
  expect(lines).toContain(
    'let it go:   docker stop 3f2a3f2a3f2a   or, inside: kill 1   (it ends with status 139)',
  );
});

test('a pod, podman, an image without a shell, no container at all', () => {
  const pod = {
    ...facts.container,
    engine: 'kubernetes' as const,
    pod: { name: 'web-1', namespace: 'shop' },
  };
  expect(parkBanner({ ...facts, container: pod })).toContain(
    'get in:      kubectl exec -it web-1 -n shop -- bash',
  );
  const podman = { ...facts.container, engine: 'podman' as const };
  expect(parkBanner({ ...facts, container: podman })).toContain(
    'get in:      podman exec -it 3f2a3f2a3f2a bash',
  );
  expect(parkBanner({ ...facts, shell: undefined }).join('\n')).toContain('docker cp 3f2a3f2a3f2a:/PATH .');
  const npx = parkBanner({ ...facts, isReachedByStops: false, ownPid: 20 });
  expect(npx).toContain(
    "let it go:   docker exec 3f2a3f2a3f2a bash -c 'kill 20'   (it ends with status 139)",
  );
  const none = { ...facts.container, evidence: undefined };
  expect(parkBanner({ ...facts, container: none }).join('\n')).toMatch(
    /another terminal[\s\S]*let it go: +kill 1 /,
  );
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
