"""One job of a workflow that is there already: what it builds, tests and deploys."""

import posixpath
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any

from kiwari_ci.commands.init import build_settings
from kiwari_ci.commands.init.build_preparations import BuildPreparation, PreparationReader, only_sets_outputs
from kiwari_ci.commands.init.build_settings import BuildSettings
from kiwari_ci.commands.init.docker_commands import (
    TEST_COMMAND,
    UNKNOWN_TEXT,
    is_needed_for_tests,
    iter_docker_commands,
    parse_docker_run,
    parse_image_name,
)
from kiwari_ci.commands.init.job_scripts import JobScripts, ScriptOfStep
from kiwari_ci.commands.init.registry_logins import UnnamedPush, build_unnamed_push, find_registry_logins
from kiwari_ci.commands.init.rendered_env import RenderedVariable, UnreadEnvLine, WholeEnvFile, read_rendered_env
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.bounded_text import fill_in_values
from kiwari_ci.readers.called_scripts import ScriptFinder, change_folder
from kiwari_ci.readers.compose_of_today import list_file_groups_of_variable
from kiwari_ci.readers.docker_build import parse_docker_build
from kiwari_ci.readers.image_reference import parse_image_reference
from kiwari_ci.readers.repository import LocalRepository, join_path
from kiwari_ci.readers.shell import MAX_SCRIPT_LENGTH, locate_shell_commands
from kiwari_ci.readers.vocabulary import SourcedValue
from kiwari_ci.readers.workflow import get_action_name, is_own_machine, list_runner_labels
from kiwari_ci.readers.workflow_calls import EXPRESSION_PATTERN, is_excluded_by_matrix
from kiwari_ci.readers.workflow_triggers import runs_on_pull_requests, split_alternatives, split_conjunction
from kiwari_ci.readers.yaml_document import YamlDocument, YamlMapping, as_inline_code, collect_strings, format_scalar

_SHELL_VARIABLE = re.compile(r"\$\{?(\w+)\}?")
_PROXY_PROGRAM = re.compile(r"\b(?:ProxyCommand|cloudflared access|tailscale (?:up|nc)|tailscale/github-action)\b")
_SSH_COMMAND = re.compile(r"(?:^|[\s;&|(])(?:ssh|scp|rsync)\s")
_STARTING_COMMAND = re.compile(
    r"(?<![\w.-])(?:docker|docker-compose|podman|systemctl|service|supervisorctl|pm2|make|kubectl|helm|kamal|npm|curl|bash|sh)\s"
    r"|\.sh\b|ansible|\brestart\b"
)
_COMPOSE_UP_COMMAND = re.compile(r"docker[ -]compose\b[^\n]{0,200}\bup\b|docker stack deploy")
_SSH_ACTION = re.compile(r"ssh|scp|rsync", re.IGNORECASE)
_NON_SERVER_ENVIRONMENTS = {"github-pages", "pypi", "testpypi", "npm", "docs", "copilot"}
_SETUP_ACTIONS = {
    "actions/setup-go": "go",
    "actions/setup-java": "java",
    "actions/setup-node": "node",
    "actions/setup-python": "python",
}
_TOOL_INSTALL_COMMANDS = {  # what an action puts there, and a command that does it, too
    "pnpm/action-setup": "corepack enable", "astral-sh/setup-uv": "pip install uv",
    "snok/install-poetry": "pip install poetry", "oven-sh/setup-bun": "npm install --global bun",
}  # fmt: skip
_IMAGE_COMMAND = re.compile(r"\bdocker (?:login|build|buildx|push|tag|pull|image)\b")
_SETTING_ROLE_PATTERNS = {
    "address": re.compile(r"(^|_)(HOST|HOSTNAME|IP|ADDRESS|SERVER)$"),
    "user": re.compile(r"(^|_)(USER|USERNAME|LOGIN)$"),
    "key": re.compile(r"SSH.*KEY|PRIVATE_KEY$|DEPLOY_KEY"),
    "port": re.compile(r"(^|_)(SSH|VPS|SERVER|HOST|DEPLOY)_?PORT$"),
    "known_hosts": re.compile(r"KNOWN_HOSTS|HOST_KEY$"),
    "token": re.compile(r"GHCR|CR_PAT|REGISTRY_(TOKEN|PASSWORD)|PACKAGES_TOKEN"),
}
_UNRELATED_SETTING = re.compile(
    r"DOCKER|REGISTRY|GHCR|SMTP|MAIL|(^|_)(DB|DATABASE|POSTGRES|PG|REDIS|GIT|NPM|SUPERUSER|ADMIN)_"
)
_ACTION_INPUT_ROLES = {"host": "address", "username": "user", "user": "user", "key": "key", "ssh_private_key": "key"}
_ACTION_INPUT_ROLES |= {"ssh-private-key": "key", "ssh_key": "key", "port": "port"}
_ACTION_INPUT_ROLES |= {"proxy_host": "jump address", "proxy_username": "jump user", "proxy_port": "jump port"}
_SETTING_KINDS = {"secrets": "secret", "vars": "variable"}
_SECRET_OR_VARIABLE = re.compile(r"\b(secrets|vars)\.([A-Za-z_]\w*)")
_SETTING_WITH_DEFAULT = re.compile(r"\b(?:secrets|vars)\.([A-Za-z_]\w*)\s*\|\|\s*'([\w.-]+)'")
_COMPOSE_PROJECT_OPTION = re.compile(
    r"docker[ -]compose\b[^\n;&|]{0,200}?\s(?:-p|--project-name)[ =][\"']?([a-z0-9][a-z0-9_-]*)(?![\w.$"
    + UNKNOWN_TEXT
    + "-])"
)
_WHOLE_WORD = r"(?![\w.$" + UNKNOWN_TEXT + "-])"
_COMPOSE_PROJECT_VARIABLE = re.compile(r"\bCOMPOSE_PROJECT_NAME=[\"']?([a-z0-9][a-z0-9_-]*)" + _WHOLE_WORD)
_COMPOSE_ENV_FILE_OPTION = re.compile(r"\s--env-file[ =][\"']?([\w./~-]{1,200})" + _WHOLE_WORD)
_COMPOSE_FOLDER_OPTION = re.compile(r"\s--project-directory[ =][\"']?(~?/[\w./-]{1,200})" + _WHOLE_WORD)
_COPIED_ENV_FILE = re.compile(
    r"(?:^|[\s;&|(\"'])(?:cp|mv|ln)\s(?:-\w+\s)?[\"']?([\w./~-]{0,200}\.env[\w.-]{0,60})[\"']?\s+[\w./~-]{0,200}\.env(?![\w.-])"
)
_COMPOSE_COMMAND = re.compile(r"docker[ -]compose\b[^\n;&|]{0,500}")
_STARTS_STACK = re.compile(r"\sup(?![\w.-])")
_COMPOSE_FILE_OPTION = re.compile(r"\s(?:-f|--file)[ =][\"']?([\w./~-]{1,200}\.ya?ml)(?![\w.$" + UNKNOWN_TEXT + "-])")
_CHANGE_DIRECTORY = re.compile(r"\bcd\s+[\"']?(~?/[\w./-]+)(?![\w./$" + UNKNOWN_TEXT + "-])")

_FOLDER_IN_HOME = re.compile(r"(?:set [-\w ]+\s+)?cd\s+[\"']?(\w[\w./-]*)(?=[\"']?\s*($|\n|&&|;))")
_EXPORTED_VARIABLE = re.compile(
    r"""^[ \t]*echo[ \t]+(["']?)([A-Za-z_]\w*)=([^"'\n]{0,1000})\1[ \t]{0,20}>>[ \t]*"""
    r"""["']?\$\{?GITHUB_ENV\}?["']?[ \t\r]*$""",
    re.MULTILINE,
)
_URL = re.compile(r"https?://[^\s\"'`<>;|)]+")
_PLAIN_ADDRESS = re.compile(r"\b(?:ssh|scp|rsync)\s[^\n]{0,200}?@([\w.-]{1,200})(?![\w.$" + UNKNOWN_TEXT + "-])")
_PLAIN_LOGIN = re.compile(r"\bssh\s[^\n@]{0,200}?(?<![\w$}])([a-z_][\w-]*)@")
_NAMES_REF = re.compile(r"refs/|ref_name|ref_type|github\.ref\b|event_name\s*==\s*'(release|workflow_dispatch)'")


@dataclass
class WorkflowTrigger:
    """What starts a workflow, or a job of it."""

    branches: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    by_hand: bool = False
    where: str = ""
    pull_requests: bool = False


@dataclass(frozen=True)
class JobStart:
    """How a job is reached: the workflow that events start, and the job there that calls, if it is called."""

    workflow: str
    where: str = ""  # of the job that calls
    callers: tuple[str, ...] = ()  # the names of the jobs and files that call, from the first on


@dataclass
class BuildStep:
    """An image that a workflow builds; `image` has neither registry's tag nor, where unknown, a name."""

    where: str
    workflow: str
    job: str
    image: str
    tag: str  # the first one, as far as it is known
    context: str
    dockerfile: str
    settings: BuildSettings
    preparations: list[BuildPreparation] = field(default_factory=list)  # steps before it


@dataclass
class TestSteps:
    """The commands of a job that tests, from its first to its last `run` in one folder."""

    where: str
    workflow: str
    job: str
    steps: list[str]  # the places of the steps
    folder: str
    lines: list[str]
    setups: list[tuple[str, str, str]]  # language, version or version_file, value
    dropped: list[SourcedValue]  # in words, what the job has and the spec's test has not
    lock_files: list[str]  # those by which the steps that install languages find a cache
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
    names: list[str]  # all that name it: the environment, the jobs that call it, the job and the file
    trigger: WorkflowTrigger
    started_by: str  # the workflow that events start: this one, or the one that calls it
    urls: list[SourcedValue] = field(default_factory=list)
    settings: dict[str, tuple[str, str]] = field(default_factory=dict)  # role: secret or variable, its name
    folders: list[SourcedValue] = field(default_factory=list)
    projects: list[SourcedValue] = field(default_factory=list)  # that its Compose commands name
    compose_files: list[SourcedValue] = field(default_factory=list)  # that its Compose commands name
    env_files: list[SourcedValue] = field(default_factory=list)  # that Compose fills in, beside the usual `.env`
    compose_file_groups: list[tuple[str, ...]] = field(default_factory=list)  # the same, by command
    rendered_env: list[RenderedVariable] = field(default_factory=list)  # what it writes into env files
    whole_env_files: list[WholeEnvFile] = field(default_factory=list)
    unread_env_lines: list[UnreadEnvLine] = field(default_factory=list)
    runner: SourcedValue | None = None  # the labels of a runner of one's own
    addresses: list[str] = field(default_factory=list)  # of its server, in plain text
    is_other_server: bool = False  # than the one that another job deploys the same environment to
    only_copies: bool = False  # files to the server, where it starts nothing
    notes: list[str] = field(default_factory=list)  # what a person should know of it


@dataclass(frozen=True)
class JobRunner:
    """The labels of the runner of a job that builds, tests or deploys."""

    labels: tuple[str, ...]
    where: str
    deploys: bool


@dataclass
class DetectedWorkflows:
    """All that the workflows say."""

    builds: list[BuildStep] = field(default_factory=list)
    tests: list[TestSteps] = field(default_factory=list)
    deploys: list[DeployJob] = field(default_factory=list)
    other_deploys: dict[tuple[str, str], str] = field(default_factory=dict)  # workflow and job: why it is not ours
    files: list[str] = field(default_factory=list)
    documents: dict[str, YamlDocument] = field(default_factory=dict)  # by path, those of composite actions included
    unnamed_pushes: list[UnnamedPush] = field(default_factory=list)  # images that only a variable names in full
    container_options: list[str] = field(default_factory=list)  # in words, what `docker run` says on a server
    runners: list[JobRunner] = field(default_factory=list)
    bakes: list[str] = field(default_factory=list)  # where `docker buildx bake` builds, whose file is not read
    pull_requests: str = ""  # where it says that pull requests are tested or built; empty if none are
    script_texts: dict[str, None] = field(default_factory=dict)  # of the repository's scripts that jobs run

    def join_texts(self) -> str:
        """All texts of the workflows: names, commands, what actions are given, and the scripts that jobs run."""
        texts = [text for document in self.documents.values() for text, _ in collect_strings(document.data)]
        return "\n".join([*texts, *self.script_texts])


class WorkflowJobReader:
    """Reads one job, with one combination of its matrix."""

    def __init__(
        self,
        repository: LocalRepository,
        workflows: DetectedWorkflows,
        path: str,
        document: YamlMapping,
        job_name: str,
        job: YamlMapping,
        trigger: WorkflowTrigger,
        matrix: dict[str, Any],
        start: "JobStart",
        finder: ScriptFinder,
    ) -> None:
        jobs = document.get_mapping("jobs")
        self.workflows = workflows
        self.document = document
        self.path = path
        self.job_name = job_name
        self.job = job
        self.trigger = trigger
        self.start = start
        self.where = start.where or jobs.where(job_name)
        self.steps: list[YamlMapping] = []
        self.step_places: dict[int, str] = {}
        combination = {f"matrix.{name}": format_scalar(value) for name, value in matrix.items()}
        for step, place in self.job.list_items("steps"):
            if isinstance(step, YamlMapping) and not is_excluded_by_matrix(step, combination):
                self.steps.append(step)
                self.step_places[id(step)] = place
        axes = self.job.get_mapping("strategy").get_mapping("matrix")
        self.empty_values = {f"matrix.{name}" for name in _list_empty_values(matrix, axes)}
        self.expression_values = self._collect_expression_values(repository, document, matrix)
        self.runs_on = [self._substitute_known(label) for label in list_runner_labels(self.job.get("runs-on"))]
        self.default_folder = "."
        for mapping in (document, self.job):
            folder = mapping.get_mapping("defaults").get_mapping("run").get_text("working-directory")
            if folder:
                self.default_folder = join_path(".", self._substitute(folder)) or "."
        self.scripts = list(self._iter_scripts(finder))
        workflows.script_texts |= dict.fromkeys(self._list_called_texts())

    def _iter_scripts(self, finder: ScriptFinder) -> Iterator[ScriptOfStep]:
        """The scripts of the repository that the steps run."""
        reader = JobScripts(finder, self._substitute_in_script, self._get_folder)
        job_env = {name: self._substitute(value) for name, value, _ in self._iter_env_of(self.document, self.job)}
        for step in self.steps:
            env = {**job_env, **{name: value for name, value, _ in self._iter_env_of(step)}}
            yield from reader.iter_scripts(step, env, is_own_machine=is_own_machine(self.runs_on))

    def _list_called_texts(self, step: YamlMapping | None = None) -> list[str]:
        """The texts of the scripts that all steps run, or that one step does."""
        return [script.called.text for script in self.scripts if step is None or script.step is step]

    def _collect_expression_values(
        self, repository: LocalRepository, document: YamlMapping, matrix: dict[str, Any]
    ) -> dict[str, Any]:
        """The values of the expressions that are known without a run."""
        slug = repository.slug[0] if repository.slug else UNKNOWN_TEXT
        self.expression_values = {
            "github.repository": slug,
            "github.repository_owner": slug.partition("/")[0],
            "github.event.repository.name": slug.rpartition("/")[2],
        }
        for name, value in matrix.items():
            self.expression_values[f"matrix.{name}"] = value
        for mapping in (document, self.job):
            for name, value in mapping.get_mapping("env").items():
                self.expression_values[f"env.{name}"] = self._substitute(value)
        self._add_exported_variables()
        return self.expression_values

    def _add_exported_variables(self) -> None:
        """Add the variables that steps set for the steps after them with `echo NAME=… >> $GITHUB_ENV`, as plain text.

        A condition may decide which of several lines runs, so a variable to which lines give several texts, or one
        that only a run knows, is not known.
        """
        texts: dict[str, set[str]] = {}
        for step in self.steps:
            script = step.get_text("run")[:MAX_SCRIPT_LENGTH]
            for _, name, value in _EXPORTED_VARIABLE.findall(script):
                texts.setdefault(name, set()).add(self._substitute(value))
                text = _choose_only_plain_text(texts[name])
                if text:
                    self.expression_values[f"env.{name}"] = text
                else:
                    self.expression_values.pop(f"env.{name}", None)

    def read(self) -> None:
        """Add the builds, the tests and the deploy of the job to `workflows`."""
        for step in self.steps:
            action = get_action_name(step.get_text("uses"))
            if action == "docker/build-push-action":
                self._add_action_build(step)
            if action == "docker/bake-action":
                self.workflows.bakes.append(step.where("uses"))
            script = self._substitute_in_script(step.get_text("run"))
            for folder_change, command in iter_docker_commands(script):
                folder = join_path(self._get_folder(step), folder_change)
                self._add_command_build(step, folder, step.where("run"), command)
        for called_script in self.scripts:
            self._add_builds_of_script(called_script)
        self._add_tests()
        self._add_deploy()
        test_jobs = {(steps.workflow, steps.job) for steps in self.workflows.tests}
        build_jobs = {(step.workflow, step.job) for step in self.workflows.builds}
        is_tested = (self.path, self.job_name) in test_jobs | build_jobs
        is_deploy = any(
            (deploy.workflow, deploy.job) == (self.path, self.job_name) for deploy in self.workflows.deploys
        )
        if is_tested or is_deploy:
            self.workflows.runners.append(JobRunner(tuple(self.runs_on), self.job.where("runs-on"), is_deploy))
        if self.trigger.pull_requests and is_tested and not self.workflows.pull_requests:
            self.workflows.pull_requests = self.trigger.where

    def _substitute(self, value: Any) -> str:
        """A text with its expressions replaced; an unknown one becomes UNKNOWN_TEXT."""
        return fill_in_values(EXPRESSION_PATTERN, lambda match: self._evaluate(match[1].strip()), format_scalar(value))

    def _substitute_known(self, value: str) -> str:
        """A text with the known expressions replaced; the others stay as they are."""

        def replace_expression(match: re.Match[str]) -> str:
            text = self._evaluate(match[1].strip())
            return match[0] if UNKNOWN_TEXT in text else text

        return fill_in_values(EXPRESSION_PATTERN, replace_expression, value)

    def _evaluate(self, expression: str) -> str:
        """The value of an expression; UNKNOWN_TEXT when only a run knows it."""
        if expression in self.empty_values:
            return ""
        value = self.expression_values.get(expression)
        nested = re.fullmatch(r"(matrix\.[^.]+)\.(.+)", expression)
        if value is None and nested:
            table = self.expression_values.get(nested[1])
            value = table.get(nested[2]) if isinstance(table, YamlMapping) else None
        return format_scalar(value) or UNKNOWN_TEXT

    def _substitute_in_script(self, script: str) -> str:
        """A script with its expressions and the variables of `env` replaced."""
        variables = {
            "GITHUB_REPOSITORY": self.expression_values["github.repository"],
            "GITHUB_REPOSITORY_OWNER": self.expression_values["github.repository_owner"],
        }
        for name, value in self.expression_values.items():
            if name.startswith("env."):
                variables.setdefault(name.removeprefix("env."), format_scalar(value))
        return fill_in_values(
            _SHELL_VARIABLE, lambda match: variables.get(match[1], match[0]), self._substitute(script)
        )

    def _get_folder(self, step: YamlMapping) -> str:
        """The folder that a step runs in."""
        own_folder = self._substitute(step.get_text("working-directory"))
        return join_path(".", own_folder) or "." if own_folder else self.default_folder

    def _add_action_build(self, step: YamlMapping) -> None:
        """Add the build of docker/build-push-action; a context that is a URL or unknown is taken for the root."""
        inputs = step.get_mapping("with")
        context = self._substitute(inputs.get_text("context")) or "."
        if "://" in context or context == UNKNOWN_TEXT:
            context = "."
        dockerfile = self._substitute(inputs.get_text("file")) or f"{context}/Dockerfile"
        settings = build_settings.parse_action_inputs(inputs, self._substitute_known)
        image, tag = self._find_image_name(inputs)
        self._add_build(step, inputs.where(), image, tag, context, dockerfile, settings)

    def _find_image_name(self, inputs: YamlMapping) -> tuple[str, str]:
        """The image's name and tag in a step's tags, or in those of the metadata step that they come from."""
        tags = inputs.get_text("tags")
        reference = re.search(r"steps\.([\w-]+)\.outputs\.tags", tags)
        if reference:
            for step in self.steps:
                if step.get_text("id") == reference[1]:
                    tags = step.get_mapping("with").get_text("images")
                    break
        for line in re.split(r"[\n,]", self._substitute(tags)):
            name = parse_image_name(line)
            if name:
                return name, parse_image_reference(line.strip()).tag
        return "", ""

    def _add_builds_of_script(self, script: ScriptOfStep) -> None:
        """Add the builds of a script that runs in the checkout."""
        folder = script.called.place.folder
        if script.is_on_server or not folder or folder.startswith(("/", "~")):
            return
        for command in locate_shell_commands(script.called.text):
            if command.words[0] == "cd":
                folder = change_folder(folder, command.words)
            elif folder is not None:
                self._add_command_build(script.step, folder, script.called.where(command.line), command.words)

    def _add_command_build(self, step: YamlMapping, folder: str | None, where: str, command: list[str]) -> None:
        """Add the build of a `docker build` or `docker buildx build` that a step runs in a folder."""
        if command[:1] == ["docker"] and "bake" in command[1:3]:
            self.workflows.bakes.append(where)
        if command[:1] != ["docker"] or "build" not in command[1:3] or command[1] == "compose":
            return
        build = parse_docker_build(command[command.index("build") + 1 :])
        if folder is None:
            return
        context = join_path(folder, build.context) or "."
        dockerfile = join_path(folder, build.files[0]) if build.files else f"{context}/Dockerfile"
        image = parse_image_name(build.tags[0]) if build.tags else ""
        tag = parse_image_reference(build.tags[0]).tag if build.tags else ""
        settings = build_settings.parse_command_options(build)
        self._add_build(step, where, image, tag, context, dockerfile or "", settings)

    def _list_preparations(self, build: YamlMapping, where: str, context: str) -> list[BuildPreparation]:
        """The steps before a build that the build may need.

        Of a script that builds, no part is a step of its own.
        """
        outer_env: dict[str, str] = {}
        for mapping in (self.document, self.job):
            outer_env |= {key: value for key, value, _ in mapping.iter_pairs("env")}
        reader = PreparationReader(outer_env, self._substitute_known, self._get_folder)
        steps = [(step, self.step_places[id(step)]) for step in self.steps]
        is_in_script = any(script.step is build and script.has_place(where) for script in self.scripts)
        if is_in_script:
            steps = list(takewhile(lambda step_and_place: step_and_place[0] is not build, steps))
        return reader.list_preparations(steps, build, context)

    def _add_build(
        self,
        step: YamlMapping,
        where: str,
        image: str,
        tag: str,
        context: str,
        file: str,
        settings: BuildSettings,
    ) -> None:
        """Add a build whose context and Dockerfile are known and inside of the repository."""
        unnamed_push = build_unnamed_push(image, find_registry_logins(self.steps, self._substitute), where)
        if unnamed_push:
            self.workflows.unnamed_pushes.append(unnamed_push)
        folder = join_path(".", context)
        dockerfile = join_path(".", file)
        if not folder or not dockerfile or UNKNOWN_TEXT in folder + dockerfile:
            return
        self.workflows.builds.append(
            BuildStep(
                where,
                self.path,
                self.job_name,
                image,
                tag,
                folder,
                dockerfile,
                settings,
                self._list_preparations(step, where, folder),
            )
        )

    def _add_tests(self) -> None:
        """Add the steps of a job that tests, up to the last test; a job that uses SSH is a deploy with a check."""
        steps = [step for step in self.steps if step.get_text("run")]
        scripts = [step.get_text("run") for step in steps]
        test_numbers = [number for number, script in enumerate(scripts) if TEST_COMMAND.search(script)]
        if not test_numbers or _SSH_COMMAND.search("\n".join(scripts)):
            return
        needed = [step for step in steps[: test_numbers[-1] + 1] if self._belongs_to_script_of_tests(step)]
        folders = {self._get_folder(step) for step in needed}
        common_folder = folders.pop() if len(folders) == 1 else "."
        lines = self._list_tool_commands()
        for step in needed:
            script = self._substitute(step.get_text("run")).rstrip()
            folder = self._get_folder(step)
            lines += _wrap_in_subshell(script, "" if folder == common_folder else folder, len(needed))
        env = {}
        for mapping in (self.job, *needed):
            for key, value, place in mapping.iter_pairs("env"):
                env[key] = SourcedValue(value, place)
        self.workflows.tests.append(
            TestSteps(
                where=steps[test_numbers[0]].where("run"),
                workflow=self.path,
                job=self.job_name,
                steps=[self.step_places[id(step)] for step in needed],
                folder=common_folder,
                lines=lines,
                setups=self._list_setups(),
                dropped=self._list_what_tests_lose(needed),
                lock_files=self._list_lock_files(),
                needs=dict(self.job.get_mapping("services").iter_mappings()),
                env=env,
                paths=self.trigger.paths,
            )
        )

    def _list_tool_commands(self) -> list[str]:
        """The commands that install what actions of the job install."""
        commands = []
        for action, command in _TOOL_INSTALL_COMMANDS.items():
            if any(action in step.get_text("uses") for step in self.steps):
                commands.append(command)
        return commands

    def _belongs_to_script_of_tests(self, step: YamlMapping) -> bool:
        """Whether a step up to the last test goes into the test's script: all but what a script cannot say."""
        script = step.get_text("run")
        if is_needed_for_tests(script):
            return True
        has_expression = "${{" in self._substitute_known(script) or "GITHUB_" in script
        return not has_expression and "if" not in step and "docker" not in script

    def _list_what_tests_lose(self, needed: list[YamlMapping]) -> list[SourcedValue]:
        """In words, what of the job has no place in the spec's test: its container, steps, files of other jobs."""
        lost = []
        container = self.job.get("container")
        if container:
            image = container.get_text("image") if isinstance(container, YamlMapping) else format_scalar(container)
            lost.append(SourcedValue(f"the container {image}", self.job.where("container")))
        needed_ids = {id(step) for step in needed}
        for step in self.steps:
            if step is needed[-1]:
                break
            place = self.step_places[id(step)]
            script = step.get_text("run").strip()
            action = get_action_name(step.get_text("uses"))
            is_of_build = _IMAGE_COMMAND.search(script) is not None or only_sets_outputs(script.split("\n"))
            if script and id(step) not in needed_ids and not is_of_build:
                lost.append(SourcedValue(as_inline_code(script.split("\n")[0]), place))
            elif action == "actions/download-artifact":
                name = step.get_mapping("with").get_text("name") or "of another job"
                lost.append(SourcedValue(f"the artifact {name}", place))
            elif action and action not in _SETUP_ACTIONS and action not in _TOOL_INSTALL_COMMANDS:
                is_known = action in ("actions/checkout", "actions/cache") or action.startswith(("docker/", "./"))
                if not is_known:
                    lost.append(SourcedValue(as_inline_code(action), place))
        for step in self.steps:
            if get_action_name(step.get_text("uses")) == "actions/upload-artifact":
                name = step.get_mapping("with").get_text("name") or "of this job"
                lost.append(SourcedValue(f"the upload of the artifact {name}", self.step_places[id(step)]))
        return lost

    def _list_setups(self) -> list[tuple[str, str, str]]:
        """The languages that the job sets up: the name, `version` or `version_file`, and the value."""
        setups = []
        for step in self.steps:
            language = _SETUP_ACTIONS.get(get_action_name(step.get_text("uses")))
            if not language:
                continue
            inputs = step.get_mapping("with")
            version_file = self._substitute(inputs.get(f"{language}-version-file"))
            version = self._substitute(inputs.get(f"{language}-version"))
            if version_file and UNKNOWN_TEXT not in version_file:
                setups.append((language, "version_file", join_path(".", version_file) or ""))
            elif version and UNKNOWN_TEXT not in version:
                setups.append((language, "version", version))
        return setups

    def _list_lock_files(self) -> list[str]:
        """List the lock files that the setup actions of the job name for their cache."""
        lock_files = []
        for step in self.steps:
            if get_action_name(step.get_text("uses")) in _SETUP_ACTIONS:
                written_paths = self._substitute(step.get_mapping("with").get("cache-dependency-path"))
                lock_files += [join_path(".", path) or "" for path in written_paths.split()]
        return lock_files

    def _add_deploy(self) -> None:
        """Add the deploy, when the job puts something on a server."""
        environment = self.job.get("environment")
        if isinstance(environment, YamlMapping):
            written_name = environment.get_text("name")
        else:
            written_name = format_scalar(environment)
        name = self._substitute(written_name)
        own_scripts = "\n".join(
            f"{step.get_text('run')}\n{step.get_mapping('with').get_text('script')}" for step in self.steps
        )
        scripts = "\n".join([own_scripts, *self._list_called_texts()])
        if name.lower() in _NON_SERVER_ENVIRONMENTS or not self._reaches_server(scripts, has_environment=bool(name)):
            return
        trigger = narrow_trigger(self.trigger, self.job.get_text("if"))
        if not (trigger.branches or trigger.tags or trigger.by_hand):
            return
        file_name = self.path.rpartition("/")[2]
        deploy = DeployJob(
            where=self.where,
            workflow=self.path,
            job=self.job_name,
            name="" if UNKNOWN_TEXT in name else name,
            names=[name, *self.start.callers, self.job_name, self.job.get_text("name"), file_name],
            trigger=trigger,
            started_by=self.start.workflow,
        )
        if is_own_machine(self.runs_on):
            deploy.runner = SourcedValue(self.runs_on, self.job.where("runs-on"))
        deploy.only_copies = self._only_copies_files(scripts)
        if "inputs." in written_name:
            deploy.notes.append(
                f"{self.where}: who starts it names the environment; here each one has an entry of its own"
            )
        self._collect_urls(deploy, environment)
        self._collect_logins(deploy)
        for folder in self._list_server_folders(scripts):
            deploy.folders.append(SourcedValue(folder.rstrip("/"), self.where))
        self._collect_compose_options(deploy, own_scripts)
        self._collect_rendered_env(deploy)
        _set_borrowed_environment_apart(deploy)
        self.workflows.container_options += self._describe_container_options()
        self.workflows.deploys.append(deploy)

    def _collect_compose_options(self, deploy: DeployJob, own_scripts: str) -> None:
        """Collect the projects, the files and the env files that the commands of a deploy give Compose."""
        settings = "\n".join(f"{name}={value}" for name, value, _ in self._iter_env())
        own_text = self._substitute_in_script(own_scripts)
        texts = [_DeployText(f"{own_text}\n{settings}", lambda _: self.where)]
        texts += [_DeployText(script.called.text, script.where) for script in self.scripts]
        folders: list[SourcedValue] = []
        for text in texts:
            deploy.projects += text.find_projects()
            files, groups = text.find_compose_files()
            deploy.compose_files += files
            deploy.compose_file_groups += groups
            deploy.env_files += text.find_env_files()
            folders += text.find_folders(files)
        deploy.env_files = _drop_repeated(deploy.env_files)
        if deploy.folders:
            deploy.folders = _enter_folder_of_files(deploy.folders, texts)
        else:
            deploy.folders = folders[:1]

    def _iter_env(self) -> Iterator[tuple[str, str, str]]:
        """The variables of the workflow, of the job and of its steps, with what is known of their values."""
        yield from self._iter_env_of(self.document, self.job, *self.steps)

    def _iter_env_of(self, *mappings: YamlMapping) -> Iterator[tuple[str, str, str]]:
        for mapping in mappings:
            for name, value, place in mapping.iter_pairs("env"):
                yield name, self._substitute(value), place

    def _list_server_folders(self, scripts: str) -> list[str]:
        """The folders in which a deploy works; a script that an SSH action runs begins in the login's home."""
        folders = _CHANGE_DIRECTORY.findall(self._substitute_in_script(scripts))
        for step in self.steps:
            inputs = step.get_mapping("with")
            if _SSH_ACTION.search(get_action_name(step.get_text("uses"))):
                first = _FOLDER_IN_HOME.match(self._substitute_in_script(inputs.get_text("script")).strip())
                folders += [f"~/{first[1]}"] if first else []
        return folders

    def _describe_container_options(self) -> list[str]:
        """In words, the options of containers that a deploy starts with `docker run`."""
        descriptions = []
        for step in self.steps:
            for mapping, key in ((step, "run"), (step.get_mapping("with"), "script")):
                for _, words in iter_docker_commands(self._substitute_in_script(mapping.get_text(key))):
                    descriptions += _describe_docker_run(mapping.where(key), words)
        for script in self.scripts:
            for command in locate_shell_commands(script.called.text):
                descriptions += _describe_docker_run(script.called.where(command.line), command.words)
        return descriptions

    def _reaches_server(self, scripts: str, *, has_environment: bool) -> bool:
        """Whether the job uses SSH, or starts containers on a runner of one's own or in an environment."""
        if _SSH_COMMAND.search(scripts):
            return True
        if any(_SSH_ACTION.search(get_action_name(step.get_text("uses"))) for step in self.steps):
            return True
        return (is_own_machine(self.runs_on) or has_environment) and _COMPOSE_UP_COMMAND.search(scripts) is not None

    def _collect_rendered_env(self, deploy: DeployJob) -> None:
        """Collect the variables of the env files that the steps write."""
        outer_env = {name: format_scalar(value) for name, value in self.document.get_mapping("env").items()}
        outer_env |= {name: format_scalar(value) for name, value in self.job.get_mapping("env").items()}
        steps = [(step, self._get_folder(step)) for step in self.steps]
        steps += [(script.as_step(), script.called.place.folder or ".") for script in self.scripts]
        for step, folder in steps:
            for line in read_rendered_env(step, outer_env):
                written = replace(line, folder=folder, is_named=_is_env_file_of_compose(line.path, deploy))
                if isinstance(written, WholeEnvFile):
                    deploy.whole_env_files.append(written)
                elif isinstance(written, UnreadEnvLine):
                    deploy.unread_env_lines.append(written)
                elif isinstance(written, RenderedVariable):
                    deploy.rendered_env.append(replace(written, text=self._substitute_known(written.text)))

    def _only_copies_files(self, scripts: str) -> bool:
        """Whether the job copies files to a server, and no command of it starts anything there."""
        names = " ".join(get_action_name(step.get_text("uses")) for step in self.steps)
        copies = re.search("scp|rsync", names, re.IGNORECASE) or re.search(r"(?:^|[\s;&|(])(?:scp|rsync)\s", scripts)
        return copies is not None and _STARTING_COMMAND.search(scripts) is None

    def _collect_urls(self, deploy: DeployJob, environment: Any) -> None:
        """Collect the addresses that a deploy names: its environment's URL first."""
        if isinstance(environment, YamlMapping) and environment.get_text("url"):
            deploy.urls.append(SourcedValue(self._substitute(environment.get_text("url")), environment.where("url")))
        for text, place in self._collect_own_strings():
            for url in _URL.findall(self._substitute_in_script(text)):
                deploy.urls.append(SourcedValue(url, place))
        for script in self.scripts:
            for match in _URL.finditer(script.called.text):
                deploy.urls.append(SourcedValue(match[0], script.where(match.start())))

    def _collect_own_strings(self) -> Iterator[tuple[str, str]]:
        """Every text of the job with its place, without those of steps that another combination of the matrix runs."""
        for key, value in self.job.items():
            if key != "steps":
                yield from collect_strings(value)
        for step in self.steps:
            yield from collect_strings(step)

    def _collect_logins(self, deploy: DeployJob) -> None:
        """Collect how the steps of a deploy log in to the server."""
        job_env = [text for text, _ in collect_strings(self.job.get("env"))]
        programs = [match[0] for text, _ in collect_strings(self.job) for match in _PROXY_PROGRAM.finditer(text)]
        if programs:
            deploy.notes.append(f"{self.where} reaches the server through {programs[0]}: `hosts.*.proxy_command`")
        for step in self.steps:
            script = "\n".join([step.get_text("run"), *self._list_called_texts(step)])
            uses_command = _SSH_COMMAND.search(script) is not None
            if not uses_command and not _SSH_ACTION.search(get_action_name(step.get_text("uses"))):
                continue
            login_options = _describe_login_options(step, script)
            fields = "write this into `user`, `port` or `jump` of the host"
            note = f"{self.where} logs in {', '.join(login_options)}: {fields}"
            if login_options and note not in deploy.notes:
                deploy.notes.append(note)
            host = self._substitute(step.get_mapping("with").get_text("host"))
            deploy.addresses += _list_plain_addresses(host, self._substitute_in_script(script))
            texts = [text for text, _ in collect_strings(step)]
            if uses_command:
                texts = [*job_env, *texts]
            _collect_login_settings(deploy.settings, step, "\n".join(texts))
            deploy.notes += [note for note in self._describe_defaults(deploy, texts) if note not in deploy.notes]

    def _describe_defaults(self, deploy: DeployJob, texts: list[str]) -> list[str]:
        """In words, the values that count today where a setting of the login is not set on GitHub."""
        defaults = {name: value for text in texts for name, value in _SETTING_WITH_DEFAULT.findall(text)}
        return [
            f"{self.where} takes {defaults[name]} where {name} is not set: set it, or write {defaults[name]} into "
            f"`{role}` of the host"
            for role, (_, name) in deploy.settings.items()
            if name in defaults
        ]


def _is_env_file_of_compose(path: str, deploy: DeployJob) -> bool:
    """Whether the commands of a deploy name an env file: by its path, or by a name that is not the usual one."""
    name = path.rpartition("/")[2]
    for named in (str(file.value) for file in deploy.env_files):
        has_same_name = named.rpartition("/")[2] == name != ".env"
        if has_same_name or named.removeprefix("./") == path.removeprefix("./"):
            return True
    return False


@dataclass(frozen=True)
class _DeployText:
    """A text with commands of a deploy, and the place of each of its characters."""

    text: str
    where: Callable[[int], str]

    def find_projects(self) -> list[SourcedValue]:
        """The projects that its commands give Compose."""
        return [
            SourcedValue(match[1], self.where(match.start()))
            for pattern in (_COMPOSE_PROJECT_OPTION, _COMPOSE_PROJECT_VARIABLE)
            for match in pattern.finditer(self.text)
        ]

    def find_compose_files(self) -> tuple[list[SourcedValue], list[tuple[str, ...]]]:
        """The files that its commands give Compose, and the same by command.

        Those of the variable stand for all commands that name none.
        """
        files: list[SourcedValue] = []
        groups: list[tuple[str, ...]] = []
        for command in _COMPOSE_COMMAND.finditer(self.text):
            names = tuple(_COMPOSE_FILE_OPTION.findall(command[0]))
            groups += [names] if names else []
            files += [SourcedValue(name, self.where(command.start())) for name in names]
        for names in list_file_groups_of_variable(self.text):
            groups.append(names)
            files += [SourcedValue(name, self.where(self.text.find("COMPOSE_FILE="))) for name in names]
        return files, groups

    def find_env_files(self) -> list[SourcedValue]:
        """The env files that become `.env`, and those that its commands give Compose."""
        copied = [SourcedValue(match[1], self.where(match.start())) for match in _COPIED_ENV_FILE.finditer(self.text)]
        return copied + self._find_in_commands(_COMPOSE_ENV_FILE_OPTION)

    def find_folders(self, files: Sequence[SourcedValue]) -> list[SourcedValue]:
        """The folders on the server that its Compose commands name, also by one of their files."""
        # Others end with what is not known.
        whole_files = [file for file in files if str(file.value).endswith((".yml", ".yaml"))]
        absolute_files = [file for file in whole_files if str(file.value).startswith(("/", "~/"))]
        folders = self._find_in_commands(_COMPOSE_FOLDER_OPTION)
        folders += [replace(file, value=str(file.value).rpartition("/")[0]) for file in absolute_files]
        return [replace(folder, value=str(folder.value).rstrip("/")) for folder in folders]

    def find_subfolders_of_files(self) -> set[str]:
        """The folders of the files from which its commands start containers, seen from where they run.

        Compose takes the folder of the first file for that of the project, unless a command names another.
        """
        files_of_variable = next(iter(list_file_groups_of_variable(self.text)), ())
        subfolders: set[str] = set()
        for command in _COMPOSE_COMMAND.finditer(self.text):
            if not _STARTS_STACK.search(command[0]):
                continue
            files = _COMPOSE_FILE_OPTION.findall(command[0]) or files_of_variable
            has_own_folder = "--project-directory" in command[0]
            subfolders.add(files[0].rpartition("/")[0] if files and not has_own_folder else "")
        return subfolders

    def _find_in_commands(self, pattern: re.Pattern[str]) -> list[SourcedValue]:
        return [
            SourcedValue(value, self.where(command.start()))
            for command in _COMPOSE_COMMAND.finditer(self.text)
            for value in pattern.findall(command[0])
        ]


def _enter_folder_of_files(folders: list[SourcedValue], texts: Iterable[_DeployText]) -> list[SourcedValue]:
    """The folders of the Compose files; `folders` are those in which the commands run."""
    subfolders = {subfolder for text in texts for subfolder in text.find_subfolders_of_files()}
    if len(subfolders) != 1:
        return folders
    subfolder = subfolders.pop()
    return [replace(folder, value=_enter_folder(str(folder.value), subfolder)) for folder in folders]


def _enter_folder(folder: str, subfolder: str) -> str:
    """The folder on the server that `cd SUBFOLDER` leads to."""
    if subfolder.startswith("~"):
        return subfolder
    return posixpath.normpath(posixpath.join(folder, subfolder))


def _drop_repeated(values: Sequence[SourcedValue]) -> list[SourcedValue]:
    """The first place of each value."""
    first_places: dict[str, SourcedValue] = {}
    for value in values:
        first_places.setdefault(str(value.value), value)
    return list(first_places.values())


def _describe_docker_run(where: str, words: list[str]) -> list[str]:
    """In words, the options of a container that a `docker run` starts; none for another command."""
    run = parse_docker_run(words)
    if not run or not run.options:
        return []
    return [f"{where}: `docker run` of {run.name}: {', '.join(run.options)}"]


def _set_borrowed_environment_apart(deploy: DeployJob) -> None:
    """Name a deploy staging if it deploys staging's Compose file, and only uses the secrets of production on GitHub.

    A job can deploy `compose.staging.yml` with `environment: production`, because both are on one server, whose login
    this environment has. Its own name then says staging, or nothing. The other way round, staging often has the
    Compose file of production.
    """
    file_kinds = {vocabulary.classify_environment(str(file.value)) for file in deploy.compose_files}
    own_names = deploy.names[1:]
    own_kind = vocabulary.classify_environment(" ".join(own_names))
    uses_production = vocabulary.classify_environment(deploy.name) == vocabulary.PRODUCTION
    if not uses_production or file_kinds != {vocabulary.STAGING} or own_kind not in ("", vocabulary.STAGING):
        return
    files = ", ".join(dict.fromkeys(str(file.value) for file in deploy.compose_files))
    deploy.notes.append(
        f"{deploy.where} deploys {files} with the secrets of the GitHub environment {deploy.name}: "
        "in this spec, that deploy needs a GitHub environment of its own"
    )
    deploy.name = ""
    deploy.names = [*own_names, *(str(file.value) for file in deploy.compose_files)]


def _choose_only_plain_text(texts: set[str]) -> str:
    """The only text that a variable can have; empty if it can have several, or if only a run knows it."""
    text = next(iter(texts))
    is_plain = UNKNOWN_TEXT not in text and "$" not in text
    return text if is_plain and len(texts) == 1 else ""


def _list_empty_values(combination: dict[str, Any], matrix: YamlMapping) -> list[str]:
    """The keys of a matrix that are empty in one combination of it: written so, or only those of other entries."""
    if not combination:
        return []
    other_entries = [entry for entry, _ in matrix.list_items("include") if isinstance(entry, YamlMapping)]
    names = {name for entry in other_entries for name in entry} | set(combination)
    return [name for name in names if combination.get(name) in (None, "")]


def _wrap_in_subshell(script: str, folder: str, step_count: int) -> list[str]:
    """The lines of a step within one script for all steps; a subshell keeps its `cd` from the next step."""
    lines = script.split("\n")
    if folder:
        lines.insert(0, f"cd {shlex.quote(folder)}")
    changes_folder = bool(folder) or (step_count > 1 and re.search(r"\bcd\s", script) is not None)
    if not changes_folder:
        return lines
    return ["(", *(f"  {line}" for line in lines), ")"]


def _list_plain_addresses(host: str, script: str) -> list[str]:
    """The servers that a step reaches, as far as their addresses are no secrets or variables.

    `host` is the input of an action that logs in.
    """
    addresses = _PLAIN_ADDRESS.findall(re.sub(r"-J\s*\S+", "", script))
    return [address for address in (host, *addresses) if re.fullmatch(r"[\w.-]*\.[\w.-]+", address)]


def _describe_login_options(step: YamlMapping, script: str) -> list[str]:
    """What a step and its script say of the login in plain text, not in a secret or variable."""
    inputs = step.get_mapping("with")
    script_without_jump = re.sub(r"-J\s*\S+", "", script)
    users = [inputs.get_text("username"), *_PLAIN_LOGIN.findall(script_without_jump)]
    ports = [inputs.get_text("port"), *re.findall(r"\b(?:ssh|scp)\s[^\n]{0,200}?-[pP]\s*(\d+)", script)]
    jump_of_action = "" if _names_setting(inputs.get_text("proxy_host")) else inputs.get_text("proxy_host")
    jumps = [jump_of_action, *re.findall(r"\bssh\s[^\n]{0,200}?-J\s*(\S+)", script)]
    options = [f"as {user}" for user in dict.fromkeys(users) if user and "${{" not in user]
    options += [f"by port {port}" for port in ports if port.isdecimal() and port != "22"]
    if any(jumps):
        options.append("through another machine")
    return options


def _names_setting(text: str) -> bool:
    """Whether a text is a secret or variable of GitHub."""
    return _SECRET_OR_VARIABLE.search(text) is not None


def _collect_login_settings(settings: dict[str, tuple[str, str]], step: YamlMapping, text: str) -> None:
    """Add the settings that a step reaches a server with: the inputs of its action, then settings named like them."""
    for key, role in _ACTION_INPUT_ROLES.items():
        reference = _SECRET_OR_VARIABLE.search(step.get_mapping("with").get_text(key))
        if reference:
            settings.setdefault(role, (_SETTING_KINDS[reference[1]], reference[2]))
    for context, name in _SECRET_OR_VARIABLE.findall(text):
        setting_role = _find_setting_role(name)
        if setting_role:
            settings.setdefault(setting_role, (_SETTING_KINDS[context], name))


def _find_setting_role(name: str) -> str:
    """What a secret or variable is for, by its name; empty for one that has nothing to do with the login."""
    if name.upper() != name:
        return ""
    for role, pattern in _SETTING_ROLE_PATTERNS.items():
        if pattern.search(name):
            is_related = role == "token" or not _UNRELATED_SETTING.search(name)
            return role if is_related else ""
    return ""


def narrow_trigger(trigger: WorkflowTrigger, condition: str) -> WorkflowTrigger:
    """Return the part of a trigger that satisfies a job's `if`, whose terms must all be true."""
    bare_condition = condition.removeprefix("${{").removesuffix("}}").strip()
    for term in split_conjunction(bare_condition):
        trigger = _narrow_by_term(trigger, term)
    return replace(trigger, pull_requests=trigger.pull_requests and runs_on_pull_requests(bare_condition))


def exclude_from_trigger(trigger: WorkflowTrigger, condition: str) -> WorkflowTrigger:
    """Return the part of a trigger that does not satisfy a condition of the branch or tag."""
    excluded = narrow_trigger(trigger, condition)
    branches = [pattern for pattern in trigger.branches if pattern not in excluded.branches]
    tags = [pattern for pattern in trigger.tags if pattern not in excluded.tags]
    return replace(trigger, branches=branches, tags=tags)


def _narrow_by_term(trigger: WorkflowTrigger, condition: str) -> WorkflowTrigger:
    """What a term leaves of a trigger; all of it where one of several alternatives names no ref."""
    if any(not _NAMES_REF.search(alternative) for alternative in split_alternatives(condition)):
        return trigger
    tag_part = re.search(r"(!\s*)?contains\(\s*github\.ref(?:_name)?\s*,\s*'(-[\w.]+)'\s*\)", condition)
    if tag_part:
        wants_candidates = not tag_part[1]
        tags = [tag for tag in trigger.tags if ("-" in tag) is wants_candidates]
        if not tags:
            tags = [f"v*{tag_part[2].rstrip('.')}*" if wants_candidates else "v*"]
        return WorkflowTrigger([], tags, trigger.paths, False, trigger.where)
    branches = re.findall(r"refs/heads/([\w./-]+)", condition)
    branches += re.findall(r"ref_name\s*==\s*'([\w./-]+)'", condition)
    names_tags = re.search(r"refs/tags/|ref_type\s*==\s*'tag'|event_name\s*==\s*'release'", condition) is not None
    names_dispatch = re.search(r"event_name\s*==\s*'workflow_dispatch'", condition) is not None
    is_negated = "!=" in condition or re.search(r"!\s*startsWith", condition) is not None
    if is_negated or not (branches or names_tags or names_dispatch):
        return trigger
    if trigger.by_hand and branches and not (trigger.branches or trigger.tags):
        return trigger  # a person starts it, on one of these branches, and no push does
    if trigger.branches and "**" not in trigger.branches:
        branches = [name for name in branches if name in trigger.branches]
    tags = (trigger.tags or ["v*"]) if names_tags else []
    return WorkflowTrigger(branches, tags, trigger.paths, names_dispatch and trigger.by_hand, trigger.where)
