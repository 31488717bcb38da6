"""Images of the small service in `app/`: built by docker, FROM scratch, pushed to the machine's registry."""

import os
import shutil
import subprocess

from tests.engine.server import HERE, TOKEN, Server

REGISTRY = "ghcr.io/iqbalmuhyiddin"


class Images:
    """Builds, pushes and forgets: what a deploy wants, it must pull."""

    registry = REGISTRY

    def __init__(self, server: Server) -> None:
        self.server = server
        self.pushed: dict[tuple[str, str, str, int, str, str], str] = {}
        self.context = server.folder / "app"
        shutil.copytree(HERE / "app", self.context)
        go = ["go", "build", "-trimpath", "-ldflags=-s -w", "-o", "app", "."]
        subprocess.run(go, cwd=self.context, env={**os.environ, "CGO_ENABLED": "0"}, check=True)
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
        """Builds one version, pushes it, each once, and returns its digest; no copy stays with the engine."""
        docker, image = self.server.docker, f"{self.registry}/{name}:{tag}"
        one = (name, version, behaviour, port, tag, label)
        if one not in self.pushed:
            self.build(image, version, behaviour, port, label)
            docker("--config", self.login, "push", "-q", image)
            self.pushed[one] = docker("inspect", "-f", "{{index .RepoDigests 0}}", image).partition("@")[2]
            docker("rmi", image)
        return self.pushed[one]

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
