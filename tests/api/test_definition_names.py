"""Who gets a name that two definitions of a group want."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from kubeling.api.structural import conditions
from kubeling.api.structural.definition import holds

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def definition(plural: str, second: int, status: dict[str, Any] | None = None) -> dict[str, Any]:
    """One that wants the short name `w` beside names of its own; made at that second."""
    return {
        "metadata": {"name": f"{plural}.example.com", "creationTimestamp": f"2026-01-01T00:00:{second:02}Z"},
        "spec": {
            "group": "example.com",
            "names": {"plural": plural, "kind": plural.title(), "shortNames": ["w"]},
            "versions": [{"name": "v1", "storage": True}],
        },
        "status": status or {},
    }


def settle(one: dict[str, Any], *others: dict[str, Any]) -> bool:
    """Give it what it can have; whether that is all."""
    one["status"] = conditions.reconciled(one, [one, *others], NOW)
    return holds(one, conditions.NAMES_ACCEPTED)


def test_the_older_one_comes_first() -> None:
    older, younger = definition("gadgets", 0), definition("widgets", 1)
    assert not settle(younger, older)
    assert settle(older, younger)
    assert not settle(younger, older)
    assert younger["status"]["acceptedNames"] == {"plural": "widgets", "kind": "Widgets"}


def test_what_was_given_is_kept_when_an_older_one_turns_up() -> None:
    """An apiserver that hears late of the older one has given the name away; nobody may lose by that."""
    older, younger = definition("gadgets", 0), definition("widgets", 1)
    assert settle(younger)
    assert settle(younger, older)
    assert not settle(older, younger)
    assert settle(younger, older)


def test_a_name_that_becomes_free_is_given_again() -> None:
    older, younger = definition("gadgets", 0), definition("widgets", 1)
    assert settle(older)
    assert not settle(younger, older)
    assert settle(younger)
