/**
 * The shape that keeps a change in one file: a file imports only from levels below its own, and there are no cycles.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const src = fileURLToPath(new URL('../src', import.meta.url));

/** From the bottom up. A folder's files share its level and may import each other, but not in a circle. */
const LEVELS = [
  ['attempt', 'carrier', 'clock', 'secrets', 'version'],
  ['errors', 'log', 'outcome'],
  ['parse', 'signals'],
  ['plan', 'state', 'container/'],
  ['overlay/', 'process/', 'fault', 'park', 'hooks', 'install', 'life'],
  ['host', 'report/'],
  ['dump/', 'chronicle'],
  ['stages', 'tool/'],
  ['entry'],
  ['cli', 'ddbg', 'index'],
];

const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'));

function levelOf(file: string): number {
  return LEVELS.findIndex((names) =>
    names.some((name) => (name.endsWith('/') ? file.startsWith(name) : file === `${name}.ts`)),
  );
}

interface Import {
  readonly from: string;
  readonly to: string;
  readonly typeOnly: boolean;
}

function importsOf(file: string): Import[] {
  const text = readFileSync(join(src, file), 'utf8');
  const pattern = /^(import|export)( type)? [^;]*?from '(\.[^']+)';|import\('(\.[^']+)'\)/gm;
  return [...text.matchAll(pattern)].map(([, , type, named, dynamic]) => ({
    from: file,
    to: relative(src, resolve(dirname(join(src, file)), named ?? dynamic ?? '')),
    typeOnly: type !== undefined,
  }));
}

const imports = files.flatMap(importsOf);

test('every file has a level, and the reader of imports finds them', () => {
  expect(files.filter((file) => levelOf(file) < 0)).toEqual([]);
  expect(imports.length).toBeGreaterThan(files.length);
  expect(imports.filter(({ to }) => !files.includes(to))).toEqual([]);
});

test('imports go down; only types may point up', () => {
  const folder = (file: string) => (file.includes('/') ? dirname(file) : file);
  const wrong = imports.filter(
    ({ from, to, typeOnly }) =>
      !typeOnly && levelOf(to) >= levelOf(from) && !(folder(from) === folder(to) && from.includes('/')),
  );
  expect(wrong.map(({ from, to }) => `${from} -> ${to}`)).toEqual([]);
});

test('there is no cycle of imports', () => {
  const cycles: string[] = [];
  const visit = (file: string, path: readonly string[]): void => {
    if (path.includes(file)) {
      cycles.push([...path.slice(path.indexOf(file)), file].join(' -> '));
      return;
    }
    for (const { to, typeOnly } of imports.filter(({ from }) => from === file)) {
      if (!typeOnly) visit(to, [...path, file]);
    }
  };
  for (const file of files) visit(file, []);
  expect(cycles).toEqual([]);
});

test('entry.ts, the pipeline, fits on a screen', () => {
  const code = readFileSync(join(src, 'entry.ts'), 'utf8')
    .replace(/\/\*\*[\s\S]*?\*\//g, '')
    .split('\n')
    .filter((line) => line.trim() !== '' && !line.startsWith('import'));
  expect(code.length).toBeLessThanOrEqual(60);
});

test('each outside library is imported by one file', () => {
  const users = new Map<string, string[]>();
  for (const file of files) {
    const text = readFileSync(join(src, file), 'utf8');
    for (const [, name] of text.matchAll(/from '([^.'][^']*)'/g)) {
      if (name === undefined || name.startsWith('node:')) continue;
      const users_ = users.get(name) ?? [];
      users.set(name, [...users_, file]);
    }
  }
  expect([...users].filter(([, list]) => list.length > 1)).toEqual([]);
});

test('CONTRIBUTING.md draws every file of src, and no other', () => {
  const text = readFileSync(join(src, '../CONTRIBUTING.md'), 'utf8');
  const tree = text.slice(text.indexOf('    src/\n'), text.indexOf('    test/\n'));
  const drawn: string[] = [];
  let folder = '';
  for (const [, indent = '', name = ''] of tree.matchAll(/^( {6,8})([\w-]+(?:\.\w+|\/))/gm)) {
    if (name.endsWith('/')) folder = name;
    else drawn.push(indent.length === 8 ? `${folder}${name}` : name);
  }
  const present = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.includes('.'),
  );
  expect(drawn.sort()).toEqual(present.sort());
});
