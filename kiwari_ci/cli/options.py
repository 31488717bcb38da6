"""What several commands are given, and what stands for it when it is not."""

import os
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click


class NonEmptyPath(click.Path):
    """A path that has a name: an empty one, of a variable that is not set, would be this folder."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        """Refuse the empty name."""
        if not str(value).strip():
            self.fail("the name is empty: leave it out, or write . for this folder", parameter, context)
        return super().convert(value, parameter, context)


class NonEmptyString(click.types.StringParamType):
    """A name or address; an empty one is a variable that is not set, and would pass for an answer."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        """Refuse the empty one."""
        if not str(value).strip():
            self.fail("it is empty: the variable that should hold it is not set", parameter, context)
        return super().convert(value, parameter, context)


spec_argument = click.argument("spec", required=False, type=NonEmptyPath(path_type=Path))
out_option = click.option(
    "--out",
    type=NonEmptyPath(path_type=Path, file_okay=False),
    help="Root of the output. Default: generated/ where a pipeline is in it, else this folder.",
)
format_option = click.option(
    "--format",
    "style",
    type=click.Choice(["text", "github", "json"]),
    help="Default: github in GitHub Actions, else text.",
)


def find_output_root(given: Path | None) -> Path:
    """The root of the output, by one rule for every command: `generated/` where a pipeline is in it, else this folder.

    The rule looks at no marker: an ejected pipeline is still there.
    """
    return given or Path("generated" if os.path.isdir("generated/.github/workflows") else ".")


def find_spec_file(given: Path | None, command: str = "") -> Path:
    """The spec that was named, or the only one; raises UsageError with the command as it should be."""
    if given:
        return given
    found = [str(path) for path in sorted(Path("specs").glob("*.y*ml")) if path.exists()]
    if not found:
        cure = "go to the folder that holds specs/, or write a first one: kiwari-ci init"
        raise click.UsageError(f"name the spec: specs/*.yaml has none: {cure}")
    if len(found) > 1:
        command = command or str(click.get_current_context().info_name)
        cure = shlex.join(["kiwari-ci", *command.split(), found[0]])
        raise click.UsageError(f"name the spec: specs/*.yaml has {', '.join(found)}: {cure}")
    return Path(found[0])


def parse_pairs(given: Iterable[str]) -> dict[str, str]:
    """What is given as NAME=VALUE."""
    pairs = dict(word.partition("=")[::2] for word in given)
    if not all(name and value for name, value in pairs.items()):
        raise click.UsageError(f"expected HOST=…, met {' '.join(given)}")
    return pairs


def select_output_format(given: str | None) -> str:
    """The format that was asked for, or the one of where we are."""
    return given or ("github" if os.environ.get("GITHUB_ACTIONS") == "true" else "text")
