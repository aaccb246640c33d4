/** `stayalive=5s` in real containers: its time counts only while nobody is attached. */
import { expect, it } from 'vitest';
import { type Container, describeWithEngine, start } from './docker.ts';
import { ownLines, startEntry, waitForPark } from './kit.ts';

const WAITS = 'somebody is attached: the time limit waits';
const GOES_ON = /^nobody is attached any more: it ends in \d+ s$/;
const OVER = 'the time limit is over, ending with status 7';

/** What it said after the banner. */
async function linesAfterBanner(container: Container): Promise<string[]> {
  const lines = ownLines((await container.logs()).stderr);
  return lines.slice(
    lines.lastIndexOf('----------------------------------------------------------------') + 1,
  );
}

/** Milliseconds from its start to its end, by the engine's clock. */
async function lifetimeMs(container: Container): Promise<number> {
  const { State } = await container.inspect();
  const { StartedAt, FinishedAt } = State as unknown as { StartedAt: string; FinishedAt: string };
  return Date.parse(FinishedAt) - Date.parse(StartedAt);
}

const hold = (image: string, DEBUG: string, flags: readonly string[] = []) =>
  startEntry(image, ['sh', '-c', 'exit 7'], { DEBUG, flags });

describeWithEngine('attached', ({ node20, native }) => {
  /** Bare and native at the same time: most of each is waiting. */
  const onBoth = async (check: (image: string) => Promise<void>) => {
    await Promise.all([node20, native].map(check));
  };

  it('the container lives on while somebody is there, and ends when they are gone', () =>
    onBoth(async (image) => {
      const container = await hold(image, 'stayalive=5s');
      await waitForPark(container);
      await container.exec(['sleep', '13']); // no wait for something to happen: the session itself
      expect(await container.inspect()).toMatchObject({ State: { Running: true } });
      expect(await container.wait()).toBe(7);
      expect(await linesAfterBanner(container)).toEqual([WAITS, expect.stringMatching(GOES_ON), OVER]);
      expect(await lifetimeMs(container)).toBeGreaterThan(13_000);
    }));

  it('as another user too, from before the fault, and said in JSON', () =>
    onBoth(async (image) => {
      const command = ['sh', '-c', 'echo up; until test -e /tmp/go; do sleep 0.05; done; exit 7'];
      const env = { DEBUG: 'stayalive=5s', DDBG_LOG: 'json' };
      const container = await startEntry(image, command, { env });
      await container.waitForLog(/^up$/m);
      await container.exec(['sh', '-c', 'touch /tmp/go; exec sleep 11'], { user: '1234' });
      expect(await container.wait()).toBe(7);
      const lines = (await container.logs()).stderr.trim().split('\n');
      const messages = lines.map((line) => JSON.parse(line).message);
      expect(messages.slice(-3)).toEqual([WAITS, expect.stringMatching(GOES_ON), OVER]);
    }));

  it('a HEALTHCHECK every second is nobody, and what an exec has left behind neither', () =>
    onBoth(async (image) => {
      const health = ['--health-cmd', 'sleep 1', '--health-interval', '1s'];
      const container = await hold(image, 'stayalive=7s', health);
      await waitForPark(container);
      await container.exec(['sh', '-c', 'setsid sleep 1000 >/dev/null 2>&1 </dev/null &']);
      expect(await container.wait()).toBe(7);
      expect(await linesAfterBanner(container)).toEqual([OVER]);
      expect(await lifetimeMs(container)).toBeLessThan(20_000);
    }));

  it('another container in its PID namespace is nobody, nor is its own first process', () =>
    onBoth(async (image) => {
      const other = await start(image, { command: ['sleep', '1000'] });
      const [guest, host] = await Promise.all([
        hold(image, 'stayalive=7s', ['--pid', `container:${other.id}`]),
        hold(image, 'stayalive=7s'),
      ]);
      await start(image, { command: ['sleep', '1000'], flags: ['--pid', `container:${host.id}`] });
      for (const container of [guest, host]) {
        expect(await container.wait()).toBe(7);
        expect(await linesAfterBanner(container)).toEqual([OVER]);
      }
    }));
});
