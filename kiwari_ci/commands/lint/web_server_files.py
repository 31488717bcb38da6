"""Finds nginx configurations of one's own that keep the address of a service, which each deploy may change."""

import posixpath
import re
from collections.abc import Collection, Iterator

from kiwari_ci.commands.lint.build_inputs import LintContext
from kiwari_ci.effective_spec import EffectiveEnvironment
from kiwari_ci.engines.compose.containers import is_reached_by_spec_name
from kiwari_ci.frozen import dataclass
from kiwari_ci.problems import Problem
from kiwari_ci.readers.tracked_files import select_by_prefix

Problems = Iterator[Problem]

_CONFIGURATION_FILE = re.compile(r".*\.(?:conf|conf\.template|nginx|template)|(?:.*/)?nginx[^/]*")
_CONFIGURATION_IN_CONTAINER = re.compile(rf"/etc/nginx/.*|{_CONFIGURATION_FILE.pattern}")
_DOCUMENTATION = 'docs/proxies.md, "A web server of your own in front of other services"'
# With a variable, nginx looks up the name for each request; without one, only when it starts.
_PASS_TO_NAME = re.compile(
    r"(?P<before>[ \t]*(?P<directive>(?:proxy|fastcgi|grpc|uwsgi|scgi)_pass)[ \t]+(?P<scheme>\w+://)?)"
    r"(?P<name>[A-Za-z0-9][\w.-]*)(?P<rest>[^\s;]*)[ \t]*;.*"
)
_UPSTREAM_SERVER = re.compile(r"(?P<before>[ \t]*server[ \t]+)(?P<name>[A-Za-z0-9][\w.-]*)(?P<rest>:\d+)[^;{]*;.*")
_UPSTREAM = re.compile(r"^[ \t]*upstream[ \t]+([\w.-]+)\s*\{", re.MULTILINE)
_LOOKS_UP_AGAIN = re.compile(r"\sresolve\b")  # an option of a server of an upstream: nginx asks the resolver again
_SET_VARIABLE = re.compile(
    r"(?P<before>[ \t]*set[ \t]+\$\w+[ \t]+[\"']?(?:\w+://)?)(?P<name>[A-Za-z0-9][\w.-]*)[^\s;]*[ \t]*;.*"
)


@dataclass(frozen=True)
class _UnknownName:
    """The name that a service has in the spec, where the others of its stack do not reach it by that name."""

    environment: str
    container_name: str


def check_web_server_files(lint_context: LintContext) -> Problems:
    """Advise against lines of nginx's configuration that lead nowhere when a deploy has replaced a service.

    Either nginx keeps the address that the service had at its own start, or the new container has another name. The
    name of an `upstream` is none of a service: the servers of the upstream are looked at.
    """
    names = _list_service_names(lint_context)
    unknown_names = _find_unknown_names(lint_context)
    texts = {path: lint_context.checkout.text(path) or "" for path in _list_configuration_files(lint_context)}
    upstreams = {name for text in texts.values() for name in _UPSTREAM.findall(text)}
    for path, text in texts.items():
        for number, line in enumerate(text.splitlines(), 1):
            fixed = _match_fixed_name(line, names, upstreams)
            if fixed:
                unknown = unknown_names.get(fixed["name"])
                name_to_write = unknown.container_name if unknown else fixed["name"]
                yield _describe_fixed_name(path, number, fixed, name_to_write)
            variable = _SET_VARIABLE.fullmatch(line)
            if variable and variable["name"] in unknown_names:
                yield _describe_unknown_name(path, number, variable, unknown_names[variable["name"]])


def _match_fixed_name(line: str, names: Collection[str], upstreams: Collection[str]) -> re.Match[str] | None:
    """Match a line with the name of a service that nginx looks up only when it starts."""
    passed_name = _PASS_TO_NAME.fullmatch(line)
    if passed_name:
        return passed_name if passed_name["name"] in names and passed_name["name"] not in upstreams else None
    server = _UPSTREAM_SERVER.fullmatch(line)
    if server and server["name"] in names and not _LOOKS_UP_AGAIN.search(line):
        return server
    return None


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


def _find_unknown_names(lint_context: LintContext) -> dict[str, _UnknownName]:
    """The services that, during a takeover in today's Compose project, are not reached by their name in the spec."""
    unknown_names = dict[str, _UnknownName]()
    for environment in lint_context.spec.environments_on("compose"):
        if not environment.model.takeover:
            continue
        for service in environment.services.values():
            has_other_name = service.options.port and service.name != service.container_name
            if has_other_name and not is_reached_by_spec_name(service):
                unknown_names[service.name] = _UnknownName(environment.name, service.container_name)
    return unknown_names


def _list_configuration_files(lint_context: LintContext) -> list[str]:
    """The files of the built images, and those that a container mounts, that may be configurations of nginx."""
    covered_files = set[str]()
    for service in lint_context.spec.built_services:
        covered_files |= lint_context.find_covered_files(service)[0]
    files_of_images = {path for path in covered_files if _CONFIGURATION_FILE.fullmatch(path)}
    return sorted(files_of_images | set(_list_mounted_files(lint_context)))


def _list_mounted_files(lint_context: LintContext) -> Iterator[str]:
    """The files beside a Compose file that a container mounts as a configuration of nginx."""
    for environment in lint_context.spec.environments_on("compose"):
        for container in environment.containers.values():
            for volume in container.options.volumes or ():
                source, target, *_ = volume.split(":")
                if not source.startswith("./"):
                    continue
                mounted = posixpath.join("deploy", environment.source_folder, source.removeprefix("./"))
                for path_in_stack, path in _list_files_of_stack(lint_context, environment, mounted):
                    path_in_container = target + path_in_stack.removeprefix(mounted)
                    is_mounted = path_in_stack == mounted or path_in_stack.startswith(f"{mounted}/")
                    if is_mounted and _CONFIGURATION_IN_CONTAINER.fullmatch(path_in_container):
                        yield path


def _list_files_of_stack(
    lint_context: LintContext, environment: EffectiveEnvironment, prefix: str
) -> Iterator[tuple[str, str]]:
    """The files whose path in the folder of the stack begins with a prefix, each with its path in the repository."""
    yield from ((path, path) for path in select_by_prefix(lint_context.checkout.names, prefix))
    for file, path in environment.model.shared_files.items():
        path_in_stack = posixpath.join("deploy", environment.source_folder, file)
        if path_in_stack.startswith(prefix) and path in lint_context.checkout.names:
            yield path_in_stack, path


def _describe_unknown_name(path: str, line_number: int, match: re.Match[str], unknown: _UnknownName) -> Problem:
    name = match["name"]
    message = f"with `takeover`, nothing in the new stack of {unknown.environment} is called `{name}`"
    hint = f"write the name of the container, `{unknown.container_name}`, which it keeps after the takeover"
    column = len(match["before"]) + 1
    return Problem(
        "takeover-name", message, path, line_number, column, len(name), hint, severity="advice", excerpt=match[0]
    )


def _describe_fixed_name(path: str, line_number: int, match: re.Match[str], name_to_write: str) -> Problem:
    name = match["name"]
    message = f"nginx looks up `{name}` only when it starts, but each deploy may change the address behind this name"
    hint = _suggest_variable(match, name_to_write)
    column = len(match["before"]) + 1
    return Problem(
        "fixed-upstream", message, path, line_number, column, len(name), hint, severity="advice", excerpt=match[0]
    )


def _suggest_variable(match: re.Match[str], name_to_write: str) -> str:
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
    return f"resolver 127.0.0.11 valid=10s; set {variable} {name_to_write}; {directive} {address};"
