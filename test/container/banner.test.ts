/** Every line of the banner, pasted: read out of the log and run as it stands. */
import { expect, it } from 'vitest';
import { type CommandResult, describeWithEngine, docker } from './docker.ts';
import { startEntry, waitForPark } from './kit.ts';

/** What is to be typed after one of the banner's labels; undefined: there is no such line. */
function typed(text: string, label: string): string | undefined {
  return new RegExp(`^${label}: +(.*?)(?:   (?:\\(|or[ ,]).*)?$`, 'm').exec(text)?.[1];
}

/** As a shell would split it: words, and '...' as one. The engine of the tests is asked, and there is no terminal. */
function paste(line: string, input = ''): Promise<CommandResult> {
  const words = [...line.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, word]) => quoted ?? word ?? '');
  expect(words.shift()).toBe('docker');
  return docker(
    words.map((word) => (word === '-it' ? '-i' : word)),
    { input },
  );
}

/** Nothing that could be a shell is left. */
const SHELLS = '/bin/bash /bin/rbash /bin/sh /bin/dash /bin/ash /bin/zsh /bin/zsh5 /bin/rzsh';
const WITHOUT_SHELL = ['sh', '-c', `rm -f ${SHELLS}; exit 7`];

describeWithEngine('the banner', ({ node20, node24, native }) => {
  it.each([
    ['Node 20', node20],
    ['Node 24', node24],
    ['native', native],
  ])('%s: each line works', async (_, image) => {
    const container = await startEntry(image, ['sh', '-c', 'exit 7'], { DEBUG: 'stayalive' });
    const { text, environmentFile, release } = await waitForPark(container);
    expect(text.split('\n').length).toBeLessThanOrEqual(9);

    const inside = await paste(typed(text, 'get in') ?? '', 'echo I am $((40 + 2)); exit\n');
    expect(inside).toMatchObject({ status: 0, stdout: expect.stringContaining('I am 42') });
    expect((await container.exec(['sh', '-c', `. ${environmentFile}`])).status).toBe(0);
    const report = typed(text, 'what happened');
    if (report !== undefined) expect(await paste(report)).toMatchObject({ status: 0 });
    const again = typed(text, 'again');
    if (again !== undefined) {
      expect(await paste(again)).toMatchObject({ status: 0 });
      await container.waitForLog(/(let it go: [\s\S]*){2}---/);
    }

    expect((await docker(['exec', container.id, 'sh', '-c', release])).status).toBe(0);
    expect(await container.wait()).toBe(7);

    const other = await startEntry(image, ['sh', '-c', 'exit 7'], { DEBUG: 'stayalive' });
    const line = typed((await waitForPark(other)).text, 'let it go');
    expect(await paste(line ?? '')).toMatchObject({ status: 0 });
    expect(await other.wait()).toBe(7);
  });

  it.each([
    ['Node 20', node20],
    ['native', native],
  ])('%s, an image without a shell: no line asks for one', async (_, image) => {
    const container = await startEntry(image, WITHOUT_SHELL, { DEBUG: 'stayalive' });
    const { input } = await container.waitForLog(/let it go: .*\n.*-{60}/);
    const text = input.replaceAll('ddbg-entry: ', '');
    expect(text.slice(text.indexOf('the container stays'))).not.toMatch(/\b(?:bash|ash|zsh|ddbg shell)\b/);
    const copy = /^get in: +this image has no shell; (docker cp \S+):\/PATH \. copies files out$/m.exec(
      text,
    )?.[1];
    const copied = await paste(`${copy}:/etc/hostname -`); // `-`: a tar of it on stdout
    expect(copied).toMatchObject({ status: 0, stdout: expect.stringContaining('hostname') });
    expect(await paste(typed(text, 'let it go') ?? '')).toMatchObject({ status: 0 });
    expect(await container.wait()).toBe(7);
  });
});
