"""One webhook, one call: whether it applies, what it is asked, what came back."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import orjson

from kubeling.api.admission import matching, review
from kubeling.api.admission.review import BadAnswer, Verdict
from kubeling.api.cel import EvaluationError
from kubeling.api.errors import ApiError, forbidden
from kubeling.apiserver.admission import views
from kubeling.apiserver.admission.chain import Attributes
from kubeling.apiserver.admission.expressions import Expressions
from kubeling.apiserver.admission.views import View
from kubeling.apiserver.admission.webhooks.hooks import Hook
from kubeling.apiserver.outbound import Answer, Caller, CallFailed
from kubeling.apiserver.registry.kinds import Kinds
from kubeling.apiserver.targets import Targets

_SHOWN = 512


class CallError(Exception):
    """The webhook gave no verdict."""


@dataclass(slots=True)
class Invocation:
    """A webhook that applies, and the objects in the version that it wants."""

    hook: Hook
    view: View
    version: matching.Version


class Webhooks:
    """What both kinds of webhooks share."""

    def __init__(self, kinds: Kinds, caller: Caller, targets: Targets, expressions: Expressions) -> None:
        self._kinds = kinds
        self._expressions = expressions
        self._caller = caller
        self._targets = targets

    async def applies(self, hook: Hook, attributes: Attributes) -> Invocation | None:
        """Whether a webhook is for this request. Raises ApiError where its own terms cannot be evaluated."""
        spec = hook.spec
        version = await views.matched(self._kinds, spec, spec.get("rules") or (), attributes)
        if version is None:
            return None
        view = await views.view(self._kinds, attributes, version)
        conditions = spec.get("matchConditions")
        if conditions:
            scope = self._expressions.scope(attributes, view, version)
            try:
                if not await self._expressions.conditions_hold(conditions, scope):
                    return None
            except EvaluationError as error:
                if hook.ignores_failure:
                    return None
                resource = attributes.resource
                raise forbidden(resource.group, resource.plural, attributes.name, str(error)) from error
        return Invocation(hook, view, version)

    async def call(self, invocation: Invocation, attributes: Attributes, *, mutating: bool) -> Verdict:
        """Ask. Raises ApiError for a dry run that may not be shown, CallError where no verdict comes."""
        hook = invocation.hook
        spec = hook.spec
        if attributes.dry_run and spec.get("sideEffects") not in ("None", "NoneOnDryRun"):
            raise review.no_dry_run(hook.name)
        version = review.version_of(spec.get("admissionReviewVersions"))
        if version is None:
            raise CallError("webhook does not accept known AdmissionReview versions (v1, v1beta1)")
        uid = str(uuid.uuid4())
        body = review.make(version, _request(uid, invocation, attributes))
        seconds = hook.seconds
        url = _url(spec.get("clientConfig") or {})
        try:
            target = await self._targets.of(spec.get("clientConfig") or {})
            answer = await self._caller.post(target, body, seconds, f"timeout={seconds}s")
        except CallFailed as error:
            raise CallError(f'failed to call webhook: Post "{url}?timeout={seconds}s": {error}') from error
        if not 200 <= answer.status < 300:
            raise CallError(f"failed to call webhook: {_refusal(answer)}")
        try:
            verdict = review.parse(answer.body, version, uid, mutating=mutating)
        except BadAnswer as error:
            raise CallError(f"received invalid webhook response: {error}") from error
        for key, value in verdict.annotations.items():
            attributes.notes.annotate(f"{hook.name}/{key}", value)
        for text in verdict.warnings:
            attributes.notes.warn(text)
        return verdict


def _url(config: dict[str, Any]) -> str:
    service = config.get("service")
    if not service:
        return str(config.get("url") or "")
    path = "/" + (service.get("path") or "").lstrip("/")
    return f"https://{service.get('name')}.{service.get('namespace')}.svc:{service.get('port') or 443}{path}"


def _refusal(answer: Answer) -> str:
    """Client-go's words for an HTTP status that is no success."""
    try:
        status = orjson.loads(answer.body)
        if isinstance(status, dict) and status.get("kind") == "Status" and status.get("message"):
            return str(status["message"])
    except orjson.JSONDecodeError:
        pass  # A page in any form: only the code says something.
    text = answer.body[:_SHOWN].decode("utf-8", "replace").strip()
    if answer.status == 404:
        return "the server could not find the requested resource"
    if answer.status >= 500:
        return f'an error on the server ("{text or "unknown"}") has prevented the request from succeeding'
    return (
        f'the server rejected our request for an unknown reason ("{text}")'
        if text
        else "the server rejected our request for an unknown reason"
    )


def _request(uid: str, invocation: Invocation, attributes: Attributes) -> dict[str, Any]:
    view = invocation.view
    return {"uid": uid, **views.request_of(attributes, view, invocation.version), "object": view.obj, "oldObject": view.old}


def error_of(hook: Hook, error: CallError) -> ApiError:
    """The refusal where a webhook that must be heard could not be."""
    return review.failed(hook.name, str(error))
