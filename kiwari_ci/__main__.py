"""The way in, for `kiwari-ci` and `python -m kiwari_ci`: Ctrl-C is answered from the first import on."""

import gc
import os
import signal
import sys
from io import TextIOWrapper


def main() -> None:
    """Import the commands and run one; SIGTERM is an exit like another, which tidies up."""
    gc.disable()  # a run is short: looking for cycles while modules are imported was a tenth of it
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "true"  # what is installed beside us neither slows a run nor changes it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # the name of a file may be no text
    try:
        from kiwari_ci.cli import app

        app.main()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    finally:
        gc.freeze()  # nor does Python look for cycles when it ends


if __name__ == "__main__":
    main()
