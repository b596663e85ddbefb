"""Tokens of an OpenID Connect provider: `--oidc-issuer-url` and its kin.

The provider's keys are found by discovery when the first token of its comes, remembered, and asked for anew when a token names a key that is not among them
(but not more often than every few seconds, whoever makes tokens up). A token is good until it expires; nothing is asked of the provider for a single one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubeling.apiserver.authn.authenticator import Agnostic
from kubeling.apiserver.authn.user import User, authenticated
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger
from kubeling.daemon.main import UsageError

log = get_logger("oidc")

_TIMEOUT = 10.0
_MAX_ANSWER = 1 << 20
_MAX_KEYS = 100
_PAUSE = 10.0
_LEEWAY = 10
ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512"})


@dataclass(frozen=True, slots=True)
class Options:
    """The flags. A username prefix of "-" is none; where it is empty the issuer's URL and `#` are put before all but e-mail addresses."""

    issuer: str
    client_id: str
    username_claim: str = "sub"
    username_prefix: str = ""
    groups_claim: str = ""
    groups_prefix: str = ""
    required: Mapping[str, str] = field(default_factory=dict)
    algorithms: tuple[str, ...] = ("RS256",)
    ca_file: str = ""
    #: What only a configuration file can say: several audiences, an address for discovery that is not the issuer's, the authority itself (PEM), and how a token
    #: becomes a user.
    audiences: tuple[str, ...] = ()
    discovery_url: str = ""
    ca_data: str = ""
    mapper: Callable[[Mapping[str, Any]], User | None] | None = None

    def check(self) -> None:
        """Raise UsageError for what cannot be used."""
        if not self.issuer.startswith("https://"):
            raise UsageError(f"--oidc-issuer-url {self.issuer}: has to begin with https://")
        if not self.client_id:
            raise UsageError("--oidc-client-id has to be given with --oidc-issuer-url")
        unknown = [each for each in self.algorithms if each not in ALGORITHMS]
        if unknown or not self.algorithms:
            raise UsageError(f"--oidc-signing-algs: {', '.join(unknown) or 'none'} of {', '.join(sorted(ALGORITHMS))}")

    @property
    def prefix(self) -> str:
        """What is put before a name."""
        if self.username_prefix == "-":
            return ""
        if not self.username_prefix and self.username_claim != "email":
            return f"{self.issuer}#"
        return self.username_prefix


class OidcTokens(Agnostic):
    """Authenticates by such tokens."""

    def __init__(self, options: Options, clock: Clock, audiences: Sequence[str] = ()) -> None:
        super().__init__(audiences)
        self._options = options
        self._clock = clock
        self._keys: dict[str, Any] = {}
        self._next = 0.0
        self._loading = asyncio.Lock()

    async def user_of(self, token: str) -> User | None:
        import jwt

        try:
            header = jwt.get_unverified_header(token)
            claims = jwt.decode(token, options={"verify_signature": False})
        except jwt.PyJWTError:
            return None
        if claims.get("iss") != self._options.issuer or header.get("alg") not in self._options.algorithms:
            return None
        for key in await self._candidates(header.get("kid")):
            verified = self._verify(token, key)
            if verified is not None:
                mapper = self._options.mapper
                return user_of_claims(verified, self._options) if mapper is None else mapper(verified)
        return None

    def _verify(self, token: str, key: Any) -> dict[str, Any] | None:
        import jwt

        required: Any = {"require": ["exp", "iss", "aud"], "verify_exp": False, "verify_nbf": False, "verify_iat": False}
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=list(self._options.algorithms),
                audience=list(self._options.audiences or (self._options.client_id,)),
                issuer=self._options.issuer,
                options=required,
            )
            # The clock is a part of ours, not the library's.
            now = self._clock.now().timestamp()
            if now >= float(claims["exp"]) or now < float(claims.get("nbf", 0)) - _LEEWAY:
                return None
        except (jwt.PyJWTError, TypeError, ValueError):
            return None
        return claims

    async def _candidates(self, name: Any) -> list[Any]:
        """The key that a token names; all of them where it names none."""
        if (name is not None and name not in self._keys) or not self._keys:
            await self._load(name)
        if name is None:
            return list(self._keys.values())
        return [self._keys[name]] if name in self._keys else []

    async def _load(self, name: Any) -> None:
        async with self._loading:
            if name in self._keys or self._clock.monotonic() < self._next:
                return
            self._next = self._clock.monotonic() + _PAUSE
            try:
                self._keys = await self._fetch()
            except (OSError, ValueError) as error:
                log.warning("the keys of the OIDC provider could not be read", issuer=self._options.issuer, error=str(error))

    async def _fetch(self) -> dict[str, Any]:
        import ssl

        import httpx
        import jwt

        verify = ssl.create_default_context(cafile=self._options.ca_file or None, cadata=self._options.ca_data or None)
        try:
            async with httpx.AsyncClient(verify=verify, timeout=_TIMEOUT, trust_env=False) as client:
                place = self._options.issuer.rstrip("/") + "/.well-known/openid-configuration"
                found = await _get(client, self._options.discovery_url or place)
                if found.get("issuer") != self._options.issuer:
                    raise ValueError(f"the provider says that it is {found.get('issuer')!r}")
                keys = await _get(client, str(found.get("jwks_uri")))
        except httpx.HTTPError as error:
            raise OSError(str(error) or type(error).__name__) from error
        try:
            known = jwt.PyJWKSet.from_dict(keys).keys[:_MAX_KEYS]
        except jwt.PyJWTError as error:
            raise ValueError(str(error)) from error
        return {each.key_id or str(at): each for at, each in enumerate(known)}


async def _get(client: Any, url: str) -> dict[str, Any]:
    import orjson

    if not url.startswith("https://"):
        raise ValueError(f"{url!r} is not an https URL")
    body = b""
    async with client.stream("GET", url) as answer:
        if answer.status_code != 200:
            raise ValueError(f"{url} answered {answer.status_code}")
        async for chunk in answer.aiter_bytes():
            body += chunk
            if len(body) > _MAX_ANSWER:
                raise ValueError(f"{url} answered more than {_MAX_ANSWER} bytes")
    found = orjson.loads(body)
    if not isinstance(found, dict):
        raise ValueError(f"{url} did not answer an object")
    return found


def user_of_claims(claims: Mapping[str, Any], options: Options) -> User | None:
    """The user of a verified token; None where it lacks the claims that are needed."""
    name = claims.get(options.username_claim)
    if not isinstance(name, str) or not name:
        return None
    if options.username_claim == "email" and claims.get("email_verified", True) is not True:
        return None
    if any(claims.get(key) != value for key, value in options.required.items()):
        return None
    found = claims.get(options.groups_claim) if options.groups_claim else None
    groups = [found] if isinstance(found, str) else found or []
    if not isinstance(groups, list) or not all(isinstance(each, str) for each in groups):
        return None
    extra: dict[str, tuple[str, ...]] = {}
    if isinstance(claims.get("jti"), str):
        extra["authentication.kubernetes.io/credential-id"] = (f"JTI={claims['jti']}",)
    return authenticated(options.prefix + name, tuple(options.groups_prefix + each for each in groups), "", extra)
