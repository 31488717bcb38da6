"""Renders a plan to files: the Jinja environment, the quoting filters and the templates."""
