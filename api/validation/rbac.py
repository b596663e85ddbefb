"""Roles and their bindings."""

from __future__ import annotations

from kubeling.api import names
from kubeling.api.errors import invalid_value, required_value, unsupported_value
from kubeling.api.meta import Object
from kubeling.api.validation.common import Errors, checked, label_selector, required_name

_RBAC = "rbac.authorization.k8s.io"


def role(obj: Object) -> Errors:
    """Role."""
    yield from _rules(obj, True)


def cluster_role(obj: Object) -> Errors:
    """ClusterRole."""
    yield from _rules(obj, False)
    selectors = (obj.get("aggregationRule") or {}).get("clusterRoleSelectors")
    if obj.get("aggregationRule") is not None and not selectors:
        yield required_value(
            "aggregationRule.clusterRoleSelectors", "at least one clusterRoleSelector required if aggregationRule is non-nil"
        )
    for at, each in enumerate(selectors or ()):
        yield from label_selector(f"aggregationRule.clusterRoleSelectors[{at}]", each)


def _rules(obj: Object, namespaced: bool) -> Errors:
    for at, rule in enumerate(obj.get("rules") or ()):
        path = f"rules[{at}]"
        if not rule.get("verbs"):
            yield required_value(f"{path}.verbs", "verbs must contain at least one value")
        if rule.get("nonResourceURLs"):
            if namespaced:
                detail = "namespaced rules cannot apply to non-resource URLs"
                yield invalid_value(f"{path}.nonResourceURLs", rule["nonResourceURLs"], detail)
            if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
                detail = "rules cannot apply to both regular resources and non-resource URLs"
                yield invalid_value(f"{path}.nonResourceURLs", rule["nonResourceURLs"], detail)
            continue
        if not rule.get("apiGroups"):
            yield required_value(f"{path}.apiGroups", "resource rules must supply at least one api group")
        if not rule.get("resources"):
            yield required_value(f"{path}.resources", "resource rules must supply at least one resource")


def role_binding(obj: Object) -> Errors:
    """RoleBinding."""
    yield from _binding(obj, ("Role", "ClusterRole"), False)


def cluster_role_binding(obj: Object) -> Errors:
    """ClusterRoleBinding."""
    yield from _binding(obj, ("ClusterRole",), True)


def _binding(obj: Object, kinds: tuple[str, ...], cluster: bool) -> Errors:
    reference = obj.get("roleRef") or {}
    if reference.get("apiGroup") != _RBAC:
        yield unsupported_value("roleRef.apiGroup", reference.get("apiGroup") or "", (_RBAC,))
    if reference.get("kind") not in kinds:
        yield unsupported_value("roleRef.kind", reference.get("kind") or "", kinds)
    yield from required_name("roleRef.name", reference.get("name"), names.path_segment)
    for at, each in enumerate(obj.get("subjects") or ()):
        path = f"subjects[{at}]"
        yield from required_name(f"{path}.name", each.get("name"))
        kind, group = each.get("kind"), each.get("apiGroup") or ""
        if kind == "ServiceAccount":
            if each.get("name"):
                yield from checked(f"{path}.name", each["name"], names.dns1123_subdomain)
            if group:
                yield unsupported_value(f"{path}.apiGroup", group, ("",))
            if cluster and not each.get("namespace"):
                yield required_value(f"{path}.namespace")
        elif kind in ("User", "Group"):
            if group != _RBAC:
                yield unsupported_value(f"{path}.apiGroup", group, (_RBAC,))
        else:
            yield unsupported_value(f"{path}.kind", kind or "", ("ServiceAccount", "User", "Group"))


def binding_update(new: Object, old: Object) -> Errors:
    """The role of a binding stays."""
    if new.get("roleRef") != old.get("roleRef"):
        yield invalid_value("roleRef", new.get("roleRef"), "cannot change roleRef")
