/**
 * `ddbg check`, for the authors of images: `RUN ddbg check` says what will not work in the container, while it can still
 * be mended. Facts first, then the judgement of them, which is pure. It leaves nothing behind.
 */
import { accessSync, constants, lstatSync, realpathSync, statSync } from 'node:fs';
import { dirname, isAbsolute, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { attempt, linkOf, textOf } from '../attempt.ts';
import { findCarrier } from '../carrier.ts';
import type { CgroupLimits, ResourceLimit } from '../container/limits.ts';
import { readCgroupLimits, readResourceLimits } from '../container/limits.ts';
import { showBytes } from '../dump/words.ts';
import { errnoOf, reasonOf } from '../errors.ts';
import { initFile } from '../install.ts';
import { WORDS } from '../parse.ts';
import { SHELLS, which } from '../process/resolve.ts';
import { usualPlaces } from '../state.ts';
import type { Answer } from './answer.ts';
import { STATUS, ToolError } from './answer.ts';

const dist = fileURLToPath(new URL('.', import.meta.url));

/** `problem`: something will not work. `note`: it will, but less well, or it is worth knowing. */
export interface Finding {
  readonly level: 'ok' | 'note' | 'problem';
  readonly subject: string;
  /** One sentence. */
  readonly said: string;
  /** What to do about it; null: nothing. */
  readonly wayOut: string | null;
}

/** What `--json` prints for `check`. */
export interface CheckAnswer {
  readonly schema: 1;
  readonly problems: number;
  readonly findings: readonly Finding[];
}

/** @throws ToolError for a wrong command line */
export async function check(argv: readonly string[]): Promise<Answer> {
  if (argv[0] !== undefined) throw new ToolError(STATUS.usage, `cannot check: '${argv[0]}' is no flag of it`);
  const findings = judge(gatherFacts(process.env));
  const problems = findings.filter(({ level }) => level === 'problem').length;
  return {
    status: problems > 0 ? STATUS.no : STATUS.done,
    lines: showFindings(findings),
    json: { schema: 1, problems, findings } satisfies CheckAnswer,
  };
}

/** Problems first, each with its way out; what is well last. */
function showFindings(findings: readonly Finding[]): readonly string[] {
  const order = ['problem', 'note', 'ok'];
  const sorted = [...findings].sort((one, other) => order.indexOf(one.level) - order.indexOf(other.level));
  return sorted.flatMap(({ level, subject, said, wayOut }) => [
    `${level.padEnd(7)} ${subject}: ${said}`,
    ...(wayOut === null ? [] : [`        ${wayOut}`]),
  ]);
}

// ---- facts ----------------------------------------------------------------------------------------------------------

/** What is to be known of the place, as values. */
export interface Facts {
  readonly platform: string;
  /** What `ddbg-entry` is in PATH. */
  readonly entry: 'init' | 'node' | 'other' | 'none';
  readonly entryFile: string | undefined;
  /** Why the init of this platform cannot be executed; '' where it can; undefined: it is not built for it. */
  readonly initFailure: string | undefined;
  /** `20.18.1` */
  readonly nodeVersion: string;
  readonly leastNodeVersion: string;
  readonly nodeInPath: string | undefined;
  /** Where the carrier's tool is; undefined: node is the image's. */
  readonly carrierTool: string | undefined;
  /** The words of ours that the image's environment has already. */
  readonly environmentSets: readonly string[];
  readonly shells: readonly string[];
  readonly tools: Readonly<Record<string, boolean>>;
  readonly hasCertificates: boolean;
  readonly user: { readonly uid: number; readonly gid: number; readonly name: string | undefined };
  readonly stateDirectories: {
    /** The first usual place that this user could have; undefined: none. */
    readonly own: string | undefined;
    readonly refusals: readonly string[];
    /** The same for root, who may write wherever there is something. */
    readonly ofRoot: string | undefined;
    /** The same where only /dev/shm can be written, as with docker run --read-only. */
    readonly readOnly: string | undefined;
  };
  readonly isBinMerged: boolean;
  readonly corePattern: string | undefined;
  /** Whether the folder of an absolute pattern is there. */
  readonly isCoreFolderThere: boolean;
  readonly limits: readonly ResourceLimit[];
  readonly cgroup: CgroupLimits;
}

const OURS = new RegExp(`\\b(?:${WORDS.join('|')})\\b`);
const TOOLS = ['ps', 'curl', 'tar', 'gdb', 'strace'];
const CERTIFICATES = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/cert.pem',
  '/etc/ssl/ca-bundle.pem',
];

function gatherFacts(environment: NodeJS.ProcessEnv): Facts {
  const path = environment.PATH;
  const entryFile = which('ddbg-entry', path);
  const corePattern = textOf('/proc/sys/kernel/core_pattern')?.trim();
  return {
    platform: `${process.platform}-${process.arch}`,
    entry: kindOfEntry(entryFile),
    entryFile,
    initFailure: tryInit(environment),
    nodeVersion: process.versions.node,
    leastNodeVersion: leastNodeVersion(),
    nodeInPath: which('node', path),
    carrierTool: findCarrier()?.tool,
    environmentSets: ['DDBG', 'DEBUG'].filter((name) => OURS.test(environment[name] ?? '')),
    shells: SHELLS.filter((name) => which(name, path) !== undefined),
    tools: Object.fromEntries(TOOLS.map((name) => [name, which(name, path) !== undefined])),
    hasCertificates: CERTIFICATES.some((file) => isThere(file)),
    user: currentUser(),
    stateDirectories: findStateDirectories(process.getuid?.() ?? 0),
    isBinMerged: linkOf('/bin') !== undefined,
    corePattern,
    isCoreFolderThere: corePattern !== undefined && isThere(dirname(corePattern)),
    limits: readResourceLimits(process.ppid > 0 ? process.ppid : process.pid), // node has raised its own
    cgroup: readCgroupLimits(textOf('/proc/self/cgroup') ?? ''),
  };
}

function kindOfEntry(file: string | undefined): Facts['entry'] {
  if (file === undefined) return 'none';
  const target = realpathSync(file);
  if (!target.startsWith(realpathSync(dist))) return 'other';
  return target.endsWith('/ddbg-init') ? 'init' : 'node';
}

const LONGEST_TRY_MS = 10_000;

/** Really executed: it asks node for the version, and so says whether both can be found and run. */
function tryInit(environment: NodeJS.ProcessEnv): string | undefined {
  const init = initFile(dist);
  if (!isThere(init)) return undefined;
  const { spawnSync } = process.getBuiltinModule('node:child_process');
  const env = { PATH: environment.PATH };
  const tried = spawnSync(init, ['--version'], { encoding: 'utf8', env, timeout: LONGEST_TRY_MS });
  if (tried.error !== undefined) return reasonOf(tried.error);
  if (tried.status === 0) return '';
  return tried.stderr.trim() || `it ended with ${tried.status ?? tried.signal}`;
}

function leastNodeVersion(): string {
  const manifest = JSON.parse(textOf(join(dist, '../package.json')) ?? '{}') as {
    engines?: { node?: string };
  };
  return /\d+(?:\.\d+)*/.exec(manifest.engines?.node ?? '')?.[0] ?? '20.18.1';
}

function currentUser(): Facts['user'] {
  const [uid, gid] = [process.getuid?.() ?? 0, process.getgid?.() ?? 0];
  const line = new RegExp(`^([^:\\n]*):[^:\\n]*:${uid}:`, 'm').exec(textOf('/etc/passwd') ?? '');
  return { uid, gid, name: line?.[1] };
}

/** As state.ts would take them, but nothing is made. */
function findStateDirectories(uid: number): Facts['stateDirectories'] {
  const refusals: string[] = [];
  const usable = usualPlaces(uid).filter((place) => {
    const refusal = refusalOf(place, uid);
    if (refusal !== undefined) refusals.push(`${place}: ${refusal}`);
    return refusal === undefined;
  });
  return {
    own: usable[0],
    refusals,
    ofRoot: usualPlaces(0).find((place) => isThere(dirname(place))),
    readOnly: usable.find((place) => place.startsWith('/dev/shm/')),
  };
}

function refusalOf(place: string, uid: number): string | undefined {
  const stats = lstatSync(place, { throwIfNoEntry: false });
  if (stats !== undefined && !stats.isDirectory()) return 'is there already and is no directory';
  if (stats !== undefined && stats.uid !== uid) return `belongs to uid ${stats.uid}`;
  if (stats !== undefined && (stats.mode & 0o077) !== 0) return 'is open to others';
  try {
    accessSync(stats === undefined ? dirname(place) : place, constants.W_OK | constants.X_OK);
    return undefined;
  } catch (error) {
    return errnoOf(error) ?? reasonOf(error);
  }
}

function isThere(file: string): boolean {
  return attempt(() => statSync(file) !== undefined, false);
}

// ---- the judgement --------------------------------------------------------------------------------------------------

/** From here on Node can replace itself by the command. */
const EXECVE_VERSION = '22.15.0';
/** Processes and threads that a word of ours needs beside the command's. */
const OWN_THREADS = 10;

const ok = (subject: string, said: string): Finding => ({ level: 'ok', subject, said, wayOut: null });
const note = (subject: string, said: string, wayOut: string | null = null): Finding => ({
  level: 'note',
  subject,
  said,
  wayOut,
});
const problem = (subject: string, said: string, wayOut: string): Finding => ({
  level: 'problem',
  subject,
  said,
  wayOut,
});

/** Pure. */
export function judge(facts: Facts): readonly Finding[] {
  return [
    judgeEntry(facts),
    judgeInit(facts),
    ...judgeNode(facts),
    ...judgeEnvironment(facts),
    judgeShells(facts),
    judgeState(facts),
    judgeReadOnly(facts),
    ...judgeTools(facts),
    judgeCore(facts),
    ...judgeLimits(facts),
    facts.isBinMerged
      ? ok('/bin', 'is a link, which an archive follows')
      : note(
          '/bin',
          'is a directory of its own: an archive for this image must say bin/ or usr/bin/ as the image does',
        ),
    ok(
      'user',
      `uid ${facts.user.uid}${facts.user.name === undefined ? ', which /etc/passwd does not name' : ` (${facts.user.name})`}, gid ${facts.user.gid}`,
    ),
  ];
}

/** What an ENTRYPOINT of ["ddbg-entry", "--", ...] makes PID 1. */
function judgeEntry({ entry, entryFile, initFailure, nodeVersion, carrierTool }: Facts): Finding {
  const subject = 'pid 1';
  if (carrierTool !== undefined)
    return ok(
      subject,
      `${dirname(carrierTool)}/ddbg-entry, of the carrier image: off it becomes the command, with a word of ours it stays in front`,
    );
  if (entry === 'none')
    return problem(
      subject,
      'PATH finds no ddbg-entry: an ENTRYPOINT with it would not start',
      'RUN npm install --global ddbg-entry && ddbg-entry --install',
    );
  if (entry === 'other')
    return problem(
      subject,
      `${entryFile} is not this package's`,
      'take it away, or put the folder of npm’s global bins earlier into PATH',
    );
  if (entry === 'init')
    return ok(
      subject,
      `${entryFile} is the native init: off it becomes the command, with a word of ours it stays in front`,
    );
  const how = isOlder(nodeVersion, EXECVE_VERSION)
    ? `${entryFile} is Node's: it stays PID 1, also when off, with 40 MB, and does not reap orphans`
    : `${entryFile} is Node's: off it becomes the command after the start of Node`;
  const wayOut = initFailure === '' ? 'RUN ddbg-entry --install puts the native init there' : null;
  return note(subject, how, wayOut);
}

function judgeInit({ initFailure, platform, entry }: Facts): Finding {
  if (initFailure === '') return ok('native init', `runs here (${platform})`);
  if (initFailure === undefined)
    return note('native init', `is not built for ${platform}: Node does its work, as far as it can`);
  const said = `cannot run here: ${initFailure}`;
  return entry === 'init'
    ? problem('native init', said, 'is node in the PATH of the image (ENV PATH), and the package whole?')
    : note('native init', said, 'until that is mended, leave out ddbg-entry --install');
}

function judgeNode({ nodeVersion, leastNodeVersion, nodeInPath, carrierTool }: Facts): readonly Finding[] {
  if (carrierTool !== undefined)
    return [ok('node', `${nodeVersion}, with its own libraries: the image needs none`)];
  const version = isOlder(nodeVersion, leastNodeVersion)
    ? problem(
        'node',
        `${nodeVersion} is older than ${leastNodeVersion}`,
        `put Node ${leastNodeVersion} or later into the image`,
      )
    : ok('node', `${nodeVersion}`);
  const place =
    nodeInPath === undefined
      ? problem(
          'node in PATH',
          'PATH does not find node: docker exec ... ddbg and the init would not',
          'ENV PATH=/where/node/is:$PATH',
        )
      : ok('node in PATH', nodeInPath);
  return [version, place];
}

/** `20.9.0` is older than `20.18.1`. */
function isOlder(version: string, than: string): boolean {
  const [one, other] = [version, than].map((text) => text.split('.').map(Number));
  for (let at = 0; at < 3; at += 1) {
    const difference = (one?.[at] ?? 0) - (other?.[at] ?? 0);
    if (difference !== 0) return difference < 0;
  }
  return false;
}

function judgeEnvironment({ environmentSets }: Facts): readonly Finding[] {
  return environmentSets.map((name) =>
    note(
      'environment',
      `${name} has words of ours already: every container of this image would be debugged`,
      `take ${name} out of the image's ENV`,
    ),
  );
}

function judgeShells({ shells, carrierTool }: Facts): Finding {
  const [best] = shells;
  if (best === undefined && carrierTool !== undefined)
    return ok('shells', `the image has none: ${carrierTool} shell brings busybox along`);
  if (best === undefined)
    return note(
      'shells',
      'there is none: nobody can work in a container that is held',
      'docker cp copies files out of it; a shell in the image lets people in',
    );
  const traced = shells.includes('bash')
    ? ''
    : '; without bash, verbose traces scripts without file and line';
  return ok('shells', `${shells.join(', ')}: ${best} is the one that is named to people${traced}`);
}

function judgeState({ stateDirectories, user }: Facts): Finding {
  const { own, refusals, ofRoot } = stateDirectories;
  const root = user.uid === 0 || ofRoot === undefined ? '' : `, ${ofRoot} for root`;
  if (own !== undefined) return ok('state directory', `${own} for uid ${user.uid}${root}`);
  return problem(
    'state directory',
    `there is none that uid ${user.uid} could have: ${refusals.join('; ')}`,
    'a folder of mode 0700 that belongs to this user, and --state-dir=DIR in the ENTRYPOINT',
  );
}

function judgeReadOnly({ stateDirectories }: Facts): Finding {
  const { readOnly } = stateDirectories;
  return readOnly !== undefined
    ? ok('read-only root', `${readOnly} is the state directory then`)
    : note(
        'read-only root',
        'there would be no state directory, for /dev/shm cannot be had',
        'docker run --read-only --tmpfs /run, or --state-dir=DIR on a volume',
      );
}

const PURPOSES: Readonly<Record<string, string>> = {
  ps: 'the processes of a held container (procps)',
  curl: 'asking a server from inside',
  tar: 'packing what is to be taken out (docker cp brings it along)',
  gdb: 'reading a core file',
  strace: 'watching system calls; it needs --cap-add SYS_PTRACE too',
};

/** Nothing of ours needs them: they are what people reach for in a container that is held. */
function judgeTools({ tools, hasCertificates }: Facts): readonly Finding[] {
  const names = Object.keys(tools);
  const there = names.filter((name) => tools[name]);
  const missing = names.filter((name) => !tools[name]);
  return [
    ...(there.length === 0 ? [] : [ok('tools', `${there.join(', ')}`)]),
    ...(missing.length === 0
      ? []
      : [
          note(
            'tools',
            `not there: ${missing.map((name) => `${name} (${PURPOSES[name]})`).join(', ')}`,
            'ddbg-entry needs none of them; DEBUG=fstree=URL can bring them along when they are wanted',
          ),
        ]),
    hasCertificates
      ? ok('CA certificates', 'are there')
      : note(
          'CA certificates',
          'are not there: curl and others cannot check a server; fstree uses those in Node',
        ),
  ];
}

/** core_pattern is the machine's, and may be another one where the container will run. */
function judgeCore({ corePattern, isCoreFolderThere, limits }: Facts): Finding {
  const size = limits.find(({ name }) => name === 'Max core file size');
  const limit = size === undefined ? '' : `, ulimit -c is ${size.soft}`;
  if (corePattern === undefined) return note('core files', 'the kernel does not say where they go');
  if (corePattern.startsWith('|'))
    return note(
      'core files',
      `go to a program of the machine (core_pattern ${corePattern.split(' ')[0]})${limit}`,
      'look for them on the machine, outside of the container',
    );
  const place = isAbsolute(corePattern)
    ? corePattern
    : `the working directory (core_pattern ${corePattern || 'core'})`;
  if (isAbsolute(corePattern) && !isCoreFolderThere)
    return note(
      'core files',
      `would go to ${place}, a folder that is not in this image`,
      `RUN mkdir -p -m 1777 ${dirname(corePattern)}`,
    );
  if (size?.soft === '0')
    return note(
      'core files',
      `none is written${limit}; it would go to ${place}`,
      'docker run --ulimit core=-1',
    );
  return ok('core files', `go to ${place}${limit}`);
}

/** As seen here: a container may be given others. */
function judgeLimits({ limits, cgroup }: Facts): readonly Finding[] {
  const show = (name: string) => limits.find((one) => one.name === name)?.soft ?? '?';
  const { version, memoryBytes, cpus, pids } = cgroup;
  const memory = memoryBytes === undefined ? 'no limit' : showBytes(memoryBytes);
  const group =
    version === undefined
      ? note('cgroup', 'cannot be read: what a fault had to do with limits cannot be said')
      : ok(
          'cgroup',
          `v${version}, here: memory ${memory}, cpus ${cpus ?? 'no limit'}, pids ${pids ?? 'no limit'}`,
        );
  const least = OWN_THREADS * 2;
  return [
    ok('limits', `here: open files ${show('Max open files')}, processes ${show('Max processes')}`),
    group,
    ...(pids !== undefined && pids < least
      ? [
          note(
            'pids',
            `a limit of ${pids} leaves little room: with a word of ours Node starts ${OWN_THREADS} threads`,
            `docker run --pids-limit ${least} or more`,
          ),
        ]
      : []),
  ];
}
