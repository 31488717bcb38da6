"""What several commands are given."""

import os
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
    help="Root of the output. Default: generated/ where a pipeline is in it, else this folder.",
)
format_option = click.option(
    "--format",
    "style",
    type=click.Choice(["text", "github", "json"]),
    help="Default: github in GitHub Actions, else text.",
)


def output(given: Path | None) -> Path:
    """The root of the output, by one rule for every command: `generated/` where a pipeline is in it, else this folder.

    The rule looks at no marker: an ejected pipeline is still there.
    """
    return given or Path("generated" if os.path.isdir("generated/.github/workflows") else ".")
