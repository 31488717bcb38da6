"""One job of a workflow that is there already: what it builds, tests and deploys."""

import re
import shlex
from dataclasses import dataclass, field
from typing import Any

from kiwari_ci.commands.init import build_settings
from kiwari_ci.commands.init.build_settings import BuildSettings
from kiwari_ci.commands.init.docker_commands import (
    TEST_COMMAND,
    UNKNOWN_TEXT,
    is_needed_for_tests,
    iter_docker_commands,
    parse_image_name,
)
from kiwari_ci.readers.docker_build import parse_docker_build
from kiwari_ci.readers.repository import LocalRepository, join_path
from kiwari_ci.readers.vocabulary import SourcedValue
from kiwari_ci.readers.workflow import get_action_name
from kiwari_ci.readers.yaml_document import YamlDocument, YamlMapping, collect_strings, format_scalar

_GITHUB_EXPRESSION = re.compile(r"\$\{\{(.{0,500}?)\}\}", re.DOTALL)
_SSH_COMMAND = re.compile(r"(?:^|[\s;&|(])(?:ssh|scp|rsync)\s")
_COMPOSE_UP_COMMAND = re.compile(r"docker[ -]compose\b[^\n]{0,200}\bup\b|docker stack deploy")
_SSH_ACTION = re.compile(r"ssh|scp|rsync", re.IGNORECASE)
_NON_SERVER_ENVIRONMENTS = {"github-pages", "pypi", "testpypi", "npm", "docs", "copilot"}
_SETUP_ACTIONS = {"actions/setup-go": "go", "actions/setup-node": "node", "actions/setup-python": "python"}
_TOOL_INSTALL_COMMANDS = {  # what an action puts there, and a command that does it, too
    "pnpm/action-setup": "corepack enable", "astral-sh/setup-uv": "pip install uv",
    "snok/install-poetry": "pip install poetry", "oven-sh/setup-bun": "npm install --global bun",
}  # fmt: skip
_SETTING_ROLE_PATTERNS = {
    "address": re.compile(r"(^|_)(HOST|HOSTNAME|IP|ADDRESS|SERVER)$"),
    "user": re.compile(r"(^|_)(USER|USERNAME|LOGIN)$"),
    "key": re.compile(r"SSH.*KEY|PRIVATE_KEY$|DEPLOY_KEY"),
    "known_hosts": re.compile(r"KNOWN_HOSTS|HOST_KEY$"),
    "token": re.compile(r"GHCR|CR_PAT|REGISTRY_(TOKEN|PASSWORD)|PACKAGES_TOKEN"),
}
_UNRELATED_SETTING = re.compile(
    r"DOCKER|REGISTRY|GHCR|SMTP|MAIL|(^|_)(DB|DATABASE|POSTGRES|PG|REDIS|GIT|NPM|SUPERUSER|ADMIN)_"
)
_ACTION_INPUT_ROLES = {"host": "address", "username": "user", "user": "user", "key": "key", "ssh_private_key": "key"}
_ACTION_INPUT_ROLES |= {"ssh-private-key": "key", "ssh_key": "key"}
_SECRET_OR_VARIABLE = re.compile(r"\b(secrets|vars)\.([A-Za-z_]\w*)")
_CHANGE_DIRECTORY = re.compile(r"\bcd\s+[\"']?(~?/[\w./-]+)(?![\w./$" + UNKNOWN_TEXT + "-])")


@dataclass
class WorkflowTrigger:
    """What starts a workflow."""

    branches: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    by_hand: bool = False
    where: str = ""


@dataclass
class BuildStep:
    """An image that a workflow builds; `image` has neither registry's tag nor, where unknown, a name."""

    where: str
    workflow: str
    job: str
    image: str
    context: str
    dockerfile: str
    settings: BuildSettings
    unsupported: list[str]


@dataclass
class TestSteps:
    """The commands of a job that tests, from its first to its last `run` in one folder."""

    where: str
    workflow: str
    job: str
    steps: list[str]  # the places of the steps
    folder: str
    lines: list[str]
    setup: tuple[str, str, str] | None  # language, version or version_file, value
    needs: dict[str, YamlMapping]  # containers that run beside it, as the job has them
    env: dict[str, SourcedValue]
    paths: list[str]


@dataclass
class DeployJob:
    """A job that puts something on a server."""

    where: str
    workflow: str
    job: str
    name: str  # of the environment, as GitHub knows it; empty when the job does not say
    words: str
    trigger: WorkflowTrigger
    urls: list[SourcedValue] = field(default_factory=list)
    settings: dict[str, tuple[str, str]] = field(default_factory=dict)  # role: secret or variable, its name
    folders: list[SourcedValue] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what a person should know of it


@dataclass
class DetectedWorkflows:
    """All that the workflows say."""

    builds: list[BuildStep] = field(default_factory=list)
    tests: list[TestSteps] = field(default_factory=list)
    deploys: list[DeployJob] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    documents: dict[str, YamlDocument] = field(default_factory=dict)  # by path, those of composite actions included
    unsupported: list[str] = field(default_factory=list)


def add_workflow_job(
    repository: LocalRepository,
    made: DetectedWorkflows,
    path: str,
    document: YamlMapping,
    key: str,
    trigger: WorkflowTrigger,
    matrix: dict[str, Any],
) -> None:
    """Put into `made` what a job of a workflow says, with one combination of its matrix."""
    _JobReader(repository, made, path, document, key, trigger, matrix).read()


class _JobReader:
    """One job, with one combination of its matrix; `known` has the values of the expressions that are known here."""

    def __init__(
        self,
        repository: LocalRepository,
        made: DetectedWorkflows,
        path: str,
        document: YamlMapping,
        key: str,
        trigger: WorkflowTrigger,
        matrix: dict[str, Any],
    ) -> None:
        jobs = document.get_mapping("jobs")
        self.made = made
        self.path = path
        self.key = key
        self.job = jobs.get_mapping(key)
        self.trigger = trigger
        self.where = jobs.where(key)
        items = [(item, place) for item, place in self.job.list_items("steps") if isinstance(item, YamlMapping)]
        self.steps = [item for item, _ in items]
        self.step_places = {id(item): place for item, place in items}
        slug = repository.slug[0] if repository.slug else UNKNOWN_TEXT
        self.known: dict[str, Any] = {
            "github.repository": slug,
            "github.repository_owner": slug.partition("/")[0],
            "github.event.repository.name": slug.rpartition("/")[2],
        }
        for name, value in matrix.items():
            self.known[f"matrix.{name}"] = value
        for table in (document, self.job):
            for name, value in table.get_mapping("env").items():
                self.known[f"env.{name}"] = self.text(value)
        self.folder = "."
        for table in (document, self.job):
            default_folder = table.get_mapping("defaults").get_mapping("run").get_text("working-directory")
            if default_folder:
                self.folder = join_path(".", self.text(default_folder)) or "."

    def read(self) -> None:
        for step in self.steps:
            if re.match(r"docker/(build-push|bake)-action@", step.get_text("uses")):
                self.build_action(step)
            for moved, command in iter_docker_commands(self.shell(step.get_text("run"))):
                self.build_command(step, moved, command)
        self.tests()
        self.deploy()

    def text(self, value: Any) -> str:
        """A text with what is known of its expressions put in."""
        return _GITHUB_EXPRESSION.sub(lambda found: self.expression(found[1].strip()), format_scalar(value))

    def known_text(self, value: str) -> str:
        """A text with what is known of its expressions put in, and the others as they are."""
        made = {found[0]: self.expression(found[1].strip()) for found in _GITHUB_EXPRESSION.finditer(value)}
        return _GITHUB_EXPRESSION.sub(
            lambda found: found[0] if UNKNOWN_TEXT in made[found[0]] else made[found[0]], value
        )

    def expression(self, body: str) -> str:
        name, *fields = re.split(r"(?<=^matrix)\.", body)
        value = self.known.get(body)
        if value is None and fields and "." in fields[0]:
            axis, _, inner = fields[0].partition(".")
            table = self.known.get(f"matrix.{axis}")
            value = table.get(inner) if isinstance(table, YamlMapping) else None
        return format_scalar(value) or UNKNOWN_TEXT

    def shell(self, script: str) -> str:
        """A script with expressions and the variables of `env` put in."""
        known = {
            name.removeprefix("env."): format_scalar(value)
            for name, value in self.known.items()
            if name.startswith("env.")
        }
        known |= {
            "GITHUB_REPOSITORY": self.known["github.repository"],
            "GITHUB_REPOSITORY_OWNER": self.known["github.repository_owner"],
        }
        return re.sub(r"\$\{?(\w+)\}?", lambda found: known.get(found[1], found[0]), self.text(script))

    def build_action(self, step: YamlMapping) -> None:
        given = step.get_mapping("with")
        context = self.text(given.get_text("context") or ".")
        context = "." if "://" in context or context == UNKNOWN_TEXT else context
        file = self.text(given.get_text("file")) or f"{context}/Dockerfile"
        self.built(
            given.where(), self.image(given), context, file, build_settings.parse_action_inputs(given, self.known_text)
        )

    def image(self, given: YamlMapping) -> str:
        """The name in a step's tags, or in those of the metadata step that they come from."""
        tags = given.get_text("tags")
        if found := re.search(r"steps\.([\w-]+)\.outputs\.tags", tags):
            meta = next((step for step in self.steps if step.get_text("id") == found[1]), None)
            tags = meta.get_mapping("with").get_text("images") if meta else tags
        lines = re.split(r"[\n,]", self.text(tags))
        return next((name for line in lines if (name := parse_image_name(line))), "")

    def build_command(self, step: YamlMapping, moved: str, command: list[str]) -> None:
        at = command.index("build") if "build" in command[:3] else 0
        if command[:1] != ["docker"] or at not in (1, 2) or command[1] == "compose":
            return
        build = parse_docker_build(command[at + 1 :])
        folder = join_path(self.folder, self.text(step.get_text("working-directory") or ".")) or "."
        folder_then = join_path(folder, moved)
        if folder_then is None:
            return
        context = join_path(folder_then, build.context) or "."
        dockerfile = join_path(folder_then, build.files[0]) if build.files else f"{context}/Dockerfile"
        image = parse_image_name("".join(build.tags[:1]))
        settings = build_settings.parse_command_options(build)
        self.built(step.where("run"), image, context, dockerfile or "", settings)

    def built(self, where: str, image: str, context: str, file: str, settings: BuildSettings) -> None:
        folder, dockerfile = join_path(".", context), join_path(".", file)
        runner = self.text(self.job.get("runs-on"))
        unsupported = [f"runs on {runner}"] if not runner.startswith("ubuntu") and runner else []
        if folder and dockerfile and UNKNOWN_TEXT not in folder + dockerfile:
            self.made.builds.append(
                BuildStep(where, self.path, self.key, image, folder, dockerfile, settings, unsupported)
            )

    def tests(self) -> None:
        runs = [
            (step, join_path(self.folder, self.text(step.get_text("working-directory") or ".")) or ".")
            for step in self.steps
            if step.get_text("run")
        ]
        tested = [index for index, (step, _) in enumerate(runs) if TEST_COMMAND.search(step.get_text("run"))]
        if not tested or _SSH_COMMAND.search("\n".join(step.get_text("run") for step, _ in runs)):
            return
        needed = [run for run in runs[: tested[-1] + 1] if is_needed_for_tests(run[0].get_text("run"))]
        folders = {place for _, place in needed}
        folder = folders.pop() if len(folders) == 1 else "."
        lines = [
            tool
            for action, tool in _TOOL_INSTALL_COMMANDS.items()
            if any(action in step.get_text("uses") for step in self.steps)
        ]
        for step, place in needed:
            lines += _wrap_in_subshell(
                self.text(step.get_text("run")).rstrip(), place if place != folder else "", len(needed)
            )
        needs = dict(self.job.get_mapping("services").iter_mappings())
        tables = [self.job, *(step for step, _ in needed)]
        env = {key: SourcedValue(value, place) for each in tables for key, value, place in each.iter_pairs("env")}
        where = runs[tested[0]][0].where("run")
        places = [self.step_places[id(step)] for step, _ in needed]
        self.made.tests.append(
            TestSteps(where, self.path, self.key, places, folder, lines, self.setup(), needs, env, self.trigger.paths)
        )

    def setup(self) -> tuple[str, str, str] | None:
        for step in self.steps:
            language = _SETUP_ACTIONS.get(get_action_name(step.get_text("uses")))
            given = step.get_mapping("with")
            for field_name, key in (("version_file", f"{language}-version-file"), ("version", f"{language}-version")):
                value = self.text(given.get(key)) if language else ""
                if language and value and UNKNOWN_TEXT not in value:
                    return language, field_name, join_path(".", value) or "" if field_name == "version_file" else value
        return None

    def deploy(self) -> None:
        environment = self.job.get("environment")
        given = environment.get_text("name") if isinstance(environment, YamlMapping) else format_scalar(environment)
        name = self.text(given)
        scripts = "\n".join(
            f"{step.get_text('run')}\n{step.get_mapping('with').get_text('script')}" for step in self.steps
        )
        remote = any(_SSH_ACTION.search(get_action_name(step.get_text("uses"))) for step in self.steps)
        remote = remote or _SSH_COMMAND.search(scripts) is not None
        local = "self-hosted" in str(self.job.get("runs-on")) and _COMPOSE_UP_COMMAND.search(scripts) is not None
        if name.lower() in _NON_SERVER_ENVIRONMENTS or not (
            remote or local or (name and _COMPOSE_UP_COMMAND.search(scripts))
        ):
            return
        trigger = _narrow_trigger(self.trigger, self.job.get_text("if"))
        if not (trigger.branches or trigger.tags or trigger.by_hand):
            return
        title = f"{name} {self.key} {self.job.get_text('name')} {self.path.rpartition('/')[2]}"
        made = DeployJob(self.where, self.path, self.key, "" if UNKNOWN_TEXT in name else name, title, trigger)
        if "inputs." in given:
            made.notes.append(
                f"{self.where}: who starts it names the environment; here each one has an entry of its own"
            )
        self.facts(made, environment, scripts)
        self.made.deploys.append(made)

    def facts(self, made: DeployJob, environment: Any, scripts: str) -> None:
        if isinstance(environment, YamlMapping) and environment.get_text("url"):
            made.urls.append(SourcedValue(self.text(environment.get_text("url")), environment.where("url")))
        for text, place in collect_strings(self.job):
            for url in re.findall(r"https?://[^\s\"'`<>;|)]+", self.shell(text)):
                made.urls.append(SourcedValue(url, place))
        for step in self.steps:
            action, by_hand = get_action_name(step.get_text("uses")), _SSH_COMMAND.search(step.get_text("run"))
            if by_hand or _SSH_ACTION.search(action):
                around = [text for text, _ in collect_strings(self.job.get("env"))] if by_hand else []
                if ways := _describe_login_options(step):
                    made.notes.append(f"{self.where} logs in {', '.join(ways)}: `hosts` has `user`, `port` and `jump`")
                _collect_login_settings(
                    made.settings, step, "\n".join([*around, *(text for text, _ in collect_strings(step))])
                )
        made.folders = [
            SourcedValue(folder.rstrip("/"), self.where) for folder in _CHANGE_DIRECTORY.findall(self.shell(scripts))
        ]


def _wrap_in_subshell(script: str, folder: str, count: int) -> list[str]:
    """A step's lines within one script: what it changes of its folder ends with it."""
    moved = [f"cd {shlex.quote(folder)}"] if folder else []
    lines = [*moved, *script.split("\n")]
    return (
        ["(", *(f"  {line}" for line in lines), ")"] if moved or (count > 1 and re.search(r"\bcd\s", script)) else lines
    )


def _describe_login_options(step: YamlMapping) -> list[str]:
    """What a step says of the login that is no secret's or variable's name."""
    given, script = step.get_mapping("with"), step.get_text("run")
    user, port, jump = given.get_text("username"), given.get_text("port"), given.get_text("proxy_host")
    ports = [port, *re.findall(r"\b(?:ssh|scp)\s[^\n]{0,200}?-[pP]\s*(\d+)", script)]
    jumps = [jump, *re.findall(r"\bssh\s[^\n]{0,200}?-J\s*(\S+)", script)]
    users = [user, *re.findall(r"\bssh\s[^\n@]{0,200}?([a-z_][\w-]*)@", re.sub(r"-J\s*\S+", "", script))]
    said = [f"as {each}" for each in dict.fromkeys(users) if each and "${{" not in each]
    said += [f"by port {each}" for each in ports if each.isdecimal() and each != "22"]
    return said + ["through another machine"] if any(jumps) else said


def _collect_login_settings(known: dict[str, tuple[str, str]], step: YamlMapping, text: str) -> None:
    """What a step reaches a server with: what its action is given, then what is named like it."""
    for key, role in _ACTION_INPUT_ROLES.items():
        if found := _SECRET_OR_VARIABLE.search(step.get_mapping("with").get_text(key)):
            known.setdefault(role, ("secret" if found[1] == "secrets" else "variable", found[2]))
    for kind, name in _SECRET_OR_VARIABLE.findall(text):
        role = next((role for role, names in _SETTING_ROLE_PATTERNS.items() if names.search(name)), "")
        if role and name.upper() == name and (role == "token" or not _UNRELATED_SETTING.search(name)):
            known.setdefault(role, ("secret" if kind == "secrets" else "variable", name))


def _narrow_trigger(trigger: WorkflowTrigger, condition: str) -> WorkflowTrigger:
    """What is left of a trigger under a job's `if`."""
    if word := re.search(r"(!\s*)?contains\(\s*github\.ref(?:_name)?\s*,\s*'(-[\w.]+)'\s*\)", condition):
        tags = [tag for tag in trigger.tags if ("-" in tag) is not bool(word[1])]
        made = tags or ["v*" if word[1] else f"v*{word[2].rstrip('.')}*"]
        return WorkflowTrigger([], made, trigger.paths, False, trigger.where)
    branches = re.findall(r"refs/heads/([\w./-]+)", condition) + re.findall(r"ref_name\s*==\s*'([\w./-]+)'", condition)
    tagged = re.search(r"refs/tags/|ref_type\s*==\s*'tag'|event_name\s*==\s*'release'", condition) is not None
    by_hand = re.search(r"event_name\s*==\s*'workflow_dispatch'", condition) is not None
    if not (branches or tagged or by_hand) or "!=" in condition or re.search(r"!\s*startsWith", condition):
        return trigger
    kept = [name for name in branches if name in trigger.branches or not trigger.branches or "**" in trigger.branches]
    return WorkflowTrigger(
        kept, (trigger.tags or ["v*"]) if tagged else [], trigger.paths, by_hand and trigger.by_hand, trigger.where
    )
