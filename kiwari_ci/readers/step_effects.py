"""Job → deeds: what its steps do to the world, whichever tool they do it with."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from kiwari_ci.readers.shell import commands
from kiwari_ci.readers.workflow import Job, Step, Workflow
from kiwari_ci.readers.yaml_document import shown

SCRIPTS = 1_000_000  # characters of one workflow, each combination of a matrix counted
_HOUSEKEEPING = re.compile(
    r"(mkdir|echo|printf|chmod|chown|sleep|set|cd|umask|ssh-keyscan|cat|ssh-agent|ssh-add|rm|trap|test|\[|\[\[|true|exit|"
    r"touch|cp|mv|ls|pwd|done|fi|else|read|tee|grep|for|while|export|unset|source|\.|env|which|install|sed|awk|tr|cut|"
    r"head|tail|case|esac|break|continue|continue|until|jq|tar|local|return|shift|date|id|whoami|hostname|}|;;|nc)"
)
_PREPARING = re.compile(
    r"npm (ci|i|install)\b|yarn( install.*)?$|pnpm (i|install|fetch)\b|bun install|pip3? install"
    r"|python3? -m (pip|venv)|apt(-get)? |apk "
    r"|git (config|fetch|checkout|rev-parse|log|diff|describe|clone|status)|go mod|docker (login|logout)"
    r"|(nslookup|ping|journalctl|xargs|timeout|wait|kill|ss|df|free|du|dig) |systemctl status|npx prisma generate"
    r"|poetry install|uv sync|bundle install|composer install|corepack "
)
_SETUP = re.compile(
    r"(actions/(checkout|setup-|cache|upload-artifact|download-artifact|configure-pages)|docker/(login|setup-|metadata)"
    r"|pnpm/action-setup|oven-sh/setup-bun|webfactory/ssh-agent|shimataro/ssh-key-action|astral-sh/setup|"
    r"dtolnay/rust-toolchain|Swatinem/rust-cache|gradle/|tailscale/|hashicorp/setup-|depot/setup)"
)
_MIGRATES = re.compile(r"\b(migrate|migrations?|alembic|flyway|liquibase|db:deploy|db push|knex|dbmate|goose)\b", re.I)
_GIVEN = {"GITHUB_SHA": ("<github.sha>",), "GITHUB_REF_NAME": ("<github.ref_name>",)}
_PROMOTED = "${image%@*}"  # our own promotion's loop over the images that it found
_SSH_TAKES = re.compile(r"-[BbcDEeFIiJLlmOopQRSWw]$")
_SCRIPTS = ("script", "command", "run", "args", "remote_command")


@dataclass(frozen=True)
class Deed:
    """One thing that a step does: `what` is an image, a stack's folder, a URL or a command; `note` says more of it."""

    kind: str
    what: str
    where: str
    note: str = ""


@dataclass
class _Place:
    """Where a script is while it is read: its folder, and whether on a server."""

    folder: str = ""
    remote: bool = False


def of_workflow(workflow: Workflow) -> Iterator[tuple[Job, Deed]]:
    """Every deed of a workflow, each once for a job, in order; of the first SCRIPTS characters of its scripts."""
    left = SCRIPTS
    for job in workflow.jobs:
        found: dict[Deed, None] = {}
        for step in job.steps:
            left -= len(step.run)
            if left > 0:
                found |= dict.fromkeys(_of_step(job, step))
        yield from ((job, deed) for deed in found)


def _of_step(job: Job, step: Step) -> Iterator[Deed]:
    action = step.uses.partition("@")[0].lower()
    script = next((step.given[key] for key in _SCRIPTS if key in step.given), "") if "ssh" in action else ""
    if action.startswith("docker/build-push-action"):
        yield from _built(step)
    elif script:
        yield Deed("login", _key_check(step), step.where, step.given.get("host", ""))
        yield from _script(script, step, _Place(remote=True))
    elif step.run:
        yield from _script(step.run, step, _Place(remote=job.own_machine))
    elif action.startswith("docker/bake-action"):
        yield Deed("other", "docker/bake-action", step.where, f"{shown(step.title)} (docker/bake-action)")
    elif action and not _SETUP.match(action) and not action.startswith("./"):
        copies = re.search(r"scp|rsync", action)
        what = f"{shown(step.given.get('source', step.title))} is copied to the server" if copies else ""
        told = shown(action) if step.title.lower() == action else f"{shown(step.title)} ({shown(action)})"
        yield Deed("other", action, step.where, what or told)


def _key_check(step: Step) -> str:
    return "" if step.given.get("fingerprint") else "any host key is accepted"


def _built(step: Step) -> Iterator[Deed]:
    context, file = step.given.get("context", "."), step.given.get("file", "")
    tags = [tag.strip() for tag in re.split(r"[\n,]+", step.given.get("tags", "")) if tag.strip()]
    pushed = step.given.get("push", "") not in ("", "false") or "push=true" in step.given.get("outputs", "")
    for tag in tags:
        yield Deed("push" if pushed else "build", tag, step.where)
    if tags:
        yield Deed("build", repository(tags[0]), step.where, dockerfile(context, file))


def dockerfile(context: str, file: str) -> str:
    """The Dockerfile of a build, from the repository's root."""
    context = re.sub(r"^\./|/$", "", context).strip(".") if not context.startswith(("http", "<")) else context
    return re.sub(r"^\./", "", file) or f"{context}/Dockerfile".lstrip("/")


def repository(image: str) -> str:
    """An image's name without its tag and digest."""
    name, _, _ = image.partition("@")
    name = name.lower() if name.startswith("ghcr.io/") else name  # `github.repository` may have capitals
    head, colon, tail = name.rpartition(":")
    return head if colon and "/" not in tail else name


def tag(image: str) -> str:
    """An image's tag; Docker's own default where it has none."""
    return image[len(repository(image)) :].partition("@")[0].lstrip(":") or "latest"


def _script(script: str, step: Step, place: _Place) -> Iterator[Deed]:
    known = {key: (value,) for key, value in step.env.items() if len(value) < 300} | _GIVEN
    yield from _ours(script, step.where)
    promoted: list[str] = []
    for words in commands(script, known):
        if words[0] == "find_image" and len(words) > 4:
            promoted.append(words[3])
        for deed in _command(words, place, step):
            images = (
                [deed.what.replace(_PROMOTED, each) for each in promoted] if _PROMOTED in deed.what else [deed.what]
            )
            yield from (replace(deed, what=image, where=step.where) for image in images)
    yield from (Deed("take", f"{image}:src-<key>", step.where) for image in promoted)


def _ours(script: str, where: str) -> Iterator[Deed]:
    """What only our own scripts say: which service a container is of, and the addresses that are asked."""
    for container, service in re.findall(r'"([\w.-]+)=\$DIGEST_([A-Z0-9_]+)"', script):
        yield Deed("names", service.lower().replace("_", "-"), where, container)
    for url in re.findall(r"\bcurl (?:.*\\\n)*.*--retry-all-errors '?(https?://[^\s'$\"]+)", script):
        yield Deed("check", url, where)


def _command(words: list[str], place: _Place, step: Step) -> Iterator[Deed]:
    name = words[0].rpartition("/")[2]
    line = " ".join(words)
    if name == "cd" and len(words) > 1:
        place.folder = words[1]
    elif name == "ssh":
        yield from _ssh(words, step)
    elif name in ("docker", "docker-compose", "podman"):
        yield from _docker(words, place)
    elif name == "deploy-over-ssh":
        yield Deed("login", "", "")
        yield Deed("deploy", "".join(_options(words, "--stack")), "", "the host program")
    elif name in ("scp", "rsync"):
        yield Deed("other", line, "", f"files are copied to the server by {shown(line)}")
    elif name in ("curl", "wget"):
        yield from _asked(words, step)
    elif _MIGRATES.search(line) and name not in ("echo", "printf"):
        real = place.remote or any("<secrets." in value for value in step.env.values()) or "<secrets." in line
        yield Deed("migrate" if real else "other", line, "", shown(line))
    elif (
        not _PREPARING.match(line)
        and not _HOUSEKEEPING.fullmatch(name)
        and not name.startswith(("$", "-", "<"))
        and not line.endswith(("]", "{"))
    ):
        kind = "remote" if place.remote else "other"
        yield Deed(kind, line, "", shown(line))


def _ssh(words: list[str], step: Step) -> Iterator[Deed]:
    """What is called on the host: the words behind its name, or a here-document."""
    index = 1
    while index < len(words) and words[index].startswith("-"):
        index += 2 if _SSH_TAKES.fullmatch(words[index]) else 1
    line = " ".join(words)
    checks = re.search(r"StrictHostKeyChecking[= ]([\w-]+)", line)
    known = {"no": "any host key is accepted", "off": "any host key is accepted"}
    known["accept-new"] = "whatever host key answers first is accepted"
    yield Deed("login", known.get(checks[1] if checks else "", ""), "", words[index] if index < len(words) else "")
    remote = " ".join(words[index + 1 :])
    if remote:
        yield from _script(remote, step, _Place(remote=True))


def _docker(words: list[str], place: _Place) -> Iterator[Deed]:
    rest = [word for word in words[1:] if word not in ("buildx", "image")]
    if words[0] == "docker-compose":
        rest = ["compose", *rest]
    verb, line = next((word for word in rest if not word.startswith("-")), ""), " ".join(words)
    if verb == "compose":
        yield from _compose(rest[rest.index("compose") + 1 :], line, place)
    elif verb == "build":
        yield from _docker_build(rest)
    elif verb == "push" and len(rest) > 1:
        yield Deed("push", rest[-1], "")
    elif verb == "tag" and len(rest) > 2:
        yield Deed("take", rest[1], "", rest[2])
    elif verb == "imagetools" and "create" in rest:
        yield from (Deed("push", each, "") for each in _options(rest, "-t", "--tag"))
        yield from [] if rest[-1].startswith("$") else [Deed("take", rest[-1], "")]
    elif verb == "run" and place.remote:
        yield from _docker_run(rest, line)
    elif _MIGRATES.search(line):
        yield Deed("migrate", line, "", shown(line))
    elif verb in ("exec",) and place.remote:
        yield Deed("remote", line, "", shown(line))


def _docker_build(rest: list[str]) -> Iterator[Deed]:
    tags = _options(rest, "-t", "--tag")
    context = rest[-1] if not rest[-1].startswith("-") else "."
    for each in tags:
        yield Deed("push" if "--push" in rest else "build", each, "")
    if tags:
        yield Deed("build", repository(tags[0]), "", dockerfile(context, (_options(rest, "-f", "--file") or [""])[0]))


def _docker_run(rest: list[str], line: str) -> Iterator[Deed]:
    names = _options(rest, "--name")
    if _MIGRATES.search(line):
        yield Deed("migrate", line, "", shown(line))
    elif names and "--rm" not in rest:
        yield Deed("container", names[0], "", shown(line, 160))


def _compose(rest: list[str], line: str, place: _Place) -> Iterator[Deed]:
    files = _options(rest, "-f", "--file")
    verb = next(
        (word for word in rest if word in ("up", "pull", "down", "build", "push", "restart", "run", "exec", "stop")), ""
    )
    if _MIGRATES.search(line):
        yield Deed("migrate", line, "", shown(line))
    elif not place.remote and verb in ("build", "push"):
        yield Deed("other", line, "", shown(line))
    elif place.remote and verb:
        stack = (_options(rest, "-p", "--project-name") or [place.folder.rstrip("/").rpartition("/")[2]])[0]
        yield Deed("deploy", "\n".join([stack, *files]), "", f"docker compose {verb}" + _flags(rest, verb))


def _flags(rest: list[str], verb: str) -> str:
    told = [flag for flag in ("--build", "-v", "--volumes") if flag in rest]
    return "".join(f" {flag}" for flag in told)


def _options(rest: list[str], *names: str) -> list[str]:
    found = [value for name, value in zip(rest, rest[1:], strict=False) if name in names]
    return found + [word.partition("=")[2] for word in rest if word.startswith(tuple(f"{name}=" for name in names))]


def _asked(words: list[str], step: Step) -> Iterator[Deed]:
    url = next((word for word in words[1:] if re.match(r"https?://|<(secrets|vars|env)\.", word)), "")
    posts = any(word in ("-X", "-d", "--data", "--request", "-F") or word.startswith("-d{") for word in words)
    if posts or "hooks" in url or "api.telegram" in url:
        yield Deed("other", url or step.title, "", f"{shown(step.title)} (a call of {shown(url or 'some address')})")
    elif url and not re.search(
        r"\.(sh|gz|zip|tgz)$|githubusercontent|github\.com|//(ghcr|docker|quay)\.io|get\.|install", url
    ):
        yield Deed("check", url, "")
