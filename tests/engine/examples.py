"""An example spec on trial: all that it generates, in a checkout and on a server, and what deploys of it come to."""

import contextlib
import re
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kiwari_ci import generator
from kiwari_ci.file_output.generated_files import write_files
from kiwari_ci.plan_model import ComposeStack, ServiceContainer
from tests.engine.deploy_jobs import DeployJobs
from tests.engine.fronts import PROGRAMS
from tests.engine.images import Images
from tests.engine.proxy import Answers, Proxy
from tests.engine.server import HERE, TOKEN, UID, USER, Result, Server, eventually, files_checksum
from tests.engine.shop import allow
from tests.rehearsal import stand_ins

SPECS = HERE.parents[1] / "specs/examples"
FILLED = "filled-in"
# The proxy before an example keeps a name for a second, and its compose files say so: other tests try what each kind of
# proxy keeps, for which every deploy would wait half a minute.
KEEPS, NAME_CACHE = 1, 2
FILES = 65536  # that a container of an example may open: as many as this machine lets its own, if these are fewer

# What a company's own registry knows: another login than ghcr.io's, by the name that the spec gives.
PULL_TOKEN, PULL_BCRYPT = "pull'$token", "$2b$04$8oMvc9wWOFM1tmfNMw1aKOdcGwNzqNzn/fHu/KHbsGk21WTM2U2zK"

SETTINGS = {
    "github.token": TOKEN,
    "secrets.REGISTRY_PULL_TOKEN": PULL_TOKEN,
    "secrets.APP_KEY": "base64:+/q$x=",
    "secrets.DB_PASSWORD": "it's #1",
    "secrets.MAIL_PASSWORD": 'a "quoted" \\ word',
    "vars.MAIL_HOST": "mail.example.com",
}

# Each program of the applications: it says what it was told, and goes on where the real one would.
NAMES = ("python", "php", "celery", "redis-server", "redis-cli", "mysqladmin")
PROGRAM = """\
#!/bin/sh
case " $*" in
  *" worker"*|*" beat"*|*" queue:work"*|*" schedule:work"*|*--appendonly*)
    [ "$BEHAVIOUR" = exits ] || BEHAVIOUR=works
    exec serve ;;
esac
echo "version $VERSION: ${0##*/} $*"
"""
DOCKERFILE = """\
FROM scratch
ARG VERSION BEHAVIOUR PORT
ENV VERSION=$VERSION BEHAVIOUR=$BEHAVIOUR PORT=$PORT
COPY root /
CMD ["serve"]
"""


class StandIns(Images):
    """Images in the place of the applications': a shell, the small service, and scripts for what they call."""

    def __init__(self, images: Images, registry: str) -> None:
        self.server, self.login, self.registry, self.pushed = images.server, images.login, registry, {}
        self.context = self.server.folder / "stand-in"
        if not self.context.exists():
            self._fill(images.context / "app")

    def publish(self, image: str, version: str, behaviour: str, port: int, label: str = "") -> str:
        """Builds one version, pushes it, and returns its digest; no copy stays with the engine."""
        docker = self.server.docker
        self.build(image, version, behaviour, port, label)
        docker("--config", self.login, "push", "-q", image)
        digest = docker("inspect", "-f", "{{index .RepoDigests 0}}", image).partition("@")[2]
        docker("rmi", image)
        return digest

    def _fill(self, app: Path) -> None:
        programs = self.context / "root/usr/bin"
        programs.mkdir(parents=True)
        (self.context / "Dockerfile").write_text(DOCKERFILE)
        for name in ("bin", "lib", "lib64"):
            (self.context / "root" / name).symlink_to(f"usr/{name}")
        libraries = "usr/lib64 usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 usr/lib/x86_64-linux-gnu/libc.so.6"
        fill = f"tar -C {PROGRAMS} -c {libraries} usr/bin/sh usr/bin/dash | tar -x -C {self.context}/root"
        subprocess.run(["bash", "-euo", "pipefail", "-c", fill], check=True)
        shutil.copy(app, programs / "serve")
        for name in NAMES:
            (programs / name).write_text(PROGRAM)
            (programs / name).chmod(0o755)


class Example:
    """A spec's files, as a checkout has them, and on a server that is as the runbook leaves it."""

    def __init__(self, server: Server, name: str) -> None:
        self.server, self.name = server, name
        spec = server.folder / f"{name}.yaml"
        most = min(FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        spec.write_text((SPECS / spec.name).read_text().replace(f"nofile: {FILES}", f"nofile: {most}"))
        self.plan, tree = generator.generate_files(spec)
        (self.host,) = self.plan.hosts
        self.staging, self.production = self.plan.compose_stacks
        self.folder = server.folder / "example"
        self.checkout = self.folder / "checkout"
        self.checkout.mkdir(parents=True)
        write_files(self.checkout, tree, self.plan.project)
        for compose_file in self.checkout.glob("deploy/*/docker-compose.yml"):
            waiting = re.sub(r'name-cache: "[1-9][0-9]*"', f'name-cache: "{NAME_CACHE}"', compose_file.read_text())
            compose_file.write_text(waiting)
        for stack in self.plan.compose_stacks:
            for path in stack.files:
                if not (self.checkout / path).exists():
                    (self.checkout / path).write_text(f"; a file of one's own, for {stack.name}\n")
        self.jobs = DeployJobs(server, self.checkout, self.folder, {**SETTINGS, **self._access()})
        self._place()

    def _access(self) -> dict[str, str]:
        """Steps 3 to 5 of the runbook: what GitHub is told about the server, and its keys."""
        settings = {}
        for key in self.host.keys:
            allow(self.server, key.secret, " ".join(key.words))
            settings[f"secrets.{key.secret}"] = (self.server.folder / "keys" / key.secret).read_text()
        address = f"[127.0.0.1]:{self.host.port}" if self.host.port else "127.0.0.1"
        settings[self.host.address.expression] = "127.0.0.1"
        settings[self.host.user.expression] = USER
        settings[self.host.known_hosts.expression] = f"{address} {(self.server.folder / 'keys/host.pub').read_text()}"
        return settings

    def _place(self) -> None:
        """Steps 1 and 2 of the runbook: files, and env files as the examples have them."""
        shutil.copytree(self.checkout / "deploy", self.server.docker_folder, dirs_exist_ok=True)
        for example in self.server.docker_folder.glob("*/*.env.example"):
            shutil.copy(example, example.with_suffix(""))
        subprocess.run(["chown", "-R", f"{UID}:{UID}", self.server.docker_folder], check=True)

    def fill(self) -> None:
        """What a person puts where an example says change-me, or nothing."""
        for path in self.server.docker_folder.glob("*/*.env"):
            path.write_text(path.read_text().replace("change-me", FILLED).replace("=''", f"='{FILLED}'"))

    def deploy(self, stack: ComposeStack, digests: Mapping[str, str]) -> Result:
        """Runs the step of every workflow that deploys this stack, until one is red; digests: of each service built."""
        return self.jobs.deploy(stack, "*-ci.yml" if stack == self.staging else "promote.yml", digests)

    def running(self, stack: ComposeStack) -> dict[str, str]:
        """The digest that each process of ours in a stack was made from, by its container."""
        existing = set(self.server.docker("ps", "--format", "{{.Names}}").split())
        names = [instance.container for instance in stack.instances if instance.container in existing]
        return {name: self.server.digest(name) for name in names}

    def answer(self, instance: ServiceContainer) -> str:
        """The version that a container answers with."""
        form = f'{{{{(index .NetworkSettings.Networks "{self.host.network}").IPAddress}}}}:{instance.port}'
        url = f"http://{self.server.docker('inspect', '-f', form, instance.container)}{instance.health_path}"
        return self.server.run("curl", "-sf", "-m", "3", url, check=False).stdout


@dataclass(frozen=True)
class Seen:
    """What a deploy said, what runs after it, and what the service that is asked answers."""

    returncode: int
    output: str
    runs: dict[str, str]
    answers: str


@dataclass
class Trial:
    """Everything that was done with one example, in this order; `digests`: version → service → digest."""

    example: Example
    digests: dict[str, dict[str, str]] = field(default_factory=dict)
    seen: dict[str, Seen] = field(default_factory=dict)
    asked: Answers = field(default_factory=Answers)

    @property
    def web(self) -> ServiceContainer:
        """The service that is asked."""
        return self.example.staging.instances[0]

    def expected(self, stack: ComposeStack, version: str) -> dict[str, str]:
        """What runs when all of a stack's processes are of one version."""
        return {instance.container: self.digests[version][instance.source] for instance in stack.instances}

    def see(self, name: str, stack: ComposeStack, do: Callable[[], Result]) -> None:
        """Does something, and looks at the stack afterwards."""
        result = do()
        first = stack.instances[0]
        runs = self.example.running(stack)
        answer = self.example.answer(first) if first.container in runs else ""
        self.seen[name] = Seen(result.returncode, result.stdout, runs, answer)

    def build(self, images: Images) -> None:
        """Two good versions, and one that exits."""
        for version in ("one", "two", "bad"):
            self.digests[version] = {}
            for instance in self.example.staging.instances:
                if instance.service == instance.source:
                    name, behaviour = instance.repository.rpartition("/")[2], "exits" if version == "bad" else "answers"
                    digest = images.push(name, f"{name}-{version}", behaviour, instance.port)
                    self.digests[version][instance.source] = digest

    def run(self, images: Images, proxy: Proxy) -> "Trial":
        """The whole life of an example, from what a person forgot to the way back."""
        self.build(images)
        example = self.example
        staging, production = example.staging, example.production
        forgotten = example.jobs.settings.pop("secrets.DB_PASSWORD")
        self.see("forgotten", staging, lambda: example.deploy(staging, self.digests["one"]))
        example.jobs.settings["secrets.DB_PASSWORD"] = forgotten
        example.fill()
        prepare(example)
        self.see("first", staging, lambda: example.deploy(staging, self.digests["one"]))
        assert self.seen["first"].returncode == 0, self.seen["first"].output
        with proxy.before(self.web.container, KEEPS, self.web.port), proxy.asked() as self.asked:
            self.see("second", staging, lambda: example.deploy(staging, self.digests["two"]))
            self.see("bad", staging, lambda: example.deploy(staging, self.digests["bad"]))
        self.see("strange", production, lambda: example.deploy(production, self.digests["bad"]))
        self.see("promoted", production, lambda: example.deploy(production, self.digests["two"]))
        back = f"docker/bin/deploy rollback {staging.name} {staging.instances[-1].container}"
        self.see("back", staging, lambda: example.server.as_person(back))
        if any(hook.name == "after" for hook in production.hooks):
            self.see("by hand", production, lambda: self._by_hand(production))
        return self

    def _by_hand(self, stack: ComposeStack) -> Result:
        """A person deploys what staging served before."""
        example, instance = self.example, stack.instances[0]
        files = files_checksum(example.server.docker_folder / stack.name)
        image = f"{instance.container}={self.digests['one'][instance.source]}"
        return example.server.as_person(f"docker/bin/deploy deploy 1 {stack.name} 9 {files} 1 {image}")


def prepare(example: Example) -> None:
    """Step 6 of the runbook: the networks, and PostgreSQL in a stack of its own."""
    names = {name for stack in example.plan.compose_stacks for name in stack.networks}
    owned = {server.network for server in example.plan.servers if server.owns_network}
    existing = set(example.server.docker("network", "ls", "--format", "{{.Name}}").split())
    for name in names - owned - existing:
        example.server.docker("network", "create", name)
    for server in example.plan.servers:
        stand_ins.postgres(example.server, server.image)
        example.server.by_hand(f"cd docker/{server.name} && docker compose up -d --wait", check=True)


@contextlib.contextmanager
def answering(server: Server, port: int) -> Iterator[None]:
    """While sshd answers on another port, too."""
    words = f"/usr/sbin/sshd -D -e -f {server.folder}/sshd_config -o ListenAddress=127.0.0.1:{port}"
    with server.beside("bash", "-c", f"{words} & cat; kill $!"):
        probe = ("bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}")
        eventually(lambda: server.run(*probe, check=False).returncode == 0, 10, "the other port answers")
        yield


def know(images: Images, host: str, user: str) -> None:
    """Lets the registry answer by another name, to another login."""
    server = images.server
    hosts = server.folder / "etc/hosts"
    hosts.write_text(hosts.read_text().replace(" ghcr.io ", f" ghcr.io {host} "))
    with (server.folder / "htpasswd").open("a") as logins:
        logins.write(f"{user}:{PULL_BCRYPT}\n")
    words = ("docker", "--config", images.login, "login", host, "-u", user, "--password-stdin")
    eventually(
        lambda: server.run(*words, check=False, stdin=PULL_TOKEN).returncode == 0, 10, "dockerd reads /etc/hosts"
    )
