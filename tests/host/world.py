"""A server with stacks, on which a test runs the host program's requests."""

import contextlib
import dataclasses
import hashlib
import io
import os
import signal
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from kiwari_ci.engines.compose.deploy_programs import deploy as deploy_program
from kiwari_ci.engines.compose.deploy_programs import rotate
from tests.host.compose_reader import parsed
from tests.host.fake_docker import TOKEN, FakeMachine, Image, Running, State
from tests.outcome import Outcome as Outcome

STACK = "shop"
REGISTRY = "ghcr.io/acme"

WEB = """
  web:
    image: ghcr.io/acme/web:main
    container_name: web
    restart: unless-stopped
    env_file: .env
    labels:
      deploy.health: ":8080/health"
      deploy.host: "shop.example.com"
      deploy.name-cache: "11"
    networks:
      - proxy
"""
WORKER = """
  worker:
    image: ghcr.io/acme/worker:main
    container_name: worker
    restart: unless-stopped
    networks:
      - proxy
"""
NETWORKS = """
networks:
  proxy:
    external: true
"""

DB = """
  db:
    image: postgres:17
    container_name: db
    restart: unless-stopped
    labels:
      deploy.accessory: "yes"
    volumes:
      - data:/var/lib/postgresql/data
    networks:
      - proxy
"""


def compose_labels(service: str) -> dict[str, str]:
    """The labels that Compose gives to a container of a service of the stack."""
    return {
        "com.docker.compose.project": STACK,
        "com.docker.compose.service": service,
        "com.docker.compose.oneoff": "False",
        "com.docker.compose.container-number": "1",
    }


def compose_file(*services: str, rest: str = "") -> str:
    return f"name: {STACK}\n\nservices:{''.join(services)}{NETWORKS}{rest}"


class World:
    """A server with one stack, `shop`, and a registry with images of its services."""

    def __init__(self, root: Path, *services: str, rest: str = "") -> None:
        self.root = root
        self.machine = FakeMachine()
        self.machine.state.networks.add("proxy")
        self.folder = root / STACK
        self.write(compose_file(*(services or (WEB, WORKER)), rest=rest))
        (self.folder / ".env").write_text("SECRET='s3cret'\n")

    # Its files

    def write(self, text: str, stack: str = STACK) -> None:
        (self.root / stack).mkdir(exist_ok=True)
        (self.root / stack / "docker-compose.yml").write_text(text)

    def edit(self, old: str, new: str) -> None:
        """Change the compose file."""
        path = self.folder / "docker-compose.yml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def add_hooks(self, *names: str) -> None:
        """Scripts of the stack, which the compose file names."""
        (self.folder / "hooks").mkdir()
        for name in names:
            (self.folder / "hooks" / name).write_text("")
        head = f"# Files beside it: {' '.join(f'hooks/{name}' for name in names)}\n"
        path = self.folder / "docker-compose.yml"
        path.write_text(head + path.read_text())

    def record(self, service: str) -> list[str]:
        path = self.folder / ".deploys" / service
        return path.read_text().splitlines() if path.exists() else []

    def pins(self) -> dict[str, str]:
        """The image that Compose would start for each service by itself."""
        return pins_in((self.folder / "docker-compose.override.yml").read_text())

    # Its registry and its containers

    def image(self, service: str, version: object, behaviour: Image | None = None) -> str:
        """Put an image into the registry, and return its digest."""
        digest = "sha256:" + hashlib.sha256(f"{service} {version}".encode()).hexdigest()
        self.machine.images[f"{REGISTRY}/{service}@{digest}"] = behaviour or Image()
        return digest

    def container(self, name: str) -> Running:
        container = self.machine.find(name)
        assert container, f"there is no container {name}"
        return container

    def names(self) -> list[str]:
        return sorted(container.name for container in self.machine.everything())

    def serves(self, service: str, digest: str) -> bool:
        """Whether a service's own container runs that image and answers."""
        container = self.machine.find(service)
        return bool(
            container and deploy_program.digest_of(container.reference) == digest and self.machine.answers(container)
        )

    # Requests

    def deploy(
        self,
        images: dict[str, str],
        sequence: int,
        *,
        token: str = TOKEN,
        files: dict[str, str] | None = None,
        files_sha256: str = "",
    ) -> Outcome:
        request = deploy_program.Request(
            verb="deploy",
            stack=STACK,
            sequence=sequence,
            files_sha256=files_sha256 or self.checksum(files or {}),
            run=str(4000 + sequence),
            images=dict(images),
            may_send_env_files=True,
            may_send_files=True,
        )
        return self.perform(request, deploy_program.Delivery(token, archive_of(files) if files else None))

    def rollback(self, service: str, digest: str = "", *, is_from_key: bool = False) -> Outcome:
        request = deploy_program.Request(
            verb="rollback", stack=STACK, run="rollback", images={service: digest}, is_from_key=is_from_key
        )
        return self.perform(request, deploy_program.Delivery())

    def rotate(self, words: str, value: str) -> Outcome:
        """A rotation, with the words behind the name of the stack."""
        target = target_of(words)
        request = rotate.request_for(self.stack())
        return self.handled(lambda: rotate.perform(self.stack(), request, target, value))

    def preview(self, words: str) -> Outcome:
        """What a rotation would do."""
        return captured(lambda: rotate.print_preview(self.stack(), target_of(words)))

    def check(self) -> Outcome:
        return captured(lambda: deploy_program.print_findings(self.stack()))

    def status(self, stack: str = "") -> Outcome:
        return captured(lambda: deploy_program.print_status(self.machine, stack))

    def perform(self, request: deploy_program.Request, delivery: deploy_program.Delivery) -> Outcome:
        return self.handled(lambda: deploy_program.perform(self.stack(), request, delivery))

    def handled(self, request: Callable[[], int]) -> Outcome:
        before = signal.getsignal(signal.SIGTERM)
        try:
            return captured(request)
        finally:
            signal.signal(signal.SIGTERM, before)  # at its end, a request ignores a cancel

    def stack(self) -> deploy_program.Stack:
        return deploy_program.open_stack(self.machine, STACK, f"deploy status {STACK}")

    def checksum(self, files: dict[str, str]) -> str:
        """That of the commit's compose file and of the files beside it."""
        text = files.get("docker-compose.yml") or (self.folder / "docker-compose.yml").read_text()
        match = deploy_program.FILES_BESIDE_LINE.search(text)
        lines = ""
        for name in ["docker-compose.yml", *(match[1].split() if match else [])]:
            path = self.folder / name
            content = files[name].encode() if name in files else path.read_bytes() if path.exists() else b""
            lines += f"{hashlib.sha256(content).hexdigest()}  {name}\n"
        return hashlib.sha256(lines.encode()).hexdigest()

    # Moments

    def snapshot(self) -> "Snapshot":
        return Snapshot(self.machine.state.copy(), files_of(self.root))

    def restore(self, snapshot: "Snapshot") -> None:
        """Put the server back into the state of a moment, with the program killed then."""
        self.machine.state = snapshot.state.copy()
        self.machine.descriptions.clear()  # the ids that were given out since then are given out again
        self.machine.forget()
        self.machine.revive()
        present = files_of(self.root)
        for name in present.keys() - snapshot.files.keys():
            (self.root / name).unlink()
        for name, content in snapshot.files.items():
            if present.get(name) != content:
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                (self.root / name).write_bytes(content)


@dataclasses.dataclass
class Snapshot:
    """All that is on the server at a moment."""

    state: State
    files: dict[str, bytes]

    def fingerprint(self) -> str:
        """The same for two moments between which nothing happened but time that changes nothing."""
        state = dataclasses.replace(self.state, clock=0)
        return repr((state, {name: text for name, text in self.files.items() if "lock" not in name}))


def files_of(root: Path) -> dict[str, bytes]:
    """What is in the files below a folder."""
    contents = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = f"{folder}/{name}"
            with open(path, "rb") as stream:
                contents[path[len(str(root)) + 1 :]] = stream.read()
    return contents


def pins_in(text: str) -> dict[str, str]:
    services = parsed(text).get("services") or {}
    return {name: deploy_program.digest_of(entry["image"]) for name, entry in services.items() if entry}


def archive_of(files: dict[str, str] | Iterable[tarfile.TarInfo]) -> io.BytesIO:
    """A tar archive, as the workflow sends it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        if isinstance(files, dict):
            for name, text in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(text.encode())
                tar.addfile(entry, io.BytesIO(text.encode()))
        else:
            for entry in files:
                tar.addfile(entry)
    stream.seek(0)
    return stream


def target_of(words: str) -> rotate.Target:
    """The secret that a rotation names with these words: a key, or several keys, a server, a role and its key."""
    kind = "password" if len(words.split()) == 4 else "value"
    return rotate.target_of(rotate.parse_request(f"{kind} {STACK} {words}"))


def captured(work: Any) -> Outcome:
    """Run a part of the program, and keep what it prints."""
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        try:
            code = work()
        except deploy_program.Failed as failure:
            deploy_program.print_error(failure.message)
            code = failure.code
    return Outcome(code, stream.getvalue())
