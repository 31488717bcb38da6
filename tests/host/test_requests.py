"""Parsing and authorization: what may be asked for, by whom, and with which exit code the rest is refused."""

import io
import os
import pwd
import sys
from pathlib import Path

import pytest

from kiwari_ci.engines.compose.deploy_programs import deploy as deploy_program
from tests.host.world import World

DIGEST = "sha256:" + 64 * "0"
OTHER = "sha256:" + 64 * "1"
SHA = 64 * "a"
GOOD = f"deploy 1 shop 9 {SHA} 77 web={DIGEST}"


def key(words: str, *allowed: str) -> deploy_program.Caller:
    """A key of CI's, with the words of its line in authorized_keys."""
    return deploy_program.Caller(words, is_key=True, allowed=allowed or ("shop",))


def person(words: str) -> deploy_program.Caller:
    return deploy_program.Caller(words, is_key=False, allowed=())


@pytest.mark.parametrize(
    "words",
    [
        "",
        "true",
        "bash -i",
        "deploy",
        f"deploy shop web {DIGEST} 9 {SHA}",
        f"deploy 1 shop 9 {SHA} 77",
        f"deploy 1 shop 9 {SHA} web={DIGEST}",
        f"{GOOD} more",
        f"{GOOD}; touch /tmp/injected",
        f"{GOOD} $(touch /tmp/injected)",
        f"{GOOD} `touch /tmp/injected`",
        f"{GOOD}\ntouch /tmp/injected",
        f"{GOOD}\n",
        f"\n{GOOD}",
        f" {GOOD}",
        f"{GOOD} ",
        f"{GOOD}  other={DIGEST}",
        f"{GOOD}\tother={DIGEST}",
        f"{GOOD} | touch /tmp/injected",
        f"deploy 1 shop a[$(touch${{IFS}}/tmp/injected)] {SHA} 77 web={DIGEST}",
        f"deploy 1 shop 007 {SHA} 77 web={DIGEST}",
        f"deploy 1 shop 0 {SHA} 77 web={DIGEST}",
        f"deploy 1 shop -1 {SHA} 77 web={DIGEST}",
        f"deploy 1 shop 1234567890123 {SHA} 77 web={DIGEST}",
        f"deploy 1 shop ٩ {SHA} 77 web={DIGEST}",
        f"deploy 1 shop 9 {SHA.upper()} 77 web={DIGEST}",
        f"deploy 1 shop 9 {SHA} x web={DIGEST}",
        f"deploy 1 shop 9 {SHA} 77 web={DIGEST.upper()}",
        f"deploy 1 shop 9 {SHA} 77 web=latest",
        f"deploy 1 shop 9 {SHA} 77 web=",
        f"deploy 1 shop 9 {SHA} 77 --help={DIGEST}",
        f"deploy 1 shop 9 {SHA} 77 ../../x={DIGEST}",
        f"deploy 1 ../shop 9 {SHA} 77 web={DIGEST}",
        f"deploy 1 .. 9 {SHA} 77 web={DIGEST}",
        f"deploy 1 sh* 9 {SHA} 77 web={DIGEST}",
        f"deploy 0 shop 9 {SHA} 77 web={DIGEST}",
        f"deploy x shop 9 {SHA} 77 web={DIGEST}",
        f"DEPLOY 1 shop 9 {SHA} 77 web={DIGEST}",
        f"deploy 1 shop 9 {SHA} 77 web={DIGEST} {'x' * 200}",
        "rollback shop",
        "rollback shop web sha256:12",
        f"rollback shop web {DIGEST} --force",
        f"rollback shop web x@{DIGEST}",
        f"rollback shop web  {DIGEST}",
        f"sudo rollback shop web {DIGEST}",
        "check",
        "check shop web",
        "check ..",
        "check -h",
        "cancel",
        "cancel shop 1",
        "cancel ../shop",
        "status ..",
        "status shop other",
        "status --all",
        "stop shop",
    ],
)
def test_words_that_are_no_request(words: str) -> None:
    for caller in (key(words), person(words)):
        with pytest.raises(deploy_program.Failed) as refused:
            deploy_program.parse_request(caller)
        assert refused.value.code == 64
        assert refused.value.message == "unknown request: the top of bin/deploy lists the requests"


def test_a_deploy_of_several_services() -> None:
    request = deploy_program.parse_request(key(f"{GOOD} worker.2={OTHER}"))

    assert request == deploy_program.Request(
        verb="deploy",
        stack="shop",
        sequence=9,
        files_sha256=SHA,
        run="77",
        images={"web": DIGEST, "worker.2": OTHER},
        is_from_key=True,
    )


@pytest.mark.parametrize("digest", ["", DIGEST])
def test_a_rollback(digest: str) -> None:
    request = deploy_program.parse_request(key(f"rollback shop web {digest}".strip()))

    assert (request.verb, request.stack, request.run) == ("rollback", "shop", "rollback")
    assert request.images == {"web": digest}


@pytest.mark.parametrize("words", ["check shop", "cancel shop", "status shop"])
def test_the_other_verbs(words: str) -> None:
    request = deploy_program.parse_request(key(words))

    assert (request.verb, request.stack) == tuple(words.split())


def test_a_service_that_is_named_twice() -> None:
    with pytest.raises(deploy_program.Failed, match="the request names web twice") as refused:
        deploy_program.parse_request(key(f"{GOOD} web={OTHER}"))

    assert refused.value.code == 64


@pytest.mark.parametrize(
    "words",
    [
        f"deploy 1 other 9 {SHA} 77 web={DIGEST}",
        f"deploy 1 bin 9 {SHA} 77 web={DIGEST}",
        f"deploy 1 shop.env 9 {SHA} 77 web={DIGEST}",
        "rollback other web",
        "check other",
        "cancel other",
        "status other",
    ],
)
def test_a_stack_that_the_key_may_not_touch(words: str) -> None:
    with pytest.raises(deploy_program.Failed, match="this key has no right to the stack") as refused:
        deploy_program.parse_request(key(words, "shop", "shop:env", "other:push"))

    assert refused.value.code == 64


def test_a_key_asks_for_the_status_of_one_stack() -> None:
    with pytest.raises(deploy_program.Failed, match="with a deploy key, name the stack: status STACK") as refused:
        deploy_program.parse_request(key("status", "shop"))

    assert refused.value.code == 64


def test_a_person_may_touch_all() -> None:
    assert deploy_program.parse_request(person("status")).stack == ""
    assert deploy_program.parse_request(person("rollback other web")).stack == "other"


@pytest.mark.parametrize(
    ("allowed", "env_files", "files"),
    [
        (("shop",), False, False),
        (("shop", "shop:env"), True, False),
        (("shop", "shop:push"), False, True),
        (("shop", "other:push", "other:env"), False, False),
        (("shop:env", "shop", "shop:push"), True, True),
    ],
)
def test_what_a_key_may_send(allowed: tuple[str, ...], env_files: bool, files: bool) -> None:
    request = deploy_program.parse_request(key(GOOD, *allowed))

    assert (request.may_send_env_files, request.may_send_files) == (env_files, files)


def test_a_newer_protocol_is_refused_with_the_way_to_the_newer_program() -> None:
    with pytest.raises(deploy_program.Failed) as refused:
        deploy_program.parse_request(key(GOOD.replace("deploy 1", "deploy 2")))

    assert refused.value.code == 64
    assert "Replace the program: ssh HOST " in refused.value.message


def test_nothing_of_the_callers_environment_has_a_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"SSH_ORIGINAL_COMMAND": "status shop", "COMPOSE_FILE": "evil", "PATH": "/evil"})
    monkeypatch.setattr(os, "umask", lambda mask: 0)
    monkeypatch.setattr(sys, "argv", ["deploy", "shop", "shop:env"])

    caller = deploy_program.take_caller()

    assert caller == deploy_program.Caller("status shop", is_key=True, allowed=("shop", "shop:env"))
    home = pwd.getpwuid(os.geteuid()).pw_dir
    assert os.environ == {"HOME": home, "PATH": deploy_program.PATH, "LC_ALL": "C", "DOCKER_CONTEXT": "default"}


def test_a_person_says_the_request_as_words_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"PATH": "/bin"})
    monkeypatch.setattr(os, "umask", lambda mask: 0)
    monkeypatch.setattr(sys, "argv", ["deploy", "status", "shop"])

    assert deploy_program.take_caller() == deploy_program.Caller("status shop", is_key=False, allowed=())


def test_what_the_program_writes_is_for_its_login_only(monkeypatch: pytest.MonkeyPatch) -> None:
    masks: list[int] = []
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(os, "umask", masks.append)

    deploy_program.take_caller()

    assert masks == [0o077]


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_any_letter_can_be_printed_whatever_the_callers_locale_is(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(os, "umask", lambda mask: 0)
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, name, stream)

    deploy_program.take_caller()

    stream.write("\u00e9 \udcff")
    stream.flush()
    assert stream.buffer.getvalue() == b"\xc3\xa9 \\udcff"


@pytest.mark.parametrize("verb", ["check", "cancel", "status"])
def test_a_request_without_images_names_none(verb: str) -> None:
    assert deploy_program.parse_request(key(f"{verb} shop")) == deploy_program.Request(
        verb, "shop", run=verb, is_from_key=True
    )


def test_a_rollback_has_no_number_of_a_commit() -> None:
    """What is recorded then has the number of the commit that served last."""
    expected = deploy_program.Request(
        "rollback", "shop", sequence=0, files_sha256="", run="rollback", images={"web": ""}, is_from_key=True
    )

    assert deploy_program.parse_request(key("rollback shop web")) == expected


def test_an_empty_command_of_a_key_is_not_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"SSH_ORIGINAL_COMMAND": ""})
    monkeypatch.setattr(os, "umask", lambda mask: 0)
    monkeypatch.setattr(sys, "argv", ["deploy", "status"])

    assert deploy_program.take_caller() == deploy_program.Caller("", is_key=True, allowed=("status",))


def test_a_stack_that_is_not_on_the_server(world: World) -> None:
    with pytest.raises(deploy_program.Failed, match="there is no stack 'other' on this server") as refused:
        deploy_program.open_stack(world.machine, "other", "check other")

    assert refused.value.code == 64
    assert "git archive HEAD deploy/other | ssh HOST" in refused.value.message
    assert not (world.root / "other").exists()


def test_a_stack_of_another_login(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4321)

    with pytest.raises(
        deploy_program.Failed, match=f"sudo -u .* {world.root}/bin/deploy rollback shop web$"
    ) as refused:
        deploy_program.open_stack(world.machine, "shop", f"{world.root}/bin/deploy rollback shop web")

    assert refused.value.code == 69


@pytest.mark.parametrize("words", ["status", "status shop", "cancel status", GOOD.replace("shop", "status")])
def test_a_stack_that_is_called_like_a_request(world: World, words: str) -> None:
    """`ssh HOST` without a command runs the line of the key, `deploy status`, as if a person had typed it."""
    for caller in (key(words, "shop", "status"), person(words)):
        if words != "status" or not caller.is_key:
            assert deploy_program.parse_request(caller)
    (world.root / "status").mkdir()

    for caller in (key(words, "shop", "status"), person(words)):
        if words == "status" and caller.is_key:
            continue
        with pytest.raises(
            deploy_program.Failed, match="no stack may be called 'status', which is a request"
        ) as refused:
            deploy_program.parse_request(caller)
        assert refused.value.code == 69


@pytest.mark.parametrize("service", ["api", "we", "web.", "w.b"])
def test_a_service_that_the_stack_does_not_have(world: World, service: str) -> None:
    outcome = world.deploy({service: DIGEST}, 9)

    assert outcome.code == 64
    assert outcome.says(f"there is no service '{service}' in: web, worker")
    assert world.names() == []


def test_an_accessory_has_its_image_in_the_compose_file(root: Path) -> None:
    world = World(root, "\n  db:\n    image: postgres:17\n    labels:\n      deploy.accessory: 'yes'\n")

    for outcome in (world.deploy({"db": DIGEST}, 9), world.rollback("db")):
        assert outcome.code == 64
        assert outcome.says("db is an accessory, which a deploy never replaces: its image is the one in")
