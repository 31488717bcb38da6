"""How the scripts of other people are cut into commands, and where their quotes and here-documents end."""

import pytest

from kiwari_ci.readers import shell


@pytest.mark.parametrize(
    ("script", "commands"),
    [
        ("ssh web 'cat > .env <<EOF\nA=b\nEOF\nmake up'\nmake check", ["ssh", "make"]),
        ("# a comment that ends so \\\nmake up", ["make"]),
        ("echo $((1 << 2))\ncat <<END > file\nmake down\nEND\nmake up", ["echo", "cat", "make"]),
        ("echo \"$(printf ')'; printf x)\"; make up", ["echo", "make"]),
        ("make up \\\n  \\\n  down", ["make"]),
        ("echo it\\'s; make up", ["echo", "make"]),
    ],
)
def test_a_script_is_cut_where_the_shell_cuts_it(script: str, commands: list[str]) -> None:
    assert [words[0] for words in shell.parse_shell_commands(script)] == commands


def test_each_command_has_the_line_on_which_it_starts() -> None:
    script = "set -e\n\nA=1 \\\n  make up\ncat <<END\ntext\nEND\nssh web '\n  one\n'; two && \\\n three\n"
    located = [(command.words[0], command.line) for command in shell.locate_shell_commands(script)]
    assert located == [("set", 1), ("make", 3), ("cat", 5), ("ssh", 8), ("two", 10), ("three", 11)]


def test_a_here_document_in_a_quote_is_part_of_the_quote() -> None:
    assert shell.find_here_documents("ssh web 'cat <<EOF\nA=b\nEOF\n'\n") == []
    script = "cat <<EOF\nA=b\nEOF\n"
    assert [script[start:end] for start, end in shell.find_here_documents(script)] == ["A=b\n"]
