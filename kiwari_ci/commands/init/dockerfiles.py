"""Dockerfiles: what each builds from, what of the repository goes into it, where it listens."""

import re
from dataclasses import dataclass, field

from kiwari_ci.commands.init.compose_files import DetectedComposeFile
from kiwari_ci.commands.init.workflow_jobs import DetectedWorkflows
from kiwari_ci.github.path_filters import find_filter_errors
from kiwari_ci.readers import dockerfile, vocabulary
from kiwari_ci.readers.repository import LocalRepository, get_parent_folder, join_path
from kiwari_ci.readers.vocabulary import SourcedValue
from kiwari_ci.schema.text_formats import RepositoryFile, RepositoryFolder

_DOCKERFILE_PATH = r"(?:.*/)?(?:(?:Dockerfile|Containerfile)(?:[._-][\w.-]+)?|[\w.-]+\.[Dd]ockerfile)"
_IS_FILE, _IS_FOLDER = vocabulary.build_validator(RepositoryFile), vocabulary.build_validator(RepositoryFolder)
_IGNORED_SUFFIX = re.compile(r"\.(dockerignore|j2|tmpl|tpl|template|md|bak|orig|example|sample|erb)$")
_IGNORED_FOLDERS = {
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
_VARIANT_SUFFIX = re.compile(
    r"[._-](bun|pnpm|npm|yarn|alpine|debian|ubuntu|slim|arm\w*|amd64|x86\w*|gpu|cuda|windows|chromium)$", re.IGNORECASE
)
_PORT_OPTION = re.compile(
    r"(?:--(?:server\.)?port[=\s\",]+|--bind[=\s\",]+[\w.\[\]:]*?:|-b[\s\",]+[\w.]*:|(?:^|\s)-p[\s\",]+|\bPORT=|--listen[=\s\",]+[\w.]*:)(\d{2,5})\b"
)
_DEPLOYED_KINDS = (vocabulary.PRODUCTION, vocabulary.STAGING)
_BASE_IMAGE_PORTS = ((r"(^|/)(nginx|httpd|caddy)(:|@|-|$)", 80), (r"nginx-unprivileged|openresty", 8080))


@dataclass
class DetectedImage:
    """An image that is built here."""

    dockerfile: str
    context: SourcedValue
    by: str  # what builds it: a place, or empty for nothing that init could see
    sources: list[SourcedValue] = field(default_factory=list)  # path filters, or a place and why there is none
    ports: list[SourcedValue] = field(default_factory=list)
    health: SourcedValue | None = None
    base: str = ""
    unsupported: list[str] = field(default_factory=list)
    names: list[SourcedValue] = field(default_factory=list)  # what compose, the workflows, the folder call it


@dataclass
class ImageDetection:
    """Those that belong to the pipeline, and the Dockerfiles that are left: path and why."""

    images: list[DetectedImage]
    skipped: list[tuple[str, str]]


def detect_images(
    repository: LocalRepository, found: list[DetectedComposeFile], workflows: DetectedWorkflows, has_spec: bool = False
) -> ImageDetection:
    """One image for each Dockerfile that something builds, or that stands where it is meant to be built.

    Beside a spec, workflows that do not build one say nothing: it may be new.
    """
    known = {path: True for path in repository.matching(_DOCKERFILE_PATH) if not _IGNORED_SUFFIX.search(path)}
    if not has_spec:
        _prefer_production_file(repository, found, workflows, list(known))
    made: dict[str, DetectedImage] = {}
    claims: dict[str, list[SourcedValue]] = {}
    for file, context, where, name in _collect_builds(found, workflows):
        if file not in known and not repository.has(file):
            repository.troubles.append(f"{where}: builds {file}, which is not there")
            continue
        claims.setdefault(file, []).append(SourcedValue(context, where))
        image = made.setdefault(file, DetectedImage(file, SourcedValue(context, where), where))
        if name.value:
            image.names.append(name)
    for file, contexts in claims.items():
        made[file].context = _choose_build_context(repository, file, contexts)
        made[file].by = made[file].context.where
    left = []
    in_use = not has_spec and bool(workflows.builds)
    away = {
        each.dockerfile: each.where
        for stack in found
        if stack.kind == vocabulary.DEVELOPMENT
        for each in stack.containers
    }
    for file in known:
        why = (
            f"only {away[file]} builds it, for development"
            if made and file in away
            else _explain_ignored_file(repository, file, made, has_spec)
        )
        why = why or ("nothing that init reads builds it" if in_use or _VARIANT_SUFFIX.search(file) else "")
        if file not in made and why:
            left.append((file, why))
        elif file not in made:
            made[file] = DetectedImage(file, _guess_build_context(repository, file), "")
    unsaid = {file: why for file in made if (why := _explain_invalid_path(made[file]))}
    kept = [made[file] for file in sorted(made) if file not in unsaid]
    for image in kept:
        _inspect_dockerfile(repository, image)
    return ImageDetection(kept, left + sorted(unsaid.items()))


def _explain_invalid_path(image: DetectedImage) -> str:
    """Why a spec cannot name what an image is built from; empty when it can."""
    if not _IS_FILE(image.dockerfile):
        return "a spec cannot write this path (letters, digits, . _ - and / can be): rename it, and run init again"
    folder = str(image.context.value)
    if folder != "." and not _IS_FOLDER(folder):
        return f"a spec cannot write its build context, {folder} ({image.context.where}): rename it, and run init again"
    return ""


def _prefer_production_file(
    repository: LocalRepository, found: list[DetectedComposeFile], workflows: DetectedWorkflows, known: list[str]
) -> None:
    """A Dockerfile with a twin that is production's by its name: compose files that name no environment get the twin.

    What a workflow builds, or a compose file of production or staging, is what it is.
    """
    certain = {step.dockerfile for step in workflows.builds}
    certain |= {each.dockerfile for stack in found if stack.kind in _DEPLOYED_KINDS for each in stack.containers}
    for file in known:
        twin = f"{get_parent_folder(file)}/Dockerfile".removeprefix("./")
        twins = [
            other
            for other in known
            if get_parent_folder(other) == get_parent_folder(file) and _is_production_file(other)
        ]
        if twins != [file] or twin not in known or twin in certain:
            continue
        for each in (each for stack in found for each in stack.containers if each.dockerfile == twin):
            repository.troubles.append(f"{each.where}: builds {twin}; {file} is for production, by its name: taken")
            each.dockerfile = file


def _get_file_name(path: str) -> str:
    return path.rpartition("/")[2]


def _is_production_file(path: str) -> bool:
    return vocabulary.classify_environment(_get_file_name(path)) == vocabulary.PRODUCTION


def _choose_build_context(repository: LocalRepository, file: str, contexts: list[SourcedValue]) -> SourcedValue:
    """Of the folders in which a Dockerfile is built, that which holds most of what it copies; the first of equals."""
    taken = _find_copied_paths(repository, file)
    best = max(contexts, key=lambda fact: _count_paths_in_folder(repository, str(fact.value), taken))
    most = _count_paths_in_folder(repository, str(best.value), taken)
    for fact in contexts:
        if (there := _count_paths_in_folder(repository, str(fact.value), taken)) < most:
            words_ = f"{there} of the {len(taken)} paths that {file} copies are; in {best.value} ({best.where}), {most}"
            repository.troubles.append(f"{fact.where}: builds in {fact.value}, where {words_}")
    return best


def _find_copied_paths(repository: LocalRepository, file: str) -> list[str]:
    """What a Dockerfile takes of its build context, as far as that can be told."""
    stages = dockerfile.parse_dockerfile(repository.read(file)).stages
    return [each.path for stage in stages for each in stage.taken if each.path and not each.unknown]


def _count_paths_in_folder(repository: LocalRepository, folder: str, taken: list[str]) -> int:
    """How many of some paths are in a folder."""
    return sum(_path_exists(repository, join_path(folder, path.rstrip("/")) or "") for path in taken)


def _collect_builds(
    found: list[DetectedComposeFile], workflows: DetectedWorkflows
) -> list[tuple[str, str, str, SourcedValue]]:
    """Dockerfile, context, place and name of all that is built: for production first, for development not at all."""
    made = []
    for stack in found:
        for each in stack.containers:
            if each.builds and stack.kind != vocabulary.DEVELOPMENT:
                made.append((each.dockerfile, str(each.context), each.where, SourcedValue(each.name, each.where)))
    built = [
        (step.dockerfile, step.context, step.where, SourcedValue(step.image.rpartition("/")[2], step.where))
        for step in workflows.builds
    ]
    return built + made


def _explain_ignored_file(
    repository: LocalRepository, file: str, made: dict[str, DetectedImage], has_spec: bool
) -> str:
    """Why a Dockerfile that nothing builds is none of the pipeline's; empty when it may be."""
    folder, _, name = file.rpartition("/")
    if vocabulary.classify_environment(name) == vocabulary.DEVELOPMENT or _IGNORED_FOLDERS & set(
        folder.lower().split("/")
    ):
        return "for development, tests or examples, by its name"
    if {"base", "builder", "build"} & set(vocabulary.split_words(name)):
        return "a base for others, by its name"
    beside = [
        other
        for other in repository.matching(_DOCKERFILE_PATH)
        if get_parent_folder(other) == (folder or ".") and other != file
    ]
    plain = any(_get_file_name(other) == "Dockerfile" for other in beside)
    kind = vocabulary.classify_environment(name)
    if kind and (set(beside) & set(made) or plain and (has_spec or kind != vocabulary.PRODUCTION)):
        return "another Dockerfile beside it has no environment in its name"
    if name == "Dockerfile" and not has_spec and any(map(_is_production_file, beside)):
        return "another Dockerfile beside it is for production, by its name"
    return ""


def _guess_build_context(repository: LocalRepository, file: str) -> SourcedValue:
    """The folder from which most of what a Dockerfile copies can be reached: its own, or the root."""
    own = get_parent_folder(file)
    taken = _find_copied_paths(repository, file)
    above = (
        [own, *(get_parent_folder("/".join(own.split("/")[:count])) for count in range(len(own.split("/")), 0, -1))]
        if own != "."
        else ["."]
    )
    best = max(above, key=lambda folder: (_count_paths_in_folder(repository, folder, taken), -above.index(folder)))
    empty = not any(
        path for path in repository.files if get_parent_folder(path) == own and path != file and "ocker" not in path
    )
    if not taken and own != "." and empty:
        best = "."
    return SourcedValue(best, file, guess=True)


def _path_exists(repository: LocalRepository, path: str) -> bool:
    if re.search(r"[*?\[]", path):
        pattern = re.compile(re.escape(path).replace(r"\*", "[^/]*").replace(r"\?", "[^/]"))
        return any(pattern.fullmatch(each) for each in repository.files)
    return path in repository.folders or repository.has(path)


def _inspect_dockerfile(repository: LocalRepository, image: DetectedImage) -> None:
    read = dockerfile.parse_dockerfile(repository.read(image.dockerfile))
    for line, why in read.faults:
        repository.troubles.append(f"{image.dockerfile}:{line}: {why}")
    stages = read.built
    image.base = stages[-1].image if stages else ""
    for stage in reversed(stages):  # an alias of a stage is not what the image is made of
        if stage.parent is None:
            image.base = stage.image if stage is stages[-1] or stages[-1].parent is not None else image.base
    place = f"{image.dockerfile}:"
    image.ports += [
        SourcedValue(each.low, f"{place}{each.line}")
        for each in read.exposed
        if each.protocol == "tcp" and each.low == each.high
    ]
    last = stages[-1].instructions if stages else ()
    for each in last:
        if each.name == "HEALTHCHECK":
            port, path = vocabulary.parse_probe_command(vocabulary.interpolate_variables(each.rest, {}) or each.rest)
            image.health = SourcedValue(path, f"{place}{each.line}") if path else None
            image.ports[:0] = [SourcedValue(port, f"{place}{each.line}")] if port else []
    for each in last:
        if each.name in ("CMD", "ENTRYPOINT", "ENV") and (
            found := _PORT_OPTION.search(
                each.rest.replace(" ", "=", 1) if each.name == "ENV" and "=" not in each.rest else each.rest
            )
        ):
            image.ports.append(SourcedValue(int(found[1]), f"{place}{each.line}"))
    if not image.ports:
        image.ports += [
            SourcedValue(port, f"{place}{stages[-1].line}", guess=True)
            for pattern, port in _BASE_IMAGE_PORTS
            if re.search(pattern, image.base)
        ]
    image.sources = _build_path_filters(repository, image, [taken for stage in stages for taken in stage.taken], place)


def _build_path_filters(
    repository: LocalRepository, image: DetectedImage, taken: list[dockerfile.CopySource], place: str
) -> list[SourcedValue]:
    """Path filters for what a Dockerfile copies; its own context folder is one when it is not the root."""
    context = str(image.context.value)
    found = {} if context == "." else {f"{context}/**": SourcedValue(f"{context}/**", f"{image.context.where}")}
    for each in taken:
        where = f"{place}{each.line}"
        path = join_path(context, each.path.rstrip("/"))
        if each.unknown or path is None:
            continue
        whole = path == "." or path in repository.folders
        pattern = "**" if path == "." else f"{path}/**" if whole else path.replace("?", "*")
        if each.is_pattern and not whole:
            beneath = any(
                re.fullmatch(re.escape(pattern).replace(r"\*", "[^/]*"), folder) for folder in repository.folders
            )
            pattern += "/**" if beneath else ""
        if not _path_exists(repository, path):
            repository.troubles.append(f"{where}: copies {path}, which is not there")
        elif not find_filter_errors([pattern]):
            found.setdefault(pattern, SourcedValue(pattern, where))
    covered = [pattern.removesuffix("**") for pattern in found if pattern.endswith("/**") and "*" not in pattern[:-2]]
    if "**" in found:
        return [found["**"]]
    return [
        fact
        for pattern, fact in found.items()
        if not any(pattern.startswith(each) and pattern != f"{each}**" for each in covered)
    ]
