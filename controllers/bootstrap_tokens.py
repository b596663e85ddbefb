"""Bootstrap tokens: what a machine that knows only a token needs to trust the cluster, and their end.

The ConfigMap `kube-public/cluster-info` holds a kubeconfig without credentials that everybody may read. For each token that may be used for it the signer adds a signature of that
kubeconfig: a JWS without its payload (RFC 7515, appendix F), HS256 with the token's secret as the key. Who has the token thus knows that the CA in it is the right one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime

from kubeling.api.errors import ApiError, is_not_found
from kubeling.api.meta import is_deleting, name_of, resource_version_of, uid_of
from kubeling.api.resources import CONFIG_MAPS, SECRETS
from kubeling.api.times import parse_time
from kubeling.client.controller import Reconciler, Request
from kubeling.client.informer import Informer
from kubeling.controllers.context import Context, Obj

TYPE = "bootstrap.kubernetes.io/token"
SIGNATURE = "jws-kubeconfig-"
INFO = Request("kube-public", "cluster-info")


def _field(secret: Obj, name: str) -> str:
    try:
        return base64.b64decode((secret.get("data") or {}).get(name) or "", validate=True).decode()
    except ValueError:
        return ""


def expires(secret: Obj) -> datetime | None:
    """When a token ends; None where it does not. One that cannot be read has ended."""
    text = _field(secret, "expiration")
    if not text:
        return None
    try:
        return parse_time(text)
    except ValueError:
        return parse_time("1970-01-01T00:00:00Z")


def usable(secret: Obj, now: datetime) -> tuple[str, str] | None:
    """Id and secret of a token that may sign."""
    token, key, end = _field(secret, "token-id"), _field(secret, "token-secret"), expires(secret)
    if is_deleting(secret) or not token or not key or name_of(secret) != f"bootstrap-token-{token}":
        return None
    if _field(secret, "usage-bootstrap-signing") != "true" or (end is not None and end <= now):
        return None
    return token, key


def signature(kubeconfig: str, token: str, key: str) -> str:
    """The detached JWS."""

    def encoded(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    head = encoded(json.dumps({"alg": "HS256", "kid": token}, separators=(",", ":")).encode())
    mac = hmac.new(key.encode(), f"{head}.{encoded(kubeconfig.encode())}".encode(), hashlib.sha256)
    return f"{head}..{encoded(mac.digest())}"


def signed(info: Obj, secrets: Iterable[Obj], now: datetime) -> dict[str, str]:
    """What the ConfigMap is to hold: what it has, and exactly the signatures of these tokens."""
    data: dict[str, str] = {key: value for key, value in (info.get("data") or {}).items() if not key.startswith(SIGNATURE)}
    kubeconfig = data.get("kubeconfig")
    if kubeconfig:
        for token, key in filter(None, (usable(each, now) for each in secrets)):
            data[SIGNATURE + token] = signature(kubeconfig, token, key)
    return data


def _tokens(ctx: Context) -> Informer:
    return ctx.informers.informer(SECRETS, field_selector=f"type={TYPE}")


class Signer:
    """Keeps the signatures."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._tokens = _tokens(ctx)
        self._infos = ctx.informers.informer(CONFIG_MAPS, field_selector=f"metadata.name={INFO.name}")
        self._loop = Reconciler("bootstrap-signer-controller", self.reconcile, workers=1, clock=ctx.clock)
        self._loop.watches(self._infos, lambda each: (INFO,) if each["metadata"]["namespace"] == INFO.namespace else ())
        self._loop.watches(self._tokens, lambda each: (INFO,) if each["metadata"]["namespace"] == "kube-system" else ())
        self.run = self._loop.run

    async def reconcile(self, request: Request) -> float | None:
        """Write the ConfigMap where it is not as it should be."""
        info, now = self._infos.store.get(INFO.name, INFO.namespace), self._ctx.clock.now()
        if info is None:
            return None
        secrets = self._tokens.store.in_namespace("kube-system")
        data = signed(info, secrets, now)
        if data != (info.get("data") or {}):
            await self._ctx.client.update(CONFIG_MAPS, {**info, "data": data})
        left = [(end - now).total_seconds() for each in secrets if (end := expires(each)) is not None and end > now]
        return min(left, default=None)


class Cleaner:
    """Deletes tokens that have ended."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._tokens = _tokens(ctx)
        self._loop = Reconciler("token-cleaner-controller", self.reconcile, workers=1, clock=ctx.clock)
        self._loop.watches(self._tokens)
        self.run = self._loop.run

    async def reconcile(self, request: Request) -> float | None:
        """Delete one when its time has come, under the version that was judged."""
        secret = self._tokens.store.get(request.name, request.namespace) if request.namespace == "kube-system" else None
        end = expires(secret) if secret is not None else None
        if secret is None or end is None:
            return None
        left = (end - self._ctx.clock.now()).total_seconds()
        if left > 0:
            return left
        uid, version = uid_of(secret), resource_version_of(secret)
        try:
            await self._ctx.client.delete(SECRETS, request.name, request.namespace, uid=uid, resource_version=version)
        except ApiError as error:
            if not is_not_found(error):
                raise
        return None


def signer(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The controller that signs cluster-info."""
    return Signer(ctx).run


def cleaner(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The controller that deletes tokens that have ended."""
    return Cleaner(ctx).run
