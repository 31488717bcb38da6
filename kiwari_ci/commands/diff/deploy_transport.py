"""How our own deploys get to the hosts, and what they bring with them → changes."""

import re
from collections.abc import Iterator

from kiwari_ci.commands.diff.change import PipelineChange, pair_replacements
from kiwari_ci.commands.diff.matching import ResponsibleJob
from kiwari_ci.problems import join_with_limit
from kiwari_ci.readers.yaml_document import as_inline_code

_TRANSPORT_OPTIONS = (  # what a script of ours has in it, what it then does, and what it means when it is gone
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


def compare_deploy_transport(
    environment: str, was: list[ResponsibleJob], now: list[ResponsibleJob], where: str
) -> Iterator[PipelineChange]:
    """Nothing where one side's are of another hand."""
    old, new = _find_deploy_scripts(was), _find_deploy_scripts(now)
    if not old or not new:
        return
    yield from _compare_target_hosts(environment, list(old), list(new), where)
    before, after = "\n".join(old.values()), "\n".join(new.values())
    for mark, came, went in _TRANSPORT_OPTIONS:
        if (mark in before) != (mark in after):
            yield PipelineChange(environment, came if mark in after else went, True, where)
    ports, ports_now = (sorted(set(re.findall(r"port (\d+)", text)) or {"22"}) for text in (before, after))
    if ports != ports_now:
        words = f"SSH goes to port {join_with_limit(ports_now)}; before: {join_with_limit(ports)}"
        yield PipelineChange(environment, words, True, where, pair_replacements(ports, ports_now))


def _find_deploy_scripts(roles: list[ResponsibleJob]) -> dict[str, str]:
    """The script of each step that deploys, by its hosts, in order."""
    steps = [step for _, job, deed in roles if deed.note == "the host program" for step in job.steps]
    found = {each[1]: step.run for step in steps if (each := re.fullmatch("Pull and restart on (.+)", step.title))}
    return found


def _compare_target_hosts(environment: str, old: list[str], new: list[str], where: str) -> Iterator[PipelineChange]:
    was, now = ([name for each in hosts for name in re.split(", | and ", each)] for hosts in (old, new))
    gone = [each for each in dict.fromkeys(was) if each not in now]
    if list(dict.fromkeys(was)) != list(dict.fromkeys(now)):
        words = f"deployed to {join_with_limit(map(as_inline_code, dict.fromkeys(now)))}, in this order; "
        words += f"before: {join_with_limit(map(as_inline_code, dict.fromkeys(was)))}"
        stays = f": what runs on {join_with_limit(map(as_inline_code, gone))} is to be removed by hand" if gone else ""
        yield PipelineChange(environment, words + stays, True, where)
