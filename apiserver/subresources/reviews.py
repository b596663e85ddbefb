"""Reviews: questions about who somebody is and what they may do. They are answered, never kept."""

from __future__ import annotations

from typing import Any

from kubeling.api import errors
from kubeling.api.errors import FieldError
from kubeling.api.meta import Object
from kubeling.apiserver.authn.user import User
from kubeling.apiserver.authz import selectors
from kubeling.apiserver.authz.authorizer import Attributes
from kubeling.apiserver.context import Context
from kubeling.apiserver.handlers import body
from kubeling.apiserver.handlers.common import respond_object
from kubeling.apiserver.registry.kinds import Served
from kubeling.apiserver.request import Request


async def token_review(context: Context, request: Request, served: Served) -> None:
    """Whose token is it?"""
    review = await body.read_object(request, served)
    spec = review.get("spec") or {}
    token, audiences = spec.get("token") or "", spec.get("audiences") or []
    if not token:
        raise errors.invalid("TokenReview", "authentication.k8s.io", "", [errors.required_value("spec.token")])
    known = await context.authenticator.token(token, audiences)
    if known is None:
        review["status"] = {"authenticated": False, "user": {}, "error": "[invalid bearer token]"}
    else:
        review["status"] = {"authenticated": True, "user": known.user.info()}
        if known.audiences:
            review["status"]["audiences"] = list(known.audiences)
    await respond_object(request, served, review, 201)


async def self_subject_review(context: Context, request: Request, served: Served) -> None:
    """Who am I?"""
    review = await body.read_object(request, served)
    review["status"] = {"userInfo": request.user.info()}
    await respond_object(request, served, review, 201)


async def subject_access_review(context: Context, request: Request, served: Served) -> None:
    """May they?"""
    review = await body.read_object(request, served)
    spec = review.get("spec") or {}
    wrong = _check_subject(spec) + _check_access(spec)
    if wrong:
        raise errors.invalid(served.resource.kind, "authorization.k8s.io", "", wrong)
    await _decide(context, request, served, review, _subject(spec), spec)


async def local_subject_access_review(context: Context, request: Request, served: Served) -> None:
    """May they, in this namespace?"""
    review = await body.read_object(request, served)
    spec = review.get("spec") or {}
    wrong = _check_subject(spec) + _check_access(spec)
    namespace = request.info.namespace
    attributes = spec.get("resourceAttributes") or {}
    if spec.get("nonResourceAttributes"):
        wrong.append(
            errors.invalid_value(
                "spec.nonResourceAttributes", spec["nonResourceAttributes"], "disallowed on this kind of request"
            )
        )
    if attributes and (attributes.get("namespace") or "") != namespace:
        why = f"must match metadata.namespace: {namespace}"
        wrong.append(errors.invalid_value("spec.resourceAttributes.namespace", attributes.get("namespace") or "", why))
    if wrong:
        raise errors.invalid(served.resource.kind, "authorization.k8s.io", "", wrong)
    await _decide(context, request, served, review, _subject(spec), spec)


async def self_subject_access_review(context: Context, request: Request, served: Served) -> None:
    """May I?"""
    review = await body.read_object(request, served)
    spec = review.get("spec") or {}
    wrong = _check_access(spec)
    if wrong:
        raise errors.invalid(served.resource.kind, "authorization.k8s.io", "", wrong)
    await _decide(context, request, served, review, request.user, spec)


async def self_subject_rules_review(context: Context, request: Request, served: Served) -> None:
    """What may I?"""
    review = await body.read_object(request, served)
    namespace = (review.get("spec") or {}).get("namespace") or ""
    if not namespace:
        raise errors.bad_request("no namespace on request")
    found = await context.authorizer.rules(request.user, namespace)
    review["status"] = {"resourceRules": found.resources, "nonResourceRules": found.paths, "incomplete": found.incomplete}
    if found.error:
        review["status"]["evaluationError"] = found.error
    await respond_object(request, served, review, 201)


async def _decide(context: Context, request: Request, served: Served, review: Object, user: User, spec: Object) -> None:
    asked: dict[str, Any] = spec.get("resourceAttributes") or {}
    problems: list[str] = []
    if asked:
        selected, problems = selectors.of_review(asked)
        attributes = Attributes(
            user,
            asked.get("verb") or "",
            asked.get("group") or "",
            asked.get("resource") or "",
            asked.get("subresource") or "",
            asked.get("namespace") or "",
            asked.get("name") or "",
            version=asked.get("version") or "",
            selected=selected,
        )
    else:
        other = spec.get("nonResourceAttributes") or {}
        attributes = Attributes(user, other.get("verb") or "", path=other.get("path") or "")
    decision = await context.authorizer.authorize(attributes)
    status: Object = {"allowed": decision.allowed}
    if decision.denied:
        status["denied"] = True
    if decision.reason:
        status["reason"] = decision.reason
    if decision.error:
        problems.insert(0, decision.error)
    if problems:
        status["evaluationError"] = problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]"
    review["status"] = status
    await respond_object(request, served, review, 201)


def _subject(spec: Object) -> User:
    extra = {key: tuple(values) for key, values in (spec.get("extra") or {}).items()}
    return User(spec.get("user") or "", tuple(spec.get("groups") or ()), spec.get("uid") or "", extra)


def _check_subject(spec: Object) -> list[FieldError]:
    if spec.get("user") or spec.get("groups"):
        return []
    return [errors.invalid_value("spec.user", "", "at least one of user or group must be specified")]


def _check_access(spec: Object) -> list[FieldError]:
    both = bool(spec.get("resourceAttributes")) + bool(spec.get("nonResourceAttributes"))
    path = "spec.resourceAttributes"
    if both == 1:
        return selectors.check(spec.get("resourceAttributes") or {}, path)
    if both:
        return [
            errors.invalid_value(
                "spec.nonResourceAttributes",
                spec["nonResourceAttributes"],
                "cannot be specified in combination with resourceAttributes",
            )
        ]
    return [errors.invalid_value(path, None, "exactly one of nonResourceAttributes or resourceAttributes must be specified")]
