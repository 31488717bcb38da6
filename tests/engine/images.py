"""Images of the small service in `app/`, FROM scratch: in the machine's registry, or built for its engine alone."""

import os
import shutil
import subprocess
from typing import Any

from tests.engine.registry_files import RegistryFiles
from tests.engine.server import HERE, TOKEN, Server

REGISTRY = "ghcr.io/iqbalmuhyiddin"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # a build FROM scratch gives it to an image


class Images:
    """Versions of the service: what a deploy wants, it must pull."""

    registry = REGISTRY

    def __init__(self, server: Server) -> None:
        self.server = server
        self.pushed: dict[tuple[str, str, str, int, str, str], str] = {}
        self.context = server.folder / "app"
        shutil.copytree(HERE / "app", self.context)
        go = ["go", "build", "-trimpath", "-ldflags=-s -w", "-o", "app", "."]
        subprocess.run(go, cwd=self.context, env={**os.environ, "CGO_ENABLED": "0"}, check=True)
        self.registry_files = RegistryFiles(server.folder / "registry", self.context / "app")
        self.login = str(server.folder / "push")
        words = ("docker", "--config", self.login, "login", "ghcr.io", "-u", "x-access-token", "--password-stdin")
        server.run(*words, stdin=TOKEN)

    def push(
        self,
        name: str,
        version: str,
        behaviour: str = "answers",
        port: int = 8081,
        tag: str = "staging",
        label: str = "",
    ) -> str:
        """Leaves one version in the registry, each once, and returns its digest; the engine has no copy."""
        one = (name, version, behaviour, port, tag, label)
        if one not in self.pushed:
            self.pushed[one] = self.publish(f"{self.registry}/{name}:{tag}", version, behaviour, port, label)
        return self.pushed[one]

    def publish(self, image: str, version: str, behaviour: str, port: int, label: str = "") -> str:
        """Leaves one version in the registry as a push of what `build` builds does, and returns its digest."""
        repository, _, tag = image.partition("/")[2].rpartition(":")
        settings: dict[str, Any] = {
            "Env": [PATH, f"VERSION={version}", f"BEHAVIOUR={behaviour}", f"PORT={port}"],
            "Entrypoint": ["/app"],
            "Volumes": {"/data": {}},
            "WorkingDir": "/",
            "Labels": dict([label.split("=", 1)]) if label else None,
        }
        return self.registry_files.add_image(repository, tag, settings)

    def build(self, image: str, version: str, behaviour: str, port: int, label: str = "") -> None:
        """Builds one version, for the engine alone."""
        arguments = (f"VERSION={version}", f"BEHAVIOUR={behaviour}", f"PORT={port}")
        words = ["build", "-q", "-t", image, *(f"--build-arg={argument}" for argument in arguments)]
        if label:
            words.append(f"--label={label}")
        self.server.docker(*words, str(self.context))

    def api(self, version: str, behaviour: str = "answers") -> str:
        """One version of the API's image."""
        return self.push("kiwari-api", version, behaviour)

    def admin(self, version: str, behaviour: str = "answers") -> str:
        """One version of the admin's image."""
        return self.push("kiwari-admin", version, behaviour, port=3000)
