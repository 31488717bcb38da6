"""Readers for other people's files: YAML, Compose, workflows, Dockerfiles, shell, git and image references."""
