"""A real nginx that stands before the services as Nginx Proxy Manager does, and a client that asks it every 50 ms."""

import contextlib
import dataclasses
import subprocess
import sys
from collections.abc import Iterator

from tests.engine.images import Images
from tests.engine.server import HERE, Server, eventually

# As Nginx Proxy Manager writes it, with "Websockets Support": a variable for the name, and docker's resolver, whose
# answers it keeps for 10 s.
NGINX = """
worker_processes 2;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{}}
http {{
  access_log off;
  resolver 127.0.0.11 valid={keeps}s ipv6=off;
  server {{
    listen 80;
    location / {{
      set $server {service};
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $http_connection;
      proxy_pass http://$server:{port};
    }}
  }}
}}
"""


@dataclasses.dataclass(frozen=True)
class Answer:
    """One answer that the client got: seconds since it began, seconds it waited, HTTP status (0: none), version."""

    asked: float
    waited: float
    status: int
    version: str


class Answers(list[Answer]):
    """What the client got until it was stopped."""

    def failed(self) -> list[Answer]:
        """Those that a person would have seen as an error."""
        return [answer for answer in self if answer.status != 200]

    def versions(self) -> list[str]:
        """The versions, in the order in which they were first seen."""
        return list(dict.fromkeys(answer.version for answer in self if answer.status == 200))

    def __str__(self) -> str:
        slowest = max(answer.waited for answer in self)
        slow = sum(answer.waited > 0.5 for answer in self)
        return f"{len(self)} requests, {len(self.failed())} failed, {slow} above 0.5 s, the slowest {slowest:.2f} s"


class Proxy:
    """A container on the `proxy` network, in whose network namespace nginx runs."""

    def __init__(self, server: Server, images: Images) -> None:
        self.server = server
        images.push("proxy", "proxy", port=9)
        run = ("run", "-d", "--name", "proxy-manager", "--network", "proxy", f"{images.registry}/proxy:staging")
        server.docker("--config", images.login, *run)
        self.address = ""

    @contextlib.contextmanager
    def before(self, service: str, keeps: int = 10, port: int = 8081) -> Iterator[None]:
        """Runs nginx before one service; it keeps a name's addresses for so many seconds."""
        folder = self.server.folder
        self.server.docker("start", "proxy-manager")  # it ended if a test has restarted the engine
        form = "{{.NetworkSettings.Networks.proxy.IPAddress}}"
        self.address = self.server.docker("inspect", "-f", form, "proxy-manager")
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, service=service, keeps=keeps, port=port))
        process = self.server.docker("inspect", "-f", "{{.State.Pid}}", "proxy-manager")
        command = ("nsenter", "-t", process, "-n", "nginx", "-c", f"{folder}/nginx.conf")
        with open(folder / "nginx.out", "w") as out:
            nginx = subprocess.Popen(self.server.inside(*command), stdout=out, stderr=out)
        try:
            ask = ("curl", "-sf", f"http://{self.address}/")
            eventually(lambda: self.server.run(*ask, check=False).returncode == 0, 15, "nginx reaches the service")
            yield
        finally:
            self.server.run("kill", (folder / "nginx.pid").read_text().strip())
            nginx.wait(timeout=10)

    @contextlib.contextmanager
    def asked(self) -> Iterator[Answers]:
        """Asks every 50 ms while the block runs; the answers are complete when it ends."""
        answers = Answers()
        with self.server.beside(sys.executable, str(HERE / "asker.py"), "0.05", f"http://{self.address}/") as lines:
            yield answers
        answers.extend(map(parse, lines))


def parse(line: str) -> Answer:
    """Reads one line of the client."""
    asked, waited, status, version, _ = line.split()
    return Answer(float(asked), float(waited), int(status), version)
