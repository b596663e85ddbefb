"""Reviews by somebody else: TokenReview and SubjectAccessReview, sent to the server that a kubeconfig names.

Only where a flag asks for it; the HTTP library is not imported before. What fails in passing is tried again within bounds, and answers are remembered by those who ask.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
import tempfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from kubeling.daemon.backoff import Backoff
from kubeling.daemon.clock import Clock
from kubeling.daemon.main import UsageError

_ATTEMPTS = 5
_TIMEOUT = 30.0
_MAX_ANSWER = 1 << 20


class WebhookFailed(Exception):
    """No usable answer was to be had; the text says why."""


class Webhook:
    """The server of a kubeconfig's current context. UsageError where the file cannot be used."""

    def __init__(self, flag: str, path: str, clock: Clock, *, timeout: float = _TIMEOUT) -> None:
        self._clock = clock
        self._timeout = timeout
        self._client: Any = None
        import yaml

        try:
            config = yaml.safe_load(Path(path).read_bytes())
            current = _named(config, "contexts", config["current-context"])["context"]
            cluster = _named(config, "clusters", current["cluster"])["cluster"]
            user = _named(config, "users", current["user"]).get("user") or {} if current.get("user") else {}
            self._url = str(cluster["server"])
            self._headers = _headers(user, Path(path).parent)
            self._tls = _tls(cluster, user, Path(path).parent)
        except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
            raise UsageError(f"{flag} {path}: is no kubeconfig with a current context: {error}") from error

    async def review(self, review: Mapping[str, Any]) -> dict[str, Any]:
        """Send a review; the status of what comes back. Raises WebhookFailed."""
        body = orjson.dumps(review)
        backoff = Backoff(base=0.5, limit=5)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await self._post(body)
            except (OSError, TimeoutError) as error:
                if attempt == _ATTEMPTS:
                    raise WebhookFailed(str(error) or type(error).__name__) from error
                await asyncio.sleep(backoff.next())
        raise WebhookFailed("no attempt was made")

    async def _post(self, body: bytes) -> dict[str, Any]:
        import httpx

        if self._client is None:
            self._client = httpx.AsyncClient(verify=self._tls, headers=self._headers, timeout=self._timeout, trust_env=False)
        answer = b""
        try:
            async with self._client.stream("POST", self._url, content=body) as response:
                if response.status_code in (429, 500, 502, 503, 504):
                    raise OSError(f"the webhook answered {response.status_code}")
                if response.status_code not in (200, 201):
                    raise WebhookFailed(f"the webhook answered {response.status_code}")
                async for chunk in response.aiter_bytes():
                    answer += chunk
                    if len(answer) > _MAX_ANSWER:
                        raise WebhookFailed(f"the webhook answered more than {_MAX_ANSWER} bytes")
        except httpx.HTTPError as error:
            raise OSError(str(error) or type(error).__name__) from error
        try:
            status = orjson.loads(answer)["status"]
        except (ValueError, KeyError, TypeError):
            status = None
        if not isinstance(status, dict):
            raise WebhookFailed("the webhook's answer has no status")
        return status

    async def close(self) -> None:
        """Let go of the connections."""
        if self._client is not None:
            await self._client.aclose()


class Remembered:
    """Answers, each for a time of its own; within bounds, the oldest go first."""

    def __init__(self, clock: Clock, size: int = 8192) -> None:
        self._clock = clock
        self._size = size
        self._answers: OrderedDict[Any, tuple[float, Any]] = OrderedDict()

    def get(self, key: Any) -> Any:
        """The answer, None where there is none that is still good."""
        found = self._answers.get(key)
        if found is None or found[0] <= self._clock.monotonic():
            return None
        return found[1]

    def put(self, key: Any, answer: Any, seconds: float) -> None:
        if seconds <= 0:
            return
        self._answers[key] = self._clock.monotonic() + seconds, answer
        self._answers.move_to_end(key)
        while len(self._answers) > self._size:
            self._answers.popitem(last=False)


def _named(config: Mapping[str, Any], section: str, name: str) -> dict[str, Any]:
    for each in config[section]:
        if each["name"] == name:
            found: dict[str, Any] = each
            return found
    raise ValueError(f"{section} has no {name!r}")


def _headers(user: Mapping[str, Any], folder: Path) -> dict[str, str]:
    headers = {"content-type": "application/json", "accept": "application/json"}
    token = user.get("token") or ((folder / user["tokenFile"]).read_text().strip() if user.get("tokenFile") else "")
    if token:
        headers["authorization"] = f"Bearer {token}"
    elif user.get("username"):
        pair = f"{user['username']}:{user.get('password') or ''}"
        headers["authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    return headers


def _tls(cluster: Mapping[str, Any], user: Mapping[str, Any], folder: Path) -> ssl.SSLContext:
    authority = _data(cluster, "certificate-authority", folder)
    context = ssl.create_default_context(cadata=authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    certificate, key = _data(user, "client-certificate", folder), _data(user, "client-key", folder)
    if certificate and key:
        # The ssl module reads files only.
        with tempfile.NamedTemporaryFile() as out:
            out.write(certificate + b"\n" + key)
            out.flush()
            context.load_cert_chain(out.name)
    return context


def _data(section: Mapping[str, Any], key: str, folder: Path) -> bytes:
    if section.get(f"{key}-data"):
        return base64.b64decode(section[f"{key}-data"])
    return (folder / section[key]).read_bytes() if section.get(key) else b""
