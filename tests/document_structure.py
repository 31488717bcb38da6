"""What a generated file is made of, whatever its names: no text may add to that."""

import io
import re
import subprocess
from functools import cache
from typing import Any

import yaml
from ruamel.yaml import YAML

from kiwari_ci.file_output.generated_files import GeneratedFiles
from tests import shell
from tests.workflow import Workflow


def built_alike(tree: GeneratedFiles, other: GeneratedFiles) -> None:
    for (path, file), (other_path, twin) in zip(tree.items(), other.items(), strict=True):
        if file.marked:
            assert built(path, file.text) == built(other_path, twin.text), (path, other_path)


@cache
def built(path: str, text: str) -> Any:
    """What a file is made of, whatever its names: nodes of YAML, commands of a script, blocks and rows of a page."""
    if path.endswith(".yml"):
        document = read(text)
        runs = Workflow(text).runs if "jobs" in document else []
        return shape(document), [commands(body) for _, step, body in runs if step.get("name") != "Run the tests"]
    if path.endswith(".md"):
        assert not shell.broken(script := "\n".join(re.findall(r"^```bash\n(.*?)^```$", text, re.M | re.S)))
        rows = [len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")]
        return commands(script), rows, re.findall(r"^(?:#+|```\w*)", text, re.M), text.count("`")
    return text.count("\n") if path.endswith(".example") else commands(text)


def shape(node: Any) -> Any:
    """A node without its words; of the path filters, only that they are there."""
    if isinstance(node, dict):
        return sorted(("paths",) if key == "paths" else (str(type(value)), shape(value)) for key, value in node.items())
    return [shape(item) for item in node] if isinstance(node, list) else type(node).__name__


def commands(script: str) -> list[str]:
    return sorted(shell.commands(script))


@cache
def read(text: str) -> Any:
    """The document, on which a reader of YAML 1.1 and one of 1.2 agree; each `run` body is a script."""
    modern = YAML(typ="safe", pure=True)
    modern.version = (1, 2)
    document = modern.load(io.StringIO(text))
    old = yaml.load(text, yaml.CSafeLoader)
    assert {("on" if key is True else key): value for key, value in old.items()} == document
    for where, step, body in Workflow(text).runs if "jobs" in document else ():
        if step.get("name") != "Run the tests":
            assert "${{" not in body, where
            syntax(body)
    return document


@cache
def syntax(body: str) -> None:
    """`bash -n` has nothing to say."""
    done = subprocess.run(["bash", "-n"], input=body.encode(), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b""), done.stderr.decode()
