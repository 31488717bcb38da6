"""A cluster of Kubernetes that lives for one run: a control plane and three nodes, in network namespaces of their own.

Nothing of it is in the machine's own network. All processes belong to one process that `namespaces` starts, and they
end with it.
"""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.engine.server import Result, eventually

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".venv/cluster"
PROGRAMS = CACHE / "bin"

# The wire between the control plane, the nodes and a server. The server's address is that of the example specs.
CONTROL_PLANE, SERVER, PUBLIC_REGISTRY = "10.0.0.1", "10.0.0.2", "10.0.0.3"
NODES = (1, 2, 3)
NAME_SERVER = "10.96.0.10"  # a Service, which leads to names.py
PAUSE_IMAGE = "registry.k8s.io/pause:3.9"
# Registries that the nodes know: the first wants a login, the others do not.
PRIVATE_REGISTRIES, PUBLIC_REGISTRIES = ("ghcr.io",), ("registry.k8s.io", "registry-1.docker.io")

CONTAINERD = """\
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "{pause}"
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cache}/debian/usr/lib/cni"
    conf_dir = "{node}/cni"
"""
# Kubernetes 1.35 is the last version that runs with the first version of cgroups.
KUBELET = """\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  x509: {{clientCAFile: {folder}/authority.crt}}
  anonymous: {{enabled: false}}
  webhook: {{enabled: true}}
authorization: {{mode: Webhook}}
cgroupDriver: cgroupfs
cgroupRoot: /{group}/node-{number}
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: []
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
clusterDNS: ["{names}"]
clusterDomain: cluster.local
nodeStatusUpdateFrequency: 4s
evictionHard: {{memory.available: 50Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}}
imageGCHighThresholdPercent: 100
maxPods: 60
"""
KUBE_PROXY = """\
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clientConnection: {{kubeconfig: {folder}/kube-proxy.kubeconfig}}
clusterCIDR: 10.244.0.0/16
conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}
"""
API_SERVER = """\
--etcd-servers=http://127.0.0.1:2379 --advertise-address={address} --secure-port=6443
--tls-cert-file={folder}/api.crt --tls-private-key-file={folder}/api.key
--token-auth-file={folder}/tokens.csv --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction
--service-account-issuer=https://kubernetes.default.svc --service-account-key-file={folder}/accounts.key
--service-account-signing-key-file={folder}/accounts.key --service-cluster-ip-range=10.96.0.0/16
--kubelet-client-certificate={folder}/kubelet-client.crt --kubelet-client-key={folder}/kubelet-client.key
--kubelet-preferred-address-types=InternalIP --allow-privileged=true
"""
CONTROLLER_MANAGER = """\
--kubeconfig={folder}/kube-controller-manager.kubeconfig --use-service-account-credentials --leader-elect=false
--service-account-private-key-file={folder}/accounts.key --root-ca-file={folder}/authority.crt
--allocate-node-cidrs=false
"""
ETCD = """\
--data-dir={folder}/etcd --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379
--listen-peer-urls=http://127.0.0.1:2380 --unsafe-no-fsync --log-level=warn
"""
USERS = {
    "admin": "system:masters",
    "system:kube-controller-manager": "",
    "system:kube-scheduler": "",
    "system:kube-proxy": "",
    **{f"system:node:node-{number}": "system:nodes" for number in NODES},
}


class Cluster:
    """The namespaces of a cluster, seen from outside."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pid = 0
        self.processes: list[subprocess.Popen[bytes]] = []  # that live as long as the cluster

    # Commands

    def near(self, *command: str) -> list[str]:
        """The command line that runs a command in the cluster's network, as a process of ours."""
        return ["nsenter", "-t", str(self.pid), "-n", "--", *command]

    def inside(self, *command: str) -> list[str]:
        """The command line that runs a command as a process of the cluster's."""
        return ["nsenter", "-t", str(self.pid), "-m", "-n", "-p", "-i", "-u", f"--wd={self.folder}", "--", *command]

    def on_node(self, number: int, *command: str) -> list[str]:
        """The command line that runs a command as a process of a node's."""
        pid = (self.folder / f"node-{number}/pid").read_text().strip()
        return self.inside("nsenter", "-t", pid, "-m", "-n", "-p", "-i", "-u", "--", *command)

    def run(self, *command: str, check: bool = True, stdin: str = "") -> Result:
        """Runs a command in the cluster's namespaces as root; a failure shows its words."""
        return run(self.inside(*command), check, stdin, environment("admin", self))

    def kubectl(self, *words: str, check: bool = True, stdin: str = "") -> Result:
        """What who administers the cluster types."""
        return run(self.near("kubectl", *words), check, stdin, environment("admin", self))

    def get(self, namespace: str, *words: str) -> list[dict[str, Any]]:
        """Objects of a namespace."""
        document = json.loads(self.kubectl("get", "-n", namespace, *words, "-o", "json").stdout)
        items: list[dict[str, Any]] = document["items"]
        return items

    def kubeconfig(self, user: str) -> Path:
        """The login of a user."""
        return self.folder / f"{user.rpartition(':')[2]}.kubeconfig"

    # The life of it

    def start(self, log: Path, command: Sequence[str], user: str = "admin") -> None:
        """Starts a program that runs until the cluster ends, and logs into a file."""
        with open(log, "a") as file:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment(user, self)
            )
        self.processes.append(process)

    def start_part(self, name: str, program: str, options: str) -> None:
        """Starts a part of the control plane."""
        words = options.format(folder=self.folder, address=CONTROL_PLANE).split()
        self.start(self.folder / f"{name}.log", self.inside(program, *words))

    def start_control_plane(self) -> None:
        """Starts the wire, etcd, the API server and the controllers."""
        for command in (
            "ip link add wire type bridge",
            f"ip address add {CONTROL_PLANE}/24 dev wire",
            "ip link set wire up",
            *(f"ip route add 10.244.{number}.0/24 via {node_address(number)}" for number in NODES),
        ):
            self.run(*command.split())
        self.start_part("etcd", str(CACHE / "debian/usr/bin/etcd"), ETCD)
        self.start_part("kube-apiserver", "kube-apiserver", API_SERVER)
        ask = ("get", "--raw", "/readyz")
        eventually(
            lambda: self.kubectl(*ask, check=False).returncode == 0,
            120,
            f"the API server is ready: see {self.folder}/*.log",
        )
        self.start_part("kube-controller-manager", "kube-controller-manager", CONTROLLER_MANAGER)
        self.start_part(
            "kube-scheduler", "kube-scheduler", "--kubeconfig={folder}/kube-scheduler.kubeconfig --leader-elect=false"
        )

    def power_on(self, number: int) -> None:
        """Starts a node; it need not be ready when this ends."""
        place = self.folder / f"node-{number}"
        (place / "pid").unlink(missing_ok=True)
        words = self.inside(str(HERE / "node"), str(self.folder), str(number))
        self.start(place / "node.log", words, user=f"system:node:node-{number}")
        eventually((place / "pid").exists, 20, f"{place.name} has namespaces")

    def power_off(self, number: int) -> None:
        """As when a cable is pulled and the power goes: nothing says goodbye, and no packet comes back."""
        pid = (self.folder / f"node-{number}/pid").read_text().strip()
        self.run("ip", "link", "set", f"port-{number}", "down")
        self.run("kill", "-KILL", pid)

    def is_ready(self, number: int) -> bool:
        """Whether the cluster may start pods on a node."""
        words = ("get", "node", f"node-{number}", "-o", 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')
        return self.kubectl(*words, check=False).stdout == "True"


def run(command: Sequence[str], check: bool, stdin: str, settings: Mapping[str, str]) -> Result:
    """Runs a command line; a failure shows its words."""
    result = subprocess.run(command, input=stdin, text=True, capture_output=True, timeout=300, env=settings)
    assert not check or result.returncode == 0, f"{shlex.join(command)}\n{result.stdout}\n{result.stderr}"
    return result


def environment(user: str, cluster: Cluster) -> dict[str, str]:
    """What a command of that user finds: the programs of Kubernetes, and its login."""
    path = f"{PROGRAMS}:{os.environ['PATH']}:/usr/sbin:/sbin"
    return {**os.environ, "PATH": path, "KUBECONFIG": str(cluster.kubeconfig(user))}


def node_address(number: int) -> str:
    """Where a node is on the wire."""
    return f"10.0.0.1{number}"


@contextlib.contextmanager
def throw_away() -> Iterator[Cluster]:
    """Starts a cluster, and takes it down whatever happens: also when this process is killed."""
    folder = Path(tempfile.mkdtemp(prefix="kiwari-cluster-"))
    cluster = Cluster(folder)
    prepare(cluster)
    with open(folder / "namespaces.log", "w") as log:
        process = subprocess.Popen(
            [str(HERE / "namespaces"), str(folder)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    assert process.stdin
    try:
        eventually((folder / "pid").exists, 10, "the cluster has namespaces")
        cluster.pid = int((folder / "pid").read_text())
        cluster.start_control_plane()
        yield cluster
    finally:
        process.stdin.close()
        for started in cluster.processes:
            started.send_signal(signal.SIGCONT)  # nsenter stops with a program that a test stops, and stays so
        for started in (process, *cluster.processes):
            started.wait(timeout=180)
    assert not folder.exists()


# Files: certificates, logins, and what each node reads


def prepare(cluster: Cluster) -> None:
    """Writes what the parts of the cluster read."""
    folder = cluster.folder
    folder.chmod(0o755)
    write_certificates(folder)
    lines = [f'{user}-token,{user},{user},"{group}"\n' for user, group in USERS.items()]
    (folder / "tokens.csv").write_text("".join(lines))
    for user in USERS:
        write_kubeconfig(cluster, user)
    for number in NODES:
        write_node(cluster, number)


def write_certificates(folder: Path) -> None:
    """An authority, and what it signs: the API server's certificate, and the one by which it asks kubelets."""
    key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc"
    addresses = f"IP:{CONTROL_PLANE},IP:10.96.0.1,IP:127.0.0.1,DNS:kubernetes.default.svc"
    commands = [
        "genrsa -out accounts.key 2048",
        f"req -x509 {key} -days 60 -subj /CN=authority -keyout authority.key -out authority.crt",
    ]
    signed = {"api": ("/CN=kube-apiserver", addresses), "kubelet-client": ("/O=system:masters/CN=api", "DNS:api")}
    for name, (subject, names) in signed.items():
        (folder / f"{name}.ext").write_text(f"subjectAltName={names}\n")
        commands += [
            f"req {key} -subj {subject} -keyout {name}.key -out {name}.csr",
            f"x509 -req -in {name}.csr -CA authority.crt -CAkey authority.key -CAcreateserial -days 60"
            f" -extfile {name}.ext -out {name}.crt",
        ]
    served = (*PRIVATE_REGISTRIES, *PUBLIC_REGISTRIES, "*.example.com")
    alternatives = ",".join(f"DNS:{name}" for name in served)
    commands.append(
        f"req -x509 {key} -days 60 -subj /CN=test -addext subjectAltName={alternatives} -keyout tls.key -out tls.crt"
    )
    for command in commands:
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)


def write_kubeconfig(cluster: Cluster, user: str) -> None:
    """The login of a user."""
    authority = str(cluster.folder / "authority.crt")
    server = {"server": f"https://{CONTROL_PLANE}:6443", "certificate-authority": authority}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "cluster", "cluster": server}],
        "users": [{"name": "user", "user": {"token": f"{user}-token"}}],
        "contexts": [{"name": "context", "context": {"cluster": "cluster", "user": "user"}}],
        "current-context": "context",
    }
    cluster.kubeconfig(user).write_text(json.dumps(config))


def write_node(cluster: Cluster, number: int) -> None:
    """The configuration of a node, and its empty disks."""
    folder = cluster.folder
    node = folder / f"node-{number}"
    for name in ("etc", "cni", "lib", "log"):
        (node / name).mkdir(parents=True)
    registries = f"{SERVER} {' '.join(PRIVATE_REGISTRIES)}\n{PUBLIC_REGISTRY} {' '.join(PUBLIC_REGISTRIES)}\n"
    (node / "etc/hosts").write_text(f"127.0.0.1 localhost node-{number}\n{registries}")
    (node / "etc/resolv.conf").write_text("")
    (node / "authorities.crt").write_text((folder / "tls.crt").read_text())
    (node / "address").write_text(node_address(number))
    others = [f"10.244.{other}.0/24 {node_address(other)}\n" for other in NODES if other != number]
    (node / "routes").write_text(f"default {CONTROL_PLANE}\n{''.join(others)}")
    (node / "containerd.toml").write_text(CONTAINERD.format(pause=PAUSE_IMAGE, cache=CACHE, node=node))
    (node / "kubelet.yaml").write_text(
        KUBELET.format(folder=folder, group=folder.name, number=number, names=NAME_SERVER)
    )
    (node / "kube-proxy.yaml").write_text(KUBE_PROXY.format(folder=folder))
    (node / "kubeconfig").symlink_to(cluster.kubeconfig(f"system:node:node-{number}"))
    addresses = {"type": "host-local", "dataDir": "/run/addresses", "ranges": [[{"subnet": f"10.244.{number}.0/24"}]]}
    bridge = {
        "type": "bridge",
        "bridge": "pods",
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {**addresses, "routes": [{"dst": "0.0.0.0/0"}]},
    }
    plugins = [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}]
    network = {"cniVersion": "0.4.0", "name": "pods", "plugins": plugins}
    (node / "cni/10-pods.conflist").write_text(json.dumps(network))


def wait_for_nodes(cluster: Cluster) -> None:
    """Waits until pods can run on every node."""
    what = f"every node is ready: see {cluster.folder}/node-*/*.log"
    eventually(lambda: all(map(cluster.is_ready, NODES)), 180, what)
