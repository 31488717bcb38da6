"""The move of a hand-written pipeline: its draft, a server on which its stack serves, and the runbook's chapter."""

import contextlib
import re
import shlex
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kiwari_ci import generator
from kiwari_ci.plan_model import ComposeStack
from tests.cli_runner import kiwari_ci
from tests.engine.deploy_jobs import DeployJobs
from tests.engine.images import Images
from tests.engine.person import Person, empty_server, step
from tests.engine.server import HERE, TOKEN, USER, Result, Server, eventually

CASES = HERE.parent / "cases/init"
GENERATOR = f"\ngenerator: kiwari-ci==0.1.0 --hash=sha256:{'0' * 64}\n"
GH = """#!/bin/sh
# A stand-in for gh: it keeps what secrets and variables are given, and which workflows are enabled.
mkdir -p ~/github/secret ~/github/variable ~/github/disabled
case "$1 $2" in
  'secret set' | 'variable set') exec cat >~/github/"$1/$3" ;;
  'secret list' | 'variable list') exec ls ~/github/"$1" ;;
  'workflow disable') exec touch ~/github/disabled/"$3" ;;
  'workflow enable') exec rm ~/github/disabled/"$3" ;;
  'api --silent' | 'run list') ;;
  *) echo "not known: gh $*" >&2 && exit 1 ;;
esac
"""
ITEM = re.compile(r"^\*\*\d+\. (\w+)", re.MULTILINE)
BLOCK = re.compile(r"^ *```bash\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Commands:
    """A block of commands, and the words before it."""

    words: str
    text: str


@dataclass(frozen=True)
class Step:
    """A step of the chapter: its text, and the blocks of commands in it."""

    text: str
    blocks: tuple[Commands, ...]

    def find(self, words: str) -> str:
        """The only block that has these words before it."""
        (block,) = [block for block in self.blocks if words in block.words]
        return block.text


def draft(case: str, folder: Path, slug: str) -> str:
    """Writes what init drafts and generate makes of it, without the workflows that init names; returns its words."""
    shutil.copytree(CASES / case / "repository", folder)
    init_result = kiwari_ci("init", folder, "--repository", slug)
    assert init_result.code == 0, init_result.err
    (spec,) = (folder / "specs").glob("*.yaml")
    spec.write_text(spec.read_text() + GENERATOR)
    (removed,) = re.findall(r"^  rm (.*?) #", init_result.out, re.MULTILINE)
    for path in shlex.split(removed):
        (folder / path).unlink()
    generated = kiwari_ci("generate", spec, "--out", folder)
    assert generated.code == 0, generated.err
    return init_result.out


def read_chapter(tree: Path, environment: str) -> dict[str, Step]:
    """An environment's section, by the first word of its steps; before the first step: `Start`."""
    text = (tree / "deploy/RUNBOOK.md").read_text()
    (section,) = re.findall(rf"^#### Take over {environment}\n(.*?)^##", text, re.MULTILINE | re.DOTALL)
    parts = ITEM.split(f"**1. Start{section}")
    chapter = {}
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        blocks = []
        for block in BLOCK.finditer(body):
            words = body[: block.start()].rstrip().rpartition("\n\n")[2]
            blocks.append(Commands(words, textwrap.dedent(block[1])))
        chapter[name] = Step(body, tuple(blocks))
    return chapter


class Move:
    """A person who moves a repository, step by step, on a server on which its hand-written stack serves."""

    def __init__(self, person: Person, images: Images) -> None:
        self.person, self.images, self.server = person, images, person.server
        (spec,) = (person.clone / "specs").glob("*.yaml")
        self.plan, _ = generator.generate_files(spec)
        self.stacks: Mapping[str, ComposeStack] = {stack.environment: stack for stack in self.plan.compose_stacks}
        (self.host,) = self.plan.hosts
        settings = dict.fromkeys(("github.token", "secrets.GHCR_TOKEN"), TOKEN)
        self.settings = settings
        self.jobs = DeployJobs(self.server, person.clone, self.server.folder / "runners", settings)

    # The server of today

    def put(self, place: str, text: str) -> None:
        """Places a file of today on the server; a relative path begins in the login's home."""
        path = self.server.home / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self.server.give_to_user(self.server.home)

    def put_copy(self, folder: str, place: str) -> None:
        """Places a folder of the repository on the server."""
        shutil.copytree(self.person.clone / folder, self.server.home / place, dirs_exist_ok=True)
        self.server.give_to_user(self.server.home)

    # The person's steps

    def types(self, command: str) -> Result:
        """Types a command of the runbook; it must succeed."""
        done = self.person.types(f"set -e\n{self.host.variable}={USER}@127.0.0.1\n{command}")
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done

    def follows(self, number: int) -> str:
        """Does a numbered step of the runbook; a person edits the env files in an editor."""
        commands, worked = step(number, self.person.clone)
        printed = self._types_what_no_editor_opens(commands)
        if number != 2:
            self.types(worked)
        return printed

    def _types_what_no_editor_opens(self, commands: str) -> str:
        lines = [line for line in commands.splitlines(keepends=True) if "editor " not in line]
        return self.types("".join(lines)).stdout

    def chapter(self, environment: str) -> dict[str, Step]:
        """The chapter's steps for an environment."""
        return read_chapter(self.person.clone, environment)

    def prepares(self) -> None:
        """Does the steps before the takeover: they bring files, values, keys and networks to the server."""
        for number in (1, 3, 4, 5):
            self.follows(number)
        if self.plan.runbook.has_first_env_files:
            values = self.follows(2)
            for environment in self.stacks:
                self._fill(environment, values)
        networks = self.follows(6)
        if any(takeover.commands.connect for takeover in self.plan.takeovers):
            assert f" {self.host.network}" in networks
        settings_folder = self.person.home / "github"
        for kind, prefix in (("secret", "secrets"), ("variable", "vars")):
            for path in (settings_folder / kind).iterdir():
                self.settings.setdefault(f"{prefix}.{path.name}", path.read_text())

    def brings_files(self, environment: str) -> None:
        """Does the step that copies the folder of today, and brings the new files into it."""
        bring = self.chapter(environment)["Bring"].find("Fill in each")
        self._fill(environment, self._types_what_no_editor_opens(bring))

    def _fill(self, environment: str, values: str) -> None:
        """Puts the values of running containers into the env files that want them, as a person does in an editor."""
        of_today = dict(line.partition("=")[::2] for line in values.splitlines() if "=" in line)
        folder = self.server.home / self.host.folder / self.stacks[environment].name
        for path in folder.glob("*.env"):
            lines = []
            for line in path.read_text().splitlines():
                key = line.partition("=")[0]
                wants = "change-me" in line or line.endswith("=''")
                lines.append(f"{key}='{of_today[key]}'" if wants and key in of_today else line)
            path.write_text("\n".join(lines) + "\n")

    def checks(self, environment: str) -> str:
        """Asks what a deploy would refuse."""
        (block,) = self.chapter(environment)["Check"].blocks
        lines = [line for line in block.text.splitlines() if not line.startswith("kiwari-ci doctor")]
        return self.types("\n".join(lines)).stdout

    def deploys(self, environment: str, pattern: str, digests: Mapping[str, str]) -> str:
        """Merges: the new workflows deploy; then the person looks at what serves."""
        result = self.jobs.deploy(self.stacks[environment], pattern, digests)
        assert result.returncode == 0, result.stdout
        status = self.chapter(environment)["Deploy"].find("this command prints the new containers")
        return result.stdout + self.types(status).stdout

    def writes_proxy_file(self, environment: str, file: str, place: str) -> None:
        """Writes the proxy's file of the clone to its place on the server, and lets Caddy load it."""
        step = self.chapter(environment)["Switch"]
        self.types(step.find("write into it").replace("PATH", place).replace("FILE", file))
        self.types(step.find("With Caddy"))

    def reads_traffic(self, environment: str) -> dict[str, str]:
        """What each container has received, as the chapter's command prints it."""
        shown = self.types(self.chapter(environment)["Switch"].find("the bytes that it has received")).stdout
        return {line.split()[0]: line.split()[1] for line in shown.splitlines()}

    def stops_old(self, environment: str) -> None:
        """Stops the containers that the new ones run beside, as the chapter says."""
        step = self.chapter(environment)["Switch"]
        self.types(step.find("Then stop the old containers"))
        show = step.find("these commands print `exited`")
        assert all(line.endswith(" exited") for line in self.types(show).stdout.splitlines())

    def starts_old(self, environment: str) -> None:
        """Starts the old containers again, as the chapter says; the new ones go on running."""
        self.types(self.chapter(environment)["Switch"].find("To go back"))

    def stops_new(self, environment: str) -> None:
        """Stops the new containers, after the proxy leads to the old ones again."""
        self.types(self.chapter(environment)["Switch"].find("stop the new containers"))

    def goes_back(self, environment: str) -> None:
        """Types what the chapter has for a deploy that turns out to be bad."""
        for block in self.chapter(environment)["Deploy"].blocks:
            if "To go back" in block.words:
                self.types(block.text)

    def wait_for(self, url: str, version: str) -> None:
        """Waits until an address answers with a version."""
        ask = ("curl", "-sf", "-m", "5", url)
        eventually(lambda: self.server.run(*ask, check=False).stdout == version, 30, f"{url} answers {version}")


@contextlib.contextmanager
def moving(case: str, folder: Path, slug: str) -> Iterator[Move]:
    """A server that has an engine only, and a person with the repository of a case as it is to be merged."""
    draft(case, folder, slug)
    with empty_server(folder) as person:
        (person.home / "bin/gh").write_text(GH)
        (person.home / "bin/gh").chmod(0o755)
        images = Images(person.server)
        images.registry = f"ghcr.io/{slug.partition('/')[0]}"
        yield Move(person, images)


def sql(server: Server, container: str, database: str, question: str) -> str:
    """What a database answers."""
    return server.docker("exec", container, "psql", "-XqAt", "-U", "postgres", "-d", database, "-c", question)


def life(server: Server, container: str) -> str:
    """Which container it is, and since when its process runs."""
    return server.docker("inspect", "-f", "{{.Id}} {{.State.StartedAt}} {{.State.Status}}", container)
