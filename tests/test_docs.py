"""The pages are true: generated ones are current, examples have their real output, links lead somewhere.

The JSON Schema, by which editors check a spec, agrees with what the tool reads.
"""

import functools
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from pydantic import ValidationError

from docs import examples, fields, trial, write
from docs.write import ROOT
from kiwari_ci import generator
from kiwari_ci.problems import SpecError
from kiwari_ci.schema import Spec
from kiwari_ci.spec_loading import yaml_source
from tests.checkers import Checker, actionlint, findings, workflow_parser

GENERATED = ROOT / "generated/.github/workflows"
SCHEMA = ROOT / "specs/kiwari-ci.schema.json"
LINK = re.compile(r"(?<!`)\[[^]]*\]\(<?([^)\s>]+)>?\)")
FENCED = re.compile(r"^(```+).*?^\1$", re.MULTILINE | re.DOTALL)

GOOD: list[tuple[str, Any]] = [
    ("project.default_branch", "release/v1"),
    ("generator", "git+https://github.com/example/kiwari-ci@" + "0" * 40),
    ("registry.pull_token", "job"),
    ("registry.pull_token", {"token": "job"}),
    ("registry.pull_token", {"secret": "GHCR_TOKEN"}),
    ("hosts.vps.address", {"variable": "ADDRESS"}),
    ("hosts.vps.proxy.kind", "none"),
    ("databases.data", {}),
    ("services.web.env.LOG", "info"),
    ("services.web.env.LOG", ""),
    ("services.web.env.LOG", {"value": "info"}),
    ("services.web.env.KEY", {"secret": True}),
    ("services.web.env.DATABASE_URL", {"database": "url"}),
    ("services.web.test", {"run": "make test", "setup": {"go": "1.24"}}),
    ("services.web.test", {"run": "make test", "setup": {"go": {"version_file": "go.mod"}}}),
    ("services.web.websocket", True),
    ("environments.live.domains.web", "shop.example.com"),
]
BAD: list[tuple[str, Any]] = [
    ("services.web.pahts", ["web/**"]),
    ("project.name", "Shop"),
    ("project.name", 7),
    ("generator", "kiwari-ci"),
    ("registry.host", "docker"),
    ("registry.pull_token", "mine"),
    ("registry.pull_token", None),
    ("registry.pull_token", {"token": "job", "secret": "GHCR_TOKEN"}),
    ("hosts", {}),
    ("hosts.VPS", {}),
    ("hosts.vps.address", "192.0.2.1"),
    ("hosts.vps.address", {}),
    ("hosts.vps.address", {"secret": None}),
    ("hosts.vps.address", {"secret": "A", "variable": "B"}),
    ("hosts.vps.key", {"variable": "KEY"}),
    ("services", []),
    ("services.web.port", "8080"),
    ("services.web.port", 0),
    ("services.web.paths", "web/**"),
    ("services.web.paths", []),
    ("services.web.image", None),
    ("services.web.websocket", "yes"),
    ("services.web.health.status", 500),
    ("services.web.env", None),
    ("services.web.env.not-a-key", "info"),
    ("services.web.env.LOG", None),
    ("services.web.env.LOG", 1),
    ("services.web.env.LOG", ["info"]),
    ("services.web.env.KEY", {"secret": False}),
    ("services.web.env.KEY", {"secret": True, "value": "info"}),
    ("services.web.test", {"setup": {"go": "1.24"}}),
    ("services.web.test", {"run": "make test", "setup": {"go": 1.24}}),
    ("services.web.test", {"run": "make test", "setup": {}}),
    ("environments.live.deploy_on", "main"),
    ("environments.live.domains.web", "https://shop.example.com"),
]


@pytest.mark.parametrize("path", write.PAGES)
def test_generated_page_is_current(path: str) -> None:
    assert (ROOT / path).read_text() == write.PAGES[path](), "run: make docs"


def write_workflow_of_page(page: str, path: str, folder: Path) -> Path:
    """The workflow of a page that names its path in the first line, as a repository has it."""
    [text] = re.findall(rf"```yaml\n(# {re.escape(path)}\n.*?)```", (ROOT / page).read_text(), re.DOTALL)
    workflow = folder / path
    workflow.parent.mkdir(parents=True)
    workflow.write_text(text)
    return workflow


@pytest.fixture
def notifying_workflow(tmp_path: Path) -> Path:
    return write_workflow_of_page("docs/notify.md", ".github/workflows/notify.yml", tmp_path)


@pytest.mark.parametrize("checker", [actionlint, workflow_parser], ids=lambda checker: checker.__name__)
@pytest.mark.parametrize(
    ("page", "path"),
    [
        ("docs/notify.md", ".github/workflows/notify.yml"),
        ("docs/branch-by-hand.md", ".github/workflows/push-to-dev.yml"),
    ],
)
def test_a_workflow_of_a_page_is_one_of_github(page: str, path: str, checker: Checker, tmp_path: Path) -> None:
    assert findings(checker, [write_workflow_of_page(page, path, tmp_path)]) == []


def test_each_push_starts_the_deploy_of_a_chosen_branch(tmp_path: Path) -> None:
    """The page names the workflow that the generator makes, and gives `gh` the branch and the repository."""
    path = write_workflow_of_page("docs/branch-by-hand.md", ".github/workflows/push-to-dev.yml", tmp_path)
    [step] = yaml.load(path.read_text(), yaml.CBaseLoader)["jobs"]["start"]["steps"]
    script = 'gh() { printf "%s\\n" "$@"; }\n' + step["run"]
    environment = {"GITHUB_REPOSITORY": "example/shop", "GITHUB_REF_NAME": "develop"}
    done = subprocess.run(["bash", "-euc", script], env=environment, capture_output=True, text=True, check=True)
    words = done.stdout.split()
    assert words[:2] + words[3:] == ["workflow", "run", "--repo", "example/shop", "--ref", "develop"]
    spec = ROOT / "tests/cases/ok/reached-by-branch-by-hand/spec.yaml"
    assert f".github/workflows/{words[2]}" in generator.generate_files(spec)[1]


def test_the_notifying_workflow_follows_every_generated_one(notifying_workflow: Path) -> None:
    trigger = yaml.load(notifying_workflow.read_text(), yaml.CBaseLoader)["on"]["workflow_run"]
    generated = [yaml.load(path.read_text(), yaml.CBaseLoader) for path in GENERATED.glob("*.yml")]
    assert set(trigger["workflows"]) == {workflow["name"] for workflow in generated}


def test_the_notifying_workflow_sends_its_message(notifying_workflow: Path) -> None:
    job = yaml.load(notifying_workflow.read_text(), yaml.CBaseLoader)["jobs"]["chat"]
    [step] = job["steps"]
    bodies = []

    class Chat(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Chat) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        text = 'api-ci of a"$(touch x)`b: failure. https://example.com'
        address = f"http://127.0.0.1:{server.server_port}/hook"
        environment = {"PATH": os.environ["PATH"], "TEXT": json.dumps(text), "WEBHOOK": address}
        subprocess.run(["bash", "-euo", "pipefail", "-c", step["run"]], env=environment, check=True, timeout=20)
    assert [json.loads(body) for body in bodies] == [{"text": text}]


def test_readme_has_the_trials_summary() -> None:
    text = (ROOT / "README.md").read_text()
    assert trial.in_readme(text) == text


def test_every_page_of_the_reference_is_generated() -> None:
    existing = {str(page.relative_to(ROOT)) for page in ROOT.glob("docs/reference/**/*") if page.is_file()}
    assert existing == {path for path in write.PAGES if path.startswith("docs/reference/")}


def test_what_a_table_of_the_spec_says_is_below_has_a_section() -> None:
    """The keys of a domain, such as `strip_path`, were in no table: their section was missing."""
    text = fields.page(ROOT)
    headings = re.findall(r"^#{2,4} (.*)$", text, re.MULTILINE)
    sections = {key.strip("`") for heading in headings for key in heading.split(", ")}
    missing = []
    for part in re.split(r"^#{2,4} ", text, flags=re.MULTILINE)[1:]:
        above = part.partition("\n")[0].split(", ")[0].strip("`")
        for key, value in re.findall(r"^\| `([\w-]+)` \|.*? \| ([^|]*) \|[^|]*\|$", part, re.MULTILINE):
            place = above if above == key else f"{above}.{key}"
            if value.endswith("below") and not any(re.fullmatch(rf"{place}(\.<\w+>)?", name) for name in sections):
                missing.append(place)
    assert missing == []


def test_readme_shows_the_tool_at_work() -> None:
    assert ROOT / "README.md" in write.with_examples()


# `make docs` runs the examples of every page, too.
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(
            page,
            id=str(page.relative_to(ROOT)),
            marks=[] if page == ROOT / "docs/drift.md" else [pytest.mark.exhaustive],
        )
        for page in write.with_examples()
    ],
)
def test_examples_show_real_output(page: Path) -> None:
    assert examples.rerun(page.read_text(), ROOT) == page.read_text(), "run: make docs, and read what changed"


@pytest.mark.parametrize(
    ("written", "real", "same"),
    [
        ("one\ntwo\n", "one\ntwo\n", True),
        ("one\n...\n", "one\ntwo\nthree\n", True),
        ("...\nthree\n", "one\ntwo\nthree\n", True),
        ("one\n...\nthree\n", "one\nthree\n", True),
        ("one\n...\n", "two\n", False),
        ("one\n", "one\ntwo\n", False),
        ("o.e\n", "one\n", False),
        ("", "one\n", False),
    ],
)
def test_dots_stand_for_any_lines(written: str, real: str, same: bool) -> None:
    assert examples.agrees(written, real) is same


def test_an_example_gets_the_output_of_its_command(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("one\n")
    page = "```console\n$ cat file; echo two >>file\nold\n$ tail -n1 file\n...\n```\n"
    again = "```console\n$ cat file; echo two >>file\none\n$ tail -n1 file\n...\n```\n"
    assert examples.rerun(page, tmp_path) == again
    assert (tmp_path / "file").read_text() == "one\n"


def test_the_next_example_starts_where_the_one_before_it_ended(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    page = '```console\n$ mkdir inner && cd inner\n$ basename "$PWD"\n```\n<!--\n```console\n$ cd ..\n```\n-->\n'
    page += "```console\n$ ls\n```\n"
    again = examples.rerun(page, tmp_path)
    assert '$ basename "$PWD"\ninner\n' in again
    assert "$ ls\nfile\ninner\n" in again


@pytest.mark.parametrize("page", examples.markdown(ROOT), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert dead_links(page) == []


def test_a_dead_link_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A `first` part!\n\n[a](#a-first-part) [b](page.md#a-first-part) [c](https://example.com/none)\n"
        "[d](#none) [e](none.md) [f](page.md#none)\n```\n[g](in-code.md)\n```\n"
    )
    assert dead_links(page) == ["#none", "none.md", "page.md#none"]


def test_schema_agrees_with_the_tool_on_values(tmp_path: Path) -> None:
    for number, (place, value) in enumerate(GOOD + BAD):
        (tmp_path / f"{number:02}.json").write_text(json.dumps(changed(place, value)))
    files = sorted(tmp_path.iterdir())
    bad = {f"{number:02}.json" for number in range(len(GOOD), len(files))}
    assert {file.name for file in files if not is_read(json.loads(file.read_text()))} == bad
    assert {file.name for file in refused_by_schema(files)} == bad


@pytest.mark.exhaustive  # it reads hundreds of files; the test above has the ordinary values
def test_schema_agrees_with_the_tool_on_specs() -> None:
    files = [*ROOT.glob("specs/*.yaml"), *ROOT.glob("tests/cases/ok/*/spec.yaml"), *ROOT.glob("tests/cases/*/*.yaml")]
    specs = {file: is_read(document) for file in files if (document := plain(file)) is not None}
    assert set(specs.values()) == {True, False}
    assert refused_by_schema(list(specs)) == {file for file, good in specs.items() if not good}


def dead_links(page: Path) -> list[str]:
    """Links to a file that is not there, or to a heading that it does not have; other sites are not asked."""
    links = LINK.findall(FENCED.sub("", page.read_text()))
    return [link for link in links if not re.match(r"[a-z]+:", link) and not leads_somewhere(page, link)]


def leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = unquote(link).partition("#")
    target = page.parent / path if path else page
    if not target.exists():
        return False
    return not anchor or (target.suffix == ".md" and anchor in anchors(target))


@functools.cache
def anchors(page: Path) -> frozenset[str]:
    """The ids that GitHub gives to headings: https://docs.github.com/get-started/writing-on-github (section links)."""
    times_used: Counter[str] = Counter()
    ids = set()
    for heading in re.findall(r"^#{1,6} (.+)$", FENCED.sub("", page.read_text()), re.MULTILINE):
        plain_text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", plain_text).replace(" ", "-")
        ids.add(f"{slug}-{times_used[slug]}" if times_used[slug] else slug)
        times_used[slug] += 1
    return frozenset(ids)


def changed(place: str, value: Any) -> dict[str, Any]:
    """A small sound spec with one value put in its place."""
    spec: dict[str, Any] = {
        "project": {"name": "shop", "repository": "example/shop"},
        "hosts": {"vps": {}},
        "services": {"web": {"port": 8080}},
        "environments": {"live": {"deploy_on": {"push": "main"}}},
    }
    *above, last = place.split(".")
    inner = spec
    for key in above:
        inner = inner.setdefault(key, {})
    inner[last] = value
    return spec


def plain(file: Path) -> Any:
    """What a spec says; None for what is no YAML that we read."""
    try:
        return yaml_source.load_yaml(file).data
    except SpecError:
        return None


def is_read(document: Any) -> bool:
    """Whether the tool finds every key and type right: the rules see more than a schema can say."""
    try:
        Spec.model_validate(document)
    except ValidationError:
        return False
    return True


def refused_by_schema(files: list[Path]) -> set[Path]:
    """The files that the committed schema refuses; all must be read."""
    argv = [sys.executable, "-m", "check_jsonschema", "--output-format", "json", "--schemafile", str(SCHEMA)]
    done = subprocess.run([*argv, *map(str, files)], capture_output=True, text=True)
    report = json.loads(done.stdout)
    assert report.get("parse_errors", []) == [], report
    return {Path(error["filename"]) for error in report.get("errors", [])}


def list_threats() -> list[str]:
    """The rows of the tables of the threat model, without their heads."""
    lines = (ROOT / "docs/security.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    return [row for row in rows if not row.startswith(("| Who |", "| --- |"))]


@pytest.mark.parametrize("row", list_threats(), ids=lambda row: row[2:60])
def test_each_threat_names_tests_that_exist(row: str) -> None:
    """The last cell of a row names files of tests, each with functions in it, or says `none`."""
    cell = row.rstrip(" |").rpartition(" | ")[2]
    named = re.findall(r"`(tests/[\w/]+\.py)`: ((?:`test_\w+`(?: \([^)]*\))?(?:, )?)+)", cell)
    assert named or cell.endswith("none")
    assert cell.count("`tests/") == len(named), "a file without the name of a test"
    for file, functions in named:
        defined = re.findall(r"^def (test_\w+)", (ROOT / file).read_text(), re.MULTILINE)
        assert set(re.findall(r"`(test_\w+)`", functions)) <= set(defined)
    assert sum(functions.count("`test_") for _, functions in named) == cell.count("`test_")


def test_each_file_that_the_threat_model_names_is_there() -> None:
    for name in re.findall(r"`((?:tests|docs)/[\w./-]+)`", (ROOT / "docs/security.md").read_text()):
        assert (ROOT / name).exists(), name
