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
    pod: { name: 'web-5d-x2', namespace: 'shop', container: undefined },
  });
});

/*
 * Files as somebody has found them in a container, shortened to the lines that count, and where; for nerdctl, CRI-O and
 * minikube what is said of sources, targets and groups there, put into lines.
 */
const RECORDED: readonly [string, Partial<Clues>, Partial<ReturnType<typeof identifyContainer>>][] = [
  [
    // DataDog/datadog-go, statsd/container_test.go
    'docker, cgroup v2, private cgroup namespace',
    {
      cgroup: '0::/\n',
      dockerenv: true,
      mountinfo: `608 554 0:42 / / rw,relatime master:289 - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/RQH52YWGJKBXL6THNS7EASIUNY
627 608 259:1 /var/lib/docker/containers/0cfa82bf3ab29da271548d6a044e95c948c6fd2f7578fb41833a44ca23da425f/hostname /etc/hostname rw,relatime - ext4 /dev/root rw,discard,errors=remount-ro
`,
    },
    { evidence: '/.dockerenv', engine: 'docker', id: '0cfa82bf3ab2' },
  ],
  [
    // moby/moby, daemon/daemon_linux_test.go: docker in docker; the last line is a mount of another container's
    'docker, cgroup v1, with another container below its /var/lib/docker',
    {
      cgroup: '12:pids:/docker/5425782a95e643181d8a485a2bab3c0bb21f51d7dfc03511f0e6fbf3f3aa356a\n',
      mountinfo: `166 142 8:4 /var/lib/docker/containers/5425782a95e643181d8a485a2bab3c0bb21f51d7dfc03511f0e6fbf3f3aa356a/hostname /etc/hostname rw,relatime - ext4 /dev/disk/by-uuid/d99e196c rw
116 160 0:107 / /var/lib/docker/containers/d045dc441d2e2e1d5b3e328d47e5943811a40819fb47497c5f5a5df2d6d13c37/shm rw,nosuid,nodev,noexec,relatime - tmpfs shm rw,size=65536k
`,
    },
    { evidence: 'the cgroup', engine: 'docker', id: '5425782a95e6' },
  ],
  [
    // osbuild/bootc-image-builder, bib/internal/setup/setup_test.go
    'podman as root, cgroup v2',
    {
      cgroup: '0::/\n',
      containerenv: true,
      mountinfo: `744 735 0:24 /containers/storage/overlay-containers/5e5914d9351994648b28b8b58ba3c67ce06a48ccdd3a52679b82ae4dc693fa53/userdata/.containerenv /run/.containerenv rw,relatime - tmpfs tmpfs rw,size=3262508k,mode=755,inode64
745 735 0:24 /containers/storage/overlay-containers/5e5914d9351994648b28b8b58ba3c67ce06a48ccdd3a52679b82ae4dc693fa53/userdata/hostname /etc/hostname rw,relatime - tmpfs tmpfs rw,size=3262508k,mode=755,inode64
`,
    },
    { engine: 'podman', id: '5e5914d93519' },
  ],
  [
    // open-telemetry/opentelemetry-dotnet-contrib, the tests of its container detector
    'podman, rootless, cgroup v2',
    {
      cgroup: '0::/\n',
      containerenv: true,
      hostname: 'test-pod',
      mountinfo:
        '1096 1088 0:104 /containers/overlay-containers/1a2de27e7157106568f7e081e42a8c14858c02bd9df30d6e352b298178b46809/userdata/hostname /etc/hostname rw,nosuid,nodev,relatime - tmpfs tmpfs rw,size=813800k,nr_inodes=203450,mode=700,uid=1000,gid=1000\n',
    },
    { engine: 'podman', id: '1a2de27e7157' },
  ],
  [
    // containers/podman issue 10602: with systemd inside, the one hierarchy goes on below
    'podman as root, cgroup v1, systemd',
    {
      cgroup: `12:pids:/machine.slice/libpod-2521e906f0a0c758c3a7dc4fd68c197e32e96abb4b36807d0b0ede6d014a7c24.scope
1:name=systemd:/machine.slice/libpod-2521e906f0a0c758c3a7dc4fd68c197e32e96abb4b36807d0b0ede6d014a7c24.scope/init.scope
`,
    },
    { evidence: 'the cgroup', engine: 'podman', id: '2521e906f0a0' },
  ],
  [
    // podman 4.3.1 with runc and the driver vfs on Debian 12, measured
    'podman as root, cgroup v1, cgroupfs, another storage driver',
    {
      cgroup: `9:name=systemd:/libpod_parent/libpod-1d879b0ac70d0516e3a2345bfaf29fa55cd14f51be60c7dc3e9ae73aa6582aba
0::/libpod_parent/libpod-1d879b0ac70d0516e3a2345bfaf29fa55cd14f51be60c7dc3e9ae73aa6582aba
`,
      mountinfo: `75 67 254:0 /run/containers/storage/vfs-containers/1d879b0ac70d0516e3a2345bfaf29fa55cd14f51be60c7dc3e9ae73aa6582aba/userdata/.containerenv /run/.containerenv rw,relatime - ext4 /dev/vda rw
`,
    },
    { engine: 'podman', id: '1d879b0ac70d' },
  ],
  [
    // the same with --cgroupns private
    'podman as root, cgroup v1, private cgroup namespace',
    {
      cgroup: '9:name=systemd:/\n8:pids:/\n0::/\n',
      containerenv: true,
      mountinfo: `75 67 254:0 /run/containers/storage/vfs-containers/1d879b0ac70d0516e3a2345bfaf29fa55cd14f51be60c7dc3e9ae73aa6582aba/userdata/.containerenv /run/.containerenv rw,relatime - ext4 /dev/vda rw
`,
    },
    { engine: 'podman', id: '1d879b0ac70d' },
  ],
  [
    // podman 4.3.1 with runc on Debian 12, in a mount namespace that has cgroup v2 alone, measured
    'podman as root, cgroup v2, beside hierarchies of v1',
    {
      cgroup: '9:name=systemd:/\n4:memory:/\n0::/\n',
      containerenv: true,
      mountinfo: `306 299 254:0 /run/overlay-containers/f4b50788e05ba6a5665b28c8596a836a1c29d96ce753b30ce65cdb231431f247/userdata/hosts /etc/hosts rw,relatime - ext4 /dev/vda rw
308 299 254:0 /run/overlay-containers/f4b50788e05ba6a5665b28c8596a836a1c29d96ce753b30ce65cdb231431f247/userdata/.containerenv /run/.containerenv rw,relatime - ext4 /dev/vda rw
213 300 0:59 /null /proc/timer_list rw,nosuid,noexec - tmpfs tmpfs rw,size=65536k,mode=755
`,
    },
    { engine: 'podman', id: 'f4b50788e05b' },
  ],
  [
    // runc 1.1.5 on Debian 12, measured: `runc run t1` of what `runc spec` writes
    'runc, nobody above it, cgroup v1',
    {
      cgroup: '9:name=systemd:/t1\n4:memory:/jobs/9ad0bf66f1d54bba55c4253a1ee6fb65/t1\n1:cpu:/t1\n0::/t1\n',
      hostname: 'runc',
      ownPidNamespace: true,
      mountinfo: `441 214 254:0 /srv/bundle/rootfs / rw,relatime - ext4 /dev/vda rw
221 442 0:139 / /proc/acpi ro,relatime - tmpfs tmpfs ro
222 442 0:134 /null /proc/keys rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755
223 442 0:134 /null /proc/timer_list rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755
224 448 0:140 / /sys/firmware ro,relatime - tmpfs tmpfs ro
`,
    },
    { evidence: 'the mounts', engine: 'runc', id: 't1' },
  ],
  [
    // the same, of a root that `docker export` has written
    'runc, nobody above it, with the .dockerenv of its root',
    {
      cgroup: '9:name=systemd:/t1\n0::/t1\n',
      dockerenv: true,
      ownPidNamespace: true,
      mountinfo: `441 214 254:0 /srv/bundle/rootfs / rw,relatime - ext4 /dev/vda rw
222 442 0:134 /null /proc/keys rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755
`,
    },
    { evidence: '/.dockerenv', engine: 'runc', id: 't1' },
  ],
  [
    // put together from those around it
    'docker, its root no overlay, cgroup v2',
    {
      cgroup: '0::/\n',
      dockerenv: true,
      ownPidNamespace: true,
      mountinfo: `441 214 254:0 /var/lib/docker/vfs/dir/0c1d / rw,relatime - ext4 /dev/vda rw
627 608 254:0 /var/lib/docker/containers/0cfa82bf3ab29da271548d6a044e95c948c6fd2f7578fb41833a44ca23da425f/hostname /etc/hostname rw,relatime - ext4 /dev/vda rw
222 442 0:134 /null /proc/keys rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755
`,
    },
    { engine: 'docker', id: '0cfa82bf3ab2' },
  ],
  [
    // crun 1.8.1 on Debian 12, measured, the same
    'crun, nobody above it, cgroup v1',
    {
      cgroup: '9:name=systemd:/t1\n4:memory:/t1\n0::/\n',
      ownPidNamespace: true,
      mountinfo: `772 592 254:0 /srv/bundle/rootfs / rw,relatime - ext4 /dev/vda rw
789 773 0:166 / /proc/acpi ro,relatime - tmpfs tmpfs rw,size=0k
790 773 0:6 /null /proc/keys ro,relatime - devtmpfs devtmpfs rw,size=12334492k,nr_inodes=3083623,mode=755
792 778 0:167 / /sys/firmware ro,relatime - tmpfs tmpfs rw,size=0k
`,
    },
    { evidence: 'the mounts', engine: 'crun', id: 't1' },
  ],
  [
    // containers/crun, get_shared_empty_directory_path: its later way, put into a line
    'crun, nobody above it, cgroup v2, in its caller’s group',
    {
      cgroup: '0::/user.slice/user-1000.slice/session-1.scope\n',
      ownPidNamespace: true,
      mountinfo: `772 592 254:0 /srv/bundle/rootfs / rw,relatime - ext4 /dev/vda rw
789 773 0:24 /crun/.empty-directory /proc/acpi ro,relatime - tmpfs tmpfs rw,size=2466900k,mode=755
790 773 0:6 /null /proc/keys ro,relatime - devtmpfs devtmpfs rw,size=12334492k,nr_inodes=3083623,mode=755
`,
    },
    { evidence: 'the mounts', engine: 'crun', id: undefined },
  ],
  [
    // opencontainers/runc, docs/systemd.md: the name of its unit
    'runc, nobody above it, systemd',
    {
      cgroup: '0::/system.slice/runc-shop-1.scope\n',
      ownPidNamespace: true,
      mountinfo: '222 442 0:134 /null /proc/kcore rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755\n',
    },
    { engine: 'runc', id: 'shop-1' },
  ],
  [
    'what an OCI runtime hides, over an overlay: an engine that we do not know',
    {
      cgroup: '0::/ecs/0a1b/0a1b-7\n',
      ownPidNamespace: true,
      mountinfo: `${overlayRoot}222 442 0:134 /null /proc/kcore rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755\n`,
    },
    { evidence: 'an overlay as root file system', engine: 'unknown', id: undefined },
  ],
  [
    // containerd/nerdctl, docs/dir.md: what is mounted from where; the address's digest is that of containerd's socket
    'nerdctl, cgroup v2, private cgroup namespace',
    {
      cgroup: '0::/\n',
      ownPidNamespace: true,
      mountinfo: `700 500 8:1 /var/lib/nerdctl/1935db59/containers/default/c4ed811cc361d26faffdee8d696ddbc45a9d93c571b5b3c54d3da01cb29caeb1/hostname /etc/hostname rw,relatime - ext4 /dev/sda1 rw
701 500 8:1 /var/lib/nerdctl/1935db59/etchosts/default/c4ed811cc361d26faffdee8d696ddbc45a9d93c571b5b3c54d3da01cb29caeb1/hosts /etc/hosts rw,relatime - ext4 /dev/sda1 rw
`,
    },
    { evidence: 'the mounts', engine: 'nerdctl', id: 'c4ed811cc361' },
  ],
  [
    // containerd/nerdctl issue 2728 for the folder of a rootless one
    'nerdctl, rootless, in a namespace of its own, systemd',
    {
      cgroup:
        '0::/user.slice/user-1000.slice/user@1000.service/user.slice/nerdctl-3c41e9ff441d6282bed1d170c3d4abde79e563a17c658b23f75501662cff5bf5.scope\n',
      mountinfo: `700 500 8:1 /home/jo/.local/share/nerdctl/1935db59/containers/shop/3c41e9ff441d6282bed1d170c3d4abde79e563a17c658b23f75501662cff5bf5/hostname /etc/hostname rw,relatime - ext4 /dev/sda1 rw
`,
    },
    { evidence: 'the cgroup', engine: 'nerdctl', id: '3c41e9ff441d', namespace: 'shop' },
  ],
  [
    // the cgroupfs driver has a group for the namespace
    'nerdctl, cgroup v1, cgroupfs',
    {
      cgroup: '12:pids:/default/c4ed811cc361d26faffdee8d696ddbc45a9d93c571b5b3c54d3da01cb29caeb1\n',
      ownPidNamespace: true,
      mountinfo: `701 500 8:1 /var/lib/nerdctl/1935db59/etchosts/default/c4ed811cc361d26faffdee8d696ddbc45a9d93c571b5b3c54d3da01cb29caeb1/hosts /etc/hosts rw,relatime - ext4 /dev/sda1 rw
`,
    },
    { engine: 'nerdctl', id: 'c4ed811cc361' },
  ],
  [
    // DataDog/datadog-go, statsd/container_test.go: no file names the container, only its pod's sandbox
    'a pod, containerd, cgroup v2, private cgroup namespace',
    {
      cgroup: '0::/\n',
      hostname: 'bash-7c9',
      ownPidNamespace: true,
      mountinfo: `2782 2775 8:1 /var/lib/kubelet/pods/e50f2933-b36b-4e3b-89b1-280707f7bc53/etc-hosts /etc/hosts rw,relatime - ext4 /dev/sda1 rw,commit=30
2783 2777 8:1 /var/lib/kubelet/pods/e50f2933-b36b-4e3b-89b1-280707f7bc53/containers/bash2/3404dd90 /dev/termination-log rw,relatime - ext4 /dev/sda1 rw,commit=30
2784 2775 8:1 /var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/c5866f3bfef020a8c045540b4a05dd9d193443740be76437a6130c7759ab2076/hostname /etc/hostname rw,nosuid,nodev,relatime - ext4 /dev/sda1 rw,commit=30
`,
    },
    {
      evidence: 'Kubernetes',
      engine: 'kubernetes',
      id: undefined,
      pod: { name: 'bash-7c9', namespace: undefined, container: 'bash2' },
    },
  ],
  [
    // the same tests, cgroup v1
    'a pod, cgroup v1, cgroupfs',
    {
      cgroup: `10:hugetlb:/kubepods/burstable/podfd52ef25-a87d-11e9-9423-0800271a638e/8c046cb0b72cd4c99f51b5591cd5b095967f58ee003710a45280c28ee1a9c7fa
6:cpu,cpuacct:/kubepods/burstable/podfd52ef25-a87d-11e9-9423-0800271a638e/8c046cb0b72cd4c99f51b5591cd5b095967f58ee003710a45280c28ee1a9c7fa
`,
    },
    { engine: 'kubernetes', id: '8c046cb0b72c' },
  ],
  [
    // open-telemetry/opentelemetry-dotnet-contrib, the same tests: minikube with docker, whose files are the sandbox's
    'a pod, docker, cgroup v2: the mounted files are another container’s',
    {
      cgroup: '0::/\n',
      dockerenv: true,
      mountinfo: `571 566 254:1 /docker/volumes/minikube/_data/lib/kubelet/pods/5f3cbe8f-54ed-4a1f-a3ec-3b2e8b3c5d4a/containers/my-shell/0447d6c5 /dev/termination-log rw,relatime - ext4 /dev/vda1 rw
929 920 254:1 /docker/volumes/minikube/_data/lib/docker/containers/0eaa6718003210b6520f7e82d14b4c8d4743057a958a503626240f8d1900bc33/hostname /etc/hostname rw,relatime - ext4 /dev/vda1 rw
`,
    },
    {
      engine: 'kubernetes',
      id: undefined,
      pod: { name: 'laptop', namespace: undefined, container: 'my-shell' },
    },
  ],
  [
    // grafana/phlare, ebpf/sd: the cgroup; IBM/core-dump-handler issue 44: the mounts, the sandbox's
    'a pod, CRI-O, the machine’s cgroup namespace',
    {
      cgroup:
        '0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podb57320a0_e7eb_4ac8_a791_4c4472796867.slice/crio-0ecc7949cbaf17e883264ea1055f60b184a7cb264fd759c4a692e1155086fe2d.scope/container\n',
      mountinfo: `700 500 0:24 /containers/storage/overlay-containers/be1703e196f6449e5a42ee2eab0bf1e05f97a3dc5115325aea4a3ffb14919a93/userdata/hostname /etc/hostname ro,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw
`,
    },
    { engine: 'kubernetes', id: '0ecc7949cbaf' },
  ],
  [
    // grafana/phlare, ebpf/sd: seen from another cgroup namespace
    'a pod, docker, from another cgroup namespace',
    {
      cgroup:
        '0::/../../kubepods-besteffort-pod88f6f4e3_59c0_4ce8_9ecf_391c8b5a60ad.slice/docker-656959d9ee87a0b131c601ce9d9f8f76b1dda60e8608c503b5979d849cbdc714.scope\n',
    },
    { engine: 'kubernetes', id: '656959d9ee87' },
  ],
];

test.each(RECORDED)('%s', (_, clues, expected) => {
  expect(identifyContainer({ ...bare, ...clues })).toMatchObject(expected);
});

test('podman in the network of another: .containerenv is its own, /etc/hosts is not', () => {
  const other = 'b'.repeat(64);
  const line = (id: string, name: string, target: string) =>
    `700 500 0:50 /containers/overlay-containers/${id}/userdata/${name} ${target} rw - tmpfs tmpfs rw\n`;
  const mountinfo = line(other, 'hosts', '/etc/hosts') + line(ID, '.containerenv', '/run/.containerenv');
  expect(identifyContainer({ ...bare, containerenv: true, cgroup: '0::/\n', mountinfo }).id).toBe(SHORT);
});

test('docker in a pod is docker', () => {
  const cgroup = `4:memory:/kubepods/burstable/pod1/${'b'.repeat(64)}/docker/${ID}\n`;
  const environment = { KUBERNETES_SERVICE_HOST: '10.0.0.1' };
  const clues = { ...bare, dockerenv: true, cgroup, environment, ownPidNamespace: true };
  expect(identifyContainer(clues)).toMatchObject({ engine: 'docker', id: SHORT, pod: undefined });
});

test('a pod’s name: what the image’s author has passed on, else the host name where that is the pod’s', () => {
  const pod = (clues: Partial<Clues>) =>
    identifyContainer({ ...bare, cgroup: `0::/kubepods/pod1/${ID}\n`, hostname: 'web-1', ...clues }).pod;
  expect(pod({})?.name).toBe('web-1');
  expect(pod({ environment: { POD_NAME: 'web-1-full', POD_NAMESPACE: 'shop' } })).toMatchObject({
    name: 'web-1-full',
    namespace: 'shop',
  });
  // the first line that the kubelet writes (kubernetes, pkg/kubelet/kubelet_pods.go)
  expect(pod({ hosts: '# Kubernetes-managed hosts file.\n127.0.0.1 localhost\n' })?.name).toBe('web-1');
  expect(pod({ hosts: '# Kubernetes-managed hosts file (host network).\n' })?.name).toBeUndefined();
  expect(pod({ hostname: 'w'.repeat(63) })?.name).toBeUndefined(); // cut there
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
