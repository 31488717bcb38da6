"""The search of all schedules: ours holds, the literal design does not, and each rule is missed when it is gone."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.rehearsal.schedules import ALL, API, BROKEN_BY_LITERAL, LITERAL, OURS, SEEN, counter_examples
from tests.rehearsal.schedules.drawn import Design, Flow, Job, Unreadable, read
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

WHY = "for each commit: GitHub keeps one waiting run"
GROUP = f"  group: api-ci-${{{{ github.ref }}}}-${{{{ github.sha }}}} # {WHY}\n  cancel-in-progress: false"

# A line of the files that is another, and the promises that this breaks.
MUTANTS = {
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
    "a queue for each branch that cancels": (CI, GROUP, "  group: api-ci\n  cancel-in-progress: true", TWO, {LOST}),
    "a queue for the deploy": (
        CI,
        "    needs: build-and-push\n",
        "    needs: build-and-push\n    concurrency: deploy-staging\n",
        THREE,
        {LOST},
    ),
    "a filter that misses .dockerignore": (CI, "      - .dockerignore # shapes the image, too\n", "", IGNORED, {LOST}),
}
UNKNOWN = {
    "another condition": (CI, "if: github.ref == 'refs/heads/main'", "if: github.actor == 'me'"),
    "another order of jobs": (CI, "    needs: build-and-push\n", "    needs: test\n"),
    "another trigger": (CI, "  workflow_dispatch:\n", "  repository_dispatch:\n"),
    "another step": (CI, "      - name: Name the source\n", "      - name: Push everything\n"),
    "another step that may be skipped": (CI, "        id: deploy\n", "        id: deploy\n        if: github.actor\n"),
    "a deploy that may fail": (CI, "        id: deploy\n", "        id: deploy\n        continue-on-error: true\n"),
    "a deploy of something else": (CI, "needs.build-and-push.outputs.digest", "github.sha"),
    "another number of the commit": (CI, "needs.build-and-push.outputs.sequence", "github.run_number"),
    "the files of another stack": (CI, "            deploy/pos-staging\n", "            deploy/pos-production\n"),
    "another name of the source": (CI, "steps.source.outputs.key", "steps.source.outputs.sequence"),
    "another queue": (CI, "api-ci-${{ github.ref }}", "api-ci-${{ inputs.name }}"),
}


def without(**rules: Any) -> Design:
    """Ours, on a host that does not keep one of its rules."""
    ours = read(OURS)
    return replace(ours, host=replace(ours.host, **rules))


def with_another_promotion(change: Callable[[Flow], Flow]) -> Design:
    ours = read(OURS)
    return replace(ours, flows=tuple(change(flow) if flow.tags else flow for flow in ours.flows))


def finding(**what: Any) -> Design:
    """Ours, with a promotion that looks for other images."""

    def changed(job: Job) -> Job:
        return replace(job, ops=tuple(replace(op, **what) if op.kind == "find" else op for op in job.ops))

    return with_another_promotion(lambda flow: replace(flow, jobs=tuple(map(changed, flow.jobs))))


# A rule of the host or of a step that is gone, and the promises that this breaks.
DESIGNS = {
    "no lock": (without(lock=False), TWO, {ALONE, RIGHT, NEWEST}),
    "no sequence rule": (without(superseded=""), TWO, {RIGHT, NEWEST}),
    "production takes what staging never served": (without(only_served=False), TAG, {TAGGED}),
    "promotion of what :staging is": (finding(tag="staging", paths=()), TAG, {TAGGED}),
    "a tag beside main": (
        with_another_promotion(lambda flow: replace(flow, main_only_tags=False)),
        BESIDE,
        {RIGHT, NEWEST},
    ),
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
    examples = counter_examples(LITERAL)
    assert {*examples} == BROKEN_BY_LITERAL
    assert all(says[-1].startswith("So: ") and len(says) <= 12 for says in examples.values())


@pytest.mark.parametrize("name", MUTANTS)
def test_a_rule_that_is_gone_is_missed(name: str, tmp_path: Path) -> None:
    file, old, new, bounds, expected = MUTANTS[name]
    assert {*Search(read(changed(tmp_path, file, old, new)), bounds).broken} >= expected


@pytest.mark.parametrize(("design", "bounds", "expected"), DESIGNS.values(), ids=DESIGNS)
def test_a_rule_of_the_host_or_of_a_step_that_is_gone_is_missed(
    design: Design, bounds: Bounds, expected: set[str]
) -> None:
    assert {*Search(design, bounds).broken} >= expected


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(Unreadable):
        read(changed(tmp_path, *UNKNOWN[name])) and Search(read(tmp_path), TWO)


def test_a_promotion_that_looks_for_another_key_never_ends_green() -> None:
    assert ("tag", GREEN) not in Search(finding(paths=("api/", "docker/Dockerfile.api")), TAG).ends
