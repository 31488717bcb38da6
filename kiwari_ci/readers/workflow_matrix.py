"""Expands the matrix of a job into its combinations, as GitHub does."""

from collections.abc import Iterator
from itertools import islice, product
from typing import Any

from kiwari_ci.readers.yaml_document import as_dict

MAX_MATRIX_COMBINATIONS = 40
MAX_EXCLUDED = 100  # entries of `exclude`
MAX_CANDIDATES = 1_000  # combinations that `exclude` is held against


def expand_matrix(matrix: dict[str, Any]) -> list[dict[str, Any]]:
    """The first combinations of a matrix, as far as its values are written down; none when there is no matrix."""
    axes = {key: axis for key, axis in matrix.items() if isinstance(axis, list) and key not in ("include", "exclude")}
    combinations: list[dict[str, Any]] = []
    if axes:
        excluded = _list_mappings(matrix.get("exclude"))[:MAX_EXCLUDED]
        for values in islice(product(*axes.values()), MAX_CANDIDATES):
            combination = dict(zip(axes, values, strict=True))
            if not _is_excluded(combination, excluded):
                combinations.append(combination)
    combinations = combinations[:MAX_MATRIX_COMBINATIONS]
    for included in _list_mappings(matrix.get("include"))[:MAX_MATRIX_COMBINATIONS]:
        _include(combinations, included, axes)
    return combinations[:MAX_MATRIX_COMBINATIONS]


def list_matrix_values(job: dict[str, Any]) -> list[dict[str, str]]:
    """Each combination of a job's matrix as expressions and their values; one without any when there is no matrix."""
    matrix = as_dict(as_dict(job.get("strategy")).get("matrix"))
    combinations = [dict(_flatten_keys("matrix", combination)) for combination in expand_matrix(matrix)]
    return combinations or [{}]


def _flatten_keys(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _flatten_keys(f"{name}.{key}", child)
    else:
        yield name, "" if value is None else str(value)


def _list_mappings(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        return []
    return [item for item in value if isinstance(item, dict)]


def _is_excluded(combination: dict[str, Any], excluded: list[dict[str, Any]]) -> bool:
    """Whether an entry of `exclude` agrees with a combination in all that it names."""
    return any(entry and all(combination.get(key) == entry[key] for key in entry) for entry in excluded)


def _include(combinations: list[dict[str, Any]], included: dict[str, Any], axes: dict[str, Any]) -> None:
    """Add an entry of `include` to the combinations that it agrees with; it is one of its own when there is none."""
    extended = False
    for combination in combinations if axes else ():
        if all(combination.get(key) == included[key] for key in axes if key in included):
            combination.update(included)
            extended = True
    if not extended:
        combinations.append(dict(included))
