"""Compose files: the containers that a repository runs, and what each of them says about itself."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from kiwari_ci.commands.init.build_settings import Settings, of_compose
from kiwari_ci.output.generated_files import is_marked
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.lenient_yaml import Items, Mapping, Unreadable, as_text, read, strings
from kiwari_ci.readers.repository import Repository, join, parent
from kiwari_ci.readers.vocabulary import Fact

_FILES = r"(?:.*/)?(?:docker-)?compose[\w.-]*\.ya?ml|(?:.*/)?docker-stack[\w.-]*\.ya?ml|(?:.*/)?stack\.ya?ml"
SAID = {  # keys of a service that the spec says, or that the generated stack decides itself
    "image", "build", "container_name", "restart", "expose", "pull_policy", "init",
    "platform", "stdin_open", "tty",
}  # fmt: skip
_TELLS = re.compile(  # words, and options of clients that take a password
    r"pass|secret|token|key|bearer|authorization|(mysql|maria)\w{0,20}\b.{0,200}\s-p[^\s-]|redis-cli\b.{0,200}\s-a\s"
    r"|alias set\b",
    re.IGNORECASE,
)
_CONDITIONS = {"service_healthy": "healthy", "service_completed_successfully": "completed"}
_PROXIES = ("traefik", "caddy", "nginx-proxy-manager", "nginxproxy", "jwilder", "haproxy", "nginx")
POSTGRES = re.compile(r"(?:docker\.io/)?(?:library/)?postgres(?::|@|$)")
_LIKE_POSTGRES = re.compile(r"postg|timescale|pgvector|supabase/postgres")


@dataclass
class Container:
    """One service of one compose file."""

    file: str
    name: str
    where: str
    kind: str  # of environment, by the file's name: empty for a file that is for all
    image: str = ""
    context: str | None = None
    dockerfile: str = ""
    settings: Settings = field(default_factory=Settings)  # of the build
    ports: list[Fact] = field(default_factory=list)  # that it listens on
    published: list[int] = field(default_factory=list)  # ports of the machine that lead to it
    health: Fact | None = None
    env: list[tuple[str, str | None, str]] = field(default_factory=list)  # key, value (None: not known here), place
    env_files: list[Fact] = field(default_factory=list)
    container_name: Fact | None = None
    domains: list[Fact] = field(default_factory=list)
    networks: list[Fact] = field(default_factory=list)  # those that others made
    proxy: Fact | None = None  # that its labels speak to
    routers: dict[str, dict[str, Fact]] = field(default_factory=dict)  # what Traefik's labels say of each
    table: Mapping = field(default_factory=lambda: Mapping("", 0), repr=False)  # all that Compose is told of it
    known: dict[str, str] = field(default_factory=dict)  # variables, as the example beside the file has them
    beyond: list[str] = field(default_factory=list)  # what `init` does not write, beside the keys of `table`

    @property
    def profiles(self) -> str:
        """Those without which nobody starts it; empty for one that always runs, or in production."""
        named = [as_text(item) for item, _ in self.table.items_of("profiles")]
        return "" if any(vocabulary.kind_of(each) == vocabulary.PRODUCTION for each in named) else ", ".join(named)

    @property
    def builds(self) -> bool:
        """Whether its image is built here."""
        return self.context is not None


@dataclass
class Stack:
    """A compose file."""

    path: str
    kind: str
    name: Fact | None
    containers: list[Container]


def proxy_of(image: str) -> str:
    """Which proxy an image is; empty for none."""
    base = image.partition("@")[0].rpartition(":")[0] or image
    return next((name for name in _PROXIES if name in base), "")


def is_postgres(image: str) -> bool:
    """Whether an image is PostgreSQL, or made of it."""
    return _LIKE_POSTGRES.search(image) is not None


def stacks(repository: Repository) -> list[Stack]:
    """Every compose file of a person that can be read; those for production first, those for development last."""
    found = []
    for path in repository.matching(_FILES):
        if is_marked(path, repository.read(path)):
            continue
        try:
            document = read(path, repository.read(path))
        except Unreadable as why:
            repository.troubles.append(f"{why}: not read" if repository.read(path).strip() else f"{path}: empty")
            continue
        found.append(_stack(repository, path, document))
    order = [vocabulary.PRODUCTION, vocabulary.STAGING, "", vocabulary.AWAY]
    return sorted(found, key=lambda stack: (order.index(stack.kind), stack.path.count("/"), stack.path))


def _stack(repository: Repository, path: str, document: Mapping) -> Stack:
    known = variables(repository, parent(path))
    name = vocabulary.filled(document.text("name"), known)
    kind = vocabulary.kind_of(path)
    external = {
        key: vocabulary.filled(table.text("name") or key, known) or key
        for key, table in document.table("networks").tables()
        if table.get("external")
    }
    containers = [
        _container(Container(path, key, services.where(key), kind), table, known, external)
        for services in [document.table("services")]
        for key, table in ((key, _extended(services, table)) for key, table in services.tables())
    ]
    made_by = {key: ", ".join(table) for key, table in document.table("volumes").tables() if table}
    for each in containers:
        each.beyond += [f"{made_by[name]} of the volume {name}" for name, _ in mounts(each) if name in made_by]
    return Stack(path, kind, Fact(name, document.where("name")) if name else None, containers)


def _extended(services: Mapping, table: Mapping, depth: int = 0) -> Mapping:
    """A container with what it extends in the same file; what another file has is told, not read."""
    given = table.get("extends")
    base = services.get(given.text("service") if isinstance(given, Mapping) else as_text(given))
    if depth > 9 or not isinstance(base, Mapping) or (isinstance(given, Mapping) and given.get("file")):
        return table
    made, base = Mapping(table.path, table.line), _extended(services, base, depth + 1)
    for each in (base, table):
        for key, value in each.items():
            made[key], made.places[key] = value, each.places[key]
    for key in ("environment", "labels"):
        mine, its = table.get(key), base.get(key)
        if isinstance(mine, Mapping) and isinstance(its, Mapping):
            made[key] = both = Mapping(table.path, mine.line)
            both.update(its | mine)
            both.places = its.places | mine.places
        elif isinstance(mine, Items) and isinstance(its, Items):
            made[key] = items = Items()
            items += [*its, *mine]
            items.places = [*its.places, *mine.places]
    del made["extends"]
    return made


def waited(container: Container) -> Iterator[tuple[str, str]]:
    """What a container waits for, and until when."""
    given = container.table.get("depends_on")
    if isinstance(given, Items):
        yield from ((as_text(each), "started") for each in given)
    elif isinstance(given, Mapping):
        yield from ((name, _CONDITIONS.get(each.text("condition"), "started")) for name, each in given.tables())


def ending(containers: Iterable[Container]) -> set[str]:
    """The names of those that others wait for until they have ended."""
    return {name for each in containers for name, how in waited(each) if how == "completed"}


def mounts(container: Container) -> Iterator[tuple[str, str]]:
    """What is mounted, as Compose's short form has it: its source (empty where there is none), and all of it."""
    for item, _ in container.table.items_of("volumes"):
        if isinstance(item, Mapping):
            source = item.text("source") or item.text("type")
            text = f"{source}:{item.text('target')}" + (":ro" if item.get("read_only") is True else "")
        else:
            text = re.sub(r":rw$|:[zZ]$", "", as_text(item))
        made = vocabulary.filled(text, container.known) or text
        yield made.partition(":")[0], made


def published(table: Mapping) -> list[str]:
    """The ports of the machine that lead to a container, as Compose's short form has them."""
    found = []
    for item, _ in table.items_of("ports"):
        if isinstance(item, Mapping):
            parts = (item.text("host_ip"), item.text("published"), item.text("target"))
            found += [":".join(filter(None, parts))] if parts[1] else []
        elif ":" in as_text(item):
            found.append(as_text(item))
    return found


def variables(repository: Repository, folder: str) -> dict[str, str]:
    """What an example of the env file beside a compose file says, or the file itself: Compose fills in from it."""
    for name in (".env.example", ".env.sample", ".env.template", "env.example", ".env.dist", ".env"):
        path = join(folder, name)
        if path and repository.has(path):
            return {key: value for key, value, _ in env_example(repository, path)}
    return {}


def env_example(repository: Repository, path: str) -> list[tuple[str, str, str]]:
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


def _container(made: Container, table: Mapping, known: dict[str, str], external: dict[str, str]) -> Container:
    made.table, made.known = table, known
    made.image = vocabulary.filled(table.text("image"), known) or table.text("image")
    _build(made, table, known)
    for item, place in [*table.items_of("ports"), *table.items_of("expose")]:
        if port := _target(item, known):
            made.ports.append(Fact(port, place))
    _health(made, table, known)
    made.env = [(key, _value(value, known), place) for key, value, place in table.pairs("environment") if key]
    for item, place in table.items_of("env_file"):
        file = item.text("path") if isinstance(item, Mapping) else as_text(item)
        if path := join(parent(made.file), file):
            made.env_files.append(Fact(path, place))
    if name := vocabulary.filled(table.text("container_name"), known):
        made.container_name = Fact(name, table.where("container_name"))
    _labels(made, table, known)
    networks = table.get("networks")
    for name, given in table.table("networks").tables():
        made.beyond += [f"{', '.join(given)} in the network {name}"] if given else []
    for name in networks if isinstance(networks, Mapping | Items) else ():
        if as_text(name) in external:
            made.networks.append(Fact(external[as_text(name)], table.where("networks")))
        elif as_text(name) != "default":
            made.beyond.append(f"network {as_text(name)}")
    made.published = [int(each[-2]) for port in published(table) if (each := port.split(":"))[-2].isdecimal()]
    return made


def _build(made: Container, table: Mapping, known: dict[str, str]) -> None:
    if "build" not in table:
        return
    build = table.table("build")
    context = vocabulary.filled(build.text("context") or table.text("build") or ".", known)
    folder = join(parent(made.file), context) if context and "://" not in context else None
    if folder is None:
        made.beyond.append("a build context outside of the repository")
        return
    made.context = folder
    made.dockerfile = join(folder, vocabulary.filled(build.text("dockerfile"), known) or "Dockerfile") or ""
    made.settings = of_compose(build)


def _value(text: str, known: dict[str, str]) -> str | None:
    """A value as the file gives it: what only an example of an env file knows is not known."""
    made = vocabulary.filled(text, {})
    return made if made or not text else None


def _target(item: Any, known: dict[str, str]) -> int | None:
    text = as_text(item.get("target")) if isinstance(item, Mapping) else as_text(item)
    last = (vocabulary.filled(text, known) or "").partition("/")[0].rpartition(":")[2]
    return int(last) if last.isdecimal() and 0 < int(last[:6]) < 65536 else None


def _health(made: Container, table: Mapping, known: dict[str, str]) -> None:
    check = table.table("healthcheck")
    text = " ".join(each for each, _ in strings(check.get("test")))
    port, path = vocabulary.probe(vocabulary.filled(text, known) or text)
    if path:
        made.health = Fact(path, check.where("test"))
        made.ports[:0] = [Fact(port, check.where("test"))] if port else []


def _labels(made: Container, table: Mapping, known: dict[str, str]) -> None:
    for key, value, place in [
        *table.pairs("labels"),
        *table.table("deploy").pairs("labels"),
        *table.pairs("environment"),
    ]:
        text = vocabulary.filled(value, known) or ""
        if name := re.match(r"traefik(?=\.)|caddy", key):
            made.proxy = made.proxy or Fact(name[0], place)
        if re.fullmatch(r"traefik\.http\.services\.[^.]+\.loadbalancer\.server\.port|VIRTUAL_PORT", key):
            made.ports[:0] = [Fact(int(text), place)] if text.isdecimal() else []
        elif re.fullmatch(r"traefik\.http\.services\.[^.]+\.loadbalancer\.healthcheck\.path", key) and not made.health:
            made.health = Fact(text, place)
        elif option := re.fullmatch(r"traefik\.http\.routers\.([^.]+)\.(entrypoints|tls\.certresolver)", key):
            role = "entrypoint" if option[2] == "entrypoints" else "certresolver"
            made.routers.setdefault(option[1], {})[role] = Fact(text, place)
        elif re.fullmatch(r"traefik\.http\.routers\.[^.]+\.rule", key):
            hosts = " ".join(re.findall(r"Host\(([^)]*)\)", text))
            made.domains += [Fact(domain, place) for domain in vocabulary.domains(hosts)]
            if re.search(r"Path|Header|Query|Method|ClientIP", text):
                made.beyond.append("more of its router's rule than the domain")
            if not vocabulary.domains(hosts):
                made.beyond.append(f"the domain of its rule, {value.partition('Host(')[2].partition(')')[0]}")
        elif re.match(r"traefik\.(http\.middlewares|tcp|udp)\.|caddy(_\d+)?\.(?!reverse_proxy$)", key):
            made.beyond.append(f"label {key}")
        elif key in ("caddy", "VIRTUAL_HOST"):
            made.domains += [Fact(domain, place) for domain in vocabulary.domains(text)]


def may_tell(text: str) -> bool:
    """Whether a text could have a secret in it, beside the variables that it names."""
    return _TELLS.search(re.sub(r"\$\$?\{?\w+\}?", "", text)) is not None


def brief(value: Any) -> str:
    """A value in a few words; what could be a secret is not among the keys that are told."""
    texts = [text for text, _ in strings(value)] or [as_text(value)]
    told = ", ".join(" ".join(re.sub(r"(\$\{\w+)[^}]*", r"\1", text).split()) for text in texts if text)
    if may_tell(told):
        return "…"
    return told if len(told) <= 80 else told[:79] + "…"
