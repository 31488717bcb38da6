"""What the tests of this folder install from: a repository, an index and a folder, all of this machine."""

import functools
import hashlib
import http.server
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WHEELS = ROOT / ".venv/wheels"
INSTALL_PAGE = (ROOT / "docs/install.md").read_text()
GIT = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "init.defaultBranch=main"]


def section(title: str, language: str = "sh") -> str:
    """The block of a section of docs/install.md."""
    [text] = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", INSTALL_PAGE, re.MULTILINE | re.DOTALL)
    [block] = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return str(block)


def hash_file(file: Path) -> str:
    """Its SHA-256, as sha256sum prints it."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def lacks(part: str, target: str) -> None:
    """A part is missing: a loud skip here, a failure in CI."""
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{part} is missing: run {target}")


def run(script: str, folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """A script as a runner's bash or a person's runs it; stdout and stderr come together."""
    bash = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    return subprocess.run(
        bash, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300
    )


def succeeds(script: str, folder: Path, environment: Mapping[str, str]) -> str:
    """It works; what it says."""
    done = run(script, folder, environment)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def person(tmp_path: Path) -> dict[str, str]:
    """The environment of somebody with a home of their own, whose pip knows of no index."""
    (tmp_path / "home").mkdir()
    environment = {"HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    return environment | {"PIP_CONFIG_FILE": "/dev/null", "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A bare repository with one commit, this working tree; and the commit's 40 digits."""
    folder = tmp_path_factory.mktemp("tool")
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in names:
        if name and (ROOT / name).is_file() and not name.startswith("tests/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all of it"]):
        subprocess.run([*GIT, *words], cwd=folder, check=True)
    bare = folder.with_suffix(".git")
    subprocess.run(["git", "clone", "-q", "--bare", folder, bare], check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=bare, capture_output=True, text=True, check=True)
    return bare, head.stdout.strip()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, as `make wheel` makes it."""
    return build(tmp_path_factory.mktemp("dist"))


def build(folder: Path, source: Path = ROOT) -> Path:
    """Build the wheel with the words of the Makefile."""
    [words] = re.findall(r"^\t@(SOURCE_DATE_EPOCH=.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    words = words.replace("$(BIN)", str(ROOT / ".venv/bin")).replace("--wheel-dir dist", f"--wheel-dir {folder}")
    subprocess.run(["bash", "-c", words], cwd=source, check=True, env={**os.environ, "PIP_CONFIG_FILE": "/dev/null"})
    [built_wheel] = folder.glob("kiwari_ci-*.whl")
    return built_wheel


@pytest.fixture(scope="session")
def wheels(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and all that it, its build and pre-commit need."""
    if not WHEELS.is_dir():
        lacks(str(WHEELS), "make install-test")
    folder = tmp_path_factory.mktemp("wheels")
    for wheel_file in [wheel, *WHEELS.iterdir()]:
        shutil.copy(wheel_file, folder)
    return folder


@dataclass(frozen=True)
class Index:
    """A package index on loopback, and what it was asked for."""

    address: str
    asked: list[str]

    def of(self, person: Mapping[str, str]) -> dict[str, str]:
        """A person whose pip knows this index."""
        return {**person, "PIP_NO_INDEX": "0", "PIP_INDEX_URL": f"{self.address}/simple/"}


class _Simple(http.server.SimpleHTTPRequestHandler):
    """The simple repository API: https://packaging.python.org/specifications/simple-repository-api."""

    asked: list[str] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if not self.path.startswith("/simple/"):
            return super().do_GET()
        name = self.path.split("/")[2].replace("-", "_").lower()
        files = [file for file in Path(self.directory).iterdir() if file.name.split("-")[0].lower() == name]
        hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
        page = "".join(
            f'<a href="/{file_name}#sha256={digest}">{file_name}</a>\n' for file_name, digest in hashes.items()
        ).encode()
        self.send_response(200 if files else 404)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="session")
def index(wheels: Path) -> Iterator[Index]:
    """An index with these wheels."""
    handler = functools.partial(_Simple, directory=str(wheels))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Index(f"http://127.0.0.1:{server.server_port}", _Simple.asked)
        server.shutdown()


@pytest.fixture
def monorepo(tmp_path: Path) -> Path:
    """A consumer's repository: a spec, and what was generated from it."""
    folder = tmp_path / "monorepo"
    shutil.copytree(ROOT / "generated", folder)
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "start"]):
        subprocess.run([*GIT, *words], cwd=folder, check=True)
    return folder
