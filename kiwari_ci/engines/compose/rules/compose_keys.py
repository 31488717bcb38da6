"""Keys of a Compose service that a spec may add below `compose:`."""

from collections.abc import Iterator

from kiwari_ci.effective_spec import EffectiveContainer, EffectiveSpec
from kiwari_ci.problems import Problem
from kiwari_ci.schema import Accessory, Service
from kiwari_ci.schema.compose_keys import COMPOSE_KEY_ALTERNATIVES, EXTRA_COMPOSE_KEYS, find_compose_value_form
from kiwari_ci.schema.compose_mapping import list_written_compose_keys
from kiwari_ci.spec_loading.suggestions import suggest_closest
from kiwari_ci.spec_loading.validation import format_yaml_path, report_at_key, report_at_value
from kiwari_ci.spec_loading.yaml_source import YamlSource


def check_compose_keys(source: YamlSource, spec: EffectiveSpec) -> Iterator[Problem]:
    """Find keys of Compose that the pipeline writes itself, or that nobody knows."""
    for environment in spec.environments_on("compose"):
        for container in environment.containers.values():
            yield from _check_container(source, container)


def _check_container(source: YamlSource, container: EffectiveContainer) -> Iterator[Problem]:
    for key, value in container.options.compose.items():
        loc = container.yaml_path("compose", key)
        alternative = _find_alternative(type(container.options), key)
        if alternative:
            message = f"{format_yaml_path(loc)}: the pipeline writes `{key}` itself"
            yield report_at_key(source, loc, "compose", message, alternative)
        elif key not in EXTRA_COMPOSE_KEYS:
            message = f"{format_yaml_path(loc)}: no `{key}` in what may be added to a Compose service"
            yield report_at_key(source, loc, "compose", message, suggest_closest(key, sorted(EXTRA_COMPOSE_KEYS)))
        else:
            form = find_compose_value_form(key, value)
            if form:
                message = f"{format_yaml_path(loc)}: Compose expects {form.expected}"
                yield report_at_value(source, loc, "compose", message, f"compose: {{{key}: {form.example}}}")


def _find_alternative(model: type[Service] | type[Accessory], key: str) -> str:
    """Find what to write instead of a key of Compose; empty when it may be added."""
    if key in COMPOSE_KEY_ALTERNATIVES:
        return COMPOSE_KEY_ALTERNATIVES[key]
    if key in model.model_fields:
        return f"`{key}` of the spec"
    field = list_written_compose_keys(model).get(key)
    return f"`{field}` of the spec" if field else ""
