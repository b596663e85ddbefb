"""Which FlowSchema a request belongs to, and to which flow of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from kubeling.api.meta import Object, spec_of
from kubeling.apiserver.authn.user import User

Map = dict[str, Any]


class Asked(NamedTuple):
    """What of a request counts. `resource` has its subresource behind a slash; `path` is set for what is no resource."""

    verb: str
    group: str = ""
    resource: str = ""
    namespace: str = ""
    path: str = ""


class Schema:
    """A FlowSchema."""

    def __init__(self, obj: Object) -> None:
        spec = spec_of(obj)
        self.name: str = obj["metadata"]["name"]
        self.uid: str = obj["metadata"].get("uid") or ""
        self.level: str = (spec.get("priorityLevelConfiguration") or {}).get("name") or ""
        self.precedence: int = spec.get("matchingPrecedence") or 1000
        method = spec.get("distinguisherMethod")
        self._distinguisher: str = (method or {}).get("type") or ""
        self._rules: list[Map] = spec.get("rules") or []

    def matches(self, user: User, asked: Asked) -> bool:
        """Whether a request is one of those."""
        return any(_rule(each, user, asked) for each in self._rules)

    def flow(self, user: User, asked: Asked) -> str:
        """Whose request it is, as far as fairness goes."""
        if self._distinguisher == "ByUser":
            return f"{self.name}\0{user.name}"
        if self._distinguisher == "ByNamespace":
            return f"{self.name}\0{asked.namespace}"
        return self.name


def _rule(rule: Map, user: User, asked: Asked) -> bool:
    if not any(_subject(each, user) for each in rule.get("subjects") or ()):
        return False
    if asked.path:
        return any(_path(each, asked) for each in rule.get("nonResourceRules") or ())
    return any(_resource(each, asked) for each in rule.get("resourceRules") or ())


def _subject(subject: Map, user: User) -> bool:
    match subject.get("kind"):
        case "User":
            return (subject.get("user") or {}).get("name") in ("*", user.name)
        case "Group":
            name = (subject.get("group") or {}).get("name")
            return name == "*" or name in user.groups
        case "ServiceAccount":
            account = subject.get("serviceAccount") or {}
            prefix = f"system:serviceaccount:{account.get('namespace')}:"
            if account.get("name") == "*":
                return user.name.startswith(prefix)
            return bool(user.name == f"{prefix}{account.get('name')}")
    return False


def _any(values: list[str] | None, wanted: str) -> bool:
    return values is not None and (wanted in values or "*" in values)


def _path(rule: Map, asked: Asked) -> bool:
    if not _any(rule.get("verbs"), asked.verb):
        return False
    return any(
        each == asked.path or (each.endswith("*") and asked.path.startswith(each[:-1]))
        for each in rule.get("nonResourceURLs") or ()
    )


def _resource(rule: Map, asked: Asked) -> bool:
    if not (
        _any(rule.get("verbs"), asked.verb)
        and _any(rule.get("apiGroups"), asked.group)
        and _any(rule.get("resources"), asked.resource)
    ):
        return False
    if not asked.namespace:
        return bool(rule.get("clusterScope"))
    return _any(rule.get("namespaces"), asked.namespace)


Find = Callable[[User, Asked], Schema]
