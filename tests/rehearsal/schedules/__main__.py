"""`python -m tests.rehearsal.schedules [--quick]`: search, and print what was found."""

import sys

from tests.rehearsal.schedules import run

sys.exit(not run("--quick" in sys.argv[1:], lambda words: print(words, flush=True)))
