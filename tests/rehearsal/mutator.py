"""Changes a shell script in one place at a time, as its syntax tree shows the places (tree-sitter-bash)."""

import collections
import dataclasses
import re
from collections.abc import Iterator
from typing import NamedTuple

import tree_sitter_bash
from tree_sitter import Language, Node, Parser

from tests.shell import text

STATEMENTS = {
    "command", "declaration_command", "list", "negated_command", "pipeline", "redirected_statement", "test_command",
    "unset_command", "variable_assignment", "variable_assignments", "compound_statement",
}  # fmt: skip
BLOCKS = {"program", "compound_statement", "do_group", "if_statement", "else_clause"}
# What has parts of its own that are changed one by one: to delete the whole would say nothing new.
WHOLES = {"list", "compound_statement"}
# Letters of options whose value is the word that follows; and options that are a word of their own.
VALUED = {"awk": "v", "curl": "omw", "docker": "fu", "flock": "w", "mkdir": "m", "read": "t", "set": "o", "tail": "ns"}
LONG = {"-type", "-mtime", "-delete", "-printf", "-regex", "-links", "-d:", "-f1"}
LONG_VALUED = {
    "-type",
    "-mtime",
    "-printf",
    "-regex",
    "-links",
    "--alias",
    "--config",
    "--format",
    "--name",
    "--noproxy",
    "--pull",
    "--tail",
}
AWK = [
    ("&&", "||"),
    ("||", "&&"),
    ("==", "!="),
    ("!seen", "seen"),
    (r"(?<![\w\\])\d+\b", "0"),
    (r"\+\+", ""),
    ("<=", "<"),
]
CONTEXT = 24  # characters that name a place
BOUNDS = {"-lt": "-le", "-ge": "-gt", "<": "<=", ">": ">="}


class Change(NamedTuple):
    """Bytes from `start` to `end` become `to`."""

    start: int
    end: int
    to: str


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A script that differs in one place.

    `id` says where, whatever the number of the line; `was` and `becomes` are whole lines; `lines` (1 ...) are those of
    the statement in which the place is.
    """

    id: str
    text: str
    was: str
    becomes: str
    lines: range

    def __str__(self) -> str:
        lines = [f"  - {line}" for line in self.was.splitlines()] + [
            f"  + {line}" for line in self.becomes.splitlines()
        ]
        return "\n".join([f"  {self.id}", *lines])


def mutants(script: str) -> list[Mutant]:
    """Every change of every place, each different script once."""
    found = [mutant(script, node, change) for node in nodes(parsed(script)) for change in changes(node)]
    found += [mutant(script, node, change) for node, change in negations(script)]
    different = {each.text: each for each in found if each.text != script}.values()
    met: collections.Counter[str] = collections.Counter()
    return [numbered(each, met) for each in different]


def numbered(mutant: Mutant, met: collections.Counter[str]) -> Mutant:
    """A second place that looks like the first is named so."""
    met[mutant.id] += 1
    return mutant if met[mutant.id] == 1 else dataclasses.replace(mutant, id=f"{mutant.id} ({met[mutant.id]})")


def parsed(script: str) -> Node:
    """The tree of the script, byte for byte.

    The grammar trips over `! {`, and takes `a=b` on a line of its own for a part of the next line's command: there the
    tree is that of `  {` and of a `;` at the line's end (so a node's rows are not the script's).
    """
    parser = Parser(Language(tree_sitter_bash.language()))
    source = bytearray(script.encode().replace(b"! {", b"  {"))
    for node in nodes(parser.parse(bytes(source)).root_node):
        if node.type == "comment":
            source[node.start_byte : node.end_byte] = b" " * (node.end_byte - node.start_byte)
    for node in nodes(parser.parse(bytes(source)).root_node):
        following = node.next_named_sibling
        if node.type == "variable_assignment" and following:
            between = source.find(b"\n", node.end_byte, following.start_byte)
            if between > 0 and source[node.end_byte : between].isspace() | (between == node.end_byte):
                source[between : between + 1] = b";"
    return parser.parse(bytes(source)).root_node


def negations(script: str) -> Iterator[tuple[Node, Change]]:
    """Each `! {` without its `!`."""
    source = script.encode()
    for node in nodes(parsed(script)):
        if node.type == "compound_statement" and source[: node.start_byte].endswith(b"! "):
            yield node, Change(node.start_byte - 2, node.start_byte, "")


def nodes(node: Node) -> Iterator[Node]:
    """The node and all below it, as they stand in the text."""
    yield node
    for child in node.named_children:
        yield from nodes(child)


def mutant(script: str, node: Node, change: Change) -> Mutant:
    """Makes the change."""
    source, to = script.encode(), change.to.encode()
    start, end = source.rfind(b"\n", 0, change.start) + 1, source.find(b"\n", change.end)
    before, gone, after = source[start : change.start], source[change.start : change.end], source[change.end : end]
    place = statement(node)
    lines = range(source.count(b"\n", 0, place.start_byte) + 1, source.count(b"\n", 0, place.end_byte) + 2)
    name = f"{before.decode()[-CONTEXT:]}[{shortened(gone.decode())} => {change.to}]{after.decode()[:CONTEXT]}"
    text = (source[: change.start] + to + source[change.end :]).decode()
    return Mutant(" ".join(name.split()), text, source[start:end].decode(), (before + to + after).decode(), lines)


def shortened(text: str) -> str:
    """A long text's beginning and end."""
    return text if len(text) <= 2 * CONTEXT else f"{text[:CONTEXT]}...{text[-CONTEXT:]}"


def statement(node: Node) -> Node:
    """The statement that stands on lines of its own and has this node in it."""
    while node.parent and node.parent.type not in BLOCKS:
        node = node.parent
    return node


def changes(node: Node) -> Iterator[Change]:
    """All changes of one node, without those of the nodes below it."""
    kinds = {
        "file_redirect": redirection, "herestring_redirect": redirection, "variable_assignment": assignment,
        "command": words, "expansion": expansion, "test_operator": bound, "binary_expression": binary,
        "number": number, "regex": anchors,
    }  # fmt: skip
    if node.type in STATEMENTS:
        yield from stated(node)
    if node.type in kinds:
        yield from kinds[node.type](node)


def replaced(node: Node, to: str) -> Change:
    """The node becomes that text."""
    return Change(node.start_byte, node.end_byte, to)


def stated(node: Node) -> Iterator[Change]:
    """A statement is gone, which makes a condition true; a condition is false: the two are more than to invert it."""
    parent, kind = node.parent, node.type
    if parent is None or parent.type in ("redirected_statement", "variable_assignments", "declaration_command"):
        return
    if kind == "variable_assignment" and parent.type == "command":
        return
    stage = parent.type == "pipeline" and parent.named_children[0] != node
    if kind not in WHOLES and text(node) not in ("true", ":"):
        yield replaced(node, "cat" if stage else ":")
    if kind == "negated_command":
        yield Change(node.start_byte, node.end_byte, text(node).removeprefix("! "))
    if decides(node) and kind != "list":
        yield replaced(node, "false")


def decides(node: Node) -> bool:
    """Does something hang on whether it is true?"""
    parent = node.parent
    if parent is None or node.type.startswith("variable_assignment"):
        return False
    if parent.type == "list":
        return parent.named_children[0] == node or node.type == "test_command"
    if parent.type in ("if_statement", "while_statement"):
        return parent.child_by_field_name("condition") == node
    return parent.type == "negated_command"


def redirection(node: Node) -> Iterator[Change]:
    """What went to a file, or came from one, does not."""
    yield replaced(node, "")


def assignment(node: Node) -> Iterator[Change]:
    """A variable that holds nothing, or a command that does not get it."""
    value = node.child_by_field_name("value")
    if node.parent and node.parent.type == "command":
        yield replaced(node, "")
    elif value and text(value) not in ("''", '""'):
        yield replaced(value, "''")


def expansion(node: Node) -> Iterator[Change]:
    """A variable as it is, without what was made of it."""
    inside = re.match(r"\$\{(\w+|@)[^\w}]", text(node))
    if inside:
        yield replaced(node, f"${{{inside[1]}}}")


def bound(node: Node) -> Iterator[Change]:
    """The boundary belongs to the other side."""
    if text(node) in BOUNDS:
        yield replaced(node, BOUNDS[text(node)])


def binary(node: Node) -> Iterator[Change]:
    """One side of `&&` and `||` decides alone; a bound in arithmetic moves."""
    for sign in node.children:
        if text(sign) in ("&&", "||"):
            left, right = node.named_children[0], node.named_children[-1]
            yield replaced(node, text(left))
            yield replaced(node, text(right))
        elif text(sign) in BOUNDS and not sign.is_named:
            yield replaced(sign, BOUNDS[text(sign)])


def number(node: Node) -> Iterator[Change]:
    """A number is nought."""
    if text(node) != "0" and node.parent and node.parent.type != "file_redirect":
        yield replaced(node, "0")


def anchors(node: Node) -> Iterator[Change]:
    """A pattern that need not be at the start, or at the end."""
    pattern = text(node)
    if pattern.startswith("^"):
        yield replaced(node, pattern[1:])
    if pattern.endswith("$"):
        yield replaced(node, pattern[:-1])


def words(node: Node) -> Iterator[Change]:
    """A command without one of its options, or with another program for awk or sed."""
    name = node.child_by_field_name("name")
    arguments = node.children_by_field_name("argument")
    for at, word in enumerate(arguments):
        if word.type == "raw_string" and name and text(name) in ("awk", "sed"):
            yield from program(word)
        elif name and re.match(r"--?[A-Za-z]", text(word)):
            yield from option(text(name), word, arguments[at + 1] if arguments[at + 1 :] else word)


def option(command: str, word: Node, following: Node) -> Iterator[Change]:
    """Without one letter of `-abc`, or without the whole option; its value goes with it."""
    said, single = text(word), text(word).startswith("--") or text(word) in LONG
    valued = said in LONG_VALUED if single else said[-1] in VALUED.get(command, "")
    whole = Change(word.start_byte, following.end_byte if valued else word.end_byte, "")
    if single or len(said) == 2:
        yield whole
        return
    for at in range(1, len(said)):
        change = whole if valued and at == len(said) - 1 else replaced(word, "")
        yield change._replace(to=said[:at] + said[at + 1 :])


def program(word: Node) -> Iterator[Change]:
    """A part of a program for awk: an operator the other way, a number nought."""
    for pattern, to in AWK:
        for match in re.finditer(pattern if "\\" in pattern else re.escape(pattern), text(word)):
            if match[0] != to:
                yield Change(word.start_byte + match.start(), word.start_byte + match.end(), to)
