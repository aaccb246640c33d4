/**
 * What overlays have changed of a root, as a person reads it: text as unified diff, against what was there before the
 * first of them. What somebody has changed since is in it: that is what is there now.
 */

import { readFileSync } from 'node:fs';
import { createTwoFilesPatch } from 'diff';
import { printable } from '../log.ts';
import * as disk from './disk.ts';
import { encodeName, nativePath, utf8 } from './octets.ts';
import { readRecord } from './record.ts';
import type { ReportEntry } from './report.ts';
import { bytesText, modeText } from './units.ts';

export interface ChangesOptions {
  readonly root: string;
  /** Where the record and the originals are; undefined: there are none. */
  readonly workDir: string | undefined;
  /** Only these and what is below them, from the root. Default, empty: all. */
  readonly paths: readonly string[];
  /** Applied to every line of a patch; undefined: it is for patch(1), nothing is masked or escaped in it. */
  readonly mask: ((text: string) => string) | undefined;
}

export interface PathChange {
  readonly path: string;
  readonly action: 'new' | 'replaced' | 'removed' | 'same';
  /** `replaced /etc/motd, 12 bytes -> 40 bytes` */
  readonly summary: string;
  /** A unified diff, for text; undefined where it is none, or too large. */
  readonly patch?: string;
  /** It is not what the file holds: something is masked or escaped in it. */
  readonly isAltered?: boolean;
}

/** A diff of more is not read by anybody, and takes long to find. */
const LARGEST_BYTES = 1024 ** 2;
const LONGEST_SEARCH_MS = 2_000;

/** @throws EntryError `DDBG_STATE` where the record cannot be read */
export function describeChanges(options: ChangesOptions): readonly PathChange[] {
  const { root, workDir, paths, mask } = options;
  if (workDir === undefined) return [];
  const firsts = new Map<string, { entry: ReportEntry; original: string }>();
  for (const run of readRecord(workDir).runs.filter((each) => each.root === root)) {
    for (const [index, { entries }] of run.sources.entries()) {
      for (const entry of entries) {
        if (entry.action === 'same' || firsts.has(entry.path)) continue;
        firsts.set(entry.path, { entry, original: `${run.backup}/${index + 1}${entry.path}` });
      }
    }
  }
  return [...firsts.values()]
    .filter(({ entry }) => isAsked(entry.path, paths))
    .sort((one, other) => (one.entry.path < other.entry.path ? -1 : 1))
    .map(({ entry, original }) =>
      describe(
        entry.path,
        lookAt(
          entry.action === 'new' ? undefined : original,
          entry.facts === undefined ? undefined : 'folder',
        ),
        lookAt(`${root === '/' ? '' : root}${entry.path}`),
        mask,
      ),
    );
}

function isAsked(path: string, paths: readonly string[]): boolean {
  return (
    paths.length === 0 ||
    paths.some((asked) => path === asked || path.startsWith(asked.endsWith('/') ? asked : `${asked}/`))
  );
}

interface Look {
  readonly kind: 'file' | 'link' | 'folder' | 'other';
  readonly mode: number;
  readonly size: number;
  readonly target?: string;
  /** Undefined: too large, or no text. */
  readonly text?: string | undefined;
  readonly bytes?: Buffer | undefined;
}

function lookAt(path: string | undefined, known?: 'folder'): Look | undefined {
  if (known === 'folder') return { kind: 'folder', mode: 0, size: 0 };
  const stats = path === undefined ? undefined : disk.lookAt(path);
  if (path === undefined || stats === undefined) return undefined;
  const facts = { mode: stats.mode & 0o7777, size: stats.size };
  if (stats.isSymbolicLink()) return { kind: 'link', ...facts, target: disk.readlinkSync(path) };
  if (stats.isDirectory()) return { kind: 'folder', ...facts };
  if (!stats.isFile()) return { kind: 'other', ...facts };
  if (stats.size > LARGEST_BYTES) return { kind: 'file', ...facts };
  const bytes = readFileSync(nativePath(path));
  return { kind: 'file', ...facts, bytes, text: bytes.includes(0) ? undefined : utf8(bytes) };
}

function describe(
  path: string,
  before: Look | undefined,
  now: Look | undefined,
  mask: ChangesOptions['mask'],
): PathChange {
  const action = actionOf(before, now);
  const sizes =
    before !== undefined && now !== undefined
      ? `, ${showLook(before)} -> ${showLook(now)}`
      : `, ${showLook(now ?? before)}`;
  const summary = `${action} ${printable(path)}${action === 'same' ? ': as before again' : sizes}`;
  const change = { path, action, summary };
  const lines = action === 'same' ? undefined : patchOf(path, before, now);
  if (lines === undefined) return change;
  if (mask === undefined) return { ...change, patch: lines.join('\n') };
  const shown = lines.map((line) => maskLine(line, mask));
  return { ...change, patch: shown.join('\n'), isAltered: shown.some((line, at) => line !== lines[at]) };
}

function actionOf(before: Look | undefined, now: Look | undefined): PathChange['action'] {
  if (before === undefined) return now === undefined ? 'same' : 'new';
  if (now === undefined) return 'removed';
  const isSame =
    before.kind === now.kind &&
    before.target === now.target &&
    (before.kind === 'folder' || before.mode === now.mode) &&
    (before.bytes !== undefined && now.bytes !== undefined
      ? before.bytes.equals(now.bytes)
      : before.kind !== 'file');
  return isSame ? 'same' : 'replaced';
}

function showLook(look: Look | undefined): string {
  switch (look?.kind) {
    case 'file':
      return `${bytesText(look.size)} (${modeText(look.mode)})`;
    case 'link':
      return `link to ${printable(look.target ?? '')}`;
    case 'folder':
      return 'directory';
    default:
      return 'special file';
  }
}

function patchOf(
  path: string,
  before: Look | undefined,
  now: Look | undefined,
): readonly string[] | undefined {
  const [old, fresh] = [textOf(before), textOf(now)];
  if (old === undefined || fresh === undefined || old === fresh) return undefined;
  const patch = createTwoFilesPatch('a', 'b', old, fresh, undefined, undefined, {
    context: 3,
    timeout: LONGEST_SEARCH_MS,
  }) as string | undefined;
  if (patch === undefined) return undefined;
  const lines = patch.replace(/\n$/, '').split('\n');
  return [
    `--- ${before === undefined ? '/dev/null' : quoteName(`a${path}`)}`,
    `+++ ${now === undefined ? '/dev/null' : quoteName(`b${path}`)}`,
    ...lines.slice(lines.findIndex((line) => line.startsWith('@@'))),
  ];
}

/** As diff(1) and git write names and patch(1) reads them: a byte that is no text in octal; behind a space a tab ends it. */
function quoteName(name: string): string {
  if (!/[\u0000-\u001f"\\\u007f-\u009f\u2028\u2029\ud800-\udfff]/.test(name))
    return name.includes(' ') ? `${name}\t` : name;
  const octal = (text: string): string =>
    [...encodeName(text)].map((byte) => `\\${byte.toString(8).padStart(3, '0')}`).join('');
  const quoted = name.replace(/["\\]|[\u0000-\u001f\u007f-\u009f\u2028\u2029]|\p{Surrogate}/gu, (found) =>
    found === '"' || found === '\\' ? `\\${found}` : found === '\n' ? '\\n' : octal(found),
  );
  return `"${quoted}"`;
}

/** A line of content must not move a cursor; a tab may. */
function maskLine(line: string, mask: (text: string) => string): string {
  return mask(line).split('\t').map(printable).join('\t');
}

/** '' for what is not there; undefined for what is no text. */
function textOf(look: Look | undefined): string | undefined {
  return look === undefined ? '' : look.kind === 'file' ? look.text : undefined;
}
