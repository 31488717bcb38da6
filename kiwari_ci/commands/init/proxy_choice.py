"""Which kind of proxy the first spec has: what serves today stays."""

from typing import cast

from kiwari_ci import schema
from kiwari_ci.commands.init.compose_files import list_known_published_ports, list_published_ports
from kiwari_ci.commands.init.findings import RepositoryFindings
from kiwari_ci.effective_spec.values import is_public_web_port
from kiwari_ci.proxies.all_proxies import PROXIES, find_planned_proxy
from kiwari_ci.readers import vocabulary
from kiwari_ci.schema.environments import ProxyKind


def choose_proxy_kind(facts: RepositoryFindings) -> ProxyKind:
    """The kind of proxy in the spec: what serves today stays, and what nobody can tell is the default.

    A proxy that leads to ports of the server is somebody else's, `none`, and a container that finds others by their
    names is `custom`, in place of the kinds whose stack would be generated. Where a service has a web port of the
    server itself, no proxy can have it.
    """
    default = schema.Proxy().kind
    if facts.is_taken_over and has_web_port(facts):
        return "none"
    if not facts.proxies:
        return "none" if facts.is_taken_over and leads_to_ports(facts) else default
    kind = facts.proxies[0].value
    if kind not in PROXIES:
        return "custom" if facts.is_taken_over and not leads_to_ports(facts) else "none"
    if not facts.is_taken_over or reads_labels(kind) or kind == default:
        return cast(ProxyKind, kind)
    return "none" if leads_to_ports(facts) else "custom"


def find_shared_network(facts: RepositoryFindings) -> str:
    """The network that the proxy and the services share; empty when nobody says, or when the kind joins none."""
    if facts.network and find_planned_proxy(choose_proxy_kind(facts)).is_on_shared_network:
        return str(facts.network.value)
    return ""


def leads_to_ports(facts: RepositoryFindings) -> bool:
    """Whether a program of the server itself leads to services, by ports that their containers publish."""
    is_by_name = facts.has_routes_to_names and not facts.host_proxy
    if facts.proxy_containers or facts.network or is_by_name:
        return False
    return any(
        list_published_ports(container.table)
        for service in facts.services
        for file, container in service.containers
        if file.kind != vocabulary.DEVELOPMENT
    )


def has_web_port(facts: RepositoryFindings) -> bool:
    """Whether the container of a service publishes port 80 or 443 to others than the server."""
    return any(
        is_public_web_port(port)
        for service in facts.services
        for file, container in service.containers
        if file.kind != vocabulary.DEVELOPMENT
        for port in list_known_published_ports(container)
        if ":" in port
    )


def reads_labels(kind: str) -> bool:
    """Whether a kind of proxy finds the services by the labels of their containers."""
    return find_planned_proxy(kind).reads_labels
