"""serviceaccounts/token: a token on request (KEP-1205)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from kubeling.api import errors, resources
from kubeling.api.meta import Object
from kubeling.api.times import format_time
from kubeling.apiserver.admission.chain import Attributes
from kubeling.apiserver.context import Context
from kubeling.apiserver.handlers import body
from kubeling.apiserver.handlers.common import respond_other, store_of
from kubeling.apiserver.registry.kinds import Served
from kubeling.apiserver.request import Request

_MIN_SECONDS, _MAX_SECONDS, _DEFAULT_SECONDS = 600, 1 << 32, 3600
_BOUND = {"Pod": resources.PODS, "Secret": resources.SECRETS, "Node": resources.NODES}


async def token(context: Context, request: Request, served: Served) -> None:
    """POST …/serviceaccounts/x/token."""
    issuer = context.issuer
    if issuer is None or not issuer.can_sign:
        raise errors.no_such_path()
    info = request.info
    sent = await body.read_kind(request, "authentication.k8s.io/v1", "TokenRequest")
    spec: dict[str, Any] = sent.setdefault("spec", {})
    seconds = spec.get("expirationSeconds") or _DEFAULT_SECONDS
    wrong = []
    if seconds < _MIN_SECONDS:
        wrong.append(errors.invalid_value("spec.expirationSeconds", seconds, "may not specify a duration less than 10 minutes"))
    if seconds > _MAX_SECONDS:
        wrong.append(
            errors.invalid_value("spec.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds")
        )
    if wrong:
        raise errors.invalid("TokenRequest", "authentication.k8s.io", "", wrong)
    account = (await store_of(served).read(info.namespace, info.name)).object()
    attributes = Attributes("CREATE", served.resource, "token", info.namespace, info.name, request.user, sent, notes=request)
    attributes.body = ("authentication.k8s.io/v1", "TokenRequest")
    sent.setdefault("metadata", {})
    await context.admission.admit(attributes)
    await context.admission.validate(attributes)
    audiences = spec.get("audiences") or list(issuer.audiences)
    bound = await _bound(context, request, spec.get("boundObjectRef"))
    reference = {"name": info.name, "uid": account["metadata"]["uid"]}
    signed = issuer.sign(info.namespace, reference, audiences, seconds, bound)
    spec["audiences"], spec["expirationSeconds"] = audiences, seconds
    expires = context.clock.now() + timedelta(seconds=seconds)
    sent["metadata"] = {"name": info.name, "namespace": info.namespace, "creationTimestamp": format_time(context.clock.now())}
    sent["status"] = {"token": signed, "expirationTimestamp": format_time(expires)}
    await respond_other(request, served.resource, sent, 201)


async def _bound(context: Context, request: Request, reference: Object | None) -> dict[str, dict[str, str]]:
    """What the token is bound to: kind, with name and uid; of a pod its node as well. Raises 400, 404, 409."""
    if not reference:
        return {}
    kind, name = reference.get("kind") or "", reference.get("name") or ""
    resource = _BOUND.get(kind)
    if resource is None:
        raise errors.bad_request(f"cannot bind token to object of type {reference.get('apiVersion', '')}, Kind={kind}")
    info = request.info
    namespace = info.namespace if resource.namespaced else ""
    entry = await context.kinds.store(resource).read(namespace, name)
    obj = entry.object()
    uid = reference.get("uid")
    if uid and uid != obj["metadata"]["uid"]:
        why = f"the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        raise errors.conflict("", resource.plural, name, why)
    if kind == "Pod" and obj["spec"].get("serviceAccountName") != info.name:
        why = f'cannot bind token for serviceaccount "{info.name}" to pod running with different serviceaccount name.'
        raise errors.bad_request(why)
    bound = {kind.lower(): {"name": name, "uid": obj["metadata"]["uid"]}}
    node = obj["spec"].get("nodeName") if kind == "Pod" else ""
    if node:
        found = await context.kinds.store(resources.NODES).peek("", node)
        # Tokens are not refused for a Node that nobody has registered.
        bound["node"] = {"name": node, **({"uid": found.object()["metadata"]["uid"]} if found is not None else {})}
    return bound
