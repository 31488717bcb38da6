"""Any text in any field of a spec is refused at its place, or stands in the output as the plan has it."""

import json
import re
import shlex
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kiwari_ci import generator
from kiwari_ci.file_output.generated_files import GeneratedFiles
from kiwari_ci.plan_model import ComposeContainer, ComposeStack, Plan, PostgresServer, ServiceWorkflow
from kiwari_ci.plan_model.base import FrozenMapping
from kiwari_ci.problems import SpecError
from kiwari_ci.schema import text_formats
from tests import checkers
from tests.amounts import sample_or_all
from tests.document_structure import built, built_alike, read, syntax

# Every place where a person writes text: its usual value, and the type whose pattern it must match.
FIELDS: dict[str, tuple[str, Any]] = {
    "project": ("shop", text_formats.Slug),
    "repository": ("example/shop", text_formats.RepositoryName),
    "branch": ("main", text_formats.BranchName),
    "runner": ("ubuntu-24.04", text_formats.RunnerLabel),
    "generator": (f"kiwari-ci==0.1.0 --hash=sha256:{'0' * 64}", text_formats.GeneratorRequirement),
    "namespace": ("example", text_formats.ImageName),
    "token": ("PACKAGES_TOKEN", text_formats.SecretName),
    "host": ("vps", text_formats.Slug),
    "address": ("VPS_HOST", text_formats.SecretName),
    "user": ("VPS_USER", text_formats.SecretName),
    "key": ("VPS_KEY", text_formats.SecretName),
    "known": ("VPS_KNOWN", text_formats.SecretName),
    "directory": ("~/docker", text_formats.HostFolder),
    "network": ("proxy", text_formats.Slug),
    "server": ("data", text_formats.Slug),
    "server image": ("postgres:17", text_formats.ImageReference),
    "migrations": ("migrations", text_formats.RepositoryFile),
    "migrate": ("migrate/migrate:v4", text_formats.ImageReference),
    "service": ("api", text_formats.Slug),
    "image": ("shop-api", text_formats.ImageName),
    "path": ("api/**", text_formats.PathPattern),
    "context": (".", text_formats.RepositoryFolder),
    "dockerfile": ("api/Dockerfile", text_formats.RepositoryFile),
    "version": ("1.24", text_formats.ToolVersion),
    "folder": ("api", text_formats.RepositoryFolder),
    "script": ("make test", text_formats.ShellScript),
    "health": ("/health", text_formats.UrlPath),
    "env key": ("LEVEL", text_formats.EnvKey),
    "env value": ("info", text_formats.PlainText),
    "staging": ("staging", text_formats.Slug),
    "live": ("production", text_formats.Slug),
    "tag": ("stable", text_formats.ImageTag),
    "pattern": ("v*", text_formats.TagPattern),
    "env file": ("app.env", text_formats.EnvFileName),
    "stack": ("shop", text_formats.Slug),
    "container": ("shop-api", text_formats.ContainerName),
    "domain": ("www.example.com", text_formats.DomainName),
    "database": ("shop", text_formats.PostgresName),
    "role": ("shop_app", text_formats.PostgresName),
    "password": ("SHOP_PASSWORD", text_formats.EnvKey),
    "accessory": ("cache", text_formats.Slug),
    "accessory image": ("redis:7", text_formats.ImageReference),
    "argument": ("--verbose", text_formats.TextLine),
    "label": ("com.example.team", text_formats.LabelKey),
    "label value": ("web", text_formats.TextLine),
    "own network": ("backend", text_formats.Slug),
    "other network": ("monitoring_default", text_formats.NetworkName),
    "variable": ("TZ", text_formats.EnvKey),
    "variable value": ("UTC", text_formats.PlainText),
    "volume": ("data:/data", text_formats.VolumeMount),
    "extra": ("an extra", text_formats.TextLine),
}
PIECES = st.sampled_from(
    [*"'\"\\$`#:-?!&*%@|>{}[],~=; \t\n\x07\x85\u2028\ufeff\uffffaé😀", "${{ a }}", "$(touch x)", ": ", " #", "\n  "]
    + ["on", "no", "y", "true", "null", "TRUE", "NULL", "1", "1.10", "0x1F", "22:22", "<%= a %>", "EOF", "''", "'SQL"]
)  # fmt: skip
NASTY = st.lists(PIECES, max_size=5).map("".join)
WORDS = st.sampled_from(["y", "no", "on", "true", "null", "e1", "promote", "token", "find", "n", "a-b"])
CAPITALS = st.sampled_from(["Y", "NO", "ON", "TRUE", "NULL", "_", "E1", "A_B"])


def strings(kind: Any) -> st.SearchStrategy[str]:
    """What a field's own pattern allows, words that YAML reads as something else, and anything."""
    allowed = st.from_regex(re.compile(next(part.pattern for part in kind.__metadata__)), fullmatch=True)
    odd = {
        text_formats.Slug: WORDS,
        text_formats.SecretName: CAPITALS,
        text_formats.EnvKey: CAPITALS,
        text_formats.ContainerName: WORDS,
    }
    return st.one_of(allowed, allowed, odd.get(kind, allowed), NASTY)


def build_spec(words: dict[str, str]) -> dict[str, Any]:
    """A spec that uses every field."""
    host, server, service = words["host"], words["server"], words["service"]
    database = {"name": words["database"], "user": words["role"], "password": {"env": words["password"]}}
    return {
        "project": {"name": words["project"], "repository": words["repository"], "runner": words["runner"]}
        | {"default_branch": words["branch"]},
        "generator": words["generator"],
        "registry": {"namespace": words["namespace"], "pull_token": {"secret": words["token"]}},
        "hosts": {
            host: {
                "address": {"secret": words["address"]},
                "user": {"variable": words["user"]},
                "key": {"secret": words["key"]},
                "known_hosts": {"variable": words["known"]},
                "directory": words["directory"],
                "proxy": {"network": words["network"]},
            }
        },
        "databases": {
            server: {
                "image": words["server image"],
                "migrations": {"directory": words["migrations"], "image": words["migrate"]},
            }
        },
        "services": {
            service: {
                "image": words["image"],
                "paths": [words["path"], "!docs/**"],
                "build": {"context": words["context"], "dockerfile": words["dockerfile"]},
                "test": {
                    "setup": {"node": words["version"]},
                    "working_directory": words["folder"],
                    "run": words["script"],
                },
                "port": 8080,
                "health": {"path": words["health"], "status": 204},
                "env": {
                    words["env key"]: words["env value"],
                    "URL_": {"database": "url"},
                    "PEER": {"service": "other"},
                },
            },
            "other": {
                "port": 3000,
                "environment": {words["variable"]: words["variable value"], "HOST_": {"accessory": words["accessory"]}},
                "depends_on": {words["accessory"]: "healthy"},
                "networks": [words["own network"], {"external": words["other network"]}],
                "compose": {
                    "hostname": words["extra"],
                    "annotations": {words["extra"]: words["extra"]},
                    "tmpfs": [words["extra"]],
                },
            },
            "worker": {"image_of": "other", "entrypoint": [words["argument"]], "command": [words["argument"]]},
        },
        "accessories": {
            words["accessory"]: {
                "image": words["accessory image"],
                "healthcheck": {"test": ["CMD", words["argument"]], "interval": "5s"},
                "volumes": [words["volume"]],
                "labels": {words["label"]: words["label value"]},
                "env": {"KEY_": {"secret": True}},
            }
        },
        "environments": {
            words["staging"]: {"deploy_on": {"push": words["branch"]}, "database": {}},
            words["live"]: {
                "deploy_on": {"tag": words["pattern"]},
                "promote": words["staging"],
                "tag": words["tag"],
                "env_file": words["env file"],
                "stack": words["stack"],
                "containers": {service: words["container"]},
                "domains": {service: words["domain"]},
                "database": database,
                "overrides": {"other": {"replicas": 2, "labels": {words["label"]: words["label value"]}}},
            },
        },
    }


def written(value: Any) -> str:
    """JSON is YAML; what YAML may not hold as it is stands there as an escape."""
    text = json.dumps(value, ensure_ascii=False, indent=1)
    return re.sub(r"[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]", lambda match: f"\\u{ord(match[0]):04x}", text)


FREE = ["env value", "script", "variable value", "extra", "argument", "label value"]  # nearly every text is allowed


@pytest.mark.parametrize("examples", [*sample_or_all(12, 60), pytest.param(400, marks=pytest.mark.long)])
@pytest.mark.parametrize("fields", [sorted(FIELDS), FREE], ids=["all", "free"])
def test_any_text_is_refused_or_kept(tmp_path: Path, fields: list[str], examples: int) -> None:
    path = tmp_path / "shop.yaml"
    counts = {"refused": 0, "kept": 0}

    @settings(max_examples=examples, derandomize=True, deadline=None, database=None)
    @given(chosen=st.sets(st.sampled_from(fields), min_size=1, max_size=3), draw=st.data())
    def tried(chosen: set[str], draw: st.DataObject) -> None:
        words = {field: usual for field, (usual, _) in FIELDS.items()}
        words |= {field: draw.draw(strings(FIELDS[field][1]), label=field) for field in sorted(chosen)}
        path.write_text(written(build_spec(words)))
        try:
            plan, tree = generator.generate_files(path)
        except SpecError as faults:
            counts["refused"] += 1
            assert faults.problems and all(problem.line and problem.column for problem in faults.problems)
        else:
            counts["kept"] += 1
            stands_as_planned(plan, tree)
            built_alike(tree, usual(words["generator"].startswith("git")))
            assert tree[plan.drift.spec_path].text == path.read_text()

    tried()
    assert min(counts.values()) > examples * 0.15, counts


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_reaches_the_output(field: str, tmp_path: Path) -> None:
    """A field that nothing prints would be tried for nothing."""
    words = {name: value for name, (value, _) in FIELDS.items()}
    other = {
        "repository": "example/other", "generator": f"kiwari-ci==9.9.9 --hash=sha256:{'9' * 64}",
        "directory": "/srv/other", "path": "other/**",
        "server image": "postgres:18", "migrate": "other/migrate:v1", "version": "9.9", "health": "/other",
        "token": "OTHER", "address": "OTHER", "user": "OTHER", "key": "OTHER", "known": "OTHER", "env key": "OTHER",
        "accessory image": "other:1", "volume": "other:/data",
        "password": "OTHER", "pattern": "other-*", "env file": "other.env", "domain": "other.example.com",
    }.get(field, "another")  # fmt: skip
    (tmp_path / "shop.yaml").write_text(written(build_spec(words | {field: other})))
    tree = generator.generate_files(tmp_path / "shop.yaml")[1]
    assert list_marked_files(tree) != list_marked_files(usual(from_git=False))


def list_marked_files(tree: GeneratedFiles) -> GeneratedFiles:
    return {path: file for path, file in tree.items() if file.marked}


NASTY_ENV = ["", "$HOME", "${HOME:-x}", "$$", "\\n", "a\\b", '"', '"a" #b', "#", " a ", "`id`", "é😀", "a=b", "%s"]


def test_compose_itself_reads_an_env_file_as_the_plan_has_it(tmp_path: Path) -> None:
    """`docker compose config`, the copy of the example being the env file."""
    words = {name: value for name, (value, _) in FIELDS.items()}
    spec = build_spec(words)
    written_values = [value.replace("$", "$$") for value in NASTY_ENV]  # as a spec writes a dollar sign
    spec["services"]["api"]["env"] |= {f"V{index}": value for index, value in enumerate(written_values)}
    (tmp_path / "shop.yaml").write_text(written(spec))
    plan, tree = generator.generate_files(tmp_path / "shop.yaml")
    stack = next(stack for stack in plan.compose_stacks if stack.environment == "production")
    (tmp_path / "compose.yml").write_text(tree[f"deploy/{stack.name}/docker-compose.yml"].text)
    for file in stack.env_files:
        (tmp_path / file.name).write_text(tree[f"deploy/{stack.name}/{file.name}.example"].text)
    service = read_by_compose(tmp_path)["services"][words["container"]]
    expected = {line.key: line.value for file in stack.env_files for group in file.groups for line in group.lines}
    environment = {
        key: value.replace("$$", "$") for key, value in service["environment"].items()
    }  # $$ is how it prints $
    assert environment == expected
    assert [expected[f"V{index}"] for index in range(len(NASTY_ENV))] == NASTY_ENV
    assert service["labels"]["deploy.health"] == ":8080/health 204"


def read_by_compose(folder: Path) -> Any:
    def config(_: Any) -> list[str]:
        checkers.compose_config([])  # raises Missing
        words = ["docker", "compose", "-f", "compose.yml", "config", "--format", "json"]
        return [subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True).stdout]

    return json.loads(checkers.findings(config, [])[0])


@cache
def usual(from_git: bool) -> GeneratedFiles:
    words = {field: value for field, (value, _) in FIELDS.items()}
    words |= {"generator": "git+https://github.com/example/kiwari-ci@" + 40 * "0"} if from_git else {}
    with TemporaryDirectory() as folder:
        path = Path(folder, "shop.yaml")
        path.write_text(written(build_spec(words)))
        return generator.generate_files(path)[1]


@pytest.mark.parametrize(
    ("path", "text", "more"),
    [
        ("a.yml", "a: b\n", "c: d\n"),
        ("a.yml", "jobs: {a: {steps: [{run: echo x}]}}\n", "b: c\n"),
        ("a.md", "# A\n\n| a |\n", "| b |\n"),
        ("a.md", "# A\n\n", "## B\n"),
        ("a.md", "```bash\necho a\n```\n", "```bash\ntouch x\n```\n"),
        ("deploy", "echo a\n", "$(touch x)\n"),
        ("a.env.example", "A='b'\n", "B='c'\n"),
    ],
)
def test_what_is_added_is_seen(path: str, text: str, more: str) -> None:
    assert built(path, text) != built(path, text + more)


# What stands in the output, read back.


def stands_as_planned(plan: Plan, tree: GeneratedFiles) -> None:
    for path, file in tree.items():
        if file.marked and path.endswith(".yml"):
            read(file.text)
        if "bash" in file.text.partition("\n")[0] or path.endswith(".sh"):
            syntax(file.text)
    for workflow in plan.workflows:
        service_workflow(workflow, tree)
    for promotion in plan.promotions:
        text = tree[f".github/workflows/{promotion.name}.yml"].text
        assert read(text)["on"] == {"push": {"tags": list(promotion.tags)}}
        run = next(step["run"] for step in jobs(text)[promotion.job]["steps"] if step.get("id") == "find")
        for source in promotion.sources:
            commands = [line.strip() for line in run.replace("\\\n", " ").splitlines()]
            finds = [shlex.split(line)[1:] for line in commands if line.startswith("find_image ")]
            assert [source.digest_output, source.builder, source.repository, "src-$key"] in [find[:4] for find in finds]
            keys = [line.partition("git ls-files -s -- ")[2] for line in commands]
            lists = [shlex.split(line.rstrip("|")) for line in keys if line]
            assert list(source.pathspecs) in lists
    for stack in plan.compose_stacks:
        compose_file(stack, tree)
    for server in plan.servers:
        database_server(server, tree)
    runbook(plan, tree["deploy/RUNBOOK.md"].text)


def runbook(plan: Plan, text: str) -> None:
    """The rows that a person copies from."""
    for host in plan.hosts:
        for setting in (host.address, host.user):
            assert f"\n| `{setting.name}` | {setting.kind} | " in text
        for instance in host.public:
            row = f"| `{instance.domain}` | `http` `{instance.container}` `{instance.port}` | Force SSL, HTTP/2 |"
            assert row in text and f"| `{instance.domain}` | A | address of {host.name} |" in text
    for instance in plan.answering:
        assert (
            f"\n| {instance.service} | {instance.port} | `{instance.health_path}` | {instance.health_status} |\n"
            in text
        )


def service_workflow(workflow: ServiceWorkflow, tree: GeneratedFiles) -> None:
    text = tree[f".github/workflows/{workflow.name}.yml"].text
    document = read(text)
    assert document["on"]["push"] == {
        "branches": list(workflow.branches),
        "paths": [path_filter.pattern for path_filter in workflow.push_filters],
    }
    for test in workflow.tests:
        *_, setup, step = jobs(text)["test"]["steps"]
        assert (step["run"], step["working-directory"]) == (test.run, test.working_directory)
        assert setup["with"][test.setups[0].option] == test.setups[0].value
    build = next(step for step in jobs(text)["build-and-push"]["steps"] if step.get("id") == "build")["with"]
    [image] = workflow.images
    assert (build["context"], build["file"]) == (image.build.context, image.build.dockerfile)
    for target in workflow.targets:
        assert f"{image.source.repository}:{target.tag}" in build["tags"].splitlines()
        job = jobs(text)[f"deploy-{target.deploy.environment}"]
        assert job["environment"]["name"] == target.deploy.environment
        step = next(step for step in job["steps"] if step.get("id") == "deploy")
        wanted = {setting.name: f"${{{{ {setting.expression} }}}}" for setting in target.deploy.settings}
        assert wanted.items() <= step["env"].items() and len(step["env"]) == len(wanted) + len(target.deploy.values)


def compose_file(stack: ComposeStack, tree: GeneratedFiles) -> None:
    document = read(tree[f"deploy/{stack.name}/docker-compose.yml"].text)
    assert document["name"] == stack.name
    assert document["services"].keys() == {container.container for container in stack.containers}
    for container in stack.containers:
        service = document["services"][container.container]
        assert {key: service.get(key) for key in facts(container)} == facts(container)
    for instance in stack.instances:
        assert document["services"][instance.container].get("labels", {}).get("deploy.health", "") == instance.health
    for file in stack.env_files:
        wanted = {line.key: line.value for group in file.groups for line in group.lines}
        assert env_file(tree[f"deploy/{stack.name}/{file.name}.example"].text) == wanted


def facts(container: ComposeContainer) -> dict[str, object]:
    aliased = {joined.name: {"aliases": list(joined.aliases)} if joined.aliases else {} for joined in container.aliased}
    return {
        "image": container.image,
        "container_name": container.container,
        "networks": aliased or list(container.networks),
        "env_file": container.env_file or None,
        "entrypoint": list(container.entrypoint) or None,
        "command": list(container.command) or None,
        "environment": {pair.key: pair.value for pair in container.environment} or None,
        "depends_on": {pair.key: {"condition": pair.value} for pair in container.depends_on} or None,
        "volumes": list(container.volumes) or None,
        "healthcheck": {key.key: plain(key.value) for key in container.healthcheck} or None,
        "labels": {pair.key: pair.value for pair in container.labels} or None,
        **{key.key: plain(key.value) for key in container.more},
    }


def plain(value: object) -> object:
    """A value of a plan as YAML is read."""
    if isinstance(value, FrozenMapping):
        return {key: plain(nested) for key, nested in value}
    return [plain(nested) for nested in value] if isinstance(value, tuple) else value


def database_server(server: PostgresServer, tree: GeneratedFiles) -> None:
    service = read(tree[f"deploy/{server.name}/docker-compose.yml"].text)["services"][server.name]
    assert (service["image"], service["networks"], tuple(service["environment"])) == (
        server.image,
        [server.network],
        server.keys,
    )
    script = tree[f"deploy/{server.name}/init/init-databases.sh"].text
    calls = [shlex.split(line)[1:] for line in script.splitlines() if re.match(r"database [^(]", line)]
    assert calls == [
        [role.name, role.user, role.password_variable, str(role.connection_limit)] for role in server.databases
    ]


def env_file(text: str) -> dict[str, str]:
    """Compose's rules for the one form that is used: in single quotes only a backslash at the end has a meaning."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    matches = [re.fullmatch(r"(\w+)='([^']*)(?<!\\)'", line) for line in lines]
    assert all(matches), lines
    return {match[1]: match[2] for match in matches if match}


def jobs(text: str) -> Any:
    return read(text)["jobs"]
