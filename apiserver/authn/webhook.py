"""Tokens that a webhook knows: `--authentication-token-webhook-config-file`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubeling.apiserver.authn.authenticator import Known
from kubeling.apiserver.authn.user import User, authenticated
from kubeling.apiserver.webhookclient import Remembered, Webhook, WebhookFailed
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger

log = get_logger("authn")

#: An answer that a token is not good is remembered for a short time only.
_REFUSED_SECONDS = 10.0
_REFUSED = object()


class WebhookTokens:
    """Asks the webhook, and remembers what it said for `seconds`."""

    def __init__(self, webhook: Webhook, version: str, seconds: float, clock: Clock, audiences: Sequence[str] = ()) -> None:
        self._webhook = webhook
        self._version = version
        self._seconds = seconds
        self._audiences = tuple(audiences)
        self._known = Remembered(clock)

    async def review(self, token: str, audiences: Sequence[str]) -> Known | None:
        """See :class:`.authenticator.TokenAuthenticator`."""
        key = (token, tuple(audiences))
        found = self._known.get(key)
        if found is None:
            found = await self._ask(token, audiences)
            if found is None:
                return None
            self._known.put(key, found, _REFUSED_SECONDS if found is _REFUSED else self._seconds)
        return None if found is _REFUSED else found

    async def _ask(self, token: str, audiences: Sequence[str]) -> Any:
        """Known, or that it is not good; None where nobody could say."""
        spec: dict[str, Any] = {"token": token}
        if audiences:
            spec["audiences"] = list(audiences)
        api = f"authentication.k8s.io/{self._version}"
        try:
            status = await self._webhook.review({"apiVersion": api, "kind": "TokenReview", "spec": spec})
            return self._read(status, audiences)
        except (WebhookFailed, TypeError, ValueError, AttributeError) as error:
            log.warning("the token webhook could not say whose a token is", error=str(error))
            return None

    def _read(self, status: dict[str, Any], audiences: Sequence[str]) -> Any:
        if status.get("authenticated") is not True:
            return _REFUSED
        good = tuple(status.get("audiences") or self._audiences)
        common = tuple(each for each in audiences if each in good) if good else tuple(audiences)
        if audiences and not common:
            return _REFUSED
        return Known(_user(status.get("user") or {}), common)


def _user(info: dict[str, Any]) -> User:
    extra = {str(key).lower(): tuple(str(each) for each in values) for key, values in (info.get("extra") or {}).items()}
    groups = tuple(str(each) for each in info.get("groups") or ())
    return authenticated(str(info.get("username") or ""), groups, str(info.get("uid") or ""), extra)
