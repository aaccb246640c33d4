/**
 * Bundles src/ into dist/: a person who installs the package gets no other package.
 *
 * esbuild bundles and splits, so that the path without fstree loads neither tar nor yauzl. rollup then turns
 * its ESM output, which is all that esbuild can split, into CommonJS: Node's ESM loader costs 7 of the 25 ms that a
 * start may take over `node -e 0` (measured on Node 20). The package's own face stays ESM: index.js.
 */
import { chmod, copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { builtinModules } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { rollup } from 'rollup';
import { dts } from 'rollup-plugin-dts';
import { buildInit } from './src/init/build.mjs';

const root = fileURLToPath(new URL('.', import.meta.url));
const dist = join(root, 'dist');
const external = [/^node:/, ...builtinModules];

const modules = await mkdtemp(join(tmpdir(), 'ddbg-build-'));
try {
  await rm(dist, { recursive: true, force: true });
  await mkdir(dist);
  const packages = await bundle();
  await convert();
  await bundleTypes();
  await copyFile(join(root, 'src/ddbg-entry.sh'), join(dist, 'ddbg-entry.sh'));
  await copyFile(join(root, 'src/report/fault-schema.json'), join(dist, 'fault.schema.json'));
  await Promise.all(['cli.cjs', 'ddbg.cjs', 'ddbg-entry.sh'].map((name) => chmod(join(dist, name), 0o755)));
  const inits = buildInit(dist);
  for (const { line } of inits) console.log(line);
  const licenses = [...(await collectLicenses(packages)), ...(await licensesOfLibc(inits))];
  await writeFile(join(dist, 'THIRD-PARTY-LICENSES.txt'), showLicenses(licenses));
} finally {
  await rm(modules, { recursive: true, force: true });
}

/** src/ and what it uses -> a few ESM files. Returns the folders of the packages that went in. */
async function bundle() {
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: ['src/cli.ts', 'src/ddbg.ts', 'src/index.ts'],
    outdir: modules,
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20.18',
    minify: true,
    metafile: true,
    legalComments: 'none', // THIRD-PARTY-LICENSES.txt has them whole
  });
  const folder = /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//;
  return new Set(Object.keys(metafile.inputs).flatMap((input) => folder.exec(input)?.[1] ?? []));
}

/** ESM files -> the same files as CommonJS, and an ESM face for the library. */
async function convert() {
  const input = ['cli.js', 'ddbg.js', 'index.js'].map((name) => join(modules, name));
  const converted = await rollup({ input, external });
  const { output } = await converted.write({
    dir: dist,
    format: 'cjs',
    entryFileNames: '[name].cjs',
    chunkFileNames: '[name].cjs', // esbuild's own names have a hash already
    interop: 'default',
  });
  await converted.close();
  const names = output.find(({ name }) => name === 'index').exports;
  await writeFile(join(dist, 'index.js'), `export { ${names.join(', ')} } from './index.cjs';\n`);
}

async function bundleTypes() {
  const types = await rollup({
    input: join(root, 'src/index.ts'),
    plugins: [dts({ tsconfig: join(root, 'tsconfig.json') })],
    external,
  });
  await types.write({ file: join(dist, 'index.d.ts'), format: 'es' });
  await types.close();
}

/** The licence texts of every package that went in. */
async function collectLicenses(folders) {
  return Promise.all(
    [...folders].sort().map(async (folder) => {
      const manifest = JSON.parse(await readFile(join(root, folder, 'package.json'), 'utf8'));
      const file = (await readdir(join(root, folder))).find((name) => /^licen[cs]e/i.test(name));
      const text =
        file === undefined ? licenseByName(manifest) : await readFile(join(root, folder, file), 'utf8');
      return `${manifest.name} ${manifest.version} (${manifest.license})\n\n${text.trim()}\n`;
    }),
  );
}

/** A package may name its licence and bring no text of it. */
function licenseByName({ name, license, author, repository }) {
  if (license === undefined) throw new Error(`${name} has no licence`);
  const holder = typeof author === 'string' ? author : author?.name;
  return `${license}, ${holder ?? 'its authors'}, as ${repository?.url ?? name} says; it comes without the text.`;
}

/** The native init is linked with a libc, which is then in the package as well. */
async function licensesOfLibc(inits) {
  const used = new Set(inits.flatMap(({ libc }) => libc ?? []));
  return Promise.all(
    [...used].map(async (libc) => {
      const file =
        libc === 'musl' ? '/usr/share/doc/musl-dev/copyright' : '/usr/share/doc/libc6-dev/copyright';
      const text = await readFile(file, 'utf8').catch(() => `see the sources of ${libc} on this machine\n`);
      return `${libc}, in init/\n\n${text.trim()}\n`;
    }),
  );
}

function showLicenses(texts) {
  return `Third-party software in this package\n\n${texts.join(`\n${'-'.repeat(72)}\n\n`)}`;
}
