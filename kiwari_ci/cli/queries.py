"""The commands that ask and change nothing; `cli` has them among its own."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kiwari_ci import generator
from kiwari_ci.cli import output
from kiwari_ci.cli.options import NonEmptyPath, NonEmptyString, find_spec_file, parse_pairs, spec_argument
from kiwari_ci.output import atomic_write
from kiwari_ci.problems import escape_control_characters
from kiwari_ci.safe_files import read_file_head

if TYPE_CHECKING:
    from kiwari_ci.commands.preview.release_preview import PreviewSources
    from kiwari_ci.plan import DeployHost, Plan

repo_option = click.option(
    "--repo",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=".",
    help="The repository that the spec is for. Default: the checkout that this folder is in.",
)
markdown_format_option = click.option(
    "--format",
    "style",
    type=click.Choice(["text", "markdown", "json"]),
    default="text",
    help="Default: text; markdown for a summary.",
)


json_format_option = click.option("--format", "style", type=click.Choice(["text", "json"]), default="text")
ssh_option = click.option(
    "--ssh",
    type=NonEmptyString(),
    multiple=True,
    metavar="HOST=DESTINATION",
    help="Where ssh finds a host: server=deploy@192.0.2.10. Default: its name in the spec, as in ~/.ssh/config.",
)


class MultiFileCommand(click.Command):
    """A command whose `--files` takes all words up to the next option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Write the option before each of them."""
        given: list[str] = []
        taking, named = False, "--files" not in args
        for word in args:
            taking = word == "--files" or (taking and (word == "-" or not word.startswith("-")))
            if taking and word != "--files":
                given, named = [*given, "--files", word], True
            elif not taking:
                given.append(word)
        if not named:
            raise click.UsageError("--files names no file: write their paths, or - for a list on standard input", ctx)
        return super().parse_args(ctx, given)


@click.command(cls=MultiFileCommand)
@spec_argument
@click.option(
    "--files",
    type=NonEmptyString(),
    multiple=True,
    metavar="PATH...",
    help="Changed files, from the root; -: a line each.",
)
@click.option(
    "--base", type=NonEmptyString(), metavar="REF", help="Changed files, as git has them; 000... for a new branch."
)
@click.option("--head", type=NonEmptyString(), metavar="REF", help="The newer side of --base. Default: HEAD.")
@click.option(
    "--event",
    type=click.Choice(["pull_request", "push"]),
    help="What brings the files; --base compares three-dot for one, two-dot for the other. Default: pull_request.",
)
@click.option(
    "--branch",
    type=NonEmptyString(),
    metavar="NAME",
    help="The branch pushed to, or merged into. Default: the one that is built.",
)
@click.option(
    "--tag",
    "tags",
    type=NonEmptyString(),
    multiple=True,
    metavar="TAG",
    help="A tag to push; more than once: in one push.",
)
@repo_option
@markdown_format_option
def affected(
    spec: Path | None,
    files: tuple[str, ...],
    base: str | None,
    head: str | None,
    event: str | None,
    branch: str | None,
    tags: tuple[str, ...],
    repo: Path,
    style: str,
) -> int:
    """Say which workflows, jobs, images, containers and domains changed files or a tag would touch, and which not.

    By GitHub's rules: its filters, 300 files of a diff, 1,000 commits and three tags of a push. Exit code 0 always.
    """
    from kiwari_ci.commands.affected import analysis as rules
    from kiwari_ci.commands.affected import report
    from kiwari_ci.readers import git_history
    from kiwari_ci.readers.git import GitError

    if sum(map(bool, (files, base, tags))) != 1:
        raise click.UsageError("name what changes, in one way: --files PATH..., --base REF or --tag TAG")
    if (head and not base) or (tags and (event or branch)):
        raise click.UsageError("--head goes with --base; --event and --branch go with files, a tag has neither")
    plan = generator.load_spec(find_spec_file(spec)).plan
    pushed = event == "push"
    try:
        if tags:
            answer = rules.find_affected_by_tags(plan, tags)
        else:
            git = git_history.GitRepository(repo, os.environ)
            change = (
                git_history.find_changed_files(git, base, head or "HEAD", pushed)
                if base
                else git_history.ChangedFiles(_read_file_paths(files))
            )
            answer = rules.find_affected_by_files(plan, change, pushed, branch or "")
    except GitError as reason:
        raise click.UsageError(str(reason)) from reason
    printers: dict[str, Any] = {
        "json": lambda told: output.format_json(report.build_affected_json(told)),
        "text": report.format_affected_text,
    }
    output.print_text(printers.get(style, report.format_affected_markdown)(answer))
    return 0


@click.command()
@spec_argument
@click.option(
    "--html", type=NonEmptyPath(path_type=Path), metavar="FILE", help="Write a page to look at; it needs no network."
)
def graph(spec: Path | None, html: Path | None) -> int:
    """Draw the pipeline: from push and tag over jobs, images and containers to domains, as Mermaid or as a page."""
    from kiwari_ci.commands.graph import html_page
    from kiwari_ci.planning import pipeline_graph as drawing

    drawn = drawing.build_pipeline_graph(generator.load_spec(find_spec_file(spec)).plan)
    if html is None:
        output.print_text(drawing.render_mermaid(drawn))
        return 0
    doctype = html_page.HTML_DOCTYPE.encode()
    try:
        if link := atomic_write.find_link(html):
            raise click.UsageError(f"{link} is a link, and nothing is written through a link: name another file")
        if html.is_file() and html.stat().st_size and not read_file_head(html).startswith(doctype):
            raise click.UsageError(f"{html} is there, and is no page: name another file")
        atomic_write.replace_file(html, html_page.render_html_page(drawn))
    except OSError as error:
        raise click.UsageError(f"{html}: {error.strerror}: name a file in a folder that is there") from error
    output.print_text(f"{html} is written")
    return 0


@click.command()
@click.argument("tag", type=NonEmptyString())
@spec_argument
@ssh_option
@repo_option
@json_format_option
def plan(tag: str, spec: Path | None, ssh: tuple[str, ...], repo: Path, style: str) -> int:
    """Say what a version's TAG would do: commits, images, what staging proved, migrations, env keys.

    Each part is told as far as it can be asked: git here, the registry by docker, the hosts by ssh. Exit code 1 when
    something would stop it.
    """
    from kiwari_ci.commands.preview import release_preview as asking
    from kiwari_ci.commands.preview import report
    from kiwari_ci.readers.git_history import GitRepository

    decided = generator.load_spec(find_spec_file(spec)).plan
    promotion = asking.find_promotion(decided, tag)
    if promotion is None:
        patterns = ", ".join(each.pattern for each in decided.promotions if each.pattern) or "nothing"
        raise click.UsageError(
            f"no workflow runs on the tag {escape_control_characters(tag)}: the spec promotes on {patterns}"
        )
    environments = (promotion.from_environment, promotion.deploy.environment)
    hosts = [host for host in decided.hosts if any(stack.environment in environments for stack in host.stacks)]
    means = _prepare_probes(decided, hosts, ssh)
    sections = asking.preview_release(decided, promotion, tag, GitRepository(repo, os.environ), means)
    about = f"{tag}: {asking.describe_promotion(promotion)}"
    output.print_text(
        output.format_json(report.build_sections_json(about, sections))
        if style == "json"
        else report.format_sections(about, sections)
    )
    return int(report.has_blocking_line(sections))


@click.command()
@click.argument("address", type=NonEmptyString())
@spec_argument
@ssh_option
@repo_option
@json_format_option
def trace(address: str, spec: Path | None, ssh: tuple[str, ...], repo: Path, style: str) -> int:
    """Say what serves at ADDRESS (an URL, a domain, a container), of which commits it is, and which run brought it."""
    from kiwari_ci.commands import trace as asking
    from kiwari_ci.commands.preview import report
    from kiwari_ci.readers.git_history import GitRepository

    decided = generator.load_spec(find_spec_file(spec)).plan
    place = asking.find_container_by_address(decided, address)
    if place is None:
        domains = ", ".join(decided.domains) or "no domain"
        raise click.UsageError(f"nothing of the spec answers at {escape_control_characters(address)}: it has {domains}")
    sections = asking.trace_container(
        decided, place, GitRepository(repo, os.environ), _prepare_probes(decided, [place[0]], ssh)
    )
    output.print_text(
        output.format_json(report.build_sections_json(address, sections))
        if style == "json"
        else report.format_sections(address, sections)
    )
    return 0


def _prepare_probes(decided: "Plan", hosts: "list[DeployHost]", ssh: tuple[str, ...]) -> "PreviewSources":
    """How the world is asked; the hosts are, at once."""
    from kiwari_ci.commands.preview import release_preview
    from kiwari_ci.probes import deploy_records
    from kiwari_ci.probes.runbook_index import RunbookIndex

    ways = parse_pairs(ssh)
    if unknown := sorted(set(ways) - {host.name for host in decided.hosts}):
        raise click.UsageError(f"no host {', '.join(unknown)}: the spec has {', '.join(h.name for h in decided.hosts)}")
    return release_preview.PreviewSources(
        deploy_records.query_registry_digests,
        deploy_records.query_hosts(hosts, ways),
        RunbookIndex(decided.runbook, ways),
    )


def _read_file_paths(given: tuple[str, ...]) -> tuple[str, ...]:
    """The paths, in git's order and words; `-` stands for those on standard input."""
    lines = sys.stdin.buffer.read().decode(errors="replace").splitlines() if "-" in given else []
    paths = [path for path in (*given, *lines) if path and path != "-"]
    return tuple(sorted({path.replace("\\", "/").removeprefix("./") for path in paths}))


QUERY_COMMANDS: dict[click.Command, Callable[..., int]] = {
    each: each.callback for each in (affected, graph, plan, trace) if each.callback
}
