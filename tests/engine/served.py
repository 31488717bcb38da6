"""Services as deploys leave them, made without a deploy: what a test begins with that is about a later one."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.engine.images import Images
from tests.engine.server import Server, eventually

KEPT = 2  # so many images of each service are on the disk: the one that serves, and the one before it


def leave_served(
    server: Server,
    images: Images,
    folder: Path,
    deploys: Mapping[str, Sequence[tuple[str, int]]],
    has_health: bool = True,
) -> None:
    """Leaves what deploys of these images leave in a stack: records, pins and a container of each service.

    deploys: for each service, the images with the sequence numbers of their commits, the newest last. It takes a
    second, where a deploy through the key takes several.
    """
    (folder / ".deploys").mkdir(mode=0o700, exist_ok=True)
    for service, served in deploys.items():
        for image, _ in served[-KEPT:]:
            server.docker("--config", images.login, "pull", "-q", image)
        lines = [f"{image} {sequence} 2026-01-01T00:00:00Z 1\n" for image, sequence in served]
        (folder / f".deploys/{service}").write_text("".join(lines))
    pins = "# Written by bin/deploy: what serves. Compose reads it by itself.\nservices:\n"
    for path in sorted((folder / ".deploys").glob("[!.]*")):
        image = path.read_text().splitlines()[-1].split()[0]
        pins += f'  {path.name}: {{image: "{image}"}}\n'
    (folder / "docker-compose.override.yml").write_text(pins)
    server.give_to_user(folder)
    names = " ".join(deploys)
    server.by_hand(f"cd docker/{folder.name} && docker compose up -d --no-deps {names}", check=True)
    for service in deploys if has_health else ():
        eventually(lambda: server.serves(service) is not None, 20, f"{service} answers")  # noqa: B023
