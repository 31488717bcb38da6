"""Traefik, which reads where domains lead from the labels of the containers; its stack may be generated."""

import re

from kiwari_ci import schema
from kiwari_ci.effective_spec import EffectiveContainer, EffectiveHost
from kiwari_ci.plan_model import ProxyRedirect, ProxySite, ProxyStack
from kiwari_ci.proxies.base import GENERATED_STACK_KEYS, explain_certificate_key, list_auth_lists, plan_generated_stack

OLDEST_VERSION = (3, 6)  # the first that knows the label `allownonrunning`
_PRIVATE_NETWORKS = "127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16"
_DOCKER_SOCKET = "/var/run/docker.sock:/var/run/docker.sock:ro"


class Traefik:
    """Traefik."""

    supported_keys = GENERATED_STACK_KEYS | {"email", "entrypoint", "certresolver", "middlewares"}
    name_cache_seconds = 2  # it looks a name up for each connection
    unrouted_statuses: tuple[int, ...] = (404,)
    has_admin_api = False
    reads_labels = True
    is_on_shared_network = True
    may_lead_beyond_domains = True  # by labels of the user's own
    is_explained_by_takeover = False
    guide_template = "proxy/traefik.md.j2"
    switch_template = "proxy/switch-traefik.md.j2"
    has_one_guide_for_all_hosts = False

    def stack_name(self, options: schema.Proxy) -> str:
        """It is there already unless the spec names a stack."""
        return options.stack or ""

    def explain_unused_key(self, options: schema.Proxy, key: str) -> str:
        """With plain HTTP there are no certificates; some keys are for a generated stack."""
        if explain_certificate_key(options, key):
            return explain_certificate_key(options, key)
        if key in ("email", "image") and not options.stack:
            return "is for a Traefik that is generated: `stack: traefik`"
        return ""

    def explain_unreachable_domain(self, container: EffectiveContainer) -> tuple[str, str] | None:
        """It reaches every container over the shared network."""
        return None

    def explain_unsupported_route(self, container: EffectiveContainer, route: schema.Route) -> tuple[str, str] | None:
        """It can do everything."""
        return None

    def labels(self, container: EffectiveContainer, port: int) -> dict[str, str]:
        """The labels of a router for each public address, and of one service.

        The service has the container's name as its address, so that Traefik looks it up as nginx does, and follows
        a deploy. The temporary container has no such labels (the host program leaves them out): Traefik drops a router
        that two containers define differently. With `allownonrunning` the router stays while the container is being
        replaced, and whatever its own health check says.
        """
        options = container.environment.hosts_with("compose")[0].proxy
        host_name = container.container_name
        # A dot separates the parts of a label.
        service = host_name.replace(".", "_2e")
        labels = {"traefik.enable": "true", "traefik.docker.allownonrunning": "true"}
        for route in container.routes:
            labels |= _list_router_labels(options, route, service)
        for domain, target in container.redirects.items():
            labels |= _list_redirect_labels(options, domain, target, service)
        labels[f"traefik.http.services.{service}.loadbalancer.server.url"] = f"http://{host_name}:{port}"
        return labels

    def plan_stack(
        self, host: EffectiveHost, sites: tuple[ProxySite, ...], redirects: tuple[ProxyRedirect, ...]
    ) -> ProxyStack | None:
        """Plan its stack, where the spec names one; the labels say where domains lead."""
        name = self.stack_name(host.proxy)
        if not name:
            return None
        return plan_generated_stack(
            host,
            name,
            default_image="traefik:v3.6",
            command=_build_command(host.proxy),
            volumes=(_DOCKER_SOCKET, "certificates:/certificates") if host.proxy.has_tls else (_DOCKER_SOCKET,),
            auth_lists=list_auth_lists(sites),
        )

    def runs_image(self, image: str) -> bool:
        """Whether a container with this image is the proxy."""
        return "traefik" in image

    def describe_required_version(self, image: str) -> str:
        """Describe the oldest version that knows the labels, when the image has an older one."""
        version = re.search(r"traefik:v?(\d+)\.(\d+)", image)
        if version and (int(version[1]), int(version[2])) < OLDEST_VERSION:
            return "Traefik 3.6 or newer, which knows the labels"
        return ""


def _list_router_labels(options: schema.Proxy, route: schema.Route, service: str) -> dict[str, str]:
    """The labels of the router for one address, and of its middlewares."""
    name = _format_router_name(service, route.domain, route.path or "")
    middlewares = [*(options.middlewares or ()), *(route.middlewares or ())]
    rule = f"Host(`{route.domain}`)"
    definitions = {}
    if route.basic_auth and not options.stack:
        middlewares.append(f"{route.basic_auth}@file")
    elif route.basic_auth:
        middlewares.append(f"{name}-users")
        definitions[f"traefik.http.middlewares.{name}-users.basicauth.usersfile"] = f"/auth/{route.basic_auth}"
    if route.path:
        rule += f" && (Path(`{route.path}`) || PathPrefix(`{route.path}/`))"
    if route.path and route.strip_path:
        middlewares.append(f"{name}-strip")
        definitions[f"traefik.http.middlewares.{name}-strip.stripprefix.prefixes"] = route.path
    return _define_router(options, name, rule, middlewares) | definitions


def _list_redirect_labels(options: schema.Proxy, domain: str, target: str, service: str) -> dict[str, str]:
    """The labels of the router for a domain that only redirects."""
    name = _format_router_name(service, domain, "")
    redirect = f"traefik.http.middlewares.{name}-redirect.redirectregex"
    return _define_router(options, name, f"Host(`{domain}`)", [f"{name}-redirect"]) | {
        f"{redirect}.regex": "^https?://[^/]+/(.*)",
        f"{redirect}.replacement": f"{options.scheme}://{target}/${{1}}",
        f"{redirect}.permanent": "true",
    }


def _define_router(options: schema.Proxy, name: str, rule: str, middlewares: list[str]) -> dict[str, str]:
    router = f"traefik.http.routers.{name}"
    resolver = _find_certificate_resolver(options)
    labels = {
        f"{router}.rule": rule,
        f"{router}.entrypoints": _find_entrypoint(options),
        f"{router}.tls": "true" if options.has_tls and not resolver else "",
        f"{router}.tls.certresolver": resolver,
        f"{router}.middlewares": ",".join(middlewares),
    }
    return {label: value for label, value in labels.items() if value}


def _format_router_name(service: str, domain: str, path: str) -> str:
    """Name a router by its container and its address.

    All stacks of a host share one list of routers, and Traefik drops a name that two containers define differently.
    A container's name is there only once. Another address is another router, so that the old container and the new one
    do not define one router differently while a deploy replaces them.
    """
    segments = [re.sub(r"[^A-Za-z0-9-]", _escape_path_character, part) for part in path.split("/")]
    return "__".join([f"{service}_{domain.replace('.', '_')}", *segments[1:]])


def _escape_path_character(match: re.Match[str]) -> str:
    return f"_{ord(match[0]):02x}"


def _find_entrypoint(options: schema.Proxy) -> str:
    """Name the entrypoint that takes requests for the services."""
    return options.entrypoint or ("websecure" if options.has_tls else "web")


def _find_certificate_resolver(options: schema.Proxy) -> str:
    """Name what gets the certificates; empty when Traefik has them already, or needs none."""
    is_generated_with_https = bool(options.stack) and options.has_tls
    return options.certresolver or ("letsencrypt" if is_generated_with_https else "")


def _build_command(options: schema.Proxy) -> tuple[str, ...]:
    """List the options of a generated Traefik.

    Connections are not kept open, for they would lead to the address that a container had before a deploy.
    """
    entrypoint = f"--entrypoints.{_find_entrypoint(options)}"
    words = ["--providers.docker.exposedbydefault=false", "--serverstransport.maxidleconnsperhost=-1"]
    if not options.has_tls:
        words.append(f"{entrypoint}.address=:80")
        if options.listen:
            words.append(f"{entrypoint}.forwardedheaders.trustedips={_PRIVATE_NETWORKS}")
        return tuple(words)
    resolver = f"--certificatesresolvers.{_find_certificate_resolver(options)}.acme"
    words += [
        f"{entrypoint}.address=:443",
        "--entrypoints.plain.address=:80",
        f"--entrypoints.plain.http.redirections.entrypoint.to={_find_entrypoint(options)}",
        "--entrypoints.plain.http.redirections.entrypoint.scheme=https",
        f"{resolver}.tlschallenge=true",
        f"{resolver}.storage=/certificates/acme.json",
    ]
    if options.email:
        words.append(f"{resolver}.email={options.email}")
    return tuple(words)
