"""Loads a spec once, however many commands of the tests read it: its plan follows from its text alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from os import environ
from unittest.mock import patch

from kiwari_ci import generator
from kiwari_ci.generator import LoadedSpec
from kiwari_ci.github_facts.action_pins import DEFAULT_PIN_SET, ActionPin, PinSet
from kiwari_ci.readers import installed_tool
from kiwari_ci.spec_loading import yaml_source
from kiwari_ci.spec_loading.yaml_source import YamlSource

_KEPT_SPECS = 50  # those that many tests have in common; all that the tests write would take a gigabyte

_parse_yaml = lru_cache(_KEPT_SPECS)(yaml_source.parse_yaml)
_load_anew = generator.validate_and_plan


@dataclass(frozen=True)
class _SpecToLoad:
    """A spec that was read, and the pins beside it; compared by all that its plan follows from."""

    path: str
    text: str
    pins_text: str
    pins: frozenset[tuple[str, ActionPin]]
    installed_source: str
    source: YamlSource = field(compare=False)
    pin_set: PinSet = field(compare=False)


@lru_cache(_KEPT_SPECS)
def _load_once(spec: _SpecToLoad) -> LoadedSpec:
    return _load_anew(spec.source, spec.pin_set)


def _validate_and_plan(source: YamlSource, pins: PinSet = DEFAULT_PIN_SET) -> LoadedSpec:
    installed_source = installed_tool.find_installed_source(environ)
    pin_items = frozenset(pins.pins.items())
    return _load_once(_SpecToLoad(source.path, source.text, pins.text, pin_items, installed_source, source, pins))


@contextmanager
def loading_each_spec_once() -> Iterator[None]:
    """Have commands take a spec that was loaded before; one with problems is read again."""
    reading = patch.object(yaml_source, "parse_yaml", _parse_yaml)
    planning = patch.object(generator, "validate_and_plan", _validate_and_plan)
    with reading, planning:
        yield
