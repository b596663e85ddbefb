"""Exec, attach and port-forward streams for clients that come with a URL."""

from __future__ import annotations

import secrets
import time
from typing import Any

#: A URL is good for one use within this time.
_URL_SECONDS = 60.0
_MAX_URLS = 1000


class StreamingServer:
    def __init__(self) -> None:
        self.address = ""
        self._tokens: dict[str, tuple[float, str, Any]] = {}

    def url(self, kind: str, request: Any) -> str:
        """A URL under which `request` can be carried out once."""
        now = time.monotonic()
        self._tokens = {token: entry for token, entry in self._tokens.items() if entry[0] > now}
        while len(self._tokens) >= _MAX_URLS:
            self._tokens.pop(next(iter(self._tokens)))
        token = secrets.token_urlsafe(16)
        self._tokens[token] = (now + _URL_SECONDS, kind, request)
        return f"http://{self.address}/{kind}/{token}"
