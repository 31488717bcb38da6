"""Where the secrets of a shell text go, read from its syntax tree (tree-sitter-bash)."""

from collections.abc import Iterator

import tree_sitter_bash
from tree_sitter import Language, Node, Parser

# These run inside the shell: their arguments are no process's argv.
BUILTINS = {"printf", "echo", ":", "[", "test", "read", "exit"}


def secrets_in_argv(body: str, secrets: set[str]) -> list[tuple[int, str]]:
    """Line and command of each argument that holds one of the variables, or what was made from one."""
    tree = _parse(body)
    secrets, inside = _spread(tree, secrets), BUILTINS | _functions(tree)
    return [
        (command.start_point.row + 1, _name(command))
        for command in _all(tree, "command")
        if _name(command) not in inside and any(_mentions(argument, secrets) for argument in _arguments(command))
    ]


def writes_to_file(body: str, secrets: set[str]) -> bool:
    """Does a statement that mentions one of the variables write to a file?"""
    tree = _parse(body)
    return any(
        _mentions(statement, _spread(tree, secrets))
        for statement in _all(tree, "redirected_statement")
        if any(_text(child).startswith(">") for child in statement.children if child.type == "file_redirect")
    )


def commands(body: str) -> set[str]:
    """The names of all commands that are called."""
    return {_name(command) for command in _all(_parse(body), "command")}


def broken(body: str) -> bool:
    """Is there a place that is no bash?"""
    return _parse(body).has_error


def _text(node: Node) -> str:
    return (node.text or b"").decode()


def _parse(body: str) -> Node:
    tree = Parser(Language(tree_sitter_bash.language())).parse(body.encode())
    return tree.root_node


def _all(node: Node, kind: str) -> Iterator[Node]:
    if node.type == kind:
        yield node
    for child in node.children:
        yield from _all(child, kind)


def _name(command: Node) -> str:
    name = command.child_by_field_name("name")
    return _text(name) if name else ""


def _functions(tree: Node) -> set[str]:
    """Those of the text's own functions that call nothing but builtins: what they are given stays in the shell."""
    return {
        _text(name)
        for function in _all(tree, "function_definition")
        if (name := function.child_by_field_name("name"))
        and {_name(command) for command in _all(function, "command")} <= BUILTINS
    }


def _arguments(command: Node) -> Iterator[Node]:
    """What becomes argv: not the redirections, nor `<(...)`, which becomes a file's name."""
    for node in command.children_by_field_name("argument"):
        if node.type != "process_substitution":
            yield node


def _mentions(node: Node, variables: set[str]) -> bool:
    """Does it expand one of the variables, or, by `${!name}`, any?"""
    expansions = [*_all(node, "simple_expansion"), *_all(node, "expansion")]
    parts = {_text(child) for expansion in expansions for child in expansion.children}
    return bool(variables and parts & {*variables, "!"})


def _spread(tree: Node, secrets: set[str]) -> set[str]:
    """The variables, and those that were assigned from them, until no more are found."""
    known = set(secrets)
    for assignment in _all(tree, "variable_assignment"):
        name, value = assignment.child_by_field_name("name"), assignment.child_by_field_name("value")
        if name and value and _text(name) not in known and _mentions(value, known):
            return _spread(tree, known | {_text(name)})
    return known
