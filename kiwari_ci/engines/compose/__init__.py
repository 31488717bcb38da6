"""Docker Compose: the program on the server, and the one that calls it over SSH."""
