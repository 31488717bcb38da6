"""Checks the proxy hosts of Nginx Proxy Manager through its API.

The fields: https://github.com/NginxProxyManager/nginx-proxy-manager/tree/develop/backend/schema
"""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from kiwari_ci.plan_model import ProxySite
from kiwari_ci.remote_checks.calls import HttpResponse, fetch_url, is_loopback_url
from kiwari_ci.remote_checks.findings import Finding, FindingGroup
from kiwari_ci.remote_checks.runbook_index import RunbookIndex

ProxyHosts = dict[str, dict[str, Any]]


def fetch_proxy_hosts(url: str, token: str) -> tuple[ProxyHosts, str]:
    """Fetch proxy hosts by domain, or the reason why not; the token leaves this machine only encrypted."""
    if not url:
        return {}, "no --npm URL"
    if not token:
        return {}, "no token in NPM_TOKEN: POST /api/tokens gives one"
    if urlsplit(url).scheme != "https" and not is_loopback_url(url):
        return {}, "the token would travel unencrypted: ssh -N -L 8181:127.0.0.1:81 HOST, --npm http://127.0.0.1:8181"
    address = f"{url.rstrip('/')}/api/nginx/proxy-hosts?expand=certificate"
    return parse_proxy_hosts(fetch_url(address, {"Authorization": f"Bearer {token}"}))


def parse_proxy_hosts(response: HttpResponse) -> tuple[ProxyHosts, str]:
    """Parse the proxy hosts by domain, or return the reason why there are none."""
    if response.status in (401, 403):
        return {}, "Nginx Proxy Manager refuses the token: it lives for a day, POST /api/tokens gives another"
    if response.status != 200:
        reason = f"status {response.status}" if response.status else response.text
        return {}, f"Nginx Proxy Manager: {reason}"
    try:
        hosts = json.loads(response.text)
        return {str(domain): host for host in hosts for domain in host["domain_names"]}, ""
    except (ValueError, TypeError, KeyError, RecursionError):
        return {}, "Nginx Proxy Manager: its answer is no list of proxy hosts"


def check_proxy_host(
    group: FindingGroup, site: ProxySite, proxy: tuple[ProxyHosts, str], runbook: RunbookIndex
) -> Finding:
    """Compare the proxy host of a domain with the runbook's table; `proxy` is the result of `fetch_proxy_hosts`."""
    hosts, reason = proxy
    subject, cure = f"{site.domain} proxy host", runbook.step("proxy_hosts")
    if reason:
        return group.not_asked(subject, reason)
    target = f"http {site.last_route.container} {site.last_route.port}"
    if site.domain not in hosts:
        return group.wrong(subject, "none for this domain", target, cure)
    faults = list(_find_proxy_host_faults(site, hosts[site.domain], target))
    if faults:
        ssl = "Force SSL, HTTP/2" if site.scheme == "https" else "no certificate"
        expected = f"{target}, {ssl}, as the runbook's table has it"
        return group.wrong(subject, "; ".join(faults), expected, cure)
    return group.ok(subject, f"forwards to {target}")


def _find_proxy_host_faults(site: ProxySite, host: dict[str, Any], target: str) -> Iterator[str]:
    actual_target = " ".join(str(host.get(key)) for key in ("forward_scheme", "forward_host", "forward_port"))
    if actual_target != target:
        yield f"forwards to {actual_target}"
    if not host.get("enabled", True):
        yield "disabled"
    yield from _find_ssl_faults(site, host)
    if site.last_route.websocket and not host.get("allow_websocket_upgrade"):
        yield "no WebSockets"
    if host.get("locations"):
        yield "has custom locations, which keep a dead address"
    yield from _find_snippet_faults(site, str(host.get("advanced_config") or ""))
    has_access_list = bool(host.get("access_list_id"))
    if has_access_list and not site.auth_list:
        yield "an access list stands before the health check"
    if site.auth_list and not has_access_list:
        yield f"no access list, where the spec has {site.auth_list}"
    meta = host.get("meta")
    if isinstance(meta, dict) and meta.get("nginx_online") is False:
        yield f"nginx refused it: {meta.get('nginx_err') or 'no words'}"


def _find_ssl_faults(site: ProxySite, host: dict[str, Any]) -> Iterator[str]:
    """Compare the SSL tab with the scheme of the domain."""
    if site.scheme == "http":
        if host.get("ssl_forced"):
            yield "SSL is forced, so that plain HTTP is redirected"
        return
    if not host.get("certificate_id"):
        yield "no certificate"
    if not host.get("ssl_forced"):
        yield "SSL is not forced"
    if not host.get("http2_support"):
        yield "no HTTP/2"


def _find_snippet_faults(site: ProxySite, snippet: str) -> Iterator[str]:
    """Compare the Advanced tab, which leads paths to other services, with the routes."""
    if not site.has_paths:
        if snippet.strip():
            yield "has an Advanced snippet"
        return
    for route in site.routes:
        location = snippet.partition(f"location ~ ^{route.path_regex}(/|$) {{")[2].partition("}")[0]
        is_right = f"set $server {route.container};" in location and f"set $port {route.port};" in location
        if route.path and not is_right:
            yield f"its Advanced snippet does not lead {route.path} to {route.container}"
