"""The end of ServiceAccount tokens that nobody uses (KEP-2799).

Only tokens that were made for an account by itself, as Kubernetes before 1.24 did, are meant: Secrets that stand in the account's `secrets`. One that was not shown for a year, nor mounted, is marked
invalid first, which who misses it can undo by taking the label off, and deleted after another year. Nothing happens in the first year in which uses are noted. A token is
looked at when its Secret changes, and once a day; each write is held against the version that was judged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from kubeling.api.errors import ApiError, is_not_found
from kubeling.api.legacytokens import INVALID_SINCE, LAST_USED, SINCE, TRACKING, TRACKING_NAMESPACE
from kubeling.api.meta import annotations_of, is_deleting, labels_of, name_of, namespace_of, resource_version_of, uid_of
from kubeling.api.references import of_pod
from kubeling.api.resources import CONFIG_MAPS, PODS, SECRETS, SERVICE_ACCOUNTS
from kubeling.api.times import parse_time
from kubeling.client.controller import Reconciler, Request
from kubeling.controllers.context import Context, Obj
from kubeling.controllers.serviceaccount_token import NAME, TYPE, UID

Verdict = Literal["keep", "mark", "delete"]
LOOK_AGAIN_SECONDS = 86400.0


def verdict(secret: Obj, now: datetime, period: timedelta) -> Verdict:
    """What is due to a token that was made by itself and is mounted nowhere."""
    before = now - period
    made = secret["metadata"].get("creationTimestamp")
    if not made or parse_time(made) > before:
        return "keep"
    used, invalid = _day(labels_of(secret).get(LAST_USED)), _day(labels_of(secret).get(INVALID_SINCE))
    if used is not None and used >= before.date():
        return "keep"
    if invalid is None:
        return "mark"
    return "keep" if invalid >= before.date() else "delete"


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        return None


class LegacyTokens:
    def __init__(self, ctx: Context) -> None:
        self._client, self._clock = ctx.client, ctx.clock
        self._period = timedelta(seconds=ctx.options.legacy_token_period)
        self._secrets = ctx.informers.informer(SECRETS, field_selector=f"type={TYPE}")
        self._accounts = ctx.informers.informer(SERVICE_ACCOUNTS)
        self._pods = ctx.informers.informer(PODS)
        self._loop = Reconciler("legacy-service-account-token-cleaner", self.reconcile, workers=1, clock=ctx.clock)
        self._loop.watches(self._secrets)
        self._loop.watches(self._accounts, _secrets_of)
        self._loop.needs(self._pods)
        self.run = self._loop.run

    async def reconcile(self, request: Request) -> float | None:
        """Look at one token."""
        secret = self._secrets.store.get(request.name, request.namespace)
        if secret is None or is_deleting(secret) or not self._made_by_itself(secret):
            return None
        now = self._clock.now().astimezone(UTC)
        due = verdict(secret, now, self._period)
        if due == "keep" or self._mounted(secret) or not await self._noted_long_enough(now):
            return LOOK_AGAIN_SECONDS
        if due == "mark":
            version = {"resourceVersion": resource_version_of(secret), "uid": uid_of(secret)}
            body = {"metadata": {**version, "labels": {INVALID_SINCE: now.date().isoformat()}}}
            await self._client.patch(SECRETS, request.name, body, request.namespace)
            return LOOK_AGAIN_SECONDS
        try:
            await self._client.delete(
                SECRETS, request.name, request.namespace, uid=uid_of(secret), resource_version=resource_version_of(secret)
            )
        except ApiError as error:
            if not is_not_found(error):
                raise
        return None

    def _made_by_itself(self, secret: Obj) -> bool:
        account = self._accounts.store.get(annotations_of(secret).get(NAME) or "", namespace_of(secret))
        if account is None or annotations_of(secret).get(UID) != uid_of(account):
            return False
        return any(each.get("name") == name_of(secret) for each in account.get("secrets") or ())

    def _mounted(self, secret: Obj) -> bool:
        return any(name_of(secret) in of_pod(each).secrets for each in self._pods.store.in_namespace(namespace_of(secret)))

    async def _noted_long_enough(self, now: datetime) -> bool:
        """Whether uses have been noted for the whole period."""
        try:
            found = await self._client.get(CONFIG_MAPS, TRACKING, TRACKING_NAMESPACE)
        except ApiError as error:
            if is_not_found(error):
                return False
            raise
        since = _day((found.get("data") or {}).get(SINCE))
        return since is not None and since <= (now - self._period).date()


def _secrets_of(account: Obj) -> list[Request]:
    namespace = namespace_of(account)
    return [Request(namespace, each["name"]) for each in account.get("secrets") or () if each.get("name")]


def legacytokens(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The cleaner of unused tokens."""
    return LegacyTokens(ctx).run
