"""What a kubelet may do."""

from __future__ import annotations

from kubeling.apiserver.authn.user import NODES, User
from kubeling.apiserver.authz import policy
from kubeling.apiserver.authz.authorizer import ALLOWED, NO_OPINION, Attributes, Decision, RuleList
from kubeling.apiserver.authz.rbac import Access

_PREFIX = "system:node:"


def node_of(user: User) -> tuple[str, bool]:
    """The node's name, and whether the user is a node at all."""
    if NODES not in user.groups or not user.name.startswith(_PREFIX):
        return "", False
    return user.name[len(_PREFIX) :], True


class NodeAuthorizer:
    """See the module."""

    def __init__(self) -> None:
        self._access = Access([(rule, "node") for rule in policy.node_rules()], [])

    async def authorize(self, attributes: Attributes) -> Decision:
        """See :class:`.authorizer.Authorizer`."""
        _, is_node = node_of(attributes.user)
        if not is_node or not attributes.resource:
            return NO_OPINION
        found = self._access.resource(
            attributes.verb, attributes.group, attributes.resource, attributes.subresource, attributes.name
        )
        return ALLOWED if found else NO_OPINION

    async def rules(self, user: User, namespace: str) -> RuleList:
        """See :class:`.authorizer.Authorizer`."""
        _, is_node = node_of(user)
        return RuleList([], [], is_node, "node authorizer does not support user rule resolution" if is_node else "")
