"""Writes what the code says about itself: docs/reference, the JSON Schema, and the outputs in the hand-written pages.

`make docs` runs it; a test compares, so that nothing here is ever out of date.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from click.testing import CliRunner

from docs import examples, fields, trial
from kiwari_ci import cli

ROOT = Path(__file__).parents[1]
PROBLEM = re.compile(r"^(?=\S+:\d+:\d+: .* \[[a-z-]+\]$|\S+\.yaml:.* \[[a-z-]+\]$)", re.MULTILINE)

COMMANDS = """# Commands

What `--help` prints, and the exit codes of all commands.
"""

MESSAGES = """# Messages

What is wrong with a spec comes out all at once: its place, what is wrong, the rule's name in brackets, the line, and a
hint where there is one. Advice never fails anything. An example of each rule; beside them there are `no-file` (the spec
cannot be read), `too-large` (it has more than a million bytes) and `drift` (a generated file is not what it should be);
of a repository `no-files` (git tracks none), `submodule` and `large-files` (the pipeline's checkout fetches neither a
submodule nor what Git LFS keeps, and a Dockerfile takes it).
"""


def pages() -> dict[str, str]:
    """Every page by its path from the repository's root, as it should be."""
    return {
        "docs/reference/spec.md": fields.page(ROOT),
        "docs/reference/commands.md": _commands(),
        "docs/reference/messages.md": _messages(),
        "docs/trial.md": trial.page(ROOT),
        "specs/kiwari-ci.schema.json": _kiwari_ci("schema"),
    }


def with_examples() -> list[Path]:
    """The hand-written pages whose examples are run."""
    found = [path for path in examples.markdown(ROOT) if "tests" not in path.relative_to(ROOT).parts]
    return [path for path in found if examples.BLOCK.search(path.read_text())]


def _commands() -> str:
    names = ["", *cli.commands.commands]
    parts = [f"## kiwari-ci {name}".rstrip() + f"\n\n```text\n{_kiwari_ci(name, '--help')}```\n" for name in names]
    codes = re.findall(r"(\d+) ([^,.]+)", _kiwari_ci("--help").partition("Exit codes:")[2].partition("\n\n")[0])
    rows = [f"| {code} | {' '.join(meaning.split())} |" for code, meaning in codes]
    return "\n".join([COMMANDS, *parts, "## Exit codes\n", "| Code | Meaning |", "| --- | --- |", *rows, ""])


def _kiwari_ci(*words: str) -> str:
    given = list(filter(None, words))
    said = CliRunner().invoke(cli.commands, given, prog_name="kiwari-ci", terminal_width=80, catch_exceptions=False)
    return said.output


def _messages() -> str:
    """An example of each rule: the cases of tests hold the exact words of every message."""
    examples_by_rule: dict[str, str] = {}
    for _, rule, text in sorted(_problems()):
        examples_by_rule.setdefault(rule, text)
    parts = [f"## {rule}\n\n```text\n{text}```\n" for rule, text in sorted(examples_by_rule.items())]
    return "\n".join([MESSAGES, *parts])


def _problems() -> Iterator[tuple[bool, str, str]]:
    """Each problem in the cases' order, with its rule; first those whose case has the rule's name."""
    for file in sorted(ROOT.glob("tests/cases/*/*.out")):
        for text in PROBLEM.split(file.read_text())[1:]:
            rule = text.partition("\n")[0].rpartition("[")[2].rstrip("]")
            yield not file.stem.startswith(rule), rule, text


def main() -> None:
    """Write all of it."""
    for path, text in pages().items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text)
    for page in with_examples():
        page.write_text(examples.rerun(page.read_text(), ROOT))
    (ROOT / "README.md").write_text(trial.in_readme((ROOT / "README.md").read_text()))


if __name__ == "__main__":
    main()
