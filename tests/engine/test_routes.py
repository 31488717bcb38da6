"""Where each address leads: the generated configuration before stand-ins for the services, in the real programs.

The programs run on this machine and not in containers, so two things are not as generated: the containers' names are
127.0.0.1, and the ports are free ones. Labels are given to Traefik as a file, because no engine runs.
"""

import base64
import contextlib
import http.client
import http.server
import json
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from kiwari_ci import generator
from kiwari_ci.file_output.generated_files import GeneratedFiles
from tests.engine import fronts
from tests.engine.server import eventually

LIBRARIES = fronts.PROGRAMS / "usr/lib/x86_64-linux-gnu"
USER, PASSWORD = "anna", "correct horse"
SERVICES = ("web", "api", "docs", "admin")
KINDS = ("caddy", "nginx", "traefik")

SPEC = """\
project: {name: shop, repository: example/shop}
generator: 'kiwari-ci==0.1.0 --hash=sha256:0000000000000000000000000000000000000000000000000000000000000000'
hosts: {vps: {proxy: {kind: KIND, stack: front, listen: '127.0.0.1:8080'}}}
services:
  web: {port: WEB}
  api: {port: API, health: {path: /api/health}}
  docs: {port: DOCS}
  admin: {port: ADMIN}
environments:
  live:
    deploy_on: {push: main}
    domains:
      web: [shop.example.com, shop.example.org]
      api: shop.example.com/api
      docs: [{domain: shop.example.com, path: /api/docs.v1, strip_path: true}, docs.example.com]
      admin:
        - {domain: intern.example.com, path: /admin, strip_path: true}
        - {domain: closed.example.com, basic_auth: team}
        - {domain: shop.example.com, path: /closed, strip_path: true, basic_auth: team}
    redirects: {www.shop.example.com: shop.example.com}
"""


@dataclass(frozen=True)
class Answer:
    """What a request was answered with: the status, and the service and path that the stand-in saw."""

    status: int
    service: str = ""
    path: str = ""
    location: str = ""


@dataclass(frozen=True)
class Front:
    """A running proxy."""

    port: int

    def ask(self, address: str, headers: dict[str, str] | None = None) -> Answer:
        """Ask for a domain with a path."""
        domain, slash, path = address.partition("/")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", slash + path or "/", headers={"Host": domain, **(headers or {})})
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        location = response.getheader("Location") or ""
        if response.status != 200:
            return Answer(response.status, location=location)
        return Answer(200, **json.loads(body))


@pytest.fixture(scope="module")
def service_ports() -> Iterator[dict[str, int]]:
    """A stand-in for each service, which answers with its name and the path that it was asked for."""
    with contextlib.ExitStack() as stack:
        servers = {
            name: stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), stand_in(name)))
            for name in SERVICES
        }
        for server in servers.values():
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
        yield {name: server.server_port for name, server in servers.items()}


def stand_in(service: str) -> type[http.server.BaseHTTPRequestHandler]:
    """Make the handler of a service."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"service": service, "path": self.path}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Be quiet."""

    return Handler


@pytest.fixture(scope="module", params=KINDS)
def front(request: pytest.FixtureRequest, service_ports: dict[str, int], tmp_path_factory: Any) -> Iterator[Front]:
    """Each kind of proxy with its generated configuration."""
    if missing := fronts.missing():
        words = f"these tests need {', '.join(missing)} in {fronts.PROGRAMS}: run .ci/install-engine"
        pytest.fail(words) if os.environ.get("CI") == "true" else pytest.skip(words)
    folder: Path = tmp_path_factory.mktemp(request.param)
    text = SPEC.replace("KIND", request.param)
    for name, port in service_ports.items():
        text = text.replace(f"port: {name.upper()}", f"port: {port}")
    write_users(folder, "team", is_caddy=request.param == "caddy")
    spec = folder / "shop.yaml"
    spec.write_text(text)
    _, tree = generator.generate_files(spec)
    port = find_free_port()
    command = {"caddy": prepare_caddy, "nginx": prepare_nginx, "traefik": prepare_traefik}[request.param](
        tree, folder, port
    )
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env={"HOME": str(folder)})
    try:
        running = Front(port)
        eventually(lambda: answers(running), 20, f"{request.param} answers")
        yield running
    finally:
        process.terminate()
        process.wait(timeout=20)


def write_users(folder: Path, auth_list: str, is_caddy: bool) -> None:
    """Write a list of users as the runbook's command does, and let nginx read it, which is not root then."""
    hashing = subprocess.run(
        [str(fronts.PROGRAMS / "usr/bin/caddy"), "hash-password", "--bcrypt-cost", "4", "--plaintext", PASSWORD],
        capture_output=True,
        text=True,
        check=True,
        env={"HOME": str(folder)},
    )
    (folder / "auth").mkdir()
    (folder / "auth" / auth_list).write_text(f"{USER}{' ' if is_caddy else ':'}{hashing.stdout.strip()}\n")
    for part in (folder, *folder.parents):
        if part.stat().st_uid == os.getuid() and part != Path("/"):
            part.chmod(part.stat().st_mode | 0o055)


def answers(front: Front) -> bool:
    """Whether the proxy leads to a service."""
    try:
        return front.ask("shop.example.com/").status == 200
    except OSError:
        return False


def find_free_port() -> int:
    """Find a port that nothing listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def at_home(text: str, folder: Path) -> str:
    """Replace the names of containers by this machine's address, and the folder that is mounted by the real one."""
    return re.sub(r"\bshop-[a-z]+-live\b(?=[:;])", "127.0.0.1", text).replace(" /auth/", f" {folder}/auth/")


def prepare_caddy(tree: GeneratedFiles, folder: Path, port: int) -> list[str]:
    """Write the Caddyfile, and return the command that starts Caddy."""
    text = at_home(tree["deploy/front/conf/Caddyfile"].text, folder)
    config = folder / "Caddyfile"
    config.write_text(text.replace("{\n", f"{{\n\tadmin off\n\thttp_port {port}\n", 1))
    return [str(fronts.PROGRAMS / "usr/bin/caddy"), "run", "--config", str(config)]


def prepare_nginx(tree: GeneratedFiles, folder: Path, port: int) -> list[str]:
    """Write the configuration and what an image has around it, and return the command that starts nginx."""
    text = at_home(tree["deploy/front/conf/default.conf"].text, folder)
    (folder / "default.conf").write_text(text.replace("listen 80", f"listen 127.0.0.1:{port}"))
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; include {folder}/default.conf; }}\n"
    )
    loader = str(fronts.PROGRAMS / "usr/lib64/ld-linux-x86-64.so.2")
    program = str(fronts.PROGRAMS / "usr/sbin/nginx")
    return [loader, "--library-path", str(LIBRARIES), program, "-e", "stderr", "-c", str(folder / "nginx.conf")]


def prepare_traefik(tree: GeneratedFiles, folder: Path, port: int) -> list[str]:
    """Write the labels as Traefik's file, and return the command that starts Traefik."""
    stack = yaml.safe_load(tree["deploy/shop-live/docker-compose.yml"].text)
    configuration: dict[str, Any] = {"http": {"routers": {}}}
    for service in stack["services"].values():
        known_routers = set(configuration["http"]["routers"])
        for label, value in service["labels"].items():
            if label.startswith("traefik.http."):
                add_label(configuration, label.removeprefix("traefik.").split("."), value)
        for name, router in configuration["http"]["routers"].items():
            if name not in known_routers:
                router["service"] = service["container_name"]  # by labels, it is the only one of the container
    (folder / "labels.yml").write_text(yaml.safe_dump(configuration).replace(" /auth/", f" {folder}/auth/"))
    return [
        str(fronts.PROGRAMS / "usr/bin/traefik"),
        f"--providers.file.filename={folder}/labels.yml",
        f"--entrypoints.web.address=127.0.0.1:{port}",
    ]


def add_label(configuration: dict[str, Any], keys: list[str], value: str) -> None:
    """Add a label to the same setting in a file, where lists have brackets and a service has several servers."""
    if keys[-3:] == ["loadbalancer", "server", "url"]:
        keys = [*keys[:-2], "servers"]
        setting: Any = [{"url": re.sub("//[^:]+:", "//127.0.0.1:", value)}]
    else:
        is_list = keys[-1] in ("entrypoints", "middlewares", "prefixes")
        setting = value.split(",") if is_list else value.replace("$$", "$")
    for key in keys[:-1]:
        configuration = configuration.setdefault(key, {})
    configuration[keys[-1]] = setting


@pytest.mark.parametrize(
    ("address", "service", "path"),
    [
        ("shop.example.com/", "web", "/"),
        ("shop.example.com/apis", "web", "/apis"),
        ("shop.example.com/other/api", "web", "/other/api"),
        ("shop.example.org/api", "web", "/api"),
        ("shop.example.com/api", "api", "/api"),
        ("shop.example.com/api/", "api", "/api/"),
        ("shop.example.com/api/users?page=2", "api", "/api/users?page=2"),
        ("shop.example.com/api/docs_v1", "api", "/api/docs_v1"),
        ("shop.example.com/api/docs.v1", "docs", "/"),
        ("shop.example.com/api/docs.v1/", "docs", "/"),
        ("shop.example.com/api/docs.v1/a/b?c=d", "docs", "/a/b?c=d"),
        ("docs.example.com/a", "docs", "/a"),
        ("intern.example.com/admin/users", "admin", "/users"),
    ],
)
def test_an_address_leads_to_its_service(front: Front, address: str, service: str, path: str) -> None:
    assert front.ask(address) == Answer(200, service, path)


@pytest.mark.parametrize("address", ["intern.example.com/", "intern.example.com/administrator", "other.example.com/"])
def test_an_address_of_no_service_is_not_found(front: Front, address: str) -> None:
    assert front.ask(address).status == 404


@pytest.mark.parametrize("path", ["/", "/api/users?page=2"])
def test_a_domain_redirects_with_its_path(front: Front, path: str) -> None:
    answer = front.ask(f"www.shop.example.com{path}")
    assert answer.status in (301, 308)
    assert answer.location == f"https://shop.example.com{path}"


@pytest.mark.parametrize(("address", "path"), [("closed.example.com/a", "/a"), ("shop.example.com/closed/a", "/a")])
def test_a_password_is_asked_for(front: Front, address: str, path: str) -> None:
    assert front.ask(address).status == 401
    for password, status in (("wrong", 401), (PASSWORD, 200)):
        credentials = base64.b64encode(f"{USER}:{password}".encode()).decode()
        answer = front.ask(address, {"Authorization": f"Basic {credentials}"})
        assert answer.status == status
    assert (answer.service, answer.path) == ("admin", path)
