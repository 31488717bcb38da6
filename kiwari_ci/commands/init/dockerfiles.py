"""Dockerfiles: what each builds from, what of the repository goes into it, where it listens."""

import re
from dataclasses import dataclass, field

from kiwari_ci.commands.init.compose_files import Stack
from kiwari_ci.commands.init.workflow_jobs import Workflows
from kiwari_ci.github.path_filters import faults
from kiwari_ci.readers import dockerfile, vocabulary
from kiwari_ci.readers.repository import Repository, join, parent
from kiwari_ci.readers.vocabulary import Fact
from kiwari_ci.schema.text_formats import File, Folder

_NAMES = r"(?:.*/)?(?:(?:Dockerfile|Containerfile)(?:[._-][\w.-]+)?|[\w.-]+\.[Dd]ockerfile)"
_IS_FILE, _IS_FOLDER = vocabulary.fits(File), vocabulary.fits(Folder)
_NO_DOCKERFILE = re.compile(r"\.(dockerignore|j2|tmpl|tpl|template|md|bak|orig|example|sample|erb)$")
_TOO_FAR = {
    "tests",
    "test",
    "testdata",
    "fixtures",
    "examples",
    "example",
    "docs",
    ".devcontainer",
    ".github",
    "e2e",
    "hack",
    "third_party",
}
_VARIANT = re.compile(
    r"[._-](bun|pnpm|npm|yarn|alpine|debian|ubuntu|slim|arm\w*|amd64|x86\w*|gpu|cuda|windows|chromium)$", re.IGNORECASE
)
_LISTENS = re.compile(
    r"(?:--(?:server\.)?port[=\s\",]+|--bind[=\s\",]+[\w.\[\]:]*?:|-b[\s\",]+[\w.]*:|(?:^|\s)-p[\s\",]+|\bPORT=|--listen[=\s\",]+[\w.]*:)(\d{2,5})\b"
)
_SERVES = (vocabulary.PRODUCTION, vocabulary.STAGING)
_BASE_PORTS = ((r"(^|/)(nginx|httpd|caddy)(:|@|-|$)", 80), (r"nginx-unprivileged|openresty", 8080))


@dataclass
class Image:
    """An image that is built here."""

    dockerfile: str
    context: Fact
    by: str  # what builds it: a place, or empty for nothing that init could see
    sources: list[Fact] = field(default_factory=list)  # path filters, or a place and why there is none
    ports: list[Fact] = field(default_factory=list)
    health: Fact | None = None
    base: str = ""
    beyond: list[str] = field(default_factory=list)
    names: list[Fact] = field(default_factory=list)  # what compose, the workflows, the folder call it


@dataclass
class Images:
    """Those that belong to the pipeline, and the Dockerfiles that are left: path and why."""

    built: list[Image]
    left: list[tuple[str, str]]


def images(repository: Repository, found: list[Stack], workflows: Workflows, has_spec: bool = False) -> Images:
    """One image for each Dockerfile that something builds, or that stands where it is meant to be built.

    Beside a spec, workflows that do not build one say nothing: it may be new.
    """
    known = {path: True for path in repository.matching(_NAMES) if not _NO_DOCKERFILE.search(path)}
    if not has_spec:
        _for_production(repository, found, workflows, list(known))
    made: dict[str, Image] = {}
    claims: dict[str, list[Fact]] = {}
    for file, context, where, name in _built(found, workflows):
        if file not in known and not repository.has(file):
            repository.troubles.append(f"{where}: builds {file}, which is not there")
            continue
        claims.setdefault(file, []).append(Fact(context, where))
        image = made.setdefault(file, Image(file, Fact(context, where), where))
        if name.value:
            image.names.append(name)
    for file, contexts in claims.items():
        made[file].context = _holding(repository, file, contexts)
        made[file].by = made[file].context.where
    left = []
    in_use = not has_spec and bool(workflows.builds)
    away = {
        each.dockerfile: each.where for stack in found if stack.kind == vocabulary.AWAY for each in stack.containers
    }
    for file in known:
        why = (
            f"only {away[file]} builds it, for development"
            if made and file in away
            else _apart(repository, file, made, has_spec)
        )
        why = why or ("nothing that init reads builds it" if in_use or _VARIANT.search(file) else "")
        if file not in made and why:
            left.append((file, why))
        elif file not in made:
            made[file] = Image(file, _context(repository, file), "")
    unsaid = {file: why for file in made if (why := _unsaid(made[file]))}
    kept = [made[file] for file in sorted(made) if file not in unsaid]
    for image in kept:
        _look(repository, image)
    return Images(kept, left + sorted(unsaid.items()))


def _unsaid(image: Image) -> str:
    """Why a spec cannot name what an image is built from; empty when it can."""
    if not _IS_FILE(image.dockerfile):
        return "a spec cannot write this path (letters, digits, . _ - and / can be): rename it, and run init again"
    folder = str(image.context.value)
    if folder != "." and not _IS_FOLDER(folder):
        return f"a spec cannot write its build context, {folder} ({image.context.where}): rename it, and run init again"
    return ""


def _for_production(repository: Repository, found: list[Stack], workflows: Workflows, known: list[str]) -> None:
    """A Dockerfile with a twin that is production's by its name: compose files that name no environment get the twin.

    What a workflow builds, or a compose file of production or staging, is what it is.
    """
    certain = {step.dockerfile for step in workflows.builds}
    certain |= {each.dockerfile for stack in found if stack.kind in _SERVES for each in stack.containers}
    for file in known:
        twin = f"{parent(file)}/Dockerfile".removeprefix("./")
        twins = [other for other in known if parent(other) == parent(file) and _is_for_production(other)]
        if twins != [file] or twin not in known or twin in certain:
            continue
        for each in (each for stack in found for each in stack.containers if each.dockerfile == twin):
            repository.troubles.append(f"{each.where}: builds {twin}; {file} is for production, by its name: taken")
            each.dockerfile = file


def _name_of(path: str) -> str:
    return path.rpartition("/")[2]


def _is_for_production(path: str) -> bool:
    return vocabulary.kind_of(_name_of(path)) == vocabulary.PRODUCTION


def _holding(repository: Repository, file: str, contexts: list[Fact]) -> Fact:
    """Of the folders in which a Dockerfile is built, that which holds most of what it copies; the first of equals."""
    taken = _taken(repository, file)
    best = max(contexts, key=lambda fact: _reached(repository, str(fact.value), taken))
    most = _reached(repository, str(best.value), taken)
    for fact in contexts:
        if (there := _reached(repository, str(fact.value), taken)) < most:
            words_ = f"{there} of the {len(taken)} paths that {file} copies are; in {best.value} ({best.where}), {most}"
            repository.troubles.append(f"{fact.where}: builds in {fact.value}, where {words_}")
    return best


def _taken(repository: Repository, file: str) -> list[str]:
    """What a Dockerfile takes of its build context, as far as that can be told."""
    stages = dockerfile.read(repository.read(file)).stages
    return [each.path for stage in stages for each in stage.taken if each.path and not each.unknown]


def _reached(repository: Repository, folder: str, taken: list[str]) -> int:
    """How many of some paths are in a folder."""
    return sum(_is_there(repository, join(folder, path.rstrip("/")) or "") for path in taken)


def _built(found: list[Stack], workflows: Workflows) -> list[tuple[str, str, str, Fact]]:
    """Dockerfile, context, place and name of all that is built: for production first, for development not at all."""
    made = []
    for stack in found:
        for each in stack.containers:
            if each.builds and stack.kind != vocabulary.AWAY:
                made.append((each.dockerfile, str(each.context), each.where, Fact(each.name, each.where)))
    built = [
        (step.dockerfile, step.context, step.where, Fact(step.image.rpartition("/")[2], step.where))
        for step in workflows.builds
    ]
    return built + made


def _apart(repository: Repository, file: str, made: dict[str, Image], has_spec: bool) -> str:
    """Why a Dockerfile that nothing builds is none of the pipeline's; empty when it may be."""
    folder, _, name = file.rpartition("/")
    if vocabulary.kind_of(name) == vocabulary.AWAY or _TOO_FAR & set(folder.lower().split("/")):
        return "for development, tests or examples, by its name"
    if {"base", "builder", "build"} & set(vocabulary.tokens(name)):
        return "a base for others, by its name"
    beside = [other for other in repository.matching(_NAMES) if parent(other) == (folder or ".") and other != file]
    plain = any(_name_of(other) == "Dockerfile" for other in beside)
    kind = vocabulary.kind_of(name)
    if kind and (set(beside) & set(made) or plain and (has_spec or kind != vocabulary.PRODUCTION)):
        return "another Dockerfile beside it has no environment in its name"
    if name == "Dockerfile" and not has_spec and any(map(_is_for_production, beside)):
        return "another Dockerfile beside it is for production, by its name"
    return ""


def _context(repository: Repository, file: str) -> Fact:
    """The folder from which most of what a Dockerfile copies can be reached: its own, or the root."""
    own = parent(file)
    taken = _taken(repository, file)
    above = (
        [own, *(parent("/".join(own.split("/")[:count])) for count in range(len(own.split("/")), 0, -1))]
        if own != "."
        else ["."]
    )
    best = max(above, key=lambda folder: (_reached(repository, folder, taken), -above.index(folder)))
    empty = not any(path for path in repository.files if parent(path) == own and path != file and "ocker" not in path)
    if not taken and own != "." and empty:
        best = "."
    return Fact(best, file, guess=True)


def _is_there(repository: Repository, path: str) -> bool:
    if re.search(r"[*?\[]", path):
        pattern = re.compile(re.escape(path).replace(r"\*", "[^/]*").replace(r"\?", "[^/]"))
        return any(pattern.fullmatch(each) for each in repository.files)
    return path in repository.folders or repository.has(path)


def _look(repository: Repository, image: Image) -> None:
    read = dockerfile.read(repository.read(image.dockerfile))
    for line, why in read.faults:
        repository.troubles.append(f"{image.dockerfile}:{line}: {why}")
    stages = read.built
    image.base = stages[-1].image if stages else ""
    for stage in reversed(stages):  # an alias of a stage is not what the image is made of
        if stage.parent is None:
            image.base = stage.image if stage is stages[-1] or stages[-1].parent is not None else image.base
    place = f"{image.dockerfile}:"
    image.ports += [
        Fact(each.low, f"{place}{each.line}")
        for each in read.exposed
        if each.protocol == "tcp" and each.low == each.high
    ]
    last = stages[-1].instructions if stages else ()
    for each in last:
        if each.name == "HEALTHCHECK":
            port, path = vocabulary.probe(vocabulary.filled(each.rest, {}) or each.rest)
            image.health = Fact(path, f"{place}{each.line}") if path else None
            image.ports[:0] = [Fact(port, f"{place}{each.line}")] if port else []
    for each in last:
        if each.name in ("CMD", "ENTRYPOINT", "ENV") and (
            found := _LISTENS.search(
                each.rest.replace(" ", "=", 1) if each.name == "ENV" and "=" not in each.rest else each.rest
            )
        ):
            image.ports.append(Fact(int(found[1]), f"{place}{each.line}"))
    if not image.ports:
        image.ports += [
            Fact(port, f"{place}{stages[-1].line}", guess=True)
            for pattern, port in _BASE_PORTS
            if re.search(pattern, image.base)
        ]
    image.sources = _sources(repository, image, [taken for stage in stages for taken in stage.taken], place)


def _sources(repository: Repository, image: Image, taken: list[dockerfile.Taken], place: str) -> list[Fact]:
    """Path filters for what a Dockerfile copies; its own context folder is one when it is not the root."""
    context = str(image.context.value)
    found = {} if context == "." else {f"{context}/**": Fact(f"{context}/**", f"{image.context.where}")}
    for each in taken:
        where = f"{place}{each.line}"
        path = join(context, each.path.rstrip("/"))
        if each.unknown or path is None:
            continue
        whole = path == "." or path in repository.folders
        pattern = "**" if path == "." else f"{path}/**" if whole else path.replace("?", "*")
        if each.is_pattern and not whole:
            beneath = any(
                re.fullmatch(re.escape(pattern).replace(r"\*", "[^/]*"), folder) for folder in repository.folders
            )
            pattern += "/**" if beneath else ""
        if not _is_there(repository, path):
            repository.troubles.append(f"{where}: copies {path}, which is not there")
        elif not faults([pattern]):
            found.setdefault(pattern, Fact(pattern, where))
    covered = [pattern.removesuffix("**") for pattern in found if pattern.endswith("/**") and "*" not in pattern[:-2]]
    if "**" in found:
        return [found["**"]]
    return [
        fact
        for pattern, fact in found.items()
        if not any(pattern.startswith(each) and pattern != f"{each}**" for each in covered)
    ]
