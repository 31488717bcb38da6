"""Stand-ins for parts of the server: programs that fail, and a host program that waits less long."""

import contextlib
import re
import shutil
from collections.abc import Iterator

from tests.engine.server import PROGRAM, Server


@contextlib.contextmanager
def stand_in(server: Server, program: str, body: str) -> Iterator[None]:
    """In place of a program, a shell script; `"$REAL"` in it is the program."""
    script, real = server.folder / "stand-in", server.folder / "real"
    shutil.copy(program, real)
    script.write_text(f"#!/bin/sh\nREAL={real}\n{body}\n")
    script.chmod(0o755)
    server.run("mount", "--bind", str(script), program)
    try:
        yield
    finally:
        server.run("umount", program)


def compose_plugin(server: Server) -> str:
    """Where the compose plugin is."""
    form = '{{range .ClientInfo.Plugins}}{{if eq .Name "compose"}}{{.Path}}{{end}}{{end}}'
    return server.docker("info", "-f", form)


@contextlib.contextmanager
def constants(server: Server, **values: str) -> Iterator[None]:
    """The host program with other constants, such as shorter time limits."""
    text = PROGRAM.read_text()
    for name, value in values.items():
        text, count = re.subn(rf"^{name} = .*$", f"{name} = {value}", text, flags=re.MULTILINE)
        assert count == 1, f"the program has no constant {name} on one line"
    place = server.docker_folder / "bin/deploy"
    place.write_text(text)
    try:
        yield
    finally:
        place.write_text(PROGRAM.read_text())
