"""Compares the generated files beside workflows: what gets to a server by hand or with a deploy, runbook, Dependabot.

What the new files say comes from the plan that they are printed from. The files before them may be of any commit,
so there is no plan of them: where something of theirs is compared, it is read from their text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from kiwari_ci.commands.diff.change import (
    COPY_FOLDERS,
    EVERY_ADOPTION,
    PipelineChange,
    format_names,
    iter_added_removed,
)
from kiwari_ci.commands.diff.matching import NameMatches
from kiwari_ci.commands.diff.snapshot import PipelineSnapshot
from kiwari_ci.file_output import generated_files
from kiwari_ci.plan_model import Plan
from kiwari_ci.proxies.all_proxies import find_planned_proxy
from kiwari_ci.readers.file_sets import FileSet
from kiwari_ci.readers.yaml_document import as_inline_code

RUNBOOK_PATH = "deploy/RUNBOOK.md"

# What an older generated tree has in its text.
_OLD_PROXY_HOST_ROW = re.compile(
    r"^\| `(?P<domain>\S+)` \| `http` .* \| (?P<ssl>[^|]+) \| (?P<websocket>yes|no) \|$", re.MULTILINE
)
_ADVANCED_TAB = re.compile(r"^Some paths of `(\S+)` lead to other services\..*\n\n```nginx\n([^`]*)```$", re.MULTILINE)
_OLD_STACK_FILES_LINE = re.compile(r"^# Files beside it: (.+)$", re.MULTILINE)
_OLD_DEPLOY_KEY_LINE = re.compile(r'command="(?P<folder>\S+)/bin/deploy (?P<words>[^"]*)')


@dataclass(frozen=True)
class _CopiedFile:
    """A file below deploy/ that changes: `name` from its folder there; `command` copies the folder to its hosts.

    The command is empty where each deploy sends the folder.
    """

    path: str
    folder: str
    name: str
    command: str
    is_new: bool

    @property
    def is_hook(self) -> bool:
        return self.name.startswith("hooks/")


def list_copy_commands(plan: Plan) -> dict[str, str]:
    """By folder of deploy/, the runbook's commands that copy it; the host program (`bin`) goes to each host."""
    commands: dict[str, list[str]] = {}
    for host_commands in plan.runbook.hosts:
        host = host_commands.host
        sent_by_deploys = {stack.source_folder for stack in host.stacks if stack.pushed}
        for copy in host_commands.copy_files:
            copies = commands.setdefault(copy.subject, [])
            if copy.subject not in sent_by_deploys:
                copies.append(f"{host.variable}=USER@ADDRESS; {copy.line}")
    return {folder: " and ".join(copies) for folder, copies in commands.items()}


def compare_manual_steps(
    before: FileSet, plan: Plan, after: dict[str, str], new: PipelineSnapshot, names: NameMatches
) -> Iterator[PipelineChange]:
    """Compare what a person copies, runs or clicks; `names` are those of the new files."""
    commands = list_copy_commands(plan)
    for path, text in after.items():
        if path.startswith("deploy/") and _has_relevant_change(path, before.files.get(path, ""), text, new):
            folder, _, name = path.removeprefix("deploy/").partition("/")
            command = commands.get(folder, "see the runbook")
            file = _CopiedFile(path, folder, name, command, path not in before.files)
            yield from _describe_copied_file(file, new, names)
            if path in before.files and path in new.stacks:
                yield from _compare_stack_files(file, before.files[path], plan, names)
    yield from _find_removed_hooks(before, after, names)
    yield from _compare_dependabot(
        before.files.get(generated_files.DEPENDABOT_PATH, ""), after.get(generated_files.DEPENDABOT_PATH, "")
    )
    old_runbook, new_runbook = before.files.get(RUNBOOK_PATH, ""), after.get(RUNBOOK_PATH, "")
    # The first runbook is new as a whole, and needs no words.
    if all(generated_files.is_generated_file(RUNBOOK_PATH, text) for text in (old_runbook, new_runbook)):
        yield from _compare_proxy_hosts(old_runbook, plan)
        yield from _compare_advanced_tabs(old_runbook, new_runbook, plan)
        yield from _compare_host_folders(old_runbook, plan)
        yield from _compare_runbook_sections(old_runbook, new_runbook)


def _has_relevant_change(path: str, old: str, new: str, snapshot: PipelineSnapshot) -> bool:
    """The host compares the bytes of a stack's files; in other files, comments do not matter."""
    if old == new:
        return False
    if path in snapshot.stacks or "/hooks/" in path:
        return True
    return _strip_comments(old) != _strip_comments(new)


def _describe_copied_file(file: _CopiedFile, new: PipelineSnapshot, names: NameMatches) -> Iterator[PipelineChange]:
    subject = names.environment(file.folder)
    if file.folder == "bin":
        yield _describe_program(file)
    elif file.path.endswith(".yaml"):
        yield _describe_cluster_file(file, subject)
    elif file.path in new.stacks or file.is_hook:
        yield from _describe_stack_file(file, names)
    elif not file.is_new:  # A new database server or proxy has words of its own.
        yield from _describe_changed_file(file)


def _describe_program(file: _CopiedFile) -> PipelineChange:
    state = "new" if file.is_new else "another"
    if file.path == generated_files.SSH_CLIENT_PATH:
        message = f"the program with which a deploy job calls the server is {state}"
        item = "the deploy job calls the server with `deploy/bin/deploy-over-ssh`"
        return PipelineChange("SSH client", message, False, file.path, summary=EVERY_ADOPTION, item=item)
    if file.path == generated_files.ROLLOUT_PROGRAM_PATH:
        message = f"the program with which a deploy job rolls out to a cluster is {state}"
        return PipelineChange("rollout program", message, False, file.path)
    other_programs = {
        generated_files.DATABASE_PROGRAM_PATH: "database program",
        generated_files.ROTATION_PROGRAM_PATH: "rotation program",
    }
    program = other_programs.get(file.path, "host program")
    state = "new" if file.is_new else "changed"
    return _ask_to_copy(file, program, f"{state}: copy it to the server: {file.command}")


def _describe_cluster_file(file: _CopiedFile, subject: str) -> PipelineChange:
    if file.name == "kubernetes.yaml":
        return _describe_sent_file(file, subject)
    message = f"{as_inline_code(file.path)} must be applied by who administers the cluster (runbook)"
    return PipelineChange(subject, message, True, file.path)


def _describe_stack_file(file: _CopiedFile, names: NameMatches) -> Iterator[PipelineChange]:
    subject = names.environment(file.folder)
    if not file.command:
        yield _describe_sent_file(file, subject)
    elif file.is_hook:
        name = as_inline_code(file.name)
        message = f"{name} must be copied to the server, or its deploys are refused: {file.command}"
        yield _ask_to_copy(file, subject, message)
    elif not file.is_new:  # A new stack has words of its own.
        is_deployed = file.folder in names.stacks
        consequence = "or its deploys are refused" if is_deployed else "then docker compose up -d in its folder"
        message = f"its compose file must be copied to the server, {consequence}: {file.command}"
        yield _ask_to_copy(file, subject, message)


def _describe_changed_file(file: _CopiedFile) -> Iterator[PipelineChange]:
    """Describe a file of a database server or of a proxy."""
    if file.name.endswith(".sh"):
        script = as_inline_code(file.path.rpartition("/")[2])
        message = f"{script} changed: a database that is there runs it only by hand (runbook)"
        yield PipelineChange(file.folder, message, True, file.path, stage="before")
    elif file.name.startswith("conf/"):
        name = as_inline_code(file.name)
        message = f"{name} changed: copy it to the server, and have the proxy read it again (runbook): {file.command}"
        yield PipelineChange(file.folder, message, True, file.path, stage="before")


def _describe_sent_file(file: _CopiedFile, subject: str) -> PipelineChange:
    message = f"{as_inline_code(file.name)} is another: the next deploy sends it"
    return PipelineChange(subject, message, False, file.path)


def _ask_to_copy(file: _CopiedFile, subject: str, message: str) -> PipelineChange:
    """What a person does before the merge; a first comparison lists the folders in one line."""
    folder = as_inline_code(file.folder)
    return PipelineChange(subject, message, True, file.path, stage="before", summary=COPY_FOLDERS, item=folder)


def _compare_stack_files(
    file: _CopiedFile, old_compose_file: str, plan: Plan, names: NameMatches
) -> Iterator[PipelineChange]:
    """Compare which files of the user's own belong to a stack; hooks have words of their own."""
    lists = _OLD_STACK_FILES_LINE.findall(old_compose_file)
    old_names = [name for line in lists for name in line.split()]
    new_names = [name for stack in plan.compose_stacks if stack.source_folder == file.folder for name in stack.beside]
    for name, is_new in iter_added_removed(old_names, new_names):
        if name.startswith("hooks/"):
            continue
        if not is_new:
            message = "is compared by no deploy now"
        elif file.command:
            message = f"must be copied to the server, or its deploys are refused: {file.command}"
        else:
            message = "is sent by deploys"
        is_risky = is_new and bool(file.command)
        subject = names.environment(file.folder)
        yield PipelineChange(subject, f"{as_inline_code(name)} {message}", is_risky, file.path)


def _find_removed_hooks(before: FileSet, after: dict[str, str], names: NameMatches) -> Iterator[PipelineChange]:
    for path, text in before.files.items():
        if path not in after and "/hooks/" in path and generated_files.is_generated_file(path, text):
            name = path.rpartition("/")[2]
            message = f"its hook {as_inline_code(name)} is gone: nothing of it runs {name} a deploy"
            yield PipelineChange(names.environment(path.split("/")[1]), message, True, path)


def _strip_comments(text: str) -> list[str]:
    """The lines that programs read."""
    lines = (line.partition(" # ")[0].rstrip() for line in text.splitlines())
    return [line for line in lines if line and (line.startswith("#!") or not line.lstrip().startswith("#"))]


def _compare_dependabot(old: str, new: str) -> Iterator[PipelineChange]:
    if _strip_comments(old) == _strip_comments(new):
        return
    if not new and not generated_files.is_generated_file(generated_files.DEPENDABOT_PATH, old):
        return  # a person's file stays as it is
    if not new:
        message = "Dependabot is told no more to bump the actions"
    elif old:
        message = "Dependabot is told otherwise what to bump"
    else:
        message = "Dependabot opens a pull request a week that bumps the actions"
    yield PipelineChange("GitHub", message, not new, generated_files.DEPENDABOT_PATH)


def _compare_proxy_hosts(old_runbook: str, plan: Plan) -> Iterator[PipelineChange]:
    """Compare what a person sets for each domain in Nginx Proxy Manager."""
    old_rows = list(_OLD_PROXY_HOST_ROW.finditer(old_runbook))
    old_switches = {row["domain"]: row["websocket"] for row in old_rows}
    old_schemes = {row["domain"]: "https" if "SSL" in row["ssl"] else "http" for row in old_rows}
    managed_hosts = [host for host in plan.hosts if find_planned_proxy(host.proxy).has_admin_api]
    for site in (site for host in managed_hosts for site in host.sites):
        answer = site.last_route.websocket_answer
        if old_switches.get(site.domain, answer) != answer:
            state = "on" if site.last_route.websocket else "off"
            message = f"WebSockets Support of {as_inline_code(site.domain)} must be switched {state}"
            yield PipelineChange("proxy", f"{message} in Nginx Proxy Manager", True, RUNBOOK_PATH)
        if old_schemes.get(site.domain, site.scheme) != site.scheme:
            state = "needs a certificate and Force SSL" if site.scheme == "https" else "must not have Force SSL"
            message = f"{as_inline_code(site.domain)} {state} in Nginx Proxy Manager"
            yield PipelineChange("proxy", message, True, RUNBOOK_PATH)


def _compare_advanced_tabs(old_runbook: str, new_runbook: str, plan: Plan) -> Iterator[PipelineChange]:
    """Compare what a person enters in Nginx Proxy Manager for the paths of a domain."""
    old, new = dict(_ADVANCED_TAB.findall(old_runbook)), dict(_ADVANCED_TAB.findall(new_runbook))
    for domain in plan.domains:
        if old.get(domain, "") != new.get(domain, ""):
            message = f"the Advanced tab of {as_inline_code(domain)} must be changed in Nginx Proxy Manager"
            yield PipelineChange("proxy", f"{message}: its paths lead elsewhere", True, RUNBOOK_PATH)


def _compare_host_folders(old_runbook: str, plan: Plan) -> Iterator[PipelineChange]:
    """Compare the folders on the hosts, which are known by what their deploy keys may do."""
    old_folders = {line["words"]: line["folder"] for line in _OLD_DEPLOY_KEY_LINE.finditer(old_runbook)}
    for host in plan.hosts:
        for key in host.keys:
            old_folder = old_folders.get(" ".join(key.words), host.folder)
            if old_folder != host.folder:
                message = f"the server's folder is {as_inline_code(host.folder)}, not {as_inline_code(old_folder)}"
                message += ": move it there, and change `command=` in the deploy key's line"
                yield PipelineChange("host", message, True, RUNBOOK_PATH)


def _compare_runbook_sections(old_runbook: str, new_runbook: str) -> Iterator[PipelineChange]:
    before, after = _split_runbook_sections(old_runbook), _split_runbook_sections(new_runbook)
    titles = [title for title in after if before.get(title) != after[title]]
    titles += [title for title, is_new in iter_added_removed(before, after) if not is_new]
    if titles:
        message = f"the text changed under {format_names(titles, 20)}"
        yield PipelineChange("runbook", message, False, RUNBOOK_PATH)


def _split_runbook_sections(text: str) -> dict[str, str]:
    """The text of each section, by its title without the number; the graph above the first one is left out."""
    parts = re.split(r"^##+ (?:\d+\. )?(.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))
