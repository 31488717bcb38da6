"""Rules for the source code that no linter has. Import directions are in pyproject.toml, for import-linter."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from kiwari_ci.github_facts.action_pins import DEFAULT_PINS
from kiwari_ci.rendering.render import TEMPLATES_FOLDER

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "kiwari_ci"
MODULES = sorted(PACKAGE.rglob("*.py"))
# Programs that a generated repository has as single files: they import nothing of ours, and print and exit themselves.
PROGRAMS = sorted(PACKAGE.glob("engines/*/deploy_programs/[a-z]*.py"))

REQUIREMENTS = [ROOT / f"{folder}/requirements.txt" for folder in (".ci", "kiwari_ci", "tests/install")]
REQUIREMENTS += ROOT.glob("requirements*.txt")

MACHINE = re.compile(
    r"(?<![\w./])/(?:work|root|mnt|Users)/|/home/|\.\./shared|pypi\.org|pythonhosted|registry\.npmjs|deb\.debian|proxy\.golang"
)


def imported_modules(module: Path) -> set[str]:
    """The names of all modules that a module imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def name_of(module: Path) -> str:
    """As others import it."""
    return ".".join(module.relative_to(PACKAGE).with_suffix("").parts)


def tracked() -> list[Path]:
    """Files of the repository, those that are not committed yet, too."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("program", PROGRAMS, ids=name_of)
def test_programs_run_on_any_machine(program: Path) -> None:
    """They are copied without their neighbours, to machines with Python 3.8 and nothing else."""
    ast.parse(program.read_text(), feature_version=(3, 8))
    imported = imported_modules(program)
    if program.stem == "rotate":
        imported.remove(
            "kiwari_ci.engines.compose.deploy_programs"
        )  # only in this package; on a server it loads bin/deploy
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names


def test_only_the_command_line_prints_and_exits() -> None:
    command_line = {PACKAGE / "__main__.py", *(PACKAGE / "cli").glob("*.py")}
    # A variable tells the drift workflow's checkout where it is from; git gets a part of the environment.
    command_line |= {PACKAGE / "generator.py", PACKAGE / "readers/git.py"}
    for module in set(MODULES) - set(PROGRAMS) - command_line:
        assert not re.search(r"\bprint\(|\bsys\.exit\(|\bos\.environ\b", module.read_text()), module.name


def test_pins_come_from_one_place() -> None:
    """No template names an action, and each pin is a full commit with a version."""
    for template in TEMPLATES_FOLDER.rglob("*.j2"):
        assert not re.search(r"uses: *[\w-]+/|[0-9a-f]{40}", template.read_text()), template.name
    for pin in DEFAULT_PINS.values():
        assert re.fullmatch(r"[0-9a-f]{40}", pin.sha) and re.fullmatch(r"v\d+\.\d+\.\d+", pin.version)


def test_nobody_knows_a_users_words() -> None:
    """Nothing in the code knows the names of Kiwari's services, environments or machines."""
    words = re.compile(r"\b(pos|admin|nasibakarkiwari|iqbalmuhyiddin|vps|stg)\b|\bkiwari\b(?!-ci)")
    for file in {*MODULES, *TEMPLATES_FOLDER.rglob("*.j2")} - {PACKAGE / "readers/vocabulary.py"}:  # it knows "stg"
        assert not words.search(file.read_text().replace("kiwari_ci", "")), file.name


def test_nothing_is_installed_without_hashes() -> None:
    """pip takes nothing from an index but what a file of requirements has the hash of."""
    targets = ["dev", "mutate", "wheels"]
    words = ["make", "--dry-run", "--always-make", "lock", "wheelhouse", *(f".venv/{name}" for name in targets)]
    printed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    installs = [line for line in printed.splitlines() if re.search(r"\bpip (install|download|wheel) ", line)]
    from_an_index = [line for line in installs if "--no-index" not in line]
    assert len(from_an_index) >= 6
    for line in from_an_index:
        assert "--require-hashes --only-binary :all: --requirement " in line


@pytest.mark.parametrize("file", REQUIREMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_each_requirement_has_a_hash(file: Path) -> None:
    _, *requirements = re.split(r"^(?=[A-Za-z0-9])", file.read_text(), flags=re.MULTILINE)
    assert requirements
    for requirement in requirements:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", requirement), requirement.split()[0]


def test_nothing_names_a_machine() -> None:
    """No path of one machine, no package index or mirror; this file has the words."""
    places = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
        for file in tracked()
        if file != Path(__file__)
        for number, line in enumerate(file.read_bytes().decode(errors="replace").splitlines(), 1)
        if MACHINE.search(line)
    ]
    assert not places, "\n".join(places)


def test_each_package_of_npm_has_a_hash() -> None:
    packages = json.loads((ROOT / "tests/checkers/package-lock.json").read_text())["packages"]
    without_hash = [name for name, package in packages.items() if name and "integrity" not in package]
    assert len(packages) > 3 and not without_hash


def test_no_package_of_npm_runs_a_script() -> None:
    settings = (ROOT / "tests/checkers/.npmrc").read_text().split()
    assert "ignore-scripts=true" in settings


def test_what_code_owners_review_is_there() -> None:
    """A path that was renamed would be reviewed by nobody."""
    lines = (ROOT / ".github/CODEOWNERS").read_text().splitlines()
    rules = [line.split() for line in lines if not line.startswith("#")]
    assert {owner for _, *owners in rules for owner in owners} == {"@iqbalmuhyiddin"}
    for pattern, *_ in rules:
        assert list(ROOT.glob(pattern.strip("/"))), pattern
    reviewed = {pattern.strip("/") for pattern, *_ in rules}
    assert {".github", ".ci", "kiwari_ci", "Makefile", "action.yml", "pyproject.toml"} <= reviewed


def test_the_readme_says_that_no_licence_is_chosen() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    says_none = "No licence is chosen yet" in (ROOT / "README.md").read_text()
    assert says_none == ("license" not in project)
