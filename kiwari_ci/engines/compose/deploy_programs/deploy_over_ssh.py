#!/usr/bin/python3 -I
"""The kiwari-ci SSH client: a GitHub deploy job runs it to put images into service on a server.

It runs in the root of the checkout. Over ssh it asks the host program (bin/deploy on the server)
for a deploy, and passes its output to the log. It exits with 0 only if the host program reports
that the images serve, or that a newer commit does.

    deploy/bin/deploy-over-ssh --stack STACK --sequence N
        [--folder FOLDER]               of deploy/, with the stack's files; default: STACK
        --address VAR --user VAR --key VAR --known-hosts VAR [--port N|VAR]
        [--jump-address VAR --jump-user VAR --jump-key VAR --jump-known-hosts VAR
         [--jump-port N|VAR]]
        [--proxy-command WORDS]         a program that connects to the server, as OpenSSH has it
        [--proxy-variable VAR]...       what that program reads from its environment
        --token VAR
        [--send-files]                  send docker-compose.yml and the files beside it
        [--env FILE KEY VAR]...         send an env file with this key, and the value of VAR
        [--env-value FILE KEY VALUE]... the same, with a value that is not a secret
        [--show-output]                 show output of containers also in a public repository
        [--put-back]                    if a person runs an older commit by hand, roll back to it
        SERVICE=DIGEST...               or SERVICE=unchanged: this run has no new image for it

VAR is the name of an environment variable. Secrets are passed to this program in such variables. It
passes them on by the standard input of ssh, or in a private folder that it removes at the end. They
are never in the arguments of a process, which any user of a machine can read, nor in the log. Only
a program on the way to the server reads variables of its environment, those of --proxy-variable.

Exit codes: 0 the images serve, or a newer commit does (then the step's output `superseded-by` has
its sequence number, and the next step checks that the branch has it); the exit code of the host
program if it reports that they do not serve; 1 if there is no such report.

Python 3.8 or newer, standard library only. The same bytes in every repository.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NoReturn

VERSION = "1"
PROTOCOL = 1  # of the request and of the result line

LONGEST_LINE = 64 * 1024  # bytes; the rest of a longer line of the host's output is dropped
LONGEST_MESSAGE = 2000  # characters of the host's message that an annotation shows
MOST_BYTES = 64 * 1024 * 1024  # the host refuses more
MOST_FILES = 1000

NOT_SERVING = 1
SUPERSEDED = 3
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SSH_FAILED = 255  # ssh's own exit code: no connection, or a connection that broke

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
UNCHANGED = "unchanged"  # in place of a digest
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
SEQUENCE = re.compile(r"[1-9][0-9]{0,11}")
RUN = re.compile(r"[0-9]{1,20}")
PORT = re.compile(r"[1-9][0-9]{0,4}")
# The user's shell reads the command, so that its words have no character that means something there.
PROXY_COMMAND = re.compile(
    r"[A-Za-z0-9_./][A-Za-z0-9_./+-]*( ([A-Za-z0-9_./:@=,+-]|%[hpr])+)*"  # a program and its words
)
ADDRESS = re.compile(r"[A-Za-z0-9:][A-Za-z0-9.:_-]*")
USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]*")
KNOWN_HOST = re.compile(
    r"(@(cert-authority|revoked) )?[!-~]+ [a-z0-9@.-]+ [A-Za-z0-9+/]+=*( [^\x00-\x1f\x7f]*)?"
)
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
ENV_FILE = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]*)?\.env")
FILE_BESIDE = re.compile(r"(?!(.*/)?\.\.?(/|$))[A-Za-z0-9_.@-]+(/[A-Za-z0-9_.@-]+)*")
CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

COMPOSE_FILE = "docker-compose.yml"
BESIDE = "# Files beside it: "  # the comment in the compose file's head that names the others

LOGIN_OPTIONS = ("address", "user", "key", "known-hosts")
REQUIRED = ("--stack", "--sequence", *(f"--{option}" for option in LOGIN_OPTIONS), "--token")
JUMP = tuple(f"--jump-{option}" for option in LOGIN_OPTIONS)
PORTS = ("--port", "--jump-port")
OPTIONS = frozenset((*REQUIRED, *JUMP, *PORTS, "--proxy-command", "--folder"))
NAMING_VARIABLES = tuple(
    option for option in (*REQUIRED, *JUMP) if option not in ("--stack", "--sequence")
)
FLAGS = frozenset(("--send-files", "--show-output", "--put-back"))
OF_GITHUB = ("GITHUB_RUN_ID", "GITHUB_SHA", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")

OUTPUT = "| "  # what the host puts before the output of containers and other programs
HIDDEN = (
    "| (lines of output that are not shown here, because everybody can read this log: {}. They are on"
    " the server, in log/ of the stack. `public_logs: true` in the spec shows them here)"
)
UNCLEAR = "the host does not say what serves"
CANNOT_HOLD = (
    "an env file cannot hold several lines, a backslash at the end, or a single quote together"
    " with a double quote, a backslash or a dollar sign. Keep such a value in base64"
)


class Refused(Exception):
    """There is no deploy, or its outcome is unknown; a sentence for each reason."""

    def __init__(self, *sentences: str) -> None:
        super().__init__(*sentences)
        self.sentences = sentences


class Stopped(BaseException):
    """A signal ends this program: GitHub sends one if a person cancels the run."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Ask for the deploy that the command line describes; the exit code."""
    try:
        command_line = read_command_line(arguments)
        refuse_if_any(problems_of_words(command_line))
        refuse_if_any(problems_of_variables(command_line, environment))
        order = read_order(command_line, environment)
        with private_folder(order, environment) as folder:
            shows_output = may_show_output(command_line, environment)
            ssh = Ssh(folder, without_secrets(environment, command_line), shows_output)
            result = deploy(order, ssh)
            if should_put_back(command_line, environment, result):
                result = put_back(order, result, ssh)
        write_summary(result, environment)
        return conclude(order, result, environment)
    except Refused as refused:
        for sentence in refused.sentences:
            annotate("error", sentence)
        return NOT_SERVING
    except OSError as error:
        annotate("error", f"{error.filename or 'deploy-over-ssh'}: {error.strerror or error}")
        return NOT_SERVING
    except Stopped as stopped:
        say(
            "==> stopped: the host goes on with what it has begun;"
            " `deploy cancel STACK` on the host ends it"
        )
        return 128 + stopped.number


# ---- The command line


@dataclass(frozen=True)
class EnvLine:
    """A line of an env file: a key, and its text or the name of the variable that has it."""

    file: str
    key: str
    text: str  # the value itself, or the name of the variable that has it
    is_variable: bool


@dataclass
class CommandLine:
    """The arguments of this program."""

    options: dict[str, str] = field(default_factory=dict)
    flags: set[str] = field(default_factory=set)
    env_lines: list[EnvLine] = field(default_factory=list)
    proxy_variables: list[str] = field(default_factory=list)
    services: list[tuple[str, str]] = field(default_factory=list)  # name, digest

    @property
    def has_jump(self) -> bool:
        """Whether ssh reaches the server through a jump host."""
        return any(option in self.options for option in JUMP)

    def variables(self) -> list[str]:
        """The environment variables that the arguments name, without repetitions."""
        options = [option for option in NAMING_VARIABLES if option in self.options]
        options += [option for option in PORTS if is_variable(self.options.get(option, ""))]
        names = [self.options[option] for option in options]
        names += [line.text for line in self.env_lines if line.is_variable]
        return list(dict.fromkeys(names))


def is_variable(word: str) -> bool:
    """Whether a word is the name of a variable, and no number."""
    return VARIABLE.fullmatch(word) is not None


def read_command_line(arguments: Sequence[str]) -> CommandLine:
    """Parse the arguments. argparse would take a value such as `-Xmx512m` for an option."""
    command_line = CommandLine()
    remaining = deque(arguments)
    while remaining:
        word = remaining.popleft()
        if word in OPTIONS:
            command_line.options[word] = take_words(1, remaining, word)[0]
        elif word in FLAGS:
            command_line.flags.add(word)
        elif word in ("--env", "--env-value"):
            file, key, text = take_words(3, remaining, word)
            command_line.env_lines.append(EnvLine(file, key, text, is_variable=word == "--env"))
        elif word == "--proxy-variable":
            command_line.proxy_variables += take_words(1, remaining, word)
        elif word.startswith("-"):
            raise Refused(f"{word} is not an option of deploy-over-ssh")
        else:
            service, _, digest = word.partition("=")
            if digest != UNCHANGED:
                command_line.services.append((service, digest))
    return command_line


def take_words(count: int, remaining: deque[str], option: str) -> list[str]:
    """The words that belong to an option."""
    if len(remaining) < count:
        raise Refused(f"{option} needs {count} word{'s' if count > 1 else ''} behind it")
    return [remaining.popleft() for _ in range(count)]


# ---- Checks: before the host is asked, all problems are reported at once


def refuse_if_any(problems: Iterable[str]) -> None:
    """Fail if there are problems."""
    sentences = tuple(problems)
    if sentences:
        raise Refused(*sentences)


def problems_of_words(command_line: CommandLine) -> Iterator[str]:
    """Problems of the arguments. They must be strict: a shell on the host may read some of them."""
    needed = REQUIRED + JUMP if command_line.has_jump else REQUIRED
    for option in needed:
        if option not in command_line.options:
            yield f"{option} is missing on the command line"
    shapes = {
        "--stack": NAME,
        "--folder": NAME,
        "--sequence": SEQUENCE,
        "--proxy-command": PROXY_COMMAND,
    }
    for option, word in command_line.options.items():
        if option in PORTS and not is_variable(word):
            if not is_port(word):
                yield f"{option} {word!r} is not valid: a port is a number from 1 to 65535"
        elif not shapes.get(option, VARIABLE).fullmatch(word):
            yield f"{option} {word!r} is not valid"
    if command_line.has_jump and "--proxy-command" in command_line.options:
        yield "--proxy-command and --jump-address cannot be used together"
    for name in command_line.proxy_variables:
        if not is_variable(name):
            yield f"--proxy-variable {name!r} is not valid"
    yield from problems_of_services(command_line.services)
    for line in command_line.env_lines:
        if not ENV_FILE.fullmatch(line.file):
            yield f"{line.file!r} is not the name of an env file"
        if not VARIABLE.fullmatch(line.key) or (
            line.is_variable and not VARIABLE.fullmatch(line.text)
        ):
            yield f"{line.file}: {line.key!r} has a name that no variable can have"


def problems_of_services(services: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Problems of SERVICE=DIGEST. If the build job has set no output, the digest is empty."""
    if not services:
        yield "no SERVICE=DIGEST on the command line: there is nothing to deploy"
    names = [name for name, _ in services]
    for name, digest in services:
        if not NAME.fullmatch(name):
            yield f"{name!r} is not the name of a service"
        elif not DIGEST.fullmatch(digest):
            yield f"{name}: {digest!r} is not the digest of an image (sha256: and 64 digits)"
        elif names.count(name) > 1:
            yield f"{name} is on the command line more than once"


def problems_of_variables(
    command_line: CommandLine, environment: Mapping[str, str]
) -> Iterator[str]:
    """Problems of the environment. GitHub passes a secret that is not set as an empty string."""
    needed = [*command_line.variables(), *command_line.proxy_variables]
    missing = [name for name in needed if not environment.get(name)]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        yield f"{enumerate_words(missing)} {verb} not set: runbook, step 5"
    missing = [name for name in OF_GITHUB if not environment.get(name)]
    if missing:
        yield f"{enumerate_words(missing)} not set: this program runs in a job of GitHub Actions"
    if not RUN.fullmatch(environment.get("GITHUB_RUN_ID") or "0"):
        yield "GITHUB_RUN_ID is not a number"
    yield from problems_of_logins(command_line, environment)
    refused = [
        line.key for line in command_line.env_lines if not can_be_held(value_of(line, environment))
    ]
    if refused:
        yield f"{', '.join(dict.fromkeys(refused))}: {CANNOT_HOLD}"


def problems_of_logins(command_line: CommandLine, environment: Mapping[str, str]) -> Iterator[str]:
    """Problems of values that become lines of the ssh configuration or of standard input.

    White space or a line break in them could add an option or a line.
    """
    for option, variable in command_line.options.items():
        setting = environment.get(variable, "")
        if not setting:
            continue
        if option.endswith("address") and not ADDRESS.fullmatch(setting):
            yield (
                f"{variable} is not an address: it has white space"
                " or a character that no address has"
            )
        elif option.endswith("user") and not USER.fullmatch(setting):
            yield (
                f"{variable} is not the name of a user: it has white space"
                " or a character that no name has"
            )
        elif option.endswith("known-hosts") and not are_known_hosts(setting):
            yield (
                f"{variable} is not a list of known hosts:"
                " each line has names, the type of a key, and the key"
            )
        elif option in PORTS and is_variable(variable) and not is_port(setting):
            yield f"{variable} is not a port: a number from 1 to 65535"
        elif option == "--token" and CONTROL_CHARACTER.search(setting):
            yield f"{variable} is not a token: it has more than one line, or a control character"


def is_port(text: str) -> bool:
    """Whether a text is the number of a port."""
    return PORT.fullmatch(text) is not None and int(text) <= 65535


def are_known_hosts(text: str) -> bool:
    """Whether each line of a text is one of a known_hosts file, or a comment, or empty."""
    lines = text.replace("\r\n", "\n").split("\n")
    return all(not line.strip() or line[0] == "#" or KNOWN_HOST.fullmatch(line) for line in lines)


def enumerate_words(names: Sequence[str]) -> str:
    """`A`, `A and B`, `A, B and C`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


# ---- The order: what the host is asked for, and how to reach it


@dataclass(frozen=True)
class Machine:
    """A machine that ssh logs in to: the server or the jump host."""

    alias: str  # in the ssh configuration, so that the arguments of ssh have no address
    address: str = field(repr=False)
    user: str = field(repr=False)
    key: str = field(repr=False)
    known_hosts: str = field(repr=False)
    port: str


@dataclass(frozen=True)
class StackFile:
    """A file of the stack's folder; its name is relative to that folder."""

    name: str
    content: bytes = field(repr=False)
    mode: int


@dataclass(frozen=True)
class Order:
    """Everything that a request for a deploy needs."""

    stack: str
    sequence: str
    files_sha256: str
    run: str
    digests: dict[str, str]  # by service
    token: str = field(repr=False)
    files: tuple[StackFile, ...]  # that are sent
    server: Machine
    jump: Machine | None
    proxy_command: str  # empty: ssh connects by itself


def read_order(command_line: CommandLine, environment: Mapping[str, str]) -> Order:
    """Read the values and files that the arguments name; they have been checked."""
    stack = command_line.options["--stack"]
    folder = command_line.options.get("--folder", stack)
    stack_files = read_stack_files(Path("deploy", folder))
    sent = stack_files if "--send-files" in command_line.flags else []
    return Order(
        stack=stack,
        sequence=command_line.options["--sequence"],
        files_sha256=checksum_of_files(stack_files),
        run=environment["GITHUB_RUN_ID"],
        digests=dict(command_line.services),
        token=environment[command_line.options["--token"]],
        files=(*sent, *render_env_files(command_line.env_lines, environment)),
        server=read_machine("server", "--", command_line, environment),
        jump=read_machine("jump", "--jump-", command_line, environment)
        if command_line.has_jump
        else None,
        proxy_command=command_line.options.get("--proxy-command", ""),
    )


def read_machine(
    alias: str, prefix: str, command_line: CommandLine, environment: Mapping[str, str]
) -> Machine:
    """Read the address and the login of a machine from the environment."""
    address, user, key, known_hosts = (
        environment[command_line.options[prefix + option]] for option in LOGIN_OPTIONS
    )
    port = command_line.options.get(f"{prefix}port", "22")
    if is_variable(port):
        port = environment[port]
    return Machine(alias, address, user, key, known_hosts, port)


# ---- Files: those of the checkout, and env files with secrets and variables of GitHub


def read_stack_files(folder: Path) -> list[StackFile]:
    """Read the compose file, and the files beside it in the order in which it names them."""
    compose_file = read_stack_file(folder, COMPOSE_FILE)
    names = names_beside(compose_file.content.decode("utf-8", "replace"))
    return [compose_file, *(read_stack_file(folder, name) for name in names)]


def names_beside(compose_text: str) -> list[str]:
    """The names in the line `# Files beside it:` among the comments at the top."""
    for line in compose_text.splitlines():
        if not line.startswith("#"):
            break
        if line.startswith(BESIDE):
            return line[len(BESIDE) :].split()
    return []


def read_stack_file(folder: Path, name: str) -> StackFile:
    """Read a plain file of the stack, with its executable bits: a hook is a program."""
    path = folder / name
    if not FILE_BESIDE.fullmatch(name) or path.is_symlink() or not path.is_file():
        raise Refused(f"{path} is not a plain file of the checkout")
    mode = 0o644 | (path.stat().st_mode & 0o111)
    return StackFile(name, path.read_bytes(), mode)


def checksum_of_files(files: Sequence[StackFile]) -> str:
    """The checksum that `sha256sum docker-compose.yml a b | sha256sum` prints in the folder."""
    lines = [f"{hashlib.sha256(file.content).hexdigest()}  {file.name}\n" for file in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def render_env_files(
    env_lines: Sequence[EnvLine], environment: Mapping[str, str]
) -> list[StackFile]:
    """The env files; the lines of each are in the order of the arguments."""
    texts: dict[str, str] = {}
    for line in env_lines:
        head = "# Written by each deploy, from what GitHub keeps: an edit here is lost\n"
        text = texts.setdefault(line.file, head)
        texts[line.file] = text + render_env_line(line.key, value_of(line, environment))
    return [StackFile(name, encode(text), 0o600) for name, text in texts.items()]


def value_of(line: EnvLine, environment: Mapping[str, str]) -> str:
    """The value of a line of an env file."""
    return environment.get(line.text, "") if line.is_variable else line.text


def can_be_held(env_value: str) -> bool:
    """Whether every version of Compose reads the value of an env file as it was written."""
    if CONTROL_CHARACTER.search(env_value) or env_value.endswith("\\"):
        return False
    return not ("'" in env_value and re.search(r'["$\\]', env_value))


def render_env_line(key: str, env_value: str) -> str:
    """A line of an env file, in single quotes if possible: Compose replaces nothing in them."""
    quote = '"' if "'" in env_value else "'"
    return f"{key}={quote}{env_value}{quote}\n"


def pack(files: Sequence[StackFile]) -> bytes:
    """Create a tar archive in memory; for the same files it has the same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for file in files:
            member = tarfile.TarInfo(file.name)
            member.size = len(file.content)
            member.mode = file.mode
            archive.addfile(member, io.BytesIO(file.content))
    return buffer.getvalue()


def encode(text: str) -> bytes:
    """The original bytes of a text from the environment, which need not be UTF-8."""
    return text.encode("utf-8", "surrogateescape")


# ---- ssh: it runs in a private folder, which has its configuration


@contextlib.contextmanager
def private_folder(order: Order, environment: Mapping[str, str]) -> Iterator[Path]:
    """A folder with keys and configuration that only this user can read; it is removed later."""
    parent = environment.get("RUNNER_TEMP") or None
    temporary = tempfile.TemporaryDirectory(prefix="deploy-over-ssh-", dir=parent)
    try:
        folder = Path(temporary.name)
        machines = [order.server, order.jump] if order.jump else [order.server]
        for machine in machines:
            write_private(folder / f"{machine.alias}-key", as_text_file(machine.key))
            write_private(
                folder / f"{machine.alias}-known-hosts", as_text_file(machine.known_hosts)
            )
        write_private(folder / "config", "".join(map(ssh_config, machines)) + way_config(order))
        yield folder
    finally:
        signal.pthread_sigmask(
            signal.SIG_BLOCK, SIGNALS
        )  # one that arrives now waits for the removal
        temporary.cleanup()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def write_private(path: Path, text: str) -> None:
    """Create a file that only this user can read; ssh refuses a key file with other rights."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(encode(text))


def as_text_file(text: str) -> str:
    """The text with line ends as ssh needs them: a browser sends CR LF, and none at the end."""
    return text.replace("\r\n", "\n").rstrip("\n") + "\n"


def ssh_config(machine: Machine) -> str:
    """The ssh configuration of a machine: only this key, only a known host, no questions."""
    lines = [
        f"Host {machine.alias}",
        f"HostName {machine.address}",
        f"User {machine.user}",
        f"Port {machine.port}",
        f"IdentityFile {machine.alias}-key",
        "IdentitiesOnly yes",
        "BatchMode yes",
        "StrictHostKeyChecking yes",
        f"UserKnownHostsFile {machine.alias}-known-hosts",
        "GlobalKnownHostsFile /dev/null",
        "ServerAliveInterval 15",
        "ConnectTimeout 30",
    ]
    return "\n".join(lines) + "\n"


def way_config(order: Order) -> str:
    """The ssh configuration that leads through a jump host or a program, if there is one.

    It changes how ssh connects, and not what it trusts: the key of the server must still be known.
    """
    if order.jump:
        return f"Host {order.server.alias}\nProxyJump {order.jump.alias}\n"
    if order.proxy_command:
        return f"Host {order.server.alias}\nProxyCommand {order.proxy_command}\n"
    return ""


def without_secrets(environment: Mapping[str, str], command_line: CommandLine) -> dict[str, str]:
    """The environment for ssh, without the variables that the arguments name."""
    named = command_line.variables()
    return {name: setting for name, setting in environment.items() if name not in named}


@dataclass(frozen=True)
class Answer:
    """The exit code of ssh, and the line of output that may be the result; or an empty line."""

    exit_code: int
    result_line: str


@dataclass(frozen=True)
class Ssh:
    """The connection to the host."""

    folder: Path
    environment: dict[str, str] = field(repr=False)
    shows_output: bool  # of containers and other programs on the host

    def ask(self, request: Sequence[str], standard_input: bytes) -> Answer:
        """Send a request, and pass the output to the log while it arrives."""
        command = ["ssh", "-F", "config", "-T", "--", "server", *request]
        with subprocess.Popen(
            command,
            cwd=self.folder,  # names in the configuration are relative to it
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # in one pipe, for the order of the lines
        ) as process:
            assert process.stdin and process.stdout
            # In a thread, because the host may write output before it has read everything.
            feeder = threading.Thread(target=feed, args=(process.stdin, standard_input))
            feeder.start()
            try:
                result_line = show_lines(process.stdout, self.shows_output)
                return Answer(process.wait(), result_line)
            except BaseException:
                process.terminate()
                raise
            finally:
                process.wait()
                feeder.join()


def feed(pipe: IO[bytes], content: bytes) -> None:
    """Write everything and close. Errors are ignored: the exit code of ssh reports them."""
    with contextlib.suppress(OSError):
        pipe.write(content)
    with contextlib.suppress(OSError):
        pipe.close()


def may_show_output(command_line: CommandLine, environment: Mapping[str, str]) -> bool:
    """Whether output of containers may be in the log: everybody reads that of a public repository.

    A log may hold a password or a customer's name. The host keeps it in any case.
    """
    if "--show-output" in command_line.flags:
        return True
    try:
        event = json.loads(Path(environment.get("GITHUB_EVENT_PATH", "")).read_bytes())
        return event["repository"]["private"] is True
    except (OSError, ValueError, KeyError, TypeError):
        return False


def show_lines(stream: IO[bytes], shows_output: bool = True) -> str:
    """Pass the host's lines to the log, and return the last one that can be the result.

    A line of ssh itself may follow it when the connection closes. Output of containers cannot be
    mistaken for it, because the host program puts `| ` before such lines.
    """
    result_line = ""
    hidden = 0
    for line in read_lines(stream):
        if line.startswith(OUTPUT) and not shows_output:
            hidden += 1
            continue
        if hidden:
            say(HIDDEN.format(hidden))
            hidden = 0
        say(disarm(line))
        if line.startswith("{"):
            result_line = line
    if hidden:
        say(HIDDEN.format(hidden))
    return result_line


def read_lines(stream: IO[bytes]) -> Iterator[str]:
    """The lines of a stream, cut at 64 KiB; as for GitHub's runner, CR also ends a line."""
    for line in iter(lambda: stream.readline(LONGEST_LINE), b""):
        part = line
        while part and not part.endswith(b"\n"):
            part = stream.readline(LONGEST_LINE)
        is_cut = len(line) == LONGEST_LINE and not line.endswith(b"\n")
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        yield from (text + " ... (cut)" if is_cut else text).split("\r")


# ---- The log: GitHub's runner obeys lines such as `::error::…`, and older ones with `##[`


# The runner ignores invisible characters before and inside of a command. All of them are control
# characters, or are not in ASCII.
COMMAND = re.compile(r"[^!-~]*:[^ -~]*:")
OLD_COMMAND = re.compile(r"#[^ -~]*#[^ -~]*\[")


def disarm(line: str) -> str:
    """The line, changed so that GitHub's runner does not obey it as a command."""
    line = OLD_COMMAND.sub("## [", line)
    return f"| {line}" if COMMAND.match(line) else line


def say(line: str) -> None:
    """Write a line to the log at once, and in UTF-8, whatever the locale is."""
    sys.stdout.buffer.write(line.encode("utf-8", "replace") + b"\n")
    sys.stdout.buffer.flush()


def annotate(kind: str, sentence: str) -> None:
    """Show a sentence on the page of the run, as an `error` or a `notice`."""
    escaped = sentence.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    say(f"::{kind}::{escaped}")


# ---- The result: a JSON object, which must fit the request


@dataclass(frozen=True)
class ServiceResult:
    """The outcome of one service."""

    service: str
    result: str  # serving, unchanged, superseded, failed, not started; here also: put back
    before: str | None  # digests; None: nothing ran
    now: str | None
    seconds: int


@dataclass(frozen=True)
class Result:
    """The outcome of a request."""

    result: str  # serving, superseded, failed
    exit_code: int
    stack: str
    newest_sequence: int  # which serves, if this request is superseded
    message: str
    services: tuple[ServiceResult, ...]


def read_result(answer: Answer, stack: str, digests: Mapping[str, str]) -> Result:
    """The result that the host reports; fail if it is missing, or does not fit the request."""
    where = f"run `deploy status {stack}` on the host, then run this job again"
    if answer.exit_code == SSH_FAILED:
        raise Refused(
            "ssh could not connect, or the connection broke (the lines above say why):"
            f" {UNCLEAR}; {where}"
        )
    try:
        result = parse_result(answer.result_line)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Refused(f"{UNCLEAR}: {where}") from None
    if result.exit_code != answer.exit_code or not fits(result, stack, digests):
        raise Refused(f"{UNCLEAR}: {where}")
    return result


def parse_result(line: str) -> Result:
    """Parse the result line; raise ValueError, KeyError or TypeError if it is not valid."""
    document = json.loads(line)
    require(take(document, "protocol", int) == PROTOCOL)
    verdict = take(document, "result", str)
    require(verdict in ("serving", "superseded", "failed"))
    return Result(
        result=verdict,
        exit_code=take(document, "exit", int),
        stack=take(document, "stack", str),
        newest_sequence=take(document, "newest_sequence", int) if verdict == "superseded" else 0,
        message=take(document, "message", str),
        services=tuple(parse_service(entry) for entry in take(document, "services", list)),
    )


def parse_service(document: Any) -> ServiceResult:
    """Parse the part of the result about one service."""
    result = ServiceResult(
        service=take(document, "service", str),
        result=take(document, "result", str),
        before=take_digest(document, "before"),
        now=take_digest(document, "now"),
        seconds=take(document, "seconds", int),
    )
    require(result.result in ("serving", "superseded", "failed", "not started", "unchanged"))
    require(result.seconds >= 0)
    return result


def take(document: Any, key: str, kind: type) -> Any:
    """The entry of that key, which must have exactly this type: `True` is not a number."""
    entry = document[key]
    require(type(entry) is kind)
    return entry


def take_digest(document: Any, key: str) -> str | None:
    """The entry of that key, which must be a digest or None."""
    entry: str | None = document[key]
    require(entry is None or DIGEST.fullmatch(entry) is not None)
    return entry


def require(condition: bool) -> None:
    """Refuse a result that does not follow the protocol."""
    if not condition:
        raise ValueError


def fits(result: Result, stack: str, digests: Mapping[str, str]) -> bool:
    """Whether a request for these digests can have this result."""
    names = [row.service for row in result.services]
    if len(set(names)) < len(names) or not set(names) <= set(digests):
        return False
    if result.result == "failed":
        return result.exit_code not in (0, SUPERSEDED)
    superseded = {row.service for row in result.services if row.result == "superseded"}
    serving = {
        row.service
        for row in result.services
        if row.result in ("serving", "unchanged") and row.now == digests[row.service]
    }
    if result.stack != stack or superseded | serving != set(digests):
        return False
    if result.result == "superseded":
        return result.exit_code == SUPERSEDED and bool(superseded) and result.newest_sequence > 0
    return result.exit_code == 0 and not superseded


# ---- The requests


def deploy(order: Order, ssh: Ssh) -> Result:
    """Ask for the deploy."""
    services = [f"{service}={digest}" for service, digest in order.digests.items()]
    request = [
        "deploy",
        str(PROTOCOL),
        order.stack,
        order.sequence,
        order.files_sha256,
        order.run,
        *services,
    ]
    answer = ssh.ask(request, encode(f"{order.token}\n") + sent_files(order.files))
    return read_result(answer, order.stack, order.digests)


def sent_files(files: Sequence[StackFile]) -> bytes:
    """The files as the host reads them: a line with length and checksum, then the tar archive.

    The line is sent without files, too. Otherwise a connection that breaks before it would look
    like a request without files.
    """
    content = pack(files) if files else b""
    if len(content) > MOST_BYTES or len(files) > MOST_FILES:
        raise Refused(
            f"the stack's files are more than the host takes: {MOST_FILES} files, 64 MiB in all"
        )
    if files:
        say(f"==> sending {', '.join(file.name for file in files)} ({len(content)} bytes)")
    head = f"{len(content)} {hashlib.sha256(content).hexdigest()}\n"
    return head.encode() + content


def should_put_back(
    command_line: CommandLine, environment: Mapping[str, str], result: Result
) -> bool:
    """Whether a person has just started a run of an older commit.

    A run that is repeated later must not go back: newer commits may have been deployed meanwhile.
    """
    return (
        "--put-back" in command_line.flags
        and environment.get("GITHUB_EVENT_NAME") == "workflow_dispatch"
        and environment.get("GITHUB_RUN_ATTEMPT") == "1"
        and result.result == "superseded"
    )


def put_back(order: Order, result: Result, ssh: Ssh) -> Result:
    """Roll back superseded services to the requested digests, until one fails."""
    services = {row.service: row for row in result.services}
    older = [row for row in result.services if row.now != order.digests[row.service]]
    for row in older:
        digest = order.digests[row.service]
        annotate("notice", f"{row.service}: a person chose an older commit, which is put back")
        answer = ssh.ask(["rollback", order.stack, row.service, digest], b"")
        back = read_result(answer, order.stack, {row.service: digest})
        for row in back.services:
            outcome = "put back" if row.result in ("serving", "unchanged") else row.result
            services[row.service] = dataclasses.replace(row, result=outcome)
        if back.result != "serving":
            return dataclasses.replace(back, result="failed", services=tuple(services.values()))
    if not older:  # the newer commit has the same images
        return result
    return Result("serving", 0, order.stack, 0, "", tuple(services.values()))


# ---- The report: the run's summary, the step's output, and the exit code


def write_summary(result: Result, environment: Mapping[str, str]) -> None:
    """Append a table to the run's summary."""
    rows = [
        ("Service", "Image", "Commit", "Seconds", "Result"),
        ("-",) * 5,
        *(
            (
                escape_cell(row.service),
                escape_cell(f"{row.before or 'none'} → {row.now or 'none'}"),
                escape_cell(environment["GITHUB_SHA"]),
                str(row.seconds),
                escape_cell(row.result),
            )
            for row in result.services
        ),
    ]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    append(environment["GITHUB_STEP_SUMMARY"], f"{table}\n")


def escape_cell(text: str) -> str:
    """Escape a text for a cell of a Markdown table: it must not end the cell, or be markup."""
    text = re.sub(r"\s+", " ", text).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_\[\]|~#!@])", r"\\\1", text)


def append(path: str, text: str) -> None:
    """Append a text to a file of GitHub's runner."""
    with open(path, "ab") as file:
        file.write(text.encode("utf-8", "replace"))


def conclude(order: Order, result: Result, environment: Mapping[str, str]) -> int:
    """Print the outcome, and return the exit code.

    It is 0 if a newer commit serves; the next step fails if the branch does not have that commit.
    """
    if result.result == "failed":
        message = (
            result.message[:LONGEST_MESSAGE] or "the deploy failed, and the host gives no reason"
        )
        annotate("error", f"{order.stack}: {message}")
        return result.exit_code
    if result.result == "superseded":
        append(environment["GITHUB_OUTPUT"], f"superseded-by={result.newest_sequence}\n")
        for row in result.services:
            if row.result == "superseded":
                annotate(
                    "notice",
                    f"{row.service}: superseded by a newer commit; {row.now or 'nothing'} serves",
                )
    return 0


# ---- Signals


def stop(received: int, _frame: object) -> NoReturn:
    """Raise an exception, so that the private folder is removed; ignore further signals."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise Stopped(received)


def stop_at_signals() -> None:
    """Handle signals: GitHub sends SIGINT to a cancelled step, and SIGTERM 7.5 seconds later."""
    for number in SIGNALS:
        signal.signal(number, stop)


if __name__ == "__main__":
    stop_at_signals()
    sys.exit(main(sys.argv[1:], os.environ))
