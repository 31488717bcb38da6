"""The commands: the only module that prints, colours and exits."""

import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn

import click

from kiwari_ci import __version__, generator, problems
from kiwari_ci.cli import output, queries
from kiwari_ci.cli.options import (
    Named,
    Word,
    find_output_root,
    format_option,
    out_option,
    pairs_of,
    spec_argument,
    spec_of,
    style_of,
)
from kiwari_ci.output import atomic_write, generated_files

DRIFT = FOUND = 1
BAD_SPEC, BUG, CANNOT_WRITE, INTERRUPTED = 2, 70, 73, 130


def told(command: Callable[..., int]) -> Callable[..., None]:
    """Turn what a command returns into an exit code, and what a user did wrong into words."""

    @wraps(command)
    def run(**options: Any) -> None:
        try:
            sys.exit(command(**options))
        except problems.Faults as faults:
            _print_problems(faults.problems, options.get("style"), err=True)
            sys.exit(BAD_SPEC)
        except atomic_write.Refused as reason:
            click.echo(f"{reason.title}\n{reason}", err=True)
            sys.exit(CANNOT_WRITE)

    return run


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kiwari-ci")
def commands() -> None:
    """Turn one spec into GitHub workflows, compose stacks, a host program and a runbook.

    SPEC defaults to the only specs/*.yaml. Exit codes: 0 fine, 1 drift or something wrong, 2 bad usage or bad spec,
    73 cannot write, 130 interrupted, 70 a bug of kiwari-ci.
    """


@commands.command()
@spec_argument
@out_option
@format_option
@click.option("--force", is_flag=True, help="Overwrite files in the way that carry no marker of ours.")
@told
def generate(spec: Path | None, out: Path | None, style: str | None, force: bool) -> int:
    """Write the generated files, and say what was written, changed, left and removed."""
    spec, out = spec_of(spec), find_output_root(out)
    plan, files = generator.build(spec)
    written = generated_files.write(out, files, plan.project, force)
    left = _left(spec, out, plan.project, files)
    click.echo(output.as_json(vars(written) | {"left": left}) if style == "json" else output.report(spec, out, written))
    _tell_left(out, left)
    return 0


@commands.command()
@spec_argument
@out_option
@format_option
@told
def check(spec: Path | None, out: Path | None, style: str | None) -> int:
    """Compare the generated files with the spec; say why each differs, and exit with 1 when one does.

    In GitHub Actions it annotates the files and the spec's lines, and writes the job's summary.
    """
    called, style = _called(spec, out), style_of(style)
    spec, out = spec_of(spec), find_output_root(out)
    plan, files = generator.build(spec)
    differences = generated_files.compare(out, files, plan.project)
    if differences or style == "json":
        from kiwari_ci.commands.check import causes, report

        explained = causes.explain(out, spec, plan, files, differences, called, os.environ)
        click.echo(report.told(style, out, spec, explained, os.environ))
        if style == "github" and (reason := report.summarise(out, spec, explained, os.environ)):
            click.echo(f"no summary: {reason}", err=True)
    else:
        click.echo(f"{out}: {len(files)} files agree with {spec}")
    _tell_left(out, _left(spec, out, plan.project, files))
    return DRIFT if differences else 0


@commands.command()
@spec_argument
@out_option
@format_option
@told
def eject(spec: Path | None, out: Path | None, style: str | None) -> int:
    """Make the generated files your own: no marker, no drift workflow; what they do stays as it is."""
    from kiwari_ci.commands import eject as leaving

    spec, out = spec_of(spec), find_output_root(out)
    ejected = leaving.eject(out, spec, *generator.build(spec))
    click.echo(output.as_json(vars(ejected)) if style == "json" else output.farewell(out, ejected))
    return 0


@commands.command()
@click.argument("what", default="list", type=Named(), metavar="[list|pull]")
@spec_argument
@out_option
@format_option
@told
def pins(what: str, spec: Path | None, out: Path | None, style: str | None) -> int:
    """The actions that the workflows use, each at a commit: list them, or pull a bot's bumps.

    They are kiwari-ci's own, until there is a file pins/action.yml beside the spec: then those in it. `pull` takes
    the bumps out of the generated workflows into that file, and generates. It is refused, and changes nothing, where
    two files disagree, or a pin has no full commit and version, is of another action, goes back, or has a version
    that is known at another commit. What is frozen stays.
    """
    from kiwari_ci.commands import pins_pull
    from kiwari_ci.github import action_pins

    if what not in ("list", "pull"):
        if spec or not what.endswith((".yaml", ".yml")):
            raise click.UsageError(f"expected list or pull, met {what}: kiwari-ci pins --help")
        what, spec = "list", Path(what)
    spec = spec_of(spec, "pins pull" if what == "pull" else "pins")
    generator.decide(spec)
    if what == "list":
        own = action_pins.own(spec)
        click.echo(
            output.as_json(action_pins.as_data(own)) if style == "json" else output.pins(own, action_pins.beside(spec))
        )
        return 0
    out = find_output_root(out)
    done = pins_pull.pull(spec, out)
    click.echo(output.as_json(pins_pull.as_data(done)) if style == "json" else output.pulled(out, spec, done))
    return 0


@commands.command()
@spec_argument
@format_option
@told
def validate(spec: Path | None, style: str | None) -> int:
    """Point at every fault of a spec, and give advice."""
    spec = spec_of(spec)
    decided = generator.decide(spec)
    _print_problems(decided.advice, style)
    if style_of(style) != "json":
        services, environments = len(decided.spec.services), len(decided.spec.environments)
        click.echo(f"{spec} is sound: services {services}, environments {environments}, advice {len(decided.advice)}")
    return 0


@commands.command()
@spec_argument
@format_option
@told
def show(spec: Path | None, style: str | None) -> int:
    """Print the resolved plan: every name and default decided."""
    from dataclasses import asdict

    import yaml

    plan = output.lists(asdict(generator.decide(spec_of(spec)).plan))
    del plan["spec_text"], plan["pins"]["text"]
    click.echo(
        output.as_json(plan) if style == "json" else yaml.safe_dump(plan, sort_keys=False, width=120),
        nl=style == "json",
    )
    return 0


@commands.command()
@spec_argument
@click.option(
    "--checkout",
    "--repo",
    "repo",
    metavar="DIR",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The checkout of the repository that the spec is for. Default: the one that this folder is in.",
)
@format_option
@told
def lint(spec: Path | None, repo: Path | None, style: str | None) -> int:
    """Hold a spec against its repository, and list what to set; exit with 1 when a build would fail or go stale."""
    from kiwari_ci.commands.lint import repository_checks as linter

    report = linter.lint(spec_of(spec), repo)
    if style_of(style) == "json":
        click.echo(report.as_json())
    else:
        _print_problems(report.problems, style)
        click.echo(("\n" if report.problems else "") + report.as_text())
    return 0 if report.is_clean else FOUND


@commands.command()
@spec_argument
@click.option("--env", "environments", type=Word(), multiple=True, metavar="ENV", help="An environment. Default: all.")
@queries.ssh_option
@click.option(
    "--known-hosts",
    type=Word(),
    multiple=True,
    metavar="HOST=FILE",
    help="A file with the line by which jobs know a host. Default: the variable, which gh reads.",
)
@click.option("--npm", type=Word(), metavar="URL", help="Nginx Proxy Manager; NPM_TOKEN holds a token of its API.")
@format_option
@told
def doctor(
    spec: Path | None,
    environments: tuple[str, ...],
    ssh: tuple[str, ...],
    known_hosts: tuple[str, ...],
    npm: str | None,
    style: str | None,
) -> int:
    """Hold the spec against the world, and exit with 1 when something is wrong; nothing is changed anywhere.

    What cannot be reached is said as not asked, and fails nothing. The pull token is asked about when the
    environment has it under its secret's name.
    """
    from kiwari_ci.commands import doctor
    from kiwari_ci.probes import findings

    plan, files = generator.build(spec_of(spec))
    paths = {host: Path(file) for host, file in pairs_of(known_hosts).items()}
    tokens = {setting.name: os.environ.get(setting.name, "") for setting in plan.tokens}
    means = doctor.Means(pairs_of(ssh), paths, npm or "", os.environ.get("NPM_TOKEN", ""), tokens)
    if wrong := doctor.unknown(plan, environments, means):
        raise click.UsageError(wrong)
    found = doctor.examine(plan, files, environments, means)
    tellers = {"json": findings.as_json, "github": findings.as_github}
    click.echo(tellers.get(style_of(style), findings.as_text)(found))
    return FOUND if findings.counted(found)["wrong"] else 0


@commands.command()
@spec_argument
@out_option
@click.option(
    "--against",
    type=Named(),
    metavar="DIR|REF",
    help="What to compare with: a folder, or a commit as git has it (origin/main). Default: the root of the output.",
)
@click.option(
    "--format", "style", type=click.Choice(["text", "markdown", "json"]), help="Default: text; markdown for a summary."
)
@told
def diff(spec: Path | None, out: Path | None, against: str | None, style: str | None) -> int:
    """Say what would change, in words: who builds and deploys what, when, with which rights, names and data.

    The files may be hand-written: they are matched by what they build and deploy. What asks for care or for work by
    hand comes first and is marked `!`. The exit code is 0 with changes and without: a change is no failure
    (`check` is what fails).
    """
    from kiwari_ci.commands.diff import compare, manual_steps, report
    from kiwari_ci.readers import file_sets

    spec, root = spec_of(spec), find_output_root(out)
    plan, tree_ = generator.build(spec)
    try:
        before, is_ref = file_sets.of(against, root, os.environ) if against else (file_sets.of_folder(root), False)
    except file_sets.NoSide as reason:
        raise click.BadParameter(str(reason), param_hint="--against") from reason
    stays = file_sets.of_folder(root) if is_ref else before
    after = {path: file.text for path, file in tree_.items()}
    compared = compare.compare(before, after, stays, plan.repository, manual_steps.copies(plan.hosts))
    tellers = {"json": lambda told, _: output.as_json(report.as_data(told)), "markdown": report.as_markdown}
    told = tellers.get(style or "", report.as_text)(compared, spec.as_posix())
    click.echo(told, nl=bool(told))
    return 0


@commands.command()
@told
def schema() -> int:
    """Print the JSON Schema of a spec, for editors."""
    from kiwari_ci.schema import Spec

    click.echo(output.as_json(Spec.model_json_schema()))
    return 0


@commands.command()
@click.argument("folder", default=".", type=Named(path_type=Path))
@click.option("--repository", metavar="OWNER/NAME", help="The repository on GitHub, where no git remote says it.")
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", help="Default: text.")
@told
def init(folder: Path, repository: str | None, style: str) -> int:
    """Write a first spec from what the repository in FOLDER holds, or add what is new to the one that is there."""
    from kiwari_ci.commands import init

    first = init.first_spec(folder, repository)
    if first.new or first.services:
        generated_files.put(folder.resolve(), first.path, first.text, first.was)
    click.echo(output.as_json(vars(first)) if style == "json" else init.report(first, folder))
    return 0


for asking, answer in queries.COMMANDS.items():
    asking.callback = told(answer)
    commands.add_command(asking)


def main() -> NoReturn:
    """Run a command; every exit code that a command does not decide is decided here."""
    try:
        commands(standalone_mode=False)
        sys.exit(0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except Exception as error:
        traceback.print_exc()
        click.echo(f"kiwari-ci: this is a bug of kiwari-ci, not of your spec: {error}", err=True)
        sys.exit(BUG)


def _called(spec: Path | None, out: Path | None) -> list[str]:
    """The words that named spec and output, for the next command."""
    return [*([str(spec)] if spec else []), *(["--out", str(out)] if out else [])]


def _print_problems(found: Iterable[problems.Problem], style: str | None, err: bool = False) -> None:
    printers = {"text": problems.as_text, "github": problems.as_github, "json": problems.as_json}
    text = printers.get(style_of(style), problems.as_text)(found)
    if text:
        click.echo(text, err=err and style_of(style) in ("text", "markdown"))


def _left(spec: Path, out: Path, project: str, files: generated_files.Tree) -> list[str]:
    from kiwari_ci.commands.check import stale_files

    return stale_files.left(out, files, project, spec)


def _tell_left(out: Path, left: list[str]) -> None:
    """On standard error: it changes neither what a program reads nor the exit code."""
    if left:
        cure = problems.harmless(shlex.join(["rm", *(str(out / path) for path in left)]))
        click.echo(f"left of an earlier name, for no spec makes it now: when nothing else does, {cure}", err=True)
