"""`kiwari-ci init`: workflows that call actions and workflows of the same repository, and which triggers they have."""

from pathlib import Path
from typing import Any

import pytest

from kiwari_ci.commands.init import build_init_result
from kiwari_ci.spec_loading.yaml_source import parse_yaml
from tests.test_init import DOCKERFILE, repository

LOGIN = 'host: "${{ secrets.SSH_HOST }}", username: "${{ secrets.SSH_USER }}", key: "${{ secrets.SSH_KEY }}"'
UP = "cd /srv/shop && docker compose up -d"


def describe_environments(folder: Path, workflows: dict[str, str]) -> tuple[dict[str, Any], str]:
    """The environments that init makes of workflows, and the text of the whole spec."""
    files = {f".github/{name}": text for name, text in workflows.items()}
    result = build_init_result(repository(folder, {"Dockerfile": DOCKERFILE, **files}), "example/shop")
    spec: dict[str, Any] = parse_yaml(result.path, result.text).data
    return spec, result.text


def test_an_action_of_the_repository_deploys(tmp_path: Path) -> None:
    inputs = 'host: "${{ secrets.PROD_HOST }}", user: "${{ secrets.PROD_USER }}", key: "${{ secrets.PROD_KEY }}"'
    spec, _ = describe_environments(
        tmp_path,
        {
            "workflows/main.yml": "on: {push: {branches: [main]}}\njobs:\n  deploy:\n    runs-on: ubuntu-latest\n"
            "    environment: {name: prod, url: https://shop.example.com}\n    steps:\n"
            f"      - {{uses: ./.github/actions/deploy, with: {{{inputs}}}}}\n",
            "actions/deploy/action.yml": "inputs: {host: {}, user: {}, key: {}, folder: {default: /srv/shop}}\n"
            "runs:\n  using: composite\n  steps:\n    - uses: appleboy/ssh-action@v1\n      with:\n"
            "        host: ${{ inputs.host }}\n        username: ${{ inputs.user }}\n        key: ${{ inputs.key }}\n"
            "        script: cd ${{ inputs.folder }} && docker compose up -d\n",
        },
    )
    login = {"address": {"secret": "PROD_HOST"}, "user": {"secret": "PROD_USER"}}
    assert spec["hosts"] == {"prod": {**login, "key": {"secret": "PROD_DEPLOY_KEY"}, "directory": "/srv"}}
    assert list(spec["environments"]["prod"]["domains"].values()) == ["shop.example.com"]
    assert spec["environments"]["prod"]["takeover"]["folder"] == "/srv/shop"


CALLED = (
    "on: {workflow_call: {inputs: {environment: {type: string}}, secrets: {host: {}}}}\njobs:\n  deploy:\n"
    "    runs-on: ubuntu-latest\n    environment: ${{ inputs.environment }}\n    steps:\n"
    f"      - {{uses: appleboy/ssh-action@v1, with: {{{LOGIN}, script: {UP}}}}}\n"
)


def test_what_a_workflow_calls_gets_its_inputs_and_its_trigger(tmp_path: Path) -> None:
    uses = "uses: ./.github/workflows/deploy.yml"
    spec, _ = describe_environments(
        tmp_path,
        {
            "workflows/release.yml": "on: {push: {tags: ['api/v*'], branches: [release/*]}}\njobs:\n"
            f"  staging: {{{uses}, with: {{environment: staging}}}}\n"
            "  production:\n    if: startsWith(github.ref, 'refs/tags/')\n"
            f"    {uses}\n    with: {{environment: production}}\n",
            "workflows/deploy.yml": CALLED,
        },
    )
    assert spec["environments"]["production"]["deploy_on"] == {"tag": "v*"}
    assert spec["environments"]["production"]["promote"] == "staging"
    assert spec["environments"]["staging"]["deploy_on"]["push"] == spec["project"].get("default_branch", "main")
    assert spec["environments"]["staging"]["takeover"]["workflows"] == ["release.yml"]


def test_a_matrix_of_a_caller_names_the_environments(tmp_path: Path) -> None:
    spec, _ = describe_environments(
        tmp_path,
        {
            "workflows/main.yml": "on: {push: {branches: [main]}}\njobs:\n  ship:\n    strategy:\n"
            "      matrix: {environment: [staging, production]}\n    uses: ./.github/workflows/deploy.yml\n"
            "    with: {environment: '${{ matrix.environment }}'}\n    secrets: inherit\n",
            "workflows/deploy.yml": CALLED,
        },
    )
    assert set(spec["environments"]) == {"staging", "production"}


def test_a_secret_has_the_name_that_the_caller_gives_it(tmp_path: Path) -> None:
    spec, _ = describe_environments(
        tmp_path,
        {
            "workflows/main.yml": "on: {push: {branches: [main]}}\njobs:\n  ship:\n"
            "    uses: ./.github/workflows/deploy.yml\n    with: {environment: live}\n"
            "    secrets: {SSH_HOST: '${{ secrets.LIVE_HOST }}'}\n",
            "workflows/deploy.yml": CALLED,
        },
    )
    assert spec["hosts"]["live"]["address"] == {"secret": "LIVE_HOST"}


def test_a_called_job_whose_condition_the_inputs_refuse_is_none(tmp_path: Path) -> None:
    condition = "    if: inputs.environment == 'production'\n"
    spec, _ = describe_environments(
        tmp_path,
        {
            "workflows/main.yml": "on: {push: {branches: [main]}}\njobs:\n  ship:\n"
            "    uses: ./.github/workflows/deploy.yml\n    with: {environment: staging}\n",
            "workflows/deploy.yml": CALLED
            + CALLED.partition("jobs:\n")[2].replace("  deploy:\n", f"  live:\n{condition}").replace(
                "${{ inputs.environment }}", "live"
            ),
        },
    )
    assert set(spec["environments"]) == {"staging"}


def test_production_is_not_deployed_by_a_branch_that_does_not_deploy_it(tmp_path: Path) -> None:
    spec, text = describe_environments(
        tmp_path,
        {
            "workflows/main.yml": "on: {push: {branches: ['release/*']}}\njobs:\n  ship:\n    runs-on: ubuntu-latest\n"
            f"    environment: production\n    steps:\n      - {{uses: appleboy/ssh-action@v1, with: {{{LOGIN}}}}}\n"
        },
    )
    assert spec["environments"]["production"]["deploy_on"] == {"dispatch": True}
    assert "runs on release/*: here no push deploys it" in text


def test_a_trigger_is_named_with_the_file_that_has_it(tmp_path: Path) -> None:
    job = "jobs:\n  deploy:\n    runs-on: ubuntu-latest\n"
    spec, text = describe_environments(
        tmp_path,
        {
            "workflows/a.yml": f"on: workflow_dispatch\n{job}    environment: staging\n    steps:\n"
            f"      - {{uses: appleboy/ssh-action@v1, with: {{{LOGIN}}}}}\n",
            "workflows/b-stage.yml": f"name: Stage\non: {{push: {{branches: [main]}}}}\n{job}    steps:\n"
            f"      - {{uses: appleboy/ssh-action@v1, with: {{{LOGIN.replace('SSH_', 'OLD_')}}}}}\n",
        },
    )
    assert spec["environments"]["staging"]["deploy_on"] == {"push": "main"}
    assert "deploy_on: {push: main} # .github/workflows/b-stage.yml:4" in text
    assert "b-stage.yml:4 deploys it, too, today, beside .github/workflows/a.yml:3" in text
    assert "deploys another server, by OLD_HOST, OLD_USER, OLD_KEY" in text
    assert next(iter(spec["hosts"].values()))["address"] == {"secret": "SSH_HOST"}


def test_a_workflow_that_runs_after_another_keeps_its_own_branches(tmp_path: Path) -> None:
    spec, _ = describe_environments(
        tmp_path,
        {
            "workflows/ci.yml": "name: CI\non: {push: {branches: [develop, main]}}\njobs: {}\n",
            "workflows/ship.yml": "on: {workflow_run: {workflows: [CI], branches: [main]}}\njobs:\n  ship:\n"
            "    runs-on: ubuntu-latest\n    environment: production\n    steps:\n"
            f"      - {{uses: appleboy/ssh-action@v1, with: {{{LOGIN}}}}}\n",
        },
    )
    assert spec["environments"]["production"]["deploy_on"] == {"push": "main"}


@pytest.mark.parametrize("step", ["uses: docker/bake-action@v6", "run: docker buildx bake --push"])
def test_a_bake_file_is_told_and_its_dockerfiles_are_services(step: str, tmp_path: Path) -> None:
    workflow = (
        "on: {push: {branches: [main]}}\njobs:\n  build:\n    runs-on: ubuntu-latest\n    steps:\n"
        f"      - {step}\n      - {{uses: docker/build-push-action@v6, with: {{context: web, tags: web}}}}\n"
    )
    files = {"api/Dockerfile": DOCKERFILE, "web/Dockerfile": DOCKERFILE, ".github/workflows/main.yml": workflow}
    result = build_init_result(repository(tmp_path, files), "example/shop")
    assert set(result.services) == {"api", "web"}
    assert ".github/workflows/main.yml:6: builds with docker bake: its file, docker-bake.hcl, is not read" in (
        result.troubles
    )
    assert [outcome.is_removable for outcome in result.workflows] == [False]


def push_by_variable(folder: Path, *steps: str) -> tuple[dict[str, Any], str]:
    """The spec that init makes of a job whose image only a variable names in full."""
    workflow = (
        "on: {push: {branches: [main]}}\njobs:\n  build:\n    runs-on: ubuntu-latest\n    steps:\n"
        "      - uses: docker/build-push-action@v6\n"
        '        with: {context: ., push: true, tags: "${{ vars.HUB_USER }}/shop-api:latest"}\n'
    )
    return describe_environments(
        folder, {"workflows/main.yml": workflow + "".join(f"      - {step}\n" for step in steps)}
    )


@pytest.mark.parametrize(
    ("login", "registry"),
    [
        (
            '{uses: docker/login-action@v3, with: {username: shop-bot, password: "${{ secrets.HUB_TOKEN }}"}}',
            ("docker.io", "shop-bot", "HUB_TOKEN"),
        ),
        (
            'run: echo "$TOKEN" | docker login -u "${{ vars.HUB_USER }}" --password-stdin',
            ("docker.io", "example", "REGISTRY_PUSH_TOKEN"),
        ),
        (
            '{uses: docker/login-action@v3, with: {registry: registry.example.com, username: "${{ vars.HUB_USER }}"}}',
            ("registry.example.com", "example", "REGISTRY_PUSH_TOKEN"),
        ),
    ],
)
def test_the_login_tells_the_registry_of_an_image(login: str, registry: tuple[str, str, str], tmp_path: Path) -> None:
    spec, text = push_by_variable(tmp_path, login)
    written = spec["registry"]
    assert (written["host"], written["user"], written["push_token"]["secret"]) == registry
    assert "could not tell the namespace" in text


def test_images_of_a_job_that_logs_in_to_ghcr_stay_there(tmp_path: Path) -> None:
    spec, _ = push_by_variable(tmp_path, "{uses: docker/login-action@v3, with: {registry: ghcr.io, username: x}}")
    assert "registry" not in spec


def test_a_registry_that_nothing_tells_is_asked_about(tmp_path: Path) -> None:
    push_by_variable(tmp_path)
    result = build_init_result(tmp_path, "example/shop")
    questions = [question for _, question in result.decisions]
    assert any("only a variable says the registry or the owner of the image" in question for question in questions)


@pytest.mark.parametrize(
    "command",
    ["docker {}", 'ssh root@shop.example.com "docker {}"'],
)
def test_the_options_of_docker_run_are_told(command: str, tmp_path: Path) -> None:
    run = "run -d --name api --network=host -e TOKEN=hunter2 --memory 512m -v /srv/data:/data example/api"
    _, text = describe_environments(
        tmp_path,
        {
            "workflows/main.yml": "on: {push: {branches: [main]}}\njobs:\n  deploy:\n    runs-on: ubuntu-latest\n"
            "    environment: production\n    steps:\n"
            f"      - {{uses: appleboy/ssh-action@v1, with: {{{LOGIN}}}}}\n"
            f"      - run: |\n          {command.format(run)}\n          docker run --rm -it example/api check\n"
        },
    )
    assert "`docker run` of api: --network host, -e TOKEN, --memory 512m, -v /srv/data:/data" in text
    assert "hunter2" not in text
    assert text.count("`docker run`") == 1


def test_an_empty_value_of_a_matrix_is_no_value(tmp_path: Path) -> None:
    entries = '{app: api, target: "", build_args: ""}, {app: web, target: run}'
    inputs = 'file: "${{ matrix.app }}/Dockerfile", target: "${{ matrix.target }}"'
    inputs += ', build-args: "${{ matrix.build_args }}"'
    workflow = (
        "on: {push: {branches: [main]}}\njobs:\n  build:\n    runs-on: ubuntu-latest\n    strategy:\n"
        f"      matrix: {{include: [{entries}]}}\n    steps:\n"
        f"      - {{uses: docker/build-push-action@v6, with: {{context: ., {inputs}}}}}\n"
    )
    files = {"api/Dockerfile": DOCKERFILE, "web/Dockerfile": DOCKERFILE.replace("scratch", "scratch AS run")}
    result = build_init_result(repository(tmp_path, {**files, ".github/workflows/main.yml": workflow}), "example/shop")
    assert not [note for note in result.seen if "build" in note]
    assert "target: run" in result.text
