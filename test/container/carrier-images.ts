/**
 * Images with the carrier in them, for any engine: made from Debian's packages, without an image registry.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildImage, engine } from './docker.ts';

export const CHECKOUT = fileURLToPath(new URL('../..', import.meta.url));
export const ENTRY = '/ddbg/bin/ddbg-entry';
export const TOOL = '/ddbg/bin/ddbg';
export const CARRIER = 'ddbg-test-carrier';
export const ARCHITECTURE = process.arch === 'arm64' ? 'arm64' : 'amd64';

/** Whoever serves it says what it was given and ends with this status, until somebody mends it. */
export const FAULT = 7;

/** The image that `build` takes the carrier from; the context is made for each platform. */
export async function buildCarrier(...platforms: string[]): Promise<void> {
  const asked = platforms.length > 0 ? platforms : [`linux-${process.arch}`];
  const isMade = (name: string) => existsSync(join(engine().directory, `carrier-${name}`));
  const names = asked.filter((name) => !isMade(name));
  if (names.length === 0) return; // by another file of this run
  const script = join(CHECKOUT, 'docker/carrier/build.mjs');
  const said = execFileSync('node', [script, ...names], { encoding: 'utf8' });
  console.log(said.match(/^carrier .* MB, node [\d.]+/gm)?.join('\n'));
  const dockerfile = join(CHECKOUT, 'docker/carrier/Dockerfile');
  const context = join(CHECKOUT, 'docker/carrier/context');
  await buildImage(CARRIER, ['--build-arg', `TARGETARCH=${ARCHITECTURE}`, '--file', dockerfile, context]);
  for (const name of names) writeFileSync(join(engine().directory, `carrier-${name}`), '');
}

/** Files of a folder as an image: `FROM base`, the files, the carrier. */
export async function build(image: string, base: string, fill: (folder: string) => void): Promise<void> {
  const context = mkdtempSync(join(engine().directory, 'context-'));
  const folder = join(context, 'root');
  mkdirSync(join(folder, 'app'), { recursive: true });
  fill(folder);
  const lines = [
    `FROM ${CARRIER} AS ddbg-entry`,
    `FROM ${base}`,
    'COPY root /',
    'COPY --from=ddbg-entry /ddbg /ddbg',
    `ENTRYPOINT ["${ENTRY}", "--"]`,
  ];
  writeFileSync(join(context, 'Dockerfile'), `${lines.join('\n')}\n`);
  await buildImage(image, ['--network', 'none', context]);
}

/** What service.c ends with. */
export function withStatus(folder: string): void {
  writeFileSync(join(folder, 'app/status'), `${FAULT}\n`);
}

/** service.c as /app/service. */
export function compile(folder: string, compiler: string, ...flags: string[]): void {
  const source = join(CHECKOUT, 'docker/test/service.c');
  execFileSync(compiler, ['-O1', ...flags, '-o', join(folder, 'app/service'), source]);
}
