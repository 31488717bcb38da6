"""The command preview: what pushing a version tag would do."""
