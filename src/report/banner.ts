/**
 * What a person reads when the container is parked: what happened, how to get in, how to let it go. Pure.
 */
import type { Container, Pod, Runtime } from '../container/identity.ts';
import type { Fault } from '../fault.ts';
import { maskArguments } from '../secrets.ts';

export interface BannerFacts {
  /** Undefined: `stayalive=always` after a success. */
  readonly fault: Fault | undefined;
  /** The line of whoever has looked into it; undefined: what such a fault usually means is said instead. */
  readonly cause: string | undefined;
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
  /** Whether `ddbg shell` brings a shell along. */
  readonly hasOwnShell: boolean;
  /** What is typed for the tool `ddbg`; undefined: it, or the node that it needs, is not in PATH. */
  readonly tool: string | undefined;
  /** Where the state directory is; undefined: there is none. */
  readonly stateDirectory: string | undefined;
  readonly limitMs: number | undefined;
  /** For the time of day at which the limit would be over. */
  readonly now: Date;
  /** False under npx with dash: then a stop from outside ends the container with npm's status. */
  readonly isReachedByStops: boolean;
}

/** At most nine lines, each of which works as it stands. */
export function parkBanner(facts: BannerFacts): readonly string[] {
  const { fault, commandPid } = facts;
  const ran = commandPid === undefined ? '' : ` (pid ${commandPid}, ran ${showDuration(facts.durationMs)})`;
  const ending = fault?.summary ?? 'ended with status 0';
  return [
    '----------------------------------------------------------------',
    `${fault === undefined ? 'done' : 'fault'}: ${facts.command}${ran} ${ending}`,
    ...causeLines(facts),
    `the container stays${limitWords(facts)}, everything in it is as it was left`,
    `get in:      ${attachLine(facts)}`,
    ...environmentLines(facts),
    ...toolLines(facts),
    `let it go:   ${releaseLine(facts)}   (it ends with status ${fault?.status ?? 0})`,
    '----------------------------------------------------------------',
  ];
}

function causeLines({ cause, fault }: BannerFacts): readonly string[] {
  if (cause !== undefined) return [cause];
  return fault?.meaning === undefined ? [] : [`usually means: ${fault.meaning}`];
}

function limitWords({ limitMs, now }: BannerFacts): string {
  if (limitMs === undefined) return '';
  const until = showTime(new Date(now.getTime() + limitMs), now);
  return ` for ${showDuration(limitMs)} (until ${until}; the clock stands while somebody is attached)`;
}

/** `14:35 UTC`, with the date on another day and with the seconds when it is soon. */
function showTime(time: Date, now: Date): string {
  const [day = '', clock = ''] = time.toISOString().split('T');
  const isSoon = time.getTime() - now.getTime() < 10 * 60_000;
  const date = now.toISOString().startsWith(day) ? '' : `${day} `;
  return `${date}${clock.slice(0, isSoon ? 8 : 5)} UTC`;
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

function attachLine(facts: BannerFacts): string {
  const { container, shell, tool, hasOwnShell, stateDirectory } = facts;
  if (container.evidence === undefined) return 'this is no container: look around from another terminal';
  if (tool === undefined || (shell === undefined && !hasOwnShell))
    return shell === undefined ? withoutShell(container) : execLine(container, shell, '-it ');
  const line = execLine(container, `${tool} shell`, '-it ');
  if (shell === undefined) return line;
  const environment = stateDirectory === undefined ? '' : `, and there: . ${stateDirectory}/environ.sh`;
  return `${line}   or ${shell}${environment}`;
}

function withoutShell({ engine, pod, ...container }: Container): string {
  const { id = 'CONTAINER' } = container;
  if (pod !== undefined) {
    const target = pod.container === undefined ? '' : ` --target=${pod.container}`;
    return `this image has no shell; kubectl debug -it ${podName(pod)}${target} --image=busybox brings one along`;
  }
  const client = clientOf({ engine, pod, ...container });
  if (isRuntime(engine)) return `this image has no shell; its files lie where ${client} state ${id} says`;
  return `this image has no shell; ${client} cp ${id}:/PATH . copies files out`;
}

/** The line that runs `command` in the container. */
function execLine(container: Container, command: string, flags = ''): string {
  const { id = 'CONTAINER', pod, engine } = container;
  if (isRuntime(engine)) return `${engine} exec ${flags === '' ? '' : '-t '}${id} ${command}`; // which has no -i
  if (pod === undefined) return `${clientOf(container)} exec ${flags}${id} ${command}`;
  const one = pod.container === undefined ? '' : ` -c ${pod.container}`;
  return `kubectl exec ${flags}${podName(pod)}${one} -- ${command}`;
}

function toolLines({ container, tool }: BannerFacts): readonly string[] {
  if (tool === undefined) return [];
  const line = (command: string) =>
    container.evidence === undefined ? command : execLine(container, command);
  return [`what happened: ${line(`${tool} report`)}`, `again:       ${line(`${tool} rerun`)}`];
}

function releaseLine({ container, ownPid, shell, tool, isReachedByStops }: BannerFacts): string {
  const { id = 'CONTAINER', pod } = container;
  if (container.evidence === undefined) return `kill ${ownPid}`;
  const killing = shell === undefined ? undefined : `kill ${ownPid}`;
  const inside = tool === undefined ? killing : `${tool} release`;
  if (pod === undefined && isReachedByStops) {
    const client = clientOf(container);
    const outside = isRuntime(container.engine) ? `${client} kill ${id}` : `${client} stop ${id}`;
    return inside === undefined ? outside : `${outside}   or, inside: ${inside}`;
  }
  if (tool !== undefined) return execLine(container, `${tool} release`);
  if (shell !== undefined) return execLine(container, `${shell} -c 'kill ${ownPid}'`);
  return pod === undefined ? `${clientOf(container)} kill ${id}` : `kubectl delete pod ${podName(pod)}`;
}

function environmentLines({ stateDirectory, shell, tool }: BannerFacts): readonly string[] {
  if (stateDirectory === undefined || shell === undefined || tool !== undefined) return [];
  return [`its environment, once inside: . ${stateDirectory}/environ.sh`];
}

function clientOf({ engine, namespace }: Container): string {
  if (engine === 'nerdctl') return namespace === undefined ? 'nerdctl' : `nerdctl -n ${namespace}`;
  return engine === 'podman' || isRuntime(engine) ? engine : 'docker';
}

function isRuntime(engine: Container['engine']): engine is Runtime {
  return engine === 'runc' || engine === 'crun';
}

function podName({ name = 'POD', namespace }: Pod): string {
  return namespace === undefined ? name : `${name} -n ${namespace}`;
}

/** A command line as a person would type it, without secrets (makeMask of its environment), cut where it gets long. */
export function showCommand(argv: readonly string[], mask: (text: string) => string): string {
  const line = maskArguments(argv, mask).map(quote).join(' ');
  return line.length > 300 ? `${line.slice(0, 300)}...` : line;
}

function quote(argument: string): string {
  return /^[\w@%+=:,./-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", `'\\''`)}'`;
}

/** `14:02:11 UTC` of an ISO time. */
export function showClock(iso: string): string {
  return `${iso.slice(11, 19)} UTC`;
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
