"""A machine on which something serves, while the host script is run there and killed; and what is then to be so."""

import base64
import contextlib
import dataclasses
import itertools
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.engine.images import Images
from tests.engine.proxy import Answers, Proxy
from tests.engine.server import TOKEN, UID, Result, Server, eventually
from tests.engine.shop import service_text

WORKER = "jobs-worker"
API, ADMIN = "pos-api-staging", "pos-admin-staging"
IMAGES = {API: ("kiwari-api", 8081), ADMIN: ("kiwari-admin", 3000), WORKER: ("kiwari-api", 8081)}
VERSIONS = ("one", "two", "three", "four")  # one more than the script keeps: each is removed, and pulled again
SECRETS = TOKEN + "\n" + base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()  # as it came, as docker keeps it


@dataclasses.dataclass(frozen=True)
class Run:
    """A run of the script to be killed at its commands, from the first that does not begin as in a plain deploy."""

    name: str
    service: str = API
    behaviour: str = "answers"  # the image's; with a bad one the run is red, and what served goes on
    begins: str = ""
    ends: str = ""


@dataclasses.dataclass(frozen=True)
class Kill:
    """One kill: when a run comes to a command for the so-manyeth time; the same again follows, or a newer version."""

    run: Run
    line: str
    command: str  # as bash quotes it
    count: int
    again: bool
    waits: int = 2  # seconds, where the script says 11
    after: str = ""  # so many seconds in the command, and with everything that the script has started

    def __str__(self) -> str:
        follows = "same again" if self.again else "newer"
        at = f"{self.run.name}, line {self.line}: {plain(self.command)[:60]} ({self.count})"
        after = f", with all it has started, after {self.after} s" if self.after else ""
        return f"{at}{after}, {follows}{', full length' if self.waits == 11 else ''}"

    def words(self) -> tuple[str, ...]:
        """What `kill.bash` is told."""
        return (f"KILL_AT={self.command}", f"KILL_COUNT={self.count}", f"KILL_ALL={self.after}")


@dataclasses.dataclass(frozen=True)
class Aim:
    """What a run is told, what it is told when it is to do the same again, and the image that is then to serve."""

    words: str
    again: str
    digest: str


DEPLOY, CLEARING = Run("deploy"), Run("clearing after a kill", begins="rejoin", ends="[ ! -e $pins ]")
ROLLBACK, FIRST = Run("rollback", begins='[ "$verb" = deploy ]'), Run("first deploy", ADMIN, begins='look "$service"')
BEHIND = Run("worker", WORKER, begins="moved=yes")
EXITS = Run("image that exits", API, "exits", begins="docker compose -f $file -f .try.yml run")
ALONE = Run("image that works only beside", API, "wants-to-be-alone", begins="docker compose up")
RUNS = (DEPLOY, CLEARING, ROLLBACK, FIRST, BEHIND, EXITS, ALONE)


def plain(command: str) -> str:
    """A command as it stands in the script, of what bash has quoted."""
    return command.replace("\\", "")


def silence(answers: Answers) -> float:
    """The longest time without one good answer, in seconds."""
    good = sorted(answer.asked + answer.waited for answer in answers if answer.status == 200)
    return max(
        after - before for before, after in itertools.pairwise([0.0, *good, max(each.asked for each in answers)])
    )


class Rig:
    """A machine on which something serves, and is asked for every 50 ms through nginx."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.images = Images(server)
        self.proxy = Proxy(server, self.images)
        self.versions = itertools.cycle(VERSIONS)
        self.digests: dict[tuple[str, str, str], str] = {}
        self.traces = server.folder / "traces"
        self.traces.mkdir()
        self.said = 0
        shutil.copy(Path(__file__).with_name("kill.bash"), server.folder)
        worker = server.stack_file(WORKER, "docker-compose.yml")
        worker.write_text("name: jobs\nservices:\n" + service_text(WORKER, port=None))
        server.run("chown", f"{UID}:{UID}", str(self.traces), str(worker))
        self.deploy(API)
        self.deploy(API)

    def digest(self, service: str, version: str, behaviour: str) -> str:
        """An image for that service."""
        name, port = IMAGES[service]
        behaviour = "works" if service == WORKER else behaviour
        digest = self.digests[service, version, behaviour] = self.images.push(name, version, behaviour, port)
        return digest

    def trace(self) -> Path:
        """The lines and commands that the last run of the script came to."""
        return self.traces / str(self.said)

    def say(self, words: str, waits: int, *kill: str) -> Result:
        """Runs the script, to its end or to a kill."""
        self.said += 1
        env = (f"BASH_ENV={self.server.folder}/kill.bash", f"KILL_LOG={self.trace()}", f"KILL_PAUSE={waits}", *kill)
        return self.server.as_person(f"{shlex.join(['setsid', 'env', *env])} docker/bin/deploy {words}")

    def aim(self, service: str, behaviour: str = "answers") -> Aim:
        """A deploy of a new version, as of a new commit."""
        digest = self.digest(service, next(self.versions), behaviour)
        words = self.server.words(service, digest, self.server.commit())
        return Aim(words, words, digest)

    def back(self) -> Aim:
        """A rollback of a new version, to what served before it."""
        digest = self.server.record(API)[-1][0].partition("@")[2]
        while self.deploy(API) == digest:
            pass  # the version that the last trial went back to
        return Aim(f"rollback pos-staging {API}", f"rollback pos-staging {API} {digest}", digest)

    def deploy(self, service: str, waits: int = 2) -> str:
        """Deploys a new version that answers; returns its digest."""
        aim = self.aim(service)
        self.ended(DEPLOY, self.say(aim.words, waits))
        return aim.digest

    def ready(self, run: Run) -> Aim:
        """Makes things as that run is to find them."""
        if self.amiss(API):
            self.anew(API)
        if run is BEHIND and self.amiss(WORKER):
            self.anew(WORKER)
        if run is FIRST:
            self.forget(ADMIN)
        if run is CLEARING:
            self.say(self.aim(API).words, 2, "KILL_AT=moved=yes", "KILL_COUNT=1")
        return self.back() if run is ROLLBACK else self.aim(run.service, run.behaviour)

    def anew(self, service: str) -> None:
        """Brings a service to a known state."""
        self.forget(service)
        self.deploy(service)
        self.deploy(service)

    def forget(self, service: str) -> None:
        """Removes what there is of a service, as before its first deploy."""
        self.server.run("docker", "rm", "-fv", service, f"{service}-next", check=False)
        self.server.stack_file(service, f".deploys/{service}").unlink(missing_ok=True)

    @contextlib.contextmanager
    def asked(self, waits: int, all_answered: bool) -> Iterator[None]:
        """Asks through nginx while the block runs: all must be answered, or at least someone every few seconds.

        Not all when an address dies with the connections to it, of a container that flaps or is cut off for good.
        """
        began = time.monotonic()
        with self.proxy.before(API, keeps=waits - 1), self.proxy.asked() as answers:
            yield
        seconds = time.monotonic() - began
        assert len(answers) > 5 * seconds, f"{len(answers)} answers in {seconds:.0f} s"
        silent, failed = silence(answers), answers.failed()
        assert silent < 5 and not (all_answered and failed), f"{answers}, none for {silent:.1f} s: {failed[:3]}"

    def commands(self, run: Run) -> list[tuple[str, str]]:
        """Runs it to its end: the line and the text of each command that it executes."""
        aim = self.ready(run)
        with self.asked(2, run is not ALONE):
            self.ended(run, self.say(aim.words, 2))
        trace = [at.partition(" ") for at in self.trace().read_text().splitlines()]
        self.deploy(run.service)
        return [(line, command) for line, _, command in trace]

    def trial(self, kill: Kill) -> list[str] | None:
        """Does it; says what was not as it must be, or nothing when the run did not come to that command."""
        try:
            for _ in range(3):
                aim = self.ready(kill.run)
                with self.asked(kill.waits, kill.run is not ALONE and not kill.after):
                    said = self.say(aim.words, kill.waits, *kill.words())
                    if said.returncode == 137:
                        digest = self.following(kill, aim)
                if said.returncode == 137:
                    return self.amiss(kill.run.service, digest)
                self.ended(kill.run, said)
        except (AssertionError, subprocess.SubprocessError) as error:
            return [str(error)]
        return None

    def ended(self, run: Run, said: Result) -> None:
        """A run that was not killed is green with a good image, and red with a bad one."""
        assert (said.returncode == 0) == (run.behaviour == "answers"), f"{said.returncode}:\n{said.stdout}"

    def following(self, kill: Kill, aim: Aim) -> str:
        """What comes after the kill: at once the same again, or later a newer version; returns what is to serve."""
        if kill.again:
            self.ended(kill.run, self.say(aim.again, kill.waits))
            if kill.run.behaviour == "answers":
                return aim.digest
        eventually(lambda: not self.server.locked(), 30, "what the script had begun has ended")
        time.sleep(kill.waits)  # the proxy asks for the name again
        return self.deploy(kill.run.service, kill.waits)

    def amiss(self, service: str, digest: str = "") -> list[str]:
        """What is not so that is so after a deploy, of that image if it is named."""
        server, record = self.server, self.server.record(service)
        if not record or service not in server.containers():
            return [f"no {service}"]
        image, sequences = record[-1][0], [int(line[1]) for line in record]
        found = server.run("grep", "-rlFf", "-", str(server.home), "/dev/shm", check=False, stdin=SECRETS).stdout
        beside = server.containers() - {*IMAGES, "proxy-manager"}
        left = [str(path) for name in (".try.yml", ".pin.yml") for path in server.docker_folder.glob(f"*/{name}")]
        answers = {version: d for (_, version, _), d in self.digests.items() if f"@{d}" in image}
        facts = {
            f"the record ends with {image}": digest in image,
            f"pinned is {server.pinned(service)}": server.pinned(service) == image,
            f"the container is of {server.image(service)}": server.image(service) == image,
            f"it answers {server.serves(service)}": service == WORKER or server.serves(service) in answers,
            f"the sequences are {sequences}": sequences == sorted(sequences),
            f"there is also {beside}": not beside,
            f"left is {left} {server.tokens()}": not left and not server.tokens(),
            f"a secret is in {found}": not found,
            "the lock is held": not server.locked(),
            f"the neighbours are pinned to {server.pinned(ADMIN)}": self.neighbour(),
        }
        return [fact for fact, so in facts.items() if not so]

    def neighbour(self) -> bool:
        """Whether the other service of the stack is pinned to what its record says."""
        record = self.server.record(ADMIN)
        return self.server.pinned(ADMIN) == (record[-1][0] if record else None)
