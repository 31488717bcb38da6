"""Docker Compose on a host: its plan and its rules, and the programs that deploy there."""
