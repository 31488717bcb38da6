"""The page of failures: every message that a user can meet, as it is printed, its cause and its cure.

The messages come from where they are said: the rules from the cases of tests, the commands', the host's and the SSH
client's from the code, the workflows' from the templates. `failures.yaml` has an entry for each, by a short name: why
it is said, and the cure where the message has none. A new kind of message: a section here, with the function that finds
its texts.
"""

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from os import strerror
from pathlib import Path
from typing import Any

import yaml

from kiwari_ci.commands.check import causes
from kiwari_ci.file_output import atomic_write

ROOT = Path(__file__).parents[1]
TEMPLATES = ROOT / "kiwari_ci/rendering/templates"
PROGRAMS = ROOT / "kiwari_ci/engines/compose/deploy_programs"
ROLLOUT_PROGRAM = ROOT / "kiwari_ci/engines/kubernetes/deploy_programs/rollout.py"
GAP = "…"  # stands for what differs from one time to the next
PROBLEM = re.compile(r"^(?=\S+?(?::\d+)*: .* \[[a-z-]+\]$)", re.MULTILINE)
_VALUE = re.compile(r"<%=.*?%>|\$\{[^{}]*\}|\$\([^()]*\)|\$\w+")
_SAID = re.compile(r'(?:::error::|\bfail "|echo "(?=init-databases: [^$]))([^"]*)"')
_ASKED = re.compile(r"\$\{[^}]*?:\?([^}]*)\}")

INTRODUCTION = """# Failures

Look up a message here to see its cause and what to do. Search this page for the part of the message that is not a name
of your own, or use the index. Where the message itself says what to do, the entry does not repeat it.

"""


@dataclass(frozen=True)
class Section:
    """A kind of messages: `texts` finds those that there are (for the spec: the names of its rules)."""

    key: str
    title: str
    where: str  # a person meets them
    words: str
    texts: Callable[[], set[str]]


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION + _index()]
    for section in SECTIONS:
        parts.append(f"## {section.title}\n\n{section.words}\n")
        if section.key == "host":
            parts.append(_codes())
        parts += [_entry(name, entry) for name, entry in sorted(entries()[section.key].items())]
    return "\n".join(parts)


@cache
def entries() -> dict[str, dict[str, dict[str, str]]]:
    """What a person wrote about the messages: by section and name."""
    sections: dict[str, dict[str, dict[str, str]]] = yaml.load(
        (ROOT / "docs/failures.yaml").read_text(), yaml.CSafeLoader
    )
    return sections


def problems() -> Iterator[tuple[bool, str, str]]:
    """Each problem in the cases' order, with its rule; first those whose case has the rule's name."""
    for file in sorted(ROOT.glob("tests/cases/*/*.out")):
        for text in PROBLEM.split(file.read_text())[1:]:
            rule = text.partition("\n")[0].rpartition("[")[2].rstrip("]")
            yield not file.stem.startswith(rule), rule, text


@cache
def examples() -> dict[str, str]:
    """What is printed: an example of each rule, and what a case of a command's is named after."""
    texts = {file.stem: file.read_text() for file in sorted(ROOT.glob("tests/cases/commands/*.out"))}
    for _, rule, text in sorted(problems()):
        texts.setdefault(rule, text)
    return texts


def rules() -> set[str]:
    """The names in brackets."""
    return {rule for _, rule, _ in problems()}


def command_texts() -> set[str]:
    """What the commands refuse and find, the system's words included."""
    system = {strerror(number) for number in atomic_write.ERRNO_HINTS}
    rooms = [
        ast.parse((ROOT / f"kiwari_ci/{name}.py").read_text())
        for name in (
            "cli/errors",
            "cli/daily_commands",
            "cli/operate_commands",
            "cli/server_commands",
            "cli/setup_commands",
            "cli/app",
            "file_output/atomic_write",
            "cli/options",
            "cli/terminal",
            "commands/engine_clients",
            "file_output/generated_files",
        )
    ]
    code = {text for room in rooms for text in _reported(room)}
    return code | system | {causes.NOTHING_GENERATED, *causes.DRIFT_CAUSE_LABELS.values()}


def host_texts() -> set[str]:
    """What the host program refuses and ends with."""
    return {text for _, text in refusals((PROGRAMS / "deploy.py").read_text())}


def database_texts() -> set[str]:
    """What the database program refuses, ends with, and says of what is amiss."""
    return {text for _, text in refusals((PROGRAMS / "database.py").read_text())}


def rotation_texts() -> set[str]:
    """What the rotation program refuses and ends with, beside what it shares with the host program."""
    return {text for _, text in refusals((PROGRAMS / "rotate.py").read_text())}


def rollout_texts() -> set[str]:
    """What the rollout program refuses and ends with."""
    return {text for _, text in refusals(ROLLOUT_PROGRAM.read_text())}


def workflow_texts() -> set[str]:
    """What a workflow's own steps end with, the SSH client of its deploys, and the database's script."""
    scripts = [*TEMPLATES.glob("github/*.j2"), TEMPLATES / "compose/init-databases.sh.j2"]
    sources = [file.read_text() for file in scripts]
    printed_texts = {plain(text) for source in sources for text in _SAID.findall(source)}
    checked_texts = {f"{GAP}: {words}" for source in sources for words in _ASKED.findall(source)}
    client = {text for _, text in refusals((PROGRAMS / "deploy_over_ssh.py").read_text())}
    return {text for text in printed_texts | checked_texts | client if re.search(r"\w", text)}


def refusals(program: str) -> list[tuple[str, str]]:
    """The exit code, where it stands beside the text, and the text of each refusal in one of the two programs.

    The host's program has `Failed(CODE, text)`, `Finding(text, cure, CODE)`, `print_error(text)`,
    `fail(stack, service, text)` and `sys.exit(text)`; the client has `Refused(text)`, `annotate("error", text)`, and
    what its functions `problems_of_…` yield. A text may have a part that stands elsewhere under a name.
    """
    module = ast.parse(program)
    numbers = _numbers(module)
    constants = _named_texts(module, {})
    functions = [node for node in ast.walk(module) if isinstance(node, ast.FunctionDef)]
    refused = []
    for scope in (module, *functions):
        names = constants | _named_texts(scope, constants)
        is_check = isinstance(scope, ast.FunctionDef) and scope.name.startswith("problems_of")
        for node in _own_nodes(scope):
            if isinstance(node, ast.Call):
                refused += _refusals_of_call(node, names, numbers)
            elif isinstance(node, ast.Yield) and is_check:
                refused += [("", text) for text in _texts(node.value, names)]
    return refused


def _refusals_of_call(call: ast.Call, names: dict[str, str], numbers: dict[str, str]) -> list[tuple[str, str]]:
    name = getattr(call.func, "id", getattr(call.func, "attr", ""))
    arguments = call.args
    if name in ("Failed", "TimedOut", "Cancelled"):
        return _refusal(arguments[0], arguments[1:], names, numbers)
    if name == "Finding":
        code = arguments[2] if len(arguments) > 2 else ast.Name("NOT_READY")
        return _refusal(code, arguments[:2], names, numbers)
    if name == "exit" and arguments and isinstance(arguments[0], ast.BinOp):
        # Python ends with 1 after such a text; its values are put in with `%`.
        return [("1", re.sub(r"%d(\.%d)*", GAP, text)) for text in _texts(arguments[0].left, names)]
    if name == "exit" and arguments and isinstance(arguments[0], ast.JoinedStr):
        return [("1", text) for text in _texts(arguments[0], names)]
    if name in ("Refused", "print_error"):
        return [("", text) for text in _texts(arguments[0], names)]
    if name == "fail":
        return [("", text) for text in _texts(arguments[2], names)]
    if name == "annotate" and getattr(arguments[0], "value", "") == "error":
        return [("", text) for text in _texts(arguments[1], names)]
    return []


def _refusal(
    code: ast.expr, sentences: list[ast.expr], names: dict[str, str], numbers: dict[str, str]
) -> list[tuple[str, str]]:
    """The exit code and the text of a refusal; a finding is printed as its problem and its cure."""
    parts = [list(_texts(sentence, names)) or [GAP] for sentence in sentences]
    text = ". ".join(part for (part,) in parts)
    code_name = getattr(code, "id", getattr(code, "attr", ""))  # bin/rotate writes deploy.NOT_READY
    return [(numbers.get(code_name, ""), text)] if re.search(r"\w", text) else []


def _numbers(module: ast.Module) -> dict[str, str]:
    """The exit codes by their names: `SERVING, NOT_SERVING = 0, 1`."""
    numbers: dict[str, str] = {}
    for node in module.body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Tuple)
            and isinstance(node.value, ast.Tuple)
        ):
            names = [getattr(target, "id", "") for target in node.targets[0].elts]
            values = [getattr(value, "value", "") for value in node.value.elts]
            numbers |= {name: str(value) for name, value in zip(names, values, strict=True)}
    return numbers


def _named_texts(scope: ast.AST, constants: dict[str, str]) -> dict[str, str]:
    """The texts that a module or a function gives a name, once; of `x or "text"` the text."""
    assigned: dict[str, list[str]] = {}
    for node in _own_nodes(scope):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            value = node.value.values[-1] if isinstance(node.value, ast.BoolOp) else node.value
            assigned.setdefault(node.targets[0].id, []).extend(list(_texts(value, constants)) or [GAP])
    return {name: texts[0] for name, texts in assigned.items() if len(texts) == 1 and texts[0] != GAP}


def _own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a module or a function, without those of the functions in it."""
    for node in ast.iter_child_nodes(scope):
        yield node
        if not isinstance(node, ast.FunctionDef):
            yield from _own_nodes(node)


def plain(text: str) -> str:
    """A text of a script or a template, a gap where it has a value."""
    return _VALUE.sub(GAP, text).replace("\\$", "$")


def fits(message: str, printed: str) -> bool:
    """Whether something printed has a message in it."""
    return re.search(".*".join(map(re.escape, message.split(GAP))), printed) is not None


def _index() -> str:
    """Every message as it is printed, with a link to its entry; those of the spec by the name in brackets."""
    lines = ["## Index by message", "", f"`{GAP}` stands for a part that varies.", ""]
    for section in SECTIONS:
        printed = {name: entry.get("message", f"[{name}]") for name, entry in entries()[section.key].items()}
        lines += [f"**{section.title}**: {section.where}", ""]
        lines += [
            f"- [{_inline_code(printed[name])}](#{name})"
            for name in sorted(printed, key=lambda name: _sort_key(printed[name]))
        ]
        lines.append("")
    return "\n".join(lines)


def _sort_key(message: str) -> str:
    """A message without the varying part and the quotes at its start, which nobody looks for."""
    return re.sub(rf"^[{GAP}\W]+", "", message).lower()


def _inline_code(text: str) -> str:
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _entry(name: str, entry: dict[str, str]) -> str:
    example = examples().get(name) or entry.get("shown") or entry["message"]
    cure = f" {entry['cure'].rstrip()}" if "cure" in entry else ""
    return f"### {name}\n\n```text\n{example.rstrip()}\n```\n\n{entry['cause'].rstrip()}{cure}\n"


def _codes() -> str:
    """The exit codes of the host program, as the runbook tells them, each with the messages that end with it."""
    runbook = (TEMPLATES / "docs/runbook.md.j2").read_text()
    names = {entry["message"]: name for name, entry in entries()["host"].items()}
    by_code: dict[str, set[str]] = {}
    for code, text in refusals((PROGRAMS / "deploy.py").read_text()):
        by_code.setdefault(code, set()).add(names[text])
    rows = [
        f"| {code} | {meaning} | {', '.join(f'[{name}](#{name})' for name in sorted(by_code.get(code, ())))} |"
        for code, meaning in re.findall(r"^\| (\d+) \| ([^|]+) \|", runbook, re.MULTILINE)
    ]
    return "\n".join(["| Exit code | Meaning | Messages |", "| --- | --- | --- |", *rows, ""])


def _reported(module: ast.Module) -> Iterator[str]:
    """Texts that refuse: given to a refusal, collected as a fault, returned as what blocks, printed as an error."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and node.args and _refuses(node):
            yield from _texts(node.args[0])
        elif isinstance(node, ast.FunctionDef) and node.name in ("_explain_blocked_path", "explain_failure"):
            returned = [statement.value for statement in ast.walk(node) if isinstance(statement, ast.Return)]
            yield from filter(None, (text for value in returned for text in _texts(value)))
        elif isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["title"]:
            yield from _texts(node.value)


def _refuses(call: ast.Call) -> bool:
    name = getattr(call.func, "id", getattr(call.func, "attr", ""))
    owner = getattr(getattr(call.func, "value", None), "id", "")
    error = any(option.arg == "err" and getattr(option.value, "value", False) is True for option in call.keywords)
    if (owner, name) == ("conflicts", "append"):
        return True
    return name in ("UsageError", "fail") or (error and name in ("echo", "print_text"))


def _texts(node: Any, names: dict[str, str] | None = None) -> Iterator[str]:
    """The text of an expression, if it is one; `names` has texts that stand elsewhere under a name."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        text = node.value
    elif isinstance(node, ast.JoinedStr):
        text = "".join(_part(part, names or {}) for part in node.values).replace(GAP * 2, GAP)
    else:
        return
    if re.search(r"\w", text):
        yield text


def _part(part: ast.expr, names: dict[str, str]) -> str:
    """A part of an f-string: its own words, the text behind a name, or a gap."""
    if isinstance(part, ast.Constant):
        return str(part.value)
    name = getattr(getattr(part, "value", None), "id", "")
    return names.get(name, GAP)


SECTIONS = [
    Section(
        "spec",
        "The spec",
        "the name in brackets at the end of an error or of advice.",
        "A command prints all errors of a spec at once. Each has its place, what is wrong, the rule's name in\n"
        "brackets, the line, and a hint with the correction. Advice never makes a command fail.",
        rules,
    ),
    Section(
        "commands",
        "The commands",
        "printed by `kiwari-ci`, also by the check `drift`.",
        "The [exit codes](reference/commands.md#exit-codes) are in the reference.",
        command_texts,
    ),
    Section(
        "host",
        "The host program",
        "printed by `bin/deploy` after `deploy: `, in the log of a deploy job and on the server.",
        "These messages are in the log of the deploy job and in the folder `log/` of the stack on the server, each\n"
        "after `deploy: `. The job also shows the message as an annotation, after the name of the stack. What was\n"
        "serving before is still serving, unless the entry says otherwise. `docker/bin/deploy` is the program on the\n"
        "server; your runbook has your names for `STACK`, `HOST` and so on.",
        host_texts,
    ),
    Section(
        "database",
        "The database program",
        "printed by `bin/database` after `database: `, and by its `status` after `FAILURE: `.",
        "`docker/bin/database` on the server prints these messages. `kiwari-ci doctor` quotes those of its `status`.\n"
        "The database in service was not changed, unless the entry says otherwise.",
        database_texts,
    ),
    Section(
        "rotation",
        "The rotation program",
        "printed by `bin/rotate` after `deploy: `, on the server and by `kiwari-ci rotate`.",
        "`kiwari-ci rotate` calls `docker/bin/rotate` on the server, which uses functions of `bin/deploy`. So it also\n"
        "prints messages of [the host program](#the-host-program), and ends with the same exit codes.",
        rotation_texts,
    ),
    Section(
        "rollout",
        "The rollout program",
        "printed by `deploy/bin/rollout`, in the log of a job that deploys to a cluster and in a person's shell.",
        "These messages are of deploys to a cluster. What was serving before is still serving, unless the entry says\n"
        "otherwise.",
        rollout_texts,
    ),
    Section(
        "workflows",
        "The workflows",
        "printed by a step of a generated workflow, and shown as an annotation of the job.",
        "These messages come from the steps of a workflow, from `deploy/bin/deploy-over-ssh`, which requests a deploy\n"
        "from the host program, and from the script that prepares a database server.",
        workflow_texts,
    ),
    Section(
        "others",
        "Messages of other programs",
        "printed by ssh, the registry, Docker or pip in the log of a job.",
        "These are not messages of kiwari-ci. They appear in the log of a job.",
        set,
    ),
]
