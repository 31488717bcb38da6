"""`kiwari-ci set`: one value of a spec changes, and no other byte that a person wrote."""

import difflib
import json
from pathlib import Path

import pytest

from kiwari_ci.commands import edit_spec
from kiwari_ci.spec_loading import yaml_source
from tests.cli_runner import kiwari_ci

ROOT = Path(__file__).parents[1]
SPECS = [
    *sorted(ROOT.glob("specs/*.yaml")),
    *sorted(ROOT.glob("specs/examples/*.yaml")),
    *sorted(ROOT.glob("tests/cases/ok/a*/spec.yaml")),
]
COMMENTED = """\
# The shop.
project:
    name: shop # short
    repository: "example/shop"

hosts: {vps: {}}

# What we run.
services:
    web:
        port:   8080   # as in nginx.conf
        build: {dockerfile: web/Dockerfile}
        # What the tests need:
        paths:
        - web/**
        - 'lib/**'

    # The last one.
    api: {port: 9000, build: {dockerfile: api/Dockerfile}}
    # More services come here.

# Where it runs.
environments:
    production:
        host: vps
        deploy_on: {push: main}
"""


@pytest.fixture(autouse=True)
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spec with comments, written in another way than ruamel.yaml would."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    (tmp_path / "specs").mkdir()
    path = Path("specs/shop.yaml")
    path.write_text(COMMENTED)
    return path


def list_changes(before: str, after: str) -> list[str]:
    """The lines that are gone and those that came."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return [line for line in lines if line[:1] in "+-" and line[:3] not in ("---", "+++")]


@pytest.mark.parametrize(
    ("path", "value", "changes"),
    [
        (
            "services.web.port",
            "8081",
            ["-        port:   8080   # as in nginx.conf", "+        port: 8081     # as in nginx.conf"],
        ),
        ("project.repository", "a/b", ['-    repository: "example/shop"', '+    repository: "a/b"']),
        ("project.dependabot", "true", ["+    dependabot: true"]),
        ("services.web.paths[1]", "libs/**", ["-        - 'lib/**'", "+        - 'libs/**'"]),
        (
            "services.api.port",
            "9001",
            [
                "-    api: {port: 9000, build: {dockerfile: api/Dockerfile}}",
                "+    api: {port: 9001, build: {dockerfile: api/Dockerfile}}",
            ],
        ),
        (
            "services.worker",
            "{image_of: web, command: [work]}",
            ["+    worker:", "+        image_of: web", "+        command: [work]"],
        ),
        ("environments.production.services", "[api, web]", ["+        services: [api, web]"]),
    ],
)  # fmt: skip
def test_only_the_lines_of_the_value_change(spec: Path, path: str, value: str, changes: list[str]) -> None:
    result = kiwari_ci("set", path, value)
    assert (result.code, result.err) == (0, "")
    assert list_changes(COMMENTED, spec.read_text()) == changes
    assert [line for line in result.out.splitlines() if line in changes] == changes
    assert result.out.endswith("\nnext: kiwari-ci generate\n")


def test_a_new_service_stands_before_the_comment_of_the_next_table(spec: Path) -> None:
    kiwari_ci("set", "services.worker", "{image_of: web}")
    lines = spec.read_text().splitlines()
    assert lines[lines.index("    worker:") + 2 :][:3] == ["    # More services come here.", "", "# Where it runs."]


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(
            path,
            id=path.relative_to(ROOT).as_posix(),
            marks=[pytest.mark.exhaustive] if path.parent.name == "examples" else [],
        )
        for path in SPECS
    ],
)
def test_no_spec_loses_what_a_person_wrote(spec: Path, path: Path) -> None:
    """A key that is new in the first table and in the last: lines are added, and none goes."""
    text = path.read_text()
    environment = list(yaml_source.parse_yaml(str(path), text).data["environments"])[-1]
    for loc, value in ((("project", "runner"), "here"), (("environments", environment, "directory"), "/srv/a b")):
        changes = list_changes(text, edit_spec.edit_text(text, loc, value))
        assert [line for line in changes if line.startswith("-")] in ([], [changes[0]])
        assert len(changes) in (1, 2) and loc[-1] in changes[-1]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_mark_stay(spec: Path, line_end: str, mark: str) -> None:
    spec.write_bytes((mark + COMMENTED.replace("\n", line_end)).encode())
    assert kiwari_ci("set", "project.dependabot", "true", "-q").out == ""
    after = spec.read_bytes().decode()
    assert after.startswith(mark + "# The shop." + line_end) and f"    dependabot: true{line_end}" in after
    assert after.count("\n") == after.count(line_end)


def test_a_value_that_is_there_changes_nothing(spec: Path) -> None:
    result = kiwari_ci("set", "services.web.port", "8080")
    assert result.out == "specs/shop.yaml: services.web.port has this value already; nothing was changed\n"
    assert spec.read_text() == COMMENTED


def test_in_json() -> None:
    result = json.loads(kiwari_ci("set", "services.web.port", "8081", "--format", "json").out)
    assert result["path"] == "specs/shop.yaml" and "+        port: 8081" in result["diff"]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("services.web.prot", "1", "unknown key `prot` in services.web"),
        ("services.web.port", "http", "services.web.port"),
        ("services.shop.port", "1", "nothing is at `shop`"),
        ("services.web.paths[7]", "a", "nothing is at `7`"),
        ("services..web", "1", "`services..web` is no path"),
        ("services.web.", "1", "`services.web.` is no path"),
        ("services.web.port", "[", "VALUE:"),
    ],
)
def test_what_is_refused_changes_nothing(spec: Path, path: str, value: str, message: str) -> None:
    result = kiwari_ci("set", path, value)
    assert (result.code, result.out) == (2, "") and message in result.err
    assert spec.read_text() == COMMENTED


def test_what_cannot_be_edited_is_shown_to_be_written_by_hand(spec: Path) -> None:
    """ruamel.yaml would write the list on one line: the second line of it is none of the edit."""
    before = COMMENTED.replace(
        "        build: {dockerfile: web/D",
        "        command: [serve,\n            -v]\n        build: {dockerfile: web/D",
    )
    spec.write_text(before)
    result = kiwari_ci("set", "services.web.command[0]", "work")
    assert result.code == 2 and "write it by hand, in its place:" in result.err and "work" in result.err
    assert spec.read_text() == before
