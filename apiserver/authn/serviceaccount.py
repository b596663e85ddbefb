"""Service-account tokens: JWTs that this cluster signs and believes.

A token is bound to its account and, where it was asked for so, to a pod, a secret or a node: when one of these is gone, or is another of the same name,
the token is worth nothing. The signature is checked once and remembered; the objects are looked up (in memory) every time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubeling.api import resources
from kubeling.api.legacytokens import LAST_USED
from kubeling.api.meta import labels_of
from kubeling.apiserver.authn import legacy
from kubeling.apiserver.authn.authenticator import Known
from kubeling.apiserver.authn.user import User, authenticated
from kubeling.daemon.clock import Clock
from kubeling.daemon.main import UsageError

if TYPE_CHECKING:
    from kubeling.apiserver.cache.cache import Cache
    from kubeling.apiserver.cache.entry import Entry
    from kubeling.apiserver.registry.kinds import Kinds

_REMEMBERED = 4096
_LEEWAY = 10
#: A deleted pod's token still works while the pod shuts down.
_DELETED_LEEWAY = 60.0
_EXTRA = "authentication.kubernetes.io/"
#: Issuer of tokens that are kept in Secrets, and how their claims begin.
LEGACY_ISSUER, _LEGACY = "kubernetes/serviceaccount", "kubernetes.io/serviceaccount/"
_BOUND = {"pod": resources.PODS, "secret": resources.SECRETS, "node": resources.NODES}


@dataclass(frozen=True, slots=True)
class Key:
    """A public key, the private one where it is known, and the id under which tokens name it."""

    id: str
    algorithm: str
    public: Any
    private: Any = None


class TokenIssuer:
    """Signs with one key, verifies with several."""

    def __init__(
        self, issuer: str, audiences: Sequence[str], signing: Key | None, verifying: Sequence[Key], clock: Clock
    ) -> None:
        self.issuer = issuer
        self.audiences = tuple(audiences) or (issuer,)
        self._signing = signing
        self._keys = {each.id: each for each in (*verifying, *([signing] if signing else []))}
        self._clock = clock
        self._known: dict[str, dict[str, Any]] = {}

    @property
    def can_sign(self) -> bool:
        return self._signing is not None

    def sign(
        self,
        namespace: str,
        account: Mapping[str, str],
        audiences: Sequence[str],
        seconds: int,
        bound: Mapping[str, Mapping[str, str]],
    ) -> str:
        """A token for the account `{"name", "uid"}`; `bound` has kinds (pod, secret, node), each with name and uid."""
        import jwt

        assert self._signing is not None
        now = int(self._clock.now().timestamp())
        private: dict[str, Any] = {"namespace": namespace, "serviceaccount": dict(account), **bound}
        claims = {
            "aud": list(audiences),
            "exp": now + seconds,
            "iat": now,
            "nbf": now,
            "iss": self.issuer,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": private,
            "sub": f"system:serviceaccount:{namespace}:{account['name']}",
        }
        key = self._signing
        return jwt.encode(claims, key.private, algorithm=key.algorithm, headers={"kid": key.id})

    def verify(self, token: str) -> dict[str, Any] | None:
        """The claims of a token of ours that is valid now, whoever it is for."""
        claims = self._known.get(token) or self._verify(token)
        if claims is None:
            return None
        now = self._clock.now().timestamp()
        if not claims.get("nbf", 0) - _LEEWAY <= now < claims.get("exp", float("inf")):
            self._known.pop(token, None)
            return None
        return claims

    def _verify(self, token: str) -> dict[str, Any] | None:
        import jwt

        try:
            key = self._keys.get(str(jwt.get_unverified_header(token).get("kid")))
            if key is None:
                return None
            options: Any = {"verify_aud": False, "verify_exp": False, "verify_nbf": False, "require": ["iss", "sub"]}
            issuers = [self.issuer, LEGACY_ISSUER]
            claims = jwt.decode(token, key.public, algorithms=[key.algorithm], issuer=issuers, options=options)
        except (jwt.PyJWTError, ValueError):
            return None
        if claims["iss"] == LEGACY_ISSUER:
            # Good for the server itself, for as long as its Secret is there.
            claims["aud"] = list(self.audiences)
            claims.pop("kubernetes.io", None)
        elif not _is_complete(claims):
            return None
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[token] = claims
        return claims

    def key_set(self) -> dict[str, Any]:
        """The JSON Web Key Set of the public keys."""
        import json

        from jwt.algorithms import ECAlgorithm, RSAAlgorithm

        keys = []
        for each in self._keys.values():
            algorithm = RSAAlgorithm if each.algorithm.startswith("RS") else ECAlgorithm
            found = json.loads(algorithm.to_jwk(each.public))
            found.pop("key_ops", None)
            keys.append({**found, "use": "sig", "kid": each.id, "alg": each.algorithm})
        return {"keys": keys}


def _is_complete(claims: dict[str, Any]) -> bool:
    """Whether a token on request has all that it needs to be checked; a single audience becomes a list."""
    if isinstance(claims.get("aud"), str):
        claims["aud"] = [claims["aud"]]
    times = all(isinstance(claims.get(each), int | float) for each in ("exp", "nbf"))
    return times and isinstance(claims.get("aud"), list) and isinstance(claims.get("kubernetes.io"), dict)


class ServiceAccountTokens:
    """Authenticates by such tokens."""

    def __init__(self, issuer: TokenIssuer, kinds: Kinds, clock: Clock) -> None:
        self._issuer = issuer
        self._kinds = kinds
        self._clock = clock
        #: Token → its user, the objects that were looked at, and the day where that matters: while these are the same, and not going, so is the answer.
        self._checked: dict[str, tuple[User, tuple[tuple[Cache, Entry], ...], str]] = {}

    async def review(self, token: str, audiences: Sequence[str]) -> Known | None:
        """See :class:`.authenticator.TokenAuthenticator`."""
        claims = self._issuer.verify(token)
        if claims is None:
            return None
        common = tuple(each for each in audiences or self._issuer.audiences if each in claims["aud"])
        if not common:
            return None
        checked = self._checked.get(token)
        if checked is not None and checked[2] in ("", self._today()) and _all_current(checked[1]):
            return Known(checked[0], common)
        self._checked.pop(token, None)
        user = await (self._legacy(token, claims) if "kubernetes.io" not in claims else self._bound(token, claims))
        return None if user is None else Known(user, common)

    async def _bound(self, token: str, claims: dict[str, Any]) -> User | None:
        """Of a token on request (KEP-1205)."""
        private = claims["kubernetes.io"]
        namespace, account = private.get("namespace") or "", private.get("serviceaccount") or {}
        seen: list[tuple[Cache, Entry]] = []
        if not await self._exists(resources.SERVICE_ACCOUNTS, namespace, account, seen):
            return None
        extra: dict[str, tuple[str, ...]] = {}
        if claims.get("jti"):
            extra[f"{_EXTRA}credential-id"] = (f"JTI={claims['jti']}",)
        for kind, resource in _BOUND.items():
            reference = private.get(kind)
            if reference is None:
                continue
            # The node of a pod's token only says where the pod runs.
            binding = kind != "node" or "pod" not in private
            if binding and not await self._exists(resource, namespace if resource.namespaced else "", reference, seen):
                return None
            if kind != "secret":
                extra[f"{_EXTRA}{kind}-name"] = (reference.get("name") or "",)
                if reference.get("uid"):
                    extra[f"{_EXTRA}{kind}-uid"] = (reference["uid"],)
        return self._remember(token, _account_user(namespace, account["name"], account["uid"], extra), seen)

    async def _legacy(self, token: str, claims: dict[str, Any]) -> User | None:
        """Of a token that is kept in a Secret and never expires."""
        namespace = claims.get(_LEGACY + "namespace") or ""
        account = {"name": claims.get(_LEGACY + "service-account.name"), "uid": claims.get(_LEGACY + "service-account.uid")}
        name = claims.get(_LEGACY + "secret.name") or ""
        if claims.get("sub") != f"system:serviceaccount:{namespace}:{account['name']}":
            return None
        seen: list[tuple[Cache, Entry]] = []
        if not await self._exists(resources.SERVICE_ACCOUNTS, namespace, account, seen):
            return None
        store = self._kinds.store(resources.SECRETS)
        secret = await store.peek(namespace, name)
        if secret is None:
            return None
        obj = secret.object()
        kept = base64.b64encode(token.encode()).decode()
        if obj["metadata"].get("deletionTimestamp") or not hmac.compare_digest((obj.get("data") or {}).get("token") or "", kept):
            return None
        if legacy.is_invalid(obj):
            return None
        today = self._today()
        if labels_of(obj).get(LAST_USED) != today:
            await legacy.note_use(store, namespace, name, today)
        seen.append((store.cache, secret))
        return self._remember(token, _account_user(namespace, str(account["name"]), str(account["uid"]), {}), seen, today)

    def _today(self) -> str:
        return self._clock.now().date().isoformat()

    def _remember(self, token: str, user: User, seen: list[tuple[Cache, Entry]], day: str = "") -> User:
        if all("deletionTimestamp" not in entry.object()["metadata"] for _, entry in seen):
            if len(self._checked) >= _REMEMBERED:
                self._checked.clear()
            self._checked[token] = user, tuple(seen), day
        return user

    async def _exists(
        self, resource: resources.Resource, namespace: str, reference: Mapping[str, Any], seen: list[tuple[Cache, Entry]]
    ) -> bool:
        from kubeling.api.times import seconds_between

        store = self._kinds.store(resource)
        found = await store.peek(namespace, reference.get("name") or "")
        if found is None:
            return False
        seen.append((store.cache, found))
        metadata = found.object()["metadata"]
        if metadata["uid"] != reference.get("uid"):
            return False
        stamp = metadata.get("deletionTimestamp")
        return not stamp or seconds_between(stamp, self._clock.now()) < _DELETED_LEEWAY


def _all_current(seen: tuple[tuple[Cache, Entry], ...]) -> bool:
    return all(cache.get(entry.key) is entry for cache, entry in seen)


def _account_user(namespace: str, name: str, uid: str, extra: dict[str, tuple[str, ...]]) -> User:
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
    return authenticated(f"system:serviceaccount:{namespace}:{name}", groups, uid, extra)


def load_issuer(
    issuer: str, audiences: Sequence[str], signing_file: str, verifying_files: Sequence[str], clock: Clock
) -> TokenIssuer | None:
    """From PEM files; None where no key is given at all. UsageError for a file that cannot be used."""
    if not signing_file and not verifying_files:
        return None
    signing = _load(signing_file)[0] if signing_file else None
    verifying = [key for path in verifying_files for key in _load(path)]
    if signing is not None and signing.private is None:
        raise UsageError(f"--service-account-signing-key-file {signing_file}: holds no private key")
    return TokenIssuer(issuer, audiences, signing, verifying, clock)


def _load(path: str) -> list[Key]:
    from cryptography.hazmat.primitives import serialization

    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"service account key {path}: {error.strerror}") from error
    try:
        if b"PRIVATE KEY" in raw:
            private: Any = serialization.load_pem_private_key(raw, None)
            return [_key(private.public_key(), private)]
        return [_key(serialization.load_pem_public_key(raw), None)]
    except (ValueError, TypeError) as error:
        raise UsageError(f"service account key {path}: {error}") from error


def _key(public: Any, private: Any) -> Key:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    identity = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()
    if isinstance(public, ec.EllipticCurvePublicKey):
        return Key(identity, {256: "ES256", 384: "ES384", 521: "ES512"}[public.curve.key_size], public, private)
    return Key(identity, "RS256", public, private)
