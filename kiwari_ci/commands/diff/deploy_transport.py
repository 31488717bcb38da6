"""How our own deploys get to the hosts, and what they bring with them → changes."""

import re
from collections.abc import Iterator

from kiwari_ci.commands.diff.change import Change, swapped
from kiwari_ci.commands.diff.matching import Role
from kiwari_ci.problems import enumerated
from kiwari_ci.readers.yaml_document import shown

_MARKS = (  # what a script of ours has in it, what it then does, and what it means when it is gone
    ("--jump-address ", "reached through a jump host", "reached directly, no longer through a jump host"),
    (
        "--send-files",
        "each deploy sends its files, and who has its key owns the host: the key's line there must say `STACK:push`",
        "no deploy sends its files any more: they are copied by hand",
    ),
    (
        "--env",
        "each deploy writes its env files, over what was edited on the host: the key's line there must say `STACK:env`",
        "no deploy writes its env files any more: the host's are edited by hand",
    ),
)


def changes(environment: str, was: list[Role], now: list[Role], where: str) -> Iterator[Change]:
    """Nothing where one side's are of another hand."""
    old, new = _scripts(was), _scripts(now)
    if not old or not new:
        return
    yield from _hosts(environment, list(old), list(new), where)
    before, after = "\n".join(old.values()), "\n".join(new.values())
    for mark, came, went in _MARKS:
        if (mark in before) != (mark in after):
            yield Change(environment, came if mark in after else went, True, where)
    ports, ports_now = (sorted(set(re.findall(r"port (\d+)", text)) or {"22"}) for text in (before, after))
    if ports != ports_now:
        words = f"SSH goes to port {enumerated(ports_now)}; before: {enumerated(ports)}"
        yield Change(environment, words, True, where, swapped(ports, ports_now))


def _scripts(roles: list[Role]) -> dict[str, str]:
    """The script of each step that deploys, by its hosts, in order."""
    steps = [step for _, job, deed in roles if deed.note == "the host program" for step in job.steps]
    found = {each[1]: step.run for step in steps if (each := re.fullmatch("Pull and restart on (.+)", step.title))}
    return found


def _hosts(environment: str, old: list[str], new: list[str], where: str) -> Iterator[Change]:
    was, now = ([name for each in hosts for name in re.split(", | and ", each)] for hosts in (old, new))
    gone = [each for each in dict.fromkeys(was) if each not in now]
    if list(dict.fromkeys(was)) != list(dict.fromkeys(now)):
        words = f"deployed to {enumerated(map(shown, dict.fromkeys(now)))}, in this order; "
        words += f"before: {enumerated(map(shown, dict.fromkeys(was)))}"
        stays = f": what runs on {enumerated(map(shown, gone))} is to be removed by hand" if gone else ""
        yield Change(environment, words + stays, True, where)
