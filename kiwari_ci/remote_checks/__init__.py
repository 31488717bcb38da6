"""Asks the world: hosts over SSH, GitHub, DNS and TLS, registries, proxies. Changes nothing."""
