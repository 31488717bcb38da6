"""The root command: which commands there are, how help groups them, and what every exit code means.

A command's module is imported when the command runs, so that `--version` and `--help` load nothing but click.
"""

import io
import os
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, NoReturn

import click

from kiwari_ci import __version__
from kiwari_ci.frozen import dataclass

EXIT_INTERNAL_ERROR, EXIT_INTERRUPTED = 70, 130


@dataclass(frozen=True)
class CommandSection:
    """Commands that the help lists under one heading: the module of `kiwari_ci.cli` that has them, and a line each."""

    heading: str
    module: str
    help_lines: Mapping[str, str]


# In the order in which a person meets them. A line has at most 66 characters: none is cut off at 80 columns.
SECTIONS = (
    CommandSection(
        "Start",
        "setup_commands",
        {
            "init": "Draft a spec from the files of a repository, or add services",
            "validate": "Check whether a spec is valid, and give advice",
            "lint": "Compare a spec with its repository, and list secrets to set",
            "schema": "Print the JSON Schema of a spec, for editors",
        },
    ),
    CommandSection(
        "Every day",
        "daily_commands",
        {
            "generate": "Write the generated files",
            "check": "Fail when a generated file differs from the spec, and say why",
            "diff": "Describe in words what generating would change",
            "affected": "List what changed files or a tag would build and deploy",
            "graph": "Draw the pipeline, as Mermaid or as an HTML page",
            "set": "Change one value in a spec, and keep the comments",
            "show": "Print all names and values that follow from the spec",
        },
    ),
    CommandSection(
        "Operate",
        "operate_commands",
        {
            "preview": "Describe what the tag of a version would do, before you push it",
            "doctor": "Compare servers, DNS, GitHub and the registry with the spec",
            "trace": "Find the commit and the run of what serves at an address",
            "pins": "List the pinned actions, or take over the updates of a bot",
            "eject": "Keep the generated files, and stop using kiwari-ci",
        },
    ),
    CommandSection(
        "On the servers, with your own ssh login",
        "server_commands",
        {
            "status": "Print what serves in an environment, and since when",
            "logs": "Print the log of a service",
            "exec": "Run a command in the container of a service",
            "rollback": "Go back to the image that served before",
            "rotate": "Change a secret, and redeploy the containers that read it",
        },
    ),
)
# What people type who know other tools, and what kiwari-ci has for it.
HINTS_FOR_UNKNOWN_COMMANDS = {
    "deploy": "the generated workflows deploy, on a push or a tag: `kiwari-ci preview TAG` says what a tag would do,"
    " and deploy/RUNBOOK.md how to deploy by hand",
    "plan": "`kiwari-ci preview TAG` says what a version would do, and `kiwari-ci diff` what generating would change",
    "apply": "`kiwari-ci generate` writes the files, and the generated workflows deploy",
}


class RootCommand(click.Group):
    """The commands, imported when they are needed and listed by section."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the names in the order of the help."""
        return [*(name for section in SECTIONS for name in section.help_lines), "help"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command's module, and take the command out of it."""
        for section in SECTIONS:
            if cmd_name in section.help_lines:
                command = getattr(import_module(f"kiwari_ci.cli.{section.module}"), f"{cmd_name}_command")
                assert isinstance(command, click.Command)
                return command
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Say what to use instead of a command that there is not."""
        name = args[0]
        if name in HINTS_FOR_UNKNOWN_COMMANDS:
            ctx.fail(f"There is no command '{name}': {HINTS_FOR_UNKNOWN_COMMANDS[name]}.")
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            from difflib import get_close_matches

            similar = get_close_matches(name, self.list_commands(ctx), n=1)
            suggestion = f" Did you mean '{similar[0]}'?" if similar else ""
            ctx.fail(f"No such command '{name}'.{suggestion}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one list for each section, with the help lines in one column."""
        width = max(map(len, self.list_commands(ctx)))
        for section in SECTIONS:
            with formatter.section(section.heading):
                formatter.write_dl([(name.ljust(width), line) for name, line in section.help_lines.items()])
        formatter.write_paragraph()
        formatter.write_text("Run `kiwari-ci help COMMAND` for the options of a command.")

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Turn colours off where the environment asks for it; click does so where the output is no terminal."""
        if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
            extra["color"] = False
        return super().make_context(info_name, args, parent, **extra)


class ColouredHelpFormatter(click.HelpFormatter):
    """Help with bold headings; click leaves the escape codes out where the output is no terminal."""

    def write_heading(self, heading: str) -> None:
        """Write a heading in bold."""
        self.write(f"{'':>{self.current_indent}}{click.style(f'{heading}:', bold=True)}\n")


click.Context.formatter_class = ColouredHelpFormatter


@click.group(cls=RootCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kiwari-ci")
def root_command() -> None:
    """Generate GitHub workflows, Compose stacks, a deploy program and a runbook from one spec.

    SPEC defaults to the only file specs/*.yaml of the repository, also when you are in a subfolder. Exit codes: 0
    success, 1 drift or something wrong, 2 wrong usage or invalid spec, 73 cannot write, 130 interrupted, 70 internal
    error (a bug).
    """


@root_command.command("help")
@click.argument("command", required=False)
@click.pass_context
def help_command(context: click.Context, command: str | None) -> None:
    """Print the help of kiwari-ci, or of one command."""
    root_context = context.find_root()
    if command is None:
        click.echo(root_context.get_help(), color=root_context.color)
        return
    _, command_definition, _ = root_command.resolve_command(root_context, [command])
    if command_definition is not None:
        click.echo(
            command_definition.get_help(click.Context(command_definition, root_context, command)),
            color=root_context.color,
        )


def main() -> NoReturn:
    """Run a command; every exit code that a command does not decide is decided here."""
    try:
        root_command(standalone_mode=False)
        sys.exit(0)
    except click.ClickException as error:
        from kiwari_ci.cli import terminal

        shown = io.StringIO()
        error.show(file=shown)
        terminal.print_text(shown.getvalue(), err=True, nl=False)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:
        import traceback

        from kiwari_ci.cli import terminal

        terminal.print_text(traceback.format_exc(), err=True)
        terminal.print_text(f"kiwari-ci: this is a bug of kiwari-ci, not of your spec: {error}", err=True)
        sys.exit(EXIT_INTERNAL_ERROR)


def list_all_commands() -> Iterator[tuple[str, click.Command]]:
    """Import every command: for the reference in docs/, and for tests."""
    context = click.Context(root_command)
    for name in root_command.list_commands(context):
        command = root_command.get_command(context, name)
        if command is not None:
            yield name, command
