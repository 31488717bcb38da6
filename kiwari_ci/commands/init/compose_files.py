"""Compose files: the containers that a repository runs, and what each of them says about itself."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from kiwari_ci.commands.init.build_settings import BuildSettings, parse_compose_build
from kiwari_ci.readers import compose_file, vocabulary
from kiwari_ci.readers.env_file import parse_env_assignments
from kiwari_ci.readers.image_reference import parse_image_reference
from kiwari_ci.readers.repository import LocalRepository, get_parent_folder, join_path
from kiwari_ci.readers.vocabulary import SourcedValue
from kiwari_ci.readers.yaml_document import (
    UnreadableYaml,
    YamlDocument,
    YamlMapping,
    YamlSequence,
    collect_strings,
    format_scalar,
    parse_yaml_document,
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
_DEPENDS_ON_CONDITIONS = {  # Compose's words, and the spec's
    "service_started": "started",
    "service_healthy": "healthy",
    "service_completed_successfully": "completed",
}
_PROXY_IMAGES = ("traefik", "caddy", "nginx-proxy-manager", "nginxproxy", "jwilder", "haproxy", "nginx")
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
        named = [format_scalar(item) for item, _ in self.table.list_items("profiles")]
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
    repository = parse_image_reference(image).repository
    return next((proxy for proxy in _PROXY_IMAGES if proxy in repository), "")


def is_postgres_image(image: str) -> bool:
    """Whether an image is PostgreSQL, or made of it."""
    return _POSTGRES_LIKE_IMAGE.search(image) is not None


def read_compose_files(repository: LocalRepository) -> list[DetectedComposeFile]:
    """Every compose file of a person that can be read; those for production first, those for development last."""
    compose_files = []
    for path in repository.matching(compose_file.COMPOSE_FILE_PATH):
        try:
            document = parse_yaml_document(path, repository.read(path))
        except UnreadableYaml as error:
            repository.troubles.append(f"{error.describe(path)}: not read")
            continue
        if not document.generated:
            compose_files.append(_parse_compose_file(repository, document))
    order = [vocabulary.PRODUCTION, vocabulary.STAGING, "", vocabulary.DEVELOPMENT]
    return sorted(compose_files, key=lambda file: (order.index(file.kind), file.path.count("/"), file.path))


def _parse_compose_file(repository: LocalRepository, document: YamlDocument) -> DetectedComposeFile:
    path = document.path
    variables = load_compose_variables(repository, get_parent_folder(path))
    name = vocabulary.interpolate_variables(document.data.get_text("name"), variables)
    kind = vocabulary.classify_environment(path)
    external_networks = _find_external_networks(document.data, variables)
    project = compose_file.parse_compose_file(document)
    containers = []
    for service in project.services.values() if project else ():
        container = DetectedContainer(path, service.key, service.where, kind)
        containers.append(_parse_container(container, service.table, variables, external_networks))
    volume_options = {
        key: ", ".join(options) for key, options in document.data.get_mapping("volumes").iter_mappings() if options
    }
    for container in containers:
        for volume, _ in iter_mounts(container):
            if volume in volume_options:
                container.beyond.append(f"{volume_options[volume]} of the volume {volume}")
    project_name = SourcedValue(name, document.data.where("name")) if name else None
    return DetectedComposeFile(path, kind, project_name, containers)


def _find_external_networks(compose: YamlMapping, variables: dict[str, str]) -> dict[str, str]:
    """The networks that others made: by their key, what Docker calls them."""
    networks = {}
    for key, options in compose.get_mapping("networks").iter_mappings():
        if options.get("external"):
            name = options.get_text("name") or key
            networks[key] = vocabulary.interpolate_variables(name, variables) or key
    return networks


def iter_dependencies(container: DetectedContainer) -> Iterator[tuple[str, str]]:
    """What a container waits for, and until when, in the words of the spec."""
    for name, condition in compose_file.iter_dependencies(container.table):
        yield name, _DEPENDS_ON_CONDITIONS.get(condition, "started")


def find_one_shot_services(containers: Iterable[DetectedContainer]) -> set[str]:
    """The names of those that others wait for until they have ended."""
    return {name for each in containers for name, how in iter_dependencies(each) if how == "completed"}


def iter_mounts(container: DetectedContainer) -> Iterator[tuple[str, str]]:
    """What is mounted, as Compose's short form has it: its source (empty where there is none), and all of it."""
    for mount in compose_file.list_mounts(container.table):
        source = mount.source or mount.kind
        mode = "" if mount.mode in ("rw", "z", "Z") else mount.mode
        text = ":".join(filter(None, (source, mount.target, mode)))
        text = vocabulary.interpolate_variables(text, container.known) or text
        yield text.partition(":")[0], text


def list_published_ports(table: YamlMapping) -> list[str]:
    """The ports of the machine that lead to a container, as Compose's short form has them."""
    return [port.text for port in compose_file.list_ports(table) if port.is_published]


def load_compose_variables(repository: LocalRepository, folder: str) -> dict[str, str]:
    """What an example of the env file beside a compose file says, or the file itself: Compose fills in from it."""
    for name in (".env.example", ".env.sample", ".env.template", "env.example", ".env.dist", ".env"):
        path = join_path(folder, name)
        if path and repository.has(path):
            assignments = parse_env_assignments(repository.read(path))
            return {assignment.key: assignment.value for assignment in assignments}
    return {}


def _parse_container(
    made: DetectedContainer, table: YamlMapping, known: dict[str, str], external: dict[str, str]
) -> DetectedContainer:
    made.table, made.known = table, known
    made.image = vocabulary.interpolate_variables(table.get_text("image"), known) or table.get_text("image")
    _parse_build(made, table, known)
    listened = [(port.text, port.where) for port in compose_file.list_ports(table)]
    listened += [(format_scalar(item), place) for item, place in table.list_items("expose")]
    for text, place in listened:
        if port := _parse_target_port(text, known):
            made.ports.append(SourcedValue(port, place))
    _parse_healthcheck(made, table, known)
    made.env = [
        (key, _resolve_literal(value, known), place) for key, value, place in table.iter_pairs("environment") if key
    ]
    for file, place in compose_file.list_env_files(table):
        if path := join_path(get_parent_folder(made.file), file):
            made.env_files.append(SourcedValue(path, place))
    if name := vocabulary.interpolate_variables(table.get_text("container_name"), known):
        made.container_name = SourcedValue(name, table.where("container_name"))
    _parse_labels(made, table, known)
    networks = table.get("networks")
    for name, given in table.get_mapping("networks").iter_mappings():
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
    build = compose_file.parse_build(table)
    if not build:
        return
    context = vocabulary.interpolate_variables(build.context, known)
    folder = join_path(get_parent_folder(made.file), context) if context and "://" not in context else None
    if folder is None:
        made.beyond.append("a build context outside of the repository")
        return
    dockerfile = vocabulary.interpolate_variables(build.dockerfile, known) or "Dockerfile"
    made.context = folder
    made.dockerfile = join_path(folder, dockerfile) or ""
    made.settings = parse_compose_build(build.options)


def _resolve_literal(text: str, known: dict[str, str]) -> str | None:
    """A value as the file gives it: what only an example of an env file knows is not known."""
    made = vocabulary.interpolate_variables(text, {})
    return made if made or not text else None


def _parse_target_port(text: str, known: dict[str, str]) -> int | None:
    """The port of the container in `8080`, `80:8080/tcp` and the like; None when it is a range or not known."""
    without_protocol = (vocabulary.interpolate_variables(text, known) or "").partition("/")[0]
    port = without_protocol.rpartition(":")[2]
    return int(port) if port.isdecimal() and 0 < int(port[:6]) < 65536 else None


def _parse_healthcheck(made: DetectedContainer, table: YamlMapping, known: dict[str, str]) -> None:
    check = table.get_mapping("healthcheck")
    text = " ".join(each for each, _ in collect_strings(check.get("test")))
    port, path = vocabulary.parse_probe_command(vocabulary.interpolate_variables(text, known) or text)
    if path:
        made.health = SourcedValue(path, check.where("test"))
        made.ports[:0] = [SourcedValue(port, check.where("test"))] if port else []


def _parse_labels(made: DetectedContainer, table: YamlMapping, known: dict[str, str]) -> None:
    for key, value, place in [
        *table.iter_pairs("labels"),
        *table.get_mapping("deploy").iter_pairs("labels"),
        *table.iter_pairs("environment"),
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
            hosts = " ".join(compose_file.find_rule_hosts(text))
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
