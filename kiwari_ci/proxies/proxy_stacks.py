"""What stands in front of the services: labels for Traefik, stacks of Caddy, nginx and Traefik."""

from collections.abc import Sequence

from kiwari_ci import schema
from kiwari_ci.effective import EffectiveHost
from kiwari_ci.effective.values import find_published_port
from kiwari_ci.plan import ComposeContainer, ProxySite, ProxyStack, PublishedDomain

# Of what was tried on an engine, with the patches that came since: docs/proxies.md.
_DEFAULT_IMAGES = {"caddy": "caddy:2.11-alpine", "nginx": "nginx:1.30-alpine", "traefik": "traefik:v3.6"}
# For how many seconds each proxy keeps the address that it has found for a container's name, and one more: nginx is
# told 10 (`resolver … valid=10s`), Traefik and Caddy dial a name anew. A published port has no name.
_NAME_CACHE_SECONDS = {"nginx-proxy-manager": 11, "nginx": 11, "traefik": 2, "caddy": 2, "none": 0}
PROXY_CONFIG_FILES = {"caddy": ("conf/Caddyfile",), "nginx": ("conf/default.conf",), "traefik": ()}
_PRIVATE_NETWORKS = "127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16"


def proxy_stack_name(proxy: schema.Proxy) -> str:
    """The stack of a proxy that is generated; none for a proxy that is there already."""
    return proxy.stack or (proxy.kind if proxy.kind in ("caddy", "nginx") else "")


def plan_proxy_sites(host: EffectiveHost, instances: Sequence[ComposeContainer]) -> tuple[ProxySite, ...]:
    """The domains of a host, and where they lead to."""
    scheme = "http://" if host.proxy.listen else ""
    return tuple(
        ProxySite(each.domain, scheme + each.domain, each.container, each.port, each.websocket == "yes")
        for each in instances
        if each.domain
    )


def plan_published_domains(instances: Sequence[ComposeContainer]) -> tuple[PublishedDomain, ...]:
    """The domains of a host without a proxy of ours, and the port of the host that each leads to."""
    return tuple(
        PublishedDomain(each.domain, f"http://127.0.0.1:{find_published_port(each.ports, each.port)}")
        for each in instances
        if each.domain
    )


def build_traefik_labels(host: EffectiveHost, domain: str, container: str, port: int | None) -> dict[str, str]:
    """What tells Traefik of a service: it dials the name, as nginx does, and not the container that has the label.

    The one beside has none for Traefik (bin/deploy sees to it): two that say different things of a router lose it.
    `allownonrunning`: the router stays while the service is being replaced, and whatever its own health check says.
    """
    proxy = host.proxy
    if proxy.kind != "traefik" or not domain:
        return {}
    name = domain.replace(".", "_")  # no domain has one: a changed domain is another router, not a quarrel about one
    router, resolver = f"traefik.http.routers.{name}", find_certificate_resolver(proxy)
    found = {
        "traefik.enable": "true",
        "traefik.docker.allownonrunning": "true",
        f"{router}.rule": f"Host(`{domain}`)",
        f"{router}.entrypoints": find_traefik_entrypoint(proxy),
        f"{router}.tls": "" if resolver or proxy.listen else "true",
        f"{router}.tls.certresolver": resolver,
        f"{router}.middlewares": ",".join(proxy.middlewares or ()),
        f"traefik.http.services.{name}.loadbalancer.server.url": f"http://{container}:{port}",
    }
    return {key: value for key, value in found.items() if value}


def find_name_cache_seconds(proxy: schema.Proxy) -> int:
    """For how many seconds a request may still go to the container that had a name before."""
    return _NAME_CACHE_SECONDS[proxy.kind]


def find_traefik_entrypoint(proxy: schema.Proxy) -> str:
    """Where Traefik takes requests for the services."""
    return proxy.entrypoint or ("web" if proxy.listen else "websecure")


def find_certificate_resolver(proxy: schema.Proxy) -> str:
    """Who gets Traefik's certificates; empty when it has them already, or needs none."""
    return proxy.certresolver or ("letsencrypt" if proxy.stack and not proxy.listen else "")


def plan_proxy_stack(host: EffectiveHost, found: tuple[ProxySite, ...]) -> tuple[ProxyStack, ...]:
    """The proxy of a host whose stack is generated, if there is one."""
    proxy, name = host.proxy, proxy_stack_name(host.proxy)
    if not name:
        return ()
    certificates = (proxy.certificates or "/etc/letsencrypt") if proxy.kind == "nginx" and not proxy.listen else ""
    volumes = _list_proxy_volumes(proxy, certificates)
    return (
        ProxyStack(
            kind=proxy.kind,
            name=name,
            host=host.name,
            host_variable=host.variable,
            folder=f"{host.directory}/{name}",
            image=proxy.image or _DEFAULT_IMAGES[proxy.kind],
            network=proxy.network,
            listen=proxy.listen or "",
            email=proxy.email or "",
            certificates=certificates,
            ports=_list_proxy_ports(proxy),
            command=_build_traefik_command(proxy) if proxy.kind == "traefik" else (),
            volumes=volumes,
            named_volumes=tuple(volume.partition(":")[0] for volume in volumes if volume[0] not in "./"),
            files=PROXY_CONFIG_FILES[proxy.kind],
            reload=_RELOAD_COMMANDS[proxy.kind].format(name=name),
            sites=found if proxy.kind != "traefik" else (),  # its labels say them
        ),
    )


_RELOAD_COMMANDS = {
    "caddy": "docker compose exec {name} caddy reload --config /etc/caddy/Caddyfile",
    "nginx": 'docker compose exec {name} sh -c "nginx -t && nginx -s reload"',
    "traefik": "",
}


def _list_proxy_ports(proxy: schema.Proxy) -> tuple[str, ...]:
    if proxy.listen:
        return (f"{proxy.listen}:80",)
    return ("80:80", "443:443", *(("443:443/udp",) if proxy.kind == "caddy" else ()))


def _list_proxy_volumes(proxy: schema.Proxy, certificates: str) -> tuple[str, ...]:
    """The configuration's folder, not its file: a file that is replaced stays the old one in a container."""
    if proxy.kind == "caddy":
        return ("./conf:/etc/caddy:ro", "data:/data", "config:/config")
    if proxy.kind == "nginx":
        own = (f"{certificates}:/etc/letsencrypt:ro", "./acme:/var/www/acme:ro") if certificates else ()
        return ("./conf:/etc/nginx/conf.d:ro", *own)
    socket = "/var/run/docker.sock:/var/run/docker.sock:ro"
    return (socket,) if proxy.listen else (socket, "certificates:/certificates")


def _build_traefik_command(proxy: schema.Proxy) -> tuple[str, ...]:
    """Traefik's own settings; a kept connection would lead to the address that a container has left."""
    at, resolver = find_traefik_entrypoint(proxy), f"--certificatesresolvers.{find_certificate_resolver(proxy)}.acme"
    words = ["--providers.docker.exposedbydefault=false", "--serverstransport.maxidleconnsperhost=-1"]
    if proxy.listen:
        return (
            *words,
            f"--entrypoints.{at}.address=:80",
            f"--entrypoints.{at}.forwardedheaders.trustedips={_PRIVATE_NETWORKS}",
        )
    words += [
        f"--entrypoints.{at}.address=:443",
        "--entrypoints.plain.address=:80",
        f"--entrypoints.plain.http.redirections.entrypoint.to={at}",
        "--entrypoints.plain.http.redirections.entrypoint.scheme=https",
        f"{resolver}.tlschallenge=true",
        f"{resolver}.storage=/certificates/acme.json",
    ]
    return (*words, *([f"{resolver}.email={proxy.email}"] if proxy.email else []))
