"""Domains: which of those that the repository speaks of leads to which service of which environment."""

import re

from . import words
from .addresses import Route
from .environments import Place
from .services import Found
from .words import Fact

_OTHERS = re.compile(
    r"(^|\.)(github|githubusercontent|docker|ghcr|slack|discord|discordapp|telegram|googleapis|google|amazonaws|sentry"
    r"|codecov|npmjs|golang|cloudflare|letsencrypt|microsoft|azure|gitlab|nodesource|astral|rustup|schemastore|w3)\.(com|io|org|net|sh|rs|dev)$"
)


_ALIKE = (
    {"api", "backend", "server"},
    {"web", "www", "frontend", "client", "app", "ui"},
    {"dashboard", "backoffice", "console"},
)


def domains(
    found: list[Found], places: list[Place], routes: list[Route]
) -> tuple[dict[tuple[str, str], Fact], list[str]]:
    """By environment and service; and those domains that could not be told, with their place."""
    made: dict[tuple[str, str], Fact] = {}
    left: list[str] = []
    for domain, service, kind, where in _seen(found, places, routes):
        place = _place(domain, kind, places)
        owner = service or _owner(domain, found)
        if _OTHERS.search(domain) or any(fact.value == domain for fact in made.values()):
            continue
        if not owner or not place or (place.name, owner) in made:
            left.append(f"the domain {domain} ({where})")
        else:
            made[place.name, owner] = Fact(domain, where, guess=not service)
    return made, list(dict.fromkeys(left))


def _seen(found: list[Found], places: list[Place], routes: list[Route]) -> list[tuple[str, str, str, str]]:
    """Domain, service and kind of environment (empty where it does not say), place."""
    seen: list[tuple[str, str, str, str]] = []
    names = {}
    for service in found:
        names[service.name] = service.name
        for stack, container in service.containers:
            names[container.name] = service.name
            if container.container_name:
                names[str(container.container_name.value)] = service.name
            seen += [(str(fact.value), service.name, stack.kind, fact.where) for fact in container.domains]
    seen += [
        (route.domain, names.get(route.container, ""), words.kind_of(route.where), route.where) for route in routes
    ]
    for place in places:
        seen += [
            (domain, "", place.kind, fact.where)
            for fact in place.urls
            for domain in words.domains(_host(str(fact.value)))
        ]
    for service in found:
        for _, container in service.containers:
            seen += _of_env(service, container.env)
    return sorted(seen, key=lambda each: not each[1])


def _of_env(service: Found, env: list[tuple[str, str | None, str]]) -> list[tuple[str, str, str, str]]:
    own = re.compile(
        r"ORIGIN|(APP|SITE|BASE|PUBLIC|FRONTEND|NEXTAUTH|AUTH)_(URL|DOMAIN|HOST)|DOMAIN|NEXT_PUBLIC_(APP|SITE|BASE)_URL"
    )
    return [
        (domain, service.name, "", where)
        for key, value, where in env
        if own.fullmatch(key) and value
        for domain in words.domains(_host(value))
    ]


def _host(url: str) -> str:
    return re.sub(r"^https?://", "", url).partition("/")[0].partition(":")[0]


def _place(domain: str, kind: str, places: list[Place]) -> Place | None:
    """The environment that a domain's words, or its file's, speak of; without any, the one that is production."""
    labels = domain.split(".")
    said = words.kind_of(" ".join(labels[:-2])) or words.kind_of(labels[-2]).replace(words.AWAY, "") or kind
    if said == words.AWAY:
        return next((place for place in places if place.kind == words.AWAY or words.kind_of(place.name) == said), None)
    wanted = said or words.PRODUCTION
    return next(
        (place for place in places if place.kind == wanted), places[0] if len(places) == 1 and not said else None
    )


def _owner(domain: str, found: list[Found]) -> str:
    """The service whose name a domain has; the only one; or, for a bare domain, the one that shows pages."""
    said = set(words.tokens(domain.partition(".")[0]))
    named = [service.name for service in found if set(words.tokens(service.name)) & said]
    if len(named) == 1 or len(found) == 1:
        return named[0] if named else found[0].name
    bare = domain.count(".") == 1 or all(each in ("www", "app") or words.kind_of(each) for each in said)
    pages = [service.name for service in found if service.health and service.health.value == "/"]
    return pages[0] if bare and len(pages) == 1 else ""
