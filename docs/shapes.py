"""specs/examples/README.md: each example by its own first line."""

from pathlib import Path

HEAD = """# Examples

Teams of other shapes than Kiwari's, each a spec to begin with; the tests generate every one in full, and every outside
checker is silent about what comes out. Three of them, bookings, clinic and ledger, deploy on a real engine, by their
workflows' own steps (`make engine-test`). `kiwari-ci generate specs/examples/site.yaml --out /tmp/site` writes one.

| Spec | What it is |
| --- | --- |
"""


def page(root: Path) -> str:
    """The table, in the order of the names."""
    examples = sorted((root / "specs/examples").glob("*.yaml"))
    return HEAD + "".join(f"| [{each.stem}]({each.name}) | {_first(each)} |\n" for each in examples)


def _first(example: Path) -> str:
    return example.read_text().partition("\n")[0].removeprefix("# ").removesuffix(".").replace("|", "\\|")
