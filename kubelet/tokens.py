"""Service account tokens for pods: asked from the apiserver by TokenRequest, bound to the pod, and replaced before they expire."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from kubeling.api.meta import Object, metadata_of, namespace_of, spec_of, uid_of
from kubeling.api.resources import SERVICE_ACCOUNTS
from kubeling.api.times import parse_time
from kubeling.client.rest import Client
from kubeling.daemon.clock import Clock

DEFAULT_SECONDS = 3600
_MAX_AGE = 24 * 3600.0
#: A new one is asked for when this much of its life is over, as upstream.
_USED = 0.8
#: A clock that is this much before the moment at which a token was asked for was set.
_SET_BACK = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Token:
    """It was asked for at `issued_at`, and the next one is at `refresh_at`; `expires` is as the apiserver wrote it."""

    text: str
    issued_at: datetime
    refresh_at: datetime
    expires: str = ""


class TokenSource:
    """One token per pod, audience and lifetime, kept until its time has come."""

    def __init__(self, client: Client, clock: Clock, rand: Callable[[], float] = random.random) -> None:
        self._client = client
        self._clock = clock
        self._rand = rand
        self._tokens: dict[str, dict[tuple[str, int], Token]] = {}

    async def get(self, pod: Object, audience: str, seconds: int) -> Token:
        """A token that is good for a while yet. When the apiserver is away the old one does until it expires."""
        key = (audience, seconds or DEFAULT_SECONDS)
        held = self._tokens.setdefault(uid_of(pod), {})
        found = held.get(key)
        # By a clock that was set back it is not good yet.
        if found is not None and found.issued_at - _SET_BACK < self._clock.now() < found.refresh_at:
            return found
        held[key] = await self._request(pod, audience, seconds or DEFAULT_SECONDS)
        return held[key]

    def forget(self, uid: str) -> None:
        """The pod is gone."""
        self._tokens.pop(uid, None)

    async def _request(self, pod: Object, audience: str, seconds: int) -> Token:
        account = spec_of(pod).get("serviceAccountName") or "default"
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {},
            "spec": {
                "audiences": [audience] if audience else [],
                "expirationSeconds": seconds,
                "boundObjectRef": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": metadata_of(pod)["name"],
                    "uid": uid_of(pod),
                },
            },
        }
        answer = await self._client.create(SERVICE_ACCOUNTS, body, namespace_of(pod), name=account, subresource="token")
        status = answer["status"]
        now = self._clock.now()
        life = max(0.0, (parse_time(status["expirationTimestamp"]) - now).total_seconds())
        # Spread, so that the tokens of pods that started together are not replaced together.
        after = min(life * _USED, _MAX_AGE) * (1 - 0.1 * self._rand())
        return Token(
            status["token"], now, datetime.fromtimestamp(now.timestamp() + after, now.tzinfo), status["expirationTimestamp"]
        )
