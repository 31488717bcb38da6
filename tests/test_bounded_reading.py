"""Files that a few lines make endless: every command that reads a stranger's files answers in bounded time and memory.

Each kind of file stops the process if nothing bounds it: by its memory, by its stack, or by its time.
"""

import re
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kiwari_ci.readers.bounded_text import MAX_FILLED_LENGTH, MAX_VALUE_LENGTH, fill_in_values
from tests.cli_runner import kiwari_ci
from tests.repository import copy_checkout

SPEC = Path(__file__).parents[1] / "specs/kiwari.yaml"
LONGEST = 60  # seconds of processor time that a command may take; each takes a part of one, and the endless ones hours
LARGEST = 3_000_000_000  # bytes of memory that this process may have

COMMANDS: dict[str, Callable[[Path], list[object]]] = {
    "init": lambda folder: ["init", folder, "--repository", "a/b"],
    "init-again": lambda folder: ["init", folder, "--repository", "a/b"],
    "lint": lambda folder: ["lint", "specs/kiwari.yaml", "--checkout", folder],
    "diff": lambda folder: ["diff", "specs/kiwari.yaml", "--against", "HEAD^"],
    "check": lambda folder: ["check", "specs/kiwari.yaml"],
    "affected": lambda folder: ["affected", "specs/kiwari.yaml", "--base", "HEAD^"],
    "preview": lambda folder: ["preview", "v1.0.0", "specs/kiwari.yaml"],
    "trace": lambda folder: ["trace", "api.example.com", "specs/kiwari.yaml"],
    "pins-pull": lambda folder: ["pins", "pull", "specs/kiwari.yaml"],
    "eject": lambda folder: ["eject", "specs/kiwari.yaml"],
}
YAML_PATHS = (
    ".github/workflows/a.yml",
    ".github/actions/a/action.yml",
    ".github/dependabot.yml",
    "compose.yml",
    "deploy/pos-staging/docker-compose.yml",
    "specs/pins/action.yml",
)


def multiply_aliases() -> str:
    """Ten levels of ten aliases each: ten thousand million values."""
    lines = ["x0: &x0 [a, a, a, a, a, a, a, a, a, a]"]
    lines += [f"x{level}: &x{level} [{', '.join([f'*x{level - 1}'] * 10)}]" for level in range(1, 10)]
    return "\n".join(lines) + "\n"


def multiply_merge_keys() -> str:
    """Mappings that merge the one before them eight times each."""
    lines = ["x0: &x0 {a: 1, b: 2}"]
    lines += [
        f"x{level}: &x{level} {{<<: [{', '.join([f'*x{level - 1}'] * 8)}], k{level}: 1}}" for level in range(1, 14)
    ]
    return "\n".join(lines) + "\nservices: {a: {image: b, environment: *x13}}\n"


def grow_merged_mappings() -> str:
    """Each of thousands of mappings is the one before it and one key more."""
    lines = ["a0: &a0 {k0: 1}"]
    lines += [f"a{number}: &a{number} {{<<: *a{number - 1}, k{number}: 1}}" for number in range(1, 5_000)]
    return "\n".join(lines) + "\n"


YAML = {
    "aliases": multiply_aliases(),
    "brackets": "a: " + "[" * 10_000,
    "braces": "a: " + "{a: " * 10_000,
    "dashes": "a:\n" + "- " * 10_000,
    "indented": "".join(" " * level + "a:\n" for level in range(900)),
    "merge keys": multiply_merge_keys(),
    "merged mappings": grow_merged_mappings(),
}

ORDINARY = ("aliases", "braces", "merged mappings")  # too many values, too deep, too much time


def double_variables(first: str, line: str) -> str:
    """Sixty variables, each of which is the one before it three times: 4 * 10**28 characters."""
    return first + "".join(line.format(new=number, old=number - 1) for number in range(1, 60))


def indent(text: str) -> str:
    return "".join(f"          {line}\n" for line in text.splitlines())


WORKFLOW = "on: push\n{env}jobs:\n  a:\n    runs-on: x\n    steps:\n      - run: |\n{run}"
OTHERS = {
    "expressions": {
        ".github/workflows/a.yml": WORKFLOW.format(
            env=double_variables("env:\n  X0: long\n", "  X{new}: ${{{{env.X{old}}}}}${{{{env.X{old}}}}}\n"),
            run=indent("docker push ${{ env.X59 }}"),
        ),
    },
    "shell": {
        ".github/workflows/a.yml": WORKFLOW.format(
            env="", run=indent(double_variables("x0=long\n", "x{new}=$x{old}$x{old}$x{old}\n") + "docker push $x59")
        ),
        ".github/workflows/b.yml": WORKFLOW.format(env="", run=indent("$(" * 50_000)),
        ".github/workflows/c.yml": WORKFLOW.format(env="", run=indent("for x in a b c d e f g; do " * 20)),
    },
    "blank lines": {
        ".github/workflows/a.yml": WORKFLOW.format(
            env="", run=indent("docker push a" + "\n" * 99_000 + "docker push b")
        ),
    },
    "long labels": {
        "deploy/a/compose.yml": "services: {a: {image: 'b', labels: {some: '" + "key" * 30_000 + "'}}}\n",
    },
    "Dockerfile": {
        "web/Dockerfile": double_variables("ARG A0=long\n", "ARG A{new}=$A{old}$A{old}$A{old}\n")
        + "FROM $A59\nCOPY $A59 /\n"
        + double_variables("ARG B0=long\n", "ARG B{new}=$B{old}$B{old}$B{old}\n"),
    },
    "stages": {
        "web/Dockerfile": "FROM a AS s0\n" + "".join(f"FROM s{n} AS s{n + 1}\n" for n in range(20_000)) + "COPY a /\n",
    },
    "compose": {
        "compose.yml": "services: {a: {image: '" + "${A:-" * 10_000 + "'}}\n",
        "docker-compose.yml": "include: [docker-compose.yml]\nservices: {a: {extends: {service: a}}}\n",
    },
    "manifests": {
        "web/Dockerfile": "FROM a\nCOPY . /\nCMD " + "[" * 100_000 + "\n",
        "web/package.json": '{"a":' * 90_000,
        "api/Dockerfile": "FROM a\nCOPY . /\n",
        "api/pyproject.toml": ".".join("a" * 100_000) + " = 1\n",
        "old/Dockerfile": "FROM a\nCOPY . /\n",
        "old/pyproject.toml": "a = " + "[" * 100_000,
    },
}


@pytest.fixture(autouse=True)
def _bounds() -> Iterator[None]:
    """The time and the memory that a command may take."""

    def give_up(*_: object) -> None:
        raise AssertionError(f"not answered after {LONGEST} s of processor time")

    handler = signal.signal(signal.SIGVTALRM, give_up)
    signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST)
    memory = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (LARGEST, memory[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, memory)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.signal(signal.SIGVTALRM, handler)


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with a spec and its generated files, of which each test gets a copy."""
    folder = tmp_path_factory.mktemp("committed")
    (folder / "specs").mkdir()
    (folder / "specs/kiwari.yaml").write_text(SPEC.read_text())
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        assert kiwari_ci("generate", "specs/kiwari.yaml").code == 0
    commit(folder)
    subprocess.run(["git", "gc", "-q"], cwd=folder, check=True)  # one file to copy, in place of many
    return folder


@pytest.fixture
def checkout(committed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy_checkout(committed, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commit(folder: Path) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    for words in (["init", "-q", "--template="], ["add", "--all"], ["commit", "-q", "--allow-empty", "-m", "one"]):
        subprocess.run(["git", *who, *words], cwd=folder, check=True)


def run_command(command: str, checkout: Path) -> None:
    if command == "init":
        (checkout / "specs/kiwari.yaml").unlink()
    result = kiwari_ci(*COMMANDS[command](checkout))
    assert result.code in (0, 1, 2, 73), result
    assert "Traceback" not in result.err and "a bug of kiwari-ci" not in result.err


@pytest.mark.parametrize("command", COMMANDS)
def test_yaml_of_others_is_bounded(command: str, checkout: Path) -> None:
    """All kinds at once, in all files that some command reads."""
    for number, (_, text) in enumerate(YAML.items()):
        for path in YAML_PATHS:
            folder, _, name = path.rpartition("/")
            beside = checkout / folder / (name if number == 0 else f"{number}-{name}")
            beside.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(text)
    commit(checkout)
    run_command(command, checkout)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind in ORDINARY else pytest.mark.exhaustive) for kind in YAML]
)
def test_yaml_that_is_too_much_is_named(kind: str, checkout: Path) -> None:
    """What cannot be read is not passed over in silence."""
    (checkout / ".github/workflows/other.yml").write_text(YAML[kind])
    (checkout / "compose.yml").write_text(YAML[kind])
    (checkout / "web").mkdir()
    (checkout / "web/Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    commit(checkout)
    diff = kiwari_ci("diff", "specs/kiwari.yaml", "--against", "HEAD").out
    init = kiwari_ci("init", checkout, "--repository", "a/b")
    reason = r"more than [\d,]+ (values|levels deep)"
    assert re.search(rf"not read: \.github/workflows/other\.yml: {reason}", diff)
    assert len(re.findall(reason, init.out + init.err)) >= 2


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize(
    "command",
    [
        *("init", "lint", "diff"),
        *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("init-again", "affected")),
    ],
)
def test_values_of_others_are_bounded(command: str, kind: str, checkout: Path) -> None:
    for path, text in OTHERS[kind].items():
        (checkout / path).parent.mkdir(parents=True, exist_ok=True)
        (checkout / path).write_text(text)
    commit(checkout)
    run_command(command, checkout)


def test_lines_of_stars_are_bounded(checkout: Path) -> None:
    """Each line of a .dockerignore is matched with each file."""
    for folder in ("api", "docker"):
        (checkout / folder).mkdir()
    (checkout / "docker/Dockerfile.api").write_text("FROM scratch\nCOPY api /\n")
    for number in range(100):
        (checkout / "api" / f"{'a' * 200}{number}").touch()
    (checkout / ".dockerignore").write_text("".join(f"{'*a' * 60}{number}b\n" for number in range(1_000)))
    commit(checkout)
    result = kiwari_ci("lint", "specs/kiwari.yaml", "--checkout", checkout)
    assert "980 lines of .dockerignore have too many stars: they are not read" in result.out


def test_a_text_with_values_has_an_end() -> None:
    pattern = re.compile(r"\$(\w)")
    assert fill_in_values(pattern, lambda match: match[1].upper(), "a $b$c d") == "a BC d"
    assert fill_in_values(pattern, lambda match: "x" * 9_000, "$a") == "x" * MAX_VALUE_LENGTH
    assert fill_in_values(pattern, lambda match: "x" * 9_000, "$a" * 9_000) == "x" * MAX_FILLED_LENGTH
