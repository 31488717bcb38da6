"""A host that is slow at the wrong moment: who watches a deploy misses nothing of it."""

from tests.engine.images import Images
from tests.engine.server import Server
from tests.engine.shop import Shop
from tests.engine.stand_ins import stand_in


def test_who_begins_to_watch_late_hears_it_from_the_first_word(shop: Shop, server: Server, images: Images) -> None:
    shop.write(hooks__before="seq 20\n")

    with stand_in(server, "/usr/bin/tail", 'case "$*" in *--pid=*) sleep 5 ;; esac; exec "$REAL" "$@"'):
        result = shop.deploy(images.api("uno"))

    assert result.returncode == 0, result.stdout
    assert [line for line in result.stdout.splitlines() if line.startswith("| ")][:20] == [
        f"| {number}" for number in range(1, 21)
    ]


def test_who_begins_to_watch_early_hears_it_too(shop: Shop, server: Server, images: Images) -> None:
    slow = server.home / "slow.bash"
    slow.write_text("trap '[[ $BASH_COMMAND != exec* ]] || sleep 2' DEBUG\n")

    result = server.as_person(f"env BASH_ENV={slow} docker/bin/deploy {shop.words(images.api('uno'))}")

    slow.unlink()
    assert result.returncode == 0, result.stdout
    assert result.stdout.splitlines()[-1].startswith("SERVING"), result.stdout
    assert "tail:" not in result.stdout
