/**
 * Builds the native init and the recorder, static binaries for each platform, into dist/init/PLATFORM/: `npm run build:init`.
 *
 * With musl where it is there: a tenth of glibc's size, and it is the size that a parked container holds in memory.
 * Debian: apt-get install musl-tools for x64; for arm64 gcc-aarch64-linux-gnu and musl's files of that architecture
 * (dpkg --add-architecture arm64, then musl-dev:arm64), which no cross package brings.
 * A platform whose compiler is missing is left out, and said; the package works there on Node alone.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** By the name of the binary. */
const SOURCES = { 'ddbg-init': 'init.c', 'ddbg-record': 'record.c' };

// biome-ignore format: a table
const FLAGS = [
  '-std=c11', '-Os', '-static', '-s',
  '-Wall', '-Wextra', '-Wpedantic', '-Wshadow', '-Wconversion', '-Wno-sign-conversion', '-Wformat=2', '-Werror',
  '-fstack-protector-strong', '-D_FORTIFY_SOURCE=2', '-fno-asynchronous-unwind-tables', '-ffunction-sections', '-fdata-sections',
  '-Wl,--gc-sections', '-Wl,-z,relro,-z,now', '-Wl,-z,noexecstack',
  '-Wl,-z,noseparate-code', // two pages less in memory (measured); the constants share the pages of the code for it
];

/** The first whose compiler is there is taken. */
const COMPILERS = {
  'linux-x64': [
    ...(process.arch === 'x64' ? [{ libc: 'musl', compiler: 'musl-gcc' }] : []),
    ...(process.arch === 'x64' ? [{ libc: 'glibc', compiler: 'gcc' }] : []),
    { libc: 'glibc', compiler: 'x86_64-linux-gnu-gcc' },
  ],
  'linux-arm64': [
    ...(process.arch === 'arm64' ? [{ libc: 'musl', compiler: 'musl-gcc' }] : []),
    { libc: 'musl', compiler: 'aarch64-linux-gnu-gcc', sysroot: muslOf('aarch64-linux-musl') },
    ...(process.arch === 'arm64' ? [{ libc: 'glibc', compiler: 'gcc' }] : []),
    { libc: 'glibc', compiler: 'aarch64-linux-gnu-gcc' },
  ],
};

/** Builds every platform that can be built here. Returns, per platform, the libc that is in it (undefined: not built), and a line to say. */
export function buildInit(dist) {
  return Object.entries(COMPILERS).map(([platform, candidates]) => {
    const folder = join(dist, 'init', platform);
    rmSync(folder, { recursive: true, force: true });
    const chosen = candidates.find(
      (candidate) => candidate.sysroot !== null && isThere(candidate.compiler) && links(candidate),
    );
    if (chosen === undefined) {
      const wanted = [...new Set(candidates.map(({ compiler }) => compiler))].join(' or ');
      const line = `init ${platform}: NOT BUILT, there is no working ${wanted}; the package works there on Node alone`;
      return { platform, libc: undefined, line };
    }
    mkdirSync(folder, { recursive: true });
    const sizes = Object.entries(SOURCES).map(([name, source]) => {
      compile(chosen, [fileURLToPath(new URL(source, import.meta.url))], join(folder, name));
      return `${Math.round(statSync(join(folder, name)).size / 1000)} kB`;
    });
    const advice = chosen.libc === 'musl' ? '' : '; with musl it is a tenth of that';
    const line = `init ${platform}: ${sizes.join(' and ')}, ${chosen.libc}${advice}`;
    return { platform, libc: chosen.libc, line };
  });
}

/** Where Debian puts musl's files of another architecture. */
function muslOf(triplet) {
  const sysroot = { lib: join('/usr/lib', triplet), include: join('/usr/include', triplet) };
  return existsSync(join(sysroot.lib, 'libc.a')) ? sysroot : null;
}

function compile({ compiler, sysroot }, sources, file) {
  const { lib, include } = sysroot ?? {};
  const own = execFileSync(compiler, ['-print-file-name=include'], { encoding: 'utf8' }).trim();
  const front = sysroot ? ['-nostdinc', '-isystem', include, '-isystem', own, '-nostdlib'] : [];
  const start = sysroot ? [join(lib, 'crt1.o'), join(lib, 'crti.o')] : [];
  const end = sysroot
    ? [`-L${lib}`, '-Wl,--start-group', '-lc', '-lgcc', '-Wl,--end-group', join(lib, 'crtn.o')]
    : [];
  execFileSync(compiler, [...FLAGS, ...front, '-o', file, ...start, ...sources, ...end], {
    stdio: 'inherit',
  });
}

function isThere(compiler) {
  return spawnSync(compiler, ['--version'], { stdio: 'ignore' }).status === 0;
}

/** A compiler without its libc, or without the static one, is of no use. */
function links({ compiler, sysroot }) {
  if (sysroot) return true;
  const program = ['-x', 'c', '-static', '-o', '/dev/null', '-'];
  const input = '#include <stdio.h>\nint main(void) { return puts("") < 0; }\n';
  return spawnSync(compiler, program, { input, stdio: ['pipe', 'ignore', 'ignore'] }).status === 0;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const { line } of buildInit(fileURLToPath(new URL('../../dist', import.meta.url)))) console.log(line);
}
