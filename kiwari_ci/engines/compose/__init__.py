"""Docker Compose on a host: its plan, its rules, and the two programs that every repository gets as they are."""
