"""Decides which Compose file an environment has today: `init` drafts the spec from it, and `diff` compares with it."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import takewhile

from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.env_file import EnvExample
from kiwari_ci.readers.vocabulary import SourcedValue

_COMPOSE_FILE_VARIABLE = re.compile(r"\bCOMPOSE_FILE=[\"']?([\w./~-][\w./~:;-]{0,500})")
PROJECT_VARIABLE = "COMPOSE_PROJECT_NAME"  # counts for Compose before the `name` of a file
DEFAULT_FILE_NAMES = ("docker-compose.yml", "docker-compose.yaml", "compose.yml", "compose.yaml")


@dataclass(frozen=True)
class ComposeFileOfToday:
    """What a Compose file shows of itself.

    `is_complete`: each of its services has an image or a build, without another file. `containers` are the names that
    it gives, and `known_services` is how many of its services are services of the spec.
    """

    path: str
    is_complete: bool
    containers: frozenset[str] = frozenset()
    known_services: int = 0

    @property
    def name(self) -> str:
        """Its file name."""
        return self.path.rpartition("/")[2]

    @property
    def kind(self) -> str:
        """The kind of environment that its path names; empty for a file that is for all."""
        return vocabulary.classify_environment(self.path)


@dataclass(frozen=True)
class DeployedEnvironment:
    """What is known of an environment: its kind, the Compose files that its deploys name, and its containers.

    `takes_default_file`: a deploy names no file.
    """

    kind: str
    named_files: frozenset[str]
    takes_default_file: bool = False
    containers: frozenset[str] = frozenset()

    def names(self, file: ComposeFileOfToday) -> bool:
        """Whether a deploy names a file."""
        return file.name in self.named_files


def choose_compose_file(
    files: Iterable[ComposeFileOfToday], environment: DeployedEnvironment
) -> ComposeFileOfToday | None:
    """The Compose file of an environment, by the strongest sign; the first of several with the same signs.

    A file for another kind of environment is chosen only if a deploy names it: it may have the same names of
    containers, as a file for development often has. None if there is no other file.
    """
    candidates = [file for file in files if environment.names(file) or _is_for_kind(file, environment.kind)]
    return max(candidates, key=lambda file: _rank_file(file, environment), default=None)


def _is_for_kind(file: ComposeFileOfToday, kind: str) -> bool:
    if file.kind in ("", kind):
        return True
    return not kind and file.kind != vocabulary.DEVELOPMENT


def _rank_file(file: ComposeFileOfToday, environment: DeployedEnvironment) -> tuple[bool, bool, bool, bool, int, int]:
    """The signs that a file is an environment's, the strongest first."""
    shared_containers = len(file.containers & environment.containers)
    stands_alone = file.kind in (vocabulary.PRODUCTION, vocabulary.STAGING) and file.is_complete
    is_default_file = environment.takes_default_file and file.name in DEFAULT_FILE_NAMES
    return (
        environment.names(file),
        shared_containers > 0,
        stands_alone,
        is_default_file,
        shared_containers,
        file.known_services,
    )


def find_project_of_examples(examples: Iterable[EnvExample], kind: str) -> SourcedValue | None:
    """The Compose project that the examples of env files for one kind of environment name, before any Compose file.

    None if no example that a person wrote names a project, or if they name several.
    """
    projects: dict[str, SourcedValue] = {}
    for example in examples:
        project = example.values.get(PROJECT_VARIABLE, "")
        is_for_kind = vocabulary.classify_environment(example.path) == kind
        is_known = bool(project) and "$" not in project
        if is_for_kind and is_known and not example.generated:
            place = f"{example.path}:{example.lines[PROJECT_VARIABLE]}"
            projects.setdefault(project, SourcedValue(project, place))
    return next(iter(projects.values())) if len(projects) == 1 else None


def list_file_groups_of_variable(script: str) -> list[tuple[str, ...]]:
    """The files of each `COMPOSE_FILE=a:b` of a script, which Compose reads without `-f`."""
    values = dict.fromkeys(_COMPOSE_FILE_VARIABLE.findall(script))
    return [tuple(re.split("[:;]", value)) for value in values]


def list_files_of_variable(script: str) -> list[str]:
    """The files that the variable `COMPOSE_FILE` names; none if a script sets several values."""
    groups = list_file_groups_of_variable(script)
    return list(groups[0]) if len(groups) == 1 else []


def find_named_file(name: str, paths: Iterable[str]) -> str:
    """The file of the repository that a command on the server names: most of its path's end is the same.

    Of several that have as much in common with it, the one nearest to the root. Empty if there is no such file.
    """
    lengths = {path: _count_common_end(name, path) for path in paths}
    longest = max(lengths.values(), default=0)
    closest_paths = [path for path, length in lengths.items() if length == longest]
    return min(closest_paths, key=lambda path: (path.count("/"), path)) if longest else ""


def _count_common_end(one: str, other: str) -> int:
    """How many parts at the end of two paths are the same."""
    pairs = zip(reversed(_split_path(one)), reversed(_split_path(other)), strict=False)
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


def _split_path(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".", "..", "~")]


def resolve_named_files(names: Iterable[str], paths: Collection[str]) -> tuple[str, ...]:
    """The files of the repository that one command names, in the order in which they complete one another."""
    named_paths = (find_named_file(name, paths) for name in names)
    return tuple(dict.fromkeys(path for path in named_paths if path))
