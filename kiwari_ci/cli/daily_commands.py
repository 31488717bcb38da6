"""The commands of every day: write the files, check them, and see what a change means."""

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kiwari_ci import problems
from kiwari_ci.cli import terminal
from kiwari_ci.cli.errors import EXIT_DRIFT, exit_with_code
from kiwari_ci.cli.options import (
    NonEmptyPath,
    NonEmptyString,
    find_output_root,
    find_repository_root,
    find_spec_file,
    format_option,
    json_format_option,
    markdown_format_option,
    out_option,
    quiet_option,
    repository_option,
    select_output_format,
    spec_argument,
)

if TYPE_CHECKING:
    from kiwari_ci.file_output.generated_files import GeneratedFiles


@click.command("generate")
@spec_argument
@out_option
@format_option
@click.option("--force", is_flag=True, help="Overwrite existing files that do not have kiwari-ci's marker.")
@quiet_option
@exit_with_code
def generate_command(spec: Path | None, out: Path | None, style: str | None, force: bool, quiet: bool) -> int:
    """Write the generated files, and list those that are new, changed and removed."""
    from kiwari_ci import generator
    from kiwari_ci.file_output import generated_files

    spec, out = find_spec_file(spec), find_output_root(out)
    plan, files = generator.generate_files(spec)
    written = generated_files.write_files(out, files, plan.project, force)
    leftover_paths = _list_leftover_files(spec, out, plan.project, files)
    if style == "json":
        terminal.print_text(problems.format_json(vars(written) | {"left": leftover_paths}))
    elif not quiet:
        terminal.print_coloured_text(terminal.format_write_result(spec, out, written))
    _warn_of_leftover_files(out, leftover_paths)
    return 0


@click.command("check")
@spec_argument
@out_option
@format_option
@quiet_option
@exit_with_code
def check_command(spec: Path | None, out: Path | None, style: str | None, quiet: bool) -> int:
    """Compare the generated files with the spec, and print why a file differs.

    The exit code is 1 when a file differs. In GitHub Actions, the command also annotates the files and the lines of
    the spec, and writes a job summary.
    """
    from kiwari_ci import generator
    from kiwari_ci.file_output import generated_files

    arguments, output_format = _build_spec_arguments(spec, out), select_output_format(style)
    spec, out = find_spec_file(spec), find_output_root(out)
    plan, files = generator.generate_files(spec)
    differences = generated_files.compare_files(out, files, plan.project)
    if differences or output_format == "json":
        from kiwari_ci.commands.check import causes, report

        explained = causes.explain_differences(out, spec, plan, files, differences, arguments, os.environ)
        text = report.format_drift_report(output_format, out, spec, explained, os.environ)
        if output_format == "text":
            terminal.print_coloured_text(terminal.colour_diff_lines(text))
        else:
            terminal.print_text(text)
        if output_format == "github" and (reason := report.write_job_summary(out, spec, explained, os.environ)):
            terminal.print_text(f"no summary: {reason}", err=True)
    elif not quiet:
        terminal.print_text(f"{out}: {len(files)} files agree with {spec}")
    _warn_of_leftover_files(out, _list_leftover_files(spec, out, plan.project, files))
    return EXIT_DRIFT if differences else 0


def _build_spec_arguments(spec: Path | None, out: Path | None) -> list[str]:
    """The words that named spec and output, for the next command."""
    return [*([str(spec)] if spec else []), *(["--out", str(out)] if out else [])]


def _list_leftover_files(spec: Path, out: Path, project: str, files: "GeneratedFiles") -> list[str]:
    from kiwari_ci.commands.check import leftover_files

    return leftover_files.find_leftover_files(out, files, project, spec)


def _warn_of_leftover_files(out: Path, leftover_paths: list[str]) -> None:
    """Warn on standard error of files that an earlier name left: the output and the exit code stay the same."""
    if leftover_paths:
        cure = problems.escape_control_characters(shlex.join(["rm", *(str(out / path) for path in leftover_paths)]))
        terminal.print_text(
            f"no spec generates these files any more; to remove them, unless something else uses them: {cure}",
            err=True,
        )


@click.command("diff")
@spec_argument
@out_option
@click.option(
    "--against",
    type=NonEmptyPath(),
    metavar="DIR|REF",
    help="Compare with this folder, or with a Git ref such as origin/main. Default: the root of the output.",
)
@click.option(
    "--format", "style", type=click.Choice(["text", "markdown", "json"]), help="Default: text; markdown for a summary."
)
@exit_with_code
def diff_command(spec: Path | None, out: Path | None, against: str | None, style: str | None) -> int:
    """Describe what `generate` would change in the pipeline: builds, deploys, permissions, names and data.

    A `!` marks what to look at first, and such lines come first. The files to compare with can be hand-written: `diff`
    finds out what they build and deploy, and lists what to do by hand before the merge, what to do after it, and what
    else changes. The exit code is 0 with and without changes; `check` is the command that fails.
    """
    from kiwari_ci import generator
    from kiwari_ci.commands.diff import compare, report
    from kiwari_ci.readers import file_sets

    spec, root = find_spec_file(spec), find_output_root(out)
    plan, files = generator.generate_files(spec)
    try:
        if against:
            before, is_ref = file_sets.load_file_set(against, root, os.environ)
        else:
            before, is_ref = file_sets.load_folder(root), False
    except file_sets.NothingToCompare as error:
        raise click.BadParameter(str(error), param_hint="--against") from error
    current = file_sets.load_folder(root) if is_ref else before
    after = {path: file.text for path, file in files.items()}
    comparison = compare.compare_pipelines(before, plan, after, current)
    if style == "json":
        text = problems.format_json(report.build_diff_json(comparison))
    elif style == "markdown":
        text = report.format_diff_markdown(comparison, spec.as_posix())
    else:
        text = report.format_diff_text(comparison, spec.as_posix())
        if comparison.is_repeated and not against:
            text += f"\n{report.format_repetition_note(plan.default_branch)}"
    terminal.print_text(text, nl=bool(text))
    return 0


class MultiFileCommand(click.Command):
    """A command whose `--files` takes all words up to the next option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Write the option before each of them."""
        expanded: list[str] = []
        is_in_files, has_file = False, "--files" not in args
        for word in args:
            if word == "--files":
                is_in_files = True
                continue
            is_in_files = is_in_files and (word == "-" or not word.startswith("-"))
            if is_in_files:
                expanded += ["--files", word]
                has_file = True
            else:
                expanded.append(word)
        if not has_file:
            raise click.UsageError("--files names no file: write their paths, or - for a list on standard input", ctx)
        return super().parse_args(ctx, expanded)


@click.command("affected", cls=MultiFileCommand)
@spec_argument
@click.option(
    "--files",
    type=NonEmptyString(),
    multiple=True,
    metavar="PATH...",
    help="Changed files, as paths from the root of the repository; - reads paths from standard input, one a line.",
)
@click.option(
    "--base", type=NonEmptyString(), metavar="REF", help="Take the files that have changed since this Git ref."
)
@click.option("--head", type=NonEmptyString(), metavar="REF", help="Where the changes since --base end. Default: HEAD.")
@click.option(
    "--event",
    type=click.Choice(["pull_request", "push"]),
    help="The event that starts the workflows. Default: pull_request.",
)
@click.option(
    "--branch",
    type=NonEmptyString(),
    metavar="NAME",
    help="The branch that is pushed to, or the target of the pull request. Default: the branch that is built.",
)
@click.option(
    "--tag",
    "tags",
    type=NonEmptyString(),
    multiple=True,
    metavar="TAG",
    help="A tag that is pushed. Repeat the option for several tags in one push.",
)
@repository_option
@markdown_format_option
@exit_with_code
def affected_command(
    spec: Path | None,
    files: tuple[str, ...],
    base: str | None,
    head: str | None,
    event: str | None,
    branch: str | None,
    tags: tuple[str, ...],
    repository: Path | None,
    style: str,
) -> int:
    """List which workflows, jobs, images, containers and domains changed files or a tag would affect, and which not.

    The command follows the rules of GitHub: path filters, and the limits of 300 files in a diff, 1,000 commits in a
    push, and three tags in a push. The exit code is 0 whatever it finds.
    """
    from kiwari_ci import generator
    from kiwari_ci.commands.affected import analysis, report
    from kiwari_ci.readers import git_history
    from kiwari_ci.readers.git import GitError

    if sum(map(bool, (files, base, tags))) != 1:
        raise click.UsageError("name what changes, in one way: --files PATH..., --base REF or --tag TAG")
    if (head and not base) or (tags and (event or branch)):
        raise click.UsageError("--head goes with --base; --event and --branch go with files, a tag has neither")
    plan = generator.load_spec(find_spec_file(spec)).plan
    is_push = event == "push"
    try:
        if tags:
            answer = analysis.find_affected_by_tags(plan, tags)
        else:
            if base:
                git = git_history.GitRepository(repository or find_repository_root(), os.environ)
                changed_files = git_history.find_changed_files(git, base, head or "HEAD", is_push)
            else:
                changed_files = git_history.ChangedFiles(_read_file_paths(files))
            answer = analysis.find_affected_by_files(plan, changed_files, is_push, branch or "")
    except GitError as error:
        raise click.UsageError(str(error)) from error
    if style == "json":
        terminal.print_text(problems.format_json(report.build_affected_json(answer)))
    elif style == "markdown":
        terminal.print_text(report.format_affected_markdown(answer))
    else:
        terminal.print_text(report.format_affected_text(answer))
    return 0


def _read_file_paths(words: tuple[str, ...]) -> tuple[str, ...]:
    """The paths, in git's order and form; `-` stands for those on standard input."""
    lines = sys.stdin.buffer.read().decode(errors="replace").splitlines() if "-" in words else []
    paths = [path for path in (*words, *lines) if path and path != "-"]
    return tuple(sorted({path.replace("\\", "/").removeprefix("./") for path in paths}))


@click.command("graph")
@spec_argument
@click.option(
    "--html", type=NonEmptyPath(path_type=Path), metavar="FILE", help="Write an HTML page, which needs no network."
)
@exit_with_code
def graph_command(spec: Path | None, html: Path | None) -> int:
    """Draw the pipeline, from pushes and tags through jobs, images and containers to domains, as Mermaid or HTML."""
    from kiwari_ci import generator
    from kiwari_ci.commands.graph import html_page
    from kiwari_ci.file_output import atomic_write
    from kiwari_ci.planning import pipeline_graph
    from kiwari_ci.safe_files import read_file_head

    graph = pipeline_graph.build_pipeline_graph(generator.load_spec(find_spec_file(spec)).plan)
    if html is None:
        terminal.print_text(pipeline_graph.render_mermaid(graph))
        return 0
    doctype = html_page.HTML_DOCTYPE.encode()
    try:
        if link := atomic_write.find_link(html):
            raise click.UsageError(f"{link} is a link, and nothing is written through a link: name another file")
        if html.is_file() and html.stat().st_size and not read_file_head(html).startswith(doctype):
            raise click.UsageError(f"{html} exists, and is not an HTML page: name another file")
        atomic_write.replace_file(html, html_page.render_html_page(graph))
    except OSError as error:
        raise click.UsageError(f"{html}: {error.strerror}: name a file in a folder that is there") from error
    terminal.print_text(f"{html} is written")
    return 0


@click.command("show")
@spec_argument
@format_option
@exit_with_code
def show_command(spec: Path | None, style: str | None) -> int:
    """Print all names and values that follow from the spec, with every default filled in."""
    from dataclasses import asdict

    import yaml

    from kiwari_ci import generator

    plan = terminal.convert_tuples_to_lists(asdict(generator.load_spec(find_spec_file(spec)).plan))
    del plan["spec_text"], plan["pins"]["text"]
    if style == "json":
        terminal.print_text(problems.format_json(plan))
    else:
        terminal.print_text(yaml.safe_dump(plan, sort_keys=False, width=120), nl=False)
    return 0


@click.command("set")
@click.argument("path", type=NonEmptyString())
@click.argument("value")
@spec_argument
@json_format_option
@quiet_option
@exit_with_code
def set_command(path: str, value: str, spec: Path | None, style: str, quiet: bool) -> int:
    """Change the value at PATH in a spec, or add a key; comments, quotes and blank lines stay as they are.

    VALUE is YAML: `kiwari-ci set services.api.port 8082`, or for a new service
    `kiwari-ci set services.worker '{image_of: api, command: [work]}'`. Nothing is written unless the spec is valid
    both before and after the change.
    """
    from kiwari_ci.commands import edit_spec

    edit = edit_spec.set_value(find_spec_file(spec), path, value)
    if style == "json":
        terminal.print_text(problems.format_json({"path": edit.path.as_posix(), "diff": edit.diff}))
    elif not edit.diff and not quiet:
        terminal.print_text(f"{edit.path}: {path} has this value already; nothing was changed")
    elif not quiet:
        terminal.print_coloured_text(terminal.colour_diff_lines(edit.diff))
        terminal.print_text("next: kiwari-ci generate")
    return 0
