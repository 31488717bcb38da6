"""A cluster and a server on one wire: the server has a registry, PostgreSQL and what moves from it to the cluster."""

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.cluster import cluster as clusters
from tests.cluster.cluster import CONTROL_PLANE, NODES, PAUSE_IMAGE, PUBLIC_REGISTRY, SERVER, Cluster, node_address
from tests.engine.images import Images
from tests.engine.server import TOKEN_BCRYPT, Server, eventually
from tests.engine.server import throw_away as throw_away_server

HERE = Path(__file__).parent
PROXIES = HERE.parents[1] / ".venv/proxies/usr/bin"
REGISTRY_USER = "example"  # the owner of the repository of the example specs

REGISTRY = """\
version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: {server}/registry}}}}
http: {{addr: '{address}:443', tls: {{certificate: {cluster}/tls.crt, key: {cluster}/tls.key}}}}
"""
LOGIN = "auth: {{htpasswd: {{realm: test, path: {server}/htpasswd}}}}\n"


class World:
    """A cluster, and a server beside it."""

    def __init__(self, cluster: Cluster, server: Server) -> None:
        self.cluster = cluster
        self.server = server
        self.images = ExampleImages(server)

    def connect_server(self) -> None:
        """Puts the server on the wire, and lets the nodes pull from its registry."""
        link = f"ip link add port-server type veth peer name eth0 netns {self.server.pid}"
        subprocess.run(self.cluster.near(*link.split()), check=True)
        self.cluster.run("ip", "link", "set", "port-server", "master", "wire", "up")
        for command in (
            f"ip address add {SERVER}/24 dev eth0",
            f"ip address add {PUBLIC_REGISTRY}/24 dev eth0",
            "ip link set eth0 up",
            f"ip route add default via {CONTROL_PLANE}",
            *(f"ip route add 10.244.{number}.0/24 via {node_address(number)}" for number in NODES),
        ):
            self.server.run(*command.split())
        with (self.server.folder / "htpasswd").open("a") as logins:
            logins.write(f"{REGISTRY_USER}:{TOKEN_BCRYPT}\n")
        self._start_registry("private", SERVER, REGISTRY + LOGIN)
        self._start_registry("public", PUBLIC_REGISTRY, REGISTRY)

    def _start_registry(self, name: str, address: str, configuration: str) -> None:
        """Starts a registry with the images of the server's own one."""
        file = self.server.folder / f"registry-{name}.yml"
        file.write_text(configuration.format(server=self.server.folder, cluster=self.cluster.folder, address=address))
        self.cluster.start(file.with_suffix(".log"), self.server.inside("docker-registry", "serve", str(file)))
        answers = ("bash", "-c", f"exec 3<>/dev/tcp/{address}/443")
        eventually(lambda: self.server.run(*answers, check=False).returncode == 0, 20, f"registry {name} answers")

    def push_images(self) -> None:
        """Pushes what the cluster itself is made of."""
        self.images.push_pause()
        self.images.push_program("library/traefik:v3", PROXIES / "traefik")

    def start_ingress(self) -> None:
        """Starts the Ingress controller, and what answers to names of Services."""
        words = self.cluster.inside(sys.executable, str(HERE / "names.py"), CONTROL_PLANE)
        self.cluster.start(self.cluster.folder / "names.log", words)
        self.cluster.kubectl("apply", "--server-side", "-f", str(HERE / "ingress.yaml"))
        self.cluster.kubectl("rollout", "status", "-n", "ingress", "daemonset/traefik", "--timeout=180s")


class ExampleImages(Images):
    """Images of the example specs."""

    registry = "ghcr.io/example"

    def push_program(self, name: str, program: Path) -> None:
        """Pushes an image with one program in it."""
        context = self.server.folder / "program"
        context.mkdir()
        shutil.copy(program, context / "program")
        (context / "Dockerfile").write_text('FROM scratch\nCOPY program /program\nENTRYPOINT ["/program"]\n')
        image = f"ghcr.io/{name}"
        self.server.docker("build", "-q", "-t", image, str(context))
        shutil.rmtree(context)
        self._push(image)

    def push_pause(self) -> None:
        """Pushes what holds the namespaces of a pod: the small service, which waits for its end."""
        image = f"ghcr.io/{PAUSE_IMAGE.partition('/')[2]}"
        self.build(image, "pause", "works", port=0)
        self._push(image)

    def push_one_shot(self, name: str) -> None:
        """Pushes the small service under the name of an image that runs once: it says its arguments, and ends well."""
        image = f"ghcr.io/{name}"
        self.build(image, "one-shot", "runs-once", port=0)
        self._push(image)

    def _push(self, image: str) -> None:
        self.server.docker("--config", self.login, "push", "-q", image)
        self.server.docker("rmi", image)


@contextlib.contextmanager
def throw_away() -> Iterator[World]:
    """Starts a cluster and a server, with nothing deployed, and takes them down whatever happens."""
    with clusters.throw_away() as cluster, throw_away_server() as server:
        world = World(cluster, server)
        world.connect_server()
        world.push_images()
        for number in NODES:
            cluster.power_on(number)
        clusters.wait_for_nodes(cluster)
        world.start_ingress()
        yield world
