"""Docker Compose on a server that is reached by SSH."""
