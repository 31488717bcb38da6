"""Small readings of single values: variable names, image references, published ports."""

import re
from collections.abc import Iterable

from kiwari_ci.readers.image_reference import parse_image_reference


def format_variable_name(name: str) -> str:
    """Write a name as an environment variable: in capitals, with `_` for `-`."""
    return name.upper().replace("-", "_")


def has_version_or_digest(image: str) -> bool:
    """Whether an image reference has a digest, or a tag other than `latest`, which moves."""
    reference = parse_image_reference(image)
    return bool(reference.digest) or reference.tag not in ("", "latest")


def parse_postgres_major(image: str) -> int:
    """Return the major version that an image's tag begins with, or 0 when the tag names none."""
    digits = re.match(r"\d+", parse_image_reference(image).tag)
    return int(digits[0]) if digits else 0


def find_published_port(ports: Iterable[str], container_port: int) -> str:
    """Return the host's port that a container's port is published on; empty when it is not published."""
    for published_port in ports:
        *_, host_port, published_container_port = published_port.split(":")
        if published_container_port == str(container_port):
            return host_port
    return ""


def is_public_web_port(published_port: str) -> bool:
    """Whether clients reach a published port as a website: port 80 or 443 on an address that others can reach."""
    host_port = published_port.split(":")[-2]
    return host_port in ("80", "443") and not is_local_port(published_port)


def is_local_port(published_port: str) -> bool:
    """Whether only the host itself reaches a published port: `127.0.0.1:8080:80`."""
    address_and_port = published_port.rpartition(":")[0]
    address = address_and_port.rpartition(":")[0]
    return address.startswith("127.") or address.strip("[]") == "::1"
