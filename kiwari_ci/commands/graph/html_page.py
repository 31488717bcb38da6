"""The pipeline as one HTML page that asks no network and runs no script: a grid that the browser lays out."""

import html
from collections.abc import Iterator
from pathlib import Path

from kiwari_ci.planning.pipeline_graph import EnvironmentLane, PipelineGraph, ServiceRow
from kiwari_ci.problems import escape_control_characters

STYLESHEET_PATH = Path(__file__).with_name("page.css")
HTML_DOCTYPE = "<!doctype html>"
COLUMN_TITLES = ("starts it", "", "workflow and jobs", "", "image", "", "container", "", "answers at")
ARROW_TIP = '<i class="tip"></i>'


def render_html_page(graph: PipelineGraph) -> str:
    """The whole page; every text of the spec is escaped, and the page may load nothing."""
    hosts = len({lane.host for lane in graph.lanes})
    services = len({row.service for lane in graph.lanes for row in lane.rows})
    counts = [
        _format_count(services, "service"),
        _format_count(len(graph.lanes), "environment"),
        _format_count(hosts, "server"),
    ]
    return "\n".join(
        [
            f'{HTML_DOCTYPE}\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>{escape_html(graph.project)}: pipeline</title>",
            f"<style>\n{STYLESHEET_PATH.read_text()}</style>\n</head>\n<body>",
            f"<h1>{escape_html(graph.project)}</h1>",
            f'<p><a href="https://github.com/{escape_html(graph.repository)}">{escape_html(graph.repository)}</a>'
            f" · {' · '.join(counts)} · images at {escape_html(graph.registry)}</p>",
            *(_render_lane(graph, lane) for lane in graph.lanes),
            "</body>\n</html>\n",
        ]
    )


def escape_html(text: str) -> str:
    """A text of the spec, as a page may hold it: no markup, and no character that hides or turns the text around."""
    return html.escape(escape_control_characters(text))


def _format_count(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _render_lane(graph: PipelineGraph, lane: EnvironmentLane) -> str:
    facts = [
        ("on", lane.host),
        ("stack", lane.stack),
        ("database", lane.database),
        ("accessories", ", ".join(lane.accessories)),
        ("images of", lane.source),
    ]
    facts_html = "".join(f"<span>{label} <b>{escape_html(fact)}</b></span>" for label, fact in facts if fact)
    kind = "tag" if lane.shared else "push"
    return "\n".join(
        [
            f'<section class="{kind}">',
            f"<header><h2>{escape_html(lane.environment)}</h2>{facts_html}</header>",
            '<div class="lane">',
            *(_render_grid_cell(1, column, "head", title) for column, title in enumerate(COLUMN_TITLES, 1)),
            _render_grid_cell(2, 1, "card start", escape_html(lane.trigger), len(lane.rows)),
            _render_grid_cell(2, 4 if lane.shared else 2, "wire", '<i class="in"></i>', len(lane.rows)),
            *(part for index, row in enumerate(lane.rows) for part in _render_row(graph, lane, index, row)),
            "</div>\n</section>",
        ]
    )


def _render_row(graph: PipelineGraph, lane: EnvironmentLane, index: int, row: ServiceRow) -> Iterator[str]:
    line = 2 + index
    yield from _render_workflow_card(graph, lane, index, row)
    tag = f":{escape_html(row.tag)}{', not rebuilt' if lane.source else ''}"
    yield _render_grid_cell(
        line, 5, "card image", f'<span class="mono">{escape_html(row.image)}</span><small>{tag}</small>'
    )
    yield _render_grid_cell(line, 6, "wire", _render_straight_wire())
    health = f"<small>{escape_html(row.health)}</small>"
    yield _render_grid_cell(
        line, 7, "card container", f'<strong class="mono">{escape_html(row.container)}</strong>{health}'
    )
    if row.domain:
        yield _render_grid_cell(line, 8, "wire", _render_straight_wire())
        yield _render_grid_cell(line, 9, "card site", f'<a href="{escape_html(row.url)}">{escape_html(row.domain)}</a>')
    else:
        yield _render_grid_cell(line, 9, "none", "no domain")


def _render_workflow_card(graph: PipelineGraph, lane: EnvironmentLane, index: int, row: ServiceRow) -> Iterator[str]:
    """Its card, and the wires around it; one that all rows share has its card in the first of them."""
    line, count = 2 + index, len(lane.rows)
    if not lane.shared or not index:
        jobs = "".join(f"<li>{escape_html(job)}</li>" for job in row.jobs)
        link = escape_html(f"https://github.com/{graph.repository}/actions/workflows/{row.workflow}.yml")
        card = f'<strong><a href="{link}">{escape_html(row.workflow)}</a></strong><ul class="jobs">{jobs}</ul>'
        rows = count if lane.shared else 1
        yield _render_grid_cell(
            line, 2, "wire", _render_straight_wire() if lane.shared else _render_forked_wire(index, count), rows
        )
        yield _render_grid_cell(line, 3, "card row1", card, rows)
    yield _render_grid_cell(
        line, 4, "wire", _render_forked_wire(index, count) if lane.shared else _render_straight_wire()
    )


def _render_straight_wire() -> str:
    return f'<i class="across"></i>{ARROW_TIP}'


def _render_forked_wire(index: int, count: int) -> str:
    """A part of a wire that forks into as many as there are rows; it comes in at the middle of them all."""
    if count == 1:
        return _render_straight_wire()
    up = '<i class="up"></i>' if index else ""
    down = '<i class="down"></i>' if index < count - 1 else ""
    return f'{up}{down}<i class="across from"></i>{ARROW_TIP}'


def _render_grid_cell(row: int, column: int, kind: str, text: str, rows: int = 1) -> str:
    return f'<div class="{kind}" style="grid-area: {row} / {column} / span {rows} / span 1">{text}</div>'
