"""Generated files beside workflows → changes: what comes to a server, by hand or with a deploy; runbook; bots."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kiwari_ci.commands.diff import matching
from kiwari_ci.commands.diff.change import Change, ways
from kiwari_ci.commands.diff.snapshot import Facts
from kiwari_ci.output import generated_files
from kiwari_ci.plan import Host
from kiwari_ci.problems import enumerated
from kiwari_ci.readers.file_sets import Side
from kiwari_ci.readers.yaml_document import shown

RUNBOOK = "deploy/RUNBOOK.md"
_PROXY_HOST = re.compile(r"^\| `(\S+)` \| `http` .* \| (yes|no) \|$", re.MULTILINE)  # of Nginx Proxy Manager

_BESIDE = re.compile(r"^# Files beside it: (.+)$", re.MULTILINE)
_KEY_LINE = re.compile(r'command="(?=\S+/bin/deploy ([^"]*))(\S+)/bin/deploy')


@dataclass(frozen=True)
class Copy:
    """How a stack's files, or the host program (`bin`), get to the server; without a command, by a deploy."""

    folder: str
    command: str


def copies(hosts: Iterable[Host]) -> list[Copy]:
    """The runbook's command for each folder of deploy/; several hosts have one script each."""
    found: dict[str, list[str]] = {}
    for host in hosts:
        pushed = [stack.name for stack in host.stacks if stack.pushed]
        names = [stack.name for stack in host.stacks] + [server.name for server in host.servers]
        for name in ("bin", *names, *(front.name for front in host.fronts)):
            to = f'ssh "${host.variable}" tar -x --strip-components=1 -C {host.folder or "."}'
            command = f"{host.variable}=USER@ADDRESS; git archive HEAD deploy/{name} | {to}"
            found.setdefault(name, []).extend([] if name in pushed else [command])
    return [Copy(folder, " and ".join(commands)) for folder, commands in found.items()]


def changes(before: Side, after: dict[str, str], new: Facts, copies: list[Copy]) -> Iterator[Change]:
    """Files that a person copies to the server: a deploy refuses what it does not know."""
    commands = {copy.folder: copy.command for copy in copies}
    for path, text in after.items():
        if path.startswith("deploy/") and _differs(path, before.files.get(path, ""), text, new):
            folder = path.split("/")[1]
            command = commands.get(folder, "see the runbook")
            yield from _copied(path, folder, path in before.files, new, command)
            if path in before.files and path in new.stacks:
                yield from _lying(path, folder, before.files[path], text, new, command)
    for path, text in before.files.items():
        if path not in after and "/hooks/" in path and generated_files.is_marked(path, text):
            name = path.rpartition("/")[2]
            subject = matching.named(new).environment(path.split("/")[1])
            yield Change(subject, f"its hook {shown(name)} is gone: nothing of it runs {name} a deploy", True, path)
    yield from _bumped(before.files.get(generated_files.DEPENDABOT, ""), after.get(generated_files.DEPENDABOT, ""))
    yield from _told(before.files.get(RUNBOOK, ""), after.get(RUNBOOK, ""))


def _differs(path: str, old: str, new: str, facts: Facts) -> bool:
    """The host hashes a stack's files; of the others, what only people read is nothing."""
    return old != new if path in facts.stacks or "/hooks/" in path else _code(old) != _code(new)


def _copied(path: str, folder: str, is_there: bool, new: Facts, command: str) -> Iterator[Change]:
    ours = matching.named(new)
    subject, file = ours.environment(folder), path.partition(f"{folder}/")[2]
    is_hook = "/hooks/" in path
    if path == generated_files.SSH_CLIENT:
        words = f"the program with which a deploy job calls the server is {'another' if is_there else 'new'}"
        yield Change("SSH client", words, False, path)
    elif folder == "bin":
        state = "changed" if is_there else "new"
        yield Change("host program", f"{state}: copy it to the server: {command}", True, path)
    elif (path in new.stacks or is_hook) and not command:
        yield Change(subject, f"{shown(file)} is another: the next deploy sends it", False, path)
    elif is_hook:
        words = f"{shown(file)} must be copied to the server, or its deploys are refused: {command}"
        yield Change(subject, words, True, path)
    elif path in new.stacks and is_there:
        is_deployed = new.stacks[path].name in ours.stacks
        why = "or its deploys are refused" if is_deployed else "then docker compose up -d in its folder"
        yield Change(subject, f"its compose file must be copied to the server, {why}: {command}", True, path)
    elif file.endswith(".sh") and is_there:
        name = shown(path.rpartition("/")[2])
        yield Change(folder, f"{name} changed: a database that is there runs it only by hand (runbook)", True, path)
    elif file.startswith("conf/") and is_there:
        words = f"{shown(file)} changed: copy it to the server, and have the proxy read it again (runbook): {command}"
        yield Change(folder, words, True, path)


def _lying(path: str, folder: str, old: str, new: str, facts: Facts, command: str) -> Iterator[Change]:
    """The files of a person's own that a stack's head names."""
    subject = matching.named(facts).environment(folder)
    was, now = ([name for each in _BESIDE.findall(text) for name in each.split()] for text in (old, new))
    comes = f"must be copied to the server, or its deploys are refused: {command}" if command else "is sent by deploys"
    for name, is_new in ways(was, now):
        if not name.startswith("hooks/"):
            words = f"{shown(name)} {comes if is_new else 'is compared by no deploy now'}"
            yield Change(subject, words, is_new and bool(command), path)


def _code(text: str) -> list[str]:
    """A file's lines without what only people read."""
    lines = (line.partition(" # ")[0].rstrip() for line in text.splitlines())
    return [line for line in lines if line and (line.startswith("#!") or not line.lstrip().startswith("#"))]


def _bumped(old: str, new: str) -> Iterator[Change]:
    if _code(old) != _code(new):
        told = "is told otherwise what to bump" if old else "opens a pull request a week that bumps the actions"
        words = f"Dependabot {told}" if new else "Dependabot is told no more to bump the actions"
        yield Change("GitHub", words, not new, generated_files.DEPENDABOT)


def _told(old: str, new: str) -> Iterator[Change]:
    """What a person does by hand; only from one runbook of ours to another, for the first is new as a whole."""
    if not generated_files.is_marked(RUNBOOK, old) or not generated_files.is_marked(RUNBOOK, new):
        return
    was, now = dict(_PROXY_HOST.findall(old)), dict(_PROXY_HOST.findall(new))
    for domain in [each for each in now if was.get(each, now[each]) != now[each]]:
        way = "on" if now[domain] == "yes" else "off"
        words = f"WebSockets Support of {shown(domain)} must be switched {way} in Nginx Proxy Manager"
        yield Change("proxy", words, True, RUNBOOK)
    folders, moved = dict(_KEY_LINE.findall(old)), dict(_KEY_LINE.findall(new))
    for stacks in [each for each in moved if folders.get(each, moved[each]) != moved[each]]:
        words = f"the server's folder is {shown(moved[stacks])}, not {shown(folders[stacks])}: move it there"
        yield Change("host", f"{words}, and change `command=` in the deploy key's line", True, RUNBOOK)
    before, after = _sections(old), _sections(new)
    titles = [each for each in after if before.get(each) != after[each]]
    titles += [each for each, is_new in ways(before, after) if not is_new]
    if titles:
        yield Change("runbook", f"other words under {enumerated(map(shown, titles), 20)}", False, RUNBOOK)


def _sections(text: str) -> dict[str, str]:
    """By title, without its number; the drawing at the top says nothing that is not told."""
    parts = re.split(r"^##+ (?:\d+\. )?(.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))
