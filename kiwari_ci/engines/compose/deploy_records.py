"""What serves and served, by the hosts' own records; and the digests that the registry has for tags."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from time import monotonic

from kiwari_ci.plan import Host, Stack
from kiwari_ci.probes import ssh_host
from kiwari_ci.probes.calls import LIMIT, Asked, last_line, run
from kiwari_ci.probes.ssh_host import Facts

LATE = f"no answer within {LIMIT} s"
PINNED = re.compile(
    r"(?P<image>[^ @]+)@(?P<digest>sha256:[0-9a-f]{64}) (?P<number>[0-9]{1,9}) (?P<time>\S+) (?P<run>\S+)"
)


@dataclass(frozen=True)
class Deployed:
    """A line of a host's record: these bytes were put into service; `number` counts the commits up to theirs."""

    image: str
    digest: str
    number: int
    time: str
    run: str


@dataclass(frozen=True)
class Digest:
    """What the registry has for a tag: a digest, or none; with `why`, nobody could say."""

    digest: str = ""
    why: str = ""


def ask_hosts(hosts: Iterable[Host], destinations: Mapping[str, str]) -> dict[str, Facts]:
    """What each host knows, side by side; one that does not answer says why."""
    until = monotonic() + LIMIT
    asked = {each.name: Asked(partial(_ask, each, destinations.get(each.name, each.name))) for each in hosts}
    return {name: each.answer(until, Facts(why=LATE)) for name, each in asked.items()}


def ask_registry(tags: Iterable[str]) -> dict[str, Digest]:
    """The digest of each image:tag, side by side, with the login that docker has."""
    until = monotonic() + LIMIT
    asked = {tag: Asked(partial(_digest, tag)) for tag in tags}
    return {tag: each.answer(until, Digest(why=LATE)) for tag, each in asked.items()}


def records(facts: Facts, stack: Stack, container: str) -> list[Deployed]:
    """Every deploy of a container that the host still knows, the newest last."""
    lines = facts.all("served", stack.name, container) or facts.all("record", stack.name, container)
    found = [PINNED.fullmatch(line[0]) for line in lines if line]
    return [
        Deployed(each["image"], each["digest"], int(each["number"]), each["time"], each["run"])
        for each in found
        if each
    ]


def _ask(each: Host, destination: str) -> Facts:
    facts = ssh_host.ask(each, destination)
    if "deploy key" not in facts.why:
        return facts
    said = [_status(destination, stack) for stack in each.stacks]  # which is all that this key may ask
    lines = tuple(line for found in said for line in found)
    return Facts(lines) if lines else facts


def _status(destination: str, stack: Stack) -> list[tuple[str, ...]]:
    options = [word for key, value in ssh_host.OPTIONS.items() for word in ("-o", f"{key}={value}")]
    ran = run(["ssh", "-T", *options, "--", destination, "status", stack.name])
    found = re.findall(rf"^{re.escape(stack.name)}/\.deploys/(\S+): .*\n  pinned: (.+)$", ran.out, re.MULTILINE)
    return [("record", stack.name, container, line) for container, line in found]


def _digest(tag: str) -> Digest:
    ran = run(["docker", "buildx", "imagetools", "inspect", "--raw", tag], seconds=LIMIT - 2)
    if ran.code == 0:
        return Digest(f"sha256:{sha256(ran.out.encode()).hexdigest()}")
    why = last_line(ran.err)
    return Digest() if why.endswith(": not found") else Digest(why=why[:200])
