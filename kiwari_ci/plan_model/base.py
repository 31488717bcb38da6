"""What the other parts of a plan are made of: actions and their pins, settings, pairs."""

from kiwari_ci.frozen import dataclass


class FrozenMapping(tuple[tuple[str, object], ...]):
    """A mapping as a plan has it, which cannot change: a tuple of its keys and values."""

    __slots__ = ()


@dataclass(frozen=True)
class PinnedAction:
    """A pinned action: `uses` is owner/name@commit, `version` the tag of that commit."""

    uses: str
    version: str


@dataclass(frozen=True)
class PinsFile:
    """The repository's own pins: where their file is, and its text, empty when there is none."""

    path: str
    text: str


@dataclass(frozen=True)
class FrozenAction:
    """An action that stays at its version."""

    action: str
    version: str


@dataclass(frozen=True)
class DependabotConfig:
    """Dependabot: the folders that it looks into, and the actions that it leaves alone."""

    folders: tuple[str, ...]
    frozen: tuple[FrozenAction, ...]


@dataclass(frozen=True)
class GitHubSetting:
    """A value that GitHub keeps: its variable in a step's env, the expression that reads it, and its kind for `gh`.

    The job's own token is kept nowhere: its kind is empty.
    """

    name: str
    expression: str
    kind: str

    @property
    def name_at_github(self) -> str:
        """The name that GitHub keeps the value under, as the expression has it."""
        return self.expression.partition(".")[2]


@dataclass(frozen=True)
class RegistryLogin:
    """Who pushes to the registry: name and password as an action takes them; `secret`: the password's, or empty."""

    registry: str
    user: str
    password: str
    secret: str


@dataclass(frozen=True)
class RequiredSetting:
    """A secret or variable that a person sets at GitHub: what it holds, and the environments whose deploys read it."""

    name: str
    kind: str
    holds: str
    environments: tuple[str, ...]


@dataclass(frozen=True)
class EscapeHatch:
    """A place of the spec where a person adds what has no field, and what is added there."""

    where: str
    adds: tuple[str, ...]


@dataclass(frozen=True)
class KeyValue:
    """A key of a mapping, and its value."""

    key: str
    value: str
