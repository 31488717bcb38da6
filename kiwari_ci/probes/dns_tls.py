"""Domains, as everybody sees them: DNS, TLS, and the health path."""

import errno
import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from kiwari_ci.plan import ComposeContainer
from kiwari_ci.probes.calls import REQUEST_TIMEOUT, describe_error
from kiwari_ci.probes.findings import Finding, FindingGroup
from kiwari_ci.probes.runbook_index import RunbookIndex

MIN_CERTIFICATE_DAYS = 21  # Let's Encrypt's certificates are renewed with 30 days left
UNREACHABLE_ERRORS = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
MISSING_NAME_ERRORS = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
CDN_SERVER_NAMES = ("cloudflare", "cloudfront", "akamaighost", "bunnycdn", "netlify", "vercel", "fastly")
REFERENCE_DOMAIN = "github.com"  # has an address wherever names are known
GATEWAY_ERROR_STATUSES = (502, 503, 504)


def resolve_host_name(name: str) -> list[str]:
    """The addresses of a name, IPv4 first; raises socket.gaierror."""
    found = {str(entry[4][0]) for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
    return sorted(found, key=lambda address: (":" in address, address))


@dataclass(frozen=True)
class NetworkBackend:
    """How names are asked; a test has its own."""

    resolve: Callable[[str], list[str]] = resolve_host_name
    context: Callable[[], ssl.SSLContext] = ssl.create_default_context
    port: int = 443
    now: Callable[[], float] = time.time


@dataclass(frozen=True)
class EndpointResponse:
    """What one address answers: why it could not be asked, what TLS or HTTP failed with, or all that it said."""

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
    """What a domain leads to: addresses and, of one in each family, the answer; or why nobody knows."""

    addresses: tuple[str, ...] = ()
    answers: tuple[EndpointResponse, ...] = ()
    unknown: str = ""


@dataclass(frozen=True)
class HostAddresses:
    """Where a host is, as far as is known; `complete`: it has told all its own addresses itself.

    `unrouted`: what its proxy says, beside SILENT, of a domain before its service is there.
    """

    addresses: frozenset[str] = frozenset()
    complete: bool = False
    unrouted: tuple[int, ...] = ()


def probe_domain(domain: str, path: str, net: NetworkBackend) -> DomainState:
    """Ask for a domain, and each kind of address for its health path."""
    try:
        addresses = net.resolve(domain)
    except socket.gaierror as error:
        return DomainState(unknown=_explain_missing_name(error, net))
    except (OSError, UnicodeError) as error:
        return DomainState(unknown=describe_error(error))
    families = {":" in address: address for address in reversed(addresses)}
    return DomainState(
        tuple(addresses), tuple(_probe_address(address, domain, path, net) for address in families.values())
    )


def _explain_missing_name(error: socket.gaierror, net: NetworkBackend) -> str:
    """Why the lack of a name says nothing: a machine without a network may know of none. Empty: it says a lot."""
    if error.errno not in MISSING_NAME_ERRORS:
        return describe_error(error)
    try:
        net.resolve(REFERENCE_DOMAIN)
    except OSError:
        return f"no names are known here, not {REFERENCE_DOMAIN}'s either"
    return ""


def _probe_address(address: str, domain: str, path: str, net: NetworkBackend) -> EndpointResponse:
    try:
        raw = socket.create_connection((address, net.port), timeout=REQUEST_TIMEOUT)
    except OSError as error:
        why = f"{describe_error(error)} ({address}:{net.port})"
        return (
            EndpointResponse(address, unreachable=why)
            if error.errno in UNREACHABLE_ERRORS
            else EndpointResponse(address, closed=why)
        )
    with raw:
        try:
            secure = net.context().wrap_socket(raw, server_hostname=domain)
        except ssl.SSLCertVerificationError as error:
            return EndpointResponse(address, refused=error.verify_message.rstrip("."))
        except OSError as error:
            return EndpointResponse(address, refused=f"no TLS: {describe_error(error)}")
        with secure:
            return _request_health_path(address, secure, domain, path)


def _request_health_path(address: str, secure: ssl.SSLSocket, domain: str, path: str) -> EndpointResponse:
    certificate = secure.getpeercert() or {}
    expires = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    connection = http.client.HTTPConnection(domain, timeout=REQUEST_TIMEOUT)
    connection.sock = secure
    try:
        connection.request("GET", path, headers={"User-Agent": "kiwari-ci", "Connection": "close"})
        answer = connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        return EndpointResponse(address, expires=expires, silent=describe_error(error))
    headers = {name.lower(): value for name, value in answer.getheaders()}
    return EndpointResponse(address, expires=expires, status=answer.status, headers=headers)


def check_domain(
    group: FindingGroup,
    container: ComposeContainer,
    seen: DomainState,
    place: HostAddresses,
    deployed: bool,
    book: RunbookIndex,
    now: float,
) -> Iterator[Finding]:
    """Hold a domain against the plan; `deployed`: False when it is known that nothing serves yet."""
    domain = container.domain
    if seen.unknown:
        yield group.not_asked(f"{domain} DNS, TLS, {container.health_path}", seen.unknown)
        return
    yield _check_dns(group, domain, seen, place, book)
    if not seen.answers:
        yield group.not_asked(f"{domain} TLS, {container.health_path}", "its name leads nowhere")
    for answer in seen.answers:
        by = f" over {'IPv6' if ':' in answer.address else 'IPv4'}" if len(seen.answers) > 1 else ""
        yield _check_certificate(group, f"{domain} TLS{by}", answer, book, now)
        subject = f"{domain}{container.health_path}{by}"
        if not deployed and (answer.silent or answer.status in (*GATEWAY_ERROR_STATUSES, *place.unrouted)):
            said = answer.silent or answer.status
            yield group.not_asked(subject, f"{said}: nothing was deployed yet; {book.step('first_push')}")
        else:
            yield _check_health(group, subject, container, answer, book)


def _check_dns(
    group: FindingGroup, domain: str, seen: DomainState, place: HostAddresses, book: RunbookIndex
) -> Finding:
    subject, shown = f"{domain} DNS", ", ".join(seen.addresses)
    if not seen.addresses:
        return group.wrong(subject, "no such name", _describe_host_addresses(place), book.step("dns"))
    if cdn := next(filter(None, map(_detect_cdn, seen.answers)), ""):
        return group.ok(subject, f"{shown}, of {cdn}: what it asks cannot be seen from here")
    others = [address for address in seen.addresses if address not in place.addresses]
    if not others:
        return group.ok(subject, shown)
    if all(_is_comparable_address(address, place) for address in others):
        kind = "AAAA" if all(":" in address for address in others) else "A"
        return group.wrong(subject, f"{kind} {', '.join(others)}", _describe_host_addresses(place), book.step("dns"))
    return group.not_asked(subject, f"{shown}: whether that is the host's is not known from here")


def _is_comparable_address(address: str, place: HostAddresses) -> bool:
    """Whether the host would have told of this address, were it its own: behind NAT it does not know the outer one."""
    kinds = {_classify_address(each) for each in place.addresses}
    return _classify_address(address) in kinds or (":" in address and place.complete)


def _classify_address(address: str) -> tuple[int, bool, bool]:
    """A private address says nothing of a public one, nor that of a tunnel's end of either."""
    found = ipaddress.ip_address(address)
    return found.version, found.is_global, found.is_loopback


def _describe_host_addresses(place: HostAddresses) -> str:
    return " or ".join(sorted(place.addresses)) or "the host's address"


def _detect_cdn(answer: EndpointResponse) -> str:
    said = answer.headers.get("server", "").lower()
    return "cloudflare" if "cf-ray" in answer.headers else next((name for name in CDN_SERVER_NAMES if name in said), "")


def _check_certificate(
    group: FindingGroup, subject: str, answer: EndpointResponse, book: RunbookIndex, now: float
) -> Finding:
    if answer.unreachable:
        return group.not_asked(subject, answer.unreachable)
    cure, days = book.step("proxy_hosts"), int((answer.expires - now) // 86400)
    if answer.closed:
        return group.wrong(subject, answer.closed, "the proxy, on port 443, from everywhere", cure)
    if answer.refused:
        return group.wrong(subject, answer.refused, "a certificate that is valid for this name", cure)
    if days < MIN_CERTIFICATE_DAYS:
        return group.wrong(
            subject, f"expires in {days} days", f"at least {MIN_CERTIFICATE_DAYS}: it should renew itself", cure
        )
    return group.ok(subject, f"valid for {days} days")


def _check_health(
    group: FindingGroup, subject: str, container: ComposeContainer, answer: EndpointResponse, book: RunbookIndex
) -> Finding:
    if why := answer.unreachable or answer.closed or answer.refused:
        return group.not_asked(subject, why)
    expected = f"status {container.health_status}" if container.health_status else "an answer of its own"
    any_answer = not container.health_status and answer.status and answer.status not in GATEWAY_ERROR_STATUSES
    if any_answer or answer.status == container.health_status and not answer.silent:
        return group.ok(subject, str(answer.status))
    if answer.silent:
        return group.wrong(subject, answer.silent, expected, book.step("health_endpoints"))
    return group.wrong(subject, *_describe_failed_health(answer, expected, book))


def _describe_failed_health(answer: EndpointResponse, expected: str, book: RunbookIndex) -> tuple[str, str, str]:
    """Saw, expected, cure: by who has answered."""
    if (cdn := _detect_cdn(answer)) and answer.status in (403, 503):
        return f"{answer.status} from {cdn}: its challenge", expected, f"DNS only, no proxying: {book.step('dns')}"
    if 300 <= answer.status < 400:
        to = answer.headers.get("location", "nowhere")
        return f"{answer.status}, a redirect to {to}", expected, "`health:` in the spec: a path that answers itself"
    if answer.status in GATEWAY_ERROR_STATUSES:
        return f"{answer.status}: the proxy answers, the service does not", expected, book.step("proxy_hosts")
    return f"status {answer.status}", expected, book.step("health_endpoints")
