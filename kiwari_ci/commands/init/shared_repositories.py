"""Images that share one repository of a registry today, where only their tags tell them apart.

In a spec, each image has a repository of its own, because the pipeline writes the tags.
"""

import os
import re
from collections import defaultdict
from typing import NamedTuple

from kiwari_ci.commands.init.compose_files import DetectedComposeFile, DetectedContainer
from kiwari_ci.commands.init.docker_commands import UNKNOWN_TEXT
from kiwari_ci.commands.init.workflow_jobs import DetectedWorkflows
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.image_reference import parse_image_reference
from kiwari_ci.readers.repository import LocalRepository

_SEPARATORS = "-_."
_VERSION = re.compile(r"latest|main|master|edge|stable|nightly|v?\d*")


class _TaggedBuild(NamedTuple):
    """A build of a Dockerfile, and the tag that its image gets, as far as it is known."""

    dockerfile: str
    tag: str
    where: str


def name_images_of_shared_repositories(
    repository: LocalRepository, workflows: DetectedWorkflows, compose_files: list[DetectedComposeFile]
) -> None:
    """Give each image a name of its own: `example/shop:api-1.2` and `example/shop:web-1.2` are two images."""
    containers = [container for file in compose_files for container in file.containers]
    for image, builds in _group_builds(workflows, containers).items():
        prefixes = _find_tag_prefixes(builds)
        if len(prefixes) < 2:
            continue
        for step in workflows.builds:
            if step.image == image and step.dockerfile in prefixes:
                step.image = _name_image(image, prefixes[step.dockerfile])
        for container in containers:
            _rename_image_of_container(container, image, prefixes)
        example = min(_name_image(image, prefix) for prefix in prefixes.values())
        repository.troubles.append(
            f"{builds[0].where}: `{image}` holds {len(prefixes)} images, which their tags tell apart: here each has a "
            f"repository of its own, such as {example}"
        )


def _group_builds(workflows: DetectedWorkflows, containers: list[DetectedContainer]) -> dict[str, list[_TaggedBuild]]:
    """The builds of each image, by the name of the image."""
    groups: dict[str, list[_TaggedBuild]] = defaultdict(list)
    for step in workflows.builds:
        if step.image and UNKNOWN_TEXT not in step.image:
            groups[step.image].append(_TaggedBuild(step.dockerfile, step.tag, step.where))
    for container in containers:
        reference = parse_image_reference(container.image)
        if container.builds and reference.repository in groups:
            groups[reference.repository].append(_TaggedBuild(container.dockerfile, reference.tag, container.where))
    return groups


def _find_tag_prefixes(builds: list[_TaggedBuild]) -> dict[str, str]:
    """The words with which all tags of a Dockerfile's image begin, by Dockerfile; none if they do not tell it apart."""
    tags: dict[str, list[str]] = defaultdict(list)
    for build in builds:
        tags[build.dockerfile].append(build.tag)
    prefixes = {dockerfile: _find_common_words(texts) for dockerfile, texts in tags.items()}
    is_told_apart = all(prefixes.values()) and len(set(prefixes.values())) == len(prefixes)
    return prefixes if is_told_apart else {}


def _find_common_words(tags: list[str]) -> str:
    """The words with which all tags begin, up to a separator, or the only tag, if it is one word; empty for none."""
    common = os.path.commonprefix([tag.partition(UNKNOWN_TEXT)[0] for tag in tags])
    end = max(common.rfind(separator) for separator in _SEPARATORS)
    if end < 0 and set(tags) == {common} and _is_name_of_image(common):
        return common
    return common[: max(end, 0)].strip(_SEPARATORS)


def _is_name_of_image(word: str) -> bool:
    """Whether a tag of one word can name an image, and not a version or an environment of it."""
    return not _VERSION.fullmatch(word) and not vocabulary.classify_environment(word)


def _rename_image_of_container(container: DetectedContainer, image: str, prefixes: dict[str, str]) -> None:
    """Name the image of a container after the longest of the prefixes with which its tag begins."""
    reference = parse_image_reference(container.image)
    if reference.repository != image:
        return
    for prefix in sorted(prefixes.values(), key=len, reverse=True):
        separator = reference.tag[len(prefix) : len(prefix) + 1]
        if reference.tag.startswith(prefix) and separator in ("", *_SEPARATORS):
            container.image = f"{_name_image(image, prefix)}:{reference.tag[len(prefix) + 1 :] or 'latest'}"
            return


def _name_image(image: str, prefix: str) -> str:
    return f"{image}-{prefix.lower()}"
