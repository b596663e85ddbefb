"""Quantities, URLs, versions, and questions to the authorizer: values that CEL itself does not have, and what can be done with them.

The authorizer answers later than an expression can wait: the first evaluation notes what it would ask (:class:`Decisions`) and fails, the caller finds the answers
and evaluates again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from kubeling.api.quantity import Quantity, parse

#: Name, whether it is called on its first parameter, types of the parameters, type of the result, and what it does.
Function = tuple[str, bool, tuple[str, ...], str, Callable[..., Any]]

#: Our name of a type to that of its message.
MESSAGES = {
    "quantity": "Quantity",
    "url": "URL",
    "ip": "IP",
    "cidr": "CIDR",
    "semver": "Semver",
    "format": "NamedFormat",
    "authorizer": "authorization.Authorizer",
    "path_check": "authorization.PathCheck",
    "group_check": "authorization.GroupCheck",
    "resource_check": "authorization.ResourceCheck",
    "decision": "authorization.Decision",
}
_TEXT, _BOOL = 9, 8
_FIELDS: dict[str, tuple[str, ...]] = {
    "Quantity": ("nanos",),
    "URL": ("text",),
    "IP": ("text",),
    "CIDR": ("text",),
    "Semver": ("text",),
    "NamedFormat": ("name",),
    "Authorizer": ("account",),
    "PathCheck": ("account", "path"),
    "GroupCheck": ("account", "group"),
    "ResourceCheck": ("account", "group", "resource", "subresource", "namespace", "name", "fields", "labels"),
    "Decision": ("allowed", "reason", "error"),
}


@cache
def messages() -> dict[str, Any]:
    """The message classes, by our name of the type."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    pool = descriptor_pool.Default()
    found: dict[str, Any] = {}
    for package in ("kubernetes", "kubernetes.authorization"):
        made = descriptor_pb2.FileDescriptorProto(name=f"kubeling/cel/{package}.proto", package=package, syntax="proto3")
        for message in MESSAGES.values():
            prefix, _, name = f"kubernetes.{message}".rpartition(".")
            if prefix == package:
                fields = made.message_type.add(name=name).field
                for number, field in enumerate(_FIELDS[name], start=1):
                    fields.add(name=field, number=number, type=_TEXT, label=1)
        pool.AddSerializedFile(made.SerializeToString())
    for kind, message in MESSAGES.items():
        descriptor = pool.FindMessageTypeByName(f"kubernetes.{message}")
        found[kind] = message_factory.GetMessageClass(descriptor)
    return found


def make(kind: str, **fields: str) -> Any:
    return messages()[kind](**fields)


# -- quantities ------------------------------------------------------------------------------------------------------------------------


def _quantity(text: str) -> Any:
    return make("quantity", nanos=str(parse(text).nanos))


def _is_quantity(text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


def _nanos(value: Any) -> int:
    return int(value.nanos)


def _from_nanos(nanos: int) -> Any:
    return make("quantity", nanos=str(Quantity(nanos).nanos))


def _as_integer(value: Any) -> int:
    whole, rest = divmod(_nanos(value), 10**9)
    if rest or abs(whole) >= 1 << 63:
        raise ValueError("cannot convert value to integer")
    return whole


def _order(left: int, right: int) -> int:
    return (left > right) - (left < right)


# -- URLs ------------------------------------------------------------------------------------------------------------------------------


def _url(text: str) -> Any:
    if not _is_url(text):
        raise ValueError(f'URL parse error during conversion from string: parse "{text}": invalid URI for request')
    return make("url", text=text)


def _is_url(text: str) -> bool:
    """An absolute URI, or an absolute path."""
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 (raises for a port that is no number)
    except ValueError:
        return False
    if any(char.isspace() or not char.isprintable() for char in text):
        return False
    return bool(parts.scheme) or text.startswith("/")


def _hostname(value: Any) -> str:
    return str(urlsplit(value.text).hostname or "")


def _host(value: Any) -> str:
    return str(urlsplit(value.text).netloc).rpartition("@")[2]


def _port(value: Any) -> str:
    port = urlsplit(value.text).port
    return "" if port is None else str(port)


# -- versions --------------------------------------------------------------------------------------------------------------------------

_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?",
    re.ASCII,
)


def _normal(text: str) -> str:
    """`v1.02` is 1.2.0: a leading v goes, missing numbers are 0, and zeros in front of numbers go."""
    numbers, mark, rest = re.fullmatch(r"([^-+]*)([-+]?)(.*)", text.removeprefix("v"), re.DOTALL).groups()  # type: ignore[union-attr]
    parts = [each.lstrip("0") or "0" if each.isdigit() else each for each in numbers.split(".")]
    parts += ["0"] * (3 - len(parts))
    return ".".join(parts) + mark + rest


def _semver(text: str, normalize: bool = False) -> Any:
    text = _normal(text) if normalize else text
    if not _SEMVER.fullmatch(text):
        raise ValueError(f"semver parse error: {text!r} is no semantic version")
    return make("semver", text=text)


def _precedence(value: Any) -> tuple[Any, ...]:
    """semver.org, item 11."""
    match = _SEMVER.fullmatch(value.text)
    assert match is not None
    numbers = tuple(int(match[at]) for at in (1, 2, 3))
    if match[4] is None:
        return (numbers, 1, ())
    return (numbers, 0, tuple((0, int(each), "") if each.isdigit() else (1, 0, each) for each in match[4].split(".")))


def _compare(left: Any, right: Any) -> int:
    first, second = _precedence(left), _precedence(right)
    return (first > second) - (first < second)


# -- the authorizer --------------------------------------------------------------------------------------------------------------------


class Question(NamedTuple):
    """What is to be decided. `account` is `namespace/name` of a service account, empty for the request's own user."""

    verb: str
    account: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    #: Selectors as the expression says them; what cannot be understood of them counts as absent.
    fields: str = ""
    labels: str = ""


class Decisions:
    """Answers that are known, and questions that came up."""

    def __init__(self) -> None:
        self.known: dict[Question, tuple[bool, str]] = {}
        self.wanted: list[Question] = []


DECISIONS: ContextVar[Decisions | None] = ContextVar("decisions", default=None)


def _decide(question: Question) -> Any:
    decisions = DECISIONS.get()
    if decisions is None:
        raise ValueError("there is no authorizer here")
    known = decisions.known.get(question)
    if known is None:
        decisions.wanted.append(question)
        raise ValueError("the authorizer has not been asked yet")
    allowed, reason = known
    return make("decision", allowed="yes" if allowed else "", reason=reason)


def _refine(**changes: Any) -> Callable[..., Any]:
    """A resource check with one part set."""
    (field,) = changes

    def refine(check: Any, value: str) -> Any:
        made = messages()["resource_check"]()
        made.CopyFrom(check)
        setattr(made, field, value)
        return made

    return refine


def _resource_check(check: Any, verb: str) -> Any:
    parts = (check.group, check.resource, check.subresource, check.namespace, check.name)
    return _decide(Question(verb, check.account, *parts, fields=check.fields, labels=check.labels))


FUNCTIONS: list[Function] = [
    ("quantity", False, ("string",), "quantity", _quantity),
    ("isQuantity", False, ("string",), "bool", _is_quantity),
    ("sign", True, ("quantity",), "int", lambda value: _order(_nanos(value), 0)),
    ("isInteger", True, ("quantity",), "bool", lambda value: _nanos(value) % 10**9 == 0),
    ("asInteger", True, ("quantity",), "int", _as_integer),
    ("asApproximateFloat", True, ("quantity",), "double", lambda value: _nanos(value) / 10**9),
    ("add", True, ("quantity", "quantity"), "quantity", lambda left, right: _from_nanos(_nanos(left) + _nanos(right))),
    ("add", True, ("quantity", "int"), "quantity", lambda left, right: _from_nanos(_nanos(left) + right * 10**9)),
    ("sub", True, ("quantity", "quantity"), "quantity", lambda left, right: _from_nanos(_nanos(left) - _nanos(right))),
    ("sub", True, ("quantity", "int"), "quantity", lambda left, right: _from_nanos(_nanos(left) - right * 10**9)),
    ("isLessThan", True, ("quantity", "quantity"), "bool", lambda left, right: _nanos(left) < _nanos(right)),
    ("isGreaterThan", True, ("quantity", "quantity"), "bool", lambda left, right: _nanos(left) > _nanos(right)),
    ("compareTo", True, ("quantity", "quantity"), "int", lambda left, right: _order(_nanos(left), _nanos(right))),
    ("url", False, ("string",), "url", _url),
    ("isURL", False, ("string",), "bool", _is_url),
    ("getScheme", True, ("url",), "string", lambda value: urlsplit(value.text).scheme),
    ("getHost", True, ("url",), "string", _host),
    ("getHostname", True, ("url",), "string", _hostname),
    ("getPort", True, ("url",), "string", _port),
    ("getEscapedPath", True, ("url",), "string", lambda value: urlsplit(value.text).path),
    ("getQuery", True, ("url",), "map", lambda value: parse_qs(urlsplit(value.text).query, keep_blank_values=True)),
    ("semver", False, ("string",), "semver", _semver),
    ("semver", False, ("string", "bool"), "semver", _semver),
    ("isSemver", False, ("string",), "bool", lambda text: bool(_SEMVER.fullmatch(text))),
    (
        "isSemver",
        False,
        ("string", "bool"),
        "bool",
        lambda text, loose: bool(_SEMVER.fullmatch(_normal(text) if loose else text)),
    ),
    ("major", True, ("semver",), "int", lambda value: _precedence(value)[0][0]),
    ("minor", True, ("semver",), "int", lambda value: _precedence(value)[0][1]),
    ("patch", True, ("semver",), "int", lambda value: _precedence(value)[0][2]),
    ("isLessThan", True, ("semver", "semver"), "bool", lambda left, right: _compare(left, right) < 0),
    ("isGreaterThan", True, ("semver", "semver"), "bool", lambda left, right: _compare(left, right) > 0),
    ("compareTo", True, ("semver", "semver"), "int", _compare),
    ("path", True, ("authorizer", "string"), "path_check", lambda who, path: make("path_check", account=who.account, path=path)),
    (
        "group",
        True,
        ("authorizer", "string"),
        "group_check",
        lambda who, group: make("group_check", account=who.account, group=group),
    ),
    (
        "serviceAccount",
        True,
        ("authorizer", "string", "string"),
        "authorizer",
        lambda who, namespace, name: make("authorizer", account=f"{namespace}/{name}"),
    ),
    (
        "resource",
        True,
        ("group_check", "string"),
        "resource_check",
        lambda check, resource: make("resource_check", account=check.account, group=check.group, resource=resource),
    ),
    ("subresource", True, ("resource_check", "string"), "resource_check", _refine(subresource="")),
    ("namespace", True, ("resource_check", "string"), "resource_check", _refine(namespace="")),
    ("name", True, ("resource_check", "string"), "resource_check", _refine(name="")),
    ("fieldSelector", True, ("resource_check", "string"), "resource_check", _refine(fields="")),
    ("labelSelector", True, ("resource_check", "string"), "resource_check", _refine(labels="")),
    (
        "check",
        True,
        ("path_check", "string"),
        "decision",
        lambda check, verb: _decide(Question(verb, check.account, path=check.path)),
    ),
    ("check", True, ("resource_check", "string"), "decision", _resource_check),
    ("allowed", True, ("decision",), "bool", lambda decision: decision.allowed == "yes"),
    ("reason", True, ("decision",), "string", lambda decision: decision.reason),
    ("errored", True, ("decision",), "bool", lambda decision: decision.error != ""),
    ("error", True, ("decision",), "string", lambda decision: decision.error),
]
