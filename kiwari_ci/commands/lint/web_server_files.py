"""Finds nginx configurations of one's own that keep the address of a service, which each deploy may change."""

import re
from collections.abc import Iterator

from kiwari_ci.commands.lint.build_inputs import LintContext
from kiwari_ci.problems import Problem

Problems = Iterator[Problem]

_CONFIGURATION_FILE = re.compile(r".*\.(?:conf|conf\.template|nginx|template)|(?:.*/)?nginx[^/]*")
_DOCUMENTATION = 'docs/proxies.md, "A web server of your own in front of other services"'
# With a variable, nginx looks up the name for each request; without one, only when it starts.
_PASS_TO_NAME = re.compile(
    r"(?P<before>[ \t]*(?P<directive>(?:proxy|fastcgi|grpc|uwsgi|scgi)_pass)[ \t]+(?P<scheme>\w+://)?)"
    r"(?P<name>[A-Za-z0-9][\w.-]*)(?P<rest>[^\s;]*)[ \t]*;.*"
)
_UPSTREAM_SERVER = re.compile(r"(?P<before>[ \t]*server[ \t]+)(?P<name>[A-Za-z0-9][\w.-]*)(?P<rest>:\d+)[^;{]*;.*")


_UPSTREAM = re.compile(r"^[ \t]*upstream[ \t]+([\w.-]+)\s*\{", re.MULTILINE)
_LOOKS_UP_AGAIN = re.compile(r"\sresolve\b")  # an option of a server of an upstream: nginx asks the resolver again


def check_web_server_files(lint_context: LintContext) -> Problems:
    """Advise against each line of an image's nginx configuration that sends requests to a fixed service name.

    A name of an `upstream` is none of a service: the servers of the upstream are looked at.
    """
    names = _list_service_names(lint_context)
    texts = {path: lint_context.checkout.text(path) or "" for path in _list_configuration_files(lint_context)}
    upstreams = {name for text in texts.values() for name in _UPSTREAM.findall(text)}
    for path, text in texts.items():
        for number, line in enumerate(text.splitlines(), 1):
            passed_name = _PASS_TO_NAME.fullmatch(line)
            server = _UPSTREAM_SERVER.fullmatch(line)
            if passed_name and passed_name["name"] in names - upstreams:
                yield _describe_fixed_name(path, number, passed_name)
            elif server and server["name"] in names and not _LOOKS_UP_AGAIN.search(line):
                yield _describe_fixed_name(path, number, server)


def _list_service_names(lint_context: LintContext) -> frozenset[str]:
    """The names under which other containers reach a service that deploys replace.

    The address of a Service on a Kubernetes cluster does not change with its pods.
    """
    names = set[str]()
    for environment in lint_context.spec.environments_on("compose"):
        for service in environment.services.values():
            if service.options.port:
                names |= {service.name, service.container_name}
    return frozenset(names)


def _list_configuration_files(lint_context: LintContext) -> list[str]:
    """The files of the built images that may be configurations of nginx."""
    covered_files = set[str]()
    for service in lint_context.spec.built_services:
        covered_files |= lint_context.find_covered_files(service)[0]
    return sorted(path for path in covered_files if _CONFIGURATION_FILE.fullmatch(path))


def _describe_fixed_name(path: str, line_number: int, match: re.Match[str]) -> Problem:
    name = match["name"]
    message = f"nginx looks up `{name}` only when it starts, and each deploy of it may change its address"
    hint = _suggest_variable(match)
    column = len(match["before"]) + 1
    return Problem(
        "fixed-upstream", message, path, line_number, column, len(name), hint, severity="advice", excerpt=match[0]
    )


def _suggest_variable(match: re.Match[str]) -> str:
    """The lines to write, where they only replace the name.

    With a variable and a path, nginx sends the path as it is written for every request, so there it takes a `rewrite`.
    Which directives name the servers of an `upstream` is not in its line.
    """
    directive = match.groupdict().get("directive")
    if not directive:
        return f"use a variable where the name of the upstream is now: {_DOCUMENTATION}"
    if "/" in match["rest"]:
        return f"use a variable, and `rewrite` in place of the path behind the name: {_DOCUMENTATION}"
    name = match["name"]
    variable = "$" + re.sub(r"\W", "_", name)
    address = f"{match['scheme'] or ''}{variable}{match['rest']}"
    return f"resolver 127.0.0.11 valid=10s; set {variable} {name}; {directive} {address};"
