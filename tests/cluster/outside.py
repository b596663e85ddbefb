"""What is outside of a cluster, in the tests of uplinks (a script by itself): `outside.py ADDRESS…`.

At each address it answers HTTP requests at port 8000 with the address that they come from, and questions of DNS with the first address. It says `ready`.
"""

from __future__ import annotations

import ipaddress
import socket
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler

PORT = 8000


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = self.client_address[0].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Names(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        question, sock = self.request
        end = question.index(b"\0", 12) + 5
        wanted = question[end - 4 : end - 2]
        address = ipaddress.ip_address(sys.argv[1]).packed
        answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\x04" + address if wanted == b"\0\1" else b""
        head = question[:2] + b"\x81\x80\0\1" + (b"\0\1" if answer else b"\0\0") + b"\0\0\0\0"
        sock.sendto(head + question[12:end] + answer, self.client_address)


def main() -> None:
    servers: list[socketserver.BaseServer] = []
    for address in sys.argv[1:]:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        http = type("Http", (socketserver.ThreadingTCPServer,), {"address_family": family})
        names = type("Udp", (socketserver.ThreadingUDPServer,), {"address_family": family})
        servers += [http((address, PORT), Handler), names((address, 53), Names)]
    threads = [threading.Thread(target=each.serve_forever) for each in servers]
    for each in threads:
        each.start()
    print("ready", flush=True)


if __name__ == "__main__":
    main()
