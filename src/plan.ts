/**
 * Directives + argv + environment -> Plan: all that is decided before anything is touched, frozen. Pure.
 */
import { EntryError } from './errors.ts';
import type { GivenLimits } from './overlay/limits.ts';
import type { Directives, FstreeSource, StayAlive } from './parse.ts';
import { isOn, parseDuration, WORDS } from './parse.ts';

/** What is executed. */
export interface CommandLine {
  /** `argv[0]` is looked up in the environment's PATH, as execvp(3) does. Never empty. */
  readonly argv: readonly string[];
  /** The whole environment; nothing is inherited beside it. */
  readonly environment: Readonly<Record<string, string>>;
  /** The directory of the recorder that `argv` starts with, if it does: the native init has to know. */
  readonly recording?: string;
}

export interface Plan {
  /** False: no directive of ours was given, the command is to become the process. */
  readonly on: boolean;
  readonly command: CommandLine;
  readonly verbose: boolean;
  readonly stayAlive: StayAlive | undefined;
  readonly fstree: readonly FstreeSource[];
  readonly record: boolean;
  /** The variable that the words stood in. */
  readonly setting: Directives['setting'];
  /** The flags that only the native init can follow. */
  readonly initFlags: readonly string[];
  /** The directory that archives are laid over; undefined: `/`, and only where that is a container's. */
  readonly root: string | undefined;
  /** The state directory; undefined: the first of the usual places that can be had. */
  readonly stateDir: string | undefined;
  /** What an archive may ask of us, where that is not the default. */
  readonly limits: GivenLimits;
  /** The environment as it was given: where fstree looks up proxies and credentials. */
  readonly given: PlanInput['environment'];
  /** One JSON object a line instead of sentences (`DDBG_LOG=json`). */
  readonly jsonLog: boolean;
  /** Sentences about words that are nearly ours. */
  readonly hints: readonly string[];
}

export interface PlanInput {
  /** Our flags, then optionally `--`, then the command. */
  readonly argv: readonly string[];
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** Our flags: single tokens, so that whoever only wants to step over them needs no table. */
const FLAGS = ['allow', 'root', 'state-dir', 'stall-timeout', 'fetch-timeout', 'limit'] as const;
type Flag = (typeof FLAGS)[number];

/** Those that the native init reads and follows by itself, off too: init/init.c. */
const INIT_FLAGS = ['init', 'group', 'grace', 'pdeathsig', 'stop-signal-map', 'exit-map'] as const;
type InitFlag = (typeof INIT_FLAGS)[number];

export interface Arguments {
  readonly flags: Readonly<Partial<Record<Flag, string>>>;
  readonly initFlags: readonly InitFlag[];
  /** `--help`, `--version` or `--install`, when it is there. */
  readonly question: 'help' | 'version' | 'install' | undefined;
  /** `--install=DIR`. */
  readonly installDirectory: string | undefined;
  readonly command: readonly string[];
}

/**
 * Takes our flags off the front, up to `--` or the first word that is none.
 *
 * @throws EntryError `DDBG_BAD_USAGE` for a flag that is not ours or has no value.
 */
export function parseArguments(argv: readonly string[]): Arguments {
  const flags: Partial<Record<Flag, string>> = {};
  const initFlags: InitFlag[] = [];
  let installDirectory: string | undefined;
  let question: Arguments['question'];
  let at = 0;
  for (; at < argv.length; at++) {
    const word = argv[at] ?? '';
    if (word === '--') {
      at++;
      break;
    }
    if (!word.startsWith('-') || word === '-') break;
    const [, name, value] = /^--([a-z-]+)(?:=([\s\S]*))?$/.exec(word) ?? [];
    if (word === '-h') question ??= 'help';
    else if (name === 'help' || name === 'version' || name === 'install') {
      question ??= name;
      if (name === 'install') installDirectory = value;
    } else if (question !== undefined) continue;
    else if (name === 'allow' && flags.allow !== undefined) {
      // From behind an ENTRYPOINT without --, `docker run IMAGE --allow=fstree` would have the last word.
      throw usage('--allow is there twice', 'end the flags of an ENTRYPOINT with --');
    } else if (isFlag(name)) flags[name] = flagValue(name, value);
    else if (isInitFlag(name)) initFlags.push(name);
    else throw usage(`'${word}' is no flag of ours`, 'put -- in front of a command that starts with a dash');
  }
  return { flags, initFlags, question, installDirectory, command: argv.slice(at) };
}

/**
 * Decides everything. The environment that the command gets is the one we have, without our words: DDBG is gone,
 * DEBUG keeps what is not ours.
 *
 * @throws EntryError `DDBG_BAD_USAGE`
 */
export function makePlan(directives: Directives, input: PlanInput): Plan {
  const { flags, initFlags, command } = parseArguments(input.argv);
  if (command.length === 0) {
    throw usage('there is no command to run', 'usage: ddbg-entry [--flag=value ...] [--] COMMAND [ARG ...]');
  }
  checkAllowed(directives, flags.allow);
  return deepFreeze({
    on: isOn(directives),
    command: { argv: [...command], environment: commandEnvironment(input.environment, directives) },
    verbose: directives.verbose,
    stayAlive: directives.stayAlive,
    fstree: directives.fstree,
    record: directives.record,
    setting: directives.setting,
    initFlags: [...new Set(initFlags)],
    root: absolutePath('root', flags.root),
    stateDir: absolutePath('state-dir', flags['state-dir']),
    limits: {
      // Off or not asked for, a variable of docker run's must not stop the image.
      ...(directives.fstree.length === 0
        ? {}
        : parseLimits('DDBG_FSTREE_LIMIT', input.environment.DDBG_FSTREE_LIMIT)),
      ...parseLimits('--limit', flags.limit), // the image's word goes over that of docker run
      stallMs: duration('stall-timeout', flags['stall-timeout']),
      totalMs: duration('fetch-timeout', flags['fetch-timeout']),
    },
    given: { ...input.environment },
    jsonLog: input.environment.DDBG_LOG === 'json',
    hints: directives.hints,
  });
}

/** What somebody inside wants to be different when the command is run again. */
export interface Amendments {
  /** Over the command's own. */
  readonly environment: Readonly<Record<string, string>>;
  /** Instead of the whole command line. Default: as it was. */
  readonly argv?: readonly string[] | undefined;
  /** Laid before the start. */
  readonly fstree: readonly FstreeSource[];
  readonly verbose: boolean;
  /** Hold the container after success too. */
  readonly stay: boolean;
}

/**
 * The plan of a rerun. Pure.
 *
 * @param isLaid the plan's own archives are in place: laid again, they would go over what somebody has changed since
 */
export function amendPlan(plan: Plan, amendments: Amendments | undefined, isLaid: boolean): Plan {
  const { environment = {}, argv = [], fstree = [], verbose = false, stay = false } = amendments ?? {};
  const { command, stayAlive } = plan;
  return deepFreeze({
    ...plan,
    command: {
      argv: argv.length > 0 ? [...argv] : command.argv,
      environment: { ...command.environment, ...environment },
    },
    verbose: plan.verbose || verbose,
    stayAlive: stay ? { limitMs: stayAlive?.limitMs, on: 'always' as const } : stayAlive,
    fstree: [...(isLaid ? [] : plan.fstree), ...fstree],
  });
}

/** Credentials and limits of the download: nothing to the command, which they would outlive. */
const OUR_VARIABLES = new Set(['DDBG_FSTREE_TOKEN', 'DDBG_FSTREE_HEADER', 'DDBG_FSTREE_LIMIT']);

function commandEnvironment(
  environment: PlanInput['environment'],
  directives: Directives,
): Record<string, string> {
  const isOurs = (name: string): boolean => name === 'DDBG' || (isOn(directives) && OUR_VARIABLES.has(name));
  const variables = Object.entries(environment).flatMap(([name, value]): [string, string][] => {
    const left = name === 'DEBUG' ? directives.debugForCommand : isOurs(name) ? undefined : value;
    return left === undefined ? [] : [[name, left]];
  });
  return Object.fromEntries(variables); // not by assignment: a variable can be called __proto__
}

/**
 * The image's say on what DEBUG may do to it: it stands in ENTRYPOINT, which `docker run -e` cannot change.
 *
 * @param list `verbose,stayalive`, or `none`; undefined: everything
 * @throws EntryError `DDBG_BAD_USAGE` for a list that is none, `DDBG_BAD_DIRECTIVE` for a word that it lacks
 */
function checkAllowed(directives: Directives, list: string | undefined): void {
  if (list === undefined) return;
  const allowed = list === 'none' ? [] : list.split(',');
  const unknown = allowed.find((word) => !(WORDS as readonly string[]).includes(word));
  if (unknown !== undefined) {
    throw usage(`--allow=${list} has '${unknown}'`, `it takes ${WORDS.join(', ')}, or none`);
  }
  const used = {
    verbose: directives.verbose,
    stayalive: directives.stayAlive !== undefined,
    fstree: directives.fstree.length > 0,
    record: directives.record,
  };
  const refused = WORDS.find((word) => used[word] && !allowed.includes(word));
  if (refused === undefined) return;
  throw new EntryError(
    'DDBG_BAD_DIRECTIVE',
    `cannot use ${refused} of ${directives.setting}: this image allows ${list} (--allow=${list} in its ENTRYPOINT)`,
    { hint: `take ${refused} out of ${directives.setting}, or have an image that allows it` },
  );
}

function isFlag(name: string | undefined): name is Flag {
  return (FLAGS as readonly (string | undefined)[]).includes(name);
}

function isInitFlag(name: string | undefined): name is InitFlag {
  return (INIT_FLAGS as readonly (string | undefined)[]).includes(name);
}

function flagValue(name: Flag, value: string | undefined): string {
  if (value === undefined || value === '') {
    throw usage(`--${name} has no value`, `write it as one word: --${name}=VALUE`);
  }
  return value;
}

function absolutePath(name: Flag, value: string | undefined): string | undefined {
  if (value === undefined || value.startsWith('/')) return value;
  throw usage(`--${name}=${value} must be an absolute path`, 'start it with /');
}

function duration(name: Flag, value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  const ms = parseDuration(value);
  if (ms === undefined) throw usage(`--${name}=${value} must be a duration`, 'such as 90s, 30m or 2h');
  return ms;
}

/** By the name that stands in --limit: overlay/limits.ts has their defaults and reasons. */
export const LIMIT_NAMES = {
  'archive-bytes': 'archiveBytes',
  'unpacked-bytes': 'unpackedBytes',
  'file-bytes': 'fileBytes',
  entries: 'entries',
  depth: 'depth',
} as const satisfies Record<string, keyof GivenLimits>;

const BYTE_UNITS = { '': 1, k: 1024, M: 1024 ** 2, G: 1024 ** 3, T: 1024 ** 4 } as const;

/** `entries=500000,archive-bytes=8G`; `none` switches one off. */
function parseLimits(setting: string, text: string | undefined): GivenLimits {
  const limits = (text ?? '').split(',').flatMap((limit): [string, number][] => {
    if (limit === '') return [];
    const [, name = '', value = ''] = /^([^=]*)=([\s\S]*)$/.exec(limit) ?? [];
    const number = limitValue(name, value);
    if (Object.hasOwn(LIMIT_NAMES, name) && number !== undefined)
      return [[LIMIT_NAMES[name as keyof typeof LIMIT_NAMES], number]];
    throw usage(
      `${setting}: '${limit}' is no limit`,
      `it takes ${Object.keys(LIMIT_NAMES).join(', ')}, each =NUMBER (bytes with k, M, G or T) or =none`,
    );
  });
  return Object.fromEntries(limits);
}

function limitValue(name: string, value: string): number | undefined {
  if (value === 'none') return Number.POSITIVE_INFINITY;
  const [, digits, unit = ''] = /^([1-9]\d{0,14})([kMGT]?)$/.exec(value) ?? [];
  if (digits === undefined || (unit !== '' && !name.endsWith('-bytes'))) return undefined;
  return Number(digits) * BYTE_UNITS[unit as keyof typeof BYTE_UNITS];
}

function usage(problem: string, hint: string): EntryError {
  return new EntryError('DDBG_BAD_USAGE', `cannot run: ${problem}`, { hint });
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    for (const part of Object.values(value)) deepFreeze(part);
    Object.freeze(value);
  }
  return value;
}
