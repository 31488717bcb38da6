"""`kiwari-ci diff` after `kiwari-ci init`: it claims nothing that the drafted spec contradicts."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from kiwari_ci import generator
from kiwari_ci.commands.diff import compare
from kiwari_ci.commands.init import build_init_result
from kiwari_ci.readers.file_sets import load_folder
from tests.test_init_gates import CI

SHARED = """\
on: {push: {branches: [main, develop]}}
jobs:
  build:
    runs-on: ubuntu-latest
    steps:
      - {uses: docker/build-push-action@v6, with: {context: ., push: true, tags: "ghcr.io/example/shop:latest"}}
  staging:
    if: github.ref == 'refs/heads/develop'
    runs-on: ubuntu-latest
    environment: staging
    steps: [{run: "ssh deploy@192.0.2.1 'cd /srv/shop && docker compose -p shop-staging -f compose.yml up -d'"}]
  production:
    if: github.ref == 'refs/heads/main'
    runs-on: ubuntu-latest
    environment: production
    steps: [{run: "ssh deploy@192.0.2.1 'cd /srv/shop && docker compose -p shop-prod -f compose.yml up -d'"}]
"""
COMPOSE = """\
services:
  web: {image: ghcr.io/example/shop, container_name: "shop-${STAGE:-live}", volumes: ["files:/files"]}
  redis: {image: "redis:7", volumes: ["queue:/data"]}
volumes: {files: {}, queue: {}}
"""


def describe_changes(
    folder: Path, files: dict[str, str], removed: str = "", edit: Callable[[str], str] | None = None
) -> list[str]:
    """What `diff` says of the drafted spec, with what is told together; dangers begin with `!`.

    The lines of the draft that have `removed` in them are taken out, and `edit` changes the rest.
    """
    texts = {"Dockerfile": "FROM node:22\nCOPY . .\nEXPOSE 3000\n", **files}
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    result = build_init_result(folder, "example/shop")
    spec = folder / result.path
    spec.parent.mkdir()
    kept_lines = [line for line in result.text.splitlines() if not removed or removed not in line]
    draft = "\n".join(kept_lines)
    spec.write_text(edit(draft) if edit else draft)
    plan, generated = generator.generate_files(spec)
    side = load_folder(folder)
    after = {name: file.text for name, file in generated.items()}
    changes = compare.compare_pipelines(side, plan, after, side).changes
    return [
        f"{'! ' if change.is_dangerous else ''}{change.subject}: {change.words} {change.summary} {change.item}"
        for change in changes
    ]


def test_a_compose_file_of_two_environments_is_compared_with_both(tmp_path: Path) -> None:
    changes = describe_changes(tmp_path, {"compose.yml": COMPOSE, ".github/workflows/deploy.yml": SHARED})
    assert not [change for change in changes if "no deploy reads" in change]
    assert not [change for change in changes if "renamed" in change or "starts empty" in change]
    assert not [change for change in changes if "not compared" in change]
    for environment in ("staging", "production"):
        assert any(change.startswith(environment) and "accessory" in change for change in changes)


def test_a_volume_of_a_shared_compose_file_that_is_lost_is_marked_for_both(tmp_path: Path) -> None:
    files = {"compose.yml": COMPOSE, ".github/workflows/deploy.yml": SHARED}
    changes = describe_changes(tmp_path, files, removed="queue:/data")
    for environment in ("staging", "production"):
        assert [change for change in changes if change.startswith(f"! {environment}") and "queue" in change]


CALLED = """\
on: {{push: {{branches: [{branch}]}}}}
jobs:
  deploy: {{uses: ./.github/workflows/deploy.yml, with: {{environment: {environment}}}}}
"""
DEPLOY = """\
on: {workflow_call: {inputs: {environment: {required: true, type: string}}}}
jobs:
  build:
    runs-on: ubuntu-latest
    steps:
      - {uses: docker/build-push-action@v6, with: {context: ., push: true, tags: "ghcr.io/example/shop:latest"}}
  deploy:
    needs: build
    runs-on: ubuntu-latest
    environment: ${{ inputs.environment }}
    steps: [{run: "ssh $HOST 'docker compose -f compose.prod.yml up -d'", env: {HOST: "${{ vars.HOST }}"}}]
"""


@pytest.mark.parametrize("names", [("dev", "production"), ("Dev", "Production"), ("staging", "production")])
def test_a_file_called_after_one_environment_is_compared_with_each_that_is_deployed_from_it(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    """The stacks have one name, on two hosts, and so have their containers."""
    compose = COMPOSE.replace('"shop-${STAGE:-live}"', "shop-web")
    compose = compose.replace('"redis:7"', '"redis:7", container_name: queue')
    files = {
        "compose.prod.yml": compose,
        ".github/workflows/deploy.yml": DEPLOY,
        ".github/workflows/one.yml": CALLED.format(branch="develop", environment=names[0]),
        ".github/workflows/two.yml": CALLED.format(branch="main", environment=names[1]),
    }
    changes = describe_changes(tmp_path, files, edit=name_both_stacks_alike)
    assert not [change for change in changes if "not compared" in change or "no longer deployed" in change]
    for environment in (names[0].lower(), "production"):
        of_environment = [change for change in changes if change.lstrip("! ").startswith(f"{environment}:")]
        assert any(change.startswith(f"{environment}:") and "accessory" in change for change in of_environment), changes
        images = [change for change in of_environment if "image" in change and "ghcr.io" in change]
        assert all(environment in change for change in images)


def name_both_stacks_alike(text: str) -> str:
    """The draft, in which each environment has a host of its own, with one name for both stacks."""
    return text.replace("    host: ", "    stack: shop\n    host: ")


@pytest.mark.parametrize(
    ("source", "is_same"),
    [
        ("/srv/shop/files", True),
        ("/srv/shop/other", False),
        ("/srv/new/files", False),
    ],
)
def test_a_folder_beside_the_compose_file_of_today_may_be_named_in_full(
    tmp_path: Path, source: str, is_same: bool
) -> None:
    files = {"compose.yml": COMPOSE.replace("files:/files", "./files:/files"), ".github/workflows/deploy.yml": SHARED}

    def name_in_full(text: str) -> str:
        return text.replace("[/srv/shop/files:/files]", f"[{source}:/files]")

    changes = describe_changes(tmp_path, files, edit=name_in_full)
    moved = [change for change in changes if "mounted at" in change and "/files" in change]
    assert bool(moved) is not is_same, changes


def test_a_folder_beside_the_compose_file_is_marked_where_the_same_project_gets_another_folder(tmp_path: Path) -> None:
    files = {"compose.yml": COMPOSE.replace("files:/files", "./files:/files"), ".github/workflows/deploy.yml": SHARED}

    def keep_beside(text: str) -> str:
        text = text.replace("[/srv/shop/files:/files]", "['./files:/files']")
        return text.replace("    proxy:", "    directory: /srv/new\n    proxy:", 1)

    changes = describe_changes(tmp_path, files, edit=keep_beside)
    assert [change for change in changes if "`./files` is beside the Compose file" in change], changes


@pytest.mark.parametrize(("network", "is_left"), [("shop-prod_our_net", False), ("other_our_net", True)])
def test_a_network_of_today_that_the_new_containers_join_is_not_left(
    tmp_path: Path, network: str, is_left: bool
) -> None:
    """The spec names a network by the name that Compose gave it, with the name of the project."""
    compose = COMPOSE.replace("ghcr.io/example/shop,", "ghcr.io/example/shop, networks: [our_net],")
    head, _, rest = SHARED.partition("  staging:")
    workflow = f"{head}  production:{rest.partition('  production:')[2]}"
    files = {"compose.yml": f"{compose}networks: {{our_net: {{}}}}\n", ".github/workflows/deploy.yml": workflow}

    def join_network(text: str) -> str:
        return text.replace("    port:", f"    networks: [{{external: {network}}}]\n    port:", 1)

    changes = describe_changes(tmp_path, files, edit=join_network)
    messages_about_network = [change for change in changes if "`our_net` is left" in change]
    assert bool(messages_about_network) is is_left, changes
    assert all("write `networks: [{external: shop-prod_our_net}]`" in change for change in messages_about_network)
    assert bool([change for change in changes if "`our_net` is no longer declared" in change]) is is_left


@pytest.mark.parametrize("is_command", [True, False])
def test_a_build_argument_that_is_lost_or_changed_is_told(tmp_path: Path, is_command: bool) -> None:
    """Without `API_URL`, the pages of a site would ask a wrong address."""
    if is_command:
        build = "docker build -t ghcr.io/example/shop --push --build-arg API_URL=https://api --build-arg RUN=$RUN ."
        old_step = re.search(r"      - \{uses: docker/build.*\n", SHARED)
        assert old_step
        workflow = SHARED.replace(old_step[0], f"      - {{run: '{build}'}}\n")
    else:
        arguments = 'build-args: "API_URL=https://api\\nRUN=${{ github.run_id }}", tags:'
        workflow = SHARED.replace("tags:", arguments)
    files = {"compose.yml": COMPOSE, ".github/workflows/deploy.yml": workflow}
    (tmp_path / "kept").mkdir()
    (tmp_path / "lost").mkdir()
    changes = describe_changes(tmp_path / "kept", files)
    assert not [change for change in changes if "API_URL" in change]
    assert [change for change in changes if "no longer gets the argument `RUN`" in change], changes
    changes_without_argument = describe_changes(tmp_path / "lost", files, removed="API_URL")
    message = "no longer gets the argument `API_URL`: `https://api`"
    assert [change for change in changes_without_argument if message in change], changes_without_argument


def test_the_file_that_the_deploys_of_another_environment_name_is_not_compared(tmp_path: Path) -> None:
    """Staging has a Compose file on its server only, so nothing is known of its containers."""
    workflow = SHARED.replace("shop-staging -f compose.yml", "shop-staging -f on-the-server.yml")
    changes = describe_changes(tmp_path, {"compose.yml": COMPOSE, ".github/workflows/deploy.yml": workflow})
    assert any(change.startswith("production") and "accessory" in change for change in changes)
    assert not [change for change in changes if change.startswith("staging") and "accessory" in change]


ON_ITS_RUNNER = (
    SHARED.partition("  staging:")[0]
    + """\
  production:
    runs-on: [self-hosted]
    environment: production
    env: {NAME: compose.second.yml}
    steps: [{run: "cd /srv/shop && docker compose up -d"}]
"""
)


@pytest.mark.parametrize("is_in_script", [True, False])
def test_the_compose_file_that_the_variable_names_is_compared(tmp_path: Path, is_in_script: bool) -> None:
    """A script sets the variable, or the job of a runner on the server does."""
    if is_in_script:
        workflow = ON_ITS_RUNNER.replace("cd /srv", "export COMPOSE_FILE=compose.second.yml; cd /srv")
    else:
        workflow = ON_ITS_RUNNER.replace("NAME:", "COMPOSE_FILE:")
    files = {"compose.second.yml": COMPOSE, "compose.yml": COMPOSE.replace("queue:/data", "other:/data")}
    changes = describe_changes(tmp_path, {**files, ".github/workflows/deploy.yml": workflow}, removed="queue:/data")
    assert [change for change in changes if change.startswith("! production") and "queue" in change]
    assert not [change for change in changes if "other:/data" in change]


@pytest.mark.parametrize(
    "condition",
    ["github.event_name == 'push'", "github.event_name == 'push' || github.event_name == 'workflow_dispatch'"],
)
def test_a_build_that_runs_on_no_pull_request_stops_none_there(tmp_path: Path, condition: str) -> None:
    workflow = CI.replace("github.event_name == 'push'", condition)
    changes = describe_changes(tmp_path, {".github/workflows/ci.yml": workflow})
    assert not [change for change in changes if "pull request" in change and "no longer" in change]
    assert not [change for change in changes if "its tests now also run on pull request" in change]


def test_a_build_of_pull_requests_goes_on_in_the_workflow_of_pull_requests(tmp_path: Path) -> None:
    workflow = CI.replace("    if: github.event_name == 'push'\n", "", 1)
    changes = describe_changes(tmp_path, {".github/workflows/ci.yml": workflow})
    assert not [change for change in changes if "no longer builds on pull request" in change]
    assert any("on pull request, `pull-requests` builds it, and pushes no image" in change for change in changes)


def test_a_secret_of_a_job_that_stays_is_still_needed(tmp_path: Path) -> None:
    uses = "{uses: example/report@v1, with: {token: '${{ secrets.REPORTS }}', team: '${{ vars.TEAM }}'}}"
    workflow = CI.replace("{uses: example/report@v1}", uses)
    changes = describe_changes(tmp_path, {".github/workflows/ci.yml": workflow})
    assert not [change for change in changes if "REPORTS" in change or "TEAM" in change]


@pytest.mark.parametrize(
    "argument", ["NPM_TOKEN=npm_0123456789abcdef", "INDEX=https://me:pass1234word@example.com/simple"]
)
def test_a_build_argument_that_may_be_a_secret_is_not_printed(tmp_path: Path, argument: str) -> None:
    """The comparison is printed in the log of a pull request."""
    name, _, value = argument.partition("=")
    workflow = SHARED.replace("tags:", f"build-args: {argument}, tags:")
    files = {"compose.yml": COMPOSE, ".github/workflows/deploy.yml": workflow}
    changes = describe_changes(tmp_path, files, removed=f"{name}:")
    assert [change for change in changes if f"no longer gets the argument `{name}`" in change], changes
    assert not [change for change in changes if value in change]
