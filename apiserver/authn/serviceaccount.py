"""Service-account tokens: JWTs that this cluster signs and believes.

A token is bound to its account and, where it was asked for so, to a pod, a secret or a node: when one of these is gone, or is another of the same name,
the token is worth nothing. The signature is checked once and remembered; the objects are looked up (in memory) every time.
"""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubeling.api import resources
from kubeling.apiserver.authn.user import User, authenticated
from kubeling.daemon.clock import Clock
from kubeling.daemon.main import UsageError

if TYPE_CHECKING:
    from kubeling.apiserver.registry.kinds import Kinds

_REMEMBERED = 4096
_LEEWAY = 10
#: A deleted pod's token still works while the pod shuts down.
_DELETED_LEEWAY = 60.0
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
        bound: tuple[str, str, str] | None,
    ) -> str:
        """A token for the account `{"name", "uid"}`; `bound` is kind (pod, secret, node), name and uid."""
        import jwt

        assert self._signing is not None
        now = int(self._clock.now().timestamp())
        private: dict[str, Any] = {"namespace": namespace, "serviceaccount": dict(account)}
        if bound is not None:
            private[bound[0]] = {"name": bound[1], "uid": bound[2]}
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

    def verify(self, token: str, audiences: Sequence[str] = ()) -> dict[str, Any] | None:
        """The claims of a token of ours that is valid now for one of `audiences` (the server's own where empty)."""
        claims = self._known.get(token) or self._verify(token)
        if claims is None:
            return None
        now = self._clock.now().timestamp()
        if not claims.get("nbf", 0) - _LEEWAY <= now < claims["exp"]:
            self._known.pop(token, None)
            return None
        return claims if set(audiences or self.audiences) & set(claims["aud"]) else None

    def _verify(self, token: str) -> dict[str, Any] | None:
        import jwt

        try:
            key = self._keys.get(str(jwt.get_unverified_header(token).get("kid")))
            if key is None:
                return None
            options: Any = {
                "verify_aud": False,
                "verify_exp": False,
                "verify_nbf": False,
                "require": ["exp", "iss", "aud", "sub"],
            }
            claims = jwt.decode(token, key.public, algorithms=[key.algorithm], issuer=self.issuer, options=options)
        except (jwt.PyJWTError, ValueError):
            return None
        if isinstance(claims["aud"], str):
            claims["aud"] = [claims["aud"]]
        if not isinstance(claims["exp"], int | float) or not isinstance(claims.get("kubernetes.io"), dict):
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


class ServiceAccountTokens:
    """Authenticates by such tokens."""

    def __init__(self, issuer: TokenIssuer, kinds: Kinds, clock: Clock) -> None:
        self._issuer = issuer
        self._kinds = kinds
        self._clock = clock

    async def review(self, token: str, audiences: Sequence[str]) -> User | None:
        """The user of a token for one of `audiences`."""
        claims = self._issuer.verify(token, audiences)
        if claims is None:
            return None
        private = claims["kubernetes.io"]
        namespace, account = private.get("namespace") or "", private.get("serviceaccount") or {}
        if not await self._exists(resources.SERVICE_ACCOUNTS, namespace, account):
            return None
        extra: dict[str, tuple[str, ...]] = {"authentication.kubernetes.io/credential-id": (f"JTI={claims.get('jti', '')}",)}
        for kind, resource in _BOUND.items():
            bound = private.get(kind)
            if bound is None:
                continue
            if not await self._exists(resource, namespace if resource.namespaced else "", bound):
                return None
            if kind != "secret":
                extra[f"authentication.kubernetes.io/{kind}-name"] = (bound["name"],)
                extra[f"authentication.kubernetes.io/{kind}-uid"] = (bound["uid"],)
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
        name = f"system:serviceaccount:{namespace}:{account['name']}"
        return authenticated(name, groups, account["uid"], extra)

    async def _exists(self, resource: resources.Resource, namespace: str, reference: Mapping[str, str]) -> bool:
        from kubeling.api.times import seconds_between

        found = await self._kinds.store(resource).peek(namespace, reference.get("name", ""))
        if found is None:
            return False
        metadata = found.object()["metadata"]
        if metadata["uid"] != reference.get("uid"):
            return False
        stamp = metadata.get("deletionTimestamp")
        return not stamp or seconds_between(stamp, self._clock.now()) < _DELETED_LEEWAY


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
