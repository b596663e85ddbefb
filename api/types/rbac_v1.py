"""Roles and who has them."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.declare import atomic, f
from kubeling.api.types.meta_v1 import KubeList, KubeObject, LabelSelector


class PolicyRule(TypedDict, total=False):
    """What may be done, and with what."""

    verbs: Annotated[Required[list[str]], f(1, "Verbs, such as get, list, watch or create; * means all.", list_type="atomic")]
    apiGroups: Annotated[list[str], f(2, "API groups; the empty string is the core group and * means all.", list_type="atomic")]
    resources: Annotated[list[str], f(3, "Plural names of resources, as in pods or pods/log; * means all.", list_type="atomic")]
    resourceNames: Annotated[list[str], f(4, "Names of single objects; empty means all.", list_type="atomic")]
    nonResourceURLs: Annotated[
        list[str],
        f(5, "URL paths that are not resources, such as /healthz or /metrics/*; * only at the end.", list_type="atomic"),
    ]


class Role(KubeObject, total=False):
    """Rights within a namespace."""

    rules: Annotated[list[PolicyRule], f(2, "What may be done.", list_type="atomic")]


class RoleList(KubeList, total=False):
    """A list of Roles."""

    items: Annotated[Required[list[Role]], f(2, "The Roles.")]


class AggregationRule(TypedDict, total=False):
    """Which ClusterRoles are gathered."""

    clusterRoleSelectors: Annotated[
        list[LabelSelector], f(1, "ClusterRoles by their labels; one selector that matches is enough.", list_type="atomic")
    ]


class ClusterRole(KubeObject, total=False):
    """Rights in the whole cluster."""

    rules: Annotated[list[PolicyRule], f(2, "What may be done.", list_type="atomic")]
    aggregationRule: Annotated[AggregationRule, f(3, "Fills in the rules from other ClusterRoles.", pointer=True)]


class ClusterRoleList(KubeList, total=False):
    """A list of ClusterRoles."""

    items: Annotated[Required[list[ClusterRole]], f(2, "The ClusterRoles.")]


class Subject(TypedDict, total=False):
    """Who gets the rights."""

    kind: Annotated[Required[str], f(1, "User, Group or ServiceAccount.")]
    apiGroup: Annotated[str, f(2, "Empty for ServiceAccount, rbac.authorization.k8s.io for User and Group.")]
    name: Annotated[Required[str], f(3, "Name of the user, the group or the account.")]
    namespace: Annotated[str, f(4, "Namespace of the ServiceAccount.")]


atomic(Subject)


class RoleRef(TypedDict, total=False):
    """The role that is given."""

    apiGroup: Annotated[Required[str], f(1, "rbac.authorization.k8s.io.")]
    kind: Annotated[Required[str], f(2, "Role or ClusterRole.")]
    name: Annotated[Required[str], f(3, "Name of the role.")]


atomic(RoleRef)


class RoleBinding(KubeObject, total=False):
    """Gives a role within a namespace."""

    subjects: Annotated[list[Subject], f(2, "Who gets the rights.", list_type="atomic")]
    roleRef: Annotated[Required[RoleRef], f(3, "The role; cannot be changed.")]


class RoleBindingList(KubeList, total=False):
    """A list of RoleBindings."""

    items: Annotated[Required[list[RoleBinding]], f(2, "The RoleBindings.")]


class ClusterRoleBinding(KubeObject, total=False):
    """Gives a ClusterRole in the whole cluster."""

    subjects: Annotated[list[Subject], f(2, "Who gets the rights.", list_type="atomic")]
    roleRef: Annotated[Required[RoleRef], f(3, "The role; cannot be changed.")]


class ClusterRoleBindingList(KubeList, total=False):
    """A list of ClusterRoleBindings."""

    items: Annotated[Required[list[ClusterRoleBinding]], f(2, "The ClusterRoleBindings.")]
