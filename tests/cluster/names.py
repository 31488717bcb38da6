"""The names of a cluster's Services, as its pods ask for them: a stand-in for CoreDNS.

Run beside the control plane: names.py ADDRESS. It asks the API server with kubectl whenever it hears a name that it
does not know, and answers with the address of a Service.
"""

import json
import socket
import struct
import subprocess
import sys
import time

SUFFIX = ".svc.cluster.local"
ADDRESS_QUERY = 1  # the type A
SECONDS = 5  # that an answer of the API server is used for


def read_services() -> dict[str, str]:
    """The address of each Service, by its name in the cluster."""
    ended = subprocess.run(["kubectl", "get", "services", "-A", "-o", "json"], capture_output=True)
    items = json.loads(ended.stdout)["items"] if ended.returncode == 0 else []
    return {
        f"{service['metadata']['name']}.{service['metadata']['namespace']}{SUFFIX}": service["spec"]["clusterIP"]
        for service in items
        if service["spec"].get("clusterIP", "None") != "None"
    }


def read_question(packet: bytes) -> tuple[str, int, bytes]:
    """The name, the type and the bytes of the first question."""
    position, labels = 12, []
    while packet[position]:
        length = packet[position]
        labels.append(packet[position + 1 : position + 1 + length].decode("ascii", "replace"))
        position += length + 1
    (kind,) = struct.unpack_from(">H", packet, position + 1)
    return ".".join(labels).lower(), kind, packet[12 : position + 5]


def write_answer(packet: bytes, question: bytes, is_known: bool, addresses: list[str]) -> bytes:
    """The answer: it says whether there is such a name, and its addresses."""
    flags = 0x8580 if is_known else 0x8583
    head = packet[:2] + struct.pack(">HHHHH", flags, 1, len(addresses), 0, 0)
    records = [struct.pack(">HHHIH", 0xC00C, 1, 1, 1, 4) + socket.inet_aton(address) for address in addresses]
    return head + question + b"".join(records)


def main() -> None:
    """Answers until it is killed."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind((sys.argv[1], 53))
    services: dict[str, str] = {}
    asked = 0.0
    while True:
        packet, sender = listener.recvfrom(512)
        name, kind, question = read_question(packet)
        if name.endswith(SUFFIX) and (name not in services or time.monotonic() - asked > SECONDS):
            services, asked = read_services(), time.monotonic()
        known = services.get(name)
        addresses = [known] if known and kind == ADDRESS_QUERY else []
        listener.sendto(write_answer(packet, question, known is not None, addresses), sender)


if __name__ == "__main__":
    main()
