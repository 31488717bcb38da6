"""Reads the words of a `docker build` command."""

from collections.abc import Sequence
from dataclasses import dataclass, field

_OPTION_FIELDS = {
    "-t": "tags",
    "--tag": "tags",
    "-f": "files",
    "--file": "files",
    "--build-arg": "arguments",
    "--target": "targets",
    "--platform": "platforms",
    "--secret": "secrets",
}
_OTHER_OPTIONS_WITH_VALUE = {
    "--add-host", "--allow", "--annotation", "--attest", "--build-context", "--builder", "--cache-from", "--cache-to",
    "--iidfile", "--label", "--metadata-file", "--network", "--no-cache-filter", "-o", "--output", "--progress",
    "--sbom", "--shm-size", "--ssh", "--ulimit",
}  # fmt: skip


@dataclass
class DockerBuild:
    """What a `docker build` says: each option as often as it is there, and the last word that is no option."""

    context: str = ""
    pushes: bool = False
    tags: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    platforms: list[str] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)


def parse_docker_build(words: Sequence[str]) -> DockerBuild:
    """The options and the context of a build; `words` are those behind `build`."""
    build = DockerBuild()
    remaining = iter(words)
    for word in remaining:
        if not word.startswith("-") or word == "-":
            build.context = word
            continue
        option, equals, value = word.partition("=")
        if option == "--push":
            build.pushes = value != "false"
        takes_value = option in _OPTION_FIELDS or option in _OTHER_OPTIONS_WITH_VALUE
        if takes_value and not equals:
            value = next(remaining, "")
        if option in _OPTION_FIELDS:
            getattr(build, _OPTION_FIELDS[option]).append(value)
    return build
