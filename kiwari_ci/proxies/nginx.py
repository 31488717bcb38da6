"""Nginx with a generated stack and a generated configuration; a person brings the certificates."""

from kiwari_ci.effective_spec import EffectiveHost
from kiwari_ci.plan_model import ProxyRedirect, ProxySite, ProxyStack
from kiwari_ci.proxies.base import GENERATED_STACK_KEYS, list_auth_lists, plan_generated_stack
from kiwari_ci.proxies.generated import GeneratedProxy

_DEFAULT_CERTIFICATES = "/etc/letsencrypt"


class Nginx(GeneratedProxy):
    """Nginx."""

    default_stack_name = "nginx"
    supported_keys = GENERATED_STACK_KEYS | {"certificates"}
    name_cache_seconds = 11  # the generated configuration has `resolver … valid=10s`

    def plan_stack(
        self, host: EffectiveHost, sites: tuple[ProxySite, ...], redirects: tuple[ProxyRedirect, ...]
    ) -> ProxyStack | None:
        """Plan its stack; with plain HTTP it reads no certificates."""
        name = self.stack_name(host.proxy)
        # The configuration's folder, not its file: a container keeps the old one of a file that is replaced.
        volumes: tuple[str, ...] = ("./conf:/etc/nginx/conf.d:ro",)
        certificates = ""
        if host.proxy.has_tls:
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
            redirects=redirects,
            auth_lists=list_auth_lists(sites),
        )

    def runs_image(self, image: str) -> bool:
        """Whether a container with this image is the proxy."""
        return "nginx" in image
