"""The command check: which generated files are stale, and why."""
