"""The example specs: every one generated in full, and read by every outside checker."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import pytest
import yaml

from kiwari_ci import generator
from kiwari_ci.file_output.generated_files import PROGRAM_MARKERS, GeneratedFiles, is_program_file
from kiwari_ci.schema import Proxy
from tests import policy, sound_specs
from tests.checkers import (
    DEPENDABOT,
    MANIFESTS,
    SCRIPTS,
    STACKS,
    WORKFLOWS,
    Checker,
    findings,
    mark_unless_quick,
)

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "specs/examples").glob("*.yaml"))
NAMES = [example.stem for example in EXAMPLES]
HATCH = {"compose", "steps"}  # what the spec does not know, written as it comes out


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, GeneratedFiles]:
    """Each example's folder, written, and its tree."""
    generated = {}
    for example in EXAMPLES:
        folder = tmp_path_factory.mktemp(example.stem)
        tree = generated[folder] = generator.generate_files(example)[1]
        for path, file in tree.items():
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(file.text)
            place.chmod(0o755 if file.executable else 0o644)
    return generated


def written(trees: dict[Path, GeneratedFiles], pattern: str) -> list[Path]:
    """All files of all examples whose path matches."""
    return [folder / path for folder, tree in trees.items() for path in tree if re.fullmatch(pattern, path)]


KINDS: dict[str, Sequence[Checker]] = {
    r"\.github/workflows/.*\.yml": WORKFLOWS,
    r"deploy/.*/docker-compose\.yml": STACKS,
    r"deploy/.*/(kubernetes|database|setup)\.yaml": MANIFESTS,
    r"deploy/.*/init/.*\.sh": SCRIPTS,
    r"\.github/dependabot\.yml": DEPENDABOT,
}


@pytest.mark.parametrize(
    ("pattern", "checker"),
    [
        pytest.param(kind, checker, id=checker.__name__ + kind, marks=mark_unless_quick(checker))
        for kind, checkers in KINDS.items()
        for checker in checkers
    ],
)
def test_no_finding(trees: dict[Path, GeneratedFiles], pattern: str, checker: Checker) -> None:
    files = written(trees, pattern)
    assert files
    assert findings(checker, files) == []


@pytest.mark.parametrize("name", NAMES)
def test_the_workflows_keep_the_house_rules(trees: dict[Path, GeneratedFiles], name: str) -> None:
    (folder,) = [folder for folder in trees if folder.name.startswith(name)]
    workflows = [folder / path for path in trees[folder] if path.endswith("yml") and "/workflows/" in path]
    assert workflows
    assert [finding for workflow in workflows for finding in policy.check(workflow)] == []


@pytest.mark.parametrize("example", EXAMPLES, ids=NAMES)
def test_it_is_small_enough_to_read_and_says_what_it_shows(example: Path) -> None:
    lines = example.read_text().splitlines()
    assert len(lines) <= 100
    assert re.fullmatch(r"# [A-Z].*[.:].*", lines[0])


@pytest.mark.parametrize("example", EXAMPLES, ids=NAMES)
def test_the_escape_hatch_is_under_a_twentieth(example: Path) -> None:
    """Of the text, as it is dumped."""
    spec = yaml.load(example.read_text(), yaml.CSafeLoader)
    assert 20 * len(yaml.safe_dump(list(hatch(spec)))) <= len(yaml.safe_dump(spec))


def hatch(node: object) -> Iterator[object]:
    """What `compose` and `steps` hold."""
    if isinstance(node, dict):
        yield from ({key: value} for key, value in node.items() if key in HATCH)
        node = [value for key, value in node.items() if key not in HATCH]
    for child in node if isinstance(node, list) else ():
        yield from hatch(child)


@pytest.mark.parametrize("program", PROGRAM_MARKERS)
def test_a_program_is_the_same_everywhere_and_can_be_run(program: str) -> None:
    specs = [*EXAMPLES, ROOT / "specs/kiwari.yaml", ROOT / "tests/cases/ok/schedules/spec.yaml"]
    trees = [sound_specs.generate(spec)[1] for spec in specs]
    files = {tree[program] for tree in trees if program in tree}  # bin/database is there only where something needs it
    assert len(files) == 1 and all(file.executable and is_program_file(program, file.text) for file in files)


def test_their_shapes_are_of_many_kinds() -> None:
    """At least eight, and every one of these ways in some of them."""
    assert len(EXAMPLES) >= 8
    texts = "\n".join(example.read_text() for example in EXAMPLES)
    for proxy in get_args(Proxy.model_fields["kind"].annotation):
        assert re.search(rf"kind: {proxy}\b", texts), proxy
