"""Turns one typed spec into GitHub workflows, compose stacks, a host script and a runbook."""

__version__ = "0.1.0"
