"""What runs containers on hosts: a protocol, a registry, and a folder for each kind of engine."""
