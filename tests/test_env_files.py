"""Env files hold secrets and lie in no git: no command shows, overwrites or removes one, however it came to be."""

import shutil
import subprocess
from pathlib import Path

import pytest

from kiwari_ci.file_output.generated_files import format_example_marker, format_marker, is_env_file, is_generated_file
from tests import sound_specs
from tests.cli_runner import CommandResult, kiwari_ci

ROOT = Path(__file__).parents[1]
SPECS = [*sound_specs.CASES, *sorted(ROOT.glob("specs/**/*.yaml"))]
SECRET = "real-secret-42"  # noqa: S105 - of nothing
SPEC = """\
project: {name: shop, repository: example/shop}
hosts: {vps: {}}
databases: {postgres: {}}
services: {web: {port: 8080, env: {TOKEN: {secret: true}, SITE: of-the-spec}}}
environments:
  live: {deploy_on: {push: main}, database: {}}
  trial: {deploy_on: {push: trial}, env_file: .env}
"""
SOME_STYLES = [
    "github",
    pytest.param("text", marks=pytest.mark.exhaustive),
    pytest.param("json", marks=pytest.mark.exhaustive),
]
OF_SERVICE = "deploy/shop-live/shop-web-live.env"
OF_STACK = "deploy/shop-trial/.env"
OF_SERVER = "deploy/postgres/.env"
COPIES = {  # what a person has written: the example that it is a copy of
    OF_SERVICE: f"{OF_SERVICE}.example",
    OF_STACK: f"{OF_STACK}.example",
    OF_SERVER: f"{OF_SERVER}.example",
    f"{OF_SERVICE}.bak": f"{OF_SERVICE}.example",
    "deploy/shop-live/.env.production": f"{OF_SERVICE}.example",
    "deploy/shop-live/secrets.txt": f"{OF_SERVICE}.example",  # any name can stand under `env_file` of a compose file
    "deploy/shop-live/hooks/before.env": f"{OF_SERVICE}.example",
    "deploy/shop-live/conf/secrets": f"{OF_SERVICE}.example",
    "deploy/gone/.env": f"{OF_SERVICE}.example",
    ".github/workflows/web.env": f"{OF_SERVICE}.example",
}


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that was generated into, of which each test gets a copy."""
    folder = tmp_path_factory.mktemp("generated")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        write_file("specs/shop.yaml", SPEC)
        assert kiwari_ci("generate", "--out", ".").code == 0
    return folder


@pytest.fixture(
    params=[
        "copied",
        pytest.param("ignored by git", marks=pytest.mark.exhaustive),
        "with the marker of other files",
    ]
)
def copies(
    request: pytest.FixtureRequest, generated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, bytes]:
    """The filled-in copies, in a folder that was generated into.

    They are as an example's head says; in a git checkout, too; and, where the name says what they are, also with the
    marker of our other files.
    """
    for name in ("GITHUB_ACTIONS", "GITHUB_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    shutil.copytree(generated, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    filled = {}
    for path, example in COPIES.items():
        text = Path(example).read_text().replace("PASSWORD=''", f"PASSWORD='{SECRET}'")
        text = text.replace("change-me", SECRET).replace("of-the-spec", SECRET)
        assert SECRET in text
        if request.param == "with the marker of other files":
            if not is_env_file(path):
                continue
            text = f"# {format_marker('shop')}\n{text}"
        write_file(path, text)
        filled[path] = text.encode()
    if request.param == "ignored by git":
        write_file(".gitignore", "*.env*\n!*.env.example\n")
        subprocess.run(["git", "init", "-q"], check=True)
    return filled


def write_file(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def read_copies(copies: dict[str, bytes]) -> dict[str, bytes]:
    return {path: Path(path).read_bytes() for path in copies if Path(path).is_file()}


def run(copies: dict[str, bytes], *words: str, code: int = 0) -> CommandResult:
    """Run a command, which leaves the copies alone and names neither them nor what is in them."""
    result = kiwari_ci(*words)
    assert result.code == code, result.out + result.err
    assert read_copies(copies) == copies
    summary = Path("summary.md")
    shown = result.out + result.err + (summary.read_text() if summary.exists() else "")
    assert SECRET not in shown
    lines = shown.splitlines()
    assert not [line for line in lines for path in copies if line.endswith(path) or f"{path}:" in line]
    return result


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_generate(copies: dict[str, bytes], force: list[str]) -> None:
    result = run(copies, "generate", *force)
    assert "removed" not in result.out and "changed  " not in result.out


@pytest.mark.parametrize("style", ["text", "json", "github"])
def test_check_is_green(copies: dict[str, bytes], style: str) -> None:
    run(copies, "check", "--format", style)


@pytest.mark.parametrize("style", ["text", "json", "github"])
def test_a_red_check(copies: dict[str, bytes], style: str) -> None:
    Path("deploy/RUNBOOK.md").unlink()
    assert "deploy/RUNBOOK.md" in run(copies, "check", "--format", style, code=1).out


@pytest.mark.parametrize("style", ["text", "json", "markdown"])
def test_diff(copies: dict[str, bytes], style: str) -> None:
    run(copies, "diff", "--format", style)
    write_file("specs/shop.yaml", SPEC.replace("8080", "8081").replace("TOKEN:", "OTHER:"))
    assert "OTHER" in run(copies, "diff", "--format", style).out


def test_pins(copies: dict[str, bytes]) -> None:
    run(copies, "pins")
    run(copies, "pins", "pull")


def test_an_environment_and_a_database_go(copies: dict[str, bytes]) -> None:
    """The stack's generated files go, and the env file stays in its folder."""
    first, _, _ = SPEC.partition("  trial:")
    write_file("specs/shop.yaml", first.replace("databases: {postgres: {}}\n", "").replace(", database: {}", ""))
    assert "deploy/postgres/.env.example" in run(copies, "check", "--format", "json", code=1).out
    result = run(copies, "generate")
    assert f"removed  {OF_STACK}.example" in result.out and f"removed  {OF_SERVER}.example" in result.out
    assert not Path("deploy/postgres/docker-compose.yml").exists()


def test_a_renamed_project(copies: dict[str, bytes]) -> None:
    write_file("specs/shop.yaml", SPEC.replace("name: shop", "name: store"))
    run(copies, "check", code=1)
    result = run(copies, "generate", "--force")
    [command] = [line.rpartition(": ")[2] for line in result.err.splitlines() if line.startswith("no spec generates")]
    assert f"{OF_SERVICE}.example" in command
    subprocess.run(["bash", "-c", command], check=True)
    assert read_copies(copies) == copies
    run(copies, "check")


def test_eject(copies: dict[str, bytes]) -> None:
    result = run(copies, "eject")
    assert f"freed    {OF_SERVICE}.example" in result.out
    assert not is_generated_file(f"{OF_SERVICE}.example", Path(f"{OF_SERVICE}.example").read_text())


def test_init_and_lint(copies: dict[str, bytes]) -> None:
    Path("specs/shop.yaml").unlink()
    write_file("Dockerfile", "FROM scratch\nEXPOSE 8080\n")
    run(copies, "init", "--repository", "example/shop")
    write_file("specs/shop.yaml", SPEC)
    run(copies, "lint", code=kiwari_ci("lint").code)


# What stands in an example's place.


@pytest.mark.parametrize("style", SOME_STYLES)
@pytest.mark.parametrize("example", [f"{OF_SERVICE}.example", f"{OF_STACK}.example", f"{OF_SERVER}.example"])
def test_an_example_that_links_to_its_env_file(copies: dict[str, bytes], example: str, style: str) -> None:
    Path(example).unlink()
    Path(example).symlink_to(Path(example).name.removesuffix(".example"))
    assert example in run(copies, "check", "--format", style, code=1).out
    run(copies, "diff")
    run(copies, "generate", "--force")
    assert not Path(example).is_symlink()


@pytest.mark.parametrize("style", ["text", "json", "github"])
def test_another_file_that_links_to_an_env_file(copies: dict[str, bytes], style: str) -> None:
    Path("deploy/RUNBOOK.md").unlink()
    Path("deploy/RUNBOOK.md").symlink_to("../" + OF_SERVICE)
    assert "deploy/RUNBOOK.md" in run(copies, "check", "--format", style, code=1).out
    run(copies, "diff")
    run(copies, "generate", "--force")


@pytest.mark.parametrize("style", SOME_STYLES)
@pytest.mark.parametrize("head", ["", f"# {format_example_marker('shop')}\n"], ids=["foreign", "ours"])
def test_an_example_that_was_filled_in_by_mistake(copies: dict[str, bytes], head: str, style: str) -> None:
    """Its keys are shown, for they are what a reader looks for; its values are not."""
    example = f"{OF_SERVICE}.example"
    write_file(example, f"{head}TOKEN='{SECRET}'\nMORE=\"two\n{SECRET}\"\nOTHER: {SECRET}\n# once {SECRET}\n")
    assert "-TOKEN=(not shown)" in run(copies, "check", "--format", style, code=1).out
    run(copies, "diff")


@pytest.mark.parametrize("name", [OF_SERVICE, f"{OF_SERVICE}.bak"])
def test_an_example_that_was_renamed(copies: dict[str, bytes], name: str) -> None:
    """As with `mv` instead of `cp`: the example is written again, and the file with its new name stays."""
    example = Path(f"{OF_SERVICE}.example")
    copies[name] = example.read_bytes()
    example.rename(name)
    assert f"new      {example}" in run(copies, "generate").out


# What is an env file.


@pytest.mark.parametrize(
    "name", [".env", "web.env", "deploy/a/web.env", ".env.local", "web.env.bak", ".env~", "web.env-old", "Web.ENV"]
)
def test_env_files(name: str) -> None:
    assert is_env_file(name)
    assert not is_generated_file(name, f"# {format_marker('shop')}\n") and not is_generated_file(
        name, f"# {format_example_marker('shop')}\n"
    )


@pytest.mark.parametrize(
    "name", [".env.example", "web.env.sample", "env-ci.yml", "docker-compose.yml", "a.env/docker-compose.yml", "envoy"]
)
def test_no_env_files(name: str) -> None:
    assert not is_env_file(name)


@pytest.mark.parametrize("spec", SPECS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_generated_is_an_env_file(spec: Path, tmp_path: Path) -> None:
    """A generated file of such a name could be neither compared nor removed."""
    _, files = sound_specs.generate(spec)
    assert not list(filter(is_env_file, files))
    for path, file in files.items():
        assert is_generated_file(path, file.text) == file.marked, path


def test_an_example_is_recognised_only_by_its_name(tmp_path: Path) -> None:
    text = f"# {format_example_marker('shop')}\n"
    assert is_generated_file("deploy/a/web.env.example", text) and is_generated_file("deploy/a/.env.example", text)
    assert not is_generated_file("deploy/a/secrets", text) and not is_generated_file(
        "deploy/a/docker-compose.yml", text
    )
    assert not is_generated_file("deploy/a/web.env.example.old", text)
