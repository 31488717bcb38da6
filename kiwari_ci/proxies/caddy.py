"""Caddy with a generated stack and a generated Caddyfile."""

from kiwari_ci import schema
from kiwari_ci.effective import EffectiveContainer, EffectiveHost
from kiwari_ci.plan import ProxySite, ProxyStack
from kiwari_ci.proxies.base import (
    GENERATED_STACK_KEYS,
    explain_certificate_key,
    list_web_ports,
    plan_generated_stack,
)


class Caddy:
    """Caddy."""

    supported_keys = GENERATED_STACK_KEYS | {"email"}
    name_cache_seconds = 2  # it looks a name up for each connection
    unrouted_statuses: tuple[int, ...] = ()
    has_admin_api = False
    is_on_shared_network = True
    guide_template = ""
    has_one_guide_for_all_hosts = False

    def stack_name(self, options: schema.Proxy) -> str:
        """Its stack is always generated."""
        return options.stack or "caddy"

    def explain_unused_key(self, options: schema.Proxy, key: str) -> str:
        """With plain HTTP there are no certificates."""
        return explain_certificate_key(options, key)

    def explain_unreachable_domain(self, container: EffectiveContainer) -> tuple[str, str] | None:
        """It reaches every container over the shared network."""
        return None

    def labels(self, options: schema.Proxy, domain: str, container_name: str, port: int) -> dict[str, str]:
        """Its Caddyfile says everything."""
        return {}

    def plan_stack(self, host: EffectiveHost, sites: tuple[ProxySite, ...]) -> ProxyStack | None:
        """Plan its stack; over HTTP/3 it answers on a UDP port, too."""
        name = self.stack_name(host.proxy)
        ports = list_web_ports(host.proxy)
        if not host.proxy.listen:
            ports = (*ports, "443:443/udp")
        return plan_generated_stack(
            host,
            name,
            default_image="caddy:2.11-alpine",
            ports=ports,
            # The configuration's folder, not its file: a container keeps the old one of a file that is replaced.
            volumes=("./conf:/etc/caddy:ro", "data:/data", "config:/config"),
            config_files=("conf/Caddyfile",),
            reload_command=f"docker compose exec {name} caddy reload --config /etc/caddy/Caddyfile",
            sites=sites,
        )

    def runs_image(self, image: str) -> bool:
        """Whether a container with this image is the proxy."""
        return "caddy" in image

    def describe_required_version(self, image: str) -> str:
        """Every version will do."""
        return ""
