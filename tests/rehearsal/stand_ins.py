"""Images that the engine would pull and cannot here, made from what this machine has, under the official names."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.engine.server import Server
from tests.postgres_server import binaries

HERE = Path(__file__).parent
TOOLS = ("env", "id", "cat", "df", "ls", "mkdir", "chmod", "chown", "sleep", "printenv", "setpriv")
MIGRATE = "v4.18.3"


def postgres(server: Server, image: str = "postgres:16-alpine") -> None:
    """Debian's PostgreSQL, whatever its version, as the official image: same user id, variables, entrypoint's ways.

    What it cannot show: musl instead of glibc, busybox instead of coreutils, and what is new in version 16.
    """
    programs = binaries()
    context = server.folder / "postgres"
    root = context / "root"
    for folder in ("etc", "tmp", "run", "docker-entrypoint-initdb.d"):
        (root / folder).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/bash\npostgres:x:70:70::/var/lib/postgresql:/bin/bash\n")
    (root / "etc/group").write_text("root:x:0:\npostgres:x:70:\n")
    names = ("postgres", "initdb", "pg_ctl", "psql", "pg_isready", "createdb", "dropdb", "pg_dump", "pg_restore")
    files = [programs / name for name in names]
    files += [Path(f"/usr/bin/{name}") for name in TOOLS] + [Path("/bin/bash"), Path("/bin/sh")]
    files += libraries(files)
    files += sorted((programs.parent / "lib").glob("*.so")) + [Path("/usr/lib/locale/C.utf8")]
    files += [Path(f"/usr/share/postgresql/{programs.parts[-2]}"), Path("/usr/share/zoneinfo/UTC")]
    subprocess.run(["cp", "-rL", "--parents", "-t", root, *files], check=True)
    sample = root / f"usr/share/postgresql/{programs.parts[-2]}/postgresql.conf.sample"
    sample.write_text(sample.read_text() + "listen_addresses = '*'\n")
    for name in ("Dockerfile", "entrypoint.sh"):
        shutil.copy(HERE / "postgres" / name, context)
    server.docker("build", "-q", "--build-arg", f"BINARIES={programs}", "-t", image, str(context))
    shutil.rmtree(context)


def libraries(programs: list[Path]) -> list[Path]:
    """What the programs load, by the dynamic linker's own word."""
    output = subprocess.run(["ldd", *programs], check=True, capture_output=True, text=True).stdout
    return sorted({Path(word) for word in output.split() if word.startswith("/") and not word.endswith(":")})


def migrate(server: Server, image: str = f"migrate/migrate:{MIGRATE}") -> None:
    """The real migrate of that version, from its Go module, with the official image's entrypoint."""
    context = server.folder / "migrate"
    context.mkdir()
    module = f"github.com/golang-migrate/migrate/v4/cmd/migrate@{MIGRATE}"
    words = ["go", "install", "-trimpath", "-ldflags=-s -w", "-tags", "postgres", module]
    subprocess.run(
        words, check=True, capture_output=True, env={**os.environ, "CGO_ENABLED": "0", "GOBIN": str(context)}
    )
    (context / "Dockerfile").write_text('FROM scratch\nCOPY migrate /usr/bin/\nENTRYPOINT ["migrate"]\n')
    server.docker("build", "-q", "-t", image, str(context))
    shutil.rmtree(context)
