"""Images written into the registry's folder, as a push leaves them: without a build, which takes a second each."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
CREATED = "2026-01-01T00:00:00Z"


class RegistryFiles:
    """The folder of a registry, whose images have one layer: a program. It keeps one copy of the program for all."""

    def __init__(self, folder: Path, program: Path) -> None:
        self.folder = folder / "docker/registry/v2"
        layer = layer_of(program)
        self.layer_digest = digest_of(layer)
        packed = gzip.compress(layer, compresslevel=1, mtime=0)
        self.layer = {"mediaType": LAYER, "size": len(packed), "digest": digest_of(packed)}
        self._write_blob(packed)

    def add_image(self, repository: str, tag: str, settings: Mapping[str, Any]) -> str:
        """Writes an image with these settings, under that tag, and returns its digest."""
        image = {
            "architecture": "amd64",
            "os": "linux",
            "created": CREATED,
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [self.layer_digest]},
            "history": [{"created": CREATED, "created_by": "COPY app /app"}],
        }
        config = json.dumps(image).encode()
        described = {"mediaType": CONFIG, "size": len(config), "digest": self._write_blob(config)}
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": [self.layer]}
        digest = self._write_blob(json.dumps(manifest).encode())
        self._link(repository, ["_layers"], [described["digest"], self.layer["digest"]])
        self._link(repository, ["_manifests/revisions", f"_manifests/tags/{tag}/index"], [digest])
        current = self.folder / "repositories" / repository / f"_manifests/tags/{tag}/current/link"
        current.parent.mkdir(parents=True, exist_ok=True)
        current.write_text(digest)
        return digest

    def _write_blob(self, content: bytes) -> str:
        """Writes a blob where the registry looks for it, and returns its digest."""
        digest = digest_of(content)
        name = digest.removeprefix("sha256:")
        path = self.folder / "blobs/sha256" / name[:2] / name / "data"
        if not path.exists():
            path.parent.mkdir(parents=True)
            path.write_bytes(content)
        return digest

    def _link(self, repository: str, kinds: Sequence[str], digests: Sequence[Any]) -> None:
        """Makes blobs a part of the repository."""
        for kind in kinds:
            for digest in digests:
                name = digest.removeprefix("sha256:")
                path = self.folder / "repositories" / repository / kind / "sha256" / name / "link"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(digest)


def digest_of(content: bytes) -> str:
    """The name of a blob."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def layer_of(program: Path) -> bytes:
    """A layer as `COPY app /app` makes it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("app")
        entry.mode, entry.size = 0o755, program.stat().st_size
        with program.open("rb") as content:
            archive.addfile(entry, content)
    return buffer.getvalue()
