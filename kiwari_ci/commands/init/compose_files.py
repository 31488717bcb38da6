"""Compose files: the containers that a repository runs, and what each of them says about itself."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kiwari_ci.commands.init.build_settings import BuildSettings, parse_compose_build
from kiwari_ci.proxies.all_proxies import ALL_KINDS, find_proxy
from kiwari_ci.readers import compose_file, vocabulary
from kiwari_ci.readers.bounded_text import MAX_VALUE_LENGTH
from kiwari_ci.readers.compose_of_today import find_named_file, resolve_named_files
from kiwari_ci.readers.env_file import ENV_EXAMPLE_NAMES, list_effective_assignments
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
_YAML_PATH = r"(?!\.github/).*\.ya?ml"
_IS_COMPOSE_PATH = re.compile(compose_file.COMPOSE_FILE_PATH).fullmatch
_SECRET_WORDS = re.compile(  # words, and options of clients that take a password
    r"pass|secret|token|(?<!all)(?<!val)(?<!mon)key(?!cloak|db|space|word)|bearer|authorization"
    r"|(mysql|maria)\w{0,20}\b.{0,200}\s-p[^\s-]|redis-cli\b.{0,200}\s-a\s|alias set\b",
    re.IGNORECASE,
)
_VARIABLE = r"[\"']?\$\$?\{?\w+\}?[\"']?"
_SECRET_OF_VARIABLE = re.compile(  # options, keys, headers and logins whose whole value is a variable
    r"(?:pass|secret|token|key|auth)[\w.-]{0,60}[\"']?[\s=:]{1,3}(?:(?:bearer|basic|token)\s)?"
    + _VARIABLE
    + r"(?![\w./:@-])|\s-[ap]\s?"
    + _VARIABLE
    + r"(?![\w./:@-])|://[\w.-]{0,60}:"
    + _VARIABLE
    + "@",
    re.IGNORECASE,
)
_PASSWORD_PLUGIN = re.compile(r"\b(?:mysql_native|caching_sha2|sha256)_password\b")  # of MySQL: no password
_DEPENDS_ON_CONDITIONS = {  # Compose's words, and the spec's
    "service_started": "started",
    "service_healthy": "healthy",
    "service_completed_successfully": "completed",
}
_PROXY_PORT = re.compile(r"traefik\.http\.services\.([^.]+)\.loadbalancer\.server\.port|VIRTUAL_PORT")
_TRAEFIK_HEALTH_PATH = re.compile(r"traefik\.http\.services\.[^.]+\.loadbalancer\.healthcheck\.path")
_VERSION_VARIABLE = re.compile(
    r"TAG|(?:\w+_)?(?:IMAGE_VERSION|(?:IMAGE|DOCKER|RELEASE|GIT)_TAG|(?:GIT|COMMIT)_SHA|GIT_COMMIT)"
)
_ACCEPTS_REDIRECTS = re.compile(  # curl does not follow a redirect, and ends with 0 nevertheless; the others follow it
    r"\bcurl\b(?!.{0,500}http_code)|\bwget\b|urllib|requests\.get|\bfetch\("
)
_TRAEFIK_ROUTER_OPTION = re.compile(r"traefik\.http\.routers\.([^.]+)\.(entrypoints|tls\.certresolver|tls)")
_ROUTER_ROLES = {"entrypoints": "entrypoint", "tls.certresolver": "certresolver", "tls": "tls"}
_TRAEFIK_RULE = re.compile(r"traefik\.http\.routers\.([^.]+)\.rule")
_TRAEFIK_ROUTER_SERVICE = re.compile(r"traefik\.http\.routers\.([^.]+)\.service")
_TRAEFIK_ROUTER_MIDDLEWARES = re.compile(r"traefik\.http\.routers\.([^.]+)\.middlewares")
_PATH_PREFIX = re.compile(r"\bPathPrefix\(`(/[A-Za-z0-9._~/-]*)`\)")
_TRAEFIK_MIDDLEWARE = re.compile(r"traefik\.http\.middlewares\.([^.]+)\.")
_TRAEFIK_STRIP_PREFIX = re.compile(r"traefik\.http\.middlewares\.[^.]+\.stripprefix\.prefixes")
_COVERED_TRAEFIK_LABEL = re.compile(r"traefik\.(enable|docker\.network)")  # the pipeline writes these itself
_UNSUPPORTED_PROXY_LABEL = re.compile(r"traefik\.|caddy(_\d+)?\.(?!reverse_proxy$)")
_DEPLOYED_KINDS = (vocabulary.PRODUCTION, vocabulary.STAGING, vocabulary.DEPLOYED_DEVELOPMENT)
_EXAMPLE_ENDINGS = (".example", ".sample", ".template", ".dist")
MAX_REPLICAS = 100  # containers of one service that are named one by one
MAX_SUMMARY_LENGTH = 80  # characters
_OTHER_PROXY_IMAGES = ("nginxproxy", "jwilder", "haproxy")  # proxies that no spec can have
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
    passed_on: dict[str, str] = field(default_factory=dict)  # values of mere names, as deploys write them
    ports: list[SourcedValue] = field(default_factory=list)  # that it listens on
    published: list[int] = field(default_factory=list)  # ports of the machine that lead to it
    health: SourcedValue | None = None
    accepts_redirects: bool = False  # the check that asks the path
    env: list[tuple[str, str | None, str]] = field(default_factory=list)  # key, value (None: not known here), place
    env_files: list[SourcedValue] = field(default_factory=list)
    example_env: list[tuple[str, str, str]] = field(default_factory=list)  # key, value and place, by their examples
    container_name: SourcedValue | None = None
    domains: list[SourcedValue] = field(default_factory=list)  # with the path that a router's rule has
    stripped_addresses: set[str] = field(default_factory=set)  # those of them whose path Traefik takes away
    networks: list[SourcedValue] = field(default_factory=list)  # those that others made
    proxy: SourcedValue | None = None  # that its labels speak to
    routers: dict[str, dict[str, SourcedValue]] = field(default_factory=dict)  # what Traefik's labels say of each
    table: YamlMapping = field(default_factory=lambda: YamlMapping("", 0), repr=False)  # all that Compose is told of it
    variables: dict[str, str] = field(default_factory=dict)  # variables, as the example beside the file has them
    existing_volumes: dict[str, str] = field(default_factory=dict)  # those with a name of their own, by their key
    data_folders: dict[str, str] = field(default_factory=dict)  # beside the file on the server: with their full path
    unsupported: list[str] = field(default_factory=list)  # what `init` does not write, beside the keys of `table`

    @property
    def profiles(self) -> str:
        """The profiles without which nobody starts it; empty for one that always runs, or in production."""
        profiles = [format_scalar(item) for item, _ in self.table.list_items("profiles")]
        if any(vocabulary.classify_environment(profile) == vocabulary.PRODUCTION for profile in profiles):
            return ""
        return ", ".join(profiles)

    @property
    def replica_count(self) -> int:
        """How many containers Compose starts of it."""
        written = self.table.get("scale") or self.table.get_mapping("deploy").get("replicas")
        return min(written, MAX_REPLICAS) if isinstance(written, int) and written > 1 else 1

    @property
    def builds(self) -> bool:
        """Whether its image is built here."""
        return self.context is not None


@dataclass
class _TraefikRouting:
    """What the labels of one container say to Traefik, by the names of its routers and services there."""

    domains: dict[str, list[SourcedValue]] = field(default_factory=dict)  # of each router
    services: dict[str, str] = field(default_factory=dict)  # the service that a router names
    middlewares: dict[str, list[str]] = field(default_factory=dict)  # of each router
    own_middlewares: set[str] = field(default_factory=set)  # those that the labels define
    ports: dict[str, SourcedValue] = field(default_factory=dict)  # of each service; the name is empty for other proxies

    def find_port(self, router: str) -> SourcedValue | None:
        """The port that a router leads to: that of the service that it names, or of the only one."""
        service = self.services.get(router, router)
        first_port = next(iter(self.ports.values()), None)
        return self.ports.get(service, first_port)


@dataclass
class DetectedComposeFile:
    """A compose file."""

    path: str
    kind: str
    name: SourcedValue | None
    containers: list[DetectedContainer]
    is_complete: bool = True  # whether each of its services has an image or a build, without another file
    documents: list[YamlDocument] = field(default_factory=list, repr=False)  # the file, and those that it includes


def detect_proxy(image: str) -> str:
    """Which proxy an image is, as the spec calls it where it knows it; empty for none."""
    repository = parse_image_reference(image).repository
    for name in _OTHER_PROXY_IMAGES:
        if name in repository:
            return name
    for kind in ALL_KINDS:
        if find_proxy(kind).runs_image(repository):
            return kind
    return ""


def has_variable_version(image: str) -> bool:
    """Whether only a variable says the version of an image that is known by its name."""
    reference = parse_image_reference(image)
    return "$" in f"{reference.tag}{reference.digest}" and "$" not in reference.repository


def is_postgres_image(image: str) -> bool:
    """Whether an image is PostgreSQL, or made of it."""
    return _POSTGRES_LIKE_IMAGE.search(image) is not None


def read_compose_files(
    repository: LocalRepository,
    deployed_development_names: Collection[str] = (),
    named_groups: Collection[tuple[str, ...]] = (),
) -> list[DetectedComposeFile]:
    """Every compose file of a person that can be read; those for production first, those for development last.

    The names are those of environments for development that a workflow deploys: a file with one of them in its name is
    for that environment, and not for the machine of a developer. `named_groups` are the files that the commands of the
    deploys name together.
    """
    kinds = _FileKinds(deployed_development_names)
    documents: dict[str, YamlDocument] = {}
    for path in [*repository.matching(compose_file.COMPOSE_FILE_PATH), *_list_named_files(repository, named_groups)]:
        document = _read_document(repository, path)
        if document and not document.generated:
            documents[path] = document
    _merge_overlays(documents, named_groups, kinds)
    complete_paths = {path for path, document in documents.items() if _is_complete(document)}
    _apply_override_files(documents, kinds)
    included = _read_included_documents(repository, documents)
    in_others = {document.path for others in included.values() for document in others}
    compose_files = [
        _parse_compose_file(repository, document, included[path], kinds)
        for path, document in documents.items()
        if path not in in_others
    ]
    for file in compose_files:
        file.is_complete = file.path in complete_paths
    order = [
        vocabulary.PRODUCTION,
        vocabulary.STAGING,
        "",
        vocabulary.DEPLOYED_DEVELOPMENT,
        vocabulary.DEVELOPMENT,
    ]
    return sorted(compose_files, key=lambda file: (order.index(file.kind), file.path.count("/"), file.path))


def _list_named_files(repository: LocalRepository, named_groups: Collection[tuple[str, ...]]) -> list[str]:
    """The files that deploys name, and whose own names do not say that they are Compose files."""
    others = [path for path in repository.matching(_YAML_PATH) if not _IS_COMPOSE_PATH(path)]
    names = {name for group in named_groups for name in group if not _IS_COMPOSE_PATH(name)}
    return sorted({path for name in names if (path := find_named_file(name, others))})


@dataclass(frozen=True)
class _FileKinds:
    """Which kind of environment a compose file is for, by its name."""

    deployed_development_names: Collection[str]

    def classify(self, path: str) -> str:
        """The kind; empty for a file that is for all."""
        kind = vocabulary.classify_environment(path)
        is_deployed = bool(set(vocabulary.split_words(path)) & set(self.deployed_development_names))
        if kind == vocabulary.DEVELOPMENT and is_deployed:
            return vocabulary.DEPLOYED_DEVELOPMENT
        return kind


def leave_out_base_files(
    compose_files: list[DetectedComposeFile],
    scripts: str,
    deployed_kinds: Collection[str],
    named_groups: Collection[tuple[str, ...]],
) -> dict[str, str]:
    """Take out the files for all environments that no deploy of today uses, and say why.

    Such a file is left out only if each kind of environment that a workflow deploys has a file beside it that the
    deploys use alone: without `-f`, Compose reads the file with the usual name.
    """
    paths = [file.path for file in compose_files]
    groups = [resolve_named_files(group, paths) for group in named_groups]
    unused: dict[str, str] = {}
    for base in compose_files:
        if base.kind:
            continue
        folder = get_parent_folder(base.path)
        own_files = [file for file in compose_files if file.kind and get_parent_folder(file.path) == folder]
        lone_files = [file for file in own_files if _is_used_alone(file, base, scripts, groups)]
        if deployed_kinds and set(deployed_kinds) <= {file.kind for file in lone_files}:
            deployed_paths = list(dict.fromkeys(file.path for file in lone_files if file.kind in deployed_kinds))
            verb = "is" if len(deployed_paths) == 1 else "are"
            unused[base.path] = f"{', '.join(deployed_paths)} {verb} complete without it"
    compose_files[:] = [file for file in compose_files if file.path not in unused]
    return unused


def _is_used_alone(
    own: DetectedComposeFile, base: DetectedComposeFile, scripts: str, groups: list[tuple[str, ...]]
) -> bool:
    """Whether the deploys name a complete file for one kind of environment, and no command reads the base with it."""
    names_both = any({own.path, base.path} <= set(group) for group in groups)
    names_own = re.search(rf"(?<![\w.-]){re.escape(own.path.rpartition('/')[2])}", scripts)
    return own.is_complete and names_own is not None and not names_both


def _is_complete(document: YamlDocument) -> bool:
    """Whether each service of a compose file has an image or a build."""
    services = [table for _, table in document.data.get_mapping("services").iter_mappings()]
    return bool(services) and all({"image", "build", "extends"} & table.keys() for table in services)


def _read_document(repository: LocalRepository, path: str) -> YamlDocument | None:
    try:
        document = parse_yaml_document(path, repository.read(path))
    except UnreadableYaml as error:
        repository.troubles.append(f"{error.describe(path)}: not read")
        return None
    if not document.generated and not {"services", "include"} & document.data.keys():
        repository.troubles.append(f"{path}: no `services:`, as in version 1 of Compose: not read")
        return None
    return document


def _merge_overlays(
    documents: dict[str, YamlDocument], named_groups: Collection[tuple[str, ...]], kinds: _FileKinds
) -> None:
    """Merge into a compose file those for no environment that each deploy of it names behind it, with `-f` or alike."""
    as_written = dict(documents)
    groups = [resolve_named_files(group, as_written) for group in named_groups]
    base_paths = dict.fromkeys(group[0] for group in groups if group)
    for base_path in base_paths:
        groups_of_base = [group[1:] for group in groups if group[:1] == (base_path,)]
        for path in groups_of_base[0]:
            is_always_named = all(path in group for group in groups_of_base)
            if not is_always_named or kinds.classify(path):
                continue
            documents[base_path] = compose_file.merge_documents(documents[base_path], as_written[path])
            if path not in base_paths:  # a deploy reads no other file before it
                documents.pop(path, None)


def _apply_override_files(documents: dict[str, YamlDocument], kinds: _FileKinds) -> None:
    """Merge each file for one environment with the file for all environments in the same folder."""
    for path, document in documents.items():
        if kinds.classify(path) not in _DEPLOYED_KINDS:
            continue
        for base_path, base in documents.items():
            is_beside = get_parent_folder(base_path) == get_parent_folder(path)
            if is_beside and not kinds.classify(base_path):
                compose_file.apply_override_file(base, document)


def _read_included_documents(
    repository: LocalRepository, documents: dict[str, YamlDocument]
) -> dict[str, list[YamlDocument]]:
    """The files that each compose file includes, and those that they include in turn."""
    included: dict[str, list[YamlDocument]] = {}
    for path, document in documents.items():
        documents_by_path: dict[str, YamlDocument] = {}
        waiting = compose_file.list_included_paths(document)
        while waiting:
            included_path = waiting.pop(0)
            if included_path in documents_by_path or included_path == path:
                continue
            if included_path not in repository.files:
                repository.troubles.append(f"{path}: includes {included_path}, which is not there")
                continue
            included_document = documents.get(included_path) or _read_document(repository, included_path)
            if included_document:
                documents_by_path[included_path] = included_document
                waiting += compose_file.list_included_paths(included_document)
        included[path] = list(documents_by_path.values())
    return included


def _parse_compose_file(
    repository: LocalRepository, document: YamlDocument, included: list[YamlDocument], kinds: _FileKinds
) -> DetectedComposeFile:
    """A compose file with the containers of those that it includes."""
    return _parse_documents(repository, [document, *included], kinds.classify(document.path), ())


def parse_for_environment(
    repository: LocalRepository, file: DetectedComposeFile, kind: str, env_files: Collection[str]
) -> DetectedComposeFile:
    """A Compose file that several environments use, as one of them has it: with the values of its own env files."""
    own_file = _parse_documents(repository, file.documents, kind, env_files)
    own_file.is_complete = file.is_complete
    return own_file


def _parse_documents(
    repository: LocalRepository, documents: list[YamlDocument], kind: str, env_files: Collection[str]
) -> DetectedComposeFile:
    document = documents[0]
    containers = [
        container
        for read_document in documents
        for container in _parse_containers(repository, read_document, kind, env_files)
    ]
    variables = load_compose_variables(repository, get_parent_folder(document.path), env_files)
    name = vocabulary.interpolate_variables(document.data.get_text("name"), variables)
    project_name = SourcedValue(name, document.data.where("name")) if name else None
    return DetectedComposeFile(document.path, kind, project_name, containers, documents=documents)


def _parse_containers(
    repository: LocalRepository, document: YamlDocument, kind: str, env_files: Collection[str]
) -> list[DetectedContainer]:
    path = document.path
    variables = load_compose_variables(repository, get_parent_folder(path), env_files)
    external_networks = _find_external_networks(document.data, variables)
    project = compose_file.parse_compose_file(document)
    containers = []
    services = list(project.services.values()) if project else []
    images = {
        service.key: vocabulary.interpolate_known_variables(service.image, variables) or service.key
        for service in services
    }
    tag_variables = {name for service in services for name in _list_tag_variables(service.image)}
    for service in services:
        container = DetectedContainer(path, service.key, service.where, kind)
        _parse_container(container, service.table, variables, external_networks)
        _parse_build(container, images)
        _parse_environment(container, tag_variables, repository.written_variables)
        container.example_env = _read_example_env(repository, container)
        containers.append(container)
    for key, options in document.data.get_mapping("volumes").iter_mappings():
        existing_name = _find_existing_volume(key, options, variables)
        other_options = ", ".join(option for option in options if option not in ("external", "name"))
        for container in containers:
            if key in dict(iter_mounts(container)):
                if existing_name:
                    container.existing_volumes[key] = existing_name
                if other_options:
                    container.unsupported.append(f"{other_options} of the volume {key}")
    return containers


def _find_external_networks(compose: YamlMapping, variables: dict[str, str]) -> dict[str, str]:
    """Find the external networks: the name that each has in Docker, by its key."""
    networks = {}
    for key, options in compose.get_mapping("networks").iter_mappings():
        if options.get("external"):
            name = options.get_text("name") or key
            networks[key] = vocabulary.interpolate_variables(name, variables) or key
    return networks


def _find_existing_volume(key: str, options: YamlMapping, variables: dict[str, str]) -> str:
    """What Docker calls a volume that has another name than Compose would give it; empty for the others."""
    if not options.get("external") and not options.get("name"):
        return ""
    name = options.get_text("name") or key
    return vocabulary.interpolate_variables(name, variables) or ""


def iter_dependencies(container: DetectedContainer) -> Iterator[tuple[str, str]]:
    """What a container waits for, and until when, in the words of the spec."""
    for name, condition in compose_file.iter_dependencies(container.table):
        yield name, _DEPENDS_ON_CONDITIONS.get(condition, "started")


def list_example_paths(repository: LocalRepository, env_file: str) -> list[str]:
    """The examples of an env file: those with its name and, where there is none, those of its whole folder."""
    named = [f"{env_file}{ending}" for ending in _EXAMPLE_ENDINGS]
    of_folder = list_examples_in(get_parent_folder(env_file)) if env_file.endswith(".env") else []
    for paths in (named, of_folder):
        existing_paths = [path for path in paths if repository.has(path)]
        if existing_paths:
            return existing_paths
    return []


def list_examples_in(folder: str) -> list[str]:
    """Where the example of a folder's env file may be."""
    return [join_path(folder, name) or "" for name in ENV_EXAMPLE_NAMES]


def _read_example_env(repository: LocalRepository, container: DetectedContainer) -> list[tuple[str, str, str]]:
    """The variables that the examples of a container's env files have: key, value and place."""
    variables = []
    for env_file in container.env_files:
        for path in list_example_paths(repository, str(env_file.value)):
            for assignment in list_effective_assignments(repository.read(path)):
                variables.append((assignment.key, assignment.value, f"{path}:{assignment.line}"))
    return variables


def find_one_shot_services(containers: Iterable[DetectedContainer]) -> set[str]:
    """The names of the containers that run to their end."""
    containers = list(containers)
    serving = {container.name for container in containers if container.ports}
    return compose_file.find_one_shots(((container.name, container.table) for container in containers), serving)


def iter_mounts(container: DetectedContainer) -> Iterator[tuple[str, str]]:
    """What is mounted, as Compose's short form has it: its source (empty where there is none), and all of it."""
    for mount in compose_file.list_mounts(container.table):
        source = mount.source or mount.kind
        mode = "" if mount.mode in ("rw", "z", "Z") else mount.mode
        text = ":".join(filter(None, (source, mount.target, mode)))
        text = vocabulary.interpolate_variables(text, container.variables) or text
        yield text.partition(":")[0], text


def list_published_ports(table: YamlMapping) -> list[str]:
    """The ports of the machine that lead to a container, as Compose's short form has them."""
    return [port.text for port in compose_file.list_ports(table) if port.is_published]


def list_known_published_ports(container: DetectedContainer) -> list[str]:
    """The ports of the machine that lead to a container, with the values of the variables that are known."""
    return [
        vocabulary.interpolate_variables(port, container.variables) or port
        for port in list_published_ports(container.table)
    ]


def load_compose_variables(repository: LocalRepository, folder: str, env_files: Collection[str] = ()) -> dict[str, str]:
    """The values that Compose fills in: those of the examples of the env file beside a compose file, or of the file.

    The first file that gives a variable a value counts. The examples in the root say what is missing beside the file.
    The env files that a deploy names come before them, and what a deploy writes into the env file as plain text before
    all.
    """
    named_paths = [
        f"{path}{ending}"
        for env_file in env_files
        for path in (join_path(folder, env_file) or "", join_path(".", env_file) or "", env_file.rpartition("/")[2])
        for ending in (*_EXAMPLE_ENDINGS, "")
    ]
    usual_paths = [
        join_path(example_folder, name) or ""
        for example_folder in dict.fromkeys([folder, "."])
        for name in (*ENV_EXAMPLE_NAMES, ".env")
    ]
    values: dict[str, str] = {}
    for path in dict.fromkeys([*named_paths, *usual_paths]):
        if repository.has(path):
            for key, value in _read_env_values(repository, path).items():
                values[key] = values.get(key) or value
    return values | repository.written_variables


def _read_env_values(repository: LocalRepository, path: str) -> dict[str, str]:
    """The variables of an env file."""
    return {assignment.key: assignment.value for assignment in list_effective_assignments(repository.read(path))}


def _parse_container(
    container: DetectedContainer, table: YamlMapping, variables: dict[str, str], external_networks: dict[str, str]
) -> DetectedContainer:
    """Put into a container what its compose file says of it."""
    container.table = table
    container.variables = variables
    container.image = vocabulary.interpolate_known_variables(table.get_text("image"), variables)
    _parse_ports(container)
    _parse_healthcheck(container)
    for file, place in compose_file.list_env_files(table):
        known_file = vocabulary.interpolate_variables(file, variables) or file
        path = join_path(get_parent_folder(container.file), known_file)
        if path:
            container.env_files.append(SourcedValue(path, place))
    name = vocabulary.interpolate_variables(table.get_text("container_name"), variables)
    if name:
        container.container_name = SourcedValue(name, table.where("container_name"))
    _parse_labels(container)
    _parse_networks(container, external_networks)
    return container


def _parse_environment(
    container: DetectedContainer, tag_variables: set[str], written_variables: dict[str, str]
) -> None:
    """The variables of a container; one that has the version of today's images changes with each deploy.

    A mere name, such as `- POSTGRES_USER`, passes on what a deploy writes into the env file under this name.
    """
    for key, value, place in container.table.iter_key_values("environment"):
        text = format_scalar(value)
        names = vocabulary.list_variables(text)
        version_names = [name for name in names if name in tag_variables or _VERSION_VARIABLE.fullmatch(name)]
        if version_names:
            note = f"environment {key} ({place}), the version that a deploy sets as {', '.join(version_names)}"
            container.unsupported.append(note)
        elif key:
            container.env.append((key, None if value is None else _resolve_literal(text), place))
            if value is None and key in written_variables:
                container.passed_on[key] = written_variables[key]


def _list_tag_variables(image: str) -> list[str]:
    """The variables that a deploy sets to say which version of an image runs."""
    return vocabulary.list_variables(parse_image_reference(image).tag)


def _parse_ports(container: DetectedContainer) -> None:
    """The ports that a container listens on, and those of the machine that lead to it."""
    table = container.table
    ports = [(port.text, port.where) for port in compose_file.list_ports(table)]
    ports += [(format_scalar(item), place) for item, place in table.list_items("expose")]
    for text, place in ports:
        port = _parse_target_port(text, container.variables)
        if port:
            container.ports.append(SourcedValue(port, place))
    for text in list_published_ports(table):
        parts = text.split(":")
        if len(parts) > 1 and parts[-2].isdecimal():
            container.published.append(int(parts[-2]))


def _parse_networks(container: DetectedContainer, external_networks: dict[str, str]) -> None:
    table = container.table
    for name, options in table.get_mapping("networks").iter_mappings():
        if options:
            container.unsupported.append(f"{', '.join(options)} in the network {name}")
    networks = table.get("networks")
    if not isinstance(networks, YamlMapping | YamlSequence):
        return
    for name in map(format_scalar, networks):
        if name in external_networks:
            container.networks.append(SourcedValue(external_networks[name], table.where("networks")))
        elif name != "default":
            container.unsupported.append(f"network {name}")


def _parse_build(container: DetectedContainer, images: dict[str, str]) -> None:
    build = compose_file.parse_build(container.table)
    if not build:
        return
    context = vocabulary.interpolate_variables(build.context, container.variables)
    folder = join_path(get_parent_folder(container.file), context) if context and "://" not in context else None
    if folder is None:
        container.unsupported.append("a build context outside of the repository")
        return
    dockerfile = vocabulary.interpolate_variables(build.dockerfile, container.variables) or "Dockerfile"
    container.context = folder
    container.dockerfile = join_path(folder, dockerfile) or ""
    container.settings = parse_compose_build(build.options, images)


def _resolve_literal(text: str) -> str | None:
    """A value as the file gives it; None for one that depends on a variable: an example's value is not the server's."""
    value = vocabulary.interpolate_variables(text, {})
    return value if value or not text else None


def _parse_target_port(text: str, known: dict[str, str]) -> int | None:
    """The port of the container in `8080`, `80:8080/tcp` and the like; None when it is a range or not known."""
    without_protocol = (vocabulary.interpolate_variables(text, known) or "").partition("/")[0]
    port = without_protocol.rpartition(":")[2]
    return int(port) if port.isdecimal() and 0 < int(port[:6]) < 65536 else None


def _parse_healthcheck(container: DetectedContainer) -> None:
    check = container.table.get_mapping("healthcheck")
    command = " ".join(text for text, _ in collect_strings(check.get("test")))
    command = vocabulary.interpolate_variables(command, container.variables) or command
    port, path = vocabulary.parse_probe_command(command)
    if not path:
        return
    container.health = SourcedValue(path, check.where("test"))
    container.accepts_redirects = _ACCEPTS_REDIRECTS.search(command) is not None
    if port:
        container.ports.insert(0, SourcedValue(port, check.where("test")))


def _parse_labels(container: DetectedContainer) -> None:
    """What labels and well-known variables say to a proxy."""
    table = container.table
    stripped_prefixes: list[tuple[str, str]] = []
    routing = _TraefikRouting()
    for key, value, place in [
        *table.iter_pairs("labels"),
        *table.get_mapping("deploy").iter_pairs("labels"),
        *table.iter_pairs("environment"),
    ]:
        text = vocabulary.interpolate_variables(value, container.variables) or ""
        if middleware := _TRAEFIK_MIDDLEWARE.match(key):
            routing.own_middlewares.add(middleware[1])
        proxy = re.match(r"traefik(?=\.)|caddy", key)
        if proxy and not container.proxy:
            container.proxy = SourcedValue(proxy[0], place)
        if router_option := _TRAEFIK_ROUTER_OPTION.fullmatch(key):
            router, option = router_option.groups()
            role = _ROUTER_ROLES[option]
            container.routers.setdefault(router, {})[role] = SourcedValue(text, place)
        elif proxy_port := _PROXY_PORT.fullmatch(key):
            if text.isdecimal():
                port = SourcedValue(int(text), place)
                routing.ports.setdefault(proxy_port[1] or "", port)
        elif _TRAEFIK_HEALTH_PATH.fullmatch(key) and not container.health:
            container.health = SourcedValue(text, place)
        elif rule := _TRAEFIK_RULE.fullmatch(key):
            routing.domains[rule[1]] = _parse_router_rule(container, value, text, place)
        elif router_service := _TRAEFIK_ROUTER_SERVICE.fullmatch(key):
            routing.services[router_service[1]] = text
        elif middlewares := _TRAEFIK_ROUTER_MIDDLEWARES.fullmatch(key):
            routing.middlewares[middlewares[1]] = [name.strip() for name in text.split(",")]
        elif _TRAEFIK_STRIP_PREFIX.fullmatch(key):
            stripped_prefixes.append((key, text.rstrip("/")))
        elif _UNSUPPORTED_PROXY_LABEL.match(key) and not _COVERED_TRAEFIK_LABEL.fullmatch(key):
            container.unsupported.append(f"label {key}")
        elif key in ("caddy", "VIRTUAL_HOST"):
            domains = vocabulary.find_domains(text)
            container.domains += [SourcedValue(domain, place) for domain in domains]
            if not domains:
                container.unsupported.append(f"the domain of its {key}, {_strip_defaults(value)}")
    _add_router_domains(container, routing)
    _strip_prefixes(container, stripped_prefixes)
    _note_other_routers(container, routing)


def _add_router_domains(container: DetectedContainer, routing: _TraefikRouting) -> None:
    """Add the port of the first router, and the addresses of all routers that lead to it."""
    main_port = routing.find_port(next(iter(routing.domains), ""))
    if main_port:
        container.ports.insert(0, main_port)
    for router, domains in routing.domains.items():
        port = routing.find_port(router)
        if not port or not main_port or port.value == main_port.value:
            container.domains += domains
            continue
        addresses = ", ".join(str(domain.value) for domain in domains)
        container.unsupported.append(f"the router {router} ({addresses}), which leads to another port, {port.value}")


def _note_other_routers(container: DetectedContainer, routing: _TraefikRouting) -> None:
    """Note the options of routers beside those of the one that counts, and the middlewares that others define."""
    main_options = choose_router_options(container.routers)
    for router, options in container.routers.items():
        differing = [str(option.value) for role, option in options.items() if not _agrees(main_options, role, option)]
        if differing:
            container.unsupported.append(f"the router {router}, with other options ({', '.join(differing)})")
    for router, middlewares in routing.middlewares.items():
        elsewhere = [name for name in middlewares if name.removesuffix("@docker") not in routing.own_middlewares]
        if elsewhere:
            container.unsupported.append(f"the middlewares of the router {router}, {', '.join(elsewhere)}")


def choose_router_options(routers: Mapping[str, dict[str, SourcedValue]]) -> dict[str, SourcedValue]:
    """What labels say of the router that counts: one that has a certificate, or else the first one."""
    for options in routers.values():
        if "certresolver" in options:
            return options
    return next(iter(routers.values()), {})


def _agrees(options: dict[str, SourcedValue], role: str, option: SourcedValue) -> bool:
    return role in options and options[role].value == option.value


def _strip_prefixes(container: DetectedContainer, prefixes: list[tuple[str, str]]) -> None:
    """Mark the addresses whose whole path a middleware takes away; another prefix has no place in the spec."""
    for key, prefix in prefixes:
        addresses = {str(domain.value) for domain in container.domains if _get_path(str(domain.value)) == prefix}
        container.stripped_addresses |= addresses
        if not addresses:
            container.unsupported.append(f"label {key}")


def _get_path(address: str) -> str:
    _, slash, path = address.partition("/")
    return f"{slash}{path}"


def _parse_router_rule(container: DetectedContainer, written: str, rule: str, place: str) -> list[SourcedValue]:
    """The addresses of a router; `rule` is what is written, with its variables filled in, or empty."""
    domains = vocabulary.find_domains(" ".join(compose_file.find_rule_hosts(rule)))
    prefixes = list(dict.fromkeys(prefix.rstrip("/") for prefix in _PATH_PREFIX.findall(rule)))
    path = prefixes[0] if len(prefixes) == 1 else ""
    rest = _PATH_PREFIX.sub("", rule)
    if domains and len(prefixes) > 1:
        addresses = ", ".join(f"{domain}{prefix}" for domain in domains for prefix in prefixes)
        container.unsupported.append(f"the paths of its router's rule, which `domains` takes: {addresses}")
    if re.search(r"Path|Header|Query|Method|ClientIP", rest):
        container.unsupported.append("more of its router's rule than the domain and the path")
    if not domains:
        hosts = written.partition("Host(")[2].partition(")")[0]
        container.unsupported.append(f"the domain of its rule, {hosts}")
    return [SourcedValue(f"{domain}{path}", place) for domain in domains]


def list_secret_file_variables(container: DetectedContainer) -> list[str]:
    """The variables that say where one of Compose's `secrets` is, which no deploy of the spec puts there."""
    return [key for key, value, _ in container.env if (value or "").startswith("/run/secrets/")]


def may_contain_secret(text: str) -> bool:
    """Whether a text could have a secret in it, beside the variables that it names; a very long text always could."""
    if len(text) > MAX_VALUE_LENGTH:
        return True
    without_names = _PASSWORD_PLUGIN.sub("plugin", _SECRET_OF_VARIABLE.sub(" ", text))
    plain = re.sub(r"\$\$?\{?\w+\}?", "", without_names)
    return _SECRET_WORDS.search(plain) is not None or vocabulary.may_be_secret(plain)


def _strip_defaults(text: str) -> str:
    """A text whose variables have only their names: a default may be a secret."""
    return re.sub(r"(\$\{\w+)[^}]*", r"\1", text)


def summarize_value(value: Any) -> str:
    """A value in a few words; `…` for one that could have a secret in it."""
    texts = [text for text, _ in collect_strings(value)] or [format_scalar(value)]
    without_defaults = [_strip_defaults(text) for text in texts if text]
    summary = ", ".join(" ".join(text.split()) for text in without_defaults)[:MAX_VALUE_LENGTH]
    if may_contain_secret(summary):
        return "…"
    return summary if len(summary) <= MAX_SUMMARY_LENGTH else summary[: MAX_SUMMARY_LENGTH - 1] + "…"
