"""specs/examples/README.md: each example by its own first line."""

from pathlib import Path

HEAD = """# Example specs

Take the spec that is closest to your project as a start. This writes the files of one of them:
`kiwari-ci generate specs/examples/site.yaml --out /tmp/site`.

The tests generate every example in full and check the result with actionlint, zizmor, Docker Compose's schema and
other programs, which report nothing. Three of them (bookings, clinic and ledger) are deployed to a real Docker Engine
with the steps of their own workflows (`make engine-test`).

| Spec | What it is |
| --- | --- |
"""


def page(root: Path) -> str:
    """The table, in the order of the names."""
    examples = sorted((root / "specs/examples").glob("*.yaml"))
    rows = [f"| [{example.stem}]({example.name}) | {_first(example)} |\n" for example in examples]
    return HEAD + "".join(rows)


def _first(example: Path) -> str:
    return example.read_text().partition("\n")[0].removeprefix("# ").removesuffix(".").replace("|", "\\|")
