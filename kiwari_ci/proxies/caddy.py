"""Caddy with a generated stack and a generated Caddyfile."""

from kiwari_ci.effective_spec import EffectiveHost
from kiwari_ci.plan_model import ProxyRedirect, ProxySite, ProxyStack
from kiwari_ci.proxies.base import GENERATED_STACK_KEYS, list_auth_lists, list_web_ports, plan_generated_stack
from kiwari_ci.proxies.generated import GeneratedProxy


class Caddy(GeneratedProxy):
    """Caddy."""

    default_stack_name = "caddy"
    supported_keys = GENERATED_STACK_KEYS | {"email"}
    name_cache_seconds = 2  # it looks a name up for each connection

    def plan_stack(
        self, host: EffectiveHost, sites: tuple[ProxySite, ...], redirects: tuple[ProxyRedirect, ...]
    ) -> ProxyStack | None:
        """Plan its stack; over HTTP/3 it answers on a UDP port, too."""
        name = self.stack_name(host.proxy)
        ports = list_web_ports(host.proxy)
        if host.proxy.has_tls:
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
            redirects=redirects,
            auth_lists=list_auth_lists(sites),
            user_line_filter='sed -n "s/:/ /p"',  # a blank between name and hash
        )

    def runs_image(self, image: str) -> bool:
        """Whether a container with this image is the proxy."""
        return "caddy" in image
