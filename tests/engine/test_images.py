"""What an image may bring, and where the token that pulls it may go."""

import json

from tests.engine.images import REGISTRY, Images
from tests.engine.server import TOKEN, UID, Server, outcome
from tests.engine.shop import WEB, Shop

PLACE = "/usr/local/sbin"  # on the path of the host program, and empty on the machine
HELPER = """\
#!/bin/sh
echo "$*" >>{heard}
[ "$1" = list ] && echo '{{}}' && exit
cat >>{heard}
[ "$1" = store ] && exit
echo 'credentials not found in native keychain'
exit 1
"""


def test_the_images_of_these_tests_are_as_docker_builds_them(server: Server, images: Images) -> None:
    """They are written into the registry without a build: all that a container gets of them is the same."""
    words = ("compared", "answers", 8081, "some.label=a = b")
    published, built = f"{REGISTRY}/kiwari-api:published", f"{REGISTRY}/kiwari-api:built"
    images.publish(published, *words)
    images.build(built, *words)

    server.docker("--config", images.login, "pull", "-q", published)

    form = "{{json .Config.Env}} {{json .Config.Entrypoint}} {{json .Config.Cmd}} {{json .Config.Volumes}}"
    form += " {{json .Config.WorkingDir}} {{json .Config.Labels}} {{json .Config.User}} {{.Os}} {{.Architecture}}"
    seen = {server.docker("image", "inspect", "-f", form, image) for image in (published, built)}
    server.docker("image", "rm", published, built)
    assert len(seen) == 1, seen


def test_an_image_that_would_take_a_proxys_requests_is_refused(shop: Shop, server: Server, images: Images) -> None:
    """Traefik believes the labels of every container, those of an image too."""
    shop.bring_into_service(images.api("uno"))
    before = (server.container_id(WEB), shop.record())
    label = "traefik.http.routers.x.rule"

    result = shop.deploy(images.push("kiwari-api", "greedy", label=f"{label}=Host(`bank.example.com`)"))

    assert result.returncode == 65, result.stdout
    assert label in outcome(result)["message"]
    assert (server.container_id(WEB), shop.record()) == before
    assert f"{WEB}-next" not in server.containers()


def test_no_credential_helper_gets_the_token(shop: Shop, server: Server, images: Images) -> None:
    """A person's `docker login` hands it to the helper that ~/.docker/config.json names; a deploy hands it to none."""
    heard = server.home / "heard-by-helper"
    settings = server.home / ".docker/config.json"
    server.run("mount", "-t", "tmpfs", "tmpfs", PLACE)
    try:
        for name in ("recorder", "pass", "secretservice"):  # the last two are Docker's own choice where none is named
            program = f"{PLACE}/docker-credential-{name}"
            server.run("tee", program, stdin=HELPER.format(heard=heard))
            server.run("chmod", "755", program)
        server.by_hand("mkdir -p .docker", check=True)
        earlier_settings = settings.read_text() if settings.exists() else "{}"
        settings.write_text(json.dumps({"credsStore": "recorder"}))
        server.run("chown", f"{UID}:{UID}", str(settings))
        try:
            result = shop.deploy(images.api("uno"))
            by_deploy = heard.read_text() if heard.exists() else ""
            with server.logged_in():
                by_person = heard.read_text()
        finally:
            settings.write_text(earlier_settings)
    finally:
        server.run("umount", PLACE)
        heard.unlink(missing_ok=True)

    assert result.returncode == 0, result.stdout
    assert server.serves(WEB) == "uno"
    assert json.dumps(TOKEN)[1:-1] not in by_deploy
    assert "store" not in by_deploy
    assert json.dumps(TOKEN)[1:-1] in by_person, "the helper works"
