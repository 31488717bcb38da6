"""Answers about the pipeline, from the plan, git, the registry and the hosts; nothing is changed anywhere."""
