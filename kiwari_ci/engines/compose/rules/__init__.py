"""Rules of the compose engine: its files, its networks, and keys of Compose."""

from collections.abc import Iterator

from kiwari_ci.effective_spec import EffectiveSpec
from kiwari_ci.engines.compose.rules import compose_keys, hosts, networks, schedules, stack_files
from kiwari_ci.problems import Problem
from kiwari_ci.spec_loading.yaml_source import YamlSource


def check_compose(source: YamlSource, spec: EffectiveSpec) -> Iterator[Problem]:
    """Find what Docker Compose on a host cannot do."""
    yield from hosts.check_hosts(source, spec)
    yield from networks.check_networks(source, spec)
    yield from compose_keys.check_compose_keys(source, spec)
    yield from stack_files.check_stack_files(source, spec)
    yield from schedules.check_schedules(source, spec)
