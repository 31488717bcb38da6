"""Finds the services whose images other services are built from: by `FROM`, build arguments and build contexts."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from kiwari_ci.commands.init.build_settings import BuildSettings
from kiwari_ci.commands.init.services import DetectedService, parse_known_repository
from kiwari_ci.readers.dockerfile import Stage, parse_dockerfile
from kiwari_ci.readers.image_reference import parse_image_reference
from kiwari_ci.readers.repository import LocalRepository

_EXPRESSION = re.compile(r"\$\{\{[^{}]{0,200}\}\}")
_UNKNOWN_PART = "x$"  # stands for what only a run knows
_WHOLE_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::?-[^}]*)?\}|(\w+))")
_COPY_FROM_IMAGE = re.compile(r"\s*COPY\s+(?:--\S+\s+)*?--from=(\S+)", re.IGNORECASE)


@dataclass(frozen=True)
class _Reference:
    """An image that a Dockerfile names: as it is written, and with the values of its variables."""

    written: str
    image: str
    where: str
    verb: str  # FROM or COPY --from

    @property
    def argument(self) -> str:
        """The build argument that is the whole image; empty where it is only a part, or none."""
        variable = _WHOLE_VARIABLE.fullmatch(self.written)
        return (variable[1] or variable[2]) if variable else ""


def add_base_images(repository: LocalRepository, service: DetectedService, services: list[DetectedService]) -> None:
    """Name the services whose images a service's image is built from, and ask for what its Dockerfile must say."""
    _add_contexts(service, services)
    settings = service.settings.value
    for reference in _list_references(repository, service):
        base = _find_service(reference.image, service, services)
        if base and reference.argument:
            _add_base(service, reference.argument, base)
        elif base:
            _ask_for_argument(service, reference, base)
        elif "$" in reference.image and not (settings.values.get("base", {}).keys() & {reference.argument}):
            service.unsupported.append(
                f"`{reference.verb} {reference.written}` ({reference.where}): no default and no build argument "
                "sets its variable. Write the value under `build: {args: …}`"
            )


def _add_contexts(service: DetectedService, services: list[DetectedService]) -> None:
    """Add the build contexts that are images of other services."""
    settings = service.settings.value
    for context, image in settings.images.items():
        base = _find_service(image, service, services)
        argument = _name_argument(context)
        if not base or not argument:
            service.unsupported.append(f"the build context {context}, which is the image {image}")
            continue
        _add_base(service, argument, base)
        service.base_questions.append(
            f"{service.image.dockerfile}: write `ARG {argument}` first, and `FROM ${argument} AS {context}`, in place "
            "of the build context; or leave out `base`, and build it as a stage"
        )


def _add_base(service: DetectedService, argument: str, base: DetectedService) -> None:
    """Let the pipeline give a build argument the image that it has just built of another service."""
    settings = service.settings.value
    settings.values.setdefault("base", {})[argument] = base.name
    arguments = settings.values.get("args", {})
    arguments.pop(argument, None)
    if not arguments:
        settings.values.pop("args", None)
    service.unsupported[:] = [note for note in service.unsupported if not _is_about_argument(note, argument)]
    base.is_base = all(container.profiles for _, container in base.containers)


def _is_about_argument(note: str, argument: str) -> bool:
    return re.match(rf"build argument {re.escape(argument)}(?!\w)", note) is not None


def _ask_for_argument(service: DetectedService, reference: _Reference, base: DetectedService) -> None:
    """Ask for a build argument in place of an image that a Dockerfile names with its registry or its tag."""
    argument = _name_argument(f"{base.name}-image")
    known = service.settings.value.values.get("base", {})
    if base.name in known.values():
        argument = next(key for key, name in known.items() if name == base.name)
    else:
        _add_base(service, argument, base)
    if reference.verb == "FROM":
        lines = f"`ARG {argument}` before the first `FROM`, and here `FROM ${argument}`"
    else:
        lines = f"`ARG {argument}` first, `FROM ${argument} AS {base.name}`, and here `COPY --from={base.name}`"
    service.base_questions.append(
        f"{reference.where} has `{reference.verb} {reference.written}`, the image of {base.name}: write {lines}; or "
        "leave out `base`, and each build takes what the registry has under that name"
    )


def _name_argument(text: str) -> str:
    name = re.sub(r"[^A-Z0-9]+", "_", text.upper())
    return name if re.fullmatch(r"[A-Z]\w*", name) else ""


def _find_service(image: str, service: DetectedService, services: list[DetectedService]) -> DetectedService | None:
    """The other service that has an image; by the last word of its name where a run says what is before it."""
    without_expressions = _EXPRESSION.sub(_UNKNOWN_PART, image)
    repository = parse_known_repository(without_expressions)
    name = parse_image_reference(without_expressions).name.lower()
    matching_services = []
    for other in services:
        if other is service or not other.reference:
            continue
        other_image = str(other.reference.value)
        is_named_so = not repository and "$" not in name and other_image.rpartition("/")[2] == name
        if other_image == repository or is_named_so:
            matching_services.append(other)
    return matching_services[0] if len(matching_services) == 1 else None


def _list_references(repository: LocalRepository, service: DetectedService) -> Iterator[_Reference]:
    """The images that the Dockerfile of a service names in the stages that are built."""
    path = service.image.dockerfile
    text = repository.read(path)
    lines = text.split("\n")
    settings = service.settings.value
    parsed = parse_dockerfile(text, _collect_arguments(settings), settings.values.get("target", ""))
    stage_names = {stage.name for stage in parsed.stages if stage.name}
    for stage in parsed.built:
        where = f"{path}:{stage.line}"
        if stage.parent is None:
            written = _read_written_image(lines, stage)
            yield _Reference(written, _fill_in_unknown(stage.image, written, settings), where, "FROM")
        for instruction in stage.instructions:
            line = lines[instruction.line - 1] if instruction.line <= len(lines) else ""
            copied = _COPY_FROM_IMAGE.match(line)
            if copied and copied[1].lower() not in stage_names and not copied[1].isdecimal() and "/" in copied[1]:
                yield _Reference(copied[1], copied[1], f"{path}:{instruction.line}", "COPY --from")


def _collect_arguments(settings: BuildSettings) -> dict[str, str | None]:
    """The build arguments of today, with what a run knows as an unknown part."""
    return {key: _EXPRESSION.sub(_UNKNOWN_PART, value) for key, value in settings.arguments.items()}


def _read_written_image(lines: list[str], stage: Stage) -> str:
    """The image of a stage as its line has it."""
    line = lines[stage.line - 1] if stage.line <= len(lines) else ""
    words = [word for word in line.split()[1:] if not word.startswith("--")]
    return words[0] if words else ""


def _fill_in_unknown(image: str, written: str, settings: BuildSettings) -> str:
    """The image of a stage; one of which a variable without a value is a part stays as it is written."""
    variable = _WHOLE_VARIABLE.fullmatch(written)
    key = (variable[1] or variable[2]) if variable else ""
    if key in settings.arguments:
        return settings.arguments[key]
    is_whole = re.fullmatch(r"[a-z0-9][^\s]*[A-Za-z0-9]", image) is not None and "//" not in image
    return image if is_whole or "$" not in written else written
