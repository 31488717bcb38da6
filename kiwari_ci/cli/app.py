"""The commands: the only module that prints, colours and exits."""

import io
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
    NonEmptyPath,
    NonEmptyString,
    find_output_root,
    find_spec_file,
    format_option,
    out_option,
    parse_pairs,
    select_output_format,
    spec_argument,
)
from kiwari_ci.output import atomic_write, generated_files

EXIT_DRIFT = EXIT_FAULTS = 1
EXIT_BAD_SPEC, EXIT_INTERNAL_ERROR, EXIT_CANNOT_WRITE, EXIT_INTERRUPTED = 2, 70, 73, 130


def exit_with_code(command: Callable[..., int]) -> Callable[..., None]:
    """Turn what a command returns into an exit code, and what a user did wrong into words."""

    @wraps(command)
    def run(**options: Any) -> None:
        try:
            sys.exit(command(**options))
        except problems.SpecError as faults:
            _print_problems(faults.problems, options.get("style"), err=True)
            sys.exit(EXIT_BAD_SPEC)
        except atomic_write.OutputError as reason:
            output.print_text(f"{reason.title}\n{reason}", err=True)
            sys.exit(EXIT_CANNOT_WRITE)

    return run


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kiwari-ci")
def root_command() -> None:
    """Turn one spec into GitHub workflows, compose stacks, a host program and a runbook.

    SPEC defaults to the only specs/*.yaml. Exit codes: 0 fine, 1 drift or something wrong, 2 bad usage or bad spec,
    73 cannot write, 130 interrupted, 70 a bug of kiwari-ci.
    """


@root_command.command()
@spec_argument
@out_option
@format_option
@click.option("--force", is_flag=True, help="Overwrite files in the way that carry no marker of ours.")
@exit_with_code
def generate(spec: Path | None, out: Path | None, style: str | None, force: bool) -> int:
    """Write the generated files, and say what was written, changed, left and removed."""
    spec, out = find_spec_file(spec), find_output_root(out)
    plan, files = generator.generate_files(spec)
    written = generated_files.write_files(out, files, plan.project, force)
    left = _list_stale_files(spec, out, plan.project, files)
    output.print_text(
        output.format_json(vars(written) | {"left": left})
        if style == "json"
        else output.format_write_result(spec, out, written)
    )
    _warn_of_stale_files(out, left)
    return 0


@root_command.command()
@spec_argument
@out_option
@format_option
@exit_with_code
def check(spec: Path | None, out: Path | None, style: str | None) -> int:
    """Compare the generated files with the spec; say why each differs, and exit with 1 when one does.

    In GitHub Actions it annotates the files and the spec's lines, and writes the job's summary.
    """
    called, style = _build_spec_arguments(spec, out), select_output_format(style)
    spec, out = find_spec_file(spec), find_output_root(out)
    plan, files = generator.generate_files(spec)
    differences = generated_files.compare_files(out, files, plan.project)
    if differences or style == "json":
        from kiwari_ci.commands.check import causes, report

        explained = causes.explain_differences(out, spec, plan, files, differences, called, os.environ)
        output.print_text(report.format_drift_report(style, out, spec, explained, os.environ))
        if style == "github" and (reason := report.write_job_summary(out, spec, explained, os.environ)):
            output.print_text(f"no summary: {reason}", err=True)
    else:
        output.print_text(f"{out}: {len(files)} files agree with {spec}")
    _warn_of_stale_files(out, _list_stale_files(spec, out, plan.project, files))
    return EXIT_DRIFT if differences else 0


@root_command.command()
@spec_argument
@out_option
@format_option
@exit_with_code
def eject(spec: Path | None, out: Path | None, style: str | None) -> int:
    """Make the generated files your own: no marker, no drift workflow; what they do stays as it is."""
    from kiwari_ci.commands import eject as leaving

    spec, out = find_spec_file(spec), find_output_root(out)
    ejected = leaving.eject_pipeline(out, spec, *generator.generate_files(spec))
    output.print_text(
        output.format_json(vars(ejected)) if style == "json" else output.format_eject_result(out, ejected)
    )
    return 0


@root_command.command()
@click.argument("what", default="list", type=NonEmptyPath(), metavar="[list|pull]")
@spec_argument
@out_option
@format_option
@exit_with_code
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
    spec = find_spec_file(spec, "pins pull" if what == "pull" else "pins")
    generator.load_spec(spec)
    if what == "list":
        own = action_pins.load_pins(spec)
        output.print_text(
            output.format_json(action_pins.serialize_pins(own))
            if style == "json"
            else output.format_pin_list(own, action_pins.derive_pins_path(spec))
        )
        return 0
    out = find_output_root(out)
    done = pins_pull.pull_pin_updates(spec, out)
    output.print_text(
        output.format_json(pins_pull.serialize_pull_result(done))
        if style == "json"
        else output.format_pull_result(out, spec, done)
    )
    return 0


@root_command.command()
@spec_argument
@format_option
@exit_with_code
def validate(spec: Path | None, style: str | None) -> int:
    """Point at every fault of a spec, and give advice."""
    spec = find_spec_file(spec)
    decided = generator.load_spec(spec)
    _print_problems(decided.advice, style)
    if select_output_format(style) != "json":
        services, environments = len(decided.spec.services), len(decided.spec.environments)
        output.print_text(
            f"{spec} is sound: services {services}, environments {environments}, advice {len(decided.advice)}"
        )
    return 0


@root_command.command()
@spec_argument
@format_option
@exit_with_code
def show(spec: Path | None, style: str | None) -> int:
    """Print the resolved plan: every name and default decided."""
    from dataclasses import asdict

    import yaml

    plan = output.convert_tuples_to_lists(asdict(generator.load_spec(find_spec_file(spec)).plan))
    del plan["spec_text"], plan["pins"]["text"]
    output.print_text(
        output.format_json(plan) if style == "json" else yaml.safe_dump(plan, sort_keys=False, width=120),
        nl=style == "json",
    )
    return 0


@root_command.command()
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
@exit_with_code
def lint(spec: Path | None, repo: Path | None, style: str | None) -> int:
    """Hold a spec against its repository, and list what to set; exit with 1 when a build would fail or go stale."""
    from kiwari_ci.commands.lint import repository_checks as linter

    report = linter.lint_repository(find_spec_file(spec), repo)
    if select_output_format(style) == "json":
        output.print_text(report.as_json())
    else:
        _print_problems(report.problems, style)
        output.print_text(("\n" if report.problems else "") + report.as_text())
    return 0 if report.is_clean else EXIT_FAULTS


@root_command.command()
@spec_argument
@click.option(
    "--env", "environments", type=NonEmptyString(), multiple=True, metavar="ENV", help="An environment. Default: all."
)
@queries.ssh_option
@click.option(
    "--known-hosts",
    type=NonEmptyString(),
    multiple=True,
    metavar="HOST=FILE",
    help="A file with the line by which jobs know a host. Default: the variable, which gh reads.",
)
@click.option(
    "--npm", type=NonEmptyString(), metavar="URL", help="Nginx Proxy Manager; NPM_TOKEN holds a token of its API."
)
@click.option(
    "--pull-token",
    type=NonEmptyString(),
    metavar="REGISTRY",
    help="Show this registry the pull token in KIWARI_CI_PULL_TOKEN: ghcr.io. Default: no token is shown to anybody.",
)
@format_option
@exit_with_code
def doctor(
    spec: Path | None,
    environments: tuple[str, ...],
    ssh: tuple[str, ...],
    known_hosts: tuple[str, ...],
    npm: str | None,
    pull_token: str | None,
    style: str | None,
) -> int:
    """Hold the spec against the world, and exit with 1 when something is wrong; nothing is changed anywhere.

    What cannot be reached is said as not asked, and fails nothing. A token is shown only to a host that an option
    names, and standard error says which.
    """
    from kiwari_ci.commands import doctor
    from kiwari_ci.probes import findings

    plan, files = generator.generate_files(find_spec_file(spec))
    paths = {host: Path(file) for host, file in parse_pairs(known_hosts).items()}
    token = os.environ.get(doctor.PULL_TOKEN_VARIABLE, "") if pull_token else ""
    if pull_token and (wrong := doctor.find_token_error(plan, pull_token, token)):
        raise click.UsageError(wrong)
    means = doctor.ProbeOptions(parse_pairs(ssh), paths, npm or "", os.environ.get("NPM_TOKEN", ""), token)
    if wrong := doctor.find_option_error(plan, environments, means):
        raise click.UsageError(wrong)
    if token:
        output.print_text(f"{pull_token} sees the token in {doctor.PULL_TOKEN_VARIABLE}", err=True)
    if npm and means.npm_token:
        output.print_text(f"{problems.escape_control_characters(npm)} sees the token in NPM_TOKEN", err=True)
    found = doctor.run_checks(plan, files, environments, means)
    tellers = {"json": findings.format_findings_json, "github": findings.format_findings_github}
    output.print_text(tellers.get(select_output_format(style), findings.format_findings_text)(found))
    return EXIT_FAULTS if findings.count_by_state(found)["wrong"] else 0


@root_command.command()
@spec_argument
@out_option
@click.option(
    "--against",
    type=NonEmptyPath(),
    metavar="DIR|REF",
    help="What to compare with: a folder, or a commit as git has it (origin/main). Default: the root of the output.",
)
@click.option(
    "--format", "style", type=click.Choice(["text", "markdown", "json"]), help="Default: text; markdown for a summary."
)
@exit_with_code
def diff(spec: Path | None, out: Path | None, against: str | None, style: str | None) -> int:
    """Say what would change, in words: who builds and deploys what, when, with which rights, names and data.

    The files may be hand-written: they are matched by what they build and deploy. What asks for care or for work by
    hand comes first and is marked `!`. The exit code is 0 with changes and without: a change is no failure
    (`check` is what fails).
    """
    from kiwari_ci.commands.diff import compare, report
    from kiwari_ci.readers import file_sets

    spec, root = find_spec_file(spec), find_output_root(out)
    plan, tree_ = generator.generate_files(spec)
    try:
        before, is_ref = (
            file_sets.load_file_set(against, root, os.environ) if against else (file_sets.load_folder(root), False)
        )
    except file_sets.NothingToCompare as reason:
        raise click.BadParameter(str(reason), param_hint="--against") from reason
    stays = file_sets.load_folder(root) if is_ref else before
    after = {path: file.text for path, file in tree_.items()}
    compared = compare.compare_pipelines(before, plan, after, stays)
    tellers = {
        "json": lambda told, _: output.format_json(report.build_diff_json(told)),
        "markdown": report.format_diff_markdown,
    }
    told = tellers.get(style or "", report.format_diff_text)(compared, spec.as_posix())
    output.print_text(told, nl=bool(told))
    return 0


@root_command.command()
@exit_with_code
def schema() -> int:
    """Print the JSON Schema of a spec, for editors."""
    from kiwari_ci.schema import Spec

    output.print_text(output.format_json(Spec.model_json_schema()))
    return 0


@root_command.command()
@click.argument("folder", default=".", type=NonEmptyPath(path_type=Path))
@click.option("--repository", metavar="OWNER/NAME", help="The repository on GitHub, where no git remote says it.")
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", help="Default: text.")
@exit_with_code
def init(folder: Path, repository: str | None, style: str) -> int:
    """Write a first spec from what the repository in FOLDER holds, or add what is new to the one that is there."""
    from kiwari_ci.commands import init

    first = init.build_init_result(folder, repository)
    if first.new or first.services:
        generated_files.write_user_file(folder.resolve(), first.path, first.text, first.was)
    output.print_text(output.format_json(vars(first)) if style == "json" else init.format_init_result(first, folder))
    return 0


for asking, answer in queries.QUERY_COMMANDS.items():
    asking.callback = exit_with_code(answer)
    root_command.add_command(asking)


def main() -> NoReturn:
    """Run a command; every exit code that a command does not decide is decided here."""
    try:
        root_command(standalone_mode=False)
        sys.exit(0)
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(file=shown)
        output.print_text(shown.getvalue(), err=True, nl=False)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        output.print_text("interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:
        output.print_text(traceback.format_exc(), err=True)
        output.print_text(f"kiwari-ci: this is a bug of kiwari-ci, not of your spec: {error}", err=True)
        sys.exit(EXIT_INTERNAL_ERROR)


def _build_spec_arguments(spec: Path | None, out: Path | None) -> list[str]:
    """The words that named spec and output, for the next command."""
    return [*([str(spec)] if spec else []), *(["--out", str(out)] if out else [])]


def _print_problems(found: Iterable[problems.Problem], style: str | None, err: bool = False) -> None:
    printers = {
        "text": problems.format_problems_text,
        "github": problems.format_problems_github,
        "json": problems.format_problems_json,
    }
    text = printers.get(select_output_format(style), problems.format_problems_text)(found)
    if text:
        output.print_text(text, err=err and select_output_format(style) in ("text", "markdown"))


def _list_stale_files(spec: Path, out: Path, project: str, files: generated_files.GeneratedFiles) -> list[str]:
    from kiwari_ci.commands.check import stale_files

    return stale_files.find_stale_files(out, files, project, spec)


def _warn_of_stale_files(out: Path, left: list[str]) -> None:
    """On standard error: it changes neither what a program reads nor the exit code."""
    if left:
        cure = problems.escape_control_characters(shlex.join(["rm", *(str(out / path) for path in left)]))
        output.print_text(
            f"left of an earlier name, for no spec makes it now: when nothing else does, {cure}", err=True
        )
