"""IP families of Services: what one asks for, what the cluster has, and what it gets (KEP-563).

`ipFamilyPolicy` says how many families a Service wants, `ipFamilies` which, `clusterIPs` with what addresses; each may be left out and then follows from
the others and from the ranges that the cluster was given. A Service changes between one and two families only where its policy says so: nothing changes
by itself when a cluster gets a second range. Pure; addresses are given out in :mod:`services`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubeling.api.errors import FieldError, invalid_value
from kubeling.api.meta import Object, spec_of
from kubeling.api.validation.services import cluster_ips, cluster_ips_update

SINGLE, PREFER, REQUIRE = "SingleStack", "PreferDualStack", "RequireDualStack"
_OTHER = {"IPv4": "IPv6", "IPv6": "IPv4"}
_FIELDS = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy")


def family_of(address: str) -> str:
    """`IPv4` or `IPv6`, as the API calls them."""
    return "IPv6" if ":" in address else "IPv4"


def settle(obj: Object, old: Object | None, configured: Sequence[str]) -> list[FieldError]:
    """Fill in `ipFamilies` and `ipFamilyPolicy` of the Service `obj`, and `clusterIPs` from `clusterIP`. `configured` holds the cluster's families, the
    primary one first. Returns what is wrong."""
    spec = obj["spec"]
    if spec.get("type") == "ExternalName" or (old is not None and _stays_as_preferred(spec, spec_of(old))):
        return []
    if spec.get("clusterIP") and not spec.get("clusterIPs"):
        spec["clusterIPs"] = [spec["clusterIP"]]
    kept = cluster_ips_update(spec, spec_of(old)) if old is not None else ()
    wrong = [*cluster_ips(spec), *kept, *_too_many(spec), *_infer(spec, configured)]
    if wrong:
        return wrong
    families = spec.setdefault("ipFamilies", []) or []
    if (spec.get("clusterIPs") or [""])[0] == "None" and not spec.get("selector"):
        # Whoever writes such a Service's endpoints by hand is not bound to the families of the cluster.
        spec["ipFamilyPolicy"] = spec.get("ipFamilyPolicy") or REQUIRE
        families = families or [configured[0]]
        spec["ipFamilies"] = [*families, _OTHER[families[0]]] if _wants_two(spec) and len(families) == 1 else families
        return []
    wrong = [
        invalid_value(f"spec.ipFamilies[{at}]", each, "not configured on this cluster")
        for at, each in enumerate(families)
        if each not in configured
    ]
    if spec.get("ipFamilyPolicy") == REQUIRE and len(configured) < 2:
        wrong.append(invalid_value("spec.ipFamilyPolicy", REQUIRE, "this cluster is not configured for dual-stack services"))
    if wrong:
        return wrong
    families = families or [configured[0]]
    if _wants_two(spec) and len(families) == 1 and len(configured) == 2:
        families = [*families, _OTHER[families[0]]]
    spec["ipFamilies"] = families
    spec["ipFamilyPolicy"] = spec.get("ipFamilyPolicy") or SINGLE
    return []


def _wants_two(spec: dict[str, Any]) -> bool:
    return spec.get("ipFamilyPolicy") in (PREFER, REQUIRE)


def _too_many(spec: dict[str, Any]) -> list[FieldError]:
    if _wants_two(spec):
        return []
    policy, detail = spec.get("ipFamilyPolicy"), "must be 'RequireDualStack' or 'PreferDualStack' when multiple {} are specified"
    return [
        invalid_value("spec.ipFamilyPolicy", policy, detail.format(what))
        for field, what in (("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families"))
        if len(spec.get(field) or ()) == 2
    ]


def _infer(spec: dict[str, Any], configured: Sequence[str]) -> list[FieldError]:
    """Families from addresses that were asked for."""
    families = list(spec.get("ipFamilies") or ())
    wrong = []
    for at, each in enumerate(spec.get("clusterIPs") or ()):
        if each == "None":
            break
        if at < len(families):
            continue
        if family_of(each) in configured:
            families.append(family_of(each))
        else:
            wrong.append(invalid_value(f"spec.clusterIPs[{at}]", each, f"{family_of(each)} is not configured on this cluster"))
    if families:
        spec["ipFamilies"] = families
    return wrong


def _stays_as_preferred(new: dict[str, Any], old: dict[str, Any]) -> bool:
    """Whether neither says anything new: a Service that merely prefers two families keeps what it got when it was made."""
    same = all(new.get(field) == old.get(field) for field in _FIELDS)
    return same and new.get("ipFamilyPolicy") == PREFER and new.get("type") != "ExternalName" != old.get("type")
