"""Somebody else's proxy, which leads to ports that the host publishes."""

from kiwari_ci import schema
from kiwari_ci.effective import EffectiveContainer, EffectiveHost
from kiwari_ci.effective.values import find_published_port
from kiwari_ci.plan import ProxyRedirect, ProxySite, ProxyStack


class ExternalProxy:
    """A proxy of which nothing is known."""

    supported_keys: frozenset[str] = frozenset()
    name_cache_seconds = 0  # a published port has no name
    unrouted_statuses: tuple[int, ...] = ()
    has_admin_api = False
    reads_labels = False
    is_on_shared_network = False
    guide_template = "proxy/external.md.j2"
    has_one_guide_for_all_hosts = False

    def stack_name(self, options: schema.Proxy) -> str:
        """Somebody else has set it up."""
        return ""

    def explain_unused_key(self, options: schema.Proxy, key: str) -> str:
        """It takes no key."""
        return ""

    def explain_unreachable_domain(self, container: EffectiveContainer) -> tuple[str, str] | None:
        """A domain leads to a port that the host publishes, so there must be one."""
        port = container.options.port
        if not port or find_published_port(container.options.ports or (), port):
            return None
        reason = (
            f"environments.{container.environment.name} has a domain for {container.name}, and its host has no proxy"
        )
        publishing = f"{container.table}.{container.name}.ports: ['127.0.0.1:{port}:{port}'], where another proxy leads"
        return reason, f"{publishing}; or `kind: caddy` for the host; or leave out the domain"

    def labels(self, container: EffectiveContainer, port: int) -> dict[str, str]:
        """Nothing is known of the labels that it reads."""
        return {}

    def plan_stack(
        self, host: EffectiveHost, sites: tuple[ProxySite, ...], redirects: tuple[ProxyRedirect, ...]
    ) -> ProxyStack | None:
        """Somebody else has set it up."""
        return None

    def runs_image(self, image: str) -> bool:
        """Nothing is known of its image."""
        return False

    def describe_required_version(self, image: str) -> str:
        """Nothing is known of its versions."""
        return ""
