"""Holds a spec against the world: names, servers, GitHub, proxy and registry are asked, and nothing is changed."""
