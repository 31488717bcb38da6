"""Writes what the code says about itself: docs/reference, the JSON Schema, and the outputs in the hand-written pages.

`make docs` runs it; a test compares, so that nothing here is ever out of date.
"""

import re
from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner

from docs import declined, examples, failures, fields, shapes, trial
from kiwari_ci.cli import app

ROOT = Path(__file__).parents[1]

COMMANDS = """# Commands

Look up the options of a command and the [exit codes](#exit-codes). This is what `kiwari-ci COMMAND --help` prints.
"""


def with_examples() -> list[Path]:
    """The hand-written pages whose examples are run."""
    pages = [path for path in examples.markdown(ROOT) if "tests" not in path.relative_to(ROOT).parts]
    return [path for path in pages if examples.BLOCK.search(path.read_text())]


def _commands() -> str:
    names = ["", *(name for name, _ in app.list_all_commands())]
    parts = [f"## kiwari-ci {name}".rstrip() + f"\n\n```text\n{_kiwari_ci(name, '--help')}```\n" for name in names]
    codes = re.findall(r"(\d+) ([^,.]+)", _kiwari_ci("--help").partition("Exit codes:")[2].partition("\n\n")[0])
    rows = [f"| {code} | {' '.join(meaning.split())} |" for code, meaning in codes]
    return "\n".join([COMMANDS, *parts, "## Exit codes\n", "| Code | Meaning |", "| --- | --- |", *rows, ""])


def _kiwari_ci(*arguments: str) -> str:
    given_arguments = list(filter(None, arguments))
    result = CliRunner().invoke(
        app.root_command, given_arguments, prog_name="kiwari-ci", terminal_width=80, catch_exceptions=False
    )
    return result.output


# Every page by its path from the repository's root, and what writes its text.
PAGES: dict[str, Callable[[], str]] = {
    "docs/reference/spec.md": lambda: fields.page(ROOT),
    "docs/reference/commands.md": _commands,
    "docs/reference/declined.md": declined.page,
    "docs/failures.md": failures.page,
    "docs/trial.md": lambda: trial.page(ROOT),
    "specs/examples/README.md": lambda: shapes.page(ROOT),
    "specs/kiwari-ci.schema.json": lambda: _kiwari_ci("schema"),
}


def main() -> None:
    """Write all of it."""
    texts = {path: write_page() for path, write_page in PAGES.items()}
    for path, text in texts.items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text)
    for page in with_examples():
        page.write_text(examples.rerun(page.read_text(), ROOT))
    (ROOT / "README.md").write_text(trial.in_readme((ROOT / "README.md").read_text()))


if __name__ == "__main__":
    main()
