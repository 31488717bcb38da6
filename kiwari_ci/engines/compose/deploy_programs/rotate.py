#!/usr/bin/python3 -I
"""The kiwari-ci rotation program: it changes a secret, and redeploys the services that read it.

It works on the server, beside bin/deploy, whose functions it uses: whoever approves this file needs
to know that one. A person types, or `kiwari-ci rotate` calls over SSH:

    rotate value STACK KEY [FILE]      change a secret in the env files, and redeploy its readers
    rotate password STACK KEY,... SERVER ROLE PASSWORD_KEY
                                       change the password of a PostgreSQL role, which is in
                                       SERVER/.env, and in values of KEY,... in the env files
    rotate preview value ...           with the words of the two requests above: print what they
    rotate preview password ...        would change, and change nothing
    rotate undo STACK                  undo a rotation that was interrupted; bin/deploy calls this
                                       before a deploy or a rollback
    rotate version                     print the version and the checksum of this file

The new value is the first line of standard input. It is never an argument, and never printed.

First the env files change, then the role's password in PostgreSQL, by bin/database, then the
services are replaced as in a deploy. Containers that run keep their variables, and their sessions
with PostgreSQL, until they are replaced. Exit codes and logs are those of bin/deploy.

Files that this program writes, besides those of bin/deploy:

    STACK/.deploys/.rotation.json       the old and new values, until all services run with the new
                                        one; it is written before the first change
    STACK/FILE, SERVER/.env             the env files, in their place
    STACK/.deploys/FILE.before-TIME     an env file before it was changed; also in SERVER/.deploys

While .rotation.json is there, everything can be undone: at once if a service fails, or by the next
deploy, rollback or rotation of the stack after a kill or a power cut.

Nothing else needs this file: a server on which nobody rotates secrets can do without it. It is the
same in every repository: `sha256sum bin/rotate` shows whether it was changed.
"""

import sys

if sys.version_info < (3, 8):
    sys.exit(
        "rotate: Python 3.8 or newer is needed, and this server has %d.%d" % sys.version_info[:2]
    )

import contextlib
import dataclasses
import hashlib
import importlib.machinery
import importlib.util
import os
import re
import signal
import tempfile
import urllib.parse
from functools import partial
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Optional,
    Sequence,
    Set,
    Tuple,
)

VERSION = "1.0"


def load_deploy() -> Any:
    """Load bin/deploy, which lies beside this file, as a module."""
    path = Path(__file__).resolve().parent / "deploy"
    if not path.is_file():
        sys.exit(f"rotate: {path} is missing, and this program needs it")
    sys.dont_write_bytecode = True  # no folder of Python's appears in bin/
    loader = importlib.machinery.SourceFileLoader("deploy", str(path))
    specification = importlib.util.spec_from_loader("deploy", loader)
    assert specification
    module: Any = importlib.util.module_from_spec(specification)
    sys.modules["deploy"] = module  # its dataclasses look for their module there
    loader.exec_module(module)
    module.PROGRAM = "rotate"  # errors begin with the name of the program that a person typed
    if module.VERSION != VERSION:
        sys.exit(
            f"rotate: {path} is of another version of kiwari-ci: {module.VERSION}. Copy the folder"
            " deploy/bin"
        )
    return module


if TYPE_CHECKING or __package__:
    # In the package of kiwari-ci, whose tests and type checker read it.
    from kiwari_ci.engines.compose.deploy_programs import deploy
else:
    deploy = load_deploy()

STACK = rf"(?P<stack>{deploy.NAME})"
KEY = r"[A-Za-z_][A-Za-z0-9_]*"
ROLE = r"[A-Za-z_][A-Za-z0-9_]{0,62}"  # a name for which PostgreSQL needs no quotes
REQUESTS = [
    re.compile(
        rf"(?P<preview>preview )?value {STACK} (?P<keys>{KEY})(?: (?P<env_file>[A-Za-z0-9._-]+))?"
    ),
    re.compile(
        rf"(?P<preview>preview )?password {STACK} (?P<keys>{KEY}(?:,{KEY}){{0,99}})"
        rf" (?P<server>{deploy.NAME}) (?P<role>{ROLE}) (?P<password_key>{KEY})"
    ),
    re.compile(rf"(?P<undo>undo) {STACK}"),
    re.compile(r"(?P<version>version)"),
]

# In the env file of a PostgreSQL server, beside the passwords of its roles.
SERVER_ENV_FILE = ".env"
SUPERUSER_KEY = "POSTGRES_PASSWORD"
LONGEST_SECRET = 16_000  # characters; more would not fit into one line of standard input
SECRET_SECONDS = 300  # a person types the new value
# For bin/database to change the password of a role. Its queries end before this: one that goes on
# could change the password after the rotation was undone.
PASSWORD_SECONDS = 300
LINE_END = re.compile(r"(\r\n|\r|\n)")
URL_WITH_PASSWORD = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<user>[^:/@?#]*):(?P<password>.*?)"
    r"@(?P<rest>(?P<host>[^@/?#]*)(?:[/?#].*)?)"
)
# In the text of a connection, such as `host=db password=x`, and in the query of a URL.
PASSWORD_SETTING = re.compile(r"((?:^|[\s;?&])(?:password|pwd)\s*=\s*)([^\s;&]+)", re.IGNORECASE)
USER_SETTING = re.compile(
    r"(?:^|[\s;?&])(?:user|username|user id|uid)\s*=\s*([^\s;&]+)", re.IGNORECASE
)
HOST_SETTING = re.compile(
    r"(?:^|[\s;?&])(?:host|server|data source)\s*=\s*([^\s;&]+)", re.IGNORECASE
)


@dataclasses.dataclass(frozen=True)
class Target:
    """The secret that a request names: a key in env files, or the password of a role."""

    keys: Tuple[str, ...]  # in the env files of the stack
    env_file: str = ""  # the only one that is changed; empty if it is each that has the key
    server: str = ""  # of a password: the PostgreSQL server, the role, and the key of the password
    role: str = ""  # in the server's env file
    password_key: str = ""


@dataclasses.dataclass(frozen=True)
class Change:
    """A line of an env file, before and after a rotation."""

    path: str  # of the env file, below ROOT
    key: str
    before: str
    after: str


@dataclasses.dataclass(frozen=True)
class Role:
    """A role of a PostgreSQL server, and its password before and after a rotation."""

    server: str
    name: str
    before: str
    after: str


@dataclasses.dataclass(frozen=True)
class Rotation:
    """What a rotation changes: lines of env files, and perhaps the password of a role."""

    changes: Tuple[Change, ...]
    role: Optional[Role] = None
    services: Tuple[str, ...] = ()  # those that are redeployed

    @property
    def places(self) -> List[str]:
        """The keys that change, with their files, for a message."""
        return [f"{change.key} in {change.path}" for change in self.changes]


def main() -> int:
    """Handle one request; the exit code."""
    caller = deploy.take_caller()
    if caller.is_key:
        raise deploy.Failed(deploy.BAD_REQUEST, "a deploy key may not rotate: log in as a person")
    fields = parse_request(caller.request)
    if "version" in fields:
        checksum = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
        print(f"bin/rotate {VERSION} sha256:{checksum}")
        return int(deploy.OK)
    command = f"{deploy.ROOT}/bin/rotate {caller.request}"
    stack = deploy.open_stack(deploy.Machine(), fields["stack"], command)
    if "undo" in fields:
        return undo(stack)
    target = target_of(fields)
    if fields["preview"]:
        return print_preview(stack, target)
    value = read_value(target)
    request = request_for(stack)
    return deploy.run_detached(stack, request, lambda: perform(stack, request, target, value))


# 1. Parse: what a line of words asks for.


def parse_request(text: str) -> Dict[str, Any]:
    """The parts of a request, by their names in its grammar."""
    for grammar in REQUESTS:
        match = grammar.fullmatch(text)
        if match:
            return match.groupdict()
    raise deploy.Failed(
        deploy.BAD_REQUEST, "unknown request: the top of bin/rotate lists the requests"
    )


def target_of(fields: Dict[str, Any]) -> Target:
    """The secret that a request names."""
    return Target(
        keys=tuple(fields["keys"].split(",")),
        env_file=fields.get("env_file") or "",
        server=fields.get("server") or "",
        role=fields.get("role") or "",
        password_key=fields.get("password_key") or "",
    )


def request_for(stack: deploy.Stack) -> deploy.Request:
    """The request with which the functions of bin/deploy replace containers for a rotation."""
    return deploy.Request("rotate", stack.name, run="rotate")


def perform(stack: deploy.Stack, request: deploy.Request, target: Target, value: str) -> int:
    """Carry out a rotation; at the end, print what serves now."""

    def work(services: List[deploy.Service]) -> None:
        with stack.locked(request):
            recover(stack)
            rotate(stack, request, target, value, services)
            deploy.check_again(stack, services)

    return deploy.carry_out(stack, request, work)


def undo(stack: deploy.Stack) -> int:
    """Undo the rotation of a stack that was interrupted, if there is one."""
    signal.signal(signal.SIGTERM, deploy.end_on_signal)
    with stack.locked(request_for(stack)):
        recover(stack)
    return int(deploy.OK)


def recover(stack: deploy.Stack) -> None:
    """Finish or undo what was interrupted: a rotation, and deploys."""
    with undone_rotation(stack):
        deploy.recover(stack, "rotate")
    deploy.run_owed_hook(stack)


def rotate(
    stack: deploy.Stack,
    request: deploy.Request,
    target: Target,
    value: str,
    services: List[deploy.Service],
) -> None:
    """Change a secret, and put the services that read it into service with the new value."""
    if stack.rotation_note.exists():
        raise deploy.Failed(
            deploy.NOT_READY,
            f"an earlier rotation of {stack.name} is not undone yet, and its values would be lost."
            " Nothing was changed",
        )
    rotation = plan_rotation(stack, target, value)
    services += consumers(stack, rotation)
    for service in services:
        deploy.ensure_rollback_image(stack, service)
    names = tuple(service.name for service in services)
    rotation = dataclasses.replace(rotation, services=names)
    with values_are_hidden(rotation):
        if rotation.role:
            # The role must have the old password: another one could not be brought back.
            set_password(stack, rotation.role, rotation.role.before, rotation.role.before)
        deploy.start_accessories(stack, services)
        # The hooks enclose the undoing, too: hooks/after may end a maintenance mode.
        undoing = rotation_is_undone_after_failure(stack, services)
        with deploy.hooks(stack, request.verb, services), undoing:
            apply_rotation(stack, rotation)
            stack.read_compose_file()
            deploy.replace_in_order(stack, request, services)
            deploy.check_again(stack, services)
    if deploy.exit_code_of(services) == deploy.SERVING:
        deploy.progress(f"rotated: {', '.join(rotation.places)}")


def print_preview(stack: deploy.Stack, target: Target) -> int:
    """Print what a rotation would change, and the services that it would redeploy."""
    stack.state.mkdir(exist_ok=True)
    with stack.locked(request_for(stack)):
        # Any other value shows which lines and services a new one would change.
        rotation = plan_rotation(stack, target, os.urandom(16).hex())
        services = consumers(stack, rotation)
    for place in rotation.places:
        print(f"changes: {place}")
    if rotation.role:
        print(f"changes: the password of the role {rotation.role.name} of {rotation.role.server}")
    for service in services:
        has_no_gap = service.is_start_first and service.can_temporary_serve
        way = "start-first" if has_no_gap else "with a short gap"
        print(f"redeploys: {service.name}, {way}, with the image that it runs")
    if not services:
        print("redeploys: nothing, because no deployed service of the stack reads it")
    return int(deploy.OK)


def read_value(target: Target) -> str:
    """Read the new value from standard input."""
    if os.isatty(0):
        deploy.print_line(
            f"the new value of {' '.join(target.keys)}, which is not shown:", sys.stderr
        )
    with deploy.without_echo():
        value, line_break, _ = deploy.read_line(SECRET_SECONDS).partition("\n")
    problem = problem_of_value(value, is_password=bool(target.role))
    if not problem and not line_break:
        # A connection that breaks would otherwise store half of the value.
        problem = "does not end with a line break, so a part of it may be missing"
    if problem:
        raise deploy.Failed(
            deploy.BAD_REQUEST, f"the new value cannot be stored: it {problem}. Nothing was changed"
        )
    return value


def problem_of_value(value: str, is_password: bool) -> str:
    """Why a value cannot be stored between single quotes on a line of an env file; or empty."""
    if not value:
        return "is empty"
    if value != value.strip():
        return "begins or ends with a space"
    if not value.isprintable() or "\ufffd" in value:
        return "contains a line break or another character that cannot be printed"
    if "'" in value or value.endswith("\\"):
        return "contains a single quote or ends with a backslash, which an env file cannot hold"
    if len(value) > LONGEST_SECRET:
        return f"is longer than {LONGEST_SECRET} characters"
    if "change-me" in value:
        return "contains change-me, which marks a value that nobody has filled in"
    if is_password and not re.fullmatch(r"[!-~]+", value):
        # PostgreSQL and its clients would have to agree on how such characters are normalized.
        return "contains a space or a character that is not ASCII, which clients encode differently"
    return ""


# 2. Plan: which lines of which env files change, and which services read them.


def plan_rotation(stack: deploy.Stack, target: Target, value: str) -> Rotation:
    """Find the lines of env files that have the secret; it raises Failed if there are none."""
    stack.read_compose_file()
    deploy.refuse_missing_env_files(stack)
    if target.role:
        return plan_password_rotation(stack, target, value)
    keys = ", ".join(target.keys)
    names = stack.files.env_files()
    if target.env_file:
        names = [name for name in names if name == target.env_file]
    old_values: Dict[str, str] = {}
    changes: List[Change] = []
    for name in names:
        path = stack.folder / name
        for line in env_lines_to_change(path):
            if line.key in target.keys:
                old_values[name] = line.env_value
        changes += changes_in(path, partial(with_new_value, keys=target.keys, secret=value))
    if not old_values:
        raise deploy.Failed(deploy.BAD_REQUEST, f"no env file of {stack.name} has {keys}")
    if len(set(old_values.values())) > 1:
        raise deploy.Failed(
            deploy.BAD_REQUEST,
            f"{keys} has different values in {', '.join(old_values)}. Name the file whose value is to"
            f" change: rotate value {stack.name} {keys} FILE",
        )
    if not changes:
        raise deploy.Failed(
            deploy.BAD_REQUEST, f"{keys} has this value already. Nothing was changed"
        )
    refuse_password_of_role(stack, keys, set(old_values.values()))
    return Rotation(tuple(changes))


def refuse_password_of_role(stack: deploy.Stack, key: str, values: Set[str]) -> None:
    """Fail if a value is a password of a PostgreSQL server, where the role would keep the old one."""
    for path in sorted(deploy.ROOT.glob(f"*/{SERVER_ENV_FILE}")):
        if path.parent == stack.folder or not os.access(path, os.R_OK):
            continue
        lines = {line.key: line.env_value for line in deploy.read_env_lines(path)}
        if SUPERUSER_KEY not in lines:
            continue  # it is the file of a stack that is no PostgreSQL server
        for server_key, value in lines.items():
            if value in values and server_key.endswith("_PASSWORD"):
                raise deploy.Failed(
                    deploy.BAD_REQUEST,
                    f"{key} is a password of a database: {server_key} in"
                    f" {path.parent.name}/{path.name} has the same value. Changing {key} alone would"
                    " lock its services out. To change the password in PostgreSQL, too: kiwari-ci"
                    " rotate ENV DATABASE. Nothing was changed",
                )


def plan_password_rotation(stack: deploy.Stack, target: Target, value: str) -> Rotation:
    """Find the password of a role in the server's env file, and in the env files of the stack."""
    path = deploy.ROOT / target.server / SERVER_ENV_FILE
    lines = [line for line in env_lines_to_change(path) if line.key == target.password_key]
    if not lines or not lines[0].env_value:
        raise deploy.Failed(
            deploy.BAD_REQUEST, f"{target.server}/{SERVER_ENV_FILE} has no {target.password_key}"
        )
    role = Role(target.server, target.role, lines[0].env_value, value)
    if role.before == role.after:
        raise deploy.Failed(
            deploy.BAD_REQUEST, f"{role.name} has this password already. Nothing was changed"
        )
    password_keys = (target.password_key,)
    changes = changes_in(path, partial(with_new_value, keys=password_keys, secret=value))
    for name in stack.files.env_files():
        place = f"{stack.name}/{name}"
        new_value = partial(with_new_password, keys=target.keys, role=role, place=place)
        changes += changes_in(stack.folder / name, new_value)
    if all(change.path == f"{role.server}/{SERVER_ENV_FILE}" for change in changes):
        raise deploy.Failed(
            deploy.NOT_READY,
            f"the password of {role.name} in {role.server}/{SERVER_ENV_FILE} is in no env file of"
            f" {stack.name}, so its services would not get a new one. Nothing was changed",
        )
    return Rotation(tuple(changes), role)


def with_new_value(line: deploy.EnvLine, keys: Sequence[str], secret: str) -> str:
    """The value of a line with one of these keys is the new one; others stay."""
    return secret if line.key in keys else line.env_value


def with_new_password(line: deploy.EnvLine, keys: Sequence[str], role: Role, place: str) -> str:
    """The value of a line with the new password in place of the old one; or the value as it is."""
    value = line.env_value
    if line.key not in keys:
        return value
    if value == role.before:
        return role.after
    user, host = user_and_host(value)
    if user not in ("", role.name):
        return value  # the credentials of somebody else, which may be the same text
    shown = f"{line.shown_key} in {place}"
    is_of_server = re.fullmatch(rf"{re.escape(role.server)}(?:[:,][0-9]+)?", host)
    encoded = urllib.parse.quote(role.after, safe="")
    changed = with_password_replaced(value, role.before, encoded)
    if not has_password(value, role):
        if is_of_server and URL_WITH_PASSWORD.fullmatch(value):
            raise deploy.Failed(
                deploy.NOT_READY,
                f"{shown} has another password for {role.name} than"
                f" {role.server}/{SERVER_ENV_FILE}. Correct the wrong one first. Nothing was"
                " changed",
            )
        return value
    if host and not is_of_server:
        raise deploy.Failed(
            deploy.NOT_READY,
            f"{shown} has the password of {role.name}, and names another host than {role.server}."
            " Give one of the two another password by hand. Nothing was changed",
        )
    # What is left without the password; the name of the role, or of its database, may contain it.
    rest = with_password_replaced(value, role.before, "").replace(role.name, "")
    if changed == value or has_password(rest, role):
        raise deploy.Failed(
            deploy.NOT_READY,
            f"{shown} has the password of {role.name} in a form that rotate does not know. Write it"
            " as a URL, or change the password by hand. Nothing was changed",
        )
    if "://" not in value and encoded != role.after:
        raise deploy.Failed(
            deploy.BAD_REQUEST,
            f"{shown} is not a URL, so its new password may only have letters and digits. Nothing"
            " was changed",
        )
    return changed


def user_and_host(value: str) -> Tuple[str, str]:
    """The user and the host of a URL, or of the text of a connection; empty if it has none."""
    url = URL_WITH_PASSWORD.fullmatch(value)
    if url:
        return urllib.parse.unquote(url["user"]), url["host"]
    user, host = USER_SETTING.search(value), HOST_SETTING.search(value)
    return user[1].strip("'\"") if user else "", host[1].strip("'\"") if host else ""


def with_password_replaced(value: str, old: str, new: str) -> str:
    """A URL, or the text of a connection, with another password wherever it has this one."""
    url = URL_WITH_PASSWORD.fullmatch(value)
    if url and old in (url["password"], urllib.parse.unquote(url["password"])):
        value = f"{url['scheme']}{url['user']}:{new}@{url['rest']}"

    def replaced(match: "re.Match[str]") -> str:
        is_old = old in (match[2], urllib.parse.unquote(match[2]))
        return match[1] + new if is_old else match[0]

    return PASSWORD_SETTING.sub(replaced, value)


def has_password(text: str, role: Role) -> bool:
    """Whether a text has the old password of a role somewhere, perhaps percent-encoded."""
    return role.before in text or role.before in urllib.parse.unquote(text)


def env_lines_to_change(path: Path) -> List[deploy.EnvLine]:
    """The lines of an env file that is a plain file of this user."""
    shown = f"{path.parent.name}/{path.name}"
    if path.is_symlink() or not path.is_file():
        raise deploy.Failed(
            deploy.NOT_READY, f"{shown} is missing, or is a symbolic link, which is not followed"
        )
    owner = path.stat().st_uid
    if owner != os.geteuid():
        raise deploy.Failed(
            deploy.NOT_READY,
            f"{shown} belongs to {deploy.name_of_user(owner)}. Give it to the user of the stack: sudo chown"
            f" {deploy.name_of_user(os.geteuid())} {path}",
        )
    return deploy.read_env_lines(path)


def changes_in(path: Path, new_value: Callable[[deploy.EnvLine], str]) -> List[Change]:
    """The lines of an env file that get another value."""
    texts = LINE_END.split(read_env_text(path))[::2]
    changes = []
    for line in env_lines_to_change(path):
        value = new_value(line)
        if value == line.env_value:
            continue
        if "\ufffd" in line.env_value:
            raise deploy.Failed(
                deploy.NOT_READY,
                f"{path.parent.name}/{path.name}:{line.number}: {line.shown_key} has bytes that are"
                " not UTF-8, and would lose them. Write the line in UTF-8. Nothing was changed",
            )
        before = texts[line.number - 1]
        export = "export " if before.lstrip().startswith("export ") else ""
        after = f"{export}{line.key}='{value}'"
        changes.append(Change(f"{path.parent.name}/{path.name}", line.key, before, after))
    return changes


def read_env_text(path: Path) -> str:
    """The text of an env file, from which the same bytes can be made again."""
    return path.read_bytes().decode("utf-8", "surrogateescape")


def with_changes(path: Path, changes: Iterable[Change], is_undone: bool = False) -> bytes:
    """The content of an env file after these changes, or before them."""
    parts = LINE_END.split(read_env_text(path))
    for change in changes:
        old, new = change.before, change.after
        if is_undone:
            old, new = new, old
        parts = [new if part == old else part for part in parts]
    return "".join(parts).encode("utf-8", "surrogateescape")


def consumers(stack: deploy.Stack, rotation: Rotation) -> List[deploy.Service]:
    """The services whose environment a rotation changes, as Compose reads it.

    The rotation is refused if a deploy of these services with the changed files would be.
    """
    environments = {
        name: service.model.get("environment") for name, service in stack.services.items()
    }
    folder = Path(tempfile.mkdtemp(prefix="incoming-", dir=stack.state))
    try:
        files = deploy.Files(stack.folder, folder)
        for name, changes in changes_by_file(rotation).items():
            if deploy.ROOT / name == stack.folder / Path(name).name:
                content = with_changes(deploy.ROOT / name, changes)
                deploy.write_file(folder / Path(name).name, content, 0o600)
        files.complete()
        stack.read_compose_file(files)
        deploy.refuse_missing_env_files(stack)
        services = [
            service
            for service in stack.services.values()
            if service.model.get("environment") != environments[service.name]
        ]
        services = deployed_consumers(stack, rotation, services)
        deploy.refuse_findings(list(deploy.findings_of(stack, services, files)))
    finally:
        deploy.remove_folder(folder)
        stack.read_compose_file()
    for service in services:
        report_other_changes(stack, service)
    return services


def report_other_changes(stack: deploy.Stack, service: deploy.Service) -> None:
    """Say if a service also gets other settings than those with which it was deployed."""
    container = stack.find(service.container_name)
    if not container or not stack.owns(container, service):
        return
    if container.labels.get("com.docker.compose.config-hash") not in stack.hashes(
        service, container
    ):
        deploy.progress(
            f"note: {service.name} also gets the other settings that were changed since its last deploy"
        )


def deployed_consumers(
    stack: deploy.Stack, rotation: Rotation, services: List[deploy.Service]
) -> List[deploy.Service]:
    """Those of the services that were deployed, each with the image that it runs."""
    for service in services:
        if service.is_accessory:
            names = " ".join(other.name for other in services)
            raise deploy.Failed(
                deploy.NOT_READY,
                f"{service.name} reads {', '.join(rotation.places)}, and a deploy never replaces"
                " an accessory. Edit the file by hand, then: cd"
                f" {stack.folder} && docker compose up -d {names}",
            )
        service.image = service.previous_image = stack.newest_record(service.name).image
        if not service.image:
            deploy.progress(
                f"note: {service.name} was never deployed: its first deploy has the new value"
            )
        elif deploy.serving_image(stack, service) not in ("", service.image):
            raise deploy.Failed(
                deploy.NOT_READY,
                f"{service.name} runs an image whose deploy was interrupted, and a rotation starts only"
                " images that were deployed completely. First deploy it again, or go back:"
                f" {deploy.rollback_command(stack, service)}",
            )
    return [service for service in services if service.image]


def changes_by_file(rotation: Rotation) -> Dict[str, List[Change]]:
    """The changes of each env file."""
    files: Dict[str, List[Change]] = {}
    for change in rotation.changes:
        files.setdefault(change.path, []).append(change)
    return files


# 3. Change the files and the role.


def apply_rotation(stack: deploy.Stack, rotation: Rotation) -> None:
    """Write the note, then change the env files, then the password of the role."""
    with deploy.uninterrupted():
        deploy.write_json(stack.rotation_note, dataclasses.asdict(rotation))
        write_env_files(stack, rotation)
        if rotation.role:
            set_password(stack, rotation.role, rotation.role.before, rotation.role.after)


def write_env_files(stack: deploy.Stack, rotation: Rotation, is_undone: bool = False) -> None:
    """Change the lines of the env files, or bring back the old ones. Other lines stay.

    The lock of the whole server is held: the env file of a PostgreSQL server belongs to all stacks.
    """
    with deploy.locked(deploy.ROOT / deploy.HOST_LOCK, "changing env files"):
        for name, changes in changes_by_file(rotation).items():
            path = deploy.ROOT / name
            deploy.remove_half_written_files(path.parent, path.parent / stack.state.name)
            if not path.is_file():
                deploy.progress(f"note: {name} is missing")
                continue
            if not is_undone:
                (path.parent / stack.state.name).mkdir(exist_ok=True)
                deploy.Files(path.parent).back_up(path.name)
            settings = path.stat()
            content = with_changes(path, changes, is_undone)
            deploy.write_file(path, content, settings.st_mode & 0o777, group=settings.st_gid)


def set_password(stack: deploy.Stack, role: Role, old: str, new: str) -> None:
    """Let bin/database change the password of a role; it gets both passwords on standard input."""
    program = deploy.installed_program("database", "passwords of databases")
    command = [program, "set-password", role.server, role.name]
    output = stack.machine.show(command, PASSWORD_SECONDS, stdin=f"{old}\n{new}\n")
    if output.code != 0:
        raise deploy.Failed(
            deploy.NOT_READY,
            f"the password of {role.name} on {role.server} was not changed: bin/database ended with"
            f" exit code {output.code}",
        )


# 4. Undo: the old files and the old password first, then the services.


@contextlib.contextmanager
def rotation_is_undone_after_failure(
    stack: deploy.Stack, services: List[deploy.Service]
) -> Iterator[None]:
    """Bring back the old secret if a service does not run with the new one."""
    try:
        yield
    except Exception:
        undo_after_failure(stack, services)
        raise
    if deploy.exit_code_of(services) == deploy.SERVING:
        remove_rotation_note(stack)
    else:
        undo_after_failure(stack, services)


def undo_after_failure(stack: deploy.Stack, services: List[deploy.Service]) -> None:
    """Undo a rotation; an error in this leaves the rest to the next request of the stack."""
    with deploy.uninterrupted():
        try:
            with undone_rotation(stack):
                stack.services = {}  # what they have learned belongs to the new value
                stack.read_compose_file()
        except (deploy.Failed, OSError) as error:
            deploy.print_error(
                f"the rotation is not undone, and the next request tries again: {error}"
            )
        outcome = "went back to the old value, with the others."
        if stack.rotation_note.exists():
            outcome = "may still have the new value, because the rotation is not undone."
        for service in services:
            if deploy.result_of(service) in ("serving", "unchanged"):
                service.result = "failed"
                service.problem = f"{service.name} {outcome}"


@contextlib.contextmanager
def undone_rotation(stack: deploy.Stack) -> Iterator[None]:
    """Undo a rotation that was not finished, around a step that needs the old files.

    The old env files and the old password come before that step. The services that run with the
    new value are replaced after it, because containers that are half replaced stand in the way.
    """
    note = deploy.read_json(stack.rotation_note)
    if not note:
        yield
        return
    rotation = Rotation(
        tuple(Change(**change) for change in note["changes"]),
        Role(**note["role"]) if note["role"] else None,
        tuple(note["services"]),
    )
    deploy.progress(f"undoing a rotation: {', '.join(rotation.places)}")
    with values_are_hidden(rotation):
        try:
            write_env_files(stack, rotation, is_undone=True)
        finally:
            # Also if the disk is full: the containers that still serve have the old password.
            if rotation.role:
                change_password_back(stack, rotation.role)
        yield
        if not stack.services:
            return  # Compose could not read its file; the next request goes on here
        if replace_with_old_value(stack, rotation):
            remove_rotation_note(stack)


def change_password_back(stack: deploy.Stack, role: Role) -> None:
    """Give a role its old password; it raises Failed, with the way out, if that is not possible."""
    try:
        set_password(stack, role, role.after, role.before)
    except deploy.Cancelled:
        raise
    except deploy.Failed as failure:
        raise deploy.Failed(
            deploy.NOT_READY,
            f"the password of {role.name} on {role.server} is half rotated, and was not changed"
            f" back: bin/database says why. Start PostgreSQL: cd {deploy.ROOT / role.server} &&"
            " docker compose up -d. Then run this again. If somebody has changed the password"
            f" meanwhile, write it into the env files, and end the rotation: rm {stack.rotation_note}",
        ) from failure


def replace_with_old_value(stack: deploy.Stack, rotation: Rotation) -> bool:
    """Replace the containers that run with the new value; whether all serve with the old one."""
    request = request_for(stack)
    names = [name for name in rotation.services if name in stack.services]
    services = [stack.services[name] for name in names]
    for service in services:
        service.image = service.previous_image = stack.newest_record(service.name).image
    for level in deploy.dependency_levels(services):
        deploy.replace_containers(stack, request, level)
    for service in services:
        if service.result not in ("serving", "unchanged"):
            deploy.print_error(
                f"{service.name} does not serve with the old value either. The next request of the"
                " stack tries again"
            )
    stack.services = {}  # what they have learned is of no use to the request that goes on
    stack.read_compose_file()
    return deploy.exit_code_of(services) == deploy.SERVING


def remove_rotation_note(stack: deploy.Stack) -> None:
    """Forget a rotation; a note that came back after a power cut would undo it."""
    stack.rotation_note.unlink()
    deploy.sync_folder(stack.state)


@contextlib.contextmanager
def values_are_hidden(rotation: Rotation) -> Iterator[None]:
    """Replace the old and new values by stars in what other programs print meanwhile."""
    assignments = [text for change in rotation.changes for text in (change.before, change.after)]
    values = [
        deploy.without_quotes(re.split("[=:]", text, maxsplit=1)[1].strip()) for text in assignments
    ]
    if rotation.role:
        values += [rotation.role.before, rotation.role.after]
    values += [urllib.parse.quote(value, safe="") for value in values]
    hidden_before = list(deploy.HIDDEN_VALUES)
    deploy.HIDDEN_VALUES[:] = sorted({*hidden_before, *filter(None, values)}, key=len, reverse=True)
    try:
        yield
    finally:
        deploy.HIDDEN_VALUES[:] = hidden_before


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (deploy.Failed, OSError) as error:
        failure = deploy.as_failure(error)
        deploy.print_error(failure.message)
        sys.exit(failure.code)
