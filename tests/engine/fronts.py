"""The proxies that can be generated, with their real programs: what `.ci/install-engine` has brought, in images."""

import base64
import contextlib
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kiwari_ci import generator
from kiwari_ci.file_output.generated_files import GeneratedFiles
from kiwari_ci.plan_model import Plan, ProxyStack
from tests.engine.proxy import Answers, parse
from tests.engine.server import HERE, UID, Server

PROGRAMS = HERE.parents[1] / ".venv/proxies"
STACK, API = "front-live", "front-api-live"
DOMAIN, NEW = "api.example.com", "admin.example.com"

# One service that all of them stand before: its compose file differs in labels only, those that Traefik reads and the
# one that says for how long a proxy of that kind keeps a name.
SPEC = """\
project: {name: front, repository: iqbalmuhyiddin/front}
hosts: {vps: {proxy: PROXY}}
services:
  api: {image: kiwari-api, port: 8081, health: {path: /health}, websocket: true, ports: ['127.0.0.1:8000:8081']}
  admin: {image: kiwari-admin, port: 3000, ports: ['127.0.0.1:8009:3000']}
environments: {live: {deploy_on: {push: main}, domains: {DOMAINS}}}
"""

# What an image of nginx has around conf.d, and the user that it names.
NGINX = {
    "etc/nginx/nginx.conf": """\
user nginx;
worker_processes auto;
error_log /dev/stderr notice;
pid /run/nginx.pid;
events {
    worker_connections 1024;
}
http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log off;
    sendfile on;
    keepalive_timeout 65;
    include /etc/nginx/conf.d/*.conf;
}
""",
    "etc/passwd": "nginx:x:101:101::/:/usr/sbin/nologin\n",
    "etc/group": "nginx:x:101:\n",
}


@dataclass(frozen=True)
class Program:
    """A proxy's program: its files, how its image starts it, and how it says its version."""

    files: str
    start: tuple[str, ...]
    version: str


LIBRARIES = "usr/lib/x86_64-linux-gnu usr/lib64"
FOLDERS = "ENV XDG_CONFIG_HOME=/config XDG_DATA_HOME=/data"
RUN = '"caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"'
SHELL = "usr/bin/sh usr/bin/dash"
PROGRAM = {
    "caddy": Program(f"{LIBRARIES} usr/bin/caddy", (FOLDERS, f"CMD [{RUN}]"), "caddy version"),
    "nginx": Program(
        f"{LIBRARIES} {SHELL} usr/sbin/nginx etc/nginx/mime.types var/lib/nginx var/log/nginx",
        ('CMD ["nginx", "-g", "daemon off;"]',),
        "nginx -v",
    ),
    "traefik": Program("usr/bin/traefik", ('ENTRYPOINT ["traefik"]',), "traefik version"),
}


def missing() -> list[str]:
    """The programs that this machine lacks."""
    return [
        name for name in ("bin/caddy", "sbin/nginx", "bin/sh", "bin/traefik") if not (PROGRAMS / "usr" / name).exists()
    ]


def built(server: Server, proxy: str, *domains: str) -> tuple[Plan, GeneratedFiles]:
    """What a spec with that proxy, and these domains for its services, generates."""
    pairs = ", ".join(f"{service}: {domain}" for service, domain in zip(("api", "admin"), domains, strict=False))
    path = server.folder / "front.yaml"
    path.write_text(SPEC.replace("PROXY", proxy).replace("DOMAINS", pairs))
    return generator.generate_files(path)


def place(server: Server, tree: GeneratedFiles, stack: str) -> None:
    """Copies a stack's folder to the host, as the runbook's command does."""
    for path, file in tree.items():
        if path.startswith(f"deploy/{stack}/"):
            target = server.docker_folder / path.removeprefix("deploy/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)  # tar makes another file, too
            target.write_text(file.text)
    server.run("chown", "-R", f"{UID}:{UID}", str(server.docker_folder / stack))


def make_image(server: Server, kind: str, name: str) -> None:
    """Makes the image that a generated stack asks for, with the real program in it."""
    own, program = server.folder / f"image-{kind}", PROGRAM[kind]
    (own / "run").mkdir(parents=True)
    (own / "tmp").mkdir()
    (own / "lib64").symlink_to("usr/lib64")
    for path, text in NGINX.items() if kind == "nginx" else ():
        (own / path).parent.mkdir(parents=True, exist_ok=True)
        (own / path).write_text(text)
    changes = " ".join(f"-c '{change}'" for change in program.start)
    fill = f"tar -C {PROGRAMS} -c {program.files} | tar -x -C {own}"
    server.run("bash", "-euo", "pipefail", "-c", f"{fill}; tar -C {own} -c . | docker import {changes} - {name}")


def listening(kind: str, port: int) -> str:
    """The proxy of a spec that speaks plain HTTP on that port."""
    return f"{{kind: {kind}, stack: {kind}, listen: '127.0.0.1:{port}'}}"


def start(server: Server, kind: str, port: int) -> ProxyStack:
    """Brings a generated proxy to the host, and starts it with the runbook's command."""
    plan, tree = built(server, listening(kind, port), DOMAIN)
    (front,) = plan.hosts[0].fronts
    place(server, tree, front.name)
    make_image(server, kind, front.image)
    up(server, front)
    return front


def up(server: Server, front: ProxyStack) -> None:
    """Says the runbook's command that starts a proxy."""
    server.by_hand(f"cd {front.folder} && docker compose up -d", check=True)


def url(front: ProxyStack, domain: str = DOMAIN) -> str:
    """Where a domain is asked behind one of them."""
    return f"http://{domain}:{front.listen.partition(':')[2]}/"


@contextlib.contextmanager
def asked(server: Server, *urls: str) -> Iterator[dict[str, Answers]]:
    """Asks every one of them every 50 ms while the block runs; the answers are complete when it ends."""
    answers = {url: Answers() for url in urls}
    with server.beside(sys.executable, str(HERE / "asker.py"), "0.05", *urls) as lines:
        yield answers
    for line in sorted(lines, key=lambda line: float(line.split()[0])):
        answers[line.split()[-1]].append(parse(line))


@dataclass(frozen=True)
class Lasting:
    """What became of requests of one kind: how many there were, and how each failed that did."""

    asked: int
    failures: tuple[str, ...]


@contextlib.contextmanager
def lasting(server: Server, *urls: str) -> Iterator[dict[tuple[str, str], Lasting]]:
    """Asks each for what lasts while the block runs; by kind (kept, slow, upload) and address."""
    results: dict[tuple[str, str], Lasting] = {}
    with server.beside(sys.executable, str(HERE / "lasting.py"), *urls) as lines:
        yield results
    for kind, asked, _, url, *failures in map(str.split, lines):
        results[kind, url] = Lasting(int(asked), tuple(failures))


@contextlib.contextmanager
def talked(server: Server, *urls: str) -> Iterator[dict[str, tuple[int, int, float]]]:
    """Keeps a WebSocket open to each: answers, how often it was opened again, the longest time without an answer."""
    talks: dict[str, tuple[int, int, float]] = {}
    with server.beside(sys.executable, str(HERE / "talker.py"), *urls) as lines:
        yield talks
    for answered, again, longest, url in map(str.split, lines):
        talks[url] = int(answered), int(again), float(longest)


def start_secure(server: Server, kind: str, port: int) -> ProxyStack:
    """Starts one with certificates, as if they had been got: from files, or where the program keeps its own.

    One thing is not as generated: its ports are led to others, for 443 is the registry's on this machine.
    """
    more = {
        "traefik": "entrypoint: web, email: ops@example.com",
        "caddy": "email: ops@example.com",
        "nginx": f"certificates: {server.folder}/certificates",
    }
    plan, tree = built(server, f"{{kind: {kind}, stack: {kind}-tls, {more[kind]}}}", DOMAIN)
    (front,) = plan.hosts[0].fronts
    place(server, tree, front.name)
    ports = f"!override ['127.0.0.1:{port}:443', '127.0.0.1:{port + 100}:80']"
    override = server.docker_folder / front.name / "docker-compose.override.yml"
    override.write_text(f"services: {{{front.name}: {{ports: {ports}}}}}\n")
    server.by_hand(f"cd {front.folder} && docker compose up --no-start", check=True)
    CERTIFY[kind](server, front)
    up(server, front)
    if kind == "traefik":  # its labels say that a certificate is to be got
        place(server, tree, STACK)
        server.by_hand(f"cd docker/{STACK} && docker compose up -d --pull never --no-deps {API}", check=True)
    return front


def volume(server: Server, name: str) -> Path:
    """Where a volume's files are."""
    return Path(server.docker("volume", "inspect", "-f", "{{.Mountpoint}}", name))


def _for_nginx(server: Server, front: ProxyStack) -> None:
    folder = Path(front.certificates) / "live" / DOMAIN
    folder.mkdir(parents=True)
    shutil.copy(server.folder / "tls.crt", folder / "fullchain.pem")
    shutil.copy(server.folder / "tls.key", folder / "privkey.pem")


def _for_caddy(server: Server, front: ProxyStack) -> None:
    """As it keeps what Let's Encrypt gave: https://caddyserver.com/docs/conventions#data-directory."""
    authority = "certificates/acme-v02.api.letsencrypt.org-directory"
    folder = volume(server, f"{front.name}_data") / "caddy" / authority / DOMAIN
    folder.mkdir(parents=True)
    shutil.copy(server.folder / "tls.crt", folder / f"{DOMAIN}.crt")
    shutil.copy(server.folder / "tls.key", folder / f"{DOMAIN}.key")
    (folder / f"{DOMAIN}.json").write_text(json.dumps({"sans": [DOMAIN], "issuer_data": {}}))


def _for_traefik(server: Server, front: ProxyStack) -> None:
    """As it keeps what Let's Encrypt gave, in acme.json."""
    both = {"certificate": "tls.crt", "key": "tls.key"}
    encoded = {key: base64.b64encode((server.folder / file).read_bytes()).decode() for key, file in both.items()}
    stored_certificates = {
        "letsencrypt": {"Certificates": [{"domain": {"main": DOMAIN}, "Store": "default", **encoded}]}
    }
    path = volume(server, f"{front.name}_certificates") / "acme.json"
    path.write_text(json.dumps(stored_certificates))
    path.chmod(0o600)


CERTIFY = {"nginx": _for_nginx, "caddy": _for_caddy, "traefik": _for_traefik}
