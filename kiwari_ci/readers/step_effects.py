"""The effects of a job: what its steps build, push, deploy or delete, with whichever tool."""

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from kiwari_ci.readers.called_scripts import (
    CalledScript,
    CallPlace,
    NoScripts,
    ScriptFinder,
    change_folder,
    enter_server,
    get_cd_target,
    get_remote_command,
    get_ssh_host,
)
from kiwari_ci.readers.compose_of_today import list_files_of_variable
from kiwari_ci.readers.docker_build import parse_docker_build
from kiwari_ci.readers.image_reference import parse_image_repository
from kiwari_ci.readers.shell import MAX_SCRIPT_LENGTH, ShellCommand, locate_shell_commands
from kiwari_ci.readers.workflow import ParsedJob, ParsedStep, ParsedWorkflow, get_action_name
from kiwari_ci.readers.yaml_document import as_inline_code

SSH_CLIENT_NAME = "deploy-over-ssh"  # our program that calls the host program
HOST_PROGRAM_NOTE = "the host program"  # how our own deploys are done, among other ways such as `docker compose up`
ROLLOUT_NAME = "rollout"  # our program that deploys to a cluster
ROLLOUT_NOTE = "the rollout program"
BAKE = "docker bake"  # builds what a bake file names, which is not read
MAX_WORKFLOW_SCRIPTS = 1_000_000  # characters of one workflow, each combination of a matrix counted
_IGNORED_COMMANDS = re.compile(
    r"(mkdir|echo|printf|chmod|chown|sleep|set|cd|umask|ssh-keyscan|cat|ssh-agent|ssh-add|rm|trap|test|\[|\[\[|true|exit|"
    r"touch|ls|pwd|done|fi|else|read|tee|grep|for|while|export|unset|source|\.|env|which|install|sed|awk|tr|cut|"
    r"head|tail|case|esac|break|continue|continue|until|jq|tar|local|return|shift|date|id|whoami|hostname|}|;;|nc)"
)
_FILE_COMMANDS = ("cp", "mv", "ln")  # on a server they may change what serves; elsewhere they do not last
_FUNCTION_DEFINITION = re.compile(r"^[ \t]*(?:function[ \t]+)?([A-Za-z_][\w-]*)[ \t]*\(\)", re.MULTILINE)
_SETUP_COMMANDS = re.compile(
    r"npm (ci|i|install)\b|yarn( install.*)?$|pnpm (i|install|fetch)\b|bun install|pip3? install"
    r"|python3? -m (pip|venv)|apt(-get)? |apk "
    r"|git (config|fetch|pull|reset|checkout|rev-parse|log|diff|describe|clone|status)|go mod|docker (login|logout)"
    r"|(nslookup|ping|journalctl|xargs|timeout|wait|kill|ss|df|free|du|dig) |systemctl status|npx prisma generate"
    r"|poetry install|uv sync|bundle install|composer install|corepack "
)
_SETUP_ACTIONS = re.compile(
    r"(actions/(checkout|setup-|cache|upload-artifact|download-artifact|configure-pages)|docker/(login|setup-|metadata)"
    r"|pnpm/action-setup|oven-sh/setup-bun|webfactory/ssh-agent|shimataro/ssh-key-action|astral-sh/setup|"
    r"dtolnay/rust-toolchain|Swatinem/rust-cache|gradle/|tailscale/|hashicorp/setup-|depot/setup)"
)
_MIGRATION_COMMAND = re.compile(
    r"\b(migrate|migrations?|alembic|flyway|liquibase|db:deploy|db push|knex|dbmate|goose)\b", re.I
)
_RUNNER_VARIABLES = {"GITHUB_SHA": ("<github.sha>",), "GITHUB_REF_NAME": ("<github.ref_name>",)}
_PROMOTED_IMAGE = "${image%@*}"  # our own promotion's loop over the images that it found
_SCRIPT_INPUTS = ("script", "command", "run", "args", "remote_command")


def is_migration_command(line: str) -> bool:
    """Whether a command, or a name, has the word of a program that migrates databases."""
    return _MIGRATION_COMMAND.search(line) is not None


@dataclass(frozen=True)
class StepEffect:
    """One thing that a step does: `what` is an image, a stack's folder, a URL or a command; `note` says more of it.

    `project` is the Compose project that the command names, and `arguments` are those of a build, each `NAME=value`.
    """

    kind: str
    what: str
    where: str
    note: str = ""
    project: str = ""
    arguments: tuple[str, ...] = ()


@dataclass
class _ScriptContext:
    """Where a script is while it is read: its folder, whether on a server, and the files of Compose without `-f`.

    `place` says the same for the scripts that it runs, which `finder` finds.
    """

    finder: ScriptFinder
    place: CallPlace
    folder: str = ""
    remote: bool = False
    compose_files: list[str] = field(default_factory=list)
    functions: set[str] = field(default_factory=set)  # whose commands are read where they are defined

    def enter(self, place: CallPlace, *, shares_functions: bool) -> "_ScriptContext":
        """The context of a script that runs at a place: in another folder for `make -C FOLDER`."""
        functions = self.functions if shares_functions else set(self.functions)
        is_moved = place.folder is not None and place.folder != self.place.folder
        folder = str(place.folder) if is_moved else self.folder
        return replace(
            self,
            place=place,
            folder=folder,
            remote=place.is_remote,
            compose_files=list(self.compose_files),
            functions=functions,
        )

    def change_folder(self, words: list[str]) -> None:
        """Note the folder after a `cd`."""
        self.place = replace(self.place, folder=change_folder(self.place.folder, words))
        folder = posixpath.normpath(posixpath.join(self.folder, get_cd_target(words)))
        self.folder = "" if folder == "." else folder


def find_workflow_effects(
    workflow: ParsedWorkflow, finder: ScriptFinder | None = None
) -> Iterator[tuple[ParsedJob, StepEffect]]:
    """Find the effects of a workflow in order, each once for a job. Only the beginning of a long script is read.

    A job whose refs or matrix choose between several environments is several jobs here. The effects of a script of the
    repository that `finder` finds have their places there.
    """
    finder = finder or ScriptFinder(NoScripts())
    remaining = MAX_WORKFLOW_SCRIPTS
    jobs = [variant for job in workflow.jobs for variant in job.variants or (job,)]
    for job in jobs:
        effects: dict[StepEffect, None] = {}
        for step in job.steps:
            remaining -= len(step.run)
            if remaining > 0:
                effects |= dict.fromkeys(_find_step_effects(job, step, finder))
        yield from ((job, effect) for effect in effects)


def _find_step_effects(job: ParsedJob, step: ParsedStep, finder: ScriptFinder) -> Iterator[StepEffect]:
    action = get_action_name(step.uses).lower()
    script = next((step.inputs[key] for key in _SCRIPT_INPUTS if key in step.inputs), "") if "ssh" in action else ""
    if action.startswith("docker/build-push-action"):
        yield from _find_build_effects(step)
    elif script:
        yield StepEffect("login", _describe_host_key_check(step), step.where, step.inputs.get("host", ""))
        place = enter_server(CallPlace(step.where))
        yield from _find_script_effects(script, step, _ScriptContext(finder, place, remote=True))
    elif step.run:
        place = CallPlace(step.where, is_remote=job.own_machine, variables=step.env)
        yield from _find_script_effects(step.run, step, _ScriptContext(finder, place, remote=job.own_machine))
    elif action.startswith("docker/bake-action"):
        yield StepEffect("other", BAKE, step.where, f"{as_inline_code(step.title)} (docker/bake-action)")
    elif action and not _SETUP_ACTIONS.match(action) and not action.startswith("./"):
        copies = re.search(r"scp|rsync", action)
        copy_description = (
            f"{as_inline_code(step.inputs.get('source', step.title))} is copied to the server" if copies else ""
        )
        step_description = (
            as_inline_code(action)
            if step.title.lower() == action
            else f"{as_inline_code(step.title)} ({as_inline_code(action)})"
        )
        yield StepEffect("other", action, step.where, copy_description or step_description)


def _describe_host_key_check(step: ParsedStep) -> str:
    return "" if step.inputs.get("fingerprint") else "any host key is accepted"


def _find_build_effects(step: ParsedStep) -> Iterator[StepEffect]:
    context, file = step.inputs.get("context", "."), step.inputs.get("file", "")
    tags = [tag.strip() for tag in re.split(r"[\n,]+", step.inputs.get("tags", "")) if tag.strip()]
    pushed = step.inputs.get("push", "") not in ("", "false") or "push=true" in step.inputs.get("outputs", "")
    for tag in tags:
        yield StepEffect("push" if pushed else "build", tag, step.where)
    if tags:
        dockerfile = resolve_dockerfile_path(context, file)
        lines = (line.strip() for line in str(step.inputs.get("build-args", "")).splitlines())
        arguments = tuple(line for line in lines if line)
        yield StepEffect("build", parse_image_repository(tags[0]), step.where, dockerfile, arguments=arguments)


def resolve_dockerfile_path(context: str, file: str) -> str:
    """The Dockerfile of a build, from the repository's root."""
    context = re.sub(r"^\./|/$", "", context).strip(".") if not context.startswith(("http", "<")) else context
    return re.sub(r"^\./", "", file) or f"{context}/Dockerfile".lstrip("/")


def _find_script_effects(
    script: str, step: ParsedStep, context: _ScriptContext, called: CalledScript | None = None
) -> Iterator[StepEffect]:
    """The effects of a script of a step, or of one that such a script runs."""
    variables = {key: (value,) for key, value in step.env.items() if len(value) < 300} | _RUNNER_VARIABLES
    yield from _find_generated_effects(script, step.where)
    settings = "\n".join(f"{key}={value}" for key, value in step.env.items())
    context.compose_files = (
        list_files_of_variable(script) or list_files_of_variable(settings) or list(context.compose_files)
    )
    promoted: list[str] = []
    context.functions |= set(_FUNCTION_DEFINITION.findall(script[:MAX_SCRIPT_LENGTH]))
    for command in locate_shell_commands(script, variables):
        words = command.words
        if words[0] == "find_image" and len(words) > 4:
            promoted.append(words[3])
        if words[0] in context.functions:
            continue
        if called:
            context.place = replace(context.place, where=called.where(command.line))
        script_effects = _find_effects_of_called_scripts(command, step, context)
        if script_effects:
            yield from script_effects
            continue
        where = context.place.where
        for effect in _find_command_effects(words, context, step):
            images = (
                [effect.what.replace(_PROMOTED_IMAGE, promoted_image) for promoted_image in promoted]
                if _PROMOTED_IMAGE in effect.what
                else [effect.what]
            )
            yield from (replace(effect, what=image, where=effect.where or where) for image in images)
    yield from (StepEffect("take", f"{image}:src-<key>", step.where) for image in promoted)


def _find_effects_of_called_scripts(
    command: ShellCommand, step: ParsedStep, context: _ScriptContext
) -> list[StepEffect]:
    """The effects of the scripts that a command runs; none if it stands for them itself, as a script of tests does."""
    effects: list[StepEffect] = []
    for called in context.finder.find_scripts(command, context.place):
        called_context = context.enter(called.place, shares_functions=command.words[0] in ("source", "."))
        effects += _find_script_effects(called.text, step, called_context, called)
    is_needed = any(effect.kind != "other" for effect in effects)
    return effects if is_needed else []


def _find_generated_effects(script: str, where: str) -> Iterator[StepEffect]:
    """What only our own scripts say: which service a container is of, and the addresses that are asked."""
    for container, service in re.findall(r'"([\w.-]+)=\$DIGEST_([A-Z0-9_]+)"', script):
        yield StepEffect("names", service.lower().replace("_", "-"), where, container)
    for url in re.findall(r"\bcurl (?:.*\\\n)*.*--retry-all-errors '?(https?://[^\s'$\"]+)", script):
        yield StepEffect("check", url, where)


def _find_command_effects(words: list[str], place: _ScriptContext, step: ParsedStep) -> Iterator[StepEffect]:
    name = words[0].rpartition("/")[2]
    line = " ".join(words)
    if name == "cd" and len(words) > 1:
        place.change_folder(words)
    elif name == "ssh":
        yield from _find_ssh_effects(words, step, place)
    elif name in ("docker", "docker-compose", "podman"):
        yield from _find_docker_effects(words, place)
    elif name == SSH_CLIENT_NAME:
        folder = _parse_options(words, "--folder") or _parse_options(words, "--stack")
        yield StepEffect("login", "", "")
        yield StepEffect("deploy", "".join(folder), "", HOST_PROGRAM_NOTE)
    elif name == ROLLOUT_NAME and "--stack" in words:
        yield StepEffect("deploy", "".join(_parse_options(words, "--stack")), "", ROLLOUT_NOTE)
    elif name in ("scp", "rsync"):
        yield StepEffect("other", line, "", f"files are copied to the server by {as_inline_code(line)}")
    elif name in ("curl", "wget"):
        yield from _find_http_effects(words, step)
    elif _MIGRATION_COMMAND.search(line) and name not in ("echo", "printf"):
        real = place.remote or any("<secrets." in value for value in step.env.values()) or "<secrets." in line
        yield StepEffect("migrate" if real else "other", line, "", as_inline_code(line))
    elif (
        not _SETUP_COMMANDS.match(line)
        and not _IGNORED_COMMANDS.fullmatch(name)
        and (place.remote or name not in _FILE_COMMANDS)
        and not name.startswith(("$", "-", "<"))
        and not line.endswith(("]", "{"))
    ):
        kind = "remote" if place.remote else "other"
        yield StepEffect(kind, line, "", as_inline_code(line))


def _find_ssh_effects(words: list[str], step: ParsedStep, context: _ScriptContext) -> Iterator[StepEffect]:
    """What is called on the host: the words behind its name, or a here-document."""
    line = " ".join(words)
    checks = re.search(r"StrictHostKeyChecking[= ]([\w-]+)", line)
    warnings = {"no": "any host key is accepted", "off": "any host key is accepted"}
    warnings["accept-new"] = "whatever host key answers first is accepted"
    yield StepEffect("login", warnings.get(checks[1] if checks else "", ""), "", get_ssh_host(words))
    remote = get_remote_command(words)
    if remote and not context.place.is_too_deep:
        remote_context = _ScriptContext(context.finder, enter_server(context.place), remote=True)
        yield from _find_script_effects(remote, step, remote_context)


def _find_docker_effects(words: list[str], place: _ScriptContext) -> Iterator[StepEffect]:
    arguments = [word for word in words[1:] if word not in ("buildx", "image")]
    if words[0] == "docker-compose":
        arguments = ["compose", *arguments]
    verb, line = next((word for word in arguments if not word.startswith("-")), ""), " ".join(words)
    if verb == "compose":
        yield from _find_compose_effects(arguments[arguments.index("compose") + 1 :], line, place)
    elif verb == "bake":
        yield StepEffect("other", BAKE, "", as_inline_code(line))
    elif verb == "build":
        yield from _find_docker_build_effects(arguments[arguments.index("build") + 1 :])
    elif verb == "push" and len(arguments) > 1:
        yield StepEffect("push", arguments[-1], "")
    elif verb == "tag" and len(arguments) > 2:
        yield StepEffect("take", arguments[1], "", arguments[2])
    elif verb == "imagetools" and "create" in arguments:
        yield from (StepEffect("push", tag, "") for tag in _parse_options(arguments, "-t", "--tag"))
        yield from [] if arguments[-1].startswith("$") else [StepEffect("take", arguments[-1], "")]
    elif verb == "run" and place.remote:
        yield from _find_docker_run_effects(arguments, line)
    elif _MIGRATION_COMMAND.search(line):
        yield StepEffect("migrate", line, "", as_inline_code(line))
    elif place.remote and (verb == "exec" or (verb in ("network", "volume") and "create" in arguments)):
        yield StepEffect("remote", line, "", as_inline_code(line))


def _find_docker_build_effects(words: list[str]) -> Iterator[StepEffect]:
    build = parse_docker_build(words)
    for tag in build.tags:
        yield StepEffect("push" if build.pushes else "build", tag, "")
    if build.tags:
        dockerfile = resolve_dockerfile_path(build.context or ".", build.files[0] if build.files else "")
        image = parse_image_repository(build.tags[0])
        yield StepEffect("build", image, "", dockerfile, arguments=tuple(build.arguments))


def _find_docker_run_effects(arguments: list[str], line: str) -> Iterator[StepEffect]:
    names = _parse_options(arguments, "--name")
    if _MIGRATION_COMMAND.search(line):
        yield StepEffect("migrate", line, "", as_inline_code(line))
    elif names and "--rm" not in arguments:
        yield StepEffect("container", names[0], "", as_inline_code(line, 160))


def _find_compose_effects(arguments: list[str], line: str, place: _ScriptContext) -> Iterator[StepEffect]:
    files = _parse_options(arguments, "-f", "--file") or place.compose_files
    verb = next(
        (
            word
            for word in arguments
            if word in ("up", "pull", "down", "build", "push", "restart", "run", "exec", "stop")
        ),
        "",
    )
    if _MIGRATION_COMMAND.search(line):
        yield StepEffect("migrate", line, "", as_inline_code(line))
    elif not place.remote and verb in ("build", "push") or place.remote and verb in ("exec", "run"):
        yield StepEffect("other", line, "", as_inline_code(line))
    elif place.remote and verb:
        project = next(iter(_parse_options(arguments, "-p", "--project-name")), "")
        stack = project or place.folder.rstrip("/").rpartition("/")[2]
        note = f"docker compose {verb}" + _format_compose_flags(arguments, verb)
        yield StepEffect("deploy", "\n".join([stack, *files]), "", note, project)


def _format_compose_flags(arguments: list[str], verb: str) -> str:
    flags = [flag for flag in ("--build", "-v", "--volumes") if flag in arguments]
    return "".join(f" {flag}" for flag in flags)


def _parse_options(arguments: list[str], *names: str) -> list[str]:
    values = [value for name, value in zip(arguments, arguments[1:], strict=False) if name in names]
    return values + [
        word.partition("=")[2] for word in arguments if word.startswith(tuple(f"{name}=" for name in names))
    ]


def _find_http_effects(words: list[str], step: ParsedStep) -> Iterator[StepEffect]:
    url = next((word for word in words[1:] if re.match(r"https?://|<(secrets|vars|env)\.", word)), "")
    posts = any(word in ("-X", "-d", "--data", "--request", "-F") or word.startswith("-d{") for word in words)
    if posts or "hooks" in url or "api.telegram" in url:
        yield StepEffect(
            "other",
            url or step.title,
            "",
            f"{as_inline_code(step.title)} (a call of {as_inline_code(url or 'some address')})",
        )
    elif url and any("%{redirect_url}" in word for word in words):
        yield StepEffect("redirect", url, "")
    elif url and not re.search(
        r"\.(sh|gz|zip|tgz)$|githubusercontent|github\.com|//(ghcr|docker|quay)\.io|get\.|install", url
    ):
        yield StepEffect("check", url, "")
