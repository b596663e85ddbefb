"""CertificateSigningRequests: sign what is approved, approve what a kubelet may ask for itself, remove what is old.

Three controllers over one informer. Each writes under the version that it judged, so of two leaders one writes and the other looks again: a request has one certificate.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

from kubeling.api.conditions import set_condition
from kubeling.api.errors import ApiError, is_not_found
from kubeling.api.meta import copy_json, resource_version_of, spec_of, status_of, uid_of
from kubeling.api.resources import CERTIFICATE_SIGNING_REQUESTS, SUBJECT_ACCESS_REVIEWS
from kubeling.api.times import format_time
from kubeling.client.controller import Reconciler, Request
from kubeling.controllers import certificates_plan as plan
from kubeling.controllers.context import Context, Obj


class Signer:
    """Signs what is approved, with the cluster's authority."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._authority: Any = None
        self._requests = ctx.informers.informer(CERTIFICATE_SIGNING_REQUESTS)
        self._loop = Reconciler("certificatesigningrequest-signing-controller", self.reconcile, workers=1, clock=ctx.clock)
        self._loop.watches(self._requests)
        self.run = self._loop.run

    async def reconcile(self, request: Request) -> float | None:
        """Sign, or say why not."""
        csr = self._requests.store.get(request.name)
        if csr is None or spec_of(csr).get("signerName") not in plan.SIGNERS or not plan.wants_certificate(csr):
            return None
        status, now = copy_json(status_of(csr)), self._ctx.clock.now()
        options = self._ctx.options
        try:
            wanted = plan.parsed(csr)
            plan.check(csr, wanted)
            if self._authority is None:
                from kubeling.controllers.certificates_ca import Authority

                self._authority = Authority(options.signing_certificate, options.signing_key)
            valid = plan.lifetime(csr, timedelta(seconds=options.signing_duration))
            certificate = self._authority.sign(wanted, list(spec_of(csr).get("usages") or ()), valid, now)
        except plan.Unfit as error:
            _say(status, "Failed", "SignerValidationFailure", str(error), now)
        else:
            status["certificate"] = base64.b64encode(certificate).decode()
        await self._ctx.client.update_status(CERTIFICATE_SIGNING_REQUESTS, {**csr, "status": status})
        return None


def _say(status: Obj, kind: str, reason: str, message: str, now: datetime) -> None:
    conditions = status.setdefault("conditions", [])
    set_condition(conditions, kind, "True", now, reason=reason, message=message, lastUpdateTime=format_time(now))


class Approver:
    """Approves client certificates of kubelets where their user may have them."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._requests = ctx.informers.informer(CERTIFICATE_SIGNING_REQUESTS)
        self._loop = Reconciler("certificatesigningrequest-approving-controller", self.reconcile, workers=1, clock=ctx.clock)
        self._loop.watches(self._requests)
        self.run = self._loop.run

    async def reconcile(self, request: Request) -> float | None:
        """Ask whether the one who asks may, and approve. Others may decide otherwise, now or later."""
        csr = self._requests.store.get(request.name)
        if csr is None or not plan.undecided(csr) or spec_of(csr).get("signerName") != plan.KUBELET_CLIENT:
            return None
        try:
            ways = plan.recognized(csr, plan.parsed(csr))
        except plan.Unfit:
            return None
        for subresource, message in ways:
            if await self._may(csr, subresource):
                status = copy_json(status_of(csr))
                _say(status, "Approved", "AutoApproved", message, self._ctx.clock.now())
                approved = {**csr, "status": status}
                await self._ctx.client.update(CERTIFICATE_SIGNING_REQUESTS, approved, subresource="approval")
                return None
        # Its user may be given the right while it waits.
        return 60.0 if ways else None

    async def _may(self, csr: Obj, subresource: str) -> bool:
        spec = spec_of(csr)
        wanted = {
            "group": "certificates.k8s.io",
            "resource": "certificatesigningrequests",
            "subresource": subresource,
            "verb": "create",
            "version": "*",
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": spec.get("username") or "",
                "uid": spec.get("uid") or "",
                "groups": spec.get("groups") or [],
                "extra": spec.get("extra") or {},
                "resourceAttributes": wanted,
            },
        }
        answer = await self._ctx.client.create(SUBJECT_ACCESS_REVIEWS, review)
        return bool(status_of(answer).get("allowed"))


class Cleaner:
    """Removes requests that are old."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._requests = ctx.informers.informer(CERTIFICATE_SIGNING_REQUESTS)
        self._loop = Reconciler("certificatesigningrequest-cleaner-controller", self.reconcile, workers=1, clock=ctx.clock)
        self._loop.watches(self._requests)
        self.run = self._loop.run

    async def reconcile(self, request: Request) -> float | None:
        """Delete it when its time has come, under the version that was judged."""
        csr = self._requests.store.get(request.name)
        moment = plan.removal(csr) if csr is not None else None
        if csr is None or moment is None:
            return None
        left = (moment - self._ctx.clock.now()).total_seconds()
        if left > 0:
            return left
        uid, version = uid_of(csr), resource_version_of(csr)
        try:
            await self._ctx.client.delete(CERTIFICATE_SIGNING_REQUESTS, request.name, uid=uid, resource_version=version)
        except ApiError as error:
            if not is_not_found(error):
                raise
        return None


def signing(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The controller that signs."""
    return Signer(ctx).run


def approving(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The controller that approves."""
    return Approver(ctx).run


def cleaning(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The controller that cleans up."""
    return Cleaner(ctx).run
