"""Hosts with Docker Compose: what only another engine has, and databases, which are on the host of their users."""

import re
from collections.abc import Iterator

from kiwari_ci.effective_spec import EffectiveEnvironment, EffectiveHost, EffectiveSpec
from kiwari_ci.problems import Problem
from kiwari_ci.spec_loading.validation import format_yaml_path, report_at_key, report_at_value
from kiwari_ci.spec_loading.yaml_source import YamlPath, YamlSource

Problems = Iterator[Problem]

_PROGRAM_PATTERN = r"[A-Za-z0-9_./][A-Za-z0-9_./+-]*"


def check_hosts(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """Find what a host with Docker Compose does not have."""
    for name, host in spec.hosts.items():
        if host.engine != "compose":
            continue
        if host.model.kubeconfig:
            loc: YamlPath = ("hosts", name, "kubeconfig")
            message = f"{format_yaml_path(loc)}: is for `engine: kubernetes`, and {name} is reached over SSH"
            hint = f"leave it out; or hosts: {{{name}: {{engine: kubernetes}}}}"
            yield report_at_key(source, loc, "host", message, hint)
        yield from _check_way(source, host)
        if host.proxy.kind == "ingress":
            loc = ("hosts", name, "proxy", "kind")
            message = f"{format_yaml_path(loc)}: an Ingress is of a cluster, and {name} is a server"
            yield report_at_value(source, loc, "proxy", message, "`traefik`, `caddy`, `nginx` or `nginx-proxy-manager`")
    for environment in spec.environments_on("compose"):
        yield from _check_database_host(source, environment)


def _check_way(source: YamlSource, host: EffectiveHost) -> Problems:
    """A host is reached in one way, and the program on it is named by its first word."""
    proxy_command = host.model.proxy_command
    if proxy_command is None:
        return
    loc: YamlPath = ("hosts", host.name, "proxy_command")
    if host.model.jump:
        message = f"{format_yaml_path(loc)}: ssh takes one way to {host.name}, and `jump` is another"
        yield report_at_key(source, loc, "host", message, "leave out `jump` or `proxy_command`")
    if not re.fullmatch(_PROGRAM_PATTERN, proxy_command.command[0]):
        word_loc = (*loc, "command", 0)
        message = f"{format_yaml_path(word_loc)}: expected the name of a program, or its path"
        hint = "command: [cloudflared, access, ssh, --hostname, '%h']"
        yield report_at_value(source, word_loc, "value", message, hint)


def _check_database_host(source: YamlSource, environment: EffectiveEnvironment) -> Problems:
    """A database is on the host of its environment."""
    if environment.database is None:
        return
    server = environment.database.server
    host_name = environment.hosts_with("compose")[0].name
    if host_name != server.host.name:
        name = environment.name
        message = f"environments.{name} is on {host_name}, its database server `{server.name}` on {server.host.name}"
        hint = "a database is reached over a Docker network: put both on one host"
        yield report_at_key(source, ("environments", name, "database"), "host", message, hint)
