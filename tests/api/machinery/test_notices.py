"""What authors are warned of, by transcript: `create`, or `update` with the old object first. All objects here are valid."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from kubeling.api import resources
from kubeling.api.defaults import apply_defaults
from kubeling.api.resources import BUILTIN, Resource
from kubeling.api.strategies import strategy_of
from kubeling.api.validation import notices_of
from kubeling.api.validation.notices import cidr_notices, ip_notices

_NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _made(document: dict[str, Any], resource: Resource) -> dict[str, Any]:
    document.setdefault("apiVersion", "v1")
    document.setdefault("metadata", {}).setdefault("name", "x")
    apply_defaults(document)
    strategy_of(resource).prepare_for_create(document, _NOW)
    return document


def _answer(case: Any) -> str:
    first = case.documents[0]
    resource = resources.by_kind(first.get("apiVersion", "v1"), first["kind"])
    assert resource is not None
    made = [_made(each, resource) for each in case.documents]
    if case.verb == "update":
        strategy_of(resource).prepare_for_update(made[1], made[0])
        return "\n".join(notices_of(made[1], made[0], resource)) or "nothing"
    return "\n".join(notices_of(made[0], None, resource)) or "nothing"


def test_transcript(transcript: Callable[..., None]) -> None:
    transcript("notices.txt", _answer)


@pytest.mark.parametrize("resource", [each for each in BUILTIN if "update" in each.verbs], ids=lambda each: each.plural)
def test_nothing_is_said_of_an_object_that_says_nothing(resource: Resource) -> None:
    made = _made({"apiVersion": resource.group_version, "kind": resource.kind}, resource)
    made.setdefault("spec", {})
    assert notices_of(made, None, resource) == []
    assert notices_of(made, made, resource) == []


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("192.12.2.2", []),
        ("2001:db8::2", []),
        (
            "::ffff:192.12.2.2",
            [
                'f: non-standard IP address "::ffff:192.12.2.2" will be considered invalid in a future Kubernetes release: use "192.12.2.2"'
            ],
        ),
        ("2001:db8:0:0::2", ['f: IPv6 address "2001:db8:0:0::2" should be in RFC 5952 canonical format ("2001:db8::2")']),
        ("nonsense", []),
    ],
)
def test_addresses(value: str, said: list[str]) -> None:
    assert list(ip_notices("f", value)) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("10.0.0.0/8", []),
        ("10.1.0.0/8", ['f: CIDR value "10.1.0.0/8" is ambiguous in this context (should be "10.0.0.0/8" or "10.1.0.0/32"?)']),
        (
            "2001:db8:0:0::/64",
            ['f: IPv6 CIDR value "2001:db8:0:0::/64" should be in RFC 5952 canonical format ("2001:db8::/64")'],
        ),
        ("nonsense", []),
    ],
)
def test_ranges(value: str, said: list[str]) -> None:
    assert list(cidr_notices("f", value)) == said
