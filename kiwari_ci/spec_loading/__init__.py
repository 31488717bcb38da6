"""Loads a spec: YAML with positions, validation, suggestions, and what is not supported."""
