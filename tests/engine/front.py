"""The proxy in front, with the hosts of the runbook's table: real domains, TLS, Nginx Proxy Manager's directives."""

import re
import subprocess

from tests.engine.images import REGISTRY, Images
from tests.engine.server import Server, eventually, generated

HTTP = """
worker_processes 1;
daemon off;
pid {folder}/front.pid;
error_log {folder}/front.log;
events {{}}
http {{
  access_log off;
  resolver 127.0.0.11 valid=10s ipv6=off;
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
      set $server {container};
      proxy_pass {scheme}://$server:{port};
    }}
  }}
"""
ROW = re.compile(
    r"^\| `(?P<domain>[^`]+)` \| `(?P<scheme>https?)` `(?P<container>[^`]+)` `(?P<port>\d+)` \|", re.MULTILINE
)


def start(server: Server, images: Images) -> subprocess.Popen[bytes]:
    """Starts nginx in a container's network namespace, and tells the machine where the domains are."""
    images.push("front", "front", port=9)
    run = ("run", "-d", "--name", "front", "--network", "proxy", f"{REGISTRY}/front:staging")
    server.docker("--config", images.login, *run)
    form = "{{.State.Pid}} {{.NetworkSettings.Networks.proxy.IPAddress}}"
    process, address = server.docker("inspect", "-f", form, "front").split()
    rows = [row.groupdict() for row in ROW.finditer(generated("deploy/RUNBOOK.md").read_text())]
    assert rows
    hosts = "".join(HOST.format(**row) for row in rows)
    (server.folder / "front.conf").write_text(HTTP.format(folder=server.folder, hosts=hosts))
    with (server.folder / "etc/hosts").open("a") as file:
        file.writelines(f"{address} {row['domain']}\n" for row in rows)
    command = ("nsenter", "-t", process, "-n", "nginx", "-c", f"{server.folder}/front.conf")
    nginx = subprocess.Popen(server.inside(*command))
    answers = f"exec 3<>/dev/tcp/{address}/443"
    eventually(lambda: server.run("bash", "-c", answers, check=False).returncode == 0, 10, "nginx listens")
    return nginx
