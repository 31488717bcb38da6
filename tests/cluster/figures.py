"""The figures of a run: a line for each trial, printed at its end, and written into the page of the documentation."""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.engine.proxy import Answers

PAGE = Path(__file__).parents[2] / "docs/kubernetes.md"
TABLE = re.compile(r"(<!-- figures: written by make cluster-test -->\n).*?(<!-- end of figures -->)", re.DOTALL)
HEAD = ("What happens", "Exit code", "Seconds", "Failed requests", "What serves then")


@dataclass(frozen=True)
class Figure:
    """What one trial came to."""

    order: int  # of its row in the table
    trial: str
    codes: str
    seconds: str
    requests: str
    serves: str

    def row(self) -> str:
        """Its row of the table."""
        return f"| {self.trial} | {self.codes} | {self.seconds} | {self.requests} | {self.serves} |"


def count(answers: Answers) -> str:
    """How many requests failed, of how many."""
    return f"{len(answers.failed())} of {len(answers):,}"


def write_table(figures: list[Figure]) -> str:
    """The table in Markdown."""
    rows = [figure.row() for figure in sorted(figures, key=lambda figure: figure.order)]
    return "\n".join([f"| {' | '.join(HEAD)} |", "| --- | --- | --- | --- | --- |", *rows, ""])


def write_page(figures: list[Figure]) -> None:
    """Puts the table into the page."""
    text = PAGE.read_text()
    PAGE.write_text(TABLE.sub(lambda match: f"{match[1]}\n{write_table(figures)}\n{match[2]}", text))
