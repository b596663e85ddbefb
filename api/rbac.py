"""What a PolicyRule allows: matching requests, and whether some rules cover others.

Pure. Rules are the dicts of rbac.authorization.k8s.io/v1. A rule is an "and" of its parts; each part is an "or" of its entries; `*` stands for everything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

Rule = Mapping[str, Any]
_KEYS = {
    "APIGroups": "apiGroups",
    "Resources": "resources",
    "NonResourceURLs": "nonResourceURLs",
    "ResourceNames": "resourceNames",
    "Verbs": "verbs",
}


def verb_matches(rule: Rule, verb: str) -> bool:
    """Whether the rule is about this verb."""
    verbs = rule.get("verbs") or ()
    return verb in verbs or "*" in verbs


def resource_matches(rule: Rule, group: str, resource: str, subresource: str) -> bool:
    """Whether the rule is about this resource, whatever the object's name. `*/scale` is the scale of everything."""
    groups = rule.get("apiGroups") or ()
    if group not in groups and "*" not in groups:
        return False
    resources = rule.get("resources") or ()
    if "*" in resources:
        return True
    if not subresource:
        return resource in resources
    return f"{resource}/{subresource}" in resources or f"*/{subresource}" in resources


def path_matches(rule: Rule, path: str) -> bool:
    """Whether the rule is about this path; a pattern may end in `*`, which stands for any rest."""
    for each in rule.get("nonResourceURLs") or ():
        if each in ("*", path) or (each.endswith("*") and path.startswith(each.rstrip("*"))):
            return True
    return False


def breakdown(rule: Rule) -> Iterator[dict[str, list[str]]]:
    """The rule as simple rules with one entry in each part."""
    verbs = rule.get("verbs") or ()
    for path in rule.get("nonResourceURLs") or ():
        for verb in verbs:
            yield {"nonResourceURLs": [path], "verbs": [verb]}
    names = rule.get("resourceNames") or ()
    for group in rule.get("apiGroups") or ():
        for resource in rule.get("resources") or ():
            for verb in verbs:
                simple = {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
                if not names:
                    yield simple
                for name in names:
                    yield {**simple, "resourceNames": [name]}


def uncovered(owned: Sequence[Rule], wanted: Iterable[Rule]) -> list[dict[str, list[str]]]:
    """The simple rules of `wanted` that no rule of `owned` includes: what somebody who has `owned` may not give away."""
    return [simple for rule in wanted for simple in breakdown(rule) if not any(_includes(each, simple) for each in owned)]


def _includes(owner: Rule, simple: Mapping[str, list[str]]) -> bool:
    if not _has(owner.get("verbs") or (), simple["verbs"][0]):
        return False
    if "nonResourceURLs" in simple:
        wanted = simple["nonResourceURLs"][0]
        return any(_path_covers(each, wanted) for each in owner.get("nonResourceURLs") or ())
    if not _has(owner.get("apiGroups") or (), simple["apiGroups"][0]):
        return False
    resource = simple["resources"][0]
    resources = owner.get("resources") or ()
    if not _has(resources, resource):
        _, slash, subresource = resource.partition("/")
        if not slash or f"*/{subresource}" not in resources:
            return False
    names = owner.get("resourceNames") or ()
    return not names or (simple.get("resourceNames") or [""])[0] in names


def _has(entries: Sequence[str], wanted: str) -> bool:
    return wanted in entries or "*" in entries


def _path_covers(owned: str, wanted: str) -> bool:
    return owned in ("*", wanted) or (owned.endswith("*") and wanted.startswith(owned[:-1]))


def compact(rules: Iterable[Rule]) -> list[dict[str, Any]]:
    """Simple resource rules that differ only in their verbs, put together; others as they are. For messages."""
    found: list[dict[str, Any]] = []
    by_key: dict[tuple[str, ...], dict[str, Any]] = {}
    for rule in rules:
        if rule.get("nonResourceURLs"):
            found.append(dict(rule))
            continue
        key = (rule["apiGroups"][0], rule["resources"][0], *(rule.get("resourceNames") or ()))
        known = by_key.get(key)
        if known is None:
            by_key[key] = known = {**rule, "verbs": list(rule["verbs"])}
            found.append(known)
        elif rule["verbs"][0] not in known["verbs"]:
            known["verbs"].append(rule["verbs"][0])
    return found


def show(rule: Rule) -> str:
    """A rule in upstream's notation: `{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}`."""
    parts = []
    for title, key in _KEYS.items():
        values = rule.get(key)
        if values:
            parts.append(f"{title}:{show_list(values)}")
    return "{" + ", ".join(parts) + "}"


def show_list(values: Iterable[str]) -> str:
    """Strings as Go prints a slice of them: quoted, with spaces between."""
    return f"[{' '.join(json.dumps(each, ensure_ascii=False) for each in values)}]"
