"""What lies beside a compose file, what it is rendered from, and the hosts that it is for."""

import re
from collections.abc import Iterator

from kiwari_ci.effective_spec import EffectiveContainer, EffectiveEnvironment, EffectiveSpec
from kiwari_ci.effective_spec.containers import find_env_setting
from kiwari_ci.problems import Problem
from kiwari_ci.schema import EnvValue
from kiwari_ci.spec_loading.validation import format_yaml_path, report_at_key, report_at_value
from kiwari_ci.spec_loading.yaml_source import YamlPath, YamlSource

Problems = Iterator[Problem]

_RESERVED_FILES = r"docker-compose(\..*)?\.ya?ml|(.*/)?[^/]*\.env|\..*|(hooks|log)/.*"


def check_stack_files(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """Find problems in what comes with a compose file."""
    yield from _check_github_values(source, spec)
    yield from _check_rendering_environments(source, spec)
    yield from _check_hooks_and_files(source, spec)
    for environment in spec.environments_on("compose"):
        yield from _check_several_hosts(source, environment)


def _check_github_values(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """What GitHub keeps is read where a deploy renders env files, by names that GitHub takes."""
    is_rendering = any(environment.renders_env_files for environment in spec.environments.values())
    checked: set[YamlPath] = set()
    for container, key, value in _iter_env_variables(spec):
        loc = container.yaml_path("env", key)
        if loc in checked:
            continue
        setting_name = value.variable or (value.secret if isinstance(value.secret, str) else None)
        if setting_name and not is_rendering:
            explanation = f"`{setting_name}` is a setting on GitHub, and no environment has `env_from: github`"
            message = f"{format_yaml_path(loc)}: {explanation}"
            yield report_at_key(source, loc, "rendered", message, "environments: {NAME: {env_from: github}}")
        needs_secret = not setting_name and find_env_setting(key, value) is not None
        if needs_secret and key.upper().startswith("GITHUB_"):
            if not container.environment.renders_env_files:
                continue  # the same line may count in an environment that renders it
            message = f"{format_yaml_path(loc)}: no secret of GitHub may be called `{key.upper()}`"
            yield report_at_key(source, loc, "rendered", message, f"{key}: {{secret: APP_{key.upper()}}}")
        checked.add(loc)


def _check_rendering_environments(source: YamlSource, spec: EffectiveSpec) -> Problems:
    for name, environment in spec.environments.items():
        has_env = any(container.options.env for container in environment.containers.values())
        if environment.renders_env_files and not has_env:
            message = f"environments.{name}.env_from: no service or accessory of this environment has `env`"
            yield report_at_key(source, ("environments", name, "env_from"), "unused", message, "leave it out")


def _iter_env_variables(spec: EffectiveSpec) -> Iterator[tuple[EffectiveContainer, str, EnvValue]]:
    """Every variable of every env file: who reads it there, its key and its value."""
    for environment in spec.environments.values():
        for container in environment.containers.values():
            for key, value in container.options.env.items():
                yield container, key, value


def _check_hooks_and_files(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """Files beside the compose file are the repository's; hooks have a script."""
    for name, environment in spec.environments.items():
        hooks = environment.model.hooks
        if hooks and not hooks.before and not hooks.after:
            message = f"environments.{name}.hooks: neither `before` nor `after`"
            hint = "leave it out, or write one"
            yield report_at_key(source, ("environments", name, "hooks"), "unused", message, hint)
        for index, file in enumerate(environment.model.files or ()):
            if re.fullmatch(_RESERVED_FILES, file):
                loc: YamlPath = ("environments", name, "files", index)
                message = f"{format_yaml_path(loc)}: `{file}` is generated, the host's own, or an env file"
                hint = "name a file that the repository has there: Caddyfile"
                yield report_at_value(source, loc, "reserved", message, hint)
        yield from _check_shared_files(source, environment)


def _check_shared_files(source: YamlSource, environment: EffectiveEnvironment) -> Problems:
    """Files that the job copies are sent by it, and each name in the stack is that of one file."""
    loc: YamlPath = ("environments", environment.name, "shared_files")
    if environment.model.shared_files and not environment.sends_files:
        message = f"{format_yaml_path(loc)}: without `sync: push`, no deploy sends files"
        yield report_at_key(source, loc, "unused", message, "sync: push; or `files`, with a copy for each stack")
    for file in environment.model.shared_files:
        file_loc = (*loc, file)
        if re.fullmatch(_RESERVED_FILES, file):
            message = f"{format_yaml_path(file_loc)}: `{file}` is generated, the host's own, or an env file"
            yield report_at_key(source, file_loc, "reserved", message, "choose another name")
        if file in (environment.model.files or ()):
            message = f"{format_yaml_path(file_loc)}: `{file}` is also in `files`"
            yield report_at_key(source, file_loc, "duplicate", message, "leave out one of the two")


def _check_several_hosts(source: YamlSource, environment: EffectiveEnvironment) -> Problems:
    """One compose file serves on each host of an environment, so they are alike; a database is on one of them."""
    loc: YamlPath = ("environments", environment.name, "host")
    where = format_yaml_path(loc)
    first_host, *other_hosts = environment.hosts_with("compose")
    if other_hosts and environment.database:
        names = ", ".join(f"`{host.name}`" for host in (first_host, *other_hosts))
        message = f"{where}: a database is reached over the network of one host, but `host` names several: {names}"
        hint = "name one host; or give the services a URL as a secret"
        yield report_at_key(source, loc, "host", message, hint)
    for host in other_hosts:
        both = f"{first_host.name} and {host.name}"
        if first_host.directory != host.directory:
            message = f"{where}: {both} keep their stacks in different folders"
            yield report_at_key(source, loc, "host", message, "give both the same `directory`")
        # The stack of the proxy is generated for each host by itself.
        without_stack = {"stack": None}
        if first_host.proxy.model_copy(update=without_stack) != host.proxy.model_copy(update=without_stack):
            message = f"{where}: {both} have different proxies, and share a compose file"
            yield report_at_key(source, loc, "host", message, "give both the same `proxy`; its `stack` may differ")
