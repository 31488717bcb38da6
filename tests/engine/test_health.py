"""How a new version is asked whether it serves: under its domain, and for as long as its compose file gives it."""

import pytest

from tests.engine.images import Images
from tests.engine.server import Server
from tests.engine.shop import RECREATE, WEB, Shop

HOST = "      deploy.host: shop.example.com\n"


@pytest.mark.parametrize(
    "rollout", ["", pytest.param(RECREATE, marks=pytest.mark.long)], ids=["start-first", "recreate"]
)
def test_a_service_that_answers_to_its_domain_alone(shop: Shop, server: Server, images: Images, rollout: str) -> None:
    """As Django does with ALLOWED_HOSTS and SECURE_SSL_REDIRECT: any other question is answered with 400."""
    strict = images.api("strict", "wants-its-domain")
    shop.write(rollout=rollout, labels='      deploy.start-period: "4"\n')
    shop.bring_into_service(images.api("uno"))

    without = shop.deploy(strict)

    assert without.returncode == 1, without.stdout
    assert "the answer was 400" in without.stdout
    assert server.serves(WEB) == "uno"

    shop.write(rollout=rollout, labels=HOST)
    asked_as_the_proxy_does = shop.deploy(strict)

    assert asked_as_the_proxy_does.returncode == 0, asked_as_the_proxy_does.stdout
    assert server.digest(WEB) == strict


@pytest.mark.parametrize(("seconds", "code"), [("4", 1), ("20", 0)])
def test_a_service_that_takes_eight_seconds_to_answer(
    shop: Shop, server: Server, images: Images, seconds: str, code: int
) -> None:
    shop.bring_into_service(images.api("uno"))
    shop.write(labels=f'      deploy.start-period: "{seconds}"\n', rollout="")

    result = shop.deploy(images.api("slow", "boots-in-8s"))

    assert result.returncode == code, result.stdout
    assert (f"within {seconds} seconds" in result.stdout) == (code == 1)
    assert server.serves(WEB) == ("uno" if code else "slow")
    assert f"{WEB}-next" not in server.containers()
