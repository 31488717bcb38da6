"""Engines: what runs the containers on a server, and the fixed programs that deploy to it."""
