/** What .github/workflows may do: only what it needs, with actions that cannot change under us. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execaSync } from 'execa';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';

interface Step {
  readonly uses?: string;
  readonly run?: string;
  readonly with?: Record<string, unknown>;
}

interface Workflow {
  readonly on: Record<string, unknown>;
  readonly permissions: unknown;
  readonly jobs: Record<string, { permissions: Record<string, string>; needs?: string; steps: Step[] }>;
}

const folder = fileURLToPath(new URL('../.github/workflows', import.meta.url));
const texts = Object.fromEntries(
  readdirSync(folder).map((name) => [name, readFileSync(join(folder, name), 'utf8')]),
);
const read = (name: string): Workflow => parse(texts[name] ?? '');

describe.each(Object.keys(texts))('%s', (name) => {
  const { permissions, jobs } = read(name);

  test('every action is a commit, with its version beside it', () => {
    const uses = [...(texts[name] ?? '').matchAll(/^.*\buses: *(.*)$/gm)].map(([, action]) => action);
    const parsed = Object.values(jobs).flatMap(({ steps }) => steps.flatMap((step) => step.uses ?? []));
    expect(uses.length).toBe(parsed.length);
    expect(uses.length).toBeGreaterThan(0);
    for (const action of uses) expect(action).toMatch(/^[\w-]+\/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/);
  });

  test('nothing is permitted but what a job asks for; a checkout keeps no credentials', () => {
    expect(permissions).toEqual({});
    for (const job of Object.values(jobs)) {
      expect(job.permissions).toEqual(expect.any(Object));
      const checkouts = job.steps.filter(({ uses }) => uses?.startsWith('actions/checkout@'));
      for (const checkout of checkouts) expect(checkout.with).toEqual({ 'persist-credentials': false });
    }
  });

  test('there is no secret but the token of the run', () => {
    const secrets = (texts[name] ?? '').match(/secrets\.\w+/g) ?? [];
    expect(secrets.filter((secret) => secret !== 'secrets.GITHUB_TOKEN')).toEqual([]);
  });
});

describe('release.yml', () => {
  const { on, jobs } = read('release.yml');
  const lines = (job: string) => (jobs[job]?.steps ?? []).flatMap(({ run }) => run ?? []).join('\n');

  test('a tag that is not the version fails before anything else is done; all tests run', () => {
    expect(on).toEqual({ push: { tags: ['v*'] } });
    const steps = jobs.test?.steps ?? [];
    const check = steps.findIndex(({ run }) =>
      /"v\$version" != "\$GITHUB_REF_NAME"[\s\S]*exit 1/.test(run ?? ''),
    );
    expect(check).toBe(1); // after the checkout
    expect(steps.findIndex(({ run }) => run === 'bash .ci/run')).toBe(2);
  });

  test('only what was tested is published; who may publish runs no code of ours', () => {
    expect(Object.fromEntries(Object.entries(jobs).map(([name, job]) => [name, job.permissions]))).toEqual({
      test: { contents: 'read' },
      npm: { 'id-token': 'write' },
      image: { packages: 'write' },
    });
    for (const name of ['npm', 'image']) {
      expect(jobs[name]?.needs).toBe('test');
      expect(jobs[name]?.steps.some(({ uses }) => uses?.startsWith('actions/checkout@'))).toBe(false);
    }
    expect(lines('npm')).toBe('npm publish ./ddbg-entry-*.tgz --provenance --access public');
    expect(lines('image')).toContain('--platform linux/amd64,linux/arm64 --attest type=provenance,mode=max');
  });
});

test('release.yml’s check of the tag: the shell says no to another', () => {
  const script = read('release.yml').jobs.test?.steps[1]?.run ?? '';
  const root = fileURLToPath(new URL('..', import.meta.url));
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const check = (tag: string) =>
    execaSync('sh', ['-ec', script], { cwd: root, env: { GITHUB_REF_NAME: tag }, reject: false }).exitCode;
  expect([check(`v${version}`), check(version), check('v9.9.9')]).toEqual([0, 1, 1]);
});
