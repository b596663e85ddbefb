"""Whether a user may do something.

:class:`Authorizer` is the seam: RBAC, the node authorizer and webhooks stand behind the same two methods. :class:`SystemAuthorizer` knows the
administrators, the system's own components, and nodes; everybody else is refused everything but discovery and reviews of themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from kubeling.api import errors
from kubeling.api.errors import ApiError
from kubeling.apiserver.authn.user import MASTERS, NODES, User


class Attributes(NamedTuple):
    """What is asked for. For a path that is no resource `resource` is empty and `path` is set."""

    user: User
    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer; `reason` is for the user's eyes."""

    allowed: bool
    reason: str = ""


ALLOWED = Decision(True)


class Authorizer(Protocol):
    """Decides, and lists what a user may do."""

    async def authorize(self, attributes: Attributes) -> Decision:
        """May they?"""

    async def rules(self, user: User, namespace: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]], bool]:
        """Resource rules, non-resource rules, and whether the lists are incomplete: what SelfSubjectRulesReview shows."""


_SYSTEM_PREFIX = "system:kube-"
_SYSTEM_NAMES = frozenset({"system:cloud-controller-manager", "system:apiserver"})
_READ = frozenset({"get", "list", "watch"})
_WRITE = frozenset({"create", "update", "patch", "delete"})
_ANY = _READ | _WRITE

#: (group, resource or resource/subresource) → verbs: what a kubelet and the node's other agents do.
_NODE_RULES: dict[tuple[str, str], frozenset[str]] = {
    ("", "nodes"): _READ | {"create", "update", "patch"},
    ("", "nodes/status"): frozenset({"get", "update", "patch"}),
    ("", "pods"): _READ | {"create", "delete"},
    ("", "pods/status"): frozenset({"get", "update", "patch"}),
    ("", "pods/eviction"): frozenset({"create"}),
    ("", "events"): frozenset({"create", "update", "patch"}),
    ("events.k8s.io", "events"): frozenset({"create", "update", "patch"}),
    ("", "services"): _READ,
    ("", "endpoints"): _READ,
    ("discovery.k8s.io", "endpointslices"): _READ,
    ("", "configmaps"): _READ,
    ("", "secrets"): _READ,
    ("", "namespaces"): _READ,
    ("", "serviceaccounts"): frozenset({"get"}),
    ("", "serviceaccounts/token"): frozenset({"create"}),
    ("", "persistentvolumes"): frozenset({"get"}),
    ("", "persistentvolumeclaims"): frozenset({"get"}),
    ("", "persistentvolumeclaims/status"): frozenset({"get", "update", "patch"}),
    ("coordination.k8s.io", "leases"): _ANY,
    ("node.k8s.io", "runtimeclasses"): _READ,
    ("storage.k8s.io", "csidrivers"): _READ,
    ("storage.k8s.io", "csinodes"): _ANY,
    ("storage.k8s.io", "volumeattachments"): frozenset({"get"}),
    ("certificates.k8s.io", "certificatesigningrequests"): _READ | {"create"},
    ("authentication.k8s.io", "tokenreviews"): frozenset({"create"}),
    ("authorization.k8s.io", "subjectaccessreviews"): frozenset({"create"}),
    ("authorization.k8s.io", "localsubjectaccessreviews"): frozenset({"create"}),
}
_SELF_REVIEWS = frozenset(
    {
        ("authentication.k8s.io", "selfsubjectreviews"),
        ("authorization.k8s.io", "selfsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectrulesreviews"),
    }
)
_DISCOVERY = ("/api", "/apis", "/openapi", "/version", "/healthz", "/livez", "/readyz", "/.well-known", "/openid")


class SystemAuthorizer:
    """Administrators, components, nodes; nobody else."""

    async def authorize(self, attributes: Attributes) -> Decision:
        user = attributes.user
        if user.is_in(MASTERS) or user.name.startswith(_SYSTEM_PREFIX) or user.name in _SYSTEM_NAMES:
            return ALLOWED
        if not attributes.resource:
            path = attributes.path
            known = any(path == each or path.startswith(each + "/") for each in _DISCOVERY)
            return ALLOWED if known and attributes.verb in ("get", "head") else Decision(False)
        resource = attributes.resource
        if (attributes.group, resource) in _SELF_REVIEWS and attributes.verb == "create":
            return ALLOWED
        if user.is_in(NODES) and user.name.startswith("system:node:"):
            if attributes.subresource:
                resource = f"{resource}/{attributes.subresource}"
            if attributes.verb in _NODE_RULES.get((attributes.group, resource), ()):
                return ALLOWED
        return Decision(False)

    async def rules(self, user: User, namespace: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]], bool]:
        if user.is_in(MASTERS) or user.name.startswith(_SYSTEM_PREFIX) or user.name in _SYSTEM_NAMES:
            return [_rule(["*"], ["*"], ["*"])], [{"verbs": ["*"], "nonResourceURLs": ["*"]}], False
        resources = [_rule(["create"], [group], [name]) for group, name in sorted(_SELF_REVIEWS)]
        if user.is_in(NODES) and user.name.startswith("system:node:"):
            resources += [_rule(sorted(verbs), [group], [name]) for (group, name), verbs in _NODE_RULES.items()]
        paths = [path for each in _DISCOVERY for path in (each, each + "/*")]
        return resources, [{"verbs": ["get"], "nonResourceURLs": paths}], False


def _rule(verbs: list[str], groups: list[str], resources: list[str]) -> dict[str, Any]:
    return {"verbs": verbs, "apiGroups": groups, "resources": resources}


def refusal(attributes: Attributes, decision: Decision) -> ApiError:
    """The 403, in upstream's words."""
    user = attributes.user.name
    if not attributes.resource:
        why = f'User "{user}" cannot {attributes.verb} path "{attributes.path}"'
        return errors.forbidden("", "", "", why + (f": {decision.reason}" if decision.reason else ""))
    resource = attributes.resource + (f"/{attributes.subresource}" if attributes.subresource else "")
    where = f'in the namespace "{attributes.namespace}"' if attributes.namespace else "at the cluster scope"
    why = f'User "{user}" cannot {attributes.verb} resource "{resource}" in API group "{attributes.group}" {where}'
    if decision.reason:
        why += f": {decision.reason}"
    return errors.forbidden(attributes.group, attributes.resource, attributes.name, why)
