"""What a kind of proxy must be able to say of itself, and what the kinds with a generated stack have in common."""

from collections.abc import Sequence
from typing import Protocol

from kiwari_ci import schema
from kiwari_ci.effective_spec import EffectiveContainer, EffectiveHost
from kiwari_ci.effective_spec.values import find_published_port, is_local_port, is_public_web_port
from kiwari_ci.plan_model import (
    AccessoryContainer,
    ComposeContainer,
    DomainRedirect,
    ProxyRedirect,
    ProxyRoute,
    ProxySite,
    ProxyStack,
    PublicRoute,
)

# Keys of the spec that shape a generated stack.
GENERATED_STACK_KEYS = frozenset({"network", "stack", "image", "listen"})
_CERTIFICATE_KEYS = frozenset({"email", "certificates", "certresolver", "issuer"})
_COMMON_KEYS = frozenset({"kind", "scheme"})
UNKNOWN_SWITCH_TEMPLATE = "proxy/switch-in-container.md.j2"  # for a proxy in a container, of which nothing is known


class Proxy(Protocol):
    """A kind of proxy that can stand in front of services."""

    @property
    def supported_keys(self) -> frozenset[str]:
        """The keys of the spec's `proxy` that this kind takes, besides `kind` and `scheme`."""

    @property
    def name_cache_seconds(self) -> int:
        """For how many seconds a request may still go to the container that had a name before."""

    @property
    def unrouted_statuses(self) -> tuple[int, ...]:
        """The HTTP statuses by which it answers for a domain that it does not know yet."""

    @property
    def has_admin_api(self) -> bool:
        """Whether `doctor` can ask its API for the domains that a person has set up there."""

    @property
    def reads_labels(self) -> bool:
        """Whether it finds the services by the labels of their containers."""

    @property
    def is_on_shared_network(self) -> bool:
        """Whether it reaches containers over the Docker network that the spec names."""

    @property
    def may_lead_beyond_domains(self) -> bool:
        """Whether a person may make it lead to a service of which the spec names no domain."""

    @property
    def guide_template(self) -> str:
        """The template of what the runbook says of its domains; empty when the stack's own files say everything."""

    @property
    def switch_template(self) -> str:
        """The template of how a person makes it send requests to the new container in place of the one of today."""

    @property
    def is_explained_by_takeover(self) -> bool:
        """Whether the guide has nothing to add to what a takeover says of an address that is served today."""

    @property
    def has_one_guide_for_all_hosts(self) -> bool:
        """Whether the runbook lists the domains of all hosts together."""

    def stack_name(self, options: schema.Proxy) -> str:
        """The name of its generated stack; empty when a person has set the proxy up."""

    def explain_unused_key(self, options: schema.Proxy, key: str) -> str:
        """Explain why a key that this kind takes has no effect; empty when it has one."""

    def explain_unreachable_domain(self, container: EffectiveContainer) -> tuple[str, str] | None:
        """Explain why its host cannot lead a domain to a container with a port, with a hint; None when it can."""

    def explain_unsupported_route(self, container: EffectiveContainer, route: schema.Route) -> tuple[str, str] | None:
        """Explain what it cannot do of what an address asks for, with a hint; None when it can do everything."""

    def labels(self, container: EffectiveContainer, port: int) -> dict[str, str]:
        """The labels by which it finds a container with public addresses."""

    def plan_stack(
        self, host: EffectiveHost, sites: tuple[ProxySite, ...], redirects: tuple[ProxyRedirect, ...]
    ) -> ProxyStack | None:
        """Plan its stack, if it is generated."""

    def runs_image(self, image: str) -> bool:
        """Whether a container with this image is the proxy."""

    def describe_required_version(self, image: str) -> str:
        """Describe the version that is needed, when the image has an older one; else empty."""


class ExistingProxy:
    """What the kinds have in common that are there already, so that no stack is generated for them."""

    supported_keys: frozenset[str] = frozenset()
    has_admin_api = False
    reads_labels = False
    is_on_shared_network = False
    may_lead_beyond_domains = True
    is_explained_by_takeover = False
    has_one_guide_for_all_hosts = False

    def stack_name(self, options: schema.Proxy) -> str:
        """No stack is generated."""
        return ""

    def explain_unused_key(self, options: schema.Proxy, key: str) -> str:
        """Each key that the kind takes has an effect."""
        return ""

    def explain_unreachable_domain(self, container: EffectiveContainer) -> tuple[str, str] | None:
        """It reaches every container with a port."""
        return None

    def labels(self, container: EffectiveContainer, port: int) -> dict[str, str]:
        """It reads no labels of Docker."""
        return {}

    def plan_stack(
        self, host: EffectiveHost, sites: tuple[ProxySite, ...], redirects: tuple[ProxyRedirect, ...]
    ) -> ProxyStack | None:
        """No stack is generated."""
        return None

    def runs_image(self, image: str) -> bool:
        """Its image is not known."""
        return False

    def describe_required_version(self, image: str) -> str:
        """Its version does not matter."""
        return ""


def list_written_keys(options: schema.Proxy) -> list[str]:
    """List the keys that a person wrote, except for those that every kind takes."""
    return sorted(options.model_fields_set - _COMMON_KEYS)


def explain_middlewares(route: schema.Route) -> tuple[str, str] | None:
    """Explain that only Traefik has middlewares."""
    if route.middlewares:
        return "`middlewares` are for `kind: traefik`", "leave out `middlewares`"
    return None


def explain_certificate_key(options: schema.Proxy, key: str) -> str:
    """Explain why a key of certificates has no effect with plain HTTP; empty when it has one."""
    if key not in _CERTIFICATE_KEYS or options.has_tls:
        return ""
    cause = "listen" if options.listen else "scheme: http"
    return f"with `{cause}` it has no certificates"


def plan_sites(host: EffectiveHost, containers: Sequence[ComposeContainer]) -> tuple[ProxySite, ...]:
    """Plan the domains of a host, and where their paths lead to, the longest path first."""
    routes_by_domain: dict[str, list[ProxyRoute]] = {}
    for container in containers:
        for route in container.routes:
            routes_by_domain.setdefault(route.domain, []).append(_plan_proxy_route(container, route))
    return tuple(
        ProxySite(
            scheme=host.proxy.scheme,
            domain=domain,
            address=_format_caddy_address(host, domain),
            routes=tuple(sorted(routes, key=lambda route: -len(route.path))),
        )
        for domain, routes in routes_by_domain.items()
    )


def plan_redirects(host: EffectiveHost, redirects: Sequence[DomainRedirect]) -> tuple[ProxyRedirect, ...]:
    """Plan the domains of a host that only redirect."""
    return tuple(
        ProxyRedirect(redirect.scheme, redirect.domain, _format_caddy_address(host, redirect.domain), redirect.target)
        for redirect in redirects
    )


def _format_caddy_address(host: EffectiveHost, domain: str) -> str:
    """Write a domain as Caddy has it: it requests a certificate, unless the scheme is `http`."""
    return domain if host.proxy.has_tls else f"http://{domain}"


def _plan_proxy_route(container: ComposeContainer, route: PublicRoute) -> ProxyRoute:
    published_port = find_published_port(container.ports, container.port)
    open_ports = [port for port in container.ports if not is_local_port(port)]
    return ProxyRoute(
        domain=route.domain,
        path=route.path,
        strips_path=route.strips_path,
        container=container.container,
        port=container.port,
        websocket=container.websocket == "yes",
        published_address=f"http://127.0.0.1:{published_port}" if published_port else "",
        is_published_to_all=bool(find_published_port(open_ports, container.port)),
        has_web_port=any(is_public_web_port(port) for port in container.ports),
        is_replaced=not isinstance(container, AccessoryContainer),
        auth_list=route.auth_list,
    )


def list_auth_lists(sites: Sequence[ProxySite]) -> tuple[str, ...]:
    """List the lists of users that some addresses ask for, each once."""
    return tuple(dict.fromkeys(route.auth_list for site in sites for route in site.routes if route.auth_list))


def list_web_ports(options: schema.Proxy) -> tuple[str, ...]:
    """List the ports that a generated stack publishes."""
    if options.listen:
        return (f"{options.listen}:80",)
    return ("80:80", "443:443") if options.has_tls else ("80:80",)


def plan_generated_stack(
    host: EffectiveHost,
    name: str,
    *,
    default_image: str,
    volumes: tuple[str, ...],
    ports: tuple[str, ...] = (),
    command: tuple[str, ...] = (),
    certificates: str = "",
    config_files: tuple[str, ...] = (),
    reload_command: str = "",
    sites: tuple[ProxySite, ...] = (),
    redirects: tuple[ProxyRedirect, ...] = (),
    auth_lists: tuple[str, ...] = (),
    user_line_filter: str = "grep :",
) -> ProxyStack:
    """Plan a generated stack from what is its kind's own."""
    options = host.proxy
    if auth_lists:
        volumes = (*volumes, "./auth:/auth:ro")
    return ProxyStack(
        kind=options.kind,
        name=name,
        host=host.name,
        host_variable=host.variable,
        folder=f"{host.directory}/{name}",
        image=options.image or default_image,
        network=options.network,
        listen=options.listen or "",
        has_tls=options.has_tls,
        email=options.email or "",
        certificates=certificates,
        ports=ports or list_web_ports(options),
        command=command,
        volumes=volumes,
        named_volumes=tuple(volume.partition(":")[0] for volume in volumes if volume[0] not in "./"),
        files=config_files,
        reload=reload_command,
        sites=sites,
        redirects=redirects,
        auth_lists=auth_lists,
        user_line_filter=user_line_filter,
    )
