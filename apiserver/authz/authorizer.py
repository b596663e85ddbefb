"""Whether a user may do something: the seam behind which RBAC, the node authorizer and webhooks stand, and the 403 in upstream's words.

An authorizer allows, denies, or has no opinion; :class:`Union` asks one after the other until one has, and refuses where none does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from kubeling.api import errors
from kubeling.api.errors import ApiError
from kubeling.apiserver.authn.user import MASTERS, User
from kubeling.apiserver.authz.selectors import EVERYTHING, Selected


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
    version: str = ""
    #: What a list, a watch or a deletion of many is restricted to.
    selected: Selected = EVERYTHING

    @property
    def read_only(self) -> bool:
        return self.verb in ("get", "list", "watch")


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer; `reason` is for the user's eyes. `denied` ends the search, where neither is set the next authorizer is asked."""

    allowed: bool
    reason: str = ""
    denied: bool = False
    #: Why the answer may be incomplete.
    error: str = ""


ALLOWED = Decision(True)
NO_OPINION = Decision(False)


@dataclass(slots=True)
class RuleList:
    """What a user may do in a namespace: what SelfSubjectRulesReview shows."""

    resources: list[dict[str, Any]]
    paths: list[dict[str, Any]]
    incomplete: bool = False
    error: str = ""


class Authorizer(Protocol):
    """Decides, and lists what a user may do."""

    async def authorize(self, attributes: Attributes) -> Decision:
        """May they?"""

    async def rules(self, user: User, namespace: str) -> RuleList:
        """What may they?"""


_EVERYTHING = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
_EVERY_PATH = {"verbs": ["*"], "nonResourceURLs": ["*"]}


class Union:
    """The configured modes in their order; system:masters needs none of them."""

    def __init__(self, modes: Sequence[Authorizer]) -> None:
        self._modes = tuple(modes)

    async def authorize(self, attributes: Attributes) -> Decision:
        """See :class:`Authorizer`."""
        if MASTERS in attributes.user.groups:
            return ALLOWED
        reasons, problems = [], []
        for each in self._modes:
            found = await each.authorize(attributes)
            if found.allowed or found.denied:
                return found
            if found.reason:
                reasons.append(found.reason)
            if found.error:
                problems.append(found.error)
        return Decision(False, "\n".join(reasons), error=", ".join(problems)) if reasons or problems else NO_OPINION

    async def rules(self, user: User, namespace: str) -> RuleList:
        """See :class:`Authorizer`."""
        found = RuleList([], [])
        if MASTERS in user.groups:
            found.resources.append(_EVERYTHING)
            found.paths.append(_EVERY_PATH)
        problems = []
        for each in self._modes:
            more = await each.rules(user, namespace)
            found.resources += more.resources
            found.paths += more.paths
            found.incomplete = found.incomplete or more.incomplete
            if more.error:
                problems.append(more.error)
        found.error = ", ".join(problems)
        return found


class AlwaysAllow:
    """`--authorization-mode=AlwaysAllow`."""

    async def authorize(self, attributes: Attributes) -> Decision:
        """Yes."""
        return ALLOWED

    async def rules(self, user: User, namespace: str) -> RuleList:
        """Everything."""
        return RuleList([_EVERYTHING], [_EVERY_PATH])


class AlwaysDeny:
    """`--authorization-mode=AlwaysDeny`."""

    async def authorize(self, attributes: Attributes) -> Decision:
        """No."""
        return Decision(False, "Everything is forbidden.")

    async def rules(self, user: User, namespace: str) -> RuleList:
        """Nothing."""
        return RuleList([], [])


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
