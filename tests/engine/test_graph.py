"""The page of `graph` in a real browser, without a network: it shows what the plan has, and nothing overlaps."""

import base64
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from kiwari_ci import generator
from kiwari_ci.commands.graph import html_page
from kiwari_ci.plan_model import Plan
from kiwari_ci.planning import pipeline_graph

NAMES = (
    "api",
    "admin",
    "shop",
    "search",
    "mailer",
    "billing",
    "reports",
    "auth",
    "media",
    "gateway",
    "worker",
    "landing",
)
# Reports what a person would see go wrong: cards that overlap, text that leaves its card, a page that scrolls sideways.
PROBE = """<script>addEventListener('load', () => {
  const cards = [...document.querySelectorAll('.card')], box = each => each.getBoundingClientRect();
  const over = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
  const said = {cards: cards.length, wide: document.documentElement.scrollWidth - innerWidth,
    spilled: cards.filter(each => each.scrollWidth > each.clientWidth + 1).map(each => each.textContent),
    overlaps: cards.flatMap((a, i) => cards.slice(i + 1).filter(b => over(box(a), box(b))).map(b => a.textContent)),
    text: document.body.innerText};
  document.documentElement.dataset.said = btoa(unescape(encodeURIComponent(JSON.stringify(said))));
})</script></body>"""


@pytest.fixture(scope="module")
def chromium() -> str:
    """The browser."""
    if program := shutil.which("chromium"):
        return program
    words = "the page is looked at in chromium: on Debian 12, run .ci/install-engine"
    return str(pytest.fail(words) if os.environ.get("CI") == "true" else pytest.skip(words))


def plan_of(count: int, folder: Path) -> Plan:
    """A plan with so many services, two of them without a domain."""
    names = NAMES[:count]
    domains = [name for name in names if name not in ("worker", "mailer")]
    spec = {
        "project": {"name": "shop", "repository": "example/shop"},
        "hosts": {"vps": {}},
        "services": {name: {"port": 8080, "test": {"run": "make test"}} for name in names},
        "environments": {
            "staging": {
                "deploy_on": {"push": "main"},
                "domains": {name: f"stg-{name}.example.com" for name in domains},
            },
            "production": {
                "deploy_on": {"tag": "v*"},
                "promote": "staging",
                "domains": {name: f"{name}.example.com" for name in domains},
            },
        },
    }
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return generator.load_spec(path).plan


def run(chromium: str, folder: Path, *words: str) -> str:
    """What the browser prints; it has a home of its own and no network."""
    home = [
        f"--user-data-dir={folder}/home",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--disable-background-networking",
    ]
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", *home, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("width", [480, 1000, 1360])
@pytest.mark.parametrize("count", [1, 3, 12])
def test_everything_is_seen_and_nothing_overlaps(chromium: str, tmp_path: Path, count: int, width: int) -> None:
    plan = plan_of(count, tmp_path)
    text = html_page.render_html_page(pipeline_graph.build_pipeline_graph(plan)).replace(
        "default-src 'none'", "script-src 'unsafe-inline'"
    )
    (tmp_path / "page.html").write_text(text.replace("</body>", PROBE))
    dumped = run(chromium, tmp_path, f"--window-size={width},900", "--dump-dom", f"file://{tmp_path}/page.html")
    attribute = re.search('data-said="([^"]*)"', dumped)
    assert attribute
    measured = json.loads(base64.b64decode(attribute[1]))
    assert measured["overlaps"] == [] and measured["spilled"] == [] and measured["wide"] <= 0
    assert measured["cards"] == 2 + (count + 1) + 4 * count + len(plan.domains)
    for instance in (instance for stack in plan.stacks for instance in stack.instances):
        assert instance.container in measured["text"] and instance.domain in measured["text"]


def test_it_prints(chromium: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(
        html_page.render_html_page(pipeline_graph.build_pipeline_graph(plan_of(3, tmp_path)))
    )
    run(chromium, tmp_path, f"--print-to-pdf={tmp_path}/page.pdf", f"file://{tmp_path}/page.html")
    assert (tmp_path / "page.pdf").read_bytes().count(b"/Type /Page\n") == 1, "three services fit on one sheet"
