"""What lies beside a compose file, what it is rendered from, and the hosts that it is for."""

import re
from collections.abc import Iterator

from kiwari_ci.effective import derived
from kiwari_ci.loading.validation import format_yaml_path, report_at_key, report_at_value
from kiwari_ci.loading.yaml_source import YamlPath, YamlSource
from kiwari_ci.problems import Problem
from kiwari_ci.schema import EnvValue, Spec

Problems = Iterator[Problem]

_RESERVED_FILES = r"docker-compose(\..*)?\.ya?ml|(.*/)?[^/]*\.env|\..*|(hooks|log)/.*"


def check_stack_files(source: YamlSource, given: Spec) -> Problems:
    """Faults in what comes with a compose file."""
    for check in (_check_rendered_settings, _check_listed_files, _check_several_hosts):
        yield from check(source, given)


def _check_rendered_settings(source: YamlSource, given: Spec) -> Problems:
    """What GitHub keeps is read where a deploy renders env files, by names that GitHub takes."""
    rendering = [name for name, place in given.environments.items() if place.env_from]
    told: set[YamlPath] = set()
    for environment, each, key, value in _iter_env_variables(given):
        loc = derived.find_spec_path(given, environment, each, "env", key)
        named = value.variable or (value.secret if isinstance(value.secret, str) else None)
        if named and not rendering and loc not in told:
            message = f"{format_yaml_path(loc)}: `{named}` is kept by GitHub, and no environment renders env files"
            yield report_at_key(source, loc, "rendered", message, "environments: {NAME: {env_from: github}}")
        setting = derived.find_env_setting(key, value) if environment in rendering and not named else None
        if setting and key.upper().startswith("GITHUB_") and loc not in told:
            message = f"{format_yaml_path(loc)}: no secret of GitHub may be called `{key.upper()}`"
            yield report_at_key(source, loc, "rendered", message, f"{key}: {{secret: APP_{key.upper()}}}")
        told.add(loc)
    for name in rendering:
        if not any(environment == name for environment, *_ in _iter_env_variables(given)):
            message = f"environments.{name}.env_from: nothing there has `env`"
            yield report_at_key(source, ("environments", name, "env_from"), "unused", message, "leave it out")


def _iter_env_variables(given: Spec) -> Iterator[tuple[str, str, str, EnvValue]]:
    """Every key of every env file: its environment, who has it there, the key and its value."""
    for name in given.environments:
        for each in derived.list_services_and_accessories(given, name):
            yield from (
                (name, each, key, value)
                for key, value in derived.resolve_container_options(given, name, each).env.items()
            )


def _check_listed_files(source: YamlSource, given: Spec) -> Problems:
    """Files beside the compose file are the repository's; hooks have a script."""
    for name, place in given.environments.items():
        if place.hooks and not (place.hooks.before or place.hooks.after):
            words = f"environments.{name}.hooks: neither `before` nor `after`"
            yield report_at_key(source, ("environments", name, "hooks"), "unused", words, "leave it out, or write one")
        for index, file in enumerate(place.files or ()):
            loc: YamlPath = ("environments", name, "files", index)
            if re.fullmatch(_RESERVED_FILES, file):
                message = f"{format_yaml_path(loc)}: `{file}` is generated, the host's own, or an env file"
                yield report_at_value(
                    source, loc, "reserved", message, "name a file that the repository has there: Caddyfile"
                )


def _check_several_hosts(source: YamlSource, given: Spec) -> Problems:
    """One compose file serves on each host of an environment, so they are alike; a database is on one of them."""
    for name, place in given.environments.items():
        hosts, loc = derived.list_hosts(given, name), ("environments", name, "host")
        if len(hosts) > 1 and place.database:
            message = f"{format_yaml_path(loc)}: a database is reached over one host's Docker network, met {' and '.join(hosts)}"
            yield report_at_key(source, loc, "host", message, "name one host; or give the services a URL as a secret")
        first = given.hosts[hosts[0]]
        for host in hosts[1:]:
            other, alike = given.hosts[host], {"stack": None}
            if first.directory != other.directory:
                message = f"{format_yaml_path(loc)}: {hosts[0]} and {host} keep their stacks in different folders"
                yield report_at_key(source, loc, "host", message, "give both the same `directory`")
            if first.proxy.model_copy(update=alike) != other.proxy.model_copy(update=alike):
                message = (
                    f"{format_yaml_path(loc)}: {hosts[0]} and {host} have different proxies, and share a compose file"
                )
                yield report_at_key(source, loc, "host", message, "give both the same `proxy`; its `stack` may differ")
