"""Domains: assigns each domain that the repository names to a service and an environment."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from kiwari_ci.commands.init.environments import DetectedEnvironment
from kiwari_ci.commands.init.services import DetectedService
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.proxy_config import ProxyRoute
from kiwari_ci.readers.vocabulary import SourcedValue

_THIRD_PARTY_DOMAIN = re.compile(
    r"(^|\.)(github|githubusercontent|docker|ghcr|slack|discord|discordapp|telegram|googleapis|google|amazonaws|sentry"
    r"|codecov|npmjs|golang|cloudflare|letsencrypt|microsoft|azure|gitlab|nodesource|astral|rustup|schemastore|w3)\.(com|io|org|net|sh|rs|dev)$"
)


_OWN_ADDRESS_KEY = re.compile(
    r"ORIGIN|(APP|SITE|BASE|PUBLIC|FRONTEND|NEXTAUTH|AUTH)_(URL|DOMAIN|HOST)|DOMAIN|NEXT_PUBLIC_(APP|SITE|BASE)_URL"
)
_LOOPBACK = re.compile(r"127\.0\.0\.1|localhost|0\.0\.0\.0")
_SERVICE_SYNONYMS = (
    {"api", "backend", "server"},
    {"web", "www", "frontend", "client", "app", "ui"},
    {"dashboard", "backoffice", "console"},
)


@dataclass(frozen=True)
class _DomainMention:
    """A place that names a domain, with the service and the kind of environment, which are empty if unknown."""

    domain: str
    service: str
    kind: str
    where: str
    path: str = ""  # of its address, where a router's rule has one
    strips_path: bool = False

    @property
    def address(self) -> str:
        """The domain with its path, as the spec writes it."""
        return f"{self.domain}{self.path}"


@dataclass(frozen=True)
class PlainHttp:
    """Find where a file says that clients use plain HTTP for all domains, or name the domains of which it says so."""

    where: str = ""
    unsupported: str = ""


@dataclass(frozen=True)
class DomainAssignment:
    """The addresses by environment and service, and notes on those that could not be assigned.

    `further`: more paths of the same domain that lead to the same service, as its own labels say.
    `stripped`: the addresses whose path the proxy takes away.
    """

    domains: dict[tuple[str, str], SourcedValue]
    further: dict[tuple[str, str], list[SourcedValue]]
    unknown: list[str]
    stripped: set[str]


def assign_domains(
    services: list[DetectedService], environments: list[DetectedEnvironment], routes: list[ProxyRoute]
) -> DomainAssignment:
    """The domain of each service in each environment."""
    ranked = []
    for mention in _collect_domains(services, environments, routes):
        rank, service_name = _match_service(mention.domain, mention.service, services)
        ranked.append((rank, service_name, mention))
    ranked.sort(key=lambda entry: entry[0])
    assigned: dict[tuple[str, str], SourcedValue] = {}
    further: dict[tuple[str, str], list[SourcedValue]] = {}
    stripped: set[str] = set()
    unknown: dict[str, str] = {}
    for _, service_name, mention in ranked:
        is_assigned = any(domain.value == mention.address for domain in assigned.values())
        if is_assigned or _THIRD_PARTY_DOMAIN.search(mention.domain):
            continue
        environment = _match_environment(mention.domain, mention.kind, environments)
        place = (environment.name, service_name) if environment else ("", "")
        first = assigned.get(place)
        if first and mention.service and mention.path and str(first.value).startswith(f"{mention.domain}/"):
            addresses = further.setdefault(place, [])
            if all(address.value != mention.address for address in addresses):
                addresses.append(SourcedValue(mention.address, mention.where))
            continue
        if not service_name or not environment or first:
            message = f"the domain {mention.address} ({mention.where})"
            unknown.setdefault(message, mention.address)
        else:
            value = SourcedValue(mention.address, mention.where, guess=not mention.service)
            assigned[environment.name, service_name] = value
            if mention.strips_path:
                stripped.add(mention.address)
    assigned_domains = {str(domain.value) for domain in assigned.values()}
    left_out = [message for message, domain in unknown.items() if domain not in assigned_domains]
    return DomainAssignment(assigned, further, left_out, stripped)


def find_plain_http(
    services: list[DetectedService],
    environments: list[DetectedEnvironment],
    routes: list[ProxyRoute],
    addresses: Iterable[SourcedValue],
) -> PlainHttp:
    """Find out whether the proxy has no certificates, and nothing in front of it adds TLS."""
    domains = {str(address.value).partition("/")[0] for address in addresses}
    routes_by_domain = {domain: [route for route in routes if route.domain == domain] for domain in sorted(domains)}
    plain = [
        own_routes[0]
        for own_routes in routes_by_domain.values()
        if own_routes and all(route.is_plain_http for route in own_routes)
    ]
    if not plain:
        return PlainHttp()
    https_domains = _find_https_domains(services, environments)
    if any(route.domain in https_domains for route in plain):
        return PlainHttp()
    places = [f"http://{route.domain} ({route.where})" for route in plain]
    if len(plain) < len(routes_by_domain):
        reason = "`scheme: http` is for all domains of a host, and the others have certificates"
        return PlainHttp(unsupported=f"{', '.join(places)}: {reason}")
    return PlainHttp(where=min(route.where for route in plain))


def _find_https_domains(services: list[DetectedService], environments: list[DetectedEnvironment]) -> set[str]:
    """The domains that a workflow or a variable writes with `https://`."""
    texts = [str(url.value) for environment in environments for url in environment.urls]
    for service in services:
        for _, container in service.containers:
            texts += [value for _, value, _ in (*container.env, *container.example_env) if value]
    return {domain for text in texts if text.startswith("https://") for domain in vocabulary.find_domains(text)}


def _collect_domains(
    services: list[DetectedService], environments: list[DetectedEnvironment], routes: list[ProxyRoute]
) -> list[_DomainMention]:
    """Collect every domain that Compose files, proxies, workflows and variables name."""
    mentions: list[_DomainMention] = []
    service_names: dict[str, str] = {}
    published: dict[int, tuple[str, str]] = {}  # on the host: the service, and the kind of environment
    for service in services:
        service_names[service.name] = service.name
        for compose_file, container in service.containers:
            service_names[container.name] = service.name
            if container.container_name:
                service_names[str(container.container_name.value)] = service.name
            for port in container.published:
                published[port] = (service.name, compose_file.kind)
            for domain in container.domains:
                name, slash, path = str(domain.value).partition("/")
                mention = _DomainMention(
                    name,
                    service.name,
                    compose_file.kind,
                    domain.where,
                    f"{slash}{path}",
                    domain.value in container.stripped_addresses,
                )
                mentions.append(mention)
    for route in routes:
        target = published.get(route.port) if _LOOPBACK.fullmatch(route.container) else None
        if not target:
            target = service_names.get(route.container, ""), vocabulary.classify_environment(route.where)
        if target[0] or not route.path:
            mention = _DomainMention(route.domain, *target, route.where, route.path, route.strips_path)
            mentions.append(mention)
    for environment in environments:
        for url in environment.urls:
            for name in vocabulary.find_domains(_extract_hostname(str(url.value))):
                mentions.append(_DomainMention(name, "", environment.kind, url.where))
    for service in services:
        for compose_file, container in service.containers:
            mentions += _find_env_domains(service, container.env, "")
            mentions += _find_env_domains(service, container.example_env, compose_file.kind)
    return mentions


def _find_env_domains(
    service: DetectedService, env: Iterable[tuple[str, str | None, str]], kind: str
) -> list[_DomainMention]:
    """The domains in variables that speak of the service's own address."""
    mentions = []
    for key, value, where in env:
        if value and _OWN_ADDRESS_KEY.fullmatch(key):
            for domain in vocabulary.find_domains(_extract_hostname(value)):
                mentions.append(_DomainMention(domain, service.name, kind, where))
    return mentions


def is_loopback(host: str) -> bool:
    """Whether a proxy of the server itself leads there: to a port that the server publishes."""
    return _LOOPBACK.fullmatch(host) is not None


def _extract_hostname(url: str) -> str:
    return re.sub(r"^https?://", "", url).partition("/")[0].partition(":")[0]


def _match_environment(domain: str, kind: str, environments: list[DetectedEnvironment]) -> DetectedEnvironment | None:
    """The environment that a domain's words, or its file's, speak of; without any, the one that is production."""
    domain_kind = _classify_domain(domain) or kind
    if domain_kind == vocabulary.DEVELOPMENT:
        for environment in environments:
            if vocabulary.DEVELOPMENT in (environment.kind, vocabulary.classify_environment(environment.name)):
                return environment
        return None
    for environment in environments:
        if environment.kind == (domain_kind or vocabulary.PRODUCTION):
            return environment
    return environments[0] if len(environments) == 1 and not domain_kind else None


def _classify_domain(domain: str) -> str:
    """The kind of environment that a domain's words speak of; a name like `example.dev` speaks of none."""
    labels = domain.split(".")
    kind = vocabulary.classify_environment(" ".join(labels[:-2]))
    if kind:
        return kind
    kind = vocabulary.classify_environment(labels[-2])
    return "" if kind == vocabulary.DEVELOPMENT else kind


def _match_service(domain: str, service_name: str, services: list[DetectedService]) -> tuple[int, str]:
    """How sure it is (0: something says it), and the service; empty when several services fit as well.

    By its name, by another word for it, as the one that serves pages, as the only one.
    """
    if service_name:
        return 0, service_name
    domain_words = set(vocabulary.split_words(" ".join(domain.split(".")[:-2])))
    web_services = [service for service in services if not service.is_worker and not service.speaks_fastcgi]
    words_of_services = {service.name: set(vocabulary.split_words(service.name)) for service in web_services}
    by_name = [name for name, words in words_of_services.items() if words & domain_words]
    by_synonym = [
        name
        for name, words in words_of_services.items()
        for synonyms in _SERVICE_SYNONYMS
        if domain_words & synonyms and words & synonyms
    ]
    names_no_service = all(word in ("www", "app") or vocabulary.classify_environment(word) for word in domain_words)
    serving_pages = [service.name for service in services if service.health and service.health.value == "/"]
    candidates = (by_name, by_synonym, serving_pages if names_no_service else [], list(words_of_services))
    for rank, names in enumerate(candidates, 1):
        if len(names) == 1:
            return rank, names[0]
    return 9, ""
