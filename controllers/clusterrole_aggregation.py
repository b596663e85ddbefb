"""ClusterRole aggregation: a ClusterRole with an `aggregationRule` has the rules of all ClusterRoles that its selectors match, and no others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from kubeling.api import labels
from kubeling.api.meta import Object, is_deleting, labels_of, name_of
from kubeling.api.resources import CLUSTER_ROLES
from kubeling.client.controller import Reconciler, Request
from kubeling.controllers.context import Context


class ClusterRoleAggregation:
    def __init__(self, ctx: Context) -> None:
        self._client = ctx.client
        self._roles = ctx.informers.informer(CLUSTER_ROLES)
        self._loop = Reconciler("clusterrole-aggregation-controller", self.reconcile, workers=1, clock=ctx.clock)
        # Any role may be a part of any other: they are few, and change seldom.
        self._loop.watches(self._roles, self._aggregated)
        self.run = self._loop.run

    def _aggregated(self, changed: Object) -> list[Request]:
        found = {name_of(each) for each in (*self._roles.store, changed) if each.get("aggregationRule")}
        return [Request("", name) for name in sorted(found)]

    async def reconcile(self, request: Request) -> float | None:
        """Fill in the rules of one role."""
        role = self._roles.store.get(request.name)
        if role is None or is_deleting(role) or not role.get("aggregationRule"):
            return None
        rules = aggregate(role, self._roles.store)
        if rules != (role.get("rules") or []):
            # The version is checked: a role that has changed meanwhile comes here once more.
            await self._client.update(CLUSTER_ROLES, {**role, "rules": rules})
        return None


def aggregate(role: Object, roles: Iterable[Object]) -> list[Any]:
    """The rules that the selectors of `role` bring together out of `roles`: in the order of selectors and names, each once."""
    others = sorted((each for each in roles if name_of(each) != name_of(role)), key=name_of)
    found: list[Any] = []
    for selector in role["aggregationRule"].get("clusterRoleSelectors") or ():
        matching = labels.from_selector(selector)
        for other in others:
            if matching.matches(labels_of(other)):
                found += [rule for rule in other.get("rules") or () if rule not in found]
    return found


def clusterroleaggregation(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The controller of aggregated ClusterRoles."""
    return ClusterRoleAggregation(ctx).run
