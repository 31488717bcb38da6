"""`kiwari-ci init`, and the steps of a job before it builds: the image needs the files that they write."""

from pathlib import Path
from typing import Any

import pytest

from kiwari_ci.commands.init.draft_text import InitResult
from tests.init_drafts import draft_files

BUILD = "{uses: docker/build-push-action@v6, with: {context: ., push: true, tags: 'ghcr.io/example/shop-web:1'}}"


def init(folder: Path, steps: str, env: str = "{}", build: str = BUILD) -> tuple[dict[str, Any], InitResult]:
    """The service that is drafted where a job has some steps before its build, and what is said beside it."""
    workflow = (
        f"on: {{push: {{branches: [main]}}}}\nenv: {env}\njobs:\n  build:\n    runs-on: ubuntu-latest\n    steps:\n"
        f"      - uses: actions/checkout@v4\n{steps}      - {build}\n"
    )
    files = {
        "Dockerfile": "FROM nginx:1.29\nCOPY dist /web\nEXPOSE 80\n",
        "web/index.html": "",
        ".github/workflows/ci.yml": workflow,
    }
    spec, result = draft_files(folder, files)
    (service,) = spec["services"].values()
    return service, result


def write_step(script: str) -> str:
    """A step that runs a script."""
    return "run: |\n          " + script.replace("\n", "\n          ")


def init_with_script(folder: Path, script: str) -> tuple[dict[str, Any], InitResult]:
    """The same where one step before the build runs a script."""
    return init(folder, f"      - {write_step(script)}\n")


def tell(result: InitResult) -> str:
    """What is asked, and what is said of the jobs of today."""
    parts = [part for workflow in result.workflows for job in workflow.jobs for part in job.list_parts()]
    return "\n".join([*(question for _, question in result.decisions), *parts])


NPM = """\
      - {uses: actions/setup-node@v4, with: {node-version: 22, cache: npm}}
      - run: npm ci
      - {name: "Build: the app!", run: npm run build, working-directory: web, env: {KEY: "${{ secrets.WEB_KEY }}"}}
"""


def test_steps_before_the_build_are_kept_in_their_order(tmp_path: Path) -> None:
    service, result = init(tmp_path, NPM, "{API: 'https://api.example.com', SECRET: '${{ secrets.S }}'}")
    env = {"API": "https://api.example.com"}
    assert service["steps"]["before_build"] == [
        {"name": "Run actions/setup-node", "uses": "actions/setup-node", "inputs": {"node-version": "22"}},
        {"name": "Run npm ci", "run": "npm ci", "env": env},
        {
            "name": "Build the app",
            "working_directory": "web",
            "run": "npm run build",
            "env": {**env, "KEY": {"secret": "WEB_KEY"}},
        },
    ]
    (outcome,) = result.workflows[0].jobs
    assert outcome.is_replaced and result.workflows[0].is_removable
    assert not [trouble for trouble in result.troubles if "dist" in trouble]


def test_a_change_of_what_the_steps_read_builds_the_image(tmp_path: Path) -> None:
    """The Dockerfile copies only what the steps write, so its own paths would match no change of a source file."""
    service, _ = init(tmp_path, NPM)
    assert service["paths"] == ["web/**"]


def test_a_step_in_the_root_may_read_each_file(tmp_path: Path) -> None:
    service, result = init(tmp_path, "      - run: make assets\n")
    assert service["paths"] == ["**"]
    assert "may read any file; name its folders" in tell(result)


@pytest.mark.parametrize(
    ("script", "run", "env"),
    [
        ("echo '${{ secrets.FILE }}' > web/.env", "echo ''\"${FILE}\"'' > web/.env", {"FILE": {"secret": "FILE"}}),
        ('echo "A=${{ vars.A }}" > web/.env', 'echo "A=${A}" > web/.env', {"A": {"variable": "A"}}),
        ("# don't cache\necho ${{ github.sha }} >v", '# don\'t cache\necho "${GITHUB_SHA}" >v\n', None),
        ("echo it#isn\\'t ${{ github.sha }} >v", 'echo it#isn\\\'t "${GITHUB_SHA}" >v', None),
        ("echo 'a\\' ${{ github.sha }} >v", "echo 'a\\' \"${GITHUB_SHA}\" >v", None),
        (
            "cat >.env <<EOF\n# don't\nKEY=${{ secrets.KEY }}\nEOF\necho ${{ github.sha }} >v",
            'cat >.env <<EOF\n# don\'t\nKEY=${KEY}\nEOF\necho "${GITHUB_SHA}" >v\n',
            {"KEY": {"secret": "KEY"}},
        ),
        ("echo ${{ secrets.A }} > web/key.json", 'echo "${A}" > web/key.json', {"A": {"secret": "A"}}),
        ("echo ${{ github.sha }} > version", 'echo "${GITHUB_SHA}" > version', None),
        ("echo ${{ github.repository }} > version", "echo example/shop > version", None),
    ],
)
def test_expressions_become_variables(tmp_path: Path, script: str, run: str, env: dict[str, Any] | None) -> None:
    service, _ = init_with_script(tmp_path, script)
    (step,) = service["steps"]["before_build"]
    assert (step["run"], step.get("env")) == (run, env)


def test_commands_before_a_build_command_of_the_same_step_are_kept(tmp_path: Path) -> None:
    commands = ["npm ci", "npm run build", "docker build -t ghcr.io/example/shop-web:1 ."]
    build = "run: |\n" + "".join(f"          {command}\n" for command in commands)
    service, _ = init(tmp_path, "", build=build)
    assert [step["run"] for step in service["steps"]["before_build"]] == ["npm ci\nnpm run build\n"]


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ("{run: make assets, if: \"github.ref == 'refs/heads/main'\"}", "it runs only `if github.ref =="),
        ("{run: make assets, continue-on-error: true}", "the build goes on when it fails"),
        ("{run: make assets, shell: pwsh}", "its shell is pwsh"),
        ("{run: 'echo ${{ steps.x.outputs.y }} > web/x'}", "only a run knows the value of an expression"),
        ("{run: \"cat <<'EOF' > web/x\\n${{ secrets.X }}\\nEOF\"}", "no shell reads a variable in its here-document"),
        ("{uses: actions/download-artifact@v4, with: {name: dist}}", "write the steps of that job under"),
        ("{uses: actions/checkout@v4, with: {submodules: true}}", "a step of the spec has to do it with `git`"),
        ("{run: 'make assets && rsync -a dist/ deploy@192.0.2.1:/srv/'}", "it also works on another machine"),
        ("{uses: bufbuild/buf-setup-action@v1}", "it needs a commit in specs/pins/action.yml"),
    ],
)
def test_a_step_that_the_spec_cannot_have_is_told_with_the_reason(tmp_path: Path, step: str, reason: str) -> None:
    service, result = init(tmp_path, f"      - {step}\n      - run: make rest\n")
    assert [step["run"] for step in service["steps"]["before_build"]] == ["make rest"]
    (question,) = [question for _, question in result.decisions if "not in `steps.before_build`" in question]
    assert reason in question
    assert reason in "\n".join(result.workflows[0].jobs[0].list_parts())
    assert not result.workflows[0].is_removable


@pytest.mark.parametrize(
    "step",
    [
        'run: echo "tag=${GITHUB_SHA::7}" >> $GITHUB_OUTPUT',
        "run: npm ci",
        "run: node --version",
        "run: echo $TOKEN | docker login -u x --password-stdin",
        "run: npm test",
        "uses: docker/setup-buildx-action@v3",
        "run: echo 'Build & push; next' && git log",
        "run: env",
        "run: mkdir -p ~/.ssh && ssh-keyscan 192.0.2.1 >>~/.ssh/known_hosts && ssh deploy@192.0.2.1 uptime",
        "run: scp -q compose.yml ${{ secrets.HOST }}:/srv/",
        "run: TAG=$(git rev-parse HEAD)",
        "run: export NODE_ENV=production API=https://api.example.com",
    ],
)
def test_a_step_that_writes_nothing_for_the_build_is_no_step_before_it(tmp_path: Path, step: str) -> None:
    service, _ = init(tmp_path, f"      - {step}\n")
    assert "steps" not in service


def test_a_step_with_a_secret_is_not_given_the_others(tmp_path: Path) -> None:
    env = "{A: '${{ secrets.A }}', B: '${{ secrets.B }}'}"
    service, _ = init(tmp_path, "      - run: use-key $A && make x\n", env)
    assert service["steps"]["before_build"][0]["env"] == {"A": {"secret": "A"}}


def test_a_step_in_the_folder_of_another_image_is_not_before_the_build(tmp_path: Path) -> None:
    """One job builds both images: what it does in web/ is for the image whose context is web/."""
    other = "{uses: docker/build-push-action@v6, with: {context: api, tags: 'ghcr.io/example/shop-api:1'}}"
    (tmp_path / "api").mkdir()
    (tmp_path / "api/Dockerfile").write_text("FROM scratch\nCOPY . .\nEXPOSE 81\n")
    workflow = f"""\
on: {{push: {{branches: [main]}}}}
jobs:
  build:
    runs-on: ubuntu-latest
    steps:
{NPM}      - {other}
      - {BUILD.replace("context: .", "context: web")}
"""
    files = {"web/Dockerfile": "FROM nginx\nCOPY . .\n", ".github/workflows/ci.yml": workflow}
    spec, _ = draft_files(tmp_path, files)
    services = spec["services"]
    assert [name for name, service in services.items() if "npm run build" in str(service.get("steps"))] == ["web"]
    assert services["api"]["paths"] == ["api/**"]


@pytest.mark.parametrize(
    "step",
    [
        "run: echo '//npm.example.com/:_authToken=npm_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789' >.npmrc",
        "run: echo '<auth>npm_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789</auth>' >web/settings.xml",
        "{run: make assets, env: {NPM_TOKEN: npm_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789}}",
        "{uses: actions/setup-node@v4, with: {token: npm_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789}}",
    ],
)
def test_a_secret_in_plain_text_is_neither_copied_nor_printed(tmp_path: Path, step: str) -> None:
    service, result = init(tmp_path, f"      - {step}\n      - run: make rest\n")
    assert "npm_AbC" not in result.text + tell(result)
    assert service["steps"]["before_build"][-1] == {"name": "Run make rest", "run": "make rest"}
    assert "not in `steps.before_build`" in tell(result)


def test_a_secret_of_the_whole_job_is_not_copied_to_a_step_that_does_not_name_it(tmp_path: Path) -> None:
    service, _ = init(tmp_path, "      - run: make assets\n", "{NPM_TOKEN: npm_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789}")
    assert service["steps"]["before_build"] == [{"name": "Run make assets", "run": "make assets"}]


def test_a_script_that_names_a_secret_of_github_is_kept(tmp_path: Path) -> None:
    script = "echo //npm.pkg.github.com/:_authToken=${{ secrets.NPM_TOKEN }} >.npmrc"
    service, _ = init(tmp_path, f"      - run: {script}\n")
    (step,) = service["steps"]["before_build"]
    assert step["env"] == {"NPM_TOKEN": {"secret": "NPM_TOKEN"}}


@pytest.mark.parametrize(
    "build",
    [
        "DOCKER_BUILDKIT=1 docker build -t ghcr.io/example/shop-web:1 .",
        "sudo DOCKER_BUILDKIT=1 docker build -t ghcr.io/example/shop-web:1 .",
        "export DOCKER_BUILDKIT=1; docker build -t ghcr.io/example/shop-web:1 .",
        "cd . && docker build -t ghcr.io/example/shop-web:1 .",
    ],
)
def test_what_only_sets_up_the_build_command_is_no_step_before_it(tmp_path: Path, build: str) -> None:
    service, result = init(tmp_path, "", build=f"run: {build}")
    assert "steps" not in service
    assert "a step before the build" not in tell(result)


@pytest.mark.parametrize(
    "script",
    [
        'echo "Building" && npm run build',
        "set -e; npm run build",
        "env NODE_ENV=production npm run build",
        "NODE_ENV=production npm run build",
        "echo shop | tee web/name",
        "rsync -a shared/ web/shared/",
    ],
)
def test_a_command_behind_one_that_prints_is_kept(tmp_path: Path, script: str) -> None:
    service, _ = init_with_script(tmp_path, script)
    assert [step["run"] for step in service["steps"]["before_build"]] == [script]


@pytest.mark.parametrize(
    "script",
    [
        "docker login ghcr.io \\\n  -u x --password-stdin",
        "pytest \\\n  --cov",
        "if docker pull x; then\n  echo pulled\nfi",
        'if [ -n "$TOKEN" ]; then\n  docker login ghcr.io\nfi',
    ],
)
def test_no_rest_of_a_command_of_docker_or_of_the_tests_is_a_step(tmp_path: Path, script: str) -> None:
    service, result = init_with_script(tmp_path, script)
    assert "steps" not in service
    assert "before_build" not in tell(result)


def test_a_continued_command_before_the_build_is_kept_as_it_is(tmp_path: Path) -> None:
    service, _ = init_with_script(tmp_path, "make assets \\\n  FAST=1\ndocker pull x")
    assert [step["run"] for step in service["steps"]["before_build"]] == ["make assets \\\n  FAST=1\n"]


@pytest.mark.parametrize(
    "script",
    [
        "make assets\n# don't",
        "cat >web/notes <<EOF\nfor example, don't\nEOF",
        "if [ -d web ]; then\n  make assets\nfi\ndocker pull x",
        "for name in a b; do make $name; done",
    ],
)
def test_a_whole_block_a_comment_or_a_here_document_is_kept(tmp_path: Path, script: str) -> None:
    service, _ = init_with_script(tmp_path, script)
    (step,) = service["steps"]["before_build"]
    assert step["run"].rstrip() == script.removesuffix("\ndocker pull x")


@pytest.mark.parametrize(
    ("script", "build"),
    [
        ("if docker pull x; then\n  make assets\nfi", BUILD),
        ("for name in a b; do\n  make $name\n  docker pull $name\ndone", BUILD),
        ("", "for name in web; do\n  make $name\n  docker build -t ghcr.io/example/shop-$name:1 .\ndone"),
        ("", "(make assets && docker build -t ghcr.io/example/shop-web:1 .)"),
    ],
)
def test_a_block_of_a_script_is_not_cut_into_a_step(tmp_path: Path, script: str, build: str) -> None:
    steps = f"      - {write_step(script)}\n" if script else ""
    service, result = init(tmp_path, steps, build=build if build == BUILD else write_step(build))
    assert "steps" not in service
    assert "within a block of its script" in tell(result)


@pytest.mark.parametrize(
    "script",
    ["OUTPUT=$(npm run build)", 'OUTPUT="$(npm run build)"', "make assets SSH_HOST=x && ssh deploy@192.0.2.1 uptime"],
)
def test_a_command_that_may_write_files_does_not_disappear(tmp_path: Path, script: str) -> None:
    service, result = init_with_script(tmp_path, script)
    assert "npm run build" in str(service.get("steps")) or "make assets" in " ".join(map(str, result.decisions))


@pytest.mark.parametrize("prefix", ["timeout 600 ", "exec ", "nice -n 5 ", "A=b sudo ", "cd web && DOCKER_BUILDKIT=1 "])
def test_words_before_the_build_command_are_no_step(tmp_path: Path, prefix: str) -> None:
    build = f"      - run: {prefix}docker build -t ghcr.io/example/shop .\n"
    service, _ = init(tmp_path, build)
    assert "steps" not in service


def test_a_program_that_is_only_installed_is_not_run_on_another_machine(tmp_path: Path) -> None:
    service, _ = init(tmp_path, "      - run: apt-get install -y ssh rsync && make assets\n")
    assert "make assets" in str(service["steps"])


def test_a_function_that_builds_an_image_is_not_cut(tmp_path: Path) -> None:
    script = "build() {\n  docker build -t x .\n}\nmake assets"
    service, result = init_with_script(tmp_path, script)
    assert "build() {" not in str(service.get("steps"))
    assert any("within a block of its script" in question for _, question in result.decisions)
