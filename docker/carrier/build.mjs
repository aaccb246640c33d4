/**
 * Makes what the carrier image is made of: npm run carrier [-- linux-x64|linux-arm64 ...], by default both.
 *
 *     docker/carrier/context/{amd64,arm64}/    -> /ddbg in the image; src/carrier.ts says what is in it
 *
 * From dist/ (npm run build), the npm packages node-linux-*, and Debian's packages; nothing of this machine goes in. It
 * takes apt, dpkg and binutils, and for another architecture than one's own: dpkg --add-architecture arm64, apt-get
 * update, binutils-aarch64-linux-gnu.
 */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { fromDebian, fromNpm } from './downloads.mjs';

/** The newest of the long-term releases that npm has for both platforms. */
const NODE_VERSION = '24.21.0';

const PLATFORMS = {
  'linux-x64': { docker: 'amd64', triplet: 'x86_64-linux-gnu', loader: 'ld-linux-x86-64.so.2' },
  'linux-arm64': { docker: 'arm64', triplet: 'aarch64-linux-gnu', loader: 'ld-linux-aarch64.so.1' },
};
const [LICENSES = 'gcc-base'] =
  /gcc-\d+-base/.exec(execFileSync('apt-cache', ['depends', 'libgcc-s1'], { encoding: 'utf8' })) ?? [];
/** What node needs, where their licence lies, and two for people. */
const PACKAGES = ['libc6', 'libstdc++6', 'libgcc-s1', LICENSES, 'busybox-static', 'ca-certificates'];

const root = fileURLToPath(new URL('../..', import.meta.url));
const contexts = fileURLToPath(new URL('context/', import.meta.url));

function makeContext(name) {
  const platform = PLATFORMS[name];
  const folder = join(contexts, platform.docker);
  if (!existsSync(join(root, 'dist/init', name, 'ddbg-init')))
    throw new Error(`the init for ${name} is not built: npm run build says why`);
  const node = fromNpm(`node-${name}@${NODE_VERSION}`);
  const debian = fromDebian(platform.docker, PACKAGES);
  rmSync(folder, { recursive: true, force: true });
  for (const part of ['bin', 'dist', 'lib', 'licenses', 'share'])
    mkdirSync(join(folder, part), { recursive: true });

  copyPackage(folder, name);
  symlinkSync(`../dist/init/${name}/ddbg-init`, join(folder, 'bin/ddbg-entry'));
  symlinkSync('ddbg-entry', join(folder, 'bin/ddbg'));
  symlinkSync('../dist/ddbg-entry.sh', join(folder, 'bin/ddbg-entry.sh'));
  put(join(debian, 'bin/busybox'), join(folder, 'bin/busybox'), 0o755);

  put(join(node, 'bin/node'), join(folder, 'lib/node'), 0o755);
  execFileSync(`${platform.triplet}-strip`, [join(folder, 'lib/node')]);
  const places = [`lib/${platform.triplet}`, `usr/lib/${platform.triplet}`].map((part) => join(debian, part));
  put(findIn(places, platform.loader), join(folder, 'lib/ld.so'), 0o755);
  for (const library of neededBy(join(folder, 'lib/node'), places, platform.loader))
    put(findIn(places, library), join(folder, 'lib', library), 0o644);

  const certificates = join(debian, 'usr/share/ca-certificates/mozilla');
  const bundle = readdirSync(certificates)
    .sort()
    .map((file) => readFileSync(join(certificates, file), 'utf8').trimEnd());
  writeFileSync(join(folder, 'share/ca-certificates.crt'), `${bundle.join('\n')}\n`);

  copyLicenses(folder, node, debian, platform.docker);
  return { folder, megabytes: sizeOf(folder) / 1e6 };
}

/** What npm would install, without what is for those who import it, and without other platforms. */
function copyPackage(folder, platform) {
  copyFileSync(join(root, 'package.json'), join(folder, 'package.json'));
  const isUnused = (path) =>
    /^(index\.|fault\.schema)/.test(basename(path)) ||
    (/\/init\/./.test(path) && !path.includes(`/init/${platform}`));
  cpSync(join(root, 'dist'), join(folder, 'dist'), { recursive: true, filter: (path) => !isUnused(path) });
}

/** The libraries that a file needs, and those that these need, by their names. */
function neededBy(file, places, loader, found = new Set()) {
  const text = execFileSync('readelf', ['--dynamic', '--wide', file], { encoding: 'utf8' });
  for (const [, name] of text.matchAll(/\(NEEDED\).*\[(.+)\]/g)) {
    if (name === loader || found.has(name)) continue; // the loader knows itself by that name
    found.add(name);
    neededBy(findIn(places, name), places, loader, found);
  }
  return found;
}

function findIn(places, name) {
  const file = places.map((place) => join(place, name)).find((each) => existsSync(each));
  if (file === undefined) throw new Error(`none of ${PACKAGES.join(', ')} has ${name}`);
  return file;
}

function put(from, to, mode) {
  copyFileSync(from, to); // of a link: what it leads to
  chmodSync(to, mode);
}

/** Of all that is in it; and for what is under the GPL, where its sources are. */
function copyLicenses(folder, node, debian, architecture) {
  put(join(root, 'LICENSE'), join(folder, 'licenses/ddbg-entry'), 0o644);
  put(join(node, 'LICENSE'), join(folder, 'licenses/node'), 0o644);
  for (const name of PACKAGES)
    put(join(debian, 'usr/share/doc', name, 'copyright'), join(folder, 'licenses', name), 0o644);
  const lines = readFileSync(join(debian, 'versions'), 'utf8');
  const text = `The files of the following packages are Debian's, unchanged (${architecture}); their sources are the source packages
of the same versions, at https://snapshot.debian.org. Package, version, source package:

${lines}`;
  writeFileSync(join(folder, 'licenses/SOURCES'), text);
}

function sizeOf(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0);
}

const asked = process.argv.slice(2);
const unknown = asked.find((name) => !Object.hasOwn(PLATFORMS, name));
if (unknown !== undefined) {
  console.error(`carrier: '${unknown}' is none of ${Object.keys(PLATFORMS).join(', ')}`);
  process.exit(2);
}
for (const name of asked.length > 0 ? asked : Object.keys(PLATFORMS)) {
  const { folder, megabytes } = makeContext(name);
  console.log(`carrier ${name}: ${megabytes.toFixed(0)} MB, node ${NODE_VERSION}, in ${folder}`);
}
console.log(`now: docker build --build-arg TARGETARCH=amd64 --file docker/carrier/Dockerfile --tag ddbg-entry docker/carrier/context
or, for all:  docker buildx build --platform linux/amd64,linux/arm64 ...`);
