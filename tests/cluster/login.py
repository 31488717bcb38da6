"""The kubeconfig with which a job deploys, in the hands of somebody else."""

import os
from pathlib import Path

from tests.cluster.cluster import PROGRAMS, run
from tests.cluster.production import Environment
from tests.engine.server import Result


class Login:
    """The kubeconfig of a deploy in the hands of somebody else."""

    def __init__(self, deployed: Environment, folder: Path) -> None:
        self.cluster = deployed.checkout.world.cluster
        self.file = folder / "kubeconfig"
        self.file.write_text(deployed.checkout.kubeconfig(deployed.name))

    def kubectl(self, *words: str, stdin: str = "") -> Result:
        """Runs kubectl with this login."""
        settings = {**os.environ, "KUBECONFIG": str(self.file), "PATH": f"{PROGRAMS}:{os.environ['PATH']}"}
        return run(self.cluster.near("kubectl", *words), False, stdin, settings)
