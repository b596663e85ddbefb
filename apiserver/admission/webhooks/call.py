"""One webhook, one call: whether it applies, what it is asked, what came back."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import orjson

from kubeling.api import resources
from kubeling.api.admission import matching, review
from kubeling.api.admission.review import BadAnswer, Verdict
from kubeling.api.errors import ApiError, not_found
from kubeling.apiserver.admission import views
from kubeling.apiserver.admission.chain import Attributes
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

    def __init__(self, kinds: Kinds, caller: Caller, targets: Targets) -> None:
        self._kinds = kinds
        self._caller = caller
        self._targets = targets

    async def applies(self, hook: Hook, attributes: Attributes) -> Invocation | None:
        """Whether a webhook is for this request. Raises ApiError where its own terms cannot be evaluated."""
        spec, place = hook.spec, views.place_of(attributes)
        if place.is_exempt:
            return None
        namespace_selector = spec.get("namespaceSelector")
        if not matching.selects_everything(namespace_selector) and not await self._in_namespace(namespace_selector, attributes):
            return None
        equivalents = views.equivalents_of(self._kinds, attributes) if spec.get("matchPolicy") != "Exact" else []
        version = matching.matched_version(spec.get("rules") or (), place, spec.get("matchPolicy"), equivalents)
        if version is None or not matching.object_selected(spec.get("objectSelector"), attributes.obj, attributes.old):
            return None
        return Invocation(hook, views.view(self._kinds, attributes, version), version)

    async def _in_namespace(self, selector: Any, attributes: Attributes) -> bool:
        """Objects of the cluster are in no namespace, and so never left out for it."""
        resource = attributes.resource
        if resource.plural == "namespaces" and not resource.group:
            if attributes.obj is not None and not attributes.subresource:
                return matching.labels_selected(selector, attributes.obj["metadata"].get("labels"))
            name = attributes.name
        elif not attributes.namespace:
            return True
        else:
            name = attributes.namespace
        entry = await self._kinds.store(resources.NAMESPACES).peek("", name)
        if entry is None:
            raise not_found("", "namespaces", name)
        return matching.labels_selected(selector, entry.object()["metadata"].get("labels"))

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
    resource, view = attributes.resource, invocation.view
    kind = asked = view.kind
    if attributes.body is None and attributes.subresource != "scale":
        asked = (resource.group, resource.version, resource.kind)
    group, version, plural = invocation.version
    found: dict[str, Any] = {
        "uid": uid,
        "kind": {"group": kind[0], "version": kind[1], "kind": kind[2]},
        "resource": {"group": group, "version": version, "resource": plural},
    }
    if attributes.subresource:
        found["subResource"] = attributes.subresource
    found["requestKind"] = {"group": asked[0], "version": asked[1], "kind": asked[2]}
    found["requestResource"] = {"group": resource.group, "version": resource.version, "resource": resource.plural}
    if attributes.subresource:
        found["requestSubResource"] = attributes.subresource
    if attributes.name:
        found["name"] = attributes.name
    namespace = views.place_of(attributes).namespace
    if namespace:
        found["namespace"] = namespace
    found["operation"] = attributes.operation
    found["userInfo"] = attributes.user.info()
    found["object"] = view.obj
    found["oldObject"] = view.old
    found["dryRun"] = attributes.dry_run
    found["options"] = attributes.options or None
    return found


def error_of(hook: Hook, error: CallError) -> ApiError:
    """The refusal where a webhook that must be heard could not be."""
    return review.failed(hook.name, str(error))
