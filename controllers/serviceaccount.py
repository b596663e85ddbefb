"""ServiceAccount: each namespace has one called "default", made again when somebody deletes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from kubeling.api.errors import ApiError, is_already_exists, is_namespace_terminating
from kubeling.api.meta import is_deleting, namespace_of
from kubeling.api.resources import NAMESPACES, SERVICE_ACCOUNTS
from kubeling.client.controller import Reconciler, Request
from kubeling.controllers.context import Context

NAME = "default"


class ServiceAccountController:
    def __init__(self, ctx: Context) -> None:
        self._client = ctx.client
        self._namespaces = ctx.informers.informer(NAMESPACES)
        self._accounts = ctx.informers.informer(SERVICE_ACCOUNTS, field_selector=f"metadata.name={NAME}")
        self._loop = Reconciler("service-account-controller", self.reconcile, workers=2, clock=ctx.clock)
        self._loop.watches(self._namespaces)
        self._loop.watches(self._accounts, lambda account: (Request("", namespace_of(account)),))
        self.run = self._loop.run

    async def reconcile(self, request: Request) -> float | None:
        """Create the account where it is missing. The fixed name makes a second creation harmless."""
        namespace = self._namespaces.store.get(request.name)
        if namespace is None or is_deleting(namespace) or self._accounts.store.get(NAME, request.name) is not None:
            return None
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME, "namespace": request.name}}
        try:
            await self._client.create(SERVICE_ACCOUNTS, account, request.name)
        except ApiError as error:
            if not (is_already_exists(error) or is_namespace_terminating(error)):
                raise
        return None


def serviceaccount(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The controller of the default ServiceAccounts."""
    return ServiceAccountController(ctx).run
