"""The commands that operate a pipeline: versions, hosts, pins, and the way out."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kiwari_ci import problems
from kiwari_ci.cli import terminal
from kiwari_ci.cli.errors import EXIT_FAULTS, exit_with_code
from kiwari_ci.cli.options import (
    NonEmptyPath,
    NonEmptyString,
    context_option,
    find_output_root,
    find_repository_root,
    find_spec_file,
    format_option,
    json_format_option,
    out_option,
    parse_cluster_contexts,
    parse_destinations,
    parse_pairs,
    quiet_option,
    repository_option,
    select_output_format,
    spec_argument,
    ssh_option,
)
from kiwari_ci.cli.progress import show_progress
from kiwari_ci.problems import escape_control_characters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kiwari_ci.commands.preview.release_preview import PreviewSources
    from kiwari_ci.commands.preview.report import ReportSection
    from kiwari_ci.plan_model import Host, Plan
    from kiwari_ci.remote_checks.findings import Finding


@click.command("preview")
@click.argument("tag", type=NonEmptyString())
@spec_argument
@ssh_option
@context_option
@repository_option
@json_format_option
@exit_with_code
def preview_command(
    tag: str,
    spec: Path | None,
    ssh: tuple[str, ...],
    contexts: tuple[str, ...],
    repository: Path | None,
    style: str,
) -> int:
    """Print what pushing the version TAG would do: commits, images, what staging has served, migrations, env keys.

    The command asks git in this checkout, the registry with docker, servers with ssh, and clusters with kubectl; it
    prints ? for what it cannot find out. The exit code is 1 when something would stop the release.
    """
    from kiwari_ci import generator
    from kiwari_ci.commands.preview import release_preview, report
    from kiwari_ci.readers.git_history import GitRepository

    plan = generator.load_spec(find_spec_file(spec)).plan
    promotion = release_preview.find_promotion(plan, tag)
    if promotion is None:
        patterns = ", ".join(promotion.pattern for promotion in plan.promotions if promotion.pattern) or "nothing"
        shown_tag = escape_control_characters(tag)
        raise click.UsageError(f"no workflow runs on the tag {shown_tag}: the spec promotes on {patterns}")
    environments = {promotion.from_environment, promotion.deploy.environment}
    hosts = [host for host in plan.every_host if environments & {stack.environment for stack in host.stacks}]
    git = GitRepository(repository or find_repository_root(), os.environ)
    with show_progress("Asking git, the registry and the hosts"):
        sources = _prepare_probes(plan, hosts, ssh, contexts)
        sections = release_preview.preview_release(plan, promotion, tag, git, sources)
    title = f"{tag}: {release_preview.describe_promotion(promotion)}"
    _print_sections(title, sections, style)
    return int(report.has_blocking_line(sections))


@click.command("trace")
@click.argument("address", type=NonEmptyString())
@spec_argument
@ssh_option
@context_option
@repository_option
@json_format_option
@exit_with_code
def trace_command(
    address: str,
    spec: Path | None,
    ssh: tuple[str, ...],
    contexts: tuple[str, ...],
    repository: Path | None,
    style: str,
) -> int:
    """Print which image and commit serve at ADDRESS (a URL, domain or container), and the run that deployed them."""
    from kiwari_ci import generator
    from kiwari_ci.commands import trace
    from kiwari_ci.readers.git_history import GitRepository

    plan = generator.load_spec(find_spec_file(spec)).plan
    place = trace.find_container_by_address(plan, address)
    if place is None:
        domains = ", ".join(plan.domains) or "none"
        raise click.UsageError(f"the spec has no address {escape_control_characters(address)}; its domains: {domains}")
    git = GitRepository(repository or find_repository_root(), os.environ)
    with show_progress("Asking git, the registry and the host"):
        hosts = [host for host in plan.every_host if host == place[0]]
        sections = trace.trace_container(plan, place, git, _prepare_probes(plan, hosts, ssh, contexts))
    _print_sections(address, sections, style)
    return 0


def _print_sections(title: str, sections: "list[ReportSection]", style: str | None) -> None:
    from kiwari_ci.commands.preview import report

    if style == "json":
        terminal.print_text(problems.format_json(report.build_sections_json(title, sections)))
    else:
        terminal.print_text(report.format_sections(title, sections))


def _prepare_probes(
    plan: "Plan", hosts: "Sequence[Host]", ssh: tuple[str, ...], contexts: tuple[str, ...]
) -> "PreviewSources":
    """Ask the registry when it is needed, and all hosts at once."""
    from kiwari_ci.commands.preview import release_preview
    from kiwari_ci.remote_checks import deploy_records
    from kiwari_ci.remote_checks.runbook_index import RunbookIndex

    destinations = parse_destinations(plan, ssh)
    ways = deploy_records.WaysToHosts(destinations, parse_cluster_contexts(plan, contexts), plan.clusters)
    hosts_asked = deploy_records.query_hosts(list(hosts), ways)
    return release_preview.PreviewSources(
        deploy_records.query_registry_digests, hosts_asked, RunbookIndex(plan.runbook, destinations)
    )


@click.command("doctor")
@spec_argument
@click.option(
    "--env",
    "environments",
    type=NonEmptyString(),
    multiple=True,
    metavar="ENV",
    help="Check one environment. Default: all.",
)
@ssh_option
@context_option
@click.option(
    "--known-hosts",
    type=NonEmptyString(),
    multiple=True,
    metavar="HOST=FILE",
    help="A known_hosts file with the host's key. Default: the variable on GitHub, read with gh.",
)
@click.option(
    "--npm",
    type=NonEmptyString(),
    metavar="URL",
    help="The address of Nginx Proxy Manager. The environment variable NPM_TOKEN has a token of its API.",
)
@click.option(
    "--pull-token",
    type=NonEmptyString(),
    metavar="REGISTRY",
    help="Send the token in the environment variable KIWARI_CI_PULL_TOKEN to this registry. Default: no token is sent.",
)
@format_option
@quiet_option
@exit_with_code
def doctor_command(
    spec: Path | None,
    environments: tuple[str, ...],
    ssh: tuple[str, ...],
    contexts: tuple[str, ...],
    known_hosts: tuple[str, ...],
    npm: str | None,
    pull_token: str | None,
    style: str | None,
    quiet: bool,
) -> int:
    """Check whether servers, clusters, DNS, certificates, GitHub and the registry are as the spec needs them.

    The doctor only reads. The exit code is 1 when something is wrong. A check that it cannot make is reported as not
    asked, and does not change the exit code. It sends a token only to a host that an option names, and prints that
    host to standard error.
    """
    from kiwari_ci import generator
    from kiwari_ci.commands import doctor

    plan, files = generator.generate_files(find_spec_file(spec))
    known_hosts_files = {host: Path(file) for host, file in parse_pairs(known_hosts).items()}
    token = os.environ.get(doctor.PULL_TOKEN_VARIABLE, "") if pull_token else ""
    if pull_token and (error := doctor.find_token_error(plan, pull_token, token)):
        raise click.UsageError(error)
    npm_token = os.environ.get("NPM_TOKEN", "")
    options = doctor.ProbeOptions(
        parse_pairs(ssh), parse_pairs(contexts), known_hosts_files, npm or "", npm_token, token
    )
    if error := doctor.find_option_error(plan, environments, options):
        raise click.UsageError(error)
    if token:
        terminal.print_text(f"{pull_token} gets the token in {doctor.PULL_TOKEN_VARIABLE}", err=True)
    if npm and npm_token:
        terminal.print_text(f"{escape_control_characters(npm)} gets the token in NPM_TOKEN", err=True)
    with show_progress("Asking hosts, DNS, the registry and GitHub", quiet):
        all_findings = doctor.run_checks(plan, files, environments, options)
    text = _format_findings(all_findings, select_output_format(style), quiet)
    if text:
        terminal.print_text(text)
    return EXIT_FAULTS if any(finding.state == "wrong" for finding in all_findings) else 0


def _format_findings(all_findings: "Sequence[Finding]", output_format: str, quiet: bool) -> str:
    """Format findings; `quiet` leaves out what is not wrong where a person reads, so there may be nothing to print."""
    from kiwari_ci.remote_checks import findings

    if output_format == "json":
        return findings.format_findings_json(all_findings)
    if output_format == "github":
        return findings.format_findings_github(all_findings)
    if not quiet:
        return findings.format_findings_text(all_findings)
    wrong_findings = [finding for finding in all_findings if finding.state == "wrong"]
    return findings.format_findings_text(wrong_findings) if wrong_findings else ""


@click.command("pins")
@click.argument("action", default="list", type=NonEmptyPath(), metavar="[list|pull]")
@spec_argument
@out_option
@format_option
@quiet_option
@exit_with_code
def pins_command(action: str, spec: Path | None, out: Path | None, style: str | None, quiet: bool) -> int:
    """List the actions that the workflows use, each at a commit, or take over the updates of a bot.

    kiwari-ci includes a commit for each action. If there is a file pins/action.yml beside the spec, the commits in
    that file are used instead. `pull` reads the updates of a bot from the generated workflows, writes them to that
    file, and generates. It changes nothing if two workflows have different commits, or if a commit is not a full one,
    has no version, is of an unknown action, is older than before, or has a version that is known with another commit.
    Frozen actions keep their commits.
    """
    from kiwari_ci import generator
    from kiwari_ci.commands import pins_pull
    from kiwari_ci.github_facts import action_pins

    if action not in ("list", "pull"):
        if spec or not action.endswith((".yaml", ".yml")):
            raise click.UsageError(f"expected list or pull, met {action}: kiwari-ci pins --help")
        action, spec = "list", Path(action)
    spec = find_spec_file(spec, "pins pull" if action == "pull" else "pins")
    generator.load_spec(spec)
    if action == "list":
        pin_set = action_pins.load_pins(spec)
        if style == "json":
            terminal.print_text(problems.format_json(action_pins.serialize_pins(pin_set)))
        else:
            terminal.print_text(terminal.format_pin_list(pin_set, action_pins.derive_pins_path(spec)))
        return 0
    out = find_output_root(out)
    result = pins_pull.pull_pin_updates(spec, out)
    if style == "json":
        terminal.print_text(problems.format_json(pins_pull.serialize_pull_result(result)))
    elif not quiet:
        terminal.print_text(terminal.format_pull_result(out, spec, result))
    return 0


@click.command("eject")
@spec_argument
@out_option
@format_option
@exit_with_code
def eject_command(spec: Path | None, out: Path | None, style: str | None) -> int:
    """Keep the generated files as files of your own.

    The files lose the line that says that they were generated, and the drift workflow is removed. Nothing else changes
    in what they do.
    """
    from kiwari_ci import generator
    from kiwari_ci.commands import eject

    spec, out = find_spec_file(spec), find_output_root(out)
    ejected = eject.eject_pipeline(out, spec, *generator.generate_files(spec))
    terminal.print_text(
        problems.format_json(vars(ejected)) if style == "json" else terminal.format_eject_result(out, ejected)
    )
    return 0
