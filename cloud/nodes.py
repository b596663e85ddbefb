"""What of a node matters to those who send it traffic from outside."""

from __future__ import annotations

from typing import Any

from kubeling.api.conditions import is_true
from kubeling.api.meta import is_deleting, labels_of, spec_of, status_of, uid_of
from kubeling.cloud.provider import Obj

EXCLUDE_LABEL = "node.kubernetes.io/exclude-from-external-load-balancers"


def eligible(node: Obj) -> bool:
    """Whether traffic from outside may go to a node."""
    return is_true(node, "Ready") and not is_deleting(node) and EXCLUDE_LABEL not in labels_of(node)


def internal_addresses(node: Obj) -> tuple[str, ...]:
    """The node's InternalIPs."""
    return tuple(each["address"] for each in status_of(node).get("addresses") or () if each.get("type") == "InternalIP")


def internal_address(node: Obj, service: Obj) -> str | None:
    """The node's InternalIP of the family of which the Service has its node ports, the first of its families."""
    families = spec_of(service).get("ipFamilies") or ("IPv4",)
    return next((each for each in internal_addresses(node) if (":" in each) == (families[0] == "IPv6")), None)


def fingerprint(node: Obj) -> tuple[Any, ...]:
    """What of a node a load balancer depends on: a heartbeat does not change it."""
    return (eligible(node), internal_addresses(node), uid_of(node))
