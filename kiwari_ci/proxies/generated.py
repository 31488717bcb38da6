"""What the proxies have in common whose stack and configuration are generated, both whole."""

from kiwari_ci import schema
from kiwari_ci.effective_spec import EffectiveContainer
from kiwari_ci.proxies.base import UNKNOWN_SWITCH_TEMPLATE, explain_certificate_key, explain_middlewares


class GeneratedProxy:
    """A proxy whose generated configuration lists every domain, on the network that all containers share."""

    default_stack_name: str
    unrouted_statuses: tuple[int, ...] = ()
    has_admin_api = False
    reads_labels = False
    is_on_shared_network = True
    may_lead_beyond_domains = False
    guide_template = ""
    switch_template = UNKNOWN_SWITCH_TEMPLATE
    is_explained_by_takeover = False
    has_one_guide_for_all_hosts = False

    def stack_name(self, options: schema.Proxy) -> str:
        """Its stack is always generated."""
        return options.stack or self.default_stack_name

    def explain_unused_key(self, options: schema.Proxy, key: str) -> str:
        """With plain HTTP there are no certificates."""
        return explain_certificate_key(options, key)

    def explain_unreachable_domain(self, container: EffectiveContainer) -> tuple[str, str] | None:
        """It reaches every container over the shared network."""
        return None

    def explain_unsupported_route(self, container: EffectiveContainer, route: schema.Route) -> tuple[str, str] | None:
        """It has no middlewares; it reads users from a file beside its stack."""
        return explain_middlewares(route)

    def labels(self, container: EffectiveContainer, port: int) -> dict[str, str]:
        """Its configuration says everything."""
        return {}

    def describe_required_version(self, image: str) -> str:
        """Every version will do."""
        return ""
