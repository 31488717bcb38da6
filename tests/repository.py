"""A git repository that a test writes commits into."""

import os
import subprocess
from pathlib import Path

from kiwari_ci.readers.git_history import GitRepository


def copy_checkout(folder: Path, target: Path) -> Path:
    """Copy a checkout to a folder that is not there, or that is empty; `cp` takes a third of the time of `shutil`."""
    target.mkdir(exist_ok=True)
    subprocess.run(["cp", "-a", f"{folder}/.", target], check=True)
    return target


class Repository:
    """A git repository that a test writes commits into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.git("init", "-q", "-b", "main")

    def git(self, *words: str) -> str:
        """What git prints."""
        who = ["-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *who, *words], cwd=self.folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def sh(self, script: str) -> str:
        """What a script prints, in the repository."""
        return subprocess.run(["bash", "-c", script], cwd=self.folder, capture_output=True, text=True).stdout.strip()

    def read(self) -> GitRepository:
        """As the commands read it."""
        return GitRepository(self.folder, os.environ)

    def commit(self, title: str, **files: str) -> str:
        """Write files (`__` is a slash, an empty text removes) and commit them; the commit's name."""
        for name, text in files.items():
            path = self.folder / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text) if text else path.unlink()
        self.git("add", "--all")
        self.git("commit", "-q", "--allow-empty", "-m", title)
        return self.git("rev-parse", "HEAD")
