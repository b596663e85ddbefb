"""Nobody gives away more than he has: the check of every written role and binding.

A role may contain only what its author may do himself (there: cluster-wide, or in the role's namespace), unless he has the verb `escalate` on it. A binding may be
made by who may do all that the role allows, or has the verb `bind` on the role. It stands at the end of admission, so that nothing changes the object after it.
"""

from __future__ import annotations

from kubeling.api import errors
from kubeling.api import rbac as rules
from kubeling.api.meta import Object
from kubeling.api.rbac import Rule
from kubeling.apiserver.admission.chain import Attributes as Admitted
from kubeling.apiserver.admission.chain import Plugin
from kubeling.apiserver.authn.user import MASTERS, User
from kubeling.apiserver.authz import policy
from kubeling.apiserver.authz.authorizer import Attributes, Authorizer
from kubeling.apiserver.authz.rbac import Rbac

_ROLES = frozenset({"roles", "clusterroles"})
_BINDINGS = frozenset({"rolebindings", "clusterrolebindings"})
_EVERYTHING: list[Rule] = [
    {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
    {"verbs": ["*"], "nonResourceURLs": ["*"]},
]


class EscalationCheck(Plugin):
    """See the module."""

    def __init__(self, rbac: Rbac, authorizer: Authorizer) -> None:
        self._rbac = rbac
        self._authorizer = authorizer

    async def validate(self, attributes: Admitted) -> None:
        resource = attributes.resource
        if resource.group != policy.GROUP or attributes.obj is None or MASTERS in attributes.user.groups:
            return
        if attributes.old is not None and _only_ownership(attributes.obj, attributes.old):
            return
        if resource.plural in _ROLES:
            await self._check_role(attributes, attributes.obj)
        elif resource.plural in _BINDINGS:
            await self._check_binding(attributes, attributes.obj)

    async def _check_role(self, attributes: Admitted, role: Object) -> None:
        user, namespace, resource = attributes.user, attributes.namespace, attributes.resource.plural
        if await self._may(user, "escalate", resource, namespace, role["metadata"].get("name") or ""):
            return
        self._confirm(attributes, role.get("rules") or [])
        aggregates = role.get("aggregationRule") or (attributes.old or {}).get("aggregationRule")
        if aggregates and rules.uncovered(self._rbac.rules_of(user, ""), _EVERYTHING):
            why = "must have cluster-admin privileges to use the aggregationRule"
            raise errors.forbidden(policy.GROUP, resource, role["metadata"].get("name") or "", why)

    async def _check_binding(self, attributes: Admitted, binding: Object) -> None:
        reference = binding.get("roleRef") or {}
        plural = "roles" if reference.get("kind") == "Role" else "clusterroles"
        name = reference.get("name") or ""
        if await self._may(attributes.user, "bind", plural, attributes.namespace, name):
            return
        found = self._rbac.role_rules(attributes.namespace if plural == "roles" else "", name)
        if found is None:
            raise errors.not_found(policy.GROUP, plural, name)
        self._confirm(attributes, found)

    async def _may(self, user: User, verb: str, resource: str, namespace: str, name: str) -> bool:
        asked = Attributes(user, verb, policy.GROUP, resource, "", namespace, name, version="v1")
        return (await self._authorizer.authorize(asked)).allowed

    def _confirm(self, attributes: Admitted, wanted: list[Rule]) -> None:
        """Raise 403 where the user has not all of it."""
        user = attributes.user
        missing = rules.uncovered(self._rbac.rules_of(user, attributes.namespace), wanted)
        if not missing:
            return
        shown = sorted(rules.show(each) for each in rules.compact(missing))
        why = f'user "{user.name}" (groups={rules.show_list(user.groups)}) is attempting to grant RBAC permissions not currently held:\n'
        raise errors.forbidden(policy.GROUP, attributes.resource.plural, attributes.name, why + "\n".join(shown))


def _only_ownership(new: Object, old: Object) -> bool:
    """Whether nothing changes but owners and finalizers, which the garbage collector has to be able to do."""

    def rest(obj: Object) -> Object:
        metadata = {key: value for key, value in obj["metadata"].items() if key not in _OWNERSHIP}
        return {**obj, "metadata": metadata}

    return rest(new) == rest(old)


_OWNERSHIP = frozenset({"ownerReferences", "finalizers", "managedFields", "resourceVersion", "generation"})
