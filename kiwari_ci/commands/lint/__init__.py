"""The command lint: compares a spec with the repository that it belongs to."""
