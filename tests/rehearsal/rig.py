"""A machine on which something serves, while the host program is run there and killed; and what is then to be so."""

import base64
import contextlib
import dataclasses
import itertools
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from kiwari_ci.engines.compose.deploy_programs import deploy as deploy_program
from tests.engine.images import Images
from tests.engine.proxy import Answers, Proxy
from tests.engine.server import TOKEN, UID, Result, Server, eventually
from tests.engine.shop import service_text

API, WORKER = "pos-api-staging", "jobs-worker"
VERSIONS = ("one", "two", "three", "four")  # one more than the program keeps: each is removed, and pulled again
SECRETS = TOKEN + "\n" + base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()  # as it came, as docker keeps it
NAME_CACHE_SECONDS = 2  # for which the proxy of a rig keeps a name, and one more: kills are many
PROGRAM, DOCKER = "program", "docker"
BEFORE, WITHIN, AFTER = "before", "within", "after"


@dataclasses.dataclass(frozen=True)
class Run:
    """A deploy that is killed: of which service, and how its image behaves."""

    name: str
    service: str = API
    behaviour: str = "answers"

    @property
    def is_good(self) -> bool:
        """Whether the deploy succeeds when nobody kills it."""
        return self.behaviour in ("answers", "works")


@dataclasses.dataclass(frozen=True)
class Kill:
    """One kill at one of docker's calls of a run; afterwards comes the same deploy again, or a newer version."""

    run: Run
    number: int
    call: str
    who: str
    when: str
    is_same_again: bool

    def __str__(self) -> str:
        following = "the same again" if self.is_same_again else "a newer version"
        place = f"{self.when} call {self.number}: {short(self.call)}"
        return f"{self.run.name}, {self.who} killed {place}, then {following}"

    @property
    def leaves_container_without_network(self) -> bool:
        """Whether the program ends between the two calls that change the names of a temporary container.

        Docker can change names only by a disconnect and a connect. In between, the container is on no network, and
        requests that a proxy sends to its address fail until the proxy looks up the name again.
        """
        if self.who != PROGRAM:
            return False
        call = short(self.call)
        is_after_disconnect = call.startswith("network disconnect") and self.when in (WITHIN, AFTER)
        return is_after_disconnect or (call.startswith("network connect") and self.when == BEFORE)


@dataclasses.dataclass(frozen=True)
class Request:
    """The words of a deploy, and the image that it is to bring into service."""

    words: str
    digest: str


GOOD = Run("a good image")
EXITS = Run("an image that exits", behaviour="exits")
ONLY_BESIDE = Run("an image that works beside only", behaviour="wants-to-be-alone")
WORKS = Run("a worker", WORKER, "works")
WORKER_EXITS = Run("a worker that exits", WORKER, "exits")
RUNS = (GOOD, EXITS, ONLY_BESIDE, WORKS, WORKER_EXITS)


def short(call: str) -> str:
    """The words of a call that tell it from the others."""
    call = re.sub(r"^compose .* -f \S+ ", "compose ", call)
    call = re.sub(r"^--config \S+ ", "", call)
    return re.sub(r"\S+@sha256:([0-9a-f]{6})[0-9a-f]*", r"\1", call)


def longest_silence(answers: Answers) -> float:
    """The longest time without one good answer, in seconds."""
    good = sorted(answer.asked + answer.waited for answer in answers if answer.status == 200)
    moments = [0.0, *good, max(answer.asked for answer in answers)]
    return max(after - before for before, after in itertools.pairwise(moments))


class Rig:
    """A machine on which something serves, and is asked for every 50 ms through nginx."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.images = Images(server)
        self.proxy = Proxy(server, self.images)
        self.versions = itertools.cycle(VERSIONS)
        self.digests: dict[tuple[str, str, str], str] = {}
        self.kills = server.folder / "kills"
        self.write_compose_files()
        self.replace_docker()
        for service in (API, WORKER):
            self.deploy(service)

    # What is laid out before

    def write_compose_files(self) -> None:
        """The API keeps its generated settings, but for the proxy's; a worker is all that the other stack has."""
        file = self.server.stack_file(API, "docker-compose.yml")
        label = 'deploy.name-cache: "{}"'
        text = file.read_text()
        assert label.format(11) in text
        file.write_text(text.replace(label.format(11), label.format(NAME_CACHE_SECONDS)))
        worker = self.server.stack_file(WORKER, "docker-compose.yml")
        worker.write_text("name: pos-production\nservices:\n" + service_text(WORKER, port=None))
        self.server.run("chown", f"{UID}:{UID}", str(worker))

    def replace_docker(self) -> None:
        """Put `kill.sh` in the place of the docker that the host program finds."""
        self.kills.mkdir()
        for name in ("calls", "kill"):
            (self.kills / name).touch()
        self.server.run("chown", "-R", f"{UID}:{UID}", str(self.kills))
        docker = shutil.which("docker", path=deploy_program.PATH)
        assert docker
        real, stand_in = self.server.folder / "docker", self.server.folder / "kill.sh"
        shutil.copy(docker, real)
        body = Path(__file__).with_name("kill.sh").read_text()
        stand_in.write_text(f'#!/bin/sh\nREAL="{real}"\nFOLDER="{self.kills}"\n{body}')
        stand_in.chmod(0o755)
        self.server.run("mount", "--bind", str(stand_in), docker)

    # Deploys

    def run(self, words: str, kill: Kill | None = None) -> Result:
        """Runs the host program, to its end or to a kill."""
        (self.kills / "struck").unlink(missing_ok=True)
        (self.kills / "calls").write_text("")
        (self.kills / "kill").write_text(f"{kill.number} {kill.who} {kill.when}\n" if kill else "")
        return self.server.as_person(f"docker/bin/deploy {words}")

    def calls(self) -> list[str]:
        """The calls of the last run that change something."""
        return (self.kills / "calls").read_text().splitlines()

    def request(self, run: Run) -> Request:
        """A deploy of a new version, as of a new commit."""
        version = next(self.versions)
        digest = self.images.push("kiwari-api", version, run.behaviour)
        self.digests[run.service, version, run.behaviour] = digest
        return Request(self.server.words(run.service, digest, self.server.commit()), digest)

    def deploy(self, service: str) -> str:
        """Deploys a new version that is good; returns its digest."""
        run = GOOD if service == API else WORKS
        request = self.request(run)
        check_end(run, self.run(request.words))
        return request.digest

    def make_ready(self, run: Run) -> Request:
        """Makes things as that run is to find them."""
        if self.problems(run.service):
            self.forget(run.service)
            self.deploy(run.service)
        return self.request(run)

    def forget(self, service: str) -> None:
        """Removes what there is of a service, as before its first deploy."""
        names = [f"{service}{suffix}" for suffix in ("", "-next", "-previous", "-before")]
        self.server.docker("rm", "-fv", *names, check=False)
        self.server.stack_file(service, f".deploys/{service}").unlink(missing_ok=True)

    # Trials

    @contextlib.contextmanager
    def asked(self, run: Run, may_fail: bool = False) -> Iterator[None]:
        """Asks for the API through nginx while the block runs: each request must be answered.

        An image that works beside only may lose some: it is started again and again, and takes connections with it.
        """
        if run.service != API:
            yield
            return
        began = time.monotonic()
        with self.proxy.before(API, keeps=NAME_CACHE_SECONDS - 1), self.proxy.asked() as answers:
            yield
        seconds = time.monotonic() - began
        assert len(answers) > 2 * seconds, f"{len(answers)} answers in {seconds:.0f} s"
        silence, failed = longest_silence(answers), answers.failed()
        may_fail = may_fail or run is ONLY_BESIDE
        assert silence < 5 and (may_fail or not failed), f"{answers}, none for {silence:.1f} s: {failed[:3]}"

    def calls_of(self, run: Run) -> list[str]:
        """Runs it to its end, and returns the calls that change something."""
        request = self.make_ready(run)
        with self.asked(run):
            check_end(run, self.run(request.words))
        return self.calls()

    def trial(self, kill: Kill) -> list[str] | None:
        """Does it; returns what was not as it must be, or None when the run did not come to that call."""
        try:
            request = self.make_ready(kill.run)
            with self.asked(kill.run, may_fail=kill.leaves_container_without_network):
                result = self.run(request.words, kill)
                if not (self.kills / "struck").exists():
                    return None
                self.check_killed(kill, request, result)
                digest = self.follow(kill, request)
        except (AssertionError, subprocess.SubprocessError) as error:
            return [str(error)]
        return self.problems(kill.run.service, digest)

    def check_killed(self, kill: Kill, request: Request, result: Result) -> None:
        """What the run says when it was killed; green is right only if the image serves."""
        if kill.who == PROGRAM:
            assert result.returncode == 1, result.stdout
            assert "was killed by signal 9" in result.stdout, result.stdout
        elif result.returncode == 0:
            problems = self.problems(kill.run.service, request.digest)
            assert kill.run.is_good and not problems, f"green, and {problems}:\n{result.stdout}"
        if kill.run.service == WORKER:
            eventually(lambda: not self.server.locked(), 30, "what the program had begun has ended")
            running = self.server.docker("ps", "--format", "{{.Names}}", "--filter", f"name=^{WORKER}").split()
            assert len(running) < 2, f"two workers run: {running}"

    def follow(self, kill: Kill, request: Request) -> str:
        """What comes after the kill: at once the same again, or later a newer version; returns what is to serve."""
        if kill.is_same_again:
            check_end(kill.run, self.run(request.words))
            if kill.run.is_good:
                return request.digest
        eventually(lambda: not self.server.locked(), 30, "what the program had begun has ended")
        time.sleep(NAME_CACHE_SECONDS)  # the proxy asks for the name again
        return self.deploy(kill.run.service)

    def problems(self, service: str, digest: str = "") -> list[str]:
        """What is not so that is so after a deploy, of that image if it is named."""
        server, record = self.server, self.server.record(service)
        containers = server.containers()
        if not record or service not in containers:
            return [f"no {service}"]
        image, sequences = record[-1][0], [int(line[1]) for line in record]
        searched = (str(server.home), "/dev/shm")
        with_secrets = server.run("grep", "-rlFf", "-", *searched, check=False, stdin=SECRETS).stdout
        others = containers - {API, WORKER, "proxy-manager"}
        archives = [str(path) for path in server.docker_folder.glob("*/.deploys/incoming-*")]
        answers = {version for (_, version, _), known in self.digests.items() if f"@{known}" in image}
        policy = server.docker("inspect", "-f", "{{.HostConfig.RestartPolicy.Name}} {{.State.Status}}", service)
        facts = {
            f"the record ends with {image}": digest in image,
            f"pinned is {server.pinned(service)}": server.pinned(service) == image,
            f"the container is of {server.image(service)}": server.image(service) == image,
            f"it answers {server.serves(service)}": service == WORKER or server.serves(service) in answers,
            f"it is {policy}": policy == "unless-stopped running",
            f"the sequences are {sequences}": sequences == sorted(sequences),
            f"there is also {others}": not others,
            f"left is {archives} {server.tokens()}": not archives and not server.tokens(),
            f"a secret is in {with_secrets}": not with_secrets,
            "the lock is held": not server.locked(),
        }
        return [fact for fact, is_so in facts.items() if not is_so]


def check_end(run: Run, result: Result) -> None:
    """A run that was not killed is green with a good image, and red with a bad one."""
    assert (result.returncode == 0) == run.is_good, f"{result.returncode}:\n{result.stdout}"
