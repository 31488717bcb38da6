"""The figures of a run: a line for each trial, printed at its end, and written into the page of the documentation."""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.engine.proxy import Answers

PAGE = Path(__file__).parents[2] / "docs/kubernetes.md"
TABLE = re.compile(r"(<!-- figures: written by make cluster-test -->\n).*?(<!-- end of figures -->)", re.DOTALL)
HEAD = (
    "What happens",
    "Cluster: exit code",
    "Seconds",
    "Failed requests",
    "What serves then",
    "Compose: exit code",
    "Seconds",
    "Failed requests",
)
NOT_MEASURED = ("not measured", "", "")
ORIGIN = "All figures of this table are from one run of `make cluster-test`."
ROWS = range(1, 19)  # that a whole run measures on the cluster
COMPOSE_ROWS = (*range(1, 12), 14)  # and on the server


@dataclass(frozen=True)
class Figure:
    """What one trial came to on the cluster."""

    order: int  # of its row in the table
    trial: str
    codes: str
    seconds: str
    requests: str
    serves: str


@dataclass(frozen=True)
class ComposeFigure:
    """What the same trial came to on a server with Docker Compose; `order` is that of the row."""

    order: int
    codes: str
    seconds: str
    requests: str


def count(answers: Answers) -> str:
    """How many requests failed, of how many."""
    return f"{len(answers.failed())} of {len(answers):,}"


def write_table(figures: list[Figure], compose: list[ComposeFigure]) -> str:
    """The table in Markdown."""
    beside = {figure.order: (figure.codes, figure.seconds, figure.requests) for figure in compose}
    rows = []
    for figure in sorted(figures, key=lambda figure: figure.order):
        of_cluster = (figure.trial, figure.codes, figure.seconds, figure.requests, figure.serves)
        rows.append((*of_cluster, *beside.get(figure.order, NOT_MEASURED)))
    lines = [f"| {' | '.join(map(str, row))} |" for row in (HEAD, ("---",) * len(HEAD), *rows)]
    return "\n".join([*lines, ""])


def list_missing_rows(figures: list[Figure], compose: list[ComposeFigure]) -> list[str]:
    """The rows that a run did not measure, or not exactly once."""
    measured = sorted(figure.order for figure in figures)
    measured_on_server = sorted(figure.order for figure in compose)
    of_cluster = [f"row {order} of the cluster" for order in ROWS if measured.count(order) != 1]
    return of_cluster + [f"row {order} of Compose" for order in COMPOSE_ROWS if measured_on_server.count(order) != 1]


def write_page(figures: list[Figure], compose: list[ComposeFigure]) -> None:
    """Puts the table into the page, and where its figures are from."""
    text = PAGE.read_text()
    block = f"{ORIGIN}\n\n{write_table(figures, compose)}"
    PAGE.write_text(TABLE.sub(lambda match: f"{match[1]}\n{block}\n{match[2]}", text))
