"""What several commands are given, and what stands for it when it is not."""

import os
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click


class Named(click.Path):
    """A path that has a name: an empty one, of a variable that is not set, would be this folder."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        """Refuse the empty name."""
        if not str(value).strip():
            self.fail("the name is empty: leave it out, or write . for this folder", parameter, context)
        return super().convert(value, parameter, context)


spec_argument = click.argument("spec", required=False, type=Named(path_type=Path))
out_option = click.option(
    "--out",
    type=Named(path_type=Path, file_okay=False),
    help="Root of the output. Default: this folder where it holds a generated pipeline, else generated/.",
)
format_option = click.option(
    "--format",
    "style",
    type=click.Choice(["text", "github", "json"]),
    help="Default: github in GitHub Actions, else text.",
)


def spec_of(given: Path | None) -> Path:
    """The spec that was named, or the only one; raises UsageError."""
    if given:
        return given
    found = [str(path) for path in sorted(Path("specs").glob("*.y*ml"))]
    if not found:
        cure = "go to the folder that holds specs/, or write a first one: kiwari-ci init"
        raise click.UsageError(f"name the spec: specs/*.yaml has none: {cure}")
    if len(found) > 1:
        cure = shlex.join(["kiwari-ci", str(click.get_current_context().info_name), found[0]])
        raise click.UsageError(f"name the spec: specs/*.yaml has {', '.join(found)}: {cure}")
    return Path(found[0])


def out_of(given: Path | None) -> Path:
    """A checkout that was generated into is known by its drift workflow."""
    return given or Path("." if Path(".github/workflows/pipeline-drift.yml").exists() else "generated")


def pairs_of(given: Iterable[str]) -> dict[str, str]:
    """What is given as NAME=VALUE."""
    pairs = dict(word.partition("=")[::2] for word in given)
    if not all(name and value for name, value in pairs.items()):
        raise click.UsageError(f"expected HOST=…, met {' '.join(given)}")
    return pairs


def checkout_of(given: Path | None) -> Path:
    """Where files to compare with are before anything was generated: here."""
    root = out_of(given)
    return root if given or root.is_dir() else Path(".")


def style_of(given: str | None) -> str:
    """The format that was asked for, or the one of where we are."""
    return given or ("github" if os.environ.get("GITHUB_ACTIONS") == "true" else "text")
