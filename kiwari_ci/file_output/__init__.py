"""Writes, compares and removes generated files, atomically."""
