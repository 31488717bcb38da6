"""Domains, as everybody sees them: DNS, TLS, and the health path."""

import errno
import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from kiwari_ci.plan import Container
from kiwari_ci.probes.calls import PATIENCE, words
from kiwari_ci.probes.findings import Finding, Group, Runbook

DAYS = 21  # Let's Encrypt's certificates are renewed with 30 days left
UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
NOT_THERE = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
CDNS = ("cloudflare", "cloudfront", "akamaighost", "bunnycdn", "netlify", "vercel", "fastly")
SURE = "github.com"  # has an address wherever names are known
SILENT = (502, 503, 504)


def resolve(name: str) -> list[str]:
    """The addresses of a name, IPv4 first; raises socket.gaierror."""
    found = {str(entry[4][0]) for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
    return sorted(found, key=lambda address: (":" in address, address))


@dataclass(frozen=True)
class Net:
    """How names are asked; a test has its own."""

    resolve: Callable[[str], list[str]] = resolve
    context: Callable[[], ssl.SSLContext] = ssl.create_default_context
    port: int = 443
    now: Callable[[], float] = time.time


@dataclass(frozen=True)
class Answer:
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
class Seen:
    """What a domain leads to: addresses and, of one in each family, the answer; or why nobody knows."""

    addresses: tuple[str, ...] = ()
    answers: tuple[Answer, ...] = ()
    unknown: str = ""


@dataclass(frozen=True)
class Place:
    """Where a host is, as far as is known; `complete`: it has told all its own addresses itself.

    `unrouted`: what its proxy says, beside SILENT, of a domain before its service is there.
    """

    addresses: frozenset[str] = frozenset()
    complete: bool = False
    unrouted: tuple[int, ...] = ()


def look(domain: str, path: str, net: Net) -> Seen:
    """Ask for a domain, and each kind of address for its health path."""
    try:
        addresses = net.resolve(domain)
    except socket.gaierror as error:
        return Seen(unknown=_no_names(error, net))
    except (OSError, UnicodeError) as error:
        return Seen(unknown=words(error))
    families = {":" in address: address for address in reversed(addresses)}
    return Seen(tuple(addresses), tuple(_answer(address, domain, path, net) for address in families.values()))


def _no_names(error: socket.gaierror, net: Net) -> str:
    """Why the lack of a name says nothing: a machine without a network may know of none. Empty: it says a lot."""
    if error.errno not in NOT_THERE:
        return words(error)
    try:
        net.resolve(SURE)
    except OSError:
        return f"no names are known here, not {SURE}'s either"
    return ""


def _answer(address: str, domain: str, path: str, net: Net) -> Answer:
    try:
        raw = socket.create_connection((address, net.port), timeout=PATIENCE)
    except OSError as error:
        why = f"{words(error)} ({address}:{net.port})"
        return Answer(address, unreachable=why) if error.errno in UNREACHABLE else Answer(address, closed=why)
    with raw:
        try:
            secure = net.context().wrap_socket(raw, server_hostname=domain)
        except ssl.SSLCertVerificationError as error:
            return Answer(address, refused=error.verify_message.rstrip("."))
        except OSError as error:
            return Answer(address, refused=f"no TLS: {words(error)}")
        with secure:
            return _ask(address, secure, domain, path)


def _ask(address: str, secure: ssl.SSLSocket, domain: str, path: str) -> Answer:
    certificate = secure.getpeercert() or {}
    expires = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    connection = http.client.HTTPConnection(domain, timeout=PATIENCE)
    connection.sock = secure
    try:
        connection.request("GET", path, headers={"User-Agent": "kiwari-ci", "Connection": "close"})
        answer = connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        return Answer(address, expires=expires, silent=words(error))
    headers = {name.lower(): value for name, value in answer.getheaders()}
    return Answer(address, expires=expires, status=answer.status, headers=headers)


def judge(
    group: Group, container: Container, seen: Seen, place: Place, deployed: bool, book: Runbook, now: float
) -> Iterator[Finding]:
    """Hold a domain against the plan; `deployed`: False when it is known that nothing serves yet."""
    domain = container.domain
    if seen.unknown:
        yield group.not_asked(f"{domain} DNS, TLS, {container.health_path}", seen.unknown)
        return
    yield _dns(group, domain, seen, place, book)
    if not seen.answers:
        yield group.not_asked(f"{domain} TLS, {container.health_path}", "its name leads nowhere")
    for answer in seen.answers:
        by = f" over {'IPv6' if ':' in answer.address else 'IPv4'}" if len(seen.answers) > 1 else ""
        yield _tls(group, f"{domain} TLS{by}", answer, book, now)
        subject = f"{domain}{container.health_path}{by}"
        if not deployed and (answer.silent or answer.status in (*SILENT, *place.unrouted)):
            said = answer.silent or answer.status
            yield group.not_asked(subject, f"{said}: nothing was deployed yet; {book.step('First push')}")
        else:
            yield _health(group, subject, container, answer, book)


def _dns(group: Group, domain: str, seen: Seen, place: Place, book: Runbook) -> Finding:
    subject, shown = f"{domain} DNS", ", ".join(seen.addresses)
    if not seen.addresses:
        return group.wrong(subject, "no such name", _where(place), book.step("DNS"))
    if cdn := next(filter(None, map(_cdn, seen.answers)), ""):
        return group.ok(subject, f"{shown}, of {cdn}: what it asks cannot be seen from here")
    others = [address for address in seen.addresses if address not in place.addresses]
    if not others:
        return group.ok(subject, shown)
    if all(_comparable(address, place) for address in others):
        kind = "AAAA" if all(":" in address for address in others) else "A"
        return group.wrong(subject, f"{kind} {', '.join(others)}", _where(place), book.step("DNS"))
    return group.not_asked(subject, f"{shown}: whether that is the host's is not known from here")


def _comparable(address: str, place: Place) -> bool:
    """Whether the host would have told of this address, were it its own: behind NAT it does not know the outer one."""
    kinds = {_kind(each) for each in place.addresses}
    return _kind(address) in kinds or (":" in address and place.complete)


def _kind(address: str) -> tuple[int, bool, bool]:
    """A private address says nothing of a public one, nor that of a tunnel's end of either."""
    found = ipaddress.ip_address(address)
    return found.version, found.is_global, found.is_loopback


def _where(place: Place) -> str:
    return " or ".join(sorted(place.addresses)) or "the host's address"


def _cdn(answer: Answer) -> str:
    said = answer.headers.get("server", "").lower()
    return "cloudflare" if "cf-ray" in answer.headers else next((name for name in CDNS if name in said), "")


def _tls(group: Group, subject: str, answer: Answer, book: Runbook, now: float) -> Finding:
    if answer.unreachable:
        return group.not_asked(subject, answer.unreachable)
    cure, days = book.step("Proxy hosts"), int((answer.expires - now) // 86400)
    if answer.closed:
        return group.wrong(subject, answer.closed, "the proxy, on port 443, from everywhere", cure)
    if answer.refused:
        return group.wrong(subject, answer.refused, "a certificate that is valid for this name", cure)
    if days < DAYS:
        return group.wrong(subject, f"expires in {days} days", f"at least {DAYS}: it should renew itself", cure)
    return group.ok(subject, f"valid for {days} days")


def _health(group: Group, subject: str, container: Container, answer: Answer, book: Runbook) -> Finding:
    if why := answer.unreachable or answer.closed or answer.refused:
        return group.not_asked(subject, why)
    expected = f"status {container.health_status}" if container.health_status else "an answer of its own"
    any_answer = not container.health_status and answer.status and answer.status not in SILENT
    if any_answer or answer.status == container.health_status and not answer.silent:
        return group.ok(subject, str(answer.status))
    if answer.silent:
        return group.wrong(subject, answer.silent, expected, book.step("Health endpoints"))
    return group.wrong(subject, *_unhealthy(answer, expected, book))


def _unhealthy(answer: Answer, expected: str, book: Runbook) -> tuple[str, str, str]:
    """Saw, expected, cure: by who has answered."""
    if (cdn := _cdn(answer)) and answer.status in (403, 503):
        return f"{answer.status} from {cdn}: its challenge", expected, f"DNS only, no proxying: {book.step('DNS')}"
    if 300 <= answer.status < 400:
        to = answer.headers.get("location", "nowhere")
        return f"{answer.status}, a redirect to {to}", expected, "`health:` in the spec: a path that answers itself"
    if answer.status in SILENT:
        return f"{answer.status}: the proxy answers, the service does not", expected, book.step("Proxy hosts")
    return f"status {answer.status}", expected, book.step("Health endpoints")
