"""ServiceAccount tokens in Secrets: who makes a Secret of type kubernetes.io/service-account-token finds a token in it, for as long as the account is there.

It is the old way, which never expires; tokens on request (KEP-1205) are the better one. The libraries that sign are imported when there is something to be signed.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

from kubeling.api.errors import ApiError, is_conflict, is_not_found
from kubeling.api.meta import Object, annotations_of, is_deleting, name_of, namespace_of, uid_of
from kubeling.api.resources import SECRETS, SERVICE_ACCOUNTS
from kubeling.client.controller import Reconciler, Request
from kubeling.controllers.context import Context

TYPE = "kubernetes.io/service-account-token"
NAME, UID = "kubernetes.io/service-account.name", "kubernetes.io/service-account.uid"
ISSUER = "kubernetes/serviceaccount"
_CLAIM = "kubernetes.io/serviceaccount/"


class ServiceAccountTokens:
    def __init__(self, ctx: Context) -> None:
        self._client = ctx.client
        self._root_ca = ctx.options.root_ca
        self._key = ctx.options.service_account_private_key
        self._secrets = ctx.informers.informer(SECRETS, field_selector=f"type={TYPE}")
        self._accounts = ctx.informers.informer(SERVICE_ACCOUNTS)
        self._loop = Reconciler("serviceaccount-token-controller", self.reconcile, workers=2, clock=ctx.clock)
        self._loop.watches(self._secrets)
        self._loop.watches(self._accounts, self._secrets_of)
        self.run = self._loop.run

    def _secrets_of(self, account: Object) -> list[Request]:
        namespace = namespace_of(account)
        found = [
            each for each in self._secrets.store.in_namespace(namespace) if annotations_of(each).get(NAME) == name_of(account)
        ]
        return [Request(namespace, name_of(each)) for each in found]

    async def reconcile(self, request: Request) -> float | None:
        """Fill in one Secret, or take it away with its account."""
        secret = self._secrets.store.get(request.name, request.namespace)
        if secret is None or is_deleting(secret) or secret.get("type") != TYPE:
            return None
        account = await self._account(secret)
        if account is None or annotations_of(secret).get(UID, uid_of(account)) != uid_of(account):
            await self._remove(secret)
            return None
        wanted = self._filled(secret, account)
        if wanted is not None:
            try:
                await self._client.update(SECRETS, wanted)
            except ApiError as error:
                # The change that is in the way brings us back here.
                if not (is_conflict(error) or is_not_found(error)):
                    raise
        return None

    async def _account(self, secret: Object) -> Object | None:
        """The account, asked of the server before it is said that there is none."""
        name, namespace = annotations_of(secret).get(NAME, ""), namespace_of(secret)
        found = self._accounts.store.get(name, namespace)
        if found is None and name:
            try:
                found = await self._client.get(SERVICE_ACCOUNTS, name, namespace)
            except ApiError as error:
                if not is_not_found(error):
                    raise
        return found

    async def _remove(self, secret: Object) -> None:
        try:
            await self._client.delete(SECRETS, name_of(secret), namespace_of(secret), uid=uid_of(secret))
        except ApiError as error:
            if not (is_not_found(error) or is_conflict(error)):
                raise

    def _filled(self, secret: Object, account: Object) -> Object | None:
        """The Secret with all that belongs in it; None where it is all there."""
        data = dict(secret.get("data") or {})
        data["namespace"] = _encoded(namespace_of(secret))
        if self._root_ca:
            data["ca.crt"] = _encoded(self._root_ca)
        if not data.get("token"):
            data["token"] = _encoded(sign(self._key, secret, account))
        metadata = {**secret["metadata"], "annotations": {**annotations_of(secret), UID: uid_of(account)}}
        if data == secret.get("data") and metadata["annotations"] == annotations_of(secret):
            return None
        return {**secret, "metadata": metadata, "data": data}


def sign(pem: str, secret: Object, account: Object) -> str:
    """The token, with the claims that upstream's has."""
    import jwt
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key: Any = serialization.load_pem_private_key(pem.encode(), None)
    der = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    # The id by which the apiserver knows the key, too.
    identity = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()
    algorithm = (
        {256: "ES256", 384: "ES384", 521: "ES512"}[key.curve.key_size] if isinstance(key, ec.EllipticCurvePrivateKey) else "RS256"
    )
    namespace, name = namespace_of(account), name_of(account)
    claims = {
        "iss": ISSUER,
        "sub": f"system:serviceaccount:{namespace}:{name}",
        f"{_CLAIM}namespace": namespace,
        f"{_CLAIM}secret.name": name_of(secret),
        f"{_CLAIM}service-account.name": name,
        f"{_CLAIM}service-account.uid": uid_of(account),
    }
    return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": identity})


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def serviceaccounttoken(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The controller of tokens in Secrets."""
    return ServiceAccountTokens(ctx).run
