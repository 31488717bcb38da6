"""Compose files: the containers that a repository runs, and what each of them says about itself."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from kiwari_ci.commands.init.build_settings import BuildSettings, parse_compose_build
from kiwari_ci.output.generated_files import is_generated_file
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.lenient_yaml import (
    YamlFileError,
    YamlMapping,
    YamlSequence,
    collect_strings,
    format_scalar,
    parse_yaml_mapping,
)
from kiwari_ci.readers.repository import LocalRepository, get_parent_folder, join_path
from kiwari_ci.readers.vocabulary import SourcedValue

_COMPOSE_FILE_PATH = (
    r"(?:.*/)?(?:docker-)?compose[\w.-]*\.ya?ml|(?:.*/)?docker-stack[\w.-]*\.ya?ml|(?:.*/)?stack\.ya?ml"
)
COVERED_COMPOSE_KEYS = {  # keys of a service that the spec says, or that the generated stack decides itself
    "image", "build", "container_name", "restart", "expose", "pull_policy", "init",
    "platform", "stdin_open", "tty",
}  # fmt: skip
_SECRET_WORDS = re.compile(  # words, and options of clients that take a password
    r"pass|secret|token|key|bearer|authorization|(mysql|maria)\w{0,20}\b.{0,200}\s-p[^\s-]|redis-cli\b.{0,200}\s-a\s"
    r"|alias set\b",
    re.IGNORECASE,
)
_DEPENDS_ON_CONDITIONS = {"service_healthy": "healthy", "service_completed_successfully": "completed"}
_PROXY_IMAGES = ("traefik", "caddy", "nginx-proxy-manager", "nginxproxy", "jwilder", "haproxy", "nginx")
POSTGRES_IMAGE = re.compile(r"(?:docker\.io/)?(?:library/)?postgres(?::|@|$)")
_POSTGRES_LIKE_IMAGE = re.compile(r"postg|timescale|pgvector|supabase/postgres")


@dataclass
class DetectedContainer:
    """One service of one compose file."""

    file: str
    name: str
    where: str
    kind: str  # of environment, by the file's name: empty for a file that is for all
    image: str = ""
    context: str | None = None
    dockerfile: str = ""
    settings: BuildSettings = field(default_factory=BuildSettings)  # of the build
    ports: list[SourcedValue] = field(default_factory=list)  # that it listens on
    published: list[int] = field(default_factory=list)  # ports of the machine that lead to it
    health: SourcedValue | None = None
    env: list[tuple[str, str | None, str]] = field(default_factory=list)  # key, value (None: not known here), place
    env_files: list[SourcedValue] = field(default_factory=list)
    container_name: SourcedValue | None = None
    domains: list[SourcedValue] = field(default_factory=list)
    networks: list[SourcedValue] = field(default_factory=list)  # those that others made
    proxy: SourcedValue | None = None  # that its labels speak to
    routers: dict[str, dict[str, SourcedValue]] = field(default_factory=dict)  # what Traefik's labels say of each
    table: YamlMapping = field(default_factory=lambda: YamlMapping("", 0), repr=False)  # all that Compose is told of it
    known: dict[str, str] = field(default_factory=dict)  # variables, as the example beside the file has them
    beyond: list[str] = field(default_factory=list)  # what `init` does not write, beside the keys of `table`

    @property
    def profiles(self) -> str:
        """Those without which nobody starts it; empty for one that always runs, or in production."""
        named = [format_scalar(item) for item, _ in self.table.items_of("profiles")]
        return (
            ""
            if any(vocabulary.classify_environment(each) == vocabulary.PRODUCTION for each in named)
            else ", ".join(named)
        )

    @property
    def builds(self) -> bool:
        """Whether its image is built here."""
        return self.context is not None


@dataclass
class DetectedComposeFile:
    """A compose file."""

    path: str
    kind: str
    name: SourcedValue | None
    containers: list[DetectedContainer]


def detect_proxy(image: str) -> str:
    """Which proxy an image is; empty for none."""
    base = image.partition("@")[0].rpartition(":")[0] or image
    return next((name for name in _PROXY_IMAGES if name in base), "")


def is_postgres_image(image: str) -> bool:
    """Whether an image is PostgreSQL, or made of it."""
    return _POSTGRES_LIKE_IMAGE.search(image) is not None


def read_compose_files(repository: LocalRepository) -> list[DetectedComposeFile]:
    """Every compose file of a person that can be read; those for production first, those for development last."""
    found = []
    for path in repository.matching(_COMPOSE_FILE_PATH):
        if is_generated_file(path, repository.read(path)):
            continue
        try:
            document = parse_yaml_mapping(path, repository.read(path))
        except YamlFileError as why:
            repository.troubles.append(f"{why}: not read" if repository.read(path).strip() else f"{path}: empty")
            continue
        found.append(_parse_compose_file(repository, path, document))
    order = [vocabulary.PRODUCTION, vocabulary.STAGING, "", vocabulary.DEVELOPMENT]
    return sorted(found, key=lambda stack: (order.index(stack.kind), stack.path.count("/"), stack.path))


def _parse_compose_file(repository: LocalRepository, path: str, document: YamlMapping) -> DetectedComposeFile:
    known = load_compose_variables(repository, get_parent_folder(path))
    name = vocabulary.interpolate_variables(document.text("name"), known)
    kind = vocabulary.classify_environment(path)
    external = {
        key: vocabulary.interpolate_variables(table.text("name") or key, known) or key
        for key, table in document.table("networks").tables()
        if table.get("external")
    }
    containers = [
        _parse_container(DetectedContainer(path, key, services.where(key), kind), table, known, external)
        for services in [document.table("services")]
        for key, table in ((key, _merge_extends(services, table)) for key, table in services.tables())
    ]
    made_by = {key: ", ".join(table) for key, table in document.table("volumes").tables() if table}
    for each in containers:
        each.beyond += [f"{made_by[name]} of the volume {name}" for name, _ in iter_mounts(each) if name in made_by]
    return DetectedComposeFile(path, kind, SourcedValue(name, document.where("name")) if name else None, containers)


def _merge_extends(services: YamlMapping, table: YamlMapping, depth: int = 0) -> YamlMapping:
    """A container with what it extends in the same file; what another file has is told, not read."""
    given = table.get("extends")
    base = services.get(given.text("service") if isinstance(given, YamlMapping) else format_scalar(given))
    if depth > 9 or not isinstance(base, YamlMapping) or (isinstance(given, YamlMapping) and given.get("file")):
        return table
    made, base = YamlMapping(table.path, table.line), _merge_extends(services, base, depth + 1)
    for each in (base, table):
        for key, value in each.items():
            made[key], made.places[key] = value, each.places[key]
    for key in ("environment", "labels"):
        mine, its = table.get(key), base.get(key)
        if isinstance(mine, YamlMapping) and isinstance(its, YamlMapping):
            made[key] = both = YamlMapping(table.path, mine.line)
            both.update(its | mine)
            both.places = its.places | mine.places
        elif isinstance(mine, YamlSequence) and isinstance(its, YamlSequence):
            made[key] = items = YamlSequence()
            items += [*its, *mine]
            items.places = [*its.places, *mine.places]
    del made["extends"]
    return made


def iter_dependencies(container: DetectedContainer) -> Iterator[tuple[str, str]]:
    """What a container waits for, and until when."""
    given = container.table.get("depends_on")
    if isinstance(given, YamlSequence):
        yield from ((format_scalar(each), "started") for each in given)
    elif isinstance(given, YamlMapping):
        yield from (
            (name, _DEPENDS_ON_CONDITIONS.get(each.text("condition"), "started")) for name, each in given.tables()
        )


def find_one_shot_services(containers: Iterable[DetectedContainer]) -> set[str]:
    """The names of those that others wait for until they have ended."""
    return {name for each in containers for name, how in iter_dependencies(each) if how == "completed"}


def iter_mounts(container: DetectedContainer) -> Iterator[tuple[str, str]]:
    """What is mounted, as Compose's short form has it: its source (empty where there is none), and all of it."""
    for item, _ in container.table.items_of("volumes"):
        if isinstance(item, YamlMapping):
            source = item.text("source") or item.text("type")
            text = f"{source}:{item.text('target')}" + (":ro" if item.get("read_only") is True else "")
        else:
            text = re.sub(r":rw$|:[zZ]$", "", format_scalar(item))
        made = vocabulary.interpolate_variables(text, container.known) or text
        yield made.partition(":")[0], made


def list_published_ports(table: YamlMapping) -> list[str]:
    """The ports of the machine that lead to a container, as Compose's short form has them."""
    found = []
    for item, _ in table.items_of("ports"):
        if isinstance(item, YamlMapping):
            parts = (item.text("host_ip"), item.text("published"), item.text("target"))
            found += [":".join(filter(None, parts))] if parts[1] else []
        elif ":" in format_scalar(item):
            found.append(format_scalar(item))
    return found


def load_compose_variables(repository: LocalRepository, folder: str) -> dict[str, str]:
    """What an example of the env file beside a compose file says, or the file itself: Compose fills in from it."""
    for name in (".env.example", ".env.sample", ".env.template", "env.example", ".env.dist", ".env"):
        path = join_path(folder, name)
        if path and repository.has(path):
            return {key: value for key, value, _ in read_env_assignments(repository, path)}
    return {}


def read_env_assignments(repository: LocalRepository, path: str) -> list[tuple[str, str, str]]:
    """Key, value and place of each line of an env file."""
    found = []
    for place, line in repository.lines(path):
        if each := re.fullmatch(r"\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*?)\s*", line):
            value = each[2]
            if value[:1] in ("'", '"') and value[:1] in value[1:]:
                value = value[1 : value.index(value[0], 1)]
            else:
                value = re.sub(r"(^|\s)#.*", "", value).strip()
            found.append((each[1], value, place))
    return found


def _parse_container(
    made: DetectedContainer, table: YamlMapping, known: dict[str, str], external: dict[str, str]
) -> DetectedContainer:
    made.table, made.known = table, known
    made.image = vocabulary.interpolate_variables(table.text("image"), known) or table.text("image")
    _parse_build(made, table, known)
    for item, place in [*table.items_of("ports"), *table.items_of("expose")]:
        if port := _parse_target_port(item, known):
            made.ports.append(SourcedValue(port, place))
    _parse_healthcheck(made, table, known)
    made.env = [(key, _resolve_literal(value, known), place) for key, value, place in table.pairs("environment") if key]
    for item, place in table.items_of("env_file"):
        file = item.text("path") if isinstance(item, YamlMapping) else format_scalar(item)
        if path := join_path(get_parent_folder(made.file), file):
            made.env_files.append(SourcedValue(path, place))
    if name := vocabulary.interpolate_variables(table.text("container_name"), known):
        made.container_name = SourcedValue(name, table.where("container_name"))
    _parse_labels(made, table, known)
    networks = table.get("networks")
    for name, given in table.table("networks").tables():
        made.beyond += [f"{', '.join(given)} in the network {name}"] if given else []
    for name in networks if isinstance(networks, YamlMapping | YamlSequence) else ():
        if format_scalar(name) in external:
            made.networks.append(SourcedValue(external[format_scalar(name)], table.where("networks")))
        elif format_scalar(name) != "default":
            made.beyond.append(f"network {format_scalar(name)}")
    made.published = [
        int(each[-2]) for port in list_published_ports(table) if (each := port.split(":"))[-2].isdecimal()
    ]
    return made


def _parse_build(made: DetectedContainer, table: YamlMapping, known: dict[str, str]) -> None:
    if "build" not in table:
        return
    build = table.table("build")
    context = vocabulary.interpolate_variables(build.text("context") or table.text("build") or ".", known)
    folder = join_path(get_parent_folder(made.file), context) if context and "://" not in context else None
    if folder is None:
        made.beyond.append("a build context outside of the repository")
        return
    made.context = folder
    made.dockerfile = (
        join_path(folder, vocabulary.interpolate_variables(build.text("dockerfile"), known) or "Dockerfile") or ""
    )
    made.settings = parse_compose_build(build)


def _resolve_literal(text: str, known: dict[str, str]) -> str | None:
    """A value as the file gives it: what only an example of an env file knows is not known."""
    made = vocabulary.interpolate_variables(text, {})
    return made if made or not text else None


def _parse_target_port(item: Any, known: dict[str, str]) -> int | None:
    text = format_scalar(item.get("target")) if isinstance(item, YamlMapping) else format_scalar(item)
    last = (vocabulary.interpolate_variables(text, known) or "").partition("/")[0].rpartition(":")[2]
    return int(last) if last.isdecimal() and 0 < int(last[:6]) < 65536 else None


def _parse_healthcheck(made: DetectedContainer, table: YamlMapping, known: dict[str, str]) -> None:
    check = table.table("healthcheck")
    text = " ".join(each for each, _ in collect_strings(check.get("test")))
    port, path = vocabulary.parse_probe_command(vocabulary.interpolate_variables(text, known) or text)
    if path:
        made.health = SourcedValue(path, check.where("test"))
        made.ports[:0] = [SourcedValue(port, check.where("test"))] if port else []


def _parse_labels(made: DetectedContainer, table: YamlMapping, known: dict[str, str]) -> None:
    for key, value, place in [
        *table.pairs("labels"),
        *table.table("deploy").pairs("labels"),
        *table.pairs("environment"),
    ]:
        text = vocabulary.interpolate_variables(value, known) or ""
        if name := re.match(r"traefik(?=\.)|caddy", key):
            made.proxy = made.proxy or SourcedValue(name[0], place)
        if re.fullmatch(r"traefik\.http\.services\.[^.]+\.loadbalancer\.server\.port|VIRTUAL_PORT", key):
            made.ports[:0] = [SourcedValue(int(text), place)] if text.isdecimal() else []
        elif re.fullmatch(r"traefik\.http\.services\.[^.]+\.loadbalancer\.healthcheck\.path", key) and not made.health:
            made.health = SourcedValue(text, place)
        elif option := re.fullmatch(r"traefik\.http\.routers\.([^.]+)\.(entrypoints|tls\.certresolver)", key):
            role = "entrypoint" if option[2] == "entrypoints" else "certresolver"
            made.routers.setdefault(option[1], {})[role] = SourcedValue(text, place)
        elif re.fullmatch(r"traefik\.http\.routers\.[^.]+\.rule", key):
            hosts = " ".join(re.findall(r"Host\(([^)]*)\)", text))
            made.domains += [SourcedValue(domain, place) for domain in vocabulary.find_domains(hosts)]
            if re.search(r"Path|Header|Query|Method|ClientIP", text):
                made.beyond.append("more of its router's rule than the domain")
            if not vocabulary.find_domains(hosts):
                made.beyond.append(f"the domain of its rule, {value.partition('Host(')[2].partition(')')[0]}")
        elif re.match(r"traefik\.(http\.middlewares|tcp|udp)\.|caddy(_\d+)?\.(?!reverse_proxy$)", key):
            made.beyond.append(f"label {key}")
        elif key in ("caddy", "VIRTUAL_HOST"):
            made.domains += [SourcedValue(domain, place) for domain in vocabulary.find_domains(text)]


def may_contain_secret(text: str) -> bool:
    """Whether a text could have a secret in it, beside the variables that it names."""
    plain = re.sub(r"\$\$?\{?\w+\}?", "", text)
    return _SECRET_WORDS.search(plain) is not None or vocabulary.may_be_secret(plain)


def summarize_value(value: Any) -> str:
    """A value in a few words; what could be a secret is not among the keys that are told."""
    texts = [text for text, _ in collect_strings(value)] or [format_scalar(value)]
    told = ", ".join(" ".join(re.sub(r"(\$\{\w+)[^}]*", r"\1", text).split()) for text in texts if text)
    if may_contain_secret(told):
        return "…"
    return told if len(told) <= 80 else told[:79] + "…"
