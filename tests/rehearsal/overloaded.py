"""Answers each HTTPS request with one status, as an overloaded registry does, until standard input ends.

overloaded.py FOLDER PORT STATUS: in FOLDER are tls.crt and tls.key.
"""

import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Refusal(BaseHTTPRequestHandler):
    """One request."""

    def do_GET(self) -> None:
        """The status, and no word more."""
        self.send_response(int(sys.argv[3]))
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815 - the names are those of http.server

    def log_message(self, format: str, *words: object) -> None:  # noqa: A002 - as http.server has it
        """Nothing is logged."""


def main() -> None:
    """Listens on loopback."""
    folder, port = sys.argv[1], int(sys.argv[2])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{folder}/tls.crt", f"{folder}/tls.key")
    server = ThreadingHTTPServer(("127.0.0.1", port), Refusal)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
