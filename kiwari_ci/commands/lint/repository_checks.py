"""Compares a spec with its repository: what is named must exist, and what is built must be covered by paths."""

import difflib
import json
import posixpath
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from kiwari_ci import generator
from kiwari_ci.commands.lint import build_inputs
from kiwari_ci.commands.lint.build_inputs import LintContext, format_first_names
from kiwari_ci.commands.lint.web_server_files import check_web_server_files
from kiwari_ci.plan_model import Plan
from kiwari_ci.planning import required_settings
from kiwari_ci.problems import Problem, SpecError, escape_control_characters, sort_problems
from kiwari_ci.readers import tracked_files
from kiwari_ci.readers.yaml_document import UnreadableYaml, YamlMapping, as_list, parse_yaml_document
from kiwari_ci.spec_loading.validation import format_yaml_path, report_at_key, report_at_value
from kiwari_ci.spec_loading.yaml_source import YamlPath

Problems = Iterator[Problem]

MAX_FUZZY_CANDIDATES = 2000  # names among which one is looked for that is nearly right
_DOCKERFILE_NAME = re.compile(r"(?:.*/)?(?:[^/]+\.)?(?:Dockerfile(?:[.-](?P<kind>[^/]*))?|dockerfile)")
# No service of its own: for a person's machine, for tests, or what others build on.
_NON_SERVICE_PATH = re.compile(
    r"(?:.*[/._-])?(?:\.[^/]+|base|builder|ci|debug|dev|devcontainer|development|docs?|e2e|examples?|fixtures?|local"
    r"|node_modules|templates?|test|testdata|testing|tests|third_party|tools?|vendor)(?:[/._-].*)?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class LintReport:
    """The problems, the plan whose required settings are listed with them, and a summary of what was checked."""

    problems: list[Problem]
    plan: Plan
    summary: str

    @property
    def is_clean(self) -> bool:
        """Whether there is no problem but advice."""
        return all(problem.severity == "advice" for problem in self.problems)

    def as_text(self) -> str:
        """Format the required settings and the summary."""
        return "\n\n".join(filter(None, [required_settings.format_required_settings(self.plan), self.summary]))

    def as_json(self) -> str:
        """Format everything as JSON."""
        parts: dict[str, Iterable[Any]] = {
            "problems": self.problems,
            "needs": self.plan.needs,
            "env_files": required_settings.list_host_env_files(self.plan),
        }
        lists = {name: [asdict(entry) for entry in entries] for name, entries in parts.items()}
        return json.dumps(lists, indent=2, ensure_ascii=False)


def lint_repository(path: Path, folder: Path | None) -> LintReport:
    """Compare a spec with the repository in a folder, or in the current checkout; raises SpecError of the spec."""
    loaded = generator.load_spec(path)
    root = folder or tracked_files.find_checkout_root(Path())
    checkout = tracked_files.read_checkout(root)
    lint_context = LintContext(loaded.source, loaded.effective, checkout, root.as_posix())
    kind = f"files (all of them: {checkout.no_git})" if checkout.no_git else "files that git tracks"
    location = f"{len(checkout.files)} {kind} in {root.as_posix()}"
    if not checkout.files:
        hint = "git add them, or name the folder: --checkout DIR"
        raise SpecError([Problem("no-files", location, path.as_posix(), hint=hint)])
    problems = sort_problems(_find_problems(lint_context))
    errors = sum(problem.severity == "error" for problem in problems)
    counts = f"services {len(loaded.spec.services)}, errors {errors}, advice {len(problems) - errors}"
    return LintReport(problems, loaded.plan, f"{path.as_posix()}, compared with {location}: {counts}")


def _find_problems(lint_context: LintContext) -> Problems:
    for check in (
        _check_path_filters,
        _check_test_folders,
        _check_test_workflows,
        _check_version_files,
        _check_lock_files,
        _check_steps,
        _check_stack_files,
        _check_mounted_files,
        _check_migration_folders,
        _check_unused_dockerfiles,
        check_web_server_files,
    ):
        yield from check(lint_context)
    for service in lint_context.spec.built_services:
        missing = list(_check_dockerfile_path(lint_context, service)) + list(
            _check_build_context(lint_context, service)
        )
        yield from missing or build_inputs.check_service_images(lint_context, service)


def _check_path_filters(lint_context: LintContext) -> Problems:
    """Check each pattern that a person wrote, or that is the default."""
    for service in lint_context.spec.built_services:
        for index, pattern in enumerate(lint_context.spec.image(service).source_paths):
            if not lint_context.find_matching_files(pattern):
                yield _describe_unused_pattern(lint_context, service, index, pattern)


def _describe_unused_pattern(lint_context: LintContext, service: str, index: int, pattern: str) -> Problem:
    source = lint_context.source
    loc: YamlPath = ("services", service, "paths", index)
    sign = "!" if pattern.startswith("!") else ""
    hint = _suggest_pattern(lint_context, pattern.removeprefix("!"), sign)
    if not lint_context.spec.services[service].paths:
        message = f"services.{service} has no `paths`, and nothing is in `{service}/`, where it would be"
        return report_at_key(source, loc[:2], "no-match", message, hint or "paths: [the folders of its source]")
    hint = hint or "leave it out"
    if sign:
        message = f"{format_yaml_path(loc)}: `{pattern}` leaves out no file"
        return report_at_value(source, loc, "no-match", message, hint, severity="advice")
    message = f"{format_yaml_path(loc)}: `{pattern}` matches no file"
    return report_at_value(source, loc, "no-match", message, hint)


def _check_dockerfile_path(lint_context: LintContext, service: str) -> Problems:
    dockerfile = lint_context.spec.image(service).dockerfile_path
    if dockerfile in lint_context.checkout.files:
        return
    loc: YamlPath = ("services", service, "build", "dockerfile")
    dockerfiles = [path for path in lint_context.checkout.names if _is_dockerfile(path)]
    hint = _suggest_path(dockerfile, dockerfiles)
    if not hint and dockerfiles:
        sorted_dockerfiles = sorted(dockerfiles, key=lambda path: service not in path)
        hint = f"there {'is' if len(dockerfiles) == 1 else 'are'} {format_first_names(sorted_dockerfiles)}"
    hint = hint or "write one: `build: {dockerfile: …}` says where it is"
    yield _describe_missing_path(
        lint_context, loc, dockerfile, f"services.{service} is built from `{dockerfile}`", hint
    )


def _check_build_context(lint_context: LintContext, service: str) -> Problems:
    folder = lint_context.spec.services[service].build.context
    loc: YamlPath = ("services", service, "build", "context")
    if folder not in lint_context.checkout.folders:
        hint = _suggest_path(folder, sorted(lint_context.checkout.folders)) or "context: . for all of the repository"
        yield _describe_missing_path(lint_context, loc, folder, f"{format_yaml_path(loc)} is `{folder}`", hint)


def _check_test_folders(lint_context: LintContext) -> Problems:
    """Tests check out the whole repository, so any of its folders will do."""
    for _, test_loc, test in lint_context.spec.iter_tests():
        folder = test.working_directory
        if folder and folder not in lint_context.checkout.folders:
            loc: YamlPath = (*test_loc, "working_directory")
            hint = _suggest_path(folder, sorted(lint_context.checkout.folders)) or "leave it out for the root"
            yield _describe_missing_path(lint_context, loc, folder, f"{format_yaml_path(loc)} is `{folder}`", hint)


def _check_test_workflows(lint_context: LintContext) -> Problems:
    """A workflow that is called is there, and may be called."""
    for _, test_loc, test in lint_context.spec.iter_tests():
        if not test.workflow:
            continue
        loc: YamlPath = (*test_loc, "workflow")
        path = f".github/workflows/{test.workflow}"
        if path not in lint_context.checkout.files:
            hint = _suggest_path(path, lint_context.checkout.names) or "write the command as `run`"
            yield _describe_missing_path(lint_context, loc, path, f"{format_yaml_path(loc)} is `{path}`", hint)
            continue
        workflow = _read_workflow(path, lint_context.checkout.text(path) or "")
        if not workflow or "workflow_call" not in _list_events(workflow):
            message = f"{format_yaml_path(loc)}: no trigger `workflow_call` can be read in `{path}`, and GitHub would "
            message += "refuse to call it"
            yield report_at_value(
                lint_context.source, loc, "not-there", message, "add `workflow_call:` below its `on:`"
            )
            continue
        for kind, names in _list_required_values(workflow).items():
            message = f"{format_yaml_path(loc)}: `{path}` requires the {kind} {format_first_names(names)}, and the "
            message += f"generated workflows pass no {kind}"
            hint = "`required: false` for each, if the tests can do without; or write the command as `run`"
            yield report_at_value(lint_context.source, loc, "not-there", message, hint)


def _read_workflow(path: str, text: str) -> YamlMapping | None:
    try:
        return parse_yaml_document(path, text).data
    except UnreadableYaml:
        return None


def _list_events(workflow: YamlMapping) -> list[Any]:
    events = workflow.get("on")
    return list(events if isinstance(events, dict) else as_list(events))


def _list_required_values(workflow: YamlMapping) -> dict[str, list[str]]:
    """The inputs and secrets without which a workflow cannot be called."""
    call = workflow.get_mapping("on").get_mapping("workflow_call")
    required: dict[str, list[str]] = {}
    for kind in ("inputs", "secrets"):
        names = [name for name, options in call.get_mapping(kind).iter_mappings() if options.get("required") is True]
        if names:
            required[kind] = names
    return required


def _check_version_files(lint_context: LintContext) -> Problems:
    for _, test_loc, test in lint_context.spec.iter_tests():
        for tool_name, tool in test.setup or ():
            file_name = tool.version_file if tool else None
            if file_name and file_name not in lint_context.checkout.files:
                loc: YamlPath = (*test_loc, "setup", tool_name, "version_file")
                hint = _suggest_path(file_name, lint_context.checkout.names) or 'version: "…" in its place'
                message = f"{format_yaml_path(loc)} is `{file_name}`"
                yield _describe_missing_path(lint_context, loc, file_name, message, hint)


def _check_lock_files(lint_context: LintContext) -> Problems:
    for _, test_loc, test in lint_context.spec.iter_tests():
        for index, lock_file in enumerate(test.cache or ()):
            if lock_file not in lint_context.checkout.files:
                loc: YamlPath = (*test_loc, "cache", index)
                hint = _suggest_path(lock_file, lint_context.checkout.names) or "leave out `cache`"
                message = f"{format_yaml_path(loc)} is `{lock_file}`"
                yield _describe_missing_path(lint_context, loc, lock_file, message, hint)


def _check_steps(lint_context: LintContext) -> Problems:
    """The folder of each step, and the files of the repository that its command names, are in the job's checkout."""
    for service, model in lint_context.spec.services.items():
        for place, steps in model.steps:
            for index, step in enumerate(steps):
                loc: YamlPath = ("services", service, "steps", place, index)
                folder = step.working_directory
                if folder and folder not in lint_context.checkout.folders:
                    folder_loc: YamlPath = (*loc, "working_directory")
                    hint = _suggest_path(folder, sorted(lint_context.checkout.folders)) or "leave it out"
                    message = f"{format_yaml_path(folder_loc)} is `{folder}`"
                    yield _describe_missing_path(lint_context, folder_loc, folder, message, hint)
                elif step.run:
                    named_files = _find_named_files(lint_context, folder or ".", step.run)
                    yield from _check_step_files(lint_context, service, (*loc, "run"), named_files)


def _find_named_files(lint_context: LintContext, folder: str, script: str) -> list[str]:
    """Find the files of the repository that a script names, as seen from its folder."""
    words = re.findall(r"[\w./@+-]*/[\w./@+-]+", script)
    paths = [posixpath.normpath(posixpath.join(folder, word)) for word in words if not word.startswith("/")]
    return list(dict.fromkeys(path for path in paths if path in lint_context.checkout.files))


def _check_step_files(lint_context: LintContext, service: str, loc: YamlPath, named_files: list[str]) -> Problems:
    """A build job checks out what `paths` match, and a deploy job the files of the stack; tests have everything."""
    place = loc[3]
    if place == "before_build":
        covered_files = lint_context.find_covered_files(service)[0]
        for path in named_files:
            if path not in covered_files:
                message = f"{format_yaml_path(loc)} names `{path}`, which no path of services.{service} matches: "
                message += "the job that builds has not checked it out"
                yield report_at_value(lint_context.source, loc, "uncovered", message, f"paths: [{path}], beside others")
    elif place == "after_deploy":
        runners = lint_context.spec.environments.values()
        folders = [f"deploy/{runner.source_folder}/" for runner in runners if service in runner.services]
        for path in named_files:
            if not path.startswith(("deploy/bin/", *folders)):
                message = f"{format_yaml_path(loc)} names `{path}`, and the job that deploys checks out the files of "
                message += "the stack only"
                yield report_at_value(lint_context.source, loc, "not-there", message, "write the commands there")


def _check_migration_folders(lint_context: LintContext) -> Problems:
    for server, model in lint_context.spec.written.databases.items():
        folder = model.migrations.directory if model.migrations else None
        if folder and folder not in lint_context.checkout.folders:
            loc: YamlPath = ("databases", server, "migrations", "directory")
            hint = (
                _suggest_path(folder, sorted(lint_context.checkout.folders))
                or "leave out `migrations` while there are none"
            )
            yield _describe_missing_path(lint_context, loc, folder, f"{format_yaml_path(loc)} is `{folder}`", hint)


def _check_stack_files(lint_context: LintContext) -> Problems:
    """Files that a stack needs beside its compose file, which a deploy compares and perhaps sends."""
    for name, environment in lint_context.spec.environments.items():
        folder = f"deploy/{environment.source_folder}"
        for index, file in enumerate(environment.model.files or ()):
            path = f"{folder}/{file}"
            if path not in lint_context.checkout.files:
                loc: YamlPath = ("environments", name, "files", index)
                message = f"{format_yaml_path(loc)}: there is no {path}"
                hint = _suggest_copy(file, path, lint_context.checkout.names)
                hint = hint or _suggest_path(path, lint_context.checkout.names) or f"git add {path}"
                yield report_at_value(lint_context.source, loc, "not-there", message, hint)
        for file, path in environment.model.shared_files.items():
            if path not in lint_context.checkout.files:
                file_loc: YamlPath = ("environments", name, "shared_files", file)
                message = f"{format_yaml_path(file_loc)}: there is no {path}"
                hint = _suggest_path(path, lint_context.checkout.names) or f"git add {path}"
                yield report_at_value(lint_context.source, file_loc, "not-there", message, hint)


def _check_mounted_files(lint_context: LintContext) -> Problems:
    """Files beside a Compose file that a container mounts, and that no deploy and no command of the runbook brings."""
    for name, environment in lint_context.spec.environments.items():
        known_files = {*environment.stack_files, *environment.env_file_variables}
        for container in environment.containers.values():
            for index, volume in enumerate(container.options.volumes or ()):
                source, _, target = volume.partition(":")
                file = source.removeprefix("./")
                # A folder that the container writes to is there to be filled.
                is_file = target.endswith(":ro") or "." in PurePosixPath(file).name
                path = f"deploy/{environment.source_folder}/{file}"
                is_there = path in lint_context.checkout.files or path in lint_context.checkout.folders
                is_sent = any(known == file or known.startswith(f"{file}/") for known in known_files)
                if not source.startswith("./") or not is_file or is_there or is_sent:
                    continue
                loc = (*container.yaml_path("volumes"), index)
                message = f"{container.name} mounts `{source}` in {name}, and there is no {path}: Docker makes an "
                message += "empty folder if the server does not have it either"
                hint = f"git add {path}; or, if it holds secrets, copy it to the folder of the stack by hand"
                yield report_at_value(lint_context.source, loc, "not-there", message, hint, severity="advice")


def _suggest_copy(file: str, path: str, names: Collection[str]) -> str:
    """The commands that put a file of the repository's root where the stack has it; empty if the root lacks it."""
    if file not in names:
        return ""
    folder = path.rpartition("/")[0]
    return f"`files` are in the folder of the stack: mkdir -p {folder} && cp {file} {path} && git add {path}"


def _check_unused_dockerfiles(lint_context: LintContext) -> Problems:
    """Dockerfiles that look like a service, and that nobody builds."""
    dockerfiles = [lint_context.spec.image(service).dockerfile_path for service in lint_context.spec.built_services]
    built = {path for dockerfile in dockerfiles for path in lint_context.read_paths(dockerfile)}
    names = [name for name in lint_context.checkout.names if _is_dockerfile(name) and name not in built]
    if names := [name for name in names if not _NON_SERVICE_PATH.fullmatch(name)]:
        message = f"no service is built from {format_first_names(names, 5)}"
        path = escape_control_characters(names[0])
        hint = f"a service of its own: `build: {{dockerfile: {path}}}`, or nothing when it is none"
        yield report_at_key(lint_context.source, ("services",), "not-in-spec", message, hint, severity="advice")


def _describe_missing_path(lint_context: LintContext, loc: YamlPath, name: str, message: str, hint: str) -> Problem:
    """What is named and not there; on disk it may be, and the runner still lacks it."""
    on_disk = (lint_context.checkout.root / name).exists() and not lint_context.checkout.no_git
    message += ", which git does not track" if on_disk else ", and there is none"
    return report_at_value(lint_context.source, loc, "not-there", message, f"git add {name}" if on_disk else hint)


def _is_dockerfile(name: str) -> bool:
    match = _DOCKERFILE_NAME.fullmatch(name)
    return match is not None and not (match["kind"] or "").lower().endswith("dockerignore")


def _suggest_pattern(lint_context: LintContext, pattern: str, sign: str) -> str:
    """The same pattern for the path that was probably meant."""
    base, star, tail = re.match(r"([^*?+\[\\]*)(.?)(.*)", pattern, re.DOTALL).groups()  # type: ignore[union-attr]
    if not star and base in lint_context.checkout.folders:
        return f"a filter matches files, never a folder: {sign}{base}/**"
    if star and base.endswith("/"):
        folder = _find_nearest_path(base[:-1], sorted(lint_context.checkout.folders))
        if lint_context.checkout.files.get(folder) == tracked_files.SUBMODULE_MODE:
            return f"GitHub sees a submodule as one file: {sign}{escape_control_characters(folder)}"
        return f"did you mean `{sign}{escape_control_characters(folder)}/{star}{tail}`?" if folder else ""
    name = _find_nearest_path(base, lint_context.checkout.names) if not star else ""
    return f"did you mean `{sign}{escape_control_characters(name)}`?" if name else ""


def _suggest_path(name: str, known: Iterable[str]) -> str:
    nearest = _find_nearest_path(name, list(known))
    return f"did you mean `{escape_control_characters(nearest)}`?" if nearest else ""


def _find_nearest_path(name: str, paths: list[str]) -> str:
    """The path that differs in case only, else the shortest with the same end, else one that is spelled similarly."""
    lower_name = name.lower()
    same_paths = [path for path in paths if path.lower() == lower_name]
    if same_paths:
        return same_paths[0]
    visible_paths = [path for path in paths if not _is_hidden_path(path)]
    longer_paths = [path for path in visible_paths if path.lower().endswith(f"/{lower_name}")]
    if longer_paths:
        return min(longer_paths, key=len)
    shorter_paths = [path for path in paths if lower_name.endswith(f"/{path.lower()}")]
    if shorter_paths:
        return max(shorter_paths, key=len)
    similar_paths = difflib.get_close_matches(name, visible_paths[:MAX_FUZZY_CANDIDATES], n=1, cutoff=0.8)
    return similar_paths[0] if similar_paths else ""


def _is_hidden_path(name: str) -> bool:
    return any(part.startswith(".") and part != "." for part in PurePosixPath(name).parts)
