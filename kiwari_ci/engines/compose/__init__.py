"""Docker Compose on a host: the two programs that every generated repository has, copied byte for byte."""
