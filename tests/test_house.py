"""How the house is built: imports run one way, and nothing names a machine."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kiwari_ci.github.action_pins import DEFAULT_PINS
from kiwari_ci.rendering.render import TEMPLATES_FOLDER

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "kiwari_ci"
MODULES = sorted(PACKAGE.rglob("*.py"))
# Programs that a generated repository has as single files: they import nothing of ours, and print and exit themselves.
PROGRAMS = [PACKAGE / "engines/compose/host.py", PACKAGE / "engines/compose/over_ssh.py"]

# From the door inwards: a module imports only from a lower floor, or what is said here of its own.
FLOORS = [
    {"__main__"},
    {"cli"},
    {"asks"},
    {"red", "said"},
    {"asking"},
    {"adopt", "bumps", "doctor", "drift", "lint"},
    {"before", "eject", "governing", "images", "meaning", "pipeline"},
    {"context"},
    {"advice", "fronts", "leftovers", "names", "pins", "render", "resolve", "rules", "source", "validation"},
    {"building", "derive", "graph", "needs"},
    {"reach", "tree"},
    {
        "checkout",
        "cures",
        "declined",
        "dockerfile",
        "engines",
        "globs",
        "instructions",
        "options",
        "plan",
        "problems",
        "quoting",
        "spec",
        "texts",
        "disk",
    },
    {"__init__", "engines"},
]
NEIGHBOURS = {
    "advice": {"source", "validation"},
    "before": {"pipeline"},
    "building": {"derive"},
    "red": {"said"},
    "leftovers": {"pins", "source"},
    "fronts": {"source", "validation"},
    "dockerfile": {"instructions"},
    "names": {"source", "validation"},
    "pins": {"source", "validation"},
    "resolve": {"pins"},
    "rules": {"fronts", "names", "source", "validation"},
    "spec": {"texts"},
    "validation": {"source"},
}
NEVER = {"render": {"spec", "derive"}, "plan": {"spec"}, "source": {"spec"}, "cli": {"resolve", "render"}}
MACHINE = re.compile(
    r"(?<![\w./])/(?:work|root|mnt|Users)/|/home/|\.\./shared|pypi\.org|pythonhosted|registry\.npmjs|deb\.debian|proxy\.golang"
)


def imports(module: Path) -> set[str]:
    """The modules of this package that one imports, also inside functions; and `click`, `yaml`... from outside.

    Those of a folder have its name before theirs: `doctor.ask`.
    """
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom):
            package = ("kiwari_ci." if node.level else "") + (node.module or "")
            is_folder = (PACKAGE.parent / package.strip(".").replace(".", "/")).is_dir()
            names = [f"{package.strip('.')}.{alias.name}" for alias in node.names] if is_folder else [package]
            found |= {name.removeprefix("kiwari_ci.") for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("kiwari_ci.") for alias in node.names}
    return {"__init__" if name == "__version__" else name for name in found}


def name_of(module: Path) -> str:
    """As others import it."""
    return ".".join(module.relative_to(PACKAGE).with_suffix("").parts)


def room(name: str) -> str:
    """The folder of a module, or the module itself."""
    return name.split(".")[0]


def tracked() -> list[Path]:
    """Files of the repository, those that are not committed yet, too."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_each_module_has_a_floor() -> None:
    assert {room(name_of(module)) for module in MODULES} == set.union(*FLOORS)


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_imports_run_one_way(module: Path) -> None:
    here = room(name_of(module))
    own = {room(name_of(other)) for other in MODULES}
    floor = next(index for index, names in enumerate(FLOORS) if here in names)
    below = set.union(set(), *FLOORS[floor + 1 :])
    allowed = below | NEIGHBOURS.get(here, set())
    beside = {here} if module.parent != PACKAGE else set()
    assert {room(name) for name in imports(module)} & own <= allowed - NEVER.get(here, set()) - {here} | beside


@pytest.mark.parametrize("program", PROGRAMS, ids=name_of)
def test_a_program_stands_alone(program: Path) -> None:
    """A server has nothing but Python itself: no module of ours, and none from a package index."""
    words = imports(program)
    assert {name.split(".")[0] for name in words} <= sys.stdlib_module_names


def test_there_is_no_circle() -> None:
    left = {name_of(module): imports(module) & {name_of(other) for other in MODULES} for module in MODULES}
    while free := {name for name, needs in left.items() if not needs}:
        left = {name: needs - free for name, needs in left.items() if name not in free}
    assert left == {}


def test_only_the_command_line_prints_colours_and_exits() -> None:
    for module in [each for each in MODULES if each not in PROGRAMS]:
        if module.stem not in ("cli", "asks", "options", "__main__"):
            assert "click" not in imports(module), module.name
            assert not re.search(r"\bprint\(|\bsys\.exit\(|\bos\.environ\b", module.read_text()), module.name


@pytest.mark.parametrize("program", PROGRAMS, ids=name_of)
def test_programs_run_on_any_machine(program: Path) -> None:
    """They are copied without their neighbours, to machines with Python 3.8 and nothing else."""
    text = program.read_text()
    ast.parse(text, feature_version=(3, 8))
    assert {room(name) for name in imports(program)} <= sys.stdlib_module_names | {"__future__"}


def test_output_depends_on_nothing_around() -> None:
    pure = {"render", "resolve", "plan", "quoting", "globs", "pins"}
    for module in [each for each in MODULES if room(name_of(each)) in pure]:
        assert not imports(module) & {
            "datetime",
            "time",
            "os",
            "locale",
            "random",
            "socket",
            "subprocess",
        }


def test_pins_come_from_one_place() -> None:
    """No template names an action, and each pin is a full commit with a version."""
    for template in TEMPLATES_FOLDER.rglob("*.j2"):
        assert not re.search(r"uses: *[\w-]+/|[0-9a-f]{40}", template.read_text()), template.name
    for pin in DEFAULT_PINS.values():
        assert re.fullmatch(r"[0-9a-f]{40}", pin.sha) and re.fullmatch(r"v\d+\.\d+\.\d+", pin.version)


def test_nobody_knows_a_users_words() -> None:
    """Nothing in the code knows the names of Kiwari's services, environments or machines."""
    words = re.compile(r"\b(pos|admin|nasibakarkiwari|iqbalmuhyiddin|vps|stg)\b|\bkiwari\b(?!-ci)")
    for file in [*MODULES, *TEMPLATES_FOLDER.rglob("*.j2")]:
        assert not words.search(file.read_text().replace("kiwari_ci", "")), file.name


def test_nothing_names_a_machine() -> None:
    """No path of one machine, no package index or mirror; this file has the words."""
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
        for file in tracked()
        if file != Path(__file__)
        for number, line in enumerate(file.read_bytes().decode(errors="replace").splitlines(), 1)
        if MACHINE.search(line)
    ]
    assert not found, "\n".join(found)
