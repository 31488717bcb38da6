"""Dockerfiles: what each builds from, what of the repository goes into it, where it listens."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field

from kiwari_ci.commands.init.compose_files import DetectedComposeFile
from kiwari_ci.commands.init.workflow_jobs import DetectedWorkflows
from kiwari_ci.github_facts.path_filters import find_filter_errors
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
    repository: LocalRepository,
    compose_files: list[DetectedComposeFile],
    workflows: DetectedWorkflows,
    has_spec: bool = False,
) -> ImageDetection:
    """Detect an image for each Dockerfile that something builds, or whose place suggests that it is built.

    If the repository has a spec, a Dockerfile that no workflow builds may be new.
    """
    candidates = {path: True for path in repository.matching(_DOCKERFILE_PATH) if not _IGNORED_SUFFIX.search(path)}
    if not has_spec:
        _prefer_production_file(repository, compose_files, workflows, list(candidates))
    images = _detect_built_images(repository, compose_files, workflows, candidates)
    ignored_files = []
    # A bake file may build any Dockerfile.
    in_use = not has_spec and bool(workflows.builds) and not workflows.bakes
    development_places = {
        container.dockerfile: container.where
        for stack in compose_files
        if stack.kind == vocabulary.DEVELOPMENT
        for container in stack.containers
    }
    for file in candidates:
        if file in images:
            continue
        if images and file in development_places:
            reason = f"only {development_places[file]} builds it, for development"
        else:
            reason = _explain_ignored_file(repository, file, images, has_spec)
        if not reason and (in_use or _VARIANT_SUFFIX.search(file)):
            reason = "nothing that init reads builds it"
        if reason:
            ignored_files.append((file, reason))
        else:
            images[file] = DetectedImage(file, _guess_build_context(repository, file), "")
    invalid_files = {file: why for file in images if (why := _explain_invalid_path(images[file]))}
    detected_images = [images[file] for file in sorted(images) if file not in invalid_files]
    prepared_files = {build.dockerfile for build in workflows.builds if build.preparations}
    for image in detected_images:
        _inspect_dockerfile(repository, image, is_prepared=image.dockerfile in prepared_files)
    return ImageDetection(detected_images, ignored_files + sorted(invalid_files.items()))


def _detect_built_images(
    repository: LocalRepository,
    compose_files: list[DetectedComposeFile],
    workflows: DetectedWorkflows,
    candidates: Collection[str],
) -> dict[str, DetectedImage]:
    """The images that Compose files and workflows build, by their Dockerfiles."""
    images: dict[str, DetectedImage] = {}
    contexts_by_file: dict[str, list[SourcedValue]] = {}
    for file, context, where, name in _collect_builds(compose_files, workflows):
        if file not in candidates and not repository.has(file):
            repository.troubles.append(f"{where}: builds {file}, which is not there")
            continue
        contexts_by_file.setdefault(file, []).append(SourcedValue(context, where))
        image = images.setdefault(file, DetectedImage(file, SourcedValue(context, where), where))
        if name.value:
            image.names.append(name)
    for file, contexts in contexts_by_file.items():
        images[file].context = _choose_build_context(repository, file, contexts)
        images[file].by = images[file].context.where
    return images


def _explain_invalid_path(image: DetectedImage) -> str:
    """Why a spec cannot name what an image is built from; empty when it can."""
    if not _IS_FILE(image.dockerfile):
        return "a spec cannot write this path (letters, digits, . _ - and / can be): rename it, and run init again"
    folder = str(image.context.value)
    if folder != "." and not _IS_FOLDER(folder):
        return f"a spec cannot write its build context, {folder} ({image.context.where}): rename it, and run init again"
    return ""


def _prefer_production_file(
    repository: LocalRepository,
    compose_files: list[DetectedComposeFile],
    workflows: DetectedWorkflows,
    dockerfiles: list[str],
) -> None:
    """A Dockerfile with a twin that is production's by its name: compose files that name no environment get the twin.

    What a workflow builds, or a compose file of production or staging, is what it is.
    """
    certain = {step.dockerfile for step in workflows.builds}
    certain |= {
        container.dockerfile
        for stack in compose_files
        if stack.kind in _DEPLOYED_KINDS
        for container in stack.containers
    }
    for file in dockerfiles:
        twin = f"{get_parent_folder(file)}/Dockerfile".removeprefix("./")
        twins = [
            sibling
            for sibling in dockerfiles
            if get_parent_folder(sibling) == get_parent_folder(file) and _is_production_file(sibling)
        ]
        if twins != [file] or twin not in dockerfiles or twin in certain:
            continue
        users = [container for stack in compose_files for container in stack.containers if container.dockerfile == twin]
        for container in users:
            trouble = f"{container.where}: builds {twin}; {file} is for production, by its name: taken"
            repository.troubles.append(trouble)
            container.dockerfile = file


def _get_file_name(path: str) -> str:
    return path.rpartition("/")[2]


def _is_production_file(path: str) -> bool:
    return vocabulary.classify_environment(_get_file_name(path)) == vocabulary.PRODUCTION


def _choose_build_context(repository: LocalRepository, file: str, contexts: list[SourcedValue]) -> SourcedValue:
    """Of the folders in which a Dockerfile is built, that which holds most of what it copies; the first of equals."""
    copied_paths = _find_copied_paths(repository, file)
    best = max(contexts, key=lambda fact: _count_paths_in_folder(repository, str(fact.value), copied_paths))
    most = _count_paths_in_folder(repository, str(best.value), copied_paths)
    for fact in contexts:
        if (path_count := _count_paths_in_folder(repository, str(fact.value), copied_paths)) < most:
            comparison = (
                f"{path_count} of the {len(copied_paths)} paths that {file} copies are; "
                f"in {best.value} ({best.where}), {most}"
            )
            repository.troubles.append(f"{fact.where}: builds in {fact.value}, where {comparison}")
    return best


def _find_copied_paths(repository: LocalRepository, file: str) -> list[str]:
    """What a Dockerfile takes of its build context, as far as that can be told."""
    stages = dockerfile.parse_dockerfile(repository.read(file)).stages
    return [source.path for stage in stages for source in stage.sources if source.path and not source.unknown]


def _count_paths_in_folder(repository: LocalRepository, folder: str, paths: list[str]) -> int:
    """How many of some paths are in a folder."""
    return sum(_path_exists(repository, join_path(folder, path.rstrip("/")) or "") for path in paths)


def _collect_builds(
    compose_files: list[DetectedComposeFile], workflows: DetectedWorkflows
) -> list[tuple[str, str, str, SourcedValue]]:
    """Dockerfile, context, place and name of all that is built: for production first, for development not at all."""
    compose_builds = []
    for stack in compose_files:
        for container in stack.containers:
            if container.builds and stack.kind != vocabulary.DEVELOPMENT:
                name = SourcedValue(container.name, container.where)
                build = (container.dockerfile, str(container.context), container.where, name)
                compose_builds.append(build)
    workflow_builds = [
        (step.dockerfile, step.context, step.where, SourcedValue(step.image.rpartition("/")[2], step.where))
        for step in workflows.builds
    ]
    return workflow_builds + compose_builds


def _explain_ignored_file(
    repository: LocalRepository, file: str, images: dict[str, DetectedImage], has_spec: bool
) -> str:
    """Why a Dockerfile that nothing builds is none of the pipeline's; empty when it may be."""
    folder, _, name = file.rpartition("/")
    if vocabulary.classify_environment(name) == vocabulary.DEVELOPMENT or _IGNORED_FOLDERS & set(
        folder.lower().split("/")
    ):
        return "for development, tests or examples, by its name"
    if {"base", "builder", "build"} & set(vocabulary.split_words(name)):
        return "a base for others, by its name"
    siblings = [
        sibling
        for sibling in repository.matching(_DOCKERFILE_PATH)
        if get_parent_folder(sibling) == (folder or ".") and sibling != file
    ]
    has_plain_sibling = any(_get_file_name(sibling) == "Dockerfile" for sibling in siblings)
    kind = vocabulary.classify_environment(name)
    if kind and (set(siblings) & set(images) or has_plain_sibling and (has_spec or kind != vocabulary.PRODUCTION)):
        return "another Dockerfile beside it has no environment in its name"
    if name == "Dockerfile" and not has_spec and any(map(_is_production_file, siblings)):
        return "another Dockerfile beside it is for production, by its name"
    return ""


def _guess_build_context(repository: LocalRepository, file: str) -> SourcedValue:
    """The folder from which most of what a Dockerfile copies can be reached: its own, or the root."""
    own_folder = get_parent_folder(file)
    copied_paths = _find_copied_paths(repository, file)
    candidate_folders = (
        [
            own_folder,
            *(
                get_parent_folder("/".join(own_folder.split("/")[:count]))
                for count in range(len(own_folder.split("/")), 0, -1)
            ),
        ]
        if own_folder != "."
        else ["."]
    )
    best = max(
        candidate_folders,
        key=lambda folder: (_count_paths_in_folder(repository, folder, copied_paths), -candidate_folders.index(folder)),
    )
    empty = not any(
        path
        for path in repository.files
        if get_parent_folder(path) == own_folder and path != file and "ocker" not in path
    )
    if not copied_paths and own_folder != "." and empty:
        best = "."
    return SourcedValue(best, file, guess=True)


def _path_exists(repository: LocalRepository, path: str) -> bool:
    if re.search(r"[*?\[]", path):
        pattern = re.compile(re.escape(path).replace(r"\*", "[^/]*").replace(r"\?", "[^/]"))
        return any(pattern.fullmatch(file) for file in repository.files)
    return path in repository.folders or repository.has(path)


def _inspect_dockerfile(repository: LocalRepository, image: DetectedImage, *, is_prepared: bool) -> None:
    """Add what the Dockerfile says: its base image, the ports, the health path, and the files that it copies.

    Before the build of a prepared image, steps of today may write some of these files.
    """
    parsed = dockerfile.parse_dockerfile(repository.read(image.dockerfile))
    for line, reason in parsed.faults:
        repository.troubles.append(f"{image.dockerfile}:{line}: {reason}")
    stages = parsed.built
    place = f"{image.dockerfile}:"
    image.ports += [
        SourcedValue(port_range.low, f"{place}{port_range.line}")
        for port_range in parsed.exposed
        if port_range.protocol == "tcp" and port_range.low == port_range.high
    ]
    if stages:
        image.base = _find_base_image(parsed)
        _add_probed_port(image, stages[-1], place)
        _add_ports_of_options(image, stages[-1], place)
        if not image.ports:
            _add_usual_ports(image, f"{place}{stages[-1].line}")
    sources = [source for stage in stages for source in stage.sources]
    image.sources = _build_path_filters(repository, image, sources, place)
    if not is_prepared:
        repository.troubles += _find_missing_sources(repository, image, sources, place)


def _find_base_image(parsed: dockerfile.Dockerfile) -> str:
    """The image that the last stage is made of, directly or by other stages."""
    stage = parsed.built[-1]
    while stage.parent is not None:
        stage = parsed.stages[stage.parent]
    return stage.image


def _add_probed_port(image: DetectedImage, stage: dockerfile.Stage, place: str) -> None:
    """Add the port and the path that HEALTHCHECK requests."""
    for instruction in stage.instructions:
        if instruction.name != "HEALTHCHECK":
            continue
        where = f"{place}{instruction.line}"
        command = vocabulary.interpolate_variables(instruction.rest, {}) or instruction.rest
        port, path = vocabulary.parse_probe_command(command)
        image.health = SourcedValue(path, where) if path else None
        if port:
            image.ports.insert(0, SourcedValue(port, where))


def _add_ports_of_options(image: DetectedImage, stage: dockerfile.Stage, place: str) -> None:
    """Add the ports that options of the command, or variables, name."""
    for instruction in stage.instructions:
        if instruction.name not in ("CMD", "ENTRYPOINT", "ENV"):
            continue
        is_old_form = instruction.name == "ENV" and "=" not in instruction.rest  # ENV KEY VALUE
        text = instruction.rest.replace(" ", "=", 1) if is_old_form else instruction.rest
        port = find_port_option(text)
        if port:
            image.ports.append(SourcedValue(port, f"{place}{instruction.line}"))


def find_port_option(text: str) -> int | None:
    """The port that an option or a variable of a command names; None if none does."""
    option = _PORT_OPTION.search(text)
    return int(option[1]) if option else None


def _add_usual_ports(image: DetectedImage, where: str) -> None:
    """Add the port on which a well-known base image listens, as a guess."""
    for pattern, port in _BASE_IMAGE_PORTS:
        if re.search(pattern, image.base):
            image.ports.append(SourcedValue(port, where, guess=True))


def _build_path_filters(
    repository: LocalRepository, image: DetectedImage, sources: list[dockerfile.CopySource], place: str
) -> list[SourcedValue]:
    """Path filters for what a Dockerfile copies; its own context folder is one when it is not the root."""
    context = str(image.context.value)
    filters = {} if context == "." else {f"{context}/**": SourcedValue(f"{context}/**", f"{image.context.where}")}
    for source in sources:
        where = f"{place}{source.line}"
        path = join_path(context, source.path.rstrip("/"))
        if source.unknown or path is None:
            continue
        pattern = _convert_to_path_filter(repository, path, source.is_pattern)
        if path.partition("/")[0] == ".git":
            reason = "which no build has: let a step of `steps.before_build` write $GITHUB_SHA into a file"
            repository.troubles.append(f"{where}: copies {path}, {reason}")
        elif _path_exists(repository, path) and not find_filter_errors([pattern]):
            filters.setdefault(pattern, SourcedValue(pattern, where))
    covered = [pattern.removesuffix("**") for pattern in filters if pattern.endswith("/**") and "*" not in pattern[:-2]]
    if "**" in filters:
        return [filters["**"]]
    return [
        fact
        for pattern, fact in filters.items()
        if not any(pattern.startswith(prefix) and pattern != f"{prefix}**" for prefix in covered)
    ]


def _find_missing_sources(
    repository: LocalRepository, image: DetectedImage, sources: list[dockerfile.CopySource], place: str
) -> list[str]:
    """In words, what a Dockerfile copies that is not in the repository."""
    missing = []
    for source in sources:
        path = join_path(str(image.context.value), source.path.rstrip("/"))
        if not source.unknown and path is not None and not _path_exists(repository, path):
            missing.append(f"{place}{source.line}: copies {path}, which is not there")
    return missing


def _convert_to_path_filter(repository: LocalRepository, path: str, is_pattern: bool) -> str:
    """Convert what a Dockerfile copies to a path filter, which also matches all files of a folder."""
    if path == ".":
        return "**"
    if path in repository.folders:
        return f"{path}/**"
    pattern = path.replace("?", "*")
    folder_pattern = re.escape(pattern).replace(r"\*", "[^/]*")
    matches_folder = is_pattern and any(re.fullmatch(folder_pattern, folder) for folder in repository.folders)
    return f"{pattern}/**" if matches_folder else pattern
