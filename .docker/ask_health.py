"""Exits with 0 if each given address on this machine answers HTTP 200, otherwise with 1 and the first other answer.

For the health checks of containers, which run every few seconds: it starts within hundredths of a second.

    python -I -S ask_health.py PORT/PATH...
"""

from __future__ import annotations

import socket
import sys

_SECONDS = 4.0
_SHOWN_BYTES = 1000


def ask(address: str) -> str | None:
    """What is wrong with the answer, or None if it is 200."""
    port, _, path = address.partition("/")
    request = f"GET /{path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection(("127.0.0.1", int(port)), _SECONDS) as connection:
            connection.sendall(request.encode("ascii"))
            answer = b""
            while len(answer) < _SHOWN_BYTES and (part := connection.recv(4096)):
                answer += part
    except OSError as error:
        return f"{address}: {error}"
    head, _, body = answer.decode("utf-8", "replace").partition("\r\n\r\n")
    if head.split(" ")[1:2] == ["200"]:
        return None
    return f"{address}: {head.splitlines()[0] if head else 'no answer'} {body[:_SHOWN_BYTES]}"


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        if (fault := ask(wanted)) is not None:
            print(fault)  # noqa: T201 - Docker keeps it as the reason, see `docker inspect`
            sys.exit(1)
