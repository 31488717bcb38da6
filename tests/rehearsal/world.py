"""One pipeline with everything around it: a developer's clone, GitHub, the server, and the domains."""

import contextlib
import json
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.engine.images import REGISTRY, Images
from tests.engine.server import GENERATED, HERE, KEY_STACKS, TOKEN, Server, eventually, throw_away
from tests.rehearsal.front import Front
from tests.rehearsal.github import GitHub, Run, git

LITERAL = Path(__file__).parent / "literal"
PORTS = {"api": 8081, "admin": 3000}
HEALTH = {"api": "/health", "admin": "/"}
ENVIRONMENTS = {"staging": "stg-", "production": ""}
DOMAIN = "nasibakarkiwari.com"
NAME_CACHE = 11  # the seconds that a deploy waits for the proxy, as generated
SHORT_NAME_CACHE = 2  # and in the quick part
Place = tuple[str, str]  # environment, service
EVERYWHERE = [(environment, service) for environment in ENVIRONMENTS for service in PORTS]
DOCKERFILE = """FROM {base}
COPY {service}/app /app
ENV VERSION={version} BEHAVIOUR={behaviour} PORT={port}
{more}ENTRYPOINT ["/app"]
"""


def domain(place: Place) -> str:
    """Where people reach a service."""
    return f"{ENVIRONMENTS[place[0]]}{place[1]}.{DOMAIN}"


def container(place: Place) -> str:
    """Its container, which both pipelines name alike."""
    return f"pos-{place[1]}" + ("-staging" if place[0] == "staging" else "")


class World:
    """A repository with two services, pushed to a small GitHub, deployed to a throw-away server by one pipeline."""

    def __init__(self, server: Server, name: str, act: str, name_cache: int = NAME_CACHE) -> None:
        self.server = server
        self.name = name
        self.images = Images(server)
        self.front = Front(server, self.images, keeps=name_cache - 1)
        self.github = GitHub(server, act)
        self.clone = server.folder / "clone"
        self.heads = {"refs/heads/main": ""}
        self.versions: dict[str, dict[str, str]] = {}  # of each commit: what it makes each service answer
        self.now = {service: "" for service in PORTS}
        self.count = 0
        self.all_versions: set[str] = set()  # every version that there was
        self.write_repository()
        if self.ours:
            self.wait_for_proxies(name_cache)

    @property
    def ours(self) -> bool:
        """Whether the generated pipeline is on trial, not the literal one."""
        return self.name == "ours"

    # The developer

    def write_repository(self) -> None:
        """The monorepo: two services, and the pipeline's files."""
        shutil.copytree(self.server.tree, self.clone)
        git("init", "-q", "-b", "main", str(self.clone))
        self.git("config", "user.name", "nobody")
        self.git("config", "user.email", "nobody@example.com")
        self.git("remote", "add", "origin", str(self.github.repository))
        for service in PORTS:
            (self.clone / service).mkdir()
            shutil.copy(self.images.context / "app", self.clone / service)
        (self.clone / "api/go.mod").write_text("module api\n\ngo 1.21\n")
        self.write("api/api_test.go", 'package api\n\nimport "testing"\n\nfunc TestAPI(t *testing.T) {}\n')

    def wait_for_proxies(self, seconds: int) -> None:
        """Tells the stacks, in the repository and on the server, for how long the proxy keeps a name."""
        label = 'deploy.name-cache: "{}"'
        for stack in KEY_STACKS:
            for folder in (self.clone / "deploy", self.server.docker_folder):
                file = folder / stack / "docker-compose.yml"
                text = file.read_text()
                assert label.format(NAME_CACHE) in text
                file.write_text(text.replace(label.format(NAME_CACHE), label.format(seconds)))

    def git(self, *words: str) -> str:
        """Asks the developer's clone."""
        return git("-C", str(self.clone), *words)

    def write(self, path: str, text: str) -> None:
        """A file of the developer's."""
        (self.clone / path).parent.mkdir(parents=True, exist_ok=True)
        (self.clone / path).write_text(text)

    def version(self, service: str, behaviour: str = "answers", more: str = "", base: str = "scratch") -> str:
        """The developer changes a service: what its next image answers, and how it behaves."""
        self.count += 1
        version = self.now[service] = f"{service}-{self.count}"
        self.all_versions.add(version)
        text = DOCKERFILE.format(
            base=base, service=service, version=version, behaviour=behaviour, port=PORTS[service], more=more
        )
        self.write(f"docker/Dockerfile.{service}", text)
        return version

    def commit(self, *services: str, behaviour: str = "answers") -> str:
        """A commit of what has changed, and of a new version of these services."""
        for service in services:
            self.version(service, behaviour)
        self.git("add", "--all")
        self.git("commit", "-q", "--allow-empty", "-m", "a change")
        sha = self.git("rev-parse", "HEAD")
        self.versions[sha] = dict(self.now)
        return sha

    def push(self, *holds: str) -> list[Run]:
        """Pushes the branch; what starts then waits at the `holds`."""
        self.git("push", "-q", "--force", "origin", "main")
        old, new = self.heads["refs/heads/main"], self.git("rev-parse", "HEAD")
        self.heads["refs/heads/main"] = new
        return self.github.pushed({"refs/heads/main": (old, new)}, holds)

    def tag(self, name: str, commit: str = "HEAD") -> list[Run]:
        """Tags a commit and pushes the tag, over another of its name if there is one."""
        self.git("tag", "--force", name, commit)
        self.git("push", "-q", "--force", "origin", f"refs/tags/{name}")
        return self.github.pushed({f"refs/tags/{name}": ("", self.git("rev-parse", commit))})

    def release(self) -> list[Run]:
        """The next version, of what is pushed."""
        self.count += 1
        return self.tag(f"v1.{self.count}.0")

    # The world

    def answer(self, place: Place) -> tuple[int, str]:
        """What people get: the status (0: none) and the body."""
        form = r"\n%{http_code}"
        output = self.server.run("curl", "-sS", "-m", "5", "-w", form, f"https://{domain(place)}/", check=False).stdout
        body, _, status = output.rpartition("\n")
        return int(status or 0), body

    def serving(self, place: Place) -> str:
        """The version that people get, or what they get in its place."""
        status, body = self.answer(place)
        return body if status == 200 else f"status {status}"

    def state(self) -> dict[Place, str]:
        """What is served everywhere."""
        return {place: self.serving(place) for place in EVERYWHERE}

    def settle(self, environments: Sequence[str] = tuple(ENVIRONMENTS)) -> None:
        """Everything in order again, by the pipeline's own means: the newest commit is good, and serves."""
        stale = [service for service in PORTS if self.serving(("staging", service)) != self.now[service]]
        if stale:
            self.commit(*stale)
            runs = [run.wait() for run in self.push()]
            done([self.github.again(run) for run in runs if not run.green])  # literally, the first wants both images
        if "production" in environments and any(
            self.serving(("production", service)) != self.now[service] for service in PORTS
        ):
            done(self.release())
        wanted = {place: self.now[place[1]] for place in EVERYWHERE if place[0] in environments}
        assert wanted.items() <= self.state().items(), f"{self.name} is not in order: {self.state()}, not {wanted}"

    def quiet(self) -> None:
        """Until nothing of a deploy runs on the server."""
        busy = ("pgrep", "-u", "deployer", "-f", "docker")
        eventually(lambda: self.server.run(*busy, check=False).returncode != 0, 120, "the last deploy ends")

    def changed(self, commit: str) -> list[str]:
        """The services of which a commit has another version than the one before it."""
        before = self.versions.get(git("-C", str(self.clone), "rev-list", "--skip=1", "-n1", commit), {})
        return [service for service, version in self.versions[commit].items() if version != before.get(service)]

    def place(self, url: str) -> Place:
        """The service that a domain's URL leads to."""
        return next(place for place in EVERYWHERE if f"//{domain(place)}/" in url)

    def secrets(self) -> list[str]:
        """What no log, argument or file may hold."""
        lines = self.github.secrets["VPS_SSH_KEY"].splitlines()
        return [TOKEN, *(line for line in lines if line and not line.startswith("-----"))]

    def digest(self, place: Place) -> str:
        """The digest that a service's container has."""
        form = "{{range .RepoDigests}}{{.}} {{end}}"
        image = self.server.docker("inspect", "-f", "{{.Image}}", container(place))
        return self.server.docker("inspect", "-f", form, image).split()[0].partition("@")[2]

    def labelled(self, service: str, tag: str) -> str:
        """The version that the registry has under a tag."""
        reference = f"{REGISTRY}/kiwari-{service}:{tag}"
        form = "{{range .Image.Config.Env}}{{println .}}{{end}}"
        words = (
            "docker",
            "--config",
            self.images.login,
            "buildx",
            "imagetools",
            "inspect",
            "--format",
            form,
            reference,
        )
        lines = self.server.run(*words).stdout.split()
        return next(line.removeprefix("VERSION=") for line in lines if line.startswith("VERSION="))

    @contextlib.contextmanager
    def registry_silent(self) -> Iterator[None]:
        """While the registry takes connections, and answers none."""
        words = ("-f", "^docker-registry serve")
        self.server.run("pkill", "-STOP", *words)
        try:
            yield
        finally:
            self.server.run("pkill", "-CONT", *words)

    def restart_engine(self) -> None:
        """The server's engine ends and comes back, its containers too; and the proxy, which lives in one of them."""
        pid = self.server.run("cat", "/run/docker.pid").stdout.strip()
        self.server.run("kill", pid)
        eventually(lambda: self.server.run("kill", "-0", pid, check=False).returncode != 0, 60, "the engine ends")
        eventually(lambda: self.server.run("docker", "version", check=False).returncode == 0, 60, "the engine is back")
        self.front.restart()

    def asked(
        self, seconds: float = 0.5, places: Sequence[Place] = EVERYWHERE
    ) -> contextlib.AbstractContextManager[list[str]]:
        """Asks the domains all the time while the block runs: a line an answer, complete when it ends."""
        urls = [f"https://{domain(place)}/" for place in places]
        return self.server.beside(sys.executable, str(HERE / "asker.py"), str(seconds), *urls)


def done(runs: Sequence[Run]) -> list[Run]:
    """Waits for all of them, which have to be green."""
    for run in runs:
        assert run.wait().green, f"{run.workflow}: {json.dumps(run.jobs())}\n{run.tail}"
    return list(runs)


@contextlib.contextmanager
def world(name: str, act: str, disk: str = "6g", name_cache: int = NAME_CACHE) -> Iterator[World]:
    """A world in which version one of both services serves everywhere."""
    tree = GENERATED if name == "ours" else LITERAL
    with throw_away(tree, disk) as server:
        if name != "ours":
            lay_out_literally(server)
        yield World(server, name, act, name_cache)


def lay_out_literally(server: Server) -> None:
    """What the design's checklist asks for and ours does not: a key that opens a shell, and a login on the server."""
    (server.home / ".ssh/authorized_keys").write_text((server.folder / "keys/ci.pub").read_text())
    login = f"printf '%s' {shlex.quote(TOKEN)} | docker login ghcr.io -u x-access-token --password-stdin"
    server.by_hand(login, check=True)
