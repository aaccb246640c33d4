/**
 * Which container this is, if any: for the lines that a person pastes, and for the rule that nothing is ever laid over
 * a `/` that is no container's.
 */
import { existsSync } from 'node:fs';
import { hostname } from 'node:os';
import { linkOf, textOf } from '../attempt.ts';

export interface Container {
  /** Why we hold this for a container; undefined: nothing says so. */
  readonly evidence: string | undefined;
  readonly engine: 'docker' | 'podman' | 'nerdctl' | 'kubernetes' | Runtime | 'unknown';
  /** What `docker exec` takes: 12 digits, or a runtime's name for it; undefined where nothing tells. */
  readonly id: string | undefined;
  /** containerd's, which nerdctl wants to be told unless it is `default`: then undefined. */
  readonly namespace?: string | undefined;
  readonly pod: Pod | undefined;
}

/** An OCI runtime that nobody stands above: `runc run`. */
export type Runtime = 'runc' | 'crun';

/** What kubectl wants to know. Undefined: nothing tells. */
export interface Pod {
  readonly name: string | undefined;
  readonly namespace: string | undefined;
  readonly container: string | undefined;
}

/** Everything the answer is made from, so that it can be tested on other machines' files. */
export interface Clues {
  readonly cgroup: string;
  readonly mountinfo: string;
  readonly hostname: string;
  /** /etc/hosts: the kubelet writes into it whether the pod uses the node's network. */
  readonly hosts?: string | undefined;
  readonly dockerenv: boolean;
  readonly containerenv: boolean;
  /** Whether our processes are not the machine's: /proc/self/ns/pid is not the first PID namespace. */
  readonly ownPidNamespace: boolean;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Kubernetes mounts it into every pod by default. */
  readonly namespace: string | undefined;
}

export function readClues(environment: Clues['environment'] = process.env): Clues {
  return {
    cgroup: textOf('/proc/self/cgroup') ?? '',
    mountinfo: textOf('/proc/self/mountinfo') ?? '',
    hostname: hostname(),
    hosts: textOf('/etc/hosts') ?? '',
    dockerenv: existsSync('/.dockerenv'),
    containerenv: existsSync('/run/.containerenv'),
    ownPidNamespace: hasOwnPidNamespace(),
    environment,
    namespace: textOf('/var/run/secrets/kubernetes.io/serviceaccount/namespace')?.trim() || undefined,
  };
}

/** False also where it cannot be told. */
export function hasOwnPidNamespace(): boolean {
  return ![FIRST_PID_NAMESPACE, undefined].includes(linkOf('/proc/self/ns/pid'));
}

/** The kernel gives it this number at boot (PROC_PID_INIT_INO). */
const FIRST_PID_NAMESPACE = 'pid:[4026531836]';

const HAS_OVERLAY_ROOT = /^\S+ \S+ \S+ \S+ \/ .* - overlay /m;

/** Pure. */
export function identifyContainer(clues: Clues): Container {
  const mounted = findMounted(clues.mountinfo);
  const kubelet = findKubelet(clues.mountinfo);
  const isPod = isInPod(clues, mounted, kubelet);
  const runtime = findRuntime(clues);
  const engine = isPod ? 'kubernetes' : findEngine(clues, mounted, runtime);
  const common = { evidence: findEvidence(clues, isPod, mounted, runtime), engine } as const;
  if (isPod)
    return { ...common, id: findIdInCgroup(clues.cgroup)?.slice(0, 12), pod: findPod(clues, kubelet) };
  if (engine === 'runc' || engine === 'crun')
    return { ...common, id: findNameInCgroup(clues.cgroup), pod: undefined };
  const fromHostname = /^[0-9a-f]{12}$/.test(clues.hostname) ? clues.hostname : undefined;
  const id = findIdInCgroup(clues.cgroup) ?? mounted?.id;
  const namespace = mounted?.namespace === 'default' ? undefined : mounted?.namespace;
  const isNamed = engine === 'nerdctl' && namespace !== undefined;
  return {
    ...common,
    id: id?.slice(0, 12) ?? fromHostname,
    ...(isNamed ? { namespace } : {}),
    pod: undefined,
  };
}

function findEvidence(
  clues: Clues,
  isPod: boolean,
  mounted: Mounted | undefined,
  runtime: Runtime | undefined,
): string | undefined {
  if (clues.dockerenv) return '/.dockerenv';
  if (clues.containerenv) return '/run/.containerenv';
  if (isPod) return 'Kubernetes';
  if (/(?:docker|libpod|nerdctl|containerd|crio)[-/:][0-9a-f]{64}|\/lxc[./]/.test(clues.cgroup))
    return 'the cgroup';
  // A laptop can have these too (an image-based system, a variable somebody exported), but not beside them processes
  // of its own.
  if (!clues.ownPidNamespace) return undefined;
  if (mounted !== undefined || runtime !== undefined) return 'the mounts';
  if (HAS_OVERLAY_ROOT.test(clues.mountinfo)) return 'an overlay as root file system';
  if (clues.environment.container !== undefined) return 'the variable container';
  return undefined;
}

function findEngine(
  clues: Clues,
  mounted: Mounted | undefined,
  runtime: Runtime | undefined,
): Container['engine'] {
  // before the files: the root of `docker export` has Docker's .dockerenv in it
  if (runtime !== undefined && mounted === undefined && findIdInCgroup(clues.cgroup) === undefined)
    return runtime;
  if (clues.containerenv || /libpod/.test(clues.cgroup)) return 'podman';
  if (mounted?.engine === 'nerdctl' || /nerdctl-[0-9a-f]{64}/.test(clues.cgroup)) return 'nerdctl';
  if (clues.dockerenv || mounted?.engine === 'docker' || /docker[-/:][0-9a-f]{64}/.test(clues.cgroup)) {
    return 'docker';
  }
  return mounted?.engine ?? 'unknown';
}

/**
 * What runc and crun hide in every container that is not privileged, and nothing else does: files of /proc behind
 * /dev/null, folders behind empty ones. runc has a tmpfs for each of these, crun one of size 0 (1.8.1), later its own
 * `.empty-directory`. On an overlay it is somebody's image: an engine stands above, which says no more of itself.
 */
function findRuntime({ mountinfo }: Clues): Runtime | undefined {
  if (HAS_OVERLAY_ROOT.test(mountinfo)) return undefined;
  if (!/^\S+ \S+ \S+ \/null \/proc\/(?:kcore|keys|sched_debug|timer_list) /m.test(mountinfo))
    return undefined;
  const isCrun =
    /^\S+ \S+ \S+ \S*\/\.empty-directory \/(?:proc|sys)\//m.test(mountinfo) ||
    /^\S+ \S+ \S+ \/ \/(?:proc|sys)\/.* - tmpfs tmpfs \S*size=0k/m.test(mountinfo);
  return isCrun ? 'crun' : 'runc';
}

/**
 * `runc run NAME` has the group /NAME below its caller's, or `runc-NAME.scope` under systemd; without the right to make
 * one it stays in its caller's. cgroup v2's line is the last, and `/` where it does not count.
 */
function findNameInCgroup(cgroup: string): string | undefined {
  const group = [...cgroup.matchAll(/\/([\w+.-]+)$/gm)].at(-1)?.[1] ?? '';
  const scope = /^(?:runc|crun)-(.+)\.scope$/.exec(group)?.[1];
  return scope ?? (/^$|\.(?:scope|service|slice)$/.test(group) ? undefined : group);
}

/**
 * cgroup v1 names the container in its path, and v2 where the namespace is the machine's: `/docker/ID`,
 * `docker-ID.scope`, nerdctl's `/default/ID`; the innermost last, whatever groups there may be below.
 */
function findIdInCgroup(cgroup: string): string | undefined {
  return [...cgroup.matchAll(/[-/:]([0-9a-f]{64})(?=$|[./])/gm)].at(-1)?.[1];
}

/** What an engine has bound into its container from a folder named after it. */
interface Mounted {
  readonly id: string;
  readonly engine: 'docker' | 'podman' | 'nerdctl';
  /** nerdctl's. */
  readonly namespace: string | undefined;
}

/**
 * With cgroup v2 the path is `/`, but /etc/hostname and the like come from a folder with the container's id. They are
 * the weaker clue: with `--network container:OTHER` they are OTHER's. Only podman's .containerenv never is.
 */
function findMounted(mountinfo: string): Mounted | undefined {
  const source = String.raw`^\S+ \S+ \S+ (\S*)/(?:(?:[\w.]+-)?containers|etchosts)/(?:([\w.-]+)/)?([0-9a-f]{64})/(?:userdata/)?`;
  const target = String.raw`(?:\.containerenv|hostname|hosts|resolv\.conf) /(?:run|etc)/(\S+) `;
  const found = [...mountinfo.matchAll(new RegExp(source + target, 'gm'))];
  const [line, folder = '', namespace, id] =
    found.find(([, , , , name]) => name === '.containerenv') ?? found[0] ?? [];
  if (line === undefined || id === undefined) return undefined;
  const isPodman = line.includes('/userdata/');
  const engine = isPodman ? 'podman' : /\/nerdctl(\/|$)/.test(folder) ? 'nerdctl' : 'docker';
  return { id, engine, namespace };
}

/** The kubelet binds a file of its own for the last words of each container, whose folder has the container's name. */
function findKubelet(mountinfo: string): { readonly container: string | undefined } | undefined {
  const container = /^\S+ \S+ \S+ \S*\/pods\/[\w-]+\/containers\/([a-z0-9-]+)\/[0-9a-f]+ \//m.exec(
    mountinfo,
  )?.[1];
  const hasHosts = /^\S+ \S+ \S+ \S*\/pods\/[\w-]+\/etc-hosts \/etc\/hosts /m.test(mountinfo);
  return container !== undefined || hasHosts ? { container } : undefined;
}

/** Docker in a pod is docker: its containers lie below the pod's group, and inherit no mount of the kubelet. */
function isInPod(clues: Clues, mounted: Mounted | undefined, kubelet: object | undefined): boolean {
  if (kubelet !== undefined) return true;
  if (/kubepods/.test(clues.cgroup)) return !/kubepods.*\/docker\/[0-9a-f]{64}/.test(clues.cgroup);
  const isEngines = clues.dockerenv || clues.containerenv || mounted !== undefined;
  return clues.environment.KUBERNETES_SERVICE_HOST !== undefined && clues.ownPidNamespace && !isEngines;
}

/** Kubernetes cuts a host name there, and the pod's name goes on. */
const LONGEST_HOSTNAME = 63;

/** A pod's host name is its name, unless it uses the node's network, or its name is too long for one. */
function findPod(
  { environment, hostname, hosts, namespace }: Clues,
  kubelet: ReturnType<typeof findKubelet>,
): Pod {
  const isNodes = /^# Kubernetes-managed hosts file \(host network\)/m.test(hosts ?? '');
  const fromHostname = isNodes || hostname.length >= LONGEST_HOSTNAME ? undefined : hostname;
  return {
    name: [environment.POD_NAME, fromHostname].find(isName),
    namespace: [namespace, environment.POD_NAMESPACE].find(isName),
    container: kubelet?.container,
  };
}

/** As Kubernetes has them: what a person pastes into a shell must hold nothing else. */
function isName(text: string | undefined): boolean {
  return text !== undefined && /^[a-z0-9][a-z0-9.-]*$/.test(text);
}
