"""Compares a spec with its repository: what is named must exist, and what is built must be covered by paths."""

import difflib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from kiwari_ci import generator
from kiwari_ci.commands.lint import build_inputs
from kiwari_ci.commands.lint.build_inputs import LintContext, format_first_names
from kiwari_ci.loading.validation import format_yaml_path, report_at_key, report_at_value
from kiwari_ci.loading.yaml_source import YamlPath
from kiwari_ci.plan import Plan
from kiwari_ci.planning import required_settings
from kiwari_ci.problems import Problem, SpecError, escape_control_characters, sort_problems
from kiwari_ci.readers import tracked_files

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
        lists = {name: [asdict(each) for each in part] for name, part in parts.items()}
        return json.dumps(lists, indent=2, ensure_ascii=False)


def lint_repository(path: Path, folder: Path | None) -> LintReport:
    """Compare a spec with the repository in a folder, or in the current checkout; raises SpecError of the spec."""
    loaded = generator.load_spec(path)
    root = folder or tracked_files.find_checkout_root(Path())
    checkout = tracked_files.read_checkout(root)
    lint_context = LintContext(loaded.source, loaded.effective, checkout, root.as_posix())
    kind = f"files there (all of them: {checkout.no_git})" if checkout.no_git else "files that git tracks"
    location = f"{root.as_posix()}: {len(checkout.files)} {kind}"
    if not checkout.files:
        hint = "git add them, or name the folder: --checkout DIR"
        raise SpecError([Problem("no-files", location, path.as_posix(), hint=hint)])
    problems = sort_problems(_find_problems(lint_context))
    errors = sum(problem.severity == "error" for problem in problems)
    counts = f"services {len(loaded.spec.services)}, errors {errors}, advice {len(problems) - errors}"
    return LintReport(problems, loaded.plan, f"{path.as_posix()} and {location}: {counts}")


def _find_problems(lint_context: LintContext) -> Problems:
    for check in (
        _check_path_filters,
        _check_test_folders,
        _check_version_files,
        _check_migration_folders,
        _check_unused_dockerfiles,
    ):
        yield from check(lint_context)
    for service in lint_context.spec.built_services:
        missing = list(_check_dockerfile_path(lint_context, service)) + list(
            _check_build_context(lint_context, service)
        )
        yield from missing or build_inputs.check_service_images(lint_context, service)


def _check_path_filters(lint_context: LintContext) -> Problems:
    """Each pattern that a person wrote, or that stands for none written."""
    for service in lint_context.spec.built_services:
        for index, pattern in enumerate(lint_context.spec.image(service).source_paths):
            if lint_context.matching(pattern):
                continue
            loc: YamlPath = ("services", service, "paths", index)
            sign = "!" if pattern.startswith("!") else ""
            hint = _suggest_pattern(lint_context, pattern.removeprefix("!"), sign)
            if not lint_context.spec.services[service].paths:
                words = f"services.{service} has no `paths`, and nothing is in `{service}/`, where it would be"
                yield report_at_key(
                    lint_context.source, loc[:2], "no-match", words, hint or "paths: [the folders of its source]"
                )
            elif sign:
                words = f"{format_yaml_path(loc)}: `{pattern}` leaves out no file"
                yield report_at_value(
                    lint_context.source, loc, "no-match", words, hint or "leave it out", severity="advice"
                )
            else:
                words = f"{format_yaml_path(loc)}: `{pattern}` matches no file"
                yield report_at_value(lint_context.source, loc, "no-match", words, hint or "leave it out")


def _check_dockerfile_path(lint_context: LintContext, service: str) -> Problems:
    name = lint_context.spec.image(service).dockerfile_path
    if name in lint_context.checkout.files:
        return
    loc: YamlPath = ("services", service, "build", "dockerfile")
    known = [each for each in lint_context.checkout.names if _is_dockerfile(each)]
    hint = _suggest_path(name, known)
    if not hint and known:
        near = sorted(known, key=lambda each: service not in each)
        hint = f"there {'is' if len(known) == 1 else 'are'} {format_first_names(near)}"
    hint = hint or "write one: `build: {dockerfile: …}` says where it is"
    yield _describe_missing_path(lint_context, loc, name, f"services.{service} is built from `{name}`", hint)


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


def _check_version_files(lint_context: LintContext) -> Problems:
    for _, test_loc, test in lint_context.spec.iter_tests():
        for tool_name, tool in test.setup or ():
            file_name = tool.version_file if tool else None
            if file_name and file_name not in lint_context.checkout.files:
                loc: YamlPath = (*test_loc, "setup", tool_name, "version_file")
                hint = _suggest_path(file_name, lint_context.checkout.names) or 'version: "…" in its place'
                words = f"{format_yaml_path(loc)} is `{file_name}`"
                yield _describe_missing_path(lint_context, loc, file_name, words, hint)


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


def _check_unused_dockerfiles(lint_context: LintContext) -> Problems:
    """Dockerfiles that look like a service, and that nobody builds."""
    built = {lint_context.spec.image(service).dockerfile_path for service in lint_context.spec.built_services}
    names = [name for name in lint_context.checkout.names if _is_dockerfile(name) and name not in built]
    if names := [name for name in names if not _NON_SERVICE_PATH.fullmatch(name)]:
        words = f"no service is built from {format_first_names(names, 5)}"
        path = escape_control_characters(names[0])
        hint = f"a service of its own: `build: {{dockerfile: {path}}}`, or nothing when it is none"
        yield report_at_key(lint_context.source, ("services",), "not-in-spec", words, hint, severity="advice")


def _describe_missing_path(lint_context: LintContext, loc: YamlPath, name: str, words: str, hint: str) -> Problem:
    """What is named and not there; on disk it may be, and the runner still lacks it."""
    on_disk = (lint_context.checkout.root / name).exists() and not lint_context.checkout.no_git
    words += ", which git does not track" if on_disk else ", and there is none"
    return report_at_value(lint_context.source, loc, "not-there", words, f"git add {name}" if on_disk else hint)


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
        return f"did you mean `{sign}{escape_control_characters(folder)}/{star}{tail}`?" if folder else ""
    name = _find_nearest_path(base, lint_context.checkout.names) if not star else ""
    return f"did you mean `{sign}{escape_control_characters(name)}`?" if name else ""


def _suggest_path(name: str, known: Iterable[str]) -> str:
    found = _find_nearest_path(name, list(known))
    return f"did you mean `{escape_control_characters(found)}`?" if found else ""


def _find_nearest_path(name: str, known: list[str]) -> str:
    """Of known paths the one with other capitals, the shortest that ends alike, or one that is written nearly so."""
    small = name.lower()
    same = [each for each in known if each.lower() == small]
    ends = [each for each in known if each.lower().endswith("/" + small) and not _is_hidden_path(each)]
    tail = [each for each in known if small.endswith("/" + each.lower())]
    if found := same or sorted(ends, key=len) or sorted(tail, key=len, reverse=True):
        return found[0]
    close = difflib.get_close_matches(
        name, [each for each in known if not _is_hidden_path(each)][:MAX_FUZZY_CANDIDATES], n=1, cutoff=0.8
    )
    return close[0] if close else ""


def _is_hidden_path(name: str) -> bool:
    return any(part.startswith(".") and part != "." for part in PurePosixPath(name).parts)
