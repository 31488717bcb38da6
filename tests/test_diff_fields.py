"""Each field of a spec has words in `diff`: a new field needs a line in cases/fields/says.yml."""

import copy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from kiwari_ci import generator
from kiwari_ci.commands.diff import compare, snapshot
from kiwari_ci.commands.diff.change import PipelineChange
from kiwari_ci.commands.diff.snapshot import PipelineSnapshot
from kiwari_ci.plan_model import Plan
from kiwari_ci.readers import file_sets
from kiwari_ci.schema import Spec

CASES = Path(__file__).parent / "cases/fields"
SPEC: dict[str, Any] = yaml.load((CASES / "spec.yaml").read_text(), yaml.CSafeLoader)
SAYS: dict[str, dict[str, Any]] = yaml.load((CASES / "says.yml").read_text(), yaml.CSafeLoader)


def iter_models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a type has in it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from iter_models(argument)


def list_fields() -> set[str]:
    """Every field that a person may write, by the model that brings it; a mapping of a whole spec is its parts."""
    names, waiting, known = set[str](), list[type[BaseModel]]([Spec]), set[type]()
    while waiting:
        model = waiting.pop()
        for base in (
            base_model for base_model in model.__mro__ if issubclass(base_model, BaseModel) and base_model not in known
        ):
            known.add(base)
            own = {name for name in base.__annotations__ if name in model.model_fields}
            waiting += [
                model_of_field
                for name in own
                for model_of_field in iter_models(base.__annotations__[name])
                if model_of_field not in known
            ]
            is_part = base is Spec
            names |= {
                f"{base.__name__}.{name}"
                for name in own
                if not (is_part and list(iter_models(Spec.model_fields[name].annotation)))
            }
    return names


def edit_spec(edit: dict[str, Any]) -> dict[str, Any]:
    """The spec with other values at these places."""
    spec = copy.deepcopy(SPEC)
    for loc, value in edit.items():
        *above, last = [int(part) if part.isdigit() else part for part in loc.split(".")]
        inside: Any = spec
        for part in above:
            inside = inside.setdefault(part, {}) if isinstance(inside, dict) else inside[part]
        if value is None:
            del inside[last]
        else:
            inside[last] = value
    return spec


def generate(folder: Path, spec: dict[str, Any]) -> tuple[Plan, dict[str, str]]:
    """What a spec generates."""
    path = folder / "spec.yaml"
    path.write_text(yaml.dump(spec, Dumper=yaml.CSafeDumper, sort_keys=False))
    pins = folder / "pins/action.yml"
    pins.parent.mkdir(exist_ok=True)
    pins.write_text((CASES / "pins/action.yml").read_text())
    plan, tree = generator.generate_files(path)
    return plan, {path: file.text for path, file in tree.items()}


@cache
def read_generated(folder: Path) -> tuple[file_sets.FileSet, PipelineSnapshot]:
    """The folder that the spec generates, read once."""
    for path, text in generate(folder, SPEC)[1].items():
        (folder / "out" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "out" / path).write_text(text)
    side = file_sets.load_folder(folder / "out")
    return side, snapshot.build_snapshot(side, SPEC["project"]["repository"])


@pytest.fixture
def side(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> file_sets.FileSet:
    generated, known = read_generated(tmp_path_factory.getbasetemp())
    read = snapshot.build_snapshot
    monkeypatch.setattr(
        snapshot,
        "build_snapshot",
        lambda folder, repository, *_: known if folder is generated else read(folder, repository),
    )
    return generated


def format_change(change: PipelineChange) -> str:
    return f"{'! ' if change.risky else ''}{change.subject}: {change.words}"


def test_every_field_is_tried() -> None:
    assert {name.partition(" ")[0] for name in SAYS} == list_fields()


def compare_with_generated(plan: Plan, side: file_sets.FileSet, after: dict[str, str]) -> tuple[PipelineChange, ...]:
    return compare.compare_pipelines(side, plan, after, side).changes


def list_cases() -> list[Any]:
    """Every field; the ordinary tests have the last one of each third model."""
    last_fields = {name.partition(".")[0]: name for name in SAYS}
    some_fields = list(last_fields.values())[::3]
    return [name if name in some_fields else pytest.param(name, marks=pytest.mark.exhaustive) for name in SAYS]


@pytest.mark.parametrize("name", list_cases())
def test_a_field_that_changes_has_words(name: str, side: file_sets.FileSet, tmp_path: Path) -> None:
    plan, after = generate(tmp_path, edit_spec(SAYS[name]["edit"]))
    changes = compare_with_generated(plan, side, after)
    assert any(SAYS[name]["says"] in format_change(change) for change in changes), "\n".join(
        map(format_change, changes)
    )


def test_the_same_spec_says_nothing(side: file_sets.FileSet, tmp_path: Path) -> None:
    """With hooks, the proxy's files, a runbook, and services named before and after `promote`."""
    plan, after = generate(tmp_path, SPEC)
    assert compare_with_generated(plan, side, after) == ()


@pytest.mark.parametrize(
    ("name", "lie"),
    [
        ("Project.pull_requests", "deploys on pull request"),  # a job that waits for a skipped one is skipped
        ("DeployOn.push", "no longer tagged"),  # each branch has its tags
        ("DeployOn.push", "nothing is built for it"),  # what is there is looked for first
        ("Environment.promote", "nothing is built for it"),
        ("Environment.deploy_on", "no longer only runs"),  # the filter is that of pushes
        ("Environment.env_from +", "shows is no longer read"),
        ("Environment.redirects -", "health of"),  # a redirect is no health check
    ],
)
def test_what_is_not_so_is_not_told(name: str, lie: str, side: file_sets.FileSet, tmp_path: Path) -> None:
    plan, after = generate(tmp_path, edit_spec(SAYS[name]["edit"]))
    assert not [change.words for change in compare_with_generated(plan, side, after) if lie in change.words]
