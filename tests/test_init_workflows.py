"""`kiwari-ci init`: what it takes from workflows that build, test and deploy, and what it tells of the rest."""

import time
from pathlib import Path
from typing import Any

import pytest

from kiwari_ci.commands.init import build_init_result, format_init_result
from kiwari_ci.commands.init.draft_text import InitResult
from kiwari_ci.commands.init.shared_repositories import name_images_of_shared_repositories
from kiwari_ci.commands.init.workflow_files import read_workflows
from kiwari_ci.problems import SpecError
from kiwari_ci.readers.repository import LocalRepository
from kiwari_ci.spec_loading.yaml_source import parse_yaml
from tests.init_drafts import draft_files
from tests.test_init_takeover import DEPLOY, DOCKERFILE, WEB, init, say

LONGEST_READING = 4  # seconds of processor time; a quadratic search takes a multiple
SSH_STEP = "{uses: appleboy/ssh-action@v1, with: {host: x, username: y, script: 'cd ~/shop && docker compose up -d'}}"


def draft_deploy(folder: Path, job: str, file: str = "deploy.yml") -> tuple[dict[str, Any], InitResult]:
    """The draft where one job of a workflow builds, and the given one deploys."""
    workflow = f"{DEPLOY.partition('  deploy:')[0]}{job}"
    files = {"web/Dockerfile": DOCKERFILE, f".github/workflows/{file}": workflow}
    return draft_files(folder, files)


@pytest.mark.parametrize("file", ["ci.yml", "ci-cd.yml", "test-and-deploy.yml", "main.yml", "test.yml"])
def test_the_name_of_a_file_does_not_decide_whether_a_job_deploys(tmp_path: Path, file: str) -> None:
    spec, _ = draft_deploy(tmp_path, f"  deploy: {{runs-on: ubuntu-latest, steps: [{SSH_STEP}]}}\n", file)
    assert spec["environments"]["production"]["takeover"]["workflows"] == [file]


def test_a_file_that_names_a_test_server_is_not_production(tmp_path: Path) -> None:
    spec, _ = draft_deploy(tmp_path, f"  go: {{runs-on: ubuntu-latest, steps: [{SSH_STEP}]}}\n", "deploy-test.yml")
    assert "takeover" not in spec["environments"]["production"]


@pytest.mark.parametrize(
    ("runs_on", "deploys"),
    [
        ("prod-runner", True),
        ("[self-hosted, prod]", True),
        ("prod-linux", True),
        ("hetzner-arm64", True),
        ("[linux, x64]", False),
        ("{labels: [prod-runner]}", True),
        ("ubuntu-24.04", False),
        ("blacksmith-4vcpu-ubuntu-2204", False),
        ("${{ vars.RUNNER }}", False),
    ],
)
def test_compose_on_a_runner_of_ones_own_is_a_deploy(tmp_path: Path, runs_on: str, deploys: bool) -> None:
    job = f"  deploy:\n    runs-on: {runs_on}\n    steps: [{{run: docker compose up -d}}]\n"
    spec, _ = draft_deploy(tmp_path, job)
    assert ("takeover" in spec["environments"]["production"]) is deploys


def test_a_push_deploys_only_the_environment_that_it_chooses(tmp_path: Path) -> None:
    """An input is empty where no person starts the workflow."""
    choice = "{environment: {type: choice, options: [production, development]}}"
    on = f"on: {{push: {{branches: [main]}}, workflow_dispatch: {{inputs: {choice}}}}}"
    workflow = DEPLOY.replace("on: {push: {branches: [main]}}", on)
    workflow = workflow.replace("environment: production", "environment: ${{ inputs.environment || 'production' }}")
    files = {".github/workflows/deploy.yml": workflow.replace("COMMAND", "docker compose up -d")}
    spec, _ = init(tmp_path, files)
    triggers = {name: each["deploy_on"] for name, each in spec["environments"].items()}
    assert triggers == {"production": {"push": "main"}, "development": {"dispatch": True}}


def test_a_default_of_a_login_is_said(tmp_path: Path) -> None:
    workflow = DEPLOY.replace("secrets.VPS_USER", "secrets.VPS_USER || 'root'")
    _, result = init(tmp_path, {".github/workflows/deploy.yml": workflow.replace("COMMAND", "docker compose up -d")})
    assert "takes root where VPS_USER is not set: set it, or write root into `user` of the host" in say(result)


@pytest.mark.parametrize(("tag", "is_told"), [("main-cluster", True), ("main-other", False)])
def test_a_tag_that_another_workflow_deploys_is_not_replaced(tmp_path: Path, tag: str, is_told: bool) -> None:
    build = DEPLOY.replace("shop-web:latest", "shop-web:main-cluster")
    helm = f"helm upgrade shop ./chart --set image.tag={tag}"
    cluster = f"on: push\njobs: {{helm: {{runs-on: ubuntu-latest, steps: [{{run: '{helm}'}}]}}}}\n"
    files = {".github/workflows/deploy.yml": build, ".github/workflows/cluster.yml": cluster}
    _, result = init(tmp_path, files)
    jobs = {outcome.job: outcome for workflow in result.workflows for outcome in workflow.jobs}
    reason = "the tag main-cluster of its images, which .github/workflows/cluster.yml names"
    assert (reason in jobs["build"].not_replaced) is is_told
    assert jobs["build"].is_replaced is not is_told


TRAEFIK_STACK = {
    "docker-compose.yml": f"services:\n  {WEB}}}\n",
    "deploy/traefik/docker-compose.yml": "services:\n  traefik: {image: 'traefik:v3.6', ports: ['80:80']}\n"
    "  crowdsec: {image: 'crowdsecurity/crowdsec:v1.7.8'}\n",
}


@pytest.mark.parametrize(
    ("on", "step", "reason"),
    [
        (
            "{branches: [main], paths: ['deploy/traefik/**']}",
            "{uses: appleboy/ssh-action@v1, with: {script: bash deploy.sh}}",
            "runs when deploy/traefik/** changes, where no service of this spec is",
        ),
        (
            "{branches: [main]}",
            "{uses: appleboy/ssh-action@v1, "
            "with: {script: 'docker compose -f deploy/traefik/docker-compose.yml up -d'}}",
            "deploys deploy/traefik/docker-compose.yml, which has no service of this spec",
        ),
        (
            "{branches: [main]}",
            "{uses: appleboy/ssh-action@v1, with: {script: 'cd ~/deploy/traefik && docker compose up -d'}}",
            "deploys deploy/traefik/docker-compose.yml, which has no service of this spec",
        ),
        (
            "{branches: [main]}",
            "{uses: appleboy/scp-action@v1, with: {source: 'scripts/*', target: '~/scripts'}}",
            "copies files to the server, and starts nothing",
        ),
    ],
)
def test_a_workflow_of_another_stack_stays(tmp_path: Path, on: str, step: str, reason: str) -> None:
    other = f"on: {{push: {on}}}\njobs:\n  deploy:\n    runs-on: ubuntu-latest\n    steps:\n      - {step}\n"
    spec, result = init(tmp_path, TRAEFIK_STACK | {".github/workflows/traefik.yml": other})
    production = spec["environments"]["production"]
    assert production["takeover"]["workflows"] == ["deploy.yml"]
    assert f".github/workflows/traefik.yml: kept: it {reason}" in format_init_result(result, tmp_path)


def test_a_container_of_another_stack_is_no_accessory(tmp_path: Path) -> None:
    spec, result = init(tmp_path, TRAEFIK_STACK)
    assert "accessories" not in spec
    assert "crowdsec (deploy/traefik/docker-compose.yml:3): in a stack of its own, which stays" in say(result)


HERE_DOCUMENT = (
    "          cat <<'EOF' > .env\n          API_URL=${{ secrets.API }}\n          LEVEL=info\n          EOF\n"
)
GROUP = "          {\n            echo 'API_URL=${{ secrets.API }}'\n            echo LEVEL=info\n          } >> .env\n"
ECHO = "          echo \"API_URL=$URL\" > .env\n          printf 'LEVEL=info\\n' | tee -a .env\n"


@pytest.mark.parametrize("script", [HERE_DOCUMENT, GROUP, ECHO])
def test_the_env_file_that_a_deploy_writes_becomes_env(tmp_path: Path, script: str) -> None:
    write = (
        f"      - env: {{URL: '${{{{ secrets.API }}}}'}}\n        run: |\n{script}          scp .env d@x:/srv/shop/\n"
    )
    job = f"  deploy:\n    runs-on: ubuntu-latest\n    steps:\n{write}      - {SSH_STEP}\n"
    (tmp_path / "compose.yml").write_text("services: {web: {build: web, env_file: [.env]}}\n")
    spec, result = draft_deploy(tmp_path, job)
    assert spec["services"]["web"]["env"] == {"API_URL": {"secret": "API"}, "LEVEL": "info"}
    assert spec["environments"]["production"]["env_from"] == "github"
    assert "not replaced" not in format_init_result(result, tmp_path)


@pytest.mark.parametrize("option", ["--env-file=.env.prod", "--env-file .env.prod", "--env-file /srv/.env.prod"])
def test_the_env_file_that_compose_is_told_to_read_becomes_env(tmp_path: Path, option: str) -> None:
    """It has another name than `.env`, and the values of the SSH step reach the script as variables."""
    step = (
        "      - uses: appleboy/ssh-action@v1\n        env: {API: '${{ vars.API }}'}\n"
        "        with:\n          envs: API\n          script: |\n"
        "            cat > .env.prod << EOF\n            API_URL=${API}\n            EOF\n"
        f"            docker compose {option} up -d\n"
    )
    job = f"  deploy:\n    runs-on: ubuntu-latest\n    steps:\n{step}"
    (tmp_path / "compose.yml").write_text("services: {web: {build: web, environment: [API_URL]}}\n")
    spec, _ = draft_deploy(tmp_path, job)
    assert spec["services"]["web"]["env"] == {"API_URL": {"variable": "API"}}


def test_a_jump_host_of_an_ssh_action_is_that_of_the_host(tmp_path: Path) -> None:
    """Its key is a new one, as that of the host is."""
    login = "host: '${{ vars.HOST }}', proxy_host: '${{ vars.GATE }}', proxy_username: '${{ secrets.GATE_USER }}'"
    login += ", proxy_port: '${{ vars.GATE_PORT }}', proxy_key: '${{ secrets.GATE_KEY }}'"
    step = f"{{uses: appleboy/ssh-action@v1, with: {{{login}, script: docker compose up -d}}}}"
    spec, result = draft_deploy(tmp_path, f"  deploy: {{runs-on: ubuntu-latest, steps: [{step}, {step}]}}\n")
    (host,) = spec["hosts"].values()
    assert host["jump"] == {
        "address": {"variable": "GATE"},
        "user": {"secret": "GATE_USER"},
        "port": {"variable": "GATE_PORT"},
    }
    assert "through another machine" not in result.text


def test_a_jump_host_without_a_setting_is_told_once(tmp_path: Path) -> None:
    step = f"{SSH_STEP[:-2]}, proxy_host: gate.example.com}}}}"
    _, result = draft_deploy(tmp_path, f"  deploy: {{runs-on: ubuntu-latest, steps: [{step}, {step}]}}\n")
    assert result.text.count("through another machine") == 1


def test_a_folder_of_the_registry_is_no_part_of_the_projects_name(tmp_path: Path) -> None:
    names = ("web", "api")
    builds = ", ".join(
        "{uses: docker/build-push-action@v6, "
        f"with: {{context: {name}, push: true, tags: 'ghcr.io/example/shop/shop-{name}:latest'}}}}"
        for name in names
    )
    workflow = f"on: {{push: {{branches: [main]}}}}\njobs:\n  a: {{runs-on: ubuntu-latest, steps: [{builds}]}}\n"
    files = {".github/workflows/a.yml": workflow} | {f"{name}/Dockerfile": DOCKERFILE for name in names}
    spec, result = draft_files(tmp_path, files)
    assert spec["project"]["name"] == "shop"
    assert {service["image"] for service in spec["services"].values()} == {"shop/shop-web", "shop/shop-api"}


def test_a_whole_env_file_in_one_secret_is_said(tmp_path: Path) -> None:
    write = '      - run: echo "${{ secrets.ENV_FILE }}" > .env\n      - run: scp .env d@x:/srv/shop/\n'
    _, result = draft_deploy(
        tmp_path, f"  deploy:\n    runs-on: ubuntu-latest\n    steps:\n{write}      - {SSH_STEP}\n"
    )
    assert ".github/workflows/deploy.yml:10: secrets.ENV_FILE is a whole env file, whose keys" in say(result)


def test_a_password_in_a_written_env_file_is_not_copied(tmp_path: Path) -> None:
    write = "      - run: echo 'DB_PASSWORD=hunter2hunter2' > .env\n"
    _, result = draft_deploy(
        tmp_path, f"  deploy:\n    runs-on: ubuntu-latest\n    steps:\n{write}      - {SSH_STEP}\n"
    )
    assert "hunter2" not in result.text
    assert "DB_PASSWORD: {secret: true}" in result.text


def test_one_key_from_two_secrets_is_one_name(tmp_path: Path) -> None:
    jobs = ""
    for name in ("a", "b"):
        write = f"{{run: 'echo \"KEY=${{{{ secrets.KEY_{name.upper()} }}}}\" > .env'}}"
        jobs += f"  {name}:\n    runs-on: ubuntu-latest\n    environment: {name}\n    steps: [{write}, {SSH_STEP}]\n"
    spec, result = draft_deploy(tmp_path, jobs)
    assert spec["services"]["web"]["env"] == {"KEY": {"secret": True}}
    assert "today KEY_A in .github/workflows/deploy.yml:10, KEY_B in" in result.text
    assert all("env_from" not in environment for environment in spec["environments"].values())


def test_two_runners_that_deploy_one_environment_are_two_servers(tmp_path: Path) -> None:
    jobs = ""
    for name in ("a", "b"):
        jobs += f"  deploy-{name}:\n    runs-on: [self-hosted, {name}]\n    environment: production\n"
        jobs += "    steps: [{run: 'cd /srv/x && docker compose up -d'}]\n"
    spec, result = draft_deploy(tmp_path, jobs)
    assert spec["environments"]["production"]["runner"] == ["self-hosted", "a"]
    summary = " ".join(format_init_result(result, tmp_path).split())
    assert "deploys another server, by [self-hosted, b]: write `host: [one, two]`, or a second" in summary
    assert "deploy-b: replaced by environments.production; not replaced: the deploy of a second server" in summary


def test_two_environments_on_their_own_runners_are_two_hosts(tmp_path: Path) -> None:
    jobs = ""
    for name in ("staging", "production"):
        jobs += f"  deploy-{name}:\n    runs-on: [self-hosted, {name}]\n    environment: {name}\n"
        jobs += "    steps: [{run: 'cd /srv/x && docker compose up -d'}]\n"
    spec, _ = draft_deploy(tmp_path, jobs)
    assert {name: each["host"] for name, each in spec["environments"].items()} == {
        "staging": "staging",
        "production": "production",
    }


def test_the_runner_of_all_jobs_is_kept(tmp_path: Path) -> None:
    workflow = DEPLOY.replace("ubuntu-latest", "[self-hosted, linux]").replace("COMMAND", "docker compose up -d")
    spec, _ = init(tmp_path, {".github/workflows/deploy.yml": workflow})
    assert spec["project"]["runner"] == ["self-hosted", "linux"]
    assert "runner" not in spec["environments"]["production"]


def test_another_runner_of_a_build_is_said_once(tmp_path: Path) -> None:
    workflow = DEPLOY.replace("ubuntu-latest", "builder", 1).replace("COMMAND", "docker compose up -d")
    build = workflow.partition("steps:\n")[2].partition("\n")[0]
    workflow = workflow.replace(build, f"{build}\n{build}")
    _, result = init(tmp_path, {".github/workflows/deploy.yml": workflow})
    assert say(result).count("run on builder") == 1


@pytest.mark.parametrize("path", ["deploy/app-docker-compose.yml", "shop.compose.yaml"])
def test_a_compose_file_with_a_word_before_its_name_is_read(tmp_path: Path, path: str) -> None:
    spec, _ = init(tmp_path, {path: f"services:\n  {WEB}, command: [serve]}}\n"}, f"docker compose -f {path} up -d")
    assert spec["services"]["web"]["command"] == ["serve"]


def test_a_deploy_writes_the_name_of_the_image_into_the_env_file(tmp_path: Path) -> None:
    (tmp_path / "compose.yml").write_text("services: {app: {image: '${REGISTRY}/${IMAGE}:${TAG}', command: [serve]}}\n")
    names = "'REGISTRY=ghcr.io\\nIMAGE=example/shop-web\\nTAG=latest\\nREST=1\\n'"
    job = f"  deploy:\n    runs-on: ubuntu-latest\n    steps:\n      - run: printf {names} > .env\n      - {SSH_STEP}\n"
    spec, result = draft_deploy(tmp_path, job)
    assert spec["services"]["web"]["command"] == ["serve"]
    assert ".github/workflows/deploy.yml writes into an env file what no `env` here has: REST" in say(result)
    assert "REGISTRY" not in say(result)


def test_an_argument_of_another_build_is_told(tmp_path: Path) -> None:
    workflow = DEPLOY.replace("COMMAND", "docker compose up -d")
    arguments = {"deploy.yml": "prod", "test.yml": "test"}
    files = {}
    for name, profile in arguments.items():
        build = workflow if name == "deploy.yml" else workflow.partition("  deploy:")[0]
        files[f".github/workflows/{name}"] = build.replace("push: true,", f"push: true, build-args: PROFILE={profile},")
    spec, result = init(tmp_path, files)
    assert spec["services"]["web"]["build"]["args"] == {"PROFILE": "prod"}
    assert "test.yml:6 with PROFILE=test, where here one image serves all environments" in say(result)


def test_an_input_of_a_workflow_is_told(tmp_path: Path) -> None:
    on = "on: {push: {branches: [main]}, workflow_dispatch: {inputs: {skip_tests: {type: boolean}}}}"
    workflow = DEPLOY.replace("on: {push: {branches: [main]}}", on).replace("COMMAND", "docker compose up -d")
    _, result = init(tmp_path, {".github/workflows/deploy.yml": workflow})
    assert ".github/workflows/deploy.yml:1: the input skip_tests, which a person can set" in say(result)


def test_two_environments_in_one_folder_are_said(tmp_path: Path) -> None:
    jobs = "".join(
        f"  {name}: {{runs-on: ubuntu-latest, environment: {name}, steps: [{SSH_STEP}]}}\n"
        for name in ("staging", "production")
    )
    _, result = draft_deploy(tmp_path, jobs)
    assert "staging and production are both in ~/shop today" in say(result)


def test_a_job_that_uploads_and_looks_is_no_deploy(tmp_path: Path) -> None:
    script = "du -sh ~/files | cut -f1"
    copy = "{uses: appleboy/scp-action@v1, with: {source: .}}"
    steps = f"[{copy}, {{uses: appleboy/ssh-action@v1, with: {{script: '{script}'}}}}]"
    upload = f"on: workflow_dispatch\njobs:\n  upload:\n    runs-on: ubuntu-latest\n    steps: {steps}\n"
    spec, _ = init(tmp_path, {".github/workflows/upload.yml": upload})
    assert spec["environments"]["production"]["takeover"]["workflows"] == ["deploy.yml"]


def write_ssh_jobs(environments: list[str]) -> str:
    """Jobs that deploy to one server each, whose addresses are plain text."""
    return "".join(
        f"  deploy-{number}:\n    runs-on: ubuntu-latest\n    environment: {environment}\n"
        f"    steps: [{{run: 'ssh d@s{number}.example.com \"cd /srv/x && docker compose up -d\"'}}]\n"
        for number, environment in enumerate(environments)
    )


def test_two_addresses_of_one_environment_are_two_servers(tmp_path: Path) -> None:
    _, result = draft_deploy(tmp_path, write_ssh_jobs(["production", "production"]))
    assert "deploys another server, by s1.example.com" in say(result)
    assert "today it is s0.example.com" in say(result)


def test_two_environments_with_an_address_each_have_two_hosts(tmp_path: Path) -> None:
    spec, _ = draft_deploy(tmp_path, write_ssh_jobs(["staging", "production"]))
    assert list(spec["hosts"]) == ["staging", "production"]


def test_env_files_stay_on_the_host_if_the_deploy_writes_only_a_part(tmp_path: Path) -> None:
    """With `env_from: github`, a deploy would write the whole file, without the values that only the host has."""
    (tmp_path / "compose.yml").write_text("services: {web: {build: web, environment: {A: '${A}', B: '${B}'}}}\n")
    write = "{run: 'echo \"A=${{ secrets.OTHER }}\" >> .env'}"
    job = f"  deploy:\n    runs-on: ubuntu-latest\n    steps: [{write}, {SSH_STEP}]\n"
    spec, result = draft_deploy(tmp_path, job)
    assert "env_from" not in spec["environments"]["production"]
    assert spec["services"]["web"]["env"] == {"A": {"secret": True}, "B": {"secret": True}}
    assert "but not B: keep them on the host, or write `env_from: github`" in say(result)


DEVELOPMENT_FILE = """\
services: {web: {build: web, image: 'ghcr.io/example/shop-web:dev', ports: ['9000:8080'], environment: {MODE: dev}}}
"""
BASE_FILE = """\
services: {web: {image: 'ghcr.io/example/shop-web:latest', ports: ['8000:8080'], environment: {MODE: base}}}
"""


@pytest.mark.parametrize("command", ["docker compose up -d", "docker compose -f compose.dev.yml up -d"])
def test_production_keeps_the_base_beside_a_complete_file_for_development(tmp_path: Path, command: str) -> None:
    (tmp_path / "docker-compose.yml").write_text(BASE_FILE)
    (tmp_path / "compose.dev.yml").write_text(DEVELOPMENT_FILE)
    before, _, after = write_ssh_jobs(["production", "development"]).rpartition("docker compose up -d")
    spec, result = draft_deploy(tmp_path, f"{before}{command}{after}")
    assert "not used" not in say(result)
    assert spec["services"]["web"]["env"] == {"MODE": "base"}
    assert spec["services"]["web"]["ports"] == ["8000:8080"]
    assert "overrides" not in spec["environments"]["production"]
    assert spec["environments"]["development"]["overrides"]["web"]["env"] == {"MODE": "dev"}
    assert "whether the server of development runs compose.dev.yml" in say(result)


def draft_env_files(folder: Path, lines: list[str], compose: str = "") -> tuple[dict[str, Any], InitResult]:
    """The draft where a deploy runs these lines before it copies the env files to the server."""
    script = "".join(f"          {line}\n" for line in lines)
    write = f"      - run: |\n{script}          scp .env d@x:/srv/shop/\n"
    (folder / "compose.yml").write_text(compose or "services: {web: {build: web, env_file: [.env]}}\n")
    return draft_deploy(folder, f"  deploy:\n    runs-on: ubuntu-latest\n    steps:\n{write}      - {SSH_STEP}\n")


@pytest.mark.parametrize(
    ("line", "env"),
    [
        (
            """printf 'A=%s\\nB=%s\\n' "${{ secrets.A }}" "${{ secrets.B }}" >> .env""",
            {"A": {"secret": True}, "B": {"secret": True}},
        ),
        ("printf 'A=%s\\n' one >> .env", {"A": "one"}),
        ("printf '%s\\n' A=one 'B=two%' > .env", {"A": "one", "B": "two%"}),
        ('echo "MAIL_FROM=Shop <noreply@example.com>" >> .env', {"MAIL_FROM": "Shop <noreply@example.com>"}),
        ("echo A=one >> .env && echo B=two >> .env", {"A": "one", "B": "two"}),
        ("echo A=one >> .env; echo B=two | sudo tee -a .env > /dev/null", {"A": "one", "B": "two"}),
        ("cat <<< A=one > .env", {"A": "one"}),
        ("ssh d@x \"echo 'A=one' >> /srv/shop/.env\"", {"A": "one"}),
        ("echo A=one > .env # echo B=two >> .env", {"A": "one"}),
    ],
)
def test_the_lines_that_a_deploy_prints_into_an_env_file_are_read(tmp_path: Path, line: str, env: Any) -> None:
    spec, result = draft_env_files(tmp_path, [line])
    assert spec["services"]["web"]["env"] == env
    assert spec["environments"]["production"]["env_from"] == "github"
    assert "not replaced" not in format_init_result(result, tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "printf 'B=%d\\n' 1 >> .env",
        "envsubst < env.template > .env",
        'echo "${{ secrets.ENCODED }}" | base64 -d > .env',
        "(echo B=1; echo C=2) > .env",
        "echo B='two >> .env",
    ],
)
def test_a_line_that_writes_an_env_file_and_cannot_be_read_is_told(tmp_path: Path, line: str) -> None:
    spec, result = draft_env_files(tmp_path, ["echo A=one > .env", line])
    assert spec["services"]["web"]["env"] == {"A": "one"}
    assert "env_from" not in spec["environments"]["production"]
    assert ".github/workflows/deploy.yml:12: writes into .env what init cannot read" in say(result)
    assert "what writes into .env, which init cannot read" in format_init_result(result, tmp_path)


@pytest.mark.parametrize(
    "line", ["# echo A=one >> .env", "echo A=one > .env.example", "echo A=one > .env.test", "true > .env"]
)
def test_what_writes_no_variable_of_a_deploy_is_not_taken(tmp_path: Path, line: str) -> None:
    spec, _ = draft_env_files(tmp_path, [line])
    assert "env" not in spec["services"]["web"]


@pytest.mark.parametrize("value", ["${GITHUB_SHA}", "$SHA", "$VERSION", "`date`", "$(date)"])
def test_what_only_a_run_knows_is_no_value(tmp_path: Path, value: str) -> None:
    spec, result = draft_env_files(tmp_path, [f'echo "RELEASE={value}" >> .env'])
    assert "env" not in spec["services"]["web"]
    assert "writes into an env file what no `env` here has: RELEASE" in say(result)


def test_env_from_github_needs_each_value_on_github(tmp_path: Path) -> None:
    compose = "services: {web: {build: web, environment: {DB_PASSWORD: '${DB_PASSWORD}', A: '${A}'}}}\n"
    lines = ["echo A=one >> .env", 'echo "DB_PASSWORD=${{ steps.vault.outputs.pw }}" >> .env']
    spec, result = draft_env_files(tmp_path, lines, compose)
    assert "env_from" not in spec["environments"]["production"]
    assert "but not DB_PASSWORD: keep them on the host" in say(result)


def test_a_variable_of_an_env_file_goes_to_the_services_that_have_the_file(tmp_path: Path) -> None:
    (tmp_path / "mail").mkdir()
    (tmp_path / "mail/Dockerfile").write_text(DOCKERFILE)
    compose = "services: {web: {build: web, env_file: api.env}, mail: {build: mail, env_file: deploy/mail.env}}\n"
    lines = ["echo MODE=api > api.env", "echo MODE=mail > mail.env", "echo LEVEL=info | tee -a mail.env"]
    spec, _ = draft_env_files(tmp_path, lines, compose)
    assert spec["services"]["web"]["env"] == {"MODE": "api"}
    assert spec["services"]["mail"]["env"] == {"MODE": "mail", "LEVEL": "info"}


def test_long_lines_and_checks_are_read_in_bounded_time(tmp_path: Path) -> None:
    """Spaces before a command, and a check that names a program again and again."""
    check = "curl " * 8_000
    compose = f"services: {{web: {{build: web, env_file: [.env], healthcheck: {{test: '{check} http://localhost:8080/up'}}}}}}\n"
    lines = ["set -e", *[" " * 4_900 + "x"] * 40, "echo A=one >> .env"]
    start = time.process_time()
    spec, _ = draft_env_files(tmp_path, lines, compose)
    assert time.process_time() - start < LONGEST_READING
    assert spec["services"]["web"]["env"] == {"A": "one"}


def test_plain_values_that_differ_by_environment_become_overrides(tmp_path: Path) -> None:
    (tmp_path / "compose.yml").write_text("services: {web: {build: web, env_file: [.env]}}\n")
    jobs = ""
    for name in ("staging", "production"):
        write = f"{{run: 'echo LEVEL={name} > .env'}}"
        jobs += f"  {name}:\n    runs-on: ubuntu-latest\n    environment: {name}\n    steps: [{write}, {SSH_STEP}]\n"
    spec, _ = draft_deploy(tmp_path, jobs)
    levels = [spec["services"]["web"]["env"]["LEVEL"]]
    for name, environment in spec["environments"].items():
        own = environment.get("overrides", {}).get("web", {}).get("env", {})
        levels.append(own.get("LEVEL", levels[0]))
        assert levels[-1] == name


REF_CHOICE = "${{ startsWith(github.ref, 'refs/tags/v') && 'shop-org' || 'shop-net' }}"
REF_CHOICES = {
    "environment": f"    environment: {REF_CHOICE}\n",
    "matrix": f'    environment: ${{{{ matrix.env }}}}\n    strategy: {{matrix: {{env: ["{REF_CHOICE}"]}}}}\n',
}


def draft_triggers(folder: Path, pushes: str, lines_of_job: str) -> dict[str, Any]:
    """The `deploy_on` of each drafted environment, where a job with these lines deploys on pushes."""
    job = f"  deploy:\n    runs-on: ubuntu-latest\n{lines_of_job}    steps: [{SSH_STEP}]\n"
    workflow = f"{DEPLOY.partition('  deploy:')[0]}{job}".replace("push: {branches: [main]}", f"push: {pushes}")
    spec, _ = init(folder, {".github/workflows/deploy.yml": workflow})
    return {name: environment["deploy_on"] for name, environment in spec["environments"].items()}


@pytest.mark.parametrize("chosen_by", REF_CHOICES)
def test_an_environment_that_the_ref_chooses_is_two_environments(tmp_path: Path, chosen_by: str) -> None:
    triggers = draft_triggers(tmp_path, "{branches: [main], tags: ['v*']}", REF_CHOICES[chosen_by])
    assert triggers == {"shop-net": {"push": "main"}, "shop-org": {"tag": "v*"}}


def test_a_branch_that_chooses_the_environment_leaves_the_other_branches(tmp_path: Path) -> None:
    choice = "${{ github.ref == 'refs/heads/main' && 'production' || 'staging' }}"
    triggers = draft_triggers(tmp_path, "{branches: [main, develop]}", f"    environment: {choice}\n")
    assert triggers == {"staging": {"push": "develop"}, "production": {"push": "main"}}


def test_a_step_for_another_combination_of_the_matrix_says_nothing_of_this_one(tmp_path: Path) -> None:
    """The address of each environment is in a step of its own."""
    steps = "\n".join(
        f"      - {{if: matrix.env == '{env}', uses: appleboy/ssh-action@v1, "
        f"with: {{host: '${{{{ secrets.{secret} }}}}', script: docker compose up -d}}}}"
        for env, secret in (("staging", "STAGE_HOST"), ("production", "LIVE_HOST"))
    )
    job = (
        "  deploy:\n    runs-on: ubuntu-latest\n    environment: ${{ matrix.env }}\n"
        f"    strategy: {{matrix: {{env: [staging, production]}}}}\n    steps:\n{steps}\n"
    )
    spec, _ = draft_deploy(tmp_path, job)
    addresses = {name: host["address"] for name, host in spec["hosts"].items()}
    assert sorted(address["secret"] for address in addresses.values()) == ["LIVE_HOST", "STAGE_HOST"]


@pytest.mark.parametrize(
    ("exports", "image"),
    [
        (["shop"], "ghcr.io/example/shop"),
        (["shop", "shop"], "ghcr.io/example/shop"),
        (["${{ env.OWN }}"], "ghcr.io/example/shop"),
        (["shop", "other"], ""),
        (["shop", "$(cat name)"], ""),
    ],
)
def test_a_variable_to_which_steps_give_several_values_is_unknown(
    exports: list[str], image: str, tmp_path: Path
) -> None:
    """A condition of a step, or of the shell, decides which of the lines runs."""
    steps = "      - run: echo 'OWN=shop' >> $GITHUB_ENV\n"
    steps += "".join(f"      - run: echo 'NAME={value}' >> $GITHUB_ENV\n        if: success()\n" for value in exports)
    workflow = (
        "on: push\njobs:\n  build:\n    runs-on: ubuntu-latest\n    env: {NAME: first}\n    steps:\n"
        f"{steps}      - run: docker build -t ghcr.io/example/${{{{ env.NAME }}}}:latest .\n"
    )
    files = {"Dockerfile": "FROM scratch\nCOPY . .\n", ".github/workflows/build.yml": workflow}
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    (build,) = read_workflows(LocalRepository(tmp_path)).builds
    assert build.image == image


def test_a_variable_that_a_step_sets_for_the_next_ones_names_the_server_and_a_value(tmp_path: Path) -> None:
    """`echo NAME=value >> $GITHUB_ENV` in a step for each environment, as long jobs have it."""
    exports = "".join(
        f"      - if: matrix.env == '{env}'\n        run: |\n"
        f'          echo "SSH_HOST={address}" >> $GITHUB_ENV\n          echo "QUEUE={env}-queue" >> "$GITHUB_ENV"\n'
        for env, address in (("staging", "192.0.2.10"), ("production", "192.0.2.20"))
    )
    script = "echo 'QUEUE=${{ env.QUEUE }}' > .env; docker compose up -d"
    job = (
        "  deploy:\n    runs-on: ubuntu-latest\n    environment: ${{ matrix.env }}\n"
        f"    strategy: {{matrix: {{env: [staging, production]}}}}\n    steps:\n{exports}"
        "      - uses: appleboy/ssh-action@v1\n"
        f'        with: {{host: "${{{{ env.SSH_HOST }}}}", script: "{script}"}}\n'
    )
    files = {
        "docker-compose.yml": "services: {web: {build: web, env_file: .env, ports: ['8080:8080']}}\n",
        ".github/workflows/deploy.yml": f"{DEPLOY.partition('  deploy:')[0]}{job}",
    }
    spec, _ = init(tmp_path, files)
    assert {each["host"] for each in spec["environments"].values()} == {"staging", "production"}
    queues = {spec["services"]["web"]["env"]["QUEUE"]}
    queues |= {
        each["overrides"]["web"]["env"]["QUEUE"] for each in spec["environments"].values() if "overrides" in each
    }
    assert queues == {"staging-queue", "production-queue"}


def test_a_mere_name_in_an_accessory_has_the_value_that_a_deploy_writes(tmp_path: Path) -> None:
    """Compose passes on `- POSTGRES_USER` from the env file; an empty text would be another value."""
    script = "echo POSTGRES_USER=shop >> .env; docker compose up -d"
    job = (
        "  deploy:\n    runs-on: ubuntu-latest\n    environment: production\n"
        f"    steps: [{{uses: appleboy/ssh-action@v1, with: {{script: '{script}'}}}}]\n"
    )
    files = {
        "docker-compose.yml": "services:\n  web: {build: web, ports: ['8080:8080']}\n"
        "  postgres: {image: 'postgres:16', environment: [POSTGRES_USER, POSTGRES_DB]}\n",
        ".github/workflows/deploy.yml": f"{DEPLOY.partition('  deploy:')[0]}{job}",
    }
    spec, _ = init(tmp_path, files)
    postgres = spec["accessories"]["postgres"]
    assert postgres["environment"] == {"POSTGRES_USER": "shop"}
    assert postgres["env"] == {"POSTGRES_DB": {"secret": True}}


def test_of_environments_without_a_telling_name_the_pushed_one_is_before_the_tagged_one(tmp_path: Path) -> None:
    choice = "${{ startsWith(github.ref, 'refs/tags/v') && 'shop-org' || 'shop-net' }}"
    job = f"  deploy:\n    runs-on: ubuntu-latest\n    environment: {choice}\n    steps: [{SSH_STEP}]\n"
    workflow = f"{DEPLOY.partition('  deploy:')[0]}{job}"
    workflow = workflow.replace("push: {branches: [main]}", "push: {branches: [main], tags: ['v*']}")
    spec, _ = init(tmp_path, {".github/workflows/deploy.yml": workflow})
    assert spec["environments"]["shop-org"]["promote"] == "shop-net"


def test_the_port_in_the_command_of_a_container_is_the_one_of_the_service(tmp_path: Path) -> None:
    command = '["gunicorn", "shop.wsgi", "--bind", "0.0.0.0:8123"]'
    files = {
        "web/Dockerfile": "FROM scratch\nCOPY . .\n",
        "docker-compose.yml": f"services: {{web: {{build: web, command: {command}}}}}\n",
    }
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    result = build_init_result(tmp_path, "example/shop")
    assert parse_yaml(result.path, result.text).data["services"]["web"]["port"] == 8123


def test_a_deploy_of_the_staging_file_with_the_secrets_of_production_is_staging(tmp_path: Path) -> None:
    """Both are on one server, whose login only the environment `production` on GitHub has."""
    command = "docker compose -f compose.staging.yml up -d"
    step = f"{{uses: appleboy/ssh-action@v1, with: {{host: x, script: '{command}'}}}}"
    jobs = f"  deploy-staging:\n    runs-on: ubuntu-latest\n    environment: production\n    steps: [{step}]\n"
    files = {
        "compose.staging.yml": f"services:\n  {WEB}}}\n",
        ".github/workflows/deploy.yml": f"{DEPLOY.partition('  deploy:')[0]}{jobs}",
        ".github/workflows/release.yml": "on: workflow_dispatch\njobs:\n  deploy:\n    runs-on: ubuntu-latest\n"
        f"    environment: production\n    steps: [{SSH_STEP}]\n",
    }
    spec, result = init(tmp_path, files)
    triggers = {name: each["deploy_on"] for name, each in spec["environments"].items()}
    assert triggers == {"staging": {"push": "main"}, "production": {"dispatch": True}}
    assert "deploys compose.staging.yml with the secrets of the GitHub environment production" in result.text


def test_staging_with_the_compose_file_of_production_stays_staging(tmp_path: Path) -> None:
    step = "{uses: appleboy/ssh-action@v1, with: {host: x, script: 'docker compose -f compose.prod.yml up -d'}}"
    job = f"  deploy:\n    runs-on: ubuntu-latest\n    environment: staging\n    steps: [{step}]\n"
    files = {
        "compose.prod.yml": f"services:\n  {WEB}}}\n",
        ".github/workflows/deploy.yml": f"{DEPLOY.partition('  deploy:')[0]}{job}",
    }
    spec, _ = init(tmp_path, files)
    assert list(spec["environments"]) == ["staging"]


def test_images_that_only_their_tags_tell_apart_are_not_mixed_up(tmp_path: Path) -> None:
    """An account with one private repository keeps all its images there."""
    builds = "".join(
        f"      - uses: docker/build-push-action@v6\n"
        f"        with: {{file: {name}/Dockerfile, push: true, tags: 'example/shop:{name}-${{{{ github.sha }}}}'}}\n"
        for name in ("api", "api-worker")
    )
    workflow = f"on: {{push: {{branches: [main]}}}}\njobs:\n  build:\n    runs-on: ubuntu-latest\n    steps:\n{builds}"
    compose = (
        "services:\n"
        "  api: {image: 'example/shop:api-${TAG:-latest}', environment: {PORT: '8001', ROLE: web}}\n"
        "  queue: {image: 'example/shop:api-worker-${TAG:-latest}', environment: {ROLE: queue}}\n"
    )
    files = {
        "api/Dockerfile": "FROM scratch\nCOPY api .\n",
        "api-worker/Dockerfile": "FROM scratch\nCOPY api-worker .\n",
        "compose.yml": compose,
        ".github/workflows/ci.yml": workflow,
    }
    spec, result = draft_files(tmp_path, files)
    services = spec["services"]
    roles = {name: service["env"]["ROLE"] for name, service in services.items()}
    assert roles == {"api": "web", "api-worker": "queue"}
    assert any("`example/shop` holds 2 images, which their tags tell apart" in text for text in result.troubles)


@pytest.mark.parametrize(
    ("tags", "images"),
    [
        (("frontend", "backend"), {"example/shop-frontend", "example/shop-backend"}),
        (("latest", "dev"), {"example/shop"}),
        (("${{ github.sha }}", "v${{ github.sha }}"), {"example/shop"}),
    ],
)
def test_a_tag_of_one_word_tells_images_apart(tags: tuple[str, ...], images: set[str], tmp_path: Path) -> None:
    steps = "".join(
        f"      - uses: docker/build-push-action@v6\n"
        f"        with: {{file: '{number}.Dockerfile', push: true, tags: 'example/shop:{tag}'}}\n"
        for number, tag in enumerate(tags)
    )
    path = tmp_path / ".github/workflows/ci.yml"
    path.parent.mkdir(parents=True)
    path.write_text(f"on: push\njobs:\n  build:\n    runs-on: ubuntu-latest\n    steps:\n{steps}")
    repository = LocalRepository(tmp_path)
    workflows = read_workflows(repository)
    name_images_of_shared_repositories(repository, workflows, [])
    assert {build.image for build in workflows.builds} == images


def test_a_draft_without_a_sound_environment_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    """The container names of a spec end with the environment, and a host name has at most 63 characters."""
    long_names = {"project": "the-shop-with-a-long-name", "service": "a-service-with-an-even-longer-name"}
    job = (
        "  deploy:\n    runs-on: ubuntu-latest\n    environment: an-environment-with-a-long-name\n"
        f"    steps: [{SSH_STEP}]\n"
    )
    files = {
        f"{long_names['service']}/Dockerfile": "FROM scratch\nCOPY . .\nEXPOSE 8080\n",
        ".github/workflows/deploy.yml": f"{DEPLOY.partition('  deploy:')[0]}{job}",
    }
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text.replace("web", long_names["service"]))
    with pytest.raises(SpecError) as error:
        build_init_result(tmp_path, f"example/{long_names['project']}")
    assert "derived name" in str(error.value)


def test_a_value_that_the_ref_chooses_is_no_command(tmp_path: Path) -> None:
    """`&&` in the expression of a matrix does not separate commands."""
    job = (
        f'  deploy:\n    runs-on: ubuntu-latest\n    strategy: {{matrix: {{env: ["{REF_CHOICE}"]}}}}\n'
        "    environment: ${{ matrix.env }}\n    steps:\n      - uses: appleboy/ssh-action@v1\n"
        "        with: {host: x, script: 'cd ${{ matrix.env }} && make up'}\n"
    )
    _, result = draft_deploy(tmp_path, job)
    summary = format_init_result(result, tmp_path)
    assert "replaced by environments.shop-net; not replaced: `make up` (.github/workflows/deploy.yml:12)" in summary
