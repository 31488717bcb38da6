"""Probes public domains: DNS, TLS unless their scheme is `http`, and the health path."""

import errno
import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from kiwari_ci.plan_model import DomainRedirect, PlannedContainer, PublicRoute
from kiwari_ci.remote_checks.calls import REQUEST_TIMEOUT, describe_error
from kiwari_ci.remote_checks.findings import Finding, FindingGroup
from kiwari_ci.remote_checks.runbook_index import RunbookIndex

MIN_CERTIFICATE_DAYS = 21  # Let's Encrypt's certificates are renewed with 30 days left
UNREACHABLE_ERRORS = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
MISSING_NAME_ERRORS = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
CDN_SERVER_NAMES = ("cloudflare", "cloudfront", "akamaighost", "bunnycdn", "netlify", "vercel", "fastly")
REFERENCE_DOMAIN = "github.com"  # has an address wherever names are known
GATEWAY_ERROR_STATUSES = (502, 503, 504)


def resolve_host_name(name: str) -> list[str]:
    """Resolve a name to its addresses, IPv4 first; raises socket.gaierror."""
    addresses = {str(entry[4][0]) for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
    return sorted(addresses, key=lambda address: (":" in address, address))


@dataclass(frozen=True)
class NetworkBackend:
    """The network, which tests replace."""

    resolve: Callable[[str], list[str]] = resolve_host_name
    context: Callable[[], ssl.SSLContext] = ssl.create_default_context
    port: int = 443
    plain_port: int = 80
    now: Callable[[], float] = time.time


@dataclass(frozen=True)
class EndpointResponse:
    """The response of one address: why it was `unreachable`, `closed`, `refused` TLS or `silent`, or its status."""

    address: str
    unreachable: str = ""
    closed: str = ""
    refused: str = ""
    silent: str = ""
    expires: float = 0
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DomainState:
    """The addresses of a domain and the response of one in each family; or why they are `unknown`."""

    addresses: tuple[str, ...] = ()
    answers: tuple[EndpointResponse, ...] = ()
    unknown: str = ""


@dataclass(frozen=True)
class HostAddresses:
    """The known addresses of a host; `complete` says that the host itself has listed all of its own.

    `unrouted` are the statuses, beside GATEWAY_ERROR_STATUSES, of its proxy for a domain without a service.
    """

    addresses: frozenset[str] = frozenset()
    complete: bool = False
    unrouted: tuple[int, ...] = ()


def probe_domain(scheme: str, domain: str, path: str, net: NetworkBackend) -> DomainState:
    """Resolve a domain, and request the health path from one address of each family."""
    try:
        addresses = net.resolve(domain)
    except socket.gaierror as error:
        return DomainState(unknown=_explain_missing_name(error, net))
    except (OSError, UnicodeError) as error:
        return DomainState(unknown=describe_error(error))
    first_of_family = {":" in address: address for address in reversed(addresses)}
    answers = [_probe_address(address, scheme, domain, path, net) for address in first_of_family.values()]
    return DomainState(tuple(addresses), tuple(answers))


def _explain_missing_name(error: socket.gaierror, net: NetworkBackend) -> str:
    """Why a name that is not found may exist after all; empty when it does not.

    A machine without a network finds no name at all.
    """
    if error.errno not in MISSING_NAME_ERRORS:
        return describe_error(error)
    try:
        net.resolve(REFERENCE_DOMAIN)
    except OSError:
        return f"no names are known here, not {REFERENCE_DOMAIN}'s either"
    return ""


def _probe_address(address: str, scheme: str, domain: str, path: str, net: NetworkBackend) -> EndpointResponse:
    port = net.port if scheme == "https" else net.plain_port
    try:
        raw = socket.create_connection((address, port), timeout=REQUEST_TIMEOUT)
    except OSError as error:
        reason = f"{describe_error(error)} ({address}:{port})"
        if error.errno in UNREACHABLE_ERRORS:
            return EndpointResponse(address, unreachable=reason)
        return EndpointResponse(address, closed=reason)
    with raw:
        if scheme == "http":
            return _request_health_path(address, raw, domain, path, expires=0)
        try:
            secure = net.context().wrap_socket(raw, server_hostname=domain)
        except ssl.SSLCertVerificationError as error:
            return EndpointResponse(address, refused=error.verify_message.rstrip("."))
        except OSError as error:
            return EndpointResponse(address, refused=f"no TLS: {describe_error(error)}")
        with secure:
            certificate = secure.getpeercert() or {}
            expires = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
            return _request_health_path(address, secure, domain, path, expires)


def _request_health_path(
    address: str, connected: socket.socket, domain: str, path: str, expires: float
) -> EndpointResponse:
    connection = http.client.HTTPConnection(domain, timeout=REQUEST_TIMEOUT)
    connection.sock = connected
    try:
        connection.request("GET", path, headers={"User-Agent": "kiwari-ci", "Connection": "close"})
        answer = connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        return EndpointResponse(address, expires=expires, silent=describe_error(error))
    headers = {name.lower(): value for name, value in answer.getheaders()}
    return EndpointResponse(address, expires=expires, status=answer.status, headers=headers)


def check_route(
    group: FindingGroup,
    container: PlannedContainer,
    route: PublicRoute,
    state: DomainState,
    host_addresses: HostAddresses,
    is_deployed: bool,
    runbook: RunbookIndex,
    now: float,
) -> Iterator[Finding]:
    """Compare a public address with the plan; `is_deployed` is False only when it is known that nothing serves yet."""
    domain, path = route.domain, route.health_path or route.path
    connection = _name_connection(route.scheme)
    if state.unknown:
        yield group.not_asked(f"{domain} DNS, {connection}, {path}", state.unknown)
        return
    yield _check_dns(group, domain, state, host_addresses, runbook)
    if not state.answers:
        yield group.not_asked(f"{domain} {connection}, {path}", "its name leads nowhere")
    unrouted_statuses = (*GATEWAY_ERROR_STATUSES, *host_addresses.unrouted)
    for answer in state.answers:
        family = ""
        if len(state.answers) > 1:
            family = " over IPv6" if ":" in answer.address else " over IPv4"
        yield _check_connection(group, route.scheme, f"{domain} {connection}{family}", answer, runbook, now)
        subject = f"{_format_prefix(route.scheme)}{domain}{path}{family}"
        if not is_deployed and (answer.silent or answer.status in unrouted_statuses):
            reason = answer.silent or answer.status
            yield group.not_asked(subject, f"{reason}: nothing was deployed yet; {runbook.step('first_push')}")
        elif not route.health_path:
            yield group.not_asked(subject, "the health path is not below this path")
        else:
            expected_status = int(HTTPStatus.UNAUTHORIZED) if route.auth_list else container.health_status
            yield _check_health(group, subject, expected_status, answer, route.scheme, runbook)


def check_redirect(
    group: FindingGroup,
    redirect: DomainRedirect,
    state: DomainState,
    host_addresses: HostAddresses,
    runbook: RunbookIndex,
    now: float,
) -> Iterator[Finding]:
    """Compare a domain that only redirects with the plan."""
    domain = redirect.domain
    connection = _name_connection(redirect.scheme)
    if state.unknown:
        yield group.not_asked(f"{domain} DNS, {connection}, redirect", state.unknown)
        return
    yield _check_dns(group, domain, state, host_addresses, runbook)
    expected = f"{redirect.scheme}://{redirect.target}/"
    for answer in state.answers:
        yield _check_connection(group, redirect.scheme, f"{domain} {connection}", answer, runbook, now)
        subject = f"{domain} redirect"
        location = answer.headers.get("location", "")
        connection_error = answer.unreachable or answer.closed or answer.refused
        if connection_error:
            yield group.not_asked(subject, connection_error)
        elif location == expected and 300 <= answer.status < 400:
            yield group.ok(subject, f"{answer.status} to {location}")
        else:
            saw = answer.silent or f"{answer.status}, to {location or 'nowhere'}"
            yield group.wrong(subject, saw, expected, runbook.step("proxy_hosts"))


def _check_dns(
    group: FindingGroup, domain: str, state: DomainState, host_addresses: HostAddresses, runbook: RunbookIndex
) -> Finding:
    subject = f"{domain} DNS"
    expected, cure = " or ".join(sorted(host_addresses.addresses)) or "the host's address", runbook.step("dns")
    if not state.addresses:
        return group.wrong(subject, "no such name", expected, cure)
    addresses = ", ".join(state.addresses)
    for cdn in map(_detect_cdn, state.answers):
        if cdn:
            return group.ok(subject, f"{addresses}, of {cdn}: what it asks cannot be seen from here")
    others = [address for address in state.addresses if address not in host_addresses.addresses]
    if not others:
        return group.ok(subject, addresses)
    if all(_is_comparable_address(address, host_addresses) for address in others):
        record_type = "AAAA" if all(":" in address for address in others) else "A"
        return group.wrong(subject, f"{record_type} {', '.join(others)}", expected, cure)
    return group.not_asked(subject, f"{addresses}: whether that is the host's is not known from here")


def _is_comparable_address(address: str, host_addresses: HostAddresses) -> bool:
    """Whether the host would have listed this address if it had it: behind NAT, it does not know its public one."""
    known_classes = {_classify_address(known) for known in host_addresses.addresses}
    is_listed_family = ":" in address and host_addresses.complete
    return is_listed_family or _classify_address(address) in known_classes


def _classify_address(address: str) -> tuple[int, bool, bool]:
    """Addresses of different classes cannot be compared: a private one says nothing about a public one."""
    parsed = ipaddress.ip_address(address)
    return parsed.version, parsed.is_global, parsed.is_loopback


def _detect_cdn(answer: EndpointResponse) -> str:
    if "cf-ray" in answer.headers:
        return "cloudflare"
    server = answer.headers.get("server", "").lower()
    return next((name for name in CDN_SERVER_NAMES if name in server), "")


def _name_connection(scheme: str) -> str:
    """Name what is checked of a connection, before a request is sent."""
    return "TLS" if scheme == "https" else "plain HTTP"


def _format_prefix(scheme: str) -> str:
    """Write what stands before an address that is requested: nothing for HTTPS, which is usual."""
    return "" if scheme == "https" else f"{scheme}://"


def _check_connection(
    group: FindingGroup, scheme: str, subject: str, answer: EndpointResponse, runbook: RunbookIndex, now: float
) -> Finding:
    """Check the certificate, or only that something answers where there is none."""
    if scheme == "https":
        return _check_certificate(group, subject, answer, runbook, now)
    if answer.unreachable:
        return group.not_asked(subject, answer.unreachable)
    if answer.closed:
        return group.wrong(subject, answer.closed, "the proxy, on port 80", runbook.step("proxy_hosts"))
    return group.ok(subject, "the port is open; the spec has `scheme: http`, so no certificate is checked")


def _check_certificate(
    group: FindingGroup, subject: str, answer: EndpointResponse, runbook: RunbookIndex, now: float
) -> Finding:
    if answer.unreachable:
        return group.not_asked(subject, answer.unreachable)
    cure = runbook.step("proxy_hosts")
    if answer.closed:
        return group.wrong(subject, answer.closed, "the proxy, on port 443, from everywhere", cure)
    if answer.refused:
        return group.wrong(subject, answer.refused, "a certificate that is valid for this name", cure)
    days = int((answer.expires - now) // 86400)
    if days < MIN_CERTIFICATE_DAYS:
        expected = f"at least {MIN_CERTIFICATE_DAYS}: it should renew itself"
        return group.wrong(subject, f"expires in {days} days", expected, cure)
    return group.ok(subject, f"valid for {days} days")


def _check_health(
    group: FindingGroup,
    subject: str,
    expected_status: int,
    answer: EndpointResponse,
    scheme: str,
    runbook: RunbookIndex,
) -> Finding:
    connection_error = answer.unreachable or answer.closed or answer.refused
    if connection_error:
        return group.not_asked(subject, connection_error)
    expected = f"status {expected_status}" if expected_status else "an answer of its own"
    if answer.silent:
        return group.wrong(subject, answer.silent, expected, runbook.step("health_endpoints"))
    if _is_healthy(expected_status, answer.status):
        return group.ok(subject, str(answer.status))
    saw, cure = _explain_failed_health(answer, scheme, runbook)
    return group.wrong(subject, saw, expected, cure)


def _is_healthy(expected_status: int, status: int) -> bool:
    """A container without a health status may answer anything, but for the errors that are the proxy's own."""
    if expected_status:
        return status == expected_status
    return status not in GATEWAY_ERROR_STATUSES


def _explain_failed_health(answer: EndpointResponse, scheme: str, runbook: RunbookIndex) -> tuple[str, str]:
    """Find out who has answered: what was seen, and the cure."""
    cdn = _detect_cdn(answer)
    if cdn and answer.status in (403, 503):
        return f"{answer.status} from {cdn}: its challenge", f"DNS only, no proxying: {runbook.step('dns')}"
    if 300 <= answer.status < 400:
        location = answer.headers.get("location", "nowhere")
        return f"{answer.status}, a redirect to {location}", "`health:` in the spec: a path that answers itself"
    if answer.status in GATEWAY_ERROR_STATUSES:
        return f"{answer.status}: the proxy answers, the service does not", runbook.step("proxy_hosts")
    protocol = "HTTPS" if scheme == "https" else "plain HTTP"
    return f"status {answer.status} over {protocol}", runbook.step("health_endpoints")
