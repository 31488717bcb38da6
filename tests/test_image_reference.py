"""References of images, cut into their parts."""

import pytest

from kiwari_ci.readers.image_reference import (
    ImageReference,
    parse_image_reference,
    parse_image_repository,
    parse_image_tag,
)

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("postgres", ImageReference("postgres", "", "")),
        ("postgres:16-alpine", ImageReference("postgres", "16-alpine", "")),
        ("ghcr.io/example/api", ImageReference("ghcr.io/example/api", "", "")),
        ("localhost:5000/api", ImageReference("localhost:5000/api", "", "")),
        ("localhost:5000/api:v1", ImageReference("localhost:5000/api", "v1", "")),
        (f"example/api:v1@{DIGEST}", ImageReference("example/api", "v1", DIGEST)),
        (f"localhost:5000/api@{DIGEST}", ImageReference("localhost:5000/api", "", DIGEST)),
        ("${REGISTRY:-ghcr.io}/example/api:${TAG:-latest}",
         ImageReference("${REGISTRY:-ghcr.io}/example/api", "${TAG:-latest}", "")),
        ("", ImageReference("", "", "")),
    ],
)  # fmt: skip
def test_the_parts_of_a_reference(image: str, expected: ImageReference) -> None:
    assert parse_image_reference(image) == expected


def test_the_names_of_an_image() -> None:
    image = parse_image_reference("docker.io/library/postgres:16")
    assert (image.name, image.familiar_name) == ("postgres", "postgres")
    assert parse_image_reference("docker.io/example/api").familiar_name == "example/api"


def test_ghcr_has_lower_case_and_docker_a_default_tag() -> None:
    assert parse_image_repository("ghcr.io/Example/API:v1") == "ghcr.io/example/api"
    assert parse_image_repository("registry.example.com/API:v1") == "registry.example.com/API"
    assert (parse_image_tag("example/api"), parse_image_tag("example/api:v1")) == ("latest", "v1")
