"""Turns one typed spec into GitHub workflows, compose stacks, a host program and a runbook."""

__version__ = "0.1.0"
