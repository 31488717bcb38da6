"""Domains: which of those that the repository speaks of leads to which service of which environment."""

import re

from kiwari_ci.commands.init.environments import DetectedEnvironment
from kiwari_ci.commands.init.services import DetectedService
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.proxy_config import ProxyRoute
from kiwari_ci.readers.vocabulary import SourcedValue

_THIRD_PARTY_DOMAIN = re.compile(
    r"(^|\.)(github|githubusercontent|docker|ghcr|slack|discord|discordapp|telegram|googleapis|google|amazonaws|sentry"
    r"|codecov|npmjs|golang|cloudflare|letsencrypt|microsoft|azure|gitlab|nodesource|astral|rustup|schemastore|w3)\.(com|io|org|net|sh|rs|dev)$"
)


_LOOPBACK = re.compile(r"127\.0\.0\.1|localhost|0\.0\.0\.0")
_SERVICE_SYNONYMS = (
    {"api", "backend", "server"},
    {"web", "www", "frontend", "client", "app", "ui"},
    {"dashboard", "backoffice", "console"},
)


def assign_domains(
    found: list[DetectedService], places: list[DetectedEnvironment], routes: list[ProxyRoute]
) -> tuple[dict[tuple[str, str], SourcedValue], list[str]]:
    """By environment and service; and those domains that could not be told, with their place."""
    made: dict[tuple[str, str], SourcedValue] = {}
    left: list[str] = []
    ranked = [(*_match_service(each[0], each[1], found), each) for each in _collect_domains(found, places, routes)]
    for _, owner, (domain, service, kind, where) in sorted(ranked, key=lambda each: each[0]):
        place = _match_environment(domain, kind, places)
        if _THIRD_PARTY_DOMAIN.search(domain) or any(fact.value == domain for fact in made.values()):
            continue
        if not owner or not place or (place.name, owner) in made:
            left.append(f"the domain {domain} ({where})")
        else:
            made[place.name, owner] = SourcedValue(domain, where, guess=not service)
    known = {str(fact.value) for fact in made.values()}
    return made, [each for each in dict.fromkeys(left) if each.split()[2] not in known]


def _collect_domains(
    found: list[DetectedService], places: list[DetectedEnvironment], routes: list[ProxyRoute]
) -> list[tuple[str, str, str, str]]:
    """Domain, service and kind of environment (empty where it does not say), place."""
    seen: list[tuple[str, str, str, str]] = []
    names: dict[str, str] = {}
    published: dict[int, tuple[str, str]] = {}  # on the host: the service, and the kind of environment
    for service in found:
        names[service.name] = service.name
        for stack, container in service.containers:
            names[container.name] = service.name
            if container.container_name:
                names[str(container.container_name.value)] = service.name
            published |= {port: (service.name, stack.kind) for port in container.published}
            seen += [(str(fact.value), service.name, stack.kind, fact.where) for fact in container.domains]
    for route in routes:
        local = published.get(route.port) if _LOOPBACK.fullmatch(route.container) else None
        service_name, kind = local or (names.get(route.container, ""), vocabulary.classify_environment(route.where))
        seen.append((route.domain, service_name, kind, route.where))
    for place in places:
        seen += [
            (domain, "", place.kind, fact.where)
            for fact in place.urls
            for domain in vocabulary.find_domains(_extract_hostname(str(fact.value)))
        ]
    for service in found:
        for _, container in service.containers:
            seen += _find_env_domains(service, container.env)
    return seen


def _find_env_domains(
    service: DetectedService, env: list[tuple[str, str | None, str]]
) -> list[tuple[str, str, str, str]]:
    own = re.compile(
        r"ORIGIN|(APP|SITE|BASE|PUBLIC|FRONTEND|NEXTAUTH|AUTH)_(URL|DOMAIN|HOST)|DOMAIN|NEXT_PUBLIC_(APP|SITE|BASE)_URL"
    )
    return [
        (domain, service.name, "", where)
        for key, value, where in env
        if own.fullmatch(key) and value
        for domain in vocabulary.find_domains(_extract_hostname(value))
    ]


def _extract_hostname(url: str) -> str:
    return re.sub(r"^https?://", "", url).partition("/")[0].partition(":")[0]


def _match_environment(domain: str, kind: str, places: list[DetectedEnvironment]) -> DetectedEnvironment | None:
    """The environment that a domain's words, or its file's, speak of; without any, the one that is production."""
    labels = domain.split(".")
    said = (
        vocabulary.classify_environment(" ".join(labels[:-2]))
        or vocabulary.classify_environment(labels[-2]).replace(vocabulary.DEVELOPMENT, "")
        or kind
    )
    if said == vocabulary.DEVELOPMENT:
        return next(
            (
                place
                for place in places
                if place.kind == vocabulary.DEVELOPMENT or vocabulary.classify_environment(place.name) == said
            ),
            None,
        )
    wanted = said or vocabulary.PRODUCTION
    return next(
        (place for place in places if place.kind == wanted), places[0] if len(places) == 1 and not said else None
    )


def _match_service(domain: str, service: str, found: list[DetectedService]) -> tuple[int, str]:
    """How sure it is (0: it is said), and the service: by its name, its kind, as the pages, as the only one."""
    if service:
        return 0, service
    said = set(vocabulary.split_words(" ".join(domain.split(".")[:-2])))
    named = [each.name for each in found if set(vocabulary.split_words(each.name)) & said]
    alike = [
        each.name
        for each in found
        for same in _SERVICE_SYNONYMS
        if said & same and set(vocabulary.split_words(each.name)) & same
    ]
    pages = [each.name for each in found if each.health and each.health.value == "/"]
    bare = all(each in ("www", "app") or vocabulary.classify_environment(each) for each in said)
    for rank, chosen in enumerate((named, alike, pages if bare else [], [each.name for each in found]), 1):
        if len(chosen) == 1:
            return rank, chosen[0]
    return 9, ""
