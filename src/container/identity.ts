/**
 * Which container this is, if any: for the lines that a person pastes, and for the rule that nothing is ever laid over
 * a `/` that is no container's.
 */
import { existsSync, readFileSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';

export interface Container {
  /** Why we hold this for a container; undefined: nothing says so. */
  readonly evidence: string | undefined;
  readonly engine: 'docker' | 'podman' | 'kubernetes' | 'unknown';
  /** What `docker exec` takes; undefined where nothing tells. */
  readonly id: string | undefined;
  readonly pod: { readonly name: string; readonly namespace: string | undefined } | undefined;
}

/** Everything the answer is made from, so that it can be tested on other machines' files. */
export interface Clues {
  readonly cgroup: string;
  readonly mountinfo: string;
  readonly hostname: string;
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
    cgroup: readOr('/proc/self/cgroup', ''),
    mountinfo: readOr('/proc/self/mountinfo', ''),
    hostname: hostname(),
    dockerenv: existsSync('/.dockerenv'),
    containerenv: existsSync('/run/.containerenv'),
    ownPidNamespace: ![FIRST_PID_NAMESPACE, undefined].includes(readLink('/proc/self/ns/pid')),
    environment,
    namespace: readOr('/var/run/secrets/kubernetes.io/serviceaccount/namespace', '').trim() || undefined,
  };
}

/** The kernel gives it this number at boot (PROC_PID_INIT_INO). */
const FIRST_PID_NAMESPACE = 'pid:[4026531836]';

/** Pure. */
export function identifyContainer(clues: Clues): Container {
  const id = findId(clues);
  const isPod =
    /kubepods/.test(clues.cgroup) ||
    (clues.environment.KUBERNETES_SERVICE_HOST !== undefined && clues.ownPidNamespace);
  const isPodman = clues.containerenv || /libpod/.test(clues.cgroup);
  const engine = isPod ? 'kubernetes' : isPodman ? 'podman' : clues.dockerenv ? 'docker' : 'unknown';
  return {
    evidence: findEvidence(clues, isPod),
    engine,
    id,
    // A pod's host name is its name, unless it uses the node's network.
    pod: isPod ? { name: clues.hostname, namespace: clues.namespace } : undefined,
  };
}

function findEvidence(clues: Clues, isPod: boolean): string | undefined {
  if (clues.dockerenv) return '/.dockerenv';
  if (clues.containerenv) return '/run/.containerenv';
  if (isPod) return 'Kubernetes';
  if (/(?:docker|libpod|containerd|crio)[-/:][0-9a-f]{64}|\/lxc[./]/.test(clues.cgroup)) return 'the cgroup';
  // A laptop can have these too (an image-based system, a variable somebody exported), but not beside them processes
  // of its own.
  if (!clues.ownPidNamespace) return undefined;
  if (/^\S+ \S+ \S+ \S+ \/ .* - overlay /m.test(clues.mountinfo)) return 'an overlay as root file system';
  if (clues.environment.container !== undefined) return 'the variable container';
  return undefined;
}

/**
 * cgroup v1 names the container in its path (`/docker/ID`, `docker-ID.scope`), the innermost last. With v2 the path is
 * `/`, but docker and podman bind /etc/hostname from a folder named after the container; that is the weaker clue, for
 * with `--network container:OTHER` the file is OTHER's. Last, docker makes the host name from the id.
 */
function findId(clues: Clues): string | undefined {
  const ids = clues.cgroup.matchAll(/(?:docker|libpod|crio|cri-containerd|containerd)[-/:]([0-9a-f]{64})\b/g);
  const inCgroup = [...ids].at(-1)?.[1];
  const inMounts =
    /\/(?:containers|overlay-containers)\/([0-9a-f]{64})\/(?:\S*\/)?(?:hostname|hosts|resolv\.conf) /.exec(
      clues.mountinfo,
    )?.[1];
  const fromHostname = /^[0-9a-f]{12}$/.test(clues.hostname) ? clues.hostname : undefined;
  return (inCgroup ?? inMounts)?.slice(0, 12) ?? fromHostname;
}

function readLink(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}

function readOr(file: string, otherwise: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return otherwise;
  }
}
