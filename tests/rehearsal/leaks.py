"""Where secrets get to while a pipeline does its whole work: arguments of every program, logs, files, images.

strace follows the runner, sshd and both engines, so that no program is too short-lived to be seen.
"""

import base64
import contextlib
import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.engine.server import TOKEN
from tests.rehearsal.on_trial import act
from tests.rehearsal.world import World, world

ENV_VALUE = "jwt-Zr9$quoted"
PLACES = ("an argument", "a log", "a file left on the server", "a file left on the runner", "an image")
# The design's own: `docker login` on the server, and the deploy key in the runner's home.
KNOWN = {"ours": set[str](), "literal": {"a file left on the server", "a file left on the runner"}}


def forms(world: World) -> dict[str, bytes]:
    """Every secret, in the forms in which it could stand somewhere."""
    keys = {f"deploy key, line {n}": line for n, line in enumerate(world.secrets()[1:])}
    login = base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()
    texts = {"registry token": TOKEN, "registry login": login, "value of an env file": ENV_VALUE, **keys}
    quoted = {f"{name}, quoted": json.dumps(text)[1:-1] for name, text in texts.items()}
    return {name: text.encode() for name, text in (texts | quoted).items()}


@contextlib.contextmanager
def watched(world: World, log: Path) -> Iterator[None]:
    """Writes down every program that the machine starts, its arguments in hexadecimal."""
    pids = world.server.run("pgrep", "-f", "sbin/(sshd|dockerd) |^containerd ").stdout.split()
    words = ["strace", "-f", "-qq", "-xx", "-s", "65536", "-e", "trace=execve,execveat", "-o", str(log)]
    with_pids = [word for pid in pids for word in ("-p", pid)]
    tracer = subprocess.Popen(world.server.inside(*words, *with_pids), stderr=subprocess.DEVNULL)
    world.github.act = f"{world.server.folder}/act"
    Path(world.github.act).write_text(f'#!/bin/sh\nexec {" ".join(words[:-1])} "{log}.$$" {act()} "$@"\n')
    Path(world.github.act).chmod(0o755)
    try:
        yield
    finally:
        world.server.run("pkill", "-INT", "-x", "strace")
        tracer.wait(30)


def arguments(log: Path) -> bytes:
    """All arguments of all programs; the environments are not written down."""
    recorded = b""
    for file in log.parent.glob(f"{log.name}*"):
        for line in file.read_text().splitlines():
            if "execve" in line and '["' in line:
                words = line.partition("[")[2].partition("]")[0]
                recorded += bytes.fromhex(
                    "".join(words.replace("\\x", " ").replace('"', " ").replace(",", " 0a ").split())
                )
    for program in (b"bin/deploy", b"deploy-over-ssh", b"sshd", b"runc", b"buildx"):
        assert program in recorded, f"{program!r} was not seen"
    return recorded


def files(*folders: Path, without: tuple[str, ...] = ()) -> bytes:
    """What lies in all files of these folders."""
    paths = (path for folder in folders for path in sorted(folder.rglob("*")) if not {*path.parts} & {*without})
    return b"\n".join(path.read_bytes() for path in paths if path.is_file() and not path.is_symlink())


def blobs(folder: Path) -> bytes:
    """What lies in the registry: manifests, configs, layers."""
    raw = [path.read_bytes() for path in folder.rglob("data")]
    return b"\n".join(gzip.decompress(blob) if blob[:2] == b"\x1f\x8b" else blob for blob in raw)


def everything(world: World) -> None:
    """A push of both services, a tag, another one, a bad image, and a way back."""
    world.settle()
    world.commit("api")
    world.settle()
    world.commit("api", behaviour="exits")
    for run in world.push():
        assert not run.wait().green
    if world.ours:
        assert world.server.key("rollback pos-production pos-api").returncode == 0


def find_leaks(name: str) -> dict[str, set[str]]:
    """Which secrets got where: {place: names}."""
    with world(name, act()) as place:
        (place.server.docker_folder / "pos-staging/.env").write_text(f"JWT_SECRET='{ENV_VALUE}'\n")
        log = place.server.folder / "programs"
        log.mkdir()
        place.server.run("chmod", "777", str(log))
        with watched(place, log / "seen"):
            everything(place)
        engines = "-not -path '/run/*docker*' -not -path '/run/*containerd*'"  # which keep what a container is given
        words = f"cat $(find /dev/shm /run -xdev -type f {engines}) </dev/null"
        memory = place.server.run("sh", "-c", words, check=False).stdout
        logs = "\n".join(run.log for run in place.github.runs) + (place.server.folder / "sshd.log").read_text()
        own = (".env", "keys", "secrets.yml")  # where a person has put them
        haystacks = {
            "an argument": arguments(log / "seen"),
            "a log": logs.encode() + files(*place.server.docker_folder.glob("*/log")),
            "a file left on the server": files(place.server.home, without=own) + memory.encode(),
            "a file left on the runner": files(place.server.folder / "runs", without=own),
            "an image": blobs(place.server.folder / "registry"),
        }
        secrets = forms(place)
        return {where: {n for n, text in secrets.items() if text in hay} for where, hay in haystacks.items()}


def run(quick: bool, say: Callable[[str], None]) -> bool:
    """Watches both pipelines, or only ours; true when secrets are only where they are known to be."""
    right = True
    for name in ("ours",) if quick else ("ours", "literal"):
        seen = {where: names for where, names in find_leaks(name).items() if names}
        right = right and set(seen) == KNOWN[name]
        summary = {where: sorted(names)[0] + (", …" if len(names) > 1 else "") for where, names in seen.items()}
        say(f"{name:8}secrets in {', '.join(PLACES)}: {json.dumps(summary) if summary else 'none'}")
    return right


if __name__ == "__main__":
    sys.exit(not run("--quick" in sys.argv, print))
