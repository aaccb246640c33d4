import { expect, test } from 'vitest';
import type { Clues } from '../../src/container/identity.ts';
import { identifyContainer } from '../../src/container/identity.ts';
import { degradedBy } from '../../src/container/launcher.ts';
import { readCgroupLimits, readResourceLimits } from '../../src/container/limits.ts';

const ID = '3f2a'.repeat(16);
const SHORT = ID.slice(0, 12);
const bare: Clues = {
  cgroup: '0::/user.slice/session-1.scope\n',
  mountinfo: '25 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n',
  hostname: 'laptop',
  dockerenv: false,
  containerenv: false,
  ownPidNamespace: false,
  environment: {},
  namespace: undefined,
};
const overlayRoot = '500 400 0:50 / / rw,relatime - overlay overlay rw,lowerdir=/x\n';

test('a laptop is no container', () => {
  expect(identifyContainer(bare)).toEqual({
    evidence: undefined,
    engine: 'unknown',
    id: undefined,
    pod: undefined,
  });
});

test('a laptop with an overlay as root, odd variables or a unit called docker is none either', () => {
  for (const clue of [
    { mountinfo: overlayRoot },
    { environment: { container: 'toolbox', KUBERNETES_SERVICE_HOST: '10.0.0.1' } },
    { cgroup: '0::/user.slice/app-docker-desktop.service/lxc-tools.scope\n' },
  ]) {
    expect(identifyContainer({ ...bare, ...clue }).evidence).toBeUndefined();
  }
});

test('docker, cgroup v1: the path names it', () => {
  const clues = { ...bare, dockerenv: true, cgroup: `9:name=systemd:/docker/${ID}\n0::/docker/${ID}\n` };
  expect(identifyContainer(clues)).toMatchObject({ evidence: '/.dockerenv', engine: 'docker', id: SHORT });
});

test('docker, cgroup v1 under systemd', () => {
  const clues = { ...bare, dockerenv: true, cgroup: `4:memory:/system.slice/docker-${ID}.scope\n` };
  expect(identifyContainer(clues)).toMatchObject({ engine: 'docker', id: SHORT });
});

test('docker, cgroup v2: the path is /, the bound /etc/hostname names it', () => {
  const mountinfo = `${overlayRoot}700 500 254:0 /var/lib/docker/containers/${ID}/hostname /etc/hostname rw - ext4 /dev/vda rw\n`;
  const clues = { ...bare, dockerenv: true, cgroup: '0::/\n', mountinfo, hostname: 'chosen' };
  expect(identifyContainer(clues)).toMatchObject({ engine: 'docker', id: SHORT });
});

test('docker-in-docker: the mounts name the inner container, the cgroup path starts with the outer one', () => {
  const mountinfo = `${overlayRoot}700 500 0:5 /x/containers/${ID}/hostname /etc/hostname rw - ext4 /dev/vda rw\n`;
  const clues = {
    ...bare,
    dockerenv: true,
    cgroup: `1:cpu:/docker/${'b'.repeat(64)}/docker/${ID}\n`,
    mountinfo,
  };
  expect(identifyContainer(clues).id).toBe(SHORT);
});

test('in another container’s network the mounts are that one’s', () => {
  const other = 'b'.repeat(64);
  const mountinfo = `${overlayRoot}700 500 0:5 /x/containers/${other}/hostname /etc/hostname rw - ext4 /dev/vda rw\n`;
  const clues = { ...bare, dockerenv: true, cgroup: `1:cpu:/docker/${ID}\n`, mountinfo };
  expect(identifyContainer(clues).id).toBe(SHORT);
});

test('docker with nothing but its host name', () => {
  expect(identifyContainer({ ...bare, dockerenv: true, cgroup: '0::/\n', hostname: SHORT }).id).toBe(SHORT);
});

test('podman', () => {
  const mountinfo = `700 500 0:50 /containers/overlay-containers/${ID}/userdata/hostname /etc/hostname rw - tmpfs tmpfs rw\n`;
  const clues = { ...bare, containerenv: true, cgroup: '0::/\n', mountinfo, hostname: 'x' };
  expect(identifyContainer(clues)).toMatchObject({
    evidence: '/run/.containerenv',
    engine: 'podman',
    id: SHORT,
  });
});

test('a pod', () => {
  const clues = {
    ...bare,
    cgroup: `0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-${ID}.scope\n`,
    hostname: 'web-5d-x2',
    environment: { KUBERNETES_SERVICE_HOST: '10.0.0.1' },
    namespace: 'shop',
  };
  expect(identifyContainer(clues)).toEqual({
    evidence: 'Kubernetes',
    engine: 'kubernetes',
    id: SHORT,
    pod: { name: 'web-5d-x2', namespace: 'shop' },
  });
});

test('any other container is still one', () => {
  const inside = { ...bare, ownPidNamespace: true };
  expect(identifyContainer({ ...inside, mountinfo: overlayRoot }).evidence).toContain('overlay');
  expect(identifyContainer({ ...inside, environment: { container: 'lxc' } }).evidence).toContain('container');
  expect(identifyContainer({ ...inside, environment: { KUBERNETES_SERVICE_HOST: 'x' } }).engine).toBe(
    'kubernetes',
  );
});

test('cgroup limits, v2', () => {
  const files: Record<string, string> = {
    '/sys/fs/cgroup/cgroup.controllers': 'cpu memory pids',
    '/sys/fs/cgroup/memory.max': '67108864',
    '/sys/fs/cgroup/cpu.max': '50000 100000',
    '/sys/fs/cgroup/pids.max': 'max',
  };
  expect(readCgroupLimits('0::/\n', (path) => files[path.replace('//', '/')])).toEqual({
    version: 2,
    memoryBytes: 67_108_864,
    cpus: 0.5,
    pids: undefined,
  });
});

test('cgroup limits, v1: our own path where it is visible, else the mount', () => {
  const files: Record<string, string> = {
    '/sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes': '1048576',
    '/sys/fs/cgroup/memory/memory.limit_in_bytes': '9223372036854771712',
    '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '-1',
    '/sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000',
    '/sys/fs/cgroup/pids/pids.max': '32',
  };
  const read = (path: string) => files[path];
  const cgroup = '8:pids:/docker/x\n4:memory:/docker/x\n1:cpu,cpuacct:/docker/x\n';
  expect(readCgroupLimits(cgroup, read)).toEqual({
    version: 1,
    memoryBytes: 1_048_576,
    cpus: undefined,
    pids: 32,
  });
  expect(readCgroupLimits('4:memory:/elsewhere\n', read).memoryBytes).toBeUndefined();
  expect(readCgroupLimits('', () => undefined).version).toBeUndefined();
});

test('rlimits as the kernel lists them', () => {
  const names = readResourceLimits(process.pid).map(({ name }) => name);
  expect(names).toContain('Max open files');
  expect(names.length).toBeGreaterThan(10);
});

test.each([
  [
    { host: 'bare' as const, pid: 7, environment: { npm_command: 'exec' }, parentProgram: 'dash' },
    /npx through dash.*npm_config_script_shell=\/bin\/bash/,
  ],
  [
    { host: 'native' as const, pid: 7, environment: { npm_command: 'exec' }, parentProgram: 'dash' },
    /npx through dash.*npm_config_script_shell=\/bin\/bash/,
  ],
  [
    { host: 'bare' as const, pid: 7, environment: { npm_command: 'exec' }, parentProgram: 'node' },
    /npx: HUP/,
  ],
  [
    { host: 'bare' as const, pid: 1, environment: {}, parentProgram: undefined },
    /PID 1.*RUN ddbg-entry --install/,
  ],
])('degraded: %j', (clues, line) => {
  expect(degradedBy(clues)?.sentence).toMatch(line);
  expect(degradedBy(clues)?.losesStops).toBe(clues.parentProgram === 'dash');
});

test('started by an init there is nothing to say', () => {
  expect(degradedBy({ host: 'bare', pid: 7, environment: {}, parentProgram: 'docker-init' })).toBeUndefined();
  expect(degradedBy({ host: 'native', pid: 1, environment: {}, parentProgram: undefined })).toBeUndefined();
});
