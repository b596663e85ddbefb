"""A client that costs little: many of them at once must not be slower than the servers that they press. One connection, one request at a time."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any
from urllib.parse import urlsplit

from tests.apiserver.harness import Server

MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"


def tls_of(server: Server, user: str = "admin") -> ssl.SSLContext:
    """What a user's connections are made with; one serves for all of them."""
    context = ssl.create_default_context(cafile=str(server.world.authority.path))
    context.load_cert_chain(*server.world.users[user])
    return context


class Plain:
    """``status, body = plain("PUT", path, obj)``."""

    def __init__(self, server: Server, context: ssl.SSLContext) -> None:
        where = urlsplit(server.url)
        self.http = http.client.HTTPSConnection(where.hostname or "", where.port, timeout=60, context=context)

    def __call__(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> tuple[int, Any]:
        raw = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        self.http.request(method, path, raw, {"content-type": kind} if raw is not None else {})
        answer = self.http.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None

    def close(self) -> None:
        self.http.close()

    def __enter__(self) -> Plain:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
