"""The host program on a stand-in for Docker."""
