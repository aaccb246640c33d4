/**
 * Bundles src/ into dist/: a person who installs the package gets no other package. ESM with code splitting, so that
 * the path without fstree loads neither undici nor tar nor yauzl.
 */
import { chmod, copyFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { rollup } from 'rollup';
import { dts } from 'rollup-plugin-dts';

const root = fileURLToPath(new URL('.', import.meta.url));
const dist = join(root, 'dist');

await rm(dist, { recursive: true, force: true });
await mkdir(dist);
const { metafile } = await build({
  absWorkingDir: root,
  entryPoints: ['src/cli.ts', 'src/index.ts'],
  outdir: 'dist',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20.18',
  minify: true,
  metafile: true,
  legalComments: 'none', // THIRD-PARTY-LICENSES.txt has them whole
  // The CommonJS packages inside (yauzl, undici, cross-spawn) call require() for Node's own modules.
  banner: {
    js: "import{createRequire as ddbgCreateRequire}from'node:module';const require=ddbgCreateRequire(import.meta.url);",
  },
});
await copyFile(join(root, 'src/ddbg-entry.sh'), join(dist, 'ddbg-entry.sh'));
await Promise.all(['cli.js', 'ddbg-entry.sh'].map((name) => chmod(join(dist, name), 0o755)));
await writeFile(join(dist, 'THIRD-PARTY-LICENSES.txt'), await collectLicenses(Object.keys(metafile.inputs)));
await bundleTypes();

async function bundleTypes() {
  const bundle = await rollup({
    input: join(root, 'src/index.ts'),
    plugins: [dts({ tsconfig: join(root, 'tsconfig.json') })],
    external: [/^node:/],
  });
  await bundle.write({ file: join(dist, 'index.d.ts'), format: 'es' });
  await bundle.close();
}

/** The licence texts of every package that esbuild put in. */
async function collectLicenses(inputs) {
  const folders = new Set(
    inputs.flatMap((input) => /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(input)?.[1] ?? []),
  );
  const texts = await Promise.all(
    [...folders].sort().map(async (folder) => {
      const manifest = JSON.parse(await readFile(join(root, folder, 'package.json'), 'utf8'));
      const file = (await readdir(join(root, folder))).find((name) => /^licen[cs]e/i.test(name));
      if (file === undefined && manifest.license === undefined) throw new Error(`${folder} has no licence`);
      const text = file === undefined ? `License: ${manifest.license}` : await readFile(join(root, folder, file), 'utf8');
      return `${manifest.name} ${manifest.version} (${manifest.license})\n\n${text.trim()}\n`;
    }),
  );
  return `Third-party software in this package\n\n${texts.join(`\n${'-'.repeat(72)}\n\n`)}`;
}
