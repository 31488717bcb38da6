"""Classes that never change behave as `dataclasses.dataclass(frozen=True)` makes them."""

from dataclasses import FrozenInstanceError, field, replace
from typing import Any

import pytest

from kiwari_ci.frozen import dataclass


@dataclass(frozen=True)
class Point:
    x: int
    y: int = 0
    names: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class NamedPoint(Point):
    label: str = "origin"


@dataclass(frozen=True, eq=False)
class Place:
    x: int


def test_values_are_taken_in_order_and_by_name() -> None:
    assert Point(1, 2) == Point(y=2, x=1)
    assert (Point(1).y, Point(1).names) == (0, [])
    assert Point(1).names is not Point(1).names
    assert NamedPoint(1, label="a").label == "a"


def test_objects_of_two_classes_differ() -> None:
    assert Point(1) != NamedPoint(1)
    assert Point(1) != Point(2)


def test_without_eq_each_object_is_itself() -> None:
    place = Place(1)
    assert place == place
    assert place != Place(1)
    assert len({place, Place(1)}) == 2


@pytest.mark.parametrize(
    "arguments", [((), {}), ((1, 2, [], 4), {}), ((1,), {"x": 1}), ((1,), {"z": 1}), ((), {"y": 1})]
)
def test_what_does_not_fit_is_refused(arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> None:
    values, named_values = arguments
    with pytest.raises(TypeError, match="Point"):
        Point(*values, **named_values)


def test_nothing_changes_later() -> None:
    point = Point(1)
    for name in ("x", "other"):
        with pytest.raises(FrozenInstanceError):
            setattr(point, name, 2)
        with pytest.raises(FrozenInstanceError):
            delattr(point, name)
    assert replace(point, x=3) == Point(3)
    assert repr(point) == "Point(x=1, y=0, names=[])"
