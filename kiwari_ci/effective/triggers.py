"""How an environment is reached: by a push, by a tag, by hand; for the rules and for `resolve`."""

from kiwari_ci import schema
from kiwari_ci.frozen import dataclass
from kiwari_ci.github import path_filters

VERSION_NUMBER_PATTERN = r"(0|[1-9][0-9]*)"


@dataclass(frozen=True)
class VersionTagPattern:
    """A tag pattern: what stands before the version and, for a candidate, behind it: `v`, and `-rc.*` or nothing."""

    prefix: str
    suffix: str

    @property
    def text(self) -> str:
        """As GitHub and git read it."""
        return f"{self.prefix}*{self.suffix}"

    @property
    def regex(self) -> str:
        """What a tag must be, in bash and in Python."""
        version = r"\.".join([VERSION_NUMBER_PATTERN] * 3) + self.suffix.replace(".", r"\.").replace(
            "*", VERSION_NUMBER_PATTERN
        )
        return self.prefix.replace(".", r"\.") + version

    @property
    def words(self) -> str:
        """The same, for people."""
        return f"{self.prefix}MAJOR.MINOR.PATCH{self.suffix.replace('*', 'N')}"

    def example(self, version: str = "1.2.0", suffix: str | None = None) -> str:
        """A tag that it means."""
        return self.prefix + version + (self.suffix if suffix is None else suffix).replace("*", "1")


def parse_tag_pattern(given: schema.Spec, environment: str) -> VersionTagPattern | None:
    """The tags that reach an environment."""
    written = given.environments[environment].deploy_on.tag
    if written is None:
        return None
    prefix, _, suffix = written.partition("*")
    return VersionTagPattern(prefix, suffix)


def collect_tag_patterns(given: schema.Spec) -> dict[str, VersionTagPattern]:
    """The tags of each environment that is reached by some."""
    found = {name: parse_tag_pattern(given, name) for name in given.environments}
    return {name: each for name, each in found.items() if each}


def list_excluded_patterns(given: schema.Spec, mine: VersionTagPattern) -> list[VersionTagPattern]:
    """The candidates that finals of the same prefix leave to another environment."""
    others = [each for each in collect_tag_patterns(given).values() if each.prefix == mine.prefix and each.suffix]
    return [] if mine.suffix else list(dict.fromkeys(others))


def build_tag_filter(given: schema.Spec, mine: VersionTagPattern) -> list[str]:
    """The filter of GitHub: the pattern, without what it leaves alone."""
    return [mine.text, *(f"!{each.text}" for each in list_excluded_patterns(given, mine))]


def matches_tag(given: schema.Spec, mine: VersionTagPattern, tag: str) -> bool:
    """Whether a tag starts what the pattern starts."""
    return path_filters.is_included(build_tag_filter(given, mine), tag)


def is_promoted(given: schema.Spec, environment: str) -> bool:
    """Whether it re-tags what another environment built."""
    return given.environments[environment].promote is not None


def is_deployed_on_push(given: schema.Spec, environment: str) -> bool:
    """Whether the services' workflows build for it, and deploy."""
    return given.environments[environment].deploy_on.push is not None


def has_own_workflow(given: schema.Spec, environment: str) -> bool:
    """Whether a workflow of its own reaches it."""
    on = given.environments[environment].deploy_on
    return bool(on.tag or on.dispatch)


def has_own_builds(given: schema.Spec, environment: str) -> bool:
    """Whether that workflow has images built; by hand alone, what pushes built is there, or never was."""
    place = given.environments[environment]
    return not place.promote and bool(place.deploy_on.tag or not place.deploy_on.push)


def find_deploy_branch(given: schema.Spec, environment: str) -> str:
    """The one branch that its commits are on, in whose order it moves."""
    on = given.environments[environment].deploy_on
    return on.push or given.project.default_branch


def derive_environment_workflow(given: schema.Spec, environment: str) -> str:
    """The environment's own workflow; the only one of its kind needs no more than `promote` or `release`."""
    kinds = {name: _classify_workflow(given, name) for name in given.environments if has_own_workflow(given, name)}
    kind = kinds[environment]
    alone = kind != "deploy" and list(kinds.values()).count(kind) == 1
    return kind if alone else f"{kind}-{environment}"


def _classify_workflow(given: schema.Spec, environment: str) -> str:
    place = given.environments[environment]
    if place.promote:
        return "promote"
    return "release" if place.deploy_on.tag else "deploy"
