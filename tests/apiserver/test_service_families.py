"""IP families of Services: what is filled in, what is refused, and when a Service changes between one family and two."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from kubeling.api.hooks import _update_service
from kubeling.api.validation.services import service_update
from kubeling.apiserver.registry.families import settle

V4, V6, BOTH, BOTH6 = ["IPv4"], ["IPv6"], ["IPv4", "IPv6"], ["IPv6", "IPv4"]


def made(configured: list[str], **spec: Any) -> tuple[list[str], list[str] | None, str | None]:
    """The fields of what is wrong, the families, the policy."""
    obj = {"metadata": {"name": "s"}, "spec": {"type": "ClusterIP", "selector": {"a": "b"}, **spec}}
    wrong = settle(obj, None, configured)
    return [each.field for each in wrong], obj["spec"].get("ipFamilies"), obj["spec"].get("ipFamilyPolicy")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("configured", "spec", "families", "policy"),
    [
        (V4, {}, V4, "SingleStack"),
        (V6, {}, V6, "SingleStack"),
        (BOTH, {}, V4, "SingleStack"),
        (BOTH6, {}, V6, "SingleStack"),
        (BOTH, {"ipFamilies": V6}, V6, "SingleStack"),
        (V4, {"ipFamilyPolicy": "PreferDualStack"}, V4, "PreferDualStack"),
        (BOTH, {"ipFamilyPolicy": "PreferDualStack"}, BOTH, "PreferDualStack"),
        (BOTH, {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": V6}, BOTH6, "RequireDualStack"),
        (BOTH, {"clusterIP": "fd00::5"}, V6, "SingleStack"),
        (BOTH, {"clusterIP": "fd00::5", "ipFamilyPolicy": "PreferDualStack"}, BOTH6, "PreferDualStack"),
        (BOTH, {"clusterIP": "None"}, V4, "SingleStack"),
        (BOTH, {"clusterIP": "None", "ipFamilyPolicy": "PreferDualStack"}, BOTH, "PreferDualStack"),
        # Without a selector the endpoints are the user's, who is not bound to the cluster's families.
        (V4, {"clusterIP": "None", "selector": {}}, BOTH, "RequireDualStack"),
        (V4, {"clusterIP": "None", "selector": None, "ipFamilyPolicy": "SingleStack"}, V4, "SingleStack"),
        (
            V4,
            {"clusterIP": "None", "selector": None, "ipFamilies": V6, "ipFamilyPolicy": "PreferDualStack"},
            BOTH6,
            "PreferDualStack",
        ),
        (V4, {"type": "ExternalName"}, None, None),
    ],
)
def test_what_was_left_out_follows_from_the_rest(configured: list[str], spec: Any, families: Any, policy: Any) -> None:
    assert made(configured, **spec) == ([], families, policy)


@pytest.mark.parametrize(
    ("configured", "spec", "fields"),
    [
        (V4, {"ipFamilies": V6}, ["spec.ipFamilies[0]"]),
        (V4, {"ipFamilyPolicy": "RequireDualStack"}, ["spec.ipFamilyPolicy"]),
        (V4, {"clusterIP": "fd00::5"}, ["spec.clusterIPs[0]"]),
        (BOTH, {"ipFamilies": BOTH}, ["spec.ipFamilyPolicy"]),
        (BOTH, {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"]}, ["spec.ipFamilyPolicy"]),
        (BOTH, {"ipFamilies": ["IPv4", "IPv4"], "ipFamilyPolicy": "PreferDualStack"}, ["spec.ipFamilies[1]"]),
        (BOTH, {"clusterIP": "fd00::5", "ipFamilies": V4}, ["spec.clusterIPs[0]"]),
        (BOTH, {"ipFamilyPolicy": "Both"}, ["spec.ipFamilyPolicy"]),
        (BOTH, {"clusterIPs": ["10.0.0.1"]}, ["spec.clusterIPs"]),
    ],
)
def test_what_cannot_be_is_refused(configured: list[str], spec: Any, fields: list[str]) -> None:
    assert made(configured, **spec)[0] == fields


def changed(old: dict[str, Any], **spec: Any) -> tuple[dict[str, Any], list[str]]:
    """The Service after an update that leaves out what is not given, as far as the allocator; and the fields of what validation then says."""
    before = {"metadata": {"name": "s"}, "spec": {"type": "ClusterIP", "selector": {"a": "b"}, **old}}
    after = deepcopy({"metadata": {"name": "s"}, "spec": {"type": "ClusterIP", "selector": {"a": "b"}, **spec}})
    _update_service(after, before)
    wrong = settle(after, before, BOTH) or list(service_update(after, before))
    return after["spec"], [each.field for each in wrong]


ONE = {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": V4, "ipFamilyPolicy": "SingleStack"}
TWO = {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"], "ipFamilies": BOTH, "ipFamilyPolicy": "RequireDualStack"}


def test_a_policy_of_two_families_upgrades() -> None:
    spec, wrong = changed(ONE, ipFamilyPolicy="PreferDualStack")
    assert (spec["ipFamilies"], spec["clusterIPs"], wrong) == (BOTH, ["10.0.0.1"], [])
    spec, wrong = changed(ONE, **{**ONE, "ipFamilyPolicy": "RequireDualStack", "clusterIPs": ["10.0.0.1", "fd00::7"]})
    assert (spec["ipFamilies"], spec["clusterIPs"], wrong) == (BOTH, ["10.0.0.1", "fd00::7"], [])


@pytest.mark.parametrize("given", [{}, TWO, {"ipFamilies": V4}])
def test_single_stack_lets_the_second_go(given: dict[str, Any]) -> None:
    spec, wrong = changed(TWO, **{**given, "ipFamilyPolicy": "SingleStack"})
    assert (spec["ipFamilies"], spec["clusterIPs"], wrong) == (V4, ["10.0.0.1"], [])


def test_what_merely_prefers_two_is_not_upgraded_by_the_way() -> None:
    old = {**ONE, "ipFamilyPolicy": "PreferDualStack"}
    spec, wrong = changed(old, **old, ports=[{"port": 80}])
    assert (spec["ipFamilies"], spec["clusterIPs"], wrong) == (V4, ["10.0.0.1"], [])


def test_the_first_family_and_address_stay() -> None:
    assert changed(ONE, ipFamilies=V6)[1]
    assert changed(TWO, ipFamilies=BOTH6, clusterIPs=["fd00::1", "10.0.0.1"], clusterIP="fd00::1")[1]
    assert changed(ONE, **{**ONE, "clusterIP": "10.0.0.2"})[1] == ["spec.clusterIPs[0]"]
    assert changed(TWO, ipFamilies=V4)[1] == ["spec.ipFamilyPolicy"], "the second goes with SingleStack only"
