"""Patterns of version tags: which tags reach an environment."""

from kiwari_ci.frozen import dataclass

VERSION_NUMBER_PATTERN = r"(0|[1-9][0-9]*)"


@dataclass(frozen=True)
class VersionTagPattern:
    """A tag pattern: what comes before the version and, for a release candidate, after it.

    `v*-rc.*` has the prefix `v` and the suffix `-rc.*`; `v*` has no suffix.
    """

    prefix: str
    suffix: str

    @classmethod
    def parse(cls, pattern: str) -> "VersionTagPattern":
        """Split a pattern as a spec has it."""
        prefix, _, suffix = pattern.partition("*")
        return cls(prefix, suffix)

    @property
    def text(self) -> str:
        """The pattern as GitHub and Git read it."""
        return f"{self.prefix}*{self.suffix}"

    @property
    def regex(self) -> str:
        """The regular expression that a tag must match, for Bash and for Python."""
        prefix = self.prefix.replace(".", r"\.")
        version = r"\.".join([VERSION_NUMBER_PATTERN] * 3)
        suffix = self.suffix.replace(".", r"\.").replace("*", VERSION_NUMBER_PATTERN)
        return prefix + version + suffix

    @property
    def words(self) -> str:
        """The pattern as people read it."""
        return f"{self.prefix}MAJOR.MINOR.PATCH{self.suffix.replace('*', 'N')}"

    @property
    def number_count(self) -> int:
        """How many numbers a tag has."""
        return 4 if self.suffix else 3

    def example(self, version: str = "1.2.0", suffix: str | None = None) -> str:
        """Return a tag that the pattern matches."""
        example_suffix = self.suffix if suffix is None else suffix
        return self.prefix + version + example_suffix.replace("*", "1")
