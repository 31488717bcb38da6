"""Nginx Proxy Manager, which a person has set up and where a person clicks; the runbook says what."""

from kiwari_ci import schema
from kiwari_ci.effective import EffectiveContainer, EffectiveHost
from kiwari_ci.plan import ProxyRedirect, ProxySite, ProxyStack


class NginxProxyManager:
    """Nginx Proxy Manager."""

    supported_keys: frozenset[str] = frozenset()
    name_cache_seconds = 11  # its nginx keeps an address for 10 seconds
    unrouted_statuses: tuple[int, ...] = ()
    has_admin_api = True
    reads_labels = False
    is_on_shared_network = True
    guide_template = "proxy/nginx-proxy-manager.md.j2"
    has_one_guide_for_all_hosts = True

    def stack_name(self, options: schema.Proxy) -> str:
        """A person has set it up."""
        return ""

    def explain_unused_key(self, options: schema.Proxy, key: str) -> str:
        """It takes no key."""
        return ""

    def explain_unreachable_domain(self, container: EffectiveContainer) -> tuple[str, str] | None:
        """It reaches every container over the shared network."""
        return None

    def labels(self, container: EffectiveContainer, port: int) -> dict[str, str]:
        """It reads no labels."""
        return {}

    def plan_stack(
        self, host: EffectiveHost, sites: tuple[ProxySite, ...], redirects: tuple[ProxyRedirect, ...]
    ) -> ProxyStack | None:
        """A person has set it up."""
        return None

    def runs_image(self, image: str) -> bool:
        """Whether a container with this image is the proxy."""
        return "nginx-proxy-manager" in image

    def describe_required_version(self, image: str) -> str:
        """Every version will do."""
        return ""
