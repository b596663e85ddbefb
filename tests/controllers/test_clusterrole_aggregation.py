"""Which rules an aggregated ClusterRole gets."""

from __future__ import annotations

from typing import Any

from kubeling.controllers.clusterrole_aggregation import aggregate


def role(name: str, *rules: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}, "rules": [{"verbs": [each]} for each in rules]}


def aggregated(*selectors: dict[str, Any], **labels: str) -> dict[str, Any]:
    return {**role("whole", **labels), "aggregationRule": {"clusterRoleSelectors": list(selectors)}}


def test_rules_come_in_the_order_of_names_and_each_once() -> None:
    whole = aggregated({"matchLabels": {"a": "1"}}, a="1")
    roles = [role("z", "get", "list", a="1"), role("b", "watch", "get", a="1"), role("c", "delete"), whole]
    assert aggregate(whole, roles) == [{"verbs": ["watch"]}, {"verbs": ["get"]}, {"verbs": ["list"]}]


def test_each_selector_adds_its_own() -> None:
    whole = aggregated({"matchLabels": {"a": "1"}}, {"matchExpressions": [{"key": "b", "operator": "Exists"}]})
    roles = [role("x", "get", b="2"), role("y", "list", a="1")]
    assert aggregate(whole, roles) == [{"verbs": ["list"]}, {"verbs": ["get"]}]


def test_what_no_selector_matches_goes() -> None:
    assert aggregate(aggregated({"matchLabels": {"a": "1"}}), [role("x", "get", a="2")]) == []
