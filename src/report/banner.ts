/**
 * What a person reads when the container is parked: what happened, how to get in, how to let it go. Pure.
 */
import type { Container } from '../container/identity.ts';
import type { Fault } from '../fault.ts';
import { maskArguments } from '../secrets.ts';

export interface BannerFacts {
  /** Undefined: `stayalive=always` after a success. */
  readonly fault: Fault | undefined;
  /** Without secrets. */
  readonly command: string;
  /** Of the command; undefined when it was never started. */
  readonly commandPid: number | undefined;
  readonly durationMs: number;
  readonly container: Container;
  /** Our own pid: whoever is inside lets go by killing it. */
  readonly ownPid: number;
  /** The best shell of this image, or undefined when it has none. */
  readonly shell: string | undefined;
  /** Where the state directory is; undefined: there is none. */
  readonly stateDirectory: string | undefined;
  readonly limitMs: number | undefined;
  /** False under npx with dash: then a stop from outside ends the container with npm's status. */
  readonly isReachedByStops: boolean;
}

export function parkBanner(facts: BannerFacts): readonly string[] {
  const { fault, commandPid } = facts;
  const ran = commandPid === undefined ? '' : ` (pid ${commandPid}, ran ${showDuration(facts.durationMs)})`;
  const ending = fault?.summary ?? 'ended with status 0';
  return [
    '----------------------------------------------------------------',
    `${fault === undefined ? 'done' : 'fault'}: ${facts.command}${ran} ${ending}`,
    ...(fault?.meaning === undefined ? [] : [`usually means: ${fault.meaning}`]),
    `the container stays${facts.limitMs === undefined ? '' : ` for ${showDuration(facts.limitMs)}`}, everything in it is as it was left`,
    `get in:      ${attachLine(facts)}`,
    ...environmentLines(facts),
    `let it go:   ${releaseLine(facts)}   (it ends with status ${fault?.status ?? 0})`,
    '----------------------------------------------------------------',
  ];
}

/**
 * One line for a fault without stayalive.
 *
 * @param command without secrets
 * @param setting the variable that was read
 * @param words what stood in it, to be kept
 */
export function stayAliveHint(
  fault: Fault,
  command: string,
  setting: string,
  words: readonly string[],
): string {
  const { kind } = fault.outcome;
  const ending = kind === 'setup-failed' ? 'was not started' : fault.summary; // its reason stands in the line before
  const variable = quote(`${setting}=${[...words, 'stayalive'].join(',')}`);
  return `${command} ${ending}; to keep the container next time and look inside: -e ${variable}`;
}

function attachLine({ container, shell }: BannerFacts): string {
  const { id = 'CONTAINER', pod } = container;
  if (container.evidence === undefined) return 'this is no container: look around from another terminal';
  if (shell === undefined) {
    return `this image has no shell; docker cp ${id}:/PATH . copies files out, docker debug ${id} brings a shell along`;
  }
  if (pod !== undefined) return `kubectl exec -it ${pod.name}${namespaceFlag(pod.namespace)} -- ${shell}`;
  return `${clientOf(container)} exec -it ${id} ${shell}`;
}

function releaseLine({ container, ownPid, shell, isReachedByStops }: BannerFacts): string {
  const { id = 'CONTAINER', pod } = container;
  if (container.evidence === undefined) return `kill ${ownPid}`;
  if (pod !== undefined) {
    return `kubectl exec ${pod.name}${namespaceFlag(pod.namespace)} -- ${shell ?? 'sh'} -c 'kill ${ownPid}'`;
  }
  if (!isReachedByStops) return `${clientOf(container)} exec ${id} ${shell ?? 'sh'} -c 'kill ${ownPid}'`;
  const outside = `${clientOf(container)} stop ${id}`;
  return shell === undefined ? outside : `${outside}   or, inside: kill ${ownPid}`;
}

function environmentLines({ stateDirectory, shell }: BannerFacts): readonly string[] {
  if (stateDirectory === undefined || shell === undefined) return [];
  return [`its environment, once inside: . ${stateDirectory}/environ.sh`];
}

function clientOf(container: Container): string {
  return container.engine === 'podman' ? 'podman' : 'docker';
}

function namespaceFlag(namespace: string | undefined): string {
  return namespace === undefined ? '' : ` -n ${namespace}`;
}

/** A command line as a person would type it, without secrets (makeMask of its environment), cut where it gets long. */
export function showCommand(argv: readonly string[], mask: (text: string) => string): string {
  const line = maskArguments(argv, mask).map(quote).join(' ');
  return line.length > 300 ? `${line.slice(0, 300)}...` : line;
}

function quote(argument: string): string {
  return /^[\w@%+=:,./-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", `'\\''`)}'`;
}

/** `0.3 s`, `42 s`, `3 min 20 s`, `2 h 5 min`. */
export function showDuration(ms: number): string {
  const seconds = ms / 1_000;
  if (seconds < 10) return `${seconds.toFixed(seconds < 0.1 ? 2 : 1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 120) {
    const rest = Math.round(seconds - Math.floor(seconds / 60) * 60);
    return rest === 0 || rest === 60 ? `${minutes} min` : `${Math.floor(seconds / 60)} min ${rest} s`;
  }
  const hours = Math.floor(minutes / 60);
  return minutes % 60 === 0 ? `${hours} h` : `${hours} h ${minutes % 60} min`;
}
