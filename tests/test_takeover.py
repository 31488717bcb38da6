"""What the runbook says of an environment that serves today: the order, and commands that a person can type."""

import re
from pathlib import Path

import pytest

from kiwari_ci import generator
from kiwari_ci.plan_model import Takeover

HEAD = "project: {name: shop, repository: example/shop}\n"


def write_spec(folder: Path, body: str) -> Path:
    """Write a spec with that body, and return its path."""
    spec = folder / "shop.yaml"
    spec.write_text(HEAD + body)
    return spec


def plan_only_takeover(folder: Path, body: str) -> Takeover:
    """The only takeover of a spec."""
    (takeover,) = generator.load_spec(write_spec(folder, body)).plan.takeovers
    return takeover


def read_runbook(folder: Path, body: str) -> str:
    """The runbook of a spec."""
    _, files = generator.generate_files(write_spec(folder, body))
    return files["deploy/RUNBOOK.md"].text


BESIDE = """\
hosts: {vps: {proxy: {kind: %s}}, other: {proxy: {kind: %s}}}
services:
  web: {port: 8080, ports: ["127.0.0.1:8000:8080"]}
  search: {port: 9200, ports: ["127.0.0.1:9000:9200"]}
  worker: {image_of: web, command: [./worker]}
environments:
  production:
    deploy_on: {push: main}
    host: [vps, other]
    stack: shop
    domains: {web: shop.example.com}
    takeover: {project: old, folder: /srv/old, containers: {web: web, search: search, worker: worker}}
"""
NONE = BESIDE % ("none", "none")


def test_another_container_calls_a_service_by_its_name_also_where_the_proxy_is_on_the_host(tmp_path: Path) -> None:
    runbook = read_runbook(tmp_path, NONE)
    assert "| `shop.example.com` | `web` | `127.0.0.1:8000` |" in runbook
    assert "Containers that send requests to `search` must send them to `shop-search-production:9200`." in runbook
    assert "127.0.0.1:9000" not in runbook


def test_each_host_is_asked_for_the_state_of_the_old_containers(tmp_path: Path) -> None:
    commands = plan_only_takeover(tmp_path, NONE).commands
    shown = "'docker inspect -f \"{{.Name}} {{.State.Status}}\" web search worker'"
    assert commands.show_stopped == (f'ssh "$VPS" {shown}', f'ssh "$OTHER" {shown}')
    assert commands.remove_old == (
        "ssh \"$VPS\" 'docker rm web search worker'",
        "ssh \"$OTHER\" 'docker rm web search worker'",
    )


WORKER = """\
hosts: {vps: {}}
services: {worker: {command: [./worker]}}
environments:
  production:
    deploy_on: {push: main}
    takeover: {containers: {worker: worker}}
"""


def test_a_worker_has_worked_when_its_log_shows_it_and_no_address_is_asked(tmp_path: Path) -> None:
    runbook = read_runbook(tmp_path, WORKER)
    assert "ssh \"$VPS\" 'docker logs --tail 20 shop-worker-production'" in runbook
    assert "address still answers" not in runbook
    assert "Give the proxy its old settings again" not in runbook


def test_a_proxy_that_finds_a_name_that_stays_is_changed_before_the_first_deploy(tmp_path: Path) -> None:
    body = """\
hosts: {vps: {proxy: {kind: custom}}}
services: {web: {port: 8080}}
environments:
  production:
    deploy_on: {push: main}
    containers: {web: shop-web-1}
    domains: {web: [shop.example.com, example.com]}
    takeover: {project: old, ports: old-caddy-1, containers: {web: shop-web-1}}
"""
    runbook = read_runbook(tmp_path, body)
    settings = "reverse_proxy shop-web-1:8080 {\n\tlb_try_duration 5s\n"
    reload = "docker exec old-caddy-1 caddy reload"
    assert runbook.count(settings) == 1
    assert runbook.index("### 8. Proxy hosts") < runbook.index(settings) < runbook.index(reload)
    assert runbook.index(reload) < runbook.index("### 10. Take over what serves today")
    assert "Switch over" not in runbook


@pytest.mark.parametrize(("ports", "explained"), [("", True), ("ports: edge, ", False)])
def test_what_stands_for_an_unknown_proxy_is_explained(tmp_path: Path, ports: str, explained: bool) -> None:
    body = NONE.replace("kind: none", "kind: custom").replace("project: old", f"{ports}project: old")
    runbook = read_runbook(tmp_path, body)
    assert ("`PROXY` is the name of the proxy's container" in runbook) is explained
    assert ("docker exec PROXY nginx -t" in runbook) is explained
    assert ("docker exec edge nginx -t" in runbook) is not explained


def test_old_compose_files_are_renamed_where_nothing_is_started_from_them_any_more(tmp_path: Path) -> None:
    rename = 'cd /srv/old && for file in *compose*.y*ml; do mv "$file" "$file.before"; done\''
    assert plan_only_takeover(tmp_path, NONE).commands.mark_old_files[0] == f'ssh "$VPS" \'{rename}'


def test_old_compose_files_from_which_the_proxy_starts_say_what_not_to_run(tmp_path: Path) -> None:
    """The warning stays when the field, and with it the chapter, is gone."""
    (command, _) = plan_only_takeover(
        tmp_path, NONE.replace("{project", "{ports: edge, project")
    ).commands.mark_old_files
    assert "mv " not in command
    assert 'sed -i "1i # kiwari-ci deploys services of this project: never run docker compose down' in command


SAME_FOLDERS = """\
hosts: {vps: {directory: /srv}}
services: {web: {port: 8080, env: {TOKEN: {secret: true}}}}
environments:
  staging:
    deploy_on: {push: main}
    stack: shop-staging
    takeover: {folder: /srv/shop-staging, workflows: [deploy.yml], containers: {web: web-staging}}
  production:
    deploy_on: {tag: "v*"}
    promote: staging
    stack: shop
    takeover: {folder: /srv/shop, workflows: [release.yml], containers: {web: web}}
"""


def test_files_for_the_folder_of_today_come_after_the_copy_of_it_one_environment_at_a_time(tmp_path: Path) -> None:
    runbook = read_runbook(tmp_path, SAME_FOLDERS)
    first_part, takeovers = runbook.split("### 10. Take over what serves today")
    assert "deploy/shop" not in first_part.partition("### 1. Files on the server")[2]
    staging, production = takeovers.partition("## Day by day")[0].split("#### Take over production")
    for section, stack, stop in (
        (staging, "shop-staging", "gh workflow disable deploy.yml"),
        (production, "shop", "gh run list --status in_progress"),
    ):
        order = [
            stop,
            f"[ -e /srv/{stack}-before ] || cp -a /srv/{stack} /srv/{stack}-before",
            f"git archive HEAD deploy/{stack} |",
            "install -m 600 $f.example $f; done",
            "grep -E '^(TOKEN)='",
            "&& editor ",
            f"bin/deploy check {stack}\n",
        ]
        places = [section.index(words) for words in order]
        assert places == sorted(places)


def test_an_environment_is_deployed_by_its_own_command(tmp_path: Path) -> None:
    staging, production = generator.load_spec(write_spec(tmp_path, SAME_FOLDERS)).plan.takeovers
    assert staging.commands.merge == ("git push origin main",)
    assert staging.commands.deploy == ()
    assert staging.commands.start_runs == ("gh workflow run web-ci.yml --ref main",)
    assert production.commands.merge == ()
    assert production.commands.deploy == (
        "git fetch --tags origin && git tag --list 'v*' --sort=-version:refname | head -n 1",
        "git tag v0.1.0 origin/main && git push origin v0.1.0",
    )
    assert production.first_tag == "v0.1.0"
    by_hand = SAME_FOLDERS.replace('{tag: "v*"}', "{dispatch: true}")
    _, production = generator.load_spec(write_spec(tmp_path, by_hand)).plan.takeovers
    assert production.commands.deploy == ("gh workflow run promote.yml --ref main",)


def test_the_tag_of_a_takeover_is_not_pushed_a_second_time(tmp_path: Path) -> None:
    runbook = read_runbook(tmp_path, SAME_FOLDERS)
    assert runbook.count("v0.1.0") == 3, "one command, and the words before it"
    assert "### 12. Later releases" in runbook
    not_taken_over = SAME_FOLDERS.partition("    takeover: {folder: /srv/shop,")[0]
    assert "### 12. First release" in read_runbook(tmp_path, not_taken_over)


TWO_BRANCHES = """\
hosts: {vps: {}}
services: {web: {port: 8080}}
environments:
  staging:
    deploy_on: {push: develop}
    takeover: {workflows: [ci.yml, web-ci.yml], containers: {web: web-staging}}
  production:
    deploy_on: {push: main}
    takeover: {workflows: [ci.yml], containers: {web: web}}
"""


def test_an_old_workflow_ends_on_a_branch_with_the_pull_request_that_brings_the_new_ones(tmp_path: Path) -> None:
    """On the other branch it deploys on, so it is enabled again; so is one whose file the new pipeline has, too."""
    staging, production = generator.load_spec(write_spec(tmp_path, TWO_BRANCHES)).plan.takeovers
    assert staging.old_pipeline.removed == ("ci.yml",)
    assert staging.commands.merge == (
        "gh workflow enable ci.yml",
        "gh workflow enable web-ci.yml",
        "git push origin develop",
    )
    assert production.old_pipeline.removed == ("ci.yml",)
    assert production.commands.merge == ("git push origin main",)


def test_one_pull_request_ends_the_old_pipeline_of_all_environments_of_its_branch(tmp_path: Path) -> None:
    """A tag would start an old and a new workflow, so the old one is gone before the new one is there."""
    staging, production = generator.load_spec(write_spec(tmp_path, SAME_FOLDERS)).plan.takeovers
    assert staging.old_pipeline.removed == ("deploy.yml", "release.yml")
    assert not production.old_pipeline.comes_with_new
    runbook = read_runbook(tmp_path, SAME_FOLDERS)
    assert "only the new pipeline can deploy production: push no tag" in runbook


def test_environments_that_one_push_deploys_are_taken_over_one_at_a_time(tmp_path: Path) -> None:
    one_push = TWO_BRANCHES.replace("push: develop", "push: main")
    assert "**First change the spec**, because a push to `main` also deploys production." in read_runbook(
        tmp_path, one_push
    )
    assert "`deploy_on: {dispatch: true}` for production" in read_runbook(tmp_path, one_push)
    on_develop = TWO_BRANCHES.replace("push: main", "push: develop")
    assert "`deploy_on: {dispatch: true, branches: [develop]}` for production" in read_runbook(tmp_path, on_develop)
    changed = one_push.replace(
        "production:\n    deploy_on: {push: main}", "production:\n    deploy_on: {dispatch: true}"
    )
    assert changed != one_push
    assert "First change the spec" not in read_runbook(tmp_path, changed)


def test_a_second_container_of_an_accessory_can_be_undone(tmp_path: Path) -> None:
    body = """\
hosts: {vps: {}}
services: {web: {port: 8080}}
accessories: {cache: {image: "redis:7"}}
environments:
  production:
    deploy_on: {push: main}
    takeover: {containers: {cache: redis}}
"""
    commands = plan_only_takeover(tmp_path, body).commands
    assert commands.stop_accessories == ("ssh \"$VPS\" 'docker update --restart no redis && docker stop redis'",)
    assert commands.start_old == ("ssh \"$VPS\" 'docker update --restart unless-stopped redis && docker start redis'",)
    assert commands.stop_new == (
        "ssh \"$VPS\" 'docker update --restart no shop-cache-production && docker stop shop-cache-production'",
    )
    assert commands.remove_old == ("ssh \"$VPS\" 'docker rm redis'",)


def test_the_url_of_a_database_of_the_spec_is_not_asked_of_a_container_of_today(tmp_path: Path) -> None:
    body = """\
hosts: {vps: {}}
databases: {db: {host: vps, image: "postgres:16"}}
services: {web: {port: 8080, env: {TOKEN: {secret: true}, DATABASE_URL: {database: url}}}}
environments:
  production:
    deploy_on: {push: main}
    database: {}
    takeover: {containers: {web: web}}
"""
    (command,) = plan_only_takeover(tmp_path, body).commands.show_values
    assert "grep -E '^(TOKEN)='" in command


SAME_PROJECT = """\
hosts: {vps: {}}
services: {web: {port: 8080}, api: {port: 8081}, search: {port: 9200}}
environments:
  production:
    deploy_on: {push: main}
    stack: shop
    domains: {web: shop.example.com}
    containers: {web: shop-web}
    takeover: {project: shop, containers: {web: shop-web, api: shop-api-1}}
"""


def test_a_service_has_its_name_in_the_spec_unless_its_container_may_have_another_name_today(tmp_path: Path) -> None:
    (stack,) = generator.load_spec(write_spec(tmp_path, SAME_PROJECT)).plan.compose_stacks
    aliases = {
        instance.service: [alias for attachment in instance.aliased for alias in attachment.aliases]
        for instance in stack.instances
    }
    assert aliases == {"web": ["web"], "api": [], "search": []}
    assert "use a name of the spec (`api`) still go to the old containers" in read_runbook(tmp_path, SAME_PROJECT)


def test_no_command_has_a_name_to_fill_in_where_the_spec_has_it(tmp_path: Path) -> None:
    runbook = read_runbook(tmp_path, NONE.replace("{project", "{ports: old-edge-1, workflows: [a.yml], project"))
    first_deploy = runbook.partition("## Day by day")[0].partition("### 9. Take over")[2].partition("### 10.")[0]
    commands = re.findall(r"```bash\n(.*?)```", first_deploy, re.DOTALL)
    assert commands
    assert not [
        line for block in commands for line in block.splitlines() if re.search(r"\b(NAME|SERVICE|PROXY)\b", line)
    ]


OWN_WEB_SERVER = """\
hosts: {vps: {proxy: {kind: none}}}
services:
  front: {port: 80, ports: ["80:80"]}
accessories:
  nginx: {image: "nginx:1.27", port: 443, ports: ["443:443"]}
environments:
  production:
    deploy_on: {push: main}
    stack: shop
    containers: {front: shop_front, nginx: shop_nginx}
    takeover: {project: old, folder: /srv/old, ports: %s, containers: {front: shop_front, nginx: shop_nginx}}
"""


def test_an_accessory_that_has_the_ports_is_named_once(tmp_path: Path) -> None:
    takeover = plan_only_takeover(tmp_path, OWN_WEB_SERVER % "shop_nginx")
    assert takeover.staying == ("shop_nginx",)
    assert len(set(takeover.commands.connect)) == len(takeover.commands.connect)


def test_a_service_that_has_the_ports_does_not_stay(tmp_path: Path) -> None:
    runbook = read_runbook(tmp_path, OWN_WEB_SERVER % "shop_front")
    assert "`shop_front` stays on" not in runbook
    assert "network connect proxy shop_front" not in runbook
    assert "network connect --alias nginx shop_default shop_nginx" in runbook


def test_a_value_of_today_is_not_replaced_because_no_command_prints_it(tmp_path: Path) -> None:
    """Laravel reads a mounted `.env`: `docker inspect` prints nothing, and a new APP_KEY loses what is encrypted."""
    body = WORKER.replace("command: [./worker]", "env: {APP_KEY: {secret: true}}").replace(
        "takeover: {", "takeover: {folder: /srv/old, "
    )
    runbook = read_runbook(tmp_path, body)
    assert "Fill in each `change-me` and each empty value with the value of today" in runbook
    assert "`/srv/old`" in runbook.partition("### 2.")[2].partition("### 3.")[0]


ALONE = """\
hosts: {vps: {}}
services:
  web: {port: 8080}
  clock: {image_of: web, command: [./clock], rollout: %s, volumes: [%s]}
environments:
  production:
    deploy_on: {push: main}
    stack: shop
    volumes: {%s}
    takeover: {project: old, folder: /srv/old, containers: {web: web, clock: clock}}
"""


@pytest.mark.parametrize(
    ("rollout", "mount", "is_stopped"),
    [
        ("recreate", "'data:/data'", True),
        ("recreate", "'/srv/files:/data'", True),
        ("recreate", "'data:/data:ro'", False),
        ("recreate", "'cache:/data'", False),
        ("recreate", "'/var/run/docker.sock:/var/run/docker.sock'", False),
        ("start-first", "'data:/data'", False),
    ],
)
def test_what_must_not_run_twice_on_the_same_data_is_stopped_before_the_deploy(
    rollout: str, mount: str, is_stopped: bool, tmp_path: Path
) -> None:
    """The host program refuses the deploy while such a container runs, so no container runs beside it."""
    body = ALONE % (rollout, mount, "data: old_data" if "data:/" in mount else "")
    stop = "docker update --restart no clock && docker stop clock"
    takeover = plan_only_takeover(tmp_path, body)
    assert any(stop in line for line in takeover.commands.stop_first) is is_stopped
    assert any(stop in line for line in takeover.commands.stop_workers) is not is_stopped
    assert any("docker rm web clock" in line for line in takeover.commands.remove_old)
    runbook = read_runbook(tmp_path, body)
    before, _, after = runbook.partition("git push origin main\n")
    assert (stop in before) is is_stopped and (stop in after) is not is_stopped


def test_only_a_service_with_an_address_is_replaced_without_downtime_for_everybody(tmp_path: Path) -> None:
    """An old nginx on a network of today does not reach a new php-fpm on that of the new stack."""
    runbook = read_runbook(
        tmp_path,
        """\
hosts: {vps: {proxy: {kind: caddy}}}
services: {web: {port: 8080}, app: {port: 9000, health: {by: tcp}}}
environments:
  production:
    deploy_on: {push: main}
    containers: {web: web, app: app}
    domains: {web: shop.example.com}
    takeover: {project: old, folder: /srv/old, containers: {web: web, app: app}}
""",
    )
    assert "| web | `web` | the same | replaces the container without downtime |" in runbook
    outcome = "replaces the container without downtime for everything that is on a network of the new container"
    assert f"| app | `app` | the same | {outcome} |" in runbook


@pytest.mark.parametrize("folder", ["/srv/shop", "/srv/old"])
def test_a_folder_beside_the_compose_file_is_data_of_today_if_the_stack_stays_in_its_folder(
    folder: str, tmp_path: Path
) -> None:
    body = ALONE.replace("vps: {}", "vps: {directory: /srv}").replace("/srv/old", folder)
    takeover = plan_only_takeover(tmp_path, body % ("recreate", "'./jobs:/jobs'", ""))
    assert [container.today for container in takeover.stopped_by_hand] == (["clock"] if folder == "/srv/shop" else [])


@pytest.mark.parametrize(("ports", "is_named"), [(", ports: ['127.0.0.1:8080:8080']", True), ("", False)])
def test_a_container_with_another_name_may_publish_the_port_of_the_new_one(
    ports: str, is_named: bool, tmp_path: Path
) -> None:
    """The host program refuses a deploy while another container has the port: the two cannot run side by side."""
    runbook = read_runbook(tmp_path, ALONE.replace("port: 8080", f"port: 8080{ports}") % ("recreate", "'a:/a'", ""))
    [row] = [line for line in runbook.splitlines() if line.startswith("| web | `web` |")]
    assert ("or is refused if both publish the same port of the server" in row) is is_named


def test_going_back_to_the_old_files_removes_what_writes_to_the_data_of_today(tmp_path: Path) -> None:
    """`docker compose up` starts the old container again, which must not run beside the new one."""
    body = ALONE.replace("project: old", "project: shop") % ("recreate", "'/srv/files:/data'", "")
    takeover = plan_only_takeover(tmp_path, body)
    [clock] = takeover.stopped_by_hand
    commands = "\n".join(takeover.commands.restart_from_old_files)
    assert re.search(rf"docker rm -f [^|]*\b{clock.container}\b", commands.partition("docker compose up")[0])
    assert "docker update --restart unless-stopped clock" in commands.partition("docker compose up")[2]


@pytest.mark.parametrize(("kind", "is_changed"), [("custom", True), ("none", True), ("traefik", False)])
def test_a_proxy_leads_to_what_was_stopped_until_a_person_changes_it(
    kind: str, is_changed: bool, tmp_path: Path
) -> None:
    """The domain would answer nothing after the deploy, and the runbook said that everything was done."""
    runbook = read_runbook(
        tmp_path,
        f"""\
hosts: {{vps: {{proxy: {{kind: {kind}}}}}}}
services: {{web: {{port: 8080, ports: ['127.0.0.1:8081:8080'], rollout: recreate, volumes: ['/srv/data:/data']}}}}
environments:
  production:
    deploy_on: {{push: main}}
    domains: {{web: shop.example.com}}
    takeover: {{project: old, folder: /srv/old, containers: {{web: old-web}}}}
""",
    )
    target = "127.0.0.1:8081" if kind == "none" else "shop-web-production:8080"
    row = f"| `shop.example.com` | `old-web` | `{target}` |"
    _, _, after_push = runbook.partition("git push origin main\n")
    assert (row in after_push.partition("It worked: the run is green")[0]) is is_changed
    assert "nothing does its work until the proxy sends requests to the new one" in runbook
    assert ("**Do not change these domains yet**" in runbook) is (kind == "none")
