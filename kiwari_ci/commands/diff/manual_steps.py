"""Generated files beside workflows → changes: what comes to a server, by hand or with a deploy; runbook; bots."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kiwari_ci.commands.diff import matching
from kiwari_ci.commands.diff.change import PipelineChange, iter_added_removed
from kiwari_ci.commands.diff.snapshot import PipelineSnapshot
from kiwari_ci.output import generated_files
from kiwari_ci.plan import DeployHost
from kiwari_ci.problems import join_with_limit
from kiwari_ci.readers.file_sets import FileSet
from kiwari_ci.readers.yaml_document import as_inline_code

RUNBOOK_PATH = "deploy/RUNBOOK.md"
_PROXY_HOST_ROW = re.compile(r"^\| `(\S+)` \| `http` .* \| (yes|no) \|$", re.MULTILINE)  # of Nginx Proxy Manager

_STACK_FILES_LINE = re.compile(r"^# Files beside it: (.+)$", re.MULTILINE)
_DEPLOY_KEY_LINE = re.compile(r'command="(?=\S+/bin/deploy ([^"]*))(\S+)/bin/deploy')


@dataclass(frozen=True)
class ManualCopy:
    """How a stack's files, or the host program (`bin`), get to the server; without a command, by a deploy."""

    folder: str
    command: str


def list_copy_commands(hosts: Iterable[DeployHost]) -> list[ManualCopy]:
    """The runbook's command for each folder of deploy/; several hosts have one script each."""
    found: dict[str, list[str]] = {}
    for host in hosts:
        pushed = [stack.name for stack in host.stacks if stack.pushed]
        names = [stack.name for stack in host.stacks] + [server.name for server in host.servers]
        for name in ("bin", *names, *(front.name for front in host.fronts)):
            to = f'ssh "${host.variable}" tar -x --strip-components=1 -C {host.folder or "."}'
            command = f"{host.variable}=USER@ADDRESS; git archive HEAD deploy/{name} | {to}"
            found.setdefault(name, []).extend([] if name in pushed else [command])
    return [ManualCopy(folder, " and ".join(commands)) for folder, commands in found.items()]


def compare_manual_steps(
    before: FileSet, after: dict[str, str], new: PipelineSnapshot, copies: list[ManualCopy]
) -> Iterator[PipelineChange]:
    """Files that a person copies to the server: a deploy refuses what it does not know."""
    commands = {copy.folder: copy.command for copy in copies}
    for path, text in after.items():
        if path.startswith("deploy/") and _has_relevant_change(path, before.files.get(path, ""), text, new):
            folder = path.split("/")[1]
            command = commands.get(folder, "see the runbook")
            yield from _describe_copied_file(path, folder, path in before.files, new, command)
            if path in before.files and path in new.stacks:
                yield from _compare_stack_files(path, folder, before.files[path], text, new, command)
    for path, text in before.files.items():
        if path not in after and "/hooks/" in path and generated_files.is_generated_file(path, text):
            name = path.rpartition("/")[2]
            subject = matching.extract_generated_names(new).environment(path.split("/")[1])
            yield PipelineChange(
                subject, f"its hook {as_inline_code(name)} is gone: nothing of it runs {name} a deploy", True, path
            )
    yield from _compare_dependabot(
        before.files.get(generated_files.DEPENDABOT_PATH, ""), after.get(generated_files.DEPENDABOT_PATH, "")
    )
    yield from _compare_runbooks(before.files.get(RUNBOOK_PATH, ""), after.get(RUNBOOK_PATH, ""))


def _has_relevant_change(path: str, old: str, new: str, facts: PipelineSnapshot) -> bool:
    """The host hashes a stack's files; of the others, what only people read is nothing."""
    return old != new if path in facts.stacks or "/hooks/" in path else _strip_comments(old) != _strip_comments(new)


def _describe_copied_file(
    path: str, folder: str, is_there: bool, new: PipelineSnapshot, command: str
) -> Iterator[PipelineChange]:
    ours = matching.extract_generated_names(new)
    subject, file = ours.environment(folder), path.partition(f"{folder}/")[2]
    is_hook = "/hooks/" in path
    if path == generated_files.SSH_CLIENT_PATH:
        words = f"the program with which a deploy job calls the server is {'another' if is_there else 'new'}"
        yield PipelineChange("SSH client", words, False, path)
    elif folder == "bin":
        state = "changed" if is_there else "new"
        name = "database program" if path == generated_files.DATABASE_PROGRAM_PATH else "host program"
        yield PipelineChange(name, f"{state}: copy it to the server: {command}", True, path)
    elif (path in new.stacks or is_hook) and not command:
        yield PipelineChange(subject, f"{as_inline_code(file)} is another: the next deploy sends it", False, path)
    elif is_hook:
        words = f"{as_inline_code(file)} must be copied to the server, or its deploys are refused: {command}"
        yield PipelineChange(subject, words, True, path)
    elif path in new.stacks and is_there:
        is_deployed = new.stacks[path].name in ours.stacks
        why = "or its deploys are refused" if is_deployed else "then docker compose up -d in its folder"
        yield PipelineChange(subject, f"its compose file must be copied to the server, {why}: {command}", True, path)
    elif file.endswith(".sh") and is_there:
        name = as_inline_code(path.rpartition("/")[2])
        yield PipelineChange(
            folder, f"{name} changed: a database that is there runs it only by hand (runbook)", True, path
        )
    elif file.startswith("conf/") and is_there:
        words = f"{as_inline_code(file)} changed: copy it to the server, and have the proxy read it again (runbook): {command}"
        yield PipelineChange(folder, words, True, path)


def _compare_stack_files(
    path: str, folder: str, old: str, new: str, facts: PipelineSnapshot, command: str
) -> Iterator[PipelineChange]:
    """The files of a person's own that a stack's head names."""
    subject = matching.extract_generated_names(facts).environment(folder)
    was, now = ([name for each in _STACK_FILES_LINE.findall(text) for name in each.split()] for text in (old, new))
    comes = f"must be copied to the server, or its deploys are refused: {command}" if command else "is sent by deploys"
    for name, is_new in iter_added_removed(was, now):
        if not name.startswith("hooks/"):
            words = f"{as_inline_code(name)} {comes if is_new else 'is compared by no deploy now'}"
            yield PipelineChange(subject, words, is_new and bool(command), path)


def _strip_comments(text: str) -> list[str]:
    """A file's lines without what only people read."""
    lines = (line.partition(" # ")[0].rstrip() for line in text.splitlines())
    return [line for line in lines if line and (line.startswith("#!") or not line.lstrip().startswith("#"))]


def _compare_dependabot(old: str, new: str) -> Iterator[PipelineChange]:
    if _strip_comments(old) != _strip_comments(new):
        told = "is told otherwise what to bump" if old else "opens a pull request a week that bumps the actions"
        words = f"Dependabot {told}" if new else "Dependabot is told no more to bump the actions"
        yield PipelineChange("GitHub", words, not new, generated_files.DEPENDABOT_PATH)


def _compare_runbooks(old: str, new: str) -> Iterator[PipelineChange]:
    """What a person does by hand; only from one runbook of ours to another, for the first is new as a whole."""
    if not generated_files.is_generated_file(RUNBOOK_PATH, old) or not generated_files.is_generated_file(
        RUNBOOK_PATH, new
    ):
        return
    was, now = dict(_PROXY_HOST_ROW.findall(old)), dict(_PROXY_HOST_ROW.findall(new))
    for domain in [each for each in now if was.get(each, now[each]) != now[each]]:
        way = "on" if now[domain] == "yes" else "off"
        words = f"WebSockets Support of {as_inline_code(domain)} must be switched {way} in Nginx Proxy Manager"
        yield PipelineChange("proxy", words, True, RUNBOOK_PATH)
    folders, moved = dict(_DEPLOY_KEY_LINE.findall(old)), dict(_DEPLOY_KEY_LINE.findall(new))
    for stacks in [each for each in moved if folders.get(each, moved[each]) != moved[each]]:
        words = f"the server's folder is {as_inline_code(moved[stacks])}, not {as_inline_code(folders[stacks])}: move it there"
        yield PipelineChange("host", f"{words}, and change `command=` in the deploy key's line", True, RUNBOOK_PATH)
    before, after = _split_runbook_sections(old), _split_runbook_sections(new)
    titles = [each for each in after if before.get(each) != after[each]]
    titles += [each for each, is_new in iter_added_removed(before, after) if not is_new]
    if titles:
        yield PipelineChange(
            "runbook", f"other words under {join_with_limit(map(as_inline_code, titles), 20)}", False, RUNBOOK_PATH
        )


def _split_runbook_sections(text: str) -> dict[str, str]:
    """By title, without its number; the drawing at the top says nothing that is not told."""
    parts = re.split(r"^##+ (?:\d+\. )?(.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))
