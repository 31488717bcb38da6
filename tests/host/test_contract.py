"""The stand-in for Docker does what a real engine has done: tests/engine/test_contract.py wrote it down."""

import dataclasses
from pathlib import Path

import pytest

from tests.contract import EXPECTED, NETWORK, SCRIPTS, STACK, Bench, transcript
from tests.host.fake_docker import TOKEN, FakeMachine, Image


class FakeBench(Bench):
    """A script's server is the stand-in."""

    machine: FakeMachine

    def run_by_hand(self, name: str, is_removed_when_stopped: bool = False) -> None:
        """As a person does."""
        policy = "no" if is_removed_when_stopped else "unless-stopped"
        options = {"is_removed_when_stopped": is_removed_when_stopped, "restart_policy": policy}
        self.machine.run_by_hand(name, self.images["one"], NETWORK, **options)

    def command_that_ends(self, code: int) -> list[str]:
        """What it ends with is a property of the image."""
        self.machine.images[self.images["one"]] = Image(migration_code=code, volumes=("/data",))
        return ["ends", str(code)]

    def reached_by(self, name: str) -> list[str]:
        """Asks the stand-in."""
        return [container.name for container in self.machine.reached_by(name)]


@pytest.fixture
def bench(root: Path) -> FakeBench:
    """A server without containers, with the images of the scripts."""
    machine = FakeMachine()
    machine.seconds_before_restart = 1
    machine.state.networks.add(NETWORK)
    image = Image(volumes=("/data",), variables=("BEHAVIOUR=answers", "PORT=8081", "VERSION=one"))
    kinds = {
        "one": image,
        "two": image,
        "labelled": dataclasses.replace(image, labels=(("traefik.enable", "true"),)),
        "exits": dataclasses.replace(image, exits_after=0.5, exit_code=3),
    }
    references = {}
    for number, (name, image) in enumerate(kinds.items(), 1):
        references[name] = f"ghcr.io/acme/contract@sha256:{number:064}"
        machine.images[references[name]] = image
        machine.state.local.add(references[name])
    references["unknown"] = f"ghcr.io/acme/contract@sha256:{64 * '0'}"
    return FakeBench(machine, root / STACK, references, TOKEN)


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_stand_in_does_what_the_engine_did(bench: FakeBench, name: str) -> None:
    assert transcript(bench, name) == (EXPECTED / f"{name}.txt").read_text()
