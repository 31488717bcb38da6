"""Each rule of policy.py finds the fault that is planted for it, and only that."""

import re
from pathlib import Path

import pytest

from kiwari_ci.github_facts.action_pins import DEFAULT_PINS
from tests import policy, shell
from tests.checkers import HERE

GOOD = HERE / "good.yml"
SHA = "3d3c42e5aac5ba805825da76410c181273ba90b1"
PERMISSIONS = "    permissions: {}\n    environment"
REPORT = "    if: always()\n    runs-on: ubuntu-24.04\n    timeout-minutes: 5\n    permissions: "
LONG = "printf x\n          " * 2500

# The rule, the text of good.yml that is taken out, and what comes instead.
FAULTS = [
    ("plain_yaml", "branches: [main]", "branches: &b [main]"),
    ("plain_yaml", "    name: build\n", "    name: >-\n      build\n"),
    ("plain_yaml", "    needs: build\n", "    <<: {needs: build}\n"),
    ("allowed_triggers", "  workflow_dispatch:", "  workflow_run:"),
    ("allowed_triggers", "  workflow_dispatch:", "  pull_request_target:"),
    ("tags_apart_from_paths", "branches: [main]", 'tags: ["v*"]'),
    ("tags_apart_from_paths", "    branches: [main]\n", ""),
    ("tags_apart_from_paths", "branches: [main]", 'branches: [main]\n    tags: ["v*"]'),
    ("live_filters", "- api/**", "- /api/**"),
    ("live_filters", "- api/**", "- ./api/**"),
    ("live_filters", "- api/**", "- api/"),
    ("live_filters", "- api/**", '- "{api,lib}/**"'),
    ("live_filters", "- api/**", '- "!lib/**"'),
    ("live_filters", '"!api/docs/**"', '"!api/**"'),
    ("live_filters", '"!api/docs/**"', '"!**"'),
    ("live_filters", "branches: [main]", "branches: [refs/heads/main]"),
    ("live_filters", "branches: [main]", "branches: []"),
    ("bash_by_default", "    shell: bash", "    shell: sh"),
    ("bash_by_default", "        id: build\n", "        id: build\n        shell: sh\n"),
    ("bash_by_default", "    needs: build\n", "    needs: build\n    defaults:\n      run:\n        shell: sh\n"),
    ("one_deploy_after_another", "cancel-in-progress: false", "cancel-in-progress: true"),
    ("one_deploy_after_another", "    needs: build\n", "    needs: build\n    concurrency: deploy\n"),
    ("jobs_are_bounded", "    name: deploy\n", ""),
    ("jobs_are_bounded", "    timeout-minutes: 20\n    permissions: {}\n", "    permissions: {}\n"),
    ("jobs_are_bounded", "    permissions:\n      contents: read\n      packages: write # push the image\n", ""),
    ("least_permissions", "permissions: {}\n\nconcurrency", "permissions:\n  contents: read\n\nconcurrency"),
    ("least_permissions", "permissions: {}\n\nconcurrency", "concurrency"),
    ("least_permissions", " # push the image", ""),
    ("least_permissions", "\n      contents: read\n      packages: write #", " read-all #"),
    ("nothing_is_forgiven", "    needs: build\n", "    needs: build\n    continue-on-error: true\n"),
    ("nothing_is_forgiven", "        id: build\n", "        id: build\n        continue-on-error: true\n"),
    ("nothing_is_forgiven", "if: github.ref == 'refs/heads/main'", "if: always()"),
    ("nothing_is_forgiven", f"{REPORT}{{}}\n", f"{REPORT}\n      contents: read\n"),
    ("reports_on_every_job", "      - deploy\n", ""),
    ("reports_on_every_job", "${{ needs.deploy.result }}", "success"),
    ("bare_if", "if: github.ref == 'refs/heads/main'", "if: ${{ github.ref == 'refs/heads/main' }}"),
    ("pinned_actions", f"{SHA} # v7.0.1", "v7.0.1"),
    ("pinned_actions", f"{SHA} # v7.0.1", SHA),
    ("pinned_actions", SHA, "55cc8345863c7cc4c66a329aec7e433d2d1c52a9"),
    ("pinned_actions", "# v7.0.1", "# v7.0.0"),
    ("pinned_actions", "# v7.0.1", "# v7"),
    ("pinned_actions", "# v7.0.1", " # v7.0.1"),
    ("pinned_actions", f"actions/checkout@{SHA} # v7.0.1", "./checkout"),
    ("checkout_keeps_no_token", "          persist-credentials: false\n", "          fetch-depth: 1\n"),
    ("checkout_keeps_no_token", "persist-credentials: false", "persist-credentials: true"),
    ("plain_ssh", "docker/login-action@", "appleboy/ssh-action@"),
    ("publishes_from_clean", "          cache: false\n", ""),
    ("publishes_from_clean", "actions/setup-go@", "actions/cache@"),
    ("publishes_from_clean", DEFAULT_PINS["actions/setup-go"].line, DEFAULT_PINS["astral-sh/setup-uv"].line),
    ("publishes_from_clean", "          cache: false", "          cache: true"),
    ("no_expression_in_run", '"$TITLE"', '"${{ github.ref_name }}"'),
    ("no_expression_in_run", "          printf 'building", f"          {LONG}printf 'building"),
    ("secrets_in_one_place", "secrets.GITHUB_TOKEN", "secrets.GHCR_TOKEN"),
    ("secrets_in_one_place", "github.event.head_commit.message", "secrets.GHCR_TOKEN"),
    ("secrets_in_one_place", "github.event.head_commit.message", "toJSON(secrets)"),
    ("secrets_in_one_place", "    environment:\n      name: staging\n", ""),
    ("secrets_in_one_place", "secrets.GHCR_TOKEN", "secrets['GHCR_TOKEN']"),
    ("secrets_in_one_place", "if: github.ref == 'refs/heads/main'", "if: secrets.GHCR_TOKEN"),
    ("secrets_in_one_place", "    needs: build\n", "    env:\n      TOKEN: ${{ github.token }}\n"),
    ("secrets_in_one_place", "    needs: build\n", "    needs: build\n    secrets: inherit\n"),
    ("no_secret_in_argv", 'api "$DIGEST"', 'api "$DIGEST" "$TOKEN"'),
    ("no_secret_in_argv", "config vps deploy", 'config "deploy@$VPS_HOST" deploy'),
    ("no_secret_in_argv", "          umask 077", '          umask 077\n          x=$TOKEN\n          curl -u "$x" y'),
    ("key_files_are_private", "          umask 077\n", ""),
    ("key_files_are_private", "          trap 'rm -f key known_hosts config' EXIT\n", ""),
    ("known_hosts_only", "StrictHostKeyChecking yes", "StrictHostKeyChecking accept-new"),
    ("known_hosts_only", "            BatchMode yes\n", ""),
    ("known_hosts_only", "            UserKnownHostsFile known_hosts\n", ""),
    ("known_hosts_only", "          umask 077\n", "          umask 077\n          ssh-keyscan vps >known_hosts\n"),
    ("keys_without_scopes", PERMISSIONS, "    permissions:\n      contents: write # why\n    environment"),
    ("keys_without_scopes", PERMISSIONS, "    permissions:\n      packages: write # why\n    environment"),
]


def test_good_workflow_has_no_finding() -> None:
    assert policy.check(GOOD) == []


@pytest.mark.parametrize(("name", "old", "new"), FAULTS, ids=[f"{name}-{i}" for i, (name, *_) in enumerate(FAULTS)])
def test_rule_finds_what_is_planted(tmp_path: Path, name: str, old: str, new: str) -> None:
    faulty = tmp_path / "faulty.yml"
    before, separator, after = GOOD.read_text().partition(old)
    assert separator, "good.yml no longer holds the text that the fault replaces"
    faulty.write_text(before + new + after)
    assert {re.sub(r".*\[(\w+)\]$", r"\1", finding) for finding in policy.check(faulty)} == {name}


def test_every_rule_has_a_fault() -> None:
    assert {rule.__name__ for rule in policy.RULES} == {name for name, *_ in FAULTS}


def test_finding_points_at_the_line(tmp_path: Path) -> None:
    faulty = tmp_path / "faulty.yml"
    faulty.write_text(GOOD.read_text().replace("- api/**", "- api/"))
    assert policy.check(faulty) == [f"{faulty}:8: `api/` matches nothing [live_filters]"]


@pytest.mark.parametrize(
    "body",
    [
        'printf "%s" "$S" | docker login --password-stdin',
        '[[ -n $S ]] || { echo "::error::no secret"; exit 1; }',
        '[ -n "${S:-}" ]',
        ': "${S:?unset}"',
        'docker login --password-stdin <<<"$S"',
        "ssh host <<EOF\n$S\nEOF",
        "S=$S make",
        'curl --config <(printf "header = %s" "$S") example.com',
        'case $S in "") exit 1 ;; esac',
        'echo "$SAFE" | tee copy; ssh host "$SAFE"',
    ],
)
def test_shell_keeps_the_secret(body: str) -> None:
    assert shell.secrets_in_argv(body, {"S"}) == []


@pytest.mark.parametrize(
    "body",
    [
        'curl -H "Authorization: $S" example.com',
        'ssh host deploy "${S%x}"',
        'x=$(curl -u "$S" example.com)',
        'ssh host "$(printf %s "$S")"',
        'a=x$S; b=$a; ssh host "$b"',
        'deploy() { ssh host "$1"; }; deploy "$S"',
        'eval "echo $S"',
        "if ! ssh host $S; then exit 1; fi",
        'printf x | ssh host "$S" <<<"$S"',
        'env T="$S" ssh host',
        'name=S; ssh host "${!name}"',
    ],
)
def test_shell_lets_the_secret_out(body: str) -> None:
    assert len(shell.secrets_in_argv(body, {"S"})) == 1
