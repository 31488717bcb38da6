"""Nginx with a generated stack and a generated configuration; a person brings the certificates."""

from kiwari_ci import schema
from kiwari_ci.effective import EffectiveContainer, EffectiveHost
from kiwari_ci.plan import ProxySite, ProxyStack
from kiwari_ci.proxies.base import GENERATED_STACK_KEYS, explain_certificate_key, plan_generated_stack

_DEFAULT_CERTIFICATES = "/etc/letsencrypt"


class Nginx:
    """Nginx."""

    supported_keys = GENERATED_STACK_KEYS | {"certificates"}
    name_cache_seconds = 11  # the generated configuration has `resolver … valid=10s`
    unrouted_statuses: tuple[int, ...] = ()
    has_admin_api = False
    is_on_shared_network = True
    guide_template = ""
    has_one_guide_for_all_hosts = False

    def stack_name(self, options: schema.Proxy) -> str:
        """Its stack is always generated."""
        return options.stack or "nginx"

    def explain_unused_key(self, options: schema.Proxy, key: str) -> str:
        """With plain HTTP there are no certificates."""
        return explain_certificate_key(options, key)

    def explain_unreachable_domain(self, container: EffectiveContainer) -> tuple[str, str] | None:
        """It reaches every container over the shared network."""
        return None

    def labels(self, options: schema.Proxy, domain: str, container_name: str, port: int) -> dict[str, str]:
        """Its configuration says everything."""
        return {}

    def plan_stack(self, host: EffectiveHost, sites: tuple[ProxySite, ...]) -> ProxyStack | None:
        """Plan its stack; with plain HTTP it reads no certificates."""
        name = self.stack_name(host.proxy)
        # The configuration's folder, not its file: a container keeps the old one of a file that is replaced.
        volumes: tuple[str, ...] = ("./conf:/etc/nginx/conf.d:ro",)
        certificates = ""
        if not host.proxy.listen:
            certificates = host.proxy.certificates or _DEFAULT_CERTIFICATES
            volumes += (f"{certificates}:/etc/letsencrypt:ro", "./acme:/var/www/acme:ro")
        return plan_generated_stack(
            host,
            name,
            default_image="nginx:1.30-alpine",
            volumes=volumes,
            certificates=certificates,
            config_files=("conf/default.conf",),
            reload_command=f'docker compose exec {name} sh -c "nginx -t && nginx -s reload"',
            sites=sites,
        )

    def runs_image(self, image: str) -> bool:
        """Whether a container with this image is the proxy."""
        return "nginx" in image

    def describe_required_version(self, image: str) -> str:
        """Every version will do."""
        return ""
