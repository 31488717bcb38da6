"""The options and arguments that several commands have, and what stands for them when they are left out."""

import os
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kiwari_ci.problems import escape_control_characters

if TYPE_CHECKING:
    from kiwari_ci.plan_model import Plan


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
            self.fail("the value is empty: the variable from which it comes is not set", parameter, context)
        return super().convert(value, parameter, context)


spec_argument = click.argument("spec", required=False, type=NonEmptyPath(path_type=Path))
out_option = click.option(
    "--out",
    type=NonEmptyPath(path_type=Path, file_okay=False),
    help="Root of the output. Default: generated/ if it contains a pipeline, else the root of the repository.",
)
format_option = click.option(
    "--format",
    "style",
    type=click.Choice(["text", "github", "json"]),
    help="Default: github in GitHub Actions, else text.",
)
markdown_format_option = click.option(
    "--format",
    "style",
    type=click.Choice(["text", "markdown", "json"]),
    default="text",
    help="Default: text; markdown is for a job summary.",
)
json_format_option = click.option(
    "--format", "style", type=click.Choice(["text", "json"]), default="text", help="Default: text."
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print only errors.")
repository_option = click.option(
    "--repo",
    "repository",
    metavar="DIR",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A checkout of the repository that the spec is for. Default: the one that you are in.",
)
ssh_option = click.option(
    "--ssh",
    type=NonEmptyString(),
    multiple=True,
    metavar="HOST=DESTINATION",
    help="Login and address of a host: server=deploy@192.0.2.10. Default: its name in the spec, as in ~/.ssh/config.",
)
context_option = click.option(
    "--context",
    "contexts",
    type=NonEmptyString(),
    multiple=True,
    metavar="HOST=CONTEXT",
    help="The context of kubectl for a cluster. Default: the current one, if the spec has one cluster.",
)


def find_repository_root() -> Path:
    """The root of the checkout that this folder is in, seen from here; this folder, when it is in none."""
    from kiwari_ci.readers import tracked_files

    return tracked_files.find_checkout_root(Path())


def find_output_root(out: Path | None) -> Path:
    """The root of the output, by one rule for every command, unless it is named.

    It is `generated/` where a pipeline is in it, else the root of the repository. The rule looks at no marker: an
    ejected pipeline is still there.
    """
    if out:
        return out
    root = find_repository_root()
    return root / "generated" if (root / "generated/.github/workflows").is_dir() else root


def find_spec_file(spec: Path | None, command: str = "") -> Path:
    """The spec that was named, or the only one; raises UsageError with the command as it should be."""
    if spec:
        return spec
    root = find_repository_root()
    prefix = "" if root == Path() else f"{root.as_posix()}/"
    spec_files = [str(path) for path in sorted((root / "specs").glob("*.y*ml")) if path.exists()]
    if not spec_files:
        cure = "go to the repository that has it, or write a first one: kiwari-ci init"
        raise click.UsageError(f"name the spec: {prefix}specs/*.yaml has none: {cure}")
    if len(spec_files) > 1:
        command = command or str(click.get_current_context().info_name)
        cure = shlex.join(["kiwari-ci", *command.split(), spec_files[0]])
        raise click.UsageError(f"name the spec: {prefix}specs/*.yaml has {', '.join(spec_files)}: {cure}")
    return Path(spec_files[0])


def parse_pairs(options: Iterable[str]) -> dict[str, str]:
    """Options of the form NAME=VALUE, as a mapping; raises UsageError for another form."""
    pairs = dict(option.partition("=")[::2] for option in options)
    if not all(name and value for name, value in pairs.items()):
        raise click.UsageError(f"expected HOST=…, met {' '.join(options)}")
    return pairs


def parse_cluster_contexts(plan: "Plan", options: Iterable[str]) -> dict[str, str]:
    """The contexts of kubectl by cluster name; raises UsageError for a cluster that the spec does not have."""
    contexts = parse_pairs(options)
    names = [cluster.name for cluster in plan.clusters]
    if unknown := _list_unknown_names(contexts, names):
        raise click.UsageError(f"no cluster {unknown}: the spec has {', '.join(names) or 'none'}")
    return contexts


def parse_destinations(plan: "Plan", options: Iterable[str]) -> dict[str, str]:
    """What ssh calls each host, by its name in the spec; raises UsageError for a host that the spec does not have."""
    destinations = parse_pairs(options)
    names = [host.name for host in plan.hosts]
    if unknown := _list_unknown_names(destinations, names):
        raise click.UsageError(f"no host {unknown}: the spec has {', '.join(names) or 'none'}")
    return destinations


def _list_unknown_names(pairs: Iterable[str], names: Iterable[str]) -> str:
    """The names of options that are none of these names; they are printed, so nothing in them is obeyed."""
    return escape_control_characters(", ".join(sorted(set(pairs) - set(names))))


def select_output_format(style: str | None) -> str:
    """The format that was asked for, or the one that fits: GitHub's in its workflows, else text."""
    if style:
        return style
    return "github" if os.environ.get("GITHUB_ACTIONS") == "true" else "text"
