"""A spec held against the repository that it is for: what is named must be there, and what is built be covered."""

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
    """What was found, and the plan whose needs are listed with it; `summary` says what was looked at."""

    problems: list[Problem]
    plan: Plan
    summary: str

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong; advice is not."""
        return all(problem.severity == "advice" for problem in self.problems)

    def as_text(self) -> str:
        """What must be set before a deploy works, and the summary."""
        return "\n\n".join(filter(None, [required_settings.format_required_settings(self.plan), self.summary]))

    def as_json(self) -> str:
        """All of it, for programs."""
        parts: dict[str, Iterable[Any]] = {
            "problems": self.problems,
            "needs": self.plan.needs,
            "env_files": required_settings.list_host_env_files(self.plan),
        }
        lists = {name: [asdict(each) for each in part] for name, part in parts.items()}
        return json.dumps(lists, indent=2, ensure_ascii=False)


def lint_repository(path: Path, folder: Path | None) -> LintReport:
    """Hold a spec against the repository in a folder, or in the checkout that we are in; raises Faults of the spec."""
    decided = generator.load_spec(path)
    root = folder or tracked_files.find_checkout_root(Path())
    files = tracked_files.read_checkout(root)
    ground = LintContext(decided.source, decided.effective, files, root.as_posix())
    how = f"files there (all of them: {files.no_git})" if files.no_git else "files that git tracks"
    where = f"{root.as_posix()}: {len(files.files)} {how}"
    if not files.files:
        raise SpecError(
            [Problem("no-files", where, path.as_posix(), hint="git add them, or name the folder: --checkout DIR")]
        )
    found = sort_problems(_find_problems(ground))
    errors = sum(problem.severity == "error" for problem in found)
    counts = f"services {len(decided.spec.services)}, errors {errors}, advice {len(found) - errors}"
    return LintReport(found, decided.plan, f"{path.as_posix()} and {where}: {counts}")


def _find_problems(ground: LintContext) -> Problems:
    for check in (
        _check_path_filters,
        _check_test_folders,
        _check_version_files,
        _check_migration_folders,
        _check_unused_dockerfiles,
    ):
        yield from check(ground)
    for service in ground.spec.built_services:
        missing = list(_check_dockerfile_path(ground, service)) + list(_check_build_context(ground, service))
        yield from missing or build_inputs.check_service_images(ground, service)


def _check_path_filters(ground: LintContext) -> Problems:
    """Each pattern that a person wrote, or that stands for none written."""
    for service in ground.spec.built_services:
        for index, pattern in enumerate(ground.spec.image(service).source_paths):
            if ground.matching(pattern):
                continue
            loc: YamlPath = ("services", service, "paths", index)
            sign = "!" if pattern.startswith("!") else ""
            hint = _suggest_pattern(ground, pattern.removeprefix("!"), sign)
            if not ground.spec.services[service].paths:
                words = f"services.{service} has no `paths`, and nothing is in `{service}/`, where it would be"
                yield report_at_key(
                    ground.source, loc[:2], "no-match", words, hint or "paths: [the folders of its source]"
                )
            elif sign:
                words = f"{format_yaml_path(loc)}: `{pattern}` leaves out no file"
                yield report_at_value(ground.source, loc, "no-match", words, hint or "leave it out", severity="advice")
            else:
                words = f"{format_yaml_path(loc)}: `{pattern}` matches no file"
                yield report_at_value(ground.source, loc, "no-match", words, hint or "leave it out")


def _check_dockerfile_path(ground: LintContext, service: str) -> Problems:
    name = ground.spec.image(service).dockerfile_path
    if name in ground.checkout.files:
        return
    loc: YamlPath = ("services", service, "build", "dockerfile")
    known = [each for each in ground.checkout.names if _is_dockerfile(each)]
    hint = _suggest_path(name, known)
    if not hint and known:
        near = sorted(known, key=lambda each: service not in each)
        hint = f"there {'is' if len(known) == 1 else 'are'} {format_first_names(near)}"
    hint = hint or "write one: `build: {dockerfile: …}` says where it is"
    yield _describe_missing_path(ground, loc, name, f"services.{service} is built from `{name}`", hint)


def _check_build_context(ground: LintContext, service: str) -> Problems:
    folder = ground.spec.services[service].build.context
    loc: YamlPath = ("services", service, "build", "context")
    if folder not in ground.checkout.folders:
        hint = _suggest_path(folder, sorted(ground.checkout.folders)) or "context: . for all of the repository"
        yield _describe_missing_path(ground, loc, folder, f"{format_yaml_path(loc)} is `{folder}`", hint)


def _check_test_folders(ground: LintContext) -> Problems:
    """Tests check out all of the repository."""
    for _, test_loc, test in ground.spec.iter_tests():
        folder = test.working_directory
        if folder and folder not in ground.checkout.folders:
            loc: YamlPath = (*test_loc, "working_directory")
            hint = _suggest_path(folder, sorted(ground.checkout.folders)) or "leave it out for the root"
            yield _describe_missing_path(ground, loc, folder, f"{format_yaml_path(loc)} is `{folder}`", hint)


def _check_version_files(ground: LintContext) -> Problems:
    for _, test_loc, test in ground.spec.iter_tests():
        for tool_name, tool in test.setup or ():
            name = tool.version_file if tool else None
            if name and name not in ground.checkout.files:
                loc: YamlPath = (*test_loc, "setup", tool_name, "version_file")
                hint = _suggest_path(name, ground.checkout.names) or 'version: "…" in its place'
                yield _describe_missing_path(ground, loc, name, f"{format_yaml_path(loc)} is `{name}`", hint)


def _check_migration_folders(ground: LintContext) -> Problems:
    for server, model in ground.spec.written.databases.items():
        folder = model.migrations.directory if model.migrations else None
        if folder and folder not in ground.checkout.folders:
            loc: YamlPath = ("databases", server, "migrations", "directory")
            hint = (
                _suggest_path(folder, sorted(ground.checkout.folders)) or "leave out `migrations` while there are none"
            )
            yield _describe_missing_path(ground, loc, folder, f"{format_yaml_path(loc)} is `{folder}`", hint)


def _check_unused_dockerfiles(ground: LintContext) -> Problems:
    """Dockerfiles that look like a service, and that nobody builds."""
    built = {ground.spec.image(service).dockerfile_path for service in ground.spec.built_services}
    names = [name for name in ground.checkout.names if _is_dockerfile(name) and name not in built]
    if names := [name for name in names if not _NON_SERVICE_PATH.fullmatch(name)]:
        words = f"no service is built from {format_first_names(names, 5)}"
        hint = f"a service of its own: `build: {{dockerfile: {escape_control_characters(names[0])}}}`, or nothing when it is none"
        yield report_at_key(ground.source, ("services",), "not-in-spec", words, hint, severity="advice")


def _describe_missing_path(ground: LintContext, loc: YamlPath, name: str, words: str, hint: str) -> Problem:
    """What is named and not there; on disk it may be, and the runner still lacks it."""
    on_disk = (ground.checkout.root / name).exists() and not ground.checkout.no_git
    words += ", which git does not track" if on_disk else ", and there is none"
    return report_at_value(ground.source, loc, "not-there", words, f"git add {name}" if on_disk else hint)


def _is_dockerfile(name: str) -> bool:
    match = _DOCKERFILE_NAME.fullmatch(name)
    return match is not None and not (match["kind"] or "").lower().endswith("dockerignore")


def _suggest_pattern(ground: LintContext, pattern: str, sign: str) -> str:
    """The same pattern for the path that was probably meant."""
    base, star, tail = re.match(r"([^*?+\[\\]*)(.?)(.*)", pattern, re.DOTALL).groups()  # type: ignore[union-attr]
    if not star and base in ground.checkout.folders:
        return f"a filter matches files, never a folder: {sign}{base}/**"
    if star and base.endswith("/"):
        folder = _find_nearest_path(base[:-1], sorted(ground.checkout.folders))
        return f"did you mean `{sign}{escape_control_characters(folder)}/{star}{tail}`?" if folder else ""
    name = _find_nearest_path(base, ground.checkout.names) if not star else ""
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
