"""The scripts and Makefile targets of the repository that a deploy runs: what they do is read there."""

from pathlib import Path

import pytest

from kiwari_ci.commands.diff.snapshot import PipelineSnapshot, build_snapshot
from kiwari_ci.readers.called_scripts import MAX_CALL_DEPTH, MAX_CALLS, CallPlace, NoScripts, ScriptFinder
from kiwari_ci.readers.file_sets import load_folder
from kiwari_ci.readers.script_values import fill_in_script_values
from kiwari_ci.readers.shell import MAX_SCRIPT_LENGTH

ELSEWHERE = "on the server, which is not in the repository"
UP = "docker compose -f compose.prod.yml up -d\n"


def read(folder: Path, run: str, files: dict[str, str], job: str = "") -> PipelineSnapshot:
    """What `diff` reads of a repository with one workflow, which has one step."""
    indented = "\n          ".join(run.split("\n"))
    head = f"on: push\njobs:\n  deploy:\n    runs-on: ubuntu-latest\n{job}    steps:\n"
    workflow = f"{head}      - run: |\n          {indented}\n"
    for path, text in {**files, ".github/workflows/deploy.yml": workflow}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return build_snapshot(load_folder(folder), "example/shop")


def list_deploys(snapshot: PipelineSnapshot) -> list[tuple[str, str]]:
    """The folder and Compose files of each deploy, and its place."""
    effects = [effect for workflow in snapshot.workflows.values() for _, effect in workflow.effects]
    return [(effect.what.replace("\n", " "), effect.where) for effect in effects if effect.kind == "deploy"]


@pytest.mark.parametrize(
    ("run", "path"),
    [
        ("ssh web 'cd /srv/shop && ./deploy.sh'", "deploy.sh"),
        ("ssh web 'cd /srv/shop && bash -eu scripts/deploy.sh staging'", "scripts/deploy.sh"),
        ("ssh web 'cd /srv/shop && /srv/shop/scripts/deploy.sh'", "scripts/deploy.sh"),
        ("ssh web 'cd /srv/shop; sudo -u deploy env A=b ./deploy.sh'", "deploy.sh"),
        ("ssh web 'cd /srv/shop && source deploy.sh'", "deploy.sh"),
        ("ssh web 'cd /srv/shop && bash -s' < scripts/deploy.sh", "scripts/deploy.sh"),
        ("ssh web <<'END'\ncd /srv/shop\n./deploy.sh\nEND", "deploy.sh"),
        ("ssh web \"bash -lc 'cd /srv/shop && ./deploy.sh'\"", "deploy.sh"),
        ('ssh web "bash -lc \\"cd /srv/shop && ./deploy.sh\\""', "deploy.sh"),
        ("ssh web 'cd -P -- /srv/shop && ./deploy.sh'", "deploy.sh"),
        ('ssh web \'cd "/srv/shop" && bash -lc "./deploy.sh"\'', "deploy.sh"),
        ("ssh web 'cd /srv/shop && timeout 300 \"./my scripts/deploy it.sh\"'", "my scripts/deploy it.sh"),
        ("ssh web 'cd /srv/shop && ./deploy.sh || exit 1'", "deploy.sh"),
    ],
)
def test_a_script_on_the_server_that_the_repository_has_is_read(tmp_path: Path, run: str, path: str) -> None:
    snapshot = read(tmp_path, run, {path: f"#!/bin/bash\nset -e\n{UP}"})
    assert list_deploys(snapshot) == [("shop compose.prod.yml", f"{path}:3")]
    assert snapshot.skipped == {}


def test_a_script_that_ssh_gets_as_input_is_in_the_folder_of_the_runner(tmp_path: Path) -> None:
    files = {"ops/deploy.sh": UP, "deploy.sh": "docker compose -f other.yml up -d\n"}
    snapshot = read(tmp_path, "cd ops\nssh web 'cd /srv/shop && bash -s' < deploy.sh", files)
    assert list_deploys(snapshot) == [("shop compose.prod.yml", "ops/deploy.sh:1")]


def test_a_script_that_runs_in_the_checkout_is_read_with_what_it_runs(tmp_path: Path) -> None:
    files = {
        "scripts/deploy.sh": 'cd "$(dirname "${BASH_SOURCE[0]}")"\n. ./lib.sh\n./remote.sh "$1"\n',
        "scripts/lib.sh": 'log() { echo "$1"; }\n',
        "scripts/remote.sh": 'ssh web "cd /srv/shop && docker compose -p shop-$1 -f compose.$1.yml up -d"\n',
    }
    snapshot = read(tmp_path, "bash scripts/deploy.sh staging", files)
    assert list_deploys(snapshot) == [("shop-staging compose.staging.yml", "scripts/remote.sh:1")]


@pytest.mark.parametrize(
    "script",
    [
        'D="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"\ncd "$D"\n"$D/remote.sh"\n',
        'cd "$(git rev-parse --show-toplevel)"\nscripts/remote.sh\n',
        "(cd infra && make)\nscripts/remote.sh\n",
        'cd scripts\nbash "$PWD/remote.sh"\n',
    ],
)
def test_a_script_is_found_from_the_folder_that_another_one_finds(tmp_path: Path, script: str) -> None:
    files = {"scripts/deploy.sh": script, "remote.sh": "true\n", "scripts/remote.sh": f"ssh web 'cd /srv/shop; {UP}'"}
    snapshot = read(tmp_path, "./scripts/deploy.sh", files)
    assert list_deploys(snapshot) == [("shop compose.prod.yml", "scripts/remote.sh:1")]


def test_a_script_of_tests_stays_one_command(tmp_path: Path) -> None:
    snapshot = read(tmp_path, "bash scripts/lint.sh", {"scripts/lint.sh": "ruff check\nmypy\n"})
    effects = snapshot.workflows[".github/workflows/deploy.yml"].effects
    assert [(effect.kind, effect.what) for _, effect in effects] == [("other", "bash scripts/lint.sh")]


@pytest.mark.parametrize(
    "run",
    ["bash -n deploy.sh", "sh -en ./deploy.sh", "make -n up", "make --dry-run up", "make -sn up", "make --version"],
)
def test_a_command_that_only_checks_or_prints_runs_nothing(tmp_path: Path, run: str) -> None:
    command = "ssh web 'cd /srv/shop && docker compose up -d'\n"
    assert list_deploys(read(tmp_path, run, {"deploy.sh": command, "Makefile": f"up:\n\t{command}"})) == []


@pytest.mark.parametrize(
    "run", ["make -C infra up", "make -Cinfra up", "make --directory=infra -s up", "make -C infra up > log.txt 2>&1"]
)
def test_the_words_of_a_call_of_make_are_known(tmp_path: Path, run: str) -> None:
    snapshot = read(tmp_path, f"ssh web 'cd /srv/shop && {run}'", {"infra/Makefile": f"up:\n\t{UP}"})
    assert list_deploys(snapshot) == [("infra compose.prod.yml", "infra/Makefile:2")]
    assert snapshot.skipped == {}


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        ("ssh web 'cd /srv/shop && ./deploy.sh'", f"the script `./deploy.sh` {ELSEWHERE}"),
        ("ssh web /opt/bin/deploy.sh staging", f"the script `/opt/bin/deploy.sh` {ELSEWHERE}"),
        ("ssh web 'bash $SCRIPT'", "the script `$SCRIPT` on the server, whose path only a run knows"),
        ("ssh web 'bash -s' < made.sh", "the script `made.sh`, which is not in the repository"),
        ("ssh web 'bash -s' < $SCRIPT", "the script `$SCRIPT`, whose path only a run knows"),
        ("cd $FOLDER\n./deploy.sh", "the script `./deploy.sh`, whose folder only a run knows"),
        ("ssh web 'cd /srv/shop && make deploy'", "`make deploy`: no Makefile is in the repository"),
    ],
)
def test_a_script_that_is_not_in_the_repository_is_listed_once(tmp_path: Path, run: str, reason: str) -> None:
    snapshot = read(tmp_path, f"{run}\n{run}", {})
    assert list(snapshot.skipped.values()) == [reason]
    assert all(place.startswith(".github/workflows/deploy.yml:") for place in snapshot.skipped)


def test_a_script_behind_a_link_or_outside_of_the_repository_is_not_read(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "deploy.sh").write_text(UP)
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "linked").symlink_to(outside)
    (folder / "deploy.sh").symlink_to(outside / "deploy.sh")
    calls = ("./deploy.sh", "./linked/deploy.sh", "../outside/deploy.sh", "bash ../outside/deploy.sh")
    for call in calls:
        snapshot = read(folder, f"ssh web '{call}'", {})
        assert list_deploys(snapshot) == []
        assert len(snapshot.skipped) == 1


@pytest.mark.parametrize(
    ("run", "makefile"),
    [
        ("ssh web 'cd /srv/shop && bash -s' < {outside}/deploy.sh", ""),
        ("ssh web 'cd /srv/shop && bash -s' < ../outside/deploy.sh", ""),
        ("ssh web 'cd /srv/shop && make up'", "include {outside}/deploy.mk\n"),
        ("ssh web 'cd /srv/shop && make up'", "include ../outside/deploy.mk\n"),
    ],
)
def test_a_file_outside_of_the_repository_is_not_read(tmp_path: Path, run: str, makefile: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "deploy.sh").write_text(UP)
    (outside / "deploy.mk").write_text(f"up:\n\t{UP}")
    files = {"Makefile": makefile.format(outside=outside)} if makefile else {}
    folder = tmp_path / "repository"
    assert list_deploys(read(folder, run.format(outside=outside), files)) == []


def test_scripts_that_run_one_another_and_large_ones_end(tmp_path: Path) -> None:
    files = {
        "a.sh": "./b.sh $1\n./a.sh $1x\n./a.sh $1y\n" * 8,
        "b.sh": "./a.sh $1\n./b.sh\n" * 8,
        "large.sh": "docker ps\n" * MAX_SCRIPT_LENGTH,
        "binary.sh": "\0" * 100,
        "program.sh": "#!/usr/bin/env python3\nimport os\n",
    }
    run = "\n".join(f"ssh web ./{name} 1" for name in files)
    snapshot = read(tmp_path, run, files)
    reasons = "\n".join(snapshot.skipped.values())
    assert f"after the first {MAX_CALLS} calls" in reasons
    assert f"the script `large.sh` has more than {MAX_SCRIPT_LENGTH:,} bytes" in reasons
    assert "the script `binary.sh` is a binary file" in reasons
    assert "program.sh" not in reasons


def test_calls_in_many_others_are_not_followed_and_listed(tmp_path: Path) -> None:
    files = {f"a{number}.sh": f"./a{number + 1}.sh\n" for number in range(MAX_CALL_DEPTH + 2)}
    snapshot = read(tmp_path, "./a0.sh", files)
    reason = f"the script `a{MAX_CALL_DEPTH}.sh` is called through {MAX_CALL_DEPTH} others or more"
    assert snapshot.skipped == {f"a{MAX_CALL_DEPTH - 1}.sh:1": reason}


def test_logins_from_one_server_to_the_next_end(tmp_path: Path) -> None:
    run = "ssh a " * 3_000 + "docker compose up -d"
    assert list_deploys(read(tmp_path, run, {})) == []
    result = ScriptFinder(NoScripts()).iter_scripts(run, CallPlace("deploy.yml:1"))
    assert list(result) == []


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ('F="compose.$1.yml"\nup -f "$F"', 'up -f "compose.staging.yml"'),
        ("ENV=${1:-production}\nup -f compose.${ENV}.yml", "up -f compose.staging.yml"),
        ("TAG=${2:-latest}\nup $TAG", "up latest"),
        ("up '$1' \"$1\"  # $1", "up '$1' \"staging\"  # $1"),
        (
            'case "$1" in\n  production|prod)\n    F=a.yml\n    ;;\n  staging) F=b.yml ;;\n  *)\n    exit 1 ;;\nesac\n'
            "up $F",
            "up b.yml",
        ),
        ('if [ "$1" = "production" ]; then\n  F=a.yml\nelse\n  F=b.yml\nfi\nup $F', "up b.yml"),
        (
            'if [[ $1 == production ]]\nthen\n  F=a.yml\nelif [ "$1" = staging ]; then\n  F=b.yml\n'
            "else\n  F=c.yml\nfi\nup $F",
            "up b.yml",
        ),
        ('F=a.yml\n[ "$1" = production ] && F=b.yml\nup $F', "up a.yml"),
        ("ENV=$1\ncase $ENV in\n  staging) F=b.yml;;\n  *) F=a.yml;;\nesac\nup $F", "up b.yml"),
        ('[ "$1" = production ] && F=b.yml; up a.yml', '[ "staging" = production ] && F=b.yml; up a.yml'),
        ("if test -f x; then\n  F=b.yml\nfi\nup ${F:-a.yml} $F", "up ${F:-a.yml} b.yml"),
        ("test -f x && STAGE=b\nup $STAGE", "up $STAGE"),
        ("STAGE=b\nup $STAGE", "up b"),
        ("start() {\n  up -f compose.$1.yml\n}\nstart base", "start base"),
        ("F=a.yml\nF=b.yml\nup $F", "up $F"),
        ("while [ $# -gt 0 ]; do\n  F=$1\n  shift\ndone\nup $F $1", "up $F $1"),
        ("set -- production\nup $1", "up $1"),
        ("for F in a b; do\n  up $F\ndone\nup $F", "up $F"),
        ("cd /srv/$1\nF=$(cat file)\nup $F", "up $F"),
        ('D="$(cd "$(dirname "$0")/.." && pwd)"\nup $D', "up scripts/.."),
    ],
)
def test_what_is_known_of_a_script_is_filled_in(script: str, expected: str) -> None:
    filled_in = fill_in_script_values(script, "scripts/deploy.sh", ("staging",), {"STAGE": "a"})
    assert filled_in.split("\n")[-1] == expected
    assert filled_in.count("\n") == script.count("\n")


@pytest.mark.parametrize("command", ["{\n  up b\n}", "up \\\n  b", "up '\nb'", "cat <<END\nup b\nEND", "up a; up b"])
def test_a_conditional_command_that_goes_on_is_not_decided(command: str) -> None:
    filled_in = fill_in_script_values(f'[ "$1" = production ] && {command}', "deploy.sh", ("staging",))
    assert filled_in == f'[ "staging" = production ] && {command}'


def test_a_function_of_another_script_hides_no_command(tmp_path: Path) -> None:
    files = {"check.sh": "docker() { true; }\nssh web uptime\n", "lib.sh": "docker() { true; }\nssh web uptime\n"}
    for call, deploys in (("./check.sh", 1), (". ./lib.sh", 0)):
        snapshot = read(tmp_path, f"ssh web 'cd /srv/shop && {call}; {UP.strip()}'", files)
        assert len(list_deploys(snapshot)) == deploys


def test_a_function_gets_the_arguments_of_its_calls() -> None:
    script = (
        "start() {\n  up -f compose.$1.yml\n}\nstop() { down $1; }\nmain() {\n  other b\n}\n"
        "other() { run $1; }\nother a\nstart base\nstop a\nstop b\n"
    )
    filled_in = fill_in_script_values(script, "deploy.sh", ("staging",))
    assert "up -f compose.base.yml" in filled_in
    assert "down $1" in filled_in
    assert "run $1" in filled_in


def test_functions_and_variables_of_a_sourced_file_are_known(tmp_path: Path) -> None:
    files = {
        "deploy.sh": 'set -e\nSTAGE=$1\n. "$(dirname "$0")/lib.sh"\nlog up\ncompose up -d\n',
        "lib.sh": (
            'PROJECT=shop\nlog() { printf "%s" "$*"; }\n'
            'compose() {\n  docker compose -p "$PROJECT-$STAGE" \\\n    -f "compose.$STAGE.yml" "$@"\n}\n'
        ),
    }
    snapshot = read(tmp_path, "ssh web 'cd /srv/shop && ./deploy.sh live'", files)
    assert list_deploys(snapshot) == [("shop-live compose.live.yml", "deploy.sh:5")]
    effects = snapshot.workflows[".github/workflows/deploy.yml"].effects
    assert [effect.kind for _, effect in effects] == ["login", "deploy"]


@pytest.mark.parametrize(
    "script",
    [
        'DC="docker compose -f compose.prod.yml"\n\n$DC up -d\n',
        'dc() { docker compose -f compose.prod.yml "$@"; }\n\ndc up -d\n',
        "COMPOSE_FILE=compose.prod.yml\n\ndocker compose up -d\n",
        'FILES=(a b)\n\ndocker compose -f "${COMPOSE:-compose.prod.yml}" up -d\n',
    ],
)
def test_a_compose_command_of_several_words_is_known(tmp_path: Path, script: str) -> None:
    snapshot = read(tmp_path, "ssh web 'cd /srv/shop && ./deploy.sh'", {"deploy.sh": script})
    assert list_deploys(snapshot) == [("shop compose.prod.yml", "deploy.sh:3")]


def test_images_of_a_loop_over_all_arguments_are_known() -> None:
    script = 'for app in "$@"; do\n  build $app\ndone'
    assert fill_in_script_values(script, "build.sh", ("web", "api")).startswith("for app in web api; do")


@pytest.mark.parametrize(
    "script",
    [
        "case a in\n" * 5_000,
        "case a in\n a)\n" * 2_000 + "esac\n" * 2_000,
        "if [ a = a ]; then\n" * 4_000,
        "f() {\n" * 5_000,
        "".join(f"f{number}() {{\n x $1\n}}\nf{number} a\n" for number in range(2_000)),
        'f() { docker "$@"; }\nf a\n' * 1_000,
        "A=$A$A\n" * 5_000,
        "$(cd " + "a" * 50_000,
        "if x" + " " * 90_000 + "y;",
        "[ a = b ] && " + " " * 90_000 + "|",
        "case a in\n" + " " * 90_000 + "x\nesac",
        "f() { a" + " " * 90_000 + "b; }\nf x",
    ],
)
def test_the_values_of_a_script_of_any_size_are_filled_in(script: str) -> None:
    filled_in = fill_in_script_values(script, "deploy.sh", ("a", "b"))
    assert filled_in.count("\n") == script.count("\n")
