"""From the claims of a verified token to a user, by the rules of an AuthenticationConfiguration: names of claims, or CEL over `claims` and `user`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubeling.api import cel
from kubeling.apiserver.authn.user import User, authenticated
from kubeling.daemon.log import get_logger

log = get_logger("authn")

CLAIMS = cel.environment(claims=cel.MAP)
USER = cel.environment(user=cel.DYN)


class Refused(Exception):
    """The token is good, and yet not enough."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value is from: a claim, with what is put before it, or an expression."""

    claim: str = ""
    prefix: str = ""
    expression: cel.Program | None = None

    def value(self, claims: Mapping[str, Any]) -> Any:
        """The value as it is, without the prefix; None for a claim that is not there. Raises Refused."""
        return claims.get(self.claim) if self.expression is None else run(self.expression, {"claims": claims})


@dataclass(frozen=True, slots=True)
class Rule:
    """What has to hold: a claim has a value, or an expression is true."""

    claim: str = ""
    required: str = ""
    expression: cel.Program | None = None
    message: str = ""

    def check(self, values: Mapping[str, Any]) -> None:
        """Raises Refused."""
        if self.expression is None:
            if values["claims"].get(self.claim) != self.required:
                raise Refused(f"the claim {self.claim} is not {self.required!r}")
        elif run(self.expression, values) is not True:
            raise Refused(self.message or f"validation expression {self.expression.source!r} failed")


@dataclass(frozen=True, slots=True)
class Mapper:
    """All rules of one issuer."""

    username: Source
    groups: Source | None = None
    uid: Source | None = None
    extra: tuple[tuple[str, cel.Program], ...] = ()
    claim_rules: tuple[Rule, ...] = ()
    user_rules: tuple[Rule, ...] = ()

    def __call__(self, claims: Mapping[str, Any]) -> User | None:
        """The user; None (with a line in the log) where the rules refuse the token."""
        try:
            return self._user(claims)
        except Refused as why:
            log.info("a token was refused by the rules of its issuer", issuer=claims.get("iss"), reason=str(why))
            return None

    def _user(self, claims: Mapping[str, Any]) -> User:
        if self.username.claim == "email" and claims.get("email_verified", True) is not True:
            raise Refused("the e-mail address is not verified")
        name = self.username.value(claims)
        if not isinstance(name, str) or not name:
            raise Refused("it has no username")
        groups = tuple(self.groups.prefix + each for each in _texts(self.groups.value(claims), "groups")) if self.groups else ()
        uid = self.uid.value(claims) if self.uid else None
        if uid is not None and not isinstance(uid, str):
            raise Refused("its uid is no text")
        extra: dict[str, tuple[str, ...]] = {}
        for key, program in self.extra:
            if values := _texts(run(program, {"claims": claims}), f"extra {key}"):
                extra[key] = values
        for rule in self.claim_rules:
            rule.check({"claims": claims})
        if isinstance(claims.get("jti"), str):
            extra["authentication.kubernetes.io/credential-id"] = (f"JTI={claims['jti']}",)
        user = authenticated(self.username.prefix + name, groups, uid or "", extra)
        shown = {
            "username": user.name,
            "uid": user.uid,
            "groups": list(groups),
            "extra": {key: list(v) for key, v in extra.items()},
        }
        for rule in self.user_rules:
            rule.check({"user": shown})
        return user


def run(program: cel.Program, values: Mapping[str, Any]) -> Any:
    """The value of an expression. Raises Refused where it has none."""
    try:
        return program.run(values)
    except cel.EvaluationError as error:
        raise Refused(f"expression {program.source!r} resulted in error: {error}") from error


def _texts(value: Any, what: str) -> tuple[str, ...]:
    """A text, or a list of them, as tuple; empty texts are none."""
    found: Sequence[Any] = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(found, list | tuple) or not all(isinstance(each, str) for each in found):
        raise Refused(f"its {what} are no texts")
    return tuple(each for each in found if each)
