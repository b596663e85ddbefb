"""AdmissionReview: what a webhook is asked, in v1 and v1beta1, and what its answer means, in upstream's words."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from kubeling.api.errors import ApiError, bad_request, internal

VERSIONS = ("v1", "v1beta1")
_GROUP = "admission.k8s.io"


class BadAnswer(ValueError):
    """The webhook's answer is none."""


class Verdict(NamedTuple):
    """An answer that makes sense. `patch` is a JSON patch, None where nothing is to be changed."""

    allowed: bool
    status: dict[str, Any]
    patch: list[dict[str, Any]] | None
    warnings: list[str]
    annotations: dict[str, str]


def version_of(supported: Sequence[str] | None) -> str | None:
    """The first version of AdmissionReview that the webhook names and we know."""
    return next((each for each in supported or () if each in VERSIONS), None)


def make(version: str, request: Mapping[str, Any]) -> bytes:
    """The body of the call."""
    return orjson.dumps({"kind": "AdmissionReview", "apiVersion": f"{_GROUP}/{version}", "request": request})


def parse(body: bytes, version: str, uid: str, *, mutating: bool) -> Verdict:
    """Raises BadAnswer."""
    try:
        review = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadAnswer(f"couldn't get version/kind; json parse error: {error}") from None
    if not isinstance(review, dict):
        raise BadAnswer("couldn't get version/kind; json parse error: the answer is no object")
    wanted, got = f"{_GROUP}/{version}", str(review.get("apiVersion") or "")
    kind = str(review.get("kind") or "")
    if (got, kind) != (wanted, "AdmissionReview"):
        raise BadAnswer(f"expected webhook response of {wanted}, Kind=AdmissionReview, got {got}, Kind={kind}")
    response = review.get("response")
    if not isinstance(response, dict):
        raise BadAnswer("webhook response was absent")
    if version == "v1" and response.get("uid") != uid:
        raise BadAnswer(f'expected response.uid="{uid}", got "{response.get("uid") or ""}"')
    return Verdict(
        response.get("allowed") is True,
        dict(response.get("status") or {}) if isinstance(response.get("status"), dict) else {},
        _patch(response, version, mutating),
        [each for each in _list(response.get("warnings")) if isinstance(each, str)],
        {key: value for key, value in _dict(response.get("auditAnnotations")).items() if isinstance(value, str)},
    )


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _patch(response: Mapping[str, Any], version: str, mutating: bool) -> list[dict[str, Any]] | None:
    patch, kind = response.get("patch"), response.get("patchType")
    if version == "v1":
        if not mutating and patch:
            raise BadAnswer("validating webhook may not return response.patch")
        if not mutating and kind:
            raise BadAnswer("validating webhook may not return response.patchType")
        if patch and not kind:
            raise BadAnswer("webhook returned response.patch but not response.patchType")
        if kind and not patch:
            raise BadAnswer("webhook returned response.patchType but not response.patch")
    if not patch or not mutating:
        return None
    if kind not in (None, "JSONPatch"):
        raise BadAnswer(f'webhook returned invalid response.patchType of "{kind}"')
    try:
        operations = orjson.loads(base64.b64decode(patch, validate=True))
    except (binascii.Error, ValueError, TypeError) as error:
        raise BadAnswer(f"response.patch is no JSON patch: {error}") from None
    if not isinstance(operations, list):
        raise BadAnswer("response.patch is no JSON patch: it is no list")
    return operations


def denial(name: str, status: dict[str, Any]) -> ApiError:
    """The refusal that a client hears."""
    by = f'admission webhook "{name}" denied the request'
    message, reason = status.get("message"), status.get("reason")
    found: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    found["message"] = f"{by}: {message or reason}" if message or reason else f"{by} without explanation"
    if reason:
        found["reason"] = str(reason)
    if isinstance(status.get("details"), dict):
        found["details"] = status["details"]
    code = status.get("code")
    found["code"] = code if isinstance(code, int) and 400 <= code < 600 else 400
    return ApiError(found)


def no_dry_run(name: str) -> ApiError:
    """A dry run must not be shown to a webhook that may do something about it."""
    return bad_request(f'admission webhook "{name}" does not support dry run')


def failed(name: str, why: str) -> ApiError:
    """The call did not come about, and the webhook's policy is to refuse then."""
    return internal(f'failed calling webhook "{name}": {why}')
