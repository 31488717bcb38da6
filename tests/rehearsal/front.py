"""The proxy in front, with the hosts of the runbook's table: real domains, TLS, Nginx Proxy Manager's directives."""

import re
import subprocess
from pathlib import Path

from tests.engine.images import REGISTRY, Images
from tests.engine.server import GENERATED, Server, eventually

HTTP = """
worker_processes 1;
daemon off;
pid {folder}/front.pid;
error_log {folder}/front.log;
events {{}}
http {{
  access_log off;
  resolver 127.0.0.11 valid={keeps}s ipv6=off;
  ssl_certificate {folder}/tls.crt;
  ssl_certificate_key {folder}/tls.key;
  {hosts}
}}
"""
HOST = """
  server {{
    listen 443 ssl;
    server_name {domain};
    location / {{
      {before}
      set $server {container};
      proxy_pass {scheme}://$server:{port};
    }}
  }}
"""
ROW = re.compile(
    r"^\| `(?P<domain>[^`]+)` \| `(?P<scheme>https?)` `(?P<container>[^`]+)` `(?P<port>\d+)` \|", re.MULTILINE
)


class Front:
    """A container on the `proxy` network, in whose network namespace nginx runs; it keeps a name for some seconds."""

    def __init__(self, server: Server, images: Images, *flags: str, tree: Path = GENERATED, keeps: int = 10) -> None:
        self.server = server
        self.keeps = keeps
        self.hosts = self.rows(tree)
        assert self.hosts
        images.push("front", "front", port=9)
        run = ("run", "-d", "--name", "front", "--restart", "always", "--network", "proxy", *flags)
        run += (f"{REGISTRY}/front:staging",)
        server.docker("--config", images.login, *run)
        self.start()

    @staticmethod
    def rows(tree: Path = GENERATED) -> list[dict[str, str]]:
        """The table of a tree's runbook."""
        return [row.groupdict() for row in ROW.finditer((tree / "deploy/RUNBOOK.md").read_text())]

    def start(self) -> None:
        """Starts nginx, and tells the machine where the domains are."""
        form = "{{.State.Pid}} {{.NetworkSettings.Networks.proxy.IPAddress}}"
        process, address = self.server.docker("inspect", "-f", form, "front").split()
        names = "".join(f"{address} {host['domain']}\n" for host in self.hosts)
        file = self.server.folder / "etc/hosts"
        file.write_text(file.read_text().split("\n", 1)[0] + "\n" + names)
        self.configure({})
        command = ("nsenter", "-t", process, "-n", "nginx", "-c", f"{self.server.folder}/front.conf")
        with open(self.server.folder / "front.out", "a") as out:
            self.nginx = subprocess.Popen(self.server.inside(*command), stdout=out, stderr=out)
        answers = f"exec 3<>/dev/tcp/{address}/443"
        eventually(lambda: self.server.run("bash", "-c", answers, check=False).returncode == 0, 10, "nginx listens")

    def configure(self, before: dict[str, str]) -> None:
        """Writes the hosts; `before` has what one answers before its service does: {domain: directive}."""
        hosts = "".join(HOST.format(**host, before=before.get(host["domain"], "")) for host in self.hosts)
        (self.server.folder / "front.conf").write_text(
            HTTP.format(folder=self.server.folder, hosts=hosts, keeps=self.keeps)
        )

    def answer(self, before: dict[str, str]) -> None:
        """As `configure`, for every request from now on: nginx' workers of before are gone."""
        self.configure(before)
        master = (self.server.folder / "front.pid").read_text().strip()
        old = self.workers(master)
        self.server.run("kill", "-HUP", master)
        eventually(lambda: not self.workers(master) & old, 20, "nginx has read its configuration again")

    def workers(self, master: str) -> set[str]:
        """The processes that answer."""
        return set(self.server.run("pgrep", "-P", master).stdout.split())

    def restart(self) -> None:
        """Starts nginx anew: its container has come back with another network namespace."""
        self.server.run("kill", (self.server.folder / "front.pid").read_text().strip(), check=False)
        self.nginx.wait(10)
        self.start()
