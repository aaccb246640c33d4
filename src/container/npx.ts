/**
 * npx in front of us: npm adds some 25 variables and PATH entries for the program that it runs, and the dash that it
 * runs it with drops every variable that is no shell name. Without us, and without npx, the command would see none of
 * that. npm's own environment is what the container was given: it stands in /proc.
 */
import { basename } from 'node:path';
import { linkOf, textOf } from '../attempt.ts';
import { parseEnviron } from './environ.ts';
import { parentOf } from './stat.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** Pure. */
export function isByNpx(environment: Environment): boolean {
  return environment.npm_command === 'exec' || environment.npm_lifecycle_event === 'npx';
}

/**
 * The environment as npx was given it; ours, when it is not npx that runs us.
 *
 * @param pid the process that npx started: we, or the native init in front of us
 */
export function environmentBeforeNpx(environment: Environment, pid: number): Environment {
  if (!isByNpx(environment)) return environment;
  const npm = findNpm(parentOf(pid));
  const text = npm === undefined ? undefined : textOf(`/proc/${npm}/environ`); // npm may run as somebody else
  if (text === undefined) return withoutNpm(environment);
  const before = parseEnviron(text);
  return isByNpx(before) ? environment : before; // no npm: a Node program that npx runs has started us
}

/** npm is Node; between it and us there is at most its shell. */
function findNpm(parent: number): number | undefined {
  return [parent, parentOf(parent)].find((pid) =>
    basename(linkOf(`/proc/${pid}/exe`) ?? '').startsWith('node'),
  );
}

/** As far as it can be told from here: a variable that npm has overwritten is lost. */
function withoutNpm(environment: Environment): Environment {
  const isOfNpm = (name: string): boolean =>
    /^npm_/.test(name) || ['NODE', 'EDITOR', 'COLOR', 'INIT_CWD'].includes(name);
  const isPathOfNpm = (folder: string): boolean => /\/node_modules\/\.bin$|\/node-gyp-bin$/.test(folder);
  const kept = Object.entries(environment).filter(([name]) => !isOfNpm(name));
  return {
    ...Object.fromEntries(kept),
    PATH: environment.PATH?.split(':')
      .filter((folder) => !isPathOfNpm(folder))
      .join(':'),
  };
}
