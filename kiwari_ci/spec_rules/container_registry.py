"""The registry: who may push there and pull from it."""

from collections.abc import Iterator

from kiwari_ci.effective_spec import EffectiveSpec
from kiwari_ci.problems import Problem
from kiwari_ci.spec_loading.validation import format_yaml_path, report_at_key, report_at_value
from kiwari_ci.spec_loading.yaml_source import YamlPath, YamlSource

GITHUB_REGISTRY = "ghcr.io"
_CLOUD_REGISTRIES = (".amazonaws.com", ".pkg.dev", "gcr.io")
_LOGIN_EXAMPLES = {"user": "user: NAME", "push_token": "push_token: {secret: REGISTRY_PUSH_TOKEN}"}


def check_registry(source: YamlSource, spec: EffectiveSpec) -> Iterator[Problem]:
    """GitHub's registry takes the job's token; every other one has logins of its own."""
    registry = spec.registry
    if registry.host.endswith(_CLOUD_REGISTRIES):
        message = f"registry.host: `{registry.host}` gives tokens that end within hours, by a login of its cloud"
        hint = "ghcr.io, docker.io, or a registry whose tokens last"
        yield report_at_value(source, ("registry", "host"), "registry", message, hint)
    if registry.host == GITHUB_REGISTRY:
        for key in sorted(registry.model_fields_set & _LOGIN_EXAMPLES.keys()):
            loc: YamlPath = ("registry", key)
            message = f"{format_yaml_path(loc)}: {GITHUB_REGISTRY} takes the job's own token"
            yield report_at_key(source, loc, "registry", message, f"leave out `{key}`")
    else:
        for key, example in _LOGIN_EXAMPLES.items():
            if key not in registry.model_fields_set:
                message = f"registry: {registry.host} needs `{key}`"
                yield report_at_key(source, ("registry",), "registry", message, example)
        if registry.pull_token.token:
            message = f"registry.pull_token: the job's token is for {GITHUB_REGISTRY} alone"
            hint = "pull_token: {secret: REGISTRY_PULL_TOKEN}, one that may only read"
            yield report_at_key(source, ("registry", "pull_token"), "registry", message, hint)
