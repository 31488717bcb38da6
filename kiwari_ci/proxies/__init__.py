"""The proxies that can stand in front of services."""
