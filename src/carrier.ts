/**
 * The carrier image: /ddbg, a folder that is copied into any image, with all that we need and the image may lack.
 *
 *     bin/ddbg-entry, bin/ddbg    links to the init: no file of ours but it is opened when we are off
 *     bin/ddbg-entry.sh           for scripts, where PATH has /ddbg/bin in it
 *     bin/busybox                 static: the shell of last resort
 *     dist/, package.json         the package, with the init of this platform
 *     lib/                        node, the libraries that it needs, and ld.so, their loader: docker/carrier/build.mjs
 *     share/ca-certificates.crt   in NODE_EXTRA_CA_CERTS for our own node, unless the image has set that
 *
 * src/init/init.c knows these names too.
 */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export interface Carrier {
  /** What a person types for the tool, for no PATH leads to it. */
  readonly tool: string;
  readonly busybox: string;
  readonly certificates: string;
}

/** Undefined: the package was installed by npm, and node is the image's. */
export function findCarrier(): Carrier | undefined {
  const inPackage = (name: string): string => fileURLToPath(new URL(`../${name}`, import.meta.url));
  if (!existsSync(inPackage('lib/ld.so'))) return undefined;
  return {
    tool: inPackage('bin/ddbg'),
    busybox: inPackage('bin/busybox'),
    certificates: inPackage('share/ca-certificates.crt'),
  };
}
