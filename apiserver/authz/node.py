"""What a kubelet may do (KEP-4601, and the node authorizer's design of 1.7): what is its own, and what the pods bound to it use.

Everything else that a kubelet needs (Services, its own registration, CSRs) is as in the role `system:node`; writes to Nodes and Pods are narrowed down further by
the admission plug-in NodeRestriction, which sees the objects. Claims and volumes may also be watched one by one, where upstream lets them only be got: our
kubelet follows what it uses.

A node that asks for something that nothing relates to it may only be ahead of the caches here: it is refused after these have caught up with the store.
"""

from __future__ import annotations

from collections.abc import Callable

from kubeling.apiserver.authn.user import NODES, User
from kubeling.apiserver.authz import policy
from kubeling.apiserver.authz.authorizer import ALLOWED, NO_OPINION, Attributes, Decision, RuleList
from kubeling.apiserver.authz.graph import Graph
from kubeling.apiserver.authz.rbac import Access

_PREFIX = "system:node:"
LEASE_NAMESPACE = "kube-node-lease"
_OWN = frozenset({"get", "create", "update", "patch", "delete"})
_READ = frozenset({"get", "list", "watch"})

Rule = Callable[["NodeAuthorizer", str, Attributes], "str | None"]
#: The caches may not know yet: ask again.
_UNRELATED = "no relationship found between node '{node}' and this object"


def node_of(user: User) -> tuple[str, bool]:
    """The node's name, and whether the user is a node at all."""
    if NODES not in user.groups or not user.name.startswith(_PREFIX):
        return "", False
    return user.name[len(_PREFIX) :], True


class NodeAuthorizer:
    """See the module. :meth:`run` is to be run as a task."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._access = Access([(rule, "node") for rule in policy.node_rules()], [])

    async def run(self) -> None:
        """Follow what nodes use until cancelled."""
        await self.graph.run()

    async def authorize(self, attributes: Attributes) -> Decision:
        """See :class:`.authorizer.Authorizer`."""
        if NODES not in attributes.user.groups:
            return NO_OPINION
        node, is_node = node_of(attributes.user)
        if not is_node or not attributes.resource:
            return NO_OPINION
        if not node:
            return Decision(False, f'unknown node for user "{attributes.user.name}"')
        rule = _RULES.get((attributes.group, attributes.resource))
        if rule is None:
            asked = (attributes.verb, attributes.group, attributes.resource, attributes.subresource, attributes.name)
            return ALLOWED if self._access.resource(*asked) else NO_OPINION
        wrong = rule(self, node, attributes)
        if wrong is _UNRELATED:
            await self.graph.catch_up()
            wrong = rule(self, node, attributes)
        return ALLOWED if wrong is None else Decision(False, wrong.format(node=node))

    async def rules(self, user: User, namespace: str) -> RuleList:
        """See :class:`.authorizer.Authorizer`."""
        _, is_node = node_of(user)
        return RuleList([], [], is_node, "node authorizer does not support user rule resolution" if is_node else "")


# Each rule returns why not, None where it is allowed.


def _namespaced(authorizer: NodeAuthorizer, node: str, asked: Attributes) -> str | None:
    """Secrets and ConfigMaps: one by one."""
    if asked.verb not in _READ:
        return "can only read resources of this type"
    if asked.subresource:
        return "cannot read subresource"
    if not asked.namespace:
        return "can only read namespaced object of this type"
    return _used(authorizer, node, asked)


def _used(authorizer: NodeAuthorizer, node: str, asked: Attributes) -> str | None:
    if not asked.name:
        return "No Object name found"
    return None if authorizer.graph.uses(node, asked.resource, asked.namespace, asked.name) else _UNRELATED


def _claim(authorizer: NodeAuthorizer, node: str, asked: Attributes) -> str | None:
    if asked.subresource == "status":
        if asked.verb not in ("get", "update", "patch"):
            return "can only get/update/patch this type"
        return _used(authorizer, node, asked)
    return _readable(asked) or _used(authorizer, node, asked)


def _readable(asked: Attributes) -> str | None:
    if asked.verb not in _READ or not asked.name:
        return "can only get individual resources of this type"
    return "cannot get subresource" if asked.subresource else None


def _volume(authorizer: NodeAuthorizer, node: str, asked: Attributes) -> str | None:
    wrong = _readable(asked)
    if wrong is None and not authorizer.graph.uses_volume(node, asked.name):
        return _UNRELATED
    return wrong


def _attachment(authorizer: NodeAuthorizer, node: str, asked: Attributes) -> str | None:
    wrong = _readable(asked)
    if wrong is None and not authorizer.graph.attaches(node, asked.name):
        return _UNRELATED
    return wrong


def _account(authorizer: NodeAuthorizer, node: str, asked: Attributes) -> str | None:
    """Only tokens; for which pod is for admission to see."""
    if asked.verb != "create" or not asked.name:
        return "can only create tokens for individual service accounts"
    if asked.subresource != "token":
        return "can only create token subresource of serviceaccount"
    return _used(authorizer, node, asked)


def _lease(authorizer: NodeAuthorizer, node: str, asked: Attributes) -> str | None:
    if asked.verb not in _OWN:
        return "can only create, get, update, patch, or delete a node lease"
    if asked.namespace != LEASE_NAMESPACE:
        return f'can only access leases in the "{LEASE_NAMESPACE}" system namespace'
    if asked.verb != "create" and asked.name != node:
        return "can only access node lease with the same name as the requesting node"
    return None


def _csi_node(authorizer: NodeAuthorizer, node: str, asked: Attributes) -> str | None:
    if asked.verb not in _OWN:
        return "can only create, get, update, patch, or delete a CSINode"
    if asked.subresource:
        return "cannot authorize CSINode subresources"
    if asked.verb != "create" and asked.name != node:
        return "can only access CSINode with the same name as the requesting node"
    return None


def _node(authorizer: NodeAuthorizer, node: str, asked: Attributes) -> str | None:
    """Which Node is written, and what of it, is for admission to see."""
    if asked.subresource not in ("", "status"):
        return "cannot authorize node subresources"
    if asked.verb in ("create", "update", "patch"):
        return None
    if asked.verb not in _READ:
        return "can only create, get, list, watch, update, or patch a node"
    if asked.name != node:
        return f"node '{{node}}' cannot read {_quoted(asked.name)}, only its own Node object"
    return None


def _quoted(name: str) -> str:
    # It goes through str.format once more.
    return "'" + name.replace("{", "{{").replace("}", "}}") + "'" if name else "all nodes"


def _pod(authorizer: NodeAuthorizer, node: str, asked: Attributes) -> str | None:
    if asked.subresource == "status":
        return None if asked.verb in ("get", "update", "patch") else "can only get/update/patch pod status"
    if asked.subresource == "eviction":
        return None if asked.verb == "create" else "can only create pod evictions"
    if asked.subresource:
        return "cannot authorize this pod subresource"
    if asked.verb in ("create", "delete"):
        return None
    if asked.verb not in _READ:
        return "can only create, delete and read pods"
    if asked.name and asked.namespace:
        return None if authorizer.graph.runs(node, asked.namespace, asked.name) else _UNRELATED
    if asked.selected.exact("spec.nodeName") == node:
        return None
    return "can only list/watch pods with spec.nodeName field selector"


_RULES: dict[tuple[str, str], Rule] = {
    ("", "secrets"): _namespaced,
    ("", "configmaps"): _namespaced,
    ("", "persistentvolumeclaims"): _claim,
    ("", "persistentvolumes"): _volume,
    ("", "serviceaccounts"): _account,
    ("", "nodes"): _node,
    ("", "pods"): _pod,
    ("storage.k8s.io", "volumeattachments"): _attachment,
    ("storage.k8s.io", "csinodes"): _csi_node,
    ("coordination.k8s.io", "leases"): _lease,
}
