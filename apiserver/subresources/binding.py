"""pods/binding: a pod gets its node, once."""

from __future__ import annotations

from typing import Any

from kubeling.api import errors
from kubeling.api.conditions import set_condition
from kubeling.api.meta import Object
from kubeling.apiserver.admission import doors
from kubeling.apiserver.context import Context
from kubeling.apiserver.handlers import body
from kubeling.apiserver.handlers.common import is_dry_run, store_of
from kubeling.apiserver.registry.kinds import Served
from kubeling.apiserver.registry.store import Change
from kubeling.apiserver.request import Request


async def binding(context: Context, request: Request, served: Served) -> None:
    """POST …/pods/x/binding."""
    sent = await body.read_kind(request, "v1", "Binding")
    await _bind(context, request, served, request.info.name, sent)


async def legacy(context: Context, request: Request, served: Served) -> None:
    """POST …/bindings: the same, with the pod's name in the body."""
    sent = await body.read_kind(request, "v1", "Binding")
    pods = context.kinds.find("", "v1", "pods")
    assert pods is not None
    await _bind(context, request, pods, (sent.get("metadata") or {}).get("name") or "", sent)


async def _bind(context: Context, request: Request, served: Served, name: str, sent: Object) -> None:
    metadata: dict[str, Any] = sent.get("metadata") or {}
    target = sent.get("target") or {}
    node = target.get("name") or ""
    wrong = []
    if (target.get("kind") or "Node") not in ("Node", "Minion"):
        wrong.append(errors.unsupported_value("target.kind", target["kind"], ("Node", "<empty>")))
    if not node:
        wrong.append(errors.required_value("target.name"))
    if wrong:
        raise errors.invalid("Binding", "", name, wrong)
    if metadata.get("name") and metadata["name"] != name:
        raise errors.bad_request(f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})")

    sent.setdefault("metadata", {})
    dry_run = is_dry_run(request)
    await doors.admit(
        context, request, served, "CREATE", sent, ("v1", "Binding"), subresource="binding", name=name, dry_run=dry_run
    )
    metadata, node = sent["metadata"], (sent.get("target") or {}).get("name") or node

    async def mutate(pod: Object) -> Change:
        live = pod["metadata"]
        for key, word in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
            if metadata.get(key) and metadata[key] != live[key]:
                why = f"Precondition failed: {word} in precondition: {metadata[key]}, {word} in object meta: {live[key]}"
                raise errors.conflict("", "pods", name, why)
        spec = pod["spec"]
        if live.get("deletionTimestamp"):
            raise errors.conflict("", "pods/binding", name, f"pod {name} is being deleted, cannot be assigned to a host")
        if spec.get("nodeName"):
            raise errors.conflict("", "pods/binding", name, f'pod {name} is already assigned to node "{spec["nodeName"]}"')
        if spec.get("schedulingGates"):
            raise errors.conflict("", "pods/binding", name, f"pod {name} has non-empty .spec.schedulingGates")
        spec["nodeName"] = node
        if metadata.get("annotations"):
            live["annotations"] = {**(live.get("annotations") or {}), **metadata["annotations"]}
        conditions = pod.setdefault("status", {}).setdefault("conditions", [])
        set_condition(conditions, "PodScheduled", "True", context.clock.now())
        return Change(pod)

    await store_of(served).change(request.info.namespace, name, mutate, dry_run=dry_run)
    await request.respond_json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, 201)
