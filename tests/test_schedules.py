"""The search of all schedules: ours holds, the literal design does not, and each rule is missed when it is gone."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.rehearsal.schedules import ALL, API, BROKEN_BY_LITERAL, LITERAL, OURS, SEEN, counter_examples
from tests.rehearsal.schedules.drawn import PROMISED, Unreadable, read
from tests.rehearsal.schedules.promises import ALONE, LOST, NEWEST, RIGHT, TAGGED
from tests.rehearsal.schedules.queues import GREEN
from tests.rehearsal.schedules.search import Search
from tests.rehearsal.schedules.world import Bounds

CI, PROMOTE = ".github/workflows/api-ci.yml", ".github/workflows/promote.yml"
PRODUCTION = "deploy/pos-production/docker-compose.yml"

TWO = Bounds((API, API), cancels=1)
THREE = Bounds((API, API, API), cancels=1)
TAG = Bounds((API, API), tags=(1,), cancels=1)
BESIDE = Bounds((API, API), tags=(-1, 2))
IGNORED = Bounds((API, ALL), tags=(1,))
BAD = Bounds((API, API), tags=(2,), bad=("api", 2), cancels=1)
AGAIN = Bounds((API,), other_branch=(1, 1))
TAGS = Bounds((API, API), tags=(1, 2, 1))
SMALL = [TWO, THREE, TAG, BESIDE, IGNORED, BAD, AGAIN, TAGS]

GROUP = '{group: "api-ci-${{ github.ref }}-${{ github.sha }}", cancel-in-progress: false}'
ANCESTRY = "git merge-base --is-ancestor HEAD origin/main || fail"

HOSTS = {
    "no lock": (replace(PROMISED, lock=False), TWO, {ALONE, RIGHT, NEWEST}),
    "no sequence rule": (replace(PROMISED, refuses_older=False), TWO, {RIGHT, NEWEST}),
    "production takes what staging never served": (replace(PROMISED, only_served=False), TAG, {TAGGED}),
}
CHANGES = {
    "production does not say where images come from": (
        PRODUCTION,
        "      deploy.from: ",
        "      from: ",
        TAG,
        {TAGGED},
    ),
    "a queue for each branch": (
        CI,
        "api-ci-${{ github.ref }}-${{ github.sha }}",
        "api-ci-${{ github.ref }}",
        THREE,
        {LOST},
    ),
    "a queue for each commit, whatever the branch": (CI, "-${{ github.ref }}", "", AGAIN, {LOST}),
    "one queue for all tags": (PROMOTE, "-${{ github.ref }}", "", TAGS, {LOST}),
    "a queue for each branch that cancels": (CI, GROUP, "{group: api-ci, cancel-in-progress: true}", TWO, {LOST}),
    "a queue for the deploy": (
        CI,
        "    needs: build-and-push\n",
        "    needs: build-and-push\n    concurrency: deploy-staging\n",
        THREE,
        {LOST},
    ),
    "promotion of what :staging is": (
        PROMOTE,
        'found=$(digest "$3:$key")',
        'found=$(digest "$3:staging")',
        TAG,
        {TAGGED},
    ),
    "a tag beside main": (PROMOTE, ANCESTRY, "true || fail", BESIDE, {RIGHT, NEWEST}),
    "a filter that misses .dockerignore": (CI, "      - .dockerignore # shapes the image, too\n", "", IGNORED, {LOST}),
}
UNKNOWN = {
    "another condition": (CI, "if: github.ref == 'refs/heads/main'", "if: github.actor == 'me'"),
    "another order of jobs": (CI, "    needs: build-and-push\n", "    needs: test\n"),
    "another trigger": (CI, "  workflow_dispatch:\n", "  repository_dispatch:\n"),
    "another step": (CI, "          go test ./...", "          docker push everything"),
    "another way to count": (CI, "git rev-list --count HEAD", "date +%s"),
    "another queue": (CI, "api-ci-${{ github.ref }}", "api-ci-${{ inputs.name }}"),
    "an answer that nobody waits for": (CI, "[[ $verdict =~ ^(SERVING|SUPERSEDED)$ ]] ||", "true ||"),
}


def changed(folder: Path, file: str, old: str, new: str) -> Path:
    """A copy of ours with one change."""
    shutil.copytree(OURS, folder, dirs_exist_ok=True)
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))
    return folder


@pytest.mark.parametrize("bounds", SMALL, ids=str)
def test_ours_holds(bounds: Bounds) -> None:
    assert Search(read(OURS), bounds).broken == {}


def test_the_search_comes_across_every_end() -> None:
    ours = read(OURS)
    assert Search(ours, TAG).ends | Search(ours, BAD).ends >= SEEN


def test_the_literal_design_breaks_as_recorded() -> None:
    found = counter_examples(LITERAL)
    assert {*found} == BROKEN_BY_LITERAL
    assert all(says[-1].startswith("So: ") and len(says) <= 12 for says in found.values())


@pytest.mark.parametrize("name", HOSTS)
def test_a_rule_that_the_host_lacks_is_missed(name: str) -> None:
    host, bounds, expected = HOSTS[name]
    assert {*Search(replace(read(OURS), host=host), bounds).broken} >= expected


@pytest.mark.parametrize("name", CHANGES)
def test_a_rule_that_is_gone_is_missed(name: str, tmp_path: Path) -> None:
    file, old, new, bounds, expected = CHANGES[name]
    assert {*Search(read(changed(tmp_path, file, old, new)), bounds).broken} >= expected


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(Unreadable):
        read(changed(tmp_path, *UNKNOWN[name])) and Search(read(tmp_path), TWO)


def test_a_promotion_that_looks_for_another_key_never_ends_green(tmp_path: Path) -> None:
    tree = changed(tmp_path, PROMOTE, "api/ docker/Dockerfile.api .dockerignore", "api/ docker/Dockerfile.api")
    assert ("tag", GREEN) not in Search(read(tree), TAG).ends
