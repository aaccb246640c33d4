/** All three words at once, in real containers: the way a broken image is looked at and mended. */
import { beforeAll, describe, expect, it } from 'vitest';
import { describeWithEngine, startWebServer, type WebServer } from './docker.ts';
import { mountFiles, msFromSignalToEnd, ownLines, runEntry, startEntry, tarGz, waitForPark } from './kit.ts';

/** What the image has: it wants a file that nobody put there. */
const BROKEN = `#!/bin/bash
serve() {
  . /etc/service.conf || exit 7
  echo "serving $greeting"
}
serve
`;

describeWithEngine('verbose, stayalive and fstree together', (images) => {
  let server: WebServer;
  let service: string[];
  beforeAll(async () => {
    server = await startWebServer({
      'good.tar.gz': tarGz({ 'etc/service.conf': 'greeting=you\n' }),
      'wrong.tar.gz': tarGz({
        'etc/service.config': 'greeting=you\n',
        'usr/bin/free': '#!/bin/sh\necho mine\n',
      }),
    });
    service = mountFiles({ service: BROKEN });
  });

  describe.each([
    ['Node 20', images.node20],
    ['Node 20, native', images.native],
    ['Node 24', images.node24],
  ])('%s', (_, image) => {
    const options = (archive: string) => ({
      DEBUG: `express:*,verbose,stayalive,fstree=${server.url}/${archive}`,
      network: server.network,
      flags: service,
    });

    it('the program is broken', async () => {
      expect((await runEntry(image, ['/t/service'], { flags: service })).status).toBe(7);
    });

    it('a patch that mends it: status 0, its lines traced, not held', async () => {
      const ended = await runEntry(image, ['/t/service'], options('good.tar.gz'));
      expect(ended).toMatchObject({ status: 0, stdout: 'serving you\n' });
      const said = ownLines(ended.stderr).join('\n');
      expect(said).toMatch(/\/etc\/service\.conf.*[0-9a-f]{64}/); // verbose: a digest for each file
      expect(said).toContain('command: /t/service');
      expect(said).not.toContain('get in');
      expect(ended.stderr).toContain('+ /t/service:4:serve(): echo ');
    });

    it('a patch that does not: parked, entered, mended by hand, run again, let go with its status', async () => {
      const container = await startEntry(image, ['/t/service'], options('wrong.tar.gz'));
      const { shell, environmentFile, text } = await waitForPark(container);
      expect(text).toMatch(/^fault: \/t\/service .*exited with status 7$/m);
      const { stderr } = await container.logs();
      expect(stderr).toContain('+ /t/service:3:serve(): . /etc/service.conf');

      const again = 'free; echo greeting=me >/etc/service.conf; /t/service; echo "$?"; ls /run/ddbg';
      const inside = await container.exec([shell, '-c', `. ${environmentFile}; ${again}`]);
      expect(inside.stdout).toMatch(/^mine\nserving me\n0\n/);
      expect(inside.stdout).toMatch(/^overlay\.json$/m);
      await container.stop({ timeoutS: 30 });
      expect(await container.wait()).toBe(7);
      expect(await msFromSignalToEnd(container)).toBeLessThan(1000);
    });

    it('a patch that cannot be had: parked with 125, the command not started', async () => {
      const container = await startEntry(image, ['/t/service'], options('missing.tar.gz'));
      const banner = await waitForPark(container);
      expect(banner).toMatchObject({ status: 125 });
      expect(banner.text).toMatch(/\/t\/service was not started: .*missing\.tar\.gz.*404/);
      await container.kill('TERM');
      expect(await container.wait()).toBe(125);
      expect((await container.logs()).stderr).not.toContain('+ /t/service');
    });
  });
});
