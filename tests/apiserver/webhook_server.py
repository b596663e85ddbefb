"""A webhook server with TLS: paths to functions, and a record of what it was asked."""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.apiserver.harness import Authority, Obj

Answerer = Callable[[Obj], Any]


@dataclass
class Webhooks:
    """What answers on which path, and what was asked."""

    port: int
    ca_bundle: str
    answers: dict[str, Answerer] = field(default_factory=dict)
    asked: list[tuple[str, Obj]] = field(default_factory=list)
    connections: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def url(self, path: str) -> str:
        return f"https://127.0.0.1:{self.port}/{path}"

    def on(self, path: str, answer: Answerer) -> None:
        """Answer there with a response (a dict with uid put in), or with bytes as they are."""
        self.answers[path] = answer

    def requests(self, path: str) -> list[Obj]:
        with self.lock:
            return [review["request"] for where, review in self.asked if where == path]


def patch(*operations: Obj, **more: Any) -> Obj:
    encoded = base64.b64encode(json.dumps(operations).encode()).decode()
    return {"allowed": True, "patchType": "JSONPatch", "patch": encoded, **more}


def deny(message: str = "", **status: Any) -> Obj:
    found = {**status, **({"message": message} if message else {})}
    return {"allowed": False, **({"status": found} if found else {})}


@contextlib.contextmanager
def serving(authority: Authority, *names: str) -> Iterator[Webhooks]:
    """A server on a free port of 127.0.0.1, with a certificate for that and for `names`."""
    cert, key = authority.issue("webhook", file="webhook", addresses=("127.0.0.1", *names))
    bundle = base64.b64encode(authority.path.read_bytes()).decode()
    made = Webhooks(0, bundle)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            with made.lock:
                made.connections += 1

        def do_POST(self) -> None:
            review = json.loads(self.rfile.read(int(self.headers["content-length"])))
            path = self.path.partition("?")[0].strip("/")
            with made.lock:
                made.asked.append((path, review))
            answer = made.answers.get(path)
            if answer is None:
                self._send(404, b"")
                return
            found = answer(review["request"])
            if isinstance(found, tuple):
                self._send(*found)
            elif isinstance(found, bytes):
                self._send(200, found)
            else:
                response = {"uid": review["request"]["uid"], **found}
                body = {"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response}
                self._send(200, json.dumps(body).encode())

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    server = Quiet(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
