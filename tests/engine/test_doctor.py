"""The doctor, before a world that is as the spec has it; then one thing after the other is broken, and mended again.

sshd, dockerd, the registry, nginx and PostgreSQL are real; gh is a stand-in.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests import fake_services
from tests.engine.conftest import bring_into_service
from tests.engine.images import Images
from tests.engine.person import Person, person_who_logs_in
from tests.engine.server import (
    TOKEN,
    UID,
    USER,
    Result,
    Server,
    eventually,
    generated,
    throw_away,
)
from tests.rehearsal import stand_ins
from tests.rehearsal.front import Front

ADDRESS = "192.0.2.10"
MARK = "never-to-be-seen"
ENV = {
    "pos-staging/.env": ("DATABASE_URL", "JWT_SECRET", "API_URL", "ORIGIN"),
    "pos-production/.env": ("DATABASE_URL", "JWT_SECRET", "API_URL", "ORIGIN"),
    "postgres/.env": ("POSTGRES_USER", "POSTGRES_PASSWORD", "POS_STG_PASSWORD", "POS_PROD_PASSWORD"),
}
STACKS = {"pos-staging": "-staging", "pos-production": ""}
DOMAINS = [row["domain"] for row in Front.rows()]
API = "stg-api.nasibakarkiwari.com"


@dataclass
class World:
    """A server on which everything is as it should be, and a person with a clone, ssh and gh."""

    server: Server
    person: Person
    front: Front

    def asks(self, *words: str, ssh: str = f"{USER}@127.0.0.1", token: str = TOKEN) -> Result:
        """What the person sees."""
        home, server = self.person.home, self.server
        environment = {
            "HOME": str(home),
            "PATH": f"{home}/bin:/usr/bin:/bin",
            "SSL_CERT_FILE": f"{server.folder}/tls.crt",
            "KIWARI_CI_PULL_TOKEN": token,
        }
        registry = ["--pull-token", "ghcr.io"] if token else []
        command = [sys.executable, "-m", "kiwari_ci", "doctor", "specs/kiwari.yaml", "--ssh", f"vps={ssh}"]
        command += [*registry, *words]
        program = server.near("env", "-C", str(self.person.clone))
        done = subprocess.run([*program, *command], capture_output=True, text=True, timeout=60, env=environment)
        assert MARK not in done.stdout + done.stderr and TOKEN not in done.stdout + done.stderr
        return done

    def findings(self, *words: str, **ways: str) -> dict[str, dict[str, str]]:
        """What is not ok: group and subject → the finding."""
        done = self.asks("--format", "json", *words, **ways)
        assert done.returncode in (0, 1), done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == bool(report["count"]["wrong"])
        return {
            f"{finding['group']}: {finding['subject']}": finding
            for finding in report["findings"]
            if finding["state"] != "ok"
        }

    def wrong(self, *words: str, **ways: str) -> dict[str, str]:
        """What is wrong, and what was seen."""
        findings = self.findings(*words, **ways)
        return {name: finding["saw"] for name, finding in findings.items() if finding["state"] == "wrong"}

    def all_answer(self) -> bool:
        """Whether every domain answers by the certificate, as before a test; the next one sees whether all is well."""
        words = ("curl", "-sf", "-m", "5", "-o", "/dev/null", "--cacert", f"{self.server.folder}/tls.crt")
        return all(self.server.run(*words, f"https://{name}/", check=False).returncode == 0 for name in DOMAINS)

    def github(self, **changes: Any) -> None:
        """What gh says from now on; without changes, that all is well."""
        known = f"127.0.0.1 {(self.server.folder / 'keys/host.pub').read_text()}"
        pages = {f"repos/{fake_services.REPOSITORY}/{path}": page for path, page in changes.items()}
        fake_services.gh(self.person.home / "bin", fake_services.github(known) | pages)

    def sql(self, statement: str) -> None:
        """The superuser's words."""
        self.server.docker("exec", "postgres", "psql", "-qU", "postgres", "-c", statement)

    @contextlib.contextmanager
    def changed(self, path: str, old: str, new: str) -> Iterator[None]:
        """While a file of the server's is another one; it stays the same inode."""
        file = self.server.folder / path
        text, mode = file.read_text(), file.stat().st_mode
        assert old in text
        file.write_text(text.replace(old, new))
        try:
            yield
        finally:
            file.write_text(text)
            file.chmod(mode)


@pytest.fixture(scope="module")
def world(engine: None) -> Iterator[World]:
    """Everything is done that the runbook says."""
    with throw_away() as server:
        person = person_who_logs_in(server)
        stand_ins.postgres(server)
        place(server)
        server.by_hand("cd docker/postgres && docker compose up -d --wait", check=True)
        own = Images(server)
        for suffix in STACKS.values():
            bring_into_service(server, own, f"pos-api{suffix}", [own.api("one")])
            bring_into_service(server, own, f"pos-admin{suffix}", [own.admin("one")])
        server.run("ip", "address", "add", f"{ADDRESS}/32", "dev", "lo")
        front = Front(server, own, "-p", f"{ADDRESS}:443:443")
        hosts = server.folder / "etc/hosts"
        lines = [f"127.0.0.1 localhost ghcr.io {os.uname().nodename}", *(f"{ADDRESS} {name}" for name in DOMAINS)]
        hosts.write_text("\n".join(lines) + "\n")
        world = World(server, person, front)
        world.github()
        eventually(world.all_answer, 30, "the front answers")
        yield world
    front.nginx.wait(timeout=10)


def place(server: Server) -> None:
    """The stack of the database, and every env file filled in."""
    shutil.copytree(generated("deploy/postgres"), server.docker_folder / "postgres")
    for path, keys in ENV.items():
        file = server.docker_folder / path
        file.write_text("".join(f"{key}='{MARK}$x'\n" for key in keys).replace(f"USER='{MARK}$x'", "USER='postgres'"))
        file.chmod(0o600)
    server.run("chown", "-R", f"{UID}:{UID}", str(server.docker_folder))


def everything(server: Server) -> str:
    """All that a doctor could have touched."""
    files = server.run("find", str(server.home), "-printf", "%p %m %s %T@ %C@\n").stdout
    form = "{{.ID}} {{.Names}} {{.State}} {{.Networks}}"
    engine = [
        server.docker("ps", "-a", "--format", form),
        server.docker("network", "ls", "-q"),
        *sorted(server.docker("images", "-q").split()),
    ]
    return "\n".join([files, *engine])


def test_all_is_well_and_nothing_is_touched(world: World) -> None:
    before, began = everything(world.server), time.monotonic()
    done = world.asks()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(" ok, 0 wrong, 0 not asked\n"), done.stdout
    assert everything(world.server) == before
    print(done.stdout, f"{time.monotonic() - began:.1f} s")


def test_before_the_first_deploy(world: World) -> None:
    """Ready to push: what nobody deployed yet is no fault."""
    server = world.server
    record, aside = server.stack_file("pos-api", ".deploys"), server.folder / "aside"
    record.rename(aside)
    for name in ("pos-api", "pos-admin"):
        server.docker("rename", name, f"{name}-aside")
        server.docker("network", "disconnect", "proxy", f"{name}-aside")
    try:
        findings = world.findings()
    finally:
        aside.rename(record)
        for name in ("pos-api", "pos-admin"):
            server.docker("rename", f"{name}-aside", name)
            server.docker("network", "connect", "--alias", name, "proxy", name)
    assert [name for name, finding in findings.items() if finding["state"] == "wrong"] == [
        "environment production: takeover"
    ]
    assert "nothing was deployed yet" in findings["environment production: pos-api"]["saw"]
    assert "nothing was deployed yet" in findings["environment production: api.nasibakarkiwari.com/health"]["saw"]
    world.server.docker("restart", "pos-api", "pos-admin")
    eventually(world.all_answer, 30, "all is well again")


# A file below the server's docker folder, and what in it is another; the finding, and what the doctor saw.
CHANGES = [
    ("bin/deploy", "VERSION = ", "VERSION  = ", "host vps: bin/deploy", "differs: sha256"),
    ("pos-staging/docker-compose.yml", "init: true", "init: yes", "pos-staging/docker-compose.yml", "differs"),
    ("postgres/init/init-databases.sh", "set -e ", "set +e ", "host vps: postgres/init/init-databases.sh", "differs"),
    ("pos-staging/.env", "JWT_SECRET=", "JWT_SECRETS=", "pos-staging/.env", "missing: JWT_SECRET"),
    ("pos-staging/.env", f"API_URL='{MARK}", "API_URL='change-me", "pos-staging/.env", "still change-me: API_URL"),
    ("pos-staging/.env", f"ORIGIN='{MARK}$x'", f"ORIGIN=#{MARK}$x", "pos-staging/.env", "a $ without single quotes"),
    ("postgres/.env", f"POS_STG_PASSWORD='{MARK}$x'", "POS_STG_PASSWORD=''", "host vps: postgres/.env", "empty"),
    ("../.ssh/authorized_keys", "restrict,", "", "host vps: deploy key VPS_SSH_KEY", "forwards ports"),
    ("../.ssh/authorized_keys", " pos-production", "", "host vps: deploy key VPS_SSH_KEY", "may not touch"),
    ("pos-staging/.deploys/pos-api-staging", "@sha256:", "@sha256:0", "pos-api-staging", "runs ghcr.io/"),
    ("pos-staging/docker-compose.override.yml", "services:\n", "services:\n  redis: {ports: ['6379']}\n",
     "pos-staging/docker-compose.override.yml", "has lines that bin/deploy did not write"),
]  # fmt: skip


def test_each_file_that_is_another_is_told_and_nothing_else(world: World) -> None:
    with contextlib.ExitStack() as changes:
        for path, old, new, _, _ in CHANGES:
            changes.enter_context(world.changed(f"home/docker/{path}", old, new))
        wrong = world.wrong()
    expected = set()
    for _, _, _, line, saw in CHANGES:
        finding = line if ": " in line else f"environment staging: {line}"
        expected.add(finding)
        assert saw in wrong.get(finding, ""), wrong
    assert set(wrong) == expected


def test_modes(world: World) -> None:
    env, script = (world.server.docker_folder / path for path in ("pos-staging/.env", "bin/deploy"))
    env.chmod(0o644)
    script.chmod(0o644)
    try:
        wrong = world.wrong()
    finally:
        env.chmod(0o600)
        script.chmod(0o755)
    assert {name: saw.split(":")[0] for name, saw in wrong.items()} == {
        "host vps: bin/deploy": "mode 644",
        "environment staging: pos-staging/.env": "mode 644",
    }


def test_the_deploy_key_has_a_full_login_too(world: World) -> None:
    public = (world.server.folder / "keys/ci.pub").read_text()
    with world.changed("home/.ssh/authorized_keys", "restrict", f"{public}restrict"):
        wrong = world.wrong()
    assert list(wrong) == ["host vps: deploy key VPS_SSH_KEY"]
    assert "another line gives the same key a full login" in wrong["host vps: deploy key VPS_SSH_KEY"]


def test_a_container_is_down(world: World) -> None:
    world.server.docker("stop", "-t", "1", "pos-api-staging")
    try:
        wrong = world.wrong()
    finally:
        world.server.docker("start", "pos-api-staging")
        eventually(world.all_answer, 30, "it serves again")
    assert set(wrong) == {f"environment staging: {name}" for name in ("pos-api-staging", f"{API}/health")}
    assert "exited, exit code" in wrong["environment staging: pos-api-staging"]
    saw = wrong[f"environment staging: {API}/health"]
    assert saw.startswith(("502", "504", "no answer within 5 s")), saw


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {
                "GRANT ALL ON DATABASE pos_production TO pos_stg": "REVOKE ALL ON DATABASE pos_production FROM pos_stg",
                "ALTER ROLE pos_stg NOLOGIN": "ALTER ROLE pos_stg LOGIN",
            },
            {"pos_production": "pos_stg reaches it, too", "pos_staging": "pos_stg may not log in"},
        ),
        (
            {"ALTER DATABASE pos_staging OWNER TO postgres": "ALTER DATABASE pos_staging OWNER TO pos_stg"},
            {"pos_staging": "belongs to postgres"},
        ),
        (
            {"ALTER DATABASE pos_staging RENAME TO other": "ALTER DATABASE other RENAME TO pos_staging"},
            {"pos_staging": "does not exist"},
        ),
    ],
    ids=["who-gets-in", "owner", "missing"],
)
def test_the_database(world: World, changes: dict[str, str], expected: dict[str, str]) -> None:
    for statement in changes:
        world.sql(statement)
    try:
        wrong = world.wrong()
    finally:
        for mended in changes.values():
            world.sql(mended)
    assert wrong == {f"host vps: postgres database {name}": saw for name, saw in expected.items()}


def test_names(world: World) -> None:
    with world.changed("etc/hosts", f"{ADDRESS} {API}", f"192.0.2.99 {API}"):
        findings = world.findings()
    assert {finding["subject"]: finding["state"] for finding in findings.values()} == {
        f"{API} DNS": "wrong", f"{API} TLS": "not asked", f"{API}/health": "not asked",
    }  # fmt: skip
    with world.changed("etc/hosts", f"{ADDRESS} {API}", ""):
        findings = world.findings()
    assert "name resolution" in findings[f"environment staging: {API} DNS, TLS, /health"]["saw"], "no resolver is here"


def test_the_proxy_answers_otherwise(world: World) -> None:
    """Each of the four domains in another way."""
    ways = {
        "return 301 https://$host/elsewhere;": "a redirect to https://",
        "add_header cf-ray 1 always; return 403;": "403 from cloudflare: its challenge",
        "return 500;": "status 500",
        "return 444;": "Remote end closed connection",
    }
    directives = dict(zip(DOMAINS, ways, strict=True))
    world.front.answer(directives)
    try:
        wrong = world.wrong()
    finally:
        world.front.answer({})
    by_domain = {name.partition(": ")[2].partition("/")[0]: saw for name, saw in wrong.items()}
    assert set(by_domain) == set(DOMAINS), wrong
    for domain, directive in directives.items():
        assert ways[directive] in by_domain[domain]


def test_github_and_host_key(world: World) -> None:
    nothing: dict[str, Any] = {"secrets": [], "variables": []}
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"actions/secrets": {"secrets": [{"name": name} for name in fake_services.SECRETS if name != "VPS_USER"]}},
         ["environment staging: secret VPS_USER", "environment production: secret VPS_USER"]),
        ({"actions/variables": {"variables": [{"name": "VPS_KNOWN_HOSTS", "value": "127.0.0.1 ssh-ed25519 AAAA"}]}},
         ["host vps: host key"]),
        ({"actions/secrets": nothing,
          "environments/staging/secrets": {"secrets": [{"name": name} for name in fake_services.SECRETS]}},
         [f"environment production: secret {name}" for name in fake_services.SECRETS]),
    ]  # fmt: skip
    for change, expected in cases:
        world.github(**change)
        try:
            wrong = world.wrong()
        finally:
            world.github()
        assert sorted(wrong) == sorted(expected)


def test_the_registry_refuses_the_token(world: World) -> None:
    wrong = world.wrong(token="another")
    images = ("kiwari-api", "kiwari-admin")
    assert list(wrong) == [f"registry ghcr.io: ghcr.io/iqbalmuhyiddin/{name}" for name in images]
    assert all(finding["state"] == "not asked" for finding in world.findings(token="").values())


def test_no_way_to_the_host(world: World) -> None:
    """Not asked fails nothing, and all the rest is asked."""
    for way, why in ((f"{USER}@127.0.0.3", "refused"), ("nobody@127.0.0.1", "Permission denied")):
        findings = world.findings(ssh=way)
        assert {finding["state"] for finding in findings.values()} <= {"not asked"}, findings
        assert why in findings["host vps: everything on it"]["saw"]
    key = world.changed("person/.ssh/config", "keys/person", "keys/ci")
    with key:
        findings = world.findings()
    assert "ssh used the deploy key" in findings["host vps: everything on it"]["saw"]


def test_docker_is_down_or_out_of_reach(world: World) -> None:
    world.server.run("mv", "/run/docker.sock", "/run/docker.hidden")
    try:
        down = world.findings()
    finally:
        world.server.run("mv", "/run/docker.hidden", "/run/docker.sock")
    with world.changed("etc/group", f":{USER}\n", ":\n"):
        outside_of_group = world.findings()
    for findings, says in ((down, "daemon"), (outside_of_group, "usermod -aG docker")):
        wrong = [name for name, finding in findings.items() if finding["state"] == "wrong"]
        assert wrong == ["host vps: docker", "host vps: postgres"], findings
        assert says in str(findings["host vps: docker"])


def test_the_certificate(world: World) -> None:
    certificate = world.server.folder / "tls.crt"
    text, key = certificate.read_text(), (world.server.folder / "tls.key").read_text()
    for names, days, says in ((f"DNS:{API[4:]}", "60", "not valid for"), (f"DNS:{API}", "5", "expires in 4 days")):
        words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        words += ["-days", days, "-subj", "/CN=test", "-addext", f"subjectAltName={names}"]
        files = ["-keyout", str(world.server.folder / "tls.key"), "-out", str(certificate)]
        subprocess.run([*words, *files], check=True, capture_output=True)
        world.front.answer({})
        eventually(lambda says=says: says in str(world.findings()), 15, "nginx shows the other certificate")  # type: ignore[misc]
    certificate.write_text(text)
    (world.server.folder / "tls.key").write_text(key)
    world.front.answer({})
    eventually(world.all_answer, 15, "nginx shows the first certificate")


def test_the_proxy_leaves_its_network(world: World) -> None:
    world.server.docker("network", "create", "elsewhere")
    world.server.docker("network", "connect", "elsewhere", "front")
    world.server.docker("network", "disconnect", "proxy", "front")
    try:
        wrong = world.wrong()
    finally:
        world.server.docker("network", "connect", "proxy", "front")
        world.server.docker("network", "disconnect", "elsewhere", "front")
        world.server.docker("network", "rm", "elsewhere")
        eventually(world.all_answer, 30, "the proxy leads to the services again")
    assert wrong["host vps: proxy"] == "the container front is on elsewhere"
