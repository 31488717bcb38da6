"""Decides which Compose file an environment has today: `init` drafts the spec from it, and `diff` compares with it."""

from collections.abc import Iterable
from dataclasses import dataclass

from kiwari_ci.readers import vocabulary

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
