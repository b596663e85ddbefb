"""Which requests a webhook or a policy is for: rules, and selectors over the labels of the object and of its namespace."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kubeling.api import labels

#: What no webhook and no policy may stand in the way of, or nobody could take a bad one away again.
EXEMPT = frozenset(
    {
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
    }
)
GROUP = "admissionregistration.k8s.io"


@dataclass(frozen=True, slots=True)
class Place:
    """What a request is for."""

    operation: str
    group: str
    version: str
    plural: str
    subresource: str = ""
    namespace: str = ""
    name: str = ""

    @property
    def is_namespace(self) -> bool:
        """Whether it is for a Namespace itself, which counts as an object of the cluster."""
        return self.plural == "namespaces" and not self.group

    @property
    def is_exempt(self) -> bool:
        return self.group == GROUP and self.plural in EXEMPT


#: A resource in one version: group, version, plural.
Version = tuple[str, str, str]


def rule_matches(rule: Mapping[str, Any], place: Place) -> bool:
    """Whether one rule is for the request (a RuleWithOperations or NamedRuleWithOperations)."""
    return (
        _listed(rule.get("operations"), place.operation)
        and _listed(rule.get("apiGroups"), place.group)
        and _listed(rule.get("apiVersions"), place.version)
        and _in_scope(rule.get("scope"), place)
        and any(_is_resource(each, place) for each in rule.get("resources") or ())
        and (not rule.get("resourceNames") or place.name in rule["resourceNames"])
    )


def _listed(values: Sequence[str] | None, value: str) -> bool:
    return bool(values) and ("*" in values or value in values)  # type: ignore[operator]


def _in_scope(scope: str | None, place: Place) -> bool:
    if scope in (None, "", "*"):
        return True
    of_cluster = place.is_namespace or not place.namespace
    return of_cluster == (scope == "Cluster")


def _is_resource(pattern: str, place: Place) -> bool:
    plural, _, subresource = pattern.partition("/")
    return plural in ("*", place.plural) and subresource in ("*", place.subresource)


def matched_version(
    rules: Iterable[Mapping[str, Any]], place: Place, policy: str | None, equivalents: Sequence[Version]
) -> Version | None:
    """The version of the resource that a rule names, the request's own before others; None where no rule applies.

    With the policy `Equivalent` a rule for another version of the same kind is as good, and the object is converted to that version.
    """
    rules = list(rules)
    if any(rule_matches(each, place) for each in rules):
        return place.group, place.version, place.plural
    if policy == "Exact":
        return None
    for group, version, plural in equivalents:
        other = replace(place, group=group, version=version, plural=plural)
        if other != place and any(rule_matches(each, other) for each in rules):
            return group, version, plural
    return None


def selects_everything(selector: Mapping[str, Any] | None) -> bool:
    return not selector or not (selector.get("matchLabels") or selector.get("matchExpressions"))


def object_selected(selector: Mapping[str, Any] | None, *objects: Mapping[str, Any] | None) -> bool:
    """Whether the new or the old object has the labels. An object without metadata is selected only by a selector that is empty."""
    if selects_everything(selector):
        return True
    wanted = labels.from_selector(selector)
    found = [each["metadata"] for each in objects if each is not None and isinstance(each.get("metadata"), dict)]
    return any(wanted.matches(each.get("labels")) for each in found)


def labels_selected(selector: Mapping[str, Any] | None, found: Mapping[str, str] | None) -> bool:
    """Whether a namespace with these labels is selected."""
    return selects_everything(selector) or labels.from_selector(selector).matches(found)
