"""What lies beside a compose file, what it is rendered from, and the hosts that it is for."""

import re
from collections.abc import Iterator

from kiwari_ci.effective import derived
from kiwari_ci.loading.validation import at_key, at_value, dotted
from kiwari_ci.loading.yaml_source import Loc, Source
from kiwari_ci.problems import Problem
from kiwari_ci.schema import EnvValue, Spec

Found = Iterator[Problem]

_OWN = r"docker-compose(\..*)?\.ya?ml|(.*/)?[^/]*\.env|\..*|(hooks|log)/.*"


def of_spec(source: Source, given: Spec) -> Found:
    """Faults in what comes with a compose file."""
    for check in (_rendered, _files, _several):
        yield from check(source, given)


def _rendered(source: Source, given: Spec) -> Found:
    """What GitHub keeps is read where a deploy renders env files, by names that GitHub takes."""
    rendering = [name for name, place in given.environments.items() if place.env_from]
    told: set[Loc] = set()
    for environment, each, key, value in _variables(given):
        loc = derived.loc_of(given, environment, each, "env", key)
        named = value.variable or (value.secret if isinstance(value.secret, str) else None)
        if named and not rendering and loc not in told:
            message = f"{dotted(loc)}: `{named}` is kept by GitHub, and no environment renders env files"
            yield at_key(source, loc, "rendered", message, "environments: {NAME: {env_from: github}}")
        setting = derived.env_setting(key, value) if environment in rendering and not named else None
        if setting and key.upper().startswith("GITHUB_") and loc not in told:
            message = f"{dotted(loc)}: no secret of GitHub may be called `{key.upper()}`"
            yield at_key(source, loc, "rendered", message, f"{key}: {{secret: APP_{key.upper()}}}")
        told.add(loc)
    for name in rendering:
        if not any(environment == name for environment, *_ in _variables(given)):
            message = f"environments.{name}.env_from: nothing there has `env`"
            yield at_key(source, ("environments", name, "env_from"), "unused", message, "leave it out")


def _variables(given: Spec) -> Iterator[tuple[str, str, str, EnvValue]]:
    """Every key of every env file: its environment, who has it there, the key and its value."""
    for name in given.environments:
        for each in derived.held_by(given, name):
            yield from ((name, each, key, value) for key, value in derived.running_of(given, name, each).env.items())


def _files(source: Source, given: Spec) -> Found:
    """Files beside the compose file are the repository's; hooks have a script."""
    for name, place in given.environments.items():
        if place.hooks and not (place.hooks.before or place.hooks.after):
            words = f"environments.{name}.hooks: neither `before` nor `after`"
            yield at_key(source, ("environments", name, "hooks"), "unused", words, "leave it out, or write one")
        for index, file in enumerate(place.files or ()):
            loc: Loc = ("environments", name, "files", index)
            if re.fullmatch(_OWN, file):
                message = f"{dotted(loc)}: `{file}` is generated, the host's own, or an env file"
                yield at_value(source, loc, "reserved", message, "name a file that the repository has there: Caddyfile")


def _several(source: Source, given: Spec) -> Found:
    """One compose file serves on each host of an environment, so they are alike; a database is on one of them."""
    for name, place in given.environments.items():
        hosts, loc = derived.hosts_of(given, name), ("environments", name, "host")
        if len(hosts) > 1 and place.database:
            message = f"{dotted(loc)}: a database is reached over one host's Docker network, met {' and '.join(hosts)}"
            yield at_key(source, loc, "host", message, "name one host; or give the services a URL as a secret")
        first = given.hosts[hosts[0]]
        for host in hosts[1:]:
            other, alike = given.hosts[host], {"stack": None}
            if first.directory != other.directory:
                message = f"{dotted(loc)}: {hosts[0]} and {host} keep their stacks in different folders"
                yield at_key(source, loc, "host", message, "give both the same `directory`")
            if first.proxy.model_copy(update=alike) != other.proxy.model_copy(update=alike):
                message = f"{dotted(loc)}: {hosts[0]} and {host} have different proxies, and share a compose file"
                yield at_key(source, loc, "host", message, "give both the same `proxy`; its `stack` may differ")
