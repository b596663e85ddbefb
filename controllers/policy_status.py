"""ValidatingAdmissionPolicy status: that the newest generation of a policy has been looked at.

Expressions are compiled when a policy is written, and nothing that does not compile is stored; they are not checked against the schemas of the kinds that they are for, so
`typeChecking` has no warnings.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from kubeling.api.errors import ApiError, is_not_found
from kubeling.api.meta import generation_of, is_deleting, observed_generation_of, status_of
from kubeling.api.resources import VALIDATING_ADMISSION_POLICIES
from kubeling.client.controller import Reconciler, Request
from kubeling.controllers.context import Context


class PolicyStatus:
    def __init__(self, ctx: Context) -> None:
        self._client = ctx.client
        self._policies = ctx.informers.informer(VALIDATING_ADMISSION_POLICIES)
        self._loop = Reconciler("validatingadmissionpolicy-status-controller", self.reconcile, workers=1, clock=ctx.clock)
        self._loop.watches(self._policies)
        self.run = self._loop.run

    async def reconcile(self, request: Request) -> float | None:
        policy = self._policies.store.get(request.name)
        if policy is None or is_deleting(policy) or observed_generation_of(policy) >= generation_of(policy):
            return None
        status = {**status_of(policy), "observedGeneration": generation_of(policy), "typeChecking": {}}
        try:
            await self._client.update_status(VALIDATING_ADMISSION_POLICIES, {**policy, "status": status})
        except ApiError as error:
            if not is_not_found(error):
                raise
        return None


def policystatus(ctx: Context) -> Callable[[], Awaitable[None]]:
    """Writes the status of policies."""
    return PolicyStatus(ctx).run
