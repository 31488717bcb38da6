"""The wheel: small, pure, the same bytes each time, with all that it needs and nothing else."""

import re
import shutil
import subprocess
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

from kiwari_ci import __version__
from tests.install.conftest import ROOT, build, succeeds

LARGEST = 1_000_000  # bytes, as docs/install.md says


@pytest.fixture(scope="module")
def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def metadata(wheel: Path, name: str) -> str:
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(f"kiwari_ci-{__version__}.dist-info/{name}").decode()


def test_small_and_pure(wheel: Path) -> None:
    assert wheel.name == f"kiwari_ci-{__version__}-py3-none-any.whl"
    assert wheel.stat().st_size < LARGEST
    assert "Root-Is-Purelib: true" in metadata(wheel, "WHEEL")


def test_the_package_and_nothing_else(names: list[str]) -> None:
    """What git knows of the package: no cache, no test."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "kiwari_ci"]
    tracked = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    info = {f"kiwari_ci-{__version__}.dist-info/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt")}
    assert set(names) == {name for name in tracked if name and (ROOT / name).exists()} | info
    single_files = r"requirements\.txt|remote_checks/host\.sh|github_facts/action\.yml|commands/graph/page\.css"
    others = rf"\.(py|j2)$|kiwari_ci/({single_files})$"
    assert [name for name in set(names) - info if not re.search(others, name)] == []


def test_metadata(wheel: Path) -> None:
    headers = HeaderParser().parsestr(metadata(wheel, "METADATA"))
    assert (headers["Name"], headers["Version"], headers["Requires-Python"]) == ("kiwari-ci", __version__, ">=3.11")
    needed = {re.split(r"[>=]", line)[0] for line in headers.get_all("Requires-Dist", [])}
    assert needed == {"click", "jinja2", "pydantic", "pyyaml", "ruamel.yaml"}
    assert str(headers.get_payload()).strip() == (ROOT / "README.md").read_text().strip()
    assert metadata(wheel, "entry_points.txt").split() == ["[console_scripts]", "kiwari-ci=kiwari_ci.__main__:main"]


def test_the_same_bytes_from_another_folder_at_another_time(wheel: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere/deeper"
    shutil.copytree(ROOT / "kiwari_ci", copy / "kiwari_ci", copy_function=shutil.copyfile)  # another date, other modes
    for name in ("pyproject.toml", "README.md"):
        shutil.copyfile(ROOT / name, copy / name)
    assert build(tmp_path, copy).read_bytes() == wheel.read_bytes()


def test_its_lock_is_the_repositorys(wheel: Path) -> None:
    """Each version and hash is one that `make .venv` installs, and each dependency has one."""
    with zipfile.ZipFile(wheel) as archive:
        lock = archive.read("kiwari_ci/requirements.txt").decode()
    assert locked(lock).items() <= locked((ROOT / "requirements.txt").read_text()).items()
    assert {"click", "jinja2", "pydantic", "pydantic-core", "pyyaml"} <= {
        package.partition("==")[0] for package in locked(lock)
    }


def locked(text: str) -> dict[str, frozenset[str]]:
    parts = re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:]
    return {part.split()[0]: frozenset(re.findall(r"sha256:[0-9a-f]{64}", part)) for part in parts}


def test_works_from_an_empty_environment_in_any_folder(wheels: Path, person: dict[str, str], tmp_path: Path) -> None:
    script = f"python3 -m venv ~/empty && ~/empty/bin/pip install --quiet --find-links {wheels} kiwari-ci"
    assert succeeds(script, tmp_path, person) == ""
    (tmp_path / "yaml.py").write_text("raise SystemExit('a file of the folder was imported')\n")
    generate = f"~/empty/bin/kiwari-ci generate {ROOT}/specs/kiwari.yaml --out tree"
    assert succeeds(generate, tmp_path, person).endswith("  0 unchanged\n")
    succeeds(f"diff -r tree {ROOT}/generated && ~/empty/bin/kiwari-ci schema >/dev/null", tmp_path, person)
