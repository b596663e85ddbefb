"""Bootstrap tokens: `abcdef.0123456789abcdef`, kept as Secrets in kube-system, by which a new node is known until it has a certificate."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from kubeling.api import resources
from kubeling.api.times import parse_optional
from kubeling.apiserver.authn.authenticator import Agnostic
from kubeling.apiserver.authn.user import AUTHENTICATED, User
from kubeling.apiserver.registry.kinds import Kinds
from kubeling.daemon.clock import Clock

_TOKEN = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
_TYPE = "bootstrap.kubernetes.io/token"
_GROUP = "system:bootstrappers"
_GROUP_NAME = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]")


class BootstrapTokens(Agnostic):
    """Authenticates by such tokens."""

    def __init__(self, kinds: Kinds, clock: Clock, audiences: Sequence[str] = ()) -> None:
        super().__init__(audiences)
        self._kinds = kinds
        self._clock = clock

    async def user_of(self, token: str) -> User | None:
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        identity, secret = match.groups()
        # Only what is in memory: whoever makes tokens up shall not keep the store busy.
        store = self._kinds.store(resources.SECRETS)
        await store.cache.ready()
        found = store.cache.get(store.key("kube-system", f"bootstrap-token-{identity}"))
        return None if found is None else bootstrap_user(found.object(), identity, secret, self._clock.now())


def bootstrap_user(obj: dict[str, Any], identity: str, secret: str, now: datetime) -> User | None:
    """The user of a token, going by its Secret; None where the Secret says otherwise."""
    if obj.get("type") != _TYPE or obj["metadata"].get("deletionTimestamp"):
        return None
    data = {key: _decoded(value) for key, value in (obj.get("data") or {}).items()}
    if data.get("token-id") != identity or not hmac.compare_digest(data.get("token-secret", "").encode(), secret.encode()):
        return None
    if data.get("expiration"):
        try:
            expires = parse_optional(data["expiration"])
        except ValueError:
            return None
        if expires is None or expires <= now:
            return None
    if data.get("usage-bootstrap-authentication") != "true":
        return None
    groups = {_GROUP}
    for each in filter(None, (part.strip() for part in data.get("auth-extra-groups", "").split(","))):
        if _GROUP_NAME.fullmatch(each) is None:
            return None
        groups.add(each)
    return User(f"system:bootstrap:{identity}", (*sorted(groups), AUTHENTICATED))


def _decoded(value: Any) -> str:
    try:
        return base64.b64decode(value, validate=True).decode()
    except (ValueError, TypeError, binascii.Error):
        return ""
