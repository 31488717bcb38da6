"""Ports that a host publishes, and names on Docker networks."""

from collections.abc import Iterator

from kiwari_ci.effective_spec import EffectiveEnvironment, EffectiveSpec
from kiwari_ci.problems import Problem
from kiwari_ci.proxies.all_proxies import find_proxy
from kiwari_ci.spec_loading.validation import format_yaml_path, report_at_key, report_at_value
from kiwari_ci.spec_loading.yaml_source import YamlPath, YamlSource

Problems = Iterator[Problem]


def check_networks(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """Find ports that two containers publish, and names that mean two things on one network."""
    yield from _check_published_ports(source, spec)
    for environment in spec.environments_on("compose"):
        yield from _check_network_names(source, environment)
    for environment in spec.environments_on("compose"):
        yield from _check_short_names(source, environment)


def _check_published_ports(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """A port of a host is one container's."""
    owners: dict[tuple[str, str], str] = {}
    for environment in spec.environments_on("compose"):
        for name, container in environment.containers.items():
            ports = container.options.ports or []
            loc = container.yaml_path("ports")
            if ports and len(container.replica_names) > 1:
                replicas = f"{name} has replicas in {environment.name}, and a port of a host is one container's"
                hint = "leave out `ports`, for the proxy leads to all of them; or `replicas`"
                yield report_at_key(source, loc, "clash", f"{format_yaml_path(loc)}: {replicas}", hint)
            owner = f"{name} in {environment.name}"
            for index, port in enumerate(ports):
                host_port = _format_host_port(port)
                for host_name in (host.name for host in environment.hosts_with("compose")):
                    other = owners.setdefault((host_name, host_port), owner)
                    if other != owner:
                        port_loc = (*loc, index)
                        both = f"{owner} and {other} would both publish {host_port} on {host_name}"
                        message = f"{format_yaml_path(port_loc)}: {both}"
                        hint = "give each a port of its own, or a domain"
                        yield report_at_value(source, port_loc, "clash", message, hint)


def _format_host_port(published_port: str) -> str:
    """Write the host's side of a published port: `8080`, or `8080/udp`, which is another one."""
    number = published_port.split(":")[-2]
    return f"{number}/udp" if published_port.endswith("/udp") else number


def _check_network_names(source: YamlSource, environment: EffectiveEnvironment) -> Problems:
    """A network's name means one network in a stack."""
    descriptions = {"name": "one of its own", "internal": "an internal one", "external": "not its own"}
    proxy_options = environment.hosts_with("compose")[0].proxy
    kinds = {proxy_options.network: "external"} if find_proxy(proxy_options.kind).is_on_shared_network else {}
    if environment.database:
        kinds[environment.database.server.network] = "external"
    for container in environment.containers.values():
        for index, network in enumerate(container.options.networks or ()):
            (kind,) = network.model_fields_set
            name = str(getattr(network, kind))
            other_kind = kinds.setdefault(name, kind)
            if other_kind != kind:
                loc = (*container.yaml_path("networks"), index)
                meanings = f"`{name}` is {descriptions[kind]} here, and {descriptions[other_kind]} elsewhere"
                message = f"{format_yaml_path(loc)}: {meanings}"
                yield report_at_value(source, loc, "clash", message, "give each network a name of its own")


def _check_short_names(source: YamlSource, environment: EffectiveEnvironment) -> Problems:
    """On the stack's own network an accessory is known by its short name, which nothing else there may have."""
    names: dict[str, YamlPath] = {name: ("databases", name) for name in environment.spec.databases}
    host = environment.hosts_with("compose")[0]
    for other in environment.spec.environments_on("compose"):
        if other.hosts_with("compose")[0].name != host.name:
            continue
        for name, container in other.containers.items():
            shares_a_network = name in other.services or container.domain or other is environment
            if shares_a_network:
                loc: YamlPath = ("environments", other.name, "containers", name)
                names |= dict.fromkeys(container.replica_names, loc)
    for name in environment.accessories:
        if name in names and names[name] != ("environments", environment.name, "containers", name):
            loc = names[name]
            message = f"{format_yaml_path(loc)}: `{name}` is what {environment.name} calls its accessory"
            yield report_at_key(source, loc, "clash", message, "give one of them another name")
