/** `ENTRYPOINT ["npx", "ddbg-entry", "--"]`: it runs, and under debug says what npx takes away. */
import { describe, expect, it } from 'vitest';
import { type ContainerOptions, describeWithEngine, run, start } from './docker.ts';
import { ownLines, untilTerm, waitForPark } from './kit.ts';

function npx(command: readonly string[], env: Readonly<Record<string, string>> = {}): ContainerOptions {
  return { entrypoint: 'npx', command: ['ddbg-entry', '--', ...command], env };
}

const BY_BASH = { npm_config_script_shell: '/bin/bash' };
const DEGRADED_BY_DASH = /^started by npx through dash: .*ENV npm_config_script_shell=\/bin\/bash/;
const DEGRADED = /^started by npx: HUP .*ENTRYPOINT \["ddbg-entry", "--"\]$/;

/** The command's environment is full of npm's. */
function linesOnNpx(stderr: string): string[] {
  return ownLines(stderr).filter((line) => line.includes('npx') && !line.startsWith('environment: '));
}

describeWithEngine('npx', (images) => {
  describe.each([
    ['Node 20', images.node20],
    ['Node 20, native', images.native],
    ['Node 24', images.node24],
  ])('%s', (_, image) => {
    it.each([0, 7])('off: status %i, without a network and without a word', async (status) => {
      const ended = await run(image, npx(['sh', '-c', `echo out; exit ${status}`]));
      expect(ended).toEqual({ status, stdout: 'out\n', stderr: '' });
    });

    it.each([undefined, 'stayalive', 'express:*,stayalive'])(
      'DEBUG=%s: the command has the environment of the container, whatever npm and its shell do to it',
      async (DEBUG) => {
        const env = {
          'spring.datasource.url': 'jdbc:h2:mem',
          'a-b': 'c',
          'un.dashed-name': '',
          EDITOR: 'ed',
          LINES: "it's\ntwo $HOME",
          npm_config_loglevel: 'silent',
        };
        const left = DEBUG?.replace(/,?stayalive/, '');
        const flags = ['--hostname', 'same', '--workdir', '/usr/lib'];
        const look = ['cat', '/proc/self/environ'];
        const variables = (text: string) => text.split('\0').sort();
        const plain = await run(image, {
          command: look,
          flags,
          env: { ...env, ...(left ? { DEBUG: left } : {}) },
        });
        const byDash = { ...npx(look, { ...env, ...(DEBUG === undefined ? {} : { DEBUG }) }), flags };
        const ended = await run(image, byDash);
        expect(variables(plain.stdout)).toContain('spring.datasource.url=jdbc:h2:mem');
        expect(ended.status).toBe(0);
        expect(ended.stderr).toMatch(DEBUG === undefined ? /^$/ : /^ddbg-entry: started by npx .*\n$/);
        expect(variables(ended.stdout)).toEqual(variables(plain.stdout));
      },
    );

    it('verbose: one line says what npx degrades and the line that mends it', async () => {
      const ended = await run(image, npx(['sh', '-c', 'exit 7'], { DEBUG: 'verbose' }));
      expect(ended.status).toBe(7);
      expect(linesOnNpx(ended.stderr)).toEqual([expect.stringMatching(DEGRADED_BY_DASH)]);
    });

    it('verbose, mended: the line is another, and docker stop reaches the command', async () => {
      const container = await start(image, npx(untilTerm(3), { DEBUG: 'verbose', ...BY_BASH }));
      await container.waitForLog(/^up$/m);
      await container.stop({ timeoutS: 30 });
      expect(await container.wait()).toBe(3);
      const { stdout, stderr } = await container.logs();
      expect(stdout).toBe('up\nstopping\n');
      expect(linesOnNpx(stderr)).toEqual([expect.stringMatching(DEGRADED)]);
    });

    it('off, mended: docker stop reaches the command', async () => {
      const container = await start(image, npx(untilTerm(143), BY_BASH));
      await container.waitForLog(/^up$/m);
      await container.stop({ timeoutS: 30 });
      expect(await container.wait()).toBe(143);
      expect(await container.logs()).toEqual({ stdout: 'up\nstopping\n', stderr: '' });
    });

    it('stayalive, mended: held, and docker stop lets go with the status of the fault', async () => {
      const container = await start(image, npx(['sh', '-c', 'exit 7'], { DEBUG: 'stayalive', ...BY_BASH }));
      expect(await waitForPark(container)).toMatchObject({ id: container.id.slice(0, 12), status: 7 });
      await container.stop({ timeoutS: 30 });
      expect(await container.wait()).toBe(7);
    });

    it('stayalive through dash: the line that is printed lets go with the status of the fault', async () => {
      const container = await start(image, npx(['sh', '-c', 'exit 7'], { DEBUG: 'stayalive' }));
      const { text } = await waitForPark(container);
      const letGo = /^let it go: +docker exec \S+ (ddbg release) +\(it ends with status 7\)$/m;
      const [, command = ''] = letGo.exec(text) ?? [];
      expect(await container.exec(command.split(' '))).toMatchObject({ status: 0 });
      expect(await container.wait()).toBe(7);
    });

    it('stayalive through dash: docker stop is not said to give the status of the fault', async () => {
      const container = await start(image, npx(['sh', '-c', 'exit 7'], { DEBUG: 'stayalive' }));
      const { text } = await waitForPark(container);
      await container.stop({ timeoutS: 30 });
      expect(await container.wait()).toBe(1); // npm gives up, and everything with it
      expect(text).not.toMatch(/docker stop .*\(it ends with status 7\)/);
    });
  });
});
