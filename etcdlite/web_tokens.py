"""Signed tokens (JWT), where ``--auth-token=jwt,…`` asks for them: no member has to remember them, and they outlive restarts.

A token says the user and the auth revision at which it was given. It counts until it runs out, or the user's password is changed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from kubeling.daemon.main import UsageError
from kubeling.etcdlite.auth import Who
from kubeling.etcdlite.durations import duration
from kubeling.etcdlite.errors import INVALID_AUTH_TOKEN, EtcdError

_METHODS = {f"{family}{bits}" for family in ("RS", "PS", "ES", "HS") for bits in (256, 384, 512)} | {"EdDSA"}
_DEFAULT_TTL = 300.0
VERIFY_ONLY = EtcdError("UNKNOWN", "auth: token signing attempted with verify-only key")


class WebTokens:
    """Makes and checks them; `now` is the time of day."""

    def __init__(self, method: str, signing: Any, verifying: Any, ttl: float, now: Callable[[], datetime]) -> None:
        import jwt

        self._jwt = jwt
        self._method = method
        self._signing = signing
        self._verifying = verifying
        self._ttl = ttl
        self._now = now

    @classmethod
    def from_flag(cls, flag: str, now: Callable[[], datetime]) -> WebTokens | None:
        """What ``--auth-token`` says: None for ``simple``. Raises UsageError."""
        kind, _, rest = flag.partition(",")
        if kind == "simple" and not rest:
            return None
        said = dict(one.partition("=")[::2] for one in rest.split(","))
        method = said.get("sign-method", "")
        if kind != "jwt" or method not in _METHODS or set(said) - {"sign-method", "pub-key", "priv-key", "ttl"}:
            raise UsageError(
                f"--auth-token={flag}: give simple, or jwt,sign-method=RS256,pub-key=FILE,priv-key=FILE,ttl=5m"
                f" with one of {', '.join(sorted(_METHODS))}"
            )
        try:
            ttl = duration(said["ttl"]) if "ttl" in said else _DEFAULT_TTL
            signing, verifying = _keys(method, said)
            made = cls(method, signing, verifying, ttl, now)
            made.try_keys()
        except (OSError, ValueError, TypeError, argparse.ArgumentTypeError) as error:
            raise UsageError(f"--auth-token={flag}: {error}") from None
        return made

    def try_keys(self) -> None:
        """Raises ValueError where the keys are not for the method, or are not a pair."""
        try:
            if self._signing is not None:
                self.check(self.make(Who("", 1)))
        except (self._jwt.PyJWTError, EtcdError) as error:
            raise ValueError(f"the keys do not do for {self._method}: {error}") from None

    def make(self, who: Who) -> str:
        """A token that says so. Raises VERIFY_ONLY."""
        if self._signing is None:
            raise VERIFY_ONLY
        claims = {"username": who.user, "revision": who.revision, "exp": int(self._now().timestamp() + self._ttl)}
        return str(self._jwt.encode(claims, self._signing, algorithm=self._method))

    def check(self, token: str) -> Who:
        """Whose it is. Raises INVALID_AUTH_TOKEN."""
        try:
            # The time is told by the member's own clock.
            options: Any = {
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
                "require": ["exp", "username", "revision"],
            }
            said: dict[str, Any] = self._jwt.decode(token, self._verifying, algorithms=[self._method], options=options)
            user, revision, until = str(said["username"]), int(said["revision"]), float(said["exp"])
        except (self._jwt.PyJWTError, ValueError, TypeError):
            raise INVALID_AUTH_TOKEN from None
        if until <= self._now().timestamp() or revision < 1:
            raise INVALID_AUTH_TOKEN
        return Who(user, revision)


def _keys(method: str, said: Mapping[str, str]) -> tuple[Any, Any]:
    """What signs (None: nothing does here) and what verifies. Raises OSError and ValueError."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    private = Path(said["priv-key"]).read_bytes() if "priv-key" in said else None
    if method.startswith("HS"):
        if not private:
            raise ValueError(f"{method} needs priv-key=FILE, which holds the secret")
        return private, private
    signing = load_pem_private_key(private, None) if private else None
    if "pub-key" in said:
        return signing, Path(said["pub-key"]).read_bytes()
    if signing is None:
        raise ValueError("pub-key=FILE or priv-key=FILE is missing")
    return signing, signing.public_key()
