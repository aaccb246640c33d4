/**
 * Which reader reads which format. Each is loaded when it is asked for, with its decompressor: a zip loads no tar, a
 * tar no yauzl, a tar.gz no wasm.
 */
import type { ReadArchive } from './archive.ts';
import type { Unpack } from './decompress.ts';
import type { Format } from './recognise.ts';

const LOADERS: Readonly<Record<Format, () => Promise<ReadArchive>>> = {
  tar: () => readerOf('it is', async () => (await import('./decompress.ts')).plain),
  'tar.gz': () =>
    readerOf('what is in the gzip file is', async () => (await import('./decompress.ts')).gunzip),
  'tar.br': () =>
    readerOf('what is in the brotli file is', async () => (await import('./decompress.ts')).unbrotli),
  'tar.zst': () => readerOf('what is in the zstd file is', async () => (await import('./zstd.ts')).unzstd),
  'tar.xz': () => readerOf('what is in the xz file is', async () => (await import('./xz.ts')).unxz),
  'tar.bz2': () => readerOf('what is in the bzip2 file is', async () => (await import('./bzip2.ts')).bunzip2),
  zip: async () => (await import('./zip.ts')).readZip,
  directory: async () => (await import('./directory.ts')).readDirectory,
};

/** `format` is what `recognise` said, or 'directory'. The reader is called with a path to a file of ours, or to the directory. */
export function openReader(format: Format): Promise<ReadArchive> {
  return LOADERS[format]();
}

async function readerOf(what: string, load: () => Promise<Unpack>): Promise<ReadArchive> {
  const [{ tarReader }, unpack] = await Promise.all([import('./tar.ts'), load()]);
  return tarReader(unpack, what);
}
