"""The commands that a person starts with: a first spec, and what is wrong with it."""

import dataclasses
from pathlib import Path

import click

from kiwari_ci import problems
from kiwari_ci.cli import terminal
from kiwari_ci.cli.errors import EXIT_FAULTS, exit_with_code, print_problems
from kiwari_ci.cli.options import (
    NonEmptyPath,
    find_repository_root,
    find_spec_file,
    format_option,
    json_format_option,
    quiet_option,
    select_output_format,
    spec_argument,
)
from kiwari_ci.cli.progress import show_progress


@click.command("init")
@click.argument("folder", required=False, type=NonEmptyPath(path_type=Path))
@click.option(
    "--repository", metavar="OWNER/NAME", help="The repository on GitHub. Default: taken from the git remote."
)
@json_format_option
@quiet_option
@exit_with_code
def init_command(folder: Path | None, repository: str | None, style: str, quiet: bool) -> int:
    """Draft a spec from the Dockerfiles, Compose files and workflows in FOLDER, or add new services to its spec.

    FOLDER defaults to the root of the repository that you are in.
    """
    from kiwari_ci.commands import init
    from kiwari_ci.file_output import generated_files

    root = folder or find_repository_root()
    with show_progress("Reading the repository", quiet):
        result = init.build_init_result(root, repository)
    if result.new or result.services:
        generated_files.write_user_file(root.resolve(), result.path, result.text, result.was)
    if style == "json":
        terminal.print_text(problems.format_json(dataclasses.asdict(result)))
    elif not quiet:
        terminal.print_text(init.format_init_result(result, root))
    return 0


@click.command("validate")
@spec_argument
@format_option
@quiet_option
@exit_with_code
def validate_command(spec: Path | None, style: str | None, quiet: bool) -> int:
    """Check whether a spec is valid: print each mistake with its line, and give advice."""
    from kiwari_ci import generator

    spec = find_spec_file(spec)
    loaded = generator.load_spec(spec)
    if quiet and select_output_format(style) == "text":
        return 0
    print_problems(loaded.advice, style)
    if select_output_format(style) != "json":
        services, environments = len(loaded.spec.services), len(loaded.spec.environments)
        terminal.print_text(
            f"{spec} is sound: services {services}, environments {environments}, advice {len(loaded.advice)}"
        )
    return 0


@click.command("lint")
@spec_argument
@click.option(
    "--checkout",
    "--repo",
    "repository",
    metavar="DIR",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A checkout of the repository that the spec is for. Default: the one that you are in.",
)
@format_option
@quiet_option
@exit_with_code
def lint_command(spec: Path | None, repository: Path | None, style: str | None, quiet: bool) -> int:
    """Compare a spec with its repository, and list the secrets and variables to set on GitHub.

    The exit code is 1 when a build would fail, or would miss a change of a file that it copies.
    """
    from kiwari_ci.commands.lint import repository_checks

    with show_progress("Reading the repository", quiet):
        report = repository_checks.lint_repository(find_spec_file(spec), repository)
    exit_code = 0 if report.is_clean else EXIT_FAULTS
    if select_output_format(style) == "json":
        terminal.print_text(report.as_json())
    elif quiet:
        print_problems([problem for problem in report.problems if problem.severity == "error"], style)
    else:
        print_problems(report.problems, style)
        terminal.print_text(("\n" if report.problems else "") + report.as_text())
    return exit_code


@click.command("schema")
@exit_with_code
def schema_command() -> int:
    """Print the JSON Schema of a spec, for editors."""
    from kiwari_ci.schema import Spec

    terminal.print_text(problems.format_json(Spec.model_json_schema()))
    return 0
