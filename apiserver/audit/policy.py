"""The audit policy: how much is said of which request. The first rule that matches counts; where none does, nothing is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubeling.apiserver.authn.user import User
from kubeling.daemon.main import UsageError

LEVELS = ("None", "Metadata", "Request", "RequestResponse")
STAGES = ("RequestReceived", "ResponseStarted", "ResponseComplete", "Panic")
_VERSIONS = ("audit.k8s.io/v1", "audit.k8s.io/v1beta1", "audit.k8s.io/v1alpha1")


@dataclass(frozen=True, slots=True)
class Subject:
    """What a rule looks at. For a path that is no resource `resource` is empty."""

    user: User
    verb: str
    path: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What is said of a request: its level, the stages that are left out, and whether managedFields are."""

    level: str = "None"
    omitted: frozenset[str] = frozenset()
    without_managed_fields: bool = False


class Policy:
    """A parsed policy."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._rules: list[Mapping[str, Any]] = list(document.get("rules") or ())
        self._omitted = frozenset(document.get("omitStages") or ())
        self._without_managed_fields = bool(document.get("omitManagedFields"))

    def decide(self, subject: Subject) -> Decision:
        """The first rule's word."""
        for rule in self._rules:
            if _matches(rule, subject):
                own = rule.get("omitManagedFields")
                without = self._without_managed_fields if own is None else bool(own)
                return Decision(rule["level"], self._omitted | frozenset(rule.get("omitStages") or ()), without)
        return Decision(omitted=self._omitted)


def _matches(rule: Mapping[str, Any], subject: Subject) -> bool:
    users, groups, verbs = (rule.get(key) or () for key in ("users", "userGroups", "verbs"))
    if users and subject.user.name not in users:
        return False
    if groups and not set(groups) & set(subject.user.groups):
        return False
    if verbs and subject.verb not in verbs:
        return False
    namespaces, resources, paths = (rule.get(key) or () for key in ("namespaces", "resources", "nonResourceURLs"))
    if not namespaces and not resources and not paths:
        return True
    if not subject.resource:
        return any(_is_path(each, subject.path) for each in paths)
    if paths and not namespaces and not resources:
        return False
    if namespaces and subject.namespace not in namespaces:
        return False
    return not resources or any(_is_resource(each, subject) for each in resources)


def _is_path(pattern: str, path: str) -> bool:
    return pattern in ("*", path) or (pattern.endswith("*") and path.startswith(pattern.removesuffix("*")))


def _is_resource(rule: Mapping[str, Any], subject: Subject) -> bool:
    if (rule.get("group") or "") != subject.group:
        return False
    wanted: Sequence[str] = rule.get("resources") or ()
    if not wanted:
        return True
    if rule.get("resourceNames") and subject.name not in rule["resourceNames"]:
        return False
    both = f"{subject.resource}/{subject.subresource}" if subject.subresource else subject.resource
    return any(
        each in ("*", both) or (subject.subresource and each in (f"{subject.resource}/*", f"*/{subject.subresource}"))
        for each in wanted
    )


def load(path: str) -> Policy:
    """Read a policy file. UsageError for what is none."""
    flag = f"--audit-policy-file {path}"
    import yaml

    try:
        document = yaml.safe_load(Path(path).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"{flag} cannot be read: {error}") from error
    if not isinstance(document, dict) or document.get("kind") != "Policy" or document.get("apiVersion") not in _VERSIONS:
        raise UsageError(f"{flag}: it has to be a Policy of {_VERSIONS[0]}")
    rules = document.get("rules")
    if not isinstance(rules, list) or not rules:
        raise UsageError(f"{flag}: it has no rules, so nothing would ever be logged")
    for at, rule in enumerate(rules):
        if not isinstance(rule, dict) or rule.get("level") not in LEVELS:
            raise UsageError(f"{flag}: rules[{at}].level has to be one of {', '.join(LEVELS)}")
        unknown = set(rule.get("omitStages") or ()) - set(STAGES)
        if unknown:
            raise UsageError(f"{flag}: rules[{at}].omitStages: {', '.join(sorted(unknown))}: stages are {', '.join(STAGES)}")
        if rule.get("nonResourceURLs") and (rule.get("resources") or rule.get("namespaces")):
            raise UsageError(f"{flag}: rules[{at}] cannot be for paths and for resources at once")
    unknown = set(document.get("omitStages") or ()) - set(STAGES)
    if unknown:
        raise UsageError(f"{flag}: omitStages: {', '.join(sorted(unknown))}: stages are {', '.join(STAGES)}")
    return Policy(document)
