"""Lets `python -m kiwari_ci` do what `kiwari-ci` does."""

from kiwari_ci.cli import main

main()
