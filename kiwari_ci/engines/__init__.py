"""Engines: what runs an environment's containers, a folder for each kind."""
