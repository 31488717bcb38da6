"""Lines of the programs that report no failure, so docs/failures.yaml does not have them.

The tests of a program assert that it prints the line, and the trial waits for it or looks for it in the log of a run.
Both take it from here, so the trial cannot expect a line that a program no longer prints.
"""

PULL_AGAIN = "the pull failed; the next attempt is in "
SUPERSEDED = "superseded by a newer commit"
WAITING = "waiting for another deploy: "
