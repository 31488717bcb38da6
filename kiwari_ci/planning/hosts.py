"""What the runbook says of all hosts: the domains of their proxies, and the accessories that keep running."""

from collections.abc import Collection

from kiwari_ci.plan_model import DeployHost, LongRunningAccessories, ProxyGuide, ProxySite, Takeover
from kiwari_ci.proxies.all_proxies import find_planned_proxy
from kiwari_ci.proxies.base import list_auth_lists

_STACK_GUIDE_TEMPLATE = "proxy/stack.md.j2"


def plan_proxy_guides(hosts: tuple[DeployHost, ...], takeovers: Collection[Takeover]) -> tuple[ProxyGuide, ...]:
    """Plan what the runbook says of the domains of proxies.

    What concerns all hosts with one kind of proxy and one scheme comes first, then each host by itself. Addresses of
    which the takeovers say what to do are left out where there is nothing more to say.
    """
    serving_environments = [takeover.environment for takeover in takeovers]
    led_later = {led.address for takeover in takeovers for led in (*takeover.led_elsewhere, *takeover.led_to_stopped)}
    led = led_later | {each.address for takeover in takeovers for each in takeover.led_by_name}
    shared_hosts: dict[tuple[str, str], list[DeployHost]] = {}
    own_hosts: list[tuple[str, list[DeployHost]]] = []
    for host in hosts:
        proxy = find_planned_proxy(host.proxy)
        if proxy.has_one_guide_for_all_hosts:
            shared_hosts.setdefault((proxy.guide_template, host.scheme), []).append(host)
        else:
            own_hosts += [(_STACK_GUIDE_TEMPLATE, [host])] if host.fronts else []
            own_hosts += [(proxy.guide_template, [host])] if proxy.guide_template else []
    guided_hosts = [(template, same_hosts) for (template, _), same_hosts in shared_hosts.items()]
    guides = [
        _plan_proxy_guide(template, same_hosts, serving_environments, led, led_later)
        for template, same_hosts in (*guided_hosts, *own_hosts)
    ]
    return tuple(guide for guide in guides if guide.sites or guide.redirects or guide.stack)


def _plan_proxy_guide(
    template: str,
    hosts: list[DeployHost],
    serving_environments: Collection[str],
    led_addresses: Collection[str],
    led_later: Collection[str],
) -> ProxyGuide:
    sites = tuple(site for host in hosts for site in host.sites)
    proxy = find_planned_proxy(hosts[0].proxy)
    if proxy.is_explained_by_takeover:
        sites = tuple(site for site in sites if not all(route.address in led_addresses for route in site.routes))
    return ProxyGuide(
        template=template,
        host=hosts[0].name,
        scheme=hosts[0].scheme,
        network=hosts[0].network,
        is_serving=any(stack.environment in serving_environments for host in hosts for stack in host.stacks),
        serving_domains=_list_serving_domains(sites, hosts, serving_environments),
        led_later=() if proxy.reads_labels else _list_addresses(sites, led_later),
        sites=sites,
        redirects=tuple(redirect for host in hosts for redirect in host.redirects),
        stack=hosts[0].fronts if template == _STACK_GUIDE_TEMPLATE else (),
        auth_lists=() if hosts[0].fronts else list_auth_lists(sites),
        is_generated=bool(hosts[0].fronts),
    )


def _list_serving_domains(
    sites: tuple[ProxySite, ...], hosts: list[DeployHost], serving_environments: Collection[str]
) -> tuple[str, ...]:
    """List the domains that lead to a container of an environment that serves today."""
    stacks = [stack for host in hosts for stack in host.stacks if stack.environment in serving_environments]
    containers = {container.container for stack in stacks for container in stack.containers}
    return tuple(site.domain for site in sites if any(route.container in containers for route in site.routes))


def _list_addresses(sites: tuple[ProxySite, ...], led_addresses: Collection[str]) -> tuple[str, ...]:
    return tuple(route.address for site in sites for route in site.routes if route.address in led_addresses)


def list_long_running(host: DeployHost) -> tuple[LongRunningAccessories, ...]:
    """List the stacks of a host whose accessories keep running, for the commands that renew them."""
    long_running = []
    for stack in host.stacks:
        names = tuple(accessory.container for accessory in stack.accessories if not accessory.once)
        if names:
            long_running.append(LongRunningAccessories(host.variable, f"{host.folder}/{stack.name}", names))
    return tuple(long_running)
