"""Lock files of dependencies: the package manager that each belongs to, and the tool that brings it."""

import re

from kiwari_ci.frozen import dataclass


@dataclass(frozen=True)
class PackageManager:
    """A package manager: the tool of `setup` that caches what it downloads, and its name there.

    `needed_tools` must be installed as well.
    """

    tool: str
    name: str
    needed_tools: tuple[str, ...] = ()


_GRADLE_FILES = r"gradle\.lockfile|(build|settings)\.gradle(\.kts)?|gradle-wrapper\.properties|libs\.versions\.toml"
_PACKAGE_MANAGERS = {
    r"go\.sum": PackageManager("go", "true"),
    r"pom\.xml": PackageManager("java", "maven"),
    _GRADLE_FILES: PackageManager("java", "gradle"),
    r"package-lock\.json|npm-shrinkwrap\.json": PackageManager("node", "npm"),
    r"yarn\.lock": PackageManager("node", "yarn"),
    r"pnpm-lock\.yaml": PackageManager("node", "pnpm", needed_tools=("pnpm",)),
    r".+\.txt|pyproject\.toml|setup\.(py|cfg)": PackageManager("python", "pip"),
    r"uv\.lock": PackageManager("uv", "true"),
}
LOCK_FILE_EXAMPLES = (
    "go.sum, pom.xml, gradle.lockfile, package-lock.json, yarn.lock, pnpm-lock.yaml, requirements.txt, uv.lock"
)


def find_package_manager(lock_file: str) -> PackageManager | None:
    """Find the package manager that a lock file belongs to, by the name of the file."""
    file_name = lock_file.rpartition("/")[2]
    for pattern, manager in _PACKAGE_MANAGERS.items():
        if re.fullmatch(pattern, file_name):
            return manager
    return None
