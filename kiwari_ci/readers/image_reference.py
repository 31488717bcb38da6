"""Reads the reference of an image, `registry/path/name:tag@digest`, in which variables may stand."""

from kiwari_ci.frozen import dataclass


@dataclass(frozen=True)
class ImageReference:
    """An image as it is named: `repository` with the registry, if one is written; no tag and no digest is empty."""

    repository: str
    tag: str
    digest: str

    @property
    def name(self) -> str:
        """The last word of the repository: `api` of `ghcr.io/example/api`."""
        return self.repository.rpartition("/")[2]

    @property
    def familiar_name(self) -> str:
        """The repository as people write it: `postgres` of `docker.io/library/postgres`."""
        return self.repository.removeprefix("docker.io/").removeprefix("library/")


def parse_image_reference(image: str) -> ImageReference:
    """Cut a reference into its parts: a `:` in the last word starts the tag, one before it a registry's port."""
    path, _, digest = image.strip().partition("@")
    folder, slash, last = path.rpartition("/")
    name, _, tag = last.partition(":")
    return ImageReference(f"{folder}{slash}{name}", tag, digest)


def parse_image_repository(image: str) -> str:
    """The repository of an image.

    One in ghcr.io is in lower case, as GHCR has it: `github.repository`, of which workflows make it, may have capitals.
    """
    repository = parse_image_reference(image).repository
    return repository.lower() if repository.startswith("ghcr.io/") else repository


def parse_image_tag(image: str) -> str:
    """The tag of an image; Docker's own default where it has none."""
    return parse_image_reference(image).tag or "latest"
