"""The commands: the only module that prints, colours and exits."""

import json
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn

import click

from kiwari_ci import __version__, pipeline, problems, tree

DRIFT = FINDINGS = 1
BAD_SPEC, BUG, CANNOT_WRITE, INTERRUPTED = 2, 70, 73, 130
WORDS = {"missing": "missing", "changed": "stale or edited by hand", "orphaned": "no longer in the spec"}

spec_argument = click.argument("spec", required=False, type=click.Path(path_type=Path))
out_option = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Root of the output. Default: this folder where it holds a generated pipeline, else generated/.",
)
format_option = click.option(
    "--format",
    "style",
    type=click.Choice(["text", "github", "json"]),
    help="Default: github in GitHub Actions, else text.",
)


def told(command: Callable[..., int]) -> Callable[..., None]:
    """Turn what a command returns into an exit code, and what a user did wrong into words."""

    @wraps(command)
    def run(**options: Any) -> None:
        try:
            sys.exit(command(**options))
        except problems.Faults as faults:
            _print_problems(faults.problems, options.get("style"), err=True)
            sys.exit(BAD_SPEC)
        except tree.Refused as reason:
            click.echo(f"nothing was changed:\n{reason}", err=True)
            sys.exit(CANNOT_WRITE)

    return run


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kiwari-ci")
def commands() -> None:
    """Turn one spec into GitHub workflows, compose stacks, a host script and a runbook.

    SPEC defaults to the only specs/*.yaml. Exit codes: 0 fine, 1 drift or findings, 2 bad usage or bad spec,
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
    spec, out = _spec(spec), _out(out)
    plan, files = pipeline.build(spec)
    written = tree.write(out, files, plan.project, force)
    click.echo(_json(vars(written)) if style == "json" else _report(spec, out, written))
    return 0


@commands.command()
@spec_argument
@out_option
@format_option
@told
def check(spec: Path | None, out: Path | None, style: str | None) -> int:
    """Compare the generated files with the spec; print every difference, and exit with 1 when there is one."""
    cure = _cure(spec, out)
    spec, out = _spec(spec), _out(out)
    plan, files = pipeline.build(spec)
    differences = tree.compare(out, files, plan.project)
    style = _style(style)
    if style == "json":
        click.echo(_json([vars(difference) for difference in differences]))
    elif differences:
        click.echo(_annotations(out, differences, cure) if style == "github" else _drift(out, differences, cure))
    else:
        click.echo(f"{out}: {len(files)} files agree with {spec}")
    return DRIFT if differences else 0


@commands.command()
@spec_argument
@format_option
@told
def validate(spec: Path | None, style: str | None) -> int:
    """Point at every fault of a spec, and give advice."""
    spec = _spec(spec)
    decided = pipeline.decide(spec)
    _print_problems(decided.advice, style)
    if _style(style) != "json":
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

    plan = asdict(pipeline.decide(_spec(spec)).plan)
    del plan["spec_text"]
    click.echo(
        _json(plan) if style == "json" else yaml.safe_dump(_lists(plan), sort_keys=False, width=120), nl=style == "json"
    )
    return 0


@commands.command()
@spec_argument
@click.option(
    "--repo",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The repository that the spec is for. Default: the checkout that this folder is in.",
)
@format_option
@told
def lint(spec: Path | None, repo: Path | None, style: str | None) -> int:
    """Hold a spec against its repository, and list what to set; exit with 1 when a build would fail or go stale."""
    from kiwari_ci import lint as linter

    report = linter.lint(_spec(spec), repo)
    if _style(style) == "json":
        click.echo(report.as_json())
    else:
        _print_problems(report.problems, style)
        click.echo(("\n" if report.problems else "") + report.as_text())
    return 0 if report.is_clean else FINDINGS


@commands.command()
@told
def schema() -> int:
    """Print the JSON Schema of a spec, for editors."""
    from kiwari_ci.spec import Spec

    click.echo(_json(Spec.model_json_schema()))
    return 0


@commands.command()
@click.argument("folder", default=".", type=click.Path(path_type=Path))
@click.option("--repository", metavar="OWNER/NAME", help="The repository on GitHub, where no git remote says it.")
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", help="Default: text.")
@told
def init(folder: Path, repository: str | None, style: str) -> int:
    """Write a first spec from what the repository in FOLDER holds, or add what is new to the one that is there."""
    from kiwari_ci import adopt

    first = adopt.first_spec(folder, repository)
    if first.new or first.services:
        tree.put(folder.resolve(), first.path, first.text, first.was)
    click.echo(_json(vars(first)) if style == "json" else adopt.report(first, folder))
    return 0


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


def _spec(given: Path | None) -> Path:
    if given:
        return given
    found = sorted(Path("specs").glob("*.y*ml"))
    if len(found) != 1:
        names = ", ".join(map(str, found)) or "none"
        raise click.UsageError(f"name the spec: specs/*.yaml has {names}")
    return found[0]


def _out(given: Path | None) -> Path:
    """A checkout that was generated into is known by its drift workflow."""
    return given or Path("." if Path(".github/workflows/pipeline-drift.yml").exists() else "generated")


def _style(given: str | None) -> str:
    return given or ("github" if os.environ.get("GITHUB_ACTIONS") == "true" else "text")


def _cure(spec: Path | None, out: Path | None) -> str:
    words = ["kiwari-ci", "generate", *([str(spec)] if spec else []), *(["--out", str(out)] if out else [])]
    return shlex.join(words)


def _print_problems(found: Iterable[problems.Problem], style: str | None, err: bool = False) -> None:
    printers = {"text": problems.as_text, "github": problems.as_github, "json": problems.as_json}
    text = printers[_style(style)](found)
    if text:
        click.echo(text, err=err and _style(style) == "text")


def _report(spec: Path, out: Path, written: tree.Written) -> str:
    rows = [("new", written.new), ("changed", written.changed), ("removed", written.removed)]
    lines = [f"  {word:9}{path}" for word, paths in rows for path in paths]
    return "\n".join([f"{spec} -> {out}", *lines, f"  {len(written.same)} unchanged"])


def _drift(out: Path, differences: list[tree.Difference], cure: str) -> str:
    """All diffs first: the list and the cure are what a reader sees last."""
    names = [f"  {WORDS[difference.kind]}: {difference.path}" for difference in differences]
    count = "1 file does" if len(differences) == 1 else f"{len(differences)} files do"
    summary = f"{out}: {count} not agree with the spec"
    return "\n".join([*(difference.diff for difference in differences), summary, *names, f"cure: {cure}"])


def _annotations(out: Path, differences: list[tree.Difference], cure: str) -> str:
    found = [
        problems.Problem("drift", f"{WORDS[difference.kind]}; run: {cure}", (out / difference.path).as_posix(), 1)
        for difference in differences
    ]
    return _drift(out, differences, cure) + "\n" + problems.as_github(found)


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, tuple | list) else value


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
