/**
 * Which ddbg-entry this is: package.json, above the folder of the bundle.
 */
import { readFileSync } from 'node:fs';

export function ownVersion(): string {
  const manifest = readFileSync(new URL('../package.json', import.meta.url), 'utf8');
  return (JSON.parse(manifest) as { version: string }).version;
}
