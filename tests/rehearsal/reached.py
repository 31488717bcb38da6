"""Environments that tags build and reach, candidates apart from finals, and a person who goes back: a run each."""

import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

from kiwari_ci import generator
from kiwari_ci.file_output import generated_files
from tests.engine.server import GENERATED, throw_away
from tests.notices import SUPERSEDED
from tests.rehearsal.github import Run
from tests.rehearsal.on_trial import act
from tests.rehearsal.world import PORTS, World, done

CHANGES = {
    "    deploy_on: {push: main}": '    deploy_on: {tag: "v*-rc.*"}',
    '    deploy_on: {tag: "v*"}': '    deploy_on: {tag: "v*", dispatch: true}',
}


def run(quick: bool, say: Callable[[str], None]) -> bool:
    """The whole story; the first thing that is not so ends it."""
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder, "kiwari.yaml")
        text = (GENERATED.parent / "specs/kiwari.yaml").read_text()
        for old, new in CHANGES.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        spec.write_text(text)
        output_folder = Path(folder, "tree")
        plan, files = generator.generate_files(spec)
        generated_files.write_files(output_folder, files, plan.project)
        with throw_away(output_folder, "6g") as server:
            try:
                story(World(server, "ours", act()), say)
            except AssertionError:
                say(traceback.format_exc())
                return False
    return True


def story(world: World, say: Callable[[str], None]) -> None:
    """One after the other, each on what is there then."""
    one = world.commit("api", "admin")
    assert world.push() == [], "a push of the branch starts something"
    only(world.tag("v1.0.0-rc.1"), "release")
    serves(world, "staging", one)
    say("a candidate's tag builds, and reaches staging alone")
    (run,) = only(world.tag("v1.0.0"), "promote")
    serves(world, "production", one)
    say("a final tag promotes what the candidate built")
    (run,) = only(world.tag("v1.0.1-rc.1"), "release")
    assert run.log.count("Success - Main Build and push") == len(PORTS), run.tail
    say("a tag builds its images itself, also from a source that has an image")
    two = world.commit("api")
    world.push()
    only(world.tag("v1.1.0-rc.1"), "release")
    only(world.tag("v1.1.0"), "promote")
    serves(world, "production", two)
    back = world.github.dispatch("promote", "refs/tags/v1.0.0")
    done([back])
    serves(world, "production", one)
    say("a person puts an older version back")
    done([world.github.dispatch("promote", "refs/tags/v1.1.0")])
    serves(world, "production", two)
    say("and the newest again")
    again = world.github.again(back)
    done([again])
    assert SUPERSEDED in again.log, again.tail
    serves(world, "production", two)
    say("a run that is run again puts nothing back")
    wrong = world.github.dispatch("promote", "refs/heads/main").wait()
    assert not wrong.green and "main is not vMAJOR.MINOR.PATCH" in wrong.log, wrong.tail
    say("a branch is no version")
    world.server.docker("stop", "pos-api")
    refused = world.github.dispatch("promote", "refs/tags/v1.0.0").wait()
    assert not refused.green and "and does not serve now. Deploy the newest commit again, or go back:" in refused.log
    say("when what is pinned does not answer, the run names the command that goes back")


def only(runs: list[Run], workflow: str) -> list[Run]:
    """One workflow runs, and is green."""
    assert [run.workflow for run in runs] == [workflow], [run.workflow for run in runs]
    return done(runs)


def serves(world: World, environment: str, commit: str) -> None:
    """What people get is what a commit makes the services answer."""
    for service, version in world.versions[commit].items():
        assert world.serving((environment, service)) == version, (environment, service, version)
