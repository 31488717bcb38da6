"""`preview` and `trace`, on real git repositories; the hosts' facts and the registry's digests are told."""

import json
import os
from pathlib import Path

import pytest

from kiwari_ci import generator
from kiwari_ci.commands import trace
from kiwari_ci.commands.preview import release_preview, report
from kiwari_ci.remote_checks import deploy_records
from kiwari_ci.remote_checks.deploy_records import RegistryDigest
from kiwari_ci.remote_checks.runbook_index import RunbookIndex
from kiwari_ci.remote_checks.ssh_host import HostFacts
from tests.cli_runner import kiwari_ci
from tests.repository import Repository

SPEC = Path(__file__).parents[1] / "specs/kiwari.yaml"
ROUTES = Path(__file__).parent / "cases/ok/routes-caddy/spec.yaml"
PLAN = generator.load_spec(SPEC).plan
API, ADMIN = (image.source for workflow in PLAN.workflows for image in workflow.images)


@pytest.fixture
def released(tmp_path: Path) -> Repository:
    """v1.9.0 and v1.10.0, then a commit to the API with a migration."""
    repository = Repository(tmp_path / "repository")
    repository.commit("start", api__main="1", admin__page="1")
    repository.git("tag", "v1.9.0")
    repository.commit("two", admin__page="2", api__migrations__1="a")
    repository.git("tag", "v1.10.0")
    repository.commit("feat: three", api__main="3", api__migrations__2="b")
    return repository


def digest(letter: str) -> str:
    return f"sha256:{letter * 64}"


def line(letter: str, number: int, run: str = "77", name: str = "kiwari-api") -> str:
    """A line of a host's record."""
    return f"ghcr.io/iqbalmuhyiddin/{name}@{digest(letter)} {number} 2026-01-0{number}T10:00:00Z {run}"


def host_facts(**records: list[str]) -> HostFacts:
    """What a host says: of each container (`_` is a dash) its record; all env keys are there but JWT_SECRET."""
    lines: list[tuple[str, ...]] = []
    for name, rows in records.items():
        container = name.replace("_", "-")
        stack = next(
            candidate
            for candidate in PLAN.compose_stacks
            if container in [instance.container for instance in candidate.instances]
        )
        lines += [("served", stack.name, container, row) for row in rows]
    lines.append(("env", "pos-production/.env", "600"))
    keys = ("DATABASE_URL", "API_URL", "ORIGIN")
    return HostFacts((*lines, *(("key", "pos-production/.env", key, "") for key in keys)))


def preview_sources(seen: HostFacts, digests: dict[str, str] | None = None) -> release_preview.PreviewSources:
    """A registry that has these digests (None: it is silent), and a host that says this."""

    def registry(tags: list[str]) -> dict[str, RegistryDigest]:
        if digests is None:
            return {tag: RegistryDigest(why="no such host") for tag in tags}
        return {tag: RegistryDigest(digests.get(tag.rpartition("/")[2], "")) for tag in tags}

    return release_preview.PreviewSources(registry, {"vps": seen}, RunbookIndex(PLAN.runbook, {}))


def preview_as_text(repository: Repository, name: str, world: release_preview.PreviewSources) -> str:
    """What `preview` says, as text."""
    return report.format_sections(
        name, release_preview.preview_release(PLAN, PLAN.promotions[0], name, repository.read(), world)
    )


def trace_as_text(
    repository: Repository, world: release_preview.PreviewSources, address: str = "https://api.nasibakarkiwari.com/x?y"
) -> str:
    """What `trace` says, as text."""
    place = trace.find_container_by_address(PLAN, address)
    assert place
    return report.format_sections(address, trace.trace_container(PLAN, place, repository.read(), world))


def test_the_key_is_the_one_that_the_workflows_make(released: Repository) -> None:
    released.commit("odd", **{"api__café \t x": "1", "docker__Dockerfile.api": "FROM x"})
    words = " ".join(API.pathspecs)
    expected = "src-" + released.sh(f"git ls-files -s -- {words} | sha256sum | cut -c1-64")
    released.git("config", "core.quotePath", "false")
    assert released.read().key("HEAD", API.pathspecs) == expected
    released.commit("later", api__main="4")
    assert released.read().key("HEAD~1", API.pathspecs) == expected != released.read().key("HEAD", API.pathspecs)
    assert released.git("status", "--porcelain") == ""


def test_what_a_tag_would_do(released: Repository) -> None:
    git = released.read()
    keys = [git.key("HEAD", source.pathspecs) for source in (API, ADMIN)]
    admin = [line("c", 2, name="kiwari-admin")]
    api = [line("a", 2), line("b", 3, "88")]
    world = preview_sources(
        host_facts(pos_api_staging=api, pos_admin_staging=admin, pos_api=api[:1], pos_admin=admin),
        {f"kiwari-api:{keys[0]}": digest("b"), f"kiwari-admin:{keys[1]}": digest("c")},
    )
    text = preview_as_text(released, "v1.11.0", world)
    assert "is not there yet: judged as if it were put on HEAD" in text and "1 since v1.10.0" in text
    assert "feat: three" in text and f"→ {keys[0]}, by " in text
    assert f"source {keys[1]}, as in v1.10.0: the same image" in text
    assert "staging proved it: served since 2026-01-03T10:00:00Z, run 88; serves it" in text
    assert "production runs sha256:cccccccccccc since 2026-01-02T10:00:00Z, commit number 2, the same image" in text
    assert "1 new since what production runs" in text and "api/migrations/2" in text and "migrations/1" not in text
    assert "! pos-production/.env: missing: JWT_SECRET" in text and text.endswith("1 would stop it (!)")


def test_a_version_that_is_older_than_the_one_that_serves(tmp_path: Path) -> None:
    """Where a tag may be on several branches, the number in the record is that of the version."""
    plan = generator.load_spec(Path(__file__).parent / "cases/ok/tag-branches/spec.yaml").plan
    clone = Repository(tmp_path / "repository")
    clone.commit("first", web__page="1")
    clone.git("branch", "release/1.4")
    clone.commit("second", web__page="2")
    clone.git("tag", "v1.5.0")
    clone.git("checkout", "-q", "release/1.4")
    clone.commit("hotfix", web__page="3")
    row = f"ghcr.io/example/shop-web@{digest('a')} 1005000 2026-01-01T10:00:00Z 77"
    world = preview_sources(HostFacts((("served", "shop-production", "shop-web-production", row),)))
    finals = plan.promotions[1]
    text = report.format_sections("", release_preview.preview_release(plan, finals, "v1.4.1", clone.read(), world))
    assert "! v1.5.0 serves, which is newer: the deploy of v1.4.1 changes nothing" in text
    assert "it is not on" not in text
    clone.git("checkout", "-q", "-b", "feature")
    clone.commit("not merged")
    text = report.format_sections("", release_preview.preview_release(plan, finals, "v1.6.0", clone.read(), world))
    assert "! it is not on main or release/*: merge it first" in text and "which is newer" not in text
    place = trace.find_container_by_address(plan, "shop-web-production")
    assert place
    text = report.format_sections("", trace.trace_container(plan, place, clone.read(), world))
    assert "version v1.5.0: " in text and "second" in text


def test_what_stops_a_tag(released: Repository) -> None:
    key = released.read().key("HEAD", API.pathspecs)
    known = {f"kiwari-api:{key}": digest("b"), "kiwari-api:v1.11": digest("e")}
    released.git("checkout", "-q", "-b", "topic")
    released.commit("not merged")
    text = preview_as_text(released, "v1.11", preview_sources(host_facts(pos_api_staging=[line("a", 2)]), known))
    assert "! v1.11 is not vMAJOR.MINOR.PATCH" in text and "! it is not on main" in text
    assert "! staging never served sha256:bbbbbbbbbbbb" in text and "exists already as another image" in text
    assert "! admin-ci built no image from this source" in text and "! staging never served this service" in text


def test_each_part_works_when_the_others_are_silent(released: Repository, tmp_path: Path) -> None:
    text = preview_as_text(released, "v1.11.0", preview_sources(HostFacts(why="ssh: no route")))
    assert "1 since v1.10.0" in text and "? image: the registry: no such host" in text
    assert "? production: vps: ssh: no route" in text and "1 new since v1.10.0" in text
    nowhere = Repository(tmp_path / "empty")
    text = preview_as_text(nowhere, "v1.11.0", preview_sources(host_facts(pos_api_staging=[line("a", 2)])))
    assert "? HEAD is no commit" in text and "staging serves sha256:aaaaaaaaaaaa" in text
    nowhere.commit("other", other="x")
    assert "! its paths match no file" in preview_as_text(nowhere, "v1.0.0", preview_sources(host_facts(), {}))


def test_an_address_leads_to_its_commit(released: Repository) -> None:
    git = released.read()
    commit = git.commit("HEAD~1")
    key = git.key(commit, API.pathspecs)
    world = preview_sources(
        host_facts(pos_api=[line("d", 1), line("a", 2, "4242")]), {f"kiwari-api:{key}": digest("a")}
    )
    text = trace_as_text(released, world)
    assert "→ pos-api, production on vps" in text and f"kiwari-api@{digest('a')}" in text
    assert "https://github.com/iqbalmuhyiddin/kiwari-monorepo/actions/runs/4242" in text
    assert f"commit number 2: {commit[:7]}" in text and "two (v1.10.0)" in text
    assert f"{key}, as the registry has it: the image of exactly these files, if nobody else pushed that tag" in text
    assert "not in it: 1" in text and "feat: three" in text
    assert "sha256:dddddddddddd 2026-01-01T10:00:00Z, commit number 1, run 77" in text


@pytest.mark.parametrize(
    ("address", "service"),
    [
        ("https://shop.example.com", "web"),
        ("shop.example.com/apis", "web"),
        ("https://shop.example.com/api/users", "api"),
        ("shop.example.com/api/docs.v1", "docs"),
        ("shop-web-production", "web"),
    ],
)
def test_the_longest_path_of_a_domain_is_traced(address: str, service: str) -> None:
    plan = generator.load_spec(ROUTES).plan
    place = trace.find_container_by_address(plan, address)
    assert place is not None
    assert place[2].service == service


def test_an_address_that_leads_nowhere_is_not_traced() -> None:
    plan = generator.load_spec(ROUTES).plan
    assert trace.find_container_by_address(plan, "https://intern.example.com/") is None


def test_a_rollback_is_traced_to_the_deploy_that_it_went_back_to(released: Repository) -> None:
    rows = [line("d", 1), line("a", 3), line("d", 3, "rollback")]
    text = trace_as_text(released, preview_sources(host_facts(pos_api=rows)), "pos-api")
    assert "by hand, a rollback" in text and "commit number 1:" in text and "start" in text
    assert "does not say its commit" in trace_as_text(released, preview_sources(host_facts(pos_api=rows[2:])))


def test_what_a_trace_cannot_know(released: Repository) -> None:
    assert "? vps: ssh: gone" in trace_as_text(released, preview_sources(HostFacts(why="ssh: gone")))
    assert "nothing was deployed yet" in trace_as_text(released, preview_sources(host_facts()))
    assert "commit number 9 is neither on main nor in its tags" in trace_as_text(
        released, preview_sources(host_facts(pos_api=[line("a", 9)]))
    )
    for address in ("", "https://", "example.com", "http://[::1", "https://api.nasibakarkiwari.com.evil.example"):
        assert trace.find_container_by_address(PLAN, address) is None


def test_a_merge_counts_as_its_branch_does(released: Repository) -> None:
    released.git("checkout", "-q", "-b", "topic", "HEAD~1")
    released.commit("a")
    released.commit("b")
    released.git("checkout", "-q", "main")
    released.git("merge", "-q", "--no-ff", "-m", "merge", "topic")
    git = released.read()
    for name in git.ask("rev-list", "--first-parent", "HEAD").split():
        assert git.at_number(git.count(name), "HEAD") == name
    assert git.at_number(5, "HEAD") == ""  # inside the branch


def program(folder: Path, name: str, script: str) -> None:
    """A stand-in, first in the path."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/bash\n{script}\n")
    (folder / name).chmod(0o755)


def test_the_commands_ask_by_ssh_and_docker(
    released: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = "\\t".join(("served", "pos-production", "pos-api", line("a", 2)))
    program(tmp_path / "bin", "ssh", f"cat >/dev/null; printf 'begin\\n{row}\\nend\\n'")
    program(tmp_path / "bin", "docker", 'echo "ERROR: $5: not found" >&2; exit 1')
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    planning = kiwari_ci("preview", "v2.0.0", SPEC, "--repo", released.folder)
    assert planning.code == 1 and "! api-ci built no image" in planning.out
    assert "production runs sha256:aaaaaaaaaaaa" in planning.out
    tracing = kiwari_ci("trace", "api.nasibakarkiwari.com", SPEC, "--repo", released.folder, "--format", "json")
    assert tracing.code == 0 and "two" in tracing.out and json.loads(tracing.out)["sections"][0]["title"] == "place"
    assert kiwari_ci("preview", "x", SPEC).code == kiwari_ci("trace", "x", SPEC).code == 2
    assert "no host other" in kiwari_ci("trace", "pos-api", SPEC, "--ssh", "other=a@b").err
    assert "\x1b" not in kiwari_ci("trace", "pos-api", SPEC, "--ssh", "\x1b[2J=a@b").err


def test_a_deploy_key_may_ask_for_the_status_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (f"bin/deploy 1.0 sha256:{'0' * 64}", "pos-production/.deploys/pos-api: x", f"  pinned: {line('a', 2)}")
    answer = " ".join(f"'{row}'" for row in lines)
    program(tmp_path / "bin", "ssh", f"""
case ${{@: -1}} in
  -s) cat >/dev/null; echo 'deploy: this is none of the requests that the head of bin/deploy lists' >&2; exit 64 ;;
  *pos-production) printf '%s\\n' {answer} ;;
esac""")  # fmt: skip
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    seen = deploy_records.query_hosts(PLAN.hosts, deploy_records.WaysToHosts())["vps"]
    assert [
        record.digest for record in deploy_records.parse_deploy_records(seen, PLAN.compose_stacks[1], "pos-api")
    ] == [digest("a")]
    output = preview_as_text(Repository(tmp_path / "empty"), "v1.0.0", preview_sources(seen))
    assert "env files\n  ? vps: ssh used the deploy key, which may ask for the status only" in output
